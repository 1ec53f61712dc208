%% Places on workers: who gets one at once, who waits, and that none is lost.
-module(hornbeam_pool_queue_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [a_worker_gives_as_many_places_as_it_has_and_not_one_more,
     two_at_once_do_not_both_get_the_last_place, the_worker_with_the_least_streams_is_chosen,
     a_slow_worker_is_chosen_only_when_all_are, a_retiring_worker_stays_the_last_to_be_chosen,
     a_closed_worker_gives_no_place,
     a_worker_with_a_place_taken_does_not_close,
     those_who_wait_are_served_in_their_order, a_free_place_is_told_once_and_only_when_wanted,
     a_queue_holds_so_many_and_not_one_more, who_waits_too_long_is_told,
     who_has_waited_before_waits_only_for_the_rest, nobody_waits_twice,
     who_waits_is_in_the_line_and_who_was_answered_is_not, those_in_line_stand_in_their_order,
     who_leaves_is_not_served, who_left_is_known_until_struck_out,
     who_waits_for_a_worker_gets_a_place_on_no_other,
     what_comes_free_is_for_those_first_who_wait_for_this_worker,
     who_waits_for_a_worker_that_is_gone_is_told,
     who_waits_for_one_worker_leaves_room_in_the_queue_for_others,
     all_are_told_when_the_pool_stops,
     a_place_is_given_back_once, the_death_of_a_holder_is_known,
     a_stream_may_be_opened_before_the_news_of_its_place].

%% The table's owner is to outlive the cases.
init_per_suite(Config) ->
    Me = self(),
    Owner = spawn(fun() ->
        ok = hornbeam_pool_waiting:new_table(),
        Me ! made,
        receive stop -> ok end
    end),
    receive made -> [{owner, Owner} | Config] end.

end_per_suite(Config) ->
    hornbeam_eventually:dead(proplists:get_value(owner, Config)).

%% Places

a_worker_gives_as_many_places_as_it_has_and_not_one_more(_Config) ->
    [Handle] = Handles = handles([2]),
    {ok, _} = take(Handles),
    {ok, _} = take(Handles),
    ?assertEqual(none, take(Handles)),
    hornbeam_capacity:ended(Handle, self()),
    ?assertMatch({ok, _}, take(Handles)).

two_at_once_do_not_both_get_the_last_place(_Config) ->
    Handles = handles([7, 6, 7]),
    Me = self(),
    Takers = [spawn_monitor(fun() -> Me ! {took, take(Handles)} end) || _ <- lists:seq(1, 100)],
    [receive {'DOWN', Ref, process, _, normal} -> ok end || {_, Ref} <- Takers],
    ?assertEqual({20, 80}, taken(100, 0, 0)),
    ?assertEqual([7, 6, 7], [hornbeam_capacity:load(Handle) || Handle <- Handles]).

taken(0, Given, Refused) ->
    {Given, Refused};
taken(Left, Given, Refused) ->
    receive
        {took, {ok, _}} -> taken(Left - 1, Given + 1, Refused);
        {took, none} -> taken(Left - 1, Given, Refused + 1)
    end.

the_worker_with_the_least_streams_is_chosen(_Config) ->
    [First, Second] = Handles = handles([infinity, infinity]),
    hornbeam_capacity:started(First),
    {ok, Taken} = take(Handles),
    ?assertEqual(hornbeam_capacity:worker(Second), hornbeam_capacity:worker(Taken)).

a_slow_worker_is_chosen_only_when_all_are(_Config) ->
    [First, Second] = Handles = handles([infinity, infinity]),
    hornbeam_capacity:slow(First, true),
    hornbeam_capacity:started(Second),
    ?assertEqual(hornbeam_capacity:worker(Second), chosen(Handles)),
    hornbeam_capacity:slow(Second, true),
    ?assertEqual(hornbeam_capacity:worker(First), chosen(Handles)).

a_retiring_worker_stays_the_last_to_be_chosen(_Config) ->
    [First, Second] = Handles = handles([infinity, infinity]),
    hornbeam_capacity:retires(First),
    hornbeam_capacity:slow(First, false),
    hornbeam_capacity:slow(Second, true),
    ?assertEqual(hornbeam_capacity:worker(Second), chosen(Handles)),
    ?assertNot(hornbeam_capacity:is_slow(First)).

chosen(Handles) ->
    {ok, Taken} = take(Handles),
    hornbeam_capacity:worker(Taken).

a_closed_worker_gives_no_place(_Config) ->
    [Handle] = Handles = handles([infinity]),
    ?assertEqual(closed, hornbeam_capacity:close(Handle)),
    ?assertEqual(none, take(Handles)),
    ?assertEqual(0, hornbeam_capacity:load(Handle)).

a_worker_with_a_place_taken_does_not_close(_Config) ->
    [Handle] = Handles = handles([infinity]),
    {ok, _} = take(Handles),
    ?assertEqual(busy, hornbeam_capacity:close(Handle)),
    hornbeam_capacity:ended(Handle, self()),
    ?assertEqual(closed, hornbeam_capacity:close(Handle)).

%% The queue

those_who_wait_are_served_in_their_order(_Config) ->
    [Handle] = Handles = full_handles(),
    {[First, Second], Queue} = joined(2, queue(10)),
    Waiting = hornbeam_pool_queue:serve(Handles, Queue),
    hornbeam_capacity:ended(Handle, self()),
    One = hornbeam_pool_queue:serve(Handles, Waiting),
    ?assertMatch({ok, _}, answer(First)),
    ?assertEqual(none, answer(Second)),
    hornbeam_capacity:ended(Handle, self()),
    None = hornbeam_pool_queue:serve(Handles, One),
    ?assertMatch({ok, _}, answer(Second)),
    ?assertEqual(0, hornbeam_pool_queue:count(None)).

a_free_place_is_told_once_and_only_when_wanted(_Config) ->
    [Handle] = Handles = handles([2]),
    [{ok, _} = take(Handles) || _ <- [1, 2]],
    hornbeam_capacity:ended(Handle, self()),
    ?assertEqual(0, rooms()),
    {ok, _} = take(Handles),
    {_, Queue} = joined(1, queue(10)),
    _ = hornbeam_pool_queue:serve(Handles, Queue),
    ?assertEqual(0, rooms()),
    [hornbeam_capacity:ended(Handle, self()) || _ <- [1, 2]],
    ?assertEqual(1, rooms()).

rooms() ->
    receive
        {room, _} -> 1 + rooms()
    after 0 ->
        0
    end.

a_queue_holds_so_many_and_not_one_more(_Config) ->
    {[First, Second, Third], Queue} = joined(3, queue(2)),
    ?assertEqual([none, none, {error, queue_full}], [answer(R) || R <- [First, Second, Third]]),
    ?assertEqual(2, hornbeam_pool_queue:count(Queue)).

who_waits_too_long_is_told(_Config) ->
    {[Ref], Queue} = joined(1, queue(10, 1)),
    receive
        {late, Ref} -> ok
    end,
    ?assertEqual(0, hornbeam_pool_queue:count(hornbeam_pool_queue:late(Ref, Queue))),
    ?assertEqual({error, late}, answer(Ref)).

who_has_waited_before_waits_only_for_the_rest(_Config) ->
    Ref = hornbeam_pool_waiting:enter(?MODULE, any),
    Before = erlang:monotonic_time() - erlang:convert_time_unit(60, second, native),
    Queue = queue(10),
    _ = hornbeam_pool_queue:join(Ref, self(), Before, Queue),
    receive
        {late, Ref} -> ok
    after 5000 ->
        error(not_late)
    end.

nobody_waits_twice(_Config) ->
    {[Ref], Queue} = joined(1, queue(10)),
    ?assertEqual(Queue, hornbeam_pool_queue:join(Ref, self(), 0, Queue)).

who_waits_is_in_the_line_and_who_was_answered_is_not(_Config) ->
    Me = self(),
    {[Ref], Queue} = joined(1, queue(10)),
    ?assertMatch({ok, Me, _}, hornbeam_pool_waiting:find(Ref)),
    _ = hornbeam_pool_queue:serve(handles([1]), Queue),
    ?assertMatch({ok, _}, answer(Ref)),
    ?assertEqual(gone, hornbeam_pool_waiting:find(Ref)).

those_in_line_stand_in_their_order(_Config) ->
    Line = make_ref(),
    Refs = [hornbeam_pool_waiting:enter(Line, any) || _ <- lists:seq(1, 100)],
    ?assertEqual(Refs, [Ref || {Ref, _, _} <- hornbeam_pool_waiting:waiting(Line)]),
    hornbeam_pool_waiting:abandon(Line),
    ?assertEqual([{error, no_worker}], lists:usort([answer(Ref) || Ref <- Refs])),
    ?assertEqual([], hornbeam_pool_waiting:waiting(Line)).

who_leaves_is_not_served(_Config) ->
    {[First, Second], Queue} = joined(2, queue(10)),
    {left, Left} = hornbeam_pool_queue:leave(First, Queue),
    ?assertEqual(unknown, hornbeam_pool_queue:leave(First, Left)),
    _ = hornbeam_pool_queue:serve(handles([1]), Left),
    ?assertEqual(none, answer(First)),
    ?assertMatch({ok, _}, answer(Second)).

who_left_is_known_until_struck_out(_Config) ->
    Line = make_ref(),
    Ref = hornbeam_pool_waiting:enter(Line, any),
    hornbeam_pool_waiting:leave(Ref, Line),
    hornbeam_pool_waiting:answer(Ref, {error, late}),
    ?assertEqual(none, answer(Ref)),
    hornbeam_pool_waiting:leave(Ref, Line),
    ?assertEqual([], hornbeam_pool_waiting:waiting(Line)),
    ?assertEqual([Ref], hornbeam_pool_waiting:left(Line)),
    ?assertEqual(gone, hornbeam_pool_waiting:find(Ref)),
    hornbeam_pool_waiting:strike(Ref),
    ?assertEqual([], hornbeam_pool_waiting:left(Line)).

who_waits_for_a_worker_gets_a_place_on_no_other(_Config) ->
    [Full, _Free] = Handles = handles([1, 1]),
    {ok, _} = take([Full]),
    {[Ref], Queue} = joined(1, {its, Full}, queue(10)),
    Waiting = hornbeam_pool_queue:serve(Handles, Queue),
    ?assertEqual({none, true}, {answer(Ref), hornbeam_capacity:is_kept(Full)}),
    hornbeam_capacity:ended(Full, self()),
    ?assertEqual(1, rooms()),
    Served = hornbeam_pool_queue:serve(Handles, Waiting),
    {ok, Given} = answer(Ref),
    ?assertEqual(hornbeam_capacity:id(Full), hornbeam_capacity:id(Given)),
    ?assertEqual({0, false}, {hornbeam_pool_queue:count(Served), hornbeam_capacity:is_kept(Full)}).

what_comes_free_is_for_those_first_who_wait_for_this_worker(_Config) ->
    [Full] = Handles = full_handles(),
    {[Any], Queue} = joined(1, queue(10)),
    {[Its], Both} = joined(1, {its, Full}, Queue),
    Waiting = hornbeam_pool_queue:serve(Handles, Both),
    hornbeam_capacity:ended(Full, self()),
    One = hornbeam_pool_queue:serve(Handles, Waiting),
    ?assertMatch({none, {ok, _}}, {answer(Any), answer(Its)}),
    hornbeam_capacity:ended(Full, self()),
    _ = hornbeam_pool_queue:serve(Handles, One),
    ?assertMatch({ok, _}, answer(Any)).

who_waits_for_a_worker_that_is_gone_is_told(_Config) ->
    [Gone, Other] = handles([1, 1]),
    {[First, Second], Queue} = joined(2, {its, Gone}, queue(10)),
    Left = hornbeam_pool_queue:serve([Other], Queue),
    ?assertEqual([{error, gone}, {error, gone}], [answer(First), answer(Second)]),
    ?assertEqual(0, hornbeam_pool_queue:count(Left)).

who_waits_for_one_worker_leaves_room_in_the_queue_for_others(_Config) ->
    [Full] = full_handles(),
    {Refs, Queue} = joined(5, {its, Full}, queue(8)),
    ?assertEqual([none, none, none, none, {error, queue_full}], [answer(Ref) || Ref <- Refs]),
    {Others, _} = joined(5, Queue),
    ?assertEqual([none, none, none, none, {error, queue_full}], [answer(Ref) || Ref <- Others]).

all_are_told_when_the_pool_stops(_Config) ->
    {Refs, Queue} = joined(2, queue(10)),
    ?assertEqual(0, hornbeam_pool_queue:count(hornbeam_pool_queue:abandon(Queue))),
    ?assertEqual([{error, no_worker}, {error, no_worker}], [answer(Ref) || Ref <- Refs]).

%% The worker's side of a place

a_place_is_given_back_once(_Config) ->
    Place = make_ref(),
    Given = hornbeam_worker_places:hold(Place, self(), hornbeam_worker_places:new()),
    {ok, Free} = hornbeam_worker_places:release(Place, Given),
    ?assertEqual(unknown, hornbeam_worker_places:release(Place, Free)),
    Used = hornbeam_worker_places:use(Place, Given),
    ?assertEqual(unknown, hornbeam_worker_places:release(Place, Used)).

the_death_of_a_holder_is_known(_Config) ->
    Place = make_ref(),
    Holder = spawn(fun() -> receive _ -> ok end end),
    Given = hornbeam_worker_places:hold(Place, Holder, hornbeam_worker_places:new()),
    hornbeam_eventually:dead(Holder),
    receive
        {{'DOWN', {place, Place}}, _, process, Holder, killed} -> ok
    end,
    ?assertMatch({ok, _}, hornbeam_worker_places:release(Place, Given)).

a_stream_may_be_opened_before_the_news_of_its_place(_Config) ->
    Place = make_ref(),
    New = hornbeam_worker_places:new(),
    Used = hornbeam_worker_places:use(Place, New),
    ?assertEqual(New, hornbeam_worker_places:hold(Place, self(), Used)).

%% Handles of workers that nobody plays: their mailboxes are ours to ignore.

handles(Limits) ->
    Worker = fun() -> receive stop -> ok end end,
    [hornbeam_capacity:new(#{worker => spawn_link(Worker), writer => self(), name => <<>>,
                              limit => Limit, adoption => no_adoption(),
                              tagged_owners => hornbeam_stream_owners:new(),
                              counts => hornbeam_capacity:new_counts()})
     || Limit <- Limits].

full_handles() ->
    Handles = handles([1]),
    {ok, _} = take(Handles),
    Handles.

take(Handles) ->
    Place = make_ref(),
    Take = fun(Handle) -> hornbeam_capacity:hold(Handle, Place, self()) end,
    hornbeam_pool_balancer:reserve(Handles, Take).

queue(Max) ->
    queue(Max, 60000).

queue(Max, Timeout) ->
    hornbeam_pool_queue:new(<<"/">>, Max, Timeout, hornbeam_pool_row:new_waiting()).

joined(Count, Queue) ->
    joined(Count, any, Queue).

joined(Count, Wish, Queue) ->
    lists:mapfoldl(fun(_, Joined) ->
        Ref = hornbeam_pool_waiting:enter(?MODULE, Wish),
        {ok, Me, Since} = hornbeam_pool_waiting:find(Ref),
        {Ref, hornbeam_pool_queue:join(Ref, Me, Since, Joined)}
    end, Queue, lists:seq(1, Count)).

answer(Ref) ->
    receive
        {hornbeam_pool, Ref, Answer} -> Answer
    after 0 ->
        none
    end.

%% Nobody subscribes here.
no_adoption() -> {hornbeam_api, hornbeam_worker_events:new(self(), hornbeam_worker_unread:new())}.
