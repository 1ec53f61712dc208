%% Runs foreign code in a process of its own, for a bounded time.
-module(hornbeam_deadline).

-export([run/2, failure/3]).
-export_type([failure/0]).

-type failure() :: timeout | {erlang, Class :: binary(), Reason :: binary(), Stack :: binary()}.
%% How it ended instead: the class (error, exit, throw), and the rest as text for people.

%% Characters of a text, about. A reason or a stack may hold all that a function was called with.
-define(LONGEST, 65536).

%% @doc The result of `Fun', or how it failed within `Timeout' milliseconds. Past its time it is
%% killed.
-spec run(fun(() -> Result), timeout()) -> {ok, Result} | {error, failure()}.
run(Fun, Timeout) ->
    Caller = self(),
    Tag = make_ref(),
    {Pid, Monitor} = spawn_monitor(fun() -> Caller ! {Tag, outcome(Fun)} end),
    receive
        {Tag, Outcome} ->
            true = erlang:demonitor(Monitor, [flush]),
            Outcome;
        {'DOWN', Monitor, process, Pid, Reason} ->
            {error, failure(exit, Reason, [])}
    after Timeout ->
        true = exit(Pid, kill),
        killed(Tag, Monitor)
    end.

%% It may have been done in the last moment.
killed(Tag, Monitor) ->
    receive
        {'DOWN', Monitor, process, _, _} -> ok
    end,
    receive
        {Tag, _} -> {error, timeout}
    after 0 ->
        {error, timeout}
    end.

%% The edge to code that is not ours: whatever it raises is its caller's to know.
outcome(Fun) ->
    try
        {ok, Fun()}
    catch
        Class:Reason:Stack -> {error, failure(Class, Reason, Stack)}
    end.

%% @doc A failure in words.
-spec failure(atom(), Reason :: term(), Stack :: term()) -> failure().
failure(Class, Reason, Stack) ->
    {erlang, atom_to_binary(Class), text("~0tp", Reason), text("~tp", Stack)}.

text(Format, Term) ->
    unicode:characters_to_binary(io_lib:format(Format, [Term], [{chars_limit, ?LONGEST}])).
