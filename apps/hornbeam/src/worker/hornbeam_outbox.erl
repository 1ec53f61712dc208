%% Messages that others than its app send to one client: bounded, and in order.
%%
%% While the connection keeps up, a sender gives it the frame directly. When too many are on
%% their way, frames wait in a table, and the connection fetches them when it has written what
%% it had; past the outbox's limits the oldest that wait are dropped and counted.
%%
%% Order, for each sender: how many frames are on their way directly and how many wait is one
%% atomic word. While any wait, all others wait too, and the connection fetches only when none
%% is on its way directly: so what waits is always younger than what was sent directly.
-module(hornbeam_outbox).

-export([new_table/0, new/2, push/2, dropped/1, forget/1]).
-export([written/3, fetch/1]).
-export_type([outbox/0, frame/0, limits/0]).

-type frame() :: {text | binary, binary()}.
-type limits() :: {Messages :: pos_integer(), Bytes :: pos_integer()}.
%% What may wait.

-record(outbox, {
    connection :: pid(),
    limits :: limits(),
    counts :: atomics:atomics_ref()
}).
-opaque outbox() :: #outbox{}.

%% Rows: {{Connection, Number}, Frame}.
-define(TABLE, ?MODULE).

%% The atomics: frames (waiting in the upper half, direct in the lower), the bytes of both, the
%% last number given, whether the connection knows that frames wait, and how many were dropped.
-define(FRAMES, 1).
-define(DIRECT_BYTES, 2).
-define(WAITING_BYTES, 3).
-define(LAST, 4).
-define(TOLD, 5).
-define(DROPPED, 6).

-define(ONE_DIRECT, 1).
-define(ONE_WAITING, (1 bsl 32)).
-define(DIRECT(Frames), (Frames band (?ONE_WAITING - 1))).
-define(WAITING(Frames), (Frames bsr 32)).

%% Direct frames on their way: short mailboxes are quick ones. One write takes as many.
-define(DIRECT_LIMIT, 64).
-define(DIRECT_LIMIT_BYTES, 262144).

%% @doc Make the table of what waits; its owner must outlive all connections.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, ordered_set, {write_concurrency, true}]),
    ok.

%% @doc An empty outbox of a connection.
-spec new(Connection :: pid(), limits()) -> outbox().
new(Connection, Limits) ->
    #outbox{connection = Connection, limits = Limits, counts = atomics:new(6, [])}.

%% @doc Send a frame to the client. Never waits.
%%
%% The connection gets `{forward, Outbox, Frame}', or `{fetch, Outbox}' when frames wait for it.
-spec push(outbox(), frame()) -> ok.
push(#outbox{connection = Connection, limits = {_, MaxBytes}, counts = Counts} = Outbox, Frame) ->
    Size = size_of(Frame),
    case enter(atomics:get(Counts, ?FRAMES), Size, MaxBytes, Counts) of
        direct ->
            atomics:add(Counts, ?DIRECT_BYTES, Size),
            Connection ! {forward, Outbox, Frame},
            ok;
        waiting ->
            atomics:add(Counts, ?WAITING_BYTES, Size),
            let_wait(Frame, Outbox);
        dropped ->
            atomics:add(Counts, ?DROPPED, 1)
    end.

enter(Frames, Size, MaxBytes, Counts) ->
    Way = way(Frames, Size, MaxBytes, Counts),
    case atomics:compare_exchange(Counts, ?FRAMES, Frames, Frames + weight(Way)) of
        ok -> Way;
        Changed -> enter(Changed, Size, MaxBytes, Counts)
    end.

way(Frames, Size, MaxBytes, Counts) ->
    IsFree = Frames < ?DIRECT_LIMIT
        andalso atomics:get(Counts, ?DIRECT_BYTES) < ?DIRECT_LIMIT_BYTES,
    case IsFree of
        true -> direct;
        false when Size > MaxBytes -> dropped;
        false -> waiting
    end.

weight(direct) -> ?ONE_DIRECT;
weight(waiting) -> ?ONE_WAITING;
weight(dropped) -> 0.

let_wait(Frame, #outbox{connection = Connection, counts = Counts} = Outbox) ->
    Id = {Connection, atomics:add_get(Counts, ?LAST, 1)},
    true = ets:insert(?TABLE, {Id, Frame}),
    %% Who forgets a dead connection's frames may have been here before us.
    case is_process_alive(Connection) of
        true ->
            drop_oldest(Outbox),
            tell(Outbox);
        false ->
            true = ets:delete(?TABLE, Id),
            ok
    end.

drop_oldest(#outbox{limits = {MaxMessages, MaxBytes}, counts = Counts} = Outbox) ->
    IsFull = ?WAITING(atomics:get(Counts, ?FRAMES)) > MaxMessages
        orelse atomics:get(Counts, ?WAITING_BYTES) > MaxBytes,
    case IsFull andalso take_oldest(Outbox) of
        {ok, _Frame} ->
            atomics:add(Counts, ?DROPPED, 1),
            drop_oldest(Outbox);
        _ ->
            ok
    end.

take_oldest(#outbox{connection = Connection, counts = Counts} = Outbox) ->
    case ets:next(?TABLE, {Connection, 0}) of
        {Connection, _} = Id ->
            case ets:take(?TABLE, Id) of
                [{Id, Frame}] ->
                    atomics:sub(Counts, ?WAITING_BYTES, size_of(Frame)),
                    atomics:sub(Counts, ?FRAMES, ?ONE_WAITING),
                    {ok, Frame};
                [] ->
                    take_oldest(Outbox)
            end;
        _ ->
            none
    end.

tell(#outbox{connection = Connection, counts = Counts} = Outbox) ->
    case atomics:exchange(Counts, ?TOLD, 1) of
        0 ->
            Connection ! {fetch, Outbox},
            ok;
        1 ->
            ok
    end.

size_of({_, Data}) -> byte_size(Data).

%% @doc How many messages were dropped.
-spec dropped(outbox()) -> non_neg_integer().
dropped(#outbox{counts = Counts}) ->
    atomics:get(Counts, ?DROPPED).

%% @doc Forget what waits for a connection that is dead.
-spec forget(Connection :: pid()) -> ok.
forget(Connection) ->
    true = ets:match_delete(?TABLE, {{Connection, '_'}, '_'}),
    ok.

%% The connection's side.

%% @doc The connection has written so many direct frames to the socket. The result is what to
%% write next, as {@link fetch/1} gives it.
-spec written(outbox(), Messages :: non_neg_integer(), Bytes :: non_neg_integer()) -> [frame()].
written(#outbox{counts = Counts} = Outbox, Messages, Bytes) ->
    atomics:sub(Counts, ?DIRECT_BYTES, Bytes),
    atomics:sub(Counts, ?FRAMES, Messages * ?ONE_DIRECT),
    case atomics:get(Counts, ?TOLD) of
        1 -> fetch(Outbox);
        0 -> []
    end.

%% @doc Frames that wait, as many as one write should take, unless direct ones are still on
%% their way: {@link written/3} finds them then. Whoever gets some calls `written(Outbox, 0, 0)'
%% after they are written.
-spec fetch(outbox()) -> [frame()].
fetch(#outbox{counts = Counts} = Outbox) ->
    case ?DIRECT(atomics:get(Counts, ?FRAMES)) of
        0 ->
            atomics:put(Counts, ?TOLD, 0),
            Frames = take(?DIRECT_LIMIT, ?DIRECT_LIMIT_BYTES, Outbox),
            _ = [atomics:put(Counts, ?TOLD, 1) || Frames =/= [], is_waiting(Counts)],
            Frames;
        _ ->
            []
    end.

is_waiting(Counts) ->
    ?WAITING(atomics:get(Counts, ?FRAMES)) > 0.

take(Messages, Bytes, Outbox) when Messages > 0, Bytes > 0 ->
    case take_oldest(Outbox) of
        {ok, Frame} -> [Frame | take(Messages - 1, Bytes - size_of(Frame), Outbox)];
        none -> []
    end;
take(_Messages, _Bytes, _Outbox) ->
    [].
