%% Calls to rooms of other nodes: what is answered, what is told when there is no answer, and what
%% is left behind.
-module(hornbeam_link_calls_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

-define(ROOM, tests).

all() ->
    [a_question_is_answered, answers_come_one_by_one_as_they_are_asked_for,
     who_asks_waits_no_longer_than_it_says, a_peer_that_goes_is_told_to_who_asks,
     a_peer_that_stands_still_keeps_nobody_beyond_the_deadline,
     what_crashes_there_is_told, who_dies_has_asked_for_nothing,
     what_may_not_be_ended_goes_on, notes_are_the_rooms_own,
     what_is_not_understood_is_counted, a_question_that_finds_no_room_is_not_sent,
     an_answer_waits_until_there_is_room, a_crash_is_told_when_there_is_room,
     who_stops_without_room_is_heard_later, who_dies_without_room_is_heard_later,
     a_cast_is_served_and_not_answered].

init_per_testcase(_Name, Config) ->
    {Port, [A, B]} = hornbeam_cluster:start(2),
    _ = [hornbeam_cluster:call(Node, ?MODULE, begin_room, []) || Node <- [A, B]],
    Peer = hornbeam_cluster:call(B, hornbeam_links, own, []),
    hornbeam_eventually:holds(fun() ->
        hornbeam_cluster:call(A, hornbeam_links, peers, [?ROOM]) =:= [Peer]
    end),
    [{cluster, {Port, [A, B]}}, {a, A}, {b, B}, {peer, Peer} | Config].

end_per_testcase(_Name, Config) ->
    hornbeam_cluster:stop(proplists:get_value(cluster, Config)).

a_question_is_answered(Config) ->
    ?assertEqual({ok, {echo, #{a => [1, <<"b">>]}}}, ask(Config, {echo, #{a => [1, <<"b">>]}})),
    %% Also when many ask at once, each its own.
    ?assertEqual(lists:seq(1, 500), on_a(Config, ask_many, [peer(Config), 500])),
    nothing_left(Config).

answers_come_one_by_one_as_they_are_asked_for(Config) ->
    ?assertEqual([1, 2, 3], on_a(Config, count_up, [peer(Config), 3])),
    nothing_left(Config),
    hornbeam_eventually:holds(fun() -> on_b(Config, erlang, whereis, [counting]) =:= undefined end).

who_asks_waits_no_longer_than_it_says(Config) ->
    ?assertEqual({error, timeout}, ask(Config, wait, 50)),
    nothing_left(Config).

a_peer_that_goes_is_told_to_who_asks(Config) ->
    Asker = on_a(Config, start_asking, [peer(Config), wait]),
    served(Config, 1),
    hornbeam_cluster:kill_node(b(Config)),
    ?assertEqual({error, down}, on_a(Config, outcome, [Asker])),
    ?assertEqual({error, down}, ask(Config, {echo, 1})),
    ?assertEqual(0, on_a(Config, asked, [])).

a_peer_that_stands_still_keeps_nobody_beyond_the_deadline(Config) ->
    hornbeam_cluster:pause(b(Config)),
    ?assertEqual({error, timeout}, ask(Config, {echo, 1}, 100)),
    hornbeam_cluster:resume(b(Config)),
    ?assertEqual({ok, {echo, 2}}, ask(Config, {echo, 2})),
    nothing_left(Config).

what_crashes_there_is_told(Config) ->
    ?assertEqual({error, crashed}, ask(Config, crash)),
    nothing_left(Config).

who_dies_has_asked_for_nothing(Config) ->
    Asker = on_a(Config, start_asking, [peer(Config), wait]),
    served(Config, 1),
    true = on_a(Config, erlang, exit, [Asker, kill]),
    nothing_left(Config).

what_may_not_be_ended_goes_on(Config) ->
    ?assertEqual({error, timeout}, ask(Config, {finish, done_anyway}, 20)),
    hornbeam_eventually:holds(fun() -> on_b(Config, finish, []) end),
    hornbeam_eventually:holds(fun() ->
        on_b(Config, persistent_term, get, [done_anyway, false])
    end).

notes_are_the_rooms_own(Config) ->
    ok = on_a(Config, hornbeam_link_calls, note, [peer(Config), ?ROOM, {a, note}]),
    Own = on_a(Config, hornbeam_links, own, []),
    hornbeam_eventually:holds(fun() ->
        on_b(Config, persistent_term, get, [note, none]) =:= {Own, {a, note}}
    end).

what_is_not_understood_is_counted(Config) ->
    [begin
         ok = on_a(Config, hornbeam_links, send_packed, [peer(Config), ?ROOM, Bytes]),
         hornbeam_eventually:holds(fun() ->
             on_b(Config, hornbeam_link_queue, losses, [?ROOM]) =:= #{not_understood => N}
         end)
     end || {N, Bytes} <- [{1, <<>>}, {2, <<0, 0:64, "no term">>}, {3, <<255, 7:64>>}]],
    ?assertEqual({ok, {echo, 1}}, ask(Config, {echo, 1})).

a_question_that_finds_no_room_is_not_sent(Config) ->
    hornbeam_cluster:pause(b(Config)),
    ok = on_a(Config, hornbeam_link_queue, set_limits, [limit(1)]),
    ?assertEqual({error, full}, on_a(Config, fill, [peer(Config)])),
    hornbeam_cluster:resume(b(Config)).

an_answer_waits_until_there_is_room(Config) ->
    ok = on_b(Config, hornbeam_link_queue, set_limits, [limit(0)]),
    Asker = on_a(Config, start_asking, [peer(Config), {echo, 1}]),
    hornbeam_eventually:holds(fun() ->
        map_get(full, maps:merge(#{full => 0}, on_b(Config, hornbeam_link_queue, losses, [?ROOM])))
            > 1
    end),
    ok = on_b(Config, hornbeam_link_queue, set_limits, [limit(1000000)]),
    ?assertEqual({ok, {echo, 1}}, on_a(Config, outcome, [Asker])).

a_crash_is_told_when_there_is_room(Config) ->
    ok = on_b(Config, hornbeam_link_queue, set_limits, [limit(0)]),
    Asker = on_a(Config, start_asking, [peer(Config), crash]),
    lost_for_lack_of_room(fun(Module, Function, Args) -> on_b(Config, Module, Function, Args) end),
    ok = on_b(Config, hornbeam_link_queue, set_limits, [limit(1000000)]),
    ?assertEqual({error, crashed}, on_a(Config, outcome, [Asker])),
    nothing_left(Config).

%% Or the peer would keep for ever what it has begun.
who_stops_without_room_is_heard_later(Config) ->
    Asker = on_a(Config, start_counting, [peer(Config)]),
    without_room(Config, fun() -> stopped = on_a(Config, stop_counting, [Asker]) end).

who_dies_without_room_is_heard_later(Config) ->
    Asker = on_a(Config, start_counting, [peer(Config)]),
    without_room(Config, fun() -> true = on_a(Config, erlang, exit, [Asker, kill]) end).

without_room(Config, Do) ->
    served(Config, 1),
    ok = on_a(Config, hornbeam_link_queue, set_limits, [limit(0)]),
    Do(),
    lost_for_lack_of_room(fun(Module, Function, Args) -> on_a(Config, Module, Function, Args) end),
    ok = on_a(Config, hornbeam_link_queue, set_limits, [limit(1000000)]),
    nothing_left(Config).

lost_for_lack_of_room(On) ->
    hornbeam_eventually:holds(fun() ->
        maps:is_key(full, On(hornbeam_link_queue, losses, [?ROOM]))
    end).

a_cast_is_served_and_not_answered(Config) ->
    ok = on_a(Config, hornbeam_link_calls, cast, [peer(Config), ?ROOM, {put, cast, 1}]),
    hornbeam_eventually:holds(fun() -> on_b(Config, persistent_term, get, [cast, 0]) =:= 1 end),
    ok = on_a(Config, hornbeam_link_calls, cast, [peer(Config), ?ROOM, crash]),
    nothing_left(Config).

%%% On the nodes.

begin_room() ->
    Caller = self(),
    Room = spawn(fun() ->
        _ = hornbeam_links:join(?ROOM, self(), fun ?MODULE:heard/1),
        Caller ! {joined, self()},
        receive never -> ok end
    end),
    receive {joined, Room} -> ok end.

heard(Event) ->
    hornbeam_link_calls:heard(Event, {?ROOM, {?MODULE, serve}}, fun(Peer, Note) ->
        persistent_term:put(note, {Peer, Note})
    end).

serve(Served, {echo, _} = Echo) ->
    hornbeam_link_calls:answer(Served, Echo);
serve(Served, count) ->
    register(counting, self()),
    serve(Served, {count, 1});
serve(Served, {count, From}) ->
    hornbeam_link_calls:answer(Served, From),
    next = hornbeam_link_calls:await_more(Served),
    serve(Served, {count, From + 1});
serve(Served, wait) ->
    hornbeam_link_calls:may_be_ended(Served),
    receive never -> ok end;
serve(_Served, {finish, Key}) ->
    register(finishing, self()),
    receive finish -> persistent_term:put(Key, true) end;
serve(_Served, {put, Key, Value}) ->
    persistent_term:put(Key, Value);
serve(_Served, crash) ->
    error(crash).

finish() ->
    case whereis(finishing) of
        undefined -> false;
        Pid -> Pid ! finish, true
    end.

ask_many(Peer, Count) ->
    Self = self(),
    _ = [spawn_link(fun() ->
             {ok, {echo, N}} = hornbeam_link_calls:ask(Peer, ?ROOM, {echo, N}, 10000),
             Self ! {got, N}
         end) || N <- lists:seq(1, Count)],
    lists:sort([receive {got, N} -> N end || _ <- lists:seq(1, Count)]).

count_up(Peer, Count) ->
    {ok, Call} = hornbeam_link_calls:start(Peer, ?ROOM, count),
    Numbers = [begin
                   {ok, N} = hornbeam_link_calls:await(Call, 10000),
                   ok = hornbeam_link_calls:more(Call, next),
                   N
               end || _ <- lists:seq(1, Count)],
    ok = hornbeam_link_calls:stop(Call),
    Numbers.

%% Somebody who has got the first number, and asks for no more.
start_counting(Peer) ->
    Caller = self(),
    Asker = spawn(fun() ->
        {ok, Call} = hornbeam_link_calls:start(Peer, ?ROOM, count),
        {ok, 1} = hornbeam_link_calls:await(Call, 10000),
        Caller ! {counting, self()},
        receive {stop, From} -> ok = hornbeam_link_calls:stop(Call), From ! stopped end
    end),
    receive {counting, Asker} -> Asker end.

stop_counting(Asker) ->
    Asker ! {stop, self()},
    receive stopped -> stopped end.

start_asking(Peer, Question) ->
    spawn(fun() ->
        Outcome = hornbeam_link_calls:ask(Peer, ?ROOM, Question, infinity),
        receive {outcome, From} -> From ! {outcome, Outcome} end
    end).

outcome(Asker) ->
    Asker ! {outcome, self()},
    receive {outcome, Outcome} -> Outcome end.

fill(Peer) ->
    case hornbeam_link_calls:start(Peer, ?ROOM, {echo, binary:copy(<<0>>, 1000000)}) of
        {ok, _} -> fill(Peer);
        Error -> Error
    end.

asked() -> ets:info(hornbeam_link_calls_asked, size).

%%% Helpers.

ask(Config, Question) ->
    ask(Config, Question, 10000).

ask(Config, Question, Timeout) ->
    on_a(Config, hornbeam_link_calls, ask, [peer(Config), ?ROOM, Question, Timeout]).

nothing_left(Config) ->
    hornbeam_eventually:holds(fun() ->
        {on_a(Config, asked, []), on_b(Config, hornbeam_link_calls, serving, [?ROOM])} =:= {0, 0}
    end).

limit(Bytes) -> #{peer_max_unsent_bytes => Bytes}.

served(Config, N) ->
    hornbeam_eventually:holds(fun() ->
        on_b(Config, hornbeam_link_calls, serving, [?ROOM]) =:= N
    end).

on_a(Config, Function, Args) -> on_a(Config, ?MODULE, Function, Args).
on_a(Config, Module, Function, Args) ->
    hornbeam_cluster:call(proplists:get_value(a, Config), Module, Function, Args).

on_b(Config, Function, Args) -> on_b(Config, ?MODULE, Function, Args).
on_b(Config, Module, Function, Args) ->
    hornbeam_cluster:call(b(Config), Module, Function, Args).

b(Config) -> proplists:get_value(b, Config).
peer(Config) -> proplists:get_value(peer, Config).
