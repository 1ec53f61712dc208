%% Which requests may come in: the host that they name, and the page that they come from. Pure.
%%
%% A browser lets any page open a WebSocket to any server and sends the cookies along; only the
%% Origin header tells whose page it is. A handshake without one comes from no browser.
-module(hornbeam_access).

-include("hornbeam_request.hrl").

-define(IS_WEB(Scheme), (Scheme =:= <<"https">> orelse Scheme =:= <<"http">>)).

%% This machine, by names that no other one can have.
-define(IS_LOOPBACK(Name), (Name =:= <<"localhost">> orelse Name =:= <<"127.0.0.1">>
                            orelse Name =:= <<"[::1]">>)).

-export([is_among/2, check/4, check_host/2, host/1]).
-export_type([type/0, refusal/0]).

-type type() :: http | websocket.
-type refusal() :: bad_host | unknown_host | foreign_origin.

%% @doc Whether a request may come in, by the options `allowed_hosts' and `allowed_origins'.
-spec check(type(), hornbeam_request:request(), hornbeam_config:server_options(),
            hornbeam_config:app_options()) -> ok | {refuse, refusal()}.
check(Type, Request, Server, #{allowed_origins := Origins}) ->
    case check_host(Request, Server) of
        ok when Type =:= websocket ->
            check_origin(hornbeam_request:values(<<"origin">>, Request), named_host(Request),
                         Origins);
        Answer ->
            Answer
    end.

%% @doc The same by the first of them alone.
-spec check_host(hornbeam_request:request(), hornbeam_config:server_options()) ->
    ok | {refuse, refusal()}.
check_host(Request, #{allowed_hosts := Hosts}) ->
    is_served(named_host(Request), Hosts).

named_host(Request) ->
    case hornbeam_request:field(<<"host">>, Request) of
        undefined -> none;
        Value -> host(Value)
    end.

is_served(error, _Allowed) -> {refuse, bad_host};
is_served(_Host, any) -> ok;
is_served(none, _Allowed) -> {refuse, bad_host};
is_served({ok, Host, _Port}, Allowed) -> ok_if(is_among(Host, Allowed), unknown_host).

ok_if(true, _Refusal) -> ok;
ok_if(false, Refusal) -> {refuse, Refusal}.

%% @doc Whether a host is one of those that the option `allowed_hosts' names.
-spec is_among(Host :: binary(), [hornbeam_origin:host_pattern()]) -> boolean().
is_among(Host, Allowed) ->
    lists:any(fun(Pattern) -> is_host(Pattern, Host) end, Allowed).

is_host({under, Domain}, Host) -> is_below(Domain, Host);
is_host(Pattern, Host) -> Pattern =:= Host.

is_below(Domain, Host) ->
    Before = byte_size(Host) - byte_size(Domain) - 1,
    case Host of
        <<_:Before/binary, $., Domain/binary>> when Before > 0 -> true;
        _ -> false
    end.

%% Of several origins nobody knows which is the page's.
check_origin(_Origins, _Host, any) ->
    ok;
check_origin([], _Host, _Allowed) ->
    ok;
check_origin([Value], Host, Allowed) ->
    ok_if(is_allowed(hornbeam_origin:parse(Value), Host, Allowed), foreign_origin);
check_origin(_Several, _Host, _Allowed) ->
    {refuse, foreign_origin}.

is_allowed(error, _Host, _Allowed) ->
    false;
is_allowed({ok, Origin}, Host, same_host) ->
    is_same_host(Origin, Host);
is_allowed({ok, Origin}, Host, Allowed) ->
    lists:any(fun(Pattern) -> is_origin(Pattern, Origin, Host) end, Allowed).

is_origin(same_host, Origin, Host) ->
    is_same_host(Origin, Host);
is_origin(null, null, _Host) ->
    true;
is_origin({Scheme, Pattern, Port}, {Scheme, Name, Port}, _Host) ->
    is_host(Pattern, Name);
is_origin(_Pattern, _Origin, _Host) ->
    false.

%% Only a page of the web can come from a host of the web. A Host without port is that of whichever
%% scheme the client speaks: a proxy that ends TLS may not say so. Who develops has the page at
%% another port of this machine than the server; the names of that are nobody else's.
is_same_host({Scheme, Name, _Port}, {ok, Named, _OtherPort})
        when ?IS_WEB(Scheme), ?IS_LOOPBACK(Name), ?IS_LOOPBACK(Named) ->
    true;
is_same_host({Scheme, Name, Port}, {ok, Name, Named})
        when ?IS_WEB(Scheme) ->
    Port =:= Named orelse
        (Named =:= undefined andalso Port =:= hornbeam_origin:default_port(Scheme));
is_same_host(_Origin, _Host) ->
    false.

%% @doc The name and port of a Host header; the name in lower case and without a closing dot.
-spec host(binary()) -> {ok, binary(), inet:port_number() | undefined} | error.
host(<<"[", _/binary>> = Value) ->
    case binary:split(Value, <<"]">>) of
        [<<"[", Ip/binary>>, Rest] -> named(<<"[", Ip/binary, "]">>, is_address(Ip), Rest);
        [_] -> error
    end;
host(Value) ->
    case binary:split(Value, <<":">>) of
        [Name] -> named(undotted(Name), is_name(Name), <<>>);
        [Name, Port] -> named(undotted(Name), is_name(Name), <<":", Port/binary>>)
    end.

undotted(Name) ->
    case binary:longest_common_suffix([Name, <<".">>]) of
        1 -> binary:part(Name, 0, byte_size(Name) - 1);
        0 -> Name
    end.

named(Name, true, Port) when Name =/= <<>>, Port =:= <<>> orelse Port =:= <<":">> ->
    {ok, hornbeam_headers:lower(Name), undefined};
named(Name, true, <<":", Port/binary>>) when Name =/= <<>>, byte_size(Port) =< 5 ->
    with_port(Name, hornbeam_headers:is_number(Port), Port);
named(_Name, _IsName, _Rest) ->
    error.

with_port(Name, true, Port) -> in_range(Name, binary_to_integer(Port));
with_port(_Name, false, _Port) -> error.

in_range(Name, Port) when Port > 0, Port =< 65535 -> {ok, hornbeam_headers:lower(Name), Port};
in_range(_Name, _Port) -> error.

is_address(Ip) ->
    case inet:parse_ipv6strict_address(binary_to_list(Ip)) of
        {ok, _} -> true;
        {error, _} -> false
    end.

%% What RFC 3986 lets stand in a host, without the comma, which would be a second one.
is_name(<<Char, Rest/binary>>)
        when Char >= $a, Char =< $z; Char >= $A, Char =< $Z; Char >= $0, Char =< $; ;
             Char >= $&, Char =< $+; Char =:= $-; Char =:= $.; Char =:= $_; Char =:= $~;
             Char =:= $!; Char =:= $$; Char =:= $= ->
    is_name(Rest);
is_name(<<$%, High, Low, Rest/binary>>) ->
    is_hex(High) andalso is_hex(Low) andalso is_name(Rest);
is_name(Rest) ->
    Rest =:= <<>>.

is_hex(Char) ->
    Char >= $0 andalso Char =< $9 orelse Char >= $a andalso Char =< $f
        orelse Char >= $A andalso Char =< $F.
