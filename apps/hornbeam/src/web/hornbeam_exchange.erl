%% One HTTP exchange: a Cowboy stream handler, in the connection's process.
%%
%%   opened ──response_start──▶ responding ──the last part──▶ done
%%      │ no answer in time: 504     │ worker dead, app failed: the response is broken off
%%      │ worker dead: 502
%%      │ the server stops: 503
%%      └ app failed: 500
%%
%% It begins by itself where nothing has to be waited for. What may take its time (a place on a
%% worker, the node's own `on_connect', a WebSocket's handshake) is cowboy_stream_h's request
%% process, which stands behind it and may give it the stream with serve/3.
%%
%% The body of the request flows to the app while it gives credit; the body of the response
%% flows to the client, and the app gets credit for what has left.
-module(hornbeam_exchange).
-behaviour(cowboy_stream).

-export([serve/3]).
-export([init/3, data/4, info/3, terminate/3, early_error/5]).

-record(exchange, {
    id :: hornbeam_stream:owner(),
    req :: cowboy_req:req(),
    opts :: cowboy:opts(),
    mount :: hornbeam_mounts:mount(),
    %% the handlers behind this one, once they were asked
    next = none :: none | {asked, term()},
    stream = none :: none | hornbeam_stream:stream(),
    number = 0 :: non_neg_integer(),
    deadline :: reference() | undefined,
    responding = false :: boolean(),
    %% for whoever attached to the end of a request: when it began (µs), and what it was answered
    began :: integer(),
    status = 0 :: non_neg_integer(),
    %% what the app may be sent of the request's body, and what waits for that, the last first
    credit = 0 :: integer(),
    waiting = [] :: [{cowboy_stream:fin(), binary()}],
    continue = false :: boolean(),
    %% a WebSocket's connection ends when the app has refused it, and what it bound to it
    is_last = false :: boolean(),
    %% what has left of the response and is not given back as credit
    sent = {0, 0} :: {Bytes :: non_neg_integer(), Messages :: non_neg_integer()},
    %% over HTTP/2: something waits for room in the client's window; nothing more is to be said
    is_behind = false :: boolean(),
    is_over = false :: boolean()
}).

%% What Cowboy may read of a body before it is taken, as its initial_stream_flow_size (bytes).
-define(READ_AHEAD, 65535).

%% A body of so many bytes (with its head) comes in one read of any size.
-define(SMALL, 512).

%% @doc Give a stream that the calling request process has opened to the exchange of its request,
%% with the frames that it got: a WebSocket's denial response is an HTTP response.
%%
%% Never returns: the process ends with the exchange, and what the app has bound to it.
-spec serve(hornbeam_stream:stream(), Frames :: [binary()], cowboy_req:req()) -> no_return().
serve(Stream, Frames, #{pid := Connection, streamid := StreamId} = Req) ->
    Worker = hornbeam_stream:monitor(Stream),
    hornbeam_stream:hand_over(Stream, {Connection, StreamId}),
    Last = frames(hornbeam_stream:number(Stream), Worker),
    cowboy_req:cast({serve, Stream, Frames ++ Last}, Req),
    receive after infinity -> exit(normal) end.

frames(Number, Worker) ->
    receive
        {stream, Number, Frame} -> [Frame | frames(Number, Worker)];
        {handed_over, Number} -> [];
        {'DOWN', Worker, process, _, _} -> []
    end.

%% @private
-spec init(cowboy_stream:streamid(), cowboy_req:req(), cowboy:opts()) ->
    {cowboy_stream:commands(), #exchange{}}.
init(StreamId, Req, #{env := #{mount := Mount}} = Opts) ->
    _ = [hornbeam_read_buffer:widen(maps:get(socket, Req)) || is_large(Req)],
    Exchange = #exchange{id = {self(), StreamId}, req = Req, opts = Opts, mount = Mount,
                         began = erlang:monotonic_time(microsecond)},
    first(flow(Req), begun(hornbeam_mounts:handler(Req), Exchange)).

%% The socket of an HTTP/2 connection is wide from the start.
is_large(#{version := 'HTTP/2'}) -> false;
is_large(#{has_body := false}) -> false;
is_large(#{body_length := Length}) -> Length =:= undefined orelse Length > ?SMALL.

%% Over HTTP/2 streams share a window, and those that nobody reads may fill it: each one asks for
%% the bytes that it may have in its own window. HTTP/1.1 has initial_stream_flow_size.
flow(#{version := 'HTTP/2'}) -> [{flow, ?READ_AHEAD}];
flow(_Req) -> [].

first(Before, {Commands, Exchange}) -> {Before ++ Commands, Exchange}.

%% What Cowboy has read of the body with the head comes before the next message, and goes to the
%% app with the opening.
begun(hornbeam_http_h, #exchange{req = #{method := <<"CONNECT">>}} = Exchange) ->
    ask(Exchange);
begun(hornbeam_http_h, #exchange{id = Id, req = #{has_body := true}} = Exchange) ->
    hornbeam_stream:tell(Id, go),
    {[], Exchange};
begun(hornbeam_http_h, Exchange) ->
    begun(Exchange);
begun(_Handler, Exchange) ->
    ask(Exchange).

begun(#exchange{mount = #{options := #{on_connect := undefined}} = Mount} = Exchange) ->
    case hornbeam_mounts:reserve(Mount) of
        {ok, Handle} -> with_room(Handle, Exchange);
        none -> ask(Exchange)
    end;
begun(Exchange) ->
    ask(Exchange).

with_room(Handle, #exchange{req = Req, mount = Mount} = Exchange) ->
    try scope(Req, Mount) of
        {ok, Scope} ->
            open(Handle, Scope, Exchange);
        {refuse, Status, Sentence} ->
            hornbeam_stream:give_back(Handle),
            stop(hornbeam_response:refusal(Status, Sentence, is_last(Exchange)), Exchange)
    catch
        Class:Reason:Stacktrace ->
            hornbeam_stream:give_back(Handle),
            erlang:raise(Class, Reason, Stacktrace)
    end.

%% What was let in by its fields and told by no proxy is let in again, and packed already.
scope(#{headers := Headers, host := Host, port := Port} = Req, Mount) ->
    Known = {Headers, Host, Port},
    case hornbeam_last_head:recall(scope, Known) of
        {ok, Rest} -> {ok, hornbeam_scope:http(Req, Rest)};
        unknown -> admitted(hornbeam_reception:admit(http, Req, Mount), Known)
    end.

admitted({ok, none, Req}, Known) when not is_map_key(header_list, Req) ->
    Scope = hornbeam_scope:http(Req),
    _ = hornbeam_last_head:remember(scope, Known, hornbeam_wire:pack_rest(Scope)),
    {ok, Scope};
admitted({ok, _Told, Req}, _Known) ->
    {ok, hornbeam_scope:http(Req)};
admitted({refuse, _, _} = Refused, _Known) ->
    Refused.

open(Handle, Scope, #exchange{id = Id, mount = #{counters := Counters}} = Exchange) ->
    {IsFin, Body} = first_part(Exchange),
    Stream = hornbeam_stream:open_part(Handle, http, Id, fun(Number) ->
        hornbeam_wire:open_http(Number, Scope, Body, IsFin =:= nofin)
    end),
    hornbeam_counters:add(http_requests, Counters),
    {taken(Body), awaiting_answer(IsFin, Stream, Exchange#exchange{waiting = []})}.

first_part(#exchange{req = #{has_body := false}}) -> {fin, <<>>};
first_part(#exchange{waiting = []}) -> {nofin, <<>>};
first_part(#exchange{waiting = [{IsFin, Data}]}) -> {IsFin, Data};
first_part(#exchange{waiting = [{IsFin, _} | _] = Waiting}) ->
    {IsFin, iolist_to_binary([Data || {_, Data} <- lists:reverse(Waiting)])}.

%% Cowboy may read as much again.
taken(<<>>) -> [];
taken(Data) -> [{flow, byte_size(Data)}].

awaiting_answer(IsFin, Stream, #exchange{req = Req, mount = Mount} = Exchange) ->
    #{options := #{timeout := Timeout}} = Mount,
    Exchange#exchange{stream = Stream, number = hornbeam_stream:number(Stream),
                      deadline = deadline(Timeout, Exchange),
                      continue = IsFin =:= nofin andalso expects_continue(Req)}.

expects_continue(#{headers := #{<<"expect">> := Expect}}) ->
    cowboy_bstr:to_lower(Expect) =:= <<"100-continue">>;
expects_continue(_Req) ->
    false.

deadline(infinity, _Exchange) -> undefined;
deadline(Timeout, #exchange{id = Id}) -> erlang:send_after(Timeout, self(), {Id, late}).

%% The request process is asked.
ask(#exchange{id = {_, StreamId}, req = Req, opts = Opts} = Exchange) ->
    {Commands, Next} = cowboy_stream:init(StreamId, Req, Opts),
    {Commands, Exchange#exchange{next = {asked, Next}}}.

%% @private
-spec data(cowboy_stream:streamid(), cowboy_stream:fin(), binary(), #exchange{}) ->
    {cowboy_stream:commands(), #exchange{}}.
data(StreamId, IsFin, Data, #exchange{req = #{method := <<"CONNECT">>}} = Exchange) ->
    %% It carries a WebSocket.
    #exchange{next = {asked, Next0}} = Exchange,
    {Commands, Next} = cowboy_stream:data(StreamId, IsFin, Data, Next0),
    {Commands, Exchange#exchange{next = {asked, Next}}};
data(_StreamId, IsFin, Data, #exchange{waiting = Waiting} = Exchange) ->
    forward(Exchange#exchange{waiting = [{IsFin, Data} | Waiting]}).

forward(#exchange{credit = Credit, waiting = [_ | _] = Waiting} = Exchange) when Credit > 0 ->
    forward(lists:reverse(Waiting), [], Exchange#exchange{waiting = []});
forward(Exchange) ->
    {[], Exchange}.

forward([{IsFin, Data} | Waiting], Taken, #exchange{credit = Credit} = Exchange)
        when Credit > 0 ->
    #exchange{stream = Stream, number = Number} = Exchange,
    hornbeam_stream:write(Stream, hornbeam_wire:request_body(Number, Data, IsFin =:= nofin)),
    forward(Waiting, Taken ++ taken(Data),
            Exchange#exchange{credit = Credit - byte_size(Data)});
forward(Waiting, Taken, Exchange) ->
    {Taken, Exchange#exchange{waiting = lists:reverse(Waiting)}}.

%% @private
-spec info(cowboy_stream:streamid(), term(), #exchange{}) ->
    {cowboy_stream:commands(), #exchange{}}.
info(_StreamId, {stream, Number, Frame}, #exchange{number = Number} = Exchange) ->
    said(hornbeam_answer:read(Frame), Frame, Exchange);
info(_StreamId, go, Exchange) ->
    begun(Exchange);
info(_StreamId, over, Exchange) ->
    {[stop], Exchange#exchange{is_over = false}};
info(_StreamId, late, #exchange{mount = #{counters := Counters}} = Exchange) ->
    hornbeam_counters:add(timeouts, Counters),
    fail(504, Exchange);
info(_StreamId, {worker_down, Number}, #exchange{number = Number} = Exchange) ->
    fail(502, Exchange);
info(_StreamId, going_away, #exchange{stream = Stream} = Exchange) when Stream =/= none ->
    fail(503, Exchange);
info(StreamId, {serve, Stream, Frames}, #exchange{id = Id, req = Req} = Exchange) ->
    hornbeam_stream:take_over(Stream, Id),
    #{has_body := HasBody} = Req,
    Served = awaiting_answer(fin_unless(HasBody), Stream, Exchange),
    IsLast = hornbeam_mounts:handler(Req) =:= hornbeam_websocket_h,
    lists:foldl(fun(Frame, {Commands, Before}) ->
        first(Commands, info(StreamId, {stream, Served#exchange.number, Frame}, Before))
    end, {[], Served#exchange{is_last = IsLast}}, Frames);
info(StreamId, {alarm, _Name, on} = Alarm, Exchange) ->
    next_info(StreamId, Alarm, Exchange#exchange{is_behind = true});
info(StreamId, {alarm, _Name, off} = Alarm, Exchange) ->
    next_info(StreamId, Alarm, repaid(Exchange#exchange{is_behind = false}));
info(StreamId, Info, Exchange) ->
    next_info(StreamId, Info, Exchange).

fin_unless(true) -> nofin;
fin_unless(false) -> fin.

next_info(_StreamId, Info, #exchange{next = none} = Exchange) ->
    {as_commands(Info), Exchange};
next_info(StreamId, Info, #exchange{next = {asked, Next0}} = Exchange) ->
    {Commands, Next} = cowboy_stream:info(StreamId, Info, Next0),
    {Commands, Exchange#exchange{next = {asked, Next}}}.

%% What Cowboy itself has to say on a stream that ends too early it gives to the handlers first.
as_commands({response, _, _, _} = Response) -> [Response];
as_commands({data, _, _} = Data) -> [Data];
as_commands({inform, _, _} = Inform) -> [Inform];
as_commands(_Info) -> [].

said({ok, {response_start, _, Status, Headers, Body, More}}, _Frame,
     #exchange{responding = false} = Exchange) ->
    cancel(Exchange),
    All = hornbeam_response:last(is_last(Exchange), hornbeam_headers:response(Headers)),
    Response = hornbeam_response:start(Status, All, Body, More, method(Exchange)),
    responded(Response, Body, served(More, Exchange#exchange{responding = true, status = Status,
                                                             deadline = undefined}));
said({ok, {response_body, _, Body, More}}, _Frame, #exchange{responding = true} = Exchange) ->
    responded(hornbeam_response:part(Body, More, method(Exchange)), Body, served(More, Exchange));
said({ok, {credit, _, Bytes, Messages}}, Frame, #exchange{credit = Before} = Exchange) ->
    #exchange{stream = Stream} = Exchange,
    Credit = Before + Bytes,
    hornbeam_stream:take_credit(Stream),
    case hornbeam_stream:is_within_window({Credit, Messages}) of
        true -> invited(Exchange#exchange{credit = Credit});
        false -> violated(unearned_credit, Frame, Exchange)
    end;
said({ok, {ended, _, _, _, _}}, _Frame, Exchange) ->
    fail(500, Exchange);
said(Wrong, Frame, Exchange) ->
    violated(hornbeam_answer:fault(Wrong), Frame, Exchange).

method(#exchange{req = #{method := Method}}) -> Method.

violated(Reason, Frame, #exchange{stream = Stream} = Exchange) ->
    hornbeam_stream:violated(Stream, Reason, Frame),
    fail(500, Exchange).

%% What is in the mailbox for a stream that is over would be a riddle to Cowboy.
cancel(#exchange{deadline = undefined}) ->
    ok;
cancel(#exchange{deadline = Deadline, id = Id}) ->
    _ = [flush({Id, late}) || erlang:cancel_timer(Deadline) =:= false],
    ok.

flush(Message) ->
    receive
        Message -> ok
    after 0 ->
        ok
    end.

%% HTTP/2 has another way to say it.
is_last(#exchange{is_last = IsLast, mount = Mount, req = #{version := Version}}) ->
    Version =/= 'HTTP/2' andalso (IsLast orelse hornbeam_mounts:is_shut(Mount)).

%% The worker knows that all is said, and sends no more.
served(true, Exchange) -> Exchange;
served(false, Exchange) -> Exchange#exchange{stream = none}.

responded({done, Commands}, _Body, #exchange{status = Status} = Exchange) ->
    tell(Status, true, Exchange),
    stop(Commands, Exchange);
responded({more, Commands}, Body, #exchange{sent = {Bytes, Messages}} = Exchange) ->
    {Commands, repaid(Exchange#exchange{sent = {Bytes + byte_size(Body), Messages + 1}})}.

repaid(#exchange{is_behind = IsBehind, stream = Stream} = Exchange)
        when IsBehind; Stream =:= none ->
    Exchange;
repaid(#exchange{stream = Stream, sent = {Bytes, Messages}} = Exchange) ->
    case hornbeam_stream:is_due(Bytes, Messages) of
        true ->
            hornbeam_stream:credit(Stream, Bytes, Messages),
            Exchange#exchange{sent = {0, 0}};
        false ->
            Exchange
    end.

%% Over HTTP/2 something of the response may have to wait for room in the client's window, and only
%% when it has been said is that known (hornbeam_http2_stream).
stop(Commands, #exchange{id = Id, req = #{version := 'HTTP/2'}} = Exchange) ->
    hornbeam_stream:tell(Id, over),
    abandon(Exchange),
    {Commands, Exchange#exchange{is_over = true, stream = none, number = 0}};
stop(Commands, Exchange) ->
    {Commands ++ [stop], Exchange}.

%% The app asks for the body: that is the moment to say so to a client that waits to be asked.
invited(#exchange{continue = true, responding = false} = Exchange) ->
    first([{inform, 100, #{}}], forward(Exchange#exchange{continue = false}));
invited(Exchange) ->
    forward(Exchange).

fail(Status, #exchange{responding = false} = Exchange) ->
    cancel(Exchange),
    tell(Status, true, Exchange),
    stop(hornbeam_response:refusal(Status, is_last(Exchange)),
         Exchange#exchange{deadline = undefined});
fail(_Status, #exchange{status = Status, req = #{version := Version}} = Exchange) ->
    tell(Status, false, Exchange),
    {hornbeam_response:breaking(Version =/= 'HTTP/2'), Exchange}.

tell(Status, IsWhole, #exchange{req = #{method := Method, path := Path}, began = Began}) ->
    hornbeam_telemetry:execute(
        [hornbeam, http, stop],
        #{microseconds => erlang:monotonic_time(microsecond) - Began},
        #{method => Method, path => Path, status => Status, whole => IsWhole}).

%% @private
-spec terminate(cowboy_stream:streamid(), cowboy_stream:reason(), #exchange{}) -> ok.
terminate(StreamId, Reason, #exchange{id = Id, stream = Stream, next = Next} = Exchange) ->
    cancel(Exchange),
    _ = [flush({Id, go}) || Stream =:= none, Next =:= none, not Exchange#exchange.responding],
    _ = [flush({Id, over}) || Exchange#exchange.is_over],
    abandon(Exchange),
    _ = [cowboy_stream:terminate(StreamId, Reason, Behind) || {asked, Behind} <- [Next]],
    %% Only now: who closes the listener asks the workers for what is left, and waits for this.
    hornbeam_mounts:over(Id, Exchange#exchange.mount).

abandon(#exchange{stream = none}) -> ok;
abandon(#exchange{stream = Stream}) -> hornbeam_stream:abandon(Stream).

%% @private
-spec early_error(cowboy_stream:streamid(), cowboy_stream:reason(),
                  cowboy_stream:partial_req(), Response, cowboy:opts()) -> Response
    when Response :: cowboy_stream:resp_command().
early_error(StreamId, Reason, PartialReq, Response, Opts) ->
    cowboy_stream:early_error(StreamId, Reason, PartialReq, Response, Opts).
