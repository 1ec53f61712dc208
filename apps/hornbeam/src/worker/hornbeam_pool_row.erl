%% What others read of a pool to find a worker, without asking its process: one row of a table.
%%
%% The pool's process writes it. When that crashes the row stays, and the workers in it are found as
%% before; its successor takes it over.
-module(hornbeam_pool_row).

-export([new_table/0, write/3, publish/3, erase/1, find/1, recall/1, forget/0, names/0]).
-export([process/1, handles/1, workers/1, is_waited_for/1, waiting/1, load/1, in_progress/1]).
-export_type([row/0]).

-record(row, {
    name :: hornbeam_pool:name(),
    process :: pid(),
    %% the workers that take new streams
    handles = [] :: [hornbeam_capacity:handle()],
    %% those that run streams and take no more
    retiring = [] :: [hornbeam_capacity:handle()],
    %% 1: how many wait for a place
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

%% @doc A process keeps a pool from now on, and counts in `Waiting' who waits.
-spec write(hornbeam_pool:name(), pid(), Waiting :: atomics:atomics_ref()) -> ok.
write(Name, Process, Waiting) ->
    New = #row{name = Name, process = Process, waiting = Waiting},
    true = ets:insert(?TABLE, with_workers_of(find(Name), New)),
    changed().

with_workers_of({ok, #row{handles = Handles, retiring = Retiring}}, New) ->
    New#row{handles = Handles, retiring = Retiring};
with_workers_of(error, New) ->
    New.

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
    lists:sort([Name || #row{name = Name} <- ets:tab2list(?TABLE)]).

-spec process(row()) -> pid().
process(#row{process = Process}) -> Process.

-spec handles(row()) -> [hornbeam_capacity:handle()].
handles(#row{handles = Handles}) -> Handles.

%% @doc All workers that may run streams.
-spec workers(row()) -> [pid()].
workers(#row{handles = Handles, retiring = Retiring}) ->
    [hornbeam_capacity:worker(Handle) || Handle <- Handles ++ Retiring].

%% @doc Whether somebody waits for a place, whom nobody may overtake.
-spec is_waited_for(row()) -> boolean().
is_waited_for(Row) -> waiting(Row) > 0.

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
