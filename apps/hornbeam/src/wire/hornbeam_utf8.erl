%% UTF-8 (RFC 3629), at once or bit by bit.
-module(hornbeam_utf8).

-export([is_valid/1, more/2]).
-export_type([rest/0]).

%% The beginning of a character, of which bytes are missing.
-type rest() :: binary().

%% @doc Whether these bytes are text, from its beginning to its end.
-spec is_valid(binary()) -> boolean().
is_valid(Binary) ->
    unicode:characters_to_binary(Binary) =:= Binary.

%% @doc Whether text may go on with these bytes, behind what `more/2' has left (at first nothing);
%% an error comes with the first byte that no text can have there.
-spec more(binary(), rest()) -> {ok, rest()} | error.
more(Bytes, Rest) ->
    case unicode:characters_to_binary(behind(Rest, Bytes)) of
        Text when is_binary(Text) -> {ok, <<>>};
        {incomplete, _, Begun} -> begun(Begun);
        {error, _, _} -> error
    end.

behind(<<>>, Bytes) -> Bytes;
behind(Rest, Bytes) -> <<Rest/binary, Bytes/binary>>.

%% What is wrong already may seem incomplete only. A beginning is good if the lowest or the highest
%% bytes that may follow make it a character.
begun(Begun) ->
    case is_begun(Begun, 16#80) orelse is_begun(Begun, 16#bf) of
        true -> {ok, Begun};
        false -> error
    end.

is_begun(Begun, Byte) ->
    lists:any(fun(Missing) ->
        is_valid(<<Begun/binary, (binary:copy(<<Byte>>, Missing))/binary>>)
    end, [1, 2, 3]).
