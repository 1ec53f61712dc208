%% One open WebSocket, whatever engine reads and writes its frames.
%%
%%   opened ──▶ open ──▶ closed
%%
%% It runs in the engine's process: it is told what comes and answers with commands. Messages go
%% straight to the worker's writer; what the app sends is drained from the mailbox into one write to
%% the socket. The engine says when that has left (sent/2). With the option websocket_resume the
%% socket outlives its worker (hornbeam_websocket_resume).
-module(hornbeam_websocket_session).

-export([monitor_worker/1, opened/1, handle_frame/2, handle_info/2, sent/2, client_ended/1]).
-export([closed/2, go_away/1, stream/1]).
-export_type([session/0, commands/0, result/0]).

-include("hornbeam_websocket_session.hrl").

%% The most replies that one write takes: the mailbox stays shorter, see hornbeam_stream.
-define(DRAIN, 64).

%% At least so many pings fit into websocket_timeout, so that a silent client is heard.
-define(PINGS_IN_TIME, 3).

%% While a client is slow the app gets no credit; it is looked again after a while (ms).
-define(LOOK_AGAIN, 20).

%% How long the app may take for what came before a wrong frame (ms).
-define(LAST_ANSWERS, 1000).

-type session() :: #session{}.

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

-type result() :: {commands(), session()} | {commands(), session(), hibernate}.

%% @doc Have a connection closed with 1001, because the server stops; whoever waits for the app's
%% first answer gets a 503.
-spec go_away(hornbeam_stream:owner()) -> ok.
go_away(Owner) ->
    hornbeam_stream:send(Owner, going_away).

%% @doc The app's end of it.
-spec stream(session()) -> hornbeam_stream:stream().
stream(#session{stream = Stream}) ->
    Stream.

%% @doc The calling process has the WebSocket from another one that asked the app.
-spec monitor_worker(session()) -> session().
monitor_worker(#session{stream = Stream} = Session) ->
    Session#session{worker = hornbeam_stream:monitor(Stream)}.

%% @doc The client has been told that its WebSocket is accepted.
-spec opened(session()) -> result().
opened(#session{stream = Stream, mount = Mount} = Session) ->
    #{counters := Counters, traffic := Traffic} = Mount,
    hornbeam_access_log:accepted(logged(Session)),
    hornbeam_counters:add(websockets, Counters),
    hornbeam_traffic:opened(Traffic),
    hornbeam_stream:bind(Stream),
    ping_later(Mount),
    Id = hornbeam_connection_registry:add(self(), websocket, path(Mount)),
    Opened = Session#session{id = Id},
    hornbeam_telemetry:execute([hornbeam, websocket, open], #{count => 1}, metadata(Opened)),
    {[], Opened, hibernate}.

logged(#session{mount = Mount, about = {Path, Client, _Opened}, context = Context}) ->
    {Client, Path, path(Mount), hornbeam_request_id:field(Context)}.

metadata(#session{id = Id, mount = Mount, about = {Path, Client, _Opened}} = Session) ->
    (Session#session.context)#{id => Id, mount => path(Mount), path => Path, client => Client}.

path(#{pool := Path}) -> Path.

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
-spec handle_frame(Frame, session()) -> result()
    when Frame :: {text | binary | ping | pong, binary()}
                | {failed, hornbeam_websocket_decoder:fault()}.
handle_frame(Frame, #session{trace = off} = Session) ->
    take_frame(Frame, Session);
handle_frame(Frame, #session{trace = Trace} = Session) ->
    traced(take_frame(Frame, Session#session{trace = note(in, Frame, Trace)})).

take_frame({text, Data}, Session) ->
    received(text, Data, Session);
take_frame({binary, Data}, Session) ->
    received(binary, Data, Session);
take_frame({failed, Fault}, Session) ->
    failed(Fault, Session);
%% What it has been answered is all that an idle socket hears: what that left behind would stay.
take_frame({pong, _Payload}, #session{pinged = true} = Session) ->
    {[], Session#session{pinged = false}, hibernate};
take_frame(_PingOrPong, Session) ->
    {[], Session}.

received(Kind, Data, Session) ->
    #session{credit = {Bytes, Messages}, mount = #{options := Options, traffic := Traffic}} =
        Session,
    #{websocket_max_frame_size := Max} = Options,
    Size = byte_size(Data),
    case Size =< Max of
        true ->
            hornbeam_traffic:received(Size, Traffic),
            Passed = hornbeam_websocket_resume:received(Kind, Data, Session),
            paused_if_spent(Passed#session{credit = {Bytes - Size, Messages - 1},
                                          received = more(1, Size, Passed#session.received)},
                            Bytes, Messages);
        false ->
            %% Cowboy measures a compressed message before it is inflated.
            close(too_large(), <<"message too big">>, [], Session)
    end.

more(Messages, Bytes, {AllMessages, AllBytes}) ->
    {AllMessages + Messages, AllBytes + Bytes}.

%% Out of credit: leave the rest to TCP, and do not take the silence for the client's.
paused_if_spent(#session{credit = {Bytes, Messages}} = Session, BytesBefore, MessagesBefore)
        when Bytes =< 0 orelse Messages =< 0, BytesBefore > 0, MessagesBefore > 0 ->
    {[{active, false}, {idle_timeout, infinity}], Session};
paused_if_spent(Session, _BytesBefore, _MessagesBefore) ->
    {[], Session}.

%% Who is too fast is not waited for.
failed(badrate, #session{mount = #{counters := Counters}} = Session) ->
    hornbeam_counters:add(too_fast, Counters),
    close(1008, <<"too many frames">>, [], Session);
failed(Fault, #session{phase = open, received = {Messages, _}, stream = Stream} = Session)
        when Messages > 0 ->
    hornbeam_stream:flush(Stream),
    _ = erlang:send_after(?LAST_ANSWERS, self(), answers_are_late),
    {[{idle_timeout, infinity}],
     Session#session{phase = failing, closed = {fault_code(Fault), <<>>}}};
failed(Fault, Session) ->
    close(fault_code(Fault), <<>>, [], Session).

fault_code(badframe) -> 1002;
fault_code(badencoding) -> 1007;
fault_code(badsize) -> too_large().

too_large() ->
    hornbeam_hints:limit(messages_too_large),
    1009.

%% The app has said what it had to say, or cannot any more.
close_failing(Commands, #session{phase = failing, closed = {Code, Reason}} = Session) ->
    close(Code, Reason, Commands, Session).

%% @doc A message for the process.
-spec handle_info(term(), session()) -> result().
handle_info(Message, #session{trace = off} = Session) ->
    take_info(Message, Session);
handle_info(Message, Session) ->
    traced(take_info(Message, Session)).

%% Who looks sees what is written, whoever it comes from.
traced({Commands, Session}) ->
    {Commands, noted(Commands, Session)};
traced({Commands, Session, hibernate}) ->
    {Commands, noted(Commands, Session), hibernate}.

noted(Commands, #session{trace = Trace} = Session) ->
    Session#session{trace = lists:foldl(fun(Said, Before) -> note(out, Said, Before) end, Trace,
                                        Commands)}.

note(Direction, {Type, Payload}, Trace)
        when Type =:= text; Type =:= binary; Type =:= ping; Type =:= pong ->
    hornbeam_trace:note(Direction, Type, Payload, Trace);
note(Direction, {finished, Frame}, Trace) ->
    note(Direction, hornbeam_websocket_frame:read(Frame), Trace);
note(Direction, {close, Code, Reason}, Trace) ->
    hornbeam_trace:note(Direction, close, <<Code:16, Reason/binary>>, Trace);
note(Direction, ping, Trace) ->
    hornbeam_trace:note(Direction, ping, <<>>, Trace);
note(Direction, {failed, Fault}, Trace) ->
    hornbeam_trace:note(Direction, Fault, <<>>, Trace);
note(_Direction, _NoMessage, Trace) ->
    Trace.

take_info({stream, Number, Packet}, #session{number = Number} = Session) ->
    drain(Packet, [], ?DRAIN, Session);
take_info({multicast, Number, Frame}, #session{number = Number} = Session) ->
    multicast(Frame, [], ?DRAIN, Session);
take_info({forward, Outbox, Frame}, Session) ->
    drain_next([{finished, Frame}], ?DRAIN - 1, forwarded(Outbox, Frame, Session));
take_info({overflow, _Outbox}, #session{mount = #{counters := Counters}} = Session) ->
    hornbeam_counters:add(slow_clients_closed, Counters),
    close(1013, <<"too slow">>, [], Session);
take_info({fetch, Outbox}, #session{forwarded = none} = Session) ->
    fetched(hornbeam_outbox:fetch(Outbox), Outbox, Session);
take_info({fetch, _Outbox}, #session{forwarded = {Outbox, Messages, Bytes, How}} = Session) ->
    asking([], acknowledge_soon(Outbox, Messages, Bytes, How, Session));
take_info({look_again, What}, Session) ->
    look_at_unsent(What, Session);
take_info(ping, #session{mount = Mount} = Session) ->
    ping_later(Mount),
    %% Whatever it has done before, a socket that then is idle needs little memory.
    {[ping], Session#session{pinged = true}, hibernate};
take_info(answers_are_late, #session{phase = failing} = Session) ->
    close_failing([], Session);
take_info({'DOWN', Worker, _, _, _}, #session{worker = Worker, phase = failing} = Session) ->
    close_failing([], Session);
take_info({'DOWN', Worker, process, _, Reason}, #session{worker = Worker} = Session) ->
    stepped(hornbeam_websocket_resume:worker_lost(Reason, Session), Session);
take_info({retiring, Number, Why}, #session{number = Number, phase = open} = Session) ->
    {[], hornbeam_websocket_resume:retiring(Why, Session)};
take_info(resume, #session{phase = {pausing, _}} = Session) ->
    {[], hornbeam_websocket_resume:resume(Session)};
take_info(resume, #session{phase = {spread, _, _}} = Session) ->
    {[], hornbeam_websocket_resume:resume(Session)};
take_info({hornbeam_pool, _, _} = Message, #session{phase = {waiting, _, _}} = Session) ->
    stepped(hornbeam_websocket_resume:handle_place(Message, Session), Session);
take_info({timeout, Deadline, resume}, #session{deadline = Deadline} = Session) ->
    stepped(hornbeam_websocket_resume:handle_timeout(Session), Session);
take_info(going_away, Session) ->
    close(1001, <<"the server stops">>, [], Session);
take_info({kick, Code, Reason}, #session{mount = #{counters := Counters}} = Session) ->
    hornbeam_counters:add(kicked, Counters),
    close(Code, Reason, [], Session);
take_info({describe, Asker}, Session) ->
    hornbeam_connection_registry:reply(Asker, description(Session)),
    {[], Session};
take_info({measure, Asker, Measure, Filter}, Session) ->
    hornbeam_connection_registry:reply_measure(Asker, Measure, Filter, description(Session)),
    {[], Session};
take_info({trace, Viewer}, #session{trace = Before} = Session) ->
    {[], Session#session{trace = hornbeam_trace:new(Viewer, Before)}};
take_info({stop_trace, Ref}, #session{trace = Trace} = Session) ->
    {[], Session#session{trace = hornbeam_trace:stop(Ref, Trace)}};
take_info(_Stray, Session) ->
    {[], Session}.

stepped({close, Code, Reason}, Session) -> close(Code, Reason, [], Session);
stepped(Session, _Before) -> {[], Session}.

%% @doc The client has ended its half of the stream that the WebSocket is (over HTTP/2). Frames of
%% it that wait for credit come first; they, or the end itself, may say that it closed.
-spec client_ended(session()) -> result().
client_ended(Session) ->
    case is_spent(Session) of
        true -> {[], Session};
        false -> {[{close, 1002, <<>>}], Session#session{closed = {1006, <<>>}}}
    end.

is_spent(#session{credit = {Bytes, Messages}}) ->
    Bytes =< 0 orelse Messages =< 0.

%% What others sent is acknowledged like what the app said: after it is written, and once so much is
%% that it is due. While frames wait in the outbox for it, it is due at once.
forwarded(Outbox, Frame, #session{forwarded = none} = Session) ->
    acknowledge_if_due(Outbox, 1, hornbeam_websocket_frame:payload_size(Frame), idle, Session);
forwarded(Outbox, Frame, #session{forwarded = {_, Messages, Bytes, How}} = Session) ->
    Size = hornbeam_websocket_frame:payload_size(Frame),
    acknowledge_if_due(Outbox, Messages + 1, Bytes + Size, How, Session).

acknowledge_if_due(Outbox, Messages, Bytes, idle, Session) ->
    case hornbeam_stream:is_due(Bytes, Messages) of
        true -> acknowledge_soon(Outbox, Messages, Bytes, idle, Session);
        false -> Session#session{forwarded = {Outbox, Messages, Bytes, idle}}
    end;
acknowledge_if_due(Outbox, Messages, Bytes, How, Session) ->
    acknowledge_soon(Outbox, Messages, Bytes, How, Session).

acknowledge_soon(Outbox, Messages, Bytes, How, Session) ->
    Asking = ask_unless(How =:= soon, acknowledge, Session),
    Asking#session{forwarded = {Outbox, Messages, Bytes, soon}}.

ask_unless(true, _What, Session) -> Session;
ask_unless(false, What, #session{ask = Ask} = Session) -> Session#session{ask = [What | Ask]}.

%% What is to be said, and then the engine is asked to tell when it has left.
asking(Commands, #session{ask = []} = Session) ->
    {Commands, Session};
asking(Commands, #session{ask = Ask} = Session) ->
    {Commands ++ [{tell_when_sent, What} || What <- Ask], Session#session{ask = []}}.

%% @doc All that was said has left, as far as a client that does not read lets it: the process is
%% never stuck in a write (see the listener's high_watermark), so that such a client is still heard,
%% pinged and closed. It is looked at again.
-spec sent(sent(), session()) -> result().
sent(What, #session{trace = off} = Session) ->
    look_at_unsent(What, Session);
sent(What, Session) ->
    traced(look_at_unsent(What, Session)).

look_at_unsent(What, #session{tcp = Tcp} = Session) ->
    case hornbeam_socket:backlog(Tcp) of
        0 ->
            after_sent(What, Session);
        _ ->
            _ = erlang:send_after(?LOOK_AGAIN, self(), {look_again, What}),
            {[], Session}
    end.

after_sent(give_credit, #session{stream = Stream, sent = {Bytes, Messages}} = Session) ->
    hornbeam_stream:credit(Stream, Bytes, Messages),
    {[], Session#session{sent = {0, 0}}};
after_sent(acknowledge, #session{forwarded = {Outbox, Messages, Bytes, soon}} = Session) ->
    Frames = hornbeam_outbox:written(Outbox, Messages, Bytes),
    Counted = Session#session{forwarded = none, delivered = delivered(Messages, Bytes, Session)},
    fetched(Frames, Outbox, Counted).

%% What others sent counts when it is acknowledged.
delivered(0, 0, #session{delivered = Delivered}) ->
    Delivered;
delivered(Messages, Bytes, #session{mount = #{traffic := Traffic}, delivered = Delivered}) ->
    hornbeam_traffic:sent(Messages, Bytes, Traffic),
    more(Messages, Bytes, Delivered).

%% What is not acknowledged is not counted yet.
all_delivered(#session{forwarded = none, delivered = Delivered}) -> Delivered;
all_delivered(#session{forwarded = {_, Messages, Bytes, _}, delivered = Delivered}) ->
    more(Messages, Bytes, Delivered).

%% The next are fetched when these are written or, if others are in front of them that have not
%% come yet, when those are.
fetched([], Outbox, Session) ->
    Forwarded = case hornbeam_outbox:is_waited_for(Outbox) of
        true -> {Outbox, 0, 0, eager};
        false -> none
    end,
    {[], Session#session{forwarded = Forwarded}};
fetched(Frames, Outbox, Session) ->
    Size = lists:sum([hornbeam_websocket_frame:payload_size(Frame) || Frame <- Frames]),
    Counted = Session#session{delivered = delivered(length(Frames), Size, Session)},
    asking([{finished, Frame} || Frame <- Frames], acknowledge_soon(Outbox, 0, 0, idle, Counted)).

%% All that the app and others have said by now goes out together.
drain(Packet, Commands, Left, #session{mount = #{options := Options}} = Session0) ->
    case handle_message(hornbeam_app_message:read(Packet, Options), Packet, Commands, Session0) of
        {closed, Result} -> Result;
        {open, More, Session} -> drain_next(More, Left - 1, Session)
    end.

drain_next(Commands, 0, Session) ->
    asking(lists:reverse(Commands), Session);
drain_next(Commands, Left, #session{number = Number} = Session) ->
    receive
        {stream, Number, Packet} ->
            drain(Packet, Commands, Left, Session);
        {multicast, Number, Frame} ->
            multicast(Frame, Commands, Left, Session);
        {forward, Outbox, Frame} ->
            drain_next([{finished, Frame} | Commands], Left - 1,
                       forwarded(Outbox, Frame, Session))
    after 0 ->
        asking(lists:reverse(Commands), Session)
    end.

%% What the app has told others at once too.
multicast(Frame, Commands, Left, Session) ->
    Size = hornbeam_websocket_frame:payload_size(Frame),
    drain_next([{finished, Frame} | Commands], Left - 1, spent(Size, Session)).

handle_message({ok, {send_text, _, Text}}, _Packet, Commands, Session) ->
    {open, [{text, Text} | Commands], spent(byte_size(Text), Session)};
handle_message({ok, {send_bytes, _, Bytes}}, _Packet, Commands, Session) ->
    {open, [{binary, Bytes} | Commands], spent(byte_size(Bytes), Session)};
handle_message({ok, {credit, _, Bytes, Messages}}, Packet, Commands, Session) ->
    credited(Bytes, Messages, Packet, Commands, Session);
handle_message({ok, {accept, _, _, _}}, _Packet, Commands, #session{phase = reopening} = Session) ->
    {open, Commands, hornbeam_websocket_resume:reopened(Session)};
handle_message({ok, Refusal}, _Packet, Commands, #session{phase = reopening} = Session)
        when element(1, Refusal) =:= response_start ->
    {closed, close(1008, <<"the app does not go on">>, Commands, Session)};
handle_message({ok, {moved, _}}, _Packet, Commands, #session{phase = {moving, _}} = Session) ->
    {open, Commands, hornbeam_websocket_resume:moved(Session)};
handle_message({ok, {flushed, _}}, _Packet, Commands, #session{phase = failing} = Session) ->
    {closed, close_failing(Commands, Session)};
handle_message({ok, {close, _, Code, Reason}}, _Packet, Commands, Session) ->
    {closed, close(Code, Reason, Commands, Session)};
handle_message({ok, {ended, _, _, _, _}}, _Packet, Commands, #session{phase = failing} = Session) ->
    {closed, close_failing(Commands, Session)};
handle_message({ok, {ended, _, undefined, _, _}}, _Packet, Commands, Session) ->
    {closed, close(1000, <<>>, Commands, Session)};
handle_message({ok, {ended, _, _Class, _, _}}, _Packet, Commands, Session) ->
    {closed, close(1011, <<"internal error">>, Commands, Session)};
handle_message(Wrong, Packet, Commands, Session) ->
    violated(hornbeam_app_message:fault(Wrong), Packet, Commands, Session).

violated(Reason, Packet, Commands, #session{stream = Stream} = Session) ->
    hornbeam_stream:violated(Stream, Reason, Packet),
    {closed, close(1011, <<"internal error">>, Commands, Session)}.

%% Credit is given once what was sent has left.
spent(Size, #session{sent = {Bytes, Messages}} = Session) ->
    IsNewlyDue = hornbeam_stream:is_due(Bytes + Size, Messages + 1)
        andalso not hornbeam_stream:is_due(Bytes, Messages),
    Asking = ask_unless(not IsNewlyDue, give_credit, Session),
    Asking#session{sent = {Bytes + Size, Messages + 1},
                   delivered = delivered(1, Size, Session)}.

%% The app gives back what it has taken, and that is never more than the window.
credited(MoreBytes, MoreMessages, Packet, Commands, #session{credit = Credit0} = Session0) ->
    #session{stream = Stream} = Session0,
    {Bytes0, Messages0} = Credit0,
    Credit = {Bytes0 + MoreBytes, Messages0 + MoreMessages},
    hornbeam_stream:credit_received(Stream),
    case hornbeam_stream:is_within_window(Credit) of
        true -> credited(Credit0, Commands, hornbeam_websocket_resume:acknowledge(MoreMessages,
                                                        Session0#session{credit = Credit}));
        false -> violated(unearned_credit, Packet, Commands, Session0)
    end.

credited({Bytes0, Messages0}, Commands, #session{credit = {Bytes, Messages}} = Session) ->
    WasSpent = Bytes0 =< 0 orelse Messages0 =< 0,
    case WasSpent andalso Bytes > 0 andalso Messages > 0 of
        true ->
            #session{mount = #{options := #{websocket_timeout := Timeout}}} = Session,
            {open, [{active, true}, {idle_timeout, Timeout} | Commands], Session};
        false ->
            {open, Commands, Session}
    end.

close(Code, Reason, Commands, Session) ->
    {lists:reverse(Commands, [{close, Code, Reason}]), Session#session{closed = {Code, Reason}}}.

%% For whoever asks.

description(#session{about = {Path, Peer, Opened}, received = {MessagesIn, BytesIn}} = Session) ->
    {MessagesOut, BytesOut} = all_delivered(Session),
    #session{mount = Mount, stream = Stream, phase = Phase, tcp = Tcp, credit = {Bytes, Messages}} =
        Session,
    {message_queue_len, Mailbox} = process_info(self(), message_queue_len),
    {WindowBytes, WindowMessages} = hornbeam_stream:window(),
    #{kind => websocket, mount => path(Mount), path => Path, peer => Peer,
      worker => hornbeam_stream:worker_of(Stream),
      state => state(Phase), seconds => erlang:monotonic_time(second) - Opened,
      messages_in => MessagesIn, bytes_in => BytesIn,
      messages_out => MessagesOut, bytes_out => BytesOut,
      %% what waits: for the app to take it, for this process, for the client to read it (bytes)
      untaken => max(0, WindowMessages - Messages),
      untaken_bytes => max(0, WindowBytes - Bytes), mailbox => Mailbox,
      unsent => hornbeam_socket:unsent(Tcp),
      resume => hornbeam_websocket_resume:describe(Session)}.

state(open) -> open;
state(failing) -> open;
state(_Phase) -> resuming.

%% The end.

%% @doc The connection is over, for a reason of the engine: `remote' and `{remote, Code, Text}' when
%% the client closed it.
-spec closed(Reason :: term(), session()) -> ok.
closed(Reason, #session{id = Id} = Session) ->
    _ = [hornbeam_connection_registry:remove(Id) || Id =/= undefined],
    How = how_it_ended(Reason, Session),
    _ = [tell_app(How, Session) || hornbeam_websocket_resume:cancel(Session)],
    _ = [count_close(by(Reason), How, Session) || Id =/= undefined],
    tell_of_close(How, Session).

count_close(By, {Code, _Text}, #session{mount = #{traffic := Traffic}} = Session) ->
    {Messages, Bytes} = unacknowledged(Session),
    hornbeam_traffic:sent(Messages, Bytes, Traffic),
    hornbeam_traffic:closed(By, Code, Traffic).

unacknowledged(#session{forwarded = none}) -> {0, 0};
unacknowledged(#session{forwarded = {_, Messages, Bytes, _}}) -> {Messages, Bytes}.

by(remote) -> client;
by({remote, _, _}) -> client;
by(_Reason) -> server.

tell_app({Code, Text}, #session{stream = Stream, number = Number}) ->
    hornbeam_stream:write(Stream, hornbeam_wire:disconnect(Number, Code, Text)),
    hornbeam_stream:closed(Stream).

tell_of_close({Code, _Text}, #session{about = {_Path, _Client, Opened}} = Session) ->
    hornbeam_trace:ended({closed, Code}, Session#session.trace),
    #session{received = {MessagesIn, BytesIn} = In} = Session,
    {MessagesOut, BytesOut} = Out = all_delivered(Session),
    Seconds = erlang:monotonic_time(second) - Opened,
    hornbeam_access_log:closed(logged(Session), Code, Seconds, In, Out),
    hornbeam_telemetry:execute([hornbeam, websocket, close],
                               #{seconds => Seconds,
                                 messages_in => MessagesIn, bytes_in => BytesIn,
                                 messages_out => MessagesOut, bytes_out => BytesOut},
                               (metadata(Session))#{code => Code}).

%% The code that the app gets: the client's, else ours, else RFC 6455's for a missing close.
how_it_ended({remote, Code, Text}, _Socket) -> {Code, Text};
how_it_ended(remote, _Socket) -> {1005, <<>>};
how_it_ended(_Reason, #session{closed = {Code, Text}}) -> {Code, Text};
how_it_ended({error, Fault}, _Socket)
        when Fault =:= badframe; Fault =:= badencoding; Fault =:= badsize ->
    {fault_code(Fault), <<>>};
how_it_ended({crash, _, _}, _Socket) -> {1011, <<>>};
how_it_ended(_Reason, _Socket) -> {1006, <<>>}.
