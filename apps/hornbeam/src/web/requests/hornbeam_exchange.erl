%% One HTTP exchange: what an app is asked and what it answers, whatever engine carries it.
%%
%%   waiting ──let in, a place──▶ asked ──start──▶ responding, streaming ──last part──▶ ended
%%      │ refused: 4xx, 503         │ no answer in time: 504   │ worker dead, app failed: broken off
%%      │                           │ worker dead: 502
%%      └ the server stops: 503 ────┤
%%                                  └ app failed: 500
%%
%% It lives in the engine's process and is told what comes; what is to be sent it returns as
%% actions, in their order. The body of the request flows to the app while that gives credit; the
%% body of the response flows to the client, and the app gets credit for what the engine says has
%% left. While an event stream flows (hornbeam_event_stream) others than the app may send, too, and
%% the node may end it, whose client then comes back.
%%
%% A WSGI app has few places, each of which is a thread. So before one is asked for, the body is
%% gathered, all of a small one and the begin of others: a client that sends slowly, or says that
%% it will and does not, takes none.
-module(hornbeam_exchange).

-include("hornbeam_request.hrl").

-export([new/4, adopt/4, add_body/3, handle_info/2, fail/2, handle_timeout/2, cancel/1]).
-export([wants_body/1, buffered/1, awaits_answer/1, is_event_stream/1, is_ended/1, deadline/1]).
-export([is_due/1, all_left/1]).
-export_type([exchange/0, action/0]).

-record(exchange, {
    owner :: hornbeam_stream:owner(),
    request :: hornbeam_request:request(),
    mount :: hornbeam_mounts:mount(),
    phase :: gathering | {waiting, hornbeam_request_pipeline:pipeline()} | asked | responding
           | {streaming, hornbeam_event_stream:stream()} | ended,
    stream = none :: none | hornbeam_stream:stream(),
    number = 0 :: non_neg_integer(),
    %% of a stream that a process owns
    worker :: reference() | undefined,
    %% for whoever attached to the end of a request: when it began (µs), and what it was answered
    began :: integer(),
    status = 0 :: non_neg_integer(),
    %% what the app may be sent of the request's body; what waits for that, the last first, and how
    %% much it is; whether more is to come
    credit = 0 :: integer(),
    waiting = [] :: [iodata()],
    ahead = 0 :: non_neg_integer(),
    more :: boolean(),
    continue = false :: boolean(),
    %% what others have to say already of an event stream that the response may become, the last
    %% first: no more than goes without being acknowledged (hornbeam_outbox)
    early = [] :: [term()],
    %% when something of the body last went on to the app (ms)
    active :: integer(),
    %% what was given to the engine of the response and is not given back as credit
    sent = {0, 0} :: {Bytes :: non_neg_integer(), Messages :: non_neg_integer()},
    %% all of the response's body so far (bytes)
    size = 0 :: non_neg_integer()
}).
-opaque exchange() :: #exchange{}.

-type action() ::
    {respond, Status :: 200..599, hornbeam_headers:fields(), Body :: binary()}
    | {start, Status :: 200..599, hornbeam_headers:fields(), Body :: binary()}
    | {part | last, Body :: binary()}
    | continue
    | break.
%% `respond' and `last' end a response, `break' one that cannot be ended; `continue' invites the
%% body that a client holds back.

-type step() :: {[action()], exchange()}.

%% So much of a body is taken before the app asks for it (bytes, about).
-define(READ_AHEAD, 65536).

%% So much is gathered (bytes): what every engine reads of a body that nobody has asked for.
-define(GATHERED, 65535).

%% @doc Begin with a request that has passed hornbeam_request_pipeline:check/3, the first part of
%% its body, and whether more of that is to come.
-spec new(hornbeam_stream:owner(), hornbeam_request:request(),
          {Body :: iodata(), More :: boolean()}, hornbeam_mounts:mount()) -> step().
new(Owner, Request, {Body, More}, Mount) ->
    Began = erlang:monotonic_time(microsecond),
    Exchange = #exchange{owner = Owner, request = Request, mount = Mount, phase = asked,
                         began = Began, active = Began div 1000, more = More,
                         waiting = [Body], ahead = iolist_size(Body)},
    begun(with_expectation(Exchange)).

%% Who has sent some of the body waits for nobody.
with_expectation(#exchange{more = true, ahead = 0, request = Request} = Exchange) ->
    Exchange#exchange{continue = expects_continue(Request)};
with_expectation(Exchange) ->
    Exchange.

expects_continue(#request{version = 'HTTP/1.0'}) ->
    false;
expects_continue(Request) ->
    case hornbeam_request:field(<<"expect">>, Request) of
        undefined -> false;
        Expect -> hornbeam_headers:lower(Expect) =:= <<"100-continue">>
    end.

begun(#exchange{more = true, continue = false, ahead = Ahead, owner = Owner,
                mount = #{options := #{worker_class := wsgi, queue_max := Most}}} = Exchange)
        when Ahead < ?GATHERED ->
    gathering(hornbeam_gathering:add(Owner, Most), Exchange);
begun(Exchange) ->
    start(Exchange).

gathering(ok, Exchange) ->
    {[], Exchange#exchange{phase = gathering}};
gathering(full, #exchange{mount = #{counters := Counters}} = Exchange) ->
    hornbeam_counters:add(queue_full, Counters),
    fail(503, Exchange).

start(#exchange{owner = Owner, request = Request, mount = Mount} = Exchange) ->
    entered(hornbeam_request_pipeline:start(http, Owner, Request, Mount), Exchange).

%% @doc Begin with a stream that the owner has opened, of which packets have come: a WebSocket's
%% denial response is an HTTP response.
-spec adopt(hornbeam_stream:stream(), Packets :: [binary()], hornbeam_request:request(),
            {hornbeam_stream:owner(), More :: boolean(), hornbeam_mounts:mount()}) -> step().
adopt(Stream, Packets, Request, {Owner, More, Mount}) ->
    Began = erlang:monotonic_time(microsecond),
    Number = hornbeam_stream:number(Stream),
    Exchange = #exchange{owner = Owner, request = Request, mount = Mount, phase = asked,
                         stream = Stream, number = Number, worker = watch(Owner, Stream),
                         began = Began, active = Began div 1000, more = More},
    lists:foldl(fun(Packet, {Actions, Before}) ->
        then(Actions, handle_info({stream, Number, Packet}, Before))
    end, {[], Exchange}, Packets).

watch(Owner, Stream) when is_pid(Owner) -> hornbeam_stream:monitor(Stream);
watch(_Tagged, _Stream) -> undefined.

then(Actions, {More, Exchange}) -> {Actions ++ More, Exchange}.

entered({ok, Handle, Request}, Exchange) ->
    {[], open(Handle, Exchange#exchange{request = Request})};
entered({wait, Pipeline}, Exchange) ->
    {[], Exchange#exchange{phase = {waiting, Pipeline}}};
entered({refuse, {Status, Fields, Body}}, Exchange) ->
    refuse(Status, Fields, Body, Exchange).

open(Handle, #exchange{owner = Owner, request = Request} = Exchange) ->
    #exchange{waiting = Waiting, more = More,
              mount = #{counters := Counters, traffic := Traffic}} = Exchange,
    Scope = hornbeam_scope:http(Request),
    Body = iolist_to_binary(lists:reverse(Waiting)),
    Stream = hornbeam_stream:open_tagged(Handle, http, Owner, fun(Number) ->
        hornbeam_wire:open_http(Number, Scope, Body, More)
    end),
    hornbeam_counters:add(http_requests, Counters),
    hornbeam_traffic:body_received(byte_size(Body), Traffic),
    Exchange#exchange{phase = asked, stream = Stream, number = hornbeam_stream:number(Stream),
                      waiting = [], ahead = 0}.

%% @doc The next part of the request's body.
-spec add_body(iodata(), More :: boolean(), exchange()) -> step().
add_body(Data, More, #exchange{waiting = Waiting, ahead = Ahead} = Exchange) ->
    added(Exchange#exchange{waiting = [Data | Waiting], ahead = Ahead + iolist_size(Data),
                            more = More, continue = false}).

added(#exchange{phase = gathering, more = true, ahead = Ahead} = Exchange)
        when Ahead < ?GATHERED ->
    {[], Exchange#exchange{active = erlang:monotonic_time(millisecond)}};
added(#exchange{phase = gathering, owner = Owner} = Exchange) ->
    hornbeam_gathering:remove(Owner),
    start(Exchange#exchange{active = erlang:monotonic_time(millisecond)});
added(Exchange) ->
    {[], forward(Exchange)}.

forward(#exchange{phase = {waiting, _}} = Exchange) ->
    Exchange;
forward(#exchange{credit = Credit, waiting = [_ | _] = Waiting, more = More} = Exchange)
        when Credit > 0 ->
    #exchange{stream = Stream, number = Number, mount = #{traffic := Traffic}} = Exchange,
    Body = iolist_to_binary(lists:reverse(Waiting)),
    hornbeam_traffic:body_received(byte_size(Body), Traffic),
    hornbeam_stream:write(Stream, hornbeam_wire:request_body(Number, Body, More)),
    Exchange#exchange{credit = Credit - byte_size(Body), waiting = [], ahead = 0,
                      active = erlang:monotonic_time(millisecond)};
forward(Exchange) ->
    Exchange.

%% @doc Whether more of the body is to be read: the app waits for it, or little waits for the app.
-spec wants_body(exchange()) -> boolean().
wants_body(#exchange{credit = Credit, ahead = Ahead}) ->
    Credit > 0 orelse Ahead < ?READ_AHEAD.

%% @doc How much of the body waits for the app (bytes).
-spec buffered(exchange()) -> non_neg_integer().
buffered(#exchange{ahead = Ahead}) -> Ahead.

%% @doc Whether a client that waits to be asked for its body has not been asked.
-spec awaits_answer(exchange()) -> boolean().
awaits_answer(#exchange{continue = Continue}) -> Continue.

%% @doc Whether the response is an event stream, and has begun.
-spec is_event_stream(exchange()) -> boolean().
is_event_stream(#exchange{phase = {streaming, _}}) -> true;
is_event_stream(_Exchange) -> false.

%% @doc Whether all is said.
-spec is_ended(exchange()) -> boolean().
is_ended(#exchange{phase = Phase}) -> Phase =:= ended.

%% @doc A message for the owner; what is not the exchange's is ignored.
-spec handle_info(term(), exchange()) -> step().
handle_info({stream, Number, Packet}, #exchange{number = Number, phase = Phase} = Exchange)
        when Phase =/= ended ->
    #exchange{mount = #{options := Options}} = Exchange,
    handle_message(hornbeam_app_message:read(Packet, Options), Packet, Exchange);
handle_info({worker_down, Number}, #exchange{number = Number, phase = {streaming, _}} = Exchange) ->
    close_if_it_comes_back(worker, Exchange);
handle_info({worker_down, Number}, #exchange{number = Number, phase = Phase} = Exchange)
        when Phase =/= ended ->
    fail(502, Exchange);
handle_info(Message, #exchange{phase = {streaming, Events}} = Exchange) ->
    of_stream(Message, Events, Exchange);
handle_info({'DOWN', Worker, process, _, _}, #exchange{worker = Worker} = Exchange)
        when Worker =/= undefined ->
    fail(502, Exchange);
handle_info(Message, #exchange{phase = asked, early = Early} = Exchange)
        when element(1, Message) =:= forward; element(1, Message) =:= fetch;
             element(1, Message) =:= overflow ->
    {[], Exchange#exchange{early = [Message | Early]}};
handle_info(going_away, #exchange{phase = Phase} = Exchange)
        when Phase =:= asked; Phase =:= gathering ->
    fail(503, Exchange);
handle_info(going_away, #exchange{phase = {waiting, Pipeline}} = Exchange) ->
    hornbeam_request_pipeline:cancel(Pipeline),
    fail(503, Exchange);
handle_info(Message, #exchange{phase = {waiting, Pipeline}} = Exchange) ->
    entered(hornbeam_request_pipeline:handle_info(Message, Pipeline), Exchange);
handle_info(_Stray, Exchange) ->
    {[], Exchange}.

handle_message({ok, {response, Number, Status, Fields, Body}}, Packet, Exchange) ->
    handle_message({ok, {response_start, Number, Status, Fields, Body, false}}, Packet, Exchange);
handle_message({ok, {response_start, _, Status, Fields, Body, More}}, _Packet,
               #exchange{phase = asked, request = #request{affinity = none, id = none}} = Exchange)
        ->
    started(More, Status, Fields, Body, Exchange#exchange{status = Status});
handle_message({ok, {response_start, _, Status, Fields, Body, More}}, _Packet,
               #exchange{phase = asked} = Exchange) ->
    {Told, Known} = answered(Fields, Exchange),
    started(More, Status, Told, Body, learned(Body, Known#exchange{status = Status}));
handle_message({ok, {event_stream, _, Status, Fields, Forwardable}}, _Packet,
               #exchange{phase = asked, early = Early} = Exchange) ->
    {Told, Known} = answered(Fields, Exchange),
    Begun = streaming(Status, Told, Known#exchange{status = Status, early = []}),
    lists:foldl(fun(Message, {Actions, Before}) ->
        then(Actions, handle_info(Message, Before))
    end, Begun, [Message || Forwardable, Message <- lists:reverse(Early)]);
handle_message({ok, {response_body, _, Body, More}}, _Packet,
               #exchange{phase = {streaming, Events}} = Exchange) ->
    streamed(More, hornbeam_event_stream:part(Body, Events), sent(Body, learned(Body, Exchange)));
handle_message({ok, {response_body, _, Body, true}}, _Packet,
               #exchange{phase = responding} = Exchange) ->
    {[{part, Body}], sent(Body, learned(Body, Exchange))};
handle_message({ok, {response_body, _, Body, false}}, _Packet,
               #exchange{phase = responding} = Exchange) ->
    {[{last, Body}], all_sent(sent(Body, Exchange))};
handle_message({ok, {credit, _, Bytes, Messages}}, Packet, #exchange{credit = Before} = Exchange) ->
    #exchange{stream = Stream} = Exchange,
    Credit = Before + Bytes,
    hornbeam_stream:credit_received(Stream),
    case hornbeam_stream:is_within_window({Credit, Messages}) of
        true -> asked_for_body(Exchange#exchange{credit = Credit});
        false -> violated(unearned_credit, Packet, Exchange)
    end;
handle_message({ok, {ended, _, _, _, _}}, _Packet, Exchange) ->
    fail(500, Exchange);
handle_message(Wrong, Packet, Exchange) ->
    violated(hornbeam_app_message:fault(Wrong), Packet, Exchange).

started(true, Status, Fields, _Body, Exchange) when Status =:= 204; Status =:= 304 ->
    %% Its head is all of it (RFC 9110, 6.4.1): what follows nobody wants.
    tell(true, Exchange),
    {[{respond, Status, Fields, <<>>}], abandon(Exchange#exchange{phase = ended})};
started(true, Status, Fields, Body, Exchange) ->
    {[{start, Status, Fields, Body}], sent(Body, Exchange#exchange{phase = responding})};
started(false, Status, Fields, Body, Exchange) ->
    {[{respond, Status, Fields, Body}], all_sent(sent(Body, Exchange))}.

%% The answer may say of which session it is.
learned(_Body, #exchange{request = #request{affinity = none}} = Exchange) ->
    Exchange;
learned(Body, #exchange{request = Request, mount = Mount} = Exchange) ->
    Known = hornbeam_affinity:read_body(Body, worker(Exchange), Request, Mount),
    Exchange#exchange{request = Known}.

answered(Fields, #exchange{request = Request} = Exchange) ->
    of_session(hornbeam_request_id:answer(Fields, Request), Exchange).

of_session(Fields, #exchange{request = #request{affinity = none}} = Exchange) ->
    {Fields, Exchange};
of_session(Fields, #exchange{request = Request, mount = Mount} = Exchange) ->
    {Told, Known} = hornbeam_affinity:answer(Fields, worker(Exchange), Request, Mount),
    {Told, Exchange#exchange{request = Known}}.

worker(#exchange{stream = Stream}) ->
    hornbeam_stream:worker_of(Stream).

sent(Body, #exchange{sent = {Bytes, Messages}, size = Size} = Exchange) ->
    Exchange#exchange{sent = {Bytes + byte_size(Body), Messages + 1},
                      size = Size + byte_size(Body)}.

%% An event stream begins, but for a client that wants none of it.
streaming(Status, Fields, Exchange) when Status =:= 204; Status =:= 304 ->
    started(true, Status, Fields, <<>>, Exchange);
streaming(Status, Fields, #exchange{request = #request{method = <<"HEAD">>}} = Exchange) ->
    tell(true, Exchange),
    {[{start, Status, Fields, <<>>}, {last, <<>>}], abandon(Exchange#exchange{phase = ended})};
streaming(Status, Fields, #exchange{owner = Owner, request = Request, mount = Mount} = Exchange) ->
    %% Who stops has told those that were there.
    _ = [hornbeam_stream:send(Owner, going_away) || hornbeam_mounts:is_shutting_down(Mount)],
    Events = hornbeam_event_stream:new(Owner, {Request, Mount}),
    {[{start, Status, Fields, <<>>}], sent(<<>>, Exchange#exchange{phase = {streaming, Events}})}.

streamed(true, Step, Exchange) ->
    written(Step, Exchange);
streamed(false, {Parts, Events}, Exchange) ->
    Noted = hornbeam_event_stream:note(Parts, Events),
    {ended_with(Parts), all_sent(close_stream(ended, Noted, Exchange))}.

written({Parts, Events}, Exchange) ->
    Noted = hornbeam_event_stream:note(Parts, Events),
    {[{part, Part} || Part <- Parts], Exchange#exchange{phase = {streaming, Noted}}}.

description(Events, #exchange{stream = Stream}) ->
    hornbeam_event_stream:description(hornbeam_stream:worker_of(Stream), Events).

ended_with([Last]) -> [{last, Last}];
ended_with([Part | Parts]) -> [{part, Part} | ended_with(Parts)].

%% What others than the app have to say of an event stream.
of_stream({forward, Outbox, Event}, Events, Exchange) ->
    written(hornbeam_event_stream:forward(Outbox, Event, Events), Exchange);
of_stream({fetch, Outbox}, Events, Exchange) ->
    written({[], hornbeam_event_stream:fetch(Outbox, Events)}, Exchange);
of_stream({client, _, Client}, Events, Exchange) ->
    written({[], hornbeam_event_stream:set_client(Client, Events)}, Exchange);
of_stream({describe, Asker}, Events, Exchange) ->
    hornbeam_connection_registry:reply(Asker, description(Events, Exchange)),
    {[], Exchange};
of_stream({measure, Asker, Measure, Filter}, Events, Exchange) ->
    hornbeam_connection_registry:reply_measure(Asker, Measure, Filter,
                                               description(Events, Exchange)),
    {[], Exchange};
of_stream({trace, Viewer}, Events, Exchange) ->
    written({[], hornbeam_event_stream:trace(fun(Before) ->
        hornbeam_trace:new(Viewer, Before)
    end, Events)}, Exchange);
of_stream({stop_trace, Ref}, Events, Exchange) ->
    written({[], hornbeam_event_stream:trace(fun(Trace) ->
        hornbeam_trace:stop(Ref, Trace)
    end, Events)}, Exchange);
of_stream({retiring, _, _}, _Events, Exchange) ->
    leave_if_it_comes_back(retired, Exchange);
of_stream(going_away, _Events, Exchange) ->
    leave_if_it_comes_back(stopped, Exchange);
of_stream({overflow, _Outbox}, _Events, #exchange{mount = #{counters := Counters}} = Exchange) ->
    hornbeam_counters:add(slow_clients_closed, Counters),
    close_if_it_comes_back(slow, Exchange);
of_stream({kick, _Code, _Reason}, _Events, #exchange{mount = #{counters := Counters}} = Exchange) ->
    hornbeam_counters:add(kicked, Counters),
    close_if_it_comes_back(kicked, Exchange);
of_stream(_Stray, _Events, Exchange) ->
    {[], Exchange}.

%% Others than an EventSource get all of their responses, if there is time for that.
leave_if_it_comes_back(Reason, #exchange{phase = {streaming, Events}} = Exchange) ->
    case hornbeam_event_stream:is_event_source(Events) of
        true -> close_if_it_comes_back(Reason, Exchange);
        false -> {[], Exchange}
    end.

%% To them a response that is cut short must not seem whole.
close_if_it_comes_back(Reason, #exchange{phase = {streaming, Events}} = Exchange) ->
    IsWhole = hornbeam_event_stream:is_event_source(Events),
    Closed = close_stream(Reason, Events, Exchange),
    tell(IsWhole, Closed),
    {farewell(IsWhole, Reason, Events), abandon(Closed#exchange{phase = ended})}.

farewell(true, Reason, Events) -> [{last, hornbeam_event_stream:farewell(Reason, Events)}];
farewell(false, _Reason, _Events) -> [break].

close_stream(Reason, Events, #exchange{status = Status} = Exchange) ->
    hornbeam_event_stream:closed(Reason, Status, Events),
    Exchange#exchange{size = hornbeam_event_stream:bytes(Events)}.

%% The worker knows that all is said to a tagged owner, and sends no more.
all_sent(#exchange{owner = {_, _}} = Exchange) ->
    tell(true, Exchange),
    Exchange#exchange{phase = ended, stream = none};
all_sent(Exchange) ->
    tell(true, Exchange),
    Exchange#exchange{phase = ended}.

%% The app asks for the body: that is the moment to say so to a client that waits to be asked.
asked_for_body(#exchange{continue = true, phase = asked} = Exchange) ->
    {[continue], forward(Exchange#exchange{continue = false})};
asked_for_body(Exchange) ->
    {[], forward(Exchange)}.

violated(Reason, Packet, #exchange{stream = Stream} = Exchange) ->
    hornbeam_stream:violated(Stream, Reason, Packet),
    fail(500, Exchange).

%% @doc End it: with a response of ours or, when one has begun, by breaking that off.
-spec fail(hornbeam_error_response:response() | 400..599, exchange()) -> step().
fail(_Status, #exchange{phase = ended} = Exchange) ->
    {[], Exchange};
fail(Status, #exchange{phase = gathering, owner = Owner} = Exchange) ->
    hornbeam_gathering:remove(Owner),
    fail(Status, Exchange#exchange{phase = asked});
fail(Status, #exchange{phase = {streaming, Events}} = Exchange) ->
    fail(Status, (close_stream(failed, Events, Exchange))#exchange{phase = responding});
fail(_Status, #exchange{phase = responding} = Exchange) ->
    tell(false, Exchange),
    {[break], abandon(Exchange#exchange{phase = ended})};
fail(Status, Exchange) when is_integer(Status) ->
    fail(hornbeam_error_response:new(Status), Exchange);
fail({Status, Fields, Body}, Exchange) ->
    refuse(Status, Fields, Body, Exchange).

refuse(Status, Fields, Body, Exchange0) ->
    Exchange = Exchange0#exchange{status = Status, size = iolist_size(Body)},
    tell(true, Exchange),
    Told = hornbeam_request_id:answer(Fields, Exchange#exchange.request),
    {[{respond, Status, Told, Body}], abandon(Exchange#exchange{phase = ended})}.

tell(IsWhole, Exchange) ->
    _ = [tell_all(IsWhole, Exchange) || hornbeam_telemetry:is_wanted()],
    log(IsWhole, Exchange).

log(IsWhole, #exchange{request = Request, mount = #{traffic := Traffic}} = Exchange) ->
    #exchange{began = Began, status = Status, size = Size} = Exchange,
    hornbeam_traffic:answered(Request#request.method, {Status, IsWhole}, Size, Began, Traffic),
    hornbeam_access_log:http(Request, {Status, IsWhole}, Size, Began).

tell_all(IsWhole, #exchange{request = Request, began = Began, status = Status}) ->
    #request{method = Method, path = Path, mount = Mount, scheme = Scheme} = Request,
    Taken = erlang:monotonic_time(microsecond) - Began,
    hornbeam_telemetry:execute([hornbeam, http, stop],
                               #{microseconds => Taken,
                                 began => erlang:system_time(microsecond) - Taken},
                               (hornbeam_trace_context:of_request(Request))#{
                                   mount => Mount, method => Method, scheme => Scheme,
                                   path => Path, status => Status, whole => IsWhole,
                                   client => hornbeam_scope:client(Request#request.peer)}).

%% @doc When the app's answer, or the client's body, is late (monotonic time, ms).
-spec deadline(exchange()) -> integer() | infinity.
deadline(#exchange{phase = Phase, active = Active, mount = #{options := #{timeout := Timeout}}})
        when is_integer(Timeout), (Phase =:= asked orelse Phase =:= gathering) ->
    Active + Timeout;
deadline(_Exchange) ->
    infinity.

%% @doc Look at the deadline.
-spec handle_timeout(Now :: integer(), exchange()) -> step().
handle_timeout(Now, #exchange{mount = #{counters := Counters}} = Exchange) ->
    case deadline(Exchange) of
        Deadline when Now >= Deadline ->
            hornbeam_counters:add(timeouts, Counters),
            fail(late(Exchange), Exchange);
        _ ->
            {[], Exchange}
    end.

late(#exchange{phase = gathering}) -> 408;
late(_Exchange) -> 504.

%% @doc Whether {@link all_left/1} is to be called once what was given to the engine has left: the
%% app should get credit for so much, or others wait to send.
-spec is_due(exchange()) -> boolean().
is_due(#exchange{phase = responding} = Exchange) ->
    is_credit_due(Exchange);
is_due(#exchange{phase = {streaming, Events}} = Exchange) ->
    is_credit_due(Exchange) orelse hornbeam_event_stream:is_due(Events);
is_due(_Exchange) ->
    false.

is_credit_due(#exchange{sent = {Bytes, Messages}}) ->
    hornbeam_stream:is_due(Bytes, Messages).

%% @doc All that was given to the engine has left.
-spec all_left(exchange()) -> step().
all_left(#exchange{phase = {streaming, Events}} = Exchange) ->
    Credited = return_credit(is_credit_due(Exchange), Exchange),
    case hornbeam_event_stream:is_due(Events) of
        true -> written(hornbeam_event_stream:written(Events), Credited);
        false -> {[], Credited}
    end;
all_left(Exchange) ->
    {[], return_credit(true, Exchange)}.

return_credit(true, #exchange{stream = Stream, sent = {Bytes, Messages}} = Exchange) ->
    hornbeam_stream:credit(Stream, Bytes, Messages),
    Exchange#exchange{sent = {0, 0}};
return_credit(false, Exchange) ->
    Exchange.

%% @doc Nothing more comes from the client, or nothing more goes to it.
-spec cancel(exchange()) -> ok.
cancel(#exchange{phase = {waiting, Pipeline}, mount = #{traffic := Traffic}}) ->
    hornbeam_traffic:cancelled(Traffic),
    hornbeam_request_pipeline:cancel(Pipeline);
cancel(#exchange{phase = gathering, owner = Owner, mount = #{traffic := Traffic}}) ->
    hornbeam_traffic:cancelled(Traffic),
    hornbeam_gathering:remove(Owner);
cancel(#exchange{phase = {streaming, Events}} = Exchange) ->
    cancel((close_stream(client, Events, Exchange))#exchange{phase = responding});
cancel(#exchange{phase = Phase, mount = #{traffic := Traffic}} = Exchange) ->
    _ = [log(false, Exchange) || Phase =:= responding],
    _ = [hornbeam_traffic:cancelled(Traffic) || Phase =/= ended],
    _ = abandon(Exchange),
    ok.

abandon(#exchange{stream = none} = Exchange) ->
    Exchange;
abandon(#exchange{stream = Stream, worker = Worker} = Exchange) ->
    _ = [erlang:demonitor(Worker, [flush]) || Worker =/= undefined],
    hornbeam_stream:abandon(Stream),
    Exchange#exchange{stream = none, worker = undefined}.
