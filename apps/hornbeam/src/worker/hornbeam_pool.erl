%% The workers of one app: started together, replaced when they die, drained at the end.
%%
%% While it starts, the first failure fails the pool. Once it serves, a worker that died is
%% replaced at once, and with growing pauses when the replacement does not last.
%%
%% Who needs a worker asks the table that this process keeps, not the process.
-module(hornbeam_pool).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([new_table/0, start_link/4, await_ready/1, lookup/1]).
-export([checkout/2, wait/1, forget/2, pick/1, load/1]).
-export([options/1, info/1, names/1, owners/2, find/2]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([name/0]).

-type name() :: atom().
-type place() :: pos_integer().

-record(slot, {
    pid :: pid() | undefined,
    state = starting :: starting | ready,
    ready_at :: integer() | undefined,
    %% deaths in a row of workers that did not last
    failures = 0 :: non_neg_integer()
}).

-record(state, {
    name :: name(),
    sup :: pid(),
    workers_sup :: pid() | undefined,
    api :: module(),
    options :: hornbeam_config:options(),
    python :: file:filename() | undefined,
    phase = starting :: starting | serving | {failed, hornbeam_worker_failure:explained()},
    waiting = [] :: [gen_server:from()],
    slots = #{} :: #{place() => #slot{}},
    queue :: hornbeam_pool_queue:queue(),
    restarts = 0 :: non_neg_integer()
}).

%% A row of the table: what others need to find a worker without asking the pool's process.
-record(row, {
    name :: name(),
    pool :: pid(),
    %% the workers that are ready
    handles = [] :: [hornbeam_stream:handle()],
    %% 1: how many wait for a place
    waiting :: atomics:atomics_ref()
}).
-define(TABLE, ?MODULE).

%% A worker that was ready for so long (seconds) has lasted.
-define(LASTED, 10).

%% Pauses before a replacement (ms): none, then these doubled up to the longest.
-define(FIRST_PAUSE, 100).
-define(LONGEST_PAUSE, 30000).

%% Past shutdown_timeout (ms) a worker has been killed and is only waited for.
-define(STOP_SLACK, 2000).

%% @doc Make the table of pools; its owner must outlive them.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {keypos, #row.name}, {read_concurrency, true}]),
    ok.

%% @doc Start the process that keeps the workers of a pool, under the pool's supervisor.
-spec start_link(name(), Sup :: pid(), Api :: module(), hornbeam_config:options()) ->
    gen_server:start_ret().
start_link(Name, Sup, Api, Options) ->
    gen_server:start_link(?MODULE, {Name, Sup, Api, Options}, []).

%% @doc Wait until every worker is ready, or the first has failed. Bounded by the workers'
%% startup_timeout.
-spec await_ready(name()) -> ok | {error, hornbeam_worker_failure:explained()}.
await_ready(Name) ->
    {ok, Pool} = lookup(Name),
    gen_server:call(Pool, await_ready, infinity).

%% @doc The process of a pool.
-spec lookup(name()) -> {ok, pid()} | error.
lookup(Name) ->
    %% The row of a pool that was killed stays until its successor writes another.
    case [Pool || #row{pool = Pool} <- ets:lookup(?TABLE, Name), is_process_alive(Pool)] of
        [Pool] -> {ok, Pool};
        [] -> error
    end.

%% @doc A place on the ready worker with the least open streams, unless the pool has `Max' of
%% them; to be used by {@link hornbeam_stream:open/3}.
%%
%% When no worker has room the calling process waits in the pool's queue, at most `queue_timeout'.
-spec checkout(name(), Max :: pos_integer() | infinity) ->
    {ok, hornbeam_stream:handle()} | {error, full | no_worker | queue_full | late}.
checkout(Name, Max) ->
    case ets:lookup(?TABLE, Name) of
        [Row] -> checkout_within(Max, Row);
        [] -> {error, no_worker}
    end.

checkout_within(infinity, Row) ->
    take_or_wait(Row);
checkout_within(Max, Row) ->
    case in_progress(Row) < Max of
        true -> still_within(Max, take_or_wait(Row), Row);
        false -> {error, full}
    end.

%% Others may have come at the same time.
still_within(Max, {ok, Handle}, Row) ->
    case in_progress(Row) =< Max of
        true ->
            {ok, Handle};
        false ->
            hornbeam_stream:give_back(Handle),
            {error, full}
    end;
still_within(_Max, Error, _Row) ->
    Error.

take_or_wait(#row{handles = Handles, waiting = Waiting, pool = Pool}) ->
    %% Nobody overtakes those who wait.
    case atomics:get(Waiting, 1) =:= 0 andalso
         hornbeam_choice:take(Handles, make_ref(), self()) of
        {ok, Handle} -> {ok, Handle};
        _ -> await(wait_for(Pool))
    end.

await(Ref) ->
    receive
        {hornbeam_pool, Ref, Answer} -> Answer;
        {'DOWN', Ref, process, _, _} -> {error, no_worker}
    end.

%% @doc Wait for a place without blocking.
%%
%% The calling process gets `{hornbeam_pool, Ref, Answer}' once, with an answer of
%% {@link hornbeam_pool_queue:answer()}: a handle, or an error at the latest after
%% `queue_timeout'; or `{'DOWN', Ref, process, _, _}' when there is no such pool any more. A
%% process that dies waits no longer.
-spec wait(name()) -> reference().
wait(Name) ->
    case lookup(Name) of
        {ok, Pool} -> wait_for(Pool);
        error -> in_vain(make_ref())
    end.

in_vain(Ref) ->
    self() ! {hornbeam_pool, Ref, {error, no_worker}},
    Ref.

wait_for(Pool) ->
    Ref = erlang:monitor(process, Pool, [{alias, reply_demonitor}]),
    Pool ! {wait, Ref, self()},
    Ref.

%% @doc Wait no longer: nothing comes any more, and a place that was given is given back.
-spec forget(name(), reference()) -> ok.
forget(Name, Ref) ->
    _ = erlang:unalias(Ref),
    true = erlang:demonitor(Ref, [flush]),
    _ = [Pool ! {forget, Ref} || {ok, Pool} <- [lookup(Name)]],
    receive
        {hornbeam_pool, Ref, _} -> ok
    after 0 ->
        ok
    end.

%% @doc The worker that a call into the app should go to; it takes no place.
-spec pick(name()) -> {ok, hornbeam_stream:handle()} | {error, no_worker}.
pick(Name) ->
    case ets:lookup(?TABLE, Name) of
        [#row{handles = [_ | _] = Handles}] -> {ok, hornbeam_choice:least_loaded(Handles)};
        _ -> {error, no_worker}
    end.

%% @doc The open streams of the pool; cheap.
-spec load(name()) -> non_neg_integer().
load(Name) ->
    lists:sum([load_of(Row) || Row <- ets:lookup(?TABLE, Name)]).

load_of(#row{handles = Handles}) ->
    lists:sum([hornbeam_stream:load(Handle) || Handle <- Handles]).

in_progress(#row{waiting = Waiting} = Row) ->
    load_of(Row) + atomics:get(Waiting, 1).

%% @doc The checked options that the pool was started with.
-spec options(pid()) -> hornbeam_config:options().
options(Pool) ->
    gen_server:call(Pool, options).

%% @doc What to tell a person about the pool.
-spec info(name()) -> #{atom() => term()}.
info(Name) ->
    case lookup(Name) of
        {ok, Pool} ->
            {Info, Pids} = gen_server:call(Pool, info),
            Info#{workers => [Described || {ok, Described} <- described(Pids)],
                  streams => load(Name)};
        error ->
            #{}
    end.

described(Pids) ->
    [hornbeam_worker:describe(Pid) || Pid <- Pids].

%% @doc The processes that own streams of a kind in the pool.
-spec owners(hornbeam_stream:kind(), name()) -> [pid()].
owners(Kind, Name) ->
    case lookup(Name) of
        {ok, Pool} ->
            {_, Pids} = gen_server:call(Pool, info),
            lists:append([Owners || Pid <- Pids,
                                    {ok, Owners} <- [hornbeam_worker:owners(Kind, Pid)]]);
        error ->
            []
    end.

%% @doc The names of the pool's workers, by their processes.
-spec names(name()) -> #{pid() => binary()}.
names(Name) ->
    case lookup(Name) of
        {ok, Pool} -> gen_server:call(Pool, names);
        error -> #{}
    end.

%% @doc The ready worker with a name, such as `<<"worker-1">>'.
-spec find(name(), Worker :: binary()) -> {ok, pid()} | {error, no_worker}.
find(Name, Worker) ->
    case lookup(Name) of
        {ok, Pool} -> gen_server:call(Pool, {find, Worker});
        error -> {error, no_worker}
    end.

%% @private
-spec init({name(), pid(), module(), hornbeam_config:options()}) ->
    {ok, #state{}, {continue, start}}.
init({Name, Sup, Api, Options}) ->
    process_flag(trap_exit, true),
    #{queue_max := Max, queue_timeout := Timeout} = Options,
    Waiting = atomics:new(1, []),
    true = ets:insert(?TABLE, #row{name = Name, pool = self(), waiting = Waiting}),
    {ok, #state{name = Name, sup = Sup, api = Api, options = Options,
                queue = hornbeam_pool_queue:new(Max, Timeout, Waiting)},
     {continue, start}}.

%% @private
-spec handle_continue(start, #state{}) -> {noreply, #state{}}.
handle_continue(start, #state{options = Options} = State) ->
    case hornbeam_config:python(Options) of
        {ok, Python} -> {noreply, start_all(State#state{python = Python})};
        {error, Reason} -> {noreply, fail(Reason, State)}
    end.

start_all(#state{sup = Sup, options = #{workers := Workers}} = State0) ->
    {_, WorkersSup, _, _} =
        lists:keyfind(hornbeam_worker_sup, 1, supervisor:which_children(Sup)),
    State = State0#state{workers_sup = WorkersSup},
    lists:foldl(fun start_worker/2, State, lists:seq(1, Workers)).

start_worker(Number, #state{slots = Slots} = State) ->
    Slot = maps:get(Number, Slots, #slot{}),
    case hornbeam_worker_sup:start_worker(State#state.workers_sup, start(Number, State)) of
        {ok, Pid} ->
            _ = erlang:monitor(process, Pid, [{tag, {'DOWN', Number}}]),
            put_slot(Number, Slot#slot{pid = Pid, state = starting, ready_at = undefined}, State);
        {error, {shutdown, Reason}} ->
            not_started(Number, Reason, put_slot(Number, Slot, State))
    end.

start(Number, #state{api = Api, options = Options, python = Python}) ->
    #{pool => self(), name => worker_name(Number), python => Python, api => Api,
      options => Options}.

worker_name(Number) ->
    <<"worker-", (integer_to_binary(Number))/binary>>.

%% @private
-spec handle_call(await_ready | options | names | info | {find, binary()}, gen_server:from(),
                  #state{}) ->
    {reply, term(), #state{}} | {noreply, #state{}}.
handle_call(await_ready, _From, #state{phase = serving} = State) ->
    {reply, ok, State};
handle_call(await_ready, _From, #state{phase = {failed, Why}} = State) ->
    {reply, {error, Why}, State};
handle_call(await_ready, From, #state{waiting = Waiting} = State) ->
    {noreply, State#state{waiting = [From | Waiting]}};
handle_call(options, _From, #state{options = Options} = State) ->
    {reply, Options, State};
handle_call({find, Worker}, _From, #state{slots = Slots} = State) ->
    Found = [Pid || {Number, #slot{pid = Pid, state = ready}} <- maps:to_list(Slots),
                    worker_name(Number) =:= Worker],
    {reply, found(Found), State};
handle_call(names, _From, #state{slots = Slots} = State) ->
    {reply, maps:from_list([{Pid, worker_name(Number)}
                            || {Number, #slot{pid = Pid}} <- maps:to_list(Slots), is_pid(Pid)]),
     State};
handle_call(info, _From, #state{slots = Slots, options = Options} = State) ->
    Pids = [Pid || {_, #slot{pid = Pid}} <- lists:sort(maps:to_list(Slots)), is_pid(Pid)],
    Info = #{app => maps:get(app, Options), restarts => State#state.restarts,
             waiting => hornbeam_pool_queue:count(State#state.queue)},
    {reply, {Info, Pids}, State}.

found([Pid]) -> {ok, Pid};
found([]) -> {error, no_worker}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({wait, Ref, Pid}, #state{queue = Queue} = State) ->
    {noreply, serve(State#state{queue = hornbeam_pool_queue:join(Ref, Pid, Queue)})};
handle_info({room, _Worker}, State) ->
    {noreply, serve(State)};
handle_info({forget, Ref}, State) ->
    {noreply, forgotten(Ref, State)};
handle_info({late, Ref}, #state{queue = Queue} = State) ->
    {noreply, State#state{queue = hornbeam_pool_queue:late(Ref, Queue)}};
handle_info({{'DOWN', {waiter, Ref}}, _Ref, process, _Pid, _Reason}, State) ->
    {noreply, forgotten(Ref, State)};
handle_info({worker_ready, Pid, Handle}, State) ->
    {noreply, serve(ready(number_of(Pid, State), Handle, State))};
handle_info({worker_failed, Pid, Reason}, State) ->
    {noreply, worker_failed(number_of(Pid, State), Reason, State)};
handle_info({{'DOWN', Number}, _Ref, process, Pid, Reason}, State) ->
    {noreply, down(Number, Pid, Reason, State)};
handle_info({restart, Number}, #state{restarts = Restarts} = State) ->
    {noreply, start_worker(Number, State#state{restarts = Restarts + 1})};
handle_info({'EXIT', Sup, Reason}, #state{sup = Sup} = State) ->
    {stop, Reason, State}.

serve(#state{queue = Queue} = State) ->
    State#state{queue = hornbeam_pool_queue:serve(handles(State), Queue)}.

%% A place that is on its way to who does not want it any more: its worker knows it.
forgotten(Ref, #state{queue = Queue0, slots = Slots} = State) ->
    case hornbeam_pool_queue:leave(Ref, Queue0) of
        {left, Queue} ->
            State#state{queue = Queue};
        unknown ->
            _ = [Pid ! {give_back, Ref} || #slot{pid = Pid} <- maps:values(Slots), is_pid(Pid)],
            State
    end.

handles(#state{name = Name}) ->
    [#row{handles = Handles}] = ets:lookup(?TABLE, Name),
    Handles.

number_of(Pid, #state{slots = Slots}) ->
    [Number] = [N || {N, #slot{pid = P}} <- maps:to_list(Slots), P =:= Pid],
    Number.

ready(Number, Handle, #state{slots = Slots} = State0) ->
    Slot = maps:get(Number, Slots),
    State = put_slot(Number, Slot#slot{state = ready, ready_at = now_s()}, State0),
    publish(fun(Handles) -> [Handle | Handles] end, State),
    served(lists:all(fun(#slot{state = S}) -> S =:= ready end, maps:values(State#state.slots)),
           State).

served(true, #state{phase = starting, waiting = Waiting} = State) ->
    reply_all(Waiting, ok),
    State#state{phase = serving, waiting = []};
served(_, State) ->
    State.

worker_failed(_Number, Reason, #state{phase = starting} = State) ->
    fail(Reason, State);
worker_failed(Number, Reason, #state{python = Python, name = Name} = State) ->
    ?LOG_ERROR(#{what => worker_did_not_start, pool => Name, worker => Number,
                 reason => hornbeam_worker_failure:explain(Reason, Python)},
               #{domain => [hornbeam]}),
    State.

not_started(Number, Reason, #state{phase = serving} = State) ->
    pause(Number, worker_failed(Number, Reason, State));
not_started(Number, Reason, State) ->
    worker_failed(Number, Reason, State).

%% The first failure of a start speaks for all.
fail(Reason, #state{python = Python, waiting = Waiting} = State) ->
    Why = hornbeam_worker_failure:explain(Reason, Python),
    reply_all(Waiting, {error, Why}),
    State#state{phase = {failed, Why}, waiting = []}.

reply_all(Waiting, Reply) ->
    lists:foreach(fun(From) -> gen_server:reply(From, Reply) end, Waiting).

down(Number, Pid, Reason, State0) ->
    publish(fun(Handles) -> [H || H <- Handles, hornbeam_stream:worker(H) =/= Pid] end, State0),
    case State0 of
        #state{phase = serving} ->
            ?LOG_WARNING(#{what => worker_ended, pool => State0#state.name, worker => Number,
                           reason => Reason}, #{domain => [hornbeam]}),
            pause(Number, State0);
        #state{phase = starting} ->
            fail(ended_early(Reason), State0);
        #state{} ->
            State0
    end.

ended_early({shutdown, Reason}) -> Reason;
ended_early(Reason) -> Reason.

pause(Number, #state{slots = Slots} = State) ->
    Slot0 = maps:get(Number, Slots),
    Slot = Slot0#slot{pid = undefined, state = starting, failures = failures(Slot0)},
    _ = erlang:send_after(pause_of(Slot#slot.failures), self(), {restart, Number}),
    put_slot(Number, Slot, State).

failures(#slot{ready_at = Since, failures = Failures}) ->
    case Since =/= undefined andalso now_s() - Since >= ?LASTED of
        true -> 1;
        false -> Failures + 1
    end.

pause_of(1) -> 0;
pause_of(Failures) -> min(?LONGEST_PAUSE, ?FIRST_PAUSE bsl min(Failures - 2, 16)).

publish(Change, #state{name = Name} = State) ->
    true = ets:update_element(?TABLE, Name, {#row.handles, Change(handles(State))}).

put_slot(Number, Slot, #state{slots = Slots} = State) ->
    State#state{slots = Slots#{Number => Slot}}.

now_s() -> erlang:monotonic_time(second).

%% Drain: nobody finds the workers any more, they end in their own time, and that is bounded.
%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{name = Name, slots = Slots, options = Options, queue = Queue}) ->
    true = ets:delete(?TABLE, Name),
    _ = hornbeam_pool_queue:abandon(Queue),
    #{shutdown_timeout := Timeout} = Options,
    Pids = [Pid || #slot{pid = Pid} <- maps:values(Slots), is_pid(Pid)],
    Refs = [erlang:monitor(process, Pid) || Pid <- Pids],
    lists:foreach(fun(Pid) -> hornbeam_worker:stop(Pid, Timeout) end, Pids),
    await_all(Refs, erlang:monotonic_time(millisecond) + Timeout + ?STOP_SLACK).

await_all([], _Deadline) ->
    ok;
await_all([Ref | Refs], Deadline) ->
    receive
        {'DOWN', Ref, process, _, _} -> await_all(Refs, Deadline)
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        ok
    end.
