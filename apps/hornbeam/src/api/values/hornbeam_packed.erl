%% Compares packed values without making terms of them. Pure.
-module(hornbeam_packed).

-include("../../wire/hornbeam_msgpack.hrl").

-export([same/2]).

%% Bytes of pairs that are sorted to be compared: that takes 3 us a pair.
-define(MOST_SORTED, 1048576).

%% A byte that no msgpack value starts with.
-define(RESERVED, 16#c1).

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
    case hornbeam_msgpack_head:head(Packed) of
        {scalar, _, Rest} when byte_size(Rest) >= Common ->
            values(N - 1, Rest, Common, Other, Depth);
        {Kind, Size, Inside} when byte_size(Inside) >= Common, Kind =/= scalar ->
            {Rest, NewCommon, NewOther} = inside(Kind, Size, Inside, Common, Other, Depth + 1),
            values(N - 1, Rest, NewCommon, NewOther, Depth);
        _ ->
            throw(different)
    end.

inside(_Kind, _Size, Inside, _Common, _Other, ?MAX_DEPTH) ->
    hornbeam_msgpack_head:bad(Inside);
inside(array, N, Inside, Common, Other, Depth) ->
    values(N, Inside, Common, fewer(N, Other), Depth);
inside(map, N, Inside, Common, Other, Depth) ->
    pairs(N, Inside, Common, fewer(2 * N, Other), Depth);
inside(tuple, Size, Inside, Common, Other, Depth) ->
    {Rest, _, _} = Walked = values(1, Inside, Common, Other, Depth),
    byte_size(Inside) - byte_size(Rest) =:= Size orelse hornbeam_msgpack_head:bad(Inside),
    Walked.

fewer(N, {Other, ToSort, Elements}) when N =< Elements -> {Other, ToSort, Elements - N};
fewer(_N, _Other) -> throw(too_long).

%% A key has one value: where the keys are the same, the values must be.
pairs(0, Rest, Common, Other, _Depth) ->
    {Rest, Common, Other};
pairs(N, Packed, Common, Other, Depth) ->
    case after_key(hornbeam_msgpack_head:head(Packed), Packed, Other) of
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
    case hornbeam_msgpack_head:head(Packed) of
        {array, N, Inside} -> skipped(Values - 1 + N, Inside, Least);
        {map, N, Inside} -> skipped(Values - 1 + 2 * N, Inside, Least);
        {tuple, _Size, Inside} -> skipped(Values, Inside, Least);
        {scalar, _, Rest} -> skipped(Values - 1, Rest, Least)
    end.

%% The same value with the pairs of each map in one order, whatever order they came in.
canonical(Packed, Depth) ->
    case canonical_value(Packed, Depth) of
        {Canonical, <<>>} -> iolist_to_binary(Canonical);
        {_, Rest} -> hornbeam_msgpack_head:bad(Rest)
    end.

canonical_value(Packed, ?MAX_DEPTH) ->
    hornbeam_msgpack_head:bad(Packed);
canonical_value(Packed, Depth) ->
    case hornbeam_msgpack_head:token(Packed) of
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
