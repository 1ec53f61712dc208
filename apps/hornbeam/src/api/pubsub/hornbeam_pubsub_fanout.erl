%% How a message gets to the subscribers of this node.
%%
%% Three kinds of routes: a worker gets one `event' for all its streams; a forwarding connection
%% gets the finished frame; an Erlang process gets the term. Whoever publishes reads the table and
%% sends from its own process, so each subscriber sees one publisher's messages in their order. Only
%% hornbeam_pubsub_registry changes the routes. No process.
-module(hornbeam_pubsub_fanout).

-export([new_tables/0, add/2, remove/2, reroute/3, move/3, rebuild/1]).
-export([subscribers/1, all_subscribers/0, outbox/2, dropped/1, delete_outbox/1]).
-export([prepare/3, deliver/1, count_loss/1, losses/0]).
-export_type([topic/0, id/0, route/0, message/0, no_form/0, loss/0]).

-type topic() :: binary().
-type id() :: {Owner :: pid(), topic()}.
%% Of a subscription.

-type loss() :: link | unreadable | slow | parked.
-type route() :: {worker, Worker :: pid(), hornbeam_worker_events:events()}
               | {forward, hornbeam_outbox:outbox(), hornbeam_outbox:policy()}
               | {process, pid()}
               | parked.
%% `parked': its worker has ended, and another may take it; what comes meanwhile is lost.

-type no_form() ::
    {no_json, hornbeam_json:path(), What :: binary()}
    | {unencodable, hornbeam_json:path(), term()}
    | hornbeam_value:unreadable().

%% Rows: {{Topic, Kind, Pid}, To, Subscribers}.
-define(ROUTES, hornbeam_topic_routes).
%% Rows: {Topic, Subscribers, Forwarding}.
-define(TOTALS, hornbeam_topic_totals).
%% Rows: {Connection, Outbox}.
-define(OUTBOXES, hornbeam_outboxes).
%% Rows: {Why, Messages}.
-define(LOSSES, hornbeam_losses).

-record(message, {
    topic :: topic(),
    routes :: [{Kind :: atom(), To :: term(), Subscribers :: pos_integer()}],
    event :: {Op :: binary(), Size :: non_neg_integer()} | none,
    frame :: hornbeam_websocket_frame:frame() | none,
    term :: {ok, term()} | none
}).
-opaque message() :: #message{}.

%% @doc Make the tables; their owner must outlive everybody.
-spec new_tables() -> ok.
new_tables() ->
    ?ROUTES = ets:new(?ROUTES, [named_table, public, ordered_set, {read_concurrency, true}]),
    ?TOTALS = ets:new(?TOTALS, [named_table, public]),
    ?OUTBOXES = ets:new(?OUTBOXES, [named_table, public, {read_concurrency, true}]),
    ?LOSSES = ets:new(?LOSSES, [named_table, public, {write_concurrency, true}]),
    ok.

%% Routes: for the registry alone.

%% @doc Add the route of a subscription.
-spec add(id(), route()) -> ok.
add({_Owner, Topic} = Id, Route) ->
    add_route(Id, Route),
    _ = ets:update_counter(?TOTALS, Topic, [{2, 1}, {3, forwarding(Route)}], {Topic, 0, 0}),
    ok.

add_route(Id, Route) ->
    Key = key(Id, Route),
    _ = ets:update_counter(?ROUTES, Key, {3, 1}, {Key, to(Route), 0}),
    ok.

%% @doc Remove the route of a subscription.
-spec remove(id(), route()) -> ok.
remove({_Owner, Topic} = Id, Route) ->
    remove_route(Id, Route),
    Counts = ets:update_counter(?TOTALS, Topic, [{2, -1}, {3, -forwarding(Route)}]),
    delete_if(hd(Counts) =:= 0, ?TOTALS, Topic).

remove_route(Id, Route) ->
    Key = key(Id, Route),
    delete_if(ets:update_counter(?ROUTES, Key, {3, -1}) =:= 0, ?ROUTES, Key).

delete_if(true, Table, Key) ->
    true = ets:delete(Table, Key),
    ok;
delete_if(false, _Table, _Key) ->
    ok.

%% @doc Let the messages of a subscription go another way; for a moment they go none.
-spec reroute(id(), Before :: route(), route()) -> ok.
reroute({_Owner, Topic} = Id, Before, Route) ->
    remove_route(Id, Before),
    add_route(Id, Route),
    _ = ets:update_counter(?TOTALS, Topic, {3, forwarding(Route) - forwarding(Before)}),
    ok.

%% @doc The same with those of a worker; for a moment they go both ways.
-spec move(id(), Before :: route(), route()) -> ok.
move(Id, Before, Route) ->
    add_route(Id, Route),
    remove_route(Id, Before).

forwarding({forward, _Outbox, _Policy}) -> 1;
forwarding(_Route) -> 0.

key({_Owner, Topic}, {worker, Worker, _Events}) -> {Topic, worker, Worker};
key({Owner, Topic}, parked) -> {Topic, parked, Owner};
key({Owner, Topic}, Route) -> {Topic, element(1, Route), Owner}.

to({worker, _Worker, Events}) -> Events;
to({forward, Outbox, Policy}) -> {Outbox, Policy};
to({process, Pid}) -> Pid;
to(parked) -> none.

%% @doc Make routes and totals what the subscriptions say: a crash may have come in between.
-spec rebuild([{id(), route()}]) -> ok.
rebuild(Subscriptions) ->
    Routes = lists:foldl(fun count_route/2, #{}, Subscriptions),
    replace(?ROUTES, [{Key, To, N} || {Key, {To, N}} <- maps:to_list(Routes)]),
    Totals = lists:foldl(fun count_total/2, #{}, Subscriptions),
    replace(?TOTALS, [{Topic, N, F} || {Topic, {N, F}} <- maps:to_list(Totals)]).

%% Never empty in between: others read.
replace(Table, Rows) ->
    true = ets:insert(Table, Rows),
    Keys = maps:from_keys([element(1, Row) || Row <- Rows], []),
    Stale = [Key || {Key, _, _} <- ets:tab2list(Table), not is_map_key(Key, Keys)],
    lists:foreach(fun(Key) -> ets:delete(Table, Key) end, Stale).

count_total({{_Owner, Topic}, Route}, Totals) ->
    maps:update_with(Topic, fun({N, F}) -> {N + 1, F + forwarding(Route)} end,
                     {1, forwarding(Route)}, Totals).

count_route({Id, Route}, Routes) ->
    maps:update_with(key(Id, Route), fun({To, N}) -> {To, N + 1} end, {to(Route), 1}, Routes).

%% @doc How many subscribers a topic has on this node, and how many of them forward.
-spec subscribers(topic()) -> {All :: non_neg_integer(), Forwarding :: non_neg_integer()}.
subscribers(Topic) ->
    case ets:lookup(?TOTALS, Topic) of
        [{Topic, Count, Forwarding}] -> {Count, Forwarding};
        [] -> {0, 0}
    end.

%% @doc The same of all topics that have some.
-spec all_subscribers() -> [{topic(), All :: pos_integer(), Forwarding :: non_neg_integer()}].
all_subscribers() ->
    ets:tab2list(?TOTALS).

%% Outboxes.

%% @doc The outbox of a connection, made when it is the first time.
-spec outbox(pid(), hornbeam_outbox:limits()) -> hornbeam_outbox:outbox().
outbox(Connection, Limits) ->
    _ = ets:member(?OUTBOXES, Connection)
        orelse ets:insert_new(?OUTBOXES, {Connection, hornbeam_outbox:new(Connection, Limits)}),
    ets:lookup_element(?OUTBOXES, Connection, 2).

%% @doc How many forwarded messages were dropped before they reached a connection.
-spec dropped(pid()) -> non_neg_integer().
dropped(Connection) ->
    lists:sum([hornbeam_outbox:dropped(Outbox)
               || {_, Outbox} <- ets:lookup(?OUTBOXES, Connection)]).

%% @doc Delete the outbox of a dead connection with what waits in it.
-spec delete_outbox(pid()) -> ok.
delete_outbox(Owner) ->
    case ets:take(?OUTBOXES, Owner) of
        [] -> ok;
        [_] -> hornbeam_outbox:forget(Owner)
    end.

%% Messages.

%% @doc Make of a value what the topic's routes need, each form once.
%%
%% `IsForwardedElsewhere' asks for the client's frame even when nobody on this node needs it. A
%% value that has not every form that is needed is an error; nobody gets it.
-spec prepare(topic(), hornbeam_value:value(), IsForwardedElsewhere :: boolean()) ->
    {ok, message()} | {error, no_form()}.
prepare(Topic, Value, IsForwardedElsewhere) ->
    Routes = routes(Topic),
    Kinds = lists:usort([Kind || {Kind, _, _} <- Routes]),
    IsForwarded = IsForwardedElsewhere orelse lists:member(forward, Kinds),
    try
        Frame = frame(IsForwarded, Value),
        Term = term(lists:member(process, Kinds), Value),
        Event = event(lists:member(worker, Kinds), Topic, Value),
        {ok, #message{topic = Topic, routes = Routes, event = Event, frame = Frame, term = Term}}
    catch
        throw:{no_form, Reason} -> {error, Reason};
        error:{unencodable, _, _} = Reason -> {error, Reason}
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
        {error, Path, What} -> throw({no_form, {no_json, Path, What}})
    end.

term(false, _Value) ->
    none;
term(true, Value) ->
    case hornbeam_value:to_term(Value) of
        {ok, _} = Term -> Term;
        {error, Reason} -> throw({no_form, Reason})
    end.

%% @doc Hand a message to this node's subscribers; to how many.
-spec deliver(message()) -> non_neg_integer().
deliver(#message{routes = Routes} = Message) ->
    lists:sum([deliver(Route, Message) || Route <- Routes]).

deliver({worker, Events, N}, #message{event = {Op, Size}}) ->
    Most = hornbeam_quota:limit(worker_max_unread_bytes),
    case hornbeam_worker_events:send(Events, Op, Size, Most) of
        sent ->
            N;
        dropped ->
            count_loss(slow),
            0
    end;
deliver({forward, {Outbox, Policy}, N}, #message{frame = Frame}) ->
    Dropped = hornbeam_outbox:push(Outbox, Frame, Policy),
    _ = [count_losses(slow, Dropped) || Dropped > 0],
    N;
deliver({parked, none, _N}, _Message) ->
    count_loss(parked),
    0;
deliver({process, Pid, N}, #message{topic = Topic, term = {ok, Term}}) ->
    Pid ! {hornbeam_pubsub, Topic, Term},
    N.

%% Only what is needed of a row is copied: there may be very many.
routes(Topic) ->
    ets:select(?ROUTES, [{{{Topic, '$1', '_'}, '$2', '$3'}, [], [{{'$1', '$2', '$3'}}]}]).

%% @doc Count a message that somebody did not get.
-spec count_loss(loss()) -> ok.
count_loss(Why) ->
    count_losses(Why, 1).

count_losses(Why, Messages) ->
    _ = ets:update_counter(?LOSSES, Why, Messages, {Why, 0}),
    ok.

%% @doc How many were counted.
-spec losses() -> #{loss() => pos_integer()}.
losses() ->
    maps:from_list(ets:tab2list(?LOSSES)).
