%% What a pool's process knows about its workers, kept where its crash does not reach: for its
%% successor, and for those who ask about the pool.
-module(hornbeam_pool_snapshot).

-export([new_table/0, keep/2, recall/1, erase/1]).

-define(TABLE, ?MODULE).

%% @doc Make the table; its owner must outlive the pools.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public]),
    ok.

%% @doc Keep what is known of a pool in place of what was.
-spec keep(hornbeam_pool:name(), Memory :: term()) -> ok.
keep(Name, Memory) ->
    true = ets:insert(?TABLE, {Name, Memory}),
    ok.

%% @doc What was kept last.
-spec recall(hornbeam_pool:name()) -> {ok, Memory :: term()} | none.
recall(Name) ->
    case ets:lookup(?TABLE, Name) of
        [{_, Memory}] -> {ok, Memory};
        [] -> none
    end.

%% @doc The pool is no more.
-spec erase(hornbeam_pool:name()) -> ok.
erase(Name) ->
    true = ets:delete(?TABLE, Name),
    ok.
