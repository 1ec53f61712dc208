%% Which worker a request of a session goes to, and how sessions are bound to workers.
-module(hornbeam_pool_affinity_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

-define(POOL, <<"/">>).

all() ->
    [a_session_stays_on_the_worker_that_it_was_bound_to,
     of_two_that_bind_at_once_one_decides, new_sessions_come_to_the_workers_in_turn,
     keys_are_spread_evenly_whoever_has_chosen_them,
     one_worker_more_moves_no_session_and_gets_the_next_ones,
     without_bindings_one_worker_more_moves_few_keys,
     a_session_follows_its_slot, a_session_of_a_dead_worker_moves_once_and_that_is_told_once,
     a_session_that_the_app_has_named_is_forgotten_with_its_worker,
     a_placed_session_needs_no_binding_until_its_worker_is_gone,
     an_overloaded_worker_keeps_its_sessions_and_gets_no_new_ones,
     a_worker_whose_sessions_wait_gets_no_others,
     a_binding_that_nobody_uses_is_forgotten, a_binding_lasts_as_long_as_its_holder,
     a_pool_has_so_many_bindings_and_not_one_more, a_client_has_a_share_of_them,
     a_session_with_another_name_leaves_the_old_one_for_a_while,
     nothing_is_left_of_a_pool, what_many_do_at_once_is_counted_right].

init_per_suite(Config) ->
    Me = self(),
    Owner = spawn(fun() ->
        ok = hornbeam_pool_bindings:new_tables(),
        ok = hornbeam_telemetry:new_table(),
        Me ! made,
        receive stop -> ok end
    end),
    receive made -> [{owner, Owner} | Config] end.

end_per_suite(Config) ->
    hornbeam_eventually:dead(proplists:get_value(owner, Config)).

end_per_testcase(_Case, _Config) ->
    hornbeam_pool_bindings:erase(?POOL).

%% Choice

a_session_stays_on_the_worker_that_it_was_bound_to(_Config) ->
    Handles = workers(4),
    Homes = [{Key, placed(Key, Handles)} || Key <- keys(100)],
    [?assertEqual({its, Home}, candidates(named(Key), Handles)) || {Key, Home} <- Homes].

of_two_that_bind_at_once_one_decides(_Config) ->
    [One, Another] = Handles = workers(2),
    [Key] = keys(1),
    ?assertEqual(ok, settle(named(Key), One, Handles)),
    ?assertEqual(elsewhere, settle(named(Key), Another, Handles)),
    ?assertEqual(ok, settle(named(Key), One, Handles)).

new_sessions_come_to_the_workers_in_turn(_Config) ->
    Handles = workers(4),
    ?assertEqual([250, 250, 250, 250],
                 spread([first(candidates(new, Handles)) || _ <- lists:seq(1, 1000)])).

keys_are_spread_evenly_whoever_has_chosen_them(_Config) ->
    Handles = workers(4),
    [Victim | _] = Handles,
    fair(spread([placed(Key, Handles) || Key <- keys(1000)])),
    hornbeam_pool_bindings:erase(?POOL),
    %% As if by one who knows the hash.
    Chosen = [Key || Key <- keys(6000), first(candidates(minted(Key), Handles)) =:= Victim],
    fair(spread([placed(Key, Handles) || Key <- lists:sublist(Chosen, 1000)])).

fair(Spread) ->
    ?assertEqual(4, length(Spread)),
    ?assert(lists:max(Spread) / lists:min(Spread) =< 1.2, Spread).

one_worker_more_moves_no_session_and_gets_the_next_ones(_Config) ->
    Four = workers(4),
    Homes = [{Key, placed(Key, Four)} || Key <- keys(400)],
    Five = Four ++ [worker(5)],
    [?assertEqual({its, Home}, candidates(named(Key), Five)) || {Key, Home} <- Homes],
    Later = [placed(Key, Five) || Key <- keys(450) -- keys(400)],
    ?assertEqual([lists:last(Five)], lists:usort(Later)).

without_bindings_one_worker_more_moves_few_keys(_Config) ->
    Four = workers(4),
    Five = Four ++ [worker(5)],
    Moved = [Key || Key <- keys(1000),
                    first(candidates(minted(Key), Four)) =/= first(candidates(minted(Key), Five))],
    ?assert(length(Moved) < 300, length(Moved)),
    ?assertEqual([lists:last(Five)],
                 lists:usort([first(candidates(minted(Key), Five)) || Key <- Moved])).

a_session_follows_its_slot(_Config) ->
    Before = workers(4),
    Homes = [{Key, placed(Key, Before)} || Key <- keys(100)],
    After = workers(4),
    [?assertEqual(hornbeam_capacity:name(Home), hornbeam_capacity:name(placed(Key, After)))
     || {Key, Home} <- Homes].

a_session_of_a_dead_worker_moves_once_and_that_is_told_once(_Config) ->
    [Dead | Living] = Handles = workers(2),
    Keys = [Key || Key <- keys(100), placed(Key, Handles) =:= Dead],
    told(fun() -> [placed(Key, Living) || _ <- [1, 2], Key <- Keys] end, length(Keys)),
    ?assertEqual(lists:duplicate(length(Keys), hd(Living)), [placed(Key, Living) || Key <- Keys]).

told(Do, Times) ->
    Me = self(),
    ok = hornbeam_telemetry:attach(?MODULE, [hornbeam, session, moved],
                                   fun(_, Count, Where, _) -> Me ! {moved, Count, Where} end, none),
    _ = Do(),
    ok = hornbeam_telemetry:detach(?MODULE),
    [receive {moved, #{count := 1}, #{mount := ?POOL, from := _, to := _}} -> ok after 0 ->
        error(not_told) end || _ <- lists:seq(1, Times)],
    receive {moved, _, _} = More -> error({told_twice, More}) after 0 -> ok end.

a_session_that_the_app_has_named_is_forgotten_with_its_worker(_Config) ->
    [Dead | Living] = workers(2),
    [Key] = keys(1),
    ok = hornbeam_pool_affinity:learn(Key, Dead, ?POOL, bounds()),
    ?assertEqual({its, Dead}, candidates(minted(Key), [Dead | Living])),
    told(fun() -> [candidates(minted(Key), Living) || _ <- [1, 2]] end, 1),
    ?assertEqual({one_of, Living}, candidates(minted(Key), Living)),
    ?assertEqual(0, hornbeam_pool_bindings:count(?POOL, all)).

a_placed_session_needs_no_binding_until_its_worker_is_gone(_Config) ->
    [One, Another, Third] = workers(3),
    [Key] = keys(1),
    Placed = {placed, hornbeam_capacity:id(One), Key, bounds()},
    ?assertEqual({its, One}, candidates(Placed, [One, Another])),
    ?assertEqual(ok, settle(Placed, One, [One, Another])),
    ?assertEqual(0, hornbeam_pool_bindings:count(?POOL, all)),
    told(fun() -> settle(Placed, Another, [Another, Third]) end, 1),
    %% Whoever still says so is brought to where it went.
    ?assertEqual({its, Another}, candidates(Placed, [Another, Third])).

an_overloaded_worker_keeps_its_sessions_and_gets_no_new_ones(_Config) ->
    [Slow, Loaded, _] = Handles = workers(3),
    Keys = [Key || Key <- keys(30), placed(Key, Handles) =:= Slow],
    hornbeam_capacity:slow(Slow, true),
    [hornbeam_capacity:started(Loaded) || _ <- lists:seq(1, 50)],
    [?assertEqual({its, Slow}, candidates(named(Key), Handles)) || Key <- Keys],
    Others = keys(60) -- keys(30),
    Chosen = [first(candidates(Session, Handles))
              || Key <- Others, Session <- [new, named(Key), minted(Key)]],
    ?assertEqual([lists:last(Handles)], lists:usort(Chosen)).

a_worker_whose_sessions_wait_gets_no_others(_Config) ->
    [Kept, Free] = Handles = workers(2),
    hornbeam_capacity:keep(Kept, 1),
    [Key] = keys(1),
    [?assertEqual({one_of, [Free]}, candidates(Session, Handles))
     || Session <- [any, new, named(Key), minted(Key)]].

%% Bindings

a_binding_that_nobody_uses_is_forgotten(_Config) ->
    [Worker] = workers(1),
    Bounds = (bounds())#{timeout := 1, holder := dead()},
    [hornbeam_pool_affinity:learn(Key, Worker, ?POOL, Bounds) || Key <- keys(10)],
    later(),
    ?assertEqual(none, hornbeam_pool_bindings:find(?POOL, hd(keys(1)), Bounds)),
    ?assertEqual(9, hornbeam_pool_bindings:count(?POOL, all)),
    hornbeam_pool_bindings:sweep(?POOL, 1),
    ?assertEqual({0, 0}, {hornbeam_pool_bindings:count(?POOL, all), rows()}).

a_binding_lasts_as_long_as_its_holder(_Config) ->
    [Worker] = workers(1),
    [Key] = keys(1),
    Holder = spawn(fun() -> receive stop -> ok end end),
    Bounds = (bounds())#{timeout := 1, holder := Holder},
    hornbeam_pool_affinity:learn(Key, Worker, ?POOL, Bounds),
    %% One that uses it for a request does not take it over.
    [begin
         later(),
         hornbeam_pool_bindings:sweep(?POOL, 1),
         ?assertMatch({ok, _}, hornbeam_pool_bindings:find(?POOL, Key, Bounds#{holder := dead()}))
     end || _ <- [1, 2, 3]],
    hornbeam_eventually:dead(Holder),
    later(),
    ?assertEqual(none, hornbeam_pool_bindings:find(?POOL, Key, Bounds)).

later() ->
    Now = erlang:monotonic_time(millisecond),
    hornbeam_eventually:holds(fun() -> erlang:monotonic_time(millisecond) > Now + 3 end).

a_pool_has_so_many_bindings_and_not_one_more(_Config) ->
    [Worker] = workers(1),
    Keys = keys(50),
    [hornbeam_pool_affinity:learn(Key, Worker, ?POOL, (bounds(10))#{client := Key}) || Key <- Keys],
    ?assertEqual({10, 10}, {hornbeam_pool_bindings:count(?POOL, all), rows()}),
    ?assertEqual(40, hornbeam_pool_bindings:take(?POOL, forgotten)),
    ?assertEqual(10, hornbeam_pool_bindings:count(?POOL, {worker, hornbeam_capacity:id(Worker)})).

%% The one that it has not used for longest has to go, and none of others.
a_client_has_a_share_of_them(_Config) ->
    [Worker] = workers(1),
    [Other | Keys] = keys(500),
    hornbeam_pool_affinity:learn(Other, Worker, ?POOL, (bounds(1000))#{client := other}),
    [hornbeam_pool_affinity:learn(Key, Worker, ?POOL, bounds(1000)) || Key <- Keys],
    ?assertEqual(100, hornbeam_pool_bindings:count(?POOL, {client, client})),
    ?assertEqual({its, Worker}, candidates(minted(Other), [Worker])),
    ?assertEqual({101, 101}, {hornbeam_pool_bindings:count(?POOL, all), rows()}).

a_session_with_another_name_leaves_the_old_one_for_a_while(_Config) ->
    [Worker] = workers(1),
    [Key] = keys(1),
    hornbeam_pool_affinity:learn(Key, Worker, ?POOL, bounds()),
    hornbeam_pool_bindings:retire(?POOL, Key, bounds()),
    hornbeam_pool_bindings:sweep(?POOL, maps:get(timeout, bounds())),
    ?assertEqual(1, hornbeam_pool_bindings:count(?POOL, all)),
    hornbeam_pool_bindings:sweep(?POOL, maps:get(timeout, bounds()) - 31000),
    ?assertEqual(0, hornbeam_pool_bindings:count(?POOL, all)).

nothing_is_left_of_a_pool(_Config) ->
    Handles = workers(2),
    [placed(Key, Handles) || Key <- keys(100)],
    _ = candidates(new, Handles),
    hornbeam_pool_bindings:erase(?POOL),
    ?assertEqual({0, 0}, {rows(), ets:info(hornbeam_pool_bindings_counts, size)}).

what_many_do_at_once_is_counted_right(_Config) ->
    Handles = workers(2),
    Keys = keys(20),
    Busy = fun() ->
        [begin
             placed(Key, Handles),
             hornbeam_pool_bindings:retire(?POOL, Key, bounds()),
             _ = hornbeam_pool_bindings:unbind(?POOL, Key)
         end || _ <- lists:seq(1, 50), Key <- Keys]
    end,
    Pids = [spawn_monitor(Busy) || _ <- lists:seq(1, 8)],
    [receive {'DOWN', Ref, process, Pid, Why} -> ?assertEqual(normal, Why) end
     || {Pid, Ref} <- Pids],
    [hornbeam_pool_bindings:unbind(?POOL, Key) || Key <- Keys],
    hornbeam_pool_bindings:sweep(?POOL, -3600000),
    ?assertEqual({0, 0}, {rows(), hornbeam_pool_bindings:count(?POOL, all)}),
    ?assertEqual([], [What || {{_, What}, _} <- ets:tab2list(hornbeam_pool_bindings_counts)]).

%% Workers that nobody plays, and sessions.

workers(Number) ->
    [worker(N) || N <- lists:seq(1, Number)].

worker(Number) ->
    hornbeam_capacity:new(#{worker => self(), writer => self(), limit => infinity,
                             name => <<"worker-", (integer_to_binary(Number))/binary>>,
                             tagged_owners => none, adoption => none,
                             counts => hornbeam_capacity:new_counts()}).

keys(Number) ->
    [hornbeam_pool_bindings:digest(integer_to_binary(N)) || N <- lists:seq(1, Number)].

named(Key) -> {named, Key, bounds()}.

minted(Key) -> {minted, Key, bounds()}.

bounds() -> bounds(100000).

bounds(Max) -> #{max => Max, timeout => 3600000, client => client, holder => self()}.

dead() ->
    {Pid, Ref} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Ref, process, Pid, _} -> Pid end.

candidates(Session, Handles) ->
    hornbeam_pool_affinity:candidates(Session, ?POOL, Handles).

first({its, Handle}) -> Handle;
first({one_of, [Handle | _]}) -> Handle.

settle(Session, Handle, Handles) ->
    hornbeam_pool_affinity:settle(Session, Handle, ?POOL, Handles).

%% Where a request with a key goes.
placed(Key, Handles) ->
    Handle = first(candidates(named(Key), Handles)),
    case settle(named(Key), Handle, Handles) of
        ok -> Handle;
        elsewhere -> placed(Key, Handles)
    end.

spread(Chosen) ->
    lists:sort(maps:values(lists:foldl(fun(Handle, Counts) ->
        maps:update_with(hornbeam_capacity:id(Handle), fun(N) -> N + 1 end, 1, Counts)
    end, #{}, Chosen))).

rows() ->
    {Bindings, Places} = {ets:info(hornbeam_pool_bindings, size),
                          ets:info(hornbeam_pool_bindings_order, size)},
    ?assertEqual(2 * Bindings, Places),
    Bindings.
