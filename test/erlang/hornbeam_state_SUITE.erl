%% Shared state: values, counters, expiry, prefixes, and what is bound to a process.
-module(hornbeam_state_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    properties_hold/1,
    a_value_comes_back/1,
    an_absent_key_is_undefined_or_the_default/1,
    keys_are_text_bytes_integers_and_tuples_of_them/1,
    text_and_bytes_are_two_keys/1,
    several_keys_are_set_and_read_together/1,
    add_sets_only_what_is_absent/1,
    one_of_8_processes_adds_a_key/1,
    one_of_8_processes_takes_a_value/1,
    take_tells_what_is_left_of_the_time_to_live/1,
    cas_compares_exactly/1,
    cas_loops_of_8_processes_lose_nothing/1,
    large_values_are_compared_up_to_their_difference/1,
    the_order_of_more_than_1_mib_of_pairs_is_not_looked_at/1,
    an_absent_counter_starts_at_0/1,
    counters_of_8_processes_sum_exactly/1,
    an_increment_of_what_is_no_number_changes_nothing/1,
    a_float_past_its_range_changes_nothing/1,
    what_python_packed_is_a_counter_for_erlang/1,
    what_is_past_its_time_is_seen_by_nobody/1,
    a_key_lives_as_long_as_it_was_said/1,
    a_change_in_place_keeps_the_time_to_live/1,
    setting_anew_ends_the_time_to_live/1,
    the_sweeper_frees_what_is_past_its_time/1,
    overwritten_expiries_do_not_pile_up/1,
    prefixes_end_where_bytes_end/1,
    a_tuple_is_the_prefix_of_tuples/1,
    a_prefix_query_does_not_scan/1,
    a_long_tuple_does_not_hold_up_prefixes/1,
    what_the_dead_set_is_gone/1,
    what_others_set_since_stays/1,
    who_set_it_last_owns_it/1,
    a_change_in_place_leaves_it_bound/1,
    the_dead_change_nothing/1,
    a_bound_increment_of_what_is_no_number_changes_nothing/1,
    an_int_of_more_bytes_than_can_travel_is_no_result/1,
    what_an_undo_needs_may_be_of_any_size/1,
    a_bound_sum_that_could_not_be_taken_back_changes_nothing/1,
    an_undo_past_the_range_of_floats_ends_at_its_end/1,
    a_new_server_undoes_who_died_meanwhile/1,
    tables_survive_the_crash_of_their_processes/1,
    the_log_of_one_owner_does_not_pile_up/1,
    bound_counters_equal_the_living/1
]).

all() ->
    [Name || {Name, 1} <- module_info(exports), not lists:member(Name, others())].

others() -> [module_info, init_per_suite, end_per_suite].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

init_per_testcase(_Name, Config) ->
    [hornbeam_state:delete(Key) || Key <- hornbeam_state:keys()],
    Config.

end_per_testcase(_Name, _Config) ->
    ok.

properties_hold(_Config) ->
    [?assert(hornbeam_properties:hold(Property))
     || Property <- hornbeam_properties:of_module(prop_hornbeam_state)].

%%% Values

a_value_comes_back(_Config) ->
    Values = [1, 1.5, <<"text">>, atom, [1, {2, #{a => <<"b">>}}], self(), undefined, <<1:3>>],
    [begin
         ok = hornbeam_state:set(<<"k">>, Value),
         ?assertEqual(Value, hornbeam_state:get(<<"k">>))
     end || Value <- Values].

an_absent_key_is_undefined_or_the_default(_Config) ->
    ?assertEqual(undefined, hornbeam_state:get(<<"k">>)),
    ?assertEqual(none, hornbeam_state:get(<<"k">>, none)),
    ?assertEqual(undefined, hornbeam_state:take(<<"k">>)),
    ?assertEqual(false, hornbeam_state:delete(<<"k">>)).

keys_are_text_bytes_integers_and_tuples_of_them(_Config) ->
    Keys = [<<"ü"/utf8>>, {bytes, <<255>>}, 0, -(1 bsl 70), {}, {<<"a">>, {bytes, <<"b">>}, {1}}],
    [ok = hornbeam_state:set(Key, Key) || Key <- Keys],
    [?assertEqual(Key, hornbeam_state:get(Key)) || Key <- Keys],
    ?assertEqual(lists:sort(Keys), hornbeam_state:keys()),
    [?assertError({bad_key, Bad}, hornbeam_state:set(Bad, 1))
     || Bad <- [atom, 1.0, <<255>>, [1], {ok, 1}, #{}, '_', {'_'}]].

text_and_bytes_are_two_keys(_Config) ->
    ok = hornbeam_state:set(<<"k">>, text),
    ok = hornbeam_state:set({bytes, <<"k">>}, bytes),
    ?assertEqual(text, hornbeam_state:get(<<"k">>)),
    ?assertEqual(bytes, hornbeam_state:get({bytes, <<"k">>})).

several_keys_are_set_and_read_together(_Config) ->
    ok = hornbeam_state:set_multi(#{<<"a">> => 1, <<"b">> => two}),
    ?assertEqual(#{<<"a">> => 1, <<"b">> => two},
                 hornbeam_state:get_multi([<<"a">>, <<"b">>, <<"c">>])).

add_sets_only_what_is_absent(_Config) ->
    ?assert(hornbeam_state:add(<<"k">>, 1)),
    ?assertNot(hornbeam_state:add(<<"k">>, 2)),
    ?assertEqual(1, hornbeam_state:get(<<"k">>)).

one_of_8_processes_adds_a_key(_Config) ->
    [?assertEqual(1, length([true || true <- in_8_processes(fun(N) ->
                                 hornbeam_state:add(Key, N)
                             end)]))
     || Key <- lists:seq(1, 200)].

take_tells_what_is_left_of_the_time_to_live(_Config) ->
    ok = hornbeam_state:set(<<"k">>, for_good),
    ?assertEqual({ok, {term, for_good}, infinity}, hornbeam_state_table:take(<<"k">>)),
    ok = hornbeam_state:set(<<"k">>, for_a_while, #{ttl => 60000}),
    {ok, {term, for_a_while}, Left} = hornbeam_state_table:take(<<"k">>),
    ?assert(Left > 0 andalso Left =< 60000),
    ?assertEqual(absent, hornbeam_state_table:take(<<"k">>)).

one_of_8_processes_takes_a_value(_Config) ->
    [begin
         ok = hornbeam_state:set(Key, here),
         Taken = in_8_processes(fun(_) -> hornbeam_state:take(Key) end),
         ?assertEqual([here], [Value || Value <- Taken, Value =/= undefined])
     end || Key <- lists:seq(1, 200)].

cas_compares_exactly(_Config) ->
    Python = fun(Term) -> {packed, iolist_to_binary(hornbeam_msgpack:encode(Term))} end,
    Bytes = fun(B) -> {packed, iolist_to_binary(hornbeam_msgpack:bin(B))} end,
    Dict = {packed, <<16#82, 16#a1, $b, 1, 16#a1, $a, 2>>},
    Same = [{1, 1}, {1.0, 1.0}, {Python(<<"a">>), Python(<<"a">>)},
            {Python(#{<<"a">> => 2, <<"b">> => 1}), Dict},
            {Python([Python]), Python([Python])},
            {{term, #{<<"a">> => [nil]}}, Python(#{<<"a">> => [undefined]})},
            {Bytes(<<"a">>), {term, <<"a">>}}, {Python(<<"a">>), {term, <<"a">>}}],
    Other = [{1, 1.0}, {1.0, 1}, {Python(<<"a">>), Bytes(<<"a">>)}, {Python(true), 1},
             {1, Python(true)}, {Python([1, 2]), Python([2, 1])}, {Python({1}), Python([1])},
             {Python([1]), Python([1.0])}, {{term, <<"a">>}, Bytes(<<"a">>)},
             {{term, a}, {term, b}}, {{term, <<1:3>>}, Python(<<"a">>)},
             {Python(undefined), 0}],
    [?assertEqual({Pair, true}, {Pair, cas(Pair)}) || Pair <- Same],
    [?assertEqual({Pair, false}, {Pair, cas(Pair)}) || Pair <- Other],
    ?assertNot(hornbeam_state_table:cas(<<"absent">>, 1, 2)).

cas({Stored, Expected}) ->
    _ = hornbeam_state_table:set(<<"k">>, Stored, infinity),
    Swapped = hornbeam_state_table:cas(<<"k">>, Expected, 99),
    ?assertEqual({ok, case Swapped of true -> 99; false -> Stored end},
                 hornbeam_state_table:get(<<"k">>)),
    Swapped.

cas_loops_of_8_processes_lose_nothing(_Config) ->
    ok = hornbeam_state:set(<<"k">>, []),
    _ = in_8_processes(fun(N) -> [push(N) || _ <- lists:seq(1, 100)] end),
    ?assertEqual(800, length(hornbeam_state:get(<<"k">>))).

push(N) ->
    List = hornbeam_state:get(<<"k">>),
    hornbeam_state:cas(<<"k">>, List, [N | List]) orelse push(N).

%% Two maps of 1.5 million pairs took 5 s and some 100 MB.
large_values_are_compared_up_to_their_difference(_Config) ->
    Pairs = [[hornbeam_msgpack:int(N), hornbeam_msgpack:int(-N)] || N <- lists:seq(1, 200000)],
    Map = fun(Before, Last) ->
        iolist_to_binary([<<16#91>>, hornbeam_msgpack:map(200001), Before, <<0, Last>>])
    end,
    [Value, Same, Other, Turned] = [Map(Pairs, 1), Map(Pairs, 1), Map(Pairs, 2),
                                    Map(lists:reverse(Pairs), 1)],
    ?assertEqual(true, in_little(fun() -> hornbeam_packed:same(Value, Same) end)),
    ?assertEqual(false, in_little(fun() -> hornbeam_packed:same(Value, Other) end)),
    ?assertEqual({error, too_long}, in_little(fun() -> hornbeam_packed:same(Value, Turned) end)),
    Many = fun(Last) ->
        iolist_to_binary([hornbeam_msgpack:array(5000000), binary:copy(<<16#c0>>, 4999999), Last])
    end,
    ?assertEqual({error, too_long}, hornbeam_packed:same(Many(<<16#c2>>), Many(<<16#c3>>))).

%% In a heap of 8 MiB.
in_little(Fun) ->
    {Pid, Ref} = spawn_opt(fun() -> exit({done, Fun()}) end,
                           [monitor, {max_heap_size, #{size => 1048576, kill => true,
                                                       error_logger => false}}]),
    receive
        {'DOWN', Ref, process, Pid, {done, Result}} -> Result;
        {'DOWN', Ref, process, Pid, Reason} -> Reason
    end.

the_order_of_more_than_1_mib_of_pairs_is_not_looked_at(_Config) ->
    Pair = fun(Key, Size) -> [<<16#a1, Key>>, hornbeam_msgpack:bin(binary:copy(<<7>>, Size))] end,
    Maps = fun(More) ->
        {A, B} = {Pair($a, 524281), Pair($b, 524281 + More)},
        {iolist_to_binary([<<16#82>>, A, B]), iolist_to_binary([<<16#82>>, B, A])}
    end,
    {AtLimit, Turned} = Maps(0),
    ?assertEqual(1 + 1048576, byte_size(AtLimit)),
    ?assert(hornbeam_value:same({packed, AtLimit}, {packed, Turned})),
    {PastIt, TurnedToo} = Maps(1),
    ?assertEqual({error, too_long}, hornbeam_value:same({packed, PastIt}, {packed, TurnedToo})),
    _ = hornbeam_state_table:set(<<"k">>, {packed, PastIt}, infinity),
    ?assertEqual({error, too_long}, hornbeam_state_table:cas(<<"k">>, {packed, TurnedToo}, 1)),
    ?assertEqual({ok, {packed, PastIt}}, hornbeam_state_table:get(<<"k">>)),
    %% In a list of maps it is the sum that counts.
    Half = iolist_to_binary([<<16#82>>, Pair($a, 250000), Pair($b, 250000)]),
    HalfTurned = iolist_to_binary([<<16#82>>, Pair($b, 250000), Pair($a, 250000)]),
    List = fun(N, Map) -> iolist_to_binary([<<(16#90 + N)>>, lists:duplicate(N, Map)]) end,
    ?assert(hornbeam_packed:same(List(2, Half), List(2, HalfTurned))),
    ?assertEqual({error, too_long}, hornbeam_packed:same(List(3, Half), List(3, HalfTurned))).

%%% Counters

an_absent_counter_starts_at_0(_Config) ->
    ?assertEqual(1, hornbeam_state:incr(<<"k">>)),
    ?assertEqual(6, hornbeam_state:incr(<<"k">>, 5)),
    ?assertEqual(5, hornbeam_state:decr(<<"k">>)),
    ?assertEqual(2.5, hornbeam_state:decr(<<"k">>, 2.5)),
    ?assertEqual(3.5, hornbeam_state:incr(<<"k">>)),
    ?assertEqual(1 bsl 80, hornbeam_state:incr(<<"big">>, 1 bsl 80)),
    ?assertEqual((1 bsl 80) + 1, hornbeam_state:incr(<<"big">>)),
    %% 0 and the lesser of the two float zeros, which are not the same from OTP 27 on.
    ?assertEqual(<<"0.0">>, float_to_binary(hornbeam_state:incr(<<"zero">>, -0.0), [short])).

counters_of_8_processes_sum_exactly(_Config) ->
    _ = in_8_processes(fun(_) ->
        [begin
             _ = hornbeam_state:incr(<<"int">>, 3),
             _ = hornbeam_state:decr(<<"int">>),
             _ = hornbeam_state:incr(<<"float">>, 0.5)
         end || _ <- lists:seq(1, 1000)]
    end),
    ?assertEqual(16000, hornbeam_state:get(<<"int">>)),
    ?assertEqual(4000.0, hornbeam_state:get(<<"float">>)).

an_increment_of_what_is_no_number_changes_nothing(_Config) ->
    Values = [<<"1">>, true, undefined, [1]],
    [begin
         ok = hornbeam_state:set(<<"k">>, Value),
         ?assertEqual({error, not_a_number}, hornbeam_state:incr(<<"k">>)),
         ?assertEqual({error, not_a_number}, hornbeam_state:incr(<<"k">>, 1.5)),
         ?assertEqual(Value, hornbeam_state:get(<<"k">>))
     end || Value <- Values],
    True = {packed, <<16#c3>>},
    ?assertEqual(True, hornbeam_value:from_packed(<<16#c3>>)),
    _ = hornbeam_state_table:set(<<"k">>, True, infinity),
    ?assertEqual({error, not_a_number}, hornbeam_state:incr(<<"k">>)).

a_float_past_its_range_changes_nothing(_Config) ->
    ok = hornbeam_state:set(<<"k">>, 1.7e308),
    ?assertEqual({error, overflow}, hornbeam_state:incr(<<"k">>, 1.7e308)),
    ?assertEqual({error, overflow}, hornbeam_state:incr(<<"k">>, 1 bsl 2000)),
    ?assertEqual(1.7e308, hornbeam_state:get(<<"k">>)).

what_python_packed_is_a_counter_for_erlang(_Config) ->
    Packed = [<<5>>, <<16#ff>>, <<16#cd, 1, 0>>, <<16#cb, 1.5:64/float>>,
              iolist_to_binary(hornbeam_msgpack:encode(1 bsl 90))],
    [begin
         Value = hornbeam_value:from_packed(P),
         ?assert(is_number(Value)),
         _ = hornbeam_state_table:set(<<"k">>, Value, infinity),
         ?assertEqual(Value + 1, hornbeam_state:incr(<<"k">>)),
         ?assertEqual(P, hornbeam_value:to_packed(Value))
     end || P <- Packed].

%%% Expiry

what_is_past_its_time_is_seen_by_nobody(_Config) ->
    Expired = fun() ->
        ok = hornbeam_state:set(<<"k">>, 1, #{ttl => 1}),
        hornbeam_eventually:holds(fun() -> hornbeam_state:get(<<"k">>) =:= undefined end)
    end,
    Expired(),
    ?assertEqual([], hornbeam_state:keys()),
    ?assertEqual([], hornbeam_state:items(<<"k">>)),
    ?assertEqual([], hornbeam_state:items(all)),
    ?assertEqual(#{}, hornbeam_state:get_multi([<<"k">>])),
    ?assertNot(hornbeam_state:cas(<<"k">>, 1, 2)),
    ?assertEqual(absent, hornbeam_state_table:generation(<<"k">>)),
    ?assertEqual(undefined, hornbeam_state:take(<<"k">>)),
    Expired(),
    ?assertNot(hornbeam_state:delete(<<"k">>)),
    Expired(),
    ?assertEqual(10, hornbeam_state:incr(<<"k">>, 10)),
    ?assertEqual(10, hornbeam_state:get(<<"k">>)),
    Expired(),
    ?assert(hornbeam_state:add(<<"k">>, new)),
    ?assertEqual(new, hornbeam_state:get(<<"k">>)),
    ok = hornbeam_state:set({1, 2}, 1, #{ttl => 1}),
    hornbeam_eventually:holds(fun() -> hornbeam_state:get({1, 2}) =:= undefined end),
    ?assertEqual([], hornbeam_state:keys({1})).

a_key_lives_as_long_as_it_was_said(_Config) ->
    Before = erlang:monotonic_time(millisecond),
    ok = hornbeam_state:set(<<"k">>, 1, #{ttl => 300}),
    hornbeam_eventually:holds(fun() -> hornbeam_state:get(<<"k">>) =:= undefined end),
    ?assert(erlang:monotonic_time(millisecond) - Before >= 300).

a_change_in_place_keeps_the_time_to_live(_Config) ->
    ok = hornbeam_state:set(<<"k">>, 1, #{ttl => 20}),
    _ = hornbeam_state:incr(<<"k">>),
    _ = hornbeam_state:cas(<<"k">>, 2, 3),
    hornbeam_eventually:holds(fun() -> hornbeam_state:get(<<"k">>) =:= undefined end).

setting_anew_ends_the_time_to_live(_Config) ->
    ok = hornbeam_state:set(<<"k">>, 1, #{ttl => 1}),
    ok = hornbeam_state:set(<<"k">>, 2),
    ok = hornbeam_state:set(<<"other">>, 1, #{ttl => 1}),
    hornbeam_eventually:holds(fun() -> hornbeam_state:get(<<"other">>) =:= undefined end),
    hornbeam_state_rows:sweep(),
    ?assertEqual(2, hornbeam_state:get(<<"k">>)).

the_sweeper_frees_what_is_past_its_time(_Config) ->
    ok = hornbeam_state:set(<<"stays">>, 1, #{ttl => 1000000}),
    [ok = hornbeam_state:set(N, 1, #{ttl => N rem 7 + 1}) || N <- lists:seq(1, 500)],
    hornbeam_eventually:holds(fun() -> ets:info(hornbeam_state, size) =:= 1 end),
    ?assertEqual(1, ets:info(hornbeam_state_expiries, size)),
    ?assertEqual(1, hornbeam_state:get(<<"stays">>)).

overwritten_expiries_do_not_pile_up(_Config) ->
    [ok = hornbeam_state:set(<<"k">>, N, #{ttl => 1000000 + N}) || N <- lists:seq(1, 100)],
    ?assertEqual(1, ets:info(hornbeam_state_expiries, size)),
    ?assert(hornbeam_state:delete(<<"k">>)),
    ?assertEqual(0, ets:info(hornbeam_state_expiries, size)),
    ?assert(hornbeam_state:add(<<"k">>, 1, #{ttl => 1000000})),
    ?assertNot(hornbeam_state:add(<<"k">>, 1, #{ttl => 1000000})),
    ?assertEqual(1, ets:info(hornbeam_state_expiries, size)),
    [?assertError({bad_ttl, Bad}, hornbeam_state:set(<<"k">>, 1, #{ttl => Bad}))
     || Bad <- [0, -1, 1.5, soon]].

%%% Prefixes

prefixes_end_where_bytes_end(_Config) ->
    Keys = [{bytes, B} || B <- [<<>>, <<254>>, <<254, 255>>, <<255>>, <<255, 0>>, <<255, 255>>,
                                <<255, 255, 255>>, <<"a">>]],
    [ok = hornbeam_state:set(Key, 1) || Key <- Keys ++ [<<"a">>, <<"a", 0>>, <<"b">>, 1, {}]],
    Bytes = fun(B) -> [K || {bytes, K} <- hornbeam_state:keys({bytes, B})] end,
    ?assertEqual([<<255>>, <<255, 0>>, <<255, 255>>, <<255, 255, 255>>], Bytes(<<255>>)),
    ?assertEqual([<<255, 255>>, <<255, 255, 255>>], Bytes(<<255, 255>>)),
    ?assertEqual([<<254>>, <<254, 255>>], Bytes(<<254>>)),
    ?assertEqual(lists:sort([B || {bytes, B} <- Keys]), Bytes(<<>>)),
    ?assertEqual([<<"a">>, <<"a", 0>>], hornbeam_state:keys(<<"a">>)),
    ?assertEqual([<<"a">>, <<"a", 0>>, <<"b">>], hornbeam_state:keys(<<>>)),
    ?assertEqual([], hornbeam_state:keys(<<"c">>)).

a_tuple_is_the_prefix_of_tuples(_Config) ->
    Keys = [{1}, {1, 2}, {1, 3, <<"x">>}, {1, 2, 3, 4}, {2}, {2, 1}, {{1}, 2}, {bytes, <<1>>},
            {<<"room">>, 1}, {}],
    [ok = hornbeam_state:set(Key, 1) || Key <- Keys ++ [1, <<"room">>]],
    ?assertEqual([{1}, {1, 2}, {1, 3, <<"x">>}, {1, 2, 3, 4}], hornbeam_state:keys({1})),
    ?assertEqual([{1, 2}, {1, 2, 3, 4}], hornbeam_state:keys({1, 2})),
    ?assertEqual([{{1}, 2}], hornbeam_state:keys({{1}})),
    ?assertEqual([{<<"room">>, 1}], hornbeam_state:keys({<<"room">>})),
    ?assertEqual(lists:sort(Keys -- [{bytes, <<1>>}]), hornbeam_state:keys({})),
    ?assertEqual([], hornbeam_state:keys({1, 2, 3, 4, 5})),
    ?assertError({bad_prefix, 1}, hornbeam_state:keys(1)),
    ?assertError({bad_key, {'_'}}, hornbeam_state:keys({'_'})).

%% Not a matter of time: the reductions of a query that finds 10 keys do not grow with the table.
a_prefix_query_does_not_scan(_Config) ->
    Query = fun() ->
        {reductions, Before} = process_info(self(), reductions),
        10 = length(hornbeam_state:keys(<<"found:">>)),
        {10, _} = {length(hornbeam_state:keys({<<"found">>})), 0},
        {reductions, After} = process_info(self(), reductions),
        After - Before
    end,
    [ok = hornbeam_state:set(<<"found:", (integer_to_binary(N))/binary>>, 1)
     || N <- lists:seq(1, 10)],
    [ok = hornbeam_state:set({<<"found">>, N}, 1) || N <- lists:seq(1, 10)],
    _ = Query(),
    Small = Query(),
    [begin
         ok = hornbeam_state:set(<<"other:", (integer_to_binary(N))/binary>>, 1),
         ok = hornbeam_state:set({<<"other">>, N}, 1)
     end || N <- lists:seq(1, 50000)],
    ?assert(Query() < 20 * Small + 2000).

%% It was asked for tuples of each length up to that.
a_long_tuple_does_not_hold_up_prefixes(_Config) ->
    Keys = [{}, {<<"a">>}, {<<"a">>, {bytes, <<255>>}}, {<<"a">>, {<<"b">>}, 3},
            list_to_tuple([<<"a">> | lists:seq(1, 20000)])],
    [ok = hornbeam_state:set(Key, 1) || Key <- [{1}, list_to_tuple(lists:seq(1, 10000)) | Keys]],
    {reductions, Before} = process_info(self(), reductions),
    ?assertEqual(tl(Keys), hornbeam_state:keys({<<"a">>})),
    ?assertEqual(7, length(hornbeam_state:keys({}))),
    {reductions, After} = process_info(self(), reductions),
    ?assert(After - Before < 1000000).

%%% What is bound to a process

what_the_dead_set_is_gone(_Config) ->
    Owner = owner(),
    ok = hornbeam_scoped_state:set(Owner, <<"k">>, 1, infinity),
    {ok, 3} = hornbeam_scoped_state:incr(Owner, <<"n">>, 3),
    {ok, 2.5} = hornbeam_scoped_state:incr(Owner, <<"n">>, -0.5),
    ?assertEqual(1, hornbeam_state:get(<<"k">>)),
    hornbeam_eventually:dead(Owner),
    hornbeam_eventually:holds(fun() -> hornbeam_state:get(<<"k">>) =:= undefined end),
    hornbeam_eventually:holds(fun() -> hornbeam_state:get(<<"n">>) == 0 end),
    ?assertEqual(0, ets:info(hornbeam_scoped_state, size)).

what_others_set_since_stays(_Config) ->
    Owner = owner(),
    ok = hornbeam_scoped_state:set(Owner, <<"k">>, 1, infinity),
    ok = hornbeam_state:set(<<"k">>, 2),
    {ok, 5} = hornbeam_scoped_state:incr(Owner, <<"n">>, 5),
    ok = hornbeam_state:set(<<"n">>, 100),
    {ok, 1} = hornbeam_scoped_state:incr(Owner, <<"m">>, 1),
    true = hornbeam_state:delete(<<"m">>),
    7 = hornbeam_state:incr(<<"m">>, 7),
    {ok, 8} = hornbeam_scoped_state:incr(Owner, <<"m">>, 1),
    gone(Owner),
    ?assertEqual(2, hornbeam_state:get(<<"k">>)),
    ?assertEqual(100, hornbeam_state:get(<<"n">>)),
    ?assertEqual(7, hornbeam_state:get(<<"m">>)).

who_set_it_last_owns_it(_Config) ->
    {A, B} = {owner(), owner()},
    ok = hornbeam_scoped_state:set(A, <<"k">>, a, infinity),
    ok = hornbeam_scoped_state:set(B, <<"k">>, b, infinity),
    gone(A),
    ?assertMatch({ok, b}, hornbeam_state_table:get(<<"k">>)),
    gone(B),
    ?assertEqual(absent, hornbeam_state_table:get(<<"k">>)).

a_change_in_place_leaves_it_bound(_Config) ->
    Owner = owner(),
    ok = hornbeam_scoped_state:set(Owner, <<"k">>, {term, online}, infinity),
    true = hornbeam_state:cas(<<"k">>, online, away),
    gone(Owner),
    ?assertEqual(undefined, hornbeam_state:get(<<"k">>)).

the_dead_change_nothing(_Config) ->
    Owner = owner(),
    hornbeam_eventually:dead(Owner),
    ?assertEqual({error, closed}, hornbeam_scoped_state:set(Owner, <<"k">>, 1, infinity)),
    ?assertEqual({error, closed}, hornbeam_scoped_state:incr(Owner, <<"k">>, 1)),
    ?assertEqual(undefined, hornbeam_state:get(<<"k">>)).

a_bound_increment_of_what_is_no_number_changes_nothing(_Config) ->
    Owner = owner(),
    ok = hornbeam_state:set(<<"k">>, text),
    ?assertEqual({error, not_a_number}, hornbeam_scoped_state:incr(Owner, <<"k">>, 1)),
    gone(Owner),
    ?assertEqual(text, hornbeam_state:get(<<"k">>)).

%% The server that does it is the one that was there before.
what_an_undo_needs_may_be_of_any_size(_Config) ->
    Server = whereis(hornbeam_scoped_state),
    Big = 1 bsl 2000,
    [begin
         Owner = owner(),
         ok = hornbeam_state:set(<<"k">>, First),
         _ = [hornbeam_scoped_state:incr(Owner, <<"k">>, Delta) || Delta <- Deltas],
         gone(Owner),
         ?assertEqual({Deltas, First}, {Deltas, hornbeam_state:get(<<"k">>)})
     end || {First, Deltas} <- [{0, [Big, -Big]}, {7, [Big, 1.5]}, {7, [Big, -Big, -Big]},
                                {0.5, [1.5, Big]}, {1 bsl 1023, [1 bsl 1023, 1.5e308]}]],
    ?assertEqual(Server, whereis(hornbeam_scoped_state)).

%% What others took off since is not this owner's to count.
a_bound_sum_that_could_not_be_taken_back_changes_nothing(_Config) ->
    Server = whereis(hornbeam_scoped_state),
    [begin
         Owner = owner(),
         ok = hornbeam_state:set(<<"k">>, 0),
         {ok, First} = hornbeam_scoped_state:incr(Owner, <<"k">>, First),
         Left = hornbeam_state:decr(<<"k">>, First),
         ?assertEqual({error, overflow}, hornbeam_scoped_state:incr(Owner, <<"k">>, Then)),
         ?assertEqual(Left, hornbeam_state:get(<<"k">>)),
         ok = hornbeam_state:set(<<"k">>, 5),
         ?assertEqual({ok, 5 + Then}, hornbeam_scoped_state:incr(Owner, <<"k">>, Then)),
         gone(Owner),
         ?assertEqual(5 + Then - Then, hornbeam_state:get(<<"k">>))
     end || {First, Then} <- [{1 bsl 2000, 1.5}, {1.5e308, 1.5e308}]],
    ?assertEqual(Server, whereis(hornbeam_scoped_state)).

an_undo_past_the_range_of_floats_ends_at_its_end(_Config) ->
    Server = whereis(hornbeam_scoped_state),
    [begin
         Owner = owner(),
         ok = hornbeam_state:set(<<"k">>, 0),
         {ok, Bound} = hornbeam_scoped_state:incr(Owner, <<"k">>, Bound),
         _ = [hornbeam_state:incr(<<"k">>, Delta) || Delta <- Others],
         gone(Owner),
         ?assertEqual(End, hornbeam_state:get(<<"k">>))
     end || {Bound, Others, End} <- [
         {1 bsl 2000, [-(1 bsl 2000), 1.5], -1.7976931348623157e308},
         {-(1 bsl 2000), [1 bsl 2000, 1.5], 1.7976931348623157e308},
         {1.5e308, [-1.5e308, -1.5e308], -1.7976931348623157e308},
         {largest(), [-largest(), -largest()], -largest()}]],
    ?assertEqual(Server, whereis(hornbeam_scoped_state)).

an_int_of_more_bytes_than_can_travel_is_no_result(_Config) ->
    ok = hornbeam_state:set(<<"k">>, largest() - 1),
    ?assertEqual(largest(), hornbeam_state:incr(<<"k">>, 1)),
    ?assertEqual({error, overflow}, hornbeam_state:incr(<<"k">>, 1)),
    ?assertEqual(largest(), hornbeam_state:get(<<"k">>)),
    ?assertEqual(-largest(), hornbeam_state:decr(<<"k">>, 2 * largest())),
    ?assertEqual({error, overflow}, hornbeam_state:incr(<<"other">>, largest() + 1)),
    ?assertEqual({ok, largest()}, hornbeam_msgpack:decode_all(
        iolist_to_binary(hornbeam_msgpack:encode(largest())))).

largest() -> (1 bsl (8 * 16384 - 1)) - 1.

a_new_server_undoes_who_died_meanwhile(_Config) ->
    {Dies, Lives} = {owner(), owner()},
    {ok, 1} = hornbeam_scoped_state:incr(Dies, <<"n">>, 1),
    {ok, 2} = hornbeam_scoped_state:incr(Lives, <<"n">>, 1),
    Server = whereis(hornbeam_scoped_state),
    ok = sys:suspend(Server),
    hornbeam_eventually:dead(Dies),
    hornbeam_eventually:dead(Server),
    hornbeam_eventually:holds(fun() -> hornbeam_state:get(<<"n">>) =:= 1 end),
    gone(Lives),
    ?assertEqual(0, hornbeam_state:get(<<"n">>)).

tables_survive_the_crash_of_their_processes(_Config) ->
    ok = hornbeam_state:set(<<"k">>, 1),
    [begin
         Pid = whereis(Name),
         hornbeam_eventually:dead(Pid),
         hornbeam_eventually:holds(fun() -> is_pid(whereis(Name)) andalso whereis(Name) =/= Pid end)
     end || Name <- [hornbeam_scoped_state, hornbeam_state_sweeper]],
    ?assertEqual(1, hornbeam_state:get(<<"k">>)).

the_log_of_one_owner_does_not_pile_up(_Config) ->
    Owner = owner(),
    [begin
         ok = hornbeam_scoped_state:set(Owner, N, 1, infinity),
         true = hornbeam_state:delete(N)
     end || N <- lists:seq(1, 5000)],
    ?assert(ets:info(hornbeam_scoped_state, size) < 2100),
    gone(Owner).

%% Owners come, count themselves, and are killed at random, in 8 processes at once.
bound_counters_equal_the_living(_Config) ->
    Alive = lists:append(in_8_processes(fun(_) -> churn(600, []) end)),
    Count = length(Alive),
    ?assert(Count > 0),
    hornbeam_eventually:holds(fun() -> hornbeam_state:get(<<"alive">>) =:= Count end),
    ?assertEqual(Count, length(hornbeam_state:keys({<<"member">>}))),
    lists:foreach(fun hornbeam_eventually:dead/1, Alive),
    hornbeam_eventually:holds(fun() -> hornbeam_state:get(<<"alive">>) =:= 0 end),
    hornbeam_eventually:holds(fun() -> hornbeam_state:keys({<<"member">>}) =:= [] end).

churn(0, Alive) ->
    Alive;
churn(Left, Alive) ->
    Owner = owner(),
    Member = erlang:unique_integer([positive]),
    _ = spawn(fun() -> rand:uniform(3) =:= 1 andalso exit(Owner, kill) end),
    _ = hornbeam_scoped_state:set(Owner, {<<"member">>, Member}, 1, infinity),
    _ = hornbeam_scoped_state:incr(Owner, <<"alive">>, 1),
    case rand:uniform(2) of
        1 ->
            hornbeam_eventually:dead(Owner),
            churn(Left - 1, Alive);
        2 ->
            churn(Left - 1, [Owner || is_process_alive(Owner)] ++ still(Alive))
    end.

still(Owners) -> [Owner || Owner <- Owners, is_process_alive(Owner)].

%%% Processes

owner() -> spawn(fun() -> receive stop -> ok end end).

%% Dead, and undone: the server has seen it.
gone(Owner) ->
    hornbeam_eventually:dead(Owner),
    hornbeam_eventually:holds(fun() ->
        ets:match(hornbeam_scoped_state, {{Owner, '_', '_'}, '_', '_'}) =:= []
    end),
    %% The log row goes first, the change is undone in the same callback.
    _ = sys:get_state(hornbeam_scoped_state).

in_8_processes(Fun) ->
    Refs = [spawn_monitor(fun() -> exit({done, Fun(N)}) end) || N <- lists:seq(1, 8)],
    [receive
         {'DOWN', Ref, process, Pid, {done, Result}} -> Result;
         {'DOWN', Ref, process, Pid, Reason} -> error(Reason)
     after 30000 ->
         error(late)
     end || {Pid, Ref} <- Refs].
