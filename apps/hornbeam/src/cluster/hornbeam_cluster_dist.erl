%% The carrier of Erlang's distribution between the nodes of a cluster: TCP or TLS, IPv4 or IPv6, as
%% this node was told when it got its name.
%%
%% The emulator has to be told of a carrier when it starts (-proto_dist hornbeam_cluster), which is
%% before anybody has read an option. So it is told of this one, which passes all on to one of
%% OTP's.
-module(hornbeam_cluster_dist).

-export([configure/2, is_configured/0, forget/0, verified/3]).
-export([childspecs/0, listen/2, address/0, accept/1, accept_connection/5, setup/5, close/1,
         select/1]).
-export_type([carrier/0, tls/0]).

-type carrier() :: inet_tcp_dist | inet6_tcp_dist | inet_tls_dist | inet6_tls_dist.
-type tls() :: hornbeam_secret:secret([ssl:tls_server_option()]) | none.

%% Where OTP's carriers over TLS look for their options.
-define(TLS_OPTIONS, ssl_dist_opts).

%% @doc Say what carries and, of TLS, by which certificates; and the cookie, which is there before
%% anybody can connect.
-spec configure(carrier(), #{cookie := hornbeam_secret:secret(atom()), tls := tls()}) -> ok.
configure(Carrier, Identity) ->
    persistent_term:put(?MODULE, {Carrier, Identity}).

%% @doc Whether this node's name is one that it got of us.
-spec is_configured() -> boolean().
is_configured() -> persistent_term:get(?MODULE, none) =/= none.

-spec forget() -> ok.
forget() ->
    _ = persistent_term:erase(?MODULE),
    ok.

carrier() -> element(1, persistent_term:get(?MODULE)).

%% In the process that the distribution begins with and ends with.
-spec childspecs() -> {ok, [supervisor:child_spec()]}.
childspecs() ->
    {Carrier, #{tls := Tls}} = persistent_term:get(?MODULE),
    ok = offer(Tls),
    {module, Carrier} = code:ensure_loaded(Carrier),
    case erlang:function_exported(Carrier, childspecs, 0) of
        true -> Carrier:childspecs();
        false -> {ok, []}
    end.

offer(none) ->
    ok;
offer(Tls) ->
    ?TLS_OPTIONS = ets:new(?TLS_OPTIONS, [set, protected, named_table]),
    %% A handshake that fails is no event of ours: hornbeam_joiner tells once of a node.
    Options = [{log_level, error} | hornbeam_secret:show(Tls)],
    true = ets:insert(?TLS_OPTIONS, [{server, Options}, {client, client(Options)}]),
    ok.

%% Whoever has a certificate of the cluster's authority is of the cluster, at whatever address.
client(Options) ->
    [{verify_fun, {fun ?MODULE:verified/3, none}}
     | proplists:delete(fail_if_no_peer_cert, Options)].

%% @private
-spec verified(term(), {bad_cert, term()} | {extension, term()} | valid | valid_peer, none) ->
    {valid | unknown, none} | {fail, term()}.
verified(_Certificate, {bad_cert, hostname_check_failed}, none) -> {valid, none};
verified(_Certificate, {bad_cert, Reason}, none) -> {fail, Reason};
verified(_Certificate, {extension, _}, none) -> {unknown, none};
verified(_Certificate, _Valid, none) -> {valid, none}.

-spec listen(Name :: atom(), Host :: string()) -> {ok, term()} | {error, term()}.
listen(Name, Host) ->
    {Carrier, #{cookie := Cookie}} = persistent_term:get(?MODULE),
    true = erlang:set_cookie(hornbeam_secret:show(Cookie)),
    Carrier:listen(Name, Host).

-spec address() -> term().
address() -> (carrier()):address().

-spec accept(term()) -> pid().
accept(Listen) -> (carrier()):accept(Listen).

-spec accept_connection(pid(), term(), node(), term(), timeout()) -> pid().
accept_connection(Acceptor, Socket, Node, Allowed, Timeout) ->
    (carrier()):accept_connection(Acceptor, Socket, Node, Allowed, Timeout).

-spec setup(node(), term(), node(), longnames | shortnames, timeout()) -> pid().
setup(Node, Type, Own, Names, Timeout) ->
    (carrier()):setup(Node, Type, Own, Names, Timeout).

-spec close(term()) -> term().
close(Listen) -> (carrier()):close(Listen).

-spec select(node()) -> boolean().
select(Node) -> (carrier()):select(Node).
