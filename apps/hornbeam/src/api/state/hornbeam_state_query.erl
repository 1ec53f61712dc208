%% What of the shared state has a prefix, in the order of the keys.
%%
%% A query costs O(log n) for each key that it finds and O(log n) for the end, not O(n).
-module(hornbeam_state_query).

-export([keys/1, keys/2, items/1, items/2]).

-type key() :: hornbeam_state_key:key().
-type prefix() :: hornbeam_state_key:prefix().
-type value() :: hornbeam_value:value().

%% Bytes around one that was found (about).
-define(FOUND, 100).

%% @doc The keys with a prefix, in order.
-spec keys(prefix()) -> [key()].
keys(Prefix) ->
    {ok, Keys} = keys(Prefix, infinity),
    Keys.

%% @doc The same, unless they and what stands around each have more bytes.
-spec keys(prefix(), Most :: pos_integer() | infinity) -> {ok, [key()]} | {error, too_many}.
keys(Prefix, Most) ->
    found(Prefix, Most, fun({Key, _Value}) -> {Key, hornbeam_state_key:bytes(Key) + ?FOUND} end).

%% @doc The keys with a prefix, in order, with their values.
-spec items(prefix()) -> [{key(), value()}].
items(Prefix) ->
    {ok, Items} = items(Prefix, infinity),
    Items.

%% @doc The same, unless they and what stands around each have more bytes.
-spec items(prefix(), Most :: pos_integer() | infinity) ->
    {ok, [{key(), value()}]} | {error, too_many}.
items(Prefix, Most) ->
    found(Prefix, Most, fun({Key, Value} = Item) ->
        {Item, hornbeam_state_key:bytes(Key) + hornbeam_value:bytes(Value) + ?FOUND}
    end).

%% What is found is gathered as long as it fits; numbers come before atoms.
found(Prefix, Most, Fun) ->
    Gather = fun(Item, {Found, Left}) ->
        {What, Bytes} = Fun(Item),
        Left >= Bytes orelse throw(too_many),
        {[What | Found], minus(Left, Bytes)}
    end,
    try fold(Prefix, Gather, {[], Most}) of
        {Found, _Left} -> {ok, lists:reverse(Found)}
    catch
        throw:too_many -> {error, too_many}
    end.

minus(infinity, _Bytes) -> infinity;
minus(Left, Bytes) -> Left - Bytes.

fold(all, Gather, Acc) ->
    hornbeam_state_rows:fold('_', Gather, Acc);
fold(Prefix, Gather, Acc) when is_binary(Prefix); element(1, Prefix) =:= bytes ->
    from(Prefix, Prefix, Gather, Acc);
fold(Prefix, Gather, Acc) when is_tuple(Prefix) ->
    tuples(Prefix, tuple_size(Prefix), Gather, Acc).

from(Key, Prefix, Gather, Acc) ->
    case hornbeam_state_key:is_prefix(Prefix, Key) of
        true ->
            Found = gathered(Key, hornbeam_state_rows:find(Key), Gather, Acc),
            from(hornbeam_state_rows:next(Key), Prefix, Gather, Found);
        false ->
            Acc
    end.

gathered(_Key, absent, _Gather, Acc) -> Acc;
gathered(Key, Row, Gather, Acc) -> Gather({Key, hornbeam_state_rows:value(Row)}, Acc).

%% Tuples are in the order of their sizes; only sizes that some key has are looked at.
tuples(Prefix, Size, Gather, Acc) ->
    Found = tuples_of(Prefix, Size, Gather, Acc),
    after_size(Prefix, hornbeam_state_rows:next(last_tuple(Size)), Gather, Found).

after_size(Prefix, Key, Gather, Acc) when is_tuple(Key) ->
    tuples(Prefix, tuple_size(Key), Gather, Acc);
after_size(_Prefix, _Key, _Gather, Acc) ->
    Acc.

%% No key's text begins so, and no other part of a key comes after a text.
last_tuple(0) -> {};
last_tuple(Size) -> erlang:make_tuple(Size, <<255>>).

%% ETS walks through the part of the table that a partly bound key leaves open, and no more.
tuples_of(Prefix, Size, Gather, Acc) ->
    Open = lists:duplicate(Size - tuple_size(Prefix), '_'),
    Pattern = list_to_tuple(tuple_to_list(Prefix) ++ Open),
    hornbeam_state_rows:fold(Pattern, fun
        ({{bytes, _}, _Value}, Found) -> Found;
        (Item, Found) -> Gather(Item, Found)
    end, Acc).
