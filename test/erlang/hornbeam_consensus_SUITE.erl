%% The consistent state on nodes that are killed, cut off, added and taken out.
-module(hornbeam_consensus_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [what_one_node_sets_all_have, all_know_the_same_leader, values_are_those_of_erlang_and_python,
     without_the_option_all_is_refused, nodes_begin_only_when_all_have_met,
     nodes_begin_though_the_first_ends_meanwhile, a_promise_ends_when_the_others_have_begun,
     one_alone_does_not_say_that_nothing_was_decided,
     a_majority_goes_on, a_minority_refuses_in_bounded_time,
     nothing_is_lost_when_all_are_killed, a_new_node_is_added,
     a_member_ends_in_order_when_ra_has_ended, a_node_that_is_gone_is_taken_out,
     a_node_that_lost_its_data_is_added_anew,
     what_a_member_hears_late_does_not_move_it, a_member_whose_log_has_failed_comes_back,
     the_log_is_bounded, the_next_leads_when_a_process_ends,
     a_dead_node_is_followed_when_its_time_is_over,
     who_is_cut_off_has_lost_before_another_leads].

init_per_testcase(without_the_option_all_is_refused, Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config;
init_per_testcase(Name, Config)
        when Name =:= nodes_begin_only_when_all_have_met;
             Name =:= nodes_begin_though_the_first_ends_meanwhile;
             Name =:= a_promise_ends_when_the_others_have_begun;
             Name =:= one_alone_does_not_say_that_nothing_was_decided ->
    [{cluster, hornbeam_cluster:start(3)} | Config];
init_per_testcase(_Name, Config) ->
    {_, Nodes} = Cluster = hornbeam_cluster:start(3),
    _ = [start_member(Node, 3, Config) || Node <- Nodes],
    _ = [await_member(Node, 3) || Node <- Nodes],
    [{cluster, Cluster} | Config].

end_per_testcase(without_the_option_all_is_refused, _Config) ->
    application:stop(hornbeam);
end_per_testcase(_Name, Config) ->
    _ = [hornbeam_cluster:stop({Port, nodes_now(Nodes)})
         || {cluster, {Port, Nodes}} <- Config],
    ok.

what_one_node_sets_all_have(Config) ->
    [A, B, C] = nodes_of(Config),
    ?assertEqual(ok, consensus(A, set, [<<"k">>, #{<<"a">> => 1}])),
    _ = [?assertEqual({ok, #{<<"a">> => 1}}, consensus(Node, get, [<<"k">>])) || Node <- [B, C]],
    ?assertEqual({true, false}, {consensus(B, add, [<<"l">>, 1]), consensus(C, add, [<<"l">>, 2])}),
    ?assertEqual([{ok, 1}, {ok, 2}, {ok, 3}],
                 [consensus(Node, incr, [<<"n">>]) || Node <- [C, A, B]]),
    ?assertEqual([true, false, false],
                 [consensus(Node, cas, [<<"n">>, 3, 4]) || Node <- [A, B, C]]),
    ?assertEqual([true, false], [consensus(Node, delete, [<<"n">>]) || Node <- [B, C]]),
    ?assertEqual(absent, consensus(A, get, [<<"n">>])),
    Members = lists:sort([hornbeam_cluster:node(Node) || Node <- [A, B, C]]),
    ?assertMatch(#{members := Members, reachable := Members, rows := 2},
                 consensus(A, status, [])).

all_know_the_same_leader(Config) ->
    Nodes = nodes_of(Config),
    hornbeam_eventually:holds(fun() ->
        Known = [consensus(Node, members, []) || Node <- Nodes],
        Leads = [hornbeam_cluster:node(Node) || Node <- Nodes, raft_state(Node) =:= leader],
        lists:usort([[Leader] || {ok, _Members, Leader} <- Known]) =:= [Leads] orelse Known
    end).

raft_state(Node) -> call(Node, ets, lookup_element, [ra_state, hornbeam_consensus, 2]).

values_are_those_of_erlang_and_python(Config) ->
    [A, B, _C] = nodes_of(Config),
    Values = [1, 1.5, 1 bsl 200, <<"text">>, {tuple, [<<"of">>, undefined]}, #{1 => true}],
    _ = [begin
             ?assertEqual(ok, consensus(A, set, [{<<"key">>, 1}, Value])),
             ?assertEqual({ok, Value}, consensus(B, get, [{<<"key">>, 1}]))
         end || Value <- Values],
    ?assertEqual({error, not_a_number}, consensus(A, incr, [{<<"key">>, 1}])),
    ?assertEqual({error, too_large}, consensus(A, set, [1, binary:copy(<<"x">>, 1048576)])),
    ?assertMatch({badrpc, {'EXIT', {{bad_key, 1.5}, _}}}, rpc(A, hornbeam_consensus, get, [1.5])).

rpc(Node, Module, Function, Args) ->
    hornbeam_cluster:call(Node, rpc, call, [hornbeam_cluster:node(Node), Module, Function, Args]).

without_the_option_all_is_refused(_Config) ->
    ok = hornbeam_consensus:enable(false),
    _ = [?assertEqual({error, {unavailable, off}}, apply(hornbeam_consensus, Function, Args))
         || {Function, Args} <- [{get, [1]}, {set, [1, 1]}, {add, [1, 1]}, {cas, [1, 1, 1]},
                                 {delete, [1]}, {incr, [1]}, {members, []}, {status, []}]],
    ?assertEqual({ok, election}, hornbeam_consensus:decides(leader)).

nodes_begin_only_when_all_have_met(Config) ->
    [A, B, C] = nodes_of(Config),
    _ = [start_member(Node, 3, Config) || Node <- [A, B]],
    hornbeam_eventually:holds(fun() ->
        map_size(element(4, member_state(A))) =:= 1
    end),
    ?assertEqual({error, {unavailable, forming}}, consensus(A, set, [1, 1])),
    start_member(C, 3, Config),
    _ = [await_member(Node, 3) || Node <- [A, B, C]],
    ?assertEqual(ok, consensus(B, set, [1, 1])).

%% It has told the others to begin, and has not done so itself.
nodes_begin_though_the_first_ends_meanwhile(Config) ->
    [A, B, C] = nodes_of(Config),
    Set = [hornbeam_cluster:node(Node) || Node <- [A, B, C]],
    _ = [start_member(Node, 3, Config) || Node <- [B, C]],
    _ = [ok = call(A, ?MODULE, let_begin, [hornbeam_cluster:node(Node), Set]) || Node <- [B, C]],
    start_member(A, 3, Config),
    _ = [await_member(Node, 3) || Node <- [A, B, C]],
    ?assertEqual(ok, until_certain(fun() -> consensus(A, set, [1, one]) end)).

%% What was to let this one begin, too, was lost: a link that is busy takes nothing.
a_promise_ends_when_the_others_have_begun(Config) ->
    [A, B, _C] = nodes_of(Config),
    start_member(A, 3, Config),
    Set = [hornbeam_cluster:node(Node) || Node <- nodes_of(Config)],
    ?assertEqual(undefined, call(B, ?MODULE, begin_without, [hornbeam_cluster:node(A), Set])).

begin_without(Node, Set) ->
    tell_member(Node, {promise, self()}),
    receive {hornbeam_consensus, _, {promised, Node}} -> ok after 30000 -> error(no_promise) end,
    tell_member(Node, {status, self(), {member, Set, false}}),
    element(5, sys:get_state({hornbeam_consensus_member, Node})).

let_begin(Node, Set) ->
    tell_member(Node, {promise, self()}),
    receive {hornbeam_consensus, _, {promised, Node}} -> ok after 30000 -> error(no_promise) end,
    tell_member(Node, {begin_with, Set}),
    hornbeam_eventually:holds(fun() ->
        is_pid(erpc:call(Node, erlang, whereis, [hornbeam_consensus]))
    end),
    ok.

tell_member(Node, Message) ->
    {hornbeam_consensus_member, Node} ! {hornbeam_consensus, hornbeam_links:cluster(), Message}.

%% It may be one that has not heard of it, and a majority with a node that has lost its data.
one_alone_does_not_say_that_nothing_was_decided(Config) ->
    [A, B, C] = nodes_of(Config),
    start_member(A, 3, Config),
    Members = [hornbeam_cluster:node(Node) || Node <- [A, B, C]],
    Heard = fun(Nodes) ->
        Pids = [call(Node, erlang, whereis, [init]) || Node <- Nodes],
        call(A, ?MODULE, hear_fresh, [Pids, Members])
    end,
    ?assertMatch({empty, undefined}, Heard([B])),
    hornbeam_eventually:holds(fun() -> Heard([B, C]) =/= {empty, undefined} end).

hear_fresh(Pids, Members) ->
    _ = [tell_member(node(), {status, Pid, {member, Members, true}}) || Pid <- Pids],
    hornbeam_consensus_member ! look,
    State = sys:get_state(hornbeam_consensus_member),
    {element(3, State), element(7, State)}.

a_majority_goes_on(Config) ->
    Nodes = [A, B, C] = nodes_of(Config),
    ?assertEqual(ok, consensus(A, set, [1, one])),
    Leader = leader(Nodes),
    hornbeam_cluster:kill_node(Leader),
    [D, E] = [A, B, C] -- [Leader],
    ?assertEqual({ok, one}, until_certain(fun() -> consensus(D, get, [1]) end)),
    ?assertEqual(ok, consensus(E, set, [1, two])),
    ?assertEqual({ok, two}, consensus(D, get, [1])).

a_minority_refuses_in_bounded_time(Config) ->
    [A, B, C] = nodes_of(Config),
    ?assertEqual(ok, consensus(A, set, [1, one])),
    _ = [hornbeam_cluster:kill_node(Node) || Node <- [B, C]],
    hornbeam_eventually:holds(fun() -> call(A, erlang, nodes, []) =:= [] end),
    {Microseconds, Refused} = timer:tc(fun() -> consensus(A, set, [1, two]) end),
    ?assertEqual({error, {unavailable, no_majority}}, Refused),
    ?assert(Microseconds < 10000000),
    ?assertEqual({error, {unavailable, no_majority}}, consensus(A, get, [1])).

nothing_is_lost_when_all_are_killed(Config) ->
    Nodes = [A, B, C] = nodes_of(Config),
    Set = [N || N <- lists:seq(1, 200),
                consensus(lists:nth(1 + N rem 3, Nodes), set, [N, N]) =:= ok],
    ?assertEqual(200, length(Set)),
    _ = [hornbeam_cluster:kill_node(Node) || Node <- [B, C, A]],
    Again = [hornbeam_cluster:start_again(cluster(Config), Node) || Node <- Nodes],
    put(nodes_now, Again),
    _ = [hornbeam_cluster:connect(One, Other) || One <- Again, Other <- Again, One < Other],
    _ = [start_member(Node, 3, Config) || Node <- Again],
    [D | _] = Again,
    ?assertEqual({ok, 1}, until_certain(fun() -> consensus(D, get, [1]) end)),
    ?assertEqual([{ok, N} || N <- Set], [consensus(D, get, [N]) || N <- Set]).

a_new_node_is_added(Config) ->
    Nodes = [A, B, C] = nodes_of(Config),
    ?assertEqual(ok, consensus(A, set, [1, one])),
    D = hornbeam_cluster:add_node(cluster(Config), Nodes),
    put(nodes_now, [D | Nodes]),
    start_member(D, 3, Config),
    _ = [await_member(Node, 4) || Node <- [D | Nodes]],
    ?assertEqual({ok, one}, consensus(D, get, [1])),
    %% Three of four are a majority, two are not.
    hornbeam_cluster:kill_node(B),
    ?assertEqual(ok, until_certain(fun() -> consensus(D, set, [1, two]) end)),
    hornbeam_cluster:kill_node(C),
    hornbeam_eventually:holds(fun() -> length(call(D, erlang, nodes, [])) =:= 1 end),
    ?assertEqual({error, {unavailable, no_majority}}, consensus(D, set, [1, three])).

%% As at the end of a node, where applications end one after the other.
a_member_ends_in_order_when_ra_has_ended(Config) ->
    [A, _B, _C] = nodes_of(Config),
    ?assertEqual(shutdown, call(A, ?MODULE, end_of_member_after_ra, [])).

end_of_member_after_ra() ->
    ok = application:stop(ra),
    {member, Pid, _, _} = lists:keyfind(member, 1, supervisor:which_children(hornbeam_sup)),
    Ref = erlang:monitor(process, Pid),
    ok = supervisor:terminate_child(hornbeam_sup, member),
    receive {'DOWN', Ref, process, Pid, Reason} -> Reason end.

a_node_that_is_gone_is_taken_out(Config) ->
    [A, B, C] = nodes_of(Config),
    ?assertEqual({error, running}, consensus(A, remove, [hornbeam_cluster:node(C)])),
    hornbeam_cluster:kill_node(C),
    hornbeam_eventually:holds(fun() -> length(call(A, erlang, nodes, [])) =:= 1 end),
    ?assertEqual(ok, until_certain(fun() ->
        case consensus(A, remove, [hornbeam_cluster:node(C)]) of
            {error, not_member} -> ok;
            Other -> Other
        end
    end)),
    _ = [await_member(Node, 2) || Node <- [A, B]],
    hornbeam_eventually:holds(fun() ->
        consensus(B, remove, [hornbeam_cluster:node(C)]) =:= {error, not_member}
    end).

a_node_that_lost_its_data_is_added_anew(Config) ->
    [A, B, C] = nodes_of(Config),
    ?assertEqual(ok, consensus(A, set, [1, one])),
    hornbeam_cluster:kill_node(C),
    ok = file:del_dir_r(folder(C, Config)),
    D = hornbeam_cluster:start_again(cluster(Config), C),
    put(nodes_now, [A, B, D]),
    _ = [hornbeam_cluster:connect(D, Other) || Other <- [A, B]],
    start_member(D, 3, Config),
    await_member(D, 3),
    ?assertEqual({ok, one}, until_certain(fun() -> consensus(D, get, [1]) end)),
    hornbeam_cluster:kill_node(B),
    ?assertEqual(ok, until_certain(fun() -> consensus(D, set, [1, two]) end)).

%% It has asked others before it was one, and looked for the last time after that.
what_a_member_hears_late_does_not_move_it(Config) ->
    [A, B, C] = nodes_of(Config),
    Members = [hornbeam_cluster:node(Node) || Node <- [A, B, C]],
    hornbeam_eventually:holds(fun() -> element(3, member_state(B)) =:= member end),
    ?assertEqual({member, undefined}, call(B, ?MODULE, hear_of_members, [Members])).

hear_of_members(Members) ->
    Late = {status, self(), {member, Members, false}},
    hornbeam_consensus_member ! {hornbeam_consensus, hornbeam_links:cluster(), Late},
    hornbeam_consensus_member ! look,
    State = sys:get_state(hornbeam_consensus_member),
    {element(3, State), element(7, State)}.

%% As after a disk that was full: the library gives up, and does not begin again by itself.
a_member_whose_log_has_failed_comes_back(Config) ->
    [A, B, C] = nodes_of(Config),
    ?assertEqual(ok, consensus(A, set, [1, one])),
    _ = [call(Node, ?MODULE, end_library, []) || Node <- [A, B, C]],
    ?assertEqual({ok, one}, until_certain(fun() -> consensus(B, get, [1]) end)),
    ?assertEqual(ok, until_certain(fun() -> consensus(C, set, [1, two]) end)),
    ?assertEqual({ok, two}, until_certain(fun() -> consensus(A, get, [1]) end)).

end_library() ->
    Ref = erlang:monitor(process, hornbeam_consensus),
    exit(whereis(ra_systems_sup), kill),
    receive {'DOWN', Ref, process, _, _} -> ok after 30000 -> error(it_goes_on) end.

%% Of 12 000 values of 10 KB one after the other in the same rows, which were 120 MB, what is left
%% on the disk is a snapshot, and the log since.
the_log_is_bounded(Config) ->
    [A, B, C] = nodes_of(Config),
    Value = binary:copy(<<"x">>, 10000),
    ?assertEqual(ok, call(A, ?MODULE, set_many, [12000, Value], 120000)),
    hornbeam_eventually:holds(fun() ->
        lists:max([bytes(folder(Node, Config)) || Node <- [A, B, C]]) < 100000000
    end),
    ?assertMatch(#{rows := 10}, consensus(A, status, [])).

set_many(0, _Value) ->
    ok;
set_many(N, Value) ->
    Self = self(),
    Setters = [spawn_link(fun() -> Self ! {self(), hornbeam_consensus:set(K, Value)} end)
               || K <- lists:seq(1, 10)],
    [ok] = lists:usort([receive {Pid, Done} -> Done end || Pid <- Setters]),
    set_many(N - 10, Value).

bytes(Folder) ->
    lists:sum([filelib:file_size(filename:join(Folder, File))
               || File <- filelib:wildcard("**", Folder)]).

%%% Who leads

the_next_leads_when_a_process_ends(Config) ->
    [A, B, _C] = nodes_of(Config),
    OnA = stander_on(A),
    First = leads(A, OnA),
    OnB = stander_on(B),
    ?assertEqual([], leading_on(B)),
    true = call(A, erlang, exit, [OnA, kill]),
    ?assert(leads(B, OnB) > First).

a_dead_node_is_followed_when_its_time_is_over(Config) ->
    [A, B, C] = nodes_of(Config),
    OnA = stander_on(A),
    First = leads(A, OnA),
    OnB = stander_on(B),
    hornbeam_cluster:kill_node(A),
    ?assert(leads(B, OnB) > First),
    ?assertEqual([], leading_on(C)).

who_is_cut_off_has_lost_before_another_leads(Config) ->
    [A, B, C] = nodes_of(Config),
    OnA = stander_on(A),
    First = leads(A, OnA),
    OnB = stander_on(B),
    _ = [hornbeam_cluster:part(A, Other) || Other <- [B, C]],
    Second = leads_only(B, OnB, A),
    ?assert(Second > First),
    _ = [hornbeam_cluster:meet(A, Other) || Other <- [B, C]],
    ?assertEqual([{<<"name">>, OnB, Second}], leading_on(B)),
    ?assertEqual([], leading_on(A)).

%% Never do both.
leads_only(Node, Pid, Other) ->
    hornbeam_eventually:holds(fun() ->
        OfOther = leading_on(Other),
        case leading_on(Node) of
            [] -> false;
            [{_, Pid, _}] when OfOther =:= [] -> true
        end
    end, 40000),
    leads(Node, Pid).

%%% What they are made of

nodes_of(Config) -> element(2, cluster(Config)).

cluster(Config) -> proplists:get_value(cluster, Config).

nodes_now(Nodes) ->
    case erase(nodes_now) of
        undefined -> Nodes;
        Now -> Now
    end.

call(Node, Module, Function, Args) -> hornbeam_cluster:call(Node, Module, Function, Args).

call(Node, Module, Function, Args, Timeout) ->
    hornbeam_cluster:call(Node, Module, Function, Args, Timeout).

consensus(Node, Function, Args) -> call(Node, hornbeam_consensus, Function, Args).

start_member(Node, Members, Config) ->
    ok = call(Node, ?MODULE, start_member_here, [Members, data_dir(Config)]).

start_member_here(Members, Folder) ->
    Options = #{data_dir => list_to_binary(Folder), members => Members},
    ok = hornbeam_consensus_member:start_ra(Options),
    ok = hornbeam_consensus:enable(true),
    Session = #{id => session, start => {hornbeam_consensus_session, start_link, []}},
    Member = #{id => member, start => {hornbeam_consensus_member, start_link, [Options]}},
    {ok, _} = supervisor:start_child(hornbeam_sup, Session),
    {ok, _} = supervisor:start_child(hornbeam_sup, Member),
    ok.

data_dir(Config) -> filename:join(proplists:get_value(priv_dir, Config), "data").

folder(Node, Config) ->
    filename:join([data_dir(Config), "consensus", atom_to_list(hornbeam_cluster:node(Node))]).

member_state(Node) -> call(Node, sys, get_state, [hornbeam_consensus_member]).

%% It knows so many members, of whom one leads.
await_member(Node, Count) ->
    hornbeam_eventually:holds(fun() ->
        case consensus(Node, members, []) of
            {ok, Members, Leader} when length(Members) =:= Count, Leader =/= undefined -> true;
            Other -> Other
        end
    end, 30000).

leader([Node | _] = Nodes) ->
    {ok, _, Leader} = consensus(Node, members, []),
    hd([Each || Each <- Nodes, hornbeam_cluster:node(Each) =:= Leader]).

%% What it is as soon as the members have agreed who leads.
until_certain(Ask) ->
    Self = self(),
    hornbeam_eventually:holds(fun() ->
        case Ask() of
            {error, _} = Error -> Error;
            Answer -> Self ! {certain, Answer}, true
        end
    end, 30000),
    receive {certain, Answer} -> Answer end.

stander_on(Node) ->
    Pid = call(Node, ?MODULE, start_stander, [<<"name">>]),
    hornbeam_eventually:holds(fun() ->
        Rows = call(Node, ets, tab2list, [hornbeam_leader_candidates]),
        [] =/= [Owner || {{Owner, _}, _, _, _, _} <- Rows, Owner =:= Pid]
    end),
    Pid.

start_stander(Name) ->
    spawn(fun() ->
        {ok, _} = hornbeam_leader:lead(Name),
        receive never -> ok end
    end).

leads(Node, Pid) ->
    hornbeam_eventually:holds(fun() -> lists:keymember(Pid, 2, leading_on(Node)) end, 40000),
    {_, Pid, Token} = lists:keyfind(Pid, 2, leading_on(Node)),
    Token.

leading_on(Node) -> call(Node, hornbeam_leader, leading, []).
