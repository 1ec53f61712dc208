%% A Python process that breaks the wire's rules: it is cut off, with a line in the log that shows
%% why, and whoever keeps the rules is not.
-module(hornbeam_hostile_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [who_keeps_the_rules_lives, rules_of_the_wire_are_enforced,
     rules_of_streams_are_enforced, rules_of_credit_are_enforced,
     rules_of_calls_are_enforced, a_violation_is_one_line_with_reason_and_bytes,
     what_crosses_an_end_is_no_violation, a_flood_of_ops_is_refused_and_then_ended,
     a_flood_past_the_window_is_ended, a_flood_of_log_lines_is_dropped_and_counted,
     a_worker_that_does_not_read_costs_a_bounded_number_of_replies,
     long_answers_wait_for_those_before_them, who_reads_has_all_of_his_long_answers,
     a_worker_that_does_not_read_is_answered_so_many_bytes,
     results_past_what_was_not_read_are_given_up,
     a_worker_that_does_not_read_is_called_with_so_many_bytes,
     who_reads_is_called_and_answered_again,
     a_worker_that_does_not_read_is_sent_so_many_bytes_of_events,
     who_reads_is_sent_events_again,
     nothing_of_it_stays_in_the_node].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    ok = logger:set_handler_config(default, level, none),
    Config.

end_per_suite(_Config) ->
    ok = logger:set_handler_config(default, level, all).

bytes(Binary) -> hornbeam_msgpack:bytes(Binary).

%% Each rule: what is said after hello, ready and the opening of stream 1 (a WebSocket) and 2
%% (HTTP), and the reason that it is given.
rules_of_the_wire_are_enforced(_Config) ->
    ends([{[<<16#ffffffff:32>>], {too_long, 16#ffffffff}},
          {[<<0:32>>], not_a_message},
          {[raw(<<16#c1>>)], not_a_message},
          {[raw(<<16#92, 99, 0>>)], {unknown_code, 99}},
          {[[hello, 0, 1, #{}]], {unexpected, hello}},
          {[[ready, 0, #{}]], {unexpected, ready}},
          {[[failed, 0, <<>>, <<>>, <<>>, <<>>]], {unexpected, failed}},
          {[[stopped, 0]], {unexpected, stopped}},
          {[[heartbeat, 0, 1000]], {no_such_heartbeat, 1000}},
          {[[log, 0, -1, <<>>, <<>>]], {bad_field, log, uint}},
          {[[log, 0, 20, <<>>, binary:copy(<<"x">>, 1048576)]], {too_long, log}},
          {[[ended, 1, undefined, <<>>, <<"t">>], [ended, 1, undefined, <<>>, <<>>]],
           {stream_is_over, 1}}]).

rules_of_streams_are_enforced(_Config) ->
    Accept = [accept, 1, undefined, []],
    Text = [send_text, 1, bytes(<<"x">>)],
    Start = fun(Number, More) -> [response_start, Number, 200, [], bytes(<<>>), More] end,
    ends([{[[accept, 3, undefined, []]], {no_such_stream, 3}},
          {[[send_text, 1 bsl 60, bytes(<<>>)]], {no_such_stream, 1 bsl 60}},
          {[[ended, 99, undefined, <<>>, <<>>]], {no_such_stream, 99}},
          {[[credit, 99, 1, 1]], {no_such_stream, 99}},
          {[[op, 99, 1, 33, []]], {no_such_stream, 99}},
          {[Accept, Accept], {out_of_order, 1}},
          {[Text], {out_of_order, 1}},
          {[Accept, Start(1, true)], {out_of_order, 1}},
          {[Accept, [close, 1, 1000, bytes(<<>>)], Text], {out_of_order, 1}},
          {[[accept, 2, undefined, []]], {out_of_order, 2}},
          {[[send_text, 2, bytes(<<>>)]], {out_of_order, 2}},
          {[Start(2, true), Start(2, true)], {out_of_order, 2}},
          {[Start(2, false), [response_body, 2, bytes(<<>>), false]], {out_of_order, 2}},
          {[[response_body, 2, bytes(<<>>), true]], {out_of_order, 2}},
          {[[ended, 2, undefined, <<>>, <<>>], Start(2, false)], {stream_is_over, 2}}]).

rules_of_credit_are_enforced(_Config) ->
    {Bytes, Messages} = hornbeam_stream:window(),
    Accept = [accept, 1, undefined, []],
    Text = fun(Size) -> [send_text, 1, bytes(binary:copy(<<"x">>, Size))] end,
    Start = [response_start, 2, 200, [], bytes(<<>>), true],
    Part = [response_body, 2, bytes(<<"x">>), true],
    ends([{[Accept | [Text(1) || _ <- lists:seq(0, Messages)]], {overspent, 1}},
          {[Accept, Text(2 * Bytes), Text(1)], {overspent, 1}},
          {[Start | lists:duplicate(Messages, Part)], {overspent, 2}},
          {[[credit, 0, 1, 0]], unearned_credit},
          {[[credit, 0, 1 bsl 63, 0]], unearned_credit}]).

rules_of_calls_are_enforced(_Config) ->
    Ok = bytes(<<16#c0>>),
    ends([{[[result, 0, 99, 0, Ok]], {no_such_call, 99}},
          {[[result, 0, 0, 0, Ok]], {no_such_call, 0}},
          {[[item, 0, 99, Ok]], {no_such_call, 99}},
          {[[item, 0, 1, Ok]], {unasked_item, 1}},
          {[[item, 0, 2, Ok] || _ <- lists:seq(0, 3)], {unasked_item, 2}},
          {[[result, 0, 1, 0, Ok], [result, 0, 1, 0, Ok]], {call_is_over, 1}},
          {[[result, 0, 1, 0, 7]], {bad_result, 1}},
          {[[result, 0, 1, 2, undefined]], {bad_result, 1}},
          {[[result, 0, 1, 8, [<<"just one">>]]], {bad_result, 1}},
          {[[result, 0, 1, 77, undefined]], {bad_result, 1}},
          {[[result, 0, 3, 8, 7]], {bad_result, 3}}]).

ends(Rules) ->
    [?assertEqual({Said, {shutdown, {broke_the_wire, Reason}}}, {Said, end_of(Said)})
     || {Said, Reason} <- Rules].

end_of(Said) ->
    Puppet = puppet(),
    say(Said, Puppet),
    hornbeam_puppet:ended(Puppet).

say(Said, Puppet) ->
    hornbeam_puppet:say([as_bytes(Part) || Part <- Said], Puppet).

as_bytes(Bytes) when is_binary(Bytes) -> Bytes;
as_bytes(Message) -> hornbeam_puppet:packet(Message).

raw(Packet) -> <<(byte_size(Packet)):32, Packet/binary>>.

%% Stream 1 is a WebSocket, 2 HTTP; call 1 is a function, 2 a stream of which three items were
%% asked for, 3 a cast.
puppet() ->
    Puppet = hornbeam_puppet:start(),
    Handle = hornbeam_puppet:handle(Puppet),
    Nothing = fun(_) -> [] end,
    _ = hornbeam_stream:open(Handle, websocket, Nothing),
    _ = hornbeam_stream:open(Handle, http, Nothing),
    Worker = hornbeam_puppet:worker(Puppet),
    _ = hornbeam_call:start(Worker, function, <<"m">>, <<"f">>, <<16#90>>, <<16#80>>),
    _ = hornbeam_call:start(Worker, stream, <<"h">>, <<"a">>, <<16#90>>, <<16#80>>, 3),
    ok = hornbeam_call:cast(Worker, <<"m">>, <<"f">>, <<16#90>>, <<16#80>>),
    {ok, _} = hornbeam_worker:describe(Worker),
    Puppet.

who_keeps_the_rules_lives(_Config) ->
    Puppet = puppet(),
    {_, Messages} = hornbeam_stream:window(),
    Text = [send_text, 1, bytes(<<"x">>)],
    Item = [item, 0, 2, bytes(<<16#c0>>)],
    say([[accept, 1, <<"chat">>, [[bytes(<<"a">>), bytes(<<"b">>)]]]]
        ++ lists:duplicate(Messages, Text)
        ++ [[close, 1, 1000, bytes(<<"bye">>)], [ended, 1, undefined, <<>>, <<>>],
            [credit, 2, 262144, 0], [response_start, 2, 200, [], bytes(<<>>), true],
            [response_body, 2, bytes(<<"x">>), false], [ended, 2, <<"E">>, <<"m">>, <<"t">>],
            [op, 1, 1, 33, []], Item, Item, Item, [result, 0, 2, 2, undefined],
            [result, 0, 1, 0, bytes(<<16#c0>>)], [result, 0, 3, 0, bytes(<<16#c0>>)],
            [op, 0, 2, 33, []]], Puppet),
    ?assertMatch([0, 2, 0, _], reply(2, Puppet)),
    hornbeam_puppet:stop(Puppet).

reply(Ref, Puppet) ->
    case hornbeam_puppet:next(reply, Puppet) of
        [_, Ref, _, _] = Reply -> Reply;
        _ -> reply(Ref, Puppet)
    end.

a_violation_is_one_line_with_reason_and_bytes(_Config) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self(), level => error}),
    try
        Long = [log, 0, 20, <<>>, binary:copy(<<"x">>, 1048576)],
        {shutdown, _} = end_of([Long]),
        receive
            {logged, #{what := worker_broke_the_wire, worker := <<"puppet">>, bytes := Bytes,
                       reason := {too_long, log}}} ->
                ?assertEqual(64, byte_size(Bytes))
        after 5000 ->
            error(no_line)
        end
    after
        ok = logger:remove_handler(?MODULE)
    end,
    ?assertEqual(none, receive {logged, More} -> More after 0 -> none end).

%% As a logger handler.
log(#{msg := {report, Report}}, #{config := Test}) ->
    Test ! {logged, Report};
log(_Event, _Config) ->
    ok.

%% Of a call that is cancelled, and of a stream whose owner is gone, some may be on its way.
what_crosses_an_end_is_no_violation(_Config) ->
    Puppet = puppet(),
    Worker = hornbeam_puppet:worker(Puppet),
    Call = hornbeam_call:start(Worker, stream, <<"h">>, <<"a">>, <<16#90>>, <<16#80>>, 2),
    ok = hornbeam_call:cancel(Worker, Call),
    Worker ! {closed, 1},
    {ok, _} = hornbeam_worker:describe(Worker),
    Item = [item, 0, 4, bytes(<<16#c0>>)],
    say([Item, Item, [result, 0, 4, 2, undefined], [accept, 1, undefined, []],
         [send_text, 1, bytes(<<"x">>)], [ended, 1, undefined, <<>>, <<>>], [op, 1, 1, 33, []],
         [op, 0, 2, 33, []]], Puppet),
    ?assertMatch([0, 2, 0, _], reply(2, Puppet)),
    say([Item], Puppet),
    ?assertEqual({shutdown, {broke_the_wire, {call_is_over, 4}}}, hornbeam_puppet:ended(Puppet)).

%% The ops wait for a function that returns when the test has seen them.
a_flood_of_ops_is_refused_and_then_ended(_Config) ->
    Seen = spawn(fun() -> receive never -> ok end end),
    ok = hornbeam:register_function("hostile_sleeper", fun() ->
        Ref = erlang:monitor(process, Seen),
        receive {'DOWN', Ref, process, Seen, _} -> ok end
    end),
    Puppet = hornbeam_puppet:start(),
    Op = fun(Ref) -> [op, 0, Ref, 40, [<<"hostile_sleeper">>, bytes(<<16#90>>), 20000]] end,
    Before = erlang:system_info(process_count),
    say([Op(Ref) || Ref <- lists:seq(1, 16384)], Puppet),
    say([Op(16385)], Puppet),
    ?assertMatch([0, 16385, 8, [<<"overloaded">>, _, _]], reply(16385, Puppet)),
    ?assert(erlang:system_info(process_count) - Before < 3 * 16384 + 1000),
    hornbeam_puppet:stop(Puppet),
    hornbeam_eventually:dead(Seen),
    hornbeam_eventually:holds(fun() -> bytes_of_ops() =:= 0 end),
    ok = hornbeam:unregister_function("hostile_sleeper").

bytes_of_ops() ->
    #{kinds := #{ops := #{bytes := Bytes}}} = hornbeam_quota:info(),
    Bytes.

a_worker_that_does_not_read_costs_a_bounded_number_of_replies(_Config) ->
    Puppet = hornbeam_puppet:deaf(),
    ok = hornbeam_state:set(<<"hostile">>, binary:copy(<<"x">>, 1000)),
    Ops = [hornbeam_puppet:packet([op, 0, Ref, 1, [<<"hostile">>]]) || Ref <- lists:seq(1, 80000)],
    hornbeam_puppet:say(Ops, Puppet),
    ?assertEqual({shutdown, {broke_the_wire, too_many_ops}}, hornbeam_puppet:ended(Puppet)),
    true = hornbeam_state:delete(<<"hostile">>).

%% 2 MB each: one or two are in the port, one is with the writer.
long_answers_wait_for_those_before_them(_Config) ->
    with_keys(20000, fun() ->
        Before = op_processes(),
        Puppet = hornbeam_puppet:deaf(),
        say([[op, 0, Ref, 7, [undefined]] || Ref <- lists:seq(1, 40)], Puppet),
        hornbeam_eventually:holds(fun() -> length(waiting(Puppet, Before)) >= 36 end),
        ?assert(mailbox(writer(Puppet)) < 3000000),
        #{replies := Replies} = Unread = unread(Puppet),
        ?assert(Replies < 3000000),
        ?assertEqual(nothing(), Unread#{replies := 0}),
        hornbeam_puppet:stop(Puppet),
        hornbeam_eventually:holds(fun() -> op_processes() -- Before =:= [] end)
    end).

who_reads_has_all_of_his_long_answers(_Config) ->
    with_keys(1000, fun() ->
        Puppet = hornbeam_puppet:start(),
        Refs = lists:seq(1, 12),
        say([[op, 0, Ref, 7, [undefined]] || Ref <- Refs], Puppet),
        Replies = [hornbeam_puppet:next(reply, Puppet) || _ <- Refs],
        ?assertEqual(Refs, lists:sort([Ref || [0, Ref, 0, Keys] <- Replies,
                                              length(Keys) =:= 1000])),
        hornbeam_eventually:holds(fun() -> unread(Puppet) =:= nothing() end),
        hornbeam_puppet:stop(Puppet)
    end).

with_keys(Count, Test) ->
    Keys = [iolist_to_binary(io_lib:format("~100..0b", [N])) || N <- lists:seq(1, Count)],
    [ok = hornbeam_state:set(Key, 1) || Key <- Keys],
    try
        Test()
    after
        [hornbeam_state:delete(Key) || Key <- Keys]
    end.

%% The processes of ops that wait, once no other is left.
waiting(Puppet, Before) ->
    {ok, _} = hornbeam_worker:describe(hornbeam_puppet:worker(Puppet)),
    Pids = op_processes() -- Before,
    [Pid || _ <- [all], lists:all(fun is_waiting/1, Pids), Pid <- Pids].

is_waiting(Pid) ->
    process_info(Pid, status) =:= {status, waiting}.

op_processes() ->
    [Pid || Pid <- processes(), {hornbeam_api, _, _} <- [proc_lib:translate_initial_call(Pid)]].

writer(Puppet) ->
    {_, Writer, _} = hornbeam_capacity:next_stream(hornbeam_puppet:handle(Puppet)),
    Writer.

%% Bytes of what waits for a process.
mailbox(Pid) ->
    {messages, Messages} = process_info(Pid, messages),
    lists:sum([erlang:external_size(Message) || Message <- Messages]).

unread(Puppet) ->
    {ok, #{unread := Unread}} = hornbeam_worker:describe(hornbeam_puppet:worker(Puppet)),
    Unread.

a_worker_that_does_not_read_is_answered_so_many_bytes(_Config) ->
    limited(#{worker_max_unread_bytes => 3000000}, fun() ->
        ok = hornbeam_state:set(<<"hostile">>, binary:copy(<<"x">>, 600000)),
        Puppet = hornbeam_puppet:deaf(),
        Refused = refused(),
        say([[op, 0, Ref, 1, [<<"hostile">>]] || Ref <- lists:seq(1, 100)], Puppet),
        hornbeam_eventually:holds(fun() -> refused() > Refused + 80 end),
        ?assert(mailbox(writer(Puppet)) < 4000000),
        hornbeam_puppet:stop(Puppet),
        true = hornbeam_state:delete(<<"hostile">>)
    end).

results_past_what_was_not_read_are_given_up(_Config) ->
    limited(#{worker_max_unread_bytes => 3000000}, fun() ->
        Test = self(),
        ok = hornbeam:register_function("hostile_result", fun() ->
            Test ! {made_by, self()},
            receive go_on -> binary:copy(<<"x">>, 600000) end
        end),
        Before = op_processes(),
        Puppet = hornbeam_puppet:deaf(),
        Refused = refused(),
        say([[op, 0, Ref, 40, [<<"hostile_result">>, bytes(<<16#90>>), 20000]]
             || Ref <- lists:seq(1, 40)], Puppet),
        Pids = [receive {made_by, Pid} -> Pid end || _ <- lists:seq(1, 40)],
        [Pid ! go_on || Pid <- Pids],
        hornbeam_eventually:holds(fun() -> op_processes() -- Before =:= [] end),
        ?assert(refused() > Refused + 20),
        ?assert(mailbox(writer(Puppet)) < 4000000),
        hornbeam_puppet:stop(Puppet),
        ok = hornbeam:unregister_function("hostile_result")
    end).

a_worker_that_does_not_read_is_called_with_so_many_bytes(_Config) ->
    limited(#{worker_max_unread_bytes => 3000000}, fun() ->
        Puppet = hornbeam_puppet:deaf(),
        ok = hornbeam_hooks:register_worker(<<"deaf">>, hornbeam_puppet:handle(Puppet)),
        Refused = refused(),
        Results = [execute(600000) || _ <- lists:seq(1, 100)],
        {Waited, Overloaded} = lists:splitwith(fun(R) -> R =:= {error, timeout} end, Results),
        ?assert(length(Waited) < 10),
        ?assertEqual([{error, worker_overloaded}], lists:usort(Overloaded)),
        ?assertEqual(Refused + length(Overloaded), refused()),
        ?assert(mailbox(writer(Puppet)) < 4000000),
        {ok, Id} = hornbeam_hooks:stream(<<"deaf">>, <<"a">>, []),
        ?assertEqual({error, worker_overloaded}, hornbeam_hooks:next(Id, 5000)),
        ok = hornbeam_call:cast(hornbeam_puppet:worker(Puppet), <<"m">>, <<"f">>, <<16#90>>,
                                <<16#80>>),
        hornbeam_eventually:holds(fun() -> refused() =:= Refused + length(Overloaded) + 2 end),
        hornbeam_puppet:stop(Puppet)
    end).

execute(Size) ->
    hornbeam_hooks:execute(<<"deaf">>, <<"a">>, [binary:copy(<<"x">>, Size)], #{}, 10).

%% One byte each, under a long topic.
a_worker_that_does_not_read_is_sent_so_many_bytes_of_events(_Config) ->
    limited(#{worker_max_unread_bytes => 3000000}, fun() ->
        Puppet = hornbeam_puppet:deaf(),
        Topic = subscribed(Puppet),
        {Sent, [_ | _] = Dropped} = published(2000, Topic),
        ?assert(length(Sent) * byte_size(Topic) < 5000000),
        ?assert(mailbox(writer(Puppet)) < 4000000),
        #{events := Events} = unread(Puppet),
        ?assert(Events < 3000000 + 2 * byte_size(Topic)),
        ?assertEqual(length(Dropped), dropped(Puppet)),
        hornbeam_puppet:stop(Puppet)
    end).

who_reads_is_sent_events_again(_Config) ->
    limited(#{worker_max_unread_bytes => 3000000}, fun() ->
        Puppet = hornbeam_puppet:start(),
        Topic = subscribed(Puppet),
        Sent = published_until_full(Topic, 50),
        [?assertEqual([0, Topic, <<1>>], hornbeam_puppet:next(event, Puppet)) || _ <- Sent],
        hornbeam_eventually:holds(fun() -> unread(Puppet) =:= nothing() end),
        ?assertEqual({[1], []}, published(1, Topic)),
        ?assertEqual([0, Topic, <<1>>], hornbeam_puppet:next(event, Puppet)),
        hornbeam_eventually:holds(fun() -> unread(Puppet) =:= nothing() end),
        hornbeam_puppet:stop(Puppet)
    end).

nothing() -> #{replies => 0, calls => 0, events => 0}.

subscribed(Puppet) ->
    Topic = binary:copy(<<"t">>, 4000),
    hornbeam_eventually:holds(fun() -> hornbeam_pubsub_fanout:subscribers(Topic) =:= {0, 0} end),
    say([[op, 0, 1, 20, [Topic, false, undefined]]], Puppet),
    hornbeam_eventually:holds(fun() -> hornbeam_pubsub_fanout:subscribers(Topic) =:= {1, 0} end),
    Topic.

published(Times, Topic) ->
    lists:partition(fun(Reached) -> Reached =:= 1 end,
                    [hornbeam:publish(Topic, 1) || _ <- lists:seq(1, Times)]).

%% The puppet reads meanwhile, and may keep up for a while.
published_until_full(Topic, Rounds) when Rounds > 0 ->
    case published(2000, Topic) of
        {Sent, []} -> Sent ++ published_until_full(Topic, Rounds - 1);
        {Sent, [_ | _]} -> Sent
    end.

dropped(Puppet) ->
    {_, Events} = hornbeam_capacity:adoption(hornbeam_puppet:handle(Puppet)),
    hornbeam_worker_events:dropped(Events).

%% Nobody reads at its socket's other end for a while.
who_reads_is_called_and_answered_again(_Config) ->
    limited(#{worker_max_unread_bytes => 3000000}, fun() ->
        ok = hornbeam_state:set(<<"hostile">>, binary:copy(<<"x">>, 2000000)),
        Puppet = hornbeam_puppet:start(),
        ok = hornbeam_hooks:register_worker(<<"deaf">>, hornbeam_puppet:handle(Puppet)),
        {Waited, [_ | _]} = lists:splitwith(fun(R) -> R =:= {error, timeout} end,
                                            [execute(600000) || _ <- lists:seq(1, 100)]),
        Refs = lists:seq(1, 50),
        say([[op, 0, Ref, 5, [[<<"hostile">>]]] || Ref <- Refs], Puppet),
        [?assertMatch([_, 1, <<"deaf">>, <<"a">>, _, _], tl(hornbeam_puppet:next(call, Puppet)))
         || _ <- Waited],
        say([[op, 0, 51, 33, []]], Puppet),
        ?assertMatch([0, 51, 0, _], reply(51, Puppet)),
        hornbeam_eventually:holds(fun() -> unread(Puppet) =:= nothing() end),
        ?assertEqual({error, timeout}, execute(600000)),
        hornbeam_puppet:stop(Puppet),
        true = hornbeam_state:delete(<<"hostile">>)
    end).

limited(Limits, Test) ->
    Defaults = hornbeam_config:defaults(server),
    hornbeam_quota:set_limits(maps:merge(Defaults, Limits)),
    try
        Test()
    after
        hornbeam_quota:set_limits(Defaults)
    end.

refused() ->
    #{refused := #{worker_max_unread_bytes := Refused}} = hornbeam_quota:info(),
    Refused.

%% What is written without credit waits in the mailbox of the worker's process, whose turn it is
%% when it has handled a log line of a megabyte, and another, and so on.
a_flood_past_the_window_is_ended(_Config) ->
    Puppet = hornbeam_puppet:start(),
    Worker = hornbeam_puppet:worker(Puppet),
    true = erlang:suspend_process(Worker),
    Line = hornbeam_puppet:packet([log, 0, 1, <<"flood">>, binary:copy(<<"x">>, 1048000)]),
    [hornbeam_puppet:say(Line, Puppet) || _ <- lists:seq(1, 290)],
    true = erlang:resume_process(Worker),
    ?assertEqual({shutdown, {broke_the_wire, {overspent, worker_window}}},
                 hornbeam_puppet:ended(Puppet)).

a_flood_of_log_lines_is_dropped_and_counted(_Config) ->
    {taken, 0, Budget0} = hornbeam_worker_log:take(10, 0, hornbeam_worker_log:new(0)),
    Spent = lists:foldl(fun(_, Budget) ->
        {taken, 0, Left} = hornbeam_worker_log:take(10, 0, Budget),
        Left
    end, Budget0, lists:seq(1, 9999)),
    {dropped, One} = hornbeam_worker_log:take(10, 0, Spent),
    {dropped, Two} = hornbeam_worker_log:take(10, 0, One),
    ?assertMatch({taken, 2, _}, hornbeam_worker_log:take(10, 10, Two)),
    {taken, 0, Long} = hornbeam_worker_log:take(9000000, 0, hornbeam_worker_log:new(0)),
    ?assertMatch({dropped, _}, hornbeam_worker_log:take(1, 0, Long)),
    ?assertMatch({taken, 0, _}, hornbeam_worker_log:take(1, 2000, Long)).

nothing_of_it_stays_in_the_node(_Config) ->
    Rubbish = [[send_text, 99, bytes(<<"x">>)]],
    {shutdown, _} = end_of(Rubbish),
    Before = counts(),
    [{shutdown, _} = end_of(Rubbish) || _ <- lists:seq(1, 5)],
    hornbeam_eventually:holds(fun() -> counts() =:= Before end).

counts() ->
    {length(erlang:ports()), length(ets:all()), erlang:system_info(atom_count)}.
