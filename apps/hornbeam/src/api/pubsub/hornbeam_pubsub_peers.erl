%% The other nodes: how many subscribers each has, and what is published there.
%%
%% The process of this module tells its peers, those of the other nodes, how many subscribers each
%% topic has here, and delivers what is published there: whoever publishes sends it one message,
%% whatever the number of subscribers. It is told of changes by the registry, which never waits for
%% it, and reads the counts itself. What its peers have told stands in a table: after a crash it
%% goes on from there, and tells them all.
%%
%% Groups of pg would do the same for a topic, but a member of many leaves one in the time that it
%% takes to walk through all.
-module(hornbeam_pubsub_peers).
-behaviour(gen_server).

-export([new_table/0, start_link/0]).
-export([changed/1, all_changed/0, subscribed/1, is_forwarded/1, publish/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([subscribed/0]).

-type topic() :: hornbeam_pubsub_fanout:topic().
-type count() :: {topic(), Subscribers :: non_neg_integer(), IsForwarded :: boolean()}.

-record(state, {
    peers = #{} :: #{Peer :: pid() => Monitor :: reference()},
    %% topics whose counts the peers are to be told, and whether `send_counts' is on its way
    changed = #{} :: #{topic() => []},
    sending = no :: no | soon | now
}).

%% Rows: {{Topic, Peer}, Subscribers, IsForwarded}.
-define(TABLE, ?MODULE).

-opaque subscribed() :: [{{topic(), Peer :: pid()}, pos_integer(), boolean()}].

%% Counts are gathered for so long (ms) before they are told, but that of a topic's first.
-define(GATHER, 20).
%% What a busy link did not take is tried again after a while (ms).
-define(AGAIN, 100).

%% @doc Make the table; its owner must outlive everybody.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, ordered_set, {read_concurrency, true}]),
    ok.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc The subscribers of a topic on this node have changed: said after it, by who did that. Never
%% waits.
-spec changed(topic()) -> ok.
changed(Topic) ->
    _ = [notify({changed, Topic, hornbeam_pubsub_fanout:subscribers(Topic)}) || nodes() =/= []],
    ok.

%% @doc Those of any topic may have changed.
-spec all_changed() -> ok.
all_changed() ->
    notify(all_changed).

%% Who is away will tell all when it is back.
notify(Message) ->
    case whereis(?MODULE) of
        undefined -> ok;
        Pid -> Pid ! Message, ok
    end.

%% @doc The nodes with subscribers of a topic. Steps are cheaper than a match, and most topics have
%% no row. Atoms come before pids.
-spec subscribed(topic()) -> subscribed().
subscribed(Topic) ->
    subscribed(Topic, ets:next(?TABLE, {Topic, none})).

subscribed(Topic, {Topic, _Peer} = Key) ->
    ets:lookup(?TABLE, Key) ++ subscribed(Topic, ets:next(?TABLE, Key));
subscribed(_Topic, _Key) ->
    [].

%% @doc Whether a subscriber there forwards to its client.
-spec is_forwarded(subscribed()) -> boolean().
is_forwarded(Subscribed) -> lists:keymember(true, 3, Subscribed).

%% @doc Send a value to the subscribers of these nodes; to how many. A publisher must not be stopped
%% by a slow link: what does not fit is lost and counted.
-spec publish(subscribed(), topic(), hornbeam_value:value()) -> non_neg_integer().
publish(Subscribed, Topic, Value) ->
    lists:sum([publish_to(Row, {publish, Topic, Value}) || Row <- Subscribed]).

publish_to({{_Topic, Peer}, Count, _IsForwarded}, Message) ->
    case is_sent(Peer, Message) of
        true ->
            Count;
        false ->
            hornbeam_pubsub_fanout:count_loss(link),
            0
    end.

is_sent(Peer, Message) ->
    erlang:send(Peer, Message, [nosuspend, noconnect]) =:= ok.

%% The server.

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    ok = net_kernel:monitor_nodes(true),
    lists:foreach(fun send_hello/1, nodes()),
    %% What they have told our predecessor is good until they tell us.
    Known = lists:usort([Peer || {{_, Peer}, _, _} <- ets:tab2list(?TABLE)]),
    {ok, lists:foldl(fun add_peer/2, #state{}, Known)}.

send_hello(Node) ->
    _ = [erlang:send_after(?AGAIN, self(), {nodeup, Node})
         || not is_sent({?MODULE, Node}, {hello, self()}), lists:member(Node, nodes())],
    ok.

%% Who is new is told all, and greeted, so that it tells all.
add_peer(Peer, #state{peers = Peers} = State) when is_map_key(Peer, Peers) ->
    State;
add_peer(Peer, #state{peers = Peers} = State) ->
    Monitor = erlang:monitor(process, Peer),
    send_all_counts(Peer, Monitor),
    State#state{peers = Peers#{Peer => Monitor}}.

send_all_counts(Peer, Monitor) ->
    Counts = [{Topic, N, F > 0} || {Topic, N, F} <- hornbeam_pubsub_fanout:all_subscribers()],
    _ = [erlang:send_after(?AGAIN, self(), {send_all_counts, Peer, Monitor})
         || not (is_sent(Peer, {hello, self()})
                 andalso is_sent(Peer, {all_counts, self(), Counts}))],
    ok.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({publish, Topic, Value}, State) ->
    case hornbeam_pubsub_fanout:prepare(Topic, Value, false) of
        {ok, Message} -> _ = hornbeam_pubsub_fanout:deliver(Message), ok;
        {error, _} -> hornbeam_pubsub_fanout:count_loss(unreadable)
    end,
    {noreply, State};
handle_info({changed, _Topic, _Count}, #state{peers = Peers} = State) when map_size(Peers) =:= 0 ->
    {noreply, State};
handle_info({changed, Topic, Count}, #state{changed = Changed} = State) ->
    {noreply, schedule(Count, State#state{changed = Changed#{Topic => []}})};
handle_info(all_changed, #state{peers = Peers} = State) ->
    maps:foreach(fun send_all_counts/2, Peers),
    {noreply, State};
handle_info(send_counts, State) ->
    {noreply, send_counts(State)};
handle_info({counts, Peer, Counts}, State) ->
    lists:foreach(fun(Count) -> store_count(Peer, Count) end, Counts),
    {noreply, State};
handle_info({all_counts, Peer, Counts}, State) ->
    store_all_counts(Peer, Counts),
    {noreply, State};
handle_info({hello, Peer}, State) ->
    {noreply, add_peer(Peer, State)};
handle_info({send_all_counts, Peer, Monitor}, #state{peers = Peers} = State) ->
    _ = [send_all_counts(Peer, Monitor) || maps:get(Peer, Peers, none) =:= Monitor],
    {noreply, State};
handle_info({nodeup, Node}, State) ->
    send_hello(Node),
    {noreply, State};
handle_info({'DOWN', _Monitor, process, Peer, _Reason}, #state{peers = Peers} = State) ->
    true = ets:match_delete(?TABLE, {{'_', Peer}, '_', '_'}),
    {noreply, State#state{peers = maps:remove(Peer, Peers)}};
handle_info(_Stray, State) ->
    {noreply, State}.

%% Until they know of a topic's first subscriber, nothing comes from the other nodes.
schedule({1, _}, #state{sending = Sending} = State) when Sending =/= now ->
    self() ! send_counts,
    State#state{sending = now};
schedule(_Count, #state{sending = no} = State) ->
    _ = erlang:send_after(?GATHER, self(), send_counts),
    State#state{sending = soon};
schedule(_Count, State) ->
    State.

send_counts(#state{changed = Changed} = State) when map_size(Changed) =:= 0 ->
    State#state{sending = no};
send_counts(#state{changed = Changed, peers = Peers} = State) ->
    Counts = {counts, self(), lists:map(fun count/1, maps:keys(Changed))},
    case [Peer || Peer <- maps:keys(Peers), not is_sent(Peer, Counts)] of
        [] ->
            State#state{changed = #{}, sending = no};
        [_ | _] ->
            _ = erlang:send_after(?AGAIN, self(), send_counts),
            State#state{sending = now}
    end.

-spec count(topic()) -> count().
count(Topic) ->
    {Count, Forwarding} = hornbeam_pubsub_fanout:subscribers(Topic),
    {Topic, Count, Forwarding > 0}.

store_count(Peer, {Topic, 0, _}) ->
    ets:delete(?TABLE, {Topic, Peer});
store_count(Peer, {Topic, Count, IsForwarded}) ->
    ets:insert(?TABLE, {{Topic, Peer}, Count, IsForwarded}).

%% Never without what stays: others read.
store_all_counts(Peer, Counts) ->
    lists:foreach(fun(Count) -> store_count(Peer, Count) end, Counts),
    Topics = maps:from_keys([Topic || {Topic, _, _} <- Counts], []),
    lists:foreach(fun(Key) -> ets:delete(?TABLE, Key) end,
                  [Key || {{Topic, Pid} = Key, _, _} <- ets:tab2list(?TABLE), Pid =:= Peer,
                          not is_map_key(Topic, Topics)]).
