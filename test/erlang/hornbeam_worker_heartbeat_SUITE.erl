%% Whether a worker's loop turns, and what its process tells when it can tell nothing by itself.
-module(hornbeam_worker_heartbeat_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [one_heartbeat_is_on_its_way_at_a_time, a_worker_hangs_at_its_limit_and_not_before,
     an_answer_starts_the_count_anew, an_answer_tells_how_long_it_took,
     an_answer_to_nothing_is_an_error, without_a_limit_nothing_hangs,
     a_short_limit_has_its_heartbeats_in_time, the_memory_of_a_process_is_known,
     the_handler_that_has_the_loop_is_found].

one_heartbeat_is_on_its_way_at_a_time(_Config) ->
    {send, 1, Sent} = hornbeam_worker_heartbeat:beat(0, hornbeam_worker_heartbeat:new(30000)),
    ?assert(hornbeam_worker_heartbeat:is_late(Sent)),
    {wait, Waits} = hornbeam_worker_heartbeat:beat(1000, Sent),
    {ok, Answered} = hornbeam_worker_heartbeat:answer(1, 1500, Waits),
    ?assertNot(hornbeam_worker_heartbeat:is_late(Answered)),
    ?assertMatch({send, 2, _}, hornbeam_worker_heartbeat:beat(2000, Answered)).

a_worker_hangs_at_its_limit_and_not_before(_Config) ->
    Heartbeat = hornbeam_worker_heartbeat:new(4000),
    ?assertEqual(1000, hornbeam_worker_heartbeat:interval(Heartbeat)),
    {wait, Waits} = beats(4, Heartbeat),
    ?assertEqual({hung, 4000}, hornbeam_worker_heartbeat:beat(0, Waits)).

an_answer_starts_the_count_anew(_Config) ->
    {wait, Waits} = beats(4, hornbeam_worker_heartbeat:new(4000)),
    {ok, Answered} = hornbeam_worker_heartbeat:answer(1, 0, Waits),
    ?assertMatch({wait, _}, beats(4, Answered)).

%% So many beats without an answer; the first one sends.
beats(1, Heartbeat) ->
    {send, _, Sent} = hornbeam_worker_heartbeat:beat(0, Heartbeat),
    {wait, Sent};
beats(Count, Heartbeat) ->
    {wait, Waits} = beats(Count - 1, Heartbeat),
    hornbeam_worker_heartbeat:beat(0, Waits).

an_answer_tells_how_long_it_took(_Config) ->
    New = hornbeam_worker_heartbeat:new(infinity),
    ?assertEqual(undefined, hornbeam_worker_heartbeat:latency(New)),
    {send, 1, Sent} = hornbeam_worker_heartbeat:beat(-500, New),
    {ok, Answered} = hornbeam_worker_heartbeat:answer(1, -480, Sent),
    ?assertEqual(20, hornbeam_worker_heartbeat:latency(Answered)).

an_answer_to_nothing_is_an_error(_Config) ->
    New = hornbeam_worker_heartbeat:new(infinity),
    ?assertEqual(error, hornbeam_worker_heartbeat:answer(0, 0, New)),
    {send, 1, Sent} = hornbeam_worker_heartbeat:beat(0, New),
    ?assertEqual(error, hornbeam_worker_heartbeat:answer(2, 0, Sent)),
    {ok, Answered} = hornbeam_worker_heartbeat:answer(1, 0, Sent),
    ?assertEqual(error, hornbeam_worker_heartbeat:answer(1, 0, Answered)).

without_a_limit_nothing_hangs(_Config) ->
    ?assertMatch({wait, _}, beats(1000, hornbeam_worker_heartbeat:new(infinity))).

a_short_limit_has_its_heartbeats_in_time(_Config) ->
    ?assertEqual(25, hornbeam_worker_heartbeat:interval(hornbeam_worker_heartbeat:new(100))),
    ?assertEqual(1, hornbeam_worker_heartbeat:interval(hornbeam_worker_heartbeat:new(1))).

the_memory_of_a_process_is_known(_Config) ->
    OsPid = list_to_integer(os:getpid()),
    ?assert(hornbeam_os_process:rss(OsPid) > 1 bsl 20),
    ?assertEqual(undefined, hornbeam_os_process:rss(undefined)),
    ?assertEqual(undefined, hornbeam_os_process:rss(1 bsl 30)).

the_handler_that_has_the_loop_is_found(_Config) ->
    Watch = <<"Thread 0x1 (most recent call first):\n"
              "  File \"/lib/hornbeam_erlang/_worker/process.py\", line 9 in _watch\n\n">>,
    Loop = <<"Current thread 0x2 (most recent call first):\n"
             "  File \"/srv/shop.py\", line 4 in total\n"
             "  File \"/srv/shop.py\", line 7 in orders\n"
             "  File \"/lib/hornbeam_erlang/_worker/server.py\", line 150 in _run\n"
             "  File \"/lib/hornbeam_erlang/_worker/__main__.py\", line 60 in run\n">>,
    ?assertEqual(<<"File \"/srv/shop.py\", line 4 in total">>,
                 hornbeam_os_process:handler(<<Watch/binary, Loop/binary>>)),
    ?assertEqual(undefined, hornbeam_os_process:handler(Watch)),
    ?assertEqual(undefined, hornbeam_os_process:handler(<<>>)).
