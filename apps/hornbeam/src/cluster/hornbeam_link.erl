%% What one peer says, and what becomes of it here: one process for each node that is connected.
%%
%%   silent ──hello──▶ up ──┐
%%     └────refusal────▶ refused ──┴── the connection's end, or another hello ──▶ over
%%
%% It hears the peer and tells the rooms, and waits for nobody; all that is said to the peer is
%% written by its hornbeam_link_writer. Of what comes it acknowledges each frame, since more than a
%% window of them may not be under way.
%%
%% Nodes meet by greeting hornbeam_links of the other by its name. Whoever is greeted greets back,
%% from process to process; that is the first thing said between those two, and all that comes
%% behind it is in order.
-module(hornbeam_link).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").
-include("hornbeam_link.hrl").

-export([start_link/2, greeted/2, joined/2, left/2, stop/1, clear/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([greeting/0]).

-type greeting() :: none | {Link :: pid(), Hello :: term()}.
-type told() :: {hornbeam_link_rooms:room(), Joined :: integer()}.
%% As which room of ours, and of which of theirs.

-record(state, {
    node :: node(),
    queue :: hornbeam_link_queue:queue(),
    %% the other's process, once it has said hello or was greeted
    to = none :: pid() | none,
    is = silent :: silent | up | refused,
    peer = none :: hornbeam_links:peer() | none,
    %% which of its rooms there are, and those that have been told so
    theirs = #{} :: #{atom() => integer()},
    told = #{} :: #{atom() => told()},
    %% frames that are not acknowledged yet, and whether the timer runs
    frames = 0 :: non_neg_integer(),
    bytes = 0 :: non_neg_integer(),
    is_timed = false :: boolean()
}).

%% What is acknowledged at once (bytes), and the rest after so long (ms).
-define(ACKNOWLEDGE, 131072).
-define(LATEST, 20).

%% @doc Begin to speak with a node.
-spec start_link(node(), greeting()) -> gen_server:start_ret().
start_link(Node, Greeting) ->
    gen_server:start_link(?MODULE, {Node, Greeting}, []).

%% @doc The node has greeted hornbeam_links.
-spec greeted(pid(), greeting()) -> ok.
greeted(Link, Greeting) ->
    gen_server:cast(Link, {greeted, Greeting}).

%% @doc A room of ours has begun; the peer, if it is up and has that room, too.
-spec joined(pid(), Room :: atom()) -> [hornbeam_links:peer()].
joined(Link, Room) ->
    try
        gen_server:call(Link, {joined, Room}, infinity)
    catch
        exit:_ItHasEnded -> []
    end.

%% @doc A room of ours has ended.
-spec left(pid(), Room :: atom()) -> ok.
left(Link, Room) ->
    gen_server:cast(Link, {left, Room}).

%% @doc End it; a new one begins if the node is connected.
-spec stop(pid()) -> ok.
stop(Link) ->
    gen_server:cast(Link, stop).

%% @doc What a link leaves when it ends, by whatever: rooms that have not been told, and messages
%% that were under way. After it all can begin anew.
-spec clear(node()) -> ok.
clear(Node) ->
    lists:foreach(fun close_way/1, hornbeam_link_rooms:ways(Node)).

close_way({Room, Peer, Queue, Id}) ->
    hornbeam_link_rooms:remove_way(Room, Peer),
    hornbeam_link_queue:close(Queue, [Id]),
    tell_end(hornbeam_link_rooms:room(Room), Peer).

tell_end({ok, Room}, Peer) -> hornbeam_link_rooms:tell(Room, {?TAG, down, Peer});
tell_end(none, _Peer) -> ok.

%% @private
-spec init({node(), greeting()}) -> {ok, #state{}} | ignore.
init({Node, Greeting}) ->
    ok = net_kernel:monitor_nodes(true),
    case lists:member(Node, nodes()) of
        true -> {ok, greet(Greeting, begun(Node))};
        false -> ignore
    end.

begun(Node) ->
    %% So that the rooms are told of our end.
    _ = process_flag(trap_exit, true),
    Queue = hornbeam_link_writer:start_link(),
    hornbeam_link_writer:knock(Queue, {hornbeam_links, Node}, hello()),
    ok = hornbeam_link_nodes:linked(Node, Queue),
    #state{node = Node, queue = Queue}.

hello() -> {?TAG, hello, hornbeam_links:hello(self())}.

%% @private
-spec handle_call({joined, atom()}, gen_server:from(), #state{}) ->
    {reply, [hornbeam_links:peer()], #state{}}.
handle_call({joined, Room}, _From, State) ->
    announce(State),
    case State of
        #state{is = up, peer = Peer, theirs = #{Room := Joined}, told = Told}
                when not is_map_key(Room, Told) ->
            {reply, [Peer], enter(Room, Joined, State)};
        #state{} ->
            {reply, [], State}
    end.

%% @private
-spec handle_cast(stop | {greeted, greeting()} | {left, atom()}, #state{}) ->
    {noreply, #state{}} | {stop, term(), #state{}}.
handle_cast({greeted, {Link, _} = Greeting}, #state{to = To} = State)
        when To =/= none, Link =/= To ->
    %% It has begun anew, and so must we: nothing of then is mixed with what comes.
    {stop, {shutdown, {greeted, Greeting}}, State};
handle_cast({greeted, Greeting}, State) ->
    {noreply, greet(Greeting, State)};
handle_cast({left, Room}, State) ->
    announce(State),
    {noreply, leave(Room, State)};
handle_cast(stop, State) ->
    {stop, {shutdown, stopped}, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({?TAG, messages, Messages}, #state{is = up} = State) when is_list(Messages) ->
    {noreply, received(Messages, State)};
handle_info({?TAG, acknowledged, Frames}, #state{queue = Queue} = State)
        when is_integer(Frames), Frames > 0 ->
    hornbeam_link_writer:acknowledged(Queue, Frames),
    {noreply, State};
handle_info({?TAG, hello, Hello}, #state{to = To, is = Is} = State) when Is =/= up ->
    case Hello of
        #{link := Link} when is_pid(Link), To =/= none, Link =/= To ->
            {stop, {shutdown, {greeted, {Link, Hello}}}, State};
        _ ->
            {noreply, hello(Hello, State)}
    end;
handle_info({?TAG, rooms, Rooms}, #state{is = up} = State) when is_map(Rooms) ->
    {noreply, their_rooms(Rooms, State)};
handle_info({dropped, Numbers}, State) ->
    tell_lost(Numbers, State),
    {noreply, State};
handle_info(acknowledge, State) ->
    {noreply, acknowledge(State#state{is_timed = false})};
handle_info({nodedown, Node}, #state{node = Node} = State) ->
    {stop, {shutdown, nodedown}, State};
handle_info({Node, _}, State) when Node =:= nodeup; Node =:= nodedown ->
    {noreply, State};
handle_info({'EXIT', Pid, Reason}, #state{queue = Queue} = State) ->
    case hornbeam_link_queue:writer(Queue) of
        Pid -> {stop, Reason, State};
        _ -> {noreply, State}
    end;
handle_info(_NotUnderstood, State) ->
    hornbeam_link_queue:count_loss(link, not_understood),
    {noreply, State}.

%% Greetings.

greet(none, State) ->
    State;
greet({Link, Hello}, State) ->
    case hornbeam_links:check(Hello) of
        {ok, _, _} -> address(Link, State);
        {error, Why} -> refuse(Why, State)
    end.

address(Link, #state{to = none, queue = Queue} = State) ->
    hornbeam_link_writer:open(Queue, Link, hello()),
    State#state{to = Link};
address(_Link, State) ->
    State.

hello(Hello, State) ->
    case hornbeam_links:check(Hello) of
        {ok, Version, Good} -> opened(Version, Good, State);
        {error, Why} -> refuse(Why, State)
    end.

opened(Version, #{link := Link, incarnation := Incarnation, rooms := Rooms} = Hello, State) ->
    #state{node = Node} = State,
    Up = (address(Link, State))#state{is = up, peer = {Node, Incarnation}},
    hornbeam_link_nodes:up(Node, Incarnation, Version, maps:get(release, Hello)),
    their_rooms(Rooms, Up).

refuse(Why, #state{node = Node} = State) ->
    hornbeam_link_queue:count_loss(link, not_understood),
    _ = [?LOG_WARNING(#{what => cluster_peer_refused, node => Node, why => Why},
                      #{domain => [hornbeam]})
         || hornbeam_link_nodes:refused(Node, Why) =:= first],
    State#state{is = refused}.

%% Rooms.

announce(#state{to = none}) ->
    ok;
announce(#state{queue = Queue}) ->
    hornbeam_link_writer:control(Queue, {?TAG, rooms, hornbeam_link_rooms:joined()}).

%% Of one that has begun anew they hear as of one that went and came.
their_rooms(Rooms, #state{told = Told} = State) ->
    Ended = [Room || {Room, {_, Joined}} <- maps:to_list(Told),
                     maps:get(Room, Rooms, none) =/= Joined],
    Left = lists:foldl(fun leave/2, State#state{theirs = Rooms}, Ended),
    lists:foldl(fun({Room, Joined}, Acc) -> come_up(Room, Joined, Acc) end, Left,
                maps:to_list(Rooms)).

come_up(Room, _Joined, #state{told = Told} = State) when is_map_key(Room, Told) ->
    State;
come_up(Room, Joined, #state{peer = Peer} = State) ->
    case enter(Room, Joined, State) of
        #state{told = #{Room := {Own, _}}} = Entered ->
            hornbeam_link_rooms:tell(Own, {?TAG, up, Peer}),
            Entered;
        State ->
            State
    end.

%% A way is there before a room hears of it.
enter(Room, Joined, #state{told = Told, peer = Peer, queue = Queue} = State) ->
    case hornbeam_link_rooms:room(Room) of
        {ok, Own} ->
            hornbeam_link_rooms:add_way(Own, Peer, Queue),
            State#state{told = Told#{Room => {Own, Joined}}};
        none ->
            State
    end.

leave(Room, #state{told = Told, peer = Peer} = State) when is_map_key(Room, Told) ->
    {{Own, _}, Left} = maps:take(Room, Told),
    hornbeam_link_rooms:remove_way(Room, Peer),
    hornbeam_link_rooms:tell(Own, {?TAG, down, Peer}),
    State#state{told = Left};
leave(_Room, State) ->
    State.

tell_lost(Numbers, #state{told = Told, peer = Peer}) ->
    Lost = [Room || {Room, Number} <- hornbeam_link_rooms:ids(), lists:member(Number, Numbers)],
    maps:foreach(fun(_Room, {Own, _}) -> hornbeam_link_rooms:tell(Own, {?TAG, lost, Peer}) end,
                 maps:with(Lost, Told)).

%% Messages.

received(Messages, #state{queue = Queue, frames = Frames, bytes = Bytes} = State) ->
    Read = lists:foldl(fun(Message, Sum) -> Sum + message(Message, State) end, 0, Messages),
    hornbeam_link_queue:received(Queue, length(Messages), Read),
    acknowledge_later(State#state{frames = Frames + 1, bytes = Bytes + Read}).

message({Room, Message}, #state{told = Told, peer = Peer}) when is_binary(Message) ->
    case Told of
        #{Room := {Own, _}} ->
            hornbeam_link_rooms:deliver(Own, Peer, Message);
        #{} ->
            hornbeam_link_queue:count_loss(link, not_understood)
    end,
    byte_size(Message) + ?MESSAGE_COST;
message(_Other, _State) ->
    hornbeam_link_queue:count_loss(link, not_understood),
    ?MESSAGE_COST.

acknowledge_later(#state{bytes = Bytes} = State) when Bytes >= ?ACKNOWLEDGE ->
    acknowledge(State);
acknowledge_later(#state{is_timed = true} = State) ->
    State;
acknowledge_later(State) ->
    _ = erlang:send_after(?LATEST, self(), acknowledge),
    State#state{is_timed = true}.

acknowledge(#state{frames = 0} = State) ->
    State;
acknowledge(#state{queue = Queue, frames = Frames} = State) ->
    hornbeam_link_writer:acknowledge(Queue, Frames),
    State#state{frames = 0, bytes = 0}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(Reason, #state{node = Node, queue = Queue}) ->
    %% It may be suspended by its link.
    true = exit(hornbeam_link_queue:writer(Queue), kill),
    clear(Node),
    %% Of rooms, too, that went before.
    hornbeam_link_queue:close(Queue, hornbeam_link_rooms:ids()),
    hornbeam_link_nodes:down(Node, Reason =:= {shutdown, nodedown}).
