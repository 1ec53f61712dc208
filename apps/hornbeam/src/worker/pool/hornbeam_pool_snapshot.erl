%% What a pool's keeper knows, kept where its crash does not reach: for its successor, and for those
%% who ask about the pool.
-module(hornbeam_pool_snapshot).

-export([new_table/0, save/2, load/1, erase/1]).
-export([app/1, describe/1, lives/1, names/1, find/2, slot_count/1]).
-export_type([snapshot/0, phase/0]).

-type phase() :: starting | serving | stopping | {failed, hornbeam_worker_failure:explained()}.

-type snapshot() :: #{workers_sup := pid(), app := binary(),
                      python := file:filename() | undefined, phase := phase(),
                      roster := hornbeam_pool_roster:roster()}.

-define(TABLE, ?MODULE).

%% @doc Make the table; its owner must outlive the pools.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public]),
    ok.

%% @doc Keep what is known of a pool in place of what was.
-spec save(hornbeam_pool:name(), snapshot()) -> ok.
save(Name, Snapshot) ->
    true = ets:insert(?TABLE, {Name, Snapshot}),
    ok.

%% @doc What was kept last.
-spec load(hornbeam_pool:name()) -> {ok, snapshot()} | none.
load(Name) ->
    case ets:lookup(?TABLE, Name) of
        [{_, Snapshot}] -> {ok, Snapshot};
        [] -> none
    end.

%% @doc The pool is no more.
-spec erase(hornbeam_pool:name()) -> ok.
erase(Name) ->
    true = ets:delete(?TABLE, Name),
    ok.

%% @doc The app that a pool runs.
-spec app(hornbeam_pool:name()) -> {ok, binary()} | error.
app(Name) ->
    case load(Name) of
        {ok, #{app := App}} -> {ok, App};
        none -> error
    end.

%% @doc What is known of a pool, and of its workers, in the order of their slots.
-spec describe(hornbeam_pool:name()) ->
    {ok, #{atom() => term()}, [{Worker :: pid(), #{atom() => term()}}]} | error.
describe(Name) ->
    case load(Name) of
        {ok, #{app := App, roster := Roster}} ->
            {Facts, Workers} = hornbeam_pool_roster:describe(Roster),
            {ok, Facts#{app => App}, Workers};
        none ->
            error
    end.

%% @doc What the slots of a pool have seen.
-spec lives(hornbeam_pool:name()) -> {ok, hornbeam_pool_roster:lives()} | error.
lives(Name) ->
    case load(Name) of
        {ok, #{roster := Roster}} -> {ok, hornbeam_pool_roster:lives(Roster)};
        none -> error
    end.

%% @doc The names of a pool's workers.
-spec names(hornbeam_pool:name()) -> #{pid() => binary()}.
names(Name) ->
    hornbeam_pool_roster:names(roster(Name)).

%% @doc How many workers a pool is to have.
-spec slot_count(hornbeam_pool:name()) -> non_neg_integer().
slot_count(Name) ->
    hornbeam_pool_roster:slot_count(roster(Name)).

%% @doc The serving worker with a name.
-spec find(hornbeam_pool:name(), Worker :: binary()) -> {ok, pid()} | {error, no_worker}.
find(Name, Worker) ->
    hornbeam_pool_roster:find(Worker, roster(Name)).

roster(Name) ->
    case load(Name) of
        {ok, #{roster := Roster}} -> Roster;
        none -> hornbeam_pool_roster:new()
    end.
