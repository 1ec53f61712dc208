%% Header fields, and the lists and tokens in them. Pure.
-module(hornbeam_headers).

-include_lib("cowlib/include/cow_parse.hrl").

-export([field/1, joined/1, tokens/1, items/1, lower/1]).
-export([trim/1, is_token/1, is_clean/1, is_number/1]).
-export_type([fields/0]).

-type fields() :: [{Name :: binary(), Value :: binary()}].
%% In their order; names in lower case.

%% @doc The field of a line (RFC 9112, 5), with its name in lower case; what is none is an error, as
%% is a line that goes on from the one before.
-spec field(binary()) -> {Name :: binary(), Value :: binary()} | error.
field(Line) ->
    case name(Line, 0) of
        Size when Size > 0 ->
            <<Name:Size/binary, $:, Value/binary>> = Line,
            value(lower(Name), trim(Value));
        _ ->
            error
    end.

value(Name, Value) ->
    case is_clean(Value) of
        true -> {Name, Value};
        false -> error
    end.

%% How long the name is before its colon.
name(<<$:, _/binary>>, Size) -> Size;
name(<<Char, Rest/binary>>, Size) when ?IS_TOKEN(Char) -> name(Rest, Size + 1);
name(_Other, _Size) -> 0.

%% @doc A text with the letters of ASCII in lower case; it need not be UTF-8.
-spec lower(binary()) -> binary().
lower(Name) ->
    case has_upper(Name) of
        true -> << <<(lower_char(Char))>> || <<Char>> <= Name >>;
        false -> Name
    end.

has_upper(<<Char, _/binary>>) when Char >= $A, Char =< $Z -> true;
has_upper(<<_, Rest/binary>>) -> has_upper(Rest);
has_upper(<<>>) -> false.

lower_char(Char) when Char >= $A, Char =< $Z -> Char + 32;
lower_char(Char) -> Char.

%% @doc The fields as a map, in which the values of repeated ones are one list (RFC 9110, 5.3), or
%% one cookie (RFC 9113, 8.2.3).
-spec joined(fields()) -> #{binary() => binary()}.
joined(Fields) ->
    lists:foldl(fun({Name, Value}, Map) ->
        maps:update_with(Name, fun(Before) -> join(Name, Before, Value) end, Value, Map)
    end, #{}, Fields).

join(<<"cookie">>, Before, Value) -> <<Before/binary, "; ", Value/binary>>;
join(_Name, Before, Value) -> <<Before/binary, ", ", Value/binary>>.

%% @doc The members of a list of tokens, in lower case.
-spec tokens(binary()) -> {ok, [binary()]} | error.
tokens(Value) ->
    Items = items(Value),
    case lists:all(fun is_token/1, Items) of
        true -> {ok, Items};
        false -> error
    end.

%% @doc What stands between commas, in lower case; empty members are left out (RFC 9110, 5.6.1).
-spec items(binary()) -> [binary()].
items(Value) ->
    [lower(Item) || Part <- binary:split(Value, <<",">>, [global]),
                    Item <- [trim(Part)], Item =/= <<>>].

%% @doc Whether a text is a token (RFC 9110, 5.6.2), as the name of a field is.
-spec is_token(binary()) -> boolean().
is_token(<<>>) -> false;
is_token(Text) -> is_all_token(Text).

is_all_token(<<Char, Rest/binary>>) when ?IS_TOKEN(Char) -> is_all_token(Rest);
is_all_token(Rest) -> Rest =:= <<>>.

%% @doc Whether a text has no control characters but tabs, as the values of fields (RFC 9110, 5.5).
-spec is_clean(binary()) -> boolean().
is_clean(<<Char, Rest/binary>>) when Char >= 32, Char =/= 127; Char =:= $\t -> is_clean(Rest);
is_clean(Rest) -> Rest =:= <<>>.

%% @doc Whether a text is digits and nothing else.
-spec is_number(binary()) -> boolean().
is_number(<<>>) -> false;
is_number(Text) -> are_digits(Text).

are_digits(<<Digit, Rest/binary>>) when Digit >= $0, Digit =< $9 -> are_digits(Rest);
are_digits(Rest) -> Rest =:= <<>>.

%% @doc A field's value without the blanks around it; it need not be UTF-8.
-spec trim(binary()) -> binary().
trim(<<Blank, Rest/binary>>) when Blank =:= $\s; Blank =:= $\t ->
    trim(Rest);
trim(Value) ->
    trim_end(Value, byte_size(Value)).

trim_end(Value, Size) when Size > 0 ->
    case binary:at(Value, Size - 1) of
        Blank when Blank =:= $\s; Blank =:= $\t -> trim_end(Value, Size - 1);
        _ -> binary:part(Value, 0, Size)
    end;
trim_end(_Value, 0) ->
    <<>>.
