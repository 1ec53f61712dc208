%% @doc The other nodes of this cluster that speak with us.
%%
%% A room is a part of Hornbeam that has its like on other nodes (pubsub, presence, …), and has a
%% process.
%% A peer is one life of a node: one that has started anew, or whose Hornbeam has, is another.
%%
%% Nobody who sends waits for a peer, whatever becomes of it: what does not fit is dropped and
%% counted, and the room is told once there is room again, so that it sends all that its peer has to
%% know (`lost').
%%
%% The process of this module begins a link with each node that is connected, whoever has connected
%% it, and knows the rooms. It waits for nobody but processes of this node that wait for none.
-module(hornbeam_links).
-behaviour(gen_server).

-include("hornbeam_link.hrl").

-export([new_tables/1, start_link/0, set_cluster/1, default_cluster/0]).
-export([join/1, join/3, send/3, send_packed/3, has_room/2, peers/1, own/0, cluster/0]).
-export([is_joining/0]).
-export([hello/1, check/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([peer/0, event/0]).

-type peer() :: {node(), Incarnation :: integer()}.
%% One life of a node.

-type event() ::
    {hornbeam_link, up, peer()}
    | {hornbeam_link, down, peer()}
    | {hornbeam_link, lost, peer()}
    | {hornbeam_link, message, peer(), term()}.
%% `up': it is of our cluster and has this room. `down': that life is over or out of reach, or its
%% room is: drop what it said. `lost': something of this room's to that peer was dropped: send all
%% again. `message': what its room has sent. They come in order for each peer.

-record(state, {
    links = #{} :: #{node() => {pid(), reference()}},
    rooms = #{} :: #{reference() => Room :: atom()}
}).

-define(CLUSTER, {?MODULE, cluster}).
-define(INCARNATION, {?MODULE, incarnation}).

%% A link that crashed begins anew after so long (ms).
-define(AGAIN, 200).

%% @doc Make the tables; their owner must outlive everybody. From now on it is one life of the node.
-spec new_tables(hornbeam_link_queue:limits()) -> ok.
new_tables(Limits) ->
    persistent_term:put(?INCARNATION, erlang:system_time(microsecond)),
    persistent_term:put(?CLUSTER, default_cluster()),
    ok = hornbeam_link_queue:new_table(Limits),
    ok = hornbeam_link_nodes:new_table(),
    ok = hornbeam_link_calls:new_tables(),
    hornbeam_link_rooms:new_tables().

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Which cluster this node is of. In another one it has other peers.
-spec set_cluster(binary()) -> ok.
set_cluster(Name) ->
    case cluster() of
        Name ->
            ok;
        _Another ->
            persistent_term:put(?CLUSTER, Name),
            gen_server:call(?MODULE, begin_anew, infinity)
    end.

%% @doc Whether this node has been told of a cluster, and so looks for its nodes by itself.
-spec is_joining() -> boolean().
is_joining() ->
    is_pid(whereis(hornbeam_joiner)).

%% @doc That of nodes which have been told of none.
-spec default_cluster() -> binary().
default_cluster() -> <<"hornbeam">>.

%% @doc Make the calling process that of a room; the peers that are up already. From now on it gets
%% an {@type event()} for all that becomes of them and of others.
-spec join(Room :: atom()) -> [peer()].
join(Room) ->
    join(Room, self(), self).

%% @doc The same for any process of this node, with whose end the room ends, and with a function
%% that is called for each event in place of a message to it. That runs in the process that hears
%% the peer: it must be quick, wait for nobody and never fail. A message is the binary that was
%% given to {@link send_packed/3}.
-spec join(Room :: atom(), pid(), hornbeam_link_rooms:told()) -> [peer()].
join(Room, Pid, Told) ->
    try
        gen_server:call(?MODULE, {join, Room, Pid, Told}, infinity)
    catch
        exit:_ItHasEnded -> join_the_next(Room, Pid, Told)
    end.

%% The next one finds in the table who has joined before it began. Nobody waits for it: the root of
%% the tree, which begins it, may be about to begin the room first.
join_the_next(Room, Pid, Told) ->
    hornbeam_link_rooms:join(Room, Pid, Told),
    hornbeam_link_rooms:remove_ways(Room),
    case whereis(?MODULE) of
        undefined -> [];
        _ItHasBegun -> join(Room, Pid, Told)
    end.

%% @doc Send a peer's room a term, from any process. Never waits. What one process sends to one room
%% comes in this order.
%%
%% `lost': there was no room for it, or the peer is not up.
-spec send(peer(), Room :: atom(), Message :: term()) -> ok | lost.
send(Peer, Room, Message) ->
    send_packed(Peer, Room, term_to_binary(Message)).

%% @doc The same with a binary: what goes to several is packed once. Where the room there is joined
%% by {@link join/1}, it is one of `term_to_binary'.
-spec send_packed(peer(), Room :: atom(), Message :: binary()) -> ok | lost.
send_packed(Peer, Room, Message) ->
    case hornbeam_link_rooms:way(Room, Peer) of
        {ok, Queue, Id} ->
            hornbeam_link_writer:send(Queue, Id, Message);
        none ->
            hornbeam_link_queue:count_loss(Room, down),
            lost
    end.

%% @doc Whether little waits for a peer: to be asked by who sends much at a time, which may wait.
-spec has_room(peer(), Room :: atom()) -> boolean().
has_room(Peer, Room) ->
    case hornbeam_link_rooms:way(Room, Peer) of
        {ok, Queue, _Id} -> hornbeam_link_queue:is_low(Queue);
        none -> false
    end.

%% @doc The peers that a room has.
-spec peers(Room :: atom()) -> [peer()].
peers(Room) ->
    hornbeam_link_rooms:peers(Room).

%% @doc What this node is to its peers.
-spec own() -> peer().
own() ->
    {node(), persistent_term:get(?INCARNATION)}.

%% @doc The name of the cluster that this node is of.
-spec cluster() -> binary().
cluster() ->
    persistent_term:get(?CLUSTER).

%% @doc What is said to a node by its link.
-spec hello(Link :: pid()) -> hornbeam_link_hello:hello().
hello(Link) ->
    {_, Incarnation} = own(),
    {ok, Release} = application:get_key(hornbeam, vsn),
    hornbeam_link_hello:new(#{cluster => cluster(), incarnation => Incarnation,
                              release => Release, rooms => hornbeam_link_rooms:joined(),
                              link => Link}).

%% @doc Judge what another node says.
-spec check(term()) -> {ok, Version :: pos_integer(), hornbeam_link_hello:hello()}
                     | {error, hornbeam_link_hello:refusal()}.
check(Hello) ->
    hornbeam_link_hello:check(Hello, cluster()).

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    ok = net_kernel:monitor_nodes(true),
    %% Links of the one before would never be heard of again.
    hornbeam_links_sup:end_links(),
    lists:foreach(fun hornbeam_link:clear/1, hornbeam_link_rooms:nodes()),
    Rooms = [{erlang:monitor(process, Pid), Room} || {Room, Pid} <- hornbeam_link_rooms:all()],
    {ok, lists:foldl(fun(Node, State) -> start(Node, none, State) end,
                     #state{rooms = maps:from_list(Rooms)}, nodes())}.

%% @private
-spec handle_call(begin_anew | {join, atom(), pid(), hornbeam_link_rooms:told()},
                  gen_server:from(), #state{}) -> {reply, ok | [peer()], #state{}}.
handle_call({join, Room, Pid, Told}, _From, State) ->
    #state{rooms = Rooms, links = Links} = Left = left(Room, State),
    hornbeam_link_rooms:join(Room, Pid, Told),
    Ref = erlang:monitor(process, Pid),
    Peers = [Peer || {Link, _} <- maps:values(Links), Peer <- hornbeam_link:joined(Link, Room)],
    {reply, Peers, Left#state{rooms = Rooms#{Ref => Room}}};
handle_call(begin_anew, _From, #state{links = Links} = State) ->
    lists:foreach(fun({Link, _}) -> hornbeam_link:stop(Link) end, maps:values(Links)),
    {reply, ok, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({nodeup, Node}, State) ->
    {noreply, start(Node, none, State)};
handle_info({nodedown, _Node}, State) ->
    %% Its link ends by itself.
    ok = hornbeam_link_nodes:forget(),
    {noreply, State};
handle_info({?TAG, hello, #{link := Link} = Hello}, State) when is_pid(Link) ->
    {noreply, greeted(node(Link), {Link, Hello}, State)};
handle_info({'DOWN', Ref, process, _, Reason}, #state{rooms = Rooms} = State) ->
    case Rooms of
        #{Ref := Room} -> {noreply, left(Room, State)};
        #{} -> {noreply, ended(Ref, Reason, State)}
    end;
handle_info({start, Node}, State) ->
    {noreply, start(Node, none, State)};
handle_info(_NotUnderstood, State) ->
    hornbeam_link_queue:count_loss(link, not_understood),
    {noreply, State}.

%% Links.

greeted(Node, Greeting, #state{links = Links} = State) ->
    case Links of
        #{Node := {Link, _}} ->
            hornbeam_link:greeted(Link, Greeting),
            State;
        #{} ->
            start(Node, Greeting, State)
    end.

start(Node, _Greeting, #state{links = Links} = State)
        when is_map_key(Node, Links); Node =:= node() ->
    State;
start(Node, Greeting, #state{links = Links} = State) ->
    case hornbeam_links_sup:start_link_to(Node, Greeting) of
        none -> State;
        Link -> State#state{links = Links#{Node => {Link, erlang:monitor(process, Link)}}}
    end.

%% The next begins once the rooms know of the end of this one.
ended(Ref, Reason, #state{links = Links} = State) ->
    case [Node || {Node, {_, Of}} <- maps:to_list(Links), Of =:= Ref] of
        [Node] ->
            hornbeam_link:clear(Node),
            again(Reason, Node, State#state{links = maps:remove(Node, Links)});
        [] ->
            State
    end.

again({shutdown, {greeted, Greeting}}, Node, State) ->
    start(Node, Greeting, State);
again({shutdown, _}, Node, State) ->
    start(Node, none, State);
again(_Crash, Node, State) ->
    _ = erlang:send_after(?AGAIN, self(), {start, Node}),
    State.

%% Rooms.

left(Room, #state{rooms = Rooms, links = Links} = State) ->
    case [Ref || {Ref, Of} <- maps:to_list(Rooms), Of =:= Room] of
        [Ref] ->
            true = erlang:demonitor(Ref, [flush]),
            hornbeam_link_rooms:leave(Room),
            _ = [hornbeam_link:left(Link, Room) || {Link, _} <- maps:values(Links)],
            State#state{rooms = maps:remove(Ref, Rooms)};
        [] ->
            State
    end.
