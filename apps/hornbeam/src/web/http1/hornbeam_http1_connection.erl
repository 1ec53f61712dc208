%% What a connection of HTTP/1.1 does with all that comes: one request after the other, and the
%% WebSocket that one may become.
%%
%%   reading ──head──▶ busy ──response──▶ draining ──body read away──▶ reading
%%      │ idle: closed    │ 101               │ too much: closed
%%      │ late: 408       ▼
%%      │ a fault: 4xx   hornbeam_websocket
%%
%% In `reading' the client is waited for; in `busy' an exchange (hornbeam_exchange) or a WebSocket's
%% handshake (hornbeam_websocket_handshake) is told what comes. What follows a request waits as
%% bytes, and past a bound in TCP (hornbeam_http1_reader). But for requests that change nothing:
%% those that a client sends without waiting go to the app at once, a few at a time, and are
%% answered in their order (hornbeam_http1_queue). After a response the connection is in step: what
%% the app has not read of the body is read away, or the response says that it is the last
%% (RFC 9112, 9.3).
%%
%% It lives in the connection's process (hornbeam_http1), never waits, and says of each step how to
%% go on. What it writes is gathered (hornbeam_http1_writer) until it is told to flush.
-module(hornbeam_http1_connection).

-include("../requests/hornbeam_request.hrl").
-include("hornbeam_http1_head.hrl").

-export([new/3, start/1, data/2, passive/1, handle_info/2, handle_info/3]).
-export([output/1, flush/1, timeout/1, handle_timeout/1, leave/1, close/1, client_closed/1]).
-export_type([connection/0, step/0]).

-record(state, {
    mounts :: hornbeam_mounts:mounts(),
    server :: hornbeam_config:server_options(),
    template :: hornbeam_request:request(),
    reader :: hornbeam_http1_reader:reader(),
    writer :: hornbeam_http1_writer:writer(),
    phase = reading :: reading | busy | draining,
    %% how many requests there were, and which of them is being answered
    number = 0 :: non_neg_integer(),
    current = 0 :: non_neg_integer(),
    %% the request that was read last, and the mount that it is for
    request :: hornbeam_request:request() | undefined,
    mount :: hornbeam_mounts:mount() | undefined,
    work = none :: none | {exchange, hornbeam_exchange:exchange()}
                 | {handshake, hornbeam_websocket_handshake:handshake()},
    ends = {false, false} :: hornbeam_http1_queue:ends(),
    %% those that the app has got beside it, and the head of one that has to wait
    queue = hornbeam_http1_queue:new() :: hornbeam_http1_queue:queue(),
    parked = none :: none | {hornbeam_http1_head:line(), #fields{}}
                   | {fault, hornbeam_error_response:fault()},
    %% when the client is late that sends a head, or a body that nobody wants (monotonic time, ms)
    deadline :: integer(),
    %% whether some of a head has come; the deadline is the head's then
    has_begun = false :: boolean(),
    %% whether the client has been silent for a while since the last request
    is_idle = false :: boolean(),
    %% whether the server ends, and the connection with what it is about
    is_leaving = false :: boolean()
}).
-opaque connection() :: #state{}.

-type step() ::
    {ok | idle, connection()}
    | ended
    | {http2, First :: binary()}
    | {websocket, hornbeam_websocket:start(), hornbeam_websocket_session:session()}.
%% `idle': the client is silent, and may be for long. `http2': the socket is passive, and this has
%% come of it.

%% While the client is slow the app gets no credit, which is looked at again after a while (ms). One
%% that takes nothing for so long is taken for dead.
-define(LOOK_AGAIN, 20).
-define(DEAD, 30000).

%% What an answer may take once the server ends (ms); Ranch kills a little later.
-define(LAST_ANSWER, 300).

%% For how long a client has been silent when its connection becomes idle (ms).
-define(IDLE, 10000).

%% @doc The connection of a socket, in the calling process.
-spec new(hornbeam_socket:socket(), Template :: hornbeam_request:request(),
          hornbeam_mounts:mounts()) -> connection().
new(Socket, Template, #{server := #{header_timeout := Timeout} = Server} = Mounts) ->
    #state{mounts = Mounts, server = Server, template = Template,
           reader = hornbeam_http1_reader:new(Socket, Server),
           writer = hornbeam_http1_writer:new(Socket), deadline = now_ms() + Timeout}.

%% What comes.

%% @doc Listen to the client.
-spec start(connection()) -> step().
start(State) ->
    next(State).

%% @doc The client has sent something.
-spec data(binary(), connection()) -> step().
data(Data, #state{reader = Reader} = State) ->
    next(State#state{reader = hornbeam_http1_reader:add(Data, Reader)}).

%% @doc The socket is passive.
-spec passive(connection()) -> step().
passive(#state{reader = Reader} = State) ->
    next(State#state{reader = hornbeam_http1_reader:passive(Reader)}).

%% @doc A message for one of those who work on requests.
-spec handle_info(pos_integer(), term(), connection()) -> step().
handle_info(Number, rest, #state{current = Number} = State) ->
    case is_streaming(State) of
        true -> idle(State);
        false -> {ok, State}
    end;
handle_info(Number, Message, #state{current = Number} = State) ->
    handle_current(Message, State);
handle_info(Number, Message, #state{queue = Queue} = State) ->
    {ok, State#state{queue = hornbeam_http1_queue:handle_info(Number, Message, Queue)}}.

%% @doc A message that is for none of them by name.
-spec handle_info(term(), connection()) -> step().
handle_info(leave, State) ->
    close(State);
handle_info(Message, #state{queue = Queue} = State) ->
    Told = hornbeam_http1_queue:handle_info(Message, Queue),
    handle_current(Message, State#state{queue = Told}).

handle_current(Message, #state{work = {exchange, Exchange}} = State) ->
    {Actions, Next} = hornbeam_exchange:handle_info(Message, Exchange),
    act(Actions, State#state{work = {exchange, Next}});
handle_current(Message, #state{work = {handshake, Handshake}} = State) ->
    shake(hornbeam_websocket_handshake:handle_info(Message, Handshake), State);
handle_current(going_away, #state{phase = reading} = State) ->
    finish(State);
handle_current(_Stray, State) ->
    {ok, State}.

%% @doc What there is to be written: nothing, something, or so much that nothing more is waited for.
-spec output(connection()) -> none | some | full.
output(#state{writer = Writer}) ->
    hornbeam_http1_writer:state(Writer).

%% @doc Write it.
-spec flush(connection()) -> step().
flush(#state{writer = Writer} = State) ->
    case hornbeam_http1_writer:flush(Writer) of
        {ok, Flushed} -> flushed(State#state{writer = Flushed});
        {error, _} -> client_closed(State)
    end.

flushed(State) ->
    case is_due(State) of
        true -> all_left(now_ms(), State);
        false -> {ok, State}
    end.

%% @doc How long to wait for what comes next (ms).
-spec timeout(connection()) -> timeout().
timeout(#state{phase = reading, is_idle = false, has_begun = false, deadline = Deadline}) ->
    min(?IDLE, until(Deadline));
timeout(#state{writer = Writer} = State) ->
    case hornbeam_http1_writer:slow_since(Writer) of
        none -> until(deadline(State));
        _ -> ?LOOK_AGAIN
    end.

is_streaming(#state{work = {exchange, Exchange}}) -> hornbeam_exchange:is_event_stream(Exchange);
is_streaming(_State) -> false.

until(infinity) -> infinity;
until(Deadline) -> max(0, Deadline - now_ms()).

deadline(#state{work = {exchange, Exchange}}) -> hornbeam_exchange:deadline(Exchange);
deadline(#state{work = {handshake, Handshake}}) -> hornbeam_websocket_handshake:deadline(Handshake);
deadline(#state{deadline = Deadline}) -> Deadline.

%% @doc Nothing has come.
-spec handle_timeout(connection()) -> step().
handle_timeout(#state{writer = Writer} = State) ->
    Now = now_ms(),
    case hornbeam_http1_writer:slow_since(Writer) of
        none -> handle_timeout(deadline(State), Now, State);
        Since when Now - Since > ?DEAD -> close(State);
        _ -> all_left(Now, State)
    end.

handle_timeout(Deadline, Now, State) when Now < Deadline ->
    become_idle(State);
handle_timeout(_Passed, Now, #state{work = {exchange, Exchange}} = State) ->
    #state{ends = {IsLast, IsKept}} = State,
    {Actions, Next} = hornbeam_exchange:handle_timeout(Now, Exchange),
    %% Who does not send on is not waited for.
    Ends = {IsLast orelse hornbeam_http1_reader:has_body(State#state.reader), IsKept},
    act(Actions, State#state{work = {exchange, Next}, ends = Ends});
handle_timeout(_Passed, _Now, #state{work = {handshake, Handshake}} = State) ->
    shake(hornbeam_websocket_handshake:handle_timeout(Handshake), State);
handle_timeout(_Passed, _Now, #state{phase = reading, has_begun = true} = State) ->
    refuse(head_timeout, State);
handle_timeout(_Passed, _Now, #state{mounts = #{counters := Counters}} = State) ->
    hornbeam_counters:add(idle_closed, Counters),
    finish(State).

become_idle(#state{phase = reading, is_idle = false, has_begun = false} = State) ->
    idle(State);
become_idle(State) ->
    {ok, State}.

idle(#state{reader = Reader} = State) ->
    {idle, State#state{is_idle = true, reader = hornbeam_http1_reader:idle(Reader)}}.

%% Requests.

%% Go on with what is there, and listen for more if somebody wants it.
next(#state{phase = draining} = State) ->
    drain(State);
next(#state{phase = Phase, reader = Reader} = State) ->
    case Phase =:= busy andalso hornbeam_http1_reader:has_body(Reader) of
        true -> read_body(State);
        false -> next(hornbeam_http1_reader:has_news(Reader), State)
    end.

next(true, #state{phase = reading} = State) ->
    read_head(State);
next(true, State) ->
    read_next_head(State);
next(false, #state{phase = reading, reader = Reader} = State) ->
    {ok, State#state{reader = hornbeam_http1_reader:listen(Reader)}};
next(false, State) ->
    {ok, read_ahead(State)}.

read_ahead(#state{reader = Reader} = State) ->
    State#state{reader = hornbeam_http1_reader:read_ahead(Reader)}.

read_head(#state{reader = Reader, number = Number} = State) ->
    case not (Number =:= 0 andalso hornbeam_http1_reader:is_http2(Reader))
             andalso hornbeam_http1_reader:head(Reader) of
        {ok, Line, Fields, Read} -> begin_request(Line, Fields, State#state{reader = Read});
        {more, Read} -> {ok, begin_head(State#state{reader = hornbeam_http1_reader:listen(Read)})};
        {fault, Fault} -> refuse(Fault, State);
        false -> {http2, hornbeam_http1_reader:release_http2(Reader)}
    end.

%% From its first byte on a head has its own time; that of the first one runs already.
begin_head(#state{has_begun = false, number = 0} = State) ->
    State#state{has_begun = true};
begin_head(#state{has_begun = false, server = #{header_timeout := Timeout}} = State) ->
    State#state{has_begun = true, deadline = now_ms() + Timeout};
begin_head(State) ->
    State.

begin_request(Line, #fields{body = Length} = Fields, #state{number = Number} = State) ->
    #state{mounts = Mounts, reader = Reader, template = Template} = State,
    {#{options := #{max_body_size := Most}} = Mount, Request} =
        hornbeam_mounts:find(hornbeam_http1_request:new(Line, Fields, Template), Mounts),
    Begun = State#state{number = Number + 1, current = Number + 1, phase = busy,
                        has_begun = false, request = Request, mount = Mount,
                        ends = hornbeam_http1_request:ends(Line, Fields, Mounts),
                        reader = hornbeam_http1_reader:begin_body(Length, Most, Reader)},
    case is_integer(Length) andalso Length > Most of
        true -> refuse(body_too_large, Begun);
        false -> begin_work(Fields, Begun)
    end.

begin_work(_Fields, #state{request = #request{upgrade = websocket}, mount = Mount} = State) ->
    case hornbeam_request_pipeline:check(websocket, State#state.request, Mount) of
        {ok, _Forwarded, Checked} ->
            shake(hornbeam_websocket_handshake:new(Checked, self(), Mount),
                  State#state{request = Checked});
        {refuse, Response} ->
            refused(Response, State)
    end;
begin_work(Fields, #state{request = Request, reader = Reader, mount = Mount} = State) ->
    case hornbeam_http1_request:check(Request, Fields, Mount) of
        {ok, Checked, Known} ->
            begin_exchange(Checked, State#state{
                request = Checked, reader = hornbeam_http1_reader:known_fields(Known, Reader)});
        {refuse, Response} ->
            refused(Response, State)
    end.

%% Who asks for health asks again.
refused({Status, Fields, Body}, #state{mount = #{path := health}} = State) ->
    act([{respond, Status, Fields, Body}], State);
refused(Response, State) ->
    respond_last(Response, State).

%% What has come of the body with its head goes to the app with the opening.
begin_exchange(Request, #state{reader = Reader, mount = Mount} = State) ->
    {Data, More, Read} = hornbeam_http1_reader:first_body(Reader),
    {Actions, Exchange} = hornbeam_exchange:new(owner(State), Request, {Data, More}, Mount),
    act(Actions, State#state{reader = Read, work = {exchange, Exchange}}).

owner(#state{current = Number}) -> {self(), Number}.

%% The head behind the one that is being answered. One that has to wait is parked.
read_next_head(#state{reader = Reader} = State) ->
    case may_be_followed(State) andalso hornbeam_http1_reader:head(Reader) of
        {ok, Line, Fields, Read} -> follow({Line, Fields}, State#state{reader = Read});
        {more, Read} -> {ok, read_ahead(State#state{reader = Read})};
        {fault, _} = Fault -> {ok, State#state{parked = Fault}};
        false -> {ok, read_ahead(State)}
    end.

may_be_followed(#state{parked = none, work = {exchange, _}, ends = {false, _}} = State) ->
    #state{request = Request, queue = Queue} = State,
    hornbeam_http1_request:is_safe(Request) andalso hornbeam_http1_queue:has_room(Queue);
may_be_followed(_State) ->
    false.

follow(Head, #state{number = Before, queue = Queue, reader = Reader} = State) ->
    #state{template = Template, mounts = Mounts} = State,
    case hornbeam_http1_queue:add(Before + 1, Head, Template, Mounts, Queue) of
        {ok, Known, Added} ->
            Reused = hornbeam_http1_reader:known_fields(Known, Reader),
            next(State#state{number = Before + 1, queue = Added, reader = Reused});
        no ->
            {ok, read_ahead(State#state{parked = Head})}
    end.

read_body(#state{reader = Reader, work = {exchange, Exchange}} = State) ->
    IsThere = not hornbeam_http1_reader:is_empty(Reader),
    case IsThere andalso hornbeam_exchange:wants_body(Exchange) of
        true -> add_body(hornbeam_http1_reader:body(Reader), State);
        false -> {ok, read_ahead(State)}
    end.

add_body({ok, Data, Reader}, #state{work = {exchange, Exchange}} = State) ->
    More = hornbeam_http1_reader:has_body(Reader),
    {Actions, Fed} = hornbeam_exchange:add_body(Data, More, Exchange),
    body_added(Actions, State#state{reader = Reader, work = {exchange, Fed}});
add_body({fault, Fault}, State) ->
    refuse_body(Fault, State).

body_added([], State) -> {ok, read_ahead(State)};
body_added(Actions, State) -> act(Actions, State).

refuse_body(Fault, #state{writer = Writer, mounts = #{counters := Counters}} = State) ->
    case hornbeam_http1_writer:has_started(Writer) of
        false -> refuse(Fault, State);
        true -> hornbeam_error_response:count(Fault, Counters), cut_short(State)
    end.

%% Responses.

%% Do what an exchange wants.
act([], #state{writer = Writer} = State) ->
    case hornbeam_http1_writer:state(Writer) of
        none -> nothing_to_write(State);
        _ -> next(State)
    end;
act([continue | Actions], State) ->
    act(Actions, write(hornbeam_http1_response:continue(), State));
act([{respond, Status, Fields, Body} | _], #state{writer = Writer} = State) ->
    Decided = decided(State),
    responded(hornbeam_http1_writer:respond(Status, Fields, Body, Decided, Writer), State);
act([{start, Status, Fields, Body} | Actions], #state{writer = Writer} = State) ->
    Started = hornbeam_http1_writer:start(Status, Fields, decided(State), Writer),
    rest_later(State),
    act([{part, Body} | Actions], State#state{writer = Started});
act([{part, Body} | Actions], #state{writer = Writer} = State) ->
    case hornbeam_http1_writer:part(Body, true, Writer) of
        {ok, Written} -> act(Actions, State#state{writer = Written});
        {error, _} -> cut_short(State)
    end;
act([{last, Body} | _], #state{writer = Writer} = State) ->
    responded(hornbeam_http1_writer:finish_part(Body, Writer), State);
act([break | _], State) ->
    cut_short(State).

%% An event stream is as long as a WebSocket, and mostly as quiet. A limit of its waits would be a
%% timer for each of its events.
rest_later(State) ->
    _ = [erlang:send_after(?IDLE, self(), {owner(State), rest}) || is_streaming(State)],
    ok.

write(Bytes, #state{writer = Writer} = State) ->
    State#state{writer = hornbeam_http1_writer:write(Bytes, Writer)}.

respond_last({Status, Fields, Body}, #state{ends = {_, IsKept}} = State) ->
    act([{respond, Status, Fields, Body}], State#state{ends = {true, IsKept}}).

%% What the request and the server's state say of the response. A body that will not be read away,
%% or that the client may or may not send, lets no request follow.
decided(#state{request = Request, ends = {IsLast0, IsKept}, mounts = Mounts} = State) ->
    #request{method = Method, version = Version} = Request,
    IsLast = IsLast0 orelse hornbeam_mounts:is_closing(Mounts)
        orelse not can_be_skipped(State),
    {Method, Version, IsLast, IsKept andalso not IsLast}.

can_be_skipped(#state{reader = Reader, work = {exchange, Exchange}}) ->
    hornbeam_http1_reader:can_skip_body(hornbeam_exchange:awaits_answer(Exchange), Reader);
can_be_skipped(#state{reader = Reader}) ->
    not hornbeam_http1_reader:has_body(Reader).

%% The app gets credit for what the client has taken, and what waits for that comes.
nothing_to_write(State) ->
    case is_due(State) of
        true -> all_left(now_ms(), State);
        false -> next(State)
    end.

is_due(#state{work = {exchange, Exchange}}) -> hornbeam_exchange:is_due(Exchange);
is_due(_State) -> false.

all_left(Now, #state{writer = Writer, work = {exchange, Exchange}} = State) ->
    case hornbeam_http1_writer:check_unsent(Now, Writer) of
        {slow, Slow} ->
            next(State#state{writer = Slow});
        {taken, Taken} ->
            {Actions, Next} = hornbeam_exchange:all_left(Exchange),
            act(Actions, State#state{writer = Taken, work = {exchange, Next}})
    end.

%% The end of a response.

responded({error, _}, State) ->
    cut_short(State);
responded({true, Writer}, State) ->
    finish(cancel(State#state{writer = Writer}));
responded({false, Writer}, #state{reader = Reader} = State) ->
    Ended = end_work(State#state{writer = Writer}),
    case hornbeam_http1_reader:has_body(Reader) of
        false -> next_request(Ended);
        true -> drain(begin_draining(Ended))
    end.

begin_draining(#state{reader = Reader, server = #{keepalive_timeout := Timeout}} = State) ->
    State#state{phase = draining, deadline = now_ms() + Timeout,
                reader = hornbeam_http1_reader:begin_skip(Reader)}.

end_work(#state{work = {exchange, Exchange}, mounts = Mounts} = State) ->
    hornbeam_exchange:cancel(Exchange),
    %% Only now: who closes the listener asks the workers for what is left, and waits for this.
    hornbeam_mounts:exchange_ended(owner(State), Mounts),
    State#state{work = none, request = undefined};
end_work(#state{work = {handshake, Handshake}} = State) ->
    hornbeam_websocket_handshake:cancel(Handshake),
    State#state{work = none, request = undefined};
end_work(State) ->
    State#state{request = undefined}.

%% Read away what the app did not want.
drain(#state{reader = Reader} = State) ->
    case hornbeam_http1_reader:skip_body(Reader) of
        {done, Read} ->
            next_request(State#state{reader = Read});
        {more, Read} ->
            {ok, State#state{reader = hornbeam_http1_reader:listen(Read)}};
        {fault, _Fault} ->
            finish(State)
    end.

%% The next request is answered, or the client is waited for.
next_request(#state{queue = Queue} = State) ->
    case hornbeam_http1_queue:next(Queue) of
        empty -> wait_for_request(State);
        {Number, Request, Ends, {Actions, Exchange}, Behind} ->
            act(Actions, State#state{phase = busy, current = Number, request = Request,
                                     ends = Ends, work = {exchange, Exchange}, queue = Behind})
    end.

wait_for_request(#state{parked = {fault, Fault}} = State) ->
    refuse(Fault, State);
wait_for_request(#state{parked = {Line, Fields}} = State) ->
    begin_request(Line, Fields, State#state{parked = none});
wait_for_request(#state{is_leaving = true} = State) ->
    finish(State);
wait_for_request(#state{reader = Reader, server = Server} = State) ->
    #{keepalive_timeout := Timeout} = Server,
    Reading = State#state{phase = reading, has_begun = false, is_idle = false,
                          deadline = now_ms() + Timeout},
    case hornbeam_http1_reader:is_empty(Reader) of
        true -> next(Reading);
        false -> next(begin_head(Reading))
    end.

%% WebSockets.

shake({wait, Handshake}, State) ->
    next(State#state{work = {handshake, Handshake}});
shake({refuse, Response}, State) ->
    respond_last(Response, State);
shake({deny, Stream, Packet}, #state{request = Request, mount = Mount} = State) ->
    Adopted = {self(), false, Mount},
    {Actions, Exchange} = hornbeam_exchange:adopt(Stream, [Packet], Request, Adopted),
    act(Actions, State#state{ends = {true, false}, work = {exchange, Exchange}});
shake({accept, Fields, Session}, #state{request = Request, mount = Mount} = State) ->
    {Start, Switch} = hornbeam_websocket:switch(Fields, Request, Mount),
    Response = hornbeam_http1_response:switch(Switch),
    #state{writer = Writer, reader = Reader} = write(Response, State),
    case hornbeam_http1_writer:flush(Writer) of
        {ok, _} -> {websocket, maps:merge(Start, hornbeam_http1_reader:release(Reader)), Session};
        {error, _} -> client_closed(State#state{work = none})
    end.

%% The end of the connection.

%% Nobody knows what follows a fault.
refuse(Fault, #state{mounts = #{counters := Counters}} = State) ->
    hornbeam_error_response:count(Fault, Counters),
    Response = hornbeam_http1_response:refusal(Fault, start_of(State)),
    finish(cancel(write(Response, State))).

start_of(#state{request = #request{method = Method}}) -> <<Method/binary, " ">>;
start_of(#state{reader = Reader}) -> hornbeam_http1_reader:start(Reader).

%% A response cannot be ended. What was said before it is read, whatever the client still sends;
%% but a body that ends with the connection must not seem whole.
cut_short(#state{writer = Writer} = State) ->
    case hornbeam_http1_writer:ends_with_connection(Writer) of
        true ->
            _ = hornbeam_http1_writer:flush(Writer),
            close(State);
        false ->
            finish(cancel(State))
    end.

%% The client may read what was said.
finish(#state{writer = Writer}) ->
    hornbeam_http1_writer:finish(Writer),
    ended.

%% @doc The server ends. A client that knows nothing of that may have sent a request: it is answered
%% if that does not take long, as is one that has come meanwhile.
-spec leave(connection()) -> step().
leave(#state{mounts = Mounts, is_leaving = IsLeaving} = State) ->
    case IsLeaving orelse hornbeam_mounts:is_time_over(Mounts) of
        true -> close(State);
        false -> leave_soon(State)
    end.

leave_soon(#state{phase = reading, has_begun = false, reader = Reader} = State) ->
    case hornbeam_http1_reader:last_look(Reader) of
        none -> close(State);
        {ok, Read} -> next(leave_later(State#state{reader = Read}))
    end;
leave_soon(State) ->
    {ok, leave_later(State)}.

leave_later(State) ->
    _ = erlang:send_after(?LAST_ANSWER, self(), leave),
    State#state{is_leaving = true}.

%% @doc End it: nobody reads any more, or there is no time for that.
-spec close(connection()) -> ended.
close(State) ->
    #state{writer = Writer} = cancel(State),
    hornbeam_http1_writer:close(Writer),
    ended.

%% @doc The client has ended it.
-spec client_closed(connection()) -> ended.
client_closed(State) ->
    #state{} = cancel(State),
    ended.

%% Nobody waits for what is not answered.
cancel(#state{queue = Queue, mounts = Mounts} = State) ->
    hornbeam_http1_queue:cancel(Queue, Mounts),
    end_work(State#state{queue = hornbeam_http1_queue:new()}).

now_ms() -> erlang:monotonic_time(millisecond).
