%% Messages that others than its app send to one client: bounded, and in order.
%%
%% While the connection keeps up, a sender gives it the frame directly. When too many are on
%% their way, frames wait in a table, and the connection fetches them when it has written what
%% it had. What happens past the outbox's limits is the policy of who subscribed: the oldest that
%% wait are dropped, or the connection is told to close; or only the latest of each topic waits.
%% What is dropped is counted.
%%
%% Order, for each sender: how many frames are on their way directly and how many wait is one
%% atomic word. While any wait, all others wait too, and the connection fetches only what waited
%% when none was on its way directly: so what is fetched is younger than what was sent directly
%% and older than what is sent so meanwhile.
-module(hornbeam_outbox).

-export([new_table/0, new/2, new/3, push/4, waiting/1, dropped/1, forget/1]).
-export([written/3, is_waited_for/1, fetch/1]).
-export_type([outbox/0, limits/0, policy/0]).

-type frame() :: hornbeam_websocket_frame:frame() | binary().
%% Of a WebSocket, or an event of an event stream.
-type limits() :: {Messages :: pos_integer(), Bytes :: pos_integer()}.
%% What may wait; bytes are those of payloads.
-type policy() :: drop_oldest | close | {latest, Topic :: binary()}.
%% `latest': of the topic's frames that wait, all but the newest are dropped.

-record(outbox, {
    %% by whose life it is kept, and who gets what is pushed
    connection :: pid(),
    owner :: hornbeam_stream:owner(),
    limits :: limits(),
    counts :: atomics:atomics_ref()
}).
-opaque outbox() :: #outbox{}.

%% Rows: {{Connection, Number}, Frame, Size, Policy} and, of a topic of which only the latest waits,
%% {{Connection, {latest, Topic}}, Number}. Numbers sort before tuples.
-define(TABLE, ?MODULE).

%% The atomics: frames (waiting in the upper half, direct in the lower), the bytes of both, the
%% last number given, whether the connection knows that frames wait, how many were dropped, and
%% whether the connection was told to close.
-define(FRAMES, 1).
-define(DIRECT_BYTES, 2).
-define(WAITING_BYTES, 3).
-define(LAST, 4).
-define(TOLD, 5).
-define(DROPPED, 6).
-define(CLOSING, 7).

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
    new(Connection, Connection, Limits).

%% @doc The same where another one gets what is pushed than who stands for the client.
-spec new(Client :: pid(), hornbeam_stream:owner(), limits()) -> outbox().
new(Client, Owner, Limits) ->
    #outbox{connection = Client, owner = Owner, limits = Limits, counts = atomics:new(7, [])}.

%% @doc Send a frame of so many bytes to the client; how many frames were dropped for it. Never
%% waits.
%%
%% The owner gets `{forward, Outbox, Frame}', `{fetch, Outbox}' when frames wait for it, or
%% `{overflow, Outbox}', once, when its policy wants it closed.
-spec push(outbox(), frame(), Size :: non_neg_integer(), policy()) ->
    Dropped :: non_neg_integer().
push(#outbox{owner = Owner, limits = {_, MaxBytes}, counts = Counts} = Outbox, Frame, Size,
     Policy) ->
    case enter(atomics:get(Counts, ?FRAMES), Size, MaxBytes, Counts) of
        direct ->
            atomics:add(Counts, ?DIRECT_BYTES, Size),
            hornbeam_stream:send(Owner, {forward, Outbox, Frame}),
            0;
        waiting ->
            atomics:add(Counts, ?WAITING_BYTES, Size),
            let_wait(Frame, Size, Policy, Outbox);
        too_long ->
            close_if(Policy =:= close, Outbox),
            count_dropped(1, Outbox);
        closing ->
            count_dropped(1, Outbox)
    end.

%% @doc How many frames wait for the connection to fetch them, and their bytes.
-spec waiting(outbox()) -> {Messages :: non_neg_integer(), Bytes :: non_neg_integer()}.
waiting(#outbox{counts = Counts}) ->
    {?WAITING(atomics:get(Counts, ?FRAMES)), atomics:get(Counts, ?WAITING_BYTES)}.

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
        false when Size > MaxBytes -> too_long;
        false -> waiting_unless(atomics:get(Counts, ?CLOSING))
    end.

waiting_unless(0) -> waiting;
waiting_unless(1) -> closing.

weight(direct) -> ?ONE_DIRECT;
weight(waiting) -> ?ONE_WAITING;
weight(_Dropped) -> 0.

let_wait(Frame, Size, Policy, #outbox{connection = Connection, counts = Counts} = Outbox) ->
    Number = atomics:add_get(Counts, ?LAST, 1),
    true = ets:insert(?TABLE, {{Connection, Number}, Frame, Size, Policy}),
    %% Who forgets a dead connection's frames may have been here before us.
    case is_process_alive(Connection) of
        true ->
            Dropped = make_room(Policy, Number, Outbox),
            tell(Outbox),
            count_dropped(Dropped, Outbox);
        false ->
            true = ets:delete(?TABLE, {Connection, Number}),
            0
    end.

make_room(drop_oldest, _Number, Outbox) ->
    drop_oldest(is_full(Outbox), Outbox, 0);
make_room(close, _Number, Outbox) ->
    close_if(is_full(Outbox), Outbox),
    0;
make_room({latest, Topic}, Number, Outbox) ->
    Replaced = replace(Topic, Number, Outbox),
    drop_oldest(is_full(Outbox), Outbox, Replaced).

is_full(#outbox{limits = {MaxMessages, MaxBytes}, counts = Counts}) ->
    ?WAITING(atomics:get(Counts, ?FRAMES)) > MaxMessages
        orelse atomics:get(Counts, ?WAITING_BYTES) > MaxBytes.

drop_oldest(false, _Outbox, Dropped) ->
    Dropped;
drop_oldest(true, Outbox, Dropped) ->
    case take_oldest(infinity, Outbox) of
        {ok, _Frame, _Size} -> drop_oldest(is_full(Outbox), Outbox, Dropped + 1);
        none -> Dropped
    end.

%% Two publishers at the same moment may leave two: the bounds hold all the same.
replace(Topic, Number, #outbox{connection = Connection} = Outbox) ->
    Key = {Connection, {latest, Topic}},
    Before = ets:take(?TABLE, Key),
    true = ets:insert(?TABLE, {Key, Number}),
    length([Older || {_, Older} <- Before, {ok, _, _} <- [take({Connection, Older}, Outbox)]]).

close_if(true, #outbox{owner = Owner, counts = Counts} = Outbox) ->
    _ = [hornbeam_stream:send(Owner, {overflow, Outbox})
         || atomics:exchange(Counts, ?CLOSING, 1) =:= 0],
    ok;
close_if(false, _Outbox) ->
    ok.

count_dropped(0, _Outbox) ->
    0;
count_dropped(Dropped, #outbox{counts = Counts}) ->
    atomics:add(Counts, ?DROPPED, Dropped),
    Dropped.

%% Numbers sort before infinity.
take_oldest(Last, #outbox{connection = Connection} = Outbox) ->
    case ets:next(?TABLE, {Connection, 0}) of
        {Connection, Number} = Id when is_integer(Number), Number =< Last ->
            case take(Id, Outbox) of
                {ok, Frame, Size} -> {ok, Frame, Size};
                gone -> take_oldest(Last, Outbox)
            end;
        _ ->
            none
    end.

take({Connection, Number} = Id, #outbox{counts = Counts}) ->
    case ets:take(?TABLE, Id) of
        [{Id, Frame, Size, Policy}] ->
            atomics:sub(Counts, ?WAITING_BYTES, Size),
            atomics:sub(Counts, ?FRAMES, ?ONE_WAITING),
            _ = [ets:delete_object(?TABLE, {{Connection, Policy}, Number})
                 || is_tuple(Policy)],
            {ok, Frame, Size};
        [] ->
            gone
    end.

tell(#outbox{owner = Owner, counts = Counts} = Outbox) ->
    case atomics:exchange(Counts, ?TOLD, 1) of
        0 -> hornbeam_stream:send(Owner, {fetch, Outbox});
        1 -> ok
    end.

%% @doc How many messages were dropped.
-spec dropped(outbox()) -> non_neg_integer().
dropped(#outbox{counts = Counts}) ->
    atomics:get(Counts, ?DROPPED).

%% @doc Forget what waits for a connection that is dead.
-spec forget(Connection :: pid()) -> ok.
forget(Connection) ->
    true = ets:match_delete(?TABLE, {{Connection, '_'}, '_', '_', '_'}),
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

%% @doc Whether frames wait until those that are on their way directly are written.
-spec is_waited_for(outbox()) -> boolean().
is_waited_for(#outbox{counts = Counts}) ->
    atomics:get(Counts, ?TOLD) =:= 1.

%% @doc Frames that wait, as many as one write should take, unless direct ones are still on
%% their way: {@link written/3} finds them then. Whoever gets some calls `written(Outbox, 0, 0)'
%% after they are written.
-spec fetch(outbox()) -> [frame()].
fetch(#outbox{counts = Counts} = Outbox) ->
    %% In this order: who gets a later number tells the connection, and who has this one or an
    %% earlier has sent nothing directly that is not counted by now.
    atomics:put(Counts, ?TOLD, 0),
    Last = atomics:get(Counts, ?LAST),
    Frames = case ?DIRECT(atomics:get(Counts, ?FRAMES)) of
        0 -> take_all(Last, ?DIRECT_LIMIT, ?DIRECT_LIMIT_BYTES, Outbox);
        _ -> []
    end,
    _ = [atomics:put(Counts, ?TOLD, 1) || is_next_call_sure(Frames, Counts), is_waiting(Counts)],
    Frames.

%% It is after what was fetched or what is on its way directly is written.
is_next_call_sure([], Counts) -> ?DIRECT(atomics:get(Counts, ?FRAMES)) > 0;
is_next_call_sure([_ | _], _Counts) -> true.

is_waiting(Counts) ->
    ?WAITING(atomics:get(Counts, ?FRAMES)) > 0.

take_all(Last, Messages, Bytes, Outbox) when Messages > 0, Bytes > 0 ->
    case take_oldest(Last, Outbox) of
        {ok, Frame, Size} ->
            [Frame | take_all(Last, Messages - 1, Bytes - Size, Outbox)];
        none ->
            []
    end;
take_all(_Last, _Messages, _Bytes, _Outbox) ->
    [].
