%% The node's name, and its door for the other nodes of its cluster: Erlang's distribution, begun
%% and ended with the server.
%%
%% A node that has a name already, as those of the user's releases do, keeps it and its door.
%%
%% docs/internals.md, "Nodes that find each other", gives the reasons for all that is set here.
-module(hornbeam_distribution).
-behaviour(gen_server).

-export([start_link/2, naming/1, flags/0]).
-export([init/1, handle_call/3, handle_cast/2, terminate/2]).

-type sentence() :: unicode:chardata().

%% A link that says nothing for 9 to 11 seconds is dead: a tick each second (s, ticks).
-define(TICK_TIME, 10).
-define(TICKS, 10).

%% For so long what is asked for is waited for (ms), and has long been asked for.
-define(ASKED, 50).

%% Nobody is connected to but by hornbeam_joiner.
-define(AUTO_CONNECT, never).

%% @doc Give the node its name; the second argument are the certificates, if there are any.
-spec start_link(hornbeam_secret:secret(hornbeam_cluster_option:cluster()),
                 hornbeam_cluster_dist:tls()) ->
    gen_server:start_ret().
start_link(Cluster, Tls) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, {Cluster, Tls}, []).

%% @doc How the nodes of the cluster are called.
-spec naming(#{port := inet:port_number(), atom() => term()}) -> hornbeam_discovery:naming().
naming(#{port := Port}) ->
    case hornbeam_node_name:address(node()) of
        {Ip, _Port} -> {port, Port, hornbeam_node_name:family(Ip)};
        none -> {base, hd(string:split(atom_to_list(node()), "@"))}
    end.

%% @doc What the emulator has to be started with, since it asks no later: `hornbeam' does that.
-spec flags() -> [{Flag :: atom(), [string()]}].
flags() ->
    [{proto_dist, ["hornbeam_cluster"]}, {epmd_module, ["hornbeam_cluster_epmd"]},
     {connect_all, ["false"]}, {nocookie, []}].

%% @private
-spec init({hornbeam_secret:secret(hornbeam_cluster_option:cluster()),
            hornbeam_cluster_dist:tls()}) ->
    {ok, named} | ignore | {stop, {shutdown, {cluster, sentence()}}}.
init({Cluster, Tls}) ->
    _ = process_flag(trap_exit, true),
    case {is_alive(), hornbeam_cluster_dist:is_configured()} of
        {false, _} -> named(begin_distribution(hornbeam_secret:show(Cluster), Tls));
        {true, true} -> {ok, named};
        {true, false} -> ignore
    end.

named(ok) -> {ok, named};
named({error, Sentence}) -> {stop, {shutdown, {cluster, Sentence}}}.

begin_distribution(Cluster, Tls) ->
    in_turn([fun(_) -> check_flags() end,
             fun(_) -> hornbeam_cluster_address:choose(Cluster) end,
             fun(Ip) -> check_port(Ip, Cluster) end,
             fun(Ip) -> with_cookie(Ip, Cluster) end,
             fun({Ip, Cookie}) -> start(Ip, Cookie, Cluster, Tls) end]).

in_turn(Steps) ->
    lists:foldl(fun(Step, {ok, Before}) -> Step(Before);
                   (_Step, {error, _} = Error) -> Error
                end, {ok, none}, Steps).

check_flags() ->
    case [Flag || {Flag, Words} <- flags(), init:get_argument(Flag) =/= {ok, [Words]}] of
        [] -> {ok, none};
        Missing ->
            {error, ["a node that is to get a name for its cluster is started with emulator flags, "
                     "which vm.args may have: ", lists:join(" ", lists:map(fun flag/1, Missing))]}
    end.

flag(Flag) ->
    {Flag, Words} = lists:keyfind(Flag, 1, flags()),
    lists:join(" ", ["-" ++ atom_to_list(Flag) | Words]).

%% What OTP would say of it is a line for OTP's own developers.
check_port(Ip, #{port := Port}) ->
    case gen_tcp:listen(Port, [{ip, Ip}, {reuseaddr, true}, hornbeam_node_name:family(Ip)]) of
        {ok, Socket} -> ok = gen_tcp:close(Socket), {ok, Ip};
        {error, Reason} ->
            {error, ["cannot listen for the cluster's other nodes: ", inet:format_error(Reason),
                     ": ", address(Ip, Port), advice(Reason)]}
    end.

advice(eaddrinuse) -> "; another node listens there: end it, or choose another port";
advice(_Reason) -> "".

address(Ip, Port) when tuple_size(Ip) =:= 4 -> [inet:ntoa(Ip), $:, integer_to_list(Port)];
address(Ip, Port) -> [$[, inet:ntoa(Ip), "]:", integer_to_list(Port)].

%% The cookie that nodes show is made of the cluster's name too, so that no node of another cluster
%% comes in, whatever is copied. Certificates may stand for what is secret in it.
with_cookie(Ip, #{name := Name} = Cluster) ->
    case shared_secret(Cluster) of
        {ok, Secret} ->
            Digest = base64:encode(crypto:hash(sha256, [Name, 0, Secret])),
            {ok, {Ip, hornbeam_secret:hide(hornbeam_node_name:cookie(Digest))}};
        {error, _} = Error ->
            Error
    end.

shared_secret(#{cookie := Cookie}) when Cookie =/= undefined -> {ok, hornbeam_secret:show(Cookie)};
shared_secret(#{cookie_file := undefined}) -> {ok, <<>>};
shared_secret(#{cookie_file := File}) -> in_file(file:read_file(File), File).

in_file({ok, Text}, File) ->
    Cookie = string:trim(Text),
    case re:run(Cookie, "^[!-~]{16,255}$", [dollar_endonly, {capture, none}]) of
        match -> {ok, Cookie};
        nomatch -> {error, [File, ": expected ", hornbeam_cluster_option:secret()]}
    end;
in_file({error, Reason}, File) ->
    {error, [File, ": ", file:format_error(Reason)]}.

start(Ip, Cookie, #{port := Port}, Tls) ->
    ok = application:set_env([{kernel, [{inet_dist_use_interface, Ip},
                                        {dist_auto_connect, ?AUTO_CONNECT}]}]),
    Carrier = carrier(hornbeam_node_name:family(Ip), Tls),
    ok = hornbeam_cluster_dist:configure(Carrier, #{cookie => Cookie, tls => Tls}),
    Started = net_kernel:start(hornbeam_node_name:at(Port, Ip),
                               #{name_domain => longnames, net_ticktime => ?TICK_TIME,
                                 net_tickintensity => ?TICKS}),
    %% It listens by now, or will not.
    ok = application:unset_env(kernel, inet_dist_use_interface),
    case Started of
        {ok, _} -> ok;
        {error, Reason} ->
            ok = forget(),
            {error, io_lib:format("the node gets no name for its cluster: ~0tp", [Reason])}
    end.

%% Whoever gives the node another name decides for himself. Where the application ends, whoever
%% keeps the environment waits for this process, and does it after that.
forget() ->
    {_, Ref} = spawn_monitor(application, unset_env, [kernel, dist_auto_connect]),
    receive
        {'DOWN', Ref, process, _, _} -> ok
    after ?ASKED ->
        true = erlang:demonitor(Ref, [flush])
    end,
    hornbeam_cluster_dist:forget().

carrier(inet, none) -> inet_tcp_dist;
carrier(inet6, none) -> inet6_tcp_dist;
carrier(inet, _Tls) -> inet_tls_dist;
carrier(inet6, _Tls) -> inet6_tls_dist.

%% @private
-spec handle_call(term(), gen_server:from(), named) -> {noreply, named}.
handle_call(_Request, _From, named) ->
    {noreply, named}.

%% @private
-spec handle_cast(term(), named) -> {noreply, named}.
handle_cast(_Request, named) ->
    {noreply, named}.

%% A crash of this process leaves the door open for its successor.
%% @private
-spec terminate(term(), named) -> ok.
terminate(shutdown, named) ->
    ok = hornbeam_link_drain:run(),
    _ = net_kernel:stop(),
    forget();
terminate(_Reason, named) ->
    ok.
