%% Two nodes of their own on the loopback interface, with an epmd of their own, each with the
%% hornbeam application started. The node of the tests is not one of them.
-module(hornbeam_cluster).

-export([start/0, stop/1, call/4, node/1, stop_node/1]).

start() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Env = [{"ERL_EPMD_PORT", integer_to_list(Port)}, {"ERL_EPMD_ADDRESS", "127.0.0.1"}],
    [{A, NodeA}, {B, NodeB}] = [start_node(Name, Env) || Name <- [a, b]],
    true = call({A, NodeA}, net_kernel, connect_node, [NodeB]),
    {Port, {A, NodeA}, {B, NodeB}}.

start_node(Name, Env) ->
    Paths = lists:append([["-pa", Path] || Path <- code:get_path(), filelib:is_dir(Path)]),
    {ok, Peer, Node} = peer:start(#{
        name => peer:random_name(Name), host => "127.0.0.1", longnames => true, env => Env,
        connection => standard_io, wait_boot => 60000,
        args => ["-setcookie", "hornbeam_tests", "-kernel", "inet_dist_use_interface",
                 "{127,0,0,1}", "-kernel", "logger_level", "error" | Paths]
    }),
    {ok, _} = call({Peer, Node}, application, ensure_all_started, [hornbeam]),
    {Peer, Node}.

call({Peer, _Node}, Module, Function, Args) ->
    peer:call(Peer, Module, Function, Args, 30000).

node({_Peer, Node}) -> Node.

stop_node({Peer, _Node}) ->
    peer:stop(Peer).

stop({Port, A, B}) ->
    [stop_node(Node) || Node = {Peer, _} <- [A, B], is_process_alive(Peer)],
    _ = os:cmd("epmd -port " ++ integer_to_list(Port) ++ " -kill"),
    ok.
