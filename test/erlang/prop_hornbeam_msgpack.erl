%% Properties of hornbeam_msgpack for any term and any bytes.
-module(prop_hornbeam_msgpack).

-include_lib("proper/include/proper.hrl").

-export([
    prop_a_term_comes_back/0,
    prop_a_cut_term_is_truncated/0,
    prop_what_follows_is_left/0,
    prop_a_changed_byte_is_a_term_or_an_error/0,
    prop_any_bytes_are_a_term_or_an_error/0
]).
-export([wire_term/0, changed/1]).

prop_a_term_comes_back() ->
    ?FORALL(Term, wire_term(), hornbeam_msgpack:decode_all(encode(Term)) =:= {ok, Term}).

prop_a_cut_term_is_truncated() ->
    ?FORALL(
        {Bytes, Cut},
        ?LET(Term, wire_term(), with_position(encode(Term))),
        hornbeam_msgpack:decode(binary:part(Bytes, 0, Cut)) =:= {error, truncated}
    ).

prop_what_follows_is_left() ->
    ?FORALL(
        {Term, Rest},
        {wire_term(), binary()},
        hornbeam_msgpack:decode(<<(encode(Term))/binary, Rest/binary>>) =:= {ok, Term, Rest}
    ).

prop_a_changed_byte_is_a_term_or_an_error() ->
    ?FORALL(Bytes, ?LET(Term, wire_term(), changed(encode(Term))), decodes_or_errs(Bytes)).

prop_any_bytes_are_a_term_or_an_error() ->
    ?FORALL(Bytes, binary(), decodes_or_errs(Bytes)).

decodes_or_errs(Bytes) ->
    case hornbeam_msgpack:decode(Bytes) of
        {ok, _, Rest} -> is_binary(Rest);
        {error, truncated} -> true;
        {error, {bad_msgpack, _}} -> true;
        {error, {unknown_atom, Name}} -> is_binary(Name)
    end.

encode(Term) ->
    iolist_to_binary(hornbeam_msgpack:encode(Term)).

%% Bytes with a position that is inside of them.
with_position(Bytes) ->
    {Bytes, range(0, byte_size(Bytes) - 1)}.

%% Bytes of which one is another.
changed(Bytes) ->
    ?LET({{_, At}, Byte}, {with_position(Bytes), byte()}, replace(Bytes, At, Byte)).

replace(Bytes, At, Byte) ->
    <<Front:At/binary, _, Back/binary>> = Bytes,
    <<Front/binary, Byte, Back/binary>>.

%% Any term that is the same after a journey; nil and null become undefined.
wire_term() ->
    ?SIZED(Size, wire_term(Size)).

wire_term(0) ->
    scalar();
wire_term(Size) ->
    Few = few(?LAZY(wire_term(Size div 3))),
    frequency([
        {4, scalar()},
        {1, Few},
        {1, ?LET(Elements, Few, list_to_tuple(Elements))},
        {1, ?LET({Keys, Values}, {Few, Few}, maps_of(Keys, Values))}
    ]).

%% Lists grow with the size by themselves; lists within lists would grow beyond use.
few(Type) ->
    ?LET(N, range(0, 4), vector(N, Type)).

maps_of(Keys, Values) ->
    N = min(length(Keys), length(Values)),
    maps:from_list(lists:zip(lists:sublist(Keys, N), lists:sublist(Values, N))).

scalar() ->
    oneof([
        integer(),
        edge_integer(),
        ?LET({N, Bits}, {integer(), range(0, 300)}, N bsl Bits),
        float(),
        binary(),
        text(),
        ?LET(N, oneof([31, 32, 255, 256, 65535, 65536]), binary:copy(<<"x">>, N)),
        oneof([undefined, true, false, ok, error, '', 'größe', '日本']),
        oneof([self(), make_ref(), hd(erlang:ports()), fun lists:map/2, fun erlang:node/0])
    ]).

edge_integer() ->
    ?LET(
        {Sign, Bits, Around},
        {oneof([1, -1]), oneof([5, 7, 8, 15, 16, 31, 32, 63, 64, 71, 72]), range(-1, 1)},
        Sign * (1 bsl Bits) + Around
    ).

text() -> utf8().
