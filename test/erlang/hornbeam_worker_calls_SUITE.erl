%% When a worker looks after the callers of its calls. The test's process plays the worker.
-module(hornbeam_worker_calls_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

-define(OK, 0).

all() ->
    [a_call_that_is_over_soon_is_never_watched, a_caller_is_watched_after_a_moment,
     a_caller_that_died_before_is_found, what_is_cancelled_at_once_is_known,
     a_call_that_is_over_takes_no_other_with_it, a_stream_may_be_given_more_at_once].

a_call_that_is_over_soon_is_never_watched(_Config) ->
    Caller = caller(),
    {1, Opened} = hornbeam_worker_calls:open(make_ref(), Caller, hornbeam_worker_calls:new()),
    {ok, Done} = hornbeam_worker_calls:result(1, ?OK, <<16#c0>>, Opened),
    receive watch_calls -> hornbeam_worker_calls:watch(Done) end,
    ?assertEqual([], watched()),
    end_of(Caller).

a_caller_is_watched_after_a_moment(_Config) ->
    Caller = caller(),
    Call = make_ref(),
    {1, Opened} = hornbeam_worker_calls:open(Call, Caller, hornbeam_worker_calls:new()),
    {2, Two} = hornbeam_worker_calls:open(make_ref(), Caller, Opened),
    ?assertEqual([], watched()),
    Watched = receive watch_calls -> hornbeam_worker_calls:watch(Two) end,
    ?assertEqual([Caller, Caller], watched()),
    {ok, Left} = hornbeam_worker_calls:result(2, ?OK, <<16#c0>>, Watched),
    ?assertEqual([Caller], watched()),
    end_of(Caller),
    ?assertEqual(Call, dead_call()),
    ?assertMatch({ok, 1, _}, hornbeam_worker_calls:number(Call, Left)).

a_caller_that_died_before_is_found(_Config) ->
    Caller = caller(),
    Call = make_ref(),
    {1, Opened} = hornbeam_worker_calls:open(Call, Caller, hornbeam_worker_calls:new()),
    end_of(Caller),
    receive watch_calls -> hornbeam_worker_calls:watch(Opened) end,
    ?assertEqual(Call, dead_call()).

what_is_cancelled_at_once_is_known(_Config) ->
    Call = make_ref(),
    {1, Opened} = hornbeam_worker_calls:open(Call, self(), hornbeam_worker_calls:new()),
    {ok, 1, Known} = hornbeam_worker_calls:number(Call, Opened),
    Left = hornbeam_worker_calls:forget(Call, Known),
    ?assertEqual([], watched()),
    %% Its result may have crossed, once.
    {ok, Crossed} = hornbeam_worker_calls:result(1, ?OK, <<16#c0>>, Left),
    ?assertEqual({error, call_is_over},
                 hornbeam_worker_calls:result(1, ?OK, <<16#c0>>, Crossed)).

a_call_that_is_over_takes_no_other_with_it(_Config) ->
    Caller = caller(),
    Over = make_ref(),
    {1, One} = hornbeam_worker_calls:open(Over, Caller, hornbeam_worker_calls:new()),
    {2, Two} = hornbeam_worker_calls:open(make_ref(), Caller, One),
    {ok, Left} = hornbeam_worker_calls:result(1, ?OK, <<16#c0>>, Two),
    {over, Left1} = hornbeam_worker_calls:number(Over, Left),
    {over, Left2} = hornbeam_worker_calls:more(Over, 1, Left1),
    _ = receive watch_calls -> hornbeam_worker_calls:watch(Left2) end,
    ?assertEqual([Caller], watched()),
    end_of(Caller).

a_stream_may_be_given_more_at_once(_Config) ->
    Call = erlang:alias(),
    {1, Opened} = hornbeam_worker_calls:open(Call, self(), hornbeam_worker_calls:new()),
    {ok, 1, Given} = hornbeam_worker_calls:more(Call, 1, Opened),
    {ok, Taken} = hornbeam_worker_calls:item(1, {item, <<16#c0>>}, Given),
    ?assertEqual({error, unasked_item}, hornbeam_worker_calls:item(1, {item, <<16#c0>>}, Taken)),
    receive {Call, {item, <<16#c0>>}} -> ok end.

%% The processes that this one monitors.
watched() ->
    {monitors, Monitors} = process_info(self(), monitors),
    [Pid || {process, Pid} <- Monitors].

dead_call() ->
    receive {{'DOWN', {call, Call}}, _, process, _, _} -> Call end.

caller() ->
    spawn(fun() -> receive stop -> ok end end).

end_of(Caller) ->
    Monitor = monitor(process, Caller),
    Caller ! stop,
    receive {'DOWN', Monitor, process, Caller, _} -> ok end.
