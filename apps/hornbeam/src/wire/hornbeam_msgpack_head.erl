%% What stands at the head of a msgpack value: what it is and how much of it there is. Pure.
%%
%% For whoever looks at packed values without making terms of them. So it knows what a general
%% decoder forgets: whether Python sent str or bytes, and the order of a dict. The heads come from
%% our own packers; anything else raises `{bad_packed, Bytes}'.
-module(hornbeam_msgpack_head).

-include("hornbeam_msgpack.hrl").

-export([token/1, head/1, bad/1]).
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

%% @doc Read the first token and give back what follows it.
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
extension(?INTEGER, Data, Rest) when Data =/= <<>>, byte_size(Data) =< ?MAX_INTEGER ->
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

%% @doc Refuse some bytes.
-spec bad(binary()) -> no_return().
bad(Binary) ->
    error({bad_packed, binary:part(Binary, 0, min(byte_size(Binary), 64))}).

%% @doc Read what a value is, how many elements, pairs or bytes it has, and what follows: that is
%% inside of a container and after a scalar, which is not looked into. A scalar has no elements, but
%% for a fun: a byte of one can be an element of a list that it has taken along.
-spec head(binary()) -> {array | map | tuple | scalar, non_neg_integer(), Rest :: binary()}.
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
extension_head(Type, N, Packed) ->
    case Packed of
        <<Data:N/binary, Rest/binary>> -> {scalar, elements(Type, Data), Rest};
        _ -> bad(Packed)
    end.

elements(?TERM, <<131, 112, _/binary>> = Fun) -> byte_size(Fun);
elements(_Type, _Data) -> 0.
