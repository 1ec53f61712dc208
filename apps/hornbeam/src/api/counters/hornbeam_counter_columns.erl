%% Counters of all nodes: of each key a column for each life of a node that has counted it, and
%% their sum. Only hornbeam_counter_server changes them; all may read.
%%
%% A `lasting' column has one writer, the life that it is of, and a version for each of its changes:
%% of two copies the one with the greater version is right. It stays when that life is over. A
%% `bound' column is what the connections of a node have added that are there; it goes with them,
%% and with its node.
-module(hornbeam_counter_columns).

-export([new_tables/0, get/1, find/1, insert/1, delete/1, next/1, all/0]).
-export([added/2, note_added/3, forget_added/2, added_by/1, all_added/0]).
-export_type([key/0, id/0, column/0]).

-type key() :: hornbeam_state_key:key().
-type peer() :: hornbeam_links:peer().
-type id() :: {key(), {lasting, peer()} | {bound, here | peer()}}.
-type column() :: {id(), Value :: number(), Count :: pos_integer()}.
%% `Count' is the version of what lasts, and of what is bound here how many owners have added to it.

-define(COLUMNS, hornbeam_counter_columns).
%% Rows: {{Owner, Key}, Added}.
-define(ADDED, hornbeam_counters_added).

%% @doc Make the tables and begin a life; their owner must outlive everybody.
-spec new_tables() -> ok.
new_tables() ->
    Options = [named_table, public, ordered_set, {read_concurrency, true}],
    ?COLUMNS = ets:new(?COLUMNS, Options),
    ?ADDED = ets:new(?ADDED, Options),
    ok.

%% @doc What all have counted, as far as it is known here. It is never more than can travel.
-spec get(key()) -> {ok, number()} | absent.
get(Key) ->
    case ets:select(?COLUMNS, [{{{Key, '_'}, '$1', '_'}, [], ['$1']}]) of
        [] -> absent;
        Values -> {ok, lists:foldl(fun hornbeam_value:nearest_sum/2, 0, Values)}
    end.

%% @doc A column.
-spec find(id()) -> column() | none.
find(Id) ->
    case ets:lookup(?COLUMNS, Id) of
        [Column] -> Column;
        [] -> none
    end.

%% @doc Put a column in the place of the one of its id, or of none.
-spec insert(column()) -> ok.
insert(Column) ->
    true = ets:insert(?COLUMNS, Column),
    ok.

-spec delete(id()) -> ok.
delete(Id) ->
    true = ets:delete(?COLUMNS, Id),
    ok.

%% @doc The id of the next column, in the order of ids. Numbers come first of all.
-spec next(id() | 0) -> id() | none.
next(Id) ->
    case ets:next(?COLUMNS, Id) of
        '$end_of_table' -> none;
        Next -> Next
    end.

-spec all() -> [column()].
all() ->
    ets:tab2list(?COLUMNS).

%% What is to be taken back.

%% @doc What an owner has added to a key.
-spec added(Owner :: pid(), key()) -> number() | none.
added(Owner, Key) ->
    case ets:lookup(?ADDED, {Owner, Key}) of
        [{_, Added}] -> Added;
        [] -> none
    end.

-spec note_added(Owner :: pid(), key(), number()) -> ok.
note_added(Owner, Key, Added) ->
    true = ets:insert(?ADDED, {{Owner, Key}, Added}),
    ok.

-spec forget_added(Owner :: pid(), key()) -> ok.
forget_added(Owner, Key) ->
    true = ets:delete(?ADDED, {Owner, Key}),
    ok.

%% @doc All that an owner has added; does not scan.
-spec added_by(Owner :: pid()) -> [{key(), number()}].
added_by(Owner) ->
    ets:select(?ADDED, [{{{Owner, '$1'}, '$2'}, [], [{{'$1', '$2'}}]}]).

-spec all_added() -> [{{Owner :: pid(), key()}, number()}].
all_added() ->
    ets:tab2list(?ADDED).
