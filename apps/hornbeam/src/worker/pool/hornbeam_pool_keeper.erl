%% The process that keeps the workers of one pool: starts them together, replaces them, drains
%% them at the end.
%%
%% A pool has N slots; each has a worker that serves. A worker in a slot:
%%
%%   serving ───────────────┐ its successor took over, or the slot is no more
%%      ▲ all are ready     ▼
%%   successor           leaving ──▶ end
%%
%% While it starts, the first failure fails the pool. Once it serves, a worker that died is
%% replaced at once, and with growing pauses when the replacement does not last
%% (hornbeam_pool_backoff). One that has done enough (hornbeam_pool_recycling), and all of them at a
%% reload, are replaced by successors that are ready first (hornbeam_pool_replacement), one round at
%% a time.
%%
%% A crash of this process is not the workers' end. What it knows of them is kept with each change
%% (hornbeam_pool_snapshot), and before any other process may act on it. The next one adopts the
%% workers, in whatever state they are. A round that was under way is given up. If all the pool has
%% crashed, its workers with it, only their number is taken over, and that the pool has served.
-module(hornbeam_pool_keeper).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/2]).
-export([app/1, info/1, names/1, find/2]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([reload_error/0]).

-type slot() :: pos_integer().
-type reload_error() ::
    not_serving | reloading | interrupted | hornbeam_worker_failure:explained().
-type phase() :: starting | serving | {failed, hornbeam_worker_failure:explained()}.

-record(worker, {
    slot :: slot(),
    role :: serving | successor | leaving,
    limits :: hornbeam_pool_recycling:limits(),
    started_at :: integer(),
    %% known from its being ready on
    handle :: hornbeam_capacity:handle() | undefined,
    os_pid :: hornbeam_os_process:os_pid() | undefined,
    ready_at :: integer() | undefined
}).

%% The history of a slot.
-record(slot, {
    %% deaths in a row of workers that did not last
    failures = 0 :: non_neg_integer(),
    restarts = 0 :: non_neg_integer(),
    last_end = none :: term()
}).

-record(state, {
    name :: hornbeam_pool:name(),
    sup :: pid(),
    workers_sup :: pid() | undefined,
    api :: module(),
    options :: hornbeam_config:app_options(),
    stop_timeout :: pos_integer(),
    python :: file:filename() | undefined,
    phase = starting :: phase(),
    %% who waits for the end of the start
    starters = [] :: [gen_server:from()],
    slots = #{} :: #{slot() => #slot{}},
    workers = #{} :: #{pid() => #worker{}},
    round = none :: {hornbeam_pool_replacement:replacement(), gen_server:from() | nobody} | none,
    %% rounds of recycling in a row that failed, and when the next may begin
    failed_rounds = 0 :: non_neg_integer(),
    next_round :: integer(),
    ended = #{} :: #{atom() => pos_integer()}
}).

%% What is kept of it.
-record(memory, {
    workers_sup :: pid(),
    app :: binary(),
    python :: file:filename() | undefined,
    phase :: phase(),
    slots :: #{slot() => #slot{}},
    workers :: #{pid() => #worker{}},
    ended :: #{atom() => pos_integer()}
}).

%% How often it is looked who has done enough (ms).
-define(CHECK, 500).

%% Past its time to stop (ms) a worker has been killed and is only waited for.
-define(STOP_SLACK, 2000).

%% @doc Start the process that keeps the workers of a pool, under the pool's supervisor.
-spec start_link(Sup :: pid(), hornbeam_pool:start()) -> gen_server:start_ret().
start_link(Sup, Start) ->
    gen_server:start_link(?MODULE, {Sup, Start}, []).

%% @doc The app that a pool runs.
-spec app(hornbeam_pool:name()) -> {ok, binary()} | error.
app(Name) ->
    case hornbeam_pool_snapshot:recall(Name) of
        {ok, #memory{app = App}} -> {ok, App};
        none -> error
    end.

%% @doc What is known of a pool, and of the slots of its workers, in the slots' order.
-spec info(hornbeam_pool:name()) ->
    {ok, #{atom() => term()}, [{Worker :: pid(), #{atom() => term()}}]} | error.
info(Name) ->
    case hornbeam_pool_snapshot:recall(Name) of
        {ok, Memory} -> {ok, facts(Memory), described(Memory)};
        none -> error
    end.

facts(#memory{app = App, slots = Slots, ended = Ended}) ->
    #{app => App, ended => Ended,
      restarts => lists:sum([Restarts || #slot{restarts = Restarts} <- maps:values(Slots)])}.

described(#memory{workers = Workers, slots = Slots}) ->
    Sorted = lists:sort([{Slot, Pid} || {Pid, #worker{slot = Slot}} <- maps:to_list(Workers)]),
    [{Pid, history(maps:get(Slot, Slots, #slot{}))} || {Slot, Pid} <- Sorted].

history(#slot{restarts = Restarts, last_end = LastEnd}) ->
    #{restarts => Restarts, last_end => LastEnd}.

%% @doc The names of a pool's workers.
-spec names(hornbeam_pool:name()) -> #{pid() => binary()}.
names(Name) ->
    maps:map(fun(_, #worker{slot = Slot}) -> worker_name(Slot) end, remembered_workers(Name)).

%% @doc The serving worker with a name.
-spec find(hornbeam_pool:name(), Worker :: binary()) -> {ok, pid()} | {error, no_worker}.
find(Name, Worker) ->
    case [Pid || {Pid, #worker{slot = Slot}} <- serving(remembered_workers(Name)),
                 worker_name(Slot) =:= Worker] of
        [Pid] -> {ok, Pid};
        [] -> {error, no_worker}
    end.

remembered_workers(Name) ->
    case hornbeam_pool_snapshot:recall(Name) of
        {ok, #memory{workers = Workers}} -> Workers;
        none -> #{}
    end.

%% @private
-spec init({pid(), hornbeam_pool:start()}) -> {ok, #state{}, {continue, start}}.
init({Sup, #{name := Name, api := Api, options := Options, stop_timeout := StopTimeout}}) ->
    process_flag(trap_exit, true),
    ok = hornbeam_pool_row:keep(Name, self()),
    {ok, #state{name = Name, sup = Sup, api = Api, options = Options, stop_timeout = StopTimeout,
                next_round = now_ms()},
     {continue, start}}.

%% @private
-spec handle_continue(start, #state{}) -> {noreply, #state{}}.
handle_continue(start, #state{name = Name, sup = Sup, options = Options} = State0) ->
    {_, WorkersSup, _, _} =
        lists:keyfind(hornbeam_worker_sup, 1, supervisor:which_children(Sup)),
    _ = [check_later() || hornbeam_pool_recycling:is_asked_for(Options)],
    State = State0#state{workers_sup = WorkersSup},
    {noreply, remember(begun(hornbeam_pool_snapshot:recall(Name), State))}.

begun({ok, #memory{workers_sup = Sup} = Memory}, #state{workers_sup = Sup} = State) ->
    adopt_all(Memory, State);
begun({ok, #memory{python = Python, phase = Phase, slots = Slots, ended = Ended}}, State) ->
    #state{options = Options} = State,
    start_all(State#state{python = Python, phase = Phase, ended = Ended,
                          options = Options#{workers := maps:size(Slots)}});
begun(none, #state{options = Options} = State) ->
    case hornbeam_config:python(Options) of
        {ok, Python} -> start_all(State#state{python = Python});
        {error, Reason} -> fail(Reason, State)
    end.

start_all(#state{options = #{workers := Workers}} = State) ->
    end_strangers(State),
    published(lists:foldl(fun add_slot/2, State, lists:seq(1, Workers))).

%% After a crash.

adopt_all(#memory{workers = Workers, slots = Slots} = Memory, State0) ->
    #memory{python = Python, phase = Phase, ended = Ended} = Memory,
    #state{options = Options} = State0,
    State = State0#state{python = Python, phase = Phase, ended = Ended, slots = Slots,
                         workers = Workers, options = Options#{workers := maps:size(Slots)}},
    ?LOG_NOTICE(#{what => workers_adopted, pool => State#state.name,
                  workers => maps:size(Workers)}, #{domain => [hornbeam]}),
    end_strangers(State),
    lists:foreach(fun adopt/1, maps:keys(Workers)),
    Successors = [Pid || {Pid, #worker{role = successor}} <- maps:to_list(Workers)],
    published(fill_slots(lists:foldl(fun stop_worker/2, State, Successors))).

%% Of one that has died meanwhile the monitor tells.
adopt(Pid) ->
    _ = erlang:monitor(process, Pid),
    hornbeam_worker_protocol:adopt(Pid, self()).

%% What was started at the very moment of the crash is in no slot and serves nobody.
end_strangers(#state{workers_sup = Sup, workers = Workers}) ->
    lists:foreach(fun(Pid) -> hornbeam_worker:kill(Pid, stopped) end,
                  hornbeam_worker_sup:workers(Sup) -- maps:keys(Workers)).

fill_slots(State) ->
    _ = [restart_later(Failures, Slot)
         || {Slot, #slot{failures = Failures}} <- maps:to_list(State#state.slots),
            not is_taken(Slot, State)],
    State.

%% An adopted worker tells how far it has come.
adopted(ready, Pid, #worker{handle = undefined}, Handle, OsPid, State) ->
    ready(Pid, Handle, OsPid, State);
adopted(WorkerState, Pid, #worker{role = serving} = Worker, _Handle, _OsPid, State)
        when WorkerState =:= retiring; WorkerState =:= draining ->
    #state{workers = Workers} = State,
    fill_slots(published(State#state{workers = Workers#{Pid := Worker#worker{role = leaving}}}));
adopted(_WorkerState, _Pid, _Worker, _Handle, _OsPid, State) ->
    State.

%% What is known is kept when it has changed.

kept(Before, After) ->
    _ = [remember(After) || memory(After) =/= memory(Before)],
    After.

remember(#state{name = Name} = State) ->
    ok = hornbeam_pool_snapshot:keep(Name, memory(State)),
    State.

memory(#state{workers_sup = Sup, options = #{app := App}} = State) ->
    #state{python = Python, phase = Phase, slots = Slots, workers = Workers,
           ended = Ended} = State,
    #memory{workers_sup = Sup, app = App, python = Python, phase = Phase, slots = Slots,
            workers = Workers, ended = Ended}.

%% Workers are started.

add_slot(Slot, State) ->
    start_serving(Slot, put_slot(Slot, #slot{}, State)).

start_serving(Slot, State0) ->
    case start_worker(Slot, serving, State0) of
        {ok, _Pid, State} -> State;
        {error, Reason} -> not_started(Slot, Reason, State0)
    end.

start_worker(Slot, Role, #state{workers = Workers, options = Options} = State) ->
    case hornbeam_worker_sup:start_worker(State#state.workers_sup, start(Slot, State)) of
        {ok, Pid} ->
            _ = erlang:monitor(process, Pid),
            Limits = hornbeam_pool_recycling:limits(Options, fun draw/1),
            Worker = #worker{slot = Slot, role = Role, started_at = now_ms(), limits = Limits},
            {ok, Pid, State#state{workers = Workers#{Pid => Worker}}};
        {error, {shutdown, Reason}} ->
            {error, Reason}
    end.

draw(Most) -> rand:uniform(Most + 1) - 1.

start(Slot, #state{api = Api, options = Options, python = Python}) ->
    #{pool => self(), name => worker_name(Slot), python => Python, api => Api,
      options => Options}.

worker_name(Slot) ->
    <<"worker-", (integer_to_binary(Slot))/binary>>.

%% @private
-spec handle_call(await_ready | reload | {set_workers, pos_integer()}, gen_server:from(),
                  #state{}) ->
    {reply, term(), #state{}} | {noreply, #state{}}.
handle_call(await_ready, _From, #state{phase = serving} = State) ->
    {reply, ok, State};
handle_call(await_ready, _From, #state{phase = {failed, Why}} = State) ->
    {reply, {error, Why}, State};
handle_call(await_ready, From, #state{starters = Starters} = State) ->
    {noreply, State#state{starters = [From | Starters]}};
handle_call(Change, From, State) ->
    case may_change(State) of
        ok -> change(Change, From, State);
        {error, _} = Error -> {reply, Error, State}
    end.

change(reload, From, State) ->
    Round = begin_round(reloaded, all_slots(State), From, end_round(State)),
    {noreply, kept(State, Round)};
change({set_workers, Workers}, _From, State) ->
    {reply, ok, kept(State, resized(Workers, end_round(State)))}.

%% A round of recycling gives way, a reload does not.
may_change(#state{phase = Phase}) when Phase =/= serving -> {error, not_serving};
may_change(#state{round = {_, From}}) when From =/= nobody -> {error, reloading};
may_change(_State) -> ok.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(Message, State) ->
    {noreply, kept(State, heard(Message, State))}.

heard({worker_ready, Pid, Handle, OsPid}, State) ->
    ready(Pid, Handle, OsPid, State);
heard({worker_adopted, Pid, WorkerState, Handle, OsPid}, #state{workers = Workers} = State) ->
    adopted(WorkerState, Pid, maps:get(Pid, Workers), Handle, OsPid, State);
heard({worker_failed, Pid, Reason}, #state{workers = Workers} = State) ->
    failed(maps:get(Pid, Workers), Reason, State);
heard({'DOWN', _Ref, process, Pid, Reason}, #state{workers = Workers0} = State) ->
    {Worker, Workers} = maps:take(Pid, Workers0),
    tell(down, seconds_since(Worker#worker.started_at), #{reason => Reason}, Worker),
    down(Worker, Pid, Reason, published(State#state{workers = Workers}));
heard({'ETS-TRANSFER', Table, _Worker, inherited}, State) ->
    hornbeam_stream_owners:notify_down(Table),
    State;
heard({restart, Slot}, State) ->
    restart(Slot, State);
heard(check, State) ->
    check_later(),
    check(State).

%% What happens to a worker, for whoever attached to it.
tell(What, Measurements, Metadata, #worker{slot = Slot}) ->
    hornbeam_telemetry:execute([hornbeam, worker, What], Measurements,
                               Metadata#{worker => worker_name(Slot)}).

%% No time at all where a worker was never ready.
seconds_since(undefined) -> #{seconds => 0};
seconds_since(Ms) -> #{seconds => (now_ms() - Ms) div 1000}.

%% Workers come.

ready(Pid, Handle, OsPid, #state{workers = Workers} = State) ->
    Worker0 = maps:get(Pid, Workers),
    Worker = Worker0#worker{handle = Handle, os_pid = OsPid, ready_at = now_ms()},
    tell(ready, #{milliseconds => now_ms() - Worker#worker.started_at}, #{os_pid => OsPid}, Worker),
    joined(Worker, Pid, State#state{workers = Workers#{Pid => Worker}}).

joined(#worker{role = serving}, _Pid, State0) ->
    State = published(State0),
    served(length(serving(State#state.workers)) =:= maps:size(State#state.slots), State);
joined(#worker{role = successor, slot = Slot}, Pid, #state{round = {Round, From}} = State0) ->
    State = State0#state{round = {hornbeam_pool_replacement:ready(Pid, Round), From}},
    case is_served(Slot, State) of
        true -> next_step(State);
        false -> next_step(take_over(Pid, State))
    end;
joined(#worker{role = leaving}, _Pid, State) ->
    State.

served(true, #state{phase = starting, starters = Starters} = State) ->
    Serving = remember(State#state{phase = serving, starters = []}),
    reply_all(Starters, ok),
    Serving;
served(_, State) ->
    State.

failed(#worker{role = serving, slot = Slot}, Reason, State) ->
    failed_to_serve(Slot, Reason, State);
failed(#worker{role = successor}, Reason, State) ->
    abandon_round(Reason, State);
failed(#worker{role = leaving}, _Reason, State) ->
    State.

failed_to_serve(_Slot, Reason, #state{phase = starting} = State) ->
    fail(Reason, State);
failed_to_serve(Slot, Reason, State) ->
    ?LOG_ERROR(#{what => worker_did_not_start, pool => State#state.name, worker => Slot,
                 reason => explained(Reason, State)}, #{domain => [hornbeam]}),
    State.

not_started(Slot, Reason, #state{phase = serving} = State) ->
    pause(Slot, undefined, Reason, failed_to_serve(Slot, Reason, State));
not_started(Slot, Reason, State) ->
    failed_to_serve(Slot, Reason, State).

explained(Reason, #state{python = Python}) ->
    hornbeam_worker_failure:explain(Reason, Python).

%% The first failure of a start speaks for all.
fail(Reason, #state{starters = Starters} = State) ->
    Why = explained(Reason, State),
    reply_all(Starters, {error, Why}),
    State#state{phase = {failed, Why}, starters = []}.

reply_all(Callers, Reply) ->
    lists:foreach(fun(From) -> gen_server:reply(From, Reply) end, Callers).

%% Workers go.

down(#worker{role = leaving}, _Pid, Reason, State)
        when Reason =:= {shutdown, stopped}; Reason =:= noproc ->
    State;
down(#worker{role = leaving}, _Pid, Reason, State) ->
    count_end(kind(Reason), State);
down(#worker{role = successor}, _Pid, Reason, State) ->
    abandon_round(ended_early(Reason), State);
down(Worker, _Pid, Reason, #state{phase = serving} = State) ->
    replace(Worker, Reason, count_end(kind(Reason), State));
down(_Worker, _Pid, Reason, #state{phase = starting} = State) ->
    fail(ended_early(Reason), State);
down(_Worker, _Pid, _Reason, State) ->
    State.

ended_early({shutdown, Reason}) -> Reason;
ended_early(Reason) -> Reason.

kind({shutdown, Reason}) when is_tuple(Reason) -> element(1, Reason);
kind({shutdown, Reason}) when is_atom(Reason) -> Reason;
kind(_Reason) -> crashed.

count_end(Kind, #state{ended = Ended} = State) ->
    State#state{ended = maps:update_with(Kind, fun(Count) -> Count + 1 end, 1, Ended)}.

replace(#worker{slot = Slot, ready_at = ReadyAt}, Reason, State) ->
    ?LOG_WARNING(#{what => worker_ended, pool => State#state.name, worker => Slot,
                   reason => Reason}, #{domain => [hornbeam]}),
    case [{Pid, Handle} || {Pid, #worker{role = successor, slot = P, handle = Handle}}
                               <- maps:to_list(State#state.workers), P =:= Slot] of
        [] -> pause(Slot, ReadyAt, Reason, State);
        [{_Pid, undefined}] -> noted(Slot, Reason, State);
        [{Pid, _Handle}] -> next_step(take_over(Pid, noted(Slot, Reason, State)))
    end.

noted(Slot, Reason, #state{slots = Slots} = State) ->
    #{Slot := History} = Slots,
    put_slot(Slot, History#slot{last_end = Reason}, State).

pause(Slot, ReadyAt, Reason, #state{slots = Slots} = State) ->
    #{Slot := #slot{failures = Before} = History} = Slots,
    Failures = hornbeam_pool_backoff:failures(ReadyAt, now_ms(), Before),
    restart_later(Failures, Slot),
    put_slot(Slot, History#slot{failures = Failures, last_end = Reason}, State).

restart_later(0, Slot) ->
    restart_later(1, Slot);
restart_later(Failures, Slot) ->
    _ = erlang:send_after(hornbeam_pool_backoff:pause(Failures), self(), {restart, Slot}),
    ok.

restart(Slot, #state{slots = Slots} = State) ->
    case {Slots, is_taken(Slot, State)} of
        {#{Slot := #slot{restarts = Restarts} = History}, false} ->
            start_serving(Slot, put_slot(Slot, History#slot{restarts = Restarts + 1}, State));
        _ ->
            State
    end.

is_taken(Slot, #state{workers = Workers}) ->
    lists:any(fun(#worker{slot = P, role = Role}) -> P =:= Slot andalso Role =/= leaving end,
              maps:values(Workers)).

%% Rounds of replacement.

begin_round(Reason, Slots, From, State) ->
    next_step(State#state{round = {hornbeam_pool_replacement:new(Reason, Slots), From}}).

next_step(#state{round = none} = State) ->
    State;
next_step(#state{round = {Round, From}} = State) ->
    case hornbeam_pool_replacement:next(Round) of
        {start, Slot, Started} -> start_successor(Slot, State#state{round = {Started, From}});
        {take_over, Pids} -> finish_round(Pids, State);
        wait -> State
    end.

start_successor(Slot, State0) ->
    case start_worker(Slot, successor, State0) of
        {ok, Pid, #state{round = {Round, From}} = State} ->
            next_step(State#state{round = {hornbeam_pool_replacement:started(Pid, Round), From}});
        {error, Reason} ->
            abandon_round(Reason, State0)
    end.

finish_round(Pids, State0) ->
    #state{round = {_, From}} = State = lists:foldl(fun take_over/2, State0, Pids),
    _ = [gen_server:reply(From, ok) || From =/= nobody],
    State#state{round = none, failed_rounds = 0}.

take_over(Pid, #state{round = {Round, From}, workers = Workers} = State0) ->
    #{Pid := #worker{slot = Slot} = Worker} = Workers,
    Reason = hornbeam_pool_replacement:reason(Round),
    State = retire_slot(Slot, Reason, State0),
    Taken = (State#state.workers)#{Pid := Worker#worker{role = serving}},
    published(State#state{workers = Taken,
                          round = {hornbeam_pool_replacement:took_over(Pid, Round), From}}).

%% A fresh worker cannot start: nothing changes.
abandon_round(Reason, #state{round = {Round, From}, failed_rounds = Failed} = State0) ->
    Why = explained(Reason, State0),
    ?LOG_ERROR(#{what => worker_not_replaced, pool => State0#state.name,
                 because => hornbeam_pool_replacement:reason(Round), reason => Why},
               #{domain => [hornbeam]}),
    _ = [gen_server:reply(From, {error, Why}) || From =/= nobody],
    State = end_round(State0),
    Pause = max(?CHECK, hornbeam_pool_backoff:pause(Failed + 2)),
    State#state{failed_rounds = Failed + 1, next_round = now_ms() + Pause};
abandon_round(_Reason, State) ->
    State.

end_round(#state{round = none} = State) ->
    State;
end_round(#state{round = {Round, _}} = State0) ->
    Successors = hornbeam_pool_replacement:successors(Round),
    State = lists:foldl(fun stop_worker/2, State0#state{round = none}, Successors),
    lists:foldl(fun restart/2, State, [Slot || Slot <- all_slots(State),
                                                not is_taken(Slot, State)]).

stop_worker(Pid, #state{workers = Workers, stop_timeout = Timeout} = State) ->
    case Workers of
        #{Pid := Worker} ->
            hornbeam_worker:stop(Pid, Timeout),
            State#state{workers = Workers#{Pid := Worker#worker{role = leaving}}};
        #{} ->
            State
    end.

retire_slot(Slot, Reason, #state{workers = Workers} = State) ->
    lists:foldl(fun(Pid, Left) -> retire(Pid, Reason, Left) end, State,
                [Pid || {Pid, #worker{slot = P, role = serving}} <- maps:to_list(Workers),
                        P =:= Slot]).

retire(Pid, Reason, #state{workers = Workers, stop_timeout = Stop} = State) ->
    #state{options = #{drain_timeout := Drain}} = State,
    #{Pid := #worker{slot = Slot} = Worker} = Workers,
    ?LOG_NOTICE(#{what => worker_retires, pool => State#state.name, worker => Slot,
                  because => Reason}, #{domain => [hornbeam]}),
    tell(retire, seconds_since(Worker#worker.ready_at), #{reason => Reason}, Worker),
    hornbeam_worker:retire(Pid, Reason, Drain, Stop),
    Leaving = Workers#{Pid := Worker#worker{role = leaving}},
    count_end(Reason, retired(Slot, Reason, State#state{workers = Leaving})).

retired(Slot, Reason, #state{slots = Slots} = State) ->
    case Slots of
        #{Slot := _} -> noted(Slot, Reason, State);
        #{} -> State
    end.

%% The number of slots.

resized(Workers, #state{slots = Slots, options = Options} = State0) ->
    State = State0#state{options = Options#{workers => Workers}},
    {Left, TooMany} = lists:partition(fun(Slot) -> Slot =< Workers end, maps:keys(Slots)),
    Fewer = lists:foldl(fun remove_slot/2, State, TooMany),
    published(lists:foldl(fun add_slot/2, Fewer, lists:seq(1, Workers) -- Left)).

remove_slot(Slot, #state{slots = Slots} = State) ->
    retire_slot(Slot, shrunk, State#state{slots = maps:remove(Slot, Slots)}).

%% Who has done enough.

check_later() ->
    _ = erlang:send_after(?CHECK, self(), check),
    ok.

check(#state{phase = serving} = State) ->
    Verdicts = [{verdict(Worker), Pid, Worker}
                || {Pid, #worker{handle = Handle} = Worker} <- maps:to_list(State#state.workers),
                   Handle =/= undefined],
    lists:foreach(fun kill_if_far_too_large/1, Verdicts),
    Due = [{Why, Slot} || {{recycle, Why}, _, #worker{slot = Slot, role = serving}} <- Verdicts],
    recycle(lists:sort(Due), State);
check(State) ->
    State.

verdict(#worker{handle = Handle, os_pid = OsPid, ready_at = ReadyAt, limits = Limits}) ->
    Facts = #{requests => hornbeam_capacity:requests(Handle) + hornbeam_capacity:messages(Handle),
              age => now_ms() - ReadyAt, rss => hornbeam_os_process:rss(OsPid)},
    hornbeam_pool_recycling:verdict(Facts, Limits).

kill_if_far_too_large({kill, Pid, #worker{os_pid = OsPid}}) ->
    hornbeam_worker:kill(Pid, {too_large, hornbeam_os_process:rss(OsPid)});
kill_if_far_too_large(_) ->
    ok.

%% One at a time, and the next when the last is gone.
recycle([{Why, Slot} | _], #state{round = none, next_round = Next} = State) ->
    IsCalm = now_ms() >= Next andalso
        [] =:= [leaving || #worker{role = leaving} <- maps:values(State#state.workers)],
    case IsCalm of
        true ->
            ?LOG_NOTICE(#{what => worker_has_done_enough, pool => State#state.name,
                          worker => Slot, because => Why}, #{domain => [hornbeam]}),
            begin_round(recycled, [Slot], nobody, State);
        false ->
            State
    end;
recycle(_Due, State) ->
    State.

%% The workers of the pool.

serving(Workers) ->
    [{Pid, Worker} || {Pid, #worker{role = serving, handle = Handle} = Worker}
                          <- maps:to_list(Workers), Handle =/= undefined].

is_served(Slot, State) ->
    lists:any(fun({_, #worker{slot = P}}) -> P =:= Slot end,
              serving(State#state.workers)).

all_slots(#state{slots = Slots}) ->
    lists:sort(maps:keys(Slots)).

put_slot(Slot, History, #state{slots = Slots} = State) ->
    State#state{slots = Slots#{Slot => History}}.

%% Kept first: who is found by others must be known to this process's successor.
published(#state{name = Name, workers = Workers} = State) ->
    Leaving = handles(maps:filter(fun(_, #worker{role = Role}) -> Role =:= leaving end, Workers)),
    _ = remember(State),
    ok = hornbeam_pool_row:publish(Name, [H || {_, #worker{handle = H}} <- serving(Workers)],
                                   Leaving),
    ok = hornbeam_pool:workers_changed(Name),
    State.

now_ms() -> erlang:monotonic_time(millisecond).

%% Drain: nobody finds the workers any more, they end in their own time, and that is bounded. After
%% a crash they serve on.
%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(shutdown, #state{name = Name, workers = Workers, stop_timeout = Timeout}) ->
    ok = hornbeam_pool_row:publish(Name, [], handles(Workers)),
    Pids = maps:keys(Workers),
    Refs = [erlang:monitor(process, Pid) || Pid <- Pids],
    lists:foreach(fun(Pid) -> hornbeam_worker:stop(Pid, Timeout) end, Pids),
    await_all(Refs, now_ms() + Timeout + ?STOP_SLACK);
terminate(_Crash, _State) ->
    ok.

handles(Workers) ->
    [Handle || #worker{handle = Handle} <- maps:values(Workers), Handle =/= undefined].

await_all([], _Deadline) ->
    ok;
await_all([Ref | Refs], Deadline) ->
    receive
        {'DOWN', Ref, process, _, _} -> await_all(Refs, Deadline)
    after max(0, Deadline - now_ms()) ->
        ok
    end.
