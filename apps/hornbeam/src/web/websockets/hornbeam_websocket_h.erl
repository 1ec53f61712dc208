%% One open WebSocket, whatever engine reads and writes its frames.
%%
%%   opened ──▶ open ──▶ closed
%%
%% It runs in the engine's process: it is told what comes and answers with commands. Messages go
%% straight to the worker's writer; what the app sends is drained from the mailbox into one write to
%% the socket. The engine says when that has left (sent/2). With the option websocket_resume the
%% socket outlives its worker (hornbeam_websocket_resume).
-module(hornbeam_websocket_h).

-export([taken_over/1, opened/1, received/2, told/2, sent/2, client_ended/1, closed/2]).
-export([go_away/1, stream/1]).
-export_type([socket/0, commands/0, result/0]).

-include("hornbeam_websocket.hrl").

%% The most replies that one write takes: the mailbox stays shorter, see hornbeam_stream.
-define(DRAIN, 64).

%% At least so many pings fit into websocket_timeout, so that a silent client is heard.
-define(PINGS_IN_TIME, 3).

%% A client that leaves more than this (bytes) in the socket is slow: the app gets no credit
%% until it has read on, which is looked at again after a while (ms).
-define(SLOW, 65536).
-define(LOOK_AGAIN, 20).

%% How long the app may take for what came before a wrong frame (ms).
-define(LAST_ANSWERS, 1000).

-type socket() :: #socket{}.

-type command() :: {text | binary, binary()}
                 | {finished, hornbeam_websocket_frame:frame()}
                 | ping
                 | {close, code(), Reason :: binary()}
                 | {tell_when_sent, sent()}
                 | {active, boolean()}
                 | {idle_timeout, timeout()}.
-type commands() :: [command()].
%% `tell_when_sent': call sent/2 when all that was said before has left. `active': whether messages
%% of the client are wanted.

-type result() :: {commands(), socket()} | {commands(), socket(), hibernate}.

%% @doc Have a connection closed with 1001, because the server stops; whoever waits for the app's
%% first answer gets a 503.
-spec go_away(hornbeam_stream:owner()) -> ok.
go_away(Owner) ->
    hornbeam_stream:tell(Owner, going_away).

%% @doc The app's end of it.
-spec stream(socket()) -> hornbeam_stream:stream().
stream(#socket{stream = Stream}) ->
    Stream.

%% @doc The calling process has the WebSocket from another one that asked the app.
-spec taken_over(socket()) -> socket().
taken_over(#socket{stream = Stream} = Socket) ->
    Socket#socket{worker = hornbeam_stream:monitor(Stream)}.

%% @doc The client has been told that its WebSocket is accepted.
-spec opened(socket()) -> result().
opened(#socket{stream = Stream, mount = #{counters := Counters} = Mount} = Socket) ->
    hornbeam_counters:add(websockets, Counters),
    hornbeam_stream:bind(Stream),
    ping_later(Mount),
    Id = hornbeam_connections:enter(),
    Opened = Socket#socket{id = Id},
    hornbeam_telemetry:execute([hornbeam, websocket, open], #{count => 1}, metadata(Opened)),
    {[], Opened, hibernate}.

metadata(#socket{id = Id, about = {Path, _Peer, _Opened}}) ->
    #{id => Id, path => Path}.

ping_later(#{options := Options}) ->
    #{websocket_ping_interval := Interval, websocket_timeout := Timeout} = Options,
    case Interval of
        infinity ->
            ok;
        _ ->
            _ = erlang:send_after(min(Interval, in_time(Timeout)), self(), ping),
            ok
    end.

in_time(infinity) -> infinity;
in_time(Timeout) -> max(1, Timeout div ?PINGS_IN_TIME).

%% @doc The client has sent a message or a ping or pong, or something that is none.
-spec received(Frame, socket()) -> result()
    when Frame :: {text | binary | ping | pong, binary()}
                | {failed, hornbeam_websocket_decoder:fault()}.
received({text, Data}, Socket) ->
    received(text, Data, Socket);
received({binary, Data}, Socket) ->
    received(binary, Data, Socket);
received({failed, Fault}, Socket) ->
    failed(Fault, Socket);
%% What it has been answered is all that an idle socket hears: what that left behind would stay.
received({pong, _Payload}, #socket{pinged = true} = Socket) ->
    {[], Socket#socket{pinged = false}, hibernate};
received(_PingOrPong, Socket) ->
    {[], Socket}.

received(Kind, Data, Socket) ->
    #socket{credit = {Bytes, Messages}, mount = #{options := Options}} = Socket,
    #{websocket_max_frame_size := Max} = Options,
    Size = byte_size(Data),
    case Size =< Max of
        true ->
            Passed = hornbeam_websocket_resume:received(Kind, Data, Socket),
            paused_if_spent(Passed#socket{credit = {Bytes - Size, Messages - 1},
                                          came = more(1, Size, Passed#socket.came)},
                            Bytes, Messages);
        false ->
            %% Cowboy measures a compressed message before it is inflated.
            close(1009, <<"message too big">>, [], Socket)
    end.

more(Messages, Bytes, {AllMessages, AllBytes}) ->
    {AllMessages + Messages, AllBytes + Bytes}.

%% Out of credit: leave the rest to TCP, and do not take the silence for the client's.
paused_if_spent(#socket{credit = {Bytes, Messages}} = Socket, BytesBefore, MessagesBefore)
        when Bytes =< 0 orelse Messages =< 0, BytesBefore > 0, MessagesBefore > 0 ->
    {[{active, false}, {idle_timeout, infinity}], Socket};
paused_if_spent(Socket, _BytesBefore, _MessagesBefore) ->
    {[], Socket}.

%% Who is too fast is not waited for.
failed(badrate, #socket{mount = #{counters := Counters}} = Socket) ->
    hornbeam_counters:add(too_fast, Counters),
    close(1008, <<"too many frames">>, [], Socket);
failed(Fault, #socket{phase = open, came = {Messages, _}, stream = Stream} = Socket)
        when Messages > 0 ->
    hornbeam_stream:flush(Stream),
    _ = erlang:send_after(?LAST_ANSWERS, self(), answers_are_late),
    {[{idle_timeout, infinity}],
     Socket#socket{phase = failing, closed = {fault_code(Fault), <<>>}}};
failed(Fault, Socket) ->
    close(fault_code(Fault), <<>>, [], Socket).

fault_code(badframe) -> 1002;
fault_code(badencoding) -> 1007;
fault_code(badsize) -> 1009.

%% The app has said what it had to say, or cannot any more.
close_failing(Commands, #socket{phase = failing, closed = {Code, Reason}} = Socket) ->
    close(Code, Reason, Commands, Socket).

%% @doc A message for the process.
-spec told(term(), socket()) -> result().
told({stream, Number, Packet}, #socket{number = Number} = Socket) ->
    drain(Packet, [], ?DRAIN, Socket);
told({multicast, Number, Frame}, #socket{number = Number} = Socket) ->
    multicast(Frame, [], ?DRAIN, Socket);
told({forward, Outbox, Frame}, Socket) ->
    drain_next([{finished, Frame}], ?DRAIN - 1, forwarded(Outbox, Frame, Socket));
told({overflow, _Outbox}, #socket{mount = #{counters := Counters}} = Socket) ->
    hornbeam_counters:add(slow_clients_closed, Counters),
    close(1013, <<"too slow">>, [], Socket);
told({fetch, Outbox}, #socket{forwarded = none} = Socket) ->
    fetched(hornbeam_outbox:fetch(Outbox), Outbox, Socket);
told({fetch, _Outbox}, #socket{forwarded = {Outbox, Messages, Bytes, How}} = Socket) ->
    asking([], settle_soon(Outbox, Messages, Bytes, How, Socket));
told({look_again, What}, Socket) ->
    sent(What, Socket);
told(ping, #socket{mount = Mount} = Socket) ->
    ping_later(Mount),
    %% Whatever it has done before, a socket that then is idle needs little memory.
    {[ping], Socket#socket{pinged = true}, hibernate};
told(answers_are_late, #socket{phase = failing} = Socket) ->
    close_failing([], Socket);
told({'DOWN', Worker, _, _, _}, #socket{worker = Worker, phase = failing} = Socket) ->
    close_failing([], Socket);
told({'DOWN', Worker, process, _, Reason}, #socket{worker = Worker} = Socket) ->
    stepped(hornbeam_websocket_resume:lost(Reason, Socket), Socket);
told({retiring, Number, Why}, #socket{number = Number, phase = open} = Socket) ->
    {[], hornbeam_websocket_resume:retiring(Why, Socket)};
told(resume, #socket{phase = {pausing, _}} = Socket) ->
    {[], hornbeam_websocket_resume:resume(Socket)};
told(resume, #socket{phase = {spread, _, _}} = Socket) ->
    {[], hornbeam_websocket_resume:resume(Socket)};
told({hornbeam_pool, Ref, Answer}, #socket{phase = {waiting, _, Ref}} = Socket) ->
    stepped(hornbeam_websocket_resume:given(Answer, Socket), Socket);
told({timeout, Deadline, resume}, #socket{deadline = Deadline} = Socket) ->
    stepped(hornbeam_websocket_resume:late(Socket), Socket);
told(going_away, Socket) ->
    close(1001, <<"the server stops">>, [], Socket);
told({kick, Code, Reason}, #socket{mount = #{counters := Counters}} = Socket) ->
    hornbeam_counters:add(kicked, Counters),
    close(Code, Reason, [], Socket);
told({describe, Ref}, Socket) ->
    Ref ! {description, Ref, description(Socket)},
    {[], Socket};
told(_Stray, Socket) ->
    {[], Socket}.

stepped({close, Code, Reason}, Socket) -> close(Code, Reason, [], Socket);
stepped(Socket, _Before) -> {[], Socket}.

%% @doc The client has ended its half of the stream that the WebSocket is (over HTTP/2). Frames of
%% it that wait for credit come first; they, or the end itself, may say that it closed.
-spec client_ended(socket()) -> result().
client_ended(Socket) ->
    case is_spent(Socket) of
        true -> {[], Socket};
        false -> {[{close, 1002, <<>>}], Socket#socket{closed = {1006, <<>>}}}
    end.

is_spent(#socket{credit = {Bytes, Messages}}) ->
    Bytes =< 0 orelse Messages =< 0.

%% What others sent is settled like what the app said: after it is written, and once so much is that
%% it is due. While frames wait in the outbox for it, it is due at once.
forwarded(Outbox, Frame, #socket{forwarded = none} = Socket) ->
    settle_if_due(Outbox, 1, hornbeam_websocket_frame:payload_size(Frame), idle, Socket);
forwarded(Outbox, Frame, #socket{forwarded = {_, Messages, Bytes, How}} = Socket) ->
    Size = hornbeam_websocket_frame:payload_size(Frame),
    settle_if_due(Outbox, Messages + 1, Bytes + Size, How, Socket).

settle_if_due(Outbox, Messages, Bytes, idle, Socket) ->
    case hornbeam_stream:is_due(Bytes, Messages) of
        true -> settle_soon(Outbox, Messages, Bytes, idle, Socket);
        false -> Socket#socket{forwarded = {Outbox, Messages, Bytes, idle}}
    end;
settle_if_due(Outbox, Messages, Bytes, How, Socket) ->
    settle_soon(Outbox, Messages, Bytes, How, Socket).

settle_soon(Outbox, Messages, Bytes, How, Socket) ->
    Asking = ask_unless(How =:= soon, settle, Socket),
    Asking#socket{forwarded = {Outbox, Messages, Bytes, soon}}.

ask_unless(true, _What, Socket) -> Socket;
ask_unless(false, What, #socket{ask = Ask} = Socket) -> Socket#socket{ask = [What | Ask]}.

%% What is to be said, and then the engine is asked to tell when it has left.
asking(Commands, #socket{ask = []} = Socket) ->
    {Commands, Socket};
asking(Commands, #socket{ask = Ask} = Socket) ->
    {Commands ++ [{tell_when_sent, What} || What <- Ask], Socket#socket{ask = []}}.

%% @doc All that was said has left, as far as a client that does not read lets it: the process is
%% never stuck in a write (see the listener's high_watermark), so that such a client is still heard,
%% pinged and closed. It is looked at again.
-spec sent(sent(), socket()) -> result().
sent(What, #socket{tcp = Tcp} = Socket) ->
    case hornbeam_socket:unsent(Tcp) of
        Unsent when Unsent > ?SLOW ->
            _ = erlang:send_after(?LOOK_AGAIN, self(), {look_again, What}),
            {[], Socket};
        _ ->
            left(What, Socket)
    end.

left(repay, #socket{stream = Stream, sent = {Bytes, Messages}} = Socket) ->
    hornbeam_stream:credit(Stream, Bytes, Messages),
    {[], Socket#socket{sent = {0, 0}}};
left(settle, #socket{forwarded = {Outbox, Messages, Bytes, soon}} = Socket) ->
    Frames = hornbeam_outbox:written(Outbox, Messages, Bytes),
    fetched(Frames, Outbox, Socket#socket{forwarded = none, went = all_went(Socket)}).

%% What is not settled is not counted yet.
all_went(#socket{forwarded = none, went = Went}) -> Went;
all_went(#socket{forwarded = {_, Messages, Bytes, _}, went = Went}) -> more(Messages, Bytes, Went).

%% The next are fetched when these are written or, if others are in front of them that have not
%% come yet, when those are.
fetched([], Outbox, Socket) ->
    Forwarded = case hornbeam_outbox:is_waited_for(Outbox) of
        true -> {Outbox, 0, 0, eager};
        false -> none
    end,
    {[], Socket#socket{forwarded = Forwarded}};
fetched(Frames, Outbox, #socket{went = Went} = Socket) ->
    Size = lists:sum([hornbeam_websocket_frame:payload_size(Frame) || Frame <- Frames]),
    Counted = Socket#socket{went = more(length(Frames), Size, Went)},
    asking([{finished, Frame} || Frame <- Frames], settle_soon(Outbox, 0, 0, idle, Counted)).

%% All that the app and others have said by now goes out together.
drain(Packet, Commands, Left, #socket{mount = #{options := Options}} = Socket0) ->
    case said(hornbeam_answer:read(Packet, Options), Packet, Commands, Socket0) of
        {closed, Result} -> Result;
        {open, More, Socket} -> drain_next(More, Left - 1, Socket)
    end.

drain_next(Commands, 0, Socket) ->
    asking(lists:reverse(Commands), Socket);
drain_next(Commands, Left, #socket{number = Number} = Socket) ->
    receive
        {stream, Number, Packet} ->
            drain(Packet, Commands, Left, Socket);
        {multicast, Number, Frame} ->
            multicast(Frame, Commands, Left, Socket);
        {forward, Outbox, Frame} ->
            drain_next([{finished, Frame} | Commands], Left - 1,
                       forwarded(Outbox, Frame, Socket))
    after 0 ->
        asking(lists:reverse(Commands), Socket)
    end.

%% What the app has told others at once too.
multicast(Frame, Commands, Left, Socket) ->
    Size = hornbeam_websocket_frame:payload_size(Frame),
    drain_next([{finished, Frame} | Commands], Left - 1, spent(Size, Socket)).

said({ok, {send_text, _, Text}}, _Packet, Commands, Socket) ->
    {open, [{text, Text} | Commands], spent(byte_size(Text), Socket)};
said({ok, {send_bytes, _, Bytes}}, _Packet, Commands, Socket) ->
    {open, [{binary, Bytes} | Commands], spent(byte_size(Bytes), Socket)};
said({ok, {credit, _, Bytes, Messages}}, Packet, Commands, Socket) ->
    credited(Bytes, Messages, Packet, Commands, Socket);
said({ok, {accept, _, _, _}}, _Packet, Commands, #socket{phase = reopening} = Socket) ->
    {open, Commands, hornbeam_websocket_resume:reopened(Socket)};
said({ok, Refusal}, _Packet, Commands, #socket{phase = reopening} = Socket)
        when element(1, Refusal) =:= response_start ->
    {closed, close(1008, <<"the app does not go on">>, Commands, Socket)};
said({ok, {moved, _}}, _Packet, Commands, #socket{phase = {moving, _}} = Socket) ->
    {open, Commands, hornbeam_websocket_resume:moved(Socket)};
said({ok, {flushed, _}}, _Packet, Commands, #socket{phase = failing} = Socket) ->
    {closed, close_failing(Commands, Socket)};
said({ok, {close, _, Code, Reason}}, _Packet, Commands, Socket) ->
    {closed, close(Code, Reason, Commands, Socket)};
said({ok, {ended, _, _, _, _}}, _Packet, Commands, #socket{phase = failing} = Socket) ->
    {closed, close_failing(Commands, Socket)};
said({ok, {ended, _, undefined, _, _}}, _Packet, Commands, Socket) ->
    {closed, close(1000, <<>>, Commands, Socket)};
said({ok, {ended, _, _Class, _, _}}, _Packet, Commands, Socket) ->
    {closed, close(1011, <<"internal error">>, Commands, Socket)};
said(Wrong, Packet, Commands, Socket) ->
    violated(hornbeam_answer:fault(Wrong), Packet, Commands, Socket).

violated(Reason, Packet, Commands, #socket{stream = Stream} = Socket) ->
    hornbeam_stream:violated(Stream, Reason, Packet),
    {closed, close(1011, <<"internal error">>, Commands, Socket)}.

%% The account is settled once what was sent has left.
spent(Size, #socket{sent = {Bytes, Messages}} = Socket) ->
    IsNewlyDue = hornbeam_stream:is_due(Bytes + Size, Messages + 1)
        andalso not hornbeam_stream:is_due(Bytes, Messages),
    Asking = ask_unless(not IsNewlyDue, repay, Socket),
    Asking#socket{sent = {Bytes + Size, Messages + 1}, went = more(1, Size, Socket#socket.went)}.

%% The app gives back what it has taken, and that is never more than the window.
credited(MoreBytes, MoreMessages, Packet, Commands, #socket{credit = Credit0} = Socket0) ->
    #socket{stream = Stream} = Socket0,
    {Bytes0, Messages0} = Credit0,
    Credit = {Bytes0 + MoreBytes, Messages0 + MoreMessages},
    hornbeam_stream:take_credit(Stream),
    case hornbeam_stream:is_within_window(Credit) of
        true -> credited(Credit0, Commands, hornbeam_websocket_resume:taken(MoreMessages,
                                                        Socket0#socket{credit = Credit}));
        false -> violated(unearned_credit, Packet, Commands, Socket0)
    end.

credited({Bytes0, Messages0}, Commands, #socket{credit = {Bytes, Messages}} = Socket) ->
    WasSpent = Bytes0 =< 0 orelse Messages0 =< 0,
    case WasSpent andalso Bytes > 0 andalso Messages > 0 of
        true ->
            #socket{mount = #{options := #{websocket_timeout := Timeout}}} = Socket,
            {open, [{active, true}, {idle_timeout, Timeout} | Commands], Socket};
        false ->
            {open, Commands, Socket}
    end.

close(Code, Reason, Commands, Socket) ->
    {lists:reverse(Commands, [{close, Code, Reason}]), Socket#socket{closed = {Code, Reason}}}.

%% For whoever asks.

description(#socket{about = {Path, Peer, Opened}, came = {MessagesIn, BytesIn}} = Socket) ->
    {MessagesOut, BytesOut} = all_went(Socket),
    #socket{stream = Stream, phase = Phase, tcp = Tcp, credit = {_, Credit}} = Socket,
    {message_queue_len, Mailbox} = process_info(self(), message_queue_len),
    {_, Window} = hornbeam_stream:window(),
    #{path => Path, peer => Peer, worker => hornbeam_stream:worker_of(Stream),
      state => state(Phase), seconds => erlang:monotonic_time(second) - Opened,
      messages_in => MessagesIn, bytes_in => BytesIn,
      messages_out => MessagesOut, bytes_out => BytesOut,
      %% what waits: for the app to take it, for this process, for the client to read it (bytes)
      untaken => max(0, Window - Credit), mailbox => Mailbox,
      unsent => hornbeam_socket:unsent(Tcp),
      resume => hornbeam_websocket_resume:describe(Socket)}.

state(open) -> open;
state(failing) -> open;
state(_Phase) -> resuming.

%% The end.

%% @doc The connection is over, for a reason of the engine: `remote' and `{remote, Code, Text}' when
%% the client closed it.
-spec closed(Reason :: term(), socket()) -> ok.
closed(Reason, #socket{id = Id} = Socket) ->
    _ = [hornbeam_connections:leave(Id) || Id =/= undefined],
    How = how_it_ended(Reason, Socket),
    _ = [tell_app(How, Socket) || hornbeam_websocket_resume:leave(Socket)],
    tell_of_close(How, Socket).

tell_app({Code, Text}, #socket{stream = Stream, number = Number}) ->
    hornbeam_stream:write(Stream, hornbeam_wire:disconnect(Number, Code, Text)),
    hornbeam_stream:closed(Stream).

tell_of_close({Code, _Text}, #socket{about = {_, _, Opened}} = Socket) ->
    #socket{came = {MessagesIn, BytesIn}} = Socket,
    {MessagesOut, BytesOut} = all_went(Socket),
    hornbeam_telemetry:execute([hornbeam, websocket, close],
                               #{seconds => erlang:monotonic_time(second) - Opened,
                                 messages_in => MessagesIn, bytes_in => BytesIn,
                                 messages_out => MessagesOut, bytes_out => BytesOut},
                               (metadata(Socket))#{code => Code}).

%% The code that the app gets: the client's, else ours, else RFC 6455's for a missing close.
how_it_ended({remote, Code, Text}, _Socket) -> {Code, Text};
how_it_ended(remote, _Socket) -> {1005, <<>>};
how_it_ended(_Reason, #socket{closed = {Code, Text}}) -> {Code, Text};
how_it_ended({error, Fault}, _Socket)
        when Fault =:= badframe; Fault =:= badencoding; Fault =:= badsize ->
    {fault_code(Fault), <<>>};
how_it_ended({crash, _, _}, _Socket) -> {1011, <<>>};
how_it_ended(_Reason, _Socket) -> {1006, <<>>}.
