%% A value that Python and Erlang share, in the form in which it came.
%%
%% What Python gave stays packed until an Erlang process asks for it, and what Erlang gave stays
%% a term until Python asks for it. Numbers are one and the same for both. Pure.
-module(hornbeam_value).

-include("../../wire/hornbeam_msgpack.hrl").

-export([from_packed/1, from_term/1, to_packed/1, to_term/1, same/2, copy/1, bytes/1]).
-export([term_bytes/1, sum/2, nearest_sum/2]).
-export_type([value/0, unreadable/0]).

-type value() :: number() | {packed, binary()} | {term, term()}.
-type unreadable() :: {unreadable, hornbeam_msgpack:reason()}.

%% The largest int that can travel; ints up to SMALL are not worth a look at it.
-define(LARGEST, ((1 bsl (8 * ?MAX_INTEGER - 1)) - 1)).
-define(SMALL, 16#ffffffffffffffff).
%% What may be counted in place: far from the largest, whoever else adds to it at that moment.
-define(IS_COUNTER(N), (is_float(N) orelse abs(N) < 1 bsl 1000)).
-define(LARGEST_FLOAT, 1.7976931348623157e308).

%% @doc A value of Python. A bool is no number.
-spec from_packed(binary()) -> value().
from_packed(Packed) ->
    case is_number_packed(Packed) andalso hornbeam_msgpack:decode_all(Packed) of
        {ok, Number} when is_number(Number) -> Number;
        _ -> {packed, Packed}
    end.

%% By its head: what is none is not read, since that may cost much.
is_number_packed(<<Tag, _/binary>>) when Tag < 16#80; Tag >= 16#e0 -> true;
is_number_packed(<<Tag, _/binary>>) when Tag >= 16#ca, Tag =< 16#d3 -> true;
is_number_packed(<<Tag, Type, _/binary>>) when Tag >= 16#d4, Tag =< 16#d8 -> Type =:= ?INTEGER;
is_number_packed(<<16#c7, _Size:8, Type, _/binary>>) -> Type =:= ?INTEGER;
is_number_packed(<<16#c8, _Size:16, Type, _/binary>>) -> Type =:= ?INTEGER;
is_number_packed(_Packed) -> false.

%% @doc A value of Erlang: any term.
-spec from_term(term()) -> value().
from_term(Number) when is_number(Number) -> Number;
from_term(Term) -> {term, Term}.

%% @doc The value as Python reads it. Raises `{unencodable, Path, Term}' for a term that has no
%% form on the wire.
-spec to_packed(value()) -> binary().
to_packed({packed, Packed}) -> Packed;
to_packed({term, Term}) -> iolist_to_binary(hornbeam_msgpack:encode(Term));
to_packed(Number) -> iolist_to_binary(hornbeam_msgpack:encode(Number)).

%% @doc The value as Erlang reads it. It fails for Python's value with an atom in it that this
%% node does not know.
-spec to_term(value()) -> {ok, term()} | {error, unreadable()}.
to_term({packed, Packed}) ->
    case hornbeam_msgpack:decode_all(Packed) of
        {ok, _} = Term -> Term;
        {error, Reason} -> {error, {unreadable, Reason}}
    end;
to_term({term, Term}) -> {ok, Term};
to_term(Number) -> {ok, Number}.

%% @doc About how many bytes a value may take as a term, beside those that it has now, until one who
%% was given a copy has done with it.
-spec term_bytes(value()) -> non_neg_integer().
term_bytes({packed, Packed}) -> hornbeam_msgpack:term_bytes(Packed);
term_bytes(_Value) -> 0.

%% @doc Whether a stored value is the expected one, exactly: `1' is not `1.0', Python's str is
%% not its bytes; the order of a dict or map does not count. Erlang, which has one type for str
%% and bytes, expects what it would read. `too_long' when it is not found out: see
%% {@link hornbeam_packed:same/2}.
-spec same(Stored :: value(), Expected :: value()) -> boolean() | {error, too_long}.
same(Value, Value) ->
    true;
same({packed, A}, {packed, B}) ->
    hornbeam_packed:same(A, B);
same({packed, _} = Stored, {term, Expected}) ->
    to_term(Stored) =:= {ok, Expected};
same({term, _} = Stored, {packed, Expected}) ->
    try to_packed(Stored) of
        Packed -> hornbeam_packed:same(Packed, Expected)
    catch
        %% Python could not even read it.
        error:{unencodable, _, _} -> false
    end;
same(_, _) ->
    false.

%% @doc The value without the bytes that came with it: for whoever keeps it long.
-spec copy(value()) -> value().
copy({packed, Packed}) -> {packed, binary:copy(Packed)};
copy(Value) -> Value.

%% @doc About how many bytes a value takes beside what stands around it, where a counter of up to
%% 125 bytes has its room: so that one may be changed in place.
-spec bytes(value()) -> non_neg_integer().
bytes({packed, Packed}) -> byte_size(Packed);
bytes({term, Term}) -> erlang:external_size(Term);
bytes(Number) when ?IS_COUNTER(Number) -> 0;
bytes(Number) -> erlang:external_size(Number).

%% @doc The sum of two numbers, if it can travel and, as a float, is one.
-spec sum(number(), number()) -> {ok, number()} | {error, overflow}.
sum(A, B) ->
    try A + B of
        Sum when is_float(Sum); abs(Sum) =< ?SMALL -> {ok, Sum};
        Sum -> travels(abs(Sum) =< ?LARGEST, Sum)
    catch
        error:badarith -> {error, overflow}
    end.

travels(true, Sum) -> {ok, Sum};
travels(false, _Sum) -> {error, overflow}.

%% @doc The sum of two numbers or, past what {@link sum/2} gives, the last one before it.
-spec nearest_sum(number(), number()) -> number().
nearest_sum(A, B) ->
    case sum(A, B) of
        {ok, Sum} -> Sum;
        {error, overflow} -> last(is_float(A) orelse is_float(B), greater(A, B))
    end.

%% Its side is that of the sum.
greater(A, B) when abs(A) > abs(B) -> A;
greater(_A, B) -> B.

last(true, Greater) when Greater > 0 -> ?LARGEST_FLOAT;
last(true, _Greater) -> -?LARGEST_FLOAT;
last(false, Greater) when Greater > 0 -> ?LARGEST;
last(false, _Greater) -> -?LARGEST.
