%% The queue that is fair to streams: who comes first, and that nobody waits for ever.
-module(hornbeam_fair_queue_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

-define(QUANTUM, 16384).

all() ->
    [a_stream_of_which_nothing_waits_comes_first, streams_with_much_to_say_take_turns,
     a_long_message_takes_from_the_turns_to_come,
     who_has_had_turns_to_come_waits_for_them_also_when_it_had_nothing_more_to_say,
     many_with_little_to_say_do_not_keep_one_with_much_for_ever, as_many_bytes_as_asked_for,
     each_stream_keeps_its_order].

a_stream_of_which_nothing_waits_comes_first(_Config) ->
    {[Big], Two} = hornbeam_fair_queue:take(1, queue([{1, big()}, {1, big()}, {1, big()}])),
    ?assertEqual(big(), Big),
    Three = hornbeam_fair_queue:put(2, <<"small">>, Two),
    {[<<"small">>], Left} = hornbeam_fair_queue:take(1, Three),
    ?assertEqual([big(), big()], all(Left)).

streams_with_much_to_say_take_turns(_Config) ->
    Queue = queue([{Stream, [integer_to_binary(Stream), big()]}
                   || Stream <- [1, 2, 3], _ <- lists:seq(1, 3)]),
    ?assertEqual([<<"1">>, <<"2">>, <<"3">>, <<"1">>, <<"2">>, <<"3">>, <<"1">>, <<"2">>, <<"3">>],
                 [Name || [Name, _] <- all(Queue)]).

a_long_message_takes_from_the_turns_to_come(_Config) ->
    Long = {1, [<<"1">>, binary:copy(big(), 4)]},
    Short = {2, [<<"2">>, big()]},
    Queue = queue([Long, Short, Long, Short, Short, Short, Short]),
    ?assertEqual(<<"1222212">>, iolist_to_binary([Name || [Name, _] <- all(Queue)])).

who_has_had_turns_to_come_waits_for_them_also_when_it_had_nothing_more_to_say(_Config) ->
    Long = binary:copy(big(), 4),
    Queue = queue([{1, Long} | [{2, big()} || _ <- lists:seq(1, 4)]]),
    {First, Left} = hornbeam_fair_queue:take(6 * ?QUANTUM, Queue),
    ?assertEqual([Long, big(), big()], First),
    ?assertEqual([big(), big(), <<"more">>], all(hornbeam_fair_queue:put(1, <<"more">>, Left))).

many_with_little_to_say_do_not_keep_one_with_much_for_ever(_Config) ->
    Small = [{Stream, <<"small">>} || Stream <- lists:seq(2, 5)],
    ?assert(turns_until_all_big(3, 0, queue([{1, big()}, {1, big()}, {1, big()} | Small])) < 100).

%% There is always somebody with little to say.
turns_until_all_big(0, Turns, _Queue) ->
    Turns;
turns_until_all_big(Left, Turns, Queue) when Turns < 100 ->
    case hornbeam_fair_queue:take(1, Queue) of
        {[<<"small">>], Rest} ->
            More = hornbeam_fair_queue:put(2 + Turns rem 4, <<"small">>, Rest),
            turns_until_all_big(Left, Turns + 1, More);
        {[_Big], Rest} ->
            turns_until_all_big(Left - 1, Turns + 1, Rest)
    end.

as_many_bytes_as_asked_for(_Config) ->
    Queue = queue([{1, <<"abc">>}, {1, [<<"d">>, "e"]}, {1, <<"f">>}]),
    {Taken, Left} = hornbeam_fair_queue:take(4, Queue),
    ?assertEqual([<<"abc">>, [<<"d">>, "e"]], Taken),
    ?assertNot(hornbeam_fair_queue:is_empty(Left)),
    {[<<"f">>], Empty} = hornbeam_fair_queue:take(4, Left),
    ?assert(hornbeam_fair_queue:is_empty(Empty)),
    ?assertEqual({[], hornbeam_fair_queue:new()}, hornbeam_fair_queue:take(4, Empty)).

each_stream_keeps_its_order(_Config) ->
    _ = rand:seed(exsss, 7),
    Messages = [{rand:uniform(5), [integer_to_binary(N), binary:copy(<<0>>, rand:uniform(40000))]}
                || N <- lists:seq(1, 200)],
    Found = all(queue(Messages)),
    ?assertEqual(200, length(Found)),
    [?assertEqual([Message || {Stream, Message} <- Messages, Stream =:= Wanted],
                  [Message || Message <- Found, lists:member({Wanted, Message}, Messages)])
     || Wanted <- lists:seq(1, 5)].

queue(Messages) ->
    Put = fun({Stream, Message}, Queue) -> hornbeam_fair_queue:put(Stream, Message, Queue) end,
    lists:foldl(Put, hornbeam_fair_queue:new(), Messages).

all(Queue) ->
    case hornbeam_fair_queue:is_empty(Queue) of
        true ->
            [];
        false ->
            {[Message], Left} = hornbeam_fair_queue:take(1, Queue),
            [Message | all(Left)]
    end.

big() -> binary:copy(<<"x">>, ?QUANTUM).
