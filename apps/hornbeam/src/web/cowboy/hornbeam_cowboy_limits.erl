%% A Cowboy stream handler that lets no request pass that is over a limit or no request at all.
%%
%% It stands before the others. What it refuses never gets a process or an app. Over HTTP/1.1 the
%% connection ends there, since nobody knows what would follow.
-module(hornbeam_cowboy_limits).
-behaviour(cowboy_stream).

-export([init/3, data/4, info/3, terminate/3, early_error/5]).

-record(state, {
    %% the next handler's; none when the request was refused
    next = none :: term() | none,
    counters :: hornbeam_counters:ref(),
    req :: cowboy_req:req(),
    %% what may still come of the body (bytes); none when too much came
    left :: non_neg_integer() | infinity | none,
    responding = false :: boolean()
}).

%% @private
-spec init(cowboy_stream:streamid(), cowboy_req:req(), cowboy:opts()) ->
    {cowboy_stream:commands(), #state{}}.
init(StreamId, Req, #{env := #{mounts := Mounts}} = Opts) ->
    hornbeam_cowboy:taken(),
    _ = asks_for_http2(Req) andalso hornbeam_cowboy:finish(bad_request, Mounts),
    begun(StreamId, Req, Mounts, Opts).

%% Cowboy before 2.13 has begun to go on with HTTP/2 when it shows us such a request, and has read
%% what comes behind it: heads past their reader. Only the end of its process keeps it from that.
asks_for_http2(#{version := 'HTTP/1.1', headers := #{<<"http2-settings">> := _,
                                                     <<"upgrade">> := Protocols}}) ->
    lists:member(<<"h2c">>, hornbeam_headers:items(Protocols));
asks_for_http2(_Req) ->
    false.

begun(StreamId, #{path := Path} = Req0, #{server := Server, counters := Counters} = Mounts, Opts) ->
    #{options := #{max_body_size := Most}} = hornbeam_mounts:at(Path, Mounts),
    Socket = hornbeam_cowboy:socket(),
    Req = Req0#{socket => Socket, endpoints_scheme => hornbeam_endpoints:scheme(Socket),
                endpoints_tls => hornbeam_endpoints:tls(Socket)},
    State = #state{counters = Counters, req = Req, left = Most},
    case fault(Req, Most, Server) of
        none ->
            {Commands, Next} = cowboy_stream:init(StreamId, Req, Opts),
            {Commands, State#state{next = Next}};
        Fault ->
            {refusal(Fault, State), State}
    end.

fault(Req, Most, Server) ->
    case fault(Req) of
        none -> too_large(Req, Most, Server);
        Fault -> Fault
    end.

%% What Cowboy lets pass though it is no request.
fault(#{version := 'HTTP/2'} = Req) ->
    hornbeam_http2_request:fault(Req);
fault(#{path := Path, qs := Query, headers := Headers}) ->
    case is_clean(Path) andalso is_clean(Query)
             andalso lists:all(fun is_sound/1, maps:to_list(Headers)) of
        true -> none;
        false -> bad_request
    end.

too_large(#{method := Method, path := Path, qs := Query, headers := Headers} = Req, Most, Server) ->
    Line = byte_size(Method) + byte_size(Path) + query_size(Query) + byte_size(<<"  HTTP/1.1">>),
    size_fault(Line, maps:to_list(Headers), maps:get(body_length, Req), Most, Server).

query_size(<<>>) -> 0;
query_size(Query) -> 1 + byte_size(Query).

is_clean(Text) ->
    hornbeam_headers:is_clean(Text).

is_sound({Name, Value}) ->
    hornbeam_headers:is_token(Name) andalso is_clean(Value).

size_fault(Line, Fields, Length, MostBody, Server) ->
    #{limit_request_line := Longest, limit_request_fields := MostFields,
      limit_request_field_size := Largest, limit_request_head := MostHead} = Server,
    Sizes = [byte_size(Name) + byte_size(Value) + 2 || {Name, Value} <- Fields],
    Head = Line + lists:sum(Sizes) + 2 * length(Sizes) + 4,
    if
        Line > Longest -> uri_too_long;
        length(Sizes) > MostFields; Head > MostHead -> fields_too_large;
        true -> size_fault(lists:max([0 | Sizes]) > Largest, is_integer(Length) andalso
                                                             Length > MostBody)
    end.

size_fault(true, _IsTooMuch) -> fields_too_large;
size_fault(false, true) -> body_too_large;
size_fault(false, false) -> none.

refusal(Fault, #state{counters = Counters, req = Req}) ->
    hornbeam_error_response:count(Fault, Counters),
    {Status, Fields, Body} = hornbeam_error_response:fault(Fault),
    {Headers0, _} = hornbeam_cowboy:response(Fields),
    Headers = Headers0#{<<"content-length">> => integer_to_binary(byte_size(Body))},
    [{error_response, Status, closing(Req, Headers), Body}, stop].

closing(#{version := 'HTTP/2'}, Headers) -> Headers;
closing(_Req, Headers) -> Headers#{<<"connection">> => <<"close">>}.

%% @private
-spec data(cowboy_stream:streamid(), cowboy_stream:fin(), binary(), #state{}) ->
    {cowboy_stream:commands(), #state{}}.
data(StreamId, IsFin, Data, State) ->
    hornbeam_cowboy:taken(),
    taken(StreamId, IsFin, Data, State).

taken(_StreamId, _IsFin, _Data, #state{next = none} = State) ->
    {[], State};
taken(_StreamId, _IsFin, _Data, #state{left = none} = State) ->
    {[], State};
taken(_StreamId, _IsFin, Data, #state{left = Left} = State) when byte_size(Data) > Left ->
    {too_much(State), State#state{left = none}};
taken(StreamId, IsFin, Data, #state{next = Next0} = State) ->
    {Commands, Next} = cowboy_stream:data(StreamId, IsFin, Data, Next0),
    {Commands, spend(byte_size(Data), State#state{next = Next})}.

spend(_Size, #state{left = infinity} = State) -> State;
spend(Size, #state{left = Left} = State) -> State#state{left = Left - Size}.

%% A response that has begun cannot become another one: it is broken off.
too_much(#state{responding = false} = State) ->
    refusal(body_too_large, State);
too_much(#state{counters = Counters, req = Req}) ->
    hornbeam_error_response:count(body_too_large, Counters),
    hornbeam_cowboy_exchange:breaking(Req).

%% @private
-spec info(cowboy_stream:streamid(), term(), #state{}) -> {cowboy_stream:commands(), #state{}}.
info(_StreamId, _Info, #state{next = none} = State) ->
    {[], State};
info(_StreamId, trailed, #state{left = none} = State) ->
    %% What was cut off has no end.
    {[], State};
info(StreamId, Info, #state{next = Next0} = State) ->
    {Commands, Next} = cowboy_stream:info(StreamId, Info, Next0),
    {lists:map(fun hornbeam_cowboy:without_withheld/1, Commands),
     State#state{next = Next, responding = responds(Commands, State)}}.

responds(_Commands, #state{responding = true}) -> true;
responds(Commands, _State) -> lists:any(fun begins_response/1, Commands).

begins_response({response, _, _, _}) -> true;
begins_response({headers, _, _}) -> true;
begins_response(_Command) -> false.

%% @private
-spec terminate(cowboy_stream:streamid(), cowboy_stream:reason(), #state{}) -> ok.
terminate(_StreamId, _Reason, #state{next = none}) ->
    ok;
terminate(StreamId, Reason, #state{next = Next}) ->
    _ = cowboy_stream:terminate(StreamId, Reason, Next),
    ok.

%% @private
-spec early_error(cowboy_stream:streamid(), cowboy_stream:reason(),
                  cowboy_stream:partial_req(), Response, cowboy:opts()) -> Response
    when Response :: cowboy_stream:resp_command().
early_error(_StreamId, {internal_error, _, _}, _PartialReq, Response, _Opts) ->
    Response;
early_error(_StreamId, _Reason, _PartialReq, {response, Status, Headers, _Body}, Opts) ->
    #{env := #{mounts := #{counters := Counters}}} = Opts,
    Fault = fault_of(Status),
    hornbeam_error_response:count(Fault, Counters),
    {_Status, Fields, Sentence} = hornbeam_error_response:fault(Fault),
    {Ours, _} = hornbeam_cowboy:response(Fields),
    All = maps:merge(Headers, Ours),
    {response, Status, All#{<<"content-length">> => integer_to_binary(byte_size(Sentence))},
     Sentence}.

fault_of(408) -> head_timeout;
fault_of(414) -> uri_too_long;
fault_of(431) -> fields_too_large;
fault_of(501) -> not_implemented;
fault_of(505) -> version_not_supported;
fault_of(_Status) -> bad_request.
