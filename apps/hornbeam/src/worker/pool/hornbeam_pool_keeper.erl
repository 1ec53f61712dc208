%% The process that keeps the workers of one pool: starts them together, replaces them, drains
%% them at the end. Who they are, and in which slots, is hornbeam_pool_roster's.
%%
%% While it starts, the first failure fails the pool. Once it serves, a worker that died is
%% replaced at once, and with growing pauses when the replacement does not last
%% (hornbeam_pool_backoff). One that has done enough (hornbeam_pool_recycling), and all of them at a
%% reload, are replaced by successors that are ready first (hornbeam_pool_replacement), one round at
%% a time.
%%
%% A crash of this process is not the workers' end. What it knows of them is saved with each change
%% (hornbeam_pool_snapshot), and before any other process may act on it. The next one adopts the
%% workers, in whatever state they are. A round that was under way is given up. If all the pool has
%% crashed, its workers with it, only their number is taken over, and that the pool has served.
-module(hornbeam_pool_keeper).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/2]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([reload_error/0]).

-type reload_error() ::
    not_serving | reloading | interrupted | hornbeam_worker_failure:explained().

-record(state, {
    name :: hornbeam_pool:name(),
    sup :: pid(),
    workers_sup :: pid() | undefined,
    api :: module(),
    options :: hornbeam_config:app_options(),
    stop_timeout :: pos_integer(),
    python :: file:filename() | undefined,
    phase = starting :: hornbeam_pool_snapshot:phase(),
    %% who waits for the end of the start
    starters = [] :: [gen_server:from()],
    roster :: hornbeam_pool_roster:roster(),
    round = none :: {hornbeam_pool_replacement:replacement(), gen_server:from() | nobody} | none,
    %% rounds of recycling in a row that failed, and when the next may begin
    failed_rounds = 0 :: non_neg_integer(),
    next_round :: integer()
}).

%% How often it is looked who has done enough (ms).
-define(CHECK, 500).

%% @doc Start the process that keeps the workers of a pool, under the pool's supervisor.
-spec start_link(Sup :: pid(), hornbeam_pool:start()) -> gen_server:start_ret().
start_link(Sup, Start) ->
    gen_server:start_link(?MODULE, {Sup, Start}, []).

%% @private
-spec init({pid(), hornbeam_pool:start()}) -> {ok, #state{}, {continue, start}}.
init({Sup, #{name := Name, api := Api, options := Options, stop_timeout := StopTimeout} = Start}) ->
    process_flag(trap_exit, true),
    ok = hornbeam_pool_row:keep(Name, self()),
    {ok, #state{name = Name, sup = Sup, api = Api, options = Options, stop_timeout = StopTimeout,
                roster = roster(Start), next_round = now_ms()},
     {continue, start}}.

roster(#{is_alone := true}) -> hornbeam_pool_roster:new();
roster(#{name := Name}) -> hornbeam_pool_roster:new(Name).

%% @private
-spec handle_continue(start, #state{}) -> {noreply, #state{}}.
handle_continue(start, #state{name = Name, sup = Sup, options = Options} = State0) ->
    {_, WorkersSup, _, _} =
        lists:keyfind(hornbeam_worker_sup, 1, supervisor:which_children(Sup)),
    _ = [check_later() || hornbeam_pool_recycling:is_asked_for(Options)],
    State = State0#state{workers_sup = WorkersSup},
    {noreply, save(begin_with(hornbeam_pool_snapshot:load(Name), State))}.

begin_with(none, #state{options = Options} = State) ->
    case hornbeam_config:python(Options) of
        {ok, Python} -> start_all(State#state{python = Python});
        {error, Reason} -> fail(Reason, State)
    end;
begin_with({ok, Snapshot}, #state{options = Options, workers_sup = WorkersSup} = State0) ->
    #{workers_sup := Before, python := Python, phase := Phase, roster := Roster} = Snapshot,
    Workers = hornbeam_pool_roster:slot_count(Roster),
    State = State0#state{python = Python, phase = Phase, options = Options#{workers := Workers}},
    case Before of
        WorkersSup -> adopt_all(State#state{roster = Roster});
        _ -> start_all(State#state{roster = hornbeam_pool_roster:renewed(Roster)})
    end.

start_all(#state{options = #{workers := Workers}} = State) ->
    end_strangers(State),
    publish(lists:foldl(fun add_slot/2, State, lists:seq(1, Workers))).

%% After a crash.

adopt_all(#state{roster = Roster} = State) ->
    Pids = hornbeam_pool_roster:workers(Roster),
    ?LOG_NOTICE(#{what => workers_adopted, pool => State#state.name, workers => length(Pids)},
                #{domain => [hornbeam]}),
    end_strangers(State),
    lists:foreach(fun adopt/1, Pids),
    publish(fill_slots(stop_successors(State))).

%% Of one that has died meanwhile the monitor tells.
adopt(Pid) ->
    _ = erlang:monitor(process, Pid),
    hornbeam_worker_protocol:adopt(Pid, self()).

%% What was started at the very moment of the crash is in no slot and serves nobody.
end_strangers(#state{workers_sup = Sup, roster = Roster}) ->
    lists:foreach(fun(Pid) -> hornbeam_worker:kill(Pid, stopped) end,
                  hornbeam_worker_sup:workers(Sup) -- hornbeam_pool_roster:workers(Roster)).

fill_slots(#state{roster = Roster} = State) ->
    _ = [restart_later(Failures, Slot) || {Slot, Failures} <- hornbeam_pool_roster:vacant(Roster)],
    State.

%% An adopted worker tells how far it has come.
adopted(ready, Pid, Worker, Handle, OsPid, State) when not is_map_key(handle, Worker) ->
    ready(Pid, Handle, OsPid, State);
adopted(WorkerState, Pid, #{role := serving}, _Handle, _OsPid, State)
        when WorkerState =:= retiring; WorkerState =:= draining ->
    fill_slots(publish(set_role(Pid, leaving, State)));
adopted(_WorkerState, _Pid, _Worker, _Handle, _OsPid, State) ->
    State.

%% What is known is saved when it has changed.

save_change(Before, After) ->
    _ = [save(After) || snapshot(After) =/= snapshot(Before)],
    After.

save(#state{name = Name} = State) ->
    ok = hornbeam_pool_snapshot:save(Name, snapshot(State)),
    State.

snapshot(#state{workers_sup = Sup, options = #{app := App}, python = Python, phase = Phase,
                roster = Roster}) ->
    #{workers_sup => Sup, app => App, python => Python, phase => Phase, roster => Roster}.

%% Workers are started.

add_slot(Slot, #state{roster = Roster} = State) ->
    start_serving(Slot, State#state{roster = hornbeam_pool_roster:add_slot(Slot, Roster)}).

start_serving(Slot, State0) ->
    case start_worker(Slot, serving, State0) of
        {ok, _Pid, State} -> State;
        {error, Reason} -> not_started(Slot, Reason, State0)
    end.

start_worker(Slot, Role, #state{roster = Roster, options = Options} = State) ->
    case hornbeam_worker_sup:start_worker(State#state.workers_sup, start(Slot, State)) of
        {ok, Pid} ->
            _ = erlang:monitor(process, Pid),
            Worker = #{slot => Slot, role => Role, started_at => now_ms(),
                       limits => hornbeam_pool_recycling:limits(Options, fun draw/1)},
            Started = hornbeam_pool_roster:add_worker(Pid, Worker, Roster),
            {ok, Pid, State#state{roster = Started}};
        {error, {shutdown, Reason}} ->
            {error, Reason}
    end.

draw(Most) -> rand:uniform(Most + 1) - 1.

start(Slot, #state{api = Api, options = Options, python = Python, roster = Roster}) ->
    #{pool => self(), name => hornbeam_pool_roster:worker_name(Slot, Roster), python => Python,
      api => Api, options => Options}.

%% @private
-spec handle_call(await_ready | reload | {set_workers, pos_integer()}, gen_server:from(),
                  #state{}) ->
    {reply, term(), #state{}} | {noreply, #state{}}.
handle_call(await_ready, _From, #state{phase = serving} = State) ->
    {reply, ok, State};
handle_call(await_ready, _From, #state{phase = {failed, Why}} = State) ->
    {reply, {error, Why}, State};
handle_call(await_ready, _From, #state{phase = stopping} = State) ->
    {reply, {error, interrupted}, State};
handle_call(await_ready, From, #state{starters = Starters} = State) ->
    {noreply, State#state{starters = [From | Starters]}};
handle_call(Change, From, State) ->
    case may_change(State) of
        ok -> change(Change, From, State);
        {error, _} = Error -> {reply, Error, State}
    end.

change(reload, From, #state{roster = Roster} = State) ->
    Slots = hornbeam_pool_roster:slots(Roster),
    {noreply, save_change(State, begin_round(reloaded, Slots, From, end_round(State)))};
change({set_workers, Workers}, _From, State) ->
    {reply, ok, save_change(State, resize(Workers, end_round(State)))}.

%% A round of recycling gives way, a reload does not.
may_change(#state{phase = Phase}) when Phase =/= serving -> {error, not_serving};
may_change(#state{round = {_, From}}) when From =/= nobody -> {error, reloading};
may_change(_State) -> ok.

%% @private
-spec handle_cast(begin_stop, #state{}) -> {noreply, #state{}}.
handle_cast(begin_stop, #state{starters = Starters, roster = Roster} = State) ->
    reply_all(Starters, {error, interrupted}),
    Stopping = State#state{phase = stopping, starters = [], round = none},
    {noreply, publish(lists:foldl(fun stop_worker/2, Stopping,
                                  hornbeam_pool_roster:workers(Roster)))}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(Message, State) ->
    {noreply, save_change(State, info(Message, State))}.

info({worker_ready, Pid, Handle, OsPid}, State) ->
    ready(Pid, Handle, OsPid, State);
info({worker_adopted, Pid, WorkerState, Handle, OsPid}, #state{roster = Roster} = State) ->
    adopted(WorkerState, Pid, hornbeam_pool_roster:worker(Pid, Roster), Handle, OsPid, State);
info({worker_failed, Pid, Reason}, #state{roster = Roster} = State) ->
    failed(hornbeam_pool_roster:worker(Pid, Roster), Reason, State);
info({'DOWN', _Ref, process, Pid, Reason}, #state{roster = Roster0} = State) ->
    {#{started_at := Since} = Worker, Roster} = hornbeam_pool_roster:take(Pid, Roster0),
    measure(down, #{seconds => (now_ms() - Since) div 1000}, #{reason => Reason}, Worker, State),
    down(Worker, Reason, publish(State#state{roster = Roster}));
info({'ETS-TRANSFER', Table, _Worker, inherited}, State) ->
    hornbeam_stream_owners:notify_down(Table),
    State;
info({restart, Slot}, State) ->
    restart(Slot, State);
info(check, State) ->
    check_later(),
    check(State).

%% What happens to a worker, for whoever attached to it.
measure(What, Measurements, Metadata, #{slot := Slot}, #state{name = Name, roster = Roster}) ->
    Worker = hornbeam_pool_roster:worker_name(Slot, Roster),
    hornbeam_telemetry:execute([hornbeam, worker, What], Measurements,
                               Metadata#{mount => Name, worker => Worker}).

%% Workers come.

ready(Pid, Handle, OsPid, #state{roster = Roster0} = State) ->
    Now = now_ms(),
    {Worker, Roster} = hornbeam_pool_roster:set_ready(Pid, Handle, OsPid, Now, Roster0),
    measure(ready, #{milliseconds => Now - maps:get(started_at, Worker)}, #{os_pid => OsPid},
            Worker, State),
    joined(Worker, Pid, State#state{roster = Roster}).

joined(#{role := serving}, _Pid, State) ->
    served(hornbeam_pool_roster:is_complete(State#state.roster), publish(State));
joined(#{role := successor, slot := Slot}, Pid, #state{round = {Round, From}} = State0) ->
    State = State0#state{round = {hornbeam_pool_replacement:ready(Pid, Round), From}},
    case hornbeam_pool_roster:is_served(Slot, State#state.roster) of
        true -> next_step(State);
        false -> next_step(take_over(Pid, State))
    end;
joined(#{role := leaving}, _Pid, State) ->
    State.

served(true, #state{phase = starting, starters = Starters} = State) ->
    Serving = save(State#state{phase = serving, starters = []}),
    reply_all(Starters, ok),
    Serving;
served(_IsComplete, State) ->
    State.

failed(#{role := serving, slot := Slot}, Reason, State) ->
    failed_to_serve(Slot, Reason, State);
failed(#{role := successor}, Reason, State) ->
    abandon_round(Reason, State);
failed(#{role := leaving}, _Reason, State) ->
    State.

failed_to_serve(_Slot, Reason, #state{phase = starting} = State) ->
    fail(Reason, State);
failed_to_serve(Slot, Reason, State) ->
    ?LOG_ERROR(#{what => worker_did_not_start, pool => State#state.name, worker => Slot,
                 reason => explain(Reason, State)}, #{domain => [hornbeam]}),
    State.

not_started(Slot, Reason, #state{phase = serving} = State) ->
    restart_after(undefined, Slot, Reason, failed_to_serve(Slot, Reason, State));
not_started(Slot, Reason, State) ->
    failed_to_serve(Slot, Reason, State).

explain(Reason, #state{python = Python}) ->
    hornbeam_worker_failure:explain(Reason, Python).

%% The first failure of a start speaks for all.
fail(Reason, #state{starters = Starters} = State) ->
    Why = explain(Reason, State),
    reply_all(Starters, {error, Why}),
    State#state{phase = {failed, Why}, starters = []}.

reply_all(Callers, Reply) ->
    lists:foreach(fun(From) -> gen_server:reply(From, Reply) end, Callers).

%% Workers go.

down(#{role := leaving} = Worker, Reason, State)
        when Reason =:= {shutdown, stopped}; Reason =:= noproc ->
    retired(Worker, State);
down(#{role := leaving}, Reason, State) ->
    count_end(Reason, State);
down(#{role := successor}, Reason, State) ->
    abandon_round(hornbeam_worker_failure:cause(Reason), State);
down(Worker, Reason, #state{phase = serving} = State) ->
    replace(Worker, Reason, count_end(Reason, State));
down(_Worker, Reason, #state{phase = starting} = State) ->
    fail(hornbeam_worker_failure:cause(Reason), State);
down(_Worker, _Reason, State) ->
    State.

%% Each is counted once: by what ended it, or by why it was to end where nothing else did.
retired(#{retires := Why}, State) -> count_end({shutdown, Why}, State);
retired(_Stopped, State) -> State.

count_end(Reason, #state{roster = Roster} = State) ->
    State#state{roster = hornbeam_pool_roster:count_end(Reason, Roster)}.

note_end(Slot, Reason, #state{roster = Roster} = State) ->
    State#state{roster = hornbeam_pool_roster:note_end(Slot, Reason, Roster)}.

replace(#{slot := Slot} = Worker, Reason, #state{roster = Roster} = State) ->
    ?LOG_WARNING(#{what => worker_ended, pool => State#state.name, worker => Slot,
                   reason => hornbeam_worker_failure:told(Reason)}, #{domain => [hornbeam]}),
    case hornbeam_pool_roster:successor(Slot, Roster) of
        none -> restart_after(maps:get(ready_at, Worker, undefined), Slot, Reason, State);
        {starting, _Pid} -> note_end(Slot, Reason, State);
        {ready, Pid} -> next_step(take_over(Pid, note_end(Slot, Reason, State)))
    end.

restart_after(ReadyAt, Slot, Reason, #state{roster = Roster0} = State) ->
    {Failures, Roster} = hornbeam_pool_roster:failed(Slot, ReadyAt, Reason, now_ms(), Roster0),
    restart_later(Failures, Slot),
    State#state{roster = Roster}.

restart_later(Failures, Slot) ->
    Pause = hornbeam_pool_backoff:pause(max(1, Failures)),
    _ = erlang:send_after(Pause, self(), {restart, Slot}),
    ok.

restart(Slot, #state{phase = Phase, roster = Roster} = State) ->
    case Phase =/= stopping andalso hornbeam_pool_roster:is_vacant(Slot, Roster) of
        true ->
            Restarted = hornbeam_pool_roster:restarted(Slot, Roster),
            start_serving(Slot, State#state{roster = Restarted});
        false ->
            State
    end.

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

take_over(Pid, #state{round = {Round, From}, roster = Roster} = State0) ->
    #{slot := Slot} = hornbeam_pool_roster:worker(Pid, Roster),
    Retired = retire_slot(Slot, hornbeam_pool_replacement:reason(Round), State0),
    State = set_role(Pid, serving, Retired),
    publish(State#state{round = {hornbeam_pool_replacement:took_over(Pid, Round), From}}).

%% A fresh worker cannot start: nothing changes.
abandon_round(Reason, #state{round = {Round, From}, failed_rounds = Failed} = State0) ->
    Why = explain(Reason, State0),
    abandoned(From, Why, hornbeam_pool_replacement:reason(Round), State0),
    State = end_round(State0),
    Pause = max(?CHECK, hornbeam_pool_backoff:pause(Failed + 2)),
    State#state{failed_rounds = Failed + 1, next_round = now_ms() + Pause};
abandon_round(_Reason, State) ->
    State.

%% Who has asked for it says so.
abandoned(nobody, Why, Because, #state{name = Name}) ->
    ?LOG_ERROR(#{what => worker_not_replaced, pool => Name, because => Because, reason => Why},
               #{domain => [hornbeam]});
abandoned(From, Why, _Because, _State) ->
    gen_server:reply(From, {error, Why}).

end_round(#state{round = none} = State) ->
    State;
end_round(State0) ->
    State = stop_successors(State0#state{round = none}),
    Vacant = hornbeam_pool_roster:vacant(State#state.roster),
    lists:foldl(fun restart/2, State, [Slot || {Slot, _Failures} <- Vacant]).

stop_successors(#state{roster = Roster} = State) ->
    lists:foldl(fun stop_worker/2, State, hornbeam_pool_roster:workers(successor, Roster)).

stop_worker(Pid, #state{stop_timeout = Timeout} = State) ->
    hornbeam_worker:stop(Pid, Timeout),
    set_role(Pid, leaving, State).

set_role(Pid, Role, #state{roster = Roster} = State) ->
    State#state{roster = hornbeam_pool_roster:set_role(Pid, Role, Roster)}.

retire_slot(Slot, Reason, #state{roster = Roster} = State) ->
    lists:foldl(fun(Pid, Left) -> retire(Pid, Reason, Left) end, State,
                hornbeam_pool_roster:serving(Slot, Roster)).

retire(Pid, Reason, #state{roster = Roster, stop_timeout = Stop} = State) ->
    #state{options = #{drain_timeout := Drain}} = State,
    #{slot := Slot} = Worker = hornbeam_pool_roster:worker(Pid, Roster),
    ?LOG_NOTICE(#{what => worker_retires, pool => State#state.name, worker => Slot,
                  because => Reason}, #{domain => [hornbeam]}),
    measure(retire, #{seconds => seconds_ready(Worker)}, #{reason => Reason, pid => Pid},
            Worker, State),
    hornbeam_worker:retire(Pid, Reason, Drain, Stop),
    Retiring = State#state{roster = hornbeam_pool_roster:retire(Pid, Reason, Roster)},
    note_end(Slot, Reason, Retiring).

%% No time at all where a worker was never ready.
seconds_ready(#{ready_at := ReadyAt}) -> (now_ms() - ReadyAt) div 1000;
seconds_ready(#{}) -> 0.

%% The number of slots.

resize(Workers, #state{roster = Roster, options = Options} = State0) ->
    State = State0#state{options = Options#{workers => Workers}},
    Slots = hornbeam_pool_roster:slots(Roster),
    Wanted = lists:seq(1, Workers),
    Fewer = lists:foldl(fun remove_slot/2, State, Slots -- Wanted),
    publish(lists:foldl(fun add_slot/2, Fewer, Wanted -- Slots)).

remove_slot(Slot, #state{roster = Roster} = State) ->
    retire_slot(Slot, shrunk,
                State#state{roster = hornbeam_pool_roster:remove_slot(Slot, Roster)}).

%% Who has done enough.

check_later() ->
    _ = erlang:send_after(?CHECK, self(), check),
    ok.

check(#state{phase = serving, roster = Roster} = State) ->
    Verdicts = [{verdict(Worker), Pid, Worker}
                || {Pid, Worker} <- hornbeam_pool_roster:ready(Roster)],
    lists:foreach(fun kill_if_far_too_large/1, Verdicts),
    Due = [{Why, Slot} || {{recycle, Why}, _, #{slot := Slot, role := serving}} <- Verdicts],
    recycle(lists:sort(Due), State);
check(State) ->
    State.

verdict(#{handle := Handle, os_pid := OsPid, ready_at := ReadyAt, limits := Limits}) ->
    Facts = #{requests => hornbeam_capacity:requests(Handle) + hornbeam_capacity:messages(Handle),
              age => now_ms() - ReadyAt, rss => hornbeam_os_process:rss(OsPid)},
    hornbeam_pool_recycling:verdict(Facts, Limits).

kill_if_far_too_large({kill, Pid, #{os_pid := OsPid}}) ->
    hornbeam_worker:kill(Pid, {too_large, hornbeam_os_process:rss(OsPid)});
kill_if_far_too_large(_) ->
    ok.

%% One at a time, and the next when the last is gone.
recycle([{Why, Slot} | _], #state{round = none, next_round = Next, roster = Roster} = State) ->
    case now_ms() >= Next andalso hornbeam_pool_roster:workers(leaving, Roster) =:= [] of
        true ->
            ?LOG_NOTICE(#{what => worker_has_done_enough, pool => State#state.name,
                          worker => Slot, because => Why}, #{domain => [hornbeam]}),
            begin_round(recycled, [Slot], nobody, State);
        false ->
            State
    end;
recycle(_Due, State) ->
    State.

%% Saved first: who is found by others must be known to this process's successor.
publish(#state{name = Name, roster = Roster} = State) ->
    _ = save(State),
    ok = hornbeam_pool_row:publish(Name, hornbeam_pool_roster:handles(serving, Roster),
                                   hornbeam_pool_roster:handles(leaving, Roster)),
    ok = hornbeam_pool:workers_changed(Name),
    State.

now_ms() -> erlang:monotonic_time(millisecond).

%% Drain: nobody finds the workers any more, they end in their own time, and that is bounded. After
%% a crash they serve on.
%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(shutdown, #state{name = Name, roster = Roster, stop_timeout = Timeout}) ->
    Ready = [Handle || {_Pid, #{handle := Handle}} <- hornbeam_pool_roster:ready(Roster)],
    ok = hornbeam_pool_row:publish(Name, [], Ready),
    hornbeam_worker_sup:stop_workers(hornbeam_pool_roster:workers(Roster), Timeout);
terminate(_Crash, _State) ->
    ok.
