%% What each command makes of the consistent state, and what becomes of sessions and their locks.
-module(hornbeam_consensus_machine_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

-import(hornbeam_consensus_machine, [init/1, state_enter/2, overview/1]).

-define(T, 1700000000000).

all() ->
    [values_are_set_found_and_deleted, add_sets_only_what_is_absent, cas_compares_exactly,
     cas_does_not_look_at_the_order_of_maps, incr_counts_from_nothing,
     incr_of_a_text_is_an_error_and_changes_nothing, an_overflow_is_an_error,
     what_is_too_much_is_refused_and_less_is_not, bytes_are_those_of_the_rows,
     a_lock_is_had_by_who_comes_first, a_released_lock_goes_to_the_next,
     who_leaves_the_line_gets_nothing, tokens_grow_whatever_the_clock_says,
     a_session_that_is_not_heard_of_has_ended, a_session_that_claims_nothing_is_watched_on,
     a_session_that_was_heard_of_has_not, what_comes_late_is_not_heard,
     a_session_without_claims_is_none,
     a_crashed_session_has_ended_and_one_out_of_reach_has_not,
     a_new_leader_measures_anew, what_is_unknown_changes_nothing,
     the_log_may_be_cut_every_1024_entries, the_same_commands_make_the_same_state].

%%% Values

values_are_set_found_and_deleted(_Config) ->
    S0 = init(#{}),
    ?assertEqual(absent, reply({get, <<"k">>}, S0)),
    {S1, ok} = do({set, <<"k">>, text("one")}, S0),
    ?assertEqual({ok, text("one")}, reply({get, <<"k">>}, S1)),
    {S2, true} = do({delete, <<"k">>}, S1),
    ?assertEqual({false, absent}, {reply({delete, <<"k">>}, S2), reply({get, <<"k">>}, S2)}).

add_sets_only_what_is_absent(_Config) ->
    {S1, true} = do({add, 1, 7}, init(#{})),
    {S2, false} = do({add, 1, 8}, S1),
    ?assertEqual({ok, 7}, reply({get, 1}, S2)).

cas_compares_exactly(_Config) ->
    {S1, ok} = do({set, 1, 7}, init(#{})),
    ?assertEqual({S1, false}, do({cas, 1, 7.0, 8}, S1)),
    ?assertEqual({S1, false}, do({cas, 2, 7, 8}, S1)),
    {S2, true} = do({cas, 1, 7, text("eight")}, S1),
    ?assertEqual({ok, text("eight")}, reply({get, 1}, S2)).

cas_does_not_look_at_the_order_of_maps(_Config) ->
    AB = {packed, <<16#82, 1, 2, 3, 4>>},
    BA = {packed, <<16#82, 3, 4, 1, 2>>},
    {S1, ok} = do({set, 1, AB}, init(#{})),
    ?assertEqual(true, reply({cas, 1, BA, 0}, S1)).

incr_counts_from_nothing(_Config) ->
    {S1, {ok, 2}} = do({incr, <<"n">>, 2}, init(#{})),
    ?assertEqual({ok, 1.5}, reply({incr, <<"n">>, -0.5}, S1)).

incr_of_a_text_is_an_error_and_changes_nothing(_Config) ->
    {S1, ok} = do({set, 1, text("one")}, init(#{})),
    ?assertEqual({S1, {error, not_a_number}}, do({incr, 1, 1}, S1)).

an_overflow_is_an_error(_Config) ->
    {S1, ok} = do({set, 1, 1.0e308}, init(#{})),
    ?assertEqual({S1, {error, overflow}}, do({incr, 1, 1.0e308}, S1)).

what_is_too_much_is_refused_and_less_is_not(_Config) ->
    Mebi = {packed, <<16#c6, 1048576:32, 0:8388608>>},
    Full = lists:foldl(fun(N, S) -> {More, ok} = do({set, N, Mebi}, S), More end, init(#{}),
                       lists:seq(1, 63)),
    ?assert({Full, {error, full}} =:= do({set, 64, Mebi}, Full)),
    ?assert({Full, {error, full}} =:= do({add, 64, Mebi}, Full)),
    {Less, ok} = do({set, 1, 0}, Full),
    ?assertEqual(ok, reply({set, 64, Mebi}, Less)).

bytes_are_those_of_the_rows(_Config) ->
    {S1, ok} = do({set, <<"key">>, text("value")}, init(#{})),
    ?assertMatch(#{rows := 1, bytes := 109}, overview(S1)),
    {S2, ok} = do({set, <<"key">>, 1}, S1),
    ?assertMatch(#{rows := 1, bytes := 103}, overview(S2)),
    {S3, true} = do({delete, <<"key">>}, S2),
    ?assertMatch(#{rows := 0, bytes := 0}, overview(S3)).

%%% Locks

a_lock_is_had_by_who_comes_first(_Config) ->
    [A, B] = sessions(2),
    {S1, {ok, [{a, T}]}} = do({session, A, 1, [{<<"l">>, a}]}, init(#{})),
    ?assertEqual(?T * 1000, T),
    {S2, {ok, []}} = do({session, B, 1, [{<<"l">>, b}]}, S1),
    ?assertMatch({_, {ok, [{a, T}]}}, do({session, A, 2, [{<<"l">>, a}]}, S2)).

a_released_lock_goes_to_the_next(_Config) ->
    [A, B, C] = sessions(3),
    S = lists:foldl(fun(P, S) -> state({session, P, 1, [{<<"l">>, P}]}, S) end, init(#{}),
                    [A, B, C]),
    {Released, {ok, []}, Effects} = all({session, A, 2, []}, S),
    ?assertEqual([B], [Pid || {send_msg, Pid, {hornbeam_consensus, look}} <- Effects]),
    ?assertEqual([{B, ?T * 1000 + 1}], held(B, 2, Released)),
    ?assertEqual([], held(C, 2, Released)).

who_leaves_the_line_gets_nothing(_Config) ->
    [A, B, C] = sessions(3),
    S = lists:foldl(fun(P, S) -> state({session, P, 1, [{<<"l">>, P}]}, S) end, init(#{}),
                    [A, B, C]),
    S1 = state({session, A, 2, []}, state({session, B, 2, []}, S)),
    ?assertEqual([{C, ?T * 1000 + 1}], held(C, 2, S1)).

tokens_grow_whatever_the_clock_says(_Config) ->
    [A, B] = sessions(2),
    {S1, {ok, [{a, T1}]}} = do({session, A, 1, [{<<"l">>, a}]}, init(#{})),
    S2 = state({session, A, 2, []}, S1),
    {S3, {ok, [{b, T2}]}, _} = all(#{system_time => ?T - 3600000},
                                   {session, B, 1, [{<<"l">>, b}]}, S2),
    ?assertEqual(T1 + 1, T2),
    {_, {ok, [{_, T2}, {_, T3}]}, _} = all(#{system_time => ?T + 5000},
                                  {session, B, 2, [{<<"l">>, b}, {<<"m">>, c}]}, S3),
    ?assertEqual((?T + 5000) * 1000, T3).

a_session_that_is_not_heard_of_has_ended(_Config) ->
    [A, B] = sessions(2),
    {S1, _, Effects} = all({session, A, 1, [{<<"l">>, a}]}, init(#{})),
    ?assertEqual([{{session, A, 1}, 15000}],
                 [{Name, Time} || {timer, Name, Time} <- Effects, Time =/= infinity]),
    S2 = state({session, B, 1, [{<<"l">>, b}]}, S1),
    {S3, ok, Ended} = all({timeout, {session, A, 1}}, S2),
    ?assertEqual([], demonitored(Ended)),
    ?assertEqual([{b, ?T * 1000 + 1}], held(B, 2, [{<<"l">>, b}], S3)),
    ?assertEqual([], held(A, 2, [{<<"l">>, a}], S3)).

%% It would wait for the link to it, and with the one that leads all commands.
demonitored(Effects) -> [Pid || {demonitor, process, Pid} <- Effects].

a_session_that_claims_nothing_is_watched_on(_Config) ->
    [A] = sessions(1),
    S1 = state({session, A, 1, [{<<"l">>, a}]}, init(#{})),
    {S2, {ok, []}, Released} = all({session, A, 2, []}, S1),
    ?assertEqual([], demonitored(Released)),
    ?assertMatch({S2, ok, []}, all({down, A, killed}, S2)).

a_session_that_was_heard_of_has_not(_Config) ->
    [A] = sessions(1),
    S1 = state({session, A, 1, [{<<"l">>, a}]}, init(#{})),
    {S2, {ok, [{a, T}]}, Effects} = all({session, A, 2, [{<<"l">>, a}]}, S1),
    ?assert(lists:member({timer, {session, A, 1}, infinity}, Effects)),
    ?assertEqual({S2, ok}, do({timeout, {session, A, 1}}, S2)),
    ?assertEqual([{a, T}], held(A, 3, [{<<"l">>, a}], S2)).

what_comes_late_is_not_heard(_Config) ->
    [A] = sessions(1),
    S1 = state({session, A, 5, [{<<"l">>, a}, {<<"m">>, b}]}, init(#{})),
    ?assertEqual({S1, {error, late}}, do({session, A, 4, [{<<"l">>, a}]}, S1)),
    ?assertEqual({S1, {error, late}}, do({session, A, 5, []}, S1)).

a_session_without_claims_is_none(_Config) ->
    [A] = sessions(1),
    S0 = init(#{}),
    ?assertEqual({S0, {ok, []}, []}, all({session, A, 1, []}, S0)),
    S1 = state({session, A, 2, []}, state({session, A, 1, [{<<"l">>, a}]}, S0)),
    ?assertMatch(#{sessions := 0, locks := 0}, overview(S1)).

a_crashed_session_has_ended_and_one_out_of_reach_has_not(_Config) ->
    [A] = sessions(1),
    S1 = state({session, A, 1, [{<<"l">>, a}]}, init(#{})),
    ?assertEqual({S1, ok}, do({down, A, noconnection}, S1)),
    S2 = state({down, A, killed}, S1),
    ?assertMatch(#{sessions := 0, locks := 0}, overview(S2)),
    ?assertEqual({S2, ok}, do({down, A, killed}, S2)).

a_new_leader_measures_anew(_Config) ->
    [A] = sessions(1),
    S1 = state({session, A, 7, [{<<"l">>, a}]}, init(#{})),
    ?assertEqual([{monitor, process, A}, {timer, {session, A, 7}, 15000}],
                 state_enter(leader, S1)),
    ?assertEqual([], state_enter(follower, S1)).

%%% What ra asks of a machine

what_is_unknown_changes_nothing(_Config) ->
    S = state({set, 1, 1}, init(#{})),
    [?assertEqual({S, {error, unknown_command}}, do(Command, S))
     || Command <- [{nodeup, node()}, {nodedown, node()}, {machine_version, 0, 1},
                    {of_a_newer_version, 1, 2}, anything]].

the_log_may_be_cut_every_1024_entries(_Config) ->
    {S1, ok, []} = all(#{index => 1023}, {set, 1, 1}, init(#{})),
    {S2, ok, [{release_cursor, 1024, S2}]} = all(#{index => 1024}, {set, 1, 2}, S1),
    ?assertEqual({ok, 2}, reply({get, 1}, S2)).

%% A snapshot is the state in Erlang's external format: who reads one goes on as if it had applied
%% all commands itself.
the_same_commands_make_the_same_state(_Config) ->
    _ = rand:seed(exsss, {1, 2, 3}),
    Sessions = sessions(3),
    Commands = [{N, command(N, Sessions)} || N <- lists:seq(1, 2000)],
    Whole = run(Commands, init(#{})),
    {Before, After} = lists:split(1000, Commands),
    Read = binary_to_term(term_to_binary(run(Before, init(#{})))),
    ?assertEqual(Whole, run(After, Read)),
    ?assertEqual(row_bytes(Whole), maps:get(bytes, overview(Whole))).

run(Commands, State) ->
    lists:foldl(fun({N, Command}, S) ->
        {Next, _, _} = all(#{index => N, system_time => ?T + N}, Command, S),
        Next
    end, State, Commands).

command(N, Sessions) ->
    Key = rand:uniform(5),
    case rand:uniform(7) of
        1 -> {set, Key, text(lists:duplicate(rand:uniform(20), $x))};
        2 -> {incr, Key, rand:uniform(9)};
        3 -> {delete, Key};
        4 -> {cas, Key, rand:uniform(9), rand:uniform(9)};
        5 -> {add, Key, rand:uniform(9)};
        6 -> {session, one(Sessions), N, [{integer_to_binary(L), {L, one(Sessions)}}
                                          || L <- lists:seq(1, rand:uniform(4) - 1)]};
        7 -> {down, one(Sessions), killed}
    end.

one(List) -> lists:nth(rand:uniform(length(List)), List).

row_bytes(#{rows := Rows}) ->
    maps:fold(fun(Key, Value, Sum) ->
        Sum + 100 + hornbeam_state_key:bytes(Key) + hornbeam_value:bytes(Value)
    end, 0, Rows).

%%% What they are made of

all(Command, State) -> all(#{}, Command, State).

all(Meta, Command, State) ->
    hornbeam_consensus_machine:apply(maps:merge(#{index => 1, system_time => ?T, term => 1}, Meta),
                                     Command, State).

do(Command, State) ->
    {Next, Reply, _Effects} = all(Command, State),
    {Next, Reply}.

state(Command, State) -> element(1, all(Command, State)).

reply(Command, State) -> element(2, all(Command, State)).

held(Pid, Number, State) -> held(Pid, Number, [{<<"l">>, Pid}], State).

held(Pid, Number, Claims, State) ->
    {ok, Held} = reply({session, Pid, Number, Claims}, State),
    Held.

text(Text) ->
    Binary = iolist_to_binary(Text),
    {packed, <<2#101:3, (byte_size(Binary)):5, Binary/binary>>}.

sessions(N) -> [spawn(fun() -> ok end) || _ <- lists:seq(1, N)].
