%% One leads: on one node, on two, and when parts of a cluster lose each other.
-module(hornbeam_leader_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [{group, one_node}, {group, two_nodes}].

groups() ->
    [{one_node, [
        the_first_leads_and_then_the_next, tokens_grow, names_have_leaders_of_their_own,
        a_dead_leader_is_followed, who_dies_in_the_line_is_passed_by,
        who_waits_no_longer_stands_no_more, standing_twice_is_once,
        who_leads_already_has_its_token_at_once, a_lock_needs_a_consistent_state,
        a_candidate_is_asked_about_by_its_owner_alone, an_owner_stands_for_1000_names_at_most,
        a_crash_of_the_election_ends_no_lead, a_crash_of_a_candidate_is_told_when_it_is_asked,
        the_dead_are_forgotten
     ]},
     {two_nodes, [
        one_of_all_nodes_leads,
        a_dead_node_is_followed, a_busy_link_holds_up_no_election,
        an_election_on_a_dead_node_ends_no_lead,
        an_election_goes_to_the_node_whose_name_is_first_and_ends_no_lead,
        each_part_of_a_cluster_has_a_leader_and_one_of_them_has_lost_when_they_meet,
        tokens_grow_from_node_to_node_whatever_clocks_say
     ]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

init_per_group(_Group, Config) -> Config.

end_per_group(_Group, _Config) -> ok.

init_per_testcase(Name, Config) ->
    case lists:member(Name, proplists:get_value(two_nodes, groups())) of
        true -> [{name, atom_to_binary(Name)}, {cluster, hornbeam_cluster:start()} | Config];
        false -> [{name, atom_to_binary(Name)} | Config]
    end.

end_per_testcase(_Name, Config) ->
    _ = [hornbeam_cluster:stop(Cluster) || {cluster, Cluster} <- Config],
    ok.

%%% One node

the_first_leads_and_then_the_next(Config) ->
    [A, B, C] = [stander(name(Config)) || _ <- [1, 2, 3]],
    ?assertMatch([{A, _}], leading(1)),
    _ = [?assertEqual(ok, ended(Pid)) || Pid <- [A, B]],
    ?assertMatch([{B, _}, {C, _}], leading(2)),
    ok = ended(C).

tokens_grow(Config) ->
    Tokens = [begin
                  {ok, Token} = hornbeam_leader:lead(name(Config)),
                  ok = hornbeam_leader:resign(name(Config)),
                  Token
              end || _ <- lists:seq(1, 20)],
    ?assertEqual(lists:usort(Tokens), Tokens),
    ?assert(hd(Tokens) > 1600000000000000).

names_have_leaders_of_their_own(Config) ->
    Names = [<<(name(Config))/binary, N>> || N <- "abc"],
    _ = [?assertMatch({ok, _}, hornbeam_leader:lead(Name)) || Name <- Names],
    Led = [Name || {Name, Pid, _} <- hornbeam_leader:leading(), Pid =:= self()],
    _ = [hornbeam_leader:resign(Name) || Name <- Names],
    ?assertEqual(Names, lists:sort(Led)).

a_dead_leader_is_followed(Config) ->
    [A, B] = [stander(name(Config)) || _ <- [1, 2]],
    ?assertMatch([{A, _}], leading(1)),
    hornbeam_eventually:dead(A),
    ?assertMatch([{B, _}], leading(1)),
    ok = ended(B).

who_dies_in_the_line_is_passed_by(Config) ->
    [A, B, C] = [stander(name(Config)) || _ <- [1, 2, 3]],
    ?assertMatch([{A, _}], leading(1)),
    hornbeam_eventually:dead(B),
    ok = ended(A),
    ?assertMatch([{C, _}], leading(1)),
    ok = ended(C).

who_waits_no_longer_stands_no_more(Config) ->
    A = stander(name(Config)),
    ?assertMatch([{A, _}], leading(1)),
    ?assertEqual({error, timeout}, hornbeam_leader:lead(name(Config), 10)),
    B = stander(name(Config)),
    ok = ended(A),
    ?assertMatch([{B, _}], leading(1)),
    ok = ended(B).

standing_twice_is_once(Config) ->
    _ = [?assertEqual(ok, hornbeam_leader:stand(self(), 7, name(Config), leader)) || _ <- [1, 2]],
    ?assertMatch({ok, {_, infinity}}, hornbeam_leader:await(self(), 7, 0, infinity)),
    ?assertMatch([_], hornbeam_leader_candidates:named(name(Config))),
    ok = hornbeam_leader:withdraw(self(), 7),
    ?assertEqual(ok, hornbeam_leader:withdraw(self(), 7)),
    ?assertEqual({error, unknown_candidate}, hornbeam_leader:await(self(), 7, 0, infinity)).

who_leads_already_has_its_token_at_once(Config) ->
    {ok, Token} = hornbeam_leader:lead(name(Config)),
    ?assertEqual({ok, Token}, hornbeam_leader:lead(name(Config), 0)),
    ok = hornbeam_leader:resign(name(Config)).

a_lock_needs_a_consistent_state(Config) ->
    ?assertEqual({error, {unavailable, off}},
                 hornbeam_leader:stand(self(), 1, name(Config), lock)).

a_candidate_is_asked_about_by_its_owner_alone(Config) ->
    ok = hornbeam_leader:stand(self(), 1, name(Config), leader),
    Other = stander(<<(name(Config))/binary, "x">>),
    ?assertEqual({error, unknown_candidate}, hornbeam_leader:await(Other, 1, 0, 0)),
    _ = leading(1),
    ok = ended(Other),
    ok = hornbeam_leader:withdraw(self(), 1).

an_owner_stands_for_1000_names_at_most(Config) ->
    Names = [<<(name(Config))/binary, (integer_to_binary(N))/binary>> || N <- lists:seq(1, 1001)],
    Pid = spawn_link(fun Wait() -> receive stop -> ok; _ -> Wait() end end),
    Stood = [hornbeam_leader:stand(Pid, Name, Name, leader) || Name <- Names],
    ?assertEqual([{error, too_many_candidates}], [E || E <- Stood, E =/= ok]),
    ?assertEqual(ok, hornbeam_leader:stand(self(), 1, lists:last(Names), leader)),
    ok = hornbeam_leader:withdraw(self(), 1),
    Pid ! stop,
    hornbeam_eventually:holds(fun() -> hornbeam_leader:leading() =:= [] end).

a_crash_of_the_election_ends_no_lead(Config) ->
    [A, B] = [stander(name(Config)) || _ <- [1, 2]],
    [{A, Token}] = leading(1),
    [Election] = hornbeam_leader_sup:elections(),
    hornbeam_eventually:dead(Election),
    hornbeam_eventually:holds(fun() -> standing_at_election() =:= 2 end),
    ?assertEqual([{name(Config), A, Token}], hornbeam_leader:leading()),
    ok = ended(A),
    ?assertMatch([{B, More}] when More > Token, leading(1)),
    ok = ended(B).

a_crash_of_a_candidate_is_told_when_it_is_asked(Config) ->
    ok = hornbeam_leader:stand(self(), 1, name(Config), leader),
    {ok, {Token, infinity}} = hornbeam_leader:await(self(), 1, 0, infinity),
    Self = self(),
    Asker = spawn_link(fun() ->
        Self ! {asked, hornbeam_leader:await(Self, 1, Token, infinity)}
    end),
    hornbeam_eventually:holds(fun() -> process_info(Asker, status) =:= {status, waiting} end),
    [{Candidate, _, Token}] = hornbeam_leader_candidates:named(name(Config)),
    hornbeam_eventually:dead(Candidate),
    ?assertEqual({error, unknown_candidate}, receive {asked, Answer} -> Answer end).

the_dead_are_forgotten(Config) ->
    A = stander(name(Config)),
    ?assertMatch([{A, _}], leading(1)),
    hornbeam_eventually:dead(A),
    hornbeam_eventually:holds(fun() ->
        {ets:tab2list(hornbeam_leader_candidates),
         supervisor:which_children(hornbeam_leader_sup)} =:= {[], []} orelse
            {ets:tab2list(hornbeam_leader_candidates),
             supervisor:which_children(hornbeam_leader_sup)}
    end).

%%% Two nodes

one_of_all_nodes_leads(Config) ->
    {_, A, B} = proplists:get_value(cluster, Config),
    Standers = [{Node, stander_on(Node, name(Config))} || Node <- [A, B, A, B]],
    led_in_turn(Standers, name(Config), 0).

led_in_turn([], _Name, _Token) ->
    ok;
led_in_turn([{Node, Pid} | Standers], Name, Before) ->
    Token = leads(Node, Pid),
    ?assert(Token > Before),
    Other = [leading_on(Each) || {Each, _} <- Standers, Each =/= Node],
    ?assertEqual([], lists:append(Other)),
    true = call(Node, erlang, exit, [Pid, kill]),
    led_in_turn(Standers, Name, Token).

a_dead_node_is_followed(Config) ->
    {_, A, B} = proplists:get_value(cluster, Config),
    First = leads(A, stander_on(A, name(Config))),
    OnB = stander_on(B, name(Config)),
    hornbeam_cluster:stop_node(A),
    ?assert(leads(B, OnB) > First).

%% Who is first in line stands still, and its link takes nothing.
a_busy_link_holds_up_no_election(Config) ->
    {_, X, Y} = proplists:get_value(cluster, Config),
    [{_, A}, {NodeB, B}] = lists:sort([{hornbeam_cluster:node(Node), Node} || Node <- [X, Y]]),
    OnA = stander_on(A, name(Config)),
    First = leads(A, OnA),
    OnB = stander_on(B, name(Config)),
    hornbeam_eventually:holds(fun() -> call(A, ?MODULE, standing_at_election, []) =:= 2 end),
    Next = stander_on(A, name(Config)),
    hornbeam_cluster:pause(B),
    ok = call(A, ?MODULE, fill_link, [NodeB]),
    true = call(A, erlang, exit, [OnA, kill]),
    Second = leads(A, Next),
    ?assert(Second > First),
    hornbeam_cluster:resume(B),
    hornbeam_eventually:holds(fun() -> call(A, ?MODULE, standing_at_election, []) =:= 2 end, 30000),
    true = call(A, erlang, exit, [Next, kill]),
    ?assert(leads(B, OnB) > Second).

fill_link(Node) -> fill_link(Node, binary:copy(<<0>>, 65536), 1000).

%% What the kernel takes lets more in for a moment.
fill_link(_Node, _Much, 0) ->
    ok;
fill_link(Node, Much, Left) ->
    case erlang:send({nobody, Node}, Much, [nosuspend]) of
        ok -> fill_link(Node, Much, 1000);
        nosuspend -> erlang:yield(), fill_link(Node, Much, Left - 1)
    end.

%% The node whose name is first holds it.
an_election_on_a_dead_node_ends_no_lead(Config) ->
    {_, X, Y} = proplists:get_value(cluster, Config),
    [{_, A}, {_, B}] = lists:sort([{hornbeam_cluster:node(Node), Node} || Node <- [X, Y]]),
    hornbeam_eventually:holds(fun() ->
        [call(Node, hornbeam_leader_candidates, peers, []) || Node <- [A, B]] =:=
            [[hornbeam_cluster:node(Node)] || Node <- [B, A]]
    end),
    [OnB, Next] = [stander_on(B, name(Config)) || _ <- [1, 2]],
    Token = leads(B, OnB),
    hornbeam_eventually:holds(fun() -> call(A, ?MODULE, standing_at_election, []) =:= 2 end),
    hornbeam_cluster:stop_node(A),
    hornbeam_eventually:holds(fun() -> call(B, ?MODULE, standing_at_election, []) =:= 2 end),
    ?assertEqual([{name(Config), OnB, Token}], leading_on(B)),
    true = call(B, erlang, exit, [OnB, kill]),
    ?assert(leads(B, Next) > Token).

%% A node that comes, and whose name is before all others.
an_election_goes_to_the_node_whose_name_is_first_and_ends_no_lead(Config) ->
    {_, X, Y} = proplists:get_value(cluster, Config),
    [{_, A}, {_, B}] = lists:sort([{hornbeam_cluster:node(Node), Node} || Node <- [X, Y]]),
    hornbeam_cluster:part(A, B),
    [OnB, Next] = [stander_on(B, name(Config)) || _ <- [1, 2]],
    Token = leads(B, OnB),
    ?assertEqual(2, call(B, ?MODULE, standing_at_election, [])),
    hornbeam_cluster:meet(A, B),
    hornbeam_eventually:holds(fun() -> call(A, ?MODULE, standing_at_election, []) =:= 2 end),
    ?assertEqual([{name(Config), OnB, Token}], leading_on(B)),
    true = call(B, erlang, exit, [OnB, kill]),
    ?assert(leads(B, Next) > Token).

each_part_of_a_cluster_has_a_leader_and_one_of_them_has_lost_when_they_meet(Config) ->
    {_, A, B} = proplists:get_value(cluster, Config),
    OnA = stander_on(A, name(Config)),
    First = leads(A, OnA),
    OnB = stander_on(B, name(Config)),
    hornbeam_cluster:part(A, B),
    Second = leads(B, OnB),
    ?assert(Second > First),
    ?assertEqual([{name(Config), OnA, First}], leading_on(A)),
    hornbeam_cluster:meet(A, B),
    hornbeam_eventually:holds(fun() -> length(leading_on(A) ++ leading_on(B)) =:= 1 end),
    hornbeam_eventually:holds(fun() -> has_lost(A, OnA, First) or has_lost(B, OnB, Second) end),
    [{Stays, Pid}] = [Each || {Node, P} = Each <- [{A, OnA}, {B, OnB}], leading_on(Node) =/= [],
                              is_pid(P)],
    true = call(Stays, erlang, exit, [Pid, kill]),
    Next = stander_on(A, name(Config)),
    ?assert(leads(A, Next) > Second).

tokens_grow_from_node_to_node_whatever_clocks_say(Config) ->
    {_, A, B} = proplists:get_value(cluster, Config),
    Ahead = call(A, erlang, system_time, [microsecond]) + 3600000000,
    ok = call(A, hornbeam_fencing_token, seen, [Ahead]),
    ?assertEqual(Ahead + 1, leads(A, stander_on(A, name(Config)))),
    OnB = stander_on(B, name(Config)),
    hornbeam_eventually:holds(fun() ->
        call(B, hornbeam_fencing_token, greatest, []) > Ahead
    end),
    hornbeam_cluster:stop_node(A),
    ?assert(leads(B, OnB) > Ahead + 1).

%%% What they are made of

name(Config) -> proplists:get_value(name, Config).

%% A process that stands, tells us when it leads, and lets go when it is told.
stander(Name) ->
    Self = self(),
    Pid = spawn(fun() ->
        ok = hornbeam_leader:stand(self(), Name, Name, leader),
        Self ! {stands, self()},
        {ok, {Token, _}} = hornbeam_leader:await(self(), Name, 0, infinity),
        Self ! {leads, self(), Token},
        receive stop -> ok = hornbeam_leader:resign(Name) end
    end),
    receive {stands, Pid} -> Pid after 10000 -> error(does_not_stand) end.

leading(0) -> [];
leading(N) ->
    receive
        {leads, Pid, Token} -> [{Pid, Token} | leading(N - 1)]
    after 15000 ->
        error(nobody_leads)
    end.

ended(Pid) ->
    Ref = erlang:monitor(process, Pid),
    Pid ! stop,
    receive {'DOWN', Ref, process, _, _} -> ok after 10000 -> error(goes_on) end.

call(Node, Module, Function, Args) -> hornbeam_cluster:call(Node, Module, Function, Args).

%% The node of the tests is none of the cluster, so these are asked and do not tell.
stander_on(Node, Name) ->
    Pid = call(Node, ?MODULE, start_stander, [Name]),
    hornbeam_eventually:holds(fun() ->
        lists:keymember(Pid, 1, [{Owner, Ref} || {{Owner, Ref}, _, _, _, _}
                                  <- call(Node, ets, tab2list, [hornbeam_leader_candidates])])
    end),
    Pid.

start_stander(Name) ->
    spawn(fun() ->
        {ok, _} = hornbeam_leader:lead(Name),
        receive {hornbeam_leader, lost, Name, Token} -> put(lost, Token) end,
        receive never -> ok end
    end).

leads(Node, Pid) ->
    hornbeam_eventually:holds(fun() -> lists:keymember(Pid, 2, leading_on(Node)) end),
    {_, Pid, Token} = lists:keyfind(Pid, 2, leading_on(Node)),
    Token.

leading_on(Node) -> call(Node, hornbeam_leader, leading, []).

has_lost(Node, Pid, Token) ->
    {dictionary, Found} = call(Node, erlang, process_info, [Pid, dictionary]),
    lists:member({lost, Token}, Found).

%% How many stand in the only election of this node.
standing_at_election() ->
    case hornbeam_leader_sup:elections() of
        [Election] ->
            {monitors, Monitors} = process_info(Election, monitors),
            length(Monitors);
        _None ->
            none
    end.
