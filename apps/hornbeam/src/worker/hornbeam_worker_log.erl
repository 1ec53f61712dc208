%% How much of what an app prints and logs the node's own log takes. Pure.
%%
%% A budget of lines and bytes that fills again with time. What is beyond it is dropped and
%% counted, and the next line that is taken says how many there were: a loop that prints costs
%% its own app some lines and the node nothing.
-module(hornbeam_worker_log).

-export([new/1, take/3]).
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
