%% @doc Publish and subscribe, on one node or many.
%%
%% ```
%% ok = hornbeam_pubsub:subscribe(<<"chat:lobby">>),
%% 1 = hornbeam_pubsub:publish(<<"chat:lobby">>, #{<<"text">> => <<"hello">>}),
%% receive {hornbeam_pubsub, <<"chat:lobby">>, #{<<"text">> := Text}} -> Text end.
%% '''
%%
%% At most once, and in the order of each publisher; what is dropped is counted. The process of
%% this module changes the subscriptions of its node, removes those of the dead, and is the
%% node's member of the topic's group (pg, scope `hornbeam'): so one message a node crosses the
%% distribution. It tells the others how many subscribers each topic has here. Nothing is
%% published through it but what other nodes send. All it knows stands in tables: after a crash
%% of it, or of pg, it goes on from there.
-module(hornbeam_pubsub).
-behaviour(gen_server).

-export([new_tables/0, start_link/0, scope/0]).
-export([subscribe/1, unsubscribe/1, publish/2, losses/0]).
-export([subscribe/3, unsubscribe/2, adopt/3, publish_value/2, dropped/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([how/0, overflow/0, publish_error/0]).

-type topic() :: hornbeam_topics:topic().
-type how() :: process
             | {worker, Worker :: pid(), hornbeam_worker_events:events()}
             | {forward, hornbeam_outbox:limits(), overflow()}.
%% As an Erlang process; in the app, in a worker; or straight to the client.

-type overflow() :: drop_oldest | close | latest.
%% What becomes of messages for a client that is too slow; see {@link hornbeam_outbox}.

-type publish_error() ::
    {no_json, hornbeam_json:path(), What :: binary()}
    | {unencodable, hornbeam_json:path(), term()}
    | {unreadable, hornbeam_msgpack:reason()}.

-record(state, {
    %% who is watched: owners of subscriptions, and the workers in which some get their messages
    watched = #{} :: #{pid() => owner | worker},
    %% topics whose numbers the other nodes are to be told
    changed = #{} :: #{topic() => []},
    %% the processes of this module on other nodes
    others = #{} :: #{pid() => reference()}
}).

-define(SCOPE, hornbeam).
%% Rows: {{Topic, Other}, Subscribers, Forwarding}: what the other nodes have told.
-define(ELSEWHERE, hornbeam_subscribers_elsewhere).

%% Numbers are gathered for so long (ms) before they are told.
-define(GATHER, 20).

%% @doc Make the tables; their owner must outlive everybody.
-spec new_tables() -> ok.
new_tables() ->
    ?ELSEWHERE = ets:new(?ELSEWHERE, [named_table, public, ordered_set,
                                      {read_concurrency, true}]),
    hornbeam_topics:new_tables().

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc The scope of pg in which the nodes find each other.
-spec scope() -> atom().
scope() ->
    ?SCOPE.

%% @doc Subscribe the calling process: it gets `{hornbeam_pubsub, Topic, Term}'. Subscribing
%% twice is the same as once; it ends with {@link unsubscribe/1} or the process.
-spec subscribe(topic()) -> ok.
subscribe(Topic) when is_binary(Topic) ->
    ok = subscribe(self(), Topic, process).

%% @doc End the subscription of the calling process, if it has one.
-spec unsubscribe(topic()) -> ok.
unsubscribe(Topic) when is_binary(Topic) ->
    unsubscribe(self(), Topic).

%% @doc Publish a term, and return the number of subscribers that it was handed to, on all nodes.
%%
%% Raises a {@type publish_error()} when somebody needs a form that the term does not have; then
%% nobody gets it.
-spec publish(topic(), term()) -> non_neg_integer().
publish(Topic, Term) when is_binary(Topic) ->
    case publish_value(Topic, hornbeam_value:from_term(Term)) of
        {ok, Count} -> Count;
        {error, Reason} -> error(Reason)
    end.

%% @doc How many messages were lost between nodes since this node's start: `link' were not sent
%% because the link was full or down, `unreadable' came but had no form that a subscriber needs;
%% `slow' were dropped for subscribers that were too slow, `parked' came while a subscriber's worker
%% had ended and no other had taken it yet.
-spec losses() -> #{hornbeam_topics:loss() => pos_integer()}.
losses() ->
    hornbeam_topics:losses().

%% @doc Subscribe a process; the way of an earlier subscription is changed to this one.
-spec subscribe(Owner :: pid(), topic(), how()) -> ok | {error, gone}.
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

%% The server waits for nobody, so its answer or its death comes soon.
call(Request) ->
    gen_server:call(?MODULE, Request, infinity).

%% @doc How many forwarded messages were dropped before they reached a connection.
-spec dropped(Owner :: pid()) -> non_neg_integer().
dropped(Owner) ->
    hornbeam_topics:dropped(Owner).

%% @doc Publish a value from the calling process.
-spec publish_value(topic(), hornbeam_value:value()) ->
    {ok, non_neg_integer()} | {error, publish_error()}.
publish_value(Topic, Value) ->
    Others = others(Topic),
    case prepare(Topic, Value, forwards_elsewhere(Others, Topic)) of
        {ok, Message} ->
            Here = hornbeam_topics:deliver(Message),
            {ok, Here + lists:sum([send_to(Other, Topic, Value) || Other <- Others])};
        {error, _} = Error ->
            Error
    end.

prepare(Topic, Value, Frame) ->
    try hornbeam_topics:prepare(Topic, Value, Frame) of
        {ok, Message} -> {ok, Message};
        {error, Path, What} -> {error, {no_json, Path, What}};
        {error, Reason} -> {error, {unreadable, Reason}}
    catch
        error:{unencodable, _, _} = Reason -> {error, Reason}
    end.

%% pg's table is gone while pg starts again; then nobody is elsewhere.
others(Topic) ->
    [Pid || Pid <- pg:get_members(?SCOPE, Topic), node(Pid) =/= node()].

forwards_elsewhere([], _Topic) ->
    false;
forwards_elsewhere(_Others, Topic) ->
    ets:match(?ELSEWHERE, {{Topic, '_'}, '_', true}) =/= [].

%% A publisher must not be stopped by a slow link: what does not fit is lost and counted.
send_to(Other, Topic, Value) ->
    case erlang:send(Other, {publish, Topic, Value}, [nosuspend, noconnect]) of
        ok ->
            subscribers_at(Other, Topic);
        _ ->
            hornbeam_topics:lose(link),
            0
    end.

%% A member of the group has a subscriber, told or not.
subscribers_at(Other, Topic) ->
    case ets:lookup(?ELSEWHERE, {Topic, Other}) of
        [{_, Count, _}] -> Count;
        [] -> 1
    end.

%% The server.

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    ok = net_kernel:monitor_nodes(true),
    true = ets:delete_all_objects(?ELSEWHERE),
    hornbeam_topics:rebuild(),
    Subscriptions = hornbeam_topics:subscriptions(),
    State = lists:foldl(fun({Id, Via}, S) -> watch_all(Id, Via, S) end, #state{}, Subscriptions),
    Topics = lists:usort([Topic || {{_, Topic}, _} <- Subscriptions]),
    _ = [ok = pg:join(?SCOPE, Topic, self()) || Topic <- Topics],
    lists:foreach(fun greet/1, nodes()),
    {ok, State}.

greet(Node) ->
    _ = erlang:send({?MODULE, Node}, {hello, self()}, [nosuspend, noconnect]),
    ok.

watch_all({Owner, _Topic}, {worker, Worker, _}, State) ->
    watch(Owner, owner, watch(Worker, worker, State));
watch_all({Owner, _Topic}, _Via, State) ->
    watch(Owner, owner, State).

watch(Pid, _As, #state{watched = Watched} = State) when is_map_key(Pid, Watched) ->
    State;
watch(Pid, As, #state{watched = Watched} = State) ->
    _ = erlang:monitor(process, Pid),
    State#state{watched = Watched#{Pid => As}}.

%% @private
-spec handle_call(tuple(), gen_server:from(), #state{}) ->
    {reply, ok | {error, gone} | [topic()], #state{}}.
handle_call({subscribe, {Owner, _} = Id, How}, _From, State) ->
    case is_process_alive(Owner) of
        true ->
            Via = via(Id, How),
            {reply, ok, subscribed(Id, Via, hornbeam_topics:subscription(Id), State)};
        false ->
            {reply, {error, gone}, State}
    end;
handle_call({unsubscribe, Id}, _From, State) ->
    {reply, ok, unsubscribed(Id, hornbeam_topics:subscription(Id), State)};
handle_call({adopt, Owner, Via}, _From, State) ->
    Ids = lists:filter(fun is_in_app/1, hornbeam_topics:of_owner(Owner)),
    lists:foreach(fun(Id) -> hornbeam_topics:change(Id, Via) end, Ids),
    {reply, [Topic || {_, Topic} <- Ids], watch(element(2, Via), worker, State)}.

is_in_app(Id) ->
    case hornbeam_topics:subscription(Id) of
        {ok, parked} -> true;
        {ok, {worker, _, _}} -> true;
        _ -> false
    end.

subscribed(_Id, Via, {ok, Via}, State) ->
    State;
subscribed(Id, Via, {ok, _Other}, State) ->
    hornbeam_topics:remove(Id),
    subscribed(Id, Via, none, State);
subscribed(Id, Via, none, State0) ->
    State = watch_all(Id, Via, State0),
    hornbeam_topics:add(Id, Via),
    changed(Id, State).

via({Owner, Topic}, {forward, Limits, Overflow}) ->
    {forward, hornbeam_topics:outbox(Owner, Limits), policy(Overflow, Topic)};
via(_Id, How) ->
    How.

policy(latest, Topic) -> {latest, Topic};
policy(Policy, _Topic) -> Policy.

unsubscribed(_Id, none, State) ->
    State;
unsubscribed(Id, {ok, _Via}, State) ->
    hornbeam_topics:remove(Id),
    changed(Id, State).

%% The group and the other nodes.
changed({_Owner, Topic}, #state{changed = Changed} = State) ->
    {Count, _} = hornbeam_topics:subscribers(Topic),
    join(Count, Topic, lists:member(self(), pg:get_local_members(?SCOPE, Topic))),
    _ = [erlang:send_after(?GATHER, self(), tell) || map_size(Changed) =:= 0],
    State#state{changed = Changed#{Topic => []}}.

join(0, Topic, true) -> ok = pg:leave(?SCOPE, Topic, self());
join(Count, Topic, false) when Count > 0 -> ok = pg:join(?SCOPE, Topic, self());
join(_Count, _Topic, _IsMember) -> ok.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({publish, Topic, Value}, State) ->
    case prepare(Topic, Value, false) of
        {ok, Message} -> _ = hornbeam_topics:deliver(Message), ok;
        {error, _} -> hornbeam_topics:lose(unreadable)
    end,
    {noreply, State};
handle_info({'DOWN', Ref, process, Pid, _Reason}, #state{others = Others} = State) ->
    case Others of
        #{Pid := Ref} -> {noreply, other_down(Pid, State)};
        #{} -> {noreply, down(Pid, State)}
    end;
handle_info(tell, #state{changed = Changed, others = Others} = State) ->
    tell(maps:keys(Others), [numbers(Topic) || Topic <- maps:keys(Changed)]),
    {noreply, State#state{changed = #{}}};
handle_info({numbers, Other, Numbers}, State) ->
    lists:foreach(fun(Number) -> told(Other, Number) end, Numbers),
    {noreply, State};
handle_info({hello, Other}, State) ->
    {noreply, met(Other, State)};
handle_info({nodeup, Node}, State) ->
    greet(Node),
    {noreply, State};
handle_info(_Stray, State) ->
    {noreply, State}.

down(Pid, #state{watched = Watched} = State) ->
    {As, Left} = maps:take(Pid, Watched),
    hornbeam_topics:forget_owner(Pid),
    Without = lists:foldl(fun(Id, S) -> unsubscribed(Id, hornbeam_topics:subscription(Id), S) end,
                          State#state{watched = Left}, hornbeam_topics:of_owner(Pid)),
    park(As, Pid),
    Without.

%% Who had subscribed in a worker that is dead either dies of it or goes on with another.
park(owner, _Pid) ->
    ok;
park(worker, Pid) ->
    Ids = hornbeam_topics:of_worker(Pid),
    lists:foreach(fun(Id) -> hornbeam_topics:change(Id, parked) end, Ids).

numbers(Topic) ->
    {Count, Forwarding} = hornbeam_topics:subscribers(Topic),
    {Topic, Count, Forwarding > 0}.

tell(Others, Numbers) ->
    lists:foreach(fun(Other) -> Other ! {numbers, self(), Numbers} end, Others).

told(Other, {Topic, 0, _}) -> ets:delete(?ELSEWHERE, {Topic, Other});
told(Other, {Topic, Count, Forwards}) -> ets:insert(?ELSEWHERE, {{Topic, Other}, Count, Forwards}).

%% Who is met for the first time is told all, and greeted, so that it tells all.
met(Other, #state{others = Others} = State) when is_map_key(Other, Others) ->
    State;
met(Other, #state{others = Others} = State) ->
    Ref = erlang:monitor(process, Other),
    Other ! {hello, self()},
    Topics = lists:usort([Topic || {{_, Topic}, _} <- hornbeam_topics:subscriptions()]),
    tell([Other], [numbers(Topic) || Topic <- Topics]),
    State#state{others = Others#{Other => Ref}}.

other_down(Other, #state{others = Others} = State) ->
    true = ets:match_delete(?ELSEWHERE, {{'_', Other}, '_', '_'}),
    State#state{others = maps:remove(Other, Others)}.
