%% @doc Publish and subscribe, on one node or many.
%%
%% ```
%% ok = hornbeam_pubsub:subscribe(<<"chat:lobby">>),
%% 1 = hornbeam_pubsub:publish(<<"chat:lobby">>, #{<<"text">> => <<"hello">>}),
%% receive {hornbeam_pubsub, <<"chat:lobby">>, #{<<"text">> := Text}} -> Text end.
%% '''
%%
%% At most once, and in the order of each publisher; what is dropped is counted. The process of
%% this module changes the subscriptions of its node, removes those of the dead, and tells those of
%% the other nodes how many subscribers each topic has here: whoever publishes there sends it one
%% message, whatever their number. Nothing is published through it but that. All it knows stands in
%% tables: after a crash it goes on from there.
%%
%% Groups of pg would do the same for a topic, but a member of many leaves one in the time that it
%% takes to walk through all.
-module(hornbeam_pubsub).
-behaviour(gen_server).

-export([new_tables/0, start_link/0]).
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
    %% topics whose numbers the other nodes are to be told, and whether `tell' is on its way
    changed = #{} :: #{topic() => []},
    telling = no :: no | soon | now,
    %% the processes of this module on other nodes
    others = #{} :: #{pid() => reference()}
}).

%% Rows: {{Topic, Other}, Subscribers, Forwarding}: what the other nodes have told.
-define(ELSEWHERE, hornbeam_subscribers_elsewhere).

%% Numbers are gathered for so long (ms) before they are told, but that of a topic's first.
-define(GATHER, 20).
%% What a busy link did not take is tried again after a while (ms).
-define(AGAIN, 100).

%% @doc Make the tables; their owner must outlive everybody.
-spec new_tables() -> ok.
new_tables() ->
    ?ELSEWHERE = ets:new(?ELSEWHERE, [named_table, public, ordered_set,
                                      {read_concurrency, true}]),
    hornbeam_topics:new_tables().

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Subscribe the calling process: it gets `{hornbeam_pubsub, Topic, Term}'. Subscribing
%% twice is the same as once; it ends with {@link unsubscribe/1} or the process. Raises
%% `{limit, Option}' where it would be more than `state_max_bytes' and `state_max_rows' allow.
-spec subscribe(topic()) -> ok.
subscribe(Topic) when is_binary(Topic) ->
    case subscribe(self(), Topic, process) of
        ok -> ok;
        {error, Reason} -> error(Reason)
    end.

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
-spec subscribe(Owner :: pid(), topic(), how()) ->
    ok | {error, gone | {limit, hornbeam_quota:limit()}}.
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

%% @doc How many forwarded messages were dropped before they reached a connection.
-spec dropped(Owner :: pid()) -> non_neg_integer().
dropped(Owner) ->
    hornbeam_topics:dropped(Owner).

%% @doc Publish a value from the calling process.
-spec publish_value(topic(), hornbeam_value:value()) ->
    {ok, non_neg_integer()} | {error, publish_error()}.
publish_value(Topic, Value) ->
    Elsewhere = elsewhere(Topic),
    case prepare(Topic, Value, lists:keymember(true, 3, Elsewhere)) of
        {ok, Message} ->
            Here = hornbeam_topics:deliver(Message),
            {ok, Here + lists:sum([send_to(Row, Value) || Row <- Elsewhere])};
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

%% Steps are cheaper than a match, and most topics have no row. Atoms come before pids.
elsewhere(Topic) ->
    elsewhere(Topic, ets:next(?ELSEWHERE, {Topic, none})).

elsewhere(Topic, {Topic, _Other} = Key) ->
    ets:lookup(?ELSEWHERE, Key) ++ elsewhere(Topic, ets:next(?ELSEWHERE, Key));
elsewhere(_Topic, _Key) ->
    [].

%% A publisher must not be stopped by a slow link: what does not fit is lost and counted.
send_to({{Topic, Other}, Count, _Forwards}, Value) ->
    case said(Other, {publish, Topic, Value}) of
        true ->
            Count;
        false ->
            hornbeam_topics:lose(link),
            0
    end.

said(Other, Message) ->
    erlang:send(Other, Message, [nosuspend, noconnect]) =:= ok.

%% The server.

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    ok = net_kernel:monitor_nodes(true),
    hornbeam_topics:rebuild(),
    Subscriptions = hornbeam_topics:subscriptions(),
    State = lists:foldl(fun({Id, Via}, S) -> watch_all(Id, Via, S) end, #state{}, Subscriptions),
    lists:foreach(fun greet/1, nodes()),
    %% What they have told our predecessor is good until they tell us.
    {ok, lists:foldl(fun met/2, State, lists:usort([Other || {{_, Other}, _, _} <- told()]))}.

told() -> ets:tab2list(?ELSEWHERE).

greet(Node) ->
    _ = [erlang:send_after(?AGAIN, self(), {nodeup, Node})
         || not said({?MODULE, Node}, {hello, self()}), lists:member(Node, nodes())],
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
    {reply, ok | {error, gone | {limit, hornbeam_quota:limit()}} | [topic()], #state{}}.
handle_call({subscribe, {Owner, _} = Id, How}, _From, State) ->
    case is_process_alive(Owner) of
        true ->
            subscribed(Id, How, hornbeam_topics:subscription(Id), State);
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

subscribed(Id, How, {ok, Before}, State) ->
    {reply, ok, subscribed_anew(Id, via(Id, How), Before, State)};
subscribed({Owner, _} = Id, How, none, State) ->
    case has_room(How, Owner) of
        true ->
            Watching = watch_all(Id, How, State),
            added(hornbeam_topics:add(Id, via(Id, How)), Id, Watching);
        false ->
            {reply, hornbeam_quota:refused(connection_max_topics), State}
    end.

added(ok, Id, State) -> {reply, ok, changed(Id, State)};
added({error, _} = Error, _Id, State) -> {reply, Error, State}.

%% Erlang processes are trusted.
has_room(process, _Owner) ->
    true;
has_room(_How, Owner) ->
    hornbeam_topics:number_of_owner(Owner) < hornbeam_quota:limit(connection_max_topics).

subscribed_anew(_Id, Via, Via, State) ->
    State;
subscribed_anew(Id, Via, _Before, State0) ->
    State = watch_all(Id, Via, State0),
    hornbeam_topics:redirect(Id, Via),
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

%% Until they know of a topic's first subscriber, nothing comes from the other nodes.
changed(_Id, #state{others = Others} = State) when map_size(Others) =:= 0 ->
    State;
changed({_Owner, Topic}, #state{changed = Changed} = State) ->
    to_tell(hornbeam_topics:subscribers(Topic), State#state{changed = Changed#{Topic => []}}).

to_tell({1, _}, #state{telling = Telling} = State) when Telling =/= now ->
    self() ! tell,
    State#state{telling = now};
to_tell(_Numbers, #state{telling = no} = State) ->
    _ = erlang:send_after(?GATHER, self(), tell),
    State#state{telling = soon};
to_tell(_Numbers, State) ->
    State.

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
handle_info(tell, #state{changed = Changed} = State) ->
    {noreply, tell(maps:keys(Changed), State)};
handle_info({numbers, Other, Numbers}, State) ->
    lists:foreach(fun(Number) -> note(Other, Number) end, Numbers),
    {noreply, State};
handle_info({all_numbers, Other, Numbers}, State) ->
    note_all(Other, Numbers),
    {noreply, State};
handle_info({hello, Other}, State) ->
    {noreply, met(Other, State)};
handle_info({tell_all, Other, Ref}, #state{others = Others} = State) ->
    _ = [tell_all(Other, Ref) || maps:get(Other, Others, none) =:= Ref],
    {noreply, State};
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

tell([], State) ->
    State#state{telling = no};
tell(Topics, #state{others = Others} = State) ->
    Numbers = {numbers, self(), [numbers(Topic) || Topic <- Topics]},
    case lists:all(fun(Told) -> Told end, [said(Other, Numbers) || Other <- maps:keys(Others)]) of
        true ->
            State#state{changed = #{}, telling = no};
        false ->
            _ = erlang:send_after(?AGAIN, self(), tell),
            State#state{telling = now}
    end.

note(Other, {Topic, 0, _}) -> ets:delete(?ELSEWHERE, {Topic, Other});
note(Other, {Topic, Count, Forwards}) -> ets:insert(?ELSEWHERE, {{Topic, Other}, Count, Forwards}).

%% Never without what stays: others read.
note_all(Other, Numbers) ->
    lists:foreach(fun(Number) -> note(Other, Number) end, Numbers),
    Topics = maps:from_keys([Topic || {Topic, _, _} <- Numbers], []),
    lists:foreach(fun(Key) -> ets:delete(?ELSEWHERE, Key) end,
                  [Key || {{Topic, Pid} = Key, _, _} <- told(), Pid =:= Other,
                          not is_map_key(Topic, Topics)]).

%% Who is met for the first time is told all, and greeted, so that it tells all.
met(Other, #state{others = Others} = State) when is_map_key(Other, Others) ->
    State;
met(Other, #state{others = Others} = State) ->
    Ref = erlang:monitor(process, Other),
    tell_all(Other, Ref),
    State#state{others = Others#{Other => Ref}}.

tell_all(Other, Ref) ->
    Topics = lists:usort([Topic || {{_, Topic}, _} <- hornbeam_topics:subscriptions()]),
    All = {all_numbers, self(), [numbers(Topic) || Topic <- Topics]},
    _ = [erlang:send_after(?AGAIN, self(), {tell_all, Other, Ref})
         || not (said(Other, {hello, self()}) andalso said(Other, All))],
    ok.

other_down(Other, #state{others = Others} = State) ->
    true = ets:match_delete(?ELSEWHERE, {{'_', Other}, '_', '_'}),
    State#state{others = maps:remove(Other, Others)}.
