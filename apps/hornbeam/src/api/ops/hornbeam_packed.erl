%% What can be told of a packed value without making it a term.
%%
%% Knows the heads of msgpack values, and so what a general decoder forgets: whether Python sent
%% str or bytes, and the order of a dict. Pure. The heads come from our own packers; anything
%% else raises `{bad_packed, Bytes}'.
-module(hornbeam_packed).

-export([token/1, same/2]).
-export_type([token/0]).

-type token() ::
    nil
    | boolean()
    | {number, number()}
    | {str, binary()}
    | {bin, binary()}
    | {array, Elements :: non_neg_integer()}
    | {map, Pairs :: non_neg_integer()}
    | {atom, Name :: binary()}
    | {tuple, Array :: binary()}
    | {opaque, External :: binary()}.
%% The elements of an array and the keys and values of a map follow as tokens of their own.

-define(ATOM, 1).
-define(TUPLE, 2).
-define(TERM, 3).

%% Containers within containers: as deep as msgpack is read elsewhere.
-define(MAX_DEPTH, 512).

%% Bytes of an integer, as elsewhere.
-define(MAX_INTEGER, 16384).

%% Elements, keys and values that are looked at, as elsewhere.
-define(MAX_ELEMENTS, 4194304).

%% Bytes of pairs that are sorted to be compared: that takes 3 us a pair.
-define(MOST_SORTED, 1048576).

%% A byte that no msgpack value starts with.
-define(RESERVED, 16#c1).

%% @doc Reads the first token and gives back what follows it.
-spec token(binary()) -> {token(), Rest :: binary()}.
token(<<16#c0, Rest/binary>>) -> {nil, Rest};
token(<<16#c2, Rest/binary>>) -> {false, Rest};
token(<<16#c3, Rest/binary>>) -> {true, Rest};
token(<<2#1000:4, N:4, Rest/binary>>) -> {{map, N}, Rest};
token(<<2#1001:4, N:4, Rest/binary>>) -> {{array, N}, Rest};
token(<<2#101:3, N:5, Text:N/binary, Rest/binary>>) -> {{str, Text}, Rest};
token(<<16#d9, N, Text:N/binary, Rest/binary>>) -> {{str, Text}, Rest};
token(<<16#da, N:16, Text:N/binary, Rest/binary>>) -> {{str, Text}, Rest};
token(<<16#db, N:32, Text:N/binary, Rest/binary>>) -> {{str, Text}, Rest};
token(<<16#c4, N, Bytes:N/binary, Rest/binary>>) -> {{bin, Bytes}, Rest};
token(<<16#c5, N:16, Bytes:N/binary, Rest/binary>>) -> {{bin, Bytes}, Rest};
token(<<16#c6, N:32, Bytes:N/binary, Rest/binary>>) -> {{bin, Bytes}, Rest};
token(<<16#dc, N:16, Rest/binary>>) -> {{array, N}, Rest};
token(<<16#dd, N:32, Rest/binary>>) -> {{array, N}, Rest};
token(<<16#de, N:16, Rest/binary>>) -> {{map, N}, Rest};
token(<<16#df, N:32, Rest/binary>>) -> {{map, N}, Rest};
token(<<16#d4, Type, Data:1/binary, Rest/binary>>) -> extension(Type, Data, Rest);
token(<<16#d5, Type, Data:2/binary, Rest/binary>>) -> extension(Type, Data, Rest);
token(<<16#d6, Type, Data:4/binary, Rest/binary>>) -> extension(Type, Data, Rest);
token(<<16#d7, Type, Data:8/binary, Rest/binary>>) -> extension(Type, Data, Rest);
token(<<16#d8, Type, Data:16/binary, Rest/binary>>) -> extension(Type, Data, Rest);
token(<<16#c7, N, Type, Data:N/binary, Rest/binary>>) -> extension(Type, Data, Rest);
token(<<16#c8, N:16, Type, Data:N/binary, Rest/binary>>) -> extension(Type, Data, Rest);
token(<<16#c9, N:32, Type, Data:N/binary, Rest/binary>>) -> extension(Type, Data, Rest);
token(Binary) -> number(Binary).

extension(?ATOM, Name, Rest) -> {{atom, Name}, Rest};
extension(?TUPLE, Array, Rest) -> {{tuple, Array}, Rest};
extension(?TERM, External, Rest) -> {{opaque, External}, Rest};
%% A big integer, in its shortest form.
extension(4, Data, Rest) when Data =/= <<>>, byte_size(Data) =< ?MAX_INTEGER ->
    Size = byte_size(Data),
    <<N:Size/signed-unit:8>> = Data,
    {{number, N}, Rest};
extension(_Type, Data, _Rest) ->
    bad(Data).

number(Binary) ->
    case hornbeam_msgpack:decode(Binary) of
        {ok, N, Rest} when is_number(N) -> {{number, N}, Rest};
        _ -> bad(Binary)
    end.

-spec bad(binary()) -> no_return().
bad(Binary) ->
    error({bad_packed, binary:part(Binary, 0, min(byte_size(Binary), 64))}).

%% @doc Whether two values are the same but for the order of the pairs in their maps.
%%
%% One is walked through up to their first difference, which is quick. Where that is in the order of
%% pairs, those are sorted, up to 1 MiB of them: more is `too_long', and so are more than 4 194 304
%% elements. What is no msgpack is only the same as itself.
-spec same(binary(), binary()) -> boolean() | {error, too_long}.
same(Packed, Packed) ->
    true;
same(A, B) when byte_size(A) =:= byte_size(B) ->
    try values(1, A, common(A, B), {B, ?MOST_SORTED, ?MAX_ELEMENTS}, 0) of
        {<<>>, _, _} -> true;
        _ -> false
    catch
        throw:different -> false;
        throw:too_long -> {error, too_long};
        error:{bad_packed, _} -> false
    end;
same(_A, _B) ->
    false.

%% Up to how many bytes before their end both are the same. Both are always walked through equally
%% far, so the other one's rest is known by the size of this one's.
common(A, B) ->
    byte_size(A) - binary:longest_common_prefix([A, B]).

%% So many values; gives back what follows them.
values(0, Rest, Common, Other, _Depth) ->
    {Rest, Common, Other};
values(N, Packed, Common, Other, Depth) ->
    case head(Packed) of
        {scalar, _, Rest} when byte_size(Rest) >= Common ->
            values(N - 1, Rest, Common, Other, Depth);
        {Kind, Size, Inside} when byte_size(Inside) >= Common, Kind =/= scalar ->
            {Rest, NewCommon, NewOther} = inside(Kind, Size, Inside, Common, Other, Depth + 1),
            values(N - 1, Rest, NewCommon, NewOther, Depth);
        _ ->
            throw(different)
    end.

inside(_Kind, _Size, Inside, _Common, _Other, ?MAX_DEPTH) ->
    bad(Inside);
inside(array, N, Inside, Common, Other, Depth) ->
    values(N, Inside, Common, fewer(N, Other), Depth);
inside(map, N, Inside, Common, Other, Depth) ->
    pairs(N, Inside, Common, fewer(2 * N, Other), Depth);
inside(tuple, Size, Inside, Common, Other, Depth) ->
    {Rest, _, _} = Walked = values(1, Inside, Common, Other, Depth),
    byte_size(Inside) - byte_size(Rest) =:= Size orelse bad(Inside),
    Walked.

fewer(N, {Other, ToSort, Elements}) when N =< Elements -> {Other, ToSort, Elements - N};
fewer(_N, _Other) -> throw(too_long).

%% A key has one value: where the keys are the same, the values must be.
pairs(0, Rest, Common, Other, _Depth) ->
    {Rest, Common, Other};
pairs(N, Packed, Common, Other, Depth) ->
    case after_key(head(Packed), Packed, Other) of
        AfterKey when byte_size(AfterKey) >= Common ->
            {Rest, NewCommon, NewOther} = values(1, AfterKey, Common, Other, Depth),
            pairs(N - 1, Rest, NewCommon, NewOther, Depth);
        _ ->
            sorted_pairs(N, Packed, Other, Depth)
    end.

after_key({scalar, _, Rest}, _Packed, _Other) -> Rest;
after_key(_Container, Packed, {_, ToSort, _}) -> skipped(1, Packed, byte_size(Packed) - ToSort).

sorted_pairs(N, A, {Other, ToSort, Elements}, Depth) ->
    B = binary:part(Other, byte_size(Other), -byte_size(A)),
    Least = byte_size(A) - ToSort,
    {RestA, RestB} = {skipped(2 * N, A, Least), skipped(2 * N, B, Least)},
    Size = byte_size(A) - byte_size(RestA),
    byte_size(RestA) =:= byte_size(RestB) orelse throw(different),
    canonical_pairs(N, binary:part(A, 0, Size), Depth)
        =:= canonical_pairs(N, binary:part(B, 0, Size), Depth) orelse throw(different),
    {RestA, common(RestA, RestB), {Other, ToSort - Size, Elements}}.

%% What follows so many values, which must be so many bytes at least.
skipped(_Values, Rest, Least) when byte_size(Rest) < Least ->
    throw(too_long);
skipped(0, Rest, _Least) ->
    Rest;
skipped(Values, Packed, Least) ->
    case head(Packed) of
        {array, N, Inside} -> skipped(Values - 1 + N, Inside, Least);
        {map, N, Inside} -> skipped(Values - 1 + 2 * N, Inside, Least);
        {tuple, _Size, Inside} -> skipped(Values, Inside, Least);
        {scalar, _, Rest} -> skipped(Values - 1, Rest, Least)
    end.

%% What a value is, how many elements, pairs or bytes it has, and what follows: that is inside of a
%% container and after a scalar, which is not looked into.
head(<<Tag, Rest/binary>>) when Tag < 16#80; Tag >= 16#e0 -> {scalar, 0, Rest};
head(<<2#101:3, N:5, _:N/binary, Rest/binary>>) -> {scalar, 0, Rest};
head(<<2#1000:4, N:4, Rest/binary>>) -> {map, N, Rest};
head(<<2#1001:4, N:4, Rest/binary>>) -> {array, N, Rest};
head(<<Tag, Rest/binary>>) when Tag =:= 16#c0; Tag =:= 16#c2; Tag =:= 16#c3 -> {scalar, 0, Rest};
head(<<Tag, _, Rest/binary>>) when Tag =:= 16#cc; Tag =:= 16#d0 -> {scalar, 0, Rest};
head(<<Tag, _:16, Rest/binary>>) when Tag =:= 16#cd; Tag =:= 16#d1 -> {scalar, 0, Rest};
head(<<Tag, _:32, Rest/binary>>) when Tag =:= 16#ce; Tag =:= 16#d2; Tag =:= 16#ca ->
    {scalar, 0, Rest};
head(<<Tag, _:64, Rest/binary>>) when Tag =:= 16#cf; Tag =:= 16#d3; Tag =:= 16#cb ->
    {scalar, 0, Rest};
head(<<Tag, N, _:N/binary, Rest/binary>>) when Tag =:= 16#d9; Tag =:= 16#c4 -> {scalar, 0, Rest};
head(<<Tag, N:16, _:N/binary, Rest/binary>>) when Tag =:= 16#da; Tag =:= 16#c5 ->
    {scalar, 0, Rest};
head(<<Tag, N:32, _:N/binary, Rest/binary>>) when Tag =:= 16#db; Tag =:= 16#c6 ->
    {scalar, 0, Rest};
head(<<16#dc, N:16, Rest/binary>>) -> {array, N, Rest};
head(<<16#dd, N:32, Rest/binary>>) -> {array, N, Rest};
head(<<16#de, N:16, Rest/binary>>) -> {map, N, Rest};
head(<<16#df, N:32, Rest/binary>>) -> {map, N, Rest};
head(<<16#c7, N, Type, Rest/binary>>) -> extension_head(Type, N, Rest);
head(<<16#c8, N:16, Type, Rest/binary>>) -> extension_head(Type, N, Rest);
head(<<16#c9, N:32, Type, Rest/binary>>) -> extension_head(Type, N, Rest);
head(<<Tag, Type, Rest/binary>>) when Tag >= 16#d4, Tag =< 16#d8 ->
    extension_head(Type, 1 bsl (Tag - 16#d4), Rest);
head(Packed) -> bad(Packed).

extension_head(?TUPLE, N, Rest) ->
    {tuple, N, Rest};
extension_head(_Type, N, Packed) ->
    case Packed of
        <<_:N/binary, Rest/binary>> -> {scalar, 0, Rest};
        _ -> bad(Packed)
    end.

%% The same value with the pairs of each map in one order, whatever order they came in.
canonical(Packed, Depth) ->
    case canonical_value(Packed, Depth) of
        {Canonical, <<>>} -> iolist_to_binary(Canonical);
        {_, Rest} -> bad(Rest)
    end.

canonical_value(Packed, ?MAX_DEPTH) ->
    bad(Packed);
canonical_value(Packed, Depth) ->
    case token(Packed) of
        {{array, N}, Rest} -> canonical_array(N, Rest, Depth + 1);
        {{map, N}, Rest} -> canonical_map(N, Rest, Depth + 1);
        {{tuple, Array}, Rest} -> {[<<?RESERVED>>, canonical(Array, Depth + 1)], Rest};
        {_Scalar, Rest} -> {binary:part(Packed, 0, byte_size(Packed) - byte_size(Rest)), Rest}
    end.

canonical_array(N, Rest0, Depth) ->
    {Elements, Rest} = times(N, fun(Value) -> canonical_value(Value, Depth) end, Rest0),
    {[hornbeam_msgpack:array(N) | Elements], Rest}.

canonical_map(N, Rest0, Depth) ->
    {Pairs, Rest} = times(N, fun(Pair) -> canonical_pair(Pair, Depth) end, Rest0),
    {[hornbeam_msgpack:map(N) | lists:sort(Pairs)], Rest}.

canonical_pairs(N, Packed, Depth) ->
    {Pairs, <<>>} = times(N, fun(Pair) -> canonical_pair(Pair, Depth) end, Packed),
    lists:sort(Pairs).

canonical_pair(Packed, Depth) ->
    {Key, Rest1} = canonical_value(Packed, Depth),
    {Value, Rest2} = canonical_value(Rest1, Depth),
    {[iolist_to_binary(Key), iolist_to_binary(Value)], Rest2}.

times(0, _Read, Rest) ->
    {[], Rest};
times(N, Read, Binary) ->
    {Value, Rest1} = Read(Binary),
    {Values, Rest2} = times(N - 1, Read, Rest1),
    {[Value | Values], Rest2}.
