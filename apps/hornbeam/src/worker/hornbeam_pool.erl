%% A pool of workers, as everybody but its own process sees it.
%%
%% Who needs a worker reads the pool's row and reserves a place on one; only who finds none goes to
%% the pool's process (hornbeam_pool_keeper), and waits there.
-module(hornbeam_pool).

-export([all/0, lookup/1, await_ready/1, options/1]).
-export([reserve/2, reserve_now/2, wait/2, told/3, forget/1, wait/1, forget/2]).
-export([pick/1, find/2, owners/2, load/1]).
-export([process_down/2, waiters/1, turn_away/1]).
-export([reload/1, set_workers/2, info/0, names/0]).
-export_type([name/0, wait/0, reason/0, start/0]).

-type name() :: binary().
%% The path that its app is served at.

-opaque wait() :: {name(), reference()}.
-type reason() :: full | no_worker | queue_full | late.

-type start() :: #{name := name(), api := module(), options := hornbeam_config:app_options(),
                   stop_timeout := pos_integer()}.
%% `stop_timeout': what a worker that is to end has for that (ms).

%% @doc The pools that work now, sorted.
-spec all() -> [name()].
all() ->
    [Name || Name <- hornbeam_pool_row:names(), {ok, _} <- [lookup(Name)]].

%% @doc The process of a pool.
-spec lookup(name()) -> {ok, pid()} | error.
lookup(Name) ->
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> alive(hornbeam_pool_row:process(Row));
        error -> error
    end.

alive(Pool) ->
    case is_process_alive(Pool) of
        true -> {ok, Pool};
        false -> error
    end.

%% @doc Wait until every worker is ready, or the first has failed. Bounded by the workers'
%% startup_timeout.
-spec await_ready(name()) -> ok | {error, hornbeam_worker_failure:explained()}.
await_ready(Name) ->
    {ok, Pool} = lookup(Name),
    gen_server:call(Pool, await_ready, infinity).

%% @doc The checked options that the pool runs with.
-spec options(name()) -> hornbeam_config:app_options().
options(Name) ->
    {ok, Pool} = lookup(Name),
    gen_server:call(Pool, options).

%% @doc A place for a new stream on the ready worker with the least open streams, unless the pool
%% has `Max' of them.
%%
%% When no worker has room the calling process is in the pool's line, at most `queue_timeout', and
%% gives each message that comes to {@link told/3}. A place that was given is to be used at once or
%% given back.
-spec reserve(name(), Max :: pos_integer() | infinity) ->
    {ok, hornbeam_stream:handle()} | {wait, wait()} | {error, reason()}.
reserve(Name, Max) ->
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> reserve(Name, Max, Row);
        error -> {error, no_worker}
    end.

reserve(Name, Max, Row) ->
    case take_now(Row) of
        {ok, Handle} -> still_within(Max, Handle, Row);
        none -> wait_within(Name, Max, Row)
    end.

%% @doc The same, unless one would have to wait.
-spec reserve_now(name(), Max :: pos_integer() | infinity) -> {ok, hornbeam_stream:handle()} | none.
reserve_now(Name, Max) ->
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> reserve_now(take_now(Row), Max, Row);
        error -> none
    end.

reserve_now({ok, Handle}, Max, Row) ->
    case still_within(Max, Handle, Row) of
        {ok, Handle} -> {ok, Handle};
        {error, full} -> none
    end;
reserve_now(none, _Max, _Row) ->
    none.

%% @doc A place by the pool's line, for a process that may die before it has used it.
-spec wait(name(), Max :: pos_integer() | infinity) -> {wait, wait()} | {error, reason()}.
wait(Name, Max) ->
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> wait_within(Name, Max, Row);
        error -> {error, no_worker}
    end.

%% Who waits is not overtaken.
take_now(Row) ->
    case hornbeam_pool_row:is_waited_for(Row) of
        true -> none;
        false -> hornbeam_choice:take(hornbeam_pool_row:handles(Row), fun hornbeam_stream:reserve/1)
    end.

%% Others may have come at the same time.
still_within(infinity, Handle, _Row) ->
    {ok, Handle};
still_within(Max, Handle, Row) ->
    case hornbeam_pool_row:in_progress(Row) =< Max of
        true ->
            {ok, Handle};
        false ->
            hornbeam_stream:give_back(Handle),
            {error, full}
    end.

wait_within(Name, Max, Row) ->
    case Max =:= infinity orelse hornbeam_pool_row:in_progress(Row) < Max of
        true -> {wait, {Name, wait_for(hornbeam_pool_row:process(Row))}};
        false -> {error, full}
    end.

%% @doc A message to the process that waits.
-spec told(term(), wait(), Max :: pos_integer() | infinity) ->
    {ok, hornbeam_stream:handle()} | {wait, wait()} | {error, reason()}.
told({hornbeam_pool, Ref, {ok, Handle}}, {Name, Ref}, Max) ->
    case hornbeam_pool_row:find(Name) of
        {ok, Row} -> still_within(Max, Handle, Row);
        error -> {ok, Handle}
    end;
told({hornbeam_pool, Ref, {error, _} = Error}, {_Name, Ref}, _Max) ->
    Error;
told({'DOWN', Ref, process, _, _}, {_Name, Ref}, _Max) ->
    {error, no_worker};
told(_Other, Wait, _Max) ->
    {wait, Wait}.

%% @doc Wait no longer.
-spec forget(wait()) -> ok.
forget({Name, Ref}) ->
    forget(Name, Ref).

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
    case [hornbeam_pool_row:handles(Row) || {ok, Row} <- [hornbeam_pool_row:find(Name)]] of
        [[_ | _] = Handles] -> {ok, hornbeam_choice:least_loaded(Handles)};
        _ -> {error, no_worker}
    end.

%% @doc The ready worker with a name, such as `<<"worker-1">>'.
-spec find(name(), Worker :: binary()) -> {ok, pid()} | {error, no_worker}.
find(Name, Worker) ->
    case lookup(Name) of
        {ok, Pool} -> gen_server:call(Pool, {find, Worker});
        error -> {error, no_worker}
    end.

%% @doc The owners of streams of a kind in the pool.
-spec owners(hornbeam_stream:kind(), name()) -> [hornbeam_stream:owner()].
owners(Kind, Name) ->
    lists:append([Owners || {Worker, _} <- workers(Name),
                            {ok, Owners} <- [hornbeam_worker:owners(Kind, Worker)]]).

%% @doc Tell the workers that a process has died of which parts may own streams, and has not said
%% so itself.
-spec process_down(pid(), name()) -> ok.
process_down(Pid, Name) ->
    _ = [gen_server:cast(Pool, {process_down, Pid}) || {ok, Pool} <- [lookup(Name)]],
    ok.

%% @doc The processes that wait for a place.
-spec waiters(name()) -> [pid()].
waiters(Name) ->
    case lookup(Name) of
        {ok, Pool} -> gen_server:call(Pool, waiters);
        error -> []
    end.

%% @doc Tell those who wait for a place that they wait in vain.
-spec turn_away(name()) -> ok.
turn_away(Name) ->
    _ = [gen_server:cast(Pool, turn_away) || {ok, Pool} <- [lookup(Name)]],
    ok.

workers(Name) ->
    case lookup(Name) of
        {ok, Pool} -> element(2, gen_server:call(Pool, info));
        error -> []
    end.

%% @doc The names of the workers of all pools, by their processes.
-spec names() -> #{pid() => binary()}.
names() ->
    lists:foldl(fun maps:merge/2, #{},
                [gen_server:call(Pool, names) || Name <- all(), {ok, Pool} <- [lookup(Name)]]).

%% @doc The open streams of the pool; cheap.
-spec load(name()) -> non_neg_integer().
load(Name) ->
    lists:sum([hornbeam_pool_row:load(Row) || {ok, Row} <- [hornbeam_pool_row:find(Name)]]).

%% @doc Replace every worker by a fresh one that has imported the app anew.
%%
%% Returns when all of them are ready and have taken over; the old ones then retire. On an error
%% nothing has changed. Bounded by the workers' startup_timeout.
-spec reload(name()) -> ok | {error, hornbeam_pool_keeper:reload_error()}.
reload(Name) ->
    ask(Name, reload).

%% @doc Run so many workers from now on: more are started, those that are too many retire.
-spec set_workers(name(), pos_integer()) -> ok | {error, not_serving | reloading}.
set_workers(Name, Workers) ->
    ask(Name, {set_workers, Workers}).

ask(Name, Question) ->
    case lookup(Name) of
        {ok, Pool} -> gen_server:call(Pool, Question, infinity);
        error -> {error, not_serving}
    end.

%% @doc What to tell a person about all pools: what they run, their workers, and sums; empty when
%% there is none.
-spec info() -> #{atom() => term()}.
info() ->
    case [info(Name, Pool) || Name <- all(), {ok, Pool} <- [lookup(Name)]] of
        [] -> #{};
        [First | Others] -> lists:foldl(fun summed/2, First, Others)
    end.

info(Name, Pool) ->
    {#{app := App} = Info, Workers} = gen_server:call(Pool, info),
    (maps:remove(app, Info))#{apps => #{Name => App}, streams => load(Name),
                              workers => lists:append([described(Pid, More#{pool => Name})
                                                       || {Pid, More} <- Workers])}.

described(Worker, More) ->
    [maps:merge(More, Described) || {ok, Described} <- [hornbeam_worker:describe(Worker)]].

summed(Other, Sum) ->
    maps:map(fun(Key, Value) -> sum(Value, maps:get(Key, Other)) end, Sum).

sum(A, B) when is_integer(A) -> A + B;
sum(A, B) when is_list(A) -> A ++ B;
sum(A, B) when is_map(A) -> maps:merge_with(fun(_Key, One, Another) -> One + Another end, A, B).
