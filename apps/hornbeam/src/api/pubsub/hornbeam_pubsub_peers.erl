%% The other nodes: how many subscribers each has, and how what is published here gets there.
%%
%% The process of this module tells its peers how many subscribers each topic has here: of topics
%% whose count has changed the count as it is now; of all of them to a peer that is new or has lost
%% something. It is told of changes by the registry, which never waits for it, and reads the counts
%% itself. What its peers have told stands in a table, which whoever publishes reads: one message
%% goes to each node that has subscribers, whatever their number. After a crash it goes on from
%% there, and all tell each other all.
%%
%% Groups of pg would do the same for a topic, but a member of many leaves one in the time that it
%% takes to walk through all, and pg waits for links.
-module(hornbeam_pubsub_peers).
-behaviour(gen_server).

-include("hornbeam_pubsub.hrl").

-export([new_table/0, start_link/0]).
-export([changed/1, all_changed/0, subscribed/1, is_forwarded/1, publish/3, losses/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([subscribed/0]).

-type topic() :: hornbeam_pubsub_fanout:topic().
-type peer() :: hornbeam_links:peer().
-type count() :: {topic(), Subscribers :: non_neg_integer(), IsForwarded :: boolean()}.

%% What goes between nodes in this module's room. A telling of all begins, and ends, with a number:
%% what the receiver had before and was not told again is over then.
-type message() :: {counts, [count()]}
                 | {all, integer()}
                 | {that_was_all, integer()}
                 | {dropped, Messages :: pos_integer()}.

-record(state, {
    %% who is up, and which topics it is still to be told of
    peers = #{} :: #{peer() => told_all | {integer(), [[topic()]]}},
    %% the telling of all that a peer is at
    heard = #{} :: #{peer() => integer()},
    %% topics whose counts the peers are to be told, and whether `send_counts' is on its way
    changed = #{} :: #{topic() => []},
    sending = no :: no | soon | now
}).

%% Rows: {{Topic, Peer}, Subscribers, IsForwarded, Telling}.
-define(TABLE, ?MODULE).

-opaque subscribed() :: [{{topic(), peer()}, pos_integer(), boolean(), integer()}].

%% Counts are gathered for so long (ms) before they are told, but that of a topic's first.
-define(GATHER, 20).
%% So many are told in one message. Of all, the next ones go after a while (ms).
-define(COUNTS, 1000).
-define(NEXT, 5).

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
%% no row. Atoms come before tuples.
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

%% @doc Send a value to the subscribers of these nodes, packed once; to how many. It is handed to
%% the links of those nodes: what finds no room there is lost and counted, and nobody waits.
-spec publish(subscribed(), topic(), hornbeam_value:value()) -> non_neg_integer().
publish([], _Topic, _Value) ->
    0;
publish(Subscribed, Topic, Value) ->
    Parcel = hornbeam_pubsub_parcel:pack(self(), Topic, Value),
    lists:sum([publish_to(Row, Parcel) || Row <- Subscribed]).

publish_to({{_Topic, Peer}, Count, _IsForwarded, _Telling}, Parcel) ->
    case hornbeam_links:send_packed(Peer, ?PUBLISH_ROOM, Parcel) of
        ok -> Count;
        lost -> 0
    end.

%% @doc How many published messages were lost on their way to other nodes: `link' found no room in
%% their links, or these had ended; `cut' were under way when a link ended, and may have arrived.
-spec losses() -> #{link | cut => pos_integer()}.
losses() ->
    Losses = hornbeam_link_queue:losses(?PUBLISH_ROOM),
    Sums = #{link => sum([full, down], Losses), cut => sum([cut], Losses)},
    maps:filter(fun(_Why, Messages) -> Messages > 0 end, Sums).

sum(Reasons, Losses) -> lists:sum(maps:values(maps:with(Reasons, Losses))).

%% The server.

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    Peers = hornbeam_links:join(?COUNTS_ROOM),
    %% What they have told our predecessor is good until they tell us.
    Gone = lists:usort([Peer || {{_, Peer}, _, _, _} <- ets:tab2list(?TABLE)]) -- Peers,
    lists:foreach(fun forget/1, Gone),
    {ok, lists:foldl(fun tell_all/2, #state{}, Peers)}.

forget(Peer) ->
    true = ets:match_delete(?TABLE, {{'_', Peer}, '_', '_', '_'}),
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
handle_info({hornbeam_link, message, Peer, Message}, State) ->
    {noreply, heard(Message, Peer, State)};
handle_info({hornbeam_link, Kind, Peer}, State) when Kind =:= up; Kind =:= lost ->
    {noreply, tell_all(Peer, State)};
handle_info({hornbeam_link, down, Peer}, #state{peers = Peers, heard = Heard} = State) ->
    forget(Peer),
    {noreply, State#state{peers = maps:remove(Peer, Peers), heard = maps:remove(Peer, Heard)}};
handle_info({changed, _Topic, _Count}, #state{peers = Peers} = State) when map_size(Peers) =:= 0 ->
    {noreply, State};
handle_info({changed, Topic, Count}, #state{changed = Changed} = State) ->
    {noreply, schedule(Count, State#state{changed = Changed#{Topic => []}})};
handle_info(all_changed, #state{peers = Peers} = State) ->
    {noreply, lists:foldl(fun tell_all/2, State, maps:keys(Peers))};
handle_info(send_counts, State) ->
    {noreply, send_counts(State)};
handle_info({tell_next, Peer, Telling}, State) ->
    {noreply, tell_next(Peer, Telling, State)};
handle_info(_Stray, State) ->
    {noreply, State}.

-spec send(peer(), message()) -> ok.
send(Peer, Message) ->
    %% What is lost is told by its link.
    _ = hornbeam_links:send(Peer, ?COUNTS_ROOM, Message),
    ok.

%% What changes.

%% Until they know of a topic's first subscriber, nothing comes from the other nodes.
schedule({1, _}, #state{sending = Sending} = State) when Sending =/= now ->
    self() ! send_counts,
    State#state{sending = now};
schedule(_Count, #state{sending = no} = State) ->
    _ = erlang:send_after(?GATHER, self(), send_counts),
    State#state{sending = soon};
schedule(_Count, State) ->
    State.

send_counts(#state{changed = Changed, peers = Peers} = State) ->
    lists:foreach(fun(Topics) -> send_to_all(maps:keys(Peers), counts(Topics)) end,
                  parts(maps:keys(Changed))),
    State#state{changed = #{}, sending = no}.

send_to_all(Peers, Message) ->
    Packed = term_to_binary(Message),
    lists:foreach(fun(Peer) -> hornbeam_links:send_packed(Peer, ?COUNTS_ROOM, Packed) end, Peers).

counts(Topics) -> {counts, lists:map(fun count/1, Topics)}.

-spec count(topic()) -> count().
count(Topic) ->
    {Count, Forwarding} = hornbeam_pubsub_fanout:subscribers(Topic),
    {Topic, Count, Forwarding > 0}.

parts(Topics) -> parts(length(Topics), Topics).

parts(0, []) ->
    [];
parts(Count, Topics) when Count =< ?COUNTS ->
    [Topics];
parts(Count, Topics) ->
    {Part, Rest} = lists:split(?COUNTS, Topics),
    [Part | parts(Count - ?COUNTS, Rest)].

%% All that there is.

%% Of very many topics it takes a while, in which counts that change are told as ever: each is told
%% as it is at that moment, and none comes before what was told earlier.
tell_all(Peer, #state{peers = Peers} = State) ->
    Telling = erlang:unique_integer(),
    send(Peer, {all, Telling}),
    Topics = [Topic || {Topic, _, _} <- hornbeam_pubsub_fanout:all_subscribers()],
    tell_next(Peer, Telling, State#state{peers = Peers#{Peer => {Telling, parts(Topics)}}}).

tell_next(Peer, Telling, #state{peers = Peers} = State) ->
    case Peers of
        #{Peer := {Telling, Parts}} ->
            State#state{peers = Peers#{Peer := tell(Peer, Telling, Parts)}};
        #{} ->
            State
    end.

tell(Peer, Telling, []) ->
    send(Peer, {that_was_all, Telling}),
    told_all;
tell(Peer, Telling, [Part | Parts] = All) ->
    _ = erlang:send_after(?NEXT, self(), {tell_next, Peer, Telling}),
    %% What waits for other reasons leaves before more is added.
    case hornbeam_links:has_room(Peer, ?COUNTS_ROOM) of
        true -> send(Peer, counts(Part)), {Telling, Parts};
        false -> {Telling, All}
    end.

%% What the peers tell.

%% (It may be no proper list.)
heard({counts, Counts}, Peer, #state{heard = Heard} = State) when length(Counts) >= 0 ->
    Telling = maps:get(Peer, Heard, 0),
    lists:foreach(fun(Count) -> store_count(Peer, Telling, Count) end, Counts),
    State;
heard({all, Telling}, Peer, #state{heard = Heard} = State) ->
    State#state{heard = Heard#{Peer => Telling}};
heard({that_was_all, Telling}, Peer, #state{heard = Heard} = State) ->
    _ = [forget_older(Peer, Telling) || maps:get(Peer, Heard, none) =:= Telling],
    State;
heard({dropped, Messages}, _Peer, State) when is_integer(Messages), Messages > 0 ->
    hornbeam_pubsub_fanout:count_losses(elsewhere, Messages),
    State;
heard(_OfALaterVersion, _Peer, State) ->
    not_understood(),
    State.

not_understood() -> hornbeam_link_queue:count_loss(?COUNTS_ROOM, not_understood).

store_count(Peer, _Telling, {Topic, 0, _}) ->
    true = ets:delete(?TABLE, {Topic, Peer}),
    ok;
store_count(Peer, Telling, {Topic, Count, IsForwarded})
        when is_binary(Topic), is_integer(Count), Count > 0, is_boolean(IsForwarded) ->
    true = ets:insert(?TABLE, {{Topic, Peer}, Count, IsForwarded, Telling}),
    ok;
store_count(_Peer, _Telling, _OfALaterVersion) ->
    not_understood().

%% Never without what stays: others read.
forget_older(Peer, Telling) ->
    ets:select_delete(?TABLE, [{{{'_', Peer}, '_', '_', '$1'}, [{'=/=', '$1', Telling}], [true]}]).
