%% Who is present on several nodes: that all nodes say the same, whatever becomes of nodes, links
%% and processes, and how much has to be said for that.
-module(hornbeam_presence_nodes_SUITE).

-include_lib("proper/include/proper.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    who_is_present_on_one_node_is_listed_and_told_on_all/1,
    who_joins_late_is_told_of_all/1,
    what_changes_at_once_is_told_in_pieces/1,
    a_node_that_is_killed_takes_its_rows_along/1,
    a_node_that_starts_anew_leaves_no_ghost/1,
    a_cut_for_a_moment_is_noticed_by_nobody/1,
    a_crash_of_the_server_is_noticed_by_nobody_elsewhere/1,
    what_was_lost_is_said_again/1,
    churn_of_one_row_costs_few_bytes/1,
    a_node_that_stands_still_stops_nobody_and_catches_up/1,
    crowds_that_come_and_go_while_a_node_stands_still_cost_it_no_memory/1,
    rows_of_another_version_are_counted_and_ignored/1,
    all_nodes_say_the_same_after_any_history/1
]).
%% Called on the nodes.
-export([crowd/2, update_crowd/4, churn/2, sent_bytes/0, server_memory/0, forget/2]).

all() ->
    [Name || {Name, 1} <- module_info(exports), Name =/= module_info, Name =/= init_per_suite,
             Name =/= end_per_suite].

init_per_suite(Config) ->
    [{cluster, hornbeam_cluster:start(3)} | Config].

end_per_suite(Config) ->
    hornbeam_cluster:stop(proplists:get_value(cluster, Config)).

init_per_testcase(Name, Config) ->
    {_, [A, B, C]} = proplists:get_value(cluster, Config),
    [{topic, atom_to_binary(Name)}, {a, A}, {b, B}, {c, C} | Config].

end_per_testcase(_Name, Config) ->
    [hornbeam_cluster:resume(Node) || Node <- nodes_of(Config)].

who_is_present_on_one_node_is_listed_and_told_on_all(Config) ->
    {Topic, Nodes = [A | _]} = {topic(Config), nodes_of(Config)},
    Followers = [{Node, hornbeam_agents:follow(Node, Topic)} || Node <- Nodes],
    Agent = hornbeam_agents:start(A),
    {ok, Ref} = track(A, Agent, Topic, <<"ada">>, 1),
    agree(Nodes, Topic, [{<<"ada">>, 1}]),
    [follows(F, #{Ref => {<<"ada">>, #{<<"n">> => 1}}}) || F <- Followers],
    {ok, Second} = update(A, Agent, Topic, <<"ada">>, 2),
    agree(Nodes, Topic, [{<<"ada">>, 2}]),
    [follows(F, #{Second => {<<"ada">>, #{<<"n">> => 2}}}) || F <- Followers],
    hornbeam_agents:kill(A, Agent),
    agree(Nodes, Topic, []),
    [follows(F, #{}) || F <- Followers].

who_joins_late_is_told_of_all(Config) ->
    {Topic, Nodes = [A, B | _]} = {topic(Config), nodes_of(Config)},
    Servers = [server(Node) || Node <- Nodes],
    Crowds = [hornbeam_cluster:call(Node, ?MODULE, crowd, [Topic, Many])
              || {Node, Many} <- [{A, 4000}, {B, 1000}]],
    counted(Nodes, Topic, 5000),
    Late = hornbeam_cluster:add_node(cluster(Config), Nodes),
    counted([Late], Topic, 5000),
    hornbeam_cluster:stop_node(Late),
    [hornbeam_agents:kill(Node, Crowd) || {Node, Crowd} <- lists:zip([A, B], Crowds)],
    counted(Nodes, Topic, 0),
    ?assertEqual(Servers, [server(Node) || Node <- Nodes]).

%% What has changed is more than fits into a message, and more than is kept.
what_changes_at_once_is_told_in_pieces(Config) ->
    {Topic, Nodes = [A | _]} = {topic(Config), nodes_of(Config)},
    Servers = [server(Node) || Node <- Nodes],
    Crowd = hornbeam_cluster:call(A, ?MODULE, crowd, [Topic, 3000]),
    counted(Nodes, Topic, 3000),
    [begin
        ok = hornbeam_cluster:call(A, ?MODULE, update_crowd, [Crowd, Topic, 3000, N]),
        hornbeam_eventually:holds(fun() ->
            lists:usort([M || Node <- Nodes, {_, M} <- listed(Node, Topic)]) =:= [N]
        end)
     end || N <- [-1, -2]],
    hornbeam_agents:kill(A, Crowd),
    counted(Nodes, Topic, 0),
    More = hornbeam_cluster:call(A, ?MODULE, crowd, [Topic, 12000]),
    counted(Nodes, Topic, 12000),
    hornbeam_agents:kill(A, More),
    counted(Nodes, Topic, 0),
    ?assertEqual(Servers, [server(Node) || Node <- Nodes]).

a_node_that_is_killed_takes_its_rows_along(Config) ->
    {Topic, Nodes = [A | _]} = {topic(Config), nodes_of(Config)},
    Victim = hornbeam_cluster:add_node(cluster(Config), Nodes),
    Follower = {A, hornbeam_agents:follow(A, Topic)},
    Agent = hornbeam_agents:start(A),
    {ok, Ref} = track(A, Agent, Topic, <<"ada">>, 1),
    _ = hornbeam_cluster:call(Victim, ?MODULE, crowd, [Topic, 500]),
    counted([Victim | Nodes], Topic, 501),
    hornbeam_cluster:kill_node(Victim),
    agree(Nodes, Topic, [{<<"ada">>, 1}]),
    follows(Follower, #{Ref => {<<"ada">>, #{<<"n">> => 1}}}),
    hornbeam_agents:kill(A, Agent).

a_node_that_starts_anew_leaves_no_ghost(Config) ->
    {Topic, Nodes = [A, B, _]} = {topic(Config), nodes_of(Config)},
    Follower = {B, hornbeam_agents:follow(B, Topic)},
    [begin
        Agent = hornbeam_agents:start(A),
        {ok, _} = track(A, Agent, Topic, <<"ada">>, N),
        {ok, Ref} = update(A, Agent, Topic, <<"ada">>, -N),
        agree(Nodes, Topic, [{<<"ada">>, -N}]),
        follows(Follower, #{Ref => {<<"ada">>, #{<<"n">> => -N}}}),
        hornbeam_cluster:restart(A)
     end || N <- lists:seq(1, 3)],
    agree(Nodes, Topic, []),
    follows(Follower, #{}).

a_cut_for_a_moment_is_noticed_by_nobody(Config) ->
    {Topic, Nodes = [A, B, _]} = {topic(Config), nodes_of(Config)},
    Agent = hornbeam_agents:start(A),
    {ok, _} = track(A, Agent, Topic, <<"ada">>, 1),
    agree(Nodes, Topic, [{<<"ada">>, 1}]),
    Follower = hornbeam_agents:follow(B, Topic),
    hornbeam_cluster:disconnect(A, B),
    hornbeam_cluster:heal([A, B]),
    {ok, Ref} = track(A, Agent, Topic, <<"bob">>, 2),
    agree(Nodes, Topic, [{<<"ada">>, 1}, {<<"bob">>, 2}]),
    hornbeam_eventually:holds(fun() ->
        is_map_key(Ref, element(1, hornbeam_agents:followed(B, Follower)))
    end),
    {_, Told} = hornbeam_agents:followed(B, Follower),
    ?assertMatch([{<<"presence_diff">>, #{<<"leaves">> := Leaves}}] when Leaves =:= #{}, Told),
    hornbeam_agents:kill(A, Agent).

a_crash_of_the_server_is_noticed_by_nobody_elsewhere(Config) ->
    {Topic, Nodes = [A, B, _]} = {topic(Config), nodes_of(Config)},
    Agent = hornbeam_agents:start(A),
    {ok, _} = track(A, Agent, Topic, <<"ada">>, 1),
    agree(Nodes, Topic, [{<<"ada">>, 1}]),
    Follower = hornbeam_agents:follow(B, Topic),
    crash(A),
    {ok, _} = track(A, Agent, Topic, <<"bob">>, 2),
    agree(Nodes, Topic, [{<<"ada">>, 1}, {<<"bob">>, 2}]),
    {_, Told} = hornbeam_agents:followed(B, Follower),
    ?assertEqual([], [Leaves || {_, #{<<"leaves">> := Leaves}} <- Told, Leaves =/= #{}]),
    hornbeam_agents:kill(A, Agent).

%% The link says that something was, and not what.
what_was_lost_is_said_again(Config) ->
    {Topic, Nodes = [A, B, _]} = {topic(Config), nodes_of(Config)},
    Agent = hornbeam_agents:start(A),
    {ok, _} = track(A, Agent, Topic, <<"ada">>, 1),
    agree(Nodes, Topic, [{<<"ada">>, 1}]),
    hornbeam_cluster:call(B, ?MODULE, forget, [Topic, <<"ada">>]),
    ?assertEqual([], listed(B, Topic)),
    hornbeam_cluster:call(A, erlang, send, [hornbeam_presence_server,
                                            {hornbeam_link, lost, own(B)}]),
    agree(Nodes, Topic, [{<<"ada">>, 1}]),
    hornbeam_agents:kill(A, Agent).

churn_of_one_row_costs_few_bytes(Config) ->
    {Topic, Nodes = [A | _]} = {topic(Config), nodes_of(Config)},
    hornbeam_cluster:call(A, ?MODULE, churn, [Topic, 10]),
    Before = hornbeam_cluster:call(A, ?MODULE, sent_bytes, []),
    {Time, ok} = hornbeam_cluster:call(A, timer, tc, [?MODULE, churn, [Topic, 20000]]),
    agree(Nodes, Topic, []),
    After = hornbeam_cluster:call(A, ?MODULE, sent_bytes, []),
    %% A row of about 250 bytes to each of two peers, each 50 ms, and some answers and heartbeats.
    ?assert(After - Before < 20000 + (Time div 50000) * 2 * 500, {Time, After - Before}).

a_node_that_stands_still_stops_nobody_and_catches_up(Config) ->
    {Topic, Nodes = [A, B, C]} = {topic(Config), nodes_of(Config)},
    Agent = hornbeam_agents:start(A),
    {ok, _} = track(A, Agent, Topic, <<"before">>, 1),
    agree(Nodes, Topic, [{<<"before">>, 1}]),
    hornbeam_cluster:pause(C),
    Rows = [{integer_to_binary(N), N} || N <- lists:seq(1, 300)],
    [{ok, _} = track(A, Agent, Topic, Key, N) || {Key, N} <- Rows],
    true = hornbeam_agents:do(A, Agent, {hornbeam_presence, untrack}, [Topic, <<"before">>]),
    agree([A, B], Topic, Rows),
    hornbeam_cluster:resume(C),
    agree(Nodes, Topic, Rows),
    hornbeam_agents:kill(A, Agent),
    agree(Nodes, Topic, []).

crowds_that_come_and_go_while_a_node_stands_still_cost_it_no_memory(Config) ->
    {Topic, Nodes = [A, B, C]} = {topic(Config), nodes_of(Config)},
    hornbeam_cluster:pause(C),
    Bytes = fun() -> hornbeam_cluster:call(A, ?MODULE, server_memory, []) end,
    Before = Bytes(),
    [begin
        Crowd = hornbeam_cluster:call(A, ?MODULE, crowd, [Topic, 2000]),
        hornbeam_agents:kill(A, Crowd),
        counted([A, B], Topic, 0)
     end || _ <- lists:seq(1, 15)],
    ?assert(Bytes() - Before < 5000000),
    Last = hornbeam_cluster:call(A, ?MODULE, crowd, [Topic, 100]),
    hornbeam_cluster:resume(C),
    counted(Nodes, Topic, 100),
    hornbeam_agents:kill(A, Last).

rows_of_another_version_are_counted_and_ignored(Config) ->
    {Topic, [A, B, _] = Nodes} = {topic(Config), nodes_of(Config)},
    Agent = hornbeam_agents:start(A),
    {ok, _} = track(A, Agent, Topic, <<"ada">>, 1),
    agree(Nodes, Topic, [{<<"ada">>, 1}]),
    Pid = hornbeam_cluster:call(B, erlang, whereis, [hornbeam_presence_server]),
    Unknown = [{9999999, {Topic, <<"bob">>, <<"ref">>, none, <<"no map">>, more}},
               {9999998, {Topic, <<"bob">>, <<"ref">>, none, <<"no map">>}},
               {9999997, {Topic, <<"bob">>, <<"ref">>, 7, <<16#80>>}},
               {9999995, {Topic, <<16#ff>>, <<"ref">>, none, <<16#80>>}},
               {more, {Topic, <<"bob">>, <<"ref">>, none, <<16#80>>}},
               {9999996, {Topic, <<"bob">>, <<"ref">>, none, <<16#80>>}, more}, more],
    {here, Number} = hornbeam_cluster:call(A, hornbeam_presence_rows, next, [{here, 0}]),
    [ok = hornbeam_cluster:call(A, hornbeam_links, send, [own(B), presence, {changes, 1, Said}])
     || Said <- [Unknown, [{float(Number), gone}]]],
    [ok = hornbeam_cluster:call(A, hornbeam_links, send, [own(B), presence, Message])
     || Message <- [{of_the_future, 1}, {changes, 1, #{}}, {changes, 1, [more | rows]},
                    {part, 1, {key, 9999990, more}, last, Unknown}, {part, 1, start, more, []},
                    {part, 1, {key, 9999990}, last, more},
                    {part, 1, {key, 9999990}, last, [more]}]],
    hornbeam_eventually:holds(fun() ->
        #{{presence, not_understood} := N} =
            maps:merge(#{{presence, not_understood} => 0},
                       hornbeam_cluster:call(B, hornbeam_link_queue, losses, [])),
        N =:= 15
    end),
    ?assertEqual(Pid, hornbeam_cluster:call(B, erlang, whereis, [hornbeam_presence_server])),
    agree(Nodes, Topic, [{<<"ada">>, 1}]),
    hornbeam_agents:kill(A, Agent).

%%% Any history

%% Agents are named by their node and a number.
all_nodes_say_the_same_after_any_history(Config) ->
    ?assert(hornbeam_histories:hold(step(), fun agrees/2, nodes_of(Config))).

step() ->
    Owner = {integer(1, 3), integer(1, 3)},
    frequency([{8, {track, Owner, key(), integer(1, 5)}},
               {8, {update, Owner, key(), integer(1, 5)}},
               {4, {untrack, Owner, key()}},
               {3, {kill, Owner}},
               {1, {crash, integer(1, 3)}},
               {1, {restart, integer(1, 3)}},
               {1, {cut, integer(1, 3), integer(1, 3)}},
               {1, {heal, integer(1, 3), integer(1, 3)}}]).

key() -> oneof([<<"a">>, <<"b">>]).

agrees(History, Nodes) ->
    Topic = integer_to_binary(erlang:unique_integer([positive])),
    Numbered = maps:from_list(lists:zip([1, 2, 3], Nodes)),
    Followers = maps:map(fun(_, Node) -> hornbeam_agents:follow(Node, Topic) end, Numbered),
    State = #{topic => Topic, nodes => Numbered, agents => #{}, rows => #{},
              followers => Followers},
    Last = #{rows := Rows} = lists:foldl(fun run/2, State, History),
    hornbeam_cluster:heal(Nodes),
    agree(Nodes, Topic, [{Key, N} || {{_, Key}, N} <- maps:to_list(Rows)]),
    maps:foreach(fun(Number, Follower) ->
        follows({map_get(Number, Numbered), Follower}, Rows, Topic)
    end, maps:get(followers, Last)),
    maps:foreach(fun({Number, _}, Agent) ->
        hornbeam_agents:kill(map_get(Number, Numbered), Agent)
    end, maps:get(agents, Last)),
    agree(Nodes, Topic, []),
    true.

run({How, {Number, _} = Owner, Key, N}, #{topic := Topic} = State) ->
    #{rows := Rows, nodes := #{Number := Node}} = New = with_agent(Owner, State),
    #{agents := #{Owner := Agent}} = New,
    Result = case How of
        track -> track(Node, Agent, Topic, Key, N);
        update -> update(Node, Agent, Topic, Key, N)
    end,
    case {How, Rows, Result} of
        {update, #{{Owner, Key} := _}, {ok, _}} -> New#{rows := Rows#{{Owner, Key} => N}};
        {update, #{}, {error, not_present}} -> New;
        {track, _, {ok, _}} -> New#{rows := Rows#{{Owner, Key} => N}}
    end;
run({untrack, {Number, _} = Owner, Key}, #{topic := Topic} = State) ->
    #{rows := Rows, nodes := #{Number := Node}} = New = with_agent(Owner, State),
    #{agents := #{Owner := Agent}} = New,
    Was = hornbeam_agents:do(Node, Agent, {hornbeam_presence, untrack}, [Topic, Key]),
    Was = is_map_key({Owner, Key}, Rows),
    New#{rows := maps:remove({Owner, Key}, Rows)};
run({kill, {Number, _} = Owner}, #{agents := Agents, nodes := Nodes} = State) ->
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
run({restart, Number}, #{nodes := Nodes, topic := Topic, followers := Followers} = State) ->
    Node = map_get(Number, Nodes),
    hornbeam_cluster:restart(Node),
    Follower = hornbeam_agents:follow(Node, Topic),
    without(fun({Of, _}) -> Of =:= Number end,
            State#{followers := Followers#{Number := Follower}});
run({cut, A, B}, #{nodes := Nodes} = State) ->
    _ = [hornbeam_cluster:disconnect(map_get(A, Nodes), map_get(B, Nodes)) || A =/= B],
    State;
run({heal, A, B}, #{nodes := Nodes} = State) ->
    hornbeam_cluster:heal([map_get(A, Nodes), map_get(B, Nodes)]),
    State.

with_agent({Number, _} = Owner, #{agents := Agents, nodes := Nodes} = State) ->
    case Agents of
        #{Owner := _} -> State;
        #{} -> State#{agents := Agents#{Owner => hornbeam_agents:start(map_get(Number, Nodes))}}
    end.

%% With the application go the rows of processes that live on.
without(IsGone, #{agents := Agents, rows := Rows} = State) ->
    State#{agents := maps:filter(fun(Owner, _) -> not IsGone(Owner) end, Agents),
           rows := maps:filter(fun({Owner, _}, _) -> not IsGone(Owner) end, Rows)}.

%%% Helpers

topic(Config) -> proplists:get_value(topic, Config).
cluster(Config) -> proplists:get_value(cluster, Config).
nodes_of(Config) -> element(2, cluster(Config)).
own(Node) -> hornbeam_cluster:call(Node, hornbeam_links, own, []).

track(Node, Agent, Topic, Key, N) ->
    hornbeam_agents:do(Node, Agent, {hornbeam_presence, track}, [Topic, Key, #{n => N}]).

update(Node, Agent, Topic, Key, N) ->
    hornbeam_agents:do(Node, Agent, {hornbeam_presence, update}, [Topic, Key, #{n => N}]).

listed(Node, Topic) ->
    List = hornbeam_cluster:call(Node, hornbeam_presence, list, [Topic]),
    lists:sort([{Key, N} || {Key, #{<<"metas">> := Metas}} <- maps:to_list(List),
                            #{<<"n">> := N} <- Metas]).

agree(Nodes, Topic, Rows) ->
    Keys = length(lists:usort([Key || {Key, _} <- Rows])),
    Expected = {lists:sort(Rows), Keys},
    [hornbeam_eventually:holds(fun() ->
        Found = {listed(Node, Topic), count(Node, Topic)},
        Found =:= Expected orelse {Node, Found, Expected}
     end) || Node <- Nodes].

counted(Nodes, Topic, Many) ->
    [hornbeam_eventually:holds(fun() -> count(Node, Topic) =:= Many end) || Node <- Nodes].

count(Node, Topic) ->
    hornbeam_cluster:call(Node, hornbeam_presence, count, [Topic]).

follows({Node, Follower}, Known) ->
    hornbeam_eventually:holds(fun() ->
        {Found, _} = hornbeam_agents:followed(Node, Follower),
        Found =:= Known orelse {Node, Found, Known}
    end).

%% As many, with the metas that are known.
follows({Node, Follower}, Rows, Topic) ->
    Expected = lists:sort([{Key, #{<<"n">> => N}} || {{_, Key}, N} <- maps:to_list(Rows)]),
    hornbeam_eventually:holds(fun() ->
        {Found, _} = hornbeam_agents:followed(Node, Follower),
        lists:sort(maps:values(Found)) =:= Expected orelse {Node, Topic, Found, Expected}
    end).

%% It may be that it is there already.
crash(Node) ->
    hornbeam_cluster:call(Node, hornbeam_eventually, dead, [server(Node)]).

server(Node) ->
    case hornbeam_cluster:call(Node, erlang, whereis, [hornbeam_presence_server]) of
        undefined -> server(Node);
        Pid -> Pid
    end.

%%% On the nodes

%% A process that is present under many keys.
crowd(Topic, Many) ->
    Caller = self(),
    Crowd = spawn(fun() ->
        [{ok, _} = hornbeam_presence:track(Topic, key(Topic, N), #{n => N})
         || N <- lists:seq(1, Many)],
        Caller ! {self(), present},
        crowd_on()
    end),
    receive {Crowd, present} -> Crowd after 30000 -> error(not_present) end.

crowd_on() ->
    receive
        {From, update, Topic, Many, Value} ->
            [{ok, _} = hornbeam_presence:update(Topic, key(Topic, N), #{n => Value})
             || N <- lists:seq(1, Many)],
            From ! {self(), updated},
            crowd_on()
    end.

update_crowd(Crowd, Topic, Many, Value) ->
    Crowd ! {self(), update, Topic, Many, Value},
    receive {Crowd, updated} -> ok after 30000 -> error(not_updated) end.

key(_Topic, N) -> iolist_to_binary([atom_to_binary(node()), $:, integer_to_binary(N)]).

churn(Topic, Times) ->
    {ok, _} = hornbeam_presence:track(Topic, churn, #{n => 0}),
    [{ok, _} = hornbeam_presence:update(Topic, churn, #{n => N}) || N <- lists:seq(1, Times)],
    true = hornbeam_presence:untrack(Topic, churn),
    ok.

%% To all peers, as the emulator counts it.
sent_bytes() ->
    lists:sum([Bytes || {_, Port} <- erlang:system_info(dist_ctrl), is_port(Port),
                        {ok, [{send_oct, Bytes}]} <- [inet:getstat(Port, [send_oct])]]).

server_memory() ->
    Pid = whereis(hornbeam_presence_server),
    true = erlang:garbage_collect(Pid),
    {memory, Memory} = process_info(Pid, memory),
    Memory.

%% A row is gone as if it had never been said.
forget(Topic, Key) ->
    [begin
        true = ets:delete(hornbeam_presences, Id),
        true = ets:delete(hornbeam_presence_ids, Source)
     end || {{T, K, Source} = Id, _, _, _, _} <- ets:tab2list(hornbeam_presences),
            T =:= Topic, K =:= Key],
    true = ets:delete(hornbeam_presence_topics, Topic).
