%% A WebSocket over HTTP/1.1, from the 101 on, in the process of its connection.
%%
%%   start ──▶ loop ⇄ batch ──▶ the end
%%
%% A batch is all frames of one read, or one message of the mailbox, and ends with one write.
%% Frames are taken as the handler wants them: while it has said `{active, false}' they stay
%% bytes. How the bytes read stands in hornbeam_websocket_decoder; what a message means is the
%% handler's (hornbeam_websocket_session). A wrong frame is given to it as `{failed, Fault}', after
%% which it has to say a close.
-module(hornbeam_websocket).

-include("../requests/hornbeam_request.hrl").

-export([switch/3, start/4]).
-export([loop/1, system_continue/3, system_terminate/4, system_code_change/4]).
-export_type([start/0]).

-type start() :: #{
    socket := hornbeam_socket:socket(),
    reads := hornbeam_read_buffer:buffer(),
    %% what has come behind the handshake, and whether more may come as messages
    first := binary(),
    listening := boolean(),
    extensions := cow_ws:extensions(),
    max_frame_size := pos_integer(),
    max_frame_rate := hornbeam_websocket_decoder:rate(),
    idle_timeout := timeout()
}.
-type agreed() :: #{atom() => term()}.
%% Of these, what the handshake has agreed on and the options say.

-type result() :: {[term()], State :: term()} | {[term()], State :: term(), hibernate}.
%% Commands as hornbeam_websocket_session has them.

-record(connection, {
    parent :: pid(),
    transport :: module(),
    socket :: term(),
    handler :: module(),
    state :: term(),
    extensions :: cow_ws:extensions(),
    decoder :: hornbeam_websocket_decoder:decoder(),
    buffer :: hornbeam_read_buffer:buffer(),
    active = true :: boolean(),
    %% whether the client's side ended while frames of it wait
    ended = false :: false | {error, term()},
    hibernate = false :: boolean(),
    %% what this batch has to say, the last frame first, and whom to tell when it has left
    said = [] :: [iodata()],
    tell = [] :: [term()],
    %% the last ping, while a timer runs because the client read too slowly for its answer
    ping = none :: none | {owed | answered, binary()},
    idle_timeout :: timeout(),
    %% when something came from the client, and when that is looked at (ms)
    heard :: integer(),
    timer = none :: {reference(), Due :: integer()} | none
}).

%% A client is slow until a look after a while (ms) finds that it is not.
-define(LOOK_AGAIN, 100).

%% A process that waits for messages keeps no more than this for them (words).
-define(QUIET_HEAP, 233).

%% @doc The fields of the 101, with those of the app, and what the WebSocket begins with.
-spec switch(hornbeam_headers:fields(), hornbeam_request:request(), hornbeam_mounts:mount()) ->
    {agreed(), hornbeam_headers:fields()}.
switch(Fields, Request, #{options := Options}) ->
    #{websocket_compress := Compress, websocket_max_frame_size := Max,
      websocket_max_frame_rate := Rate, websocket_timeout := Timeout} = Options,
    {Extensions, Agreed} = negotiate(offers(Compress, Request)),
    Key = hornbeam_request:field(<<"sec-websocket-key">>, Request),
    {#{extensions => Extensions, max_frame_size => Max, max_frame_rate => Rate,
       idle_timeout => Timeout},
     [{<<"upgrade">>, <<"websocket">>}, {<<"connection">>, <<"Upgrade">>},
      {<<"sec-websocket-accept">>, cow_ws:encode_key(Key)}] ++ Agreed ++ Fields}.

%% An offer that cannot be read is declined.
offers(false, _Request) ->
    [];
offers(true, Request) ->
    Values = hornbeam_request:values(<<"sec-websocket-extensions">>, Request),
    All = iolist_to_binary(lists:join(<<", ">>, Values)),
    try cow_http_hd:parse_sec_websocket_extensions(All) of
        Offers -> [Parameters || {<<"permessage-deflate">>, Parameters} <- Offers]
    catch
        _:_ -> []
    end.

negotiate([]) ->
    {#{}, []};
negotiate([Offer | Offers]) ->
    case cow_ws:negotiate_permessage_deflate(Offer, #{}, #{}) of
        {ok, Answer, Extensions} ->
            {Extensions, [{<<"sec-websocket-extensions">>, iolist_to_binary(Answer)}]};
        ignore ->
            negotiate(Offers)
    end.

%% @doc Go on as a WebSocket; the client has the 101.
-spec start(Parent :: pid(), start(), Handler :: module(), State :: term()) -> no_return().
start(Parent, #{socket := {Transport, Raw}, first := First, reads := Reads,
                listening := Listening, extensions := Extensions, max_frame_size := Max,
                max_frame_rate := Rate, idle_timeout := Timeout}, Handler, State) ->
    _ = process_flag(min_heap_size, ?QUIET_HEAP),
    Decoder = hornbeam_websocket_decoder:new(Max, Rate, Extensions),
    Connection = #connection{parent = Parent, transport = Transport, socket = Raw,
                             handler = Handler, state = State, extensions = Extensions,
                             decoder = hornbeam_websocket_decoder:feed(First, false, Decoder),
                             buffer = Reads, idle_timeout = infinity, heard = now_ms()},
    Begun = call(opened, [State], idle_timeout(Timeout, Connection)),
    _ = [listen_if_active(Begun) || not Listening],
    taken(Begun).

%% @private
-spec loop(#connection{}) -> no_return().
loop(#connection{socket = Socket, parent = Parent} = Connection) ->
    receive
        {Tag, Socket, Data} when Tag =:= tcp; Tag =:= ssl ->
            read(Data, Connection);
        {Tag, Socket} when Tag =:= tcp_passive; Tag =:= ssl_passive ->
            listen_if_active(Connection),
            taken(Connection);
        {Tag, Socket} when Tag =:= tcp_closed; Tag =:= ssl_closed ->
            ended({error, closed}, Connection);
        {Tag, Socket, Reason} when Tag =:= tcp_error; Tag =:= ssl_error ->
            ended({error, Reason}, Connection);
        {timeout, Timer, {?MODULE, idle}} ->
            looked_at(Timer, Connection);
        {timeout, _Timer, {?MODULE, pong}} ->
            taken(pong_owed(Connection#connection.ping, Connection#connection{ping = none}));
        {'EXIT', Parent, Reason} ->
            terminate(Reason, Connection);
        {system, From, Request} ->
            sys:handle_system_msg(Request, From, Parent, ?MODULE, [], Connection);
        {'$gen_call', From, Asked} when Asked =:= which_children; Asked =:= count_children ->
            hornbeam_childless:answer(Asked, From),
            loop(Connection);
        {'EXIT', _Other, _Reason} ->
            loop(Connection);
        Message ->
            informed(tell(handle_info, [Message, Connection#connection.state], Connection),
                     Connection)
    end.

%% Nearly all that a handler is told makes it say frames, or nothing. Who wanted frames all the time
%% has taken those that are there.
informed({Commands, State}, #connection{active = true} = Connection) ->
    case said(Commands, [], Connection) of
        {Said, []} -> write(Said, Connection#connection{state = State});
        {Said, Others} ->
            Told = Connection#connection{state = State, said = Said},
            taken(commanded(Others, Told))
    end;
informed(Result, Connection) ->
    taken(done(Result, Connection)).

%% What fails here comes as a message of the socket's.
listen_if_active(#connection{active = false}) ->
    ok;
listen_if_active(#connection{transport = Transport, socket = Socket, buffer = Buffer}) ->
    _ = Transport:setopts(Socket, [{active, hornbeam_read_buffer:reads(Buffer)}]),
    ok.

read(Data, #connection{decoder = Decoder, buffer = Buffer, active = Active} = Connection) ->
    Fed = hornbeam_websocket_decoder:feed(Data, not Active, Decoder),
    Read = hornbeam_read_buffer:read(byte_size(Data), Active, Buffer),
    taken(Connection#connection{decoder = Fed, buffer = Read, heard = now_ms()}).

%% The end of what the client says comes after all that it said.
ended(Reason, #connection{active = false} = Connection) ->
    taken(Connection#connection{ended = Reason});
ended(Reason, Connection) ->
    terminate(Reason, Connection).

%% All frames that are there and wanted, one by one.
taken(#connection{active = false} = Connection) ->
    end_batch(Connection);
taken(#connection{decoder = Decoder, ended = Ended} = Connection) ->
    case hornbeam_websocket_decoder:next(Decoder) of
        {more, Rest} when Ended =:= false -> end_batch(Connection#connection{decoder = Rest});
        {more, _Rest} -> terminate(Ended, Connection);
        {error, Fault} -> failed(Fault, Connection);
        {Frame, Rest} -> handled(Frame, Connection#connection{decoder = Rest})
    end.

handled(close, Connection) ->
    close(close, remote, Connection);
handled({close, Code, Reason}, Connection) ->
    close({close, Code, <<>>}, {remote, Code, Reason}, Connection);
handled({ping, Payload} = Ping, Connection) ->
    taken(handle(Ping, pong(Payload, Connection)));
handled(Frame, Connection) ->
    taken(handle(Frame, Connection)).

handle(Frame, #connection{state = State} = Connection) ->
    call(handle_frame, [Frame, State], Connection).

%% Nothing more is read. The handler closes, now or when it has said what it has to say.
-spec failed(hornbeam_websocket_decoder:fault(), #connection{}) -> no_return().
failed(Fault, Connection) ->
    taken(handle({failed, Fault}, command({active, false}, Connection))).

%% Who pings and does not read gets one answer, to the last ping, once it reads (RFC 6455, 5.5.3).
%% A pong for each would fill the socket until we were stuck in a write.
pong(Payload, #connection{ping = Ping} = Connection) ->
    case {is_slow(Connection), Ping} of
        {false, none} -> say({pong, Payload}, Connection);
        {false, _} -> say({pong, Payload}, Connection#connection{ping = {answered, Payload}});
        {true, none} -> pong_later(Payload, Connection);
        {true, _} -> Connection#connection{ping = {owed, Payload}}
    end.

pong_owed({answered, _Payload}, Connection) ->
    Connection;
pong_owed({owed, Payload}, Connection) ->
    case is_slow(Connection) of
        false -> say({pong, Payload}, Connection);
        true -> pong_later(Payload, Connection)
    end.

pong_later(Payload, Connection) ->
    _ = erlang:start_timer(?LOOK_AGAIN, self(), {?MODULE, pong}),
    Connection#connection{ping = {owed, Payload}}.

is_slow(#connection{transport = Transport, socket = Socket}) ->
    hornbeam_socket:backlog({Transport, Socket}) > 0.

%% The end of a batch: what was said is written at once.
-spec end_batch(#connection{}) -> no_return().
end_batch(#connection{said = []} = Connection) ->
    written(Connection);
end_batch(#connection{said = Said} = Connection) ->
    write(Said, Connection#connection{said = []}).

-spec write([iodata()], #connection{}) -> no_return().
write([], Connection) ->
    written(Connection);
write(Said, #connection{transport = Transport, socket = Socket} = Connection) ->
    case Transport:send(Socket, lists:reverse(Said)) of
        ok -> written(Connection);
        {error, Reason} -> terminate({error, Reason}, Connection)
    end.

-spec written(#connection{}) -> no_return().
written(#connection{tell = []} = Connection) ->
    waiting(Connection);
written(#connection{tell = Tell} = Connection) ->
    taken(lists:foldr(fun(What, #connection{state = State} = Before) ->
        call(sent, [What, State], Before)
    end, Connection#connection{tell = []}, Tell)).

waiting(#connection{hibernate = true, buffer = Buffer} = Connection) ->
    Quiet = Connection#connection{hibernate = false, buffer = hornbeam_read_buffer:quiet(Buffer)},
    proc_lib:hibernate(?MODULE, loop, [Quiet]);
waiting(Connection) ->
    loop(Connection).

%% The handler.

call(Callback, Arguments, Connection) ->
    done(tell(Callback, Arguments, Connection), Connection).

-spec tell(atom(), [term()], #connection{}) -> result().
tell(Callback, Arguments, #connection{handler = Handler} = Connection) ->
    try
        apply(Handler, Callback, Arguments)
    catch
        Class:Reason:Stack ->
            crashed(Class, Reason, Connection),
            erlang:raise(Class, Reason, Stack)
    end.

-spec done(result(), #connection{}) -> #connection{}.
done({[], State}, Connection) ->
    Connection#connection{state = State};
done({Commands, State}, #connection{said = Before} = Connection) ->
    {Said, Others} = said(Commands, Before, Connection),
    commanded(Others, Connection#connection{state = State, said = Said});
done({Commands, State, hibernate}, Connection) ->
    done({Commands, State}, Connection#connection{hibernate = true}).

%% The frames with which commands begin, encoded in front of others that were said, and what follows
%% those frames.
said([{Kind, _} = Frame | Commands], Said, Connection)
        when Kind =:= finished; Kind =:= text; Kind =:= binary ->
    said(Commands, [encoded(Frame, Connection) | Said], Connection);
said(Commands, Said, _Connection) ->
    {Said, Commands}.

commanded(Commands, Connection) ->
    lists:foldl(fun command/2, Connection, Commands).

command({active, Active}, #connection{active = Active} = Connection) ->
    Connection;
command({active, true}, #connection{decoder = Decoder} = Connection) ->
    Resumed = Connection#connection{
        active = true, decoder = hornbeam_websocket_decoder:feed(<<>>, true, Decoder)},
    listen_if_active(Resumed),
    Resumed;
command({active, false}, #connection{transport = Transport, socket = Socket} = Connection) ->
    _ = Transport:setopts(Socket, [{active, false}]),
    flush_passive(Socket),
    Connection#connection{active = false};
command({idle_timeout, Timeout}, Connection) ->
    idle_timeout(Timeout, Connection#connection{heard = now_ms()});
command({tell_when_sent, What}, #connection{tell = Tell} = Connection) ->
    Connection#connection{tell = [What | Tell]};
command({close, _, _} = Close, Connection) ->
    close(Close, stop, Connection);
command(Frame, Connection) ->
    say(Frame, Connection).

%% Or it would be listened to twice.
flush_passive(Socket) ->
    receive
        {Tag, Socket} when Tag =:= tcp_passive; Tag =:= ssl_passive -> ok
    after 0 ->
        ok
    end.

say(Frame, #connection{said = Said} = Connection) ->
    Connection#connection{said = [encoded(Frame, Connection) | Said]}.

encoded({finished, Frame}, #connection{extensions = Extensions})
        when map_size(Extensions) =:= 0 ->
    Frame;
encoded({finished, Frame}, Connection) ->
    encoded(hornbeam_websocket_frame:read(Frame), Connection);
encoded({_, <<>>} = Empty, _Connection) ->
    %% Of what is empty zlib makes nothing, which no client can read (RFC 7692, 7.2.3.6).
    cow_ws:frame(Empty, #{});
encoded(Frame, #connection{extensions = Extensions}) ->
    cow_ws:frame(Frame, Extensions).

%% Time. A timer is not moved when something comes: it is looked at when it fires.

idle_timeout(infinity, Connection) ->
    Connection#connection{idle_timeout = infinity};
idle_timeout(Timeout, #connection{heard = Heard, timer = {_, Due}} = Connection)
        when Due =< Heard + Timeout ->
    Connection#connection{idle_timeout = Timeout};
idle_timeout(Timeout, #connection{heard = Heard, timer = Timer} = Connection) ->
    cancel(Timer),
    alarm_at(Heard + Timeout, Connection#connection{idle_timeout = Timeout}).

cancel(none) ->
    ok;
cancel({Timer, _Due}) ->
    _ = erlang:cancel_timer(Timer),
    ok.

alarm_at(Due, Connection) ->
    Timer = erlang:start_timer(Due, self(), {?MODULE, idle}, [{abs, true}]),
    Connection#connection{timer = {Timer, Due}}.

looked_at(Timer, #connection{timer = {Timer, _}, idle_timeout = infinity} = Connection) ->
    taken(Connection#connection{timer = none});
looked_at(Timer, #connection{timer = {Timer, _}} = Connection) ->
    #connection{heard = Heard, idle_timeout = Timeout} = Connection,
    Due = Heard + Timeout,
    case now_ms() >= Due of
        %% 1000 would tell a client to stay away, whose silence may be that of a suspended machine.
        true -> close({close, 1001, <<"nothing was heard">>}, timeout, Connection);
        false -> taken(alarm_at(Due, Connection))
    end;
looked_at(_Cancelled, Connection) ->
    taken(Connection).

now_ms() ->
    erlang:monotonic_time(millisecond).

%% The end.

-spec close(cow_ws:frame(), term(), #connection{}) -> no_return().
close(Frame, Reason, Connection) ->
    last_words(Frame, Connection),
    terminate(Reason, Connection).

last_words(Frame, Connection) ->
    #connection{said = Said, transport = Transport, socket = Socket} = say(Frame, Connection),
    _ = Transport:send(Socket, lists:reverse(Said)),
    ok.

-spec terminate(term(), #connection{}) -> no_return().
terminate(Reason, Connection) ->
    told(Reason, Connection),
    linger(Reason, Connection),
    exit(normal).

told(Reason, #connection{handler = Handler, state = State}) ->
    _ = Handler:closed(Reason, State),
    ok.

%% The client may read what was said last.
linger({error, closed}, _Connection) ->
    ok;
linger(Reason, #connection{transport = Transport, socket = Socket})
        when Reason =:= remote; element(1, Reason) =:= remote ->
    hornbeam_socket:finish({Transport, Socket});
linger(_Reason, #connection{transport = Transport, socket = Socket}) ->
    hornbeam_socket:linger({Transport, Socket}).

crashed(Class, Reason, Connection) ->
    last_words({close, 1011, <<>>}, Connection),
    told({crash, Class, Reason}, Connection),
    linger(crash, Connection).

%% @private
-spec system_continue(pid(), [sys:dbg_opt()], #connection{}) -> no_return().
system_continue(_Parent, _Debug, Connection) ->
    loop(Connection).

%% @private
-spec system_terminate(term(), pid(), [sys:dbg_opt()], #connection{}) -> no_return().
system_terminate(Reason, _Parent, _Debug, Connection) ->
    terminate(Reason, Connection).

%% @private
-spec system_code_change(#connection{}, module(), term(), term()) -> {ok, #connection{}}.
system_code_change(Connection, _Module, _OldVersion, _Extra) ->
    {ok, Connection}.
