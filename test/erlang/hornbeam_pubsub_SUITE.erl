%% Topics on one node and on two: who gets what, how often, in which order, and what is counted.
-module(hornbeam_pubsub_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, init_per_suite/1, end_per_suite/1]).
-export([init_per_group/2, end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([
    a_subscribed_process_gets_the_term/1,
    subscribing_twice_is_once_and_unsubscribing_twice_is_none/1,
    topics_are_apart/1,
    the_dead_are_no_subscribers/1,
    a_dead_process_cannot_subscribe/1,
    each_publishers_order_is_kept/1,
    what_python_published_is_a_term_for_erlang/1,
    a_value_that_a_subscriber_cannot_read_is_an_error_and_nobody_gets_it/1,
    a_worker_gets_one_event_for_all_its_streams/1,
    a_dead_workers_subscriptions_are_gone/1,
    events_past_the_window_are_dropped_and_counted/1,
    a_term_without_a_form_on_the_wire_is_an_error_and_nobody_gets_it/1,
    a_forwarding_connection_gets_the_frame/1,
    an_event_stream_gets_the_event/1,
    what_an_event_stream_has_no_form_for_is_an_error_and_nobody_gets_it/1,
    a_value_without_a_json_form_is_an_error_and_nobody_gets_it/1,
    subscribing_another_way_changes_the_way/1,
    a_slow_connection_loses_the_oldest_and_they_are_counted/1,
    all_goes_on_after_a_crash_of_a_server/1,
    a_crash_of_one_server_is_nothing_to_the_other/1,
    subscribing_waits_for_nothing_that_concerns_other_nodes/1,
    who_died_while_the_server_was_away_is_gone/1,
    routes_are_made_to_agree_with_the_subscriptions/1,
    a_subscription_is_never_away_while_it_is_changed/1,
    crowds_are_forgotten_as_quickly_as_they_come/1,
    a_parcel_has_all_that_was_published_and_a_part_of_one_nothing/1,
    nodes_share_topics/1,
    one_message_a_node_crosses_the_distribution/1,
    a_forwarder_elsewhere_wants_json_too/1,
    numbers_follow_the_subscribers_of_the_other_node/1,
    a_servers_crash_loses_nothing_between_nodes/1,
    what_is_published_elsewhere_comes_while_the_registry_is_busy/1,
    counts_are_right_after_a_change_that_was_not_told/1,
    a_burst_for_another_node_loses_nothing/1,
    what_is_too_much_for_a_node_is_counted_on_both_and_subscribing_goes_on/1,
    a_crash_of_an_inbox_is_counted/1,
    very_many_topics_are_told_and_forgotten/1,
    what_a_later_version_tells_is_ignored/1,
    counts_that_found_no_room_are_told_again/1,
    a_node_that_is_down_has_no_subscribers/1
]).
%% Called on the other nodes.
-export([collector/1, collected/1, owner/0, publish_numbers/2, publish_blocks/3]).
-export([subscribe_many/2]).

all() ->
    [{group, one_node}, {group, two_nodes}].

groups() ->
    [{one_node, [
        a_subscribed_process_gets_the_term,
        subscribing_twice_is_once_and_unsubscribing_twice_is_none,
        topics_are_apart,
        the_dead_are_no_subscribers,
        a_dead_process_cannot_subscribe,
        each_publishers_order_is_kept,
        what_python_published_is_a_term_for_erlang,
        a_value_that_a_subscriber_cannot_read_is_an_error_and_nobody_gets_it,
        a_worker_gets_one_event_for_all_its_streams,
        a_dead_workers_subscriptions_are_gone,
        events_past_the_window_are_dropped_and_counted,
        a_term_without_a_form_on_the_wire_is_an_error_and_nobody_gets_it,
        a_forwarding_connection_gets_the_frame,
        an_event_stream_gets_the_event,
        what_an_event_stream_has_no_form_for_is_an_error_and_nobody_gets_it,
        a_value_without_a_json_form_is_an_error_and_nobody_gets_it,
        subscribing_another_way_changes_the_way,
        a_slow_connection_loses_the_oldest_and_they_are_counted,
        all_goes_on_after_a_crash_of_a_server,
        a_crash_of_one_server_is_nothing_to_the_other,
        subscribing_waits_for_nothing_that_concerns_other_nodes,
        who_died_while_the_server_was_away_is_gone,
        routes_are_made_to_agree_with_the_subscriptions,
        a_subscription_is_never_away_while_it_is_changed,
        crowds_are_forgotten_as_quickly_as_they_come,
        a_parcel_has_all_that_was_published_and_a_part_of_one_nothing
     ]},
     {two_nodes, [
        nodes_share_topics,
        one_message_a_node_crosses_the_distribution,
        a_forwarder_elsewhere_wants_json_too,
        numbers_follow_the_subscribers_of_the_other_node,
        a_servers_crash_loses_nothing_between_nodes,
        what_is_published_elsewhere_comes_while_the_registry_is_busy,
        counts_are_right_after_a_change_that_was_not_told,
        a_burst_for_another_node_loses_nothing,
        what_is_too_much_for_a_node_is_counted_on_both_and_subscribing_goes_on,
        a_crash_of_an_inbox_is_counted,
        very_many_topics_are_told_and_forgotten,
        what_a_later_version_tells_is_ignored,
        counts_that_found_no_room_are_told_again,
        a_node_that_is_down_has_no_subscribers
     ]}].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

init_per_group(one_node, Config) -> Config;
init_per_group(two_nodes, Config) -> [{cluster, hornbeam_cluster:start()} | Config].

end_per_group(one_node, _Config) -> ok;
end_per_group(two_nodes, Config) -> hornbeam_cluster:stop(proplists:get_value(cluster, Config)).

init_per_testcase(Name, Config) ->
    [{topic, atom_to_binary(Name)} | Config].

end_per_testcase(_Name, _Config) ->
    ok.

%%% Erlang processes

a_subscribed_process_gets_the_term(Config) ->
    Topic = topic(Config),
    ok = hornbeam:subscribe(Topic),
    Terms = [1, atom, {a, [<<"b">>]}, #{k => self()}, <<1:3>>],
    [?assertEqual(1, hornbeam:publish(Topic, Term)) || Term <- Terms],
    ?assertEqual(Terms, [received(Topic) || _ <- Terms]),
    ok = hornbeam:unsubscribe(Topic),
    ?assertEqual(0, hornbeam:publish(Topic, 1)),
    ?assertEqual(nothing, received(Topic)).

subscribing_twice_is_once_and_unsubscribing_twice_is_none(Config) ->
    Topic = topic(Config),
    ok = hornbeam:subscribe(Topic),
    ok = hornbeam:subscribe(Topic),
    ?assertEqual(1, hornbeam:publish(Topic, 1)),
    ?assertEqual({1, nothing}, {received(Topic), received(Topic)}),
    ok = hornbeam:unsubscribe(Topic),
    ok = hornbeam:unsubscribe(Topic),
    ?assertEqual(0, hornbeam:publish(Topic, 1)).

topics_are_apart(Config) ->
    Topic = topic(Config),
    ok = hornbeam:subscribe(<<Topic/binary, "1">>),
    ok = hornbeam:subscribe(<<Topic/binary, "2">>),
    ?assertEqual(0, hornbeam:publish(Topic, 1)),
    ?assertEqual(1, hornbeam:publish(<<Topic/binary, "2">>, 2)),
    ?assertEqual(nothing, received(<<Topic/binary, "1">>)),
    ?assertEqual(2, received(<<Topic/binary, "2">>)).

the_dead_are_no_subscribers(Config) ->
    Topic = topic(Config),
    Collectors = [collector(Topic) || _ <- lists:seq(1, 20)],
    ?assertEqual(20, hornbeam:publish(Topic, 1)),
    lists:foreach(fun hornbeam_eventually:dead/1, Collectors),
    hornbeam_eventually:holds(fun() -> hornbeam:publish(Topic, 2) =:= 0 end),
    ?assertEqual({0, 0}, hornbeam_pubsub_fanout:subscribers(Topic)).

a_dead_process_cannot_subscribe(Config) ->
    Dead = spawn(fun() -> ok end),
    hornbeam_eventually:dead(Dead),
    ?assertEqual({error, closed}, hornbeam_pubsub_registry:subscribe(Dead, topic(Config), process)),
    ?assertEqual(0, hornbeam:publish(topic(Config), 1)).

%% 8 publishers at once: each subscriber sees each publisher's numbers in their order, and all.
each_publishers_order_is_kept(Config) ->
    Topic = topic(Config),
    Collectors = [collector(Topic) || _ <- lists:seq(1, 5)],
    publish_from_8(Topic, 500),
    [begin
         hornbeam_eventually:holds(fun() -> length(collected(Collector)) =:= 4000 end),
         [?assertEqual(lists:seq(1, 500), [N || {P, N} <- collected(Collector), P =:= Publisher])
          || Publisher <- lists:seq(1, 8)]
     end || Collector <- Collectors].

publish_from_8(Topic, Each) ->
    Publishers = [spawn_monitor(fun() ->
        [hornbeam:publish(Topic, {Publisher, N}) || N <- lists:seq(1, Each)]
    end) || Publisher <- lists:seq(1, 8)],
    [receive {'DOWN', Ref, process, _, normal} -> ok end || {_, Ref} <- Publishers].

what_python_published_is_a_term_for_erlang(Config) ->
    Topic = topic(Config),
    ok = hornbeam:subscribe(Topic),
    Packed = iolist_to_binary(hornbeam_msgpack:encode(#{<<"a">> => [1, ok]})),
    ?assertEqual({ok, 1}, hornbeam_pubsub:publish_value(Topic, {packed, Packed})),
    ?assertEqual(#{<<"a">> => [1, ok]}, received(Topic)).

a_value_that_a_subscriber_cannot_read_is_an_error_and_nobody_gets_it(Config) ->
    Topic = topic(Config),
    Worker = subscribed_worker(self(), Topic),
    ok = hornbeam_pubsub_registry:subscribe(self(), Topic, process),
    Other = collector(Topic),
    Unknown = <<16#c7, 30, 1, "no_atom_of_this_name_is_known!">>,
    ?assertMatch({error, {unreadable, {unknown_atom, _}}},
                 hornbeam_pubsub:publish_value(Topic, {packed, Unknown})),
    ?assertEqual([], collected(Other)),
    ?assertEqual([], hornbeam_fake_worker:written(Worker)).

%%% Workers

a_worker_gets_one_event_for_all_its_streams(Config) ->
    Topic = topic(Config),
    Worker = hornbeam_fake_worker:start(),
    Streams = [owner() || _ <- lists:seq(1, 50)],
    [ok = hornbeam_pubsub_registry:subscribe(Stream, Topic, in_worker(Worker))
     || Stream <- Streams],
    ?assertEqual(50, hornbeam:publish(Topic, #{<<"n">> => 1})),
    Packed = iolist_to_binary(hornbeam_msgpack:encode(#{<<"n">> => 1})),
    ?assertEqual([[12, 0, Topic, Packed]], hornbeam_fake_worker:written(Worker)),
    lists:foreach(fun hornbeam_eventually:dead/1, tl(Streams)),
    hornbeam_eventually:holds(fun() -> hornbeam_pubsub_fanout:subscribers(Topic) =:= {1, 0} end),
    ok = hornbeam_pubsub_registry:unsubscribe(hd(Streams), Topic),
    ?assertEqual(0, hornbeam:publish(Topic, 2)),
    ?assertEqual(1, length(hornbeam_fake_worker:written(Worker))).

a_dead_workers_subscriptions_are_gone(Config) ->
    Topic = topic(Config),
    Worker = hornbeam_fake_worker:start(),
    [ok = hornbeam_pubsub_registry:subscribe(owner(), Topic, in_worker(Worker))
     || _ <- lists:seq(1, 5)],
    Pid = hornbeam_fake_worker:pid(Worker),
    ok = hornbeam_pubsub_registry:subscribe(Pid, Topic, in_worker(Worker)),
    ?assertEqual(6, hornbeam:publish(Topic, 1)),
    hornbeam_eventually:dead(Pid),
    hornbeam_eventually:holds(fun() -> hornbeam:publish(Topic, 1) =:= 0 end).

events_past_the_window_are_dropped_and_counted(Config) ->
    Topic = topic(Config),
    Worker = subscribed_worker(owner(), Topic),
    Events = hornbeam_fake_worker:events(Worker),
    Mebibyte = {packed, iolist_to_binary(hornbeam_msgpack:bin(<<0:(8 bsl 20)>>))},
    Counts = [hornbeam_pubsub:publish_value(Topic, Mebibyte) || _ <- lists:seq(1, 10)],
    ?assertEqual(lists:duplicate(8, {ok, 1}) ++ lists:duplicate(2, {ok, 0}), Counts),
    ?assertEqual(2, hornbeam_worker_events:dropped(Events)),
    ?assertEqual(8, length(hornbeam_fake_worker:written(Worker))),
    hornbeam_worker_events:acknowledged(Events, 2 bsl 20),
    ?assertEqual({ok, 1}, hornbeam_pubsub:publish_value(Topic, Mebibyte)).

a_term_without_a_form_on_the_wire_is_an_error_and_nobody_gets_it(Config) ->
    Topic = topic(Config),
    Other = collector(Topic),
    Worker = subscribed_worker(owner(), Topic),
    ?assertError({unencodable, [2, k], <<1:3>>}, hornbeam:publish(Topic, [1, #{k => <<1:3>>}])),
    ?assertEqual([], collected(Other)),
    ?assertEqual([], hornbeam_fake_worker:written(Worker)).

%%% Forwarding

a_forwarding_connection_gets_the_frame(Config) ->
    Topic = topic(Config),
    ok = hornbeam_pubsub_registry:subscribe(self(), Topic, {forward, {1000, 1048576}, drop_oldest}),
    [?assertEqual(1, hornbeam:publish(Topic, Term)) || Term <- [<<"text">>, <<255>>, [1, null]]],
    ?assertEqual([{text, <<"text">>}, {binary, <<255>>}, {text, <<"[1,null]">>}],
                 [forwarded() || _ <- lists:seq(1, 3)]),
    ?assertEqual(nothing, received(Topic)).

%% Each in its form; what is said of an event beside its data is nothing to a WebSocket.
an_event_stream_gets_the_event(Config) ->
    Topic = topic(Config),
    {Client, Owner} = {owner(), {self(), a_stream}},
    ok = hornbeam_pubsub_registry:subscribe(self(), Topic, {forward, {1000, 1048576}, drop_oldest}),
    ok = hornbeam_pubsub_registry:subscribe(Client, Topic,
                                            {stream, Owner, {1000, 1048576}, latest}),
    Events = [<<"te\nxt">>, [1, null], {sse, #{event => <<"e">>, id => 7}, #{a => 1}}],
    [?assertEqual(2, hornbeam:publish(Topic, Event)) || Event <- Events],
    ?assertEqual([<<"data: te\ndata: xt\n\n">>, <<"data: [1,null]\n\n">>,
                  <<"event: e\nid: 7\ndata: {\"a\":1}\n\n">>, nothing],
                 [streamed(Owner) || _ <- lists:seq(1, 4)]),
    ?assertEqual([{text, <<"te\nxt">>}, {text, <<"[1,null]">>}, {text, <<"{\"a\":1}">>}, nothing],
                 [forwarded() || _ <- lists:seq(1, 4)]),
    ?assertEqual({2, 2}, hornbeam_pubsub_fanout:subscribers(Topic)),
    hornbeam_eventually:dead(Client),
    hornbeam_eventually:holds(fun() -> hornbeam:publish(Topic, <<"x">>) =:= 1 end).

what_an_event_stream_has_no_form_for_is_an_error_and_nobody_gets_it(Config) ->
    Topic = topic(Config),
    Other = collector(Topic),
    Owner = {self(), a_stream},
    ok = hornbeam_pubsub_registry:subscribe(owner(), Topic, {stream, Owner, {10, 1000}, close}),
    [?assertEqual({error, {no_event, What}}, hornbeam_pubsub:publish_value(Topic, {term, Term}))
     || {Term, What} <- [{<<255>>, <<"bytes">>},
                         {{sse, #{id => <<"a\nb">>}, 1}, <<"id with a line break or a NUL">>}]],
    ?assertEqual([], collected(Other)),
    ?assertEqual(nothing, streamed(Owner)).

a_value_without_a_json_form_is_an_error_and_nobody_gets_it(Config) ->
    Topic = topic(Config),
    Other = collector(Topic),
    ok = hornbeam_pubsub_registry:subscribe(self(), Topic, {forward, {1000, 1048576}, drop_oldest}),
    ?assertEqual({error, {no_json, [<<"pid">>], <<"an Erlang term">>}},
                 hornbeam_pubsub:publish_value(Topic, {term, #{<<"pid">> => self()}})),
    ?assertEqual([], collected(Other)),
    ?assertEqual(nothing, forwarded()).

subscribing_another_way_changes_the_way(Config) ->
    Topic = topic(Config),
    Worker = hornbeam_fake_worker:start(),
    Forward = {forward, {1000, 1048576}, drop_oldest},
    Ways = [in_worker(Worker), Forward, process, in_worker(Worker)],
    [begin
         ok = hornbeam_pubsub_registry:subscribe(self(), Topic, Way),
         ?assertEqual(1, hornbeam:publish(Topic, <<"x">>)),
         Got = {forwarded(), received(Topic), length(hornbeam_fake_worker:written(Worker))},
         ?assertEqual(Expected, Got)
     end || {Way, Expected} <- lists:zip(Ways, [{nothing, nothing, 1},
                                                {{text, <<"x">>}, nothing, 1},
                                                {nothing, <<"x">>, 1},
                                                {nothing, nothing, 2}])],
    ok = hornbeam_pubsub_registry:unsubscribe(self(), Topic),
    ?assertEqual(0, hornbeam:publish(Topic, <<"x">>)).

a_slow_connection_loses_the_oldest_and_they_are_counted(Config) ->
    Topic = topic(Config),
    Slow = owner(),
    ok = hornbeam_pubsub_registry:subscribe(Slow, Topic, {forward, {100, 1048576}, drop_oldest}),
    [?assertEqual(1, hornbeam:publish(Topic, N)) || N <- lists:seq(1, 200)],
    ?assertEqual(36, hornbeam_pubsub_fanout:dropped(Slow)),
    ?assertEqual([36], lost_of(Topic)),
    %% One outbox for all topics of a connection, also after unsubscribing.
    ok = hornbeam_pubsub_registry:unsubscribe(Slow, Topic),
    Other = <<Topic/binary, "2">>,
    ok = hornbeam_pubsub_registry:subscribe(Slow, Other, {forward, {100, 1048576}, drop_oldest}),
    _ = hornbeam:publish(Other, 1),
    ?assertEqual(37, hornbeam_pubsub_fanout:dropped(Slow)),
    ?assertEqual([[], [1]], [lost_of(Topic), lost_of(Other)]),
    hornbeam_eventually:dead(whereis(hornbeam_pubsub_registry)),
    hornbeam_eventually:holds(fun() -> whereis(hornbeam_pubsub_registry) =/= undefined end),
    ?assertEqual([1], lost_of(Other)),
    hornbeam_eventually:dead(Slow),
    hornbeam_eventually:holds(fun() -> hornbeam_pubsub_fanout:dropped(Slow) =:= 0 end),
    hornbeam_eventually:holds(fun() -> ets:info(hornbeam_outbox, size) =:= 0 end).

lost_of(Topic) ->
    [Lost || {Of, 1, 1, Lost} <- hornbeam_pubsub_fanout:largest(1000), Of =:= Topic].

%%% Crashes

all_goes_on_after_a_crash_of_a_server(Config) ->
    Topic = topic(Config),
    Worker = hornbeam_fake_worker:start(),
    Dies = owner(),
    ok = hornbeam:subscribe(Topic),
    ok = hornbeam_pubsub_registry:subscribe(owner(), Topic, in_worker(Worker)),
    ok = hornbeam_pubsub_registry:subscribe(Dies, Topic, {forward, {10, 10}, drop_oldest}),
    [begin
         Before = whereis(Server),
         hornbeam_eventually:dead(Before),
         ?assertEqual(3, hornbeam:publish(Topic, <<"x">>)),
         hornbeam_eventually:holds(fun() ->
             is_pid(whereis(Server)) andalso whereis(Server) =/= Before
         end),
         ?assertEqual(3, hornbeam:publish(Topic, <<"x">>))
     end || Server <- servers()],
    ?assertEqual([<<"x">>, <<"x">>, <<"x">>, <<"x">>, nothing],
                 [received(Topic) || _ <- lists:seq(1, 5)]),
    ?assertEqual(4, length(hornbeam_fake_worker:written(Worker))),
    hornbeam_eventually:dead(Dies),
    hornbeam_eventually:holds(fun() -> hornbeam_pubsub_fanout:subscribers(Topic) =:= {2, 0} end).

servers() -> [hornbeam_pubsub_registry, hornbeam_pubsub_peers].

a_crash_of_one_server_is_nothing_to_the_other(_Config) ->
    [begin
         [Crashes, Stays] = [whereis(Name) || Name <- Names],
         hornbeam_eventually:dead(Crashes),
         hornbeam_eventually:holds(fun() -> is_pid(whereis(hd(Names))) end),
         ?assertEqual(Stays, whereis(lists:last(Names)))
     end || Names <- [servers(), lists:reverse(servers())]].

%% However busy it is with the links to other nodes.
subscribing_waits_for_nothing_that_concerns_other_nodes(Config) ->
    Topic = topic(Config),
    Owner = owner(),
    Worker = hornbeam_fake_worker:start(),
    {worker, Pid, Events} = InWorker = in_worker(Worker),
    ok = sys:suspend(hornbeam_pubsub_peers),
    try
        ok = hornbeam_pubsub_registry:subscribe(Owner, Topic, InWorker),
        ?assertEqual(1, hornbeam:publish(Topic, 1)),
        ?assertEqual([Topic], hornbeam_pubsub_registry:adopt(Owner, Pid, Events)),
        ok = hornbeam_pubsub_registry:unsubscribe(Owner, Topic),
        ?assertEqual(0, hornbeam:publish(Topic, 1))
    after
        ok = sys:resume(hornbeam_pubsub_peers)
    end.

who_died_while_the_server_was_away_is_gone(Config) ->
    Topic = topic(Config),
    Collector = collector(Topic),
    Server = whereis(hornbeam_pubsub_registry),
    ok = sys:suspend(Server),
    hornbeam_eventually:dead(Collector),
    hornbeam_eventually:dead(Server),
    hornbeam_eventually:holds(fun() -> hornbeam_pubsub_fanout:subscribers(Topic) =:= {0, 0} end),
    ?assertEqual(0, hornbeam:publish(Topic, 1)).

routes_are_made_to_agree_with_the_subscriptions(Config) ->
    Topic = topic(Config),
    ok = hornbeam:subscribe(Topic),
    true = ets:delete_all_objects(hornbeam_topic_routes),
    true = ets:insert(hornbeam_topic_routes, {{<<"stale">>, process, self()}, none, 1}),
    true = ets:insert(hornbeam_topic_totals, {Topic, 17, 4, 0}),
    hornbeam_eventually:dead(whereis(hornbeam_pubsub_registry)),
    hornbeam_eventually:holds(fun() -> hornbeam_pubsub_fanout:subscribers(Topic) =:= {1, 0} end),
    ?assertEqual(1, hornbeam:publish(Topic, 1)),
    ?assertEqual(0, hornbeam:publish(<<"stale">>, 1)).

%%% Two nodes

nodes_share_topics(Config) ->
    {{_, A, B}, Topic} = cluster(Config),
    At = [{Node, on(Node, collector, [Topic])} || Node <- [A, B, B, B]],
    [hornbeam_eventually:holds(fun() -> publish(Node, Topic, 1) =:= 4 end) || Node <- [A, B]],
    [ok = on(Node, publish_numbers, [Topic, 200]) || Node <- [A, B]],
    [begin
         hornbeam_eventually:holds(fun() -> length(numbers(Node, Pid)) =:= 400 end),
         [?assertEqual(lists:seq(1, 200), [N || {From, N} <- numbers(Node, Pid), From =:= Name])
          || Name <- [hornbeam_cluster:node(A), hornbeam_cluster:node(B)]]
     end || {Node, Pid} <- At].

numbers(Node, Collector) ->
    [Term || {_, _} = Term <- on(Node, collected, [Collector])].

one_message_a_node_crosses_the_distribution(Config) ->
    {{_, A, B}, Topic} = cluster(Config),
    _ = [on(B, collector, [Topic]) || _ <- lists:seq(1, 30)],
    hornbeam_eventually:holds(fun() -> publish(A, Topic, 1) =:= 30 end),
    Before = messages_in(B),
    ?assertEqual(30, publish(A, Topic, 2)),
    hornbeam_eventually:holds(fun() -> messages_in(B) =:= Before + 1 end).

%% Of what has come by the link of all rooms.
messages_in(Node) ->
    [#{queue := Queue}] = hornbeam_cluster:call(Node, hornbeam_link_nodes, all, []),
    {Messages, _Bytes} = maps:get(received, hornbeam_cluster:call(Node, hornbeam_link_queue, status,
                                                                  [Queue])),
    Messages.

a_forwarder_elsewhere_wants_json_too(Config) ->
    {{_, A, B}, Topic} = cluster(Config),
    Owner = on(B, owner, []),
    ok = hornbeam_cluster:call(B, hornbeam_pubsub_registry, subscribe,
                               [Owner, Topic, {forward, {100, 10000}, drop_oldest}]),
    Value = {term, [hornbeam_msgpack:bytes(<<"b">>)]},
    hornbeam_eventually:holds(fun() ->
        hornbeam_cluster:call(A, hornbeam_pubsub, publish_value, [Topic, Value])
            =:= {error, {no_json, [0], <<"bytes">>}}
    end).

numbers_follow_the_subscribers_of_the_other_node(Config) ->
    {{_, A, B}, Topic} = cluster(Config),
    Collectors = [on(B, collector, [Topic]) || _ <- lists:seq(1, 3)],
    hornbeam_eventually:holds(fun() -> publish(A, Topic, 1) =:= 3 end),
    [true = hornbeam_cluster:call(B, erlang, exit, [Pid, kill]) || Pid <- tl(Collectors)],
    hornbeam_eventually:holds(fun() -> publish(A, Topic, 1) =:= 1 end),
    [begin
         Server = hornbeam_cluster:call(B, erlang, whereis, [Name]),
         true = hornbeam_cluster:call(B, erlang, exit, [Server, kill]),
         hornbeam_eventually:holds(fun() ->
             New = hornbeam_cluster:call(B, erlang, whereis, [Name]),
             is_pid(New) andalso New =/= Server
         end),
         %% What is published before the new one is known may be lost with the old.
         hornbeam_eventually:holds(fun() ->
             publish(A, Topic, Name) =:= 1
                 andalso lists:member(Name, on(B, collected, [hd(Collectors)]))
         end)
     end || Name <- servers()],
    true = hornbeam_cluster:call(B, erlang, exit, [hd(Collectors), kill]),
    hornbeam_eventually:holds(fun() -> publish(A, Topic, 1) =:= 0 end).

%% What the others have told is known before they tell it again, and what they told meanwhile, too.
a_servers_crash_loses_nothing_between_nodes(Config) ->
    {{_, A, B}, Topic} = cluster(Config),
    Other = <<Topic/binary, " other">>,
    [Collector, Dies] = [on(B, collector, [T]) || T <- [Topic, Other]],
    [hornbeam_eventually:holds(fun() -> publish(A, T, 0) =:= 1 end) || T <- [Topic, Other]],
    Server = hornbeam_cluster:call(A, erlang, whereis, [hornbeam_pubsub_peers]),
    ok = hornbeam_cluster:call(A, sys, suspend, [Server]),
    true = hornbeam_cluster:call(B, erlang, exit, [Dies, kill]),
    hornbeam_eventually:holds(fun() -> publish(B, Other, 1) =:= 0 end),
    true = hornbeam_cluster:call(A, erlang, exit, [Server, kill]),
    ?assertEqual([1, 1, 1], [publish(A, Topic, N) || N <- [1, 2, 3]]),
    hornbeam_eventually:holds(fun() ->
        on(B, collected, [Collector]) =:= [0, 1, 2, 3]
    end),
    hornbeam_eventually:holds(fun() -> publish(A, Other, 1) =:= 0 end),
    ?assertEqual(1, publish(A, Topic, 4)).

%% Who serves subscriptions is no part of the way of a message.
what_is_published_elsewhere_comes_while_the_registry_is_busy(Config) ->
    {{_, A, B}, Topic} = cluster(Config),
    Collector = on(B, collector, [Topic]),
    hornbeam_eventually:holds(fun() -> publish(A, Topic, 1) =:= 1 end),
    ok = hornbeam_cluster:call(B, sys, suspend, [hornbeam_pubsub_registry]),
    ?assertEqual(1, publish(A, Topic, 2)),
    hornbeam_eventually:holds(fun() -> on(B, collected, [Collector]) =:= [1, 2] end),
    ok = hornbeam_cluster:call(B, sys, resume, [hornbeam_pubsub_registry]).

%% What changed while nobody could tell it is told by the next change, or by the next process.
counts_are_right_after_a_change_that_was_not_told(Config) ->
    {{_, A, B}, Topic} = cluster(Config),
    [First, Second] = [on(B, collector, [Topic]) || _ <- [1, 2]],
    hornbeam_eventually:holds(fun() -> publish(A, Topic, 1) =:= 2 end),
    Registry = hornbeam_cluster:call(B, erlang, whereis, [hornbeam_pubsub_registry]),
    ok = hornbeam_cluster:call(B, sys, suspend, [Registry]),
    true = hornbeam_cluster:call(B, ets, delete, [hornbeam_subscriptions, {First, Topic}]),
    true = hornbeam_cluster:call(B, erlang, exit, [Registry, kill]),
    hornbeam_eventually:holds(fun() -> publish(A, Topic, 1) =:= 1 end),
    true = hornbeam_cluster:call(B, erlang, exit, [Second, kill]),
    hornbeam_eventually:holds(fun() -> publish(A, Topic, 1) =:= 0 end).

a_burst_for_another_node_loses_nothing(Config) ->
    {{_, A, B}, Topic} = cluster(Config),
    Collector = on(B, collector, [Topic]),
    hornbeam_eventually:holds(fun() -> publish(A, Topic, 0) =:= 1 end),
    Before = {losses(A), losses(B)},
    ?assertEqual(400, on(A, publish_blocks, [Topic, 400, 16384])),
    hornbeam_eventually:holds(fun() -> length(on(B, collected, [Collector])) >= 401 end),
    ?assertEqual(Before, {losses(A), losses(B)}).

%% 10 MB for a node that hands on nothing, and may keep one.
what_is_too_much_for_a_node_is_counted_on_both_and_subscribing_goes_on(Config) ->
    {{_, A, B}, Topic} = cluster(Config),
    Collector = on(B, collector, [Topic]),
    hornbeam_eventually:holds(fun() -> publish(A, Topic, 0) =:= 1 end),
    {Overload, Elsewhere} = {loss(B, overload), loss(A, elsewhere)},
    ok = hornbeam_cluster:call(B, hornbeam_pubsub_inbox, set_limit, [1048576]),
    [ok = hornbeam_cluster:call(B, sys, suspend, [Inbox]) || Inbox <- inboxes(B)],
    ?assertEqual(1000, on(A, publish_blocks, [Topic, 1000, 10000])),
    hornbeam_eventually:holds(fun() ->
        {Messages, _} = waiting(B),
        Messages + loss(B, overload) - Overload =:= 1000
    end),
    ?assert(element(2, waiting(B)) < 1048576 + 20000),
    Other = on(B, collector, [<<Topic/binary, " other">>]),
    true = is_pid(Other),
    [ok = hornbeam_cluster:call(B, sys, resume, [Inbox]) || Inbox <- inboxes(B)],
    Dropped = loss(B, overload) - Overload,
    hornbeam_eventually:holds(fun() ->
        length(on(B, collected, [Collector])) >= 1001 - Dropped
    end),
    hornbeam_eventually:holds(fun() -> loss(A, elsewhere) =:= Elsewhere + Dropped end),
    ?assertEqual({0, 0}, waiting(B)).

a_crash_of_an_inbox_is_counted(Config) ->
    {{_, A, B}, Topic} = cluster(Config),
    Collector = on(B, collector, [Topic]),
    hornbeam_eventually:holds(fun() -> publish(A, Topic, 0) =:= 1 end),
    Before = loss(B, overload),
    [ok = hornbeam_cluster:call(B, sys, suspend, [Inbox]) || Inbox <- inboxes(B)],
    ?assertEqual(10, on(A, publish_blocks, [Topic, 10, 10])),
    hornbeam_eventually:holds(fun() -> element(1, waiting(B)) =:= 10 end),
    [true = hornbeam_cluster:call(B, erlang, exit, [Inbox, kill]) || Inbox <- inboxes(B)],
    hornbeam_eventually:holds(fun() -> loss(B, overload) =:= Before + 10 end),
    hornbeam_eventually:holds(fun() ->
        publish(A, Topic, last) =:= 1
            andalso lists:last(on(B, collected, [Collector])) =:= last
    end).

inboxes(Node) ->
    [Inbox || {_, Inbox, _, _} <- hornbeam_cluster:call(Node, supervisor, which_children,
                                                        [hornbeam_pubsub_inbox_sup])].

waiting(Node) -> hornbeam_cluster:call(Node, hornbeam_pubsub_inbox, waiting, []).

loss(Node, Why) -> maps:get(Why, losses(Node), 0).

losses(Node) -> hornbeam_cluster:call(Node, hornbeam_pubsub, losses, []).

%% More than one message tells.
very_many_topics_are_told_and_forgotten(Config) ->
    {{_, A, B}, Topic} = cluster(Config),
    Owner = on(B, subscribe_many, [Topic, 5000]),
    Known = fun() -> hornbeam_cluster:call(A, ets, info, [hornbeam_pubsub_peers, size]) end,
    hornbeam_eventually:holds(fun() -> Known() >= 5000 end),
    %% All again, by one that begins anew and has missed what ended meanwhile.
    Server = hornbeam_cluster:call(A, erlang, whereis, [hornbeam_pubsub_peers]),
    ok = hornbeam_cluster:call(A, sys, suspend, [Server]),
    true = hornbeam_cluster:call(B, erlang, exit, [Owner, kill]),
    hornbeam_eventually:holds(fun() ->
        hornbeam_cluster:call(B, hornbeam_pubsub_fanout, topics, []) < 5000
    end),
    true = hornbeam_cluster:call(A, erlang, exit, [Server, kill]),
    hornbeam_eventually:holds(fun() -> Known() < 100 end).

what_a_later_version_tells_is_ignored(Config) ->
    {{_, A, B}, Topic} = cluster(Config),
    _ = on(B, collector, [Topic]),
    hornbeam_eventually:holds(fun() -> publish(A, Topic, 0) =:= 1 end),
    Before = loss(B, unreadable),
    Server = hornbeam_cluster:call(B, erlang, whereis, [hornbeam_pubsub_peers]),
    Peer = hornbeam_cluster:call(B, hornbeam_links, own, []),
    [ok = hornbeam_cluster:call(A, hornbeam_links, send, [Peer, pubsub, Strange])
     || Strange <- [new, {counts, 7}, {counts, [7, {<<"t">>, -1, true}]},
                    {counts, [7 | more]}, {all, x, y},
                    {dropped, none}]],
    ok = hornbeam_cluster:call(A, hornbeam_links, send_packed, [Peer, publish, <<"short">>]),
    hornbeam_eventually:holds(fun() -> loss(B, unreadable) =:= Before + 1 end),
    ?assertEqual(1, publish(A, Topic, 0)),
    ?assertEqual(Server, hornbeam_cluster:call(B, erlang, whereis, [hornbeam_pubsub_peers])).

%% More than a link with room for a few bytes takes, and B stands still meanwhile.
counts_that_found_no_room_are_told_again(Config) ->
    {{_, A, B}, Topic} = cluster(Config),
    Limit = hornbeam_config:defaults(server),
    ok = hornbeam_cluster:call(A, hornbeam_link_queue, set_limits,
                               [Limit#{peer_max_unsent_bytes := 1000}]),
    hornbeam_cluster:pause(B),
    [on(A, subscribe_many, [<<Topic/binary, (integer_to_binary(N))/binary>>, 500])
     || N <- lists:seq(1, 10)],
    hornbeam_eventually:holds(fun() -> counts_lost(A) > 0 end),
    hornbeam_cluster:resume(B),
    hornbeam_eventually:holds(fun() ->
        publish(B, <<Topic/binary, "10 500">>, 1) =:= 1
            andalso publish(B, <<Topic/binary, "1 1">>, 1) =:= 1
    end),
    ok = hornbeam_cluster:call(A, hornbeam_link_queue, set_limits, [Limit]).

counts_lost(Node) ->
    maps:get(full, hornbeam_cluster:call(Node, hornbeam_link_queue, losses, [pubsub]), 0).

a_node_that_is_down_has_no_subscribers(Config) ->
    {{_, A, B}, Topic} = cluster(Config),
    _ = [on(Node, collector, [Topic]) || Node <- [A, B, B]],
    hornbeam_eventually:holds(fun() -> publish(A, Topic, 1) =:= 3 end),
    hornbeam_cluster:stop_node(B),
    hornbeam_eventually:holds(fun() -> publish(A, Topic, 1) =:= 1 end),
    ?assertEqual(0, hornbeam_cluster:call(A, ets, info, [hornbeam_pubsub_peers, size])).

publish(Node, Topic, Term) ->
    hornbeam_cluster:call(Node, hornbeam, publish, [Topic, Term]).

%% Runs a function of this module on a node.
on(Node, Function, Args) ->
    hornbeam_cluster:call(Node, ?MODULE, Function, Args).

publish_numbers(Topic, Count) ->
    [hornbeam:publish(Topic, {node(), N}) || N <- lists:seq(1, Count)],
    ok.

publish_blocks(Topic, Count, Size) ->
    lists:sum([hornbeam:publish(Topic, binary:copy(<<"x">>, Size)) || _ <- lists:seq(1, Count)]).

subscribe_many(Topic, Count) ->
    Caller = self(),
    Owner = spawn(fun() ->
        [ok = hornbeam:subscribe(<<Topic/binary, " ", (integer_to_binary(N))/binary>>)
         || N <- lists:seq(1, Count)],
        Caller ! subscribed,
        receive stop -> ok end
    end),
    receive subscribed -> Owner end.

%% Or the crash of who changes it would end it.
a_subscription_is_never_away_while_it_is_changed(Config) ->
    Topic = topic(Config),
    Owner = owner(),
    Workers = [in_worker(subscribed_worker(Owner, Topic)), in_worker(hornbeam_fake_worker:start())],
    Mover = spawn(fun Move() ->
        [[Topic] = hornbeam_pubsub_registry:adopt(Owner, Pid, Events)
         || {worker, Pid, Events} <- Workers],
        Move()
    end),
    [?assertMatch({{ok, _}, [_ | _]},
                  {hornbeam_pubsub_registry:subscription({Owner, Topic}),
                   ets:match(hornbeam_topic_routes, {{Topic, worker, '$1'}, '_', '_'})})
     || _ <- lists:seq(1, 20000)],
    hornbeam_eventually:dead(Mover).

%%% Crowds

%% Each step took its time for each topic that was left, and the last one 39 s; it may take 20 times
%% what it takes to come.
crowds_are_forgotten_as_quickly_as_they_come(Config) ->
    Topic = topic(Config),
    Many = [{owner(), <<Topic/binary, (integer_to_binary(N))/binary>>} || N <- lists:seq(1, 20000)],
    One = owner(),
    [begin
         Coming = took(fun() ->
             [ok = hornbeam_pubsub_registry:subscribe(Owner, T, process) || {Owner, T} <- Crowd]
         end),
         Going = took(fun() -> gone(Crowd, Topic) end),
         ct:pal("coming ~b ms, going ~b ms", [Coming, Going]),
         ?assert(Going < 20 * Coming)
     end || Crowd <- [[{Owner, Topic} || {Owner, _} <- Many], [{One, T} || {_, T} <- Many],
                      [{owner(), T} || {_, T} <- Many]]].

%%% Between nodes

a_parcel_has_all_that_was_published_and_a_part_of_one_nothing(_Config) ->
    [begin
         Parcel = hornbeam_pubsub_parcel:pack(self(), <<"töpic"/utf8>>, Value),
         ?assertEqual({ok, <<"töpic"/utf8>>, Value}, hornbeam_pubsub_parcel:unpack(Parcel)),
         ?assertEqual(erlang:phash2(self(), 1 bsl 32), hornbeam_pubsub_parcel:publisher(Parcel)),
         ?assertEqual(error, hornbeam_pubsub_parcel:unpack(<<0:32, 0:32, 7, "later">>)),
         %% Whoever cuts a value shorter has another value: what is in front of it must be there.
         Head = 4 + 4 + byte_size(<<"töpic"/utf8>>),
         [?assertEqual(error, hornbeam_pubsub_parcel:unpack(binary:part(Parcel, 0, Size)))
          || Size <- lists:seq(0, Head)]
     end || Value <- [{packed, <<"abc">>}, {packed, <<>>}, {term, #{a => [self()]}}, 7, 1.5]],
    ?assertEqual(0, hornbeam_pubsub_parcel:publisher(<<>>)),
    ?assertEqual(error, hornbeam_pubsub_parcel:unpack(<<0:32, 0:32, 1, "no term">>)).

took(Fun) ->
    {Time, _} = timer:tc(Fun),
    Time div 1000.

%% The dead are known to the server before it answers.
gone(Crowd, Topic) ->
    _ = [exit(Owner, kill) || {Owner, _} <- Crowd],
    hornbeam_eventually:holds(fun() ->
        ok = hornbeam_pubsub:unsubscribe(Topic),
        lists:all(fun({_, T}) -> hornbeam_pubsub_fanout:subscribers(T) =:= {0, 0} end, Crowd)
    end).

%%% Subscribers

topic(Config) -> proplists:get_value(topic, Config).

cluster(Config) -> {proplists:get_value(cluster, Config), topic(Config)}.

received(Topic) ->
    receive
        {hornbeam_pubsub, Topic, Term} -> Term
    after 0 ->
        nothing
    end.

forwarded() ->
    receive
        {forward, _Outbox, Frame} -> hornbeam_websocket_frame:read(Frame)
    after 0 ->
        nothing
    end.

streamed(Owner) ->
    receive
        {Owner, {forward, _Outbox, Text}} -> Text
    after 0 ->
        nothing
    end.

owner() -> spawn(fun() -> receive stop -> ok end end).

%% A process that has subscribed and keeps what it gets.
collector(Topic) ->
    Caller = self(),
    Tag = make_ref(),
    Pid = spawn(fun() ->
        ok = hornbeam:subscribe(Topic),
        Caller ! Tag,
        collect(Topic, [])
    end),
    receive Tag -> Pid after 5000 -> error(not_subscribed) end.

collect(Topic, Terms) ->
    receive
        {hornbeam_pubsub, Topic, Term} ->
            collect(Topic, [Term | Terms]);
        {collected, From, Tag} ->
            From ! {Tag, lists:reverse(Terms)},
            collect(Topic, Terms)
    end.

collected(Collector) ->
    Tag = make_ref(),
    Collector ! {collected, self(), Tag},
    receive {Tag, Terms} -> Terms after 5000 -> error(no_answer) end.

in_worker(Worker) ->
    {worker, hornbeam_fake_worker:pid(Worker), hornbeam_fake_worker:events(Worker)}.

subscribed_worker(Owner, Topic) ->
    Worker = hornbeam_fake_worker:start(),
    ok = hornbeam_pubsub_registry:subscribe(Owner, Topic, in_worker(Worker)),
    Worker.
