%% Who is joined: the names of nodes, what an option or DNS says of them, and how often they are
%% tried.
-module(hornbeam_join_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [a_name_says_the_address, other_names_say_none, epmd_is_not_asked, entries_become_nodes,
     a_name_of_dns_is_all_of_its_addresses, a_function_names_whom_to_join,
     nodes_of_the_other_family_are_left_out, names_of_other_nodes_are_like_ours,
     a_node_gets_a_name_and_gives_it_back, what_is_not_reached_says_why,
     pauses_grow_to_a_bound_and_are_drawn_at_random, nobody_is_tried_where_nobody_joins,
     nodes_join_and_tell_each_other, a_node_that_left_is_tried_again,
     a_node_that_came_and_went_often_is_tried_in_no_hurry].

a_name_says_the_address(_Config) ->
    [begin
         ?assertEqual(Name, hornbeam_node_name:at(Port, Ip)),
         ?assertEqual({Ip, Port}, hornbeam_node_name:address(Name))
     end || {Name, Ip, Port} <- [{'hornbeam@10.0.0.1', {10, 0, 0, 1}, 4370},
                                 {'hornbeam-80@10.0.0.1', {10, 0, 0, 1}, 80},
                                 {'hornbeam-65535@::1', {0, 0, 0, 0, 0, 0, 0, 1}, 65535}]].

other_names_say_none(_Config) ->
    [?assertEqual(none, hornbeam_node_name:address(Name))
     || Name <- ['shop@10.0.0.1', 'hornbeam@host.example', 'hornbeam-0@10.0.0.1',
                 'hornbeam-65536@10.0.0.1', 'hornbeam-8x@10.0.0.1', 'hornbeam-@10.0.0.1',
                 nonode@nohost]].

epmd_is_not_asked(_Config) ->
    ?assertEqual({port, 4370, 6}, hornbeam_cluster_epmd:port_please("hornbeam", "10.0.0.1")),
    ?assertEqual({port, 81, 6}, hornbeam_cluster_epmd:port_please('hornbeam-81', {10, 0, 0, 1})),
    ?assertEqual(noport, hornbeam_cluster_epmd:port_please("shop", "10.0.0.1", infinity)),
    ?assertEqual({ok, 81}, hornbeam_cluster_epmd:listen_port_please('hornbeam-81', "host")).

entries_become_nodes(_Config) ->
    ?assertEqual(['hornbeam-7@10.0.0.3', 'hornbeam@10.0.0.1', 'hornbeam@10.0.0.2', other@host],
                 named(["10.0.0.2", <<"10.0.0.1">>, "10.0.0.3:7", "10.0.0.1:4370", other@host])).

a_name_of_dns_is_all_of_its_addresses(_Config) ->
    ?assertEqual(['hornbeam-7@127.0.0.1'], named("localhost:7")),
    {ok, Entries} = hornbeam_cluster_option:entries(["nobody.invalid"]),
    ?assertMatch({[], [{"nobody.invalid", _}]},
                 hornbeam_discovery:nodes(Entries, {port, 4370, inet})).

a_function_names_whom_to_join(_Config) ->
    {ok, Join} = join({?MODULE, whom_to_join}),
    ?assertEqual(['hornbeam@10.0.0.9'], element(1, hornbeam_discovery:nodes(Join, naming()))),
    ?assertMatch({error, join, _}, join({?MODULE, no_such_function})),
    {ok, Wrong} = join({?MODULE, whom_to_join_wrongly}),
    ?assertError({no_list_of_hosts, _, #{}}, hornbeam_discovery:nodes(Wrong, naming())).

whom_to_join() -> ["10.0.0.9"].

whom_to_join_wrongly() -> #{}.

nodes_of_the_other_family_are_left_out(_Config) ->
    {ok, Entries} = hornbeam_cluster_option:entries(["10.0.0.1", "fd00::2", "[fd00::3]:7"]),
    ?assertEqual(['hornbeam@10.0.0.1'],
                 element(1, hornbeam_discovery:nodes(Entries, {port, 4370, inet}))),
    ?assertEqual(['hornbeam-7@fd00::3', 'hornbeam@fd00::2'],
                 element(1, hornbeam_discovery:nodes(Entries, {port, 4370, inet6}))).

names_of_other_nodes_are_like_ours(_Config) ->
    {ok, Entries} = hornbeam_cluster_option:entries(["10.0.0.1", "b@10.0.0.2"]),
    ?assertEqual(['b@10.0.0.2', 'shop@10.0.0.1'],
                 element(1, hornbeam_discovery:nodes(Entries, {base, "shop"}))).

named(Given) ->
    {ok, Entries} = hornbeam_cluster_option:entries(Given),
    {Nodes, []} = hornbeam_discovery:nodes(Entries, naming()),
    Nodes.

naming() -> {port, 4370, inet}.

join(Join) ->
    case hornbeam_cluster_option:check(#{name => "a", cookie => lists:duplicate(16, $x),
                                         join => Join}) of
        {ok, #{join := Checked}} -> {ok, Checked};
        Error -> Error
    end.

%% Twice, as a server that is started again does; and nobody else hears of the cookie.
a_node_gets_a_name_and_gives_it_back(_Config) ->
    {ok, Peer, _} = peer:start(#{connection => standard_io, wait_boot => 60000,
                                 args => prepared() ++ paths()}),
    Call = fun(Function, Args) -> peer:call(Peer, ?MODULE, Function, Args, 30000) end,
    Port = free_port(),
    [begin
         ?assertEqual(hornbeam_node_name:at(Port, {127, 0, 0, 1}), Call(get_name, [Port])),
         ?assertEqual({false, 10, never}, Call(settings, [])),
         ?assertEqual(nonode@nohost, Call(give_name_back, [])),
         ?assertMatch({_, _, undefined}, Call(settings, []))
     end || _ <- [first, again]],
    peer:stop(Peer).

prepared() ->
    lists:append([["-" ++ atom_to_list(Flag) | Words]
                  || {Flag, Words} <- hornbeam_distribution:flags()]).

paths() ->
    lists:append([["-pa", Path] || Path <- code:get_path(), filelib:is_dir(Path)]).

free_port() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}, {reuseaddr, true}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Port.

get_name(Port) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    {ok, Cluster} = hornbeam_cluster_option:check(
        #{name => "shop", port => Port, address => "127.0.0.1", cookie => "sesame-open-yourself"}),
    {ok, Pid} = hornbeam_distribution:start_link(hornbeam_secret:hide(Cluster), none),
    true = unlink(Pid),
    node().

settings() ->
    {erlang:get_cookie() =:= 'sesame-open-yourself', net_kernel:get_net_ticktime(),
     application:get_env(kernel, dist_auto_connect, undefined)}.

give_name_back() ->
    ok = gen_server:stop(hornbeam_distribution, shutdown, infinity),
    node().

what_is_not_reached_says_why(_Config) ->
    ?assertEqual(<<"nothing answers there">>, hornbeam_joiner:why(timeout)),
    ?assertEqual(<<"host is unreachable">>, hornbeam_joiner:why(ehostunreach)),
    ?assertEqual(<<"DNS has no address of this name">>, hornbeam_joiner:why(nxdomain)),
    ?assertEqual(<<"the connection was closed">>, hornbeam_joiner:why(connection_closed)),
    ?assertEqual(<<"disconnect">>, hornbeam_joiner:why(disconnect)),
    ?assertEqual({a, b}, hornbeam_joiner:why({a, b})),
    {_, Ref} = spawn_monitor(hornbeam_joiner, connect, ['hornbeam-1@127.0.0.1']),
    receive
        {'DOWN', Ref, process, _, Outcome} ->
            ?assertEqual({failed, away, <<"connection refused">>}, Outcome)
    end.

pauses_grow_to_a_bound_and_are_drawn_at_random(_Config) ->
    ?assertEqual([200, 400, 800, 1600, 3000, 3000],
                 [hornbeam_joiner:pause(away, N, 1.0) || N <- lists:seq(0, 5)]),
    ?assertEqual([100, 200], [hornbeam_joiner:pause(away, N, 0.0) || N <- [0, 1]]),
    ?assertEqual([400, 5000, 10000, 20000, 30000, 30000],
                 [hornbeam_joiner:pause(refused, N, 1.0) || N <- [1, 2, 3, 4, 5, 1000]]).

nobody_is_tried_where_nobody_joins(_Config) ->
    ?assertEqual([], hornbeam_joiner:peers()).

%% The second knows nobody, and is told of by the first.
nodes_join_and_tell_each_other(_Config) ->
    {_, {A, NodeA}, {B, NodeB}} = Cluster = hornbeam_cluster:start(),
    true = hornbeam_cluster:call({A, NodeA}, erlang, disconnect_node, [NodeB]),
    join({B, NodeB}, []),
    join({A, NodeA}, [NodeB]),
    hornbeam_eventually:holds(fun() ->
        connected([NodeB]) =:= peers({A, NodeA}) andalso connected([NodeA]) =:= peers({B, NodeB})
    end),
    hornbeam_cluster:stop(Cluster).

a_node_that_left_is_tried_again(_Config) ->
    {_, {A, NodeA}, {B, NodeB}} = Cluster = hornbeam_cluster:start(),
    join({A, NodeA}, [NodeB]),
    hornbeam_eventually:holds(fun() -> connected([NodeB]) =:= peers({A, NodeA}) end),
    ok = hornbeam_cluster:stop_node({B, NodeB}),
    hornbeam_eventually:holds(fun() ->
        [#{failures := Failures, state := State}] =
            hornbeam_cluster:call({A, NodeA}, hornbeam_joiner, peers, []),
        State =/= connected andalso Failures > 1
    end),
    hornbeam_cluster:stop(Cluster).

%% Each time it is to be tried again; but once, however often that was.
a_node_that_came_and_went_often_is_tried_in_no_hurry(_Config) ->
    {_, [A]} = Cluster = hornbeam_cluster:start(1),
    [Second, Third] = hornbeam_cluster:call(A, ?MODULE, attempts_after_flaps, [20]),
    Least = hornbeam_joiner:pause(away, 20, 0.0),
    ?assert(Third - Second >= Least),
    hornbeam_cluster:stop(Cluster).

%% When (ms) a node that has come and gone so often is tried for the second and the third time.
attempts_after_flaps(Flaps) ->
    Away = 'nobody@127.0.0.1',
    {ok, Pid} = start_joiner(#{name => <<"shop">>, join => [], port => 4370}),
    Pid ! {hornbeam_joiner, known, <<"shop">>, Away, [Away | of_a_later_version]},
    Pid ! {hornbeam_joiner, known, <<"shop">>, Away, []},
    hornbeam_eventually:holds(fun() ->
        [1] =:= [Failures || #{failures := Failures, state := waiting} <- hornbeam_joiner:peers()]
    end),
    1 = erlang:trace(Pid, true, [procs, monotonic_timestamp]),
    _ = [begin
             Pid ! {nodeup, Away, []},
             Pid ! {nodedown, Away, [{nodedown_reason, connection_closed}]}
         end || _ <- lists:seq(1, Flaps)],
    [_First, Second, Third] = [attempt(Pid, Away) || _ <- [1, 2, 3]],
    [Second, Third].

attempt(Joiner, Node) ->
    receive
        {trace_ts, Joiner, spawn, _, {hornbeam_joiner, connect, [Node]}, Nanoseconds} ->
            erlang:convert_time_unit(Nanoseconds, native, millisecond)
    end.

join(Peer, Nodes) when is_tuple(Peer) ->
    {ok, Entries} = hornbeam_cluster_option:entries(Nodes),
    {ok, _} = hornbeam_cluster:call(Peer, ?MODULE, start_joiner,
                                    [#{name => <<"shop">>, join => Entries, port => 4370}]).

%% Not linked with who calls, who ends with the call.
start_joiner(Cluster) ->
    {ok, Pid} = hornbeam_joiner:start_link(Cluster),
    true = unlink(Pid),
    {ok, Pid}.

connected(Nodes) -> [{Node, connected} || Node <- Nodes].

peers(Peer) ->
    [{Node, State} || #{node := Node, state := State} <-
                          hornbeam_cluster:call(Peer, hornbeam_joiner, peers, [])].
