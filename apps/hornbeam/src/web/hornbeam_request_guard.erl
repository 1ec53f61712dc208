%% A Cowboy stream handler that lets no request pass that is over a limit or no request at all.
%%
%% It stands before the others. What it refuses never gets a process or an app; the client is
%% answered and the connection ends there, since nobody knows what would follow. It also says
%% whose turn it is on the connection.
-module(hornbeam_request_guard).
-behaviour(cowboy_stream).

-export([init/3, data/4, info/3, terminate/3, early_error/5]).

-record(state, {
    %% the next handler's; none when the request was refused
    next :: term() | none,
    mount :: hornbeam_mounts:mount(),
    door :: hornbeam_doorkeeper:door(),
    socket :: hornbeam_connection:socket(),
    %% HTTP/2 has no turns
    turn :: hornbeam_turn:turn() | none,
    %% what may still come of the body (bytes); none when too much came
    left :: non_neg_integer() | infinity | none,
    responding = false :: boolean()
}).

%% @private
-spec init(cowboy_stream:streamid(), cowboy_req:req(), cowboy:opts()) ->
    {cowboy_stream:commands(), #state{}}.
init(StreamId, Req0, #{env := Env, connection := #{socket := Socket} = Connection} = Opts) ->
    #{mount := #{options := Options, server := Server} = Mount, door := Door} = Env,
    Req = hornbeam_connection:details(StreamId, Req0, Opts),
    State = #state{next = none, mount = Mount, door = Door, socket = Socket,
                   turn = turn(Req, Connection), left = maps:get(max_body_size, Options)},
    case began(StreamId, State) of
        go -> judged(hornbeam_head:fault(Req, Server), StreamId, Req, Opts, State);
        too_late -> {[], State#state{turn = none}}
    end.

turn(#{version := 'HTTP/2'}, _Connection) -> none;
turn(_Req, #{turn := Turn}) -> Turn.

began(_StreamId, #state{turn = none}) -> go;
began(StreamId, #state{turn = Turn}) -> hornbeam_turn:began(StreamId, Turn).

judged(none, StreamId, Req, Opts, State) ->
    last_if_in_doubt(StreamId, Req, State),
    {Commands, Next} = cowboy_stream:init(StreamId, Req, Opts),
    {Commands, State#state{next = Next}};
judged(Fault, StreamId, _Req, _Opts, State) ->
    {refusal(Fault, StreamId, State), State}.

%% Cowboy before 2.11 takes Content-Length beside Transfer-Encoding and does not say so. The
%% first head of a connection was read; of a later one it is not known, so that none may follow.
last_if_in_doubt(StreamId, #{has_body := true, body_length := undefined}, #state{turn = Turn})
        when StreamId > 1, Turn =/= none ->
    hornbeam_turn:last(StreamId, Turn);
last_if_in_doubt(_StreamId, _Req, _State) ->
    ok.

refusal(Fault, StreamId, #state{mount = #{counters := Counters}, turn = Turn}) ->
    {Status, Counter, Sentence} = hornbeam_head:answer(Fault),
    hornbeam_counters:add(Counter, Counters),
    _ = [hornbeam_turn:last(StreamId, Turn) || Turn =/= none],
    Headers = hornbeam_response:headers(Status, Sentence),
    closing([{error_response, Status, Headers, Sentence}, stop], StreamId, Turn).

%% @private
-spec data(cowboy_stream:streamid(), cowboy_stream:fin(), binary(), #state{}) ->
    {cowboy_stream:commands(), #state{}}.
data(_StreamId, _IsFin, _Data, #state{next = none} = State) ->
    {[], State};
data(_StreamId, _IsFin, _Data, #state{left = none} = State) ->
    {[], State};
data(StreamId, _IsFin, Data, #state{left = Left} = State) when byte_size(Data) > Left ->
    {too_much(StreamId, State), State#state{left = none}};
data(StreamId, IsFin, Data, #state{next = Next0} = State) ->
    {Commands, Next} = cowboy_stream:data(StreamId, IsFin, Data, Next0),
    {said(Commands, StreamId, State), spend(byte_size(Data), State#state{next = Next})}.

spend(_Size, #state{left = infinity} = State) -> State;
spend(Size, #state{left = Left} = State) -> State#state{left = Left - Size}.

%% A response that has begun cannot become another one: it is broken off.
too_much(StreamId, #state{responding = false} = State) ->
    refusal(body_too_large, StreamId, State);
too_much(_StreamId, #state{mount = #{counters := Counters}, turn = Turn}) ->
    {_, Counter, _} = hornbeam_head:answer(body_too_large),
    hornbeam_counters:add(Counter, Counters),
    hornbeam_response:breaking(Turn =/= none).

%% @private
-spec info(cowboy_stream:streamid(), term(), #state{}) -> {cowboy_stream:commands(), #state{}}.
info(_StreamId, _Info, #state{next = none} = State) ->
    {[], State};
info(StreamId, Info, #state{next = Next0} = State0) ->
    {Commands, Next} = cowboy_stream:info(StreamId, Info, Next0),
    State = State0#state{next = Next},
    {said(Commands, StreamId, State), State#state{responding = responds(Commands, State)}}.

responds(_Commands, #state{responding = true}) ->
    true;
responds(Commands, _State) ->
    lists:any(fun(Command) -> begins_response(Command) end, Commands).

begins_response({response, _, _, _}) -> true;
begins_response({headers, _, _}) -> true;
begins_response(_Command) -> false.

said(Commands, StreamId, #state{turn = Turn}) -> closing(Commands, StreamId, Turn).

%% The response to the last request says that it is the last.
closing(Commands, _StreamId, none) ->
    Commands;
closing(Commands, StreamId, Turn) ->
    case hornbeam_turn:is_last(StreamId, Turn) of
        true -> [closing(Command) || Command <- Commands];
        false -> Commands
    end.

closing({headers, Status, Headers}) -> {headers, Status, close(Headers)};
closing({response, Status, Headers, Body}) -> {response, Status, close(Headers), Body};
closing({error_response, Status, Headers, Body}) ->
    {error_response, Status, close(Headers), Body};
closing(Command) -> Command.

close(Headers) -> hornbeam_response:last(true, Headers).

%% @private
-spec terminate(cowboy_stream:streamid(), cowboy_stream:reason(), #state{}) -> ok.
terminate(StreamId, Reason, #state{next = Next} = State) ->
    _ = [cowboy_stream:terminate(StreamId, Reason, Next) || Next =/= none],
    ended(Reason, State).

%% A WebSocket has no next request.
ended(switch_protocol, _State) ->
    hornbeam_last_head:forget();
ended(_Reason, #state{turn = none}) ->
    ok;
ended(_Reason, #state{turn = Turn, socket = Socket, door = Door}) ->
    case hornbeam_turn:ended(Socket, Turn) of
        first_turn -> hornbeam_doorkeeper:watch(Socket, Turn, Door);
        _ -> ok
    end.

%% @private
-spec early_error(cowboy_stream:streamid(), cowboy_stream:reason(),
                  cowboy_stream:partial_req(), Response, cowboy:opts()) -> Response
    when Response :: cowboy_stream:resp_command().
early_error(_StreamId, {internal_error, _, _}, _PartialReq, Response, _Opts) ->
    Response;
early_error(_StreamId, _Reason, _PartialReq, {response, Status, Headers, _Body}, Opts) ->
    #{env := #{mount := #{counters := Counters}}} = Opts,
    {_, Counter, Sentence} = hornbeam_head:answer(fault(Status)),
    hornbeam_counters:add(Counter, Counters),
    {response, Status, maps:merge(Headers, hornbeam_response:headers(Status, Sentence)), Sentence}.

fault(408) -> head_timeout;
fault(414) -> uri_too_long;
fault(431) -> fields_too_large;
fault(_Status) -> bad_request.
