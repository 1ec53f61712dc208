%% How a message gets to the subscribers of this node.
%%
%% Five kinds of routes: a worker gets one `event' for all its streams; a WebSocket that forwards
%% gets the finished frame, an event stream the text of its event; an Erlang process gets the term,
%% or the value as it came. Whoever publishes reads the table and sends from its own process, so
%% each subscriber sees one publisher's messages in their order. Only hornbeam_pubsub_registry
%% changes the routes. No process.
-module(hornbeam_pubsub_fanout).

-export([new_tables/0, add/2, remove/2, reroute/3, move/3, rebuild/1]).
-export([subscribers/1, all_subscribers/0, largest/1, topics/0, outbox/3, waiting/0, dropped/1]).
-export([delete_outbox/1]).
-export([prepare/3, deliver/1, send/3, count_loss/1, count_losses/2, losses/0]).
-export_type([topic/0, id/0, route/0, message/0, no_form/0, loss/0]).

-type topic() :: binary().
-type id() :: {Owner :: pid(), topic()}.
%% Of a subscription.

-type loss() :: unreadable | slow | parked | overload | elsewhere.
-type route() :: {worker, Worker :: pid(), hornbeam_worker_events:events()}
               | {forward | stream, hornbeam_outbox:outbox(), hornbeam_outbox:policy()}
               | {process | value, pid()}
               | parked.
%% `parked': its worker has ended, and another may take it; what comes meanwhile is lost.

-type no_form() ::
    {no_json, hornbeam_json:path(), What :: binary()}
    | hornbeam_server_sent_event:fault()
    | {unencodable, hornbeam_json:path(), term()}
    | hornbeam_value:unreadable().

%% Rows: {{Topic, Kind, Pid}, To, Subscribers}.
-define(ROUTES, hornbeam_topic_routes).
%% Rows: {Topic, Subscribers, Forwarding, Lost}. What was lost is known as long as somebody is
%% subscribed.
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
    text :: binary() | none,
    term :: {ok, term()} | none,
    value :: hornbeam_value:value()
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
    _ = ets:update_counter(?TOTALS, Topic, [{2, 1}, {3, forwarding(Route)}], {Topic, 0, 0, 0}),
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
forwarding({stream, _Outbox, _Policy}) -> 1;
forwarding(_Route) -> 0.

key({_Owner, Topic}, {worker, Worker, _Events}) -> {Topic, worker, Worker};
key({Owner, Topic}, parked) -> {Topic, parked, Owner};
key({Owner, Topic}, Route) -> {Topic, element(1, Route), Owner}.

to({worker, _Worker, Events}) -> Events;
to({forward, Outbox, Policy}) -> {Outbox, Policy};
to({stream, Outbox, Policy}) -> {Outbox, Policy};
to({process, Pid}) -> Pid;
to({value, Pid}) -> Pid;
to(parked) -> none.

%% @doc Make routes and totals what the subscriptions say: a crash may have come in between.
-spec rebuild([{id(), route()}]) -> ok.
rebuild(Subscriptions) ->
    Routes = lists:foldl(fun count_route/2, #{}, Subscriptions),
    replace(?ROUTES, [{Key, To, N} || {Key, {To, N}} <- maps:to_list(Routes)]),
    Totals = lists:foldl(fun count_total/2, #{}, Subscriptions),
    replace(?TOTALS, [{Topic, N, F, lost(Topic)} || {Topic, {N, F}} <- maps:to_list(Totals)]).

lost(Topic) -> lists:sum([Lost || {_, _, _, Lost} <- ets:lookup(?TOTALS, Topic)]).

%% Never empty in between: others read.
replace(Table, Rows) ->
    true = ets:insert(Table, Rows),
    Keys = maps:from_keys([element(1, Row) || Row <- Rows], []),
    Stale = [Key || Row <- ets:tab2list(Table), Key <- [element(1, Row)],
                    not is_map_key(Key, Keys)],
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
        [{Topic, Count, Forwarding, _Lost}] -> {Count, Forwarding};
        [] -> {0, 0}
    end.

%% @doc The same of all topics that have some.
-spec all_subscribers() -> [{topic(), All :: pos_integer(), Forwarding :: non_neg_integer()}].
all_subscribers() ->
    ets:select(?TOTALS, [{{'$1', '$2', '$3', '_'}, [], [{{'$1', '$2', '$3'}}]}]).

%% @doc The same of those that have most, the first of all, and how many messages were lost when
%% something was published to them: no more are copied at any time.
-spec largest(Most :: pos_integer()) ->
    [{topic(), All :: pos_integer(), Forwarding :: non_neg_integer(), Lost :: non_neg_integer()}].
largest(Most) ->
    Largest = ets:foldl(fun({Topic, All, Forwarding, Lost}, Set) ->
        smallest_out(Most, gb_sets:add({All, Topic, Forwarding, Lost}, Set))
    end, gb_sets:new(), ?TOTALS),
    [{Topic, All, Forwarding, Lost}
     || {All, Topic, Forwarding, Lost} <- lists:reverse(gb_sets:to_list(Largest))].

smallest_out(Most, Set) ->
    case gb_sets:size(Set) > Most of
        true -> element(2, gb_sets:take_smallest(Set));
        false -> Set
    end.

%% @doc How many topics have subscribers.
-spec topics() -> non_neg_integer().
topics() ->
    ets:info(?TOTALS, size).

%% Outboxes.

%% @doc The outbox of a connection, made when it is the first time, and who gets what is in it.
-spec outbox(pid(), hornbeam_stream:owner(), hornbeam_outbox:limits()) -> hornbeam_outbox:outbox().
outbox(Connection, Owner, Limits) ->
    _ = ets:member(?OUTBOXES, Connection)
        orelse ets:insert_new(?OUTBOXES,
                              {Connection, hornbeam_outbox:new(Connection, Owner, Limits)}),
    ets:lookup_element(?OUTBOXES, Connection, 2).

%% @doc How many messages wait in all outboxes, and their bytes.
-spec waiting() -> {Messages :: non_neg_integer(), Bytes :: non_neg_integer()}.
waiting() ->
    ets:foldl(fun({_, Outbox}, {Messages, Bytes}) ->
        {More, MoreBytes} = hornbeam_outbox:waiting(Outbox),
        {Messages + More, Bytes + MoreBytes}
    end, {0, 0}, ?OUTBOXES).

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
    prepare(Topic, Value, IsForwardedElsewhere, routes(Topic)).

prepare(Topic, Value, IsForwardedElsewhere, Routes) ->
    Kinds = lists:usort([Kind || {Kind, _, _} <- Routes]),
    IsFrame = lists:member(forward, Kinds),
    IsText = lists:member(stream, Kinds),
    try
        Shown = shown(IsForwardedElsewhere orelse IsFrame orelse IsText, Value),
        Frame = frame(IsFrame, Shown),
        Text = text(IsText, Shown),
        Term = term(lists:member(process, Kinds), Value),
        Event = event(lists:member(worker, Kinds), Topic, Value),
        {ok, #message{topic = Topic, routes = Routes, event = Event, frame = Frame, text = Text,
                      term = Term, value = Value}}
    catch
        throw:{no_form, Reason} -> {error, Reason};
        error:{unencodable, _, _} = Reason -> {error, Reason}
    end.

event(false, _Topic, _Value) ->
    none;
event(true, Topic, Value) ->
    Packed = hornbeam_value:to_packed(Value),
    {iolist_to_binary(hornbeam_wire:event(Topic, Packed)), byte_size(Packed)}.

%% What clients are to see, whether by a frame or by an event.
shown(false, _Value) ->
    none;
shown(true, Value) ->
    {Fields, Data} = hornbeam_server_sent_event:open(hornbeam_value:to_packed(Value)),
    case hornbeam_json:frame({packed, Data}) of
        {ok, {Kind, Payload}} -> {Kind, Payload, Fields};
        {error, Path, What} -> throw({no_form, {no_json, Path, What}})
    end.

frame(false, _Shown) -> none;
frame(true, {Kind, Payload, _Fields}) -> hornbeam_websocket_frame:new(Kind, Payload).

text(false, _Shown) ->
    none;
text(true, {binary, _Bytes, _Fields}) ->
    throw({no_form, {no_event, <<"bytes">>}});
text(true, {text, Data, Fields}) ->
    case hornbeam_server_sent_event:text(Fields, Data) of
        {ok, Text} -> Text;
        {error, Reason} -> throw({no_form, Reason})
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

deliver({worker, Events, N}, #message{topic = Topic, event = {Op, Size}}) ->
    Most = hornbeam_quota:limit(worker_max_unread_bytes),
    case hornbeam_worker_events:send(Events, Op, Size, Most) of
        sent ->
            N;
        dropped ->
            lose(slow, 1, Topic),
            0
    end;
deliver({forward, {Outbox, Policy}, N}, #message{topic = Topic, frame = Frame}) ->
    Size = hornbeam_websocket_frame:payload_size(Frame),
    lose(slow, hornbeam_outbox:push(Outbox, Frame, Size, Policy), Topic),
    N;
deliver({stream, {Outbox, Policy}, N}, #message{topic = Topic, text = Text}) ->
    lose(slow, hornbeam_outbox:push(Outbox, Text, byte_size(Text), Policy), Topic),
    N;
deliver({parked, none, _N}, #message{topic = Topic}) ->
    lose(parked, 1, Topic),
    0;
deliver({process, Pid, N}, #message{topic = Topic, term = {ok, Term}}) ->
    Pid ! {hornbeam_pubsub, Topic, Term},
    N;
deliver({value, Pid, N}, #message{topic = Topic, value = Value}) ->
    Pid ! {hornbeam_pubsub_value, Topic, Value},
    N.

lose(_Why, 0, _Topic) ->
    ok;
lose(Why, Messages, Topic) ->
    count_losses(Why, Messages),
    try
        _ = ets:update_counter(?TOTALS, Topic, {4, Messages}),
        ok
    catch
        error:badarg -> ok
    end.

%% @doc Hand a value to one subscriber alone. What goes to one in a worker goes to all of the topic
%% there.
-spec send(id(), route(), hornbeam_value:value()) -> ok | {error, no_form()}.
send({_Owner, Topic} = Id, Route, Value) ->
    {_, Kind, _} = key(Id, Route),
    case prepare(Topic, Value, false, [{Kind, to(Route), 1}]) of
        {ok, Message} -> _ = deliver(Message), ok;
        {error, _} = Error -> Error
    end.

%% Only what is needed of a row is copied: there may be very many.
routes(Topic) ->
    ets:select(?ROUTES, [{{{Topic, '$1', '_'}, '$2', '$3'}, [], [{{'$1', '$2', '$3'}}]}]).

%% @doc Count a message that somebody did not get.
-spec count_loss(loss()) -> ok.
count_loss(Why) ->
    count_losses(Why, 1).

%% @doc The same for so many.
-spec count_losses(loss(), non_neg_integer()) -> ok.
count_losses(_Why, 0) ->
    ok;
count_losses(Why, Messages) ->
    _ = ets:update_counter(?LOSSES, Why, Messages, {Why, 0}),
    ok.

%% @doc How many were counted.
-spec losses() -> #{loss() => pos_integer()}.
losses() ->
    maps:from_list(ets:tab2list(?LOSSES)).
