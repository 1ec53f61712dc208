%% Properties of what ops read and compare, for any bytes.
-module(prop_hornbeam_api).

-include_lib("proper/include/proper.hrl").

-export([
    prop_any_bytes_are_arguments_or_an_error/0,
    prop_changed_arguments_are_arguments_or_an_error/0,
    prop_a_key_comes_back/0,
    prop_a_value_is_the_same_in_any_order/0,
    prop_json_is_what_another_encoder_says/0
]).

prop_any_bytes_are_arguments_or_an_error() ->
    ?FORALL({Types, Bytes}, {types(), binary()}, reads_or_errs(Types, Bytes)).

%% One byte of good arguments is another one.
prop_changed_arguments_are_arguments_or_an_error() ->
    ?FORALL({Types, Keys}, {types(), resize(5, list(key()))}, begin
        Packed = packed([keys_for(Types, Keys)]),
        ?FORALL(Bytes, prop_hornbeam_msgpack:changed(Packed), reads_or_errs(Types, Bytes))
    end).

keys_for([{_, keys} | _], Keys) -> [wire(Key) || Key <- Keys];
keys_for(_Types, Keys) -> wire(list_to_tuple(Keys)).

types() ->
    oneof([[{key, key}], [{keys, keys}], [{pairs, pairs}], [{prefix, {optional, prefix}}],
           [{value, packed}], [{n, number}], [{topic, topic}], [{ttl, {optional, ttl}}],
           [{key, key}, {value, packed}, {ttl, {optional, ttl}}, {scoped, bool}]]).

reads_or_errs(Types, Bytes) ->
    case hornbeam_api_args:read(Types, Bytes) of
        {ok, Values} -> length(Values) =:= length(Types);
        {error, {type_error, Sentence}} -> iolist_size(Sentence) > 0;
        {error, {value_error, Sentence}} -> iolist_size(Sentence) > 0
    end.

prop_a_key_comes_back() ->
    ?FORALL(Key, key(), hornbeam_api_args:read([{key, key}], packed([wire(Key)])) =:= {ok, [Key]}).

wire(Key) -> hornbeam_api_args:key(Key).

%% Small: a long key is an error.
key() -> ?SIZED(Size, resize(min(Size, 10), key(2))).

key(0) -> oneof([utf8(), {bytes, binary()}, integer(), ?LET(N, integer(), N bsl 70)]);
key(Depth) -> oneof([key(0), ?LET(Keys, list(key(Depth - 1)), list_to_tuple(Keys))]).

%% The pairs of a map may stand in any order; nothing else may.
prop_a_value_is_the_same_in_any_order() ->
    ?FORALL({A, B}, {prop_hornbeam_msgpack:wire_term(), prop_hornbeam_msgpack:wire_term()}, begin
        Same = fun(X, Y) -> hornbeam_value:same({packed, X}, {packed, Y}) end,
        Same(packed(A), reversed(A)) andalso Same(packed(A), packed(B)) =:= (A =:= B)
    end).

%% Packs a term with the pairs of its maps the other way round.
reversed(Map) when is_map(Map) ->
    Pairs = [[reversed(K), reversed(V)] || {K, V} <- lists:reverse(maps:to_list(Map))],
    iolist_to_binary([hornbeam_msgpack:map(map_size(Map)) | Pairs]);
reversed(List) when is_list(List), length(List) >= 0 ->
    iolist_to_binary([hornbeam_msgpack:array(length(List)) | [reversed(E) || E <- List]]);
reversed(Term) ->
    packed(Term).

prop_json_is_what_another_encoder_says() ->
    ?FORALL(Term, json_term(), begin
        {ok, {text, Json}} = hornbeam_json:frame({packed, packed([Term])}),
        hornbeam_wire_files:decode_json(Json) =:= [Term]
    end).

json_term() -> ?SIZED(Size, json_term(min(Size, 5))).

json_term(0) -> oneof([utf8(), integer(), boolean(), float()]);
json_term(Size) ->
    Inner = ?LAZY(json_term(Size div 2)),
    oneof([json_term(0), list(Inner), ?LET(Pairs, list({utf8(), Inner}), maps:from_list(Pairs))]).

packed(Term) -> iolist_to_binary(hornbeam_msgpack:encode(Term)).
