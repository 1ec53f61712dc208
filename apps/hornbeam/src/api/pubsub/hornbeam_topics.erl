%% Who is subscribed to what on this node, and how a message gets to them.
%%
%% Three lanes: a worker gets one `event' for all its streams; a forwarding connection gets the
%% finished frame; an Erlang process gets the term. Whoever publishes reads the table and sends
%% from its own process, so each subscriber sees one publisher's messages in their order. Only
%% hornbeam_pubsub changes the tables, and makes the lanes agree with the subscriptions.
-module(hornbeam_topics).

-export([new_tables/0, add/2, remove/1, change/2, redirect/2, rebuild/0]).
-export([subscription/1, subscriptions/0, of_owner/1, number_of_owner/1, of_worker/1]).
-export([subscribers/1]).
-export([outbox/2, dropped/1, forget_owner/1]).
-export([prepare/3, deliver/1, lose/1, losses/0]).
-export_type([topic/0, id/0, via/0, message/0, loss/0]).

-type topic() :: binary().
-type id() :: {Owner :: pid(), topic()}.
-type loss() :: link | unreadable | slow | parked.
-type via() :: {worker, Worker :: pid(), hornbeam_worker_events:events()}
             | {forward, hornbeam_outbox:outbox(), hornbeam_outbox:policy()}
             | process
             | parked.
%% `parked': its worker has ended, and another may take it; what comes meanwhile is lost.

%% Rows: {Id, Via}, so that who owns what is known after a crash.
-define(SUBSCRIPTIONS, hornbeam_subscriptions).
%% Rows: {{Topic, Lane, Pid}, To, Subscribers}.
-define(LANES, ?MODULE).
%% Rows: {Topic, Subscribers, Forwarding}.
-define(TOTALS, hornbeam_topic_totals).
%% Rows: {Owner, Subscriptions}.
-define(OWNERS, hornbeam_topic_owners).
%% Rows: {Connection, Outbox}.
-define(OUTBOXES, hornbeam_outboxes).
%% Bytes of a subscription beside its topic (about).
-define(ROW, 600).
%% Rows: {Why, Messages}.
-define(LOSSES, hornbeam_losses).

-record(message, {
    topic :: topic(),
    lanes :: [{Lane :: atom(), To :: term(), Subscribers :: pos_integer()}],
    event :: {Op :: binary(), Size :: non_neg_integer()} | none,
    frame :: hornbeam_websocket_frame:frame() | none,
    term :: {ok, term()} | none
}).
-opaque message() :: #message{}.

%% @doc Make the tables; their owner must outlive everybody.
-spec new_tables() -> ok.
new_tables() ->
    Read = [named_table, public, ordered_set, {read_concurrency, true}],
    ?SUBSCRIPTIONS = ets:new(?SUBSCRIPTIONS, [named_table, public, ordered_set]),
    ?LANES = ets:new(?LANES, Read),
    ?TOTALS = ets:new(?TOTALS, [named_table, public]),
    ?OWNERS = ets:new(?OWNERS, [named_table, public]),
    ?OUTBOXES = ets:new(?OUTBOXES, [named_table, public, {read_concurrency, true}]),
    ?LOSSES = ets:new(?LOSSES, [named_table, public, {write_concurrency, true}]),
    ok.

%% Subscriptions: for hornbeam_pubsub alone.

%% @doc Add a subscription that is not there, if it is not one too many of all.
-spec add(id(), via()) -> ok | {error, {limit, hornbeam_quota:limit()}}.
add({Owner, _Topic} = Id, Via) ->
    case hornbeam_quota:take(topics, bytes(Id), 1) of
        ok ->
            true = ets:insert_new(?SUBSCRIPTIONS, {Id, Via}),
            _ = ets:update_counter(?OWNERS, Owner, {2, 1}, {Owner, 0}),
            count(Id, Via);
        {error, _} = Error ->
            Error
    end.

%% The topic stands in three tables.
bytes({_Owner, Topic}) -> ?ROW + 3 * byte_size(Topic).

count({_Owner, Topic} = Id, Via) ->
    {Lane, To} = lane(Id, Via),
    Key = {Topic, Lane, lane_pid(Id, Via)},
    _ = ets:update_counter(?LANES, Key, {3, 1}, {Key, To, 0}),
    _ = ets:update_counter(?TOTALS, Topic, [{2, 1}, {3, forwarding(Via)}], {Topic, 0, 0}),
    ok.

%% @doc Remove a subscription that is there.
-spec remove(id()) -> ok.
remove({Owner, _Topic} = Id) ->
    [{Id, Via}] = ets:take(?SUBSCRIPTIONS, Id),
    delete_if(ets:update_counter(?OWNERS, Owner, {2, -1}) =:= 0, ?OWNERS, Owner),
    hornbeam_quota:give_back(topics, bytes(Id), 1),
    uncount(Id, Via).

uncount({_Owner, Topic} = Id, Via) ->
    {Lane, _} = lane(Id, Via),
    Key = {Topic, Lane, lane_pid(Id, Via)},
    delete_if(ets:update_counter(?LANES, Key, {3, -1}) =:= 0, ?LANES, Key),
    [Left, _] = ets:update_counter(?TOTALS, Topic, [{2, -1}, {3, -forwarding(Via)}]),
    delete_if(Left =:= 0, ?TOTALS, Topic).

%% @doc Let the messages of a subscription that is there go another way. It is there all the time,
%% whatever becomes of who calls this, and for a moment both ways are.
-spec change(id(), via()) -> ok.
change(Id, Via) ->
    {ok, Before} = subscription(Id),
    true = ets:insert(?SUBSCRIPTIONS, {Id, Via}),
    count(Id, Via),
    uncount(Id, Before).

%% @doc The same, but for a moment no way is there: nobody gets a message twice.
-spec redirect(id(), via()) -> ok.
redirect(Id, Via) ->
    {ok, Before} = subscription(Id),
    uncount(Id, Before),
    true = ets:insert(?SUBSCRIPTIONS, {Id, Via}),
    count(Id, Via).

delete_if(true, Table, Key) ->
    true = ets:delete(Table, Key),
    ok;
delete_if(false, _Table, _Key) ->
    ok.

forwarding({forward, _Outbox, _Policy}) -> 1;
forwarding(_Via) -> 0.

lane(_Id, {worker, _Worker, Events}) -> {worker, Events};
lane(_Id, {forward, Outbox, Policy}) -> {forward, {Outbox, Policy}};
lane({Owner, _Topic}, process) -> {process, Owner};
lane(_Id, parked) -> {parked, none}.

lane_pid(_Id, {worker, Worker, _Events}) -> Worker;
lane_pid({Owner, _Topic}, _Via) -> Owner.

%% @doc Make lanes and totals what the subscriptions say: a crash may have come in between.
-spec rebuild() -> ok.
rebuild() ->
    Subscriptions = subscriptions(),
    Ids = [Id || {Id, _} <- Subscriptions],
    hornbeam_quota:recount(topics, lists:sum(lists:map(fun bytes/1, Ids)), length(Ids)),
    true = ets:delete_all_objects(?OWNERS),
    lists:foreach(fun({Owner, _}) -> ets:update_counter(?OWNERS, Owner, {2, 1}, {Owner, 0}) end,
                  Ids),
    Lanes = lists:foldl(fun count_in/2, #{}, Subscriptions),
    replace(?LANES, [{Key, To, N} || {Key, {To, N}} <- maps:to_list(Lanes)]),
    Totals = lists:foldl(fun sum_in/2, #{}, Subscriptions),
    replace(?TOTALS, [{Topic, N, F} || {Topic, {N, F}} <- maps:to_list(Totals)]).

%% Never empty in between: others read.
replace(Table, Rows) ->
    true = ets:insert(Table, Rows),
    Keys = maps:from_keys([element(1, Row) || Row <- Rows], []),
    Stale = [Key || {Key, _, _} <- ets:tab2list(Table), not is_map_key(Key, Keys)],
    lists:foreach(fun(Key) -> ets:delete(Table, Key) end, Stale).

sum_in({{_Owner, Topic}, Via}, Totals) ->
    maps:update_with(Topic, fun({N, F}) -> {N + 1, F + forwarding(Via)} end,
                     {1, forwarding(Via)}, Totals).

count_in({{_Owner, Topic} = Id, Via}, Lanes) ->
    {Lane, To} = lane(Id, Via),
    maps:update_with({Topic, Lane, lane_pid(Id, Via)}, fun({_, N}) -> {To, N + 1} end, {To, 1},
                     Lanes).

%% @doc How an owner is subscribed to a topic.
-spec subscription(id()) -> {ok, via()} | none.
subscription(Id) ->
    case ets:lookup(?SUBSCRIPTIONS, Id) of
        [{Id, Via}] -> {ok, Via};
        [] -> none
    end.

%% @doc All subscriptions.
-spec subscriptions() -> [{id(), via()}].
subscriptions() ->
    ets:tab2list(?SUBSCRIPTIONS).

%% @doc The subscriptions of an owner; does not scan.
-spec of_owner(pid()) -> [id()].
of_owner(Owner) ->
    [Id || {Id, _} <- ets:match_object(?SUBSCRIPTIONS, {{Owner, '_'}, '_'})].

%% @doc How many they are.
-spec number_of_owner(pid()) -> non_neg_integer().
number_of_owner(Owner) ->
    case ets:lookup(?OWNERS, Owner) of
        [{Owner, Number}] -> Number;
        [] -> 0
    end.

%% @doc The subscriptions that get their messages in a worker; scans.
-spec of_worker(pid()) -> [id()].
of_worker(Worker) ->
    [Id || {Id, _} <- ets:match_object(?SUBSCRIPTIONS, {'_', {worker, Worker, '_'}})].

%% @doc How many subscribers a topic has on this node, and how many of them forward.
-spec subscribers(topic()) -> {All :: non_neg_integer(), Forwarding :: non_neg_integer()}.
subscribers(Topic) ->
    case ets:lookup(?TOTALS, Topic) of
        [{Topic, Count, Forwarding}] -> {Count, Forwarding};
        [] -> {0, 0}
    end.

%% Outboxes.

%% @doc The outbox of a connection, made when it is the first time.
-spec outbox(pid(), hornbeam_outbox:limits()) -> hornbeam_outbox:outbox().
outbox(Connection, Limits) ->
    _ = ets:member(?OUTBOXES, Connection)
        orelse ets:insert_new(?OUTBOXES, {Connection, hornbeam_outbox:new(Connection, Limits)}),
    ets:lookup_element(?OUTBOXES, Connection, 2).

%% @doc How many messages the outbox of a connection has dropped.
-spec dropped(pid()) -> non_neg_integer().
dropped(Connection) ->
    lists:sum([hornbeam_outbox:dropped(Outbox)
               || {_, Outbox} <- ets:lookup(?OUTBOXES, Connection)]).

%% @doc Forget the outbox of a dead connection and what waits in it.
-spec forget_owner(pid()) -> ok.
forget_owner(Owner) ->
    case ets:take(?OUTBOXES, Owner) of
        [] -> ok;
        [_] -> hornbeam_outbox:forget(Owner)
    end.

%% Messages.

%% @doc Make of a value what the topic's lanes need, each form once.
%%
%% `Frame' asks for the client's frame even when nobody on this node needs it, because somebody
%% elsewhere does. A value that has not every form that is needed is an error; nobody gets it.
-spec prepare(topic(), hornbeam_value:value(), Frame :: boolean()) ->
    {ok, message()}
    | {error, hornbeam_json:path(), What :: binary()}
    | {error, hornbeam_msgpack:reason()}.
prepare(Topic, Value, IsForwardedElsewhere) ->
    Lanes = lanes(Topic),
    Kinds = lists:usort([Kind || {Kind, _, _} <- Lanes]),
    IsForwarded = IsForwardedElsewhere orelse lists:member(forward, Kinds),
    case {frame(IsForwarded, Value), term(lists:member(process, Kinds), Value)} of
        {{error, Path, What}, _} ->
            {error, Path, What};
        {_, {error, Reason}} ->
            {error, Reason};
        {Frame, Term} ->
            Event = event(lists:member(worker, Kinds), Topic, Value),
            {ok, #message{topic = Topic, lanes = Lanes, event = Event, frame = Frame,
                          term = Term}}
    end.

event(false, _Topic, _Value) ->
    none;
event(true, Topic, Value) ->
    Packed = hornbeam_value:to_packed(Value),
    {iolist_to_binary(hornbeam_wire:event(Topic, Packed)), byte_size(Packed)}.

frame(false, _Value) ->
    none;
frame(true, Value) ->
    case hornbeam_json:frame(Value) of
        {ok, {Kind, Payload}} -> hornbeam_websocket_frame:new(Kind, Payload);
        Error -> Error
    end.

term(false, _Value) -> none;
term(true, Value) -> hornbeam_value:to_term(Value).

%% @doc Hand a message to this node's subscribers; to how many.
-spec deliver(message()) -> non_neg_integer().
deliver(#message{lanes = Lanes} = Message) ->
    lists:sum([deliver(Lane, Message) || Lane <- Lanes]).

deliver({worker, Events, N}, #message{event = {Op, Size}}) ->
    case hornbeam_worker_events:send(Events, Op, Size) of
        sent ->
            N;
        dropped ->
            lose(slow),
            0
    end;
deliver({forward, {Outbox, Policy}, N}, #message{frame = Frame}) ->
    Dropped = hornbeam_outbox:push(Outbox, Frame, Policy),
    _ = [lose(slow, Dropped) || Dropped > 0],
    N;
deliver({parked, none, _N}, _Message) ->
    lose(parked),
    0;
deliver({process, Pid, N}, #message{topic = Topic, term = {ok, Term}}) ->
    Pid ! {hornbeam_pubsub, Topic, Term},
    N.

%% Only what is needed of a row is copied: there may be very many.
lanes(Topic) ->
    ets:select(?LANES, [{{{Topic, '$1', '_'}, '$2', '$3'}, [], [{{'$1', '$2', '$3'}}]}]).

%% @doc Count a message that did not get to another node or could not be read there.
-spec lose(loss()) -> ok.
lose(Why) ->
    lose(Why, 1).

lose(Why, Messages) ->
    _ = ets:update_counter(?LOSSES, Why, Messages, {Why, 0}),
    ok.

%% @doc What was counted so, and the messages that were dropped for slow subscribers.
-spec losses() -> #{loss() => pos_integer()}.
losses() ->
    maps:from_list(ets:tab2list(?LOSSES)).
