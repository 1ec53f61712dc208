-module(hornbeam_schedulers_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [busy_ones_get_more_twice_as_many_each_time, there_are_no_more_than_there_are,
     processes_that_wait_twice_in_a_row_get_more, who_waits_once_gets_none,
     few_are_left_after_a_calm_of_twenty_looks, as_many_stay_as_were_needed_meanwhile,
     never_fewer_than_at_the_start, a_node_that_has_all_online_is_left_alone,
     a_node_that_begins_with_one_gets_more_under_load_and_gives_them_back].

busy_ones_get_more_twice_as_many_each_time(_Config) ->
    ?assertMatch({1, _}, hornbeam_schedulers:next({0.89, 0}, {1, 8}, hornbeam_schedulers:new(1))),
    ?assertMatch({2, _}, hornbeam_schedulers:next({0.9, 0}, {1, 8}, hornbeam_schedulers:new(1))),
    ?assertMatch({4, _}, hornbeam_schedulers:next({1.8, 0}, {2, 8}, hornbeam_schedulers:new(1))).

there_are_no_more_than_there_are(_Config) ->
    ?assertMatch({6, _}, hornbeam_schedulers:next({4.0, 0}, {4, 6}, hornbeam_schedulers:new(1))),
    ?assertMatch({6, _}, hornbeam_schedulers:next({6.0, 99}, {6, 6}, hornbeam_schedulers:new(1))).

processes_that_wait_twice_in_a_row_get_more(_Config) ->
    ?assertEqual([1, 2], online([{0.5, 16}, {0.5, 16}], {1, 8})).

who_waits_once_gets_none(_Config) ->
    ?assertEqual([1, 1, 1], online([{0.5, 16}, {0.5, 15}, {0.5, 16}], {1, 8})),
    ?assertEqual([2, 2], online([{0.5, 16}, {0.5, 16}], {2, 8})).

few_are_left_after_a_calm_of_twenty_looks(_Config) ->
    ?assertEqual(lists:duplicate(19, 8) ++ [2], online(lists:duplicate(20, {1.5, 0}), {8, 8})),
    Disturbed = lists:duplicate(10, {0.1, 0}) ++ [{0.1, 200}] ++ lists:duplicate(20, {0.1, 0}),
    ?assertEqual(lists:duplicate(30, 8) ++ [1], online(Disturbed, {8, 8})).

as_many_stay_as_were_needed_meanwhile(_Config) ->
    Looks = lists:duplicate(10, {0.1, 0}) ++ [{3.2, 0}] ++ lists:duplicate(9, {0.1, 0}),
    ?assertEqual(4, lists:last(online(Looks, {8, 8}))).

never_fewer_than_at_the_start(_Config) ->
    ?assertEqual(3, lists:last(online(lists:duplicate(20, {0.0, 0}), {8, 8}, 3))).

a_node_that_has_all_online_is_left_alone(_Config) ->
    ?assertEqual([], on_a_node("2:2", fun hornbeam_schedulers:child_specs/0)),
    ?assertMatch([#{id := hornbeam_schedulers}],
                 on_a_node("2:1", fun hornbeam_schedulers:child_specs/0)).

a_node_that_begins_with_one_gets_more_under_load_and_gives_them_back(_Config) ->
    {One, Most, OneAgain, Processors} = on_a_node("2:1", fun loaded_and_calm/0),
    ?assertEqual({1, Processors, 1}, {One, Most, OneAgain}).

%% Runs on a node of its own: how many are online at first, under load, and after it.
loaded_and_calm() ->
    _ = [code:ensure_loaded(Module)
         || Module <- [?MODULE, hornbeam_schedulers, hornbeam_processors, gen_server]],
    {ok, Pid} = hornbeam_schedulers:start_link(),
    Before = erlang:system_info(schedulers_online),
    Busy = [spawn_link(fun spin/0) || _ <- lists:seq(1, 100)],
    Processors = hornbeam_processors:count(),
    true = within(60_000, fun() -> erlang:system_info(schedulers_online) =:= Processors end),
    Most = erlang:system_info(schedulers_online),
    _ = [begin unlink(Spinner), exit(Spinner, kill) end || Spinner <- Busy],
    true = within(60_000, fun() -> erlang:system_info(schedulers_online) =:= 1 end),
    ok = gen_server:stop(Pid),
    {Before, Most, erlang:system_info(schedulers_online), Processors}.

spin() -> spin().

within(Left, _Is) when Left =< 0 -> false;
within(Left, Is) ->
    case Is() of
        true -> true;
        false -> receive after 10 -> within(Left - 10, Is) end
    end.

online(Looks, Counts) ->
    online(Looks, Counts, 1).

online(Looks, {First, All}, Least) ->
    {Seen, _} = lists:mapfoldl(
        fun(Look, {Online, Load0}) ->
            {Next, Load} = hornbeam_schedulers:next(Look, {Online, All}, Load0),
            {Next, {Next, Load}}
        end, {First, hornbeam_schedulers:new(Least)}, Looks),
    Seen.

on_a_node(Schedulers, Fun) ->
    {ok, Peer, _Node} = peer:start_link(#{
        connection => standard_io, wait_boot => 60_000,
        args => ["+S", Schedulers, "+sbwt", "none", "-pa" | code:get_path()]}),
    try
        peer:call(Peer, erlang, apply, [Fun, []], 120_000)
    after
        peer:stop(Peer)
    end.
