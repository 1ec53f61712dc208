%% The arguments of an op: read and checked by their types, in this one place. Pure.
%%
%% The types are those of the tables in docs/wire.md. What does not fit is an error with a
%% sentence that an app's author understands.
-module(hornbeam_api_args).

-export([read/2, key/1]).
-export_type([type/0, arg/0, error/0]).

-type type() :: key | prefix | keys | pairs | packed | number | bool | uint | ttl | timeout
              | str | topic | overflow | {optional, type()}.
-type arg() :: {Name :: atom(), type()}.
-type error() :: {type_error | value_error, Sentence :: iodata()}.

%% Bytes of a key as it travels, and tuples within tuples; bytes of a topic or another name.
-define(MAX_KEY, 65535).
-define(MAX_KEY_DEPTH, 16).
-define(MAX_NAME, 4096).
%% Timers end there (ms).
-define(MAX_TIME, 16#ffffffff).

%% @doc The values of a packed array of arguments. Keys are copies; packed values are parts of
%% what was read.
-spec read([arg()], binary()) -> {ok, [term()]} | {error, error()}.
read(Args, Packed) ->
    try
        hornbeam_msgpack:is_small(Packed)
            orelse wrong(value_error, "the arguments have more than 4194304 elements"),
        {ok, values(Args, hornbeam_msgpack_head:token(Packed))}
    catch
        throw:{Kind, Sentence} -> {error, {Kind, Sentence}};
        error:{bad_packed, _} -> {error, {type_error, "the arguments are not msgpack"}}
    end.

values(Args, {{array, N}, Rest}) when length(Args) =:= N ->
    values_of(Args, Rest);
values(Args, {{array, N}, _Rest}) ->
    wrong(type_error, io_lib:format("~b arguments were given, there are ~b", [N, length(Args)]));
values(_Args, _NoArray) ->
    wrong(type_error, "the arguments are not an array").

values_of([], <<>>) ->
    [];
values_of([], _Rest) ->
    wrong(type_error, "bytes follow the arguments");
values_of([{Name, Type} | Args], Packed) ->
    {Value, Rest} = value(Type, Name, Packed),
    [Value | values_of(Args, Rest)].

value({optional, Type}, Name, Packed) ->
    case hornbeam_msgpack_head:token(Packed) of
        {nil, Rest} -> {undefined, Rest};
        _ -> value(Type, Name, Packed)
    end;
value(keys, Name, Packed) ->
    array(fun(Element) -> value(key, Name, Element) end, Name, Packed);
value(pairs, Name, Packed) ->
    array(fun(Pair) -> pair(Name, Pair) end, Name, Packed);
value(key, Name, Packed) ->
    {Token, Rest} = hornbeam_msgpack_head:token(Packed),
    byte_size(Packed) - byte_size(Rest) =< ?MAX_KEY
        orelse wrong(value_error, [atom_to_binary(Name), " is longer than 65535 bytes"]),
    {key_of(Token, Name, 0), Rest};
value(Type, Name, Packed) ->
    {Token, Rest} = hornbeam_msgpack_head:token(Packed),
    {scalar(Type, Token, Name), Rest}.

array(Read, Name, Packed) ->
    case hornbeam_msgpack_head:token(Packed) of
        {{array, N}, Rest} -> times(N, Read, Rest);
        _ -> expected(Name, "a list")
    end.

times(0, _Read, Rest) ->
    {[], Rest};
times(N, Read, Packed) ->
    {Value, Rest1} = Read(Packed),
    {Values, Rest2} = times(N - 1, Read, Rest1),
    {[Value | Values], Rest2}.

pair(Name, Packed) ->
    case hornbeam_msgpack_head:token(Packed) of
        {{array, 2}, Rest1} ->
            {Key, Rest2} = value(key, Name, Rest1),
            {Value, Rest3} = value(packed, Name, Rest2),
            {{Key, Value}, Rest3};
        _ ->
            expected(Name, "pairs of key and value")
    end.

scalar(packed, {bin, <<_, _/binary>> = Packed}, _Name) -> Packed;
scalar(packed, _, Name) -> expected(Name, "a packed value");
scalar(number, {number, Number}, _Name) -> Number;
scalar(number, _, Name) -> expected(Name, "an int or a float");
scalar(bool, Bool, _Name) when is_boolean(Bool) -> Bool;
scalar(bool, _, Name) -> expected(Name, "a bool");
scalar(uint, {number, N}, _Name) when is_integer(N), N >= 0 -> N;
scalar(uint, _, Name) -> expected(Name, "an int, 0 or more");
scalar(ttl, {number, N}, _Name) when is_integer(N), N > 0, N =< ?MAX_TIME * 1000 -> N;
scalar(ttl, {number, N}, Name) when is_integer(N) -> outside(Name, "1 ms to 136 years");
scalar(ttl, _, Name) -> expected(Name, "milliseconds");
scalar(timeout, {number, N}, _Name) when is_integer(N), N >= 0, N =< ?MAX_TIME -> N;
scalar(timeout, {number, N}, Name) when is_integer(N) -> outside(Name, "0 ms to 49 days");
scalar(timeout, _, Name) -> expected(Name, "milliseconds");
scalar(str, {str, Text}, Name) when byte_size(Text) =< ?MAX_NAME -> utf8(Text, Name);
scalar(str, {str, _}, Name) ->
    wrong(value_error, [atom_to_binary(Name), " is longer than 4096 bytes"]);
scalar(str, _, Name) -> expected(Name, "a str");
scalar(topic, Topic, Name) -> scalar(str, Topic, Name);
scalar(overflow, {str, <<"drop_oldest">>}, _Name) -> drop_oldest;
scalar(overflow, {str, <<"close">>}, _Name) -> close;
scalar(overflow, {str, <<"latest">>}, _Name) -> latest;
scalar(overflow, {str, _}, Name) -> outside(Name, "drop_oldest, close or latest");
scalar(overflow, _, Name) -> expected(Name, "a str");
scalar(prefix, {number, _}, Name) -> expected(Name, "str, bytes or a tuple");
scalar(prefix, Token, Name) -> key_of(Token, Name, 0).

%% Copied, so that what is kept does not keep all that was read with it.
utf8(Text, Name) ->
    case hornbeam_utf8:is_valid(Text) of
        true -> binary:copy(Text);
        false -> wrong(value_error, [atom_to_binary(Name), " is not UTF-8"])
    end.

key_of({str, Text}, Name, _Depth) -> utf8(Text, Name);
key_of({bin, Bytes}, _Name, _Depth) -> {bytes, binary:copy(Bytes)};
key_of({number, Integer}, _Name, _Depth) when is_integer(Integer) -> Integer;
key_of({tuple, Array}, Name, Depth) when Depth < ?MAX_KEY_DEPTH ->
    case array(fun(Element) -> key_element(Element, Name, Depth) end, Name, Array) of
        {Elements, <<>>} -> list_to_tuple(Elements);
        {_Elements, _Rest} -> expected(Name, "one tuple")
    end;
key_of({tuple, _}, Name, _Depth) ->
    wrong(value_error, [atom_to_binary(Name), " has tuples within tuples, more than 16 deep"]);
key_of(_, Name, _Depth) ->
    expected(Name, "str, bytes, int or a tuple of them").

key_element(Packed, Name, Depth) ->
    {Token, Rest} = hornbeam_msgpack_head:token(Packed),
    {key_of(Token, Name, Depth + 1), Rest}.

%% @doc A key as it travels back.
-spec key(hornbeam_state_key:key()) -> term().
key({bytes, Bytes}) -> hornbeam_msgpack:bytes(Bytes);
key(Key) when is_tuple(Key) -> list_to_tuple([key(Element) || Element <- tuple_to_list(Key)]);
key(Key) -> Key.

-spec expected(atom(), string()) -> no_return().
expected(Name, Type) ->
    wrong(type_error, [atom_to_binary(Name), " must be ", Type]).

-spec outside(atom(), string()) -> no_return().
outside(Name, Range) ->
    wrong(value_error, [atom_to_binary(Name), " must be ", Range]).

-spec wrong(type_error | value_error, iodata()) -> no_return().
wrong(Kind, Sentence) ->
    throw({Kind, Sentence}).
