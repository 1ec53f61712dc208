%% What an app prints and logs, in the node's own log, and how much of it that takes.
%%
%% A budget of lines and bytes that fills again with time. What is beyond it is dropped and
%% counted, and the next line that is taken says how many there were: a loop that prints costs
%% its own app some lines and the node nothing.
-module(hornbeam_worker_log).

-include_lib("kernel/include/logger.hrl").

-export([new/1, write/5, take/3]).
-export_type([budget/0]).

-record(budget, {
    at :: integer(),
    lines :: number(),
    bytes :: number(),
    dropped = 0 :: non_neg_integer()
}).
-opaque budget() :: #budget{}.

%% What may come at once, and what is added every second.
-define(LINES, 10000).
-define(BYTES, 8388608).
-define(LINES_A_SECOND, 1000).
-define(BYTES_A_SECOND, 1048576).

%% @doc A full budget; times are in milliseconds.
-spec new(Now :: integer()) -> budget().
new(Now) ->
    #budget{at = Now, lines = ?LINES, bytes = ?BYTES}.

%% @doc Write a line of a worker, whose level and logger are Python's, if the budget allows it.
-spec write(0..255, Logger :: binary(), Text :: binary(), Worker :: binary(), budget()) -> budget().
write(Level, Logger, Text, Worker, Budget0) ->
    Size = byte_size(Logger) + byte_size(Text),
    case take(Size, erlang:monotonic_time(millisecond), Budget0) of
        {taken, Dropped, Budget} ->
            _ = [tell_of_dropped(Dropped, Worker) || Dropped > 0],
            write(Level, Logger, Text, Worker),
            Budget;
        {dropped, Budget} ->
            Budget
    end.

tell_of_dropped(Lines, Worker) ->
    ?LOG_WARNING(#{what => worker_log_lines_dropped, worker => Worker, lines => Lines},
                 #{domain => [hornbeam]}).

write(Level, Logger, Text, Worker) ->
    logger:log(level(Level), "~ts ~ts: ~ts",
               [Worker, hornbeam_quoted:line(Logger), hornbeam_quoted:lines(Text)],
               %% With the mfa an operator can give these events a level of their own.
               #{domain => [hornbeam, python], worker => Worker, python_logger => Logger,
                 python_text => Text, mfa => {?MODULE, write, 4}}).

level(Level) when Level >= 50 -> critical;
level(Level) when Level >= 40 -> error;
level(Level) when Level >= 30 -> warning;
level(Level) when Level >= 25 -> notice;
level(Level) when Level >= 20 -> info;
level(_Level) -> debug.

%% @doc Take a line of so many bytes, after so many others that were dropped; or drop it.
-spec take(Size :: non_neg_integer(), Now :: integer(), budget()) ->
    {taken, Dropped :: non_neg_integer(), budget()} | {dropped, budget()}.
take(Size, Now, Budget0) ->
    case filled(Now, Budget0) of
        #budget{lines = Lines, bytes = Bytes, dropped = Dropped} = Budget
                when Lines >= 1, Bytes > 0 ->
            {taken, Dropped, Budget#budget{lines = Lines - 1, bytes = Bytes - Size, dropped = 0}};
        #budget{dropped = Dropped} = Budget ->
            {dropped, Budget#budget{dropped = Dropped + 1}}
    end.

filled(Now, #budget{at = At, lines = Lines, bytes = Bytes} = Budget) ->
    Seconds = (Now - At) / 1000,
    Budget#budget{at = Now, lines = min(?LINES, Lines + Seconds * ?LINES_A_SECOND),
                  bytes = min(?BYTES, Bytes + Seconds * ?BYTES_A_SECOND)}.
