%% Waits for a condition, with a deadline.
-module(hornbeam_eventually).

-export([holds/1, holds/2, dead/1]).

-define(DEADLINE, 10000).
-define(PAUSE, 5).

%% Returns once Fun() is true; fails when it is not in time.
holds(Fun) ->
    holds(Fun, ?DEADLINE).

%% The same with another deadline (ms).
holds(Fun, Timeout) ->
    holds_until(Fun, erlang:monotonic_time(millisecond) + Timeout).

holds_until(Fun, Deadline) ->
    case Fun() of
        true ->
            ok;
        Other ->
            erlang:monotonic_time(millisecond) < Deadline orelse error({never_held, Other}),
            receive after ?PAUSE -> holds_until(Fun, Deadline) end
    end.

%% Kills a process and waits for its end.
dead(Pid) ->
    Ref = erlang:monitor(process, Pid),
    exit(Pid, kill),
    receive
        {'DOWN', Ref, process, Pid, _} -> ok
    after ?DEADLINE ->
        error({still_alive, Pid})
    end.
