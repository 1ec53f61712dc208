%% Where ops and their replies stand among what else a worker says and is told.
-module(hornbeam_worker_ops_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [an_op_on_state_passes_the_messages_in_front_of_it, an_op_passes_no_other_op,
     an_op_that_publishes_comes_in_turn].

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
