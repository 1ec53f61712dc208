%% A connection that speaks HTTP/1.1: one request after the other, and the WebSocket that one may
%% become.
%%
%%   reading ──head──▶ busy ──response──▶ draining ──body read away──▶ reading
%%      │ idle: closed    │ 101               │ too much: closed
%%      │ late: 408       ▼
%%      │ a fault: 4xx   hornbeam_websocket
%%
%% In `reading' the client has the turn; in `busy' an exchange (hornbeam_exchange) or a WebSocket's
%% handshake (hornbeam_websocket_handshake) lives in this process, and is told what comes. What
%% follows a request waits as bytes, and past a bound in TCP. But for requests that change nothing:
%% those that a client sends without waiting go to the app at once, a few at a time, and are
%% answered in their order (RFC 9112, 9.3.2). What is said while more has come is one write. After a
%% response the connection is in step: what the app has not read of the body is read away, or the
%% response says that it is the last (RFC 9112, 9.3).
%%
%% A response's end that cannot be reached is told by the end of the connection. Every other last
%% word is followed by a while in which the client may read it (hornbeam_socket:linger/1).
-module(hornbeam_http1).

-include("../requests/hornbeam_request.hrl").
-include("hornbeam_http1_head.hrl").

-export([serve/4]).
-export([loop/1, system_continue/3, system_terminate/4, system_code_change/4]).

%% A request behind the one that is being answered, and what its exchange wants done by now.
-record(later, {
    number :: pos_integer(),
    request :: hornbeam_request:request(),
    exchange :: hornbeam_exchange:exchange(),
    actions :: [hornbeam_exchange:action()],
    is_last :: boolean(),
    is_kept :: boolean()
}).

-record(http1, {
    parent :: pid(),
    ref :: ranch:ref(),
    transport :: module(),
    socket :: term(),
    mount :: hornbeam_mounts:mount(),
    server :: hornbeam_config:server_options(),
    %% what all requests of the connection have in common
    scheme :: binary(),
    peer :: hornbeam_request:address(),
    name :: hornbeam_request:address(),
    %% how the socket is read, and whether it is listened to
    reads :: hornbeam_read_buffer:buffer(),
    listening = false :: boolean(),
    %% what was read and is nobody's yet, and how much of it was looked through for a head's end
    buffer = <<>> :: binary(),
    scanned = 0 :: non_neg_integer(),
    fields = none :: #fields{} | none,
    %% how many requests there were, and which of them is being answered
    number = 0 :: non_neg_integer(),
    current = 0 :: non_neg_integer(),
    %% those that the app has got beside it, in their order, and the head of one that has to wait
    later = [] :: [#later{}],
    parked = none :: none | {hornbeam_http1_head:line(), #fields{}}
                   | {fault, hornbeam_error_response:fault()},
    %% what is to be written, the last first
    said = [] :: [iodata()],
    state = reading :: reading | busy | draining,
    %% when the client, or the app, is late (monotonic time, ms)
    deadline :: integer() | infinity,
    %% whether the client has sent something in its turn; a head's deadline is one then
    begun = false :: boolean(),
    %% whether the process has given its memory back in this turn
    rested = false :: boolean(),
    request :: hornbeam_request:request() | undefined,
    body = none :: hornbeam_http1_body:body() | none,
    %% what may still come of the body: for the app or, in `draining', to be read away (bytes)
    left = infinity :: non_neg_integer() | infinity,
    work = none :: none | {exchange, hornbeam_exchange:exchange()}
                 | {handshake, hornbeam_websocket_handshake:handshake()},
    response = none :: none | hornbeam_http1_response:response(),
    %% whether the connection ends with this response, and how a client that may not think so is
    %% told that it does not
    is_last = false :: boolean(),
    is_kept = false :: boolean(),
    %% what the client had not taken of the response when that was last looked at, and since when
    slow = none :: none | {Bytes :: pos_integer(), Since :: integer()}
}).

-type result() :: over | {http2, First :: binary()}.
%% What has come of HTTP/2 on a socket that is passive again.

%% So much is read ahead of whoever is to take it (bytes). A head may be longer.
-define(READ_AHEAD, 65536).

%% So many requests of one client the app gets at a time, beside the first, and so much is said at
%% once (parts).
-define(MOST_LATER, 15).
-define(MOST_SAID, 16).

%% So much of a body that the app did not want is read away to keep the connection (bytes).
-define(MOST_UNREAD, 1000000).

%% A client that leaves more than this (bytes) in the socket is slow: the app gets no credit
%% until it has read on, which is looked at again after a while (ms). One that takes nothing for so
%% long is taken for dead.
-define(SLOW, 65536).
-define(LOOK_AGAIN, 20).
-define(DEAD, 30000).

%% For how long a client has been silent when its connection gives memory back (ms). A collection
%% costs a third of a request.
-define(REST, 10000).

%% The least heap of a process that serves requests, so that not each of them needs a collection,
%% and the least of all (words).
-define(BUSY_HEAP, 2586).
-define(QUIET_HEAP, 233).

%% @doc Serve a connection. Returns when it is over, when its client begins with HTTP/2, or never
%% when a WebSocket has become of it.
-spec serve(pid(), ranch:ref(), hornbeam_socket:socket(), hornbeam_mounts:mount()) -> result().
serve(Parent, Ref, {Transport, Raw} = Socket, #{server := Server} = Mount) ->
    case {Transport:peername(Raw), Transport:sockname(Raw)} of
        {{ok, Peer}, {ok, Name}} ->
            _ = process_flag(trap_exit, true),
            _ = process_flag(min_heap_size, ?BUSY_HEAP),
            #{header_timeout := Timeout} = Server,
            next(#http1{parent = Parent, ref = Ref, transport = Transport, socket = Raw,
                        mount = Mount, server = Server, scheme = scheme(Transport), peer = Peer,
                        name = Name, reads = hornbeam_read_buffer:new(Socket),
                        deadline = now_ms() + Timeout});
        _ ->
            over
    end.

scheme(ranch_ssl) -> <<"https">>;
scheme(ranch_tcp) -> <<"http">>.

%% @private
-spec loop(#http1{}) -> result().
loop(#http1{said = []} = Http1) ->
    wait(Http1);
loop(#http1{said = Said} = Http1) when length(Said) >= ?MOST_SAID ->
    flush(Http1);
loop(Http1) ->
    Self = self(),
    receive
        {{Self, Number}, Message} -> told_exchange(Number, Message, Http1)
    after 0 ->
        flush(Http1)
    end.

flush(#http1{said = Said} = Http1) ->
    written(send(lists:reverse(Said), Http1), Http1#http1{said = []}).

wait(#http1{socket = Socket, parent = Parent} = Http1) ->
    Self = self(),
    receive
        {Tag, Socket, Data} when Tag =:= tcp; Tag =:= ssl ->
            #http1{reads = Reads} = Http1,
            got(Data, Http1#http1{reads = hornbeam_read_buffer:read(byte_size(Data), true, Reads)});
        {{Self, Number}, Message} ->
            told_exchange(Number, Message, Http1);
        {Tag, Socket} when Tag =:= tcp_passive; Tag =:= ssl_passive ->
            next(Http1#http1{listening = false});
        {Tag, Socket} when Tag =:= tcp_closed; Tag =:= ssl_closed ->
            ended(Http1);
        {Tag, Socket, _Reason} when Tag =:= tcp_error; Tag =:= ssl_error ->
            ended(Http1);
        {'EXIT', Parent, _Reason} ->
            broken_off(Http1);
        {'EXIT', _Other, _Reason} ->
            loop(Http1);
        {system, From, Request} ->
            sys:handle_system_msg(Request, From, Parent, ?MODULE, [], Http1);
        %% Ranch shows it as a supervisor, which it is where Cowboy goes on.
        {'$gen_call', From, which_children} ->
            gen_server:reply(From, []),
            loop(Http1);
        {'$gen_call', From, count_children} ->
            gen_server:reply(From, [{specs, 0}, {active, 0}, {supervisors, 0}, {workers, 0}]),
            loop(Http1);
        Message ->
            told(Message, Http1)
    after patience(Http1) ->
        late(now_ms(), Http1)
    end.

patience(#http1{slow = {_, _}}) ->
    ?LOOK_AGAIN;
patience(#http1{deadline = infinity}) ->
    infinity;
patience(#http1{state = reading, rested = false, begun = false, deadline = Deadline}) ->
    min(?REST, max(0, Deadline - now_ms()));
patience(#http1{deadline = Deadline}) ->
    max(0, Deadline - now_ms()).

%% Go on with what is there, and listen for more if somebody wants it.

next(#http1{state = reading, buffer = <<>>} = Http1) ->
    loop(listen(Http1));
next(#http1{state = reading, buffer = Buffer, scanned = Scanned} = Http1)
        when byte_size(Buffer) =:= Scanned ->
    loop(listen(Http1));
next(#http1{state = reading} = Http1) ->
    read_head(Http1);
next(#http1{state = draining} = Http1) ->
    drain(Http1);
next(#http1{state = busy, body = none, buffer = Buffer, scanned = Scanned} = Http1)
        when byte_size(Buffer) > Scanned ->
    read_ahead(Http1);
next(#http1{state = busy} = Http1) ->
    loop(listen_if_wanted(read_body(Http1))).

listen_if_wanted(#http1{buffer = Buffer} = Http1) when byte_size(Buffer) >= ?READ_AHEAD ->
    Http1;
listen_if_wanted(Http1) ->
    listen(Http1).

%% What fails here comes as a message of the socket's.
listen(#http1{listening = true} = Http1) ->
    Http1;
listen(#http1{transport = Transport, socket = Socket, reads = Reads} = Http1) ->
    _ = Transport:setopts(Socket, [{active, hornbeam_read_buffer:reads(Reads)}]),
    Http1#http1{listening = true}.

got(Data, #http1{buffer = <<>>} = Http1) ->
    next(Http1#http1{buffer = Data});
got(Data, #http1{buffer = Buffer} = Http1) ->
    next(Http1#http1{buffer = <<Buffer/binary, Data/binary>>}).

%% The head.

%% A client that knows that we speak HTTP/2. Over TLS it says so in the handshake.
read_head(#http1{number = 0, transport = ranch_tcp,
                 buffer = <<"PRI * HTTP/2.0\r\n", _/binary>>} = Http1) ->
    http2(Http1);
read_head(#http1{buffer = Buffer, scanned = Scanned, fields = Last, server = Server} = Http1) ->
    case hornbeam_http1_head:read(Buffer, Scanned, Last, Server) of
        {ok, Line, Fields, Behind} ->
            requested(Line, Fields, Http1#http1{buffer = Behind, scanned = 0});
        {more, Rest, Seen} ->
            loop(listen(begun(Http1#http1{buffer = Rest, scanned = Seen})));
        {fault, Fault} ->
            refuse(Fault, Http1)
    end.

%% The next request, while one is being answered.
read_ahead(#http1{parked = none, buffer = Buffer, scanned = Scanned, fields = Last} = Http1) ->
    case may_follow(Http1) andalso
             hornbeam_http1_head:read(Buffer, Scanned, Last, Http1#http1.server) of
        {ok, Line, Fields, Behind} ->
            follow(Line, Fields, Http1#http1{buffer = Behind, scanned = 0});
        {more, Rest, Seen} ->
            loop(listen_if_wanted(Http1#http1{buffer = Rest, scanned = Seen}));
        {fault, _} = Fault ->
            loop(Http1#http1{parked = Fault});
        false ->
            loop(listen_if_wanted(Http1))
    end;
read_ahead(Http1) ->
    loop(listen_if_wanted(Http1)).

may_follow(#http1{work = {exchange, _}, is_last = false, request = #request{method = Method},
                  later = Later}) ->
    is_safe(Method) andalso length(Later) < ?MOST_LATER
        andalso not lists:any(fun(#later{is_last = IsLast}) -> IsLast end, Later);
may_follow(_Http1) ->
    false.

is_safe(Method) ->
    Method =:= <<"GET">> orelse Method =:= <<"HEAD">>.

follow({Method, _, _, Version} = Line, #fields{body = none} = Fields, Http1) ->
    case is_safe(Method) andalso upgrade(Version, Fields) =:= none of
        true -> next(begin_later(Line, Fields, Http1));
        false -> loop(listen_if_wanted(Http1#http1{parked = {Line, Fields}}))
    end;
follow(Line, Fields, Http1) ->
    loop(listen_if_wanted(Http1#http1{parked = {Line, Fields}})).

%% One that is not let in is answered when its turn comes.
begin_later({_, _, _, Version} = Line, Fields, #http1{mount = Mount, later = Later} = Http1) ->
    case checked(request(Line, Fields, Http1), Fields, Mount) of
        {ok, Request, Known} ->
            Number = Http1#http1.number + 1,
            {Actions, Exchange} =
                hornbeam_exchange:new({self(), Number}, Request, {<<>>, false}, Mount),
            Next = #later{number = Number, request = Request, exchange = Exchange,
                          actions = Actions, is_last = is_last(Version, Fields, Mount),
                          is_kept = Version =:= 'HTTP/1.0'},
            Http1#http1{number = Number, fields = Known, later = Later ++ [Next]};
        {refuse, _Response} ->
            Http1#http1{parked = {Line, Fields}}
    end.

http2(#http1{transport = Transport, socket = Socket, buffer = Buffer}) ->
    _ = Transport:setopts(Socket, [{active, false}]),
    {http2, iolist_to_binary([Buffer | unread(Socket)])}.

unread(Socket) ->
    receive
        {tcp, Socket, Data} -> [Data | unread(Socket)];
        {tcp_passive, Socket} -> unread(Socket)
    after 0 ->
        []
    end.

%% From its first byte on a head has its own time.
begun(#http1{begun = false, server = #{header_timeout := Timeout}, number = Number} = Http1) ->
    Deadline = case Number of
        0 -> Http1#http1.deadline;
        _ -> now_ms() + Timeout
    end,
    Http1#http1{begun = true, deadline = Deadline};
begun(Http1) ->
    Http1.

request({Method, Path, Query, Version}, #fields{body = Length} = Fields, Http1) ->
    #request{version = Version, method = Method, path = Path, query = Query,
             fields = Fields#fields.list, rest = Fields#fields.rest, scheme = Http1#http1.scheme,
             peer = Http1#http1.peer, server = Http1#http1.name, body = Length,
             upgrade = upgrade(Version, Fields), https = Fields#fields.https,
             socket = {Http1#http1.transport, Http1#http1.socket}}.

requested(Line, Fields, #http1{rested = true} = Http1) ->
    _ = process_flag(min_heap_size, ?BUSY_HEAP),
    requested(Line, Fields, Http1#http1{rested = false});
requested({_, _, _, Version} = Line, #fields{body = Length} = Fields, Http1) ->
    #http1{server = Server, mount = Mount, number = Number} = Http1,
    #{options := #{max_body_size := Most}} = Mount,
    Begun = Http1#http1{number = Number + 1, current = Number + 1, state = busy, begun = false,
                        request = request(Line, Fields, Http1), fields = Fields,
                        left = Most,
                        body = hornbeam_http1_body:new(Length, Server), response = none,
                        is_last = is_last(Version, Fields, Mount),
                        is_kept = Version =:= 'HTTP/1.0'},
    case is_integer(Length) andalso Length > Most of
        true -> refuse(body_too_large, Begun);
        false -> begin_work(Begun)
    end.

%% It is one only where the connection's options say so (RFC 9110, 7.8).
upgrade('HTTP/1.1', #fields{upgrade = websocket, connection = Options}) ->
    case lists:member(<<"upgrade">>, Options) of
        true -> websocket;
        false -> none
    end;
upgrade(_Version, _Fields) ->
    none.

is_last(Version, #fields{connection = Connection}, Mount) ->
    lists:member(<<"close">>, Connection) orelse hornbeam_mounts:is_shutting_down(Mount)
        orelse Version =:= 'HTTP/1.0' andalso not lists:member(<<"keep-alive">>, Connection).

begin_work(#http1{request = #request{upgrade = websocket} = Request, mount = Mount} = Http1) ->
    case hornbeam_request_pipeline:check(websocket, Request, Mount) of
        {ok, _Told, Checked} -> handshake(Http1#http1{request = Checked});
        {refuse, Response} -> respond(Response, Http1#http1{is_last = true})
    end;
begin_work(#http1{request = Request, fields = Fields, mount = Mount} = Http1) ->
    case checked(Request, Fields, Mount) of
        {ok, Checked, Known} -> exchange(Http1#http1{request = Checked, fields = Known});
        {refuse, Response} -> respond(Response, Http1#http1{is_last = true})
    end.

exchange(#http1{request = Request, mount = Mount} = Http1) ->
    {First, Read} = first_part(Http1),
    {Actions, Exchange} = hornbeam_exchange:new(owner(Read), Request, First, Mount),
    acted(Actions, Read#http1{work = {exchange, Exchange}}).

%% Who was let in by the same fields is let in again.
checked(#request{rest = undefined} = Request, Fields, Mount) ->
    case hornbeam_request_pipeline:check(http, Request, Mount) of
        {ok, none, Checked} ->
            #request{rest = Rest} = Packed = hornbeam_scope:packed(Checked),
            {ok, Packed, Fields#fields{rest = Rest}};
        {ok, _Told, Checked} ->
            {ok, Checked, none};
        {refuse, Response} ->
            {refuse, Response}
    end;
checked(Request, Fields, _Mount) ->
    {ok, Request, Fields}.

owner(#http1{current = Number}) -> {self(), Number}.

%% What has come of the body with its head goes to the app with the opening.
first_part(#http1{body = none} = Http1) ->
    {{<<>>, false}, Http1};
first_part(#http1{buffer = <<>>} = Http1) ->
    {{<<>>, true}, Http1};
first_part(#http1{} = Http1) ->
    case decode(Http1) of
        {ok, Data, Read} -> {{Data, Read#http1.body =/= none}, Read};
        %% It is told when it is looked at again, behind the begin.
        {fault, _Fault} -> {{<<>>, true}, Http1}
    end.

%% The body.

read_body(#http1{body = none} = Http1) ->
    Http1;
read_body(#http1{buffer = <<>>} = Http1) ->
    Http1;
read_body(#http1{work = {exchange, Exchange}} = Http1) ->
    case hornbeam_exchange:wants_body(Exchange) of
        true -> read_body(decode(Http1), Http1);
        false -> Http1
    end;
read_body(Http1) ->
    Http1.

read_body({ok, Data, #http1{body = Body, work = {exchange, Exchange}} = Read}, _Http1) ->
    Fed = hornbeam_exchange:add_body(Data, Body =/= none, Exchange),
    with_deadline(Read#http1{work = {exchange, Fed}});
read_body({fault, Fault}, Http1) ->
    spoiled(Fault, Http1).

%% Take all of the body that is there; a body that grows too large is a fault.
decode(#http1{buffer = Buffer, body = Body, left = Left} = Http1) ->
    case hornbeam_http1_body:decode(Buffer, Body) of
        {more, Data, Rest} -> counted(Data, Left, Http1#http1{buffer = <<>>, body = Rest});
        {done, Data, Behind} -> counted(Data, Left, Http1#http1{buffer = Behind, body = none});
        {fault, _} = Fault -> Fault
    end.

counted(Data, infinity, Http1) ->
    {ok, Data, Http1};
counted(Data, Left, Http1) ->
    case Left - iolist_size(Data) of
        TooMuch when TooMuch < 0 -> {fault, body_too_large};
        Rest -> {ok, Data, Http1#http1{left = Rest}}
    end.

%% Nobody knows what follows. A response that has begun cannot become another one.
-spec spoiled(hornbeam_error_response:fault(), #http1{}) -> no_return().
spoiled(Fault, #http1{response = none} = Http1) ->
    _ = refuse(Fault, Http1),
    exit(normal);
spoiled(Fault, #http1{mount = #{counters := Counters}} = Http1) ->
    hornbeam_error_response:count(Fault, Counters),
    _ = cut_short(Http1),
    exit(normal).

%% What those who work on the request are told.

told_exchange(Number, Message, #http1{current = Number} = Http1) ->
    told_current(Message, Http1);
told_exchange(Number, Message, #http1{later = Later} = Http1) ->
    loop(Http1#http1{later = [case Each of
                                  #later{number = Number} -> told_later(Message, Each);
                                  #later{} -> Each
                              end || Each <- Later]}).

told_later(Message, #later{exchange = Exchange, actions = Before} = Later) ->
    {Actions, Next} = hornbeam_exchange:handle_info(Message, Exchange),
    Later#later{exchange = Next, actions = Before ++ Actions}.

%% What is for none of them by name is for whoever knows it.
told(Message, #http1{later = []} = Http1) ->
    told_current(Message, Http1);
told(Message, #http1{later = Later} = Http1) ->
    told_current(Message, Http1#http1{later = [told_later(Message, Each) || Each <- Later]}).

told_current(Message, #http1{work = {exchange, Exchange}} = Http1) ->
    {Actions, Next} = hornbeam_exchange:handle_info(Message, Exchange),
    acted(Actions, Http1#http1{work = {exchange, Next}});
told_current(Message, #http1{work = {handshake, Handshake}} = Http1) ->
    shaken(hornbeam_websocket_handshake:handle_info(Message, Handshake), Http1);
told_current(going_away, #http1{state = reading} = Http1) ->
    last_word(Http1);
told_current(_Stray, Http1) ->
    loop(Http1).

%% What an exchange wants done.

acted([], #http1{said = []} = Http1) ->
    next(with_deadline(paid(Http1)));
acted([], Http1) ->
    next(with_deadline(Http1));
acted([continue | Actions], Http1) ->
    acted(Actions, say(hornbeam_http1_response:continue(), Http1));
acted([{respond, Status, Fields, Body} | _], Http1) ->
    {Bytes, Response} = hornbeam_http1_response:whole(Status, Fields, Body, decided(Http1)),
    finish(say(Bytes, Http1#http1{response = Response}));
acted([{start, Status, Fields, Body} | Actions], Http1) ->
    {Head, Response} = hornbeam_http1_response:start(Status, Fields, decided(Http1)),
    part(Body, true, Actions, say(Head, Http1#http1{response = Response}));
acted([{part, Body} | Actions], Http1) ->
    part(Body, true, Actions, Http1);
acted([{last, Body} | Actions], Http1) ->
    part(Body, false, Actions, Http1);
acted([break | _], Http1) ->
    cut_short(Http1).

part(Body, More, Actions, #http1{response = Response} = Http1) ->
    case hornbeam_http1_response:part(Body, More, Response) of
        {ok, Bytes, Next} when More -> acted(Actions, say(Bytes, Http1#http1{response = Next}));
        {ok, Bytes, Next} -> finish(say(Bytes, Http1#http1{response = Next}));
        {error, _} -> acted([break], Http1)
    end.

say([], Http1) -> Http1;
say(Bytes, #http1{said = Said} = Http1) -> Http1#http1{said = [Bytes | Said]}.

%% What the request and the server's state say of the response. A body that will not be read away,
%% or that the client may or may not send, lets no request follow.
decided(#http1{request = #request{method = Method, version = Version}} = Http1) ->
    IsLast = Http1#http1.is_last orelse hornbeam_mounts:is_shutting_down(Http1#http1.mount)
        orelse not can_be_read_away(Http1),
    {Method, Version, IsLast, Http1#http1.is_kept andalso not IsLast}.

can_be_read_away(#http1{body = none}) ->
    true;
can_be_read_away(#http1{work = {exchange, Exchange}, body = Body, buffer = Buffer}) ->
    case hornbeam_http1_body:left(Body) of
        unknown -> is_asked_for(Exchange, Buffer);
        Left -> Left =< ?MOST_UNREAD andalso is_asked_for(Exchange, Buffer)
    end;
can_be_read_away(_Http1) ->
    false.

is_asked_for(Exchange, Buffer) ->
    Buffer =/= <<>> orelse not hornbeam_exchange:awaits_answer(Exchange).

send([], _Http1) ->
    ok;
send(Bytes, #http1{transport = Transport, socket = Socket}) ->
    Transport:send(Socket, Bytes).

written({error, _}, Http1) ->
    ended(Http1);
written(ok, Http1) ->
    loop(paid(Http1)).

paid(#http1{work = {exchange, Exchange}} = Http1) ->
    case hornbeam_exchange:is_credit_due(Exchange) of
        true -> repaid(now_ms(), Http1);
        false -> Http1
    end;
paid(Http1) ->
    Http1.

%% The app gets credit for what the client has taken.
repaid(Now, #http1{transport = Transport, socket = Socket, slow = Slow} = Http1) ->
    case hornbeam_socket:unsent({Transport, Socket}) of
        Unsent when Unsent > ?SLOW -> Http1#http1{slow = slow(Unsent, Now, Slow)};
        _ ->
            #http1{work = {exchange, Exchange}} = Http1,
            Http1#http1{slow = none, work = {exchange, hornbeam_exchange:return_credit(Exchange)}}
    end.

slow(Unsent, _Now, {Unsent, Since}) -> {Unsent, Since};
slow(Unsent, Now, _Before) -> {Unsent, Now}.

with_deadline(#http1{state = busy, work = {exchange, Exchange}} = Http1) ->
    Http1#http1{deadline = hornbeam_exchange:deadline(Exchange)};
with_deadline(#http1{state = busy, work = {handshake, Handshake}} = Http1) ->
    Http1#http1{deadline = hornbeam_websocket_handshake:deadline(Handshake)};
with_deadline(Http1) ->
    Http1.

%% The end of a response.

finish(#http1{response = Response} = Http1) ->
    case hornbeam_http1_response:is_last(Response) of
        true ->
            last_word(leave(Http1));
        false ->
            drain((over(Http1))#http1{state = draining, left = ?MOST_UNREAD, slow = none,
                                      deadline = infinity})
    end.

%% The connection ends: nobody waits for what is not answered.
leave(#http1{later = Later, mount = Mount} = Http1) ->
    lists:foreach(fun(#later{number = Number, exchange = Exchange}) ->
        hornbeam_exchange:cancel(Exchange),
        hornbeam_mounts:exchange_ended({self(), Number}, Mount)
    end, Later),
    over(Http1#http1{later = []}).

over(#http1{work = {exchange, Exchange}, mount = Mount} = Http1) ->
    hornbeam_exchange:cancel(Exchange),
    %% Only now: who closes the listener asks the workers for what is left, and waits for this.
    hornbeam_mounts:exchange_ended(owner(Http1), Mount),
    Http1#http1{work = none, request = undefined};
over(#http1{work = {handshake, Handshake}} = Http1) ->
    hornbeam_websocket_handshake:cancel(Handshake),
    Http1#http1{work = none, request = undefined};
over(Http1) ->
    Http1#http1{request = undefined}.

%% Read away what the app did not want.
drain(#http1{body = none} = Http1) ->
    turn(Http1);
drain(#http1{buffer = <<>>} = Http1) ->
    loop(listen(drained_until(Http1)));
drain(Http1) ->
    case decode(Http1) of
        {ok, _Data, Read} -> drain(Read);
        {fault, _Fault} -> last_word(Http1)
    end.

drained_until(#http1{deadline = infinity, server = #{keepalive_timeout := Timeout}} = Http1) ->
    Http1#http1{deadline = now_ms() + Timeout};
drained_until(Http1) ->
    Http1.

%% The next request is answered, or the client has the turn.
turn(#http1{later = [Next | Later]} = Http1) ->
    #later{number = Number, request = Request, exchange = Exchange, actions = Actions,
           is_last = IsLast, is_kept = IsKept} = Next,
    acted(Actions, Http1#http1{state = busy, current = Number, later = Later, request = Request,
                               work = {exchange, Exchange}, response = none, is_last = IsLast,
                               is_kept = IsKept});
turn(#http1{parked = {fault, Fault}} = Http1) ->
    refuse(Fault, Http1);
turn(#http1{parked = {Line, Fields}} = Http1) ->
    requested(Line, Fields, Http1#http1{parked = none});
turn(#http1{mount = Mount, server = #{keepalive_timeout := Timeout}, buffer = Buffer} = Http1) ->
    Reading = Http1#http1{state = reading, response = none, begun = false, rested = false,
                          deadline = now_ms() + Timeout},
    case hornbeam_mounts:is_shutting_down(Mount) of
        true -> last_word(Http1);
        false when Buffer =:= <<>> -> next(Reading);
        false -> next(begun(Reading))
    end.

%% Time.

late(Now, #http1{slow = {_, Since}} = Http1) when Now - Since > ?DEAD ->
    broken_off(Http1);
late(Now, #http1{slow = {_, _}} = Http1) ->
    next(repaid(Now, Http1));
late(Now, #http1{deadline = Deadline} = Http1) when Now < Deadline ->
    rest(Http1);
late(Now, #http1{work = {exchange, Exchange}, is_last = IsLast, body = Body} = Http1) ->
    {Actions, Next} = hornbeam_exchange:handle_timeout(Now, Exchange),
    %% Who does not send on is not waited for.
    acted(Actions, Http1#http1{work = {exchange, Next}, is_last = IsLast orelse Body =/= none});
late(_Now, #http1{work = {handshake, Handshake}} = Http1) ->
    shaken(hornbeam_websocket_handshake:handle_timeout(Handshake), Http1);
late(_Now, #http1{state = reading, begun = true} = Http1) ->
    refuse(head_timeout, Http1);
late(_Now, #http1{mount = #{counters := Counters}} = Http1) ->
    hornbeam_counters:add(idle_closed, Counters),
    last_word(Http1).

%% The client is silent: what its requests have needed is given back.
rest(#http1{state = reading, rested = false, begun = false, reads = Reads} = Http1) ->
    Rested = Http1#http1{rested = true, fields = none, reads = hornbeam_read_buffer:quiet(Reads)},
    _ = process_flag(min_heap_size, ?QUIET_HEAP),
    hornbeam_mounts:rest(),
    true = garbage_collect(),
    loop(Rested);
rest(Http1) ->
    loop(Http1).

%% WebSockets.

handshake(#http1{request = Request, mount = Mount} = Http1) ->
    shaken(hornbeam_websocket_handshake:new(Request, self(), Mount), Http1).

shaken({wait, Handshake}, Http1) ->
    next(with_deadline(Http1#http1{work = {handshake, Handshake}}));
shaken({refuse, Response}, Http1) ->
    respond(Response, Http1#http1{is_last = true});
shaken({deny, Stream, Packet}, #http1{request = Request, mount = Mount} = Http1) ->
    Adopted = {self(), false, Mount},
    {Actions, Exchange} = hornbeam_exchange:adopt(Stream, [Packet], Request, Adopted),
    acted(Actions, Http1#http1{is_last = true, work = {exchange, Exchange}});
shaken({accept, Fields, Socket}, #http1{request = Request, mount = Mount} = Http1) ->
    {Extensions, Switch} = hornbeam_websocket:switch(Fields, Request, Mount),
    case send(lists:reverse(Http1#http1.said, [hornbeam_http1_response:switch(Switch)]), Http1) of
        ok -> become_websocket(Extensions, Socket, Http1);
        {error, _} -> ended(Http1#http1{work = none})
    end.

-spec become_websocket(cow_ws:extensions(), hornbeam_websocket_session:session(), #http1{}) ->
    no_return().
become_websocket(Extensions, Socket, #http1{transport = Transport, socket = Raw} = Http1) ->
    #http1{ref = Ref, mount = #{options := Options}} = Http1,
    #{websocket_max_frame_size := Max, websocket_max_frame_rate := Rate,
      websocket_timeout := Timeout} = Options,
    ranch:remove_connection(Ref),
    _ = process_flag(min_heap_size, ?QUIET_HEAP),
    hornbeam_mounts:rest(),
    hornbeam_websocket:start(#{parent => Http1#http1.parent, socket => {Transport, Raw},
                               reads => Http1#http1.reads, first => Http1#http1.buffer,
                               listening => Http1#http1.listening, extensions => Extensions,
                               max_frame_size => Max, max_frame_rate => Rate,
                               idle_timeout => Timeout},
                             hornbeam_websocket_session, Socket).

%% Responses of ours.

respond({Status, Fields, Body}, Http1) ->
    acted([{respond, Status, Fields, Body}], Http1).

%% Nobody knows what follows a fault.
refuse(Fault, #http1{mount = #{counters := Counters}} = Http1) ->
    hornbeam_error_response:count(Fault, Counters),
    last_word(leave(say(hornbeam_http1_response:refusal(Fault, begin_of(Http1)), Http1))).

begin_of(#http1{request = #request{method = Method}}) -> <<Method/binary, " ">>;
begin_of(#http1{buffer = Buffer}) -> Buffer.

%% The end.

last_word(#http1{transport = Transport, socket = Socket, said = Said} = Http1) ->
    _ = send(lists:reverse(Said), Http1),
    hornbeam_socket:linger({Transport, Socket}),
    over.

%% A response cannot be ended. What was said before it is read, whatever the client still sends;
%% but a body that ends with the connection must not seem whole.
cut_short(#http1{said = Said, response = Response} = Http1) ->
    case hornbeam_http1_response:ends_with_connection(Response) of
        true ->
            _ = send(lists:reverse(Said), Http1),
            broken_off(Http1);
        false ->
            last_word(leave(Http1))
    end.

%% Nobody reads any more, or there is no time for that.
broken_off(#http1{transport = Transport, socket = Socket, response = Response} = Http1) ->
    _ = leave(Http1),
    case Response =/= none andalso hornbeam_http1_response:ends_with_connection(Response) of
        true -> hornbeam_socket:reset({Transport, Socket});
        false -> Transport:close(Socket)
    end,
    over.

%% The client is gone.
ended(Http1) ->
    _ = leave(Http1),
    over.

now_ms() -> erlang:monotonic_time(millisecond).

%% @private
-spec system_continue(pid(), [sys:dbg_opt()], #http1{}) -> result().
system_continue(_Parent, _Debug, Http1) ->
    loop(Http1).

%% @private
-spec system_terminate(term(), pid(), [sys:dbg_opt()], #http1{}) -> no_return().
system_terminate(Reason, _Parent, _Debug, Http1) ->
    over = broken_off(Http1),
    exit(Reason).

%% @private
-spec system_code_change(#http1{}, module(), term(), term()) -> {ok, #http1{}}.
system_code_change(Http1, _Module, _OldVersion, _Extra) ->
    {ok, Http1}.
