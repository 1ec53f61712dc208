%% Who the client is, told by the proxies in front: X-Forwarded-* and Forwarded (RFC 7239). Pure.
%%
%% Only a trusted peer is believed. Each proxy adds what it saw to the end of the list, so the
%% list is read from its end, for as long as the address at hand is a trusted one: the first that
%% is not, or the list's head, is the client. Whatever a client wrote itself stands before it, and
%% however it wrote it, what a proxy added behind is read the same: X-Forwarded-* knows no quotes,
%% and Forwarded is taken apart from its end too.
%%
%% A proxy may say that it does not know the client, or hide it (RFC 7239, 6): then that is the
%% peer. What it says and nobody can read, where it would be the client, is `malformed': any
%% address in its place would be one of ours, and open what is closed to strangers.
%%
%% Protocol and host are those that the same proxy added; a shorter list was overwritten rather
%% than added to, and its head counts. Forwarded is read only where no X-Forwarded-* stands: a
%% proxy that sets the one lets the other pass as the client made it up.
-module(hornbeam_forwarded).

-include("hornbeam_request.hrl").

-export([resolve/2, trusts/2]).
-export_type([trusted/0]).

-type range() :: {inet:ip_address(), Bits :: non_neg_integer()}.
-type trusted() :: any | [range() | unix].

%% What proxies said, the nearest one first.
-record(told, {
    for = [] :: [binary()],
    proto = [] :: [binary() | undefined],
    host = [] :: [binary() | undefined]
}).

%% In the place of an element that cannot be read, and of all before it.
-define(UNREADABLE, <<"?">>).

%% @doc The request as its client sees it, and whether what proxies said was taken for it.
-spec resolve(Request, trusted()) -> {none | believed | ignored, Request} | malformed
    when Request :: hornbeam_request:request().
resolve(#request{peer = Peer, fields = Fields} = Request, Trusted) ->
    case told(Fields) of
        none -> {none, Request};
        Told -> resolve(trusts(Peer, Trusted), Told, Trusted, Request)
    end.

resolve(false, _Told, _Trusted, Request) ->
    {ignored, Request};
resolve(true, #told{for = For, proto = Proto, host = Host}, Trusted, Request) ->
    case walk(For, Trusted, 1) of
        malformed ->
            malformed;
        {Client, Depth} ->
            {believed, with_host(at(Depth, Host),
                                 with_scheme(at(Depth, Proto), with_peer(Client, Request)))}
    end.

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

%% Empty members count as little as anywhere (RFC 9110, 5.6.1).
listed(Name, Headers) ->
    Members = binary:split(maps:get(Name, Headers, <<>>), <<",">>, [global]),
    lists:foldl(fun(Member, Nearer) ->
        case hornbeam_headers:trim(Member) of
            <<>> -> Nearer;
            Trimmed -> [Trimmed | Nearer]
        end
    end, [], Members).

told_7239(Elements) ->
    #told{for = [maps:get(<<"for">>, Element, <<"unknown">>) || Element <- Elements],
          proto = [maps:get(<<"proto">>, Element, undefined) || Element <- Elements],
          host = [maps:get(<<"host">>, Element, undefined) || Element <- Elements]}.

%% Nobody known vouches for what stands before the first that is not trusted.
walk([], _Trusted, Depth) ->
    {unknown, Depth};
walk([For | Rest], Trusted, Depth) ->
    case seen(For) of
        {ok, Client} ->
            case Rest =/= [] andalso trusts(Client, Trusted) of
                true -> walk(Rest, Trusted, Depth + 1);
                false -> {Client, Depth}
            end;
        unknown ->
            {unknown, Depth};
        error ->
            malformed
    end.

at(_Depth, []) -> undefined;
at(Depth, Values) -> lists:nth(min(Depth, length(Values)), Values).

%% Of who came by a Unix socket no address is known.
with_peer(unknown, Request) -> Request;
with_peer({local, _}, Request) -> Request;
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

%% Who a proxy says that it saw: an address as proxies write it, with or without a port; a Unix
%% socket, in nginx's words; or nobody that it knows or shows.
seen(<<"unix:">>) ->
    {ok, {local, <<>>}};
seen(<<"_", Hidden/binary>>) ->
    hidden(re:run(Hidden, "^[A-Za-z0-9._-]+(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?$", whole()));
seen(Text) ->
    case re:run(Text, "^(?:\\[([^\\]]+)\\]|([^:]+))(?::([0-9]{1,5}|_[A-Za-z0-9._-]+))?$",
                [dollar_endonly, {capture, all_but_first, list}]) of
        {match, ["", Name]} -> named(Name, "0");
        {match, ["", Name, Port]} -> named(Name, Port);
        {match, [Ip]} -> with_port(inet:parse_ipv6strict_address(Ip), "0");
        {match, [Ip, "", Port]} -> with_port(inet:parse_ipv6strict_address(Ip), Port);
        nomatch -> with_port(inet:parse_ipv6strict_address(binary_to_list(Text)), "0")
    end.

whole() -> [dollar_endonly, {capture, none}].

hidden(match) -> unknown;
hidden(nomatch) -> error.

named(Name, Port) ->
    case string:lowercase(Name) of
        "unknown" -> unknown;
        _ -> with_port(ipv4(Name), Port)
    end.

%% Four decimal numbers. Erlang also reads those of C, where 010 is 8.
ipv4(Text) ->
    case re:run(Text, "^(?:0|[1-9][0-9]{0,2})(?:\\.(?:0|[1-9][0-9]{0,2})){3}$", whole()) of
        match -> inet:parse_ipv4strict_address(Text);
        nomatch -> {error, einval}
    end.

with_port({ok, Ip}, "_" ++ _Hidden) -> {ok, {Ip, 0}};
with_port({ok, Ip}, Port) -> in_range(Ip, list_to_integer(Port));
with_port({error, _}, _Port) -> error.

in_range(Ip, Port) when Port =< 65535 -> {ok, {Ip, Port}};
in_range(_Ip, _Port) -> error.

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

%% The elements of a Forwarded header as maps, the nearest first; in the end one that cannot be
%% read.
%%
%% They are read from the value's end, where a quote opens only behind an equals sign: within a
%% quoted string there is none that no backslash precedes. So nothing that stands before an element
%% has a say in how that is read.
elements(Value) ->
    nearest_first(lists:reverse(binary_to_list(Value))).

nearest_first([Char | Before]) when Char =:= $,; Char =:= $\s; Char =:= $\t ->
    nearest_first(Before);
nearest_first([]) ->
    [];
nearest_first(Reversed) ->
    case pairs(Reversed, #{}) of
        {ok, Element, Before} -> [Element | nearest_first(Before)];
        error -> [#{<<"for">> => ?UNREADABLE}]
    end.

pairs([Char | Before], Pairs) when Char =:= $;; Char =:= $\s; Char =:= $\t ->
    pairs(Before, Pairs);
pairs([$, | Before], Pairs) ->
    {ok, Pairs, Before};
pairs([], Pairs) ->
    {ok, Pairs, []};
pairs(Reversed, Pairs) ->
    case pair(Reversed) of
        {Name, Value, Before} when not is_map_key(Name, Pairs) ->
            after_pair(Before, Pairs#{Name => Value});
        _ ->
            error
    end.

after_pair([Blank | Before], Pairs) when Blank =:= $\s; Blank =:= $\t ->
    after_pair(Before, Pairs);
after_pair([Separator | _] = Before, Pairs) when Separator =:= $;; Separator =:= $, ->
    pairs(Before, Pairs);
after_pair([], Pairs) ->
    {ok, Pairs, []};
after_pair(_Other, _Pairs) ->
    error.

pair([$" | Before]) -> quoted(Before, []);
pair(Before) -> plain(Before, []).

quoted([$", $= | Before], Value) -> name(Before, unescaped(Value, []), []);
quoted([Char | Before], Value) -> quoted(Before, [Char | Value]);
quoted([], _Value) -> error.

unescaped([$\\, Char | Rest], Text) -> unescaped(Rest, [Char | Text]);
unescaped([Char | _], _Text) when Char =:= $\\; Char =:= $" -> error;
unescaped([Char | Rest], Text) -> unescaped(Rest, [Char | Text]);
unescaped([], Text) -> list_to_binary(lists:reverse(Text)).

%% Many write addresses with ports without the quotes that they need.
plain([$= | Before], [_ | _] = Value) -> name(Before, list_to_binary(Value), []);
plain([Char | Before], Value)
        when Char > $\s, Char =/= $", Char =/= $,, Char =/= $;, Char =/= $=, Char =/= $\\ ->
    plain(Before, [Char | Value]);
plain(_Other, _Value) -> error.

name(_Before, error, _Name) ->
    error;
name([Char | Before], Value, Name)
        when Char > $\s, Char =/= $", Char =/= $,, Char =/= $;, Char =/= $= ->
    name(Before, Value, [Char | Name]);
name(Before, Value, Name) ->
    Text = list_to_binary(Name),
    case hornbeam_headers:is_token(Text) of
        true -> {hornbeam_headers:lower(Text), Value, Before};
        false -> error
    end.
