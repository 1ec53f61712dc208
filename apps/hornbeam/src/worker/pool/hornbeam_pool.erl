%% A pool of workers, as everybody but its own process sees it.
%%
%% Who needs a worker reads the pool's row and reserves a place on one; only who finds none enters
%% the line (hornbeam_pool_waiting), where hornbeam_pool_dispatcher serves him. What is known of a
%% pool is read without the process that keeps its workers (hornbeam_pool_keeper). So while that is
%% being restarted nobody fails but who wanted it to change something.
-module(hornbeam_pool).

-export([all/0, lookup/1, await_ready/1, app/1, begin_stop/1, erase/1]).
-export([reserve/2, reserve_now/2, drop_copy/0, wait/2, handle_info/3, cancel/1, wait/1, cancel/2]).
-export([pick/1, find/2, owners/2]).
-export([peers/1, process_down/2, waiters/1, workers_changed/1, turn_away/1]).
-export([reload/1, set_workers/2, info/0, names/0]).
-export_type([name/0, wait/0, limit/0, reason/0, start/0]).

-type name() :: binary().
%% The path that its app is served at.

-opaque wait() :: {name(), reference()}.

-type limit() :: infinity | {Max :: pos_integer(), Others :: [name()]}.
%% How many streams there may be, and who waits for one, in a pool and the others that count too.

-type reason() :: full | no_worker | queue_full | late.

-type start() :: #{name := name(), is_alone := boolean(), api := module(),
                   options := hornbeam_config:app_options(), stop_timeout := pos_integer()}.
%% `is_alone': whether there is no other pool. `stop_timeout': what a worker that is to end has for
%% that (ms).

%% @doc The pools that there are, sorted.
-spec all() -> [name()].
all() ->
    hornbeam_pool_row:names().

%% @doc The process that keeps the workers of a pool.
-spec lookup(name()) -> {ok, pid()} | error.
lookup(Name) ->
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> alive(hornbeam_pool_row:keeper(Row));
        error -> error
    end.

alive(undefined) ->
    error;
alive(Keeper) ->
    case is_process_alive(Keeper) of
        true -> {ok, Keeper};
        false -> error
    end.

%% @doc Wait until every worker is ready, or the first has failed. Bounded by the workers'
%% startup_timeout.
-spec await_ready(name()) -> ok | {error, hornbeam_worker_failure:explained()}.
await_ready(Name) ->
    case ask(Name, await_ready) of
        ok -> ok;
        {error, {_, _} = Why} -> {error, Why};
        {error, _} -> {error, {worker, <<"the process of the pool ended during the start">>}}
    end.

%% @doc The app that the pool runs; error when there is no such pool.
-spec app(name()) -> {ok, binary()} | error.
app(Name) ->
    hornbeam_pool_snapshot:app(Name).

%% @doc Have all workers end in order: when the pool is stopped, the rest of that is waited for. So
%% several pools end at once.
-spec begin_stop(name()) -> ok.
begin_stop(Name) ->
    case lookup(Name) of
        {ok, Keeper} -> gen_server:cast(Keeper, begin_stop);
        error -> ok
    end.

%% @doc The pool has been stopped: who still waits waits in vain, and nothing is known of it.
-spec erase(name()) -> ok.
erase(Name) ->
    hornbeam_pool_row:erase(Name),
    hornbeam_pool_snapshot:erase(Name),
    hornbeam_pool_waiting:abandon(Name).

%% @doc A place for a new stream on the ready worker with the least open streams, unless there are
%% too many.
%%
%% When no worker has room the calling process is in the pool's line, at most `queue_timeout', and
%% gives each message that comes to {@link handle_info/3}. A place that was given is to be used at
%% once or given back.
-spec reserve(name(), limit()) ->
    {ok, hornbeam_capacity:handle()} | {wait, wait()} | {error, reason()}.
reserve(Name, Limit) ->
    case hornbeam_pool_row:recall(Name) of
        {ok, Row} -> reserve(Name, Limit, Row);
        error -> {error, no_worker}
    end.

reserve(Name, Limit, Row) ->
    case take_now(Row) of
        {ok, Handle} -> still_within(Limit, Handle, Row);
        none -> wait_within(Name, Limit, Row)
    end.

%% @doc The calling process, which has asked for places, does not for a while: it gives back what it
%% keeps for that.
-spec drop_copy() -> ok.
drop_copy() ->
    hornbeam_pool_row:forget().

%% @doc The same, unless one would have to wait.
-spec reserve_now(name(), limit()) -> {ok, hornbeam_capacity:handle()} | none.
reserve_now(Name, Limit) ->
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> reserve_now(take_now(Row), Limit, Row);
        error -> none
    end.

reserve_now({ok, Handle}, Limit, Row) ->
    case still_within(Limit, Handle, Row) of
        {ok, Handle} -> {ok, Handle};
        {error, full} -> none
    end;
reserve_now(none, _Limit, _Row) ->
    none.

%% @doc A place by the pool's line, for a process that may die before it has used it.
-spec wait(name(), limit()) -> {wait, wait()} | {error, reason()}.
wait(Name, Limit) ->
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> wait_within(Name, Limit, Row);
        error -> {error, no_worker}
    end.

%% Who waits is not overtaken.
take_now(Row) ->
    case hornbeam_pool_row:is_waited_for(Row) of
        true -> none;
        false ->
            Reserve = fun hornbeam_capacity:reserve/1,
            hornbeam_pool_balancer:reserve(hornbeam_pool_row:handles(Row), Reserve)
    end.

%% Others may have come at the same time.
still_within(infinity, Handle, _Row) ->
    {ok, Handle};
still_within({Max, Others}, Handle, Row) ->
    case in_progress(Row, Others) =< Max of
        true ->
            {ok, Handle};
        false ->
            hornbeam_capacity:give_back(Handle),
            {error, full}
    end.

wait_within(Name, Limit, Row) ->
    case is_full(Limit, Row) of
        true -> {error, full};
        false -> {wait, {Name, wait(Name)}}
    end.

is_full(infinity, _Row) -> false;
is_full({Max, Others}, Row) -> in_progress(Row, Others) >= Max.

in_progress(Row, Others) ->
    lists:sum([hornbeam_pool_row:in_progress(Each)
               || Each <- [Row | [Other || Name <- Others,
                                           {ok, Other} <- [hornbeam_pool_row:find(Name)]]]]).

%% @doc A message to the process that waits.
-spec handle_info(term(), wait(), limit()) ->
    {ok, hornbeam_capacity:handle()} | {wait, wait()} | {error, reason()}.
handle_info({hornbeam_pool, Ref, {ok, Handle}}, {Name, Ref}, Limit) ->
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> still_within(Limit, Handle, Row);
        error -> {ok, Handle}
    end;
handle_info({hornbeam_pool, Ref, {error, _} = Error}, {_Name, Ref}, _Limit) ->
    Error;
handle_info(_Other, Wait, _Limit) ->
    {wait, Wait}.

%% @doc Wait no longer.
-spec cancel(wait()) -> ok.
cancel({Name, Ref}) ->
    cancel(Name, Ref).

%% @doc Wait for a place without blocking.
%%
%% The calling process gets `{hornbeam_pool, Ref, Answer}' once, with an answer of
%% {@link hornbeam_pool_waiting:answer()}: a handle, or an error at the latest after
%% `queue_timeout'. No crash in the pool changes anything of that. A process that dies waits no
%% longer.
-spec wait(name()) -> reference().
wait(Name) ->
    Ref = hornbeam_pool_waiting:enter(Name),
    %% Looked up only now: a process that began before that has read the line or is told.
    case hornbeam_pool_row:find(Name) of
        {ok, Row} ->
            hornbeam_pool_dispatcher:wait(hornbeam_pool_row:dispatcher(Row), Ref),
            Ref;
        error ->
            hornbeam_pool_waiting:answer(Ref, {error, no_worker}),
            Ref
    end.

%% @doc Wait no longer: nothing comes any more, and a place that was given is given back.
-spec cancel(name(), reference()) -> ok.
cancel(Name, Ref) ->
    hornbeam_pool_waiting:leave(Ref, Name),
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> hornbeam_pool_dispatcher:forget(hornbeam_pool_row:dispatcher(Row), Ref);
        error -> hornbeam_pool_waiting:strike(Ref)
    end.

%% @doc The worker that a call into the app should go to; it takes no place.
-spec pick(name()) -> {ok, hornbeam_capacity:handle()} | {error, no_worker}.
pick(Name) ->
    case [hornbeam_pool_row:handles(Row) || {ok, Row} <- [hornbeam_pool_row:find(Name)]] of
        [[_ | _] = Handles] -> {ok, hornbeam_pool_balancer:least_loaded(Handles)};
        _ -> {error, no_worker}
    end.

%% @doc The ready worker with a name, such as `<<"worker-1">>'.
-spec find(name(), Worker :: binary()) -> {ok, pid()} | {error, no_worker}.
find(Name, Worker) ->
    hornbeam_pool_snapshot:find(Name, Worker).

%% @doc The workers of the pool that a worker is in, with itself, also before they are ready; `all'
%% where there is no other pool.
-spec peers(pid()) -> all | #{pid() => Name :: binary()}.
peers(Worker) ->
    case all() of
        [_] ->
            all;
        Names ->
            Pools = [hornbeam_pool_snapshot:names(Name) || Name <- Names],
            lists:foldl(fun maps:merge/2, #{}, [Pool || Pool <- Pools, is_map_key(Worker, Pool)])
    end.

%% @doc The owners of streams of a kind in the pool.
-spec owners(hornbeam_stream:kind(), name()) -> [hornbeam_stream:owner()].
owners(Kind, Name) ->
    lists:append([Owners || Worker <- hornbeam_pool_row:workers(Name),
                            {ok, Owners} <- [hornbeam_worker:owners(Kind, Worker)]]).

%% @doc Tell the workers that a process has died in which tagged owners may be, and which has not
%% said so itself.
-spec process_down(pid(), name()) -> ok.
process_down(Pid, Name) ->
    lists:foreach(fun(Worker) -> hornbeam_worker_protocol:process_down(Worker, Pid) end,
                  hornbeam_pool_row:workers(Name)).

%% @doc The processes that wait for a place.
-spec waiters(name()) -> [pid()].
waiters(Name) ->
    hornbeam_pool_waiting:pids(Name).

%% @doc Have those who wait looked at: the pool has other workers than before.
-spec workers_changed(name()) -> ok.
workers_changed(Name) ->
    to_dispatcher(fun hornbeam_pool_dispatcher:workers_changed/1, Name).

%% @doc Tell those who wait for a place that they wait in vain.
-spec turn_away(name()) -> ok.
turn_away(Name) ->
    to_dispatcher(fun hornbeam_pool_dispatcher:turn_away/1, Name).

to_dispatcher(Tell, Name) ->
    _ = [Tell(hornbeam_pool_row:dispatcher(Row)) || {ok, Row} <- [hornbeam_pool_row:find(Name)]],
    ok.

%% @doc The names of the workers of all pools, by their processes.
-spec names() -> #{pid() => binary()}.
names() ->
    lists:foldl(fun maps:merge/2, #{}, [hornbeam_pool_snapshot:names(Name) || Name <- all()]).

%% @doc Replace every worker by a fresh one that has imported the app anew.
%%
%% Returns when all of them are ready and have taken over; the old ones then retire. On an error
%% nothing has changed. Bounded by the workers' startup_timeout.
-spec reload(name()) -> ok | {error, hornbeam_pool_keeper:reload_error()}.
reload(Name) ->
    ask(Name, reload).

%% @doc Run so many workers from now on: more are started, those that are too many retire.
-spec set_workers(name(), pos_integer()) -> ok | {error, not_serving | reloading | interrupted}.
set_workers(Name, Workers) ->
    ask(Name, {set_workers, Workers}).

ask(Name, Question) ->
    case lookup(Name) of
        {ok, Pool} -> ask_process(Pool, Question);
        error -> {error, not_serving}
    end.

%% It may be stopped, or crash, before it has answered.
ask_process(Pool, Question) ->
    try
        gen_server:call(Pool, Question, infinity)
    catch
        exit:{_Reason, {gen_server, call, _}} -> {error, interrupted}
    end.

%% @doc What to tell a person about all pools: what they run, their workers, and sums; empty when
%% there is none.
-spec info() -> #{atom() => term()}.
info() ->
    case [Info || Name <- all(), {ok, Info} <- [info(Name)]] of
        [] -> #{};
        [First | Others] -> lists:foldl(fun summed/2, First, Others)
    end.

info(Name) ->
    case {hornbeam_pool_row:find(Name), hornbeam_pool_snapshot:describe(Name)} of
        {{ok, Row}, {ok, #{app := App} = Info, Workers}} ->
            {ok, (maps:remove(app, Info))#{apps => #{Name => App},
                                           waiting => hornbeam_pool_row:waiting(Row),
                                           streams => hornbeam_pool_row:load(Row),
                                           workers => all_described(Name, Workers)}};
        _ ->
            error
    end.

all_described(Name, Workers) ->
    lists:append([described(Pid, More#{pool => Name}) || {Pid, More} <- Workers]).

described(Worker, More) ->
    [maps:merge(More, Described) || {ok, Described} <- [hornbeam_worker:describe(Worker)]].

summed(Other, Sum) ->
    maps:map(fun(Key, Value) -> sum(Value, maps:get(Key, Other)) end, Sum).

sum(A, B) when is_integer(A) -> A + B;
sum(A, B) when is_list(A) -> A ++ B;
sum(A, B) when is_map(A) -> maps:merge_with(fun(_Key, One, Another) -> One + Another end, A, B).
