%% Published messages on their way to one worker: `event' ops, and how many bytes of them may be.
%%
%% Whoever publishes sends straight to the worker's writer. Python acknowledges the values that it
%% has taken off. What is not in the pipe counts as a whole: a topic may be much longer than what is
%% said to it. Past either bound a message is dropped for this worker and counted. No process.
-module(hornbeam_worker_events).

-export([new/2, send/4, acknowledged/2, dropped/1]).
-export_type([events/0]).

-record(events, {
    writer :: pid(),
    unread :: hornbeam_worker_unread:unread(),
    %% 1: bytes of values that Python has not acknowledged; 2: messages that were dropped
    counts :: atomics:atomics_ref()
}).
-opaque events() :: #events{}.

-define(UNTAKEN, 1).
-define(DROPPED, 2).

%% Bytes of values that may be on their way. The one that goes past it may still go.
-define(WINDOW, 8388608).

%% @doc Nothing on its way, to a worker with this writer.
-spec new(Writer :: pid(), hornbeam_worker_unread:unread()) -> events().
new(Writer, Unread) ->
    #events{writer = Writer, unread = Unread, counts = atomics:new(2, [{signed, true}])}.

%% @doc Send an op that carries a value of `Size' bytes, or drop it: also when `Most' bytes already
%% wait for the pipe. Never waits.
-spec send(events(), Op :: binary(), Size :: non_neg_integer(), Most :: pos_integer()) ->
    sent | dropped.
send(#events{writer = Writer, counts = Counts} = Events, Op, Size, Most) ->
    IsWithin = atomics:get(Counts, ?UNTAKEN) < ?WINDOW,
    case IsWithin andalso enter(hornbeam_worker_writer:event_bytes(Op), Most, Events) of
        true ->
            atomics:add(Counts, ?UNTAKEN, Size),
            hornbeam_worker_writer:counted_event(Writer, Op),
            sent;
        false ->
            atomics:add(Counts, ?DROPPED, 1),
            dropped
    end.

%% Counted first: of those who publish at once one sees that there is room.
enter(Bytes, Most, #events{unread = Unread}) ->
    HasRoom = hornbeam_worker_unread:add(events, Bytes, Unread) < Most,
    _ = [hornbeam_worker_unread:written(events, Bytes, Unread) || not HasRoom],
    HasRoom.

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
