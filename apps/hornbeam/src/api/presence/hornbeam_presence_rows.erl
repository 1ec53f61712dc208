%% Who is present where: the rows of this node's connections, and those that other nodes have told
%% of. Only hornbeam_presence_server changes them; all may read.
-module(hornbeam_presence_rows).

-include("hornbeam_presence.hrl").

-export([new_tables/0, insert/1, delete/1, recount/0]).
-export([find/1, owned/3, of_owner/1, owners/0, sources/0, next/1]).
-export([members/1, count/1, keys_and_rows/1, bytes/1, size/0]).
-export_type([topic/0, key/0, source/0, id/0, row/0]).

-type topic() :: binary().
-type key() :: binary().
-type source() :: here | hornbeam_links:peer().
-type id() :: {source(), Number :: non_neg_integer()}.
-type row() :: #row{}.

%% Rows: {{Topic, Key, id()}, Ref, Prev, Meta, Owner}.
-define(ROWS, hornbeam_presences).
%% Rows: {id(), Topic, Key}.
-define(IDS, hornbeam_presence_ids).
%% Rows: {{Owner, Topic, Key}, id()}.
-define(OWNED, hornbeam_presences_owned).
%% Rows: {Topic, Keys, Rows}.
-define(TOPICS, hornbeam_presence_topics).

%% Bytes of a row in all tables, beside what is counted of each (about).
-define(ROW, 600).

%% @doc Make the tables; their owner must outlive everybody.
-spec new_tables() -> ok.
new_tables() ->
    Options = [named_table, public, {read_concurrency, true}],
    ?ROWS = ets:new(?ROWS, [ordered_set | Options]),
    ?IDS = ets:new(?IDS, [ordered_set | Options]),
    ?OWNED = ets:new(?OWNED, [ordered_set | Options]),
    ?TOPICS = ets:new(?TOPICS, [set | Options]),
    ok.

%% To change.

%% @doc Put a row in the place of the one that has its id, or of none.
-spec insert(row()) -> ok.
insert(#row{id = Id, topic = Topic, key = Key} = Row) ->
    case ets:member(?IDS, Id) of
        true -> ok;
        false -> enter(Row)
    end,
    #row{ref = Ref, prev = Prev, meta = Meta, owner = Owner} = Row,
    true = ets:insert(?ROWS, {{Topic, Key, Id}, Ref, Prev, Meta, Owner}),
    ok.

enter(#row{id = Id, topic = Topic, key = Key, owner = Owner}) ->
    _ = [true = ets:insert(?OWNED, {{Owner, Topic, Key}, Id}) || is_pid(Owner)],
    true = ets:insert(?IDS, {Id, Topic, Key}),
    count(Topic, keys(not is_there(Topic, Key)), 1).

%% @doc Delete a row.
-spec delete(row()) -> ok.
delete(#row{id = Id, topic = Topic, key = Key, owner = Owner}) ->
    true = ets:delete(?ROWS, {Topic, Key, Id}),
    true = ets:delete(?IDS, Id),
    true = ets:delete(?OWNED, {Owner, Topic, Key}),
    count(Topic, -keys(not is_there(Topic, Key)), -1).

keys(true) -> 1;
keys(false) -> 0.

%% Numbers come before all else, so before any id.
is_there(Topic, Key) ->
    case ets:next(?ROWS, {Topic, Key, 0}) of
        {Topic, Key, _} -> true;
        _ -> false
    end.

count(Topic, Keys, Rows) ->
    case ets:update_counter(?TOPICS, Topic, [{2, Keys}, {3, Rows}], {Topic, 0, 0}) of
        [_, 0] -> true = ets:delete(?TOPICS, Topic), ok;
        [_, _] -> ok
    end.

%% @doc Make all tables what the rows say, for who alone changes them and has just started: its
%% predecessor may have ended between two steps.
-spec recount() -> ok.
recount() ->
    lists:foreach(fun({Id, Topic, Key}) -> delete_unless_there(?IDS, Id, {Topic, Key, Id}) end,
                  ets:tab2list(?IDS)),
    lists:foreach(fun({{_, Topic, Key} = Owned, Id}) ->
        delete_unless_there(?OWNED, Owned, {Topic, Key, Id})
    end, ets:tab2list(?OWNED)),
    Totals = [{Topic, length(lists:usort(Keys)), length(Keys)}
              || {Topic, Keys} <- maps:to_list(ets:foldl(fun add_key/2, #{}, ?IDS))],
    true = ets:insert(?TOPICS, Totals),
    Stale = [Topic || {Topic, _, _} <- ets:tab2list(?TOPICS)] -- [Topic || {Topic, _, _} <- Totals],
    lists:foreach(fun(Topic) -> ets:delete(?TOPICS, Topic) end, Stale).

delete_unless_there(Table, Entry, RowKey) ->
    ets:member(?ROWS, RowKey) orelse ets:delete(Table, Entry).

add_key({_Id, Topic, Key}, Topics) ->
    maps:update_with(Topic, fun(Keys) -> [Key | Keys] end, [Key], Topics).

%% To look.

%% @doc The row of an id.
-spec find(id()) -> row() | none.
find(Id) ->
    case ets:lookup(?IDS, Id) of
        [{Id, Topic, Key}] -> found(ets:lookup(?ROWS, {Topic, Key, Id}));
        [] -> none
    end.

found([{{Topic, Key, Id}, Ref, Prev, Meta, Owner}]) ->
    #row{id = Id, topic = Topic, key = Key, ref = Ref, prev = Prev, meta = Meta, owner = Owner};
found([]) ->
    none.

%% @doc The row of an owner in a topic under a key.
-spec owned(Owner :: pid(), topic(), key()) -> row() | none.
owned(Owner, Topic, Key) ->
    case ets:lookup(?OWNED, {Owner, Topic, Key}) of
        [{_, Id}] -> find(Id);
        [] -> none
    end.

%% @doc All rows of an owner; does not scan.
-spec of_owner(pid()) -> [row()].
of_owner(Owner) ->
    Ids = ets:select(?OWNED, [{{{Owner, '_', '_'}, '$1'}, [], ['$1']}]),
    [Row || Id <- Ids, Row <- [find(Id)], Row =/= none].

%% @doc All who own rows, and how many bytes each of these counts. Scans.
-spec owners() -> [{pid(), Bytes :: pos_integer()}].
owners() ->
    [{Owner, bytes(found([Row]))} || {_, _, _, _, Owner} = Row <- ets:tab2list(?ROWS),
                                     is_pid(Owner)].

%% @doc The first id of the same source that has a greater number.
-spec next({source(), Number :: integer()}) -> id() | none.
next({Source, _} = Id) ->
    case ets:next(?IDS, Id) of
        {Source, _} = Next -> Next;
        _ -> none
    end.

%% @doc Where rows are from; does not scan. Atoms come after numbers.
-spec sources() -> [source()].
sources() ->
    sources(ets:first(?IDS)).

sources({Source, _}) -> [Source | sources(ets:next(?IDS, {Source, last}))];
sources('$end_of_table') -> [].

%% @doc All who are present in a topic, in the order of their keys.
-spec members(topic()) -> [row()].
members(Topic) ->
    Found = ets:match_object(?ROWS, {{Topic, '_', '_'}, '_', '_', '_', '_'}),
    [found([Row]) || Row <- Found].

%% @doc How many keys are present in a topic.
-spec count(topic()) -> non_neg_integer().
count(Topic) ->
    {Keys, _Rows} = keys_and_rows(Topic),
    Keys.

%% @doc How many keys and rows there are in a topic.
-spec keys_and_rows(topic()) -> {Keys :: non_neg_integer(), Rows :: non_neg_integer()}.
keys_and_rows(Topic) ->
    case ets:lookup(?TOPICS, Topic) of
        [{_, Keys, Rows}] -> {Keys, Rows};
        [] -> {0, 0}
    end.

%% @doc How many rows there are, of all nodes.
-spec size() -> non_neg_integer().
size() ->
    ets:info(?ROWS, size).

%% @doc About how many bytes a row takes.
-spec bytes(row()) -> pos_integer().
bytes(#row{topic = Topic, key = Key, meta = Meta}) ->
    ?ROW + 3 * (byte_size(Topic) + byte_size(Key)) + byte_size(Meta).
