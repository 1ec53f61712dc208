%% Where ops and their replies stand among what else a worker says and is told.
-module(hornbeam_worker_ops_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

%% Codes of docs/wire.md.
-define(START, 1).
-define(REPLY, 10).

all() ->
    [an_op_on_state_passes_the_messages_in_front_of_it, an_op_passes_no_other_op,
     an_op_that_publishes_comes_in_turn, what_is_told_is_done_and_not_answered,
     what_is_told_and_fails_is_said, what_is_told_and_fails_later_is_said,
     what_is_told_is_paid_back_for_many_at_once, an_op_passes_nothing_that_was_told,
     what_is_told_keeps_its_place_among_messages, more_than_may_be_told_ends_the_worker,
     what_waits_for_its_end_is_not_paid_back].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok.

init_per_testcase(_Test, Config) ->
    Puppet = hornbeam_puppet:start(),
    Stream = hornbeam_stream:open(hornbeam_puppet:handle(Puppet), websocket, fun(_) -> [] end),
    Key = atom_to_binary(?MODULE),
    _ = hornbeam_state:delete(Key),
    [{puppet, Puppet}, {stream, Stream}, {key, Key} | Config].

end_per_testcase(more_than_may_be_told_ends_the_worker, _Config) ->
    ok;
end_per_testcase(_Test, Config) ->
    hornbeam_puppet:stop(proplists:get_value(puppet, Config)).

an_op_on_state_passes_the_messages_in_front_of_it(Config) ->
    Key = proplists:get_value(key, Config),
    say([accept() | texts(20)] ++ [set(1, Key, 7)], Config),
    receive {stream, 1, _Accept} -> ok end,
    ?assertEqual(7, hornbeam_state:get(Key)),
    ?assertEqual([1, 1, 0, undefined], reply(Config)).

an_op_passes_no_other_op(Config) ->
    Key = proplists:get_value(key, Config),
    say([accept(), set(1, Key, 7)] ++ texts(20) ++ [[op, 1, 2, 4, [Key, 1, false]]], Config),
    ?assertEqual([1, 1, 0, undefined], reply(Config)),
    ?assertEqual([1, 2, 0, 8], reply(Config)).

an_op_that_publishes_comes_in_turn(Config) ->
    Topic = proplists:get_value(key, Config),
    ok = hornbeam_pubsub:subscribe(Topic),
    say([accept()], Config),
    receive {stream, 1, _Accept} -> ok end,
    ok = hornbeam_stream:bind(proplists:get_value(stream, Config)),
    say(texts(20) ++ [[op, 1, 1, 22, [Topic, packed(<<"hello">>)]]], Config),
    ?assertEqual([1, 1, 0, 1], reply(Config)),
    ?assertEqual(lists:duplicate(20, stream) ++ [hornbeam_pubsub], heard(21)),
    ok = hornbeam_pubsub:unsubscribe(Topic).

what_is_told_is_done_and_not_answered(Config) ->
    Key = proplists:get_value(key, Config),
    say([accept(), tell(7, 2, [Key, packed(1), undefined, false]), tell(7, 3, [<<"absent">>]),
         tell(7, 22, [<<"nobody">>, packed(1)]), [op, 1, 1, 4, [Key, 1, false]]], Config),
    ?assertEqual([?START, [?REPLY, 1, 1, 0, 2]], heard_up_to_reply(Config)).

what_is_told_and_fails_is_said(Config) ->
    Key = proplists:get_value(key, Config),
    say([accept(), tell(9, 2, [Key, packed(1), 0, false]), tell(7, 99, [])], Config),
    ?assertMatch([1, 9, 2, 3, <<"state.set: ttl must be ", _/binary>>], failed(Config)),
    ?assertMatch([1, 7, 99, 1, <<"this node has no op 99", _/binary>>], failed(Config)).

what_is_told_and_fails_later_is_said(Config) ->
    say([accept(), tell(9, 41, [<<"nobody">>, packed([])])], Config),
    ?assertMatch([1, 9, 41, 9, _], failed(Config)).

%% 512 are; the next ones are owed.
what_is_told_is_paid_back_for_many_at_once(Config) ->
    Key = proplists:get_value(key, Config),
    Puppet = proplists:get_value(puppet, Config),
    Fails = [Key, packed(1), 0, false],
    say([accept() | lists:duplicate(511, tell(1, 3, [Key]))], Config),
    say([tell(1, 2, Fails), [op, 1, 1, 4, [Key, 1, false]]], Config),
    ?assertMatch([1, 1, 2, 3, _], failed(Config)),
    ?assertEqual([0, 0, 512], hornbeam_puppet:next(credit, Puppet)),
    say(lists:duplicate(2047, tell(1, 3, [Key])), Config),
    [?assertEqual([0, 0, 512], hornbeam_puppet:next(credit, Puppet)) || _ <- lists:seq(1, 3)].

an_op_passes_nothing_that_was_told(Config) ->
    Key = proplists:get_value(key, Config),
    say([accept(), tell(1, 2, [Key, packed(7), undefined, false])] ++ texts(20)
            ++ [[op, 1, 1, 4, [Key, 1, false]]], Config),
    ?assertEqual([1, 1, 0, 8], reply(Config)).

what_is_told_keeps_its_place_among_messages(Config) ->
    Topic = proplists:get_value(key, Config),
    ok = hornbeam_pubsub:subscribe(Topic),
    say([accept()], Config),
    receive {stream, 1, _Accept} -> ok end,
    ok = hornbeam_stream:bind(proplists:get_value(stream, Config)),
    Publish = tell(1, 22, [Topic, packed(<<"hello">>)]),
    say(texts(3) ++ [Publish] ++ texts(2) ++ [Publish], Config),
    ?assertEqual([stream, stream, stream, hornbeam_pubsub, stream, stream, hornbeam_pubsub],
                 heard(7)),
    ok = hornbeam_pubsub:unsubscribe(Topic).

more_than_may_be_told_ends_the_worker(Config) ->
    Puppet = proplists:get_value(puppet, Config),
    Window = hornbeam_worker_tells:window(),
    with_sleepers(Window, Config, fun() ->
        say([tell(1, 3, [<<"one more">>])], Config),
        ?assertEqual({shutdown, {broke_the_wire, {overspent, tell_window}}},
                     hornbeam_puppet:ended(Puppet))
    end).

what_waits_for_its_end_is_not_paid_back(Config) ->
    with_sleepers(1024, Config, fun() ->
        say([[op, 1, 1, 3, [<<"absent">>]]], Config),
        ?assertMatch([?START, [?REPLY | _]], heard_up_to_reply(Config))
    end),
    Puppet = proplists:get_value(puppet, Config),
    [?assertEqual([0, 0, 512], hornbeam_puppet:next(credit, Puppet)) || _ <- [1, 2]].

%% Ops that are told and do not end while a fun runs: the process that they ask stands still.
with_sleepers(Count, Config, Fun) ->
    Server = whereis(hornbeam_scoped_state),
    true = erlang:suspend_process(Server),
    try
        Set = [proplists:get_value(key, Config), packed(1), undefined, true],
        say([accept() | lists:duplicate(Count, tell(1, 2, Set))], Config),
        Fun()
    after
        true = erlang:resume_process(Server)
    end.

tell(Ref, Op, Args) -> [tell, 1, Ref, Op, Args].

%% The codes of what Python hears, and the first reply.
heard_up_to_reply(Config) ->
    case hornbeam_puppet:next(proplists:get_value(puppet, Config)) of
        [?REPLY | _] = Reply -> [Reply];
        [Code | _] -> [Code | heard_up_to_reply(Config)]
    end.

failed(Config) ->
    hornbeam_puppet:next(tell_failed, proplists:get_value(puppet, Config)).

%% The kinds of the messages that have come to this process, in their order.
heard(0) ->
    [];
heard(Left) ->
    receive
        {Kind, _, _} when Kind =:= stream; Kind =:= hornbeam_pubsub -> [Kind | heard(Left - 1)]
    end.

accept() -> [accept, 1, undefined, []].

texts(Count) -> lists:duplicate(Count, [send_text, 1, bytes(<<"x">>)]).

set(Ref, Key, Value) -> [op, 1, Ref, 2, [Key, packed(Value), undefined, false]].

packed(Value) -> bytes(iolist_to_binary(hornbeam_msgpack:encode(Value))).

bytes(Binary) -> hornbeam_msgpack:bytes(Binary).

say(Messages, Config) ->
    hornbeam_puppet:say_packets(Messages, proplists:get_value(puppet, Config)).

reply(Config) ->
    hornbeam_puppet:next(reply, proplists:get_value(puppet, Config)).
