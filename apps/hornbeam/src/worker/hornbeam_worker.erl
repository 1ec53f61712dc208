%% One worker: a Python process of the pool, and the Erlang process that owns its port.
%%
%%            hello, ready         retire/4            no stream is left,
%%   starting ───────────▶ ready ─────────▶ retiring ─────────┐ or drain_timeout is over
%%       │ failed, late     │ stop/2             │ stop/2       ▼
%%       │                  └────────────────────┴────────▶ draining
%%       │                  exit, bad bytes, hung, too large    │ stopped, or its time is over
%%       └─────────────────────────▶ end ◀──────────────────────┘
%%
%% In `ready' it routes: it looks at the code and the stream's number of what Python says and
%% sends the rest on, undecoded, to the process that owns the stream. It never waits for the port
%% (a full pipe would stop the routing): the linked writer writes, but for the replies to quick ops,
%% which this process tries itself. When it ends, for any
%% reason, the Python process is dead, what that has started ends (hornbeam_worker_port:guard/1),
%% and whoever monitors it learns why:
%% `{shutdown, Why}' with stopped, hung, failed, {exited, Status}, {broke_the_wire, _} or
%% {too_large, Bytes}.
%%
%% `retiring' is `ready' without new streams: the WebSockets' connections are told
%% `{retiring, Number, Reason}', batch by batch, and may move to another worker; requests finish.
%%
%% A heartbeat a second asks whether Python's loop turns. A worker that is late with its answer
%% gets new streams last; one that does not answer in worker_hang_timeout is hung: its threads'
%% stacks are logged, then it is killed.
-module(hornbeam_worker).
-behaviour(gen_statem).

-include_lib("kernel/include/logger.hrl").
-include("../wire/hornbeam_wire.hrl").

-export([start_link/1, adopt/2, stop/2, retire/4, kill/2, describe/1, owners/2, process_down/2]).
-export([init/1, callback_mode/0, starting/3, ready/3, retiring/3, draining/3,
         terminate/3]).
-export_type([start/0, retirement/0]).

-type start() :: #{pool := pid(), name := binary(), python := file:filename(),
                   api := module(), options := hornbeam_config:app_options()}.

-type retirement() :: recycled | reloaded | shrunk.
%% Why a worker is given up in an orderly way: it has done enough, the code was loaded anew, fewer
%% are wanted.

-record(data, {
    start :: start(),
    port :: port(),
    %% undefined once it has exited
    os_pid :: pos_integer() | undefined,
    %% ends what it has started
    guard :: port() | none,
    %% its end is known in two parts that come in any order: how it exited, and that all it
    %% wrote has been read
    exit = running :: running | {status, non_neg_integer()},
    eof = false :: boolean(),
    writer :: pid(),
    handle :: hornbeam_stream:handle(),
    buffer :: hornbeam_wire:buffer(),
    events :: hornbeam_worker_events:events(),
    streams :: hornbeam_worker_streams:streams(),
    places = hornbeam_worker_places:new() :: hornbeam_worker_places:places(),
    calls = hornbeam_worker_calls:new() :: hornbeam_worker_calls:calls(),
    ops :: hornbeam_worker_ops:ops(),
    log :: hornbeam_worker_log:budget(),
    %% bytes that Python has written and has not been given back as credit
    unpaid = 0 :: non_neg_integer(),
    %% all bytes that were taken out of the mailbox, and what came since the rest was measured
    read = 0 :: non_neg_integer(),
    unmeasured = 0 :: non_neg_integer(),
    started :: integer(),
    pulse :: hornbeam_worker_pulse:pulse(),
    dump = none :: hornbeam_os_process:dump(),
    %% why it retires, and what it has to stop once it has drained (ms)
    retirement :: {retirement(), non_neg_integer()} | undefined,
    %% what hello and ready told about the process; undefined before hello
    about :: #{atom() => term()} | undefined
}).

%% Bytes that Python may write before it is given more credit.
-define(WORKER_WINDOW, 8388608).

%% Bytes that may wait in the mailbox: the window, and what may be written without credit, which
%% is one message that overdraws it and ops. It is measured after so many bytes; a read counts as
%% 1 KiB at least.
-define(BACKLOG, (?WORKER_WINDOW + 2 * 134217728)).
-define(MEASURE, 65536).
-define(LEAST_READ, 1024).

%% Bytes of a broken message that the log shows.
-define(SHOWN, 64).

%% With one part of the end known, the other is waited for so long (ms): a process may close its
%% pipe and live on, or leave it to a child.
-define(END_SLACK, 500).

%% Python is asked to stop within a time; this long past it (ms) we wait for it to be gone.
-define(STOP_SLACK, 1000).

%% How many WebSockets are told at a time that the worker retires, and the pause after them (ms).
-define(BATCH, 100).
-define(BATCH_PAUSE, 50).

%% How often, and how many times, the stacks of a hung process are looked for (ms).
-define(STACK_PAUSE, 50).
-define(STACK_TRIES, 20).

%% @doc Start a worker. It reports to its pool: `{worker_ready, Pid, Handle, OsPid}', or
%% `{worker_failed, Pid, Reason}' before it ends.
-spec start_link(start()) -> {ok, pid()} | {error, term()}.
start_link(Start) ->
    gen_statem:start_link(?MODULE, Start, []).

%% @doc Have a worker report to another process from now on, since the one it had is dead. That gets
%% `{worker_adopted, Worker, State, Handle, OsPid}', where State tells how far the worker has come.
-spec adopt(pid(), Pool :: pid()) -> ok.
adopt(Worker, Pool) ->
    Worker ! {adopt, Pool},
    ok.

%% @doc Ask for an orderly end within `Timeout' milliseconds.
-spec stop(pid(), non_neg_integer()) -> ok.
stop(Worker, Timeout) ->
    gen_statem:cast(Worker, {stop, Timeout}).

%% @doc Have a worker end once its streams have, or after `Drain' milliseconds; then it has `Stop'
%% milliseconds for an orderly end.
-spec retire(pid(), retirement(), Drain :: non_neg_integer(), Stop :: non_neg_integer()) -> ok.
retire(Worker, Reason, Drain, Stop) ->
    gen_statem:cast(Worker, {retire, Reason, Drain, Stop}).

%% @doc End a worker at once; it exits with `{shutdown, Reason}'.
-spec kill(pid(), Reason :: term()) -> ok.
kill(Worker, Reason) ->
    gen_statem:cast(Worker, {kill, Reason}).

%% @doc What to tell a person about this worker; error when it has ended.
-spec describe(pid()) -> {ok, #{atom() => term()}} | error.
describe(Worker) ->
    ask(Worker, describe).

%% @doc Tell that a process has died of which parts may own streams, and has not said so itself.
-spec process_down(pid(), Worker :: pid()) -> ok.
process_down(Pid, Worker) ->
    Worker ! {process_down, Pid},
    ok.

%% @doc The owners of streams of a kind now; error when the worker has ended.
-spec owners(hornbeam_stream:kind(), pid()) -> {ok, [hornbeam_stream:owner()]} | error.
owners(Kind, Worker) ->
    ask(Worker, {owners, Kind}).

ask(Worker, Question) ->
    try
        {ok, gen_statem:call(Worker, Question, 5000)}
    catch
        exit:_ -> error
    end.

%% @private
-spec callback_mode() -> gen_statem:callback_mode_result().
callback_mode() ->
    state_functions.

%% @private
-spec init(start()) -> gen_statem:init_result(starting).
init(#{python := Python, options := #{startup_timeout := Timeout} = Options} = Start) ->
    process_flag(trap_exit, true),
    case hornbeam_worker_port:open(Python, Options) of
        {ok, Port} ->
            {ok, starting, new(Port, Start), [{{timeout, startup}, Timeout, {late, Timeout}}]};
        {error, Reason} ->
            {stop, {shutdown, {port, Reason}}}
    end.

new(Port, #{pool := Pool, options := #{worker_hang_timeout := HangTimeout}} = Start) ->
    Counts = hornbeam_stream:new_counts(),
    Ops = hornbeam_worker_ops:new(),
    Writer = hornbeam_worker_writer:start_link(Port, Ops, Counts),
    Events = hornbeam_worker_events:new(Writer),
    Parts = hornbeam_worker_parts:new(Pool),
    OsPid = hornbeam_worker_port:os_pid(Port),
    #data{start = Start, port = Port, os_pid = OsPid, guard = hornbeam_worker_port:guard(OsPid),
          writer = Writer, handle = handle(Writer, Counts, Parts, Events, Start), events = Events,
          ops = Ops, log = hornbeam_worker_log:new(now_ms()),
          pulse = hornbeam_worker_pulse:new(HangTimeout),
          buffer = hornbeam_wire:new_buffer(), streams = hornbeam_worker_streams:new(Parts),
          started = erlang:monotonic_time(second)}.

handle(Writer, Counts, Parts, Events, #{api := Api, options := Options}) ->
    hornbeam_stream:handle(#{worker => self(), writer => Writer,
                             limit => maps:get(worker_connections, Options), counts => Counts,
                             parts => Parts, adoption => {Api, Events}}).

%% @private
-spec starting(gen_statem:event_type(), term(), #data{}) ->
    gen_statem:event_handler_result(atom()).
starting({timeout, startup}, Late, Data) ->
    failed(Late, Data);
starting(Type, Event, Data) ->
    in_any_state(Type, Event, starting, Data).

%% @private
-spec ready(gen_statem:event_type(), term(), #data{}) ->
    gen_statem:event_handler_result(atom()).
ready(cast, {retire, Reason, Drain, Stop}, #data{streams = Streams, handle = Handle} = Data) ->
    hornbeam_stream:retires(Handle),
    Sockets = hornbeam_worker_streams:sockets(Streams),
    drained({next_state, retiring, Data#data{retirement = {Reason, Stop}},
             [{{timeout, drain}, Drain, over}, {{timeout, tell}, 0, Sockets}]});
ready(Type, Event, Data) ->
    in_any_state(Type, Event, ready, Data).

%% @private
-spec retiring(gen_statem:event_type(), term(), #data{}) ->
    gen_statem:event_handler_result(atom()).
retiring({timeout, tell}, Sockets, Data) ->
    tell(Sockets, Data);
retiring({timeout, drain}, over, Data) ->
    Left = leave_sockets(Data),
    {next_state, draining, Left, stop_actions(Left)};
retiring(cast, {retire, _, _, _}, _Data) ->
    keep_state_and_data;
retiring(Type, Event, Data) ->
    drained(in_any_state(Type, Event, retiring, Data)).

%% @private
-spec draining(gen_statem:event_type(), term(), #data{}) ->
    gen_statem:event_handler_result(atom()).
draining({timeout, drain}, over, Data) ->
    ?LOG_WARNING(#{what => worker_killed_after_shutdown_timeout, worker => name(Data)},
                 #{domain => [hornbeam]}),
    {stop, {shutdown, stopped}, Data};
draining(cast, {stop, _}, _Data) ->
    keep_state_and_data;
draining(cast, {retire, _, _, _}, _Data) ->
    keep_state_and_data;
draining({timeout, OfAnotherState}, _, _Data)
        when OfAnotherState =:= startup; OfAnotherState =:= beat; OfAnotherState =:= late;
             OfAnotherState =:= tell ->
    keep_state_and_data;
draining(Type, Event, Data) ->
    in_any_state(Type, Event, draining, Data).

in_any_state(info, {Port, {data, Chunk}}, State, #data{port = Port} = Data) ->
    received(Chunk, State, Data);
in_any_state(info, {place, Place, Owner}, _State, #data{places = Places} = Data) ->
    {keep_state, Data#data{places = hornbeam_worker_places:given(Place, Owner, Places)}};
in_any_state(info, {open, Place, Kind, Number, Owner, Client, Account, Op}, _State, Data) ->
    {keep_state, opened(Kind, Number, Owner, Client, Account, Op, placed(Place, Data))};
in_any_state(info, {claimed, Place}, _State, Data) ->
    {keep_state, placed(Place, Data)};
in_any_state(info, room, _State, #data{handle = Handle, start = #{pool := Pool}} = Data) ->
    hornbeam_stream:tell_of_room(Handle, Pool),
    {keep_state, Data};
in_any_state(info, {give_back, Place}, _State, Data) ->
    {keep_state, given_back(Place, Data)};
in_any_state(info, {{'DOWN', {place, Place}}, _Ref, process, _Pid, _Reason}, _State, Data) ->
    {keep_state, given_back(Place, Data)};
in_any_state(info, {call, Call, Caller, Called}, _State, Data) ->
    {keep_state, called(Call, Caller, Called, Data)};
in_any_state(info, watch_calls, _State, #data{calls = Calls} = Data) ->
    {keep_state, Data#data{calls = hornbeam_worker_calls:watch(Calls)}};
in_any_state(info, {more, Call, Items}, _State, Data) ->
    {keep_state, more(Call, Items, Data)};
in_any_state(info, {cancel, Call}, _State, Data) ->
    {keep_state, cancelled(Call, Data)};
in_any_state(info, {{'DOWN', {call, Call}}, _Ref, process, _Pid, _Reason}, _State, Data) ->
    {keep_state, cancelled(Call, Data)};
in_any_state(info, {{'DOWN', Number}, Ref, process, _Pid, _Reason}, _State,
             #data{streams = Streams} = Data) ->
    {keep_state, lost(Number, hornbeam_worker_streams:owner_down(Number, Ref, Streams), Data)};
in_any_state(info, {hand_over, Number, Owner, From}, _State, #data{streams = Streams} = Data) ->
    From ! {handed_over, Number},
    Moving = hornbeam_worker_streams:hand_over(Number, Owner, From, Streams),
    {keep_state, Data#data{streams = Moving}};
in_any_state(info, {bind, Number, Owner}, _State, Data) ->
    {keep_state, bound(Number, Owner, Data)};
in_any_state(info, {take_over, Number, Owner}, _State, #data{streams = Streams} = Data) ->
    Taken = hornbeam_worker_streams:take_over(Number, Owner, Streams),
    {keep_state, settled(Data#data{streams = Taken})};
in_any_state(info, {abandoned, Number}, _State, #data{streams = Streams} = Data) ->
    {keep_state, lost(Number, hornbeam_worker_streams:abandoned(Number, Streams), Data)};
in_any_state(info, {process_down, Pid}, _State, #data{streams = Streams} = Data) ->
    {keep_state, all_lost(hornbeam_worker_streams:process_down(Pid, Streams), Data)};
in_any_state(info, {closed, Number}, _State, #data{streams = Streams} = Data) ->
    {keep_state, Data#data{streams = hornbeam_worker_streams:closed(Number, Streams)}};
in_any_state(info, {violated, Reason, Frame}, _State, Data) ->
    violation(Reason, Frame, Data);
in_any_state(info, {Port, {exit_status, Status}}, State, #data{port = Port} = Data) ->
    ended(State, Data#data{exit = {status, Status}, os_pid = undefined});
in_any_state(info, {Port, eof}, State, #data{port = Port} = Data) ->
    ended(State, Data#data{eof = true});
in_any_state({timeout, beat}, beat, _State, Data) ->
    beat(Data);
in_any_state({timeout, late}, late, _State, #data{pulse = Pulse, handle = Handle}) ->
    hornbeam_stream:slow(Handle, hornbeam_worker_pulse:is_late(Pulse)),
    keep_state_and_data;
in_any_state({timeout, stacks}, {Silent, Read, Tries}, _State, Data) ->
    await_stacks(Silent, Read, Tries, Data);
in_any_state({timeout, ending}, over, State, Data) ->
    gone(State, Data);
in_any_state(info, {'EXIT', Port, _Reason}, State, #data{port = Port} = Data) ->
    gone(State, Data);
in_any_state(info, {'EXIT', Guard, _Reason}, _State, #data{guard = Guard} = Data) ->
    {keep_state, Data#data{guard = none}};
in_any_state(info, {'EXIT', _Writer, Reason}, _State, Data) ->
    {stop, Reason, Data};
in_any_state(cast, {stop, Timeout}, _State, Data) ->
    {next_state, draining, Data, stopping(Timeout, Data)};
in_any_state(cast, {retire, _, _, Timeout}, starting, Data) ->
    {next_state, draining, Data, stopping(Timeout, Data)};
in_any_state(cast, {kill, Reason}, _State, Data) ->
    {stop, {shutdown, Reason}, Data};
in_any_state(info, {adopt, Pool}, State, Data) ->
    {keep_state, adopted(Pool, State, Data)};
in_any_state({call, From}, describe, State, Data) ->
    {keep_state_and_data, [{reply, From, description(State, Data)}]};
in_any_state({call, From}, {owners, Kind}, _State, #data{streams = Streams}) ->
    {keep_state_and_data, [{reply, From, hornbeam_worker_streams:owners(Kind, Streams)}]}.

adopted(Pool, State, #data{start = Start, streams = Streams} = Data) ->
    hornbeam_worker_parts:bequeath(Pool, hornbeam_worker_streams:parts(Streams)),
    Pool ! {worker_adopted, self(), State, Data#data.handle, Data#data.os_pid},
    Data#data{start = Start#{pool := Pool}}.

description(State, #data{os_pid = OsPid, handle = Handle, pulse = Pulse} = Data) ->
    #data{started = Started} = Data,
    maps:merge(about(Data),
               #{name => name(Data), os_pid => OsPid, state => State,
                 streams => hornbeam_stream:load(Handle),
                 requests => hornbeam_stream:requests(Handle),
                 messages => hornbeam_stream:messages(Handle),
                 rss => hornbeam_os_process:rss(OsPid),
                 latency => hornbeam_worker_pulse:latency(Pulse),
                 slow => hornbeam_stream:is_slow(Handle),
                 seconds => erlang:monotonic_time(second) - Started}).

about(#data{about = undefined}) -> #{};
about(#data{about = About}) -> About.

%% @private
-spec terminate(term(), atom(), #data{}) -> ok.
terminate(_Reason, _State, #data{streams = Streams, os_pid = OsPid}) ->
    hornbeam_worker_parts:tell_of_end(hornbeam_worker_streams:parts(Streams)),
    _ = [hornbeam_os_process:kill(OsPid) || OsPid =/= undefined],
    ok.

%% What Python says.

received(Chunk, State, Data0) ->
    case measured(byte_size(Chunk), Data0) of
        {ok, Data} -> frames(Chunk, State, Data);
        {error, Reason} -> violation(Reason, Chunk, Data0)
    end.

%% What Python writes comes into the mailbox whether it has credit or not; the port knows how
%% much has come.
measured(Size, #data{read = Read, unmeasured = Unmeasured} = Data)
        when Unmeasured + Size < ?MEASURE ->
    {ok, Data#data{read = Read + Size, unmeasured = Unmeasured + max(Size, ?LEAST_READ)}};
measured(Size, #data{port = Port, read = Read} = Data) ->
    case hornbeam_worker_port:read(Port) - Read of
        Backlog when Backlog > ?BACKLOG -> {error, {overspent, worker_window}};
        _ -> {ok, Data#data{read = Read + Size, unmeasured = 0}}
    end.

frames(Chunk, State, #data{buffer = Buffer0} = Data0) ->
    case hornbeam_wire:frames(Chunk, Buffer0) of
        {ok, Frames, Buffer} ->
            Data = repay(byte_size(Chunk), Data0#data{buffer = Buffer}),
            route_all(urgent_first(Frames, Data), State, Data);
        {error, Reason} ->
            violation(Reason, Chunk, Data0)
    end.

%% An op on which all of the worker's loop waits comes last: Python has written what was to be said
%% before it. If it has nothing to do with that, it need not wait until that is routed. Other ops
%% it does not pass.
urgent_first([_, _ | _] = Frames, Data) ->
    Last = lists:last(Frames),
    case is_op(Last) andalso is_apart(hornbeam_wire:decode(Last), Data) of
        true -> passing(Last, lists:droplast(Frames));
        false -> Frames
    end;
urgent_first(Frames, _Data) ->
    Frames.

passing(Op, Before) ->
    case lists:any(fun is_op/1, Before) of
        true -> Before ++ [Op];
        false -> [Op | Before]
    end.

is_op(Frame) ->
    case hornbeam_wire:route(Frame) of
        {?OP, _} -> true;
        _ -> false
    end.

is_apart({ok, {op, _, _, Op, _}}, #data{start = #{api := Api}}) -> Api:is_apart_from_messages(Op);
is_apart({error, _}, _Data) -> false.

repay(Size, #data{unpaid = Unpaid} = Data) when Unpaid + Size < ?WORKER_WINDOW div 2 ->
    Data#data{unpaid = Unpaid + Size};
repay(Size, #data{unpaid = Unpaid} = Data) ->
    write(hornbeam_wire:credit(0, Unpaid + Size, 0), Data),
    Data#data{unpaid = 0}.

route_all([], State, Data) ->
    {next_state, State, settled(Data)};
route_all([Frame | Frames], State, Data) ->
    case route(hornbeam_wire:route(Frame), Frame, State, Data) of
        {ok, Data1} -> route_all(Frames, State, Data1);
        {ready, Data1} -> became_ready(Frames, Data1);
        {failed, Reason} -> failed(Reason, Data);
        {error, Reason} -> violation(Reason, Frame, Data)
    end.

became_ready(Frames, #data{start = #{pool := Pool}, handle = Handle} = Data) ->
    Pool ! {worker_ready, self(), Handle, Data#data.os_pid},
    case route_all(Frames, ready, Data) of
        {next_state, ready, Data1} ->
            {next_state, ready, Data1, [{{timeout, startup}, cancel}, next_beat(Data1)]};
        Ended ->
            Ended
    end.

settled(#data{streams = Streams} = Data) ->
    all_lost(hornbeam_worker_streams:settle(Streams), Data).

all_lost({Gone, Streams}, Data) ->
    _ = [disconnect(Number, Kind, Data) || {Number, Kind} <- Gone],
    Data#data{streams = Streams}.

route({Code, Number}, Frame, _State, #data{streams = Streams0} = Data)
        when Number > 0, Code >= ?RESPONSE_START, Code =< ?CLOSE;
             Number > 0, Code =:= ?CREDIT;
             Number > 0, Code =:= ?FLUSHED ->
    case hornbeam_worker_streams:deliver(Number, Code, Frame, Streams0) of
        {ok, Streams} -> {ok, Data#data{streams = Streams}};
        {error, Reason} -> {error, {Reason, Number}}
    end;
route({?MOVED, Number}, Frame, _State, #data{streams = Streams0} = Data) when Number > 0 ->
    case hornbeam_worker_streams:moved(Number, Frame, Streams0) of
        {ok, Streams} -> {ok, Data#data{streams = Streams}};
        {error, Reason} -> {error, {Reason, Number}}
    end;
route({?ENDED, Number}, Frame, _State, Data) when Number > 0 ->
    app_ended(Number, Frame, Data);
route({?OP, Number}, Frame, _State, #data{streams = Streams} = Data) ->
    case hornbeam_worker_streams:is_known(Number, Streams) of
        true -> decoded(fun answer/2, hornbeam_wire:decode(Frame), Data);
        false -> {error, {no_such_stream, Number}}
    end;
route({Code, 0}, Frame, _State, Data) when Code =:= ?MULTICAST_TEXT; Code =:= ?MULTICAST_BYTES ->
    decoded(fun multicast/2, hornbeam_wire:decode(Frame), Data);
route({_Code, 0}, Frame, State, Data) ->
    decoded(fun(Message, D) -> about_itself(State, Message, D) end,
            hornbeam_wire:decode(Frame), Data);
route(_, _Frame, _State, _Data) ->
    {error, not_a_message}.

decoded(Fun, {ok, Message}, Data) -> Fun(Message, Data);
decoded(_Fun, {error, Reason}, _Data) -> {error, Reason}.

multicast({multicast_text, Numbers, Text}, Data) ->
    multicast(Numbers, ?SEND_TEXT, hornbeam_frame:new(text, Text), Data);
multicast({multicast_bytes, Numbers, Bytes}, Data) ->
    multicast(Numbers, ?SEND_BYTES, hornbeam_frame:new(binary, Bytes), Data).

multicast(Numbers, Code, Frame, #data{streams = Streams0} = Data) ->
    case hornbeam_worker_streams:multicast(Numbers, Code, Frame, Streams0) of
        {ok, Streams} -> {ok, Data#data{streams = Streams}};
        {error, _} = Error -> Error
    end.

about_itself(starting, {hello, Version, About}, #data{about = undefined} = Data) ->
    hello(hornbeam_wire:version(), Version, Data#data{about = known(About)});
about_itself(starting, {ready, About}, #data{about = Known} = Data) when is_map(Known) ->
    {ready, Data#data{about = maps:merge(Known, known(About)), dump = dump(About)}};
about_itself(starting, {failed, Stage, Class, Message, Traceback}, _Data) ->
    {failed, {python, #{stage => Stage, class => Class, message => Message,
                        traceback => Traceback}}};
about_itself(_State, {log, Level, Logger, Text}, Data) ->
    {ok, log(Level, Logger, Text, Data)};
about_itself(_State, {heartbeat, Number}, #data{pulse = Pulse0, handle = Handle} = Data) ->
    case hornbeam_worker_pulse:answer(Number, now_ms(), Pulse0) of
        {ok, Pulse} ->
            hornbeam_stream:slow(Handle, false),
            {ok, Data#data{pulse = Pulse}};
        error ->
            {error, {no_such_heartbeat, Number}}
    end;
about_itself(_State, {credit, 0, Bytes, _Messages}, #data{events = Events} = Data) ->
    case hornbeam_worker_events:taken(Events, Bytes) of
        true -> {ok, Data};
        false -> {error, unearned_credit}
    end;
about_itself(_State, {result, Ref, Status, Value}, #data{calls = Calls} = Data) ->
    case hornbeam_worker_calls:result(Ref, Status, Value, Calls) of
        {cast, Left} ->
            {ok, cast_ended(hornbeam_call:outcome(Status, Value), Data#data{calls = Left})};
        Result ->
            with_calls(Result, Ref, Data)
    end;
about_itself(_State, {item, Ref, Packed}, #data{calls = Calls} = Data) ->
    with_calls(hornbeam_worker_calls:item(Ref, {item, Packed}, Calls), Ref, Data);
about_itself(draining, Message, Data) when element(1, Message) =:= stopped;
                                           element(1, Message) =:= hello;
                                           element(1, Message) =:= ready;
                                           element(1, Message) =:= failed ->
    {ok, Data};
about_itself(_State, Message, _Data) ->
    {error, {unexpected, element(1, Message)}}.

%% Nobody waits for it: its failure is for the log.
cast_ended({error, {python, _Class, _Message, Traceback}}, Data) ->
    log(40, <<"hornbeam.cast">>, Traceback, Data);
cast_ended({error, {unknown, Sentence}}, Data) ->
    log(40, <<"hornbeam.cast">>, Sentence, Data);
cast_ended(_Done, Data) ->
    Data.

with_calls({ok, Calls}, _Ref, Data) -> {ok, Data#data{calls = Calls}};
with_calls({error, Reason}, Ref, _Data) -> {error, {Reason, Ref}}.

hello(Version, Version, Data) ->
    write(hornbeam_wire:start(start_config(Data)), Data),
    {ok, Data};
hello(Ours, Theirs, _Data) ->
    {failed, {version, Ours, Theirs}}.

%% Of what Python tells about itself, the keys that a person wants to see; copied, since they are
%% kept, and only what is as short as they are.
known(About) ->
    maps:from_list([{Atom, kept(maps:get(Key, About))}
                    || {Key, Atom} <- [{<<"python">>, python}, {<<"package">>, package},
                                       {<<"loop">>, loop}, {<<"lifespan">>, lifespan}],
                       is_map_key(Key, About)]).

kept(Text) when is_binary(Text), byte_size(Text) =< ?SHOWN -> binary:copy(Text);
kept(Bool) when is_boolean(Bool) -> Bool;
kept(_Other) -> undefined.

dump(#{<<"stacks">> := [Signal, Fd]}) when is_integer(Signal), is_integer(Fd) -> {Signal, Fd};
dump(_About) -> none.

start_config(#data{start = #{name := Name, options := Options}}) ->
    #{app := App, worker_class := Interface, pythonpath := Path, root_path := RootPath,
      lifespan := Lifespan, loop := Loop, websocket_max_frame_size := MaxMessage,
      op_timeout := OpTimeout, worker_hang_timeout := HangTimeout,
      pubsub_queue_messages := QueueMessages,
      pubsub_queue_bytes := QueueBytes, limit_response_head := ResponseHead,
      limit_response_fields := ResponseFields, websocket_resume := Resume} = Options,
    #{app => App, interface => atom_to_binary(Interface), pythonpath => Path,
      root_path => RootPath, lifespan => Lifespan, loop => Loop,
      worker => Name, stream_window => hornbeam_stream:window(),
      worker_window => ?WORKER_WINDOW, max_message => MaxMessage,
      op_timeout => OpTimeout, hang_timeout => finite(HangTimeout),
      pubsub_queue_messages => QueueMessages,
      pubsub_queue_bytes => QueueBytes, limit_response_head => ResponseHead,
      limit_response_fields => ResponseFields, resume => Resume}.

finite(infinity) -> undefined;
finite(Timeout) -> Timeout.

log(Level, Logger, Text, #data{log = Budget0} = Data) ->
    Size = byte_size(Logger) + byte_size(Text),
    case hornbeam_worker_log:take(Size, erlang:monotonic_time(millisecond), Budget0) of
        {taken, Dropped, Budget} ->
            _ = [log_dropped(Dropped, Data) || Dropped > 0],
            log_line(Level, Logger, Text, Data),
            Data#data{log = Budget};
        {dropped, Budget} ->
            Data#data{log = Budget}
    end.

log_dropped(Lines, Data) ->
    ?LOG_WARNING(#{what => worker_log_lines_dropped, worker => name(Data), lines => Lines},
                 #{domain => [hornbeam]}).

log_line(Level, Logger, Text, Data) ->
    logger:log(logger_level(Level), "~ts ~ts: ~ts",
               [name(Data), hornbeam_quoted:line(Logger), hornbeam_quoted:lines(Text)],
               #{domain => [hornbeam, python], worker => name(Data), python_logger => Logger}).

logger_level(Level) when Level >= 50 -> critical;
logger_level(Level) when Level >= 40 -> error;
logger_level(Level) when Level >= 30 -> warning;
logger_level(Level) when Level >= 25 -> notice;
logger_level(Level) when Level >= 20 -> info;
logger_level(_Level) -> debug.

answer({op, _, _, _, _} = Op, #data{ops = Ops} = Data) ->
    case hornbeam_worker_ops:enter(Ops) of
        flood -> {error, too_many_ops};
        Room -> answer(Op, Room =:= full, Data)
    end.

answer({op, Number, Ref, Op, Args}, IsCrowded, #data{start = #{api := Api}} = Data0) ->
    Streams = hornbeam_worker_streams:with_client(Number, Data0#data.streams),
    Data = Data0#data{streams = Streams},
    case Api:handle_op(Op, Args, context(Number, Ref, IsCrowded, Data)) of
        {reply, Status, Packed} ->
            IsApart = Api:is_apart_from_messages(Op),
            reply(IsApart, hornbeam_wire:reply(Number, Ref, Status, Packed), Data);
        noreply ->
            ok
    end,
    {ok, Data}.

%% Whoever waits for it has it soonest from here, where that may overtake what the writer has.
reply(true, Reply, #data{port = Port, ops = Ops} = Data) ->
    case hornbeam_worker_port:try_write(Port, Reply) of
        true -> hornbeam_worker_ops:answered(1, Ops);
        false -> reply(false, Reply, Data)
    end;
reply(false, Reply, #data{writer = Writer}) ->
    hornbeam_worker_writer:reply(Writer, Reply).

context(Number, Ref, IsCrowded, #data{start = #{options := Options}} = Data) ->
    #data{handle = Handle, writer = Writer, events = Events, streams = Streams} = Data,
    #{stream => Number, ref => Ref, client => client(Number, Streams), handle => Handle,
      writer => Writer, events => Events, is_crowded => IsCrowded, options => Options}.

client(0, _Streams) -> worker;
client(Number, Streams) -> hornbeam_worker_streams:client(Number, Streams).

%% The streams.

placed(undefined, #data{handle = Handle} = Data) ->
    hornbeam_stream:started(Handle),
    Data;
placed(reserved, Data) ->
    Data;
placed(Place, #data{places = Places} = Data) ->
    Data#data{places = hornbeam_worker_places:used(Place, Places)}.

given_back(Place, #data{places = Places0} = Data) ->
    case hornbeam_worker_places:back(Place, Places0) of
        {ok, Places} -> freed(Data#data{places = Places});
        unknown -> Data
    end.

freed(#data{handle = Handle, start = #{pool := Pool}} = Data) ->
    hornbeam_stream:ended(Handle, Pool),
    Data.

opened(Kind, Number, Owner, Client, Account, Op, #data{streams = Streams0} = Data) ->
    write(Op, Data),
    Streams = hornbeam_worker_streams:open(Kind, Number, Owner, Client, Account, Streams0),
    Data#data{streams = Streams}.

bound(Number, Owner, #data{streams = Streams0, retirement = Retirement} = Data) ->
    _ = [Owner ! {retiring, Number, Reason} || {Reason, _} <- [Retirement]],
    Data#data{streams = hornbeam_worker_streams:bind(Number, Owner, Streams0)}.

lost(Number, {gone, Kind, Streams}, Data) ->
    disconnect(Number, Kind, Data),
    Data#data{streams = Streams};
lost(_Number, {known, Streams}, Data) ->
    Data#data{streams = Streams}.

disconnect(Number, Kind, Data) ->
    write(hornbeam_wire:disconnect(Number, broken(Kind), <<>>), Data).

broken(http) -> undefined;
broken(websocket) -> 1006.

app_ended(Number, Frame, #data{streams = Streams0} = Data) ->
    case hornbeam_worker_streams:ended(Number, Frame, Streams0) of
        {ok, Streams} ->
            {ok, freed(Data#data{streams = Streams})};
        {error, Reason} ->
            {error, {Reason, Number}}
    end.

%% Retirement.

%% Batch by batch, so that not all clients move at the same moment.
tell(Sockets, #data{retirement = {Reason, _}}) ->
    {Batch, Rest} = lists:split(min(?BATCH, length(Sockets)), Sockets),
    lists:foreach(fun({Number, Owner}) -> Owner ! {retiring, Number, Reason} end, Batch),
    {keep_state_and_data, [{{timeout, tell}, ?BATCH_PAUSE, Rest} || Rest =/= []]}.

%% The last stream has ended, and no other can be opened.
drained({next_state, retiring, Data}) -> drained({next_state, retiring, Data, []});
drained({keep_state, Data}) -> drained({next_state, retiring, Data, []});
drained({next_state, retiring, #data{handle = Handle} = Data, Actions}) ->
    case hornbeam_stream:close(Handle) of
        closed -> {next_state, draining, Data, stop_actions(Data)};
        busy -> {next_state, retiring, Data, Actions}
    end;
drained(Other) -> Other.

stop_actions(#data{retirement = {_, Timeout}} = Data) ->
    stopping(Timeout, Data).

stopping(Timeout, #data{handle = Handle} = Data) ->
    hornbeam_stream:retires(Handle),
    write(hornbeam_wire:stop(Timeout), Data),
    [{{timeout, drain}, Timeout + ?STOP_SLACK, over}].

%% What is still here belongs to apps that do not end or, where sockets may go on elsewhere, to a
%% process that stands still and gives none away.
leave_sockets(#data{start = #{options := #{websocket_resume := true}}} = Data) ->
    lists:foldl(fun give_away/2, Data, hornbeam_worker_streams:sockets(Data#data.streams));
leave_sockets(Data) ->
    close_sockets(Data),
    Data.

%% In Python's name, which is not heard any more on this stream.
give_away({Number, Owner}, #data{streams = Streams} = Data) ->
    Owner ! {stream, Number, iolist_to_binary(hornbeam_msgpack:encode([?MOVED, Number]))},
    Data#data{streams = hornbeam_worker_streams:closed(Number, Streams)}.

%% In the app's name, so that the connection closes as it always does: the client gets the code,
%% and then the app.
close_sockets(#data{streams = Streams}) ->
    lists:foreach(fun({Number, Owner}) ->
        Close = [?CLOSE, Number, 1012, hornbeam_msgpack:bytes(<<"the app's process is replaced">>)],
        Owner ! {stream, Number, iolist_to_binary(hornbeam_msgpack:encode(Close))}
    end, hornbeam_worker_streams:sockets(Streams)).

%% Heartbeats.

next_beat(#data{pulse = Pulse}) ->
    {{timeout, beat}, hornbeam_worker_pulse:interval(Pulse), beat}.

beat(#data{pulse = Pulse0} = Unguarded) ->
    Data = guarded(Unguarded),
    case hornbeam_worker_pulse:beat(now_ms(), Pulse0) of
        {send, Number, Pulse} ->
            write(hornbeam_wire:heartbeat(Number), Data),
            {keep_state, Data#data{pulse = Pulse},
             [next_beat(Data), {{timeout, late}, hornbeam_worker_pulse:late_after(Pulse), late}]};
        {wait, Pulse} ->
            {keep_state, Data#data{pulse = Pulse}, [next_beat(Data)]};
        {hung, Silent} ->
            hung(Silent, Data)
    end.

%% Somebody may have killed it.
guarded(#data{guard = none, os_pid = OsPid} = Data) ->
    Data#data{guard = hornbeam_worker_port:guard(OsPid)};
guarded(Data) ->
    Data.

now_ms() -> erlang:monotonic_time(millisecond).

hung(Silent, #data{os_pid = undefined} = Data) ->
    hung(Silent, <<>>, Data);
hung(Silent, #data{os_pid = OsPid, dump = Dump} = Data) ->
    case hornbeam_os_process:ask_for_stacks(OsPid, Dump) of
        ok -> {keep_state, Data, [stacks_later(Silent, <<>>, ?STACK_TRIES)]};
        unknown -> hung(Silent, <<>>, Data)
    end.

stacks_later(Silent, Read, Tries) ->
    {{timeout, stacks}, ?STACK_PAUSE, {Silent, Read, Tries}}.

%% Nothing says that Python has written all, but that it writes no more.
await_stacks(Silent, Before, Tries, #data{os_pid = OsPid, dump = Dump} = Data)
        when OsPid =/= undefined, Tries > 0 ->
    case hornbeam_os_process:stacks(OsPid, Dump) of
        Before when Before =/= <<>> -> hung(Silent, Before, Data);
        Read -> {keep_state_and_data, [stacks_later(Silent, Read, Tries - 1)]}
    end;
await_stacks(Silent, Read, _Tries, Data) ->
    hung(Silent, Read, Data).

hung(Silent, Stacks, #data{os_pid = OsPid} = Data) ->
    ?LOG_ERROR(#{what => worker_hung, worker => name(Data), os_pid => OsPid,
                 milliseconds => Silent, at => hornbeam_os_process:handler(Stacks),
                 stacks => Stacks}, #{domain => [hornbeam]}),
    {stop, {shutdown, hung}, Data}.

%% The calls into the app.

called(Call, Caller, {Mode, Target, Function, Args, Kwargs}, #data{calls = Calls0} = Data) ->
    {Ref, Calls} = hornbeam_worker_calls:open(Call, Caller, Calls0),
    write(hornbeam_wire:call(Ref, Mode, Target, Function, Args, Kwargs), Data),
    Data#data{calls = Calls}.

more(Call, Items, #data{calls = Calls0} = Data) ->
    case hornbeam_worker_calls:more(Call, Items, Calls0) of
        {ok, Ref, Calls} ->
            write(hornbeam_wire:more(Ref, Items), Data),
            Data#data{calls = Calls};
        {over, Calls} ->
            Data#data{calls = Calls}
    end.

cancelled(Call, #data{calls = Calls0} = Data) ->
    case hornbeam_worker_calls:number(Call, Calls0) of
        {ok, Ref, Calls} ->
            write(hornbeam_wire:cancel(Ref), Data),
            Data#data{calls = hornbeam_worker_calls:forget(Call, Calls)};
        {over, Calls} ->
            Data#data{calls = Calls}
    end.

%% Ends.

ended(State, #data{exit = {status, _}, eof = true} = Data) ->
    gone(State, Data);
ended(_State, Data) ->
    {keep_state, Data, [{{timeout, ending}, ?END_SLACK, over}]}.

gone(starting, Data) ->
    failed({exited, exit_status(Data)}, Data);
gone(draining, #data{exit = {status, 0}} = Data) ->
    {stop, {shutdown, stopped}, Data};
gone(_State, Data) ->
    {stop, {shutdown, {exited, exit_status(Data)}}, Data}.

exit_status(#data{exit = {status, Status}}) -> Status;
exit_status(#data{exit = running}) -> closed_its_pipe.

failed(Reason, #data{start = #{pool := Pool}} = Data) ->
    Pool ! {worker_failed, self(), Reason},
    {stop, {shutdown, failed}, Data}.

violation(Reason, Bytes, Data) ->
    Shown = binary:part(Bytes, 0, min(byte_size(Bytes), ?SHOWN)),
    ?LOG_ERROR(#{what => worker_broke_the_wire, worker => name(Data), reason => Reason,
                 bytes => Shown}, #{domain => [hornbeam]}),
    case Data of
        #data{about = undefined} -> failed({broke_the_wire, Reason}, Data);
        _ -> {stop, {shutdown, {broke_the_wire, Reason}}, Data}
    end.

write(Op, #data{writer = Writer}) ->
    hornbeam_worker_writer:write(Writer, Op).

name(#data{start = #{name := Name}}) -> Name.
