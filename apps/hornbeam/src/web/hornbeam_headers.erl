%% Header fields: from those of an app's response to what Cowboy sends, and their bytes. Pure.
-module(hornbeam_headers).

-include_lib("cowlib/include/cow_parse.hrl").

-export([response/1, response/2, content_length/1, trim/1, is_token/1, is_value/1, is_number/1]).

%% @doc Cowboy's map of an app's headers, as a command of a stream handler has it.
%%
%% Cowboy keeps one value a name: the values of a repeated header are joined by a comma, which
%% RFC 9110, 5.3 defines to mean the same. Set-Cookie must not be joined: it is a list, of which
%% each value gets its line. Headers about this one connection are Cowboy's to send.
-spec response([{binary(), binary()}]) -> cowboy:http_headers().
response(Headers) ->
    case lists:partition(fun is_cookie/1, Headers) of
        {[], Others} -> map(Others);
        {Cookies, Others} -> (map(Others))#{<<"set-cookie">> => values(Cookies)}
    end.

%% @doc The same, and the request with the app's cookies, for who answers by the request.
-spec response([{binary(), binary()}], Req) -> {cowboy:http_headers(), Req}
    when Req :: cowboy_req:req().
response(Headers, Req) ->
    {Cookies, Others} = lists:partition(fun is_cookie/1, Headers),
    {map(Others), with_cookies(Cookies, Req)}.

map(Headers) ->
    Joined = maps:map(fun joined/2, lists:foldr(fun add/2, #{}, Headers)),
    maps:merge(#{<<"server">> => <<"hornbeam">>}, Joined).

values(Headers) -> [Value || {_Name, Value} <- Headers].

is_cookie({Name, _Value}) -> Name =:= <<"set-cookie">>.

add({Name, _Value}, Map) when Name =:= <<"transfer-encoding">>; Name =:= <<"connection">>;
                              Name =:= <<"keep-alive">>; Name =:= <<"upgrade">> ->
    Map;
add({Name, Value}, Map) ->
    maps:update_with(Name, fun(Values) -> [Value | Values] end, [Value], Map).

%% Cowboy reads some values, and wants binaries.
joined(_Name, [Value]) -> Value;
joined(<<"content-length">>, [Value | _Same]) -> Value;
joined(_Name, Values) -> iolist_to_binary(lists:join(<<", ">>, Values)).

with_cookies([], Req) ->
    Req;
with_cookies(Cookies, Req) ->
    Numbered = lists:zip(lists:seq(1, length(Cookies)), values(Cookies)),
    Req#{resp_cookies => maps:from_list(Numbered)}.

%% @doc The length that an app's headers announce.
-spec content_length(cowboy:http_headers()) -> {ok, non_neg_integer()} | none.
content_length(#{<<"content-length">> := Value}) ->
    try
        {ok, binary_to_integer(iolist_to_binary(Value))}
    catch
        error:badarg -> none
    end;
content_length(#{}) ->
    none.

%% @doc Whether a text is a token (RFC 9110, 5.6.2), as the name of a field is.
-spec is_token(binary()) -> boolean().
is_token(<<>>) -> false;
is_token(Text) -> is_all_token(Text).

is_all_token(<<Char, Rest/binary>>) when ?IS_TOKEN(Char) -> is_all_token(Rest);
is_all_token(Rest) -> Rest =:= <<>>.

%% @doc Whether a text ends no line, so that it may be sent as a field's value.
-spec is_value(binary()) -> boolean().
is_value(<<Char, Rest/binary>>) when Char =/= $\r, Char =/= $\n, Char =/= 0 -> is_value(Rest);
is_value(Rest) -> Rest =:= <<>>.

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
