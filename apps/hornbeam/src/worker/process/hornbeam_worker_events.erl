%% Published messages on their way to one worker: `event' ops, and how many bytes of them may be.
%%
%% Whoever publishes sends straight to the worker's writer. Python acknowledges what it has
%% taken off; past the bound a message is dropped for this worker and counted. No process.
-module(hornbeam_worker_events).

-export([new/1, send/3, acknowledged/2, dropped/1]).
-export_type([events/0]).

-record(events, {
    writer :: pid(),
    %% 1: bytes that Python has not acknowledged; 2: messages that were dropped
    counts :: atomics:atomics_ref()
}).
-opaque events() :: #events{}.

-define(UNTAKEN, 1).
-define(DROPPED, 2).

%% Bytes of values that may be on their way. The one that goes past it may still go.
-define(WINDOW, 8388608).

%% @doc Nothing on its way, to a worker with this writer.
-spec new(Writer :: pid()) -> events().
new(Writer) ->
    #events{writer = Writer, counts = atomics:new(2, [{signed, true}])}.

%% @doc Send an op that carries a value of `Size' bytes, or drop it. Never waits.
-spec send(events(), Op :: iodata(), Size :: non_neg_integer()) -> sent | dropped.
send(#events{writer = Writer, counts = Counts}, Op, Size) ->
    case atomics:get(Counts, ?UNTAKEN) < ?WINDOW of
        true ->
            atomics:add(Counts, ?UNTAKEN, Size),
            hornbeam_worker_writer:write(Writer, Op),
            sent;
        false ->
            atomics:add(Counts, ?DROPPED, 1),
            dropped
    end.

%% @doc Python has taken off values of so many bytes; false when it cannot have.
-spec acknowledged(events(), Bytes :: non_neg_integer()) -> boolean().
acknowledged(#events{counts = Counts}, Bytes) ->
    IsRight = Bytes =< atomics:get(Counts, ?UNTAKEN),
    _ = [atomics:sub(Counts, ?UNTAKEN, Bytes) || IsRight],
    IsRight.

%% @doc How many messages were dropped for this worker.
-spec dropped(events()) -> non_neg_integer().
dropped(#events{counts = Counts}) ->
    atomics:get(Counts, ?DROPPED).
