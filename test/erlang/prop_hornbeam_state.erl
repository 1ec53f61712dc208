%% The table of shared state against a plain map, for any sequence of operations.
-module(prop_hornbeam_state).

-include_lib("proper/include/proper.hrl").

-export([prop_the_table_is_a_map/0, prop_prefixes_are_those_of_a_scan/0]).

prop_the_table_is_a_map() ->
    ?FORALL(Operations, list(operation()), begin
        [hornbeam_state:delete(Key) || Key <- hornbeam_state:keys()],
        {Results, Model} = lists:mapfoldl(fun model/2, #{}, Operations),
        Real = [real(Operation) || Operation <- Operations],
        Real =:= Results andalso maps:from_list(hornbeam_state:items(all)) =:= Model
    end).

operation() ->
    K = key(),
    V = value(),
    oneof([{set, K, V}, {get, K}, {delete, K}, {take, K}, {add, K, V}, {cas, K, V, V},
           {incr, K, oneof([integer(), float()])}]).

value() -> oneof([integer(0, 3), float(), binary(), atom(), list(integer(0, 2))]).

real({set, K, V}) -> hornbeam_state:set(K, V);
real({get, K}) -> hornbeam_state:get(K, absent);
real({delete, K}) -> hornbeam_state:delete(K);
real({take, K}) -> hornbeam_state:take(K);
real({add, K, V}) -> hornbeam_state:add(K, V);
real({cas, K, Old, New}) -> hornbeam_state:cas(K, Old, New);
real({incr, K, Delta}) -> hornbeam_state:incr(K, Delta).

model({set, K, V}, Map) -> {ok, Map#{K => V}};
model({get, K}, Map) -> {maps:get(K, Map, absent), Map};
model({delete, K}, Map) -> {is_map_key(K, Map), maps:remove(K, Map)};
model({take, K}, Map) -> {maps:get(K, Map, undefined), maps:remove(K, Map)};
model({add, K, V}, Map) -> {not is_map_key(K, Map), maps:merge(#{K => V}, Map)};
model({cas, K, Old, New}, Map) ->
    case Map of
        #{K := Old} -> {true, Map#{K := New}};
        #{} -> {false, Map}
    end;
model({incr, K, Delta}, Map) ->
    case Map of
        #{K := V} when is_number(V) -> {V + Delta, Map#{K := V + Delta}};
        #{K := _} -> {{error, not_a_number}, Map};
        #{} -> {Delta, Map#{K => Delta}}
    end.

prop_prefixes_are_those_of_a_scan() ->
    ?FORALL({Keys, Prefix}, {list(key()), prefix()}, begin
        [hornbeam_state:delete(Key) || Key <- hornbeam_state:keys()],
        [ok = hornbeam_state:set(Key, 1) || Key <- Keys],
        hornbeam_state:keys(Prefix)
            =:= [Key || Key <- lists:usort(Keys), has_prefix(Prefix, Key)]
    end).

has_prefix({bytes, Prefix}, {bytes, Bytes}) -> starts_with(Prefix, Bytes);
has_prefix({bytes, _}, _) -> false;
has_prefix(Prefix, Key) when is_binary(Prefix), is_binary(Key) -> starts_with(Prefix, Key);
has_prefix(_, {bytes, _}) -> false;
has_prefix(Prefix, Key) when is_tuple(Prefix), is_tuple(Key) ->
    lists:prefix(tuple_to_list(Prefix), tuple_to_list(Key));
has_prefix(_, _) -> false.

starts_with(Prefix, Bytes) ->
    Size = byte_size(Prefix),
    case Bytes of
        <<Prefix:Size/binary, _/binary>> -> true;
        _ -> false
    end.

%% Few different ones, so that they meet.
key() -> ?SIZED(Size, key(min(Size, 3))).

key(0) -> oneof([text(), {bytes, bytes()}, integer(0, 3)]);
key(Size) -> frequency([{3, key(0)}, {1, tuple_of(key(Size - 1))}]).

tuple_of(Key) -> ?LET(Elements, list(Key), list_to_tuple(lists:sublist(Elements, 3))).

text() -> ?LET(Letters, list(oneof("ab\x{7f}")), list_to_binary(lists:sublist(Letters, 3))).

bytes() -> ?LET(Bytes, list(oneof([0, 1, 254, 255])), list_to_binary(lists:sublist(Bytes, 3))).

prefix() -> oneof([text(), {bytes, bytes()}, tuple_of(key(0))]).
