%% Who may see the live page, and who may have the server do something by it. Pure.
%%
%%   a link with the token ──▶ a cookie that is not the token ──▶ the page
%%                                  └── and a third value, which only the page's script is told,
%%                                      beside the origin ──▶ an action
%%
%% Without a token of the user's the page is this machine's alone, by its own names: so a page of
%% somebody else's, whose name was made to lead here (DNS rebinding), meets a refusal even before
%% it lacks the cookie. The three values are made of the token and do not lead back to it.
-module(hornbeam_dashboard_access).

-export([new/1, query/1, check/2, check_action/2, session/1, action_token/1]).
-export_type([access/0, request/0, action_request/0, refusal/0]).

-record(access, {
    token :: hornbeam_secret:secret(binary()),
    %% the user's, who may have the page open elsewhere, or made up here
    is_given :: boolean(),
    hosts :: any | [hornbeam_origin:host_pattern()]
}).
-opaque access() :: #access{}.

-type request() :: #{peer := inet:ip_address(), host := binary(), tokens := [binary()],
                     sessions := [binary()]}.
%% `host' in lower case, without a port.

-type action_request() :: #{authority := binary(), origin := binary() | undefined,
                            site := binary() | undefined, token := binary() | undefined}.
%% `authority' is the host with its port, `site' the field sec-fetch-site.

-type refusal() :: elsewhere | host | token.

%% @doc By the options of a server.
-spec new(hornbeam_config:server_options()) -> access().
new(#{dashboard_token := undefined, allowed_hosts := Hosts}) ->
    Token = string:lowercase(binary:encode_hex(crypto:strong_rand_bytes(24))),
    #access{token = hornbeam_secret:hide(Token), is_given = false, hosts = Hosts};
new(#{dashboard_token := Token, allowed_hosts := Hosts}) ->
    #access{token = Token, is_given = true, hosts = Hosts}.

%% @doc What stands in the link behind the path: a token that was made up, and none that was given.
-spec query(access()) -> unicode:chardata().
query(#access{is_given = true}) -> "";
query(#access{token = Token}) -> ["?token=", hornbeam_secret:show(Token)].

%% @doc Whether a request may come in: by its cookie, or at first by the token (enter).
-spec check(request(), access()) -> ok | enter | {refuse, refusal()}.
check(#{tokens := Tokens, sessions := Sessions} = Request, Access) ->
    case {is_near(Request, Access), is_host(Request, Access)} of
        {false, _} -> {refuse, elsewhere};
        {true, false} -> {refuse, host};
        {true, true} -> admitted(is_among(hornbeam_secret:show(Access#access.token), Tokens),
                                 is_among(session(Access), Sessions))
    end.

admitted(true, _IsSession) -> enter;
admitted(false, true) -> ok;
admitted(false, false) -> {refuse, token}.

%% In constant time, whatever the lengths.
is_among(Secret, Given) ->
    lists:any(fun(One) -> crypto:hash_equals(digest(Secret), digest(One)) end, Given).

digest(Text) -> crypto:hash(sha256, Text).

is_near(_Request, #access{is_given = true}) -> true;
is_near(#{peer := Peer}, _Access) -> is_loopback(Peer).

is_loopback({127, _, _, _}) -> true;
is_loopback({0, 0, 0, 0, 0, 0, 0, 1}) -> true;
is_loopback({0, 0, 0, 0, 0, 16#ffff, High, _}) -> High bsr 8 =:= 127;
is_loopback(_Peer) -> false.

%% An address is no name that could lead elsewhere.
is_host(#{host := Host}, #access{is_given = true, hosts = Hosts}) ->
    Hosts =:= any orelse is_address(Host) orelse is_own(Host)
        orelse hornbeam_access:is_among(Host, Hosts);
is_host(#{host := Host}, _Access) ->
    is_own(Host) orelse is_loopback(address(Host)).

is_own(Host) ->
    Host =:= <<"localhost">> orelse binary:longest_common_suffix([Host, <<".localhost">>]) =:= 10.

is_address(Host) -> address(Host) =/= none.

address(<<"[", Rest/binary>>) ->
    parsed(inet:parse_ipv6strict_address(string:trim(binary_to_list(Rest), trailing, "]")));
address(Host) ->
    parsed(inet:parse_ipv4strict_address(binary_to_list(Host))).

parsed({ok, Ip}) -> Ip;
parsed({error, einval}) -> none.

%% @doc What the cookie says.
-spec session(access()) -> binary().
session(Access) -> derived(<<"session">>, Access).

%% @doc What the page's script says with an action.
-spec action_token(access()) -> binary().
action_token(Access) -> derived(<<"action">>, Access).

derived(Purpose, #access{token = Token}) ->
    Mac = crypto:mac(hmac, sha256, hornbeam_secret:show(Token), Purpose),
    string:lowercase(binary:encode_hex(Mac)).

%% @doc Whether a request that may come in comes from the page itself, which is none of another
%% site: those send no such field, since a browser would ask us first.
-spec check_action(action_request(), access()) -> ok | {refuse, foreign}.
check_action(#{authority := Authority, origin := Origin, site := Site, token := Token}, Access) ->
    IsOurs = Origin =:= <<"http://", Authority/binary>>
        orelse Origin =:= <<"https://", Authority/binary>>,
    IsSaid = is_among(action_token(Access), [Token || Token =/= undefined]),
    case IsOurs andalso IsSaid andalso lists:member(Site, [undefined, <<"same-origin">>]) of
        true -> ok;
        false -> {refuse, foreign}
    end.
