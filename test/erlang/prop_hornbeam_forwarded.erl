%% Properties of what is believed of proxies: no client has a say in who it is.
-module(prop_hornbeam_forwarded).

-include_lib("proper/include/proper.hrl").

-export([
    prop_what_stands_before_a_proxys_word_changes_nothing/0,
    prop_nobody_gets_the_address_of_a_proxy/0,
    prop_what_is_well_formed_is_read_from_both_ends_alike/0
]).

-define(PEER, {{10, 0, 0, 1}, 1}).
-define(TRUSTED, [{{10, 0, 0, 0}, 8}, unix]).

%% In one line or several, behind it as many trusted proxies as one likes.
prop_what_stands_before_a_proxys_word_changes_nothing() ->
    ?FORALL({Name, Written, Client, Proxies, IsOneLine},
            {name(), list(written()), stranger(), list(proxy()), boolean()}, begin
        Words = [said(Name, Node) || Node <- [Client | Proxies]],
        client(lines(Name, Written, Words, IsOneLine)) =:= {believed, meant(Client)}
    end).

%% Whatever came, from whomever: the client is the peer only where a proxy said that it does not
%% know it, and one of the proxies only if all that was named is.
prop_nobody_gets_the_address_of_a_proxy() ->
    ?FORALL({Name, Written, Client, Behind},
            {name(), list(written()), stranger(), oneof([written(), proxy_word()])}, begin
        Lines = [{Name, Line} || Line <- Written ++ [said(Name, Client), Behind]],
        case client(Lines) of
            malformed -> true;
            {believed, ?PEER} -> may_name_nobody(Behind);
            {believed, Other} -> not hornbeam_forwarded:trusts(Other, ?TRUSTED)
        end
    end).

may_name_nobody(Line) ->
    binary:match(hornbeam_headers:lower(Line),
                 [<<"unknown">>, <<"_">>, <<"unix:">>, <<"=">>, <<";">>]) =/= nomatch.

prop_what_is_well_formed_is_read_from_both_ends_alike() ->
    ?FORALL({Elements, Client}, {list(element_of_7239()), stranger()}, begin
        Value = iolist_to_binary(lists:join(", ", Elements ++ [said(<<"forwarded">>, Client)])),
        client([{<<"forwarded">>, Value}]) =:= {believed, meant(Client)}
            andalso client([{<<"forwarded">>, iolist_to_binary(lists:join(",", Elements))}])
                        =/= malformed
    end).

client(Lines) ->
    Request = hornbeam_requests:with_peer(?PEER, hornbeam_requests:new(Lines)),
    case hornbeam_forwarded:resolve(Request, ?TRUSTED) of
        {believed, Seen} -> {believed, hornbeam_requests:peer(Seen)};
        malformed -> malformed
    end.

lines(Name, Written, Words, true) ->
    [{Name, iolist_to_binary(lists:join(", ", Written ++ Words))}];
lines(Name, Written, Words, false) ->
    [{Name, Line} || Line <- Written ++ Words].

%% An address as a proxy writes it, with what is meant.
said(<<"x-forwarded-for">>, {Text, _Meant}) -> Text;
said(<<"forwarded">>, {Text, _Meant}) -> <<"for=\"", Text/binary, "\"">>.

meant({_Text, Meant}) -> Meant.

name() -> oneof([<<"x-forwarded-for">>, <<"forwarded">>]).

%% No control characters: those are refused before.
written() ->
    oneof([?LET(Chars, list(oneof([range(32, 126), range(128, 255)])), list_to_binary(Chars)),
           ?LET(Words, list(oneof(["\"", "\\", ",", ";", "=", " ", "for", "for=", "10.0.0.9", "a",
                                   "unknown", "_x", "[", "]", "::1", ":80", "proto=", "by=\"",
                                   "unix:", "for=\"10.0.0.9\""])),
                iolist_to_binary(Words))]).

stranger() ->
    ?SUCHTHAT({_Text, Address}, host_and_port(),
              not hornbeam_forwarded:trusts(Address, ?TRUSTED)).

proxy() ->
    ?LET({A, B, C}, {byte(), byte(), byte()},
         {iolist_to_binary(inet:ntoa({10, A, B, C})), {{10, A, B, C}, 0}}).

proxy_word() -> ?LET(Proxy, proxy(), said(<<"forwarded">>, Proxy)).

host_and_port() ->
    ?LET({Ip, Port}, {ip(), oneof([none, range(0, 65535)])}, written(Ip, Port)).

ip() ->
    oneof([{byte(), byte(), byte(), byte()},
           ?LET(Parts, vector(8, range(0, 65535)), list_to_tuple(Parts))]).

written(Ip, none) -> {iolist_to_binary(inet:ntoa(Ip)), {Ip, 0}};
written({_, _, _, _} = Ip, Port) ->
    {iolist_to_binary([inet:ntoa(Ip), $:, integer_to_list(Port)]), {Ip, Port}};
written(Ip, Port) ->
    {iolist_to_binary([$[, inet:ntoa(Ip), "]:", integer_to_list(Port)]), {Ip, Port}}.

element_of_7239() ->
    ?LET({For, Others}, {oneof([said_by_for(), "for=unknown", "for=_a.b-c", ""]),
                         list({oneof(["by", "x", "secret"]), text()})},
         lists:join(";", [For || For =/= ""]
                         ++ [[Name, integer_to_list(N), "=", Value]
                             || {N, {Name, Value}} <- lists:zip(lists:seq(1, length(Others)),
                                                                Others)])).

said_by_for() -> ?LET(Node, host_and_port(), said(<<"forwarded">>, Node)).

text() ->
    oneof([non_empty(list(oneof("abcXYZ019-_!#$%&'*+.^`|~"))),
           ?LET(Parts, list(oneof([range(32, 33), range(35, 91), range(93, 126), range(128, 255),
                                   "\\\"", "\\\\", "=\\\"", "\\a", ", for=", ";"])),
                ["\"", Parts, "\""])]).
