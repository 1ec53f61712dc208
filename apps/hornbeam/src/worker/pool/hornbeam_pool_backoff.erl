%% How long to wait before a worker that ended is replaced. Pure.
%%
%% The first death is repaired at once, the next ones after growing pauses, until a worker has
%% lasted.
-module(hornbeam_pool_backoff).

-export([failures/3, pause/1]).

%% A worker that was ready for so long (ms) has lasted.
-define(LASTED, 10000).

%% Pauses before a replacement (ms): none, then these doubled up to the longest.
-define(FIRST_PAUSE, 100).
-define(LONGEST_PAUSE, 30000).

%% @doc Deaths in a row, this one included, of workers that did not last. `ReadyAt' is undefined
%% for one that was never ready.
-spec failures(ReadyAt :: integer() | undefined, Now :: integer(), Before :: non_neg_integer()) ->
    pos_integer().
failures(ReadyAt, Now, _Before) when is_integer(ReadyAt), Now - ReadyAt >= ?LASTED -> 1;
failures(_ReadyAt, _Now, Before) -> Before + 1.

%% @doc The pause (ms) after so many.
-spec pause(Failures :: pos_integer()) -> non_neg_integer().
pause(1) -> 0;
pause(Failures) -> min(?LONGEST_PAUSE, ?FIRST_PAUSE bsl min(Failures - 2, 16)).
