%% What a client gets of a published value: text, bytes, or JSON text. Pure.
%%
%% It follows Python's json.dumps where that has an answer: keys that are numbers, bools or None
%% become text, tuples become arrays, and the order of a dict is kept.
-module(hornbeam_json).

-include("../../wire/hornbeam_msgpack.hrl").

-export([frame/1, path_text/1]).
-export_type([path/0]).

-type path() :: [binary() | integer() | term()].
%% From outside: keys of maps, positions in arrays (from 0).

%% To write digits takes the square of their number, and no client reads that many.
-define(LARGEST, (1 bsl 8192)).

%% @doc What a client gets of a value: str is text, bytes are binary, all else is JSON text.
%%
%% A value that JSON has no form for is an error that says where it stands and what it is.
-spec frame(hornbeam_value:value()) ->
    {ok, {text | binary, binary()}} | {error, path(), What :: binary()}.
frame(Value) ->
    Packed = hornbeam_value:to_packed(Value),
    try
        {ok, framed(hornbeam_msgpack_head:token(Packed), Packed)}
    catch
        throw:{no_json, Path, What} -> {error, lists:reverse(Path), What};
        error:{bad_packed, _} -> {error, [], <<"what is no msgpack">>}
    end.

framed({{str, Text}, <<>>}, _Packed) -> {text, Text};
framed({{atom, Name}, <<>>}, _Packed) -> {text, Name};
framed({{bin, Bytes}, <<>>}, _Packed) -> {binary, Bytes};
framed(_Other, Packed) -> {text, json(hornbeam_msgpack:is_small(Packed), Packed)}.

json(true, Packed) ->
    case value(Packed, []) of
        {Json, <<>>} -> iolist_to_binary(Json);
        {_, _Rest} -> no_json([], <<"what is no msgpack">>)
    end;
json(false, _Packed) ->
    no_json([], <<"a value of more than 4194304 elements">>).

value(Packed, Path) ->
    {Token, Rest} = hornbeam_msgpack_head:token(Packed),
    value(Token, Rest, Path).

value(nil, Rest, _Path) -> {<<"null">>, Rest};
value(Bool, Rest, _Path) when is_boolean(Bool) -> {atom_to_binary(Bool), Rest};
value({number, Number}, Rest, Path) -> {number(Number, Path), Rest};
value({str, Text}, Rest, _Path) -> {string(Text), Rest};
value({atom, Name}, Rest, _Path) -> {string(Name), Rest};
value({array, _}, _Rest, Path) when length(Path) >= ?MAX_DEPTH ->
    no_json([], <<"a value of more than 512 levels">>);
value({map, _}, _Rest, Path) when length(Path) >= ?MAX_DEPTH ->
    no_json([], <<"a value of more than 512 levels">>);
value({array, N}, Rest, Path) -> array(N, Rest, Path);
value({tuple, Array}, Rest, Path) -> {tuple(hornbeam_msgpack_head:token(Array), Path), Rest};
value({map, N}, Rest, Path) -> object(N, Rest, Path);
value({bin, _}, _Rest, Path) -> no_json(Path, <<"bytes">>);
value({opaque, _}, _Rest, Path) -> no_json(Path, <<"an Erlang term">>).

-spec no_json(path(), binary()) -> no_return().
no_json(Path, What) ->
    throw({no_json, Path, What}).

number(Float, _Path) when is_float(Float) -> float_to_binary(Float, [short]);
number(Integer, _Path) when Integer < ?LARGEST, Integer > -?LARGEST ->
    integer_to_binary(Integer);
number(_Integer, Path) -> no_json(Path, <<"an integer of more than 1024 bytes">>).

tuple({{array, _} = Array, Elements}, Path) -> element(1, value(Array, Elements, Path));
tuple(_NoArray, Path) -> no_json(Path, <<"a tuple that is none">>).

array(N, Rest0, Path) ->
    {Elements, Rest} = elements(0, N, Rest0, Path),
    {[$[, lists:join($,, Elements), $]], Rest}.

elements(N, N, Rest, _Path) ->
    {[], Rest};
elements(Position, N, Packed, Path) ->
    {Element, Rest1} = value(Packed, [Position | Path]),
    {Elements, Rest2} = elements(Position + 1, N, Rest1, Path),
    {[Element | Elements], Rest2}.

object(N, Rest0, Path) ->
    {Pairs, Rest} = pairs(N, Rest0, Path),
    {[${, lists:join($,, Pairs), $}], Rest}.

pairs(0, Rest, _Path) ->
    {[], Rest};
pairs(N, Packed, Path) ->
    {Token, Rest1} = hornbeam_msgpack_head:token(Packed),
    Key = key(Token, Path),
    {Value, Rest2} = value(Rest1, [Key | Path]),
    {Pairs, Rest3} = pairs(N - 1, Rest2, Path),
    {[[string(Key), $:, Value] | Pairs], Rest3}.

key({str, Text}, _Path) -> Text;
key({atom, Name}, _Path) -> Name;
key({number, Number}, Path) -> number(Number, Path);
key(nil, _Path) -> <<"null">>;
key(Bool, _Path) when is_boolean(Bool) -> atom_to_binary(Bool);
key({bin, _}, Path) -> no_json(Path, <<"a dict with bytes as a key">>);
key({tuple, _}, Path) -> no_json(Path, <<"a dict with a tuple as a key">>);
key(_, Path) -> no_json(Path, <<"a dict with a key that is no text">>).

string(Text) ->
    [$", escaped(Text, Text, 0, 0), $"].

%% Copies nothing of a text that needs no escapes.
escaped(<<Char, Rest/binary>>, Text, Start, Length) when Char >= $\s, Char =/= $", Char =/= $\\ ->
    escaped(Rest, Text, Start, Length + 1);
escaped(<<Char, Rest/binary>>, Text, Start, Length) ->
    [binary:part(Text, Start, Length), escape(Char)
     | escaped(Rest, Text, Start + Length + 1, 0)];
escaped(<<>>, Text, Start, Length) ->
    [binary:part(Text, Start, Length)].

escape($") -> <<"\\\"">>;
escape($\\) -> <<"\\\\">>;
escape($\n) -> <<"\\n">>;
escape($\r) -> <<"\\r">>;
escape($\t) -> <<"\\t">>;
escape(Char) -> io_lib:format("\\u~4.16.0b", [Char]).

%% @doc A path as Python writes it: `['users'][3]'.
-spec path_text(path()) -> iodata().
path_text(Path) ->
    [step_text(Step) || Step <- Path].

step_text(Position) when is_integer(Position) -> ["[", integer_to_binary(Position), "]"];
step_text(Key) when is_binary(Key) -> ["['", Key, "']"];
step_text({key, Key}) -> io_lib:format("(key ~0tp)", [Key]);
step_text(Key) -> io_lib:format("[~0tp]", [Key]).
