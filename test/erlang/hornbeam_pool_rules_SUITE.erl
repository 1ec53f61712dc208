%% The rules by which a pool replaces its workers: who has done enough, who waits for whom, how
%% long a pause is.
-module(hornbeam_pool_rules_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [no_limit_is_ever_reached_by_default, a_worker_has_done_enough_at_its_limit_and_not_before,
     a_worker_far_too_large_is_killed, each_worker_draws_its_own_limits,
     the_first_death_is_repaired_at_once_and_the_next_ones_later,
     a_worker_that_has_lasted_starts_anew, no_pause_is_longer_than_the_longest,
     two_successors_start_at_a_time, they_take_over_together,
     one_that_took_over_early_does_not_again, who_has_not_taken_over_is_known,
     a_slot_is_vacant_until_a_worker_is_to_serve_in_it,
     a_pool_is_complete_when_each_slot_is_served, a_slot_remembers_how_its_workers_ended,
     ends_are_counted_by_their_kind_also_when_the_pool_begins_anew].

%% Recycling

no_limit_is_ever_reached_by_default(_Config) ->
    Options = hornbeam_config:defaults(app),
    ?assertNot(hornbeam_pool_recycling:is_asked_for(Options)),
    ?assertEqual(keep, verdict(facts(1 bsl 64, 1 bsl 64, 1 bsl 64), #{})).

a_worker_has_done_enough_at_its_limit_and_not_before(_Config) ->
    Limits = #{max_requests => 10, worker_max_age => 20, worker_max_rss => 30},
    Options = maps:merge(hornbeam_config:defaults(app), Limits),
    ?assert(hornbeam_pool_recycling:is_asked_for(Options)),
    ?assertEqual(keep, verdict(facts(9, 19, 29), Limits)),
    ?assertEqual({recycle, max_requests}, verdict(facts(10, 19, 29), Limits)),
    ?assertEqual({recycle, worker_max_age}, verdict(facts(9, 20, 29), Limits)),
    ?assertEqual({recycle, worker_max_rss}, verdict(facts(9, 19, 30), Limits)),
    ?assertEqual(keep, verdict(facts(9, 19, undefined), Limits)).

a_worker_far_too_large_is_killed(_Config) ->
    Limits = #{worker_max_rss => 30},
    ?assertEqual({recycle, worker_max_rss}, verdict(facts(1, 1, 59), Limits)),
    ?assertEqual(kill, verdict(facts(1, 1, 60), Limits)).

each_worker_draws_its_own_limits(_Config) ->
    Options = #{max_requests => 10, max_requests_jitter => 5, worker_max_age => 20,
                worker_max_age_jitter => 7},
    Most = fun(Jitter) -> Jitter end,
    ?assertEqual(keep, verdict(facts(14, 26, 0), Options, Most)),
    ?assertEqual({recycle, max_requests}, verdict(facts(15, 26, 0), Options, Most)),
    ?assertEqual({recycle, worker_max_age}, verdict(facts(14, 27, 0), Options, Most)).

verdict(Facts, Options) ->
    verdict(Facts, Options, fun(_) -> 0 end).

verdict(Facts, Options, Draw) ->
    All = maps:merge(hornbeam_config:defaults(app), Options),
    hornbeam_pool_recycling:verdict(Facts, hornbeam_pool_recycling:limits(All, Draw)).

facts(Requests, Age, Rss) ->
    #{requests => Requests, age => Age, rss => Rss}.

%% Restarts

the_first_death_is_repaired_at_once_and_the_next_ones_later(_Config) ->
    ?assertEqual([0, 100, 200, 400], [hornbeam_pool_backoff:pause(N) || N <- [1, 2, 3, 4]]).

a_worker_that_has_lasted_starts_anew(_Config) ->
    ?assertEqual(1, hornbeam_pool_backoff:failures(0, 10000, 5)),
    ?assertEqual(6, hornbeam_pool_backoff:failures(0, 9999, 5)),
    ?assertEqual(6, hornbeam_pool_backoff:failures(undefined, 99999, 5)).

no_pause_is_longer_than_the_longest(_Config) ->
    ?assertEqual(25600, hornbeam_pool_backoff:pause(10)),
    ?assertEqual([30000, 30000], [hornbeam_pool_backoff:pause(N) || N <- [11, 1000000]]).

%% Rounds of replacement

two_successors_start_at_a_time(_Config) ->
    R0 = hornbeam_pool_replacement:new(reloaded, [1, 2, 3]),
    {start, 1, R1} = hornbeam_pool_replacement:next(R0),
    {start, 2, R2} = hornbeam_pool_replacement:next(hornbeam_pool_replacement:started(pid(1), R1)),
    R3 = hornbeam_pool_replacement:started(pid(2), R2),
    ?assertEqual(wait, hornbeam_pool_replacement:next(R3)),
    R4 = hornbeam_pool_replacement:ready(pid(1), R3),
    ?assertMatch({start, 3, _}, hornbeam_pool_replacement:next(R4)).

they_take_over_together(_Config) ->
    Started = both_started(),
    One = hornbeam_pool_replacement:ready(pid(2), Started),
    ?assertEqual(wait, hornbeam_pool_replacement:next(One)),
    Two = hornbeam_pool_replacement:ready(pid(1), One),
    ?assertEqual({take_over, [pid(2), pid(1)]}, hornbeam_pool_replacement:next(Two)).

one_that_took_over_early_does_not_again(_Config) ->
    Ready = hornbeam_pool_replacement:ready(pid(1), both_started()),
    One = hornbeam_pool_replacement:took_over(pid(1), Ready),
    Two = hornbeam_pool_replacement:ready(pid(2), One),
    ?assertEqual({take_over, [pid(2)]}, hornbeam_pool_replacement:next(Two)).

both_started() ->
    lists:foldl(fun(N, Round) ->
        {start, N, Next} = hornbeam_pool_replacement:next(Round),
        hornbeam_pool_replacement:started(pid(N), Next)
    end, hornbeam_pool_replacement:new(recycled, [1, 2]), [1, 2]).

%% Who is in which slot

a_slot_is_vacant_until_a_worker_is_to_serve_in_it(_Config) ->
    Two = slots([1, 2]),
    ?assertEqual([{1, 0}, {2, 0}], hornbeam_pool_roster:vacant(Two)),
    One = started(pid(1), 2, serving, Two),
    ?assertEqual([{1, 0}], hornbeam_pool_roster:vacant(One)),
    ?assertNot(hornbeam_pool_roster:is_served(2, One)),
    Leaving = hornbeam_pool_roster:set_role(pid(1), leaving, One),
    ?assertEqual([{1, 0}, {2, 0}], hornbeam_pool_roster:vacant(Leaving)),
    ?assertNot(hornbeam_pool_roster:is_vacant(3, Leaving)).

a_pool_is_complete_when_each_slot_is_served(_Config) ->
    One = ready(pid(1), started(pid(1), 1, serving, slots([1, 2]))),
    Other = ready(pid(3), started(pid(3), 2, successor, started(pid(2), 2, serving, One))),
    ?assertNot(hornbeam_pool_roster:is_complete(Other)),
    Both = ready(pid(2), Other),
    ?assert(hornbeam_pool_roster:is_complete(Both)),
    ?assertEqual([h, h], hornbeam_pool_roster:handles(serving, Both)),
    ?assertEqual(#{pid(1) => <<"worker-1">>, pid(2) => <<"worker-2">>, pid(3) => <<"worker-2">>},
                 hornbeam_pool_roster:names(Both)),
    ?assertEqual({ok, pid(2)}, hornbeam_pool_roster:find(<<"worker-2">>, Both)),
    ?assertEqual({error, no_worker}, hornbeam_pool_roster:find(<<"worker-3">>, Both)).

who_has_not_taken_over_is_known(_Config) ->
    Both = started(pid(3), 1, successor, started(pid(2), 2, successor, slots([1, 2]))),
    ?assertEqual({starting, pid(3)}, hornbeam_pool_roster:successor(1, Both)),
    One = ready(pid(3), Both),
    ?assertEqual({ready, pid(3)}, hornbeam_pool_roster:successor(1, One)),
    ?assertEqual(lists:sort([pid(2), pid(3)]),
                 lists:sort(hornbeam_pool_roster:workers(successor, One))),
    Left = hornbeam_pool_roster:set_role(pid(3), serving, One),
    ?assertEqual([pid(2)], hornbeam_pool_roster:workers(successor, Left)),
    ?assertEqual(none, hornbeam_pool_roster:successor(1, Left)).

a_slot_remembers_how_its_workers_ended(_Config) ->
    {1, Once} = hornbeam_pool_roster:failed(1, undefined, first, 0, slots([1])),
    {2, Twice} = hornbeam_pool_roster:failed(1, undefined, second, 0,
                                             hornbeam_pool_roster:restarted(1, Once)),
    Slot1 = started(pid(1), 1, serving, hornbeam_pool_roster:note_end(2, unknown, Twice)),
    ?assertEqual({#{restarts => 1, ended => #{}},
                  [{pid(1), #{restarts => 1, last_end => second}}]},
                 hornbeam_pool_roster:describe(Slot1)).

ends_are_counted_by_their_kind_also_when_the_pool_begins_anew(_Config) ->
    Ends = [{shutdown, hung}, {shutdown, {exited, 1}}, {shutdown, {exited, 2}}, killed],
    Counted = lists:foldl(fun hornbeam_pool_roster:count_end/2, slots([1]), Ends),
    Renewed = hornbeam_pool_roster:renewed(Counted),
    ?assertEqual([], hornbeam_pool_roster:slots(Renewed)),
    ?assertMatch({#{ended := #{hung := 1, exited := 2, crashed := 1}}, []},
                 hornbeam_pool_roster:describe(Renewed)).

slots(Slots) ->
    lists:foldl(fun hornbeam_pool_roster:add_slot/2, hornbeam_pool_roster:new(), Slots).

started(Pid, Slot, Role, Roster) ->
    Limits = hornbeam_pool_recycling:limits(hornbeam_config:defaults(app), fun(_) -> 0 end),
    Worker = #{slot => Slot, role => Role, started_at => 0, limits => Limits},
    hornbeam_pool_roster:add_worker(Pid, Worker, Roster).

%% Any handle will do.
ready(Pid, Roster) ->
    {#{ready_at := 7}, Ready} = hornbeam_pool_roster:set_ready(Pid, h, 1, 7, Roster),
    Ready.

%% Any processes will do.
pid(N) -> lists:nth(N, erlang:processes()).
