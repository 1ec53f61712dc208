%% One worker: a Python process of the pool, and the Erlang process that owns its port.
%%
%%            hello, ready         retire/4            no stream is left,
%%   starting ───────────▶ ready ─────────▶ retiring ─────────┐ or drain_timeout is over
%%       │ failed, late     │ stop/2             │ stop/2       ▼
%%       │                  └────────────────────┴────────▶ draining
%%       │                  exit, bad bytes, hung, too large    │ stopped, or its time is over
%%       └─────────────────────────▶ end ◀──────────────────────┘
%%
%% Here is the life of both: start, heartbeats, retirement, end. What passes through them meanwhile
%% is hornbeam_worker_router's. When it ends, for any reason, the Python process is dead, what that
%% has started ends (hornbeam_worker_port:start_reaper/1), and whoever monitors it learns why:
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

-export([start_link/1, stop/2, retire/4, kill/2, describe/1, owners/2]).
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
    os_pid :: hornbeam_os_process:os_pid() | undefined,
    %% ends what it has started
    reaper :: port() | none,
    %% its end is known in two parts that come in any order: how it exited, and that all it
    %% wrote has been read
    exit = running :: running | {status, non_neg_integer()},
    eof = false :: boolean(),
    reader :: hornbeam_worker_reader:reader(),
    router :: hornbeam_worker_router:router(),
    log :: hornbeam_worker_log:budget(),
    started :: integer(),
    heartbeat :: hornbeam_worker_heartbeat:heartbeat(),
    dump = none :: hornbeam_os_process:dump(),
    %% what it has to stop once it has drained (ms)
    stop_timeout = 0 :: non_neg_integer(),
    %% what hello and ready told about the process; undefined before hello
    about :: #{atom() => term()} | undefined
}).

%% Bytes of a broken message that the log shows.
-define(SHOWN, 64).

%% With one part of the end known, the other is waited for so long (ms): a process may close its
%% pipe and live on, or leave it to a child.
-define(END_SLACK, 500).

%% Python is asked to stop within a time; this long past it (ms) we wait for it to be gone.
-define(STOP_SLACK, 1000).

%% What was killed is waited for so long, and looked at with this pause (ms).
-define(DEATH, 1000).
-define(LOOK_PAUSE, 5).

%% The pause after some WebSockets were told that the worker retires (ms).
-define(BATCH_PAUSE, 50).

%% @doc Start a worker. It reports to its pool: `{worker_ready, Pid, Handle, OsPid}', or
%% `{worker_failed, Pid, Reason}' before it ends.
-spec start_link(start()) -> {ok, pid()} | {error, term()}.
start_link(Start) ->
    gen_statem:start_link(?MODULE, Start, []).

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

new(Port, #{pool := Pool, name := Name, api := Api, options := Options} = Start) ->
    OsPid = hornbeam_worker_port:os_pid(Port),
    Router = hornbeam_worker_router:new(#{port => Port, pool => Pool, name => Name, api => Api,
                                          options => Options}),
    #data{start = Start, port = Port, os_pid = OsPid,
          reaper = hornbeam_worker_port:start_reaper(OsPid),
          reader = hornbeam_worker_reader:new(Port), router = Router,
          log = hornbeam_worker_log:new(now_ms()),
          heartbeat = hornbeam_worker_heartbeat:new(maps:get(worker_hang_timeout, Options)),
          started = erlang:monotonic_time(second)}.

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
ready(cast, {retire, Reason, Drain, Stop}, #data{router = Router} = Data) ->
    {Sockets, Retiring} = hornbeam_worker_router:retire(Reason, Router),
    drained({next_state, retiring, Data#data{router = Retiring, stop_timeout = Stop},
             [{{timeout, drain}, Drain, over}, {{timeout, tell}, 0, Sockets}]});
ready(Type, Event, Data) ->
    in_any_state(Type, Event, ready, Data).

%% @private
-spec retiring(gen_statem:event_type(), term(), #data{}) ->
    gen_statem:event_handler_result(atom()).
retiring({timeout, tell}, Sockets, #data{router = Router}) ->
    Rest = hornbeam_worker_router:notify_retirement(Sockets, Router),
    {keep_state_and_data, [{{timeout, tell}, ?BATCH_PAUSE, Rest} || Rest =/= []]};
retiring({timeout, drain}, over, #data{router = Router} = Data) ->
    Left = Data#data{router = hornbeam_worker_router:leave_sockets(Router)},
    {next_state, draining, Left, stopping(Left)};
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
in_any_state(info, {violated, Reason, Packet}, _State, Data) ->
    violation(Reason, Packet, Data);
in_any_state(info, {Port, {exit_status, Status}}, State, #data{port = Port} = Data) ->
    ended(State, Data#data{exit = {status, Status}, os_pid = undefined});
in_any_state(info, {Port, eof}, State, #data{port = Port} = Data) ->
    ended(State, Data#data{eof = true});
in_any_state(info, {'EXIT', Port, _Reason}, State, #data{port = Port} = Data) ->
    exited(State, Data);
in_any_state(info, {'EXIT', Reaper, _Reason}, _State, #data{reaper = Reaper} = Data) ->
    {keep_state, Data#data{reaper = none}};
in_any_state(info, {'EXIT', _Writer, Reason}, _State, Data) ->
    {stop, Reason, Data};
in_any_state(info, {adopt, Pool}, State, Data) ->
    {keep_state, adopted(Pool, State, Data)};
in_any_state(info, Message, _State, #data{router = Router0} = Data) ->
    {ok, Router} = hornbeam_worker_router:handle_info(Message, Router0),
    {keep_state, Data#data{router = Router}};
in_any_state({timeout, beat}, beat, _State, Data) ->
    beat(Data);
in_any_state({timeout, late}, late, _State, #data{heartbeat = Heartbeat} = Data) ->
    hornbeam_capacity:slow(handle(Data), hornbeam_worker_heartbeat:is_late(Heartbeat)),
    keep_state_and_data;
in_any_state({timeout, stacks}, Hang, _State, Data) ->
    after_look(hornbeam_worker_hang:look(Hang), Data);
in_any_state({timeout, ending}, over, State, Data) ->
    exited(State, Data);
in_any_state(cast, {stop, Timeout}, _State, Data) ->
    {next_state, draining, Data, stopping(Data#data{stop_timeout = Timeout})};
in_any_state(cast, {retire, _, _, Timeout}, starting, Data) ->
    {next_state, draining, Data, stopping(Data#data{stop_timeout = Timeout})};
in_any_state(cast, {kill, Reason}, _State, Data) ->
    {stop, {shutdown, Reason}, Data};
in_any_state({call, From}, describe, State, Data) ->
    {keep_state_and_data, [{reply, From, description(State, Data)}]};
in_any_state({call, From}, {owners, Kind}, _State, #data{router = Router}) ->
    {keep_state_and_data, [{reply, From, hornbeam_worker_router:owners(Kind, Router)}]}.

adopted(Pool, State, #data{start = Start, router = Router, os_pid = OsPid} = Data) ->
    hornbeam_worker_router:adopted(Pool, Router),
    hornbeam_worker_protocol:adopted(Pool, State, handle(Data), OsPid),
    Data#data{start = Start#{pool := Pool}}.

description(State, #data{os_pid = OsPid, heartbeat = Heartbeat, started = Started} = Data) ->
    Handle = handle(Data),
    maps:merge(about(Data),
               #{name => name(Data), os_pid => OsPid, state => State,
                 streams => hornbeam_capacity:load(Handle),
                 requests => hornbeam_capacity:requests(Handle),
                 messages => hornbeam_capacity:messages(Handle),
                 rss => hornbeam_os_process:rss(OsPid),
                 latency => hornbeam_worker_heartbeat:latency(Heartbeat),
                 slow => hornbeam_capacity:is_slow(Handle),
                 unread => hornbeam_worker_router:unread(Data#data.router),
                 seconds => erlang:monotonic_time(second) - Started}).

about(#data{about = undefined}) -> #{};
about(#data{about = About}) -> About.

%% @private
-spec terminate(term(), atom(), #data{}) -> ok.
terminate(_Reason, _State, #data{router = Router, port = Port, os_pid = OsPid} = Data) ->
    %% Who hears of the end may look for another worker at once, and this one has the least to do.
    hornbeam_capacity:shut(handle(Data)),
    hornbeam_worker_router:notify_down(Router),
    _ = [killed(Port, OsPid) || OsPid =/= undefined],
    ok.

%% Who takes this process's end for that of Python, as one does who waits to lead in its place, is
%% not to begin while it still runs. A port that is closed already tells of no end.
killed(Port, OsPid) ->
    hornbeam_os_process:kill(OsPid),
    await_death(Port, OsPid, now_ms() + ?DEATH).

await_death(Port, OsPid, Deadline) ->
    receive
        {Port, {exit_status, _}} -> ok
    after ?LOOK_PAUSE ->
        case hornbeam_os_process:is_running(OsPid) andalso now_ms() < Deadline of
            true -> await_death(Port, OsPid, Deadline);
            false -> ok
        end
    end.

%% What Python says.

received(Chunk, State, #data{reader = Reader0, router = Router} = Data) ->
    case hornbeam_worker_reader:read(Chunk, Reader0) of
        {ok, Packets, Credit, Reader} ->
            _ = [write(hornbeam_wire:credit(0, Credit, 0), Data) || Credit > 0],
            Sorted = hornbeam_worker_router:urgent_first(Packets, Router),
            routed(Sorted, State, Data#data{reader = Reader});
        {error, Reason} ->
            violation(Reason, Chunk, Data)
    end.

routed(Packets, State, #data{router = Router0} = Data) ->
    case hornbeam_worker_router:route(Packets, Router0) of
        {ok, Router} ->
            {next_state, State, Data#data{router = Router}};
        {itself, Message, Packet, Behind, Router} ->
            go_on(about_itself(State, Message, Data#data{router = Router}), Packet, Behind, State);
        {error, Reason, Packet} ->
            violation(Reason, Packet, Data)
    end.

go_on({ok, Data}, _Packet, Behind, State) -> routed(Behind, State, Data);
go_on({ready, Data}, _Packet, Behind, _State) -> became_ready(Behind, Data);
go_on({failed, Reason, Data}, _Packet, _Behind, _State) -> failed(Reason, Data);
go_on({error, Reason, Data}, Packet, _Behind, _State) -> violation(Reason, Packet, Data).

became_ready(Behind, #data{start = #{pool := Pool}, os_pid = OsPid} = Data) ->
    hornbeam_worker_protocol:ready(Pool, handle(Data), OsPid),
    case routed(Behind, ready, Data) of
        {next_state, ready, Data1} ->
            {next_state, ready, Data1, [{{timeout, startup}, cancel}, next_beat(Data1)]};
        Ended ->
            Ended
    end.

about_itself(starting, {hello, Version, About}, #data{about = undefined} = Data) ->
    hello(hornbeam_wire:version(), Version,
          Data#data{about = hornbeam_worker_hello:about(About)});
about_itself(starting, {ready, About}, #data{about = Known} = Data) when is_map(Known) ->
    {ready, Data#data{about = maps:merge(Known, hornbeam_worker_hello:about(About)),
                      dump = hornbeam_worker_hello:dump(About)}};
about_itself(starting, {failed, Stage, Class, Message, Traceback}, Data) ->
    {failed, {python, #{stage => Stage, class => Class, message => Message,
                        traceback => Traceback}}, Data};
about_itself(_State, {log, Level, Logger, Text}, #data{log = Budget} = Data) ->
    {ok, Data#data{log = hornbeam_worker_log:write(Level, Logger, Text, name(Data), Budget)}};
about_itself(_State, {heartbeat, Number}, #data{heartbeat = Heartbeat0} = Data) ->
    case hornbeam_worker_heartbeat:answer(Number, now_ms(), Heartbeat0) of
        {ok, Heartbeat} ->
            hornbeam_capacity:slow(handle(Data), false),
            {ok, Data#data{heartbeat = Heartbeat}};
        error ->
            {error, {no_such_heartbeat, Number}, Data}
    end;
about_itself(draining, Message, Data) when element(1, Message) =:= stopped;
                                           element(1, Message) =:= hello;
                                           element(1, Message) =:= ready;
                                           element(1, Message) =:= failed ->
    {ok, Data};
about_itself(_State, Message, Data) ->
    {error, {unexpected, element(1, Message)}, Data}.

hello(Version, Version, #data{start = #{name := Name, options := Options}} = Data) ->
    write(hornbeam_wire:start(hornbeam_worker_hello:config(Name, Options)), Data),
    {ok, Data};
hello(Ours, Theirs, Data) ->
    {failed, {version, Ours, Theirs}, Data}.

%% Retirement: the last stream has ended, and no other can be opened.

drained({next_state, retiring, Data}) -> drained({next_state, retiring, Data, []});
drained({keep_state, Data}) -> drained({next_state, retiring, Data, []});
drained({next_state, retiring, #data{router = Router} = Data, Actions}) ->
    case hornbeam_worker_router:is_drained(Router) of
        true -> {next_state, draining, Data, stopping(Data)};
        false -> {next_state, retiring, Data, Actions}
    end;
drained(Other) -> Other.

stopping(#data{stop_timeout = Timeout, start = #{api := Api}} = Data) ->
    hornbeam_capacity:retires(handle(Data)),
    ok = Api:stopping(self()),
    write(hornbeam_wire:stop(Timeout), Data),
    [{{timeout, drain}, Timeout + ?STOP_SLACK, over}].

%% Heartbeats.

next_beat(#data{heartbeat = Heartbeat}) ->
    {{timeout, beat}, hornbeam_worker_heartbeat:interval(Heartbeat), beat}.

beat(#data{heartbeat = Heartbeat0} = Data0) ->
    Data = with_reaper(Data0),
    case hornbeam_worker_heartbeat:beat(now_ms(), Heartbeat0) of
        {send, Number, Heartbeat} ->
            write(hornbeam_wire:heartbeat(Number), Data),
            {keep_state, Data#data{heartbeat = Heartbeat},
             [next_beat(Data),
              {{timeout, late}, hornbeam_worker_heartbeat:late_after(Heartbeat), late}]};
        {wait, Heartbeat} ->
            {keep_state, Data#data{heartbeat = Heartbeat}, [next_beat(Data)]};
        {hung, Silent} ->
            hung(Silent, Data)
    end.

%% Somebody may have killed it.
with_reaper(#data{reaper = none, os_pid = OsPid} = Data) ->
    Data#data{reaper = hornbeam_worker_port:start_reaper(OsPid)};
with_reaper(Data) ->
    Data.

now_ms() -> erlang:monotonic_time(millisecond).

hung(Silent, #data{os_pid = OsPid, dump = Dump} = Data) ->
    case hornbeam_worker_hang:new(OsPid, Dump, Silent) of
        {ok, Hang} -> {keep_state, Data, [look_later(Hang)]};
        unknown -> hung(Silent, <<>>, Data)
    end.

look_later(Hang) ->
    {{timeout, stacks}, hornbeam_worker_hang:pause(), Hang}.

after_look({again, Hang}, #data{os_pid = OsPid}) when OsPid =/= undefined ->
    {keep_state_and_data, [look_later(Hang)]};
after_look({again, Hang}, Data) ->
    {Silent, Stacks} = hornbeam_worker_hang:found(Hang),
    hung(Silent, Stacks, Data);
after_look({ok, Silent, Stacks}, Data) ->
    hung(Silent, Stacks, Data).

hung(Silent, Stacks, #data{os_pid = OsPid} = Data) ->
    ?LOG_ERROR(#{what => worker_hung, worker => name(Data), os_pid => OsPid,
                 milliseconds => Silent, at => hornbeam_os_process:handler(Stacks),
                 stacks => Stacks}, #{domain => [hornbeam]}),
    {stop, {shutdown, hung}, Data}.

%% Ends.

ended(State, #data{exit = {status, _}, eof = true} = Data) ->
    exited(State, Data);
ended(_State, Data) ->
    hornbeam_capacity:shut(handle(Data)),
    {keep_state, Data, [{{timeout, ending}, ?END_SLACK, over}]}.

exited(starting, #data{about = undefined} = Data) ->
    failed({exited, exit_status(Data)}, Data);
exited(starting, Data) ->
    failed({ended_in_start, exit_status(Data)}, Data);
%% It has done as it was told, also where a write into its closed pipe has ended the port, and there
%% is no status.
exited(draining, #data{exit = Exit} = Data) when Exit =:= {status, 0}; Exit =:= running ->
    {stop, {shutdown, stopped}, Data};
exited(_State, Data) ->
    {stop, {shutdown, {exited, exit_status(Data)}}, Data}.

exit_status(#data{exit = {status, Status}}) -> Status;
exit_status(#data{exit = running}) -> closed_its_pipe.

failed(Reason, #data{start = #{pool := Pool}} = Data) ->
    hornbeam_worker_protocol:failed(Pool, Reason),
    {stop, {shutdown, failed}, Data}.

violation(Reason, Bytes, Data) ->
    Shown = binary:part(Bytes, 0, min(byte_size(Bytes), ?SHOWN)),
    ?LOG_ERROR(#{what => worker_broke_the_wire, worker => name(Data), reason => Reason,
                 bytes => Shown}, #{domain => [hornbeam]}),
    case Data of
        #data{about = undefined} -> failed({broke_the_wire, Reason}, Data);
        _ -> {stop, {shutdown, {broke_the_wire, Reason}}, Data}
    end.

write(Op, #data{router = Router}) ->
    hornbeam_worker_router:write(Op, Router).

handle(#data{router = Router}) -> hornbeam_worker_router:handle(Router).

name(#data{start = #{name := Name}}) -> Name.
