%% Counters of all nodes: what is counted for good and what until an owner ends, on one node and on
%% several, whatever becomes of owners, nodes, links and the server.
-module(hornbeam_cluster_counter_SUITE).

-include_lib("proper/include/proper.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, init_per_group/2, end_per_group/2]).
-export([init_per_testcase/2, end_per_testcase/2]).
-export([
    what_is_added_is_the_sum/1,
    what_an_owner_has_added_ends_with_it/1,
    what_is_no_sum_that_can_travel_changes_nothing/1,
    a_key_is_one_of_the_state/1,
    all_goes_on_after_a_crash/1,
    who_died_while_the_server_was_away_has_added_nothing/1,
    what_is_kept_is_counted_and_bounded/1,
    all_nodes_count_together/1,
    a_dead_nodes_connections_are_taken_back_and_the_rest_stays/1,
    a_node_that_comes_back_is_told_what_it_has_counted/1,
    who_heard_most_of_a_dead_node_tells_the_others/1,
    columns_of_another_version_are_counted_and_ignored/1,
    all_nodes_have_one_sum_after_any_history/1,
    a_part_costs_what_is_in_it/1
]).
%% Called on the nodes.
-export([incr_bound/2, forget_column/2, count_many/2]).

%% More than all steps of a history add up to.
-define(MUCH, 1000000).

all() -> [{group, one_node}, {group, nodes}].

groups() ->
    [{one_node, [what_is_added_is_the_sum, what_an_owner_has_added_ends_with_it,
                 what_is_no_sum_that_can_travel_changes_nothing, a_key_is_one_of_the_state,
                 all_goes_on_after_a_crash, who_died_while_the_server_was_away_has_added_nothing,
                 what_is_kept_is_counted_and_bounded]},
     {nodes, [all_nodes_count_together,
              a_dead_nodes_connections_are_taken_back_and_the_rest_stays,
              a_node_that_comes_back_is_told_what_it_has_counted,
              who_heard_most_of_a_dead_node_tells_the_others,
              columns_of_another_version_are_counted_and_ignored,
              all_nodes_have_one_sum_after_any_history, a_part_costs_what_is_in_it]}].

init_per_group(one_node, Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config;
init_per_group(nodes, Config) ->
    [{cluster, hornbeam_cluster:start(3)} | Config].

end_per_group(one_node, _Config) -> ok = application:stop(hornbeam);
end_per_group(nodes, Config) -> hornbeam_cluster:stop(cluster(Config)).

init_per_testcase(Name, Config) -> [{key, atom_to_binary(Name)} | Config].

end_per_testcase(_Name, _Config) -> ok.

%%% One node

what_is_added_is_the_sum(Config) ->
    Key = key(Config),
    ?assertEqual(undefined, hornbeam_cluster_counter:get(Key)),
    ?assertEqual([{ok, 1}, {ok, 6}, {ok, 5.5}],
                 [hornbeam_cluster_counter:incr(Key), hornbeam_cluster_counter:incr(Key, 5),
                  hornbeam_cluster_counter:incr(Key, -0.5)]),
    ?assertEqual(5.5, hornbeam_cluster_counter:get(Key)),
    ?assertEqual(undefined, hornbeam_cluster_counter:get({Key, 1})).

what_an_owner_has_added_ends_with_it(Config) ->
    Key = key(Config),
    [A, B] = [owner(), owner()],
    {ok, 10} = hornbeam_cluster_counter:incr(Key, 10),
    [{ok, 11}, {ok, 13}, {ok, 17}] =
        [hornbeam_counter_server:incr_bound(Owner, Key, By)
         || {Owner, By} <- [{A, 1}, {B, 2}, {A, 4}]],
    hornbeam_eventually:dead(A),
    hornbeam_eventually:holds(fun() -> hornbeam_cluster_counter:get(Key) =:= 12 end),
    hornbeam_eventually:dead(B),
    hornbeam_eventually:holds(fun() -> hornbeam_cluster_counter:get(Key) =:= 10 end),
    ?assertEqual({error, closed}, hornbeam_counter_server:incr_bound(A, Key, 1)),
    ?assertEqual(10, hornbeam_cluster_counter:get(Key)).

what_is_no_sum_that_can_travel_changes_nothing(Config) ->
    Key = key(Config),
    Owner = owner(),
    {ok, 1.0e308} = hornbeam_cluster_counter:incr(Key, 1.0e308),
    ?assertEqual({error, overflow}, hornbeam_cluster_counter:incr(Key, 1.0e308)),
    ?assertEqual({error, overflow}, hornbeam_counter_server:incr_bound(Owner, Key, 1.0e308)),
    {ok, 1.0e308} = hornbeam_counter_server:incr_bound(Owner, Key, 1),
    hornbeam_eventually:dead(Owner),
    ?assertEqual(1.0e308, hornbeam_cluster_counter:get(Key)).

a_key_is_one_of_the_state(_Config) ->
    ?assertError({bad_key, 1.5}, hornbeam_cluster_counter:incr(1.5)),
    ?assertError({bad_key, atom}, hornbeam_cluster_counter:get(atom)),
    {ok, 1} = hornbeam_cluster_counter:incr({<<"a">>, 1, {bytes, <<255>>}}).

all_goes_on_after_a_crash(Config) ->
    Key = key(Config),
    Owner = owner(),
    {ok, 3} = hornbeam_cluster_counter:incr(Key, 3),
    {ok, 5} = hornbeam_counter_server:incr_bound(Owner, Key, 2),
    %% As if it had crashed behind the first of two steps.
    hornbeam_counter_columns:note_added(Owner, Key, 4),
    hornbeam_eventually:dead(whereis(hornbeam_counter_server)),
    ?assertEqual({ok, 8}, hornbeam_cluster_counter:incr(Key)),
    hornbeam_eventually:dead(Owner),
    hornbeam_eventually:holds(fun() -> hornbeam_cluster_counter:get(Key) =:= 4 end).

who_died_while_the_server_was_away_has_added_nothing(Config) ->
    Key = key(Config),
    Owner = owner(),
    {ok, 2} = hornbeam_counter_server:incr_bound(Owner, Key, 2),
    ok = supervisor:terminate_child(hornbeam_api_sup, hornbeam_counter_server),
    hornbeam_eventually:dead(Owner),
    {ok, _} = supervisor:restart_child(hornbeam_api_sup, hornbeam_counter_server),
    hornbeam_eventually:holds(fun() -> hornbeam_cluster_counter:get(Key) =:= undefined end).

what_is_kept_is_counted_and_bounded(Config) ->
    Key = key(Config),
    Owner = owner(),
    {Bytes, Rows} = kind(),
    set_limits(#{connection_state_max_rows => 2}),
    Incr = fun(N) -> hornbeam_counter_server:incr_bound(Owner, {Key, N}, 1) end,
    ?assertMatch([{ok, 1}, {ok, 1}, {ok, 2}, {error, {limit, connection_state_max_rows}}],
                 [Incr(N) || N <- [1, 2, 2, 3]]),
    ?assertEqual(Rows + 4, element(2, kind())),
    set_limits(#{state_max_rows => maps:get(rows, hornbeam_quota:info())}),
    ?assertEqual({error, {limit, state_max_rows}}, hornbeam_cluster_counter:incr({Key, 4})),
    ?assertEqual(undefined, hornbeam_cluster_counter:get({Key, 4})),
    hornbeam_eventually:dead(Owner),
    hornbeam_eventually:holds(fun() -> kind() =:= {Bytes, Rows} end),
    set_limits(#{}).

%%% Several nodes

all_nodes_count_together(Config) ->
    {Key, Nodes = [A, B, C]} = {key(Config), nodes_of(Config)},
    [{ok, _} = incr(Node, Key, By) || {Node, By} <- [{A, 1}, {B, 20}, {C, 300}, {A, -2}]],
    agree(Nodes, Key, 319),
    Agent = hornbeam_agents:start(B),
    {ok, 324} = hornbeam_agents:do(B, Agent, {?MODULE, incr_bound}, [Key, 5]),
    agree(Nodes, Key, 324),
    hornbeam_agents:kill(B, Agent),
    agree(Nodes, Key, 319).

a_dead_nodes_connections_are_taken_back_and_the_rest_stays(Config) ->
    {Key, Nodes = [A | _]} = {key(Config), nodes_of(Config)},
    Victim = hornbeam_cluster:add_node(cluster(Config), Nodes),
    {ok, 1} = incr(A, Key, 1),
    agree([Victim], Key, 1),
    {ok, 11} = incr(Victim, Key, 10),
    Agent = hornbeam_agents:start(Victim),
    {ok, 111} = hornbeam_agents:do(Victim, Agent, {?MODULE, incr_bound}, [Key, 100]),
    agree(Nodes, Key, 111),
    hornbeam_cluster:kill_node(Victim),
    agree(Nodes, Key, 11),
    Late = hornbeam_cluster:add_node(cluster(Config), Nodes),
    agree([Late | Nodes], Key, 11),
    hornbeam_cluster:stop_node(Late).

a_node_that_comes_back_is_told_what_it_has_counted(Config) ->
    {Key, Nodes = [A | _]} = {key(Config), nodes_of(Config)},
    [begin
        {ok, _} = incr(A, Key, 10),
        agree(Nodes, Key, 10 * N),
        hornbeam_cluster:restart(A),
        agree(Nodes, Key, 10 * N)
     end || N <- lists:seq(1, 3)].

%% What one of the others has missed of its last words.
who_heard_most_of_a_dead_node_tells_the_others(Config) ->
    {Key, Nodes = [_, B, C]} = {key(Config), nodes_of(Config)},
    Victim = hornbeam_cluster:add_node(cluster(Config), Nodes),
    {ok, 7} = incr(Victim, Key, 7),
    agree(Nodes, Key, 7),
    [hornbeam_cluster:call(Node, ?MODULE, forget_column, [Key, hornbeam_cluster:node(Victim)])
     || Node <- [B, C]],
    ?assertEqual([undefined, undefined], [get(Node, Key) || Node <- [B, C]]),
    hornbeam_cluster:kill_node(Victim),
    agree(Nodes, Key, 7).

columns_of_another_version_are_counted_and_ignored(Config) ->
    {Key, [A, B | _] = Nodes} = {key(Config), nodes_of(Config)},
    {ok, 1} = incr(A, Key, 1),
    agree(Nodes, Key, 1),
    Peer = hornbeam_cluster:call(B, hornbeam_links, own, []),
    Unknown = [{{Key, {weird, 1}}, {5, 1}}, {{Key, {bound, here}}, {text, 1}},
               {{Key, x}, {1, 2, 3}}, {{#{}, {bound, here}}, {1, 1}}, {no_id, gone},
               {{1.5, {lasting, Peer}}, {1, 1}}, {{Key, {bound, here}}, {1, 1}, more}, more],
    [ok = hornbeam_cluster:call(A, hornbeam_links, send, [Peer, counters, Message])
     || Message <- [{changes, 1, Unknown}, {changes, 1, more}, {part, 1, more, last, []}]],
    hornbeam_eventually:holds(fun() ->
        maps:get({counters, not_understood},
                 hornbeam_cluster:call(B, hornbeam_link_queue, losses, []), 0) =:= 10
    end),
    agree(Nodes, Key, 1).

%% Whatever is counted besides: all is told in many parts, and who counts waits for each.
a_part_costs_what_is_in_it(Config) ->
    {[A, B | _] = Nodes, Many} = {nodes_of(Config), 20000},
    Key = hornbeam_cluster:call(B, ?MODULE, count_many, [key(Config), Many]),
    agree(Nodes, Key, 1),
    Peer = hornbeam_cluster:call(B, hornbeam_links, own, []),
    Send = fun(Message) ->
        ok = hornbeam_cluster:call(A, hornbeam_links, send, [Peer, counters, Message])
    end,
    {Id, Parts} = {{key, {Key, {bound, here}}}, 20},
    Before = {Ignored, _} = ignored_and_reductions(B),
    [Send({part, 1, Id, Id, []}) || _ <- lists:seq(1, Parts)],
    Send(end_of_the_parts),
    hornbeam_eventually:holds(fun() -> element(1, ignored_and_reductions(B)) > Ignored end),
    Reductions = element(2, ignored_and_reductions(B)) - element(2, Before),
    ?assert(Reductions < Parts * Many, Reductions).

ignored_and_reductions(Node) ->
    Losses = hornbeam_cluster:call(Node, hornbeam_link_queue, losses, []),
    Server = hornbeam_cluster:call(Node, erlang, whereis, [hornbeam_counter_server]),
    {reductions, Reductions} = hornbeam_cluster:call(Node, erlang, process_info,
                                                     [Server, reductions]),
    {maps:get({counters, not_understood}, Losses, 0), Reductions}.

%% The last key.
count_many(Key, Many) ->
    Keys = [{Key, N} || N <- lists:seq(1, Many)],
    lists:foreach(fun(One) -> {ok, 1} = hornbeam_cluster_counter:incr(One) end, Keys),
    lists:last(Keys).

%%% Any history

all_nodes_have_one_sum_after_any_history(Config) ->
    ?assert(hornbeam_histories:hold(step(), fun agrees/2, nodes_of(Config))).

step() ->
    N = integer(1, 3),
    frequency([{8, {incr, N, integer(-9, 9)}},
               {8, {incr_bound, {N, integer(1, 3)}, integer(-9, 9)}},
               {3, {kill, {N, integer(1, 3)}}},
               {1, {crash, N}},
               {1, {restart, N}},
               {1, {cut, N, integer(1, 3)}},
               {1, heal}]).

agrees(History, Nodes) ->
    Key = integer_to_binary(erlang:unique_integer([positive])),
    State = #{key => Key, nodes => maps:from_list(lists:zip([1, 2, 3], Nodes)), agents => #{},
              lasting => 0, bound => #{}},
    Last = lists:foldl(fun run/2, State, History),
    #{lasting := Lasting, bound := Bound, agents := Agents} = Last,
    hornbeam_cluster:heal(Nodes),
    agree_on(Nodes, Key, Lasting + lists:sum(maps:values(Bound))),
    maps:foreach(fun({Number, _}, Agent) ->
        hornbeam_agents:kill(lists:nth(Number, Nodes), Agent)
    end, Agents),
    agree_on(Nodes, Key, Lasting),
    true.

run({incr, Number, By}, #{key := Key, nodes := Nodes, lasting := Lasting} = State) ->
    {ok, _} = incr(map_get(Number, Nodes), Key, By),
    State#{lasting := Lasting + By};
run({incr_bound, {Number, _} = Owner, By}, State) ->
    #{key := Key, nodes := Nodes, agents := Agents, bound := Bound} = State,
    Node = map_get(Number, Nodes),
    Agent = case Agents of
        #{Owner := Known} -> Known;
        #{} -> hornbeam_agents:start(Node)
    end,
    {ok, _} = hornbeam_agents:do(Node, Agent, {?MODULE, incr_bound}, [Key, By]),
    State#{agents := Agents#{Owner => Agent},
           bound := Bound#{Owner => By + maps:get(Owner, Bound, 0)}};
run({kill, {Number, _} = Owner}, #{nodes := Nodes, agents := Agents} = State) ->
    case Agents of
        #{Owner := Agent} ->
            hornbeam_agents:kill(map_get(Number, Nodes), Agent),
            without(fun(Of) -> Of =:= Owner end, State);
        #{} ->
            State
    end;
run({crash, Number}, #{nodes := Nodes} = State) ->
    crash(map_get(Number, Nodes)),
    State;
%% What nobody has heard of would be gone with it. So it counts so much that the sum is none that
%% anybody had before.
run({restart, Number}, #{key := Key, nodes := Nodes} = State0) ->
    #{lasting := Lasting, bound := Bound} = State = run({incr, Number, ?MUCH}, State0),
    hornbeam_cluster:heal(maps:values(Nodes)),
    agree_on(maps:values(Nodes), Key, Lasting + lists:sum(maps:values(Bound))),
    hornbeam_cluster:restart(map_get(Number, Nodes)),
    without(fun({Of, _}) -> Of =:= Number end, State);
run({cut, A, B}, #{nodes := Nodes} = State) ->
    _ = [hornbeam_cluster:disconnect(map_get(A, Nodes), map_get(B, Nodes)) || A =/= B],
    State;
run(heal, #{nodes := Nodes} = State) ->
    hornbeam_cluster:heal(maps:values(Nodes)),
    State.

without(IsGone, #{agents := Agents, bound := Bound} = State) ->
    State#{agents := maps:filter(fun(Owner, _) -> not IsGone(Owner) end, Agents),
           bound := maps:filter(fun(Owner, _) -> not IsGone(Owner) end, Bound)}.

%%% Helpers

key(Config) -> proplists:get_value(key, Config).
cluster(Config) -> proplists:get_value(cluster, Config).
nodes_of(Config) -> element(2, cluster(Config)).

incr(Node, Key, By) -> hornbeam_cluster:call(Node, hornbeam_cluster_counter, incr, [Key, By]).
get(Node, Key) -> hornbeam_cluster:call(Node, hornbeam_cluster_counter, get, [Key]).

agree(Nodes, Key, Sum) ->
    [hornbeam_eventually:holds(fun() ->
        Found = get(Node, Key),
        Found =:= Sum orelse {Node, Found, Sum}
     end) || Node <- Nodes].

%% Nobody may have counted at all.
agree_on(Nodes, Key, 0) ->
    [hornbeam_eventually:holds(fun() -> lists:member(get(Node, Key), [0, undefined]) end)
     || Node <- Nodes];
agree_on(Nodes, Key, Sum) ->
    agree(Nodes, Key, Sum).

crash(Node) ->
    case hornbeam_cluster:call(Node, erlang, whereis, [hornbeam_counter_server]) of
        undefined -> crash(Node);
        Pid -> hornbeam_cluster:call(Node, hornbeam_eventually, dead, [Pid])
    end.

owner() ->
    spawn(fun() -> receive stop -> ok end end).

set_limits(Limits) ->
    hornbeam_quota:set_limits(maps:merge(hornbeam_config:defaults(server), Limits)).

kind() ->
    #{kinds := #{counters := #{bytes := Bytes, rows := Rows}}} = hornbeam_quota:info(),
    {Bytes, Rows}.

%%% On the nodes

incr_bound(Key, By) -> hornbeam_counter_server:incr_bound(self(), Key, By).

%% A copy of a column is gone as if it had never been said.
forget_column(Key, Node) ->
    [hornbeam_counter_columns:delete(Id)
     || {{K, {lasting, {Of, _}}} = Id, _, _} <- hornbeam_counter_columns:all(),
        K =:= Key, Of =:= Node].
