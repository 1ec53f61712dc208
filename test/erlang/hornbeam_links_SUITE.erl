%% Rooms on several nodes: who hears of whom, what comes in which order, what is lost and said to
%% be, and that nobody who sends ever waits.
-module(hornbeam_links_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

-define(ROOM, tests).

all() ->
    [rooms_that_join_are_peers, a_room_that_is_joined_later_is_up_later,
     messages_come_in_the_order_of_each_sender, one_process_may_send_to_all,
     a_function_hears_in_place_of_the_process,
     a_room_that_ends_is_down_and_its_next_one_up,
     a_node_that_is_killed_is_down, a_node_that_starts_anew_is_another_peer,
     a_cut_is_down_and_its_healing_up,
     what_was_under_way_at_a_cut_is_counted,
     nobody_waits_for_a_peer_that_stands_still,
     a_burst_loses_nothing, a_node_ends_whatever_its_links_wait_for,
     a_node_that_ends_has_sent_all,
     a_link_that_crashes_begins_anew, the_server_of_links_may_crash,
     a_room_may_begin_while_there_is_no_server_of_links,
     nodes_of_another_cluster_are_no_peers, what_is_known_of_the_others_is_told,
     what_is_not_understood_is_counted_and_ignored,
     the_next_version_of_the_protocol_is_spoken_with,
     a_version_that_is_too_new_or_too_old_is_refused].

init_per_testcase(_Name, Config) ->
    {Port, [A, B]} = hornbeam_cluster:start(2),
    [{cluster, {Port, [A, B]}}, {a, A}, {b, B} | Config].

end_per_testcase(_Name, Config) ->
    hornbeam_cluster:stop(proplists:get_value(cluster, Config)).

rooms_that_join_are_peers(Config) ->
    {A, B} = both(Config),
    [RoomA, RoomB] = [room(Node) || Node <- [A, B]],
    [PeerA, PeerB] = [own(Node) || Node <- [A, B]],
    hornbeam_eventually:holds(fun() -> {peers(A), peers(B)} =:= {[PeerB], [PeerA]} end),
    ok = send(A, PeerB, {hello, from, a}),
    hornbeam_eventually:holds(fun() -> messages(B, RoomB) =:= [{PeerA, {hello, from, a}}] end),
    ?assertEqual([], messages(A, RoomA)).

a_room_that_is_joined_later_is_up_later(Config) ->
    {A, B} = both(Config),
    {PeerA, PeerB} = {own(A), own(B)},
    RoomA = room(A),
    _ = room(A, other),
    ?assertEqual([], events(A, RoomA)),
    RoomB = room(B),
    hornbeam_eventually:holds(fun() -> events(A, RoomA) =:= [{up, PeerB}] end),
    hornbeam_eventually:holds(fun() -> events(B, RoomB) =:= [{up, PeerA}] end),
    ?assertEqual(lost, hornbeam_cluster:call(A, hornbeam_links, send, [PeerB, other, x])).

messages_come_in_the_order_of_each_sender(Config) ->
    {A, B} = both(Config),
    RoomB = met(Config),
    Peer = own(B),
    _ = [hornbeam_cluster:call(A, ?MODULE, send_numbers, [Peer, 3000, Sender])
         || Sender <- [one, two, three]],
    hornbeam_eventually:holds(fun() -> length(messages(B, RoomB)) =:= 9000 end),
    [?assertEqual(lists:seq(1, 3000), [N || {_, {From, N}} <- messages(B, RoomB), From =:= Sender])
     || Sender <- [one, two, three]],
    ?assertEqual(#{}, losses(A)).

%% Packed once.
one_process_may_send_to_all(Config) ->
    {A, B} = both(Config),
    RoomB = met(Config),
    ok = hornbeam_cluster:call(A, hornbeam_links, send_packed,
                               [own(B), ?ROOM, term_to_binary({packed, 1})]),
    hornbeam_eventually:holds(fun() -> messages(B, RoomB) =:= [{own(A), {packed, 1}}] end).

a_function_hears_in_place_of_the_process(Config) ->
    {A, B} = both(Config),
    {Room, Heard} = hornbeam_cluster:call(B, ?MODULE, begin_hearing, []),
    _ = room(A),
    hornbeam_eventually:holds(fun() -> peers(A) =:= [own(B)] end),
    ok = hornbeam_cluster:call(A, hornbeam_links, send_packed, [own(B), ?ROOM, <<"as it is">>]),
    hornbeam_eventually:holds(fun() ->
        events(B, Heard) =:= [{up, own(A)}, {message, own(A), <<"as it is">>}]
    end),
    ?assertEqual([], events(B, Room)).

a_room_that_ends_is_down_and_its_next_one_up(Config) ->
    {A, B} = both(Config),
    RoomA = room(A),
    First = room(B),
    Peer = own(B),
    hornbeam_eventually:holds(fun() -> events(A, RoomA) =:= [{up, Peer}] end),
    true = hornbeam_cluster:call(B, erlang, exit, [First, kill]),
    Second = room(B),
    hornbeam_eventually:holds(fun() ->
        events(A, RoomA) =:= [{up, Peer}, {down, Peer}, {up, Peer}]
    end),
    ok = send(A, Peer, again),
    hornbeam_eventually:holds(fun() -> messages(B, Second) =:= [{own(A), again}] end).

a_node_that_is_killed_is_down(Config) ->
    {A, B} = both(Config),
    RoomA = room(A),
    Peer = own(B),
    _ = room(B),
    hornbeam_eventually:holds(fun() -> events(A, RoomA) =:= [{up, Peer}] end),
    hornbeam_cluster:kill_node(B),
    hornbeam_eventually:holds(fun() -> events(A, RoomA) =:= [{up, Peer}, {down, Peer}] end),
    ?assertEqual([], peers(A)),
    ?assertEqual(lost, send(A, Peer, x)).

%% Also when it is the same node.
a_node_that_starts_anew_is_another_peer(Config) ->
    {A, B} = both(Config),
    RoomA = room(A),
    Before = own(B),
    _ = room(B),
    hornbeam_eventually:holds(fun() -> events(A, RoomA) =:= [{up, Before}] end),
    ok = hornbeam_cluster:call(B, application, stop, [hornbeam]),
    ok = hornbeam_cluster:call(B, application, start, [hornbeam]),
    _ = room(B),
    After = own(B),
    ?assert(element(2, After) > element(2, Before)),
    hornbeam_eventually:holds(fun() ->
        events(A, RoomA) =:= [{up, Before}, {down, Before}, {up, After}]
    end).

a_cut_is_down_and_its_healing_up(Config) ->
    {A, B} = both(Config),
    RoomB = met(Config),
    Peer = own(A),
    true = hornbeam_cluster:call(A, erlang, disconnect_node, [hornbeam_cluster:node(B)]),
    hornbeam_eventually:holds(fun() -> events(B, RoomB) =:= [{up, Peer}, {down, Peer}] end),
    true = hornbeam_cluster:connect(A, B),
    hornbeam_eventually:holds(fun() ->
        events(B, RoomB) =:= [{up, Peer}, {down, Peer}, {up, Peer}]
    end),
    ?assertEqual(1, hornbeam_cluster:call(B, hornbeam_link_nodes, healed, [])).

%% It may have arrived: nobody can know.
what_was_under_way_at_a_cut_is_counted(Config) ->
    {A, B} = both(Config),
    _ = met(Config),
    hornbeam_cluster:pause(B),
    Peer = {hornbeam_cluster:node(B), incarnation(Config)},
    _ = [ok = send(A, Peer, N) || N <- lists:seq(1, 100)],
    true = hornbeam_cluster:call(A, erlang, disconnect_node, [hornbeam_cluster:node(B)]),
    hornbeam_eventually:holds(fun() -> losses(A, cut) =:= 100 end),
    hornbeam_cluster:resume(B).

%% 40 MB for a link that takes none of it, bounded to 4 MiB.
nobody_waits_for_a_peer_that_stands_still(Config) ->
    {A, B} = both(Config),
    RoomB = met(Config),
    RoomA = proplists:get_value(room_a, get(met)),
    Peer = {hornbeam_cluster:node(B), incarnation(Config)},
    ok = hornbeam_cluster:call(A, hornbeam_link_queue, set_limits,
                               [#{peer_max_unsent_bytes => 4194304}]),
    hornbeam_cluster:pause(B),
    {Sent, Lost} = hornbeam_cluster:call(A, ?MODULE, send_blocks, [Peer, 4000, 10000]),
    ?assertEqual(4000, Sent + Lost),
    ?assert(Lost > 3000),
    ?assertEqual(Lost, losses(A, full)),
    #{waiting := {_, Waiting}, unacknowledged := {_, UnderWay}} = status(A),
    ?assert(Waiting < 4194304 + 20000),
    ?assert(UnderWay < 1048576),
    %% Nor do others who send to that node.
    ok = hornbeam_cluster:call(A, ?MODULE, send_to_nobody, [hornbeam_cluster:node(B)], 5000),
    ?assertEqual([], [E || {lost, _} = E <- events(A, RoomA)]),
    hornbeam_cluster:resume(B),
    hornbeam_eventually:holds(fun() -> length(messages(B, RoomB)) =:= Sent end),
    hornbeam_eventually:holds(fun() ->
        [E || {lost, _} = E <- events(A, RoomA)] =:= [{lost, Peer}]
    end),
    %% Nothing is kept of what has left.
    [#{queue := Queue}] = hornbeam_cluster:call(A, hornbeam_link_nodes, all, []),
    Writer = hornbeam_cluster:call(A, hornbeam_link_queue, writer, [Queue]),
    hornbeam_eventually:holds(fun() -> kept(A, Writer) < 1048576 end),
    ok = send(A, Peer, afterwards),
    hornbeam_eventually:holds(fun() ->
        lists:last(messages(B, RoomB)) =:= {own(A), afterwards}
    end).

kept(Node, Pid) ->
    {binary, Binaries} = hornbeam_cluster:call(Node, erlang, process_info, [Pid, binary]),
    lists:sum([Size || {_, Size, _} <- Binaries]).

a_burst_loses_nothing(Config) ->
    {A, B} = both(Config),
    RoomB = met(Config),
    ?assertEqual({400, 0}, hornbeam_cluster:call(A, ?MODULE, send_blocks, [own(B), 400, 16384])),
    hornbeam_eventually:holds(fun() -> length(messages(B, RoomB)) =:= 400 end),
    hornbeam_eventually:holds(fun() -> maps:get(unacknowledged, status(A)) =:= {0, 0} end).

%% The emulator would wait for what it has to write.
a_node_ends_whatever_its_links_wait_for(Config) ->
    {A, B} = both(Config),
    _ = met(Config),
    hornbeam_cluster:pause(B),
    Name = hornbeam_cluster:node(B),
    Suspended = hornbeam_cluster:call(A, ?MODULE, begin_filling, [Name]),
    hornbeam_eventually:holds(fun() ->
        hornbeam_cluster:call(A, erlang, process_info, [Suspended, status])
            =:= {status, suspended}
    end),
    ended = hornbeam_cluster:end_node(A).

a_node_that_ends_has_sent_all(Config) ->
    {A, B} = both(Config),
    RoomB = met(Config),
    Peer = own(B),
    ok = hornbeam_cluster:call(A, ?MODULE, send_and_end, [Peer, 200, 100000]),
    ended = hornbeam_cluster:await_end(A),
    hornbeam_eventually:holds(fun() -> length(messages(B, RoomB)) =:= 200 end).

send_and_end(Peer, Count, Size) ->
    {Count, 0} = send_blocks(Peer, Count, Size),
    init:stop().

begin_filling(Node) -> spawn(?MODULE, fill, [Node]).

fill(Node) ->
    ok = send_to_nobody(Node),
    fill(Node).

a_link_that_crashes_begins_anew(Config) ->
    {A, B} = both(Config),
    RoomB = met(Config),
    Peer = own(A),
    [begin
         [{_, Link, _, _}] = hornbeam_cluster:call(Node, supervisor, which_children,
                                                   [hornbeam_link_sup]),
         Before = events(B, RoomB),
         true = hornbeam_cluster:call(Node, erlang, exit, [Link, kill]),
         hornbeam_eventually:holds(fun() ->
             events(B, RoomB) =:= Before ++ [{down, Peer}, {up, Peer}]
         end),
         hornbeam_eventually:holds(fun() -> peers(A) =:= [own(B)] end),
         ok = send(A, own(B), Node),
         hornbeam_eventually:holds(fun() ->
             lists:last(events(B, RoomB)) =:= {message, Peer, Node}
         end)
     end || Node <- [A, B]].

the_server_of_links_may_crash(Config) ->
    {A, B} = both(Config),
    {RoomA, RoomB} = {room(A), room(B)},
    hornbeam_eventually:holds(fun() -> {peers(A), peers(B)} =:= {[own(B)], [own(A)]} end),
    [crashes(Name, RoomA, RoomB, A, B)
     || _ <- lists:seq(1, 3), Name <- [hornbeam_links, hornbeam_link_sup, hornbeam_links_sup]].

crashes(Name, RoomA, RoomB, A, B) ->
    Before = {length(events(A, RoomA)), length(events(B, RoomB))},
    Pid = hornbeam_cluster:call(A, erlang, whereis, [Name]),
    true = hornbeam_cluster:call(A, erlang, exit, [Pid, kill]),
    hornbeam_eventually:holds(fun() ->
        New = {lists:nthtail(element(1, Before), events(A, RoomA)),
               lists:nthtail(element(2, Before), events(B, RoomB))},
        New =:= {[{down, own(B)}, {up, own(B)}], [{down, own(A)}, {up, own(A)}]}
            orelse {Name, New}
    end),
    hornbeam_eventually:holds(fun() -> {peers(A), peers(B)} =:= {[own(B)], [own(A)]} end),
    %% The link that there was is over, too.
    ?assertMatch([_], hornbeam_cluster:call(A, supervisor, which_children, [hornbeam_link_sup])).

%% Both have crashed, and it is not said which of them is back first.
a_room_may_begin_while_there_is_no_server_of_links(Config) ->
    {A, B} = both(Config),
    First = room(A),
    RoomB = room(B),
    hornbeam_eventually:holds(fun() -> events(A, First) =:= [{up, own(B)}] end),
    ok = hornbeam_cluster:call(A, supervisor, terminate_child,
                               [hornbeam_links_sup, hornbeam_links]),
    true = hornbeam_cluster:call(A, erlang, exit, [First, kill]),
    Second = room(A),
    _ = room(A, another),
    {ok, _} = hornbeam_cluster:call(A, supervisor, restart_child,
                                    [hornbeam_links_sup, hornbeam_links]),
    hornbeam_eventually:holds(fun() -> events(A, Second) =:= [{up, own(B)}] end),
    ok = send(A, own(B), x),
    hornbeam_eventually:holds(fun() -> messages(B, RoomB) =:= [{own(A), x}] end),
    _ = room(B, another),
    ok = hornbeam_cluster:call(B, hornbeam_links, send, [own(A), another, x]),
    true = hornbeam_cluster:call(A, erlang, exit, [Second, kill]),
    hornbeam_eventually:holds(fun() -> lists:last(events(B, RoomB)) =:= {down, own(A)} end).

nodes_of_another_cluster_are_no_peers(Config) ->
    {A, B} = both(Config),
    RoomB = met(Config),
    ok = hornbeam_cluster:call(A, hornbeam_links, set_cluster, [<<"another">>]),
    hornbeam_eventually:holds(fun() -> events(B, RoomB) =:= [{up, own(A)}, {down, own(A)}] end),
    hornbeam_eventually:holds(fun() ->
        [{refused, {cluster, <<"another">>}}] =:= states(B)
            andalso [{refused, {cluster, <<"hornbeam">>}}] =:= states(A)
    end),
    ok = hornbeam_cluster:call(B, hornbeam_links, set_cluster, [<<"another">>]),
    hornbeam_eventually:holds(fun() -> peers(A) =:= [own(B)] end).

what_is_known_of_the_others_is_told(Config) ->
    {A, B} = both(Config),
    RoomB = met(Config),
    {Node, Incarnation} = own(B),
    ?assertMatch(#{name := <<"hornbeam">>, healed := 0, losses := Losses, peers := [
        #{node := Node, state := up, incarnation := Incarnation, version := <<_, _/binary>>,
          protocol := 1, healed := 0, dropped := 0, why := <<>>}
    ]} when map_size(Losses) =:= 0, cluster(A)),
    ok = send(A, own(B), x),
    hornbeam_eventually:holds(fun() -> messages(B, RoomB) =/= [] end),
    hornbeam_eventually:holds(fun() ->
        [#{messages := Got, bytes := Bytes}] = told(B, received),
        Got > 0 andalso Bytes > Got
    end),
    true = hornbeam_cluster:call(A, erlang, disconnect_node, [Node]),
    hornbeam_eventually:holds(fun() -> [down] =:= told(A, state) end),
    true = hornbeam_cluster:connect(A, B),
    hornbeam_eventually:holds(fun() -> {[up], [1]} =:= {told(A, state), told(A, healed)} end),
    ok = hornbeam_cluster:call(B, hornbeam_links, set_cluster, [<<"another">>]),
    hornbeam_eventually:holds(fun() ->
        told(A, why) =:= [<<"it is of the cluster another">>]
    end).

told(Node, What) -> [maps:get(What, Peer) || Peer <- maps:get(peers, cluster(Node))].

cluster(Node) -> hornbeam_cluster:call(Node, hornbeam, cluster, []).

states(Node) ->
    [{State, maps:get(refusal, Status, none)}
     || #{state := State} = Status <- hornbeam_cluster:call(Node, hornbeam_link_nodes, all, [])].

what_is_not_understood_is_counted_and_ignored(Config) ->
    {A, B} = both(Config),
    RoomB = met(Config),
    [{_, Link, _, _}] = hornbeam_cluster:call(B, supervisor, which_children, [hornbeam_link_sup]),
    Strange = [hello, {hello, self()}, {hornbeam_link, later, 1, 2}, {hornbeam_link, hello, 7},
               {hornbeam_link, hello, #{}}, {hornbeam_link, messages, [7, {none_of_ours, <<"x">>},
                                                                       {?ROOM, <<"no term">>}]},
               {hornbeam_link, rooms, []}, {hornbeam_link, acknowledged, none}],
    [hornbeam_cluster:call(A, erlang, send, [To, Message])
     || To <- [Link, {hornbeam_links, hornbeam_cluster:node(B)}], Message <- Strange],
    hornbeam_eventually:holds(fun() ->
        lists:sum(maps:values(losses(B))) >= 2 * length(Strange)
    end),
    ok = send(A, own(B), still_there),
    hornbeam_eventually:holds(fun() -> messages(B, RoomB) =:= [{own(A), still_there}] end),
    ?assertEqual([{up, own(A)}, {message, own(A), still_there}], events(B, RoomB)).

%% Puppets: other versions, or what there may be.

the_next_version_of_the_protocol_is_spoken_with(Config) ->
    {A, _} = both(Config),
    RoomA = room(A),
    Puppet = puppet(Config, #{version => 2, oldest => 1, capabilities => [flying],
                              future => #{means => all}, release => {2, 0},
                              rooms => #{?ROOM => 1, unheard_of => 2}}),
    Peer = {hornbeam_cluster:node(Puppet), 17},
    hornbeam_eventually:holds(fun() -> lists:member({up, Peer}, events(A, RoomA)) end),
    ?assertMatch(#{version := <<>>}, status_of(A, Puppet)),
    [play(Puppet, Message) || Message <- [{hornbeam_link, sing, 1},
                                          {hornbeam_link, messages, [{?ROOM, term_to_binary(1)},
                                                                     {unheard_of, <<>>}]}]],
    hornbeam_eventually:holds(fun() -> messages(A, RoomA) =:= [{Peer, 1}] end),
    ok = send(A, Peer, 2),
    hornbeam_eventually:holds(fun() ->
        [M || {hornbeam_link, messages, M} <- heard(Puppet)] =:= [[{?ROOM, term_to_binary(2)}]]
    end),
    hornbeam_eventually:holds(fun() ->
        [N || {hornbeam_link, acknowledged, N} <- heard(Puppet)] =:= [1]
    end),
    hornbeam_cluster:stop_node(Puppet),
    hornbeam_eventually:holds(fun() -> lists:last(events(A, RoomA)) =:= {down, Peer} end).

a_version_that_is_too_new_or_too_old_is_refused(Config) ->
    {A, B} = both(Config),
    RoomA = room(A),
    _ = room(B),
    [begin
         Puppet = puppet(Config, #{version => Newest, oldest => Oldest, rooms => #{?ROOM => 1}}),
         hornbeam_eventually:holds(fun() ->
             lists:member({refused, {version, {Oldest, Newest}}}, states(A))
         end),
         play(Puppet, {hornbeam_link, messages, [{?ROOM, term_to_binary(1)}]}),
         hornbeam_cluster:stop_node(Puppet)
     end || {Oldest, Newest} <- [{2, 3}, {0, 0}]],
    ?assertEqual([{up, own(B)}], events(A, RoomA)).

status_of(Node, Puppet) ->
    Name = hornbeam_cluster:node(Puppet),
    [Peer] = [Peer || #{node := Of} = Peer <- maps:get(peers, cluster(Node)), Of =:= Name],
    Peer.

%% A node that says hello with these, and keeps what it hears.
puppet(Config, Hello) ->
    {Port, Nodes} = proplists:get_value(cluster, Config),
    Puppet = hornbeam_cluster:bare_node(Port),
    Name = hornbeam_cluster:node(hd(Nodes)),
    true = hornbeam_cluster:call(Puppet, ?MODULE, begin_playing, [Name, Hello]),
    Puppet.

begin_playing(Node, Hello) ->
    Pid = spawn(fun() -> play_on(none, []) end),
    true = register(puppet, Pid),
    Said = {hornbeam_link, hello,
            maps:merge(#{cluster => <<"hornbeam">>, incarnation => 17, link => Pid}, Hello)},
    true = net_kernel:connect_node(Node),
    Pid ! {hello, Said},
    _ = {hornbeam_links, Node} ! Said,
    true.

play_on(To, Heard) ->
    receive
        {hello, Said} -> play_on({waiting, Said}, Heard);
        {hornbeam_link, hello, #{link := Link}} = Hello ->
            {waiting, Said} = To,
            Link ! Said,
            play_on(Link, [Hello | Heard]);
        {play, Message} -> _ = [To ! Message || is_pid(To)], play_on(To, Heard);
        {heard, From} -> From ! {heard, lists:reverse(Heard)}, play_on(To, Heard);
        Message -> play_on(To, [Message | Heard])
    end.

play(Puppet, Message) -> hornbeam_cluster:call(Puppet, erlang, send, [puppet, {play, Message}]).

heard(Puppet) -> hornbeam_cluster:call(Puppet, ?MODULE, heard, []).

heard() ->
    puppet ! {heard, self()},
    receive {heard, Heard} -> Heard end.

%% Rooms.

both(Config) -> {proplists:get_value(a, Config), proplists:get_value(b, Config)}.

%% Both nodes have the room, and know it.
met(Config) ->
    {A, B} = both(Config),
    [RoomA, RoomB] = [room(Node) || Node <- [A, B]],
    _ = put(met, [{room_a, RoomA}, {b, element(2, own(B))}]),
    hornbeam_eventually:holds(fun() -> {peers(A), peers(B)} =:= {[own(B)], [own(A)]} end),
    RoomB.

incarnation(_Config) -> proplists:get_value(b, get(met)).

own(Node) -> hornbeam_cluster:call(Node, hornbeam_links, own, []).

peers(Node) -> hornbeam_cluster:call(Node, hornbeam_links, peers, [?ROOM]).

send(Node, Peer, Message) ->
    hornbeam_cluster:call(Node, hornbeam_links, send, [Peer, ?ROOM, Message]).

losses(Node, Why) -> maps:get({?ROOM, Why}, losses(Node), 0).

losses(Node) -> hornbeam_cluster:call(Node, hornbeam_link_queue, losses, []).

status(Node) ->
    [#{queue := Queue}] = hornbeam_cluster:call(Node, hornbeam_link_nodes, all, []),
    hornbeam_cluster:call(Node, hornbeam_link_queue, status, [Queue]).

room(Node) -> room(Node, ?ROOM).

room(Node, Name) -> hornbeam_cluster:call(Node, ?MODULE, begin_room, [Name]).

begin_room(Name) ->
    begin_process(fun() -> [{up, Peer} || Peer <- hornbeam_links:join(Name)] end).

begin_process(Begin) ->
    Caller = self(),
    Pid = spawn(fun() -> Events = Begin(), Caller ! {self(), begun}, keep(Events) end),
    receive {Pid, begun} -> Pid after 10000 -> error(not_begun) end.

keep(Events) ->
    receive
        {hornbeam_link, Kind, Peer} -> keep([{Kind, Peer} | Events]);
        {hornbeam_link, message, Peer, Message} -> keep([{message, Peer, Message} | Events]);
        {events, From} -> From ! {self(), lists:reverse(Events)}, keep(Events)
    end.

%% What a room has heard, the oldest first.
events(Node, Room) -> hornbeam_cluster:call(Node, ?MODULE, events, [Room]).

events(Room) ->
    Room ! {events, self()},
    receive {Room, Events} -> Events after 10000 -> error(no_answer) end.

messages(Node, Room) -> [{Peer, Message} || {message, Peer, Message} <- events(Node, Room)].

begin_hearing() ->
    Heard = begin_process(fun() -> [] end),
    Join = fun() -> hornbeam_links:join(?ROOM, self(), fun(Event) -> Heard ! Event end) end,
    {begin_process(Join), Heard}.

send_numbers(Peer, Count, Sender) ->
    spawn(fun() ->
        [ok = hornbeam_links:send(Peer, ?ROOM, {Sender, N}) || N <- lists:seq(1, Count)]
    end).

send_blocks(Peer, Count, Size) ->
    Sent = [hornbeam_links:send(Peer, ?ROOM, binary:copy(<<N>>, Size)) || N <- lists:seq(1, Count)],
    {length([ok || ok <- Sent]), length([lost || lost <- Sent])}.

%% Suspended while the link is busy.
send_to_nobody(Node) ->
    _ = {nobody, Node} ! binary:copy(<<0>>, 1000),
    ok.
