%% What apps may keep in the node: each limit at its end and one past it, and that what is counted
%% is what is there, whatever happens at once.
-module(hornbeam_quota_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [past_a_number_of_rows_no_key_is_added, past_a_number_of_bytes_no_value_grows,
     what_is_refused_changes_nothing_and_is_counted, what_goes_makes_room,
     erlang_code_is_told_too, several_keys_are_set_all_or_none,
     several_keys_that_are_refused_are_not_touched,
     what_is_counted_is_what_is_there, a_killed_writer_of_several_keys_holds_nobody_up,
     who_reads_several_keys_sees_all_or_none_of_them, a_large_int_is_counted_as_it_grows,
     a_counter_that_outgrew_its_room_is_counted_anew, many_short_texts_in_a_key_are_counted,
     a_connection_has_its_own_limit, what_is_bound_to_a_connection_counts_as_its_own,
     owners_that_die_while_they_write_give_all_back, an_undo_is_never_refused,
     a_connection_has_a_number_of_topics, subscriptions_are_bytes_too,
     a_worker_has_a_number_of_hooks, a_worker_has_a_number_of_executions,
     results_and_items_that_nobody_takes_are_bytes_too,
     what_is_refused_is_counted_nowhere, arguments_of_ops_that_wait_are_bytes_too,
     arguments_are_counted_as_terms_before_they_are_read,
     arguments_of_casts_are_counted_until_their_ends,
     arguments_of_erlang_hooks_are_counted_as_terms,
     processes_that_crash_count_anew,
     an_answer_that_is_too_long_is_an_error_before_it_is_gathered,
     one_int_that_is_asked_for_many_times_is_as_long_as_many,
     a_tuple_is_kept_without_being_read, a_failure_is_told_in_a_bounded_text,
     a_name_of_no_atom_is_told_in_a_bounded_text,
     everything_is_told].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

init_per_testcase(_Name, Config) ->
    empty(),
    Config.

end_per_testcase(_Name, _Config) ->
    limits(#{}).

empty() ->
    hornbeam_eventually:holds(fun() ->
        [hornbeam_state:delete(Key) || Key <- hornbeam_state:keys()],
        hornbeam_state_rows:sweep(),
        maps:with([bytes, rows], hornbeam_quota:info()) =:= #{bytes => 0, rows => 0}
    end).

limits(Limits) ->
    hornbeam_quota:set_limits(maps:merge(hornbeam_config:defaults(server), Limits)).

kind(Kind) ->
    #{kinds := #{Kind := #{bytes := Bytes, rows := Rows}}} = hornbeam_quota:info(),
    {Bytes, Rows}.

refused(Limit) ->
    #{refused := #{Limit := Refused}} = hornbeam_quota:info(),
    Refused.

%%% The shared state

past_a_number_of_rows_no_key_is_added(_Config) ->
    limits(#{state_max_rows => 3}),
    [{ok, _} = set(Key, packed(1)) || Key <- [1, 2, 3]],
    [?assertEqual({error, {limit, state_max_rows}}, Add())
     || Add <- [fun() -> set(4, packed(1)) end,
                fun() -> hornbeam_state_table:add(4, 1, infinity) end,
                fun() -> hornbeam_state_table:incr(4, 1) end,
                fun() -> hornbeam_state_table:incr(4, 1 bsl 2000) end,
                fun() -> hornbeam_state_table:set_all([{3, 1}, {4, 1}], infinity) end]],
    ?assertMatch({ok, _}, set(3, packed(2))),
    ?assertMatch({ok, 3, _}, begin {ok, _} = set(3, 2), hornbeam_state_table:incr(3, 1) end),
    ?assert(hornbeam_state_table:cas(3, 3, packed(x))),
    ?assertNot(hornbeam_state_table:add(3, 1, infinity)),
    ?assertEqual([1, 2, 3], hornbeam_state:keys()).

past_a_number_of_bytes_no_value_grows(_Config) ->
    {ok, _} = set(1, bytes(1000)),
    {ok, _} = set(2, bytes(1000)),
    {All, 2} = kind(state),
    limits(#{state_max_bytes => All}),
    looked_at(),
    [?assertEqual({error, {limit, state_max_bytes}}, Grow())
     || Grow <- [fun() -> set(1, bytes(1001)) end, fun() -> set(3, bytes(1)) end,
                 fun() -> hornbeam_state_table:cas(1, bytes(1000), bytes(1001)) end,
                 fun() -> hornbeam_state_table:set_all([{1, bytes(1001)}], infinity) end,
                 fun() -> hornbeam_state_table:set(1, bytes(1000), 1000000) end]],
    ?assertMatch({ok, _}, set(1, bytes(999))),
    ?assertMatch({ok, _}, set(2, bytes(1001))),
    ?assert(hornbeam_state_table:cas(1, bytes(999), bytes(998))),
    ?assertEqual({error, {limit, state_max_bytes}}, set(2, bytes(1003))),
    ?assertMatch({ok, _}, set(2, bytes(1002))),
    ?assertEqual({All, 2}, kind(state)).

%% Who must delete something may look for it.
looked_at() ->
    Context = hornbeam_fake_worker:context(hornbeam_fake_worker:start(), #{writer => self()}),
    noreply = hornbeam_api:handle_op(7, <<16#91, 16#c0>>, Context),
    receive
        {reply, Op} ->
            ?assertEqual({ok, [10, 1, 1, 0, [1, 2]]},
                         hornbeam_msgpack:decode_all(iolist_to_binary(Op)))
    end.

what_is_refused_changes_nothing_and_is_counted(_Config) ->
    {ok, _} = set(1, bytes(10)),
    Before = hornbeam_state_query:items(all),
    limits(#{state_max_bytes => 1}),
    Counted = {kind(state), refused(state_max_bytes)},
    {error, _} = set(2, bytes(1)),
    {error, _} = set(1, bytes(11)),
    {error, _} = hornbeam_state_table:set_all([{1, bytes(1)}, {2, bytes(1)}, {3, 1}], 1000),
    ?assertEqual(Before, hornbeam_state_query:items(all)),
    ?assertEqual(1, ets:info(hornbeam_state, size)),
    ?assertEqual(0, ets:info(hornbeam_state_expiries, size)),
    ?assertEqual(0, ets:info(hornbeam_state_locks, size)),
    {State, Refused} = Counted,
    ?assertEqual({State, Refused + 3}, {kind(state), refused(state_max_bytes)}).

what_goes_makes_room(_Config) ->
    limits(#{state_max_rows => 1}),
    Owner = owner(),
    Ways = [fun() -> hornbeam_state_table:delete(1) end,
            fun() -> hornbeam_state_table:take(1) end,
            fun() -> hornbeam_state_rows:delete(1, generation()) end],
    [begin
         {ok, _} = set(1, packed(1)),
         {error, _} = set(2, packed(1)),
         _ = Go(),
         ?assertEqual({0, 0}, kind(state))
     end || Go <- Ways],
    {ok, _} = hornbeam_state_table:set(1, packed(1), 1),
    hornbeam_eventually:holds(fun() -> kind(state) =:= {0, 0} end),
    limits(#{state_max_rows => 2}),
    ok = hornbeam_scoped_state:set(Owner, 1, packed(1), infinity),
    {error, {limit, state_max_rows}} = set(2, packed(1)),
    gone(Owner),
    {ok, _} = set(2, packed(1)).

generation() ->
    {ok, Generation} = hornbeam_state_table:generation(1),
    Generation.

erlang_code_is_told_too(_Config) ->
    limits(#{state_max_rows => 1}),
    ok = hornbeam_state:set(1, value),
    [?assertError({limit, state_max_rows}, Set())
     || Set <- [fun() -> hornbeam_state:set(2, value) end,
                fun() -> hornbeam_state:add(2, value) end,
                fun() -> hornbeam_state:set_multi(#{1 => a, 2 => b}) end]],
    ?assertEqual({error, {limit, state_max_rows}}, hornbeam_state:incr(2)),
    {Bytes, 1} = kind(state),
    limits(#{state_max_bytes => Bytes}),
    ?assertError({limit, state_max_bytes}, hornbeam_state:cas(1, value, "a longer value")),
    ?assertEqual(value, hornbeam_state:get(1)).

several_keys_are_set_all_or_none(_Config) ->
    Pairs = [{Key, packed(Key)} || Key <- lists:seq(1, 10)],
    ok = hornbeam_state_table:set_all(Pairs ++ [{1, packed(last)}], infinity),
    ?assertMatch({_, 10}, kind(state)),
    ?assertEqual({ok, packed(last)}, hornbeam_state_table:get(1)),
    limits(#{state_max_rows => 10}),
    {error, _} = hornbeam_state_table:set_all([{Key, 0} || Key <- lists:seq(5, 11)], infinity),
    ?assertEqual({ok, packed(5)}, hornbeam_state_table:get(5)),
    ?assertEqual(absent, hornbeam_state_table:get(11)).

%% 8 processes do anything with the same 20 keys, some near the limits.
several_keys_that_are_refused_are_not_touched(_Config) ->
    limits(#{state_max_rows => 2}),
    {ok, _} = set(1, 1),
    Setter = spawn(fun() ->
        Pairs = [{1, 2}, {2, 1}, {3, 1}],
        receive {set, Test} -> Test ! hornbeam_state_table:set_all(Pairs, 1000) end
    end),
    1 = erlang:trace(Setter, true, [call]),
    1 = erlang:trace_pattern({hornbeam_state_rows, claim, 1}, true, [local]),
    Setter ! {set, self()},
    ?assertEqual({error, {limit, state_max_rows}}, receive {error, _} = Error -> Error end),
    ok = receive_traced(Setter),
    ?assertEqual([], traced(Setter)),
    _ = erlang:trace_pattern({hornbeam_state_rows, claim, 1}, false, [local]),
    ?assertMatch({_, 1}, kind(state)).

%% All that was traced has come.
receive_traced(Pid) ->
    Ref = erlang:trace_delivered(Pid),
    receive {trace_delivered, Pid, Ref} -> ok end.

traced(Pid) ->
    receive
        {trace, Pid, call, Call} -> [Call | traced(Pid)]
    after 0 ->
        []
    end.

what_is_counted_is_what_is_there(_Config) ->
    limits(#{state_max_rows => 15, state_max_bytes => 40000}),
    _ = in_8_processes(fun(_) -> [change(rand:uniform(20)) || _ <- lists:seq(1, 3000)] end),
    ?assertEqual(there(), kind(state)),
    hornbeam_eventually:holds(fun() -> hornbeam_state_rows:sweep(), expiring() =:= [] end),
    ?assertEqual(there(), kind(state)),
    ?assertEqual(0, ets:info(hornbeam_state_expiries, size)),
    ?assertEqual(0, ets:info(hornbeam_state_locks, size)),
    ?assert(refused(state_max_rows) > 0),
    ?assert(refused(state_max_bytes) > 0).

there() ->
    Rows = ets:tab2list(hornbeam_state),
    {lists:sum([element(6, Row) || Row <- Rows]), length(Rows)}.

expiring() -> [Row || Row <- ets:tab2list(hornbeam_state), element(3, Row) =/= infinity].

change(Key) ->
    Value = one_of([1, 1.5, 1 bsl rand:uniform(9000), bytes(rand:uniform(5000)),
                    {term, lists:seq(1, rand:uniform(100))}]),
    Ttl = one_of([infinity, infinity, 1, 20]),
    case rand:uniform(8) of
        1 -> hornbeam_state_table:set(Key, Value, Ttl);
        2 -> hornbeam_state_table:add(Key, Value, Ttl);
        3 -> hornbeam_state_table:take(Key);
        4 -> hornbeam_state_table:delete(Key);
        5 -> hornbeam_state_table:incr(Key, one_of([1, -1, 0.5, 1 bsl 4000, -(1 bsl 4000)]));
        6 -> cas(Key, hornbeam_state_table:get(Key), Value);
        7 -> hornbeam_state_table:set_all([{N, Value} || N <- lists:seq(Key, Key + 3)], Ttl);
        8 -> hornbeam_state_rows:sweep()
    end.

cas(_Key, absent, _Value) -> false;
cas(Key, {ok, Old}, Value) -> hornbeam_state_table:cas(Key, Old, Value).

a_killed_writer_of_several_keys_holds_nobody_up(_Config) ->
    Keys = lists:seq(1, 50),
    _ = [begin
             {Pid, Ref} = spawn_monitor(fun() -> write_for_ever(Keys) end),
             _ = [set(one_of(Keys), bytes(1)) || _ <- lists:seq(1, rand:uniform(20))],
             exit(Pid, kill),
             receive {'DOWN', Ref, process, Pid, _} -> ok end
         end || _ <- lists:seq(1, 100)],
    [{ok, _} = set(Key, bytes(1)) || Key <- Keys],
    ok = hornbeam_state_table:set_all([{Key, 1} || Key <- Keys], infinity),
    ?assertEqual(0, ets:info(hornbeam_state_locks, size)),
    ?assertEqual(length(Keys), ets:info(hornbeam_state, size)),
    hornbeam_eventually:holds(fun() -> ets:info(hornbeam_state_expiries, size) =:= 0 end),
    recounted().

%% Who is killed between a change and its count leaves a difference.
recounted() ->
    {Bytes, Rows} = kind(state),
    {Real, RealRows} = there(),
    hornbeam_quota:release(state, Bytes - Real, Rows - RealRows).

write_for_ever(Keys) ->
    ok = hornbeam_state_table:set_all([{Key, bytes(Key)} || Key <- Keys], infinity),
    _ = [hornbeam_state_table:delete(Key) || Key <- Keys, Key rem 7 =:= 0],
    write_for_ever(Keys).

%% Who sees a round in a key sees the others, which he reads later, in that round or a later one.
who_reads_several_keys_sees_all_or_none_of_them(_Config) ->
    Keys = lists:seq(1, 20),
    Writer = spawn_link(fun() -> rounds(Keys, 1) end),
    _ = in_8_processes(fun(_) ->
        [begin
             Seen = [round_of(hornbeam_state_table:get(Key)) || Key <- lists:reverse(Keys)],
             ?assertEqual(lists:sort(Seen), Seen)
         end || _ <- lists:seq(1, 2000)]
    end),
    true = unlink(Writer),
    hornbeam_eventually:dead(Writer),
    recounted().

rounds(Keys, N) ->
    ok = hornbeam_state_table:set_all([{Key, {term, N}} || Key <- Keys], infinity),
    rounds(Keys, N + 1).

round_of(absent) -> 0;
round_of({ok, {term, N}}) -> N.

a_large_int_is_counted_as_it_grows(_Config) ->
    {ok, _, _} = hornbeam_state_table:incr(1, 1),
    Small = kind(state),
    {ok, _, _} = hornbeam_state_table:incr(1, 1 bsl 900),
    ?assertEqual(Small, kind(state)),
    {ok, _, _} = hornbeam_state_table:incr(1, 1 bsl 80000),
    {Bytes, 1} = kind(state),
    ?assert(Bytes > element(1, Small) + 10000),
    limits(#{state_max_bytes => Bytes}),
    ?assertEqual({error, {limit, state_max_bytes}}, hornbeam_state_table:incr(1, 1 bsl 100000)),
    {ok, _, _} = hornbeam_state_table:incr(1, -(1 bsl 80000)),
    ?assertEqual(Small, kind(state)).

%% Two that may be counted in place make one that may not.
a_counter_that_outgrew_its_room_is_counted_anew(_Config) ->
    Most = (1 bsl 1000) - 1,
    {ok, _} = set(1, Most),
    Counted = kind(state),
    [begin
         {ok, Sum, _} = hornbeam_state_table:incr(1, Most),
         ?assert(hornbeam_state_table:cas(1, Sum, Most)),
         ?assertEqual(Counted, kind(state))
     end || _ <- [1, 2]].

many_short_texts_in_a_key_are_counted(_Config) ->
    Before = ets:info(hornbeam_state, memory),
    {ok, _} = set(list_to_tuple(lists:duplicate(65000, <<>>)), 1),
    {Bytes, 1} = kind(state),
    Taken = (ets:info(hornbeam_state, memory) - Before) * erlang:system_info(wordsize),
    ?assertMatch({Counted, Real} when Counted > Real * 0.9, {Bytes, Taken}).

%%% Connections

a_connection_has_its_own_limit(_Config) ->
    limits(#{connection_state_max_rows => 2}),
    {A, B} = {owner(), owner()},
    [ok = hornbeam_scoped_state:keep(Owner, 1, 1) || Owner <- [A, B]],
    ok = hornbeam_connection_state:set(A, 2, 2),
    [?assertEqual({error, {limit, connection_state_max_rows}}, Set(A, 3, 3))
     || Set <- [fun hornbeam_connection_state:set/3, fun hornbeam_scoped_state:keep/3]],
    ok = hornbeam_connection_state:set(A, 2, bytes(1000)),
    ok = hornbeam_connection_state:set(B, 2, 2),
    true = hornbeam_connection_state:delete(A, 1),
    ok = hornbeam_connection_state:set(A, 3, 3),
    {Bytes, _} = kind(connections),
    limits(#{connection_state_max_bytes => 2000}),
    ?assertEqual({error, {limit, connection_state_max_bytes}},
                 hornbeam_connection_state:set(A, 3, bytes(1000))),
    ?assertEqual([{2, bytes(1000)}, {3, 3}], hornbeam_connection_state:items(A)),
    ?assertEqual({Bytes, 4}, kind(connections)),
    limits(#{state_max_bytes => 1}),
    ?assertEqual({error, {limit, state_max_bytes}}, hornbeam_connection_state:set(A, 4, 4)),
    ?assertEqual({Bytes, 4}, kind(connections)),
    gone(A),
    gone(B),
    ?assertEqual({0, 0}, kind(connections)).

what_is_bound_to_a_connection_counts_as_its_own(_Config) ->
    limits(#{connection_state_max_rows => 2}),
    Owner = owner(),
    ok = hornbeam_scoped_state:set(Owner, 1, 1, infinity),
    {ok, 1} = hornbeam_scoped_state:incr(Owner, 2, 1),
    Full = {error, {limit, connection_state_max_rows}},
    ?assertEqual(Full, hornbeam_scoped_state:set(Owner, 3, 1, infinity)),
    ?assertEqual(Full, hornbeam_scoped_state:incr(Owner, 3, 1)),
    ?assertEqual(Full, hornbeam_scoped_state:keep(Owner, 3, 1)),
    ?assertEqual([1, 2], hornbeam_state:keys()),
    ok = hornbeam_scoped_state:set(Owner, 1, 2, infinity),
    {ok, 2} = hornbeam_scoped_state:incr(Owner, 2, 1),
    limits(#{connection_state_max_bytes => 2000}),
    ?assertEqual({error, {limit, connection_state_max_bytes}},
                 hornbeam_scoped_state:incr(Owner, 2, 1 bsl 40000)),
    ?assertEqual({ok, 3}, hornbeam_scoped_state:incr(Owner, 2, 1)),
    ?assertMatch({_, 2}, kind(bindings)),
    gone(Owner),
    ?assertEqual({{0, 0}, {0, 0}}, {kind(bindings), kind(connections)}),
    ?assertEqual(0, hornbeam_state:get(2)).

%% From 8 processes at once.
owners_that_die_while_they_write_give_all_back(_Config) ->
    Owners = [owner() || _ <- lists:seq(1, 100)],
    _ = spawn_link(fun() -> [exit(Owner, kill) || Owner <- shuffled(Owners)] end),
    _ = in_8_processes(fun(_) -> [keep(Owner) || Owner <- shuffled(Owners)] end),
    lists:foreach(fun gone/1, Owners),
    ?assertEqual({{0, 0}, {0, 0}}, {kind(bindings), kind(connections)}).

keep(Owner) ->
    [begin
         Value = bytes(rand:uniform(100)),
         hornbeam_connection_state:set(Owner, Key, Value) =:= not_open
             andalso hornbeam_scoped_state:keep(Owner, Key, Value),
         hornbeam_connection_state:delete(Owner, rand:uniform(20)),
         _ = hornbeam_scoped_state:set(Owner, {Owner =:= none, Key}, Value, infinity),
         _ = hornbeam_scoped_state:incr(Owner, <<"n">>, one_of([1, 1 bsl 3000]))
     end || Key <- lists:seq(1, 20)].

an_undo_is_never_refused(_Config) ->
    Owner = owner(),
    {ok, _} = hornbeam_scoped_state:incr(Owner, 1, -(1 bsl 80000)),
    0 = hornbeam_state:incr(1, 1 bsl 80000),
    limits(#{state_max_bytes => 1}),
    gone(Owner),
    ?assertEqual(1 bsl 80000, hornbeam_state:get(1)),
    ?assertEqual(there(), kind(state)).

%%% Topics

a_connection_has_a_number_of_topics(_Config) ->
    limits(#{connection_max_topics => 2}),
    Worker = hornbeam_fake_worker:start(),
    Owner = owner(),
    InApp = {worker, hornbeam_fake_worker:pid(Worker), hornbeam_fake_worker:events(Worker)},
    Forwarded = {forward, {10, 10000}, drop_oldest},
    ok = hornbeam_pubsub_registry:subscribe(Owner, <<"a">>, InApp),
    ok = hornbeam_pubsub_registry:subscribe(Owner, <<"b">>, Forwarded),
    [?assertEqual({error, {limit, connection_max_topics}},
                  hornbeam_pubsub_registry:subscribe(Owner, <<"c">>, How))
     || How <- [InApp, Forwarded]],
    ok = hornbeam_pubsub_registry:subscribe(Owner, <<"a">>, Forwarded),
    ok = hornbeam_pubsub_registry:unsubscribe(Owner, <<"a">>),
    ok = hornbeam_pubsub_registry:subscribe(Owner, <<"c">>, InApp),
    ok = hornbeam_pubsub_registry:subscribe(owner(), <<"c">>, process),
    [ok = hornbeam:subscribe(Topic) || Topic <- [<<"a">>, <<"b">>, <<"c">>]],
    [ok = hornbeam:unsubscribe(Topic) || Topic <- [<<"a">>, <<"b">>, <<"c">>]],
    ?assertMatch({_, 3}, kind(topics)),
    gone(Owner),
    hornbeam_eventually:holds(fun() -> element(2, kind(topics)) =:= 1 end),
    [exit(Pid, kill) || {Pid, _} <- [Id || {Id, _} <- ets:tab2list(hornbeam_subscriptions)]],
    hornbeam_eventually:holds(fun() -> kind(topics) =:= {0, 0} end),
    ?assertEqual([], ets:match(hornbeam_owner_quota, {{'_', topics}, '$1', '$2'})),
    hornbeam_fake_worker:stop(Worker).

subscriptions_are_bytes_too(_Config) ->
    limits(#{state_max_bytes => 10000}),
    ok = hornbeam:subscribe(<<"short">>),
    Long = binary:copy(<<"t">>, 4096),
    ?assertError({limit, state_max_bytes}, hornbeam:subscribe(Long)),
    ?assertEqual(0, hornbeam:publish(Long, 1)),
    ok = hornbeam:unsubscribe(<<"short">>).

%%% Hooks

a_worker_has_a_number_of_hooks(_Config) ->
    limits(#{worker_max_hooks => 2}),
    [A, B] = Workers = [hornbeam_fake_worker:start() || _ <- [a, b]],
    Register = fun(Name, Worker) ->
        hornbeam_hooks:register_worker(Name, hornbeam_fake_worker:handle(Worker))
    end,
    [ok = Register(Name, Worker) || Worker <- Workers, Name <- [<<"a">>, <<"b">>, <<"a">>]],
    ?assertEqual({error, {limit, worker_max_hooks}}, Register(<<"c">>, A)),
    ok = hornbeam_hooks:unregister_worker(<<"a">>, hornbeam_fake_worker:pid(A)),
    ok = hornbeam_hooks:unregister_worker(<<"a">>, hornbeam_fake_worker:pid(A)),
    ok = Register(<<"c">>, A),
    ?assertEqual({error, {limit, worker_max_hooks}}, Register(<<"a">>, A)),
    %% A new process counts what is there.
    hornbeam_eventually:dead(whereis(hornbeam_hooks)),
    ?assertEqual({error, {limit, worker_max_hooks}}, Register(<<"d">>, B)),
    ok = Register(<<"b">>, B),
    lists:foreach(fun hornbeam_fake_worker:stop/1, Workers),
    hornbeam_eventually:holds(fun() -> ets:info(hornbeam_hooks, size) =:= 0 end).

a_worker_has_a_number_of_executions(_Config) ->
    limits(#{worker_max_executions => 2}),
    Silent = hornbeam_fake_worker:start(),
    ok = hornbeam_hooks:register_worker(<<"h">>, hornbeam_fake_worker:handle(Silent)),
    Holder = owner(),
    Start = fun() -> hornbeam_execution:start(Holder, <<"h">>, <<"a">>, bytes(1000), bytes(1)) end,
    Stream = fun() ->
        hornbeam_hook_stream:start(Holder, Holder, <<"h">>, <<"a">>, bytes(1000), bytes(1))
    end,
    {ok, _} = Start(),
    {ok, Id} = Stream(),
    ?assertEqual({error, {limit, worker_max_executions}}, Start()),
    ?assertEqual({error, {limit, worker_max_executions}}, Stream()),
    ?assertMatch({ok, _}, hornbeam_hooks:execute_async(<<"h">>, <<"a">>, [])),
    {Bytes, 3} = kind(executions),
    ?assert(Bytes > 2000),
    ok = hornbeam_hooks:close(Id),
    {ok, Last} = Stream(),
    ?assertEqual({error, {limit, worker_max_executions}}, Start()),
    %% The tree's root and all of them are killed.
    hornbeam_eventually:dead(whereis(hornbeam_executions_sup)),
    hornbeam_eventually:holds(fun() -> kind(executions) =:= {0, 0} end),
    ?assertEqual({error, unknown_id}, hornbeam_hooks:next(Last, 0)),
    hornbeam_eventually:holds(fun() -> is_pid(whereis(hornbeam_executions_sup)) end),
    {ok, Taken} = Start(),
    hornbeam_fake_worker:stop(Silent),
    ?assertEqual({error, worker_down}, hornbeam_execution:await(Taken, 5000)),
    hornbeam_eventually:holds(fun() -> kind(executions) =:= {0, 0} end),
    ?assertEqual([], ets:match(hornbeam_owner_quota, {{'_', executions}, '$1', '$2'})).

results_and_items_that_nobody_takes_are_bytes_too(_Config) ->
    Large = binary:copy(<<"x">>, 100000),
    ok = hornbeam:register_hook(<<"large">>, fun(_, N) -> lists:duplicate(hd(N), Large) end),
    limits(#{state_max_bytes => 250000}),
    {ok, Result} = hornbeam_hooks:execute_async(<<"large">>, <<"a">>, [2]),
    hornbeam_eventually:holds(fun() -> element(1, kind(executions)) > 200000 end),
    {ok, Items} = hornbeam_hooks:stream(<<"large">>, <<"a">>, [2]),
    ?assertEqual({error, {limit, state_max_bytes}}, hornbeam_hooks:next(Items, 5000)),
    ?assertMatch({ok, [_, _]}, hornbeam_hooks:await_result(Result, 5000)),
    hornbeam_eventually:holds(fun() -> kind(executions) =:= {0, 0} end),
    {ok, Again} = hornbeam_hooks:stream(<<"large">>, <<"a">>, [2]),
    ?assertMatch({ok, [_, _]}, hornbeam_hooks:next(Again, 5000)),
    ?assertEqual({ok, []}, hornbeam_hooks:next(Again, 5000)),
    Refused = refused(state_max_bytes),
    {ok, TooMuch} = hornbeam_hooks:execute_async(<<"large">>, <<"a">>, [3]),
    hornbeam_eventually:holds(fun() -> refused(state_max_bytes) > Refused end),
    ?assertEqual({error, {limit, state_max_bytes}}, hornbeam_hooks:await_result(TooMuch, 5000)),
    hornbeam_eventually:holds(fun() -> kind(executions) =:= {0, 0} end),
    ok = hornbeam:unregister_hook(<<"large">>).

%% Neither of the owner nor of all, whichever of them refuses.
what_is_refused_is_counted_nowhere(_Config) ->
    Owner = owner(),
    ok = hornbeam_owner_quota:open(Owner),
    [begin
         limits(#{OwnLimit => 1}),
         ok = hornbeam_owner_quota:reserve(Owner, Kind, 10, 1),
         ?assertEqual({error, {limit, OwnLimit}},
                      hornbeam_owner_quota:reserve(Owner, Kind, 10, 1)),
         limits(#{state_max_bytes => 10}),
         ?assertEqual({error, {limit, state_max_bytes}},
                      hornbeam_owner_quota:reserve(Owner, Kind, 1, 0)),
         ?assertEqual({{10, 1}, [[10, 1]]}, {kind(Kind), account(Owner, Kind)}),
         ok = hornbeam_owner_quota:release(Owner, Kind, 10, 1),
         ?assertEqual({0, 0}, kind(Kind))
     end || {Kind, OwnLimit} <- [{connections, connection_state_max_rows},
                                 {bindings, connection_state_max_rows},
                                 {topics, connection_max_topics},
                                 {executions, worker_max_executions}]],
    ?assertEqual([[0, 0]], account(Owner, connections)),
    ok = hornbeam_owner_quota:close(Owner),
    ?assertEqual(not_open, hornbeam_owner_quota:reserve(Owner, bindings, 1, 1)),
    ?assertEqual([], ets:match(hornbeam_owner_quota, {{Owner, '_'}, '$1', '$2'})).

account(Owner, Kind) when Kind =:= connections; Kind =:= bindings -> account(Owner, state);
account(Owner, Account) -> ets:match(hornbeam_owner_quota, {{Owner, Account}, '$1', '$2'}).

arguments_of_ops_that_wait_are_bytes_too(_Config) ->
    limits(#{state_max_bytes => 250000}),
    Test = self(),
    ok = hornbeam:register_function(<<"waits">>, fun(_) ->
        Test ! {waits, self()},
        receive go_on -> done end
    end),
    Worker = hornbeam_fake_worker:start(),
    Context = hornbeam_fake_worker:context(Worker, #{writer => self()}),
    Args = iolist_to_binary(hornbeam_msgpack:encode(
        [<<"waits">>, hornbeam_msgpack:bytes(<<16#91, 16#c6, 100000:32, 0:800000>>), 5000])),
    noreply = hornbeam_api:handle_op(40, Args, Context),
    noreply = hornbeam_api:handle_op(40, Args, Context),
    ?assertMatch({reply, 10, _}, hornbeam_api:handle_op(40, Args, Context)),
    Waiting = [receive {waits, Pid} -> Pid end || _ <- [1, 2]],
    ?assertEqual({2 * (byte_size(Args) + 2 * 128), 0}, kind(ops)),
    [Pid ! go_on || Pid <- Waiting],
    [receive {reply, _} -> ok end || _ <- [1, 2]],
    hornbeam_eventually:holds(fun() -> kind(ops) =:= {0, 0} end),
    noreply = hornbeam_api:handle_op(40, Args, Context),
    receive {waits, Last} -> exit(Last, kill) end,
    receive {reply, _} -> ok end,
    hornbeam_eventually:holds(fun() -> kind(ops) =:= {0, 0} end),
    ok = hornbeam:unregister_function(<<"waits">>),
    hornbeam_fake_worker:stop(Worker).

%% A list of a million nils: a megabyte on the wire.
arguments_are_counted_as_terms_before_they_are_read(_Config) ->
    limits(#{state_max_bytes => 300000000}),
    Test = self(),
    ok = hornbeam:register_function(<<"waits">>, fun(Nils) ->
        Test ! {waits, self(), length(Nils)},
        receive go_on -> done end
    end),
    Context = hornbeam_fake_worker:context(hornbeam_fake_worker:start(), #{writer => self()}),
    Op = fun(Nils) -> iolist_to_binary(hornbeam_msgpack:encode(
        [<<"waits">>, hornbeam_msgpack:bytes(<<16#91, Nils/binary>>), 5000])) end,
    Million = Op(<<16#dd, 1000000:32, (binary:copy(<<16#c0>>, 1000000))/binary>>),
    noreply = hornbeam_api:handle_op(40, Million, Context),
    noreply = hornbeam_api:handle_op(40, Million, Context),
    Waiting = [receive {waits, Pid, 1000000} -> Pid end || _ <- [1, 2]],
    ?assertEqual({2 * (byte_size(Million) + 1000002 * 128), 0}, kind(ops)),
    noreply = hornbeam_api:handle_op(40, Million, Context),
    ?assertEqual(10, status(receive {reply, Refused} -> Refused end)),
    %% What promises more than it has is as much as it might be.
    noreply = hornbeam_api:handle_op(40, Op(<<16#dd, 1000001:32, 0:8000000>>), Context),
    ?assertEqual(10, status(receive {reply, Broken} -> Broken end)),
    [Pid ! go_on || Pid <- Waiting],
    [?assertEqual(0, status(receive {reply, Done} -> Done end)) || _ <- [1, 2]],
    hornbeam_eventually:holds(fun() -> kind(ops) =:= {0, 0} end),
    noreply = hornbeam_api:handle_op(40, Op(<<16#dd, 1000001:32, 0:8000000>>), Context),
    ?assertEqual(3, status(receive {reply, Unread} -> Unread end)),
    hornbeam_eventually:holds(fun() -> kind(ops) =:= {0, 0} end),
    ok = hornbeam:unregister_function(<<"waits">>).

status(Reply) ->
    {ok, [10, 1, 1, Status, _]} = hornbeam_msgpack:decode_all(iolist_to_binary(Reply)),
    Status.

arguments_of_casts_are_counted_until_their_ends(_Config) ->
    limits(#{state_max_bytes => 2000}),
    Test = self(),
    ok = hornbeam:register_function(<<"goes_on">>, fun(Zeros) ->
        Test ! {goes_on, self(), length(Zeros)},
        receive never -> ok end
    end),
    Context = hornbeam_fake_worker:context(hornbeam_fake_worker:start(), #{writer => self()}),
    Args = <<16#91, 16#95, 0:5/unit:8>>,
    Op = iolist_to_binary(hornbeam_msgpack:encode([<<"goes_on">>, hornbeam_msgpack:bytes(Args)])),
    Cast = fun() ->
        noreply = hornbeam_api:handle_op(41, Op, Context),
        status(receive {reply, Reply} -> Reply end)
    end,
    Counted = 7 * 128 + byte_size(Args),
    ?assertEqual([0, 0, 10], [Cast() || _ <- [1, 2, 3]]),
    hornbeam_eventually:holds(fun() -> kind(ops) =:= {2 * Counted, 0} end),
    [receive {goes_on, Pid, 5} -> exit(Pid, kill) end || _ <- [1, 2]],
    hornbeam_eventually:holds(fun() -> kind(ops) =:= {0, 0} end),
    ?assertEqual(0, Cast()),
    receive {goes_on, Last, 5} -> exit(Last, kill) end,
    hornbeam_eventually:holds(fun() -> kind(ops) =:= {0, 0} end),
    ok = hornbeam:unregister_function(<<"goes_on">>).

arguments_of_erlang_hooks_are_counted_as_terms(_Config) ->
    limits(#{state_max_bytes => 1000}),
    Test = self(),
    ok = hornbeam_hooks:register_hook(<<"counts">>, fun(_Action, Args) ->
        Test ! {counted, kind(ops)},
        length(Args)
    end),
    Run = fun(Elements) ->
        hornbeam_hooks:run(none, <<"counts">>, <<"a">>,
                           {packed, <<(16#90 + Elements), 0:Elements/unit:8>>},
                           {packed, <<16#80>>}, 5000)
    end,
    ?assertEqual({ok, 5}, Run(5)),
    ?assertEqual({7 * 128, 0}, receive {counted, Counted} -> Counted end),
    ?assertEqual({error, {limit, state_max_bytes}}, Run(6)),
    ?assertEqual(nothing, receive {counted, _} = Called -> Called after 0 -> nothing end),
    ?assertEqual({0, 0}, kind(ops)),
    ?assertMatch({ok, 20}, hornbeam_hooks:execute(<<"counts">>, <<"a">>, lists:seq(1, 20))),
    ok = hornbeam_hooks:unregister_hook(<<"counts">>).

%%% The whole

processes_that_crash_count_anew(_Config) ->
    Owner = owner(),
    ok = hornbeam_scoped_state:set(Owner, 1, 1, infinity),
    ok = hornbeam_pubsub_registry:subscribe(Owner, <<"a">>, process),
    Before = [kind(Kind) || Kind <- [bindings, topics]],
    hornbeam_quota:reserve_by_force(bindings, 100, 1),
    hornbeam_quota:reserve_by_force(topics, 100, 1),
    lists:foreach(fun hornbeam_eventually:dead/1,
                  [whereis(Name) || Name <- [hornbeam_scoped_state, hornbeam_pubsub_registry]]),
    hornbeam_eventually:holds(fun() -> [kind(K) || K <- [bindings, topics]] =:= Before end),
    gone(Owner),
    hornbeam_eventually:holds(fun() -> kind(topics) =:= {0, 0} end).

an_answer_that_is_too_long_is_an_error_before_it_is_gathered(_Config) ->
    Value = bytes(1000),
    [{ok, _} = set({<<"t">>, N}, Value) || N <- lists:seq(1, 30000)],
    [{ok, _} = set(<<"b", (integer_to_binary(N))/binary>>, Value) || N <- lists:seq(1, 30000)],
    [begin
         {ok, Items} = hornbeam_state_query:items(Prefix, 100000000),
         ?assertEqual({Prefix, Count}, {Prefix, length(Items)}),
         {Keys, _Values} = lists:unzip(Items),
         ?assertEqual({ok, Keys}, hornbeam_state_query:keys(Prefix, 10000000)),
         ?assertEqual({error, too_many}, hornbeam_state_query:items(Prefix, 1000000)),
         ?assertEqual({error, too_many}, hornbeam_state_query:keys(Prefix, 100000)),
         %% One batch of rows and no more; all of them are 12 MB and more.
         ?assert(heap_of(fun() -> hornbeam_state_query:items(Prefix, 100000) end) < 5000000)
     end || {Prefix, Count} <- [{all, 60000}, {{<<"t">>}, 30000}, {<<"b">>, 30000}]].

heap_of(Fun) ->
    {Pid, Ref} = spawn_monitor(fun() ->
        {error, too_many} = Fun(),
        {total_heap_size, Words} = process_info(self(), total_heap_size),
        exit({heap, Words * erlang:system_info(wordsize)})
    end),
    receive {'DOWN', Ref, process, Pid, {heap, Bytes}} -> Bytes end.

one_int_that_is_asked_for_many_times_is_as_long_as_many(_Config) ->
    {ok, _} = set(1, 1 bsl 130000),
    ?assertMatch({ok, [_, absent, _]}, hornbeam_state_ops:get_multi([[1, 2, 1]], #{})),
    Many = lists:duplicate(20000, 1),
    ?assertEqual({error, too_many}, hornbeam_state_ops:get_multi([Many], #{})).

%% It would take 16 bytes a nil.
a_tuple_is_kept_without_being_read(_Config) ->
    Tuple = <<16#c9, 1000005:32, 2, 16#dd, 1000000:32, (binary:copy(<<16#c0>>, 1000000))/binary>>,
    Most = 100000,
    {Pid, Ref} = spawn_opt(fun() ->
        {packed, Tuple} = hornbeam_value:from_packed(Tuple)
    end, [monitor, {max_heap_size, #{size => Most, error_logger => false}}]),
    ?assertEqual(normal, receive {'DOWN', Ref, process, Pid, Reason} -> Reason end).

%% What it was called with is in the stack; each of its bytes would be some words as text.
a_failure_is_told_in_a_bounded_text(_Config) ->
    Bytes = binary:copy(<<255>>, 1000000),
    Fails = fun(Reason) ->
        {error, {erlang, <<"error">>, Text, Stack}} =
            hornbeam_deadline:run(fun() -> error(Reason, [Bytes]) end, 60000),
        byte_size(Text) + byte_size(Stack)
    end,
    [?assertMatch(Size when Size < 300000, Fails(Reason))
     || Reason <- [function_clause, {badmatch, Bytes}, lists:seq(1, 300000),
                   maps:from_keys(lists:seq(1, 100000), Bytes)]].

%% Of the longest that an atom could have, all is told.
a_name_of_no_atom_is_told_in_a_bounded_text(_Config) ->
    ok = hornbeam:register_function(<<"takes">>, fun(_) -> done end),
    Context = hornbeam_fake_worker:context(hornbeam_fake_worker:start(), #{writer => self()}),
    Told = fun(Name) ->
        Atom = <<16#91, 16#c9, (byte_size(Name)):32, 1, Name/binary>>,
        Args = [<<"takes">>, hornbeam_msgpack:bytes(Atom), 5000],
        noreply = hornbeam_api:handle_op(40, iolist_to_binary(hornbeam_msgpack:encode(Args)),
                                         Context),
        {ok, [10, 1, 1, 3, Text]} =
            hornbeam_msgpack:decode_all(receive {reply, Reply} -> Reply end),
        Text
    end,
    Sentence = fun(Name) ->
        <<"this node has no atom ", Name/binary, ", and none is made from data">>
    end,
    Longest = binary:copy(<<240, 159, 166, 142>>, 255),
    ?assertEqual(Sentence(Longest), Told(Longest)),
    ?assertEqual(Sentence(Longest), Told(binary:copy(Longest, 1000))),
    %% What is cut within a character says so.
    Odd = <<"x", (binary:copy(Longest, 2))/binary>>,
    ?assertEqual(Sentence(<<"x", (binary:part(Longest, 0, 1016))/binary, " ...">>), Told(Odd)),
    ok = hornbeam:unregister_function(<<"takes">>).

everything_is_told(_Config) ->
    limits(#{state_max_rows => infinity, worker_max_hooks => 3}),
    {ok, _} = set(1, 1),
    ?assertMatch(#{bytes := Bytes, rows := 1, kinds := #{state := #{bytes := Bytes, rows := 1}},
                   limits := #{state_max_rows := infinity, worker_max_hooks := 3},
                   refused := #{state_max_rows := _, connection_max_topics := _}}
                 when Bytes > 0, hornbeam_quota:info()).

%%% Values and processes

set(Key, Value) -> hornbeam_state_table:set(Key, Value, infinity).

packed(Term) -> {packed, iolist_to_binary(hornbeam_msgpack:encode(Term))}.

bytes(Size) -> {packed, iolist_to_binary(hornbeam_msgpack:bin(binary:copy(<<"x">>, Size)))}.

one_of(List) -> lists:nth(rand:uniform(length(List)), List).

shuffled(List) ->
    [Element || {_, Element} <- lists:sort([{rand:uniform(), Element} || Element <- List])].

owner() -> spawn(fun() -> receive stop -> ok end end).

gone(Owner) ->
    hornbeam_eventually:dead(Owner),
    hornbeam_eventually:holds(fun() ->
        not lists:member(Owner, hornbeam_owner_quota:owners())
    end),
    _ = sys:get_state(hornbeam_scoped_state).

in_8_processes(Fun) ->
    Refs = [spawn_monitor(fun() -> Fun(N) end) || N <- lists:seq(1, 8)],
    [receive {'DOWN', Ref, process, Pid, Reason} -> ?assertEqual(normal, Reason) end
     || {Pid, Ref} <- Refs].
