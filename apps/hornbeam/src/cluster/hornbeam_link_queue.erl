%% How much waits for one peer, and how much has passed: bounds and counts. No process.
%%
%% Whoever sends to the peer enters here first, and what finds no room is counted and dropped, so
%% that nobody waits. What has entered counts as pending until the peer has acknowledged it: what is
%% pending when the link ends is lost, or may be.
-module(hornbeam_link_queue).

-include("hornbeam_link.hrl").

-export([new/1, new_table/1, set_limits/1, writer/1]).
-export([enter/3, written/2, acknowledged/2, received/3, is_low/1]).
-export([dropped/1, dropped/2, recheck/1, close/2]).
-export([status/1, count_loss/2, count_loss/3, losses/0, losses/1]).
-export_type([queue/0, room/0, limits/0, loss/0, status/0, sent/0]).

-type room() :: {Room :: atom(), Number :: 1..?MAX_ROOMS}.
-type limits() :: #{peer_max_unsent_bytes := pos_integer(), atom() => term()}.
%% Perhaps among other options.
-type loss() :: full | down | cut | not_understood.
%% Why a message was lost: there was no room for it; there was no way to that peer any more; it was
%% under way when the link ended, and may have arrived; it has come, and is of no known form.

-type sent() :: {Messages :: non_neg_integer(), Bytes :: non_neg_integer()}.
-type status() :: #{waiting := sent(), unacknowledged := sent(), sent := sent(),
                    received := sent(), dropped := non_neg_integer()}.

-record(queue, {
    writer :: pid(),
    cells :: atomics:atomics_ref()
}).
-opaque queue() :: #queue{}.

%% The cells: what waits, what was written and is not acknowledged, what was acknowledged, what has
%% come, what was dropped, and whether the writer is to hear of that; behind them two for each room.
-define(MESSAGES, 1).
-define(BYTES, 2).
-define(UNACKNOWLEDGED, 3).
-define(UNACKNOWLEDGED_BYTES, 4).
-define(SENT, 5).
-define(SENT_BYTES, 6).
-define(RECEIVED, 7).
-define(RECEIVED_BYTES, 8).
-define(DROPPED, 9).
-define(IS_TOLD, 10).
-define(PENDING(Number), (9 + 2 * Number)).
-define(DROPPED(Number), (10 + 2 * Number)).
-define(CELLS, (10 + 2 * ?MAX_ROOMS)).

%% How many messages may wait for a peer, however short.
-define(MAX_MESSAGES, 100000).

%% Rows: {{Room, Why}, Messages}.
-define(LOSSES, hornbeam_link_losses).
-define(LIMITS, ?MODULE).

%% @doc Make the table of losses; its owner must outlive everybody.
-spec new_table(limits()) -> ok.
new_table(Limits) ->
    ?LOSSES = ets:new(?LOSSES, [named_table, public, {write_concurrency, true}]),
    set_limits(Limits).

%% @doc How much may wait for each peer from now on.
-spec set_limits(limits()) -> ok.
set_limits(#{peer_max_unsent_bytes := Bytes}) ->
    persistent_term:put(?LIMITS, Bytes).

%% @doc A queue that a process (hornbeam_link_writer) empties.
-spec new(Writer :: pid()) -> queue().
new(Writer) ->
    #queue{writer = Writer, cells = atomics:new(?CELLS, [{signed, true}])}.

%% @doc Who empties it.
-spec writer(queue()) -> pid().
writer(#queue{writer = Writer}) -> Writer.

%% @doc Count a message that is to be sent to the writer, if there is room. The one that goes past a
%% bound may still go.
-spec enter(queue(), room(), Message :: binary()) -> ok | lost.
enter(#queue{cells = Cells} = Queue, {_, Number} = Room, Message) ->
    Bytes = cost(Message),
    %% Counted first: of those who send at once one sees that there is room.
    HasBytes = atomics:add_get(Cells, ?BYTES, Bytes) - Bytes < persistent_term:get(?LIMITS),
    HasMessages = atomics:add_get(Cells, ?MESSAGES, 1) =< ?MAX_MESSAGES,
    case HasBytes andalso HasMessages of
        true ->
            atomics:add(Cells, ?PENDING(Number), 1);
        false ->
            atomics:sub(Cells, ?BYTES, Bytes),
            atomics:sub(Cells, ?MESSAGES, 1),
            drop(Room, Queue)
    end.

cost(Message) -> byte_size(Message) + ?MESSAGE_COST.

%% The writer hears of the first, until it has looked (recheck/1).
drop({Room, Number}, #queue{writer = Writer, cells = Cells}) ->
    count_loss(Room, full),
    atomics:add(Cells, ?DROPPED(Number), 1),
    atomics:add(Cells, ?DROPPED, 1),
    _ = [Writer ! dropped || atomics:exchange(Cells, ?IS_TOLD, 1) =:= 0],
    lost.

%% @doc So much has been handed to the distribution.
-spec written(queue(), sent()) -> ok.
written(#queue{cells = Cells}, {Messages, Bytes}) ->
    move(Cells, {?MESSAGES, Messages}, ?UNACKNOWLEDGED),
    move(Cells, {?BYTES, Bytes}, ?UNACKNOWLEDGED_BYTES).

%% @doc So much has arrived: in all, and of each room.
-spec acknowledged(queue(), {sent(), #{Number :: pos_integer() => pos_integer()}}) -> ok.
acknowledged(#queue{cells = Cells}, {{Messages, Bytes}, Rooms}) ->
    move(Cells, {?UNACKNOWLEDGED, Messages}, ?SENT),
    move(Cells, {?UNACKNOWLEDGED_BYTES, Bytes}, ?SENT_BYTES),
    maps:foreach(fun(Number, N) -> atomics:sub(Cells, ?PENDING(Number), N) end, Rooms).

move(Cells, {From, N}, To) ->
    atomics:sub(Cells, From, N),
    atomics:add(Cells, To, N).

%% @doc So much has come from the peer.
-spec received(queue(), Messages :: non_neg_integer(), Bytes :: non_neg_integer()) -> ok.
received(#queue{cells = Cells}, Messages, Bytes) ->
    atomics:add(Cells, ?RECEIVED, Messages),
    atomics:add(Cells, ?RECEIVED_BYTES, Bytes).

%% @doc Whether there is room again for more than a few.
-spec is_low(queue()) -> boolean().
is_low(#queue{cells = Cells}) ->
    2 * atomics:get(Cells, ?BYTES) =< persistent_term:get(?LIMITS)
        andalso 2 * atomics:get(Cells, ?MESSAGES) =< ?MAX_MESSAGES.

%% @doc How many messages were dropped, in all.
-spec dropped(queue()) -> non_neg_integer().
dropped(#queue{cells = Cells}) ->
    atomics:get(Cells, ?DROPPED).

%% @doc How many of a room were.
-spec dropped(queue(), Number :: pos_integer()) -> non_neg_integer().
dropped(#queue{cells = Cells}, Number) ->
    atomics:get(Cells, ?DROPPED(Number)).

%% @doc From now on the writer hears of the next that is dropped.
-spec recheck(queue()) -> ok.
recheck(#queue{cells = Cells}) ->
    atomics:put(Cells, ?IS_TOLD, 0).

%% @doc The link has ended: what is pending is lost, or may be.
-spec close(queue(), [room()]) -> ok.
close(#queue{cells = Cells}, Rooms) ->
    lists:foreach(fun({Room, Number}) ->
        count_loss(Room, cut, atomics:exchange(Cells, ?PENDING(Number), 0))
    end, Rooms).

%% @doc What has passed, and what has not yet.
-spec status(queue()) -> status().
status(#queue{cells = Cells}) ->
    Get = fun(Messages, Bytes) -> {atomics:get(Cells, Messages), atomics:get(Cells, Bytes)} end,
    #{waiting => Get(?MESSAGES, ?BYTES),
      unacknowledged => Get(?UNACKNOWLEDGED, ?UNACKNOWLEDGED_BYTES),
      sent => Get(?SENT, ?SENT_BYTES), received => Get(?RECEIVED, ?RECEIVED_BYTES),
      dropped => atomics:get(Cells, ?DROPPED)}.

%% @doc Count a message of a room that was lost; `link' for what is of none.
-spec count_loss(Room :: atom(), loss()) -> ok.
count_loss(Room, Why) ->
    count_loss(Room, Why, 1).

%% @doc The same for several.
-spec count_loss(Room :: atom(), loss(), non_neg_integer()) -> ok.
count_loss(_Room, _Why, 0) ->
    ok;
count_loss(Room, Why, Messages) ->
    _ = ets:update_counter(?LOSSES, {Room, Why}, Messages, {{Room, Why}, 0}),
    ok.

%% @doc All that was lost since the start, of all rooms.
-spec losses() -> #{{Room :: atom(), loss()} => pos_integer()}.
losses() ->
    maps:from_list(ets:tab2list(?LOSSES)).

%% @doc That of one room.
-spec losses(Room :: atom()) -> #{loss() => pos_integer()}.
losses(Room) ->
    maps:from_list(ets:select(?LOSSES, [{{{Room, '$1'}, '$2'}, [], [{{'$1', '$2'}}]}])).
