%% How many connections there are, whatever becomes of them and of who counts them.
-module(hornbeam_connection_limit_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [so_many_may_come_in_and_not_one_more, no_two_get_the_last_place, there_may_be_no_limit,
     those_turned_away_take_no_place, too_many_are_cut_without_a_word,
     a_crash_loses_no_connection_and_counts_none_twice,
     who_comes_and_who_goes_while_nobody_counts_is_counted,
     connections_that_come_at_any_moment_of_crashes_are_counted,
     an_end_of_an_older_limit_does_not_count_for_a_new_one,
     workers_hear_of_a_connection_that_could_not_tell_them, a_flood_is_counted].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

init_per_testcase(_Case, Config) ->
    Counters = hornbeam_counters:new(),
    [{counters, Counters}, {first, start(Counters)} | Config].

end_per_testcase(_Case, _Config) ->
    stop(),
    hornbeam_pool_row:erase(<<"/">>).

so_many_may_come_in_and_not_one_more(_Config) ->
    Limit = hornbeam_connection_limit:new(2),
    {One, ok} = connection(Limit),
    {_Two, ok} = connection(Limit),
    {Three, full} = connection(Limit),
    ?assertEqual(2, hornbeam_connection_limit:count(Limit)),
    ends(One, normal),
    has(1, Limit),
    {_, ok} = connection(Limit),
    {_, full} = connection(Limit),
    ends(Three, normal),
    has(2, Limit).

no_two_get_the_last_place(_Config) ->
    Limit = hornbeam_connection_limit:new(20),
    Answers = [Answer || {_, Answer} <- connections(100, Limit)],
    ?assertEqual({20, 80}, {length([ok || ok <- Answers]), length([full || full <- Answers])}),
    has(20, Limit).

there_may_be_no_limit(_Config) ->
    Limit = hornbeam_connection_limit:new(infinity),
    ?assertEqual([ok], lists:usort([Answer || {_, Answer} <- connections(100, Limit)])),
    has(100, Limit).

those_turned_away_take_no_place(_Config) ->
    Limit = hornbeam_connection_limit:new(1),
    {One, ok} = connection(Limit),
    Away = [Pid || {Pid, full} <- connections(10, Limit)],
    ?assertEqual(10, length(Away)),
    has(1, Limit),
    ends(One, normal),
    has(0, Limit),
    {_, ok} = connection(Limit),
    [ends(Pid, normal) || Pid <- Away],
    has(1, Limit).

too_many_are_cut_without_a_word(_Config) ->
    Limit = hornbeam_connection_limit:new(1),
    {_, ok} = connection(Limit),
    Away = connections(1024, Limit),
    ?assertEqual([full], lists:usort([Answer || {_, Answer} <- Away])),
    {Overrun, overrun} = connection(Limit),
    {Another, overrun} = connection(Limit),
    ends(Overrun, normal),
    ends(Another, normal),
    ends(element(1, hd(Away)), normal),
    %% One has made room for a word.
    hornbeam_eventually:holds(fun() ->
        {Pid, Answer} = connection(Limit),
        Answer =:= full orelse ends(Pid, normal)
    end).

a_crash_loses_no_connection_and_counts_none_twice(Config) ->
    Limit = hornbeam_connection_limit:new(5),
    There = [Pid || {Pid, ok} <- connections(5, Limit)],
    {Away, full} = connection(Limit),
    restart(Config),
    has(5, Limit),
    {_, full} = connection(Limit),
    [ends(Pid, normal) || Pid <- [Away | There]],
    has(0, Limit),
    ?assertEqual(5, length([Pid || {Pid, ok} <- connections(5, Limit)])).

who_comes_and_who_goes_while_nobody_counts_is_counted(Config) ->
    Limit = hornbeam_connection_limit:new(3),
    [{Goes, ok}, {_Stays, ok}] = connections(2, Limit),
    stop(),
    {Comes, ok} = connection(Limit),
    {_, full} = connection(Limit),
    ends(Goes, normal),
    ?assertEqual(3, hornbeam_connection_limit:count(Limit)),
    _ = start(counters(Config)),
    has(2, Limit),
    ends(Comes, killed),
    has(1, Limit).

connections_that_come_at_any_moment_of_crashes_are_counted(Config) ->
    Limit = hornbeam_connection_limit:new(infinity),
    Test = self(),
    Comers = [spawn_link(fun() -> Test ! {came, self(), connections(200, Limit)} end)
              || _ <- lists:seq(1, 10)],
    _ = [restart(Config) || _ <- lists:seq(1, 50)],
    There = lists:append([receive {came, Comer, Pids} -> Pids end || Comer <- Comers]),
    has(2000, Limit),
    restart(Config),
    has(2000, Limit),
    [ends(Pid, normal) || {Pid, ok} <- There],
    has(0, Limit),
    restart(Config),
    has(0, Limit).

an_end_of_an_older_limit_does_not_count_for_a_new_one(Config) ->
    Old = hornbeam_connection_limit:new(1),
    {Of, ok} = connection(Old),
    stop(),
    New = hornbeam_connection_limit:new(1),
    _ = start(counters(Config)),
    {_, ok} = connection(New),
    ends(Of, normal),
    has(0, Old),
    ?assertEqual(1, hornbeam_connection_limit:count(New)).

%% The test stands for the pool, and for its worker.
workers_hear_of_a_connection_that_could_not_tell_them(Config) ->
    ok = hornbeam_pool_row:keep(<<"/">>, self()),
    ok = hornbeam_pool_row:publish(<<"/">>, [handle()], []),
    Limit = hornbeam_connection_limit:new(infinity),
    [begin
         {Pid, ok} = watched(Limit),
         ends(Pid, Reason),
         has(0, Limit),
         ?assertEqual({Reason, Told}, {Reason, told(Pid)})
     end || {Reason, Told} <- [{normal, false}, {shutdown, false}, {{shutdown, why}, false},
                               {killed, true}, {badarg, true}]],
    {Pid, ok} = connection(Limit),
    stop(),
    ends(Pid, killed),
    _ = start(counters(Config)),
    has(0, Limit),
    ?assert(told(Pid)).

told(Pid) ->
    settled(),
    receive
        {process_down, Pid} -> true
    after 0 ->
        false
    end.

handle() ->
    hornbeam_capacity:new(#{worker => self(), writer => self(), name => <<>>,
                             limit => infinity,
                             tagged_owners => hornbeam_stream_owners:new(), adoption => none,
                             counts => hornbeam_capacity:new_counts()}).

%% One whose end nobody can miss.
watched(Limit) ->
    Connection = connection(Limit),
    settled(),
    Connection.

%% What has come to who counts is through to its last consequence.
settled() ->
    _ = sys:get_state(hornbeam_connection_limit),
    ok.

a_flood_is_counted(Config) ->
    Limit = hornbeam_connection_limit:new(infinity),
    {Pid, ok} = watched(Limit),
    ends(Pid, {shutdown, {connection_error, enhance_your_calm, 'Too many.'}}),
    has(0, Limit),
    settled(),
    ?assertMatch(#{http2_floods := 1}, hornbeam_counters:values(counters(Config))).

%% Connections.

connection(Limit) ->
    [Connection] = connections(1, Limit),
    Connection.

connections(Count, Limit) ->
    Test = self(),
    Pids = [spawn(fun() ->
        Test ! {self(), hornbeam_connection_limit:enter(Limit)},
        receive {ends, Reason} -> exit(Reason) end
    end) || _ <- lists:seq(1, Count)],
    [receive {Pid, Answer} -> {Pid, Answer} end || Pid <- Pids].

ends(Pid, Reason) ->
    Ref = erlang:monitor(process, Pid),
    _ = case Reason of
        killed -> exit(Pid, kill);
        _ -> Pid ! {ends, Reason}
    end,
    receive {'DOWN', Ref, process, Pid, Reason} -> ok end.

has(Count, Limit) ->
    hornbeam_eventually:holds(fun() ->
        Counted = hornbeam_connection_limit:count(Limit),
        Counted =:= Count orelse Counted
    end),
    %% All that it has heard of is done.
    _ = [sys:get_state(Keeper) || Keeper <- [whereis(hornbeam_connection_limit)], is_pid(Keeper)],
    ?assertEqual(Count, hornbeam_connection_limit:count(Limit)).

counters(Config) -> proplists:get_value(counters, Config).

start(Counters) ->
    {ok, Pid} = hornbeam_connection_limit:start_link([<<"/">>], Counters),
    true = unlink(Pid),
    Pid.

stop() ->
    hornbeam_eventually:dead(whereis(hornbeam_connection_limit)).

restart(Config) ->
    stop(),
    start(counters(Config)).
