%% What those who watch a topic are told of who is present there, as it travels. Pure.
%%
%% The shapes are those of Phoenix: who is present is `{Key: {metas: [Meta, …]}}', a change
%% `{joins: …, leaves: …}' of two such maps. In each meta `phx_ref' is the row's ref; one that has
%% changed says the ref before as `phx_ref_prev'. A message is a map of `topic', `event'
%% ("presence_state" or "presence_diff") and `payload'.
-module(hornbeam_presence_message).

-include("hornbeam_presence.hrl").

-export([topic/1, watched/1, members/1, state/2, diffs/2, check_meta/1, is_packed_map/1]).
-export_type([change/0, bad_meta/0]).

-type topic() :: hornbeam_presence_rows:topic().
-type row() :: hornbeam_presence_rows:row().

-type change() :: {Known :: row() | none, Seen :: [row()], Now :: row() | none}.
%% What was told of a row last, what was to be seen of it since, and what it is.

-type bad_meta() :: bad_meta | {bad_meta, hornbeam_json:path(), What :: binary()}
                  | {reserved, Name :: binary()}.
%% It is no map, what stands there has no JSON form, or it has a name of ours.

-define(TOPIC, "hornbeam:presence:").
-define(NAMES, [<<"phx_ref">>]).
%% Bytes of what one message says, about.
-define(MOST, 65536).
%% Bytes of a ref and its name.
-define(REF, 32).

%% @doc The topic by which those who watch a topic are told.
-spec topic(topic()) -> hornbeam_pubsub_fanout:topic().
topic(Topic) -> <<?TOPIC, Topic/binary>>.

%% @doc Whose topic it is, if it is one by which somebody is told.
-spec watched(hornbeam_pubsub_fanout:topic()) -> {ok, topic()} | none.
watched(<<?TOPIC, Topic/binary>>) -> {ok, Topic};
watched(_Topic) -> none.

%% @doc Whether a packed value may be a meta: a map that a client can be shown as JSON.
-spec check_meta(binary()) -> ok | {error, bad_meta()}.
check_meta(Packed) ->
    case is_packed_map(Packed) of
        true -> check_json(hornbeam_json:frame({packed, Packed}), Packed);
        false -> {error, bad_meta}
    end.

check_json({error, Path, What}, _Packed) ->
    {error, {bad_meta, Path, What}};
check_json({ok, _}, Packed) ->
    {{map, N}, Pairs} = hornbeam_msgpack_head:token(Packed),
    check_names(binary:match(Packed, ?NAMES), N, Pairs).

%% Nearly none has them anywhere.
check_names(nomatch, _N, _Pairs) ->
    ok;
check_names(_Found, 0, _Pairs) ->
    ok;
check_names(Found, N, Pairs) ->
    case hornbeam_msgpack_head:token(Pairs) of
        {{_Text, Name}, _Value} when Name =:= <<"phx_ref">>; Name =:= <<"phx_ref_prev">> ->
            {error, {reserved, Name}};
        {_Name, Value} ->
            check_names(Found, N - 1, skipped(1, Value))
    end.

skipped(0, Rest) ->
    Rest;
skipped(Values, Packed) ->
    case hornbeam_msgpack_head:head(Packed) of
        {array, N, Inside} -> skipped(Values - 1 + N, Inside);
        {map, N, Inside} -> skipped(Values - 1 + 2 * N, Inside);
        {tuple, _Bytes, Inside} -> skipped(Values, Inside);
        {scalar, _, Rest} -> skipped(Values - 1, Rest)
    end.

%% @doc Whether a packed value is a map.
-spec is_packed_map(binary()) -> boolean().
is_packed_map(Packed) ->
    try hornbeam_msgpack_head:token(Packed) of
        {{map, _}, _} -> true;
        _ -> false
    catch
        error:{bad_packed, _} -> false
    end.

%% @doc Rows, in the order of their keys, as a packed map.
-spec members([row()]) -> iodata().
members(Rows) ->
    by_key([{Row, Row#row.prev} || Row <- Rows]).

%% @doc What says who is present in a topic.
-spec state(topic(), [row()]) -> binary().
state(Topic, Rows) ->
    message(Topic, <<"presence_state">>, members(Rows)).

%% @doc What says how that has changed, in pieces. A row's change is in one of them.
-spec diffs(topic(), [change()]) -> [binary()].
diffs(_Topic, []) ->
    [];
diffs(Topic, Changes) ->
    {Piece, Rest} = piece(Changes, 0, []),
    [diff(Topic, Piece) | diffs(Topic, Rest)].

piece([Change | Changes], Bytes, Piece) when Bytes < ?MOST ->
    piece(Changes, Bytes + bytes(Change), [Change | Piece]);
piece(Changes, _Bytes, Piece) ->
    {Piece, Changes}.

bytes({Known, Seen, Now}) ->
    row_bytes(Known) + row_bytes(Now) + lists:sum([row_bytes(Row) || Row <- Seen]).

row_bytes(none) -> 0;
row_bytes(#row{key = Key, meta = Meta}) -> byte_size(Key) + byte_size(Meta) + 2 * ?REF.

diff(Topic, Changes) ->
    Joins = lists:append([joins(Change) || Change <- Changes]),
    Leaves = lists:append([leaves(Change) || Change <- Changes]),
    message(Topic, <<"presence_diff">>, map([{<<"joins">>, by_key(sorted(Joins))},
                                             {<<"leaves">>, by_key(sorted(Leaves))}])).

joins({_Known, _Seen, none}) -> [];
joins({#row{ref = Ref, meta = Meta}, _Seen, #row{ref = Ref, meta = Meta}}) -> [];
joins({none, _Seen, Now}) -> [{Now, none}];
joins({#row{ref = Ref}, _Seen, #row{ref = Ref} = Now}) -> [{Now, Now#row.prev}];
joins({#row{ref = Ref}, _Seen, Now}) -> [{Now, Ref}].

leaves({none, Seen, Now}) ->
    [{Row, Row#row.prev} || Row <- Seen, not has_same_ref(Row, Now)];
leaves({Known, Seen, Now}) ->
    leaves({none, [Known | Seen], Now}).

has_same_ref(_Row, none) -> false;
has_same_ref(#row{ref = A}, #row{ref = B}) -> A =:= B.

sorted(Rows) ->
    lists:sort(fun({#row{key = A}, _}, {#row{key = B}, _}) -> A =< B end, Rows).

by_key(Rows) ->
    Grouped = grouped([{Row#row.key, meta(Row, Prev)} || {Row, Prev} <- Rows], []),
    map([{Key, metas(lists:reverse(Metas))} || {Key, Metas} <- Grouped]).

%% Those of one key stand together; the first of all comes first.
grouped([], Groups) ->
    lists:reverse(Groups);
grouped([{Key, Meta} | Rest], [{Key, Metas} | Groups]) ->
    grouped(Rest, [{Key, [Meta | Metas]} | Groups]);
grouped([{Key, Meta} | Rest], Groups) ->
    grouped(Rest, [{Key, [Meta]} | Groups]).

metas(Metas) ->
    map([{<<"metas">>, [hornbeam_msgpack:array(length(Metas)) | Metas]}]).

meta(#row{ref = Ref, meta = Packed}, Prev) ->
    {{map, N}, Pairs} = hornbeam_msgpack_head:token(Packed),
    Refs = [{<<"phx_ref">>, Ref} | [{<<"phx_ref_prev">>, Prev} || Prev =/= none]],
    [hornbeam_msgpack:map(N + length(Refs)), Pairs
     | [[hornbeam_msgpack:str(Name), hornbeam_msgpack:str(Text)] || {Name, Text} <- Refs]].

message(Topic, Event, Payload) ->
    iolist_to_binary(map([{<<"topic">>, hornbeam_msgpack:str(Topic)},
                          {<<"event">>, hornbeam_msgpack:str(Event)},
                          {<<"payload">>, Payload}])).

map(Pairs) ->
    [hornbeam_msgpack:map(length(Pairs))
     | [[hornbeam_msgpack:str(Name), Value] || {Name, Value} <- Pairs]].
