%% A pool of workers, as everybody but its own process sees it.
%%
%% What is known of a pool is read without the process that keeps its workers
%% (hornbeam_pool_keeper). So while that is being restarted nobody fails but who wanted it to change
%% something. Who needs a place on a worker gets it from hornbeam_pool_place.
-module(hornbeam_pool).

-export([all/0, lookup/1, await_ready/1, app/1, begin_stop/1, erase/1]).
-export([pick/1, find/2, owners/2, learn/4, worker_id/2]).
-export([peers/1, process_down/2, waiters/1, workers_changed/1, turn_away/1]).
-export([reload/1, set_workers/2, info/0, names/0, load/1, lives/1, condition/1]).
-export_type([name/0, limit/0, reason/0, start/0]).

-type name() :: binary().
%% The path that its app is served at.

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
    hornbeam_pool_waiting:abandon(Name),
    hornbeam_pool_bindings:erase(Name).

%% @doc Say that the app has named a session in an answer of a worker of the pool.
-spec learn(hornbeam_pool_bindings:key(), Worker :: pid(), name(),
            hornbeam_pool_bindings:bounds()) -> ok.
learn(Key, Worker, Name, Bounds) ->
    _ = [hornbeam_pool_affinity:learn(Key, Handle, Name, Bounds)
         || Handle <- serving(Worker, Name)],
    ok.

%% @doc What a worker is called that takes new streams, and none is beside it.
-spec worker_id(Worker :: pid(), name()) -> {ok, binary()} | error.
worker_id(Worker, Name) ->
    case serving(Worker, Name) of
        [Handle] -> {ok, hornbeam_capacity:id(Handle)};
        [] -> error
    end.

serving(Worker, Name) ->
    [Handle || {ok, Row} <- [hornbeam_pool_row:recall(Name)],
               Handle <- hornbeam_pool_row:handles(Row),
               hornbeam_capacity:worker(Handle) =:= Worker].

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

%% @doc How a pool does, without asking a process: how many workers it is to have, how many take new
%% streams and are slow, and how many streams wait for a place.
-spec condition(name()) -> #{wanted := non_neg_integer(), ready := non_neg_integer(),
                             slow := non_neg_integer(), waiting := non_neg_integer()}.
condition(Name) ->
    case hornbeam_pool_row:find(Name) of
        {ok, Row} ->
            Handles = hornbeam_pool_row:handles(Row),
            #{wanted => hornbeam_pool_snapshot:slot_count(Name), ready => length(Handles),
              slow => length(lists:filter(fun hornbeam_capacity:is_slow/1, Handles)),
              waiting => hornbeam_pool_row:waiting(Row)};
        error ->
            #{wanted => 0, ready => 0, slow => 0, waiting => 0}
    end.

%% @doc What to tell a person about all pools: what they run, their workers, and sums; empty when
%% there is none.
-spec info() -> #{atom() => term()}.
info() ->
    case [Info || Name <- all(), {ok, Info} <- [info(Name)]] of
        [] -> #{};
        [First | Others] -> lists:foldl(fun summed/2, First, Others)
    end.

%% @doc The open streams of a pool, and who waits for one; none when there is no such pool.
-spec load(name()) -> #{streams := non_neg_integer(), waiting := non_neg_integer()}.
load(Name) ->
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> #{streams => hornbeam_pool_row:load(Row),
                       waiting => hornbeam_pool_row:waiting(Row)};
        error -> #{streams => 0, waiting => 0}
    end.

%% @doc What the places for workers in a pool have seen, see {@link hornbeam_pool_roster:lives/1}.
-spec lives(name()) -> {ok, hornbeam_pool_roster:lives()} | error.
lives(Name) ->
    hornbeam_pool_snapshot:lives(Name).

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
