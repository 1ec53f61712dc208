%% What is published on other nodes, on its way to the subscribers of this one.
%%
%% Several processes hand it on, apart from all that serves subscriptions. One publisher's messages
%% go through the same one, so that they stay in order. The process that hears a peer
%% (hornbeam_link) only chooses the inbox, and drops what finds no room in that: bounded in bytes
%% and messages. What is dropped is counted, and told to the node that it comes from.
-module(hornbeam_pubsub_inbox).
-behaviour(gen_server).

-include("hornbeam_pubsub.hrl").

-export([new_table/1, set_limit/1, numbers/0, start_link/1, heard/1]).
-export([waiting/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

%% Rows: {Number, Process, Cells}; and {{dropped, Peer}, Messages}, until its node is told.
-define(TABLE, ?MODULE).

%% The cells: what waits.
-define(MESSAGES, 1).
-define(BYTES, 2).

%% What a message costs beside its bytes (about), and how many may wait, of all inboxes together.
-define(COST, 200).
-define(MAX_MESSAGES, 100000).

-define(MOST_INBOXES, 16).

%% @doc Make the table; its owner must outlive everybody.
-spec new_table(MaxBytes :: pos_integer()) -> ok.
new_table(MaxBytes) ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    true = ets:insert(?TABLE, [{Number, none, new_cells()} || Number <- numbers()]),
    set_limit(MaxBytes).

new_cells() -> atomics:new(?BYTES, [{signed, true}]).

%% @doc How many bytes may wait in all of them together, from now on.
-spec set_limit(pos_integer()) -> ok.
set_limit(Bytes) ->
    Count = length(numbers()),
    persistent_term:put(?MODULE, {max(1, Bytes div Count), max(1, ?MAX_MESSAGES div Count), Count}).

%% @doc They have numbers: there are as many as the emulator has schedulers.
-spec numbers() -> [pos_integer()].
numbers() -> lists:seq(1, min(?MOST_INBOXES, erlang:system_info(schedulers))).

-spec start_link(pos_integer()) -> gen_server:start_ret().
start_link(Number) ->
    gen_server:start_link(?MODULE, Number, [{spawn_opt, [{message_queue_data, off_heap}]}]).

%% @doc What hornbeam_links tells the room of what is published. Never waits.
-spec heard(hornbeam_links:event()) -> ok.
heard({hornbeam_link, message, Peer, Parcel}) ->
    {_, _, Count} = persistent_term:get(?MODULE),
    Number = 1 + hornbeam_pubsub_parcel:publisher(Parcel) rem Count,
    [{Number, Inbox, Cells}] = ets:lookup(?TABLE, Number),
    case enter(Cells, byte_size(Parcel) + ?COST) of
        true when is_pid(Inbox) -> Inbox ! {parcel, Parcel}, ok;
        %% It begins in a moment, and counts what it has missed.
        true -> ok;
        false -> drop(Peer, Inbox)
    end;
heard({hornbeam_link, _Kind, _Peer}) ->
    ok.

%% The one that goes past a bound may still go.
enter(Cells, Bytes) ->
    {MaxBytes, MaxMessages, _} = persistent_term:get(?MODULE),
    HasRoom = atomics:get(Cells, ?BYTES) < MaxBytes
        andalso atomics:get(Cells, ?MESSAGES) < MaxMessages,
    _ = [count(Cells, 1, Bytes) || HasRoom],
    HasRoom.

count(Cells, Messages, Bytes) ->
    atomics:add(Cells, ?MESSAGES, Messages),
    atomics:add(Cells, ?BYTES, Bytes).

%% Its node is told once what waits now is handed on; if this inbox ends before, by the next one.
drop(Peer, Inbox) ->
    hornbeam_pubsub_fanout:count_loss(overload),
    case ets:update_counter(?TABLE, {dropped, Peer}, 1, {{dropped, Peer}, 0}) of
        1 when is_pid(Inbox) -> Inbox ! {tell, Peer}, ok;
        _ -> ok
    end.

%% @doc How many messages wait in all inboxes, and their bytes.
-spec waiting() -> {Messages :: non_neg_integer(), Bytes :: non_neg_integer()}.
waiting() ->
    All = [Cells || Number <- numbers(), {_, _, Cells} <- ets:lookup(?TABLE, Number)],
    {sum(?MESSAGES, All), sum(?BYTES, All)}.

sum(Cell, All) -> lists:sum([atomics:get(Cells, Cell) || Cells <- All]).

%% @private
-spec init(pos_integer()) -> {ok, atomics:atomics_ref()}.
init(Number) ->
    [{Number, _, Before}] = ets:lookup(?TABLE, Number),
    Cells = new_cells(),
    true = ets:insert(?TABLE, {Number, self(), Cells}),
    %% What our predecessor had, and what came meanwhile.
    hornbeam_pubsub_fanout:count_losses(overload, atomics:get(Before, ?MESSAGES)),
    _ = [self() ! {tell, Peer} || {{dropped, Peer}, _} <- ets:tab2list(?TABLE)],
    {ok, Cells}.

%% @private
-spec handle_call(term(), gen_server:from(), Cells) -> {noreply, Cells}.
handle_call(_Request, _From, Cells) ->
    {noreply, Cells}.

%% @private
-spec handle_cast(term(), Cells) -> {noreply, Cells}.
handle_cast(_Request, Cells) ->
    {noreply, Cells}.

%% @private
-spec handle_info(term(), atomics:atomics_ref()) -> {noreply, atomics:atomics_ref()}.
handle_info({parcel, Parcel}, Cells) ->
    hand_on(hornbeam_pubsub_parcel:unpack(Parcel)),
    count(Cells, -1, -(byte_size(Parcel) + ?COST)),
    {noreply, Cells};
handle_info({tell, Peer}, Cells) ->
    _ = [hornbeam_links:send(Peer, ?COUNTS_ROOM, {dropped, Messages})
         || {_, Messages} <- ets:take(?TABLE, {dropped, Peer})],
    {noreply, Cells};
handle_info(_Stray, Cells) ->
    {noreply, Cells}.

hand_on({ok, Topic, Value}) ->
    case hornbeam_pubsub_fanout:prepare(Topic, Value, false) of
        {ok, Message} -> _ = hornbeam_pubsub_fanout:deliver(Message), ok;
        {error, _} -> hornbeam_pubsub_fanout:count_loss(unreadable)
    end;
hand_on(error) ->
    hornbeam_pubsub_fanout:count_loss(unreadable).
