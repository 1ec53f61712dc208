%% The rooms of this node, which are parts of Hornbeam that speak with their like on other nodes,
%% and the ways from each to its peers. Tables, no process.
%%
%% Rooms are changed by hornbeam_links, and by a room itself that begins while there is none; the
%% ways to a peer by its hornbeam_link.
-module(hornbeam_link_rooms).

-include("hornbeam_link.hrl").

-export([new_tables/0, join/3, leave/1, all/0, joined/0, room/1, ids/0, tell/2, deliver/3]).
-export([add_way/3, remove_way/2, remove_ways/1, way/2, ways/1, nodes/0, peers/1]).
-export_type([room/0, told/0]).

-type peer() :: hornbeam_links:peer().
-type told() :: self | fun((hornbeam_links:event()) -> term()).

-record(room, {
    name :: atom(),
    id :: hornbeam_link_queue:room(),
    pid :: pid() | none,
    told :: told(),
    %% another each time
    joined :: integer()
}).
-opaque room() :: #room{}.

-define(ROOMS, hornbeam_link_rooms).
%% A row of its own: how many have got numbers.
-define(NUMBERS, []).
%% Rows: {{Room, Peer}, Queue, Id}.
-define(WAYS, hornbeam_link_ways).

%% @doc Make the tables; their owner must outlive everybody.
-spec new_tables() -> ok.
new_tables() ->
    ?ROOMS = ets:new(?ROOMS, [named_table, public, {keypos, #room.name}]),
    ?WAYS = ets:new(?WAYS, [named_table, public, ordered_set, {read_concurrency, true}]),
    ok.

%% @doc A room begins: in a process, which gets messages, or has a function called for each of them.
-spec join(Room :: atom(), pid(), told()) -> ok.
join(Name, Pid, Told) ->
    Id = {Name, number(ets:lookup(?ROOMS, Name))},
    true = ets:insert(?ROOMS, #room{name = Name, id = Id, pid = Pid, told = Told,
                                    joined = erlang:unique_integer()}),
    ok.

%% Kept for the node's life: cells are counted by it.
number([#room{id = {_, Number}}]) -> Number;
number([]) -> number_of(ets:update_counter(?ROOMS, ?NUMBERS, 1, {?MODULE, ?NUMBERS, 0})).

number_of(Number) when Number =< ?MAX_ROOMS -> Number.

%% @doc A room has ended.
-spec leave(Room :: atom()) -> ok.
leave(Name) ->
    true = ets:update_element(?ROOMS, Name, {#room.pid, none}),
    ok.

%% @doc The rooms that there are, and their processes.
-spec all() -> [{Room :: atom(), pid()}].
all() ->
    [{Name, Pid} || #room{name = Name, pid = Pid} <- ets:tab2list(?ROOMS), is_pid(Pid)].

%% @doc What the peers are told of them.
-spec joined() -> #{Room :: atom() => integer()}.
joined() ->
    maps:from_list([{Name, Joined} || #room{name = Name, pid = Pid, joined = Joined}
                                          <- ets:tab2list(?ROOMS), is_pid(Pid)]).

%% @doc One of them.
-spec room(Room :: atom()) -> {ok, room()} | none.
room(Name) ->
    case ets:lookup(?ROOMS, Name) of
        [#room{pid = Pid} = Room] when is_pid(Pid) -> {ok, Room};
        _ -> none
    end.

%% @doc All that there ever were, by their names and numbers.
-spec ids() -> [hornbeam_link_queue:room()].
ids() ->
    [Id || #room{id = Id} <- ets:tab2list(?ROOMS)].

%% @doc Tell a room.
-spec tell(room(), hornbeam_links:event()) -> ok.
tell(#room{pid = Pid, told = self}, Event) ->
    Pid ! Event,
    ok;
tell(#room{told = Told}, Event) ->
    _ = Told(Event),
    ok.

%% @doc Give a room what that of a peer has sent.
-spec deliver(room(), peer(), binary()) -> ok.
deliver(#room{name = Name, told = self} = Room, Peer, Packed) ->
    try binary_to_term(Packed) of
        Message -> tell(Room, {?TAG, message, Peer, Message})
    catch
        error:badarg -> hornbeam_link_queue:count_loss(Name, not_understood)
    end;
deliver(Room, Peer, Packed) ->
    tell(Room, {?TAG, message, Peer, Packed}).

%% @doc From now on there is a way to a peer.
-spec add_way(room(), peer(), hornbeam_link_queue:queue()) -> ok.
add_way(#room{name = Name, id = Id}, Peer, Queue) ->
    true = ets:insert(?WAYS, {{Name, Peer}, Queue, Id}),
    ok.

-spec remove_way(Room :: atom(), peer()) -> ok.
remove_way(Name, Peer) ->
    true = ets:delete(?WAYS, {Name, Peer}),
    ok.

%% @doc There is none any more that another of this name had.
-spec remove_ways(Room :: atom()) -> ok.
remove_ways(Name) ->
    true = ets:match_delete(?WAYS, {{Name, '_'}, '_', '_'}),
    ok.

-spec way(Room :: atom(), peer()) ->
    {ok, hornbeam_link_queue:queue(), hornbeam_link_queue:room()} | none.
way(Name, Peer) ->
    case ets:lookup(?WAYS, {Name, Peer}) of
        [{_, Queue, Id}] -> {ok, Queue, Id};
        [] -> none
    end.

%% @doc All those to a node.
-spec ways(node()) -> [{Room :: atom(), peer(), hornbeam_link_queue:queue(),
                        hornbeam_link_queue:room()}].
ways(Node) ->
    [{Name, Peer, Queue, Id} || {{Name, {Of, _} = Peer}, Queue, Id} <- ets:tab2list(?WAYS),
                                Of =:= Node].

%% @doc The nodes to which there are some.
-spec nodes() -> [node()].
nodes() ->
    lists:usort([Node || {{_Name, {Node, _}}, _, _} <- ets:tab2list(?WAYS)]).

%% @doc The peers that a room has.
-spec peers(Room :: atom()) -> [peer()].
peers(Name) ->
    ets:select(?WAYS, [{{{Name, '$1'}, '_', '_'}, [], ['$1']}]).
