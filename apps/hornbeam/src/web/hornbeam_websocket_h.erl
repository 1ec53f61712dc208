%% One WebSocket, from its handshake to its end.
%%
%%   request process             connection process
%%   ───────────────             ──────────────────
%%   asked ──accept──▶ 101 ────▶ open ──▶ closed (terminate/3)
%%     │ close: 403   response: denial   failure: 500
%%     │ worker dead: 502   silence: 504
%%
%% With the option websocket_resume an open socket outlives its worker:
%%
%%   open ──worker dead──▶ pausing ──▶ waiting ──a place──▶ reopening ──accept──▶ open
%%     └──worker retires──▶ moving ──moved──▶┘   └─none, or too often in vain: closed
%%
%% The client notices nothing: what it sends meanwhile waits (hornbeam_resume), and past the
%% window TCP stops it.
%%
%% init/2 holds the handshake back until the app answers, then gives the stream to the
%% connection process, where the other callbacks run. Frames go straight to the worker's
%% writer; what the app sends is drained from the mailbox into one write to the socket.
-module(hornbeam_websocket_h).
-behaviour(cowboy_websocket).

-export([init/2, websocket_init/1, websocket_handle/2, websocket_info/2, terminate/3]).
-export([go_away/1]).

-type code() :: 1000..4999.

-type phase() ::
    open
    | {moving, Why :: binary()}
    | {pausing, Why :: binary()}
    | {waiting, Why :: binary(), Ref :: reference()}
    | reopening.
%% `Why': what became of the worker before, as docs/wire.md has it.

-type about() :: {Path :: binary(), Peer :: {binary(), inet:port_number()} | undefined,
                  Opened :: integer()}.
%% Monotonic seconds.

-record(socket, {
    mount :: hornbeam_mounts:mount(),
    stream :: hornbeam_stream:stream(),
    number :: pos_integer(),
    worker :: reference() | undefined,
    phase = open :: phase(),
    %% for whoever asks
    id :: hornbeam_connections:id() | undefined,
    about :: about(),
    came = {0, 0} :: {Messages :: non_neg_integer(), Bytes :: non_neg_integer()},
    went = {0, 0} :: {Messages :: non_neg_integer(), Bytes :: non_neg_integer()},
    %% undefined where a socket ends with its worker
    resume :: hornbeam_resume:resume() | undefined,
    %% when the wait for an app that goes on is over
    deadline :: reference() | undefined,
    %% the connection's socket, which over HTTP/2 is not ours alone
    tcp :: hornbeam_connection:socket(),
    %% the stream that stands for the socket over HTTP/2
    http2 :: hornbeam_http2_stream:ref() | undefined,
    %% what the client may send before the app takes some of it
    credit :: {Bytes :: integer(), Messages :: integer()},
    %% what was given to the socket and is not given back as credit
    sent = {0, 0} :: {Bytes :: non_neg_integer(), Messages :: non_neg_integer()},
    %% what others than the app sent, was given to the socket and is not settled
    forwarded = none :: {hornbeam_outbox:outbox(), non_neg_integer(), non_neg_integer()} | none,
    %% how we closed it, once we did
    closed :: {code(), binary()} | undefined
}).

%% The most replies that one write takes: the mailbox stays shorter, see hornbeam_stream.
-define(DRAIN, 64).

%% So many reads (of at most 64 KiB) the socket does before it asks: what has come by then waits in
%% our mailbox, whatever the app wants. Asking costs a read a hundredth at this number.
-define(READS, 16).

%% At least so many pings fit into websocket_timeout, so that a silent client is heard.
-define(PINGS_IN_TIME, 3).

%% A client that leaves more than this (bytes) in the socket is slow: the app gets no credit
%% until it has read on, which is looked at again after a while (ms).
-define(SLOW, 65536).
-define(LOOK_AGAIN, 20).

%% While the pool's queue is full, a socket that is to go on asks again after a while (ms).
-define(WAIT_AGAIN, 500).

%% @doc Have a connection closed with 1001, because the server stops.
-spec go_away(pid()) -> ok.
go_away(Connection) ->
    Connection ! going_away,
    ok.

%% The handshake.

%% @private
-spec init(cowboy_req:req(), hornbeam_mounts:mount()) ->
    {ok, cowboy_req:req(), hornbeam_mounts:mount()}
    | {hornbeam_websocket, cowboy_req:req(), #socket{}, hornbeam_websocket:options()}
    | {cowboy_websocket, cowboy_req:req(), #socket{}, cowboy_websocket:opts()}.
init(Req, Mount) ->
    case handshake_fault(Req) of
        none -> with_worker(Req, Mount);
        Status -> {ok, hornbeam_response:refuse(Status, Req), Mount}
    end.

%% What an app binds to a WebSocket that it then refuses ends with the TCP connection.
last(#{version := 'HTTP/1.1'} = Req) ->
    cowboy_req:set_resp_header(<<"connection">>, <<"close">>, Req);
last(Req) ->
    Req.

%% Cowboy checks the same after init/2; the app should not be asked for nothing.
handshake_fault(#{version := 'HTTP/2', headers := Headers}) ->
    case Headers of
        #{<<"sec-websocket-version">> := <<"13">>} -> none;
        #{} -> 400
    end;
handshake_fault(#{method := <<"GET">>, headers := Headers}) ->
    case Headers of
        #{<<"sec-websocket-version">> := <<"13">>, <<"sec-websocket-key">> := Key,
          <<"connection">> := Connection} ->
            fault_unless(is_key(Key) andalso names_upgrade(Connection));
        #{<<"sec-websocket-version">> := Version} when Version =/= <<"13">> ->
            426;
        #{} ->
            400
    end;
handshake_fault(_Req) ->
    400.

fault_unless(true) -> none;
fault_unless(false) -> 400.

%% RFC 6455, 4.1: 16 bytes in base64.
is_key(Key) when byte_size(Key) =:= 24 ->
    try
        byte_size(base64:decode(Key)) =:= 16
    catch
        error:_ -> false
    end;
is_key(_Key) ->
    false.

names_upgrade(Connection) ->
    Tokens = binary:split(cowboy_bstr:to_lower(Connection), <<",">>, [global]),
    lists:member(<<"upgrade">>, [hornbeam_headers:trim(Token) || Token <- Tokens]).

with_worker(Req, Mount) ->
    case hornbeam_mounts:checkout(Mount) of
        {ok, Handle} -> ask(Handle, Req, Mount);
        unavailable -> {ok, hornbeam_response:refuse(503, Req), Mount}
    end.

ask(Handle, Req, #{options := #{timeout := Timeout}} = Mount) ->
    Scope = hornbeam_scope:websocket(Req),
    Stream = hornbeam_stream:open(Handle, websocket, connection(Req), fun(Number) ->
        hornbeam_wire:open_websocket(Number, Scope)
    end),
    Socket = #socket{mount = Mount, stream = Stream, number = hornbeam_stream:number(Stream),
                     worker = hornbeam_stream:monitor(Stream), resume = resume(Scope, Mount),
                     about = about(Scope),
                     tcp = maps:get(socket, Req), http2 = http2(Req),
                     credit = hornbeam_stream:window()},
    watch_end(Socket),
    await_answer(Timeout, Req, Socket).

about(#{raw_path := Path, client := Client}) ->
    {binary:copy(Path), Client, erlang:monotonic_time(second)}.

resume(Scope, #{options := #{websocket_resume := true, websocket_resume_attempts := Limit}}) ->
    hornbeam_resume:new(Scope, Limit);
resume(_Scope, _Mount) ->
    undefined.

await_answer(Timeout, Req, #socket{number = Number, worker = Worker} = Socket) ->
    receive
        {stream, Number, Frame} ->
            answered(hornbeam_answer:read(Frame), Frame, Req, Socket);
        client_ended ->
            refused(400, Req, Socket);
        {'DOWN', Worker, process, _, _} ->
            refused(502, Req, Socket)
    after Timeout ->
        #socket{mount = #{counters := Counters}} = Socket,
        hornbeam_counters:add(timeouts, Counters),
        refused(504, Req, Socket)
    end.

answered({ok, {accept, _, Subprotocol, Headers}}, _Frame, Req, Socket) ->
    accepted(with_headers(Subprotocol, Headers, Req), Socket);
answered({ok, {close, _, _, _}}, _Frame, Req, Socket) ->
    refused(403, Req, Socket);
answered({ok, {response_start, _, _, _, _, _} = Begun}, _Frame, Req, Socket) ->
    #socket{stream = Stream, worker = Worker, mount = Mount} = Socket,
    erlang:demonitor(Worker, [flush]),
    {ok, hornbeam_http_h:respond(Begun, Stream, last(Req), Mount), Mount};
answered({ok, {ended, _, _, _, _}}, _Frame, Req, Socket) ->
    refused(500, Req, Socket);
answered(Wrong, Frame, Req, #socket{stream = Stream} = Socket) ->
    hornbeam_stream:violated(Stream, hornbeam_answer:fault(Wrong), Frame),
    refused(500, Req, Socket).

%% The app learns of the refusal when this process ends.
refused(Status, Req, #socket{mount = Mount}) ->
    {ok, hornbeam_response:refuse(Status, last(Req)), Mount}.

with_headers(Subprotocol, AppHeaders, Req0) ->
    Protocol = [{<<"sec-websocket-protocol">>, Subprotocol} || Subprotocol =/= undefined],
    {Headers, Req} = hornbeam_headers:response(Protocol ++ AppHeaders, Req0),
    cowboy_req:set_resp_headers(Headers, Req).

accepted(Req, Socket) ->
    #socket{stream = Stream, worker = Worker, mount = Mount} = Socket,
    erlang:demonitor(Worker, [flush]),
    hornbeam_stream:hand_over(Stream, connection(Req)),
    {Engine, Options} = engine(Req, Mount),
    {Engine, Req, Socket#socket{worker = undefined}, Options}.

%% Over HTTP/2 it is always Cowboy's.
engine(#{version := 'HTTP/1.1'}, #{options := #{websocket_engine := hornbeam}} = Mount) ->
    {hornbeam_websocket, hornbeam_options(Mount)};
engine(Req, #{options := Options}) ->
    {cowboy_websocket, cowboy_options(cowboy_req:version(Req), Options)}.

hornbeam_options(#{options := Options, counters := Counters}) ->
    #{websocket_max_frame_size := Max, websocket_max_frame_rate := Rate,
      websocket_compress := Compress, websocket_timeout := Timeout} = Options,
    #{max_frame_size => Max, max_frame_rate => Rate, compress => Compress, active_n => ?READS,
      idle_timeout => Timeout, counters => Counters}.

%% Over HTTP/2 a WebSocket is a stream and stays in its request process.
connection(#{version := 'HTTP/2'}) -> self();
connection(#{pid := Connection}) -> Connection.

http2(#{version := 'HTTP/2'} = Req) -> maps:with([pid, streamid], Req);
http2(_Req) -> undefined.

cowboy_options(Version, #{websocket_max_frame_size := Max} = Options) ->
    %% Python's decoder checks the text (and answers 1007): cheaper than Cowlib's check.
    #{max_frame_size => Max, validate_utf8 => false, active_n => ?READS,
      compress => Version =:= 'HTTP/1.1' andalso maps:get(websocket_compress, Options),
      idle_timeout => maps:get(websocket_timeout, Options)}.

%% The connection.

%% @private
-spec websocket_init(#socket{}) -> {[], #socket{}, hibernate}.
websocket_init(#socket{stream = Stream, mount = #{counters := Counters} = Mount} = Socket) ->
    hornbeam_counters:add(websockets, Counters),
    Worker = hornbeam_stream:monitor(Stream),
    hornbeam_stream:bind(Stream),
    ping_later(Mount),
    Id = hornbeam_connections:enter(),
    Opened = Socket#socket{worker = Worker, id = Id},
    hornbeam_telemetry:execute([hornbeam, websocket, open], #{count => 1}, metadata(Opened)),
    self() ! watch_end,
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

%% @private
-spec websocket_handle(term(), #socket{}) -> {cowboy_websocket:commands(), #socket{}}.
websocket_handle({text, Data}, Socket) ->
    received(text, Data, Socket);
websocket_handle({binary, Data}, Socket) ->
    received(binary, Data, Socket);
websocket_handle(_PingOrPong, Socket) ->
    {[], Socket}.

received(Kind, Data, Socket) ->
    #socket{credit = {Bytes, Messages}, mount = #{options := Options}} = Socket,
    #{websocket_max_frame_size := Max} = Options,
    Size = byte_size(Data),
    case Size =< Max of
        true ->
            Passed = pass_on(Kind, Data, Socket),
            paused_if_spent(Passed#socket{credit = {Bytes - Size, Messages - 1},
                                          came = more(1, Size, Passed#socket.came)},
                            Bytes, Messages);
        false ->
            %% Cowboy measures a compressed message before it is inflated.
            close(1009, <<"message too big">>, [], Socket)
    end.

more(Messages, Bytes, {AllMessages, AllBytes}) ->
    {AllMessages + Messages, AllBytes + Bytes}.

pass_on(Kind, Data, #socket{resume = undefined} = Socket) ->
    write(Kind, Data, Socket),
    Socket;
pass_on(Kind, Data, #socket{resume = Resume, phase = Phase} = Socket) ->
    _ = [write(Kind, Data, Socket) || Phase =:= open],
    Socket#socket{resume = hornbeam_resume:received(Kind, Data, Resume)}.

write(text, Data, #socket{stream = Stream, number = Number}) ->
    hornbeam_stream:write(Stream, hornbeam_wire:receive_text(Number, Data));
write(binary, Data, #socket{stream = Stream, number = Number}) ->
    hornbeam_stream:write(Stream, hornbeam_wire:receive_bytes(Number, Data)).

%% Out of credit: leave the rest to TCP, and do not take the silence for the client's.
paused_if_spent(#socket{credit = {Bytes, Messages}} = Socket, BytesBefore, MessagesBefore)
        when Bytes =< 0 orelse Messages =< 0, BytesBefore > 0, MessagesBefore > 0 ->
    {[{active, false}, {set_options, #{idle_timeout => infinity}}], Socket};
paused_if_spent(Socket, _BytesBefore, _MessagesBefore) ->
    {[], Socket}.

%% @private
-spec websocket_info(term(), #socket{}) -> {cowboy_websocket:commands(), #socket{}}.
websocket_info({stream, Number, Frame}, #socket{number = Number} = Socket) ->
    drain(Frame, [], ?DRAIN, Socket);
websocket_info({forward, Outbox, Frame}, Socket) ->
    drain_next([Frame], ?DRAIN - 1, forwarded(Outbox, Frame, Socket));
websocket_info({overflow, _Outbox}, #socket{mount = #{counters := Counters}} = Socket) ->
    hornbeam_counters:add(slow_clients_closed, Counters),
    close(1013, <<"too slow">>, [], Socket);
websocket_info({fetch, Outbox}, Socket) ->
    fetched(hornbeam_outbox:fetch(Outbox), Outbox, Socket);
websocket_info({ask_when_sent, Message}, #socket{http2 = Ref} = Socket) ->
    hornbeam_http2_stream:tell_when_sent(Message, Ref),
    {[], Socket};
websocket_info(settle, #socket{tcp = Tcp} = Socket) ->
    settle_unless_slow(hornbeam_connection:unsent(Tcp), Socket);
websocket_info(repay, #socket{tcp = Tcp} = Socket) ->
    {[], repay_unless_slow(hornbeam_connection:unsent(Tcp), Socket)};
websocket_info(ping, #socket{mount = Mount} = Socket) ->
    ping_later(Mount),
    {[ping], Socket};
websocket_info(watch_end, Socket) ->
    watch_end(Socket),
    {[], Socket};
websocket_info(client_ended, Socket) ->
    ended(is_spent(Socket), Socket);
websocket_info({'DOWN', Worker, process, _, Reason}, #socket{worker = Worker} = Socket) ->
    lost(why(Reason), Socket);
websocket_info({retiring, Number, Why}, #socket{number = Number, phase = open} = Socket) ->
    {[], move(atom_to_binary(Why), Socket)};
websocket_info(resume, #socket{phase = {pausing, Why}} = Socket) ->
    {[], wait(Why, Socket)};
websocket_info({hornbeam_pool, Ref, Answer}, #socket{phase = {waiting, Why, Ref}} = Socket) ->
    given(Answer, Why, Socket);
websocket_info({'DOWN', Ref, process, _, _}, #socket{phase = {waiting, Why, Ref}} = Socket) ->
    given({error, no_worker}, Why, Socket);
websocket_info({timeout, Deadline, resume}, #socket{deadline = Deadline} = Socket) ->
    late(Socket);
websocket_info(going_away, Socket) ->
    close(1001, <<"the server stops">>, [], Socket);
websocket_info({kick, Code, Reason}, #socket{mount = #{counters := Counters}} = Socket) ->
    hornbeam_counters:add(kicked, Counters),
    close(Code, Reason, [], Socket);
websocket_info({describe, Ref}, Socket) ->
    Ref ! {description, Ref, description(Socket)},
    {[], Socket};
websocket_info(_Stray, Socket) ->
    {[], Socket}.

%% Over HTTP/2 a client that is gone has ended its half of the stream. Frames of it that wait for
%% credit come first; they, or the end itself, may say that it closed.
watch_end(#socket{http2 = undefined}) -> ok;
watch_end(#socket{http2 = Ref}) -> hornbeam_http2_stream:tell_when_ended(Ref).

ended(true, Socket) ->
    {[], Socket};
ended(false, Socket) ->
    {[{close, 1002, <<>>}], Socket#socket{closed = {1006, <<>>}}}.

is_spent(#socket{credit = {Bytes, Messages}}) ->
    Bytes =< 0 orelse Messages =< 0.

%% What others sent is settled like what the app said: after it is written.
forwarded(Outbox, {_, Data}, #socket{forwarded = Forwarded, went = Went} = Socket) ->
    Size = byte_size(Data),
    {Messages, Bytes} = unsettled(Forwarded, Socket),
    Socket#socket{forwarded = {Outbox, Messages + 1, Bytes + Size}, went = more(1, Size, Went)}.

unsettled(none, Socket) ->
    after_write(settle, Socket),
    {0, 0};
unsettled({_Outbox, Messages, Bytes}, _Socket) ->
    {Messages, Bytes}.

settle_unless_slow(Unsent, Socket) when Unsent > ?SLOW ->
    _ = erlang:send_after(?LOOK_AGAIN, self(), settle),
    {[], Socket};
settle_unless_slow(_Unsent, #socket{forwarded = {Outbox, Messages, Bytes}} = Socket) ->
    Frames = hornbeam_outbox:written(Outbox, Messages, Bytes),
    fetched(Frames, Outbox, Socket#socket{forwarded = none}).

fetched([], _Outbox, Socket) ->
    {[], Socket};
fetched(Frames, Outbox, #socket{forwarded = Forwarded, went = Went} = Socket) ->
    {Messages, Bytes} = unsettled(Forwarded, Socket),
    Size = lists:sum([byte_size(Data) || {_, Data} <- Frames]),
    {Frames, Socket#socket{forwarded = {Outbox, Messages, Bytes},
                           went = more(length(Frames), Size, Went)}}.

%% All that the app and others have said by now goes out together.
drain(Frame, Commands, Left, Socket0) ->
    case said(hornbeam_answer:read(Frame), Frame, Commands, Socket0) of
        {closed, Result} -> Result;
        {open, More, Socket} -> drain_next(More, Left - 1, Socket)
    end.

drain_next(Commands, 0, Socket) ->
    {lists:reverse(Commands), Socket};
drain_next(Commands, Left, #socket{number = Number} = Socket) ->
    receive
        {stream, Number, Frame} ->
            drain(Frame, Commands, Left, Socket);
        {forward, Outbox, Frame} ->
            drain_next([Frame | Commands], Left - 1, forwarded(Outbox, Frame, Socket))
    after 0 ->
        {lists:reverse(Commands), Socket}
    end.

said({ok, {send_text, _, Text}}, _Frame, Commands, Socket) ->
    {open, [{text, Text} | Commands], spent(byte_size(Text), Socket)};
said({ok, {send_bytes, _, Bytes}}, _Frame, Commands, Socket) ->
    {open, [{binary, Bytes} | Commands], spent(byte_size(Bytes), Socket)};
said({ok, {credit, _, Bytes, Messages}}, Frame, Commands, Socket) ->
    credited(Bytes, Messages, Frame, Commands, Socket);
said({ok, {accept, _, _, _}}, _Frame, Commands, #socket{phase = reopening} = Socket) ->
    {open, Commands, reopened(Socket)};
said({ok, Refusal}, _Frame, Commands, #socket{phase = reopening} = Socket)
        when element(1, Refusal) =:= response_start ->
    {closed, close(1008, <<"the app does not go on">>, Commands, Socket)};
said({ok, {moved, _}}, _Frame, Commands, #socket{phase = {moving, Why}} = Socket) ->
    {open, Commands, moved(Why, Socket)};
said({ok, {close, _, Code, Reason}}, _Frame, Commands, Socket) ->
    {closed, close(Code, Reason, Commands, Socket)};
said({ok, {ended, _, undefined, _, _}}, _Frame, Commands, Socket) ->
    {closed, close(1000, <<>>, Commands, Socket)};
said({ok, {ended, _, _Class, _, _}}, _Frame, Commands, Socket) ->
    {closed, close(1011, <<"internal error">>, Commands, Socket)};
said(Wrong, Frame, Commands, Socket) ->
    violated(hornbeam_answer:fault(Wrong), Frame, Commands, Socket).

violated(Reason, Frame, Commands, #socket{stream = Stream} = Socket) ->
    hornbeam_stream:violated(Stream, Reason, Frame),
    {closed, close(1011, <<"internal error">>, Commands, Socket)}.

%% Another worker.

taken(_Messages, #socket{resume = undefined} = Socket) ->
    Socket;
taken(Messages, #socket{resume = Resume} = Socket) ->
    Socket#socket{resume = hornbeam_resume:taken(Messages, Resume)}.

why({shutdown, hung}) -> <<"hung">>;
why(_Reason) -> <<"died">>.

lost(_Why, #socket{resume = undefined} = Socket) ->
    close(1012, <<"the app's process ended">>, [], Socket);
lost(Why, #socket{resume = Resume} = Socket) ->
    case hornbeam_resume:lost(now_ms(), Resume) of
        {again, Pause, Again} ->
            _ = erlang:send_after(Pause, self(), resume),
            {[], until_deadline(Socket#socket{phase = {pausing, Why}, resume = Again})};
        give_up ->
            close(1011, <<"the app's process ends again and again">>, [], Socket)
    end.

move(_Why, #socket{resume = undefined} = Socket) ->
    Socket;
move(Why, #socket{stream = Stream} = Socket) ->
    hornbeam_stream:move(Stream),
    Socket#socket{phase = {moving, Why}}.

moved(Why, #socket{worker = Worker} = Socket) ->
    true = erlang:demonitor(Worker, [flush]),
    wait(Why, until_deadline(Socket#socket{worker = undefined})).

%% One deadline for all tries, until an app has accepted.
until_deadline(#socket{deadline = undefined, mount = #{options := Options}} = Socket) ->
    #{websocket_resume_timeout := Timeout} = Options,
    Socket#socket{deadline = erlang:start_timer(Timeout, self(), resume),
                  resume = hornbeam_resume:away(now_ms(), Socket#socket.resume)};
until_deadline(Socket) ->
    Socket.

late(#socket{mount = #{counters := Counters}} = Socket) ->
    hornbeam_counters:add(resumes_late, Counters),
    close(1012, <<"no process of the app goes on">>, [], Socket).

wait(Why, #socket{mount = #{pool := Pool}} = Socket) ->
    Socket#socket{phase = {waiting, Why, hornbeam_pool:wait(Pool)}}.

given({ok, Handle}, Why, #socket{resume = Resume0} = Socket) ->
    Resume = hornbeam_resume:tried(Resume0),
    Scope = hornbeam_resume:scope(Resume),
    Attempt = hornbeam_resume:attempt(Resume),
    Stream = hornbeam_stream:reopen(Handle, fun(Number, Topics) ->
        hornbeam_wire:reopen_websocket(Number, Scope, Attempt, Why, Topics)
    end),
    {[], Socket#socket{stream = Stream, number = hornbeam_stream:number(Stream), resume = Resume,
                       worker = hornbeam_stream:monitor(Stream), sent = {0, 0},
                       phase = reopening}};
given({error, no_worker}, _Why, Socket) ->
    close(1012, <<"no process of the app goes on">>, [], Socket);
given({error, _QueueIsFullOrLate}, Why, Socket) ->
    _ = erlang:send_after(?WAIT_AGAIN, self(), resume),
    {[], Socket#socket{phase = {pausing, Why}}}.

reopened(#socket{stream = Stream, resume = Resume0, deadline = Deadline} = Socket) ->
    hornbeam_stream:bind(Stream),
    lists:foreach(fun({Kind, Data}) -> write(Kind, Data, Socket) end,
                  hornbeam_resume:untaken(Resume0)),
    _ = erlang:cancel_timer(Deadline),
    Resume = hornbeam_resume:resumed(now_ms(), Resume0),
    tell_of_resume(Resume, Socket),
    Socket#socket{phase = open, deadline = undefined, resume = Resume}.

tell_of_resume(Resume, #socket{mount = #{counters := Counters}} = Socket) ->
    hornbeam_counters:add(resumes, Counters),
    hornbeam_telemetry:execute([hornbeam, websocket, resume],
                               #{gap_ms => hornbeam_resume:gap(Resume),
                                 attempt => hornbeam_resume:attempt(Resume)},
                               metadata(Socket)).

now_ms() -> erlang:monotonic_time(millisecond).

%% The account is settled by a message to ourselves, which comes after the write. The write does
%% not wait for the client (see the listener's high_watermark), so that a client which does not
%% read is still heard, pinged and closed.
spent(Size, #socket{sent = {Bytes, Messages}} = Socket) ->
    Sent = {Bytes + Size, Messages + 1},
    {AllBytes, AllMessages} = hornbeam_stream:window(),
    case {is_due(Sent, AllBytes, AllMessages), is_due({Bytes, Messages}, AllBytes, AllMessages)} of
        {true, false} -> after_write(repay, Socket);
        _ -> ok
    end,
    Socket#socket{sent = Sent, went = more(1, Size, Socket#socket.went)}.

%% Have ourselves sent a message when what we say until now is written: it is behind that in our
%% mailbox or, over HTTP/2, in that of the connection, which keeps it while the client's window
%% is full. What this callback returns is written after the first and before the second.
after_write(Message, #socket{http2 = undefined}) ->
    self() ! Message,
    ok;
after_write(Message, _Http2) ->
    self() ! {ask_when_sent, Message},
    ok.

is_due({Bytes, Messages}, AllBytes, AllMessages) ->
    Bytes >= AllBytes div 2 orelse Messages >= AllMessages div 2.

repay_unless_slow(Unsent, Socket) when Unsent > ?SLOW ->
    _ = erlang:send_after(?LOOK_AGAIN, self(), repay),
    Socket;
repay_unless_slow(_Unsent, Socket) ->
    repay(Socket).

repay(#socket{stream = Stream, sent = {Bytes, Messages}} = Socket) ->
    hornbeam_stream:credit(Stream, Bytes, Messages),
    Socket#socket{sent = {0, 0}}.

%% The app gives back what it has taken, and that is never more than the window.
credited(MoreBytes, MoreMessages, Frame, Commands, #socket{credit = Credit0} = Socket0) ->
    #socket{stream = Stream} = Socket0,
    {Bytes0, Messages0} = Credit0,
    Credit = {Bytes0 + MoreBytes, Messages0 + MoreMessages},
    hornbeam_stream:take_credit(Stream),
    case hornbeam_stream:is_within_window(Credit) of
        true -> credited(Credit0, Commands, taken(MoreMessages, Socket0#socket{credit = Credit}));
        false -> violated(unearned_credit, Frame, Commands, Socket0)
    end.

credited({Bytes0, Messages0}, Commands, #socket{credit = {Bytes, Messages}} = Socket) ->
    WasSpent = Bytes0 =< 0 orelse Messages0 =< 0,
    case WasSpent andalso Bytes > 0 andalso Messages > 0 of
        true ->
            #socket{mount = #{options := #{websocket_timeout := Timeout}}} = Socket,
            Resume = [{set_options, #{idle_timeout => Timeout}}, {active, true}],
            read_on(Socket),
            {open, Resume ++ Commands, Socket};
        false ->
            {open, Commands, Socket}
    end.

%% Cowboy before 2.14 forgets to ask its connection for more when it becomes active again.
read_on(#socket{http2 = undefined}) ->
    ok;
read_on(#socket{http2 = Ref} = Socket) ->
    cowboy_req:cast({read_body, self(), make_ref(), auto, infinity}, Ref),
    watch_end(Socket).

close(Code, Reason, Commands, Socket) ->
    {lists:reverse(Commands, [{close, Code, Reason}]), Socket#socket{closed = {Code, Reason}}}.

%% For whoever asks.

description(#socket{about = {Path, Peer, Opened}, came = {MessagesIn, BytesIn},
                    went = {MessagesOut, BytesOut}} = Socket) ->
    #socket{stream = Stream, phase = Phase, tcp = Tcp, credit = {_, Credit}} = Socket,
    {message_queue_len, Mailbox} = process_info(self(), message_queue_len),
    {_, Window} = hornbeam_stream:window(),
    #{path => Path, peer => Peer, worker => hornbeam_stream:worker_of(Stream),
      state => state(Phase), seconds => erlang:monotonic_time(second) - Opened,
      messages_in => MessagesIn, bytes_in => BytesIn,
      messages_out => MessagesOut, bytes_out => BytesOut,
      %% what waits: for the app to take it, for this process, for the client to read it (bytes)
      untaken => max(0, Window - Credit), mailbox => Mailbox,
      unsent => hornbeam_connection:unsent(Tcp), resume => last_resume(Socket)}.

state(open) -> open;
state(_Phase) -> resuming.

last_resume(#socket{resume = undefined}) ->
    none;
last_resume(#socket{resume = Resume}) ->
    case {hornbeam_resume:attempt(Resume), hornbeam_resume:last(Resume)} of
        {0, _} -> none;
        {Attempt, undefined} -> #{attempt => Attempt};
        {Attempt, Since} ->
            #{attempt => Attempt, seconds => (now_ms() - Since) div 1000,
              gap_ms => hornbeam_resume:gap(Resume)}
    end.

%% The end.

%% @private
-spec terminate(term(), cowboy_req:req(), term()) -> ok.
terminate(Reason, _Req, #socket{id = Id} = Socket) ->
    _ = [hornbeam_connections:leave(Id) || Id =/= undefined],
    How = how_it_ended(Reason, Socket),
    tell_app(How, Socket),
    tell_of_close(How, Socket),
    linger(Reason, Socket);
terminate(_Reason, _Req, _NotUpgraded) ->
    ok.

tell_app(_How, #socket{phase = {waiting, _, Ref}, mount = #{pool := Pool}}) ->
    hornbeam_pool:forget(Pool, Ref);
tell_app(_How, #socket{phase = {pausing, _}}) ->
    ok;
tell_app({Code, Text}, #socket{stream = Stream, number = Number}) ->
    hornbeam_stream:write(Stream, hornbeam_wire:disconnect(Number, Code, Text)),
    hornbeam_stream:closed(Stream).

tell_of_close({Code, _Text}, #socket{about = {_, _, Opened}} = Socket) ->
    #socket{came = {MessagesIn, BytesIn}, went = {MessagesOut, BytesOut}} = Socket,
    hornbeam_telemetry:execute([hornbeam, websocket, close],
                               #{seconds => erlang:monotonic_time(second) - Opened,
                                 messages_in => MessagesIn, bytes_in => BytesIn,
                                 messages_out => MessagesOut, bytes_out => BytesOut},
                               (metadata(Socket))#{code => Code}).

linger({error, closed}, _Socket) -> ok;
linger(_Reason, #socket{http2 = undefined, tcp = Tcp}) -> hornbeam_connection:linger(Tcp);
linger(_Reason, _Http2) -> ok.

%% The code that the app gets: the client's, else ours, else RFC 6455's for a missing close.
how_it_ended({remote, Code, Text}, _Socket) -> {Code, Text};
how_it_ended(remote, _Socket) -> {1005, <<>>};
how_it_ended(_Reason, #socket{closed = {Code, Text}}) -> {Code, Text};
how_it_ended({error, badframe}, _Socket) -> {1002, <<>>};
how_it_ended({error, badencoding}, _Socket) -> {1007, <<>>};
how_it_ended({error, badrate}, _Socket) -> {1008, <<>>};
how_it_ended({error, badsize}, _Socket) -> {1009, <<>>};
how_it_ended({crash, _, _}, _Socket) -> {1011, <<>>};
how_it_ended(_Reason, _Socket) -> {1006, <<>>}.
