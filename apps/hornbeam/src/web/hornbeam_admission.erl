%% Which requests may come in: the host that they name, and the page that they come from. Pure.
%%
%% A browser lets any page open a WebSocket to any server and sends the cookies along; only the
%% Origin header tells whose page it is. A handshake without one comes from no browser.
-module(hornbeam_admission).

-export([check/4, host/1]).
-export_type([type/0, refusal/0]).

-type type() :: http | websocket.
-type refusal() :: bad_host | unknown_host | foreign_origin.

%% @doc Whether a request may come in, by the options `allowed_hosts' and `allowed_origins'.
-spec check(type(), cowboy_req:req(), hornbeam_config:server_options(),
            hornbeam_config:app_options()) -> ok | {refuse, refusal()}.
check(Type, #{headers := Headers}, #{allowed_hosts := Hosts}, #{allowed_origins := Origins}) ->
    Host = named_host(Headers),
    case check_host(Host, Hosts) of
        ok when Type =:= websocket -> check_origin(Headers, Host, Origins);
        Answer -> Answer
    end.

named_host(#{<<"host">> := Value}) -> host(Value);
named_host(#{}) -> none.

check_host(error, _Allowed) -> {refuse, bad_host};
check_host(_Host, any) -> ok;
check_host(none, _Allowed) -> {refuse, bad_host};
check_host({ok, Host, _Port}, Allowed) -> ok_if(is_among(Host, Allowed), unknown_host).

ok_if(true, _Refusal) -> ok;
ok_if(false, Refusal) -> {refuse, Refusal}.

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

check_origin(_Headers, _Host, any) ->
    ok;
check_origin(#{<<"origin">> := Value}, Host, Allowed) ->
    ok_if(is_allowed(hornbeam_origin:parse(Value), Host, Allowed), foreign_origin);
check_origin(#{}, _Host, _Allowed) ->
    ok.

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
%% scheme the client speaks: a proxy that ends TLS may not say so.
is_same_host({Scheme, Name, Port}, {ok, Name, Named})
        when Scheme =:= <<"https">>; Scheme =:= <<"http">> ->
    Port =:= Named orelse
        (Named =:= undefined andalso Port =:= hornbeam_origin:default_port(Scheme));
is_same_host(_Origin, _Host) ->
    false.

%% @doc The name and port of a Host header; the name in lower case and without a closing dot.
-spec host(binary()) -> {ok, binary(), inet:port_number() | undefined} | error.
host(<<"[", _/binary>> = Value) ->
    case binary:split(Value, <<"]">>) of
        [<<"[", Ip/binary>>, Rest] -> named(<<"[", Ip/binary, "]">>, is_name(Ip), Rest);
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
    {ok, cowboy_bstr:to_lower(Name), undefined};
named(Name, true, <<":", Port/binary>>) when Name =/= <<>>, byte_size(Port) =< 5 ->
    with_port(Name, hornbeam_headers:is_number(Port), Port);
named(_Name, _IsName, _Rest) ->
    error.

with_port(Name, true, Port) -> in_range(Name, binary_to_integer(Port));
with_port(_Name, false, _Port) -> error.

in_range(Name, Port) when Port > 0, Port =< 65535 -> {ok, cowboy_bstr:to_lower(Name), Port};
in_range(_Name, _Port) -> error.

%% What RFC 3986 lets stand in a host, without the comma, which would be a second one.
is_name(<<Char, Rest/binary>>)
        when Char >= $a, Char =< $z; Char >= $A, Char =< $Z; Char >= $0, Char =< $; ;
             Char >= $&, Char =< $+; Char =:= $-; Char =:= $.; Char =:= $_; Char =:= $~;
             Char =:= $!; Char =:= $$; Char =:= $%; Char =:= $= ->
    is_name(Rest);
is_name(Rest) ->
    Rest =:= <<>>.
