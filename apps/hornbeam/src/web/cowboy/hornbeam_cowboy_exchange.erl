%% A Cowboy stream handler: an HTTP exchange (hornbeam_exchange) as a stream of Cowboy's, in the
%% connection's process. A WebSocket is left to the request process behind it, which may give a
%% stream back that the app has denied with a response (serve/3).
-module(hornbeam_cowboy_exchange).
-behaviour(cowboy_stream).

-include("../requests/hornbeam_request.hrl").

-export([serve/3, breaking/1, takeover/7]).
-export([init/3, data/4, info/3, terminate/3, early_error/5]).

-record(state, {
    owner :: hornbeam_stream:owner(),
    req :: cowboy_req:req(),
    request :: hornbeam_request:request(),
    mount :: hornbeam_mounts:mount(),
    %% the handlers behind this one, of a WebSocket
    next = none :: none | {asked, term()},
    exchange = none :: none | hornbeam_exchange:exchange(),
    timer = none :: none | reference(),
    %% what of the body waits for the app (bytes): as much may be read again when it has gone on
    held = 0 :: non_neg_integer(),
    %% something waits for room in the client's window
    is_behind = false :: boolean(),
    %% when it is looked at again what has left
    looking = none :: none | reference(),
    %% a WebSocket's connection ends when the app has refused it, and what it bound to it
    is_last = false :: boolean(),
    is_over = false :: boolean()
}).

%% What Cowboy may read of a body before it is taken, as its initial_stream_flow_size (bytes).
-define(READ_AHEAD, 65535).

%% While the client of an event stream is slow it is looked again after a while (ms).
-define(LOOK_AGAIN, 20).

%% @doc Give a stream that the calling request process has opened for a request to the connection's
%% process, with the packets that it got.
%%
%% Never returns: the process ends with the exchange, and what the app has bound to it.
-spec serve({hornbeam_stream:stream(), Packet :: binary()}, hornbeam_request:request(),
            cowboy_req:req()) -> no_return().
serve({Stream, Packet}, Request, #{pid := Connection, streamid := StreamId} = Req) ->
    Later = hornbeam_stream:hand_over(Stream, {Connection, StreamId}),
    cowboy_req:cast({serve, Stream, [Packet | Later], Request}, Req),
    receive after infinity -> exit(normal) end.

%% @doc Break off a response so that the client sees that it is not whole: over HTTP/2 with its
%% stream, and over HTTP/1.1 with the connection.
-spec breaking(cowboy_req:req()) -> cowboy_stream:commands().
breaking(#{version := 'HTTP/2'}) ->
    [{internal_error, broken_response, 'The response was broken off.'}];
breaking(#{version := Version}) ->
    %% Cowboy would end it neatly.
    [{switch_protocol, #{}, ?MODULE, Version}].

%% @private
-spec takeover(pid(), ranch:ref(), inet:socket(), module(), cowboy:opts(), binary(),
               cowboy:http_version()) -> no_return().
takeover(_Parent, _Ref, _Socket, _Transport, _Opts, _Buffer, Version) ->
    break(Version, hornbeam_cowboy:socket()),
    exit({shutdown, broken_response}).

%% A body that ends with the connection must not seem whole.
break('HTTP/1.0', Socket) -> hornbeam_socket:reset(Socket);
break('HTTP/1.1', {Transport, Socket}) -> Transport:close(Socket).

%% @private
-spec init(cowboy_stream:streamid(), cowboy_req:req(), cowboy:opts()) ->
    {cowboy_stream:commands(), #state{}}.
init(StreamId, Req, #{env := #{mounts := Mounts}} = Opts) ->
    {Mount, Request} = hornbeam_mounts:find(hornbeam_cowboy:request(Req), Mounts),
    State = #state{owner = {self(), StreamId}, req = Req, request = Request, mount = Mount},
    case Request of
        #request{upgrade = websocket} -> ask(StreamId, Req, Opts, State);
        #request{method = <<"CONNECT">>} -> refused(hornbeam_error_response:new(501), State);
        #request{} -> checked(hornbeam_request_pipeline:check(http, Request, Mount), State)
    end.

ask(StreamId, Req, Opts, State) ->
    {Commands, Next} = cowboy_stream:init(StreamId, Req, Opts),
    {Commands, State#state{next = {asked, Next}}}.

checked({ok, _Told, #request{body = Body} = Request}, State) ->
    #state{owner = Owner, mount = Mount} = State,
    More = Body =/= none,
    Begun = hornbeam_exchange:new(Owner, Request, {<<>>, More}, Mount),
    first(flow(Request), acted(Begun, State));
checked({refuse, Response}, State) ->
    refused(Response, State).

%% Over HTTP/2 streams share a window, and those that nobody reads may fill it: each one asks for
%% the bytes that it may have in its own window. HTTP/1.1 has initial_stream_flow_size.
flow(#request{version = 'HTTP/2'}) -> [{flow, ?READ_AHEAD}];
flow(_Request) -> [].

first(Before, {Commands, State}) -> {Before ++ Commands, State}.

refused({Status, Fields, Body}, State) ->
    commands([{respond, Status, Fields, Body}], State).

%% @private
-spec data(cowboy_stream:streamid(), cowboy_stream:fin(), binary(), #state{}) ->
    {cowboy_stream:commands(), #state{}}.
data(StreamId, IsFin, Data, #state{next = {asked, Next0}, exchange = none} = State) ->
    {Commands, Next} = cowboy_stream:data(StreamId, IsFin, Data, Next0),
    {Commands, State#state{next = {asked, Next}}};
data(_StreamId, _IsFin, _Data, #state{exchange = none} = State) ->
    {[], State};
data(_StreamId, IsFin, Data, #state{exchange = Exchange, held = Held} = State) ->
    acted(hornbeam_exchange:add_body(Data, IsFin =:= nofin, Exchange),
          State#state{held = Held + byte_size(Data)}).

%% As much may be read again as has gone on to the app.
taken(Commands, #state{exchange = Exchange, held = Held} = State) when Exchange =/= none ->
    case Held - hornbeam_exchange:buffered(Exchange) of
        Gone when Gone > 0 -> {[{flow, Gone} | Commands], State#state{held = Held - Gone}};
        _ -> {Commands, State}
    end;
taken(Commands, State) ->
    {Commands, State}.

%% @private
-spec info(cowboy_stream:streamid(), term(), #state{}) -> {cowboy_stream:commands(), #state{}}.
info(_StreamId, over, State) ->
    {[stop], State#state{is_over = false}};
info(_StreamId, Info, #state{is_over = true} = State) ->
    %% What Cowboy has to say is said.
    {[Info || is_cowboys(Info)], State};
info(_StreamId, late, #state{exchange = Exchange} = State) when Exchange =/= none ->
    acted(hornbeam_exchange:handle_timeout(erlang:monotonic_time(millisecond), Exchange),
          State#state{timer = none});
info(_StreamId, look, State) ->
    settled(State#state{looking = none});
info(_StreamId, {serve, Stream, Packets, Request}, State) ->
    #state{owner = Owner, mount = Mount} = State,
    hornbeam_stream:take_over(Stream, Owner),
    Served = hornbeam_exchange:adopt(Stream, Packets, Request, {Owner, false, Mount}),
    acted(Served, State#state{is_last = true});
info(StreamId, {alarm, _Name, on} = Alarm, State) ->
    next_info(StreamId, Alarm, State#state{is_behind = true});
info(StreamId, {alarm, _Name, off} = Alarm, State) ->
    {Commands, Repaid} = repaid(State#state{is_behind = false}),
    first(Commands, next_info(StreamId, Alarm, looking(Repaid)));
info(_StreamId, Info, #state{exchange = Exchange} = State) when Exchange =/= none ->
    case is_cowboys(Info) of
        true -> {[Info], State};
        false -> acted(hornbeam_exchange:handle_info(Info, Exchange), State)
    end;
info(StreamId, Info, State) ->
    next_info(StreamId, Info, State).

next_info(StreamId, Info, #state{next = {asked, Next0}} = State) ->
    {Commands, Next} = cowboy_stream:info(StreamId, Info, Next0),
    {Commands, State#state{next = {asked, Next}}};
next_info(_StreamId, Info, State) ->
    {[Info || is_cowboys(Info)], State}.

%% What Cowboy itself has to say on a stream that ends too early it gives to the handlers first.
is_cowboys({response, _, _, _}) -> true;
is_cowboys({data, _, _}) -> true;
is_cowboys({inform, _, _}) -> true;
is_cowboys(_Info) -> false.

%% What the exchange wants done.
acted({Actions, Exchange}, State) ->
    {Commands, Next} = commands(Actions, State#state{exchange = Exchange}),
    first(Commands, settled(Next)).

settled(State) ->
    {Commands, Repaid} = repaid(State),
    first(Commands, taken([], with_timer(looking(Repaid)))).

commands(Actions, State) ->
    lists:foldl(fun(Action, {Commands, Before}) ->
        first(Commands, command(Action, Before))
    end, {[], State}, Actions).

command(continue, State) ->
    {[{inform, 100, #{}}], State};
command(break, #state{req = Req} = State) ->
    {breaking(Req), State};
command({respond, Status, Fields, Body}, #state{req = #{method := Method}} = State) ->
    Headers = headers(Fields, State),
    stop([{response, status(Status), sized(Status, Headers, Body, Method),
           shown(Status, Body, Method)}], State);
command({start, Status, Fields, Body}, #state{req = #{method := Method}} = State) ->
    Headers = headers(Fields, State),
    {[{headers, status(Status), Headers} | parts(Body, nofin, Method)], State};
command({part, Body}, #state{req = #{method := Method}} = State) ->
    {parts(Body, nofin, Method), State};
command({last, Body}, #state{req = #{method := Method}} = State) ->
    stop(parts(Body, fin, Method), State).

%% The answer to a HEAD has no body, however its length is said.
parts(_Body, nofin, <<"HEAD">>) -> [];
parts(_Body, fin, <<"HEAD">>) -> [{data, fin, <<>>}];
parts(<<>>, nofin, _Method) -> [];
parts(Body, IsFin, _Method) -> [{data, IsFin, Body}].

headers(Fields, #state{req = #{version := Version}, mount = Mount, is_last = IsLast}) ->
    {Headers, Wish} = hornbeam_cowboy:response(Fields),
    IsEnding = IsLast orelse Wish orelse hornbeam_mounts:is_closing(Mount),
    case Version =/= 'HTTP/2' andalso IsEnding of
        true -> Headers#{<<"connection">> => <<"close">>};
        false -> Headers
    end.

%% The announced length is that of the body which a GET would get.
sized(Status, Headers, _Body, _Method) when Status =:= 204 ->
    maps:remove(<<"content-length">>, Headers);
sized(304, Headers, _Body, _Method) ->
    Headers;
sized(_Status, #{<<"content-length">> := _} = Headers, _Body, <<"HEAD">>) ->
    Headers;
sized(_Status, Headers, Body, _Method) ->
    Headers#{<<"content-length">> => integer_to_binary(byte_size(Body))}.

shown(_Status, _Body, <<"HEAD">>) -> <<>>;
shown(Status, _Body, _Method) when Status =:= 204; Status =:= 304 -> <<>>;
shown(_Status, Body, _Method) -> Body.

%% Cowboy has the reason phrases of the registered codes only.
status(Status) ->
    hornbeam_http1_response:status(Status).

%% Over HTTP/2 something of the response may have to wait for room in the client's window, and only
%% when it has been said is that known (hornbeam_http2_stream).
stop(Commands, #state{owner = Owner, req = #{version := 'HTTP/2'}} = State) ->
    hornbeam_stream:send(Owner, over),
    {Commands, left(State#state{is_over = true})};
stop(Commands, State) ->
    {Commands ++ [stop], left(State)}.

left(#state{exchange = none} = State) ->
    State;
left(#state{exchange = Exchange} = State) ->
    hornbeam_exchange:cancel(Exchange),
    State#state{exchange = none}.

repaid(State) ->
    case is_due(State) andalso has_left(State) of
        true -> all_left(State);
        false -> {[], State}
    end.

is_due(#state{exchange = none}) -> false;
is_due(#state{is_behind = true}) -> false;
is_due(#state{exchange = Exchange}) -> hornbeam_exchange:is_due(Exchange).

all_left(#state{exchange = Exchange} = State) ->
    {Actions, Next} = hornbeam_exchange:all_left(Exchange),
    commands(Actions, State#state{exchange = Next}).

%% What was said by that is with Cowboy when the next message is taken.
looking(#state{looking = none, owner = Owner} = State) ->
    case is_due(State) of
        true -> State#state{looking = erlang:send_after(pause(State), self(), {Owner, look})};
        false -> State
    end;
looking(State) ->
    State.

pause(State) ->
    case has_left(State) of
        true -> 0;
        false -> ?LOOK_AGAIN
    end.

%% Over HTTP/1.1 Cowboy writes at once, and would be stuck with a client that does not read: what
%% others send in an event stream has no end by which that would show.
has_left(#state{req = #{version := 'HTTP/2'}}) ->
    true;
has_left(#state{exchange = Exchange}) ->
    not hornbeam_exchange:is_event_stream(Exchange)
        orelse hornbeam_socket:backlog(hornbeam_cowboy:socket()) =:= 0.

%% One timer at a time: it is looked at when it fires.
with_timer(#state{timer = none, exchange = Exchange, owner = Owner} = State)
        when Exchange =/= none ->
    case hornbeam_exchange:deadline(Exchange) of
        infinity -> State;
        Deadline ->
            State#state{timer = erlang:send_after(Deadline, self(), {Owner, late}, [{abs, true}])}
    end;
with_timer(State) ->
    State.

%% @private
-spec terminate(cowboy_stream:streamid(), cowboy_stream:reason(), #state{}) -> ok.
terminate(StreamId, Reason, #state{owner = Owner, mount = Mount, next = Next} = State) ->
    cancel(State),
    _ = [flush({Owner, over}) || State#state.is_over],
    _ = left(State),
    _ = [cowboy_stream:terminate(StreamId, Reason, Behind) || {asked, Behind} <- [Next]],
    %% Only now: who closes the listener asks the workers for what is left, and waits for this.
    hornbeam_mounts:exchange_ended(Owner, Mount).

%% What is in the mailbox for a stream that is over would be a riddle to Cowboy.
cancel(#state{timer = Timer, looking = Looking, owner = Owner}) ->
    cancel(Timer, {Owner, late}),
    cancel(Looking, {Owner, look}).

cancel(none, _Message) ->
    ok;
cancel(Timer, Message) ->
    _ = [flush(Message) || erlang:cancel_timer(Timer) =:= false],
    ok.

flush(Message) ->
    receive
        Message -> ok
    after 0 ->
        ok
    end.

%% @private
-spec early_error(cowboy_stream:streamid(), cowboy_stream:reason(),
                  cowboy_stream:partial_req(), Response, cowboy:opts()) -> Response
    when Response :: cowboy_stream:resp_command().
early_error(StreamId, Reason, PartialReq, Response, Opts) ->
    cowboy_stream:early_error(StreamId, Reason, PartialReq, Response, Opts).
