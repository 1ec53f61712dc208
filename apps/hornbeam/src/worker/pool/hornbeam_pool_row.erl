%% What others read of a pool to find a worker, without asking its process: one row of a table.
%%
%% The pool's two processes write it, each its own part. When one crashes the row stays, and the
%% workers in it are found as before; its successor takes its part over.
-module(hornbeam_pool_row).

-export([new_table/0, keep/2, dispatch/3, publish/3, erase/1, find/1, recall/1, forget/0, names/0]).
-export([keeper/1, dispatcher/1, handles/1, workers/1]).
-export([is_waited_for/1, new_waiting/0, waiting/1, load/1, in_progress/1]).
-export_type([row/0]).

-record(row, {
    name :: hornbeam_pool:name(),
    %% who keeps the workers, and who gives places on them to those who wait
    keeper :: pid() | undefined,
    dispatcher :: pid() | undefined,
    %% the workers that take new streams
    handles = [] :: [hornbeam_capacity:handle()],
    %% those that run streams and take no more
    retiring = [] :: [hornbeam_capacity:handle()],
    %% how many wait for a place, and how many of them for one on any worker
    waiting :: atomics:atomics_ref()
}).
-opaque row() :: #row{}.

-define(TABLE, hornbeam_pool).

%% How often a row has changed, for those who keep a copy.
-define(CHANGES, {?MODULE, changes}).

%% @doc Make the table of pools; its owner must outlive them.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {keypos, #row.name}, {read_concurrency, true}]),
    persistent_term:put(?CHANGES, atomics:new(1, [])).

changed() ->
    atomics:add(persistent_term:get(?CHANGES), 1, 1).

%% @doc A process keeps the workers of a pool from now on.
-spec keep(hornbeam_pool:name(), pid()) -> ok.
keep(Name, Keeper) ->
    written(Name, [{#row.keeper, Keeper}]).

%% @doc A process gives places to those who wait for one, and counts them in `Waiting'.
-spec dispatch(hornbeam_pool:name(), pid(), Waiting :: atomics:atomics_ref()) -> ok.
dispatch(Name, Dispatcher, Waiting) ->
    written(Name, [{#row.dispatcher, Dispatcher}, {#row.waiting, Waiting}]).

written(Name, Fields) ->
    _ = ets:insert_new(?TABLE, #row{name = Name, waiting = new_waiting()}),
    true = ets:update_element(?TABLE, Name, Fields),
    changed().

%% @doc These workers take new streams, and those run what they have.
-spec publish(hornbeam_pool:name(), [hornbeam_capacity:handle()],
              Retiring :: [hornbeam_capacity:handle()]) -> ok.
publish(Name, Handles, Retiring) ->
    true = ets:update_element(?TABLE, Name, [{#row.handles, Handles}, {#row.retiring, Retiring}]),
    changed().

%% @doc The pool is no more.
-spec erase(hornbeam_pool:name()) -> ok.
erase(Name) ->
    true = ets:delete(?TABLE, Name),
    changed().

-spec find(hornbeam_pool:name()) -> {ok, row()} | error.
find(Name) ->
    case ets:lookup(?TABLE, Name) of
        [Row] -> {ok, Row};
        [] -> error
    end.

%% @doc The same, for a process that asks again and again: it keeps the row until that changes. What
%% a row is made of costs more to copy, and to collect, than all else that finds a worker.
-spec recall(hornbeam_pool:name()) -> {ok, row()} | error.
recall(Name) ->
    Changes = atomics:get(persistent_term:get(?CHANGES), 1),
    case get(?MODULE) of
        {Name, Changes, Row} -> {ok, Row};
        _ -> kept(Name, Changes, find(Name))
    end.

kept(Name, Changes, {ok, Row}) ->
    _ = put(?MODULE, {Name, Changes, Row}),
    {ok, Row};
kept(_Name, _Changes, error) ->
    error.

%% @doc The calling process asks no more for a while.
-spec forget() -> ok.
forget() ->
    _ = erlang:erase(?MODULE),
    ok.

%% @doc The pools that there are, sorted.
-spec names() -> [hornbeam_pool:name()].
names() ->
    lists:sort(ets:select(?TABLE, [{'$1', [], [{element, #row.name, '$1'}]}])).

-spec keeper(row()) -> pid() | undefined.
keeper(#row{keeper = Keeper}) -> Keeper.

-spec dispatcher(row()) -> pid() | undefined.
dispatcher(#row{dispatcher = Dispatcher}) -> Dispatcher.

-spec handles(row()) -> [hornbeam_capacity:handle()].
handles(#row{handles = Handles}) -> Handles.

%% @doc All workers of a pool that may run streams; none when there is no such pool.
-spec workers(hornbeam_pool:name()) -> [pid()].
workers(Name) ->
    [hornbeam_capacity:worker(Handle)
     || {ok, #row{handles = Handles, retiring = Retiring}} <- [find(Name)],
        Handle <- Handles ++ Retiring].

%% @doc What counts those who wait: nobody.
-spec new_waiting() -> atomics:atomics_ref().
new_waiting() -> atomics:new(2, []).

%% @doc Whether somebody waits for a place on any worker, whom nobody may overtake.
-spec is_waited_for(row()) -> boolean().
is_waited_for(#row{waiting = Waiting}) -> atomics:get(Waiting, 2) > 0.

%% @doc How many wait for a place.
-spec waiting(row()) -> non_neg_integer().
waiting(#row{waiting = Waiting}) -> atomics:get(Waiting, 1).

%% @doc The open streams of the pool.
-spec load(row()) -> non_neg_integer().
load(#row{handles = Handles, retiring = Retiring}) ->
    lists:sum([hornbeam_capacity:load(Handle) || Handle <- Handles ++ Retiring]).

%% @doc The open streams, and who waits for a place.
-spec in_progress(row()) -> non_neg_integer().
in_progress(Row) ->
    load(Row) + waiting(Row).
