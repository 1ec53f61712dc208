%% Who is subscribed to what on this node. Its process changes the subscriptions, and ends those of
%% the dead.
%%
%% It makes the routes of hornbeam_pubsub_fanout agree with them, and tells hornbeam_pubsub_peers
%% of each change by a message to a process of this node, which never makes it wait. All it knows
%% stands in tables: after a crash it goes on from there.
-module(hornbeam_pubsub_registry).
-behaviour(gen_server).

-export([new_table/0, start_link/0]).
-export([subscribe/3, unsubscribe/2, adopt/3, subscription/1, topics/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([how/0, overflow/0]).

-type topic() :: hornbeam_pubsub_fanout:topic().
-type id() :: hornbeam_pubsub_fanout:id().

-type how() :: process | value
             | {worker, Worker :: pid(), hornbeam_worker_events:events()}
             | {forward, hornbeam_outbox:limits(), overflow()}
             | {stream, hornbeam_stream:owner(), hornbeam_outbox:limits(), overflow()}.
%% As an Erlang process, which gets a term or the value as it came; in the app, in a worker; or
%% straight to the client: a WebSocket's, or that of an event stream with its owner.

-type overflow() :: drop_oldest | close | latest.
%% What becomes of messages for a client that is too slow; see {@link hornbeam_outbox}.

%% Rows: {id(), hornbeam_pubsub_fanout:route()}, so that who owns what is known after a crash.
-define(SUBSCRIPTIONS, hornbeam_subscriptions).
%% Bytes of a subscription beside its topic (about).
-define(ROW, 600).

%% Who is monitored: owners of subscriptions, and the workers in which some get their messages.
-type monitored() :: #{pid() => owner | worker}.

%% @doc Make the table; their owner must outlive everybody.
-spec new_table() -> ok.
new_table() ->
    ?SUBSCRIPTIONS = ets:new(?SUBSCRIPTIONS, [named_table, public, ordered_set]),
    ok.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Subscribe a process; the way of an earlier subscription is changed to this one.
-spec subscribe(Owner :: pid(), topic(), how()) ->
    ok | {error, closed | {limit, hornbeam_quota:limit()}}.
subscribe(Owner, Topic, How) ->
    call({subscribe, {Owner, Topic}, How}).

%% @doc End a subscription, if there is one.
-spec unsubscribe(Owner :: pid(), topic()) -> ok.
unsubscribe(Owner, Topic) ->
    call({unsubscribe, {Owner, Topic}}).

%% @doc Let what a connection has subscribed to in the app come to another worker; the topics.
-spec adopt(Owner :: pid(), Worker :: pid(), hornbeam_worker_events:events()) -> [topic()].
adopt(Owner, Worker, Events) ->
    call({adopt, Owner, {worker, Worker, Events}}).

%% The server waits for nobody, so its answer or its death comes soon; each of its requests may be
%% made twice.
call(Request) ->
    hornbeam_retry:until_answered(fun() -> gen_server:call(?MODULE, Request, infinity) end).

%% @doc What an owner has subscribed to; does not scan.
-spec topics(Owner :: pid()) -> [topic()].
topics(Owner) ->
    [Topic || {{_, Topic}, _} <- of_owner(Owner)].

%% @doc How an owner is subscribed to a topic.
-spec subscription(id()) -> {ok, hornbeam_pubsub_fanout:route()} | none.
subscription(Id) ->
    case ets:lookup(?SUBSCRIPTIONS, Id) of
        [{Id, Route}] -> {ok, Route};
        [] -> none
    end.

%% @private
-spec init([]) -> {ok, monitored()}.
init([]) ->
    Subscriptions = ets:tab2list(?SUBSCRIPTIONS),
    hornbeam_owner_quota:recount(topics, [{Owner, bytes(Id)}
                                          || {{Owner, _} = Id, _} <- Subscriptions]),
    hornbeam_pubsub_fanout:rebuild(Subscriptions),
    %% A change that our predecessor made may not have been told.
    hornbeam_pubsub_peers:all_changed(),
    {ok, lists:foldl(fun({Id, Route}, Monitored) -> monitor_all(Id, Route, Monitored) end, #{},
                     Subscriptions)}.

%% The topic stands in three tables.
bytes({_Owner, Topic}) -> ?ROW + 3 * byte_size(Topic).

monitor_all({Owner, _Topic}, {worker, Worker, _}, Monitored) ->
    monitor_as(owner, Owner, monitor_as(worker, Worker, Monitored));
monitor_all({Owner, _Topic}, _Route, Monitored) ->
    monitor_as(owner, Owner, Monitored).

monitor_as(_As, Pid, Monitored) when is_map_key(Pid, Monitored) ->
    Monitored;
monitor_as(As, Pid, Monitored) ->
    _ = erlang:monitor(process, Pid),
    Monitored#{Pid => As}.

%% @private
-spec handle_call(tuple(), gen_server:from(), monitored()) ->
    {reply, ok | {error, closed | {limit, hornbeam_quota:limit()}} | [topic()], monitored()}.
handle_call({subscribe, {Owner, _} = Id, How}, _From, Monitored) ->
    case is_process_alive(Owner) of
        true -> subscribe_living(Id, How, subscription(Id), Monitored);
        false -> {reply, {error, closed}, Monitored}
    end;
handle_call({unsubscribe, Id}, _From, Monitored) ->
    remove(Id, subscription(Id)),
    {reply, ok, Monitored};
handle_call({adopt, Owner, Route}, _From, Monitored) ->
    Ids = [Id || {Id, Before} <- of_owner(Owner), is_in_app(Before)],
    lists:foreach(fun(Id) -> move(Id, Route) end, Ids),
    {reply, [Topic || {_, Topic} <- Ids], monitor_as(worker, element(2, Route), Monitored)}.

is_in_app(parked) -> true;
is_in_app({worker, _, _}) -> true;
is_in_app(_Route) -> false.

subscribe_living(Id, How, {ok, Before}, Monitored) ->
    Route = route(Id, How),
    reroute(Id, Before, Route),
    {reply, ok, monitor_all(Id, Route, Monitored)};
subscribe_living({Owner, _} = Id, How, none, Monitored) ->
    case reserve(How, Owner, bytes(Id)) of
        ok ->
            add(Id, route(Id, How)),
            {reply, ok, monitor_all(Id, How, Monitored)};
        {error, _} = Error ->
            {reply, Error, Monitored}
    end.

%% Erlang processes are trusted.
reserve(How, Owner, Bytes) when How =:= process; How =:= value ->
    hornbeam_owner_quota:reserve_trusted(Owner, topics, Bytes, 1);
reserve(_How, Owner, Bytes) ->
    hornbeam_owner_quota:reserve(Owner, topics, Bytes, 1).

route({Owner, Topic}, {forward, Limits, Overflow}) ->
    {forward, hornbeam_pubsub_fanout:outbox(Owner, Owner, Limits), policy(Overflow, Topic)};
route({Client, Topic}, {stream, Owner, Limits, Overflow}) ->
    {stream, hornbeam_pubsub_fanout:outbox(Client, Owner, Limits), policy(Overflow, Topic)};
route({Owner, _Topic}, How) when How =:= process; How =:= value ->
    {How, Owner};
route(_Id, {worker, _, _} = Route) ->
    Route.

policy(latest, Topic) -> {latest, Topic};
policy(Policy, _Topic) -> Policy.

add(Id, Route) ->
    true = ets:insert_new(?SUBSCRIPTIONS, {Id, Route}),
    hornbeam_pubsub_fanout:add(Id, Route),
    changed(Id).

remove(_Id, none) ->
    ok;
remove({Owner, _Topic} = Id, {ok, Route}) ->
    true = ets:delete(?SUBSCRIPTIONS, Id),
    hornbeam_owner_quota:release(Owner, topics, bytes(Id), 1),
    hornbeam_pubsub_fanout:remove(Id, Route),
    changed(Id).

%% For a moment there is no way: nobody gets a message twice.
reroute(_Id, Route, Route) ->
    ok;
reroute(Id, Before, Route) ->
    true = ets:insert(?SUBSCRIPTIONS, {Id, Route}),
    hornbeam_pubsub_fanout:reroute(Id, Before, Route),
    changed(Id).

%% For a moment both ways are there: the subscription is, whatever becomes of us.
move(Id, Route) ->
    {ok, Before} = subscription(Id),
    true = ets:insert(?SUBSCRIPTIONS, {Id, Route}),
    hornbeam_pubsub_fanout:move(Id, Before, Route).

changed({_Owner, Topic}) ->
    hornbeam_pubsub_peers:changed(Topic).

%% @private
-spec handle_cast(term(), monitored()) -> {noreply, monitored()}.
handle_cast(_Request, Monitored) ->
    {noreply, Monitored}.

%% @private
-spec handle_info(term(), monitored()) -> {noreply, monitored()}.
handle_info({'DOWN', _Ref, process, Pid, _Reason}, Monitored) ->
    {As, Left} = maps:take(Pid, Monitored),
    hornbeam_pubsub_fanout:delete_outbox(Pid),
    lists:foreach(fun({Id, Route}) -> remove(Id, {ok, Route}) end, of_owner(Pid)),
    park(As, Pid),
    {noreply, Left};
handle_info(_Stray, Monitored) ->
    {noreply, Monitored}.

%% Whoever had subscribed in a worker that is dead either dies of it or goes on with another.
park(owner, _Pid) ->
    ok;
park(worker, Pid) ->
    lists:foreach(fun(Id) -> move(Id, parked) end, of_worker(Pid)).

%% Does not scan.
of_owner(Owner) ->
    ets:match_object(?SUBSCRIPTIONS, {{Owner, '_'}, '_'}).

%% Scans.
of_worker(Worker) ->
    [Id || {Id, _} <- ets:match_object(?SUBSCRIPTIONS, {'_', {worker, Worker, '_'}})].
