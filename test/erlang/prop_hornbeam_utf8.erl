%% Properties of hornbeam_utf8 for any bytes, cut anywhere.
-module(prop_hornbeam_utf8).

-include_lib("proper/include/proper.hrl").

-export([
    prop_valid_is_what_the_bit_syntax_says/0,
    prop_an_error_comes_with_the_first_byte_that_no_text_has/0
]).

prop_valid_is_what_the_bit_syntax_says() ->
    ?FORALL(Bytes, bytes(), hornbeam_utf8:is_valid(Bytes) =:= (after_characters(Bytes) =:= <<>>)).

prop_an_error_comes_with_the_first_byte_that_no_text_has() ->
    ?FORALL({Bytes, Size}, {bytes(), range(1, 5)},
            first_error(pieces(Size, Bytes)) =:= first_impossible(pieces(Size, Bytes))).

%% Text, any bytes, and text with one wrong byte, which often only a later one shows to be wrong.
bytes() ->
    Changed = ?LET(Text, text(), prop_hornbeam_msgpack:changed(<<Text/binary, "x">>)),
    oneof([binary(), text(), Changed, edges()]).

text() ->
    ?LET(Characters, list(oneof([char(), range(16#d7f0, 16#d7ff), range(16#10fff0, 16#10ffff)])),
         unicode:characters_to_binary([C || C <- Characters, C < 16#d800 orelse C > 16#dfff])).

%% First bytes with bytes behind them at the limits of what may follow.
edges() ->
    Edge = oneof([16#7f, 16#80, 16#8f, 16#90, 16#9f, 16#a0, 16#bf, 16#c0]),
    ?LET({First, Following}, {range(16#bf, 16#ff), vector(3, Edge)},
         list_to_binary([First | Following])).

pieces(Size, Bytes) when byte_size(Bytes) > Size ->
    <<Piece:Size/binary, Rest/binary>> = Bytes,
    [Piece | pieces(Size, Rest)];
pieces(_Size, Bytes) ->
    [Bytes].

%% The place of the first piece with which there is an error, or none.
first_error(Pieces) -> first_error(Pieces, 1, <<>>).

first_error([], _Place, _Rest) ->
    none;
first_error([Piece | Pieces], Place, Rest) ->
    case hornbeam_utf8:more(Piece, Rest) of
        {ok, More} -> first_error(Pieces, Place + 1, More);
        error -> Place
    end.

first_impossible(Pieces) -> first_impossible(Pieces, 1, <<>>).

first_impossible([], _Place, _Before) ->
    none;
first_impossible([Piece | Pieces], Place, Before) ->
    All = <<Before/binary, Piece/binary>>,
    case begins_a_character(after_characters(All)) of
        true -> first_impossible(Pieces, Place + 1, All);
        false -> Place
    end.

after_characters(<<_/utf8, Rest/binary>>) -> after_characters(Rest);
after_characters(Rest) -> Rest.

%% What RFC 3629, 4, has for the bytes of a character, less its last ones.
begins_a_character(<<>>) -> true;
begins_a_character(<<A>>) -> A >= 16#c2 andalso A =< 16#f4;
begins_a_character(<<16#e0, B>>) -> B >= 16#a0 andalso B =< 16#bf;
begins_a_character(<<16#ed, B>>) -> B >= 16#80 andalso B =< 16#9f;
begins_a_character(<<16#f0, B>>) -> B >= 16#90 andalso B =< 16#bf;
begins_a_character(<<16#f4, B>>) -> B >= 16#80 andalso B =< 16#8f;
begins_a_character(<<A, B>>) -> A >= 16#e1 andalso A =< 16#f3 andalso is_tail(B);
begins_a_character(<<A, B, C>>) ->
    A >= 16#f0 andalso begins_a_character(<<A, B>>) andalso is_tail(C);
begins_a_character(_) -> false.

is_tail(Byte) -> Byte >= 16#80 andalso Byte =< 16#bf.
