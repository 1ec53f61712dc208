%% What can be told of a packed value without making it a term.
%%
%% Knows the heads of msgpack values, and so what a general decoder forgets: whether Python sent
%% str or bytes, and the order of a dict. Pure. The heads come from our own packers; anything
%% else raises `{bad_packed, Bytes}'.
-module(hornbeam_packed).

-export([token/1, canonical/1]).
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

%% @doc The same value with the pairs of each map in one order, whatever order they came in.
-spec canonical(binary()) -> binary().
canonical(Packed) ->
    hornbeam_msgpack:is_small(Packed) orelse bad(Packed),
    canonical(Packed, 0).

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
