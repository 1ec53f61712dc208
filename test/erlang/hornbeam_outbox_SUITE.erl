%% What others than its app send to a client: bounds, order, and that nothing is forgotten.
-module(hornbeam_outbox_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([
    a_connection_that_keeps_up_gets_frames_directly/1,
    past_the_direct_limit_frames_wait_and_are_fetched_in_order/1,
    the_oldest_that_wait_are_dropped_at_the_bound_of_messages/1,
    the_oldest_that_wait_are_dropped_at_the_bound_of_bytes/1,
    the_policy_close_tells_the_connection_once_past_the_bound/1,
    the_policy_close_closes_for_a_frame_that_could_never_wait/1,
    of_a_topic_whose_latest_counts_one_frame_waits/1,
    the_bound_holds_for_many_topics_whose_latest_counts/1,
    one_large_frame_goes_directly_to_an_idle_connection/1,
    a_fetch_does_not_overtake_what_is_sent_directly_meanwhile/1,
    an_owner_among_others_gets_what_is_pushed_by_its_name/1,
    what_waits_for_the_dead_is_forgotten/1,
    each_senders_order_is_kept_and_losses_are_counted/1
]).

all() ->
    [Name || {Name, 1} <- module_info(exports), not lists:member(Name, others())].

others() -> [module_info, init_per_suite, end_per_suite].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

a_connection_that_keeps_up_gets_frames_directly(_Config) ->
    Outbox = hornbeam_outbox:new(self(), {10, 1000}),
    [begin
         push(Outbox, frame(N)),
         ?assertEqual(frame(N), forwarded(Outbox)),
         ?assertEqual([], hornbeam_outbox:written(Outbox, 1, size_of(frame(N))))
     end || N <- lists:seq(1, 1000)],
    ?assertEqual(0, hornbeam_outbox:dropped(Outbox)).

past_the_direct_limit_frames_wait_and_are_fetched_in_order(_Config) ->
    Outbox = hornbeam_outbox:new(self(), {1000, 1000000}),
    [push(Outbox, frame(N)) || N <- lists:seq(1, 300)],
    Direct = [forwarded(Outbox) || _ <- lists:seq(1, 64)],
    ?assertEqual([frame(N) || N <- lists:seq(1, 64)], Direct),
    ?assertEqual(fetch, fetch_or_forward(Outbox)),
    %% Not before what was sent directly is written.
    ?assertEqual([], hornbeam_outbox:fetch(Outbox)),
    Bytes = lists:sum([size_of(Frame) || Frame <- Direct]),
    First = hornbeam_outbox:written(Outbox, 64, Bytes),
    Waited = all_that_wait(Outbox, First),
    ?assertEqual([frame(N) || N <- lists:seq(65, 300)], Waited),
    ?assertEqual(0, hornbeam_outbox:dropped(Outbox)),
    ?assertEqual(none, fetch_or_forward(Outbox)),
    push(Outbox, frame(301)),
    ?assertEqual(frame(301), forwarded(Outbox)).

all_that_wait(_Outbox, []) -> [];
all_that_wait(Outbox, Frames) ->
    ?assert(length(Frames) =< 64),
    Frames ++ all_that_wait(Outbox, hornbeam_outbox:written(Outbox, 0, 0)).

the_oldest_that_wait_are_dropped_at_the_bound_of_messages(_Config) ->
    Outbox = hornbeam_outbox:new(self(), {100, 1000000}),
    [push(Outbox, frame(N)) || N <- lists:seq(1, 64 + 100)],
    ?assertEqual(0, hornbeam_outbox:dropped(Outbox)),
    push(Outbox, frame(165)),
    ?assertEqual(1, hornbeam_outbox:dropped(Outbox)),
    [push(Outbox, frame(N)) || N <- lists:seq(166, 200)],
    ?assertEqual(36, hornbeam_outbox:dropped(Outbox)),
    ?assertEqual([frame(N) || N <- lists:seq(1, 64) ++ lists:seq(101, 200)], drained(Outbox)).

the_oldest_that_wait_are_dropped_at_the_bound_of_bytes(_Config) ->
    Outbox = hornbeam_outbox:new(self(), {1000, 100}),
    [push(Outbox, frame(N)) || N <- lists:seq(1, 64)],
    Tens = [bytes(<<N, 0:72>>) || N <- lists:seq(1, 11)],
    [push(Outbox, Ten) || Ten <- Tens],
    ?assertEqual(1, hornbeam_outbox:dropped(Outbox)),
    %% What is larger than all that may wait does not push the others out.
    1 = push(Outbox, bytes(binary:copy(<<0>>, 101)), drop_oldest),
    ?assertEqual(2, hornbeam_outbox:dropped(Outbox)),
    ?assertEqual(tl(Tens), lists:nthtail(64, drained(Outbox))).

the_policy_close_tells_the_connection_once_past_the_bound(_Config) ->
    Outbox = hornbeam_outbox:new(self(), {10, 1000000}),
    Push = fun(N) -> push(Outbox, frame(N), close) end,
    [0 = Push(N) || N <- lists:seq(1, 64 + 10)],
    ?assertEqual(no_overflow, overflow(Outbox)),
    0 = Push(75),
    ?assertEqual(overflow, overflow(Outbox)),
    ?assertEqual([1, 1, 1], [Push(N) || N <- [76, 77, 78]]),
    ?assertEqual(no_overflow, overflow(Outbox)),
    ?assertEqual(3, hornbeam_outbox:dropped(Outbox)),
    ?assertEqual([frame(N) || N <- lists:seq(1, 75)], drained(Outbox)).

the_policy_close_closes_for_a_frame_that_could_never_wait(_Config) ->
    Outbox = hornbeam_outbox:new(self(), {1000, 100}),
    [0 = push(Outbox, frame(N), close) || N <- lists:seq(1, 64)],
    1 = push(Outbox, bytes(binary:copy(<<0>>, 101)), close),
    ?assertEqual(overflow, overflow(Outbox)).

overflow(Outbox) ->
    receive
        {overflow, Outbox} -> overflow
    after 0 ->
        no_overflow
    end.

of_a_topic_whose_latest_counts_one_frame_waits(_Config) ->
    Outbox = hornbeam_outbox:new(self(), {1000, 1000000}),
    [0 = push(Outbox, frame(N), {latest, <<"a">>}) || N <- lists:seq(1, 64)],
    0 = push(Outbox, frame(65), {latest, <<"a">>}),
    0 = push(Outbox, frame(66), {latest, <<"b">>}),
    0 = push(Outbox, frame(67), drop_oldest),
    [1 = push(Outbox, frame(N), {latest, <<"a">>}) || N <- lists:seq(68, 99)],
    ?assertEqual(32, hornbeam_outbox:dropped(Outbox)),
    ?assertEqual([frame(N) || N <- lists:seq(1, 64) ++ [66, 67, 99]], drained(Outbox)),
    %% Nothing stays behind of what was fetched.
    ?assertEqual([], ets:match_object(hornbeam_outbox, {{self(), '_'}, '_'})).

the_bound_holds_for_many_topics_whose_latest_counts(_Config) ->
    Outbox = hornbeam_outbox:new(self(), {100, 1000000}),
    [push(Outbox, frame(N), {latest, <<N:32>>}) || N <- lists:seq(1, 64 + 130)],
    ?assertEqual(30, hornbeam_outbox:dropped(Outbox)),
    ?assertEqual([frame(N) || N <- lists:seq(1, 64) ++ lists:seq(95, 194)], drained(Outbox)).

push(Outbox, Frame) ->
    _ = push(Outbox, Frame, drop_oldest),
    ok.

push(Outbox, Frame, Policy) ->
    hornbeam_outbox:push(Outbox, Frame, size_of(Frame), Policy).

one_large_frame_goes_directly_to_an_idle_connection(_Config) ->
    Outbox = hornbeam_outbox:new(self(), {10, 10}),
    Large = bytes(binary:copy(<<0>>, 10000000)),
    push(Outbox, Large),
    ?assertEqual([Large], drained(Outbox)).

%% While the last of what waited is fetched, a sender sends one frame directly, so large that the
%% next must wait: the fetch is not to find that one before the large one is written.
a_fetch_does_not_overtake_what_is_sent_directly_meanwhile(_Config) ->
    Large = bytes(<<0:262144/unit:8>>),
    [fetched_while_sent(Large) || _ <- lists:seq(1, 500)].

fetched_while_sent(Large) ->
    Outbox = hornbeam_outbox:new(self(), {1000, 1 bsl 30}),
    push(Outbox, Large),
    [push(Outbox, frame(0)) || _ <- lists:seq(1, 20)],
    Large = forwarded(Outbox),
    {Sender, Ref} = spawn_monitor(fun() ->
        receive go -> [push(Outbox, frame(0)) || _ <- lists:seq(1, 20)] end,
        push(Outbox, Large),
        push(Outbox, frame(1))
    end),
    Sender ! go,
    Fetched = hornbeam_outbox:written(Outbox, 1, size_of(Large)),
    receive {'DOWN', Ref, process, Sender, normal} -> ok end,
    ?assertNot(lists:member(frame(1), Fetched) andalso lists:member(Large, direct(Outbox))),
    all_that_wait(Outbox, Fetched),
    hornbeam_outbox:forget(self()).

an_owner_among_others_gets_what_is_pushed_by_its_name(_Config) ->
    Client = spawn(fun() -> receive stop -> ok end end),
    Owner = {self(), a_tag},
    Outbox = hornbeam_outbox:new(Client, Owner, {10, 1000}),
    [0 = push(Outbox, frame(N), close) || N <- lists:seq(1, 64 + 10)],
    0 = push(Outbox, frame(75), close),
    Told = [receive {Owner, Message} -> Message after 0 -> nothing end || _ <- lists:seq(1, 67)],
    ?assertEqual([{forward, Outbox, frame(N)} || N <- lists:seq(1, 64)]
                 ++ [{fetch, Outbox}, {overflow, Outbox}, nothing], Told),
    hornbeam_outbox:forget(Client),
    hornbeam_eventually:dead(Client).

what_waits_for_the_dead_is_forgotten(_Config) ->
    Connection = spawn(fun() -> receive stop -> ok end end),
    Outbox = hornbeam_outbox:new(Connection, {1000, 1000000}),
    [push(Outbox, frame(N)) || N <- lists:seq(1, 200)],
    ?assertEqual(136, ets:info(hornbeam_outbox, size)),
    hornbeam_eventually:dead(Connection),
    hornbeam_outbox:forget(Connection),
    ?assertEqual(0, ets:info(hornbeam_outbox, size)),
    push(Outbox, frame(201)),
    ?assertEqual(0, ets:info(hornbeam_outbox, size)).

%% 8 senders, one connection that is sometimes slow: each sender's frames come in order, and those
%% that did not come are exactly those that were counted.
each_senders_order_is_kept_and_losses_are_counted(_Config) ->
    [senders_and_connection(Limits)
     || Limits <- [{1000000, 1 bsl 30}, {50, 1 bsl 30}, {1000, 300}]].

senders_and_connection(Limits) ->
    Test = self(),
    {Connection, _} = spawn_monitor(fun() -> connection(Test, 0, 0, []) end),
    Outbox = hornbeam_outbox:new(Connection, Limits),
    Each = 3000,
    Senders = [spawn_monitor(fun() ->
                   [push(Outbox, hornbeam_websocket_frame:new(text, term_to_binary({Sender, N})))
                    || N <- lists:seq(1, Each)]
               end) || Sender <- lists:seq(1, 8)],
    [receive {'DOWN', Ref, process, _, normal} -> ok end || {_, Ref} <- Senders],
    Got = fun() -> Connection ! {got, self()}, receive {got, Frames} -> Frames end end,
    hornbeam_eventually:holds(fun() ->
        length(Got()) + hornbeam_outbox:dropped(Outbox) =:= 8 * Each
    end),
    Read = lists:map(fun hornbeam_websocket_frame:read/1, Got()),
    Frames = [binary_to_term(Text) || {text, Text} <- Read],
    [begin
         Numbers = [N || {S, N} <- Frames, S =:= Sender],
         ?assertEqual(lists:usort(Numbers), Numbers)
     end || Sender <- lists:seq(1, 8)],
    ?assert(element(1, Limits) < 1000000 orelse hornbeam_outbox:dropped(Outbox) =:= 0),
    hornbeam_eventually:dead(Connection),
    hornbeam_outbox:forget(Connection).

%% What a connection does, with a settle message that comes after its writes.
connection(Test, Messages, Bytes, Got) ->
    receive
        {forward, Outbox, Frame} ->
            Messages =:= 0 andalso (self() ! {settle, Outbox}),
            _ = [erlang:yield() || _ <- lists:seq(1, rand:uniform(3))],
            connection(Test, Messages + 1, Bytes + size_of(Frame), [Frame | Got]);
        {fetch, Outbox} ->
            fetched(hornbeam_outbox:fetch(Outbox), Outbox, Test, Messages, Bytes, Got);
        {settle, Outbox} ->
            fetched(hornbeam_outbox:written(Outbox, Messages, Bytes), Outbox, Test, 0, 0, Got);
        {again, Outbox} ->
            fetched(hornbeam_outbox:written(Outbox, 0, 0), Outbox, Test, Messages, Bytes, Got);
        {got, From} ->
            From ! {got, lists:reverse(Got)},
            connection(Test, Messages, Bytes, Got)
    end.

fetched([], _Outbox, Test, Messages, Bytes, Got) ->
    connection(Test, Messages, Bytes, Got);
fetched(Frames, Outbox, Test, Messages, Bytes, Got) ->
    self() ! {again, Outbox},
    connection(Test, Messages, Bytes, lists:reverse(Frames, Got)).

frame(N) -> hornbeam_websocket_frame:new(text, integer_to_binary(N)).

bytes(Bytes) -> hornbeam_websocket_frame:new(binary, Bytes).

size_of(Frame) -> hornbeam_websocket_frame:payload_size(Frame).

forwarded(Outbox) ->
    receive
        {forward, Outbox, Frame} -> Frame
    after 0 ->
        error(no_frame)
    end.

fetch_or_forward(Outbox) ->
    receive
        {forward, Outbox, _} -> forward;
        {fetch, Outbox} -> fetch
    after 0 ->
        none
    end.

drained(Outbox) ->
    Direct = direct(Outbox),
    Bytes = lists:sum([size_of(Frame) || Frame <- Direct]),
    Waited = all_that_wait(Outbox, hornbeam_outbox:written(Outbox, length(Direct), Bytes)),
    Direct ++ Waited.

direct(Outbox) ->
    receive
        {forward, Outbox, Frame} -> [Frame | direct(Outbox)]
    after 0 ->
        []
    end.
