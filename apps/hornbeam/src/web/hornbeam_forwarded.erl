%% Who the client is, told by the proxies in front: X-Forwarded-* and Forwarded (RFC 7239). Pure.
%%
%% Only a trusted peer is believed. Each proxy adds what it saw to the end of the list, so the
%% list is read from its end, for as long as the address at hand is a trusted one: the first that
%% is not, or the list's head, is the client. Whatever a client wrote itself stands before it.
%%
%% Protocol and host are those that the same proxy added; a shorter list was overwritten rather
%% than added to, and its head counts. Forwarded is read only where no X-Forwarded-* stands: a
%% proxy that sets the one lets the other pass as the client made it up.
-module(hornbeam_forwarded).

-export([resolve/2, address/1]).
-export_type([trusted/0]).

-type range() :: {inet:ip_address(), Bits :: non_neg_integer()}.
-type trusted() :: any | [range() | unix].

%% What proxies said, the nearest one first.
-record(told, {
    for = [] :: [binary()],
    proto = [] :: [binary() | undefined],
    host = [] :: [binary() | undefined]
}).

%% @doc The request as its client sees it, and whether what proxies said was taken for it.
-spec resolve(Req, trusted()) -> {none | believed | ignored, Req} when Req :: cowboy_req:req().
resolve(#{headers := Headers, peer := Peer} = Req, Trusted) ->
    case told(Headers) of
        none -> {none, Req};
        Told -> resolve(trusts(Peer, Trusted), Told, Trusted, Req)
    end.

resolve(false, _Told, _Trusted, Req) ->
    {ignored, Req};
resolve(true, #told{for = For, proto = Proto, host = Host}, Trusted, Req) ->
    {Client, Depth} = walk(For, Trusted, undefined, 1),
    {believed, with_host(at(Depth, Host), with_scheme(at(Depth, Proto), with_peer(Client, Req)))}.

told(#{<<"x-forwarded-for">> := _} = Headers) -> told_x(Headers);
told(#{<<"x-forwarded-proto">> := _} = Headers) -> told_x(Headers);
told(#{<<"x-forwarded-host">> := _} = Headers) -> told_x(Headers);
told(#{<<"forwarded">> := Value}) -> told_7239(elements(Value));
told(#{}) -> none.

told_x(Headers) ->
    #told{for = listed(<<"x-forwarded-for">>, Headers),
          proto = listed(<<"x-forwarded-proto">>, Headers),
          host = listed(<<"x-forwarded-host">>, Headers)}.

listed(Name, Headers) ->
    lists:reverse(items(maps:get(Name, Headers, <<>>), $,)).

told_7239(Elements) ->
    Nearest = lists:reverse(Elements),
    #told{for = [maps:get(<<"for">>, Element, <<>>) || Element <- Nearest],
          proto = [maps:get(<<"proto">>, Element, undefined) || Element <- Nearest],
          host = [maps:get(<<"host">>, Element, undefined) || Element <- Nearest]}.

%% An entry that is no address ends the walk: nobody known vouches for what stands before it.
walk([], _Trusted, Known, Depth) ->
    {Known, max(1, Depth - 1)};
walk([For | Rest], Trusted, Known, Depth) ->
    case address(For) of
        {ok, Client} ->
            case Rest =/= [] andalso trusts(Client, Trusted) of
                true -> walk(Rest, Trusted, Client, Depth + 1);
                false -> {Client, Depth}
            end;
        error ->
            {Known, max(1, Depth - 1)}
    end.

at(_Depth, []) -> undefined;
at(Depth, Values) -> lists:nth(min(Depth, length(Values)), Values).

with_peer(undefined, Req) -> Req;
with_peer(Client, Req) -> Req#{peer := Client}.

with_scheme(undefined, Req) ->
    Req;
with_scheme(Proto, Req) ->
    case cowboy_bstr:to_lower(Proto) of
        Https when Https =:= <<"https">>; Https =:= <<"wss">> -> Req#{scheme := <<"https">>};
        Http when Http =:= <<"http">>; Http =:= <<"ws">> -> Req#{scheme := <<"http">>};
        _ -> Req
    end.

with_host(undefined, Req) ->
    Req;
with_host(Value, #{headers := Headers} = Req) ->
    case hornbeam_admission:host(Value) of
        {ok, _Name, _Port} ->
            replaced(Value, Req#{headers := Headers#{<<"host">> => Value}});
        error ->
            Req
    end.

replaced(Value, #{header_list := List} = Req) ->
    Req#{header_list := lists:keystore(<<"host">>, 1, List, {<<"host">>, Value})};
replaced(_Value, Req) ->
    Req.

%% @private The address of a client as proxies write it, with or without a port.
-spec address(binary()) -> {ok, {inet:ip_address(), inet:port_number()}} | error.
address(Text) ->
    case re:run(Text, "^(?:\\[([^\\]]+)\\]|([^:]+))(?::([0-9]{1,5}|_[A-Za-z0-9._-]+))?$",
                [dollar_endonly, {capture, all_but_first, list}]) of
        {match, ["", Ip]} -> with_port(inet:parse_ipv4strict_address(Ip), "0");
        {match, ["", Ip, Port]} -> with_port(inet:parse_ipv4strict_address(Ip), Port);
        {match, [Ip]} -> with_port(inet:parse_ipv6strict_address(Ip), "0");
        {match, [Ip, "", Port]} -> with_port(inet:parse_ipv6strict_address(Ip), Port);
        nomatch -> with_port(inet:parse_ipv6strict_address(binary_to_list(Text)), "0")
    end.

with_port({ok, Ip}, "_" ++ _Hidden) -> {ok, {Ip, 0}};
with_port({ok, Ip}, Port) -> {ok, {Ip, min(65535, list_to_integer(Port))}};
with_port({error, _}, _Port) -> error.

trusts(_Peer, any) ->
    true;
trusts({Ip, _Port}, Trusted) when is_tuple(Ip) ->
    Bits = bits(Ip),
    lists:any(fun(Range) -> holds(Range, Bits) end, Trusted);
trusts(_Local, Trusted) ->
    lists:member(unix, Trusted).

holds(unix, _Bits) ->
    false;
holds({Ip, Length}, Bits) ->
    case {bits(Ip), Bits} of
        {<<Same:Length/bits, _/bits>> = Range, <<Same:Length/bits, _/bits>>} ->
            bit_size(Range) =:= bit_size(Bits);
        _ ->
            false
    end.

%% An IPv4 client of a dual-stack socket is what it is.
bits({0, 0, 0, 0, 0, 16#ffff, High, Low}) -> <<High:16, Low:16>>;
bits({A, B, C, D}) -> <<A, B, C, D>>;
bits(Ip) -> << <<Part:16>> || Part <- tuple_to_list(Ip) >>.

%% The elements of a Forwarded header, as maps; none when it is malformed.
elements(Value) ->
    Elements = [[pair(Pair) || Pair <- items(Element, $;)] || Element <- items(Value, $,)],
    case lists:member(error, lists:append(Elements)) of
        true -> [];
        false -> [maps:from_list(Element) || Element <- Elements]
    end.

pair(Pair) ->
    case binary:split(Pair, <<"=">>) of
        [Name, Value] -> named(cowboy_bstr:to_lower(Name), unquoted(Value));
        [_] -> error
    end.

named(_Name, error) -> error;
named(Name, Value) -> {Name, Value}.

unquoted(<<$", Rest/binary>>) -> unquoted(Rest, <<>>);
unquoted(Token) -> Token.

unquoted(<<$">>, Value) -> Value;
unquoted(<<$\\, Char, Rest/binary>>, Value) -> unquoted(Rest, <<Value/binary, Char>>);
unquoted(<<Char, Rest/binary>>, Value) when Char =/= $" -> unquoted(Rest, <<Value/binary, Char>>);
unquoted(_, _) -> error.

%% What stands between separators that are in no quoted string, trimmed; empty items left out.
items(Text, Separator) ->
    [Item || Item <- items(Text, Separator, <<>>, false), Item =/= <<>>].

items(<<>>, _Separator, Item, _Quoted) ->
    [hornbeam_headers:trim(Item)];
items(<<Separator, Rest/binary>>, Separator, Item, false) ->
    [hornbeam_headers:trim(Item) | items(Rest, Separator, <<>>, false)];
items(<<$\\, Char, Rest/binary>>, Separator, Item, true) ->
    items(Rest, Separator, <<Item/binary, $\\, Char>>, true);
items(<<$", Rest/binary>>, Separator, Item, Quoted) ->
    items(Rest, Separator, <<Item/binary, $">>, not Quoted);
items(<<Char, Rest/binary>>, Separator, Item, Quoted) ->
    items(Rest, Separator, <<Item/binary, Char>>, Quoted).
