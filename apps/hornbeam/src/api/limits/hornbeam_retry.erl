%% Asks a process that may be away for a moment, because it has crashed and its supervisor has not
%% started it again: whoever asks hears nothing of that.
-module(hornbeam_retry).

-export([unless_asked/1, until_answered/1]).

%% A new process may first look through all that its predecessor knew. Longer (ms) than that nobody
%% waits: what is broken then is more than a process.
-define(PATIENCE, 15000).
%% Between two tries (ms).
-define(PAUSE, 20).

%% @doc Make a call, again while there is no process: for what must not be done twice. Fails like
%% the call when the process ends meanwhile.
-spec unless_asked(fun(() -> Answer)) -> Answer.
unless_asked(Call) ->
    until(Call, fun(Reason) -> Reason =:= noproc end, deadline()).

%% @doc Make a call, again until a process has answered: for what may be done twice.
-spec until_answered(fun(() -> Answer)) -> Answer.
until_answered(Call) ->
    until(Call, fun(_Reason) -> true end, deadline()).

deadline() -> erlang:monotonic_time(millisecond) + ?PATIENCE.

until(Call, IsAgain, Deadline) ->
    try
        Call()
    catch
        exit:{Reason, {gen_server, call, _}} = Exit:Stack ->
            IsInTime = erlang:monotonic_time(millisecond) < Deadline,
            IsInTime andalso IsAgain(Reason) orelse erlang:raise(exit, Exit, Stack),
            receive after ?PAUSE -> ok end,
            until(Call, IsAgain, Deadline)
    end.
