%% Whether a worker's event loop turns: heartbeats, and what their answers say. Pure.
%%
%%   beating ──no answer for a while──▶ late ──none within worker_hang_timeout──▶ hung
%%      ▲                                │
%%      └───────────answer───────────────┘
%%
%% Time is counted in beats and not read from a clock: a node that was stopped, together with its
%% workers, finds none of them hung when it goes on.
-module(hornbeam_worker_heartbeat).

-export([new/1, interval/1, late_after/1, beat/2, answer/3, is_late/1, latency/1]).
-export_type([heartbeat/0]).

-record(heartbeat, {
    limit :: timeout(),
    interval :: pos_integer(),
    number = 0 :: non_neg_integer(),
    %% when the heartbeat that waits for its answer was sent
    sent :: integer() | undefined,
    missed = 0 :: non_neg_integer(),
    latency :: non_neg_integer() | undefined
}).
-opaque heartbeat() :: #heartbeat{}.

%% Between two heartbeats (ms).
-define(INTERVAL, 1000).

%% A loop that has not answered by then (ms) is late.
-define(LATE, 250).

%% At least so many heartbeats fit into worker_hang_timeout.
-define(BEATS_IN_TIME, 4).

%% @doc The heartbeat of a worker that may be silent for so long (ms).
-spec new(worker_hang_timeout()) -> heartbeat().
-type worker_hang_timeout() :: timeout().
new(infinity) ->
    #heartbeat{limit = infinity, interval = ?INTERVAL};
new(Limit) ->
    #heartbeat{limit = Limit, interval = max(1, min(?INTERVAL, Limit div ?BEATS_IN_TIME))}.

%% @doc How long (ms) from one {@link beat/2} to the next.
-spec interval(heartbeat()) -> pos_integer().
interval(#heartbeat{interval = Interval}) ->
    Interval.

%% @doc How long (ms) after a heartbeat was sent {@link is_late/1} is worth asking.
-spec late_after(heartbeat()) -> pos_integer().
late_after(#heartbeat{interval = Interval}) ->
    min(?LATE, Interval).

%% @doc It is time for a heartbeat. `send' when one is to be sent, with its number; `wait' while
%% the last one has no answer.
-spec beat(Now :: integer(), heartbeat()) ->
    {send, Number :: pos_integer(), heartbeat()} | {wait, heartbeat()}
    | {hung, Silent :: pos_integer()}.
beat(Now, #heartbeat{sent = undefined, number = Number} = Heartbeat) ->
    {send, Number + 1, Heartbeat#heartbeat{number = Number + 1, sent = Now, missed = 0}};
beat(_Now, #heartbeat{missed = Missed, interval = Interval, limit = Limit} = Heartbeat) ->
    case (Missed + 1) * Interval of
        Silent when Limit =/= infinity, Silent >= Limit -> {hung, Silent};
        _ -> {wait, Heartbeat#heartbeat{missed = Missed + 1}}
    end.

%% @doc Python has answered a heartbeat; one that was not sent is an error.
-spec answer(Number :: non_neg_integer(), Now :: integer(), heartbeat()) ->
    {ok, heartbeat()} | error.
answer(Number, Now, #heartbeat{number = Number, sent = Sent} = Heartbeat) when is_integer(Sent) ->
    {ok, Heartbeat#heartbeat{sent = undefined, missed = 0, latency = Now - Sent}};
answer(_Number, _Now, _Heartbeat) ->
    error.

%% @doc Whether the last heartbeat has no answer yet.
-spec is_late(heartbeat()) -> boolean().
is_late(#heartbeat{sent = Sent}) ->
    Sent =/= undefined.

%% @doc How long (ms) the last answer took; undefined before the first.
-spec latency(heartbeat()) -> non_neg_integer() | undefined.
latency(#heartbeat{latency = Latency}) ->
    Latency.
