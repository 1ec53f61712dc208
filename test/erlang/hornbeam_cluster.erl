%% Nodes of their own on the loopback interface, with an epmd of their own, each with the hornbeam
%% application started. The node of the tests is not one of them.
-module(hornbeam_cluster).

-export([start/0, start/1, stop/1, add_node/2, call/4, call/5, node/1, connect/2, stop_node/1]).
-export([kill_node/1, end_node/1, await_end/1, pause/1, resume/1, bare_node/1, bare_node/2]).
-export([start_again/2, restart/1, part/2, meet/2, disconnect/2, heal/1]).

start() ->
    {Port, [A, B]} = start(2),
    {Port, A, B}.

start(Count) ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Nodes = start_nodes(Count, Port),
    _ = [true = connect(A, B) || A <- Nodes, B <- Nodes, A < B],
    {Port, Nodes}.

%% One more, which the others are to be connected to.
add_node({Port, _}, Nodes) ->
    Node = start_node(Port),
    _ = [true = connect(Node, Other) || Other <- Nodes],
    Node.

start_nodes(Count, Port) ->
    Starting = [spawn_monitor(fun() -> exit({started, start_node(Port)}) end)
                || _ <- lists:seq(1, Count)],
    [receive {'DOWN', Ref, process, _, {started, Node}} -> Node end || {_, Ref} <- Starting].

start_node(Port) ->
    Node = bare_node(Port),
    {ok, _} = call(Node, application, ensure_all_started, [hornbeam]),
    Node.

%% One that was killed, by the same name; the others are to be connected to it.
start_again({Port, _}, {_Peer, Node}) ->
    [Name, _Host] = string:split(atom_to_list(Node), "@"),
    Again = named_node(Port, Name, code:get_path()),
    {ok, _} = call(Again, application, ensure_all_started, [hornbeam]),
    Again.

%% Another life of Hornbeam in the same node.
restart(Node) ->
    ok = call(Node, application, stop, [hornbeam]),
    ok = call(Node, application, start, [hornbeam]).

%% They lose each other, until they are connected again.
disconnect(A, B) ->
    _ = call(A, erlang, disconnect_node, [?MODULE:node(B)]),
    hornbeam_eventually:holds(fun() -> not has_met(A, B) andalso not has_met(B, A) end).

%% Each is connected with each.
heal(Nodes) ->
    [hornbeam_eventually:holds(fun() -> connect(A, B) end) || A <- Nodes, B <- Nodes, A < B].

%% They lose each other, and do not come together again by themselves: with other cookies.
part(A, B) ->
    _ = call(A, erlang, set_cookie, [?MODULE:node(B), other]),
    _ = call(B, erlang, set_cookie, [?MODULE:node(A), another]),
    disconnect(A, B).

meet(A, B) ->
    _ = call(A, erlang, set_cookie, [?MODULE:node(B), hornbeam_tests]),
    _ = call(B, erlang, set_cookie, [?MODULE:node(A), hornbeam_tests]),
    true = connect(A, B).

has_met(A, B) -> lists:member(?MODULE:node(B), call(A, erlang, nodes, [])).

%% One that has the code, and nothing else; or not even that.
bare_node(Port) ->
    bare_node(Port, code:get_path()).

bare_node(Port, CodePath) ->
    named_node(Port, peer:random_name(n), CodePath).

named_node(Port, Name, CodePath) ->
    Env = [{"ERL_EPMD_PORT", integer_to_list(Port)}, {"ERL_EPMD_ADDRESS", "127.0.0.1"}],
    Paths = lists:append([["-pa", Path] || Path <- CodePath, filelib:is_dir(Path)]),
    {ok, Peer, Node} = peer:start(#{
        name => Name, host => "127.0.0.1", longnames => true, env => Env,
        connection => standard_io, wait_boot => 60000,
        args => ["-setcookie", "hornbeam_tests", "-kernel", "inet_dist_use_interface",
                 "{127,0,0,1}", "-kernel", "logger_level", "error",
                 "-kernel", "prevent_overlapping_partitions", "false" | Paths]
    }),
    persistent_term:put({?MODULE, Peer}, peer:call(Peer, os, getpid, [])),
    {Peer, Node}.

connect(A, {_, B}) ->
    call(A, net_kernel, connect_node, [B]).

call(Node, Module, Function, Args) ->
    call(Node, Module, Function, Args, 30000).

call({Peer, _Node}, Module, Function, Args, Timeout) ->
    peer:call(Peer, Module, Function, Args, Timeout).

node({_Peer, Node}) -> Node.

stop_node({Peer, _Node}) ->
    peer:stop(Peer).

%% As a machine that is gone.
kill_node(Node) ->
    Ref = erlang:monitor(process, element(1, Node)),
    true = unlink(element(1, Node)),
    signal(Node, "KILL"),
    receive {'DOWN', Ref, process, _, _} -> ok after 30000 -> error({still_there, Node}) end.

%% As SIGTERM does.
end_node(Node) ->
    ok = call(Node, init, stop, []),
    await_end(Node).

%% A hang guard: it takes as long as it takes, but for nobody who stands still.
await_end({Peer, _Node}) ->
    Ref = erlang:monitor(process, Peer),
    receive {'DOWN', Ref, process, _, _} -> ended after 30000 -> it_goes_on end.

%% It stands still: its connections stay, and nobody reads them.
pause(Node) -> signal(Node, "STOP").

resume(Node) -> signal(Node, "CONT").

signal({Peer, _Node}, Name) ->
    "" = os:cmd("kill -" ++ Name ++ " " ++ persistent_term:get({?MODULE, Peer})),
    ok.

stop({Port, A, B}) ->
    stop({Port, [A, B]});
stop({Port, Nodes}) ->
    _ = [begin resume(Node), stop_node(Node) end
         || Node = {Peer, _} <- Nodes, is_process_alive(Peer)],
    stop_epmd(Port).

%% It refuses as long as it has not heard of a node's end.
stop_epmd(Port) ->
    Kill = "epmd -port " ++ integer_to_list(Port) ++ " -kill",
    hornbeam_eventually:holds(fun() -> string:find(os:cmd(Kill), "not allowed") =:= nomatch end).
