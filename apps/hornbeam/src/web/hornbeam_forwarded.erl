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

-include("hornbeam_request.hrl").

-export([resolve/2, trusts/2, address/1]).
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
-spec resolve(Request, trusted()) -> {none | believed | ignored, Request}
    when Request :: hornbeam_request:request().
resolve(#request{peer = Peer, fields = Fields} = Request, Trusted) ->
    case told(Fields) of
        none -> {none, Request};
        Told -> resolve(trusts(Peer, Trusted), Told, Trusted, Request)
    end.

resolve(false, _Told, _Trusted, Request) ->
    {ignored, Request};
resolve(true, #told{for = For, proto = Proto, host = Host}, Trusted, Request) ->
    {Client, Depth} = walk(For, Trusted, undefined, 1),
    {believed, with_host(at(Depth, Host),
                         with_scheme(at(Depth, Proto), with_peer(Client, Request)))}.

told(Fields) ->
    case [Field || {Name, _} = Field <- Fields, is_told(Name)] of
        [] -> none;
        Told -> told_by(hornbeam_headers:joined(Told))
    end.

is_told(<<"x-forwarded-for">>) -> true;
is_told(<<"x-forwarded-proto">>) -> true;
is_told(<<"x-forwarded-host">>) -> true;
is_told(<<"forwarded">>) -> true;
is_told(_Name) -> false.

told_by(#{<<"forwarded">> := Value} = Told) when map_size(Told) =:= 1 ->
    told_7239(elements(Value));
told_by(Told) ->
    #told{for = listed(<<"x-forwarded-for">>, Told),
          proto = listed(<<"x-forwarded-proto">>, Told),
          host = listed(<<"x-forwarded-host">>, Told)}.

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

with_peer(undefined, Request) -> Request;
with_peer(Client, Request) -> Request#request{peer = Client}.

with_scheme(undefined, Request) ->
    Request;
with_scheme(Proto, Request) ->
    case hornbeam_headers:lower(Proto) of
        Https when Https =:= <<"https">>; Https =:= <<"wss">> ->
            Request#request{scheme = <<"https">>};
        Http when Http =:= <<"http">>; Http =:= <<"ws">> ->
            Request#request{scheme = <<"http">>};
        _ ->
            Request
    end.

with_host(undefined, Request) ->
    Request;
with_host(Value, #request{fields = Fields} = Request) ->
    case hornbeam_access:host(Value) of
        {ok, _Name, _Port} ->
            Request#request{fields = lists:keystore(<<"host">>, 1, Fields, {<<"host">>, Value})};
        error ->
            Request
    end.

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

%% @doc Whether a peer is one of those that are believed.
-spec trusts(hornbeam_request:address(), trusted()) -> boolean().
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
        [Name, Value] -> named(hornbeam_headers:lower(Name), unquoted(Value));
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
