%% The streams of one worker and who owns them.
%%
%%          hand_over, accept        bind
%%   {open, P} ────────▶ {moving, P} ────▶ {open, P}
%%       │ owner down          │ owner down      (what Python says waits while it is moving)
%%       └─────▶ closed ◀──────┘
%%
%% An app need not wait until its accept is through. So what follows an accept waits at once, for
%% the owner that binds the WebSocket: the same, or one that it is handed over to.
%%
%% A stream that Python has given away (moved/3) is closed for this worker. An entry is removed when
%% the app has ended the stream, after which it says nothing. What it may say until then, and in
%% which order, is hornbeam_stream_phase's, and what it may spend hornbeam_stream_credit's: all else
%% is an error, also to a stream whose owner is down, since Python follows its own order and spends
%% its own credit, whatever it does not know yet. It monitors and sends; it knows neither the port
%% nor what a packet says.
%%
%% An owner that shares a process has entered itself (hornbeam_stream_owners), and is looked for
%% there when the app says something: most streams of that kind are complete then, and cost no
%% monitor. A complete response is the last that it gets: then its stream is closed
%% (close_complete/1).
-module(hornbeam_worker_streams).

-include("../../wire/hornbeam_wire.hrl").

-export([new/0, new/1, tagged_owners/1, open/4, open/6, hand_over/4, bind/3, take_over/3]).
-export([owner_down/3, process_down/2, abandon/2, closed/2]).
-export([deliver/4, multicast/4, moved/3, answered/3, ended/3, close_complete/1]).
-export([begin_stream/2, owners/2, sockets/1, event_streams/1, give_away/1, close_sockets/1]).
-export([client/2, with_client/2, is_known/2]).
-export_type([streams/0, client/0, fault/0]).

-type owner() :: {open, hornbeam_stream:owner(), reference() | unwatched}
               | {moving, hornbeam_stream:owner(), reference(), Waiting :: [message()],
                  Ended :: boolean()}
               | closed.
-record(entry, {
    kind :: hornbeam_stream:kind(),
    client :: pid() | undefined,
    %% the client's process was made here
    stands_in = false :: boolean(),
    accepted = false :: boolean(),
    phase = asked :: hornbeam_stream_phase:phase(),
    account :: hornbeam_stream_credit:account(),
    owner :: owner()
}).

-type message() :: hornbeam_worker_protocol:to_owner().
%% With a packet of the wire or a frame of a WebSocket.

-type fault() :: no_such_stream | stream_is_over | out_of_order | overspent.
%% Why the app may not say what it said.

-type client() :: {open | asked, hornbeam_stream:kind(), pid()}
                | {requested | streaming | closed_stream, hornbeam_stream:owner(), pid()}
                | gone.
%% The process that lives as long as the client's side of a stream, and whether its WebSocket
%% was accepted, or its response may become an event stream or is one, with its owner.

-record(streams, {
    entries = #{} :: #{pos_integer() => #entry{}},
    highest = 0 :: non_neg_integer(),
    %% streams of tagged owners that are complete since the last close_complete/1
    completed = [] :: [pos_integer()],
    tagged_owners :: hornbeam_stream_owners:table()
}).
-opaque streams() :: #streams{}.

%% @doc No streams, and no tagged owners that may enter themselves.
-spec new() -> streams().
new() ->
    new(hornbeam_stream_owners:new()).

%% @doc No streams but those of such owners.
-spec new(hornbeam_stream_owners:table()) -> streams().
new(Tagged) ->
    #streams{tagged_owners = Tagged}.

%% @doc Where owners enter themselves that share a process.
-spec tagged_owners(streams()) -> hornbeam_stream_owners:table().
tagged_owners(#streams{tagged_owners = Tagged}) ->
    Tagged.

%% @doc Add a stream that `Owner' has opened; its death will come as
%% `{{'DOWN', Number}, Ref, process, Pid, Reason}'.
-spec open(hornbeam_stream:kind(), pos_integer(), pid(), streams()) -> streams().
open(Kind, Number, Owner, Streams) ->
    open(Kind, Number, Owner, Owner, hornbeam_stream_credit:new(), Streams).

%% @doc The same, with another process that lives as long as the client's side, and with the
%% account that the app's messages are paid from.
-spec open(hornbeam_stream:kind(), pos_integer(), pid(), Client :: pid(),
           hornbeam_stream_credit:account(), streams()) -> streams().
open(Kind, Number, Owner, Client, Account, Streams) ->
    Entry = #entry{kind = Kind, client = Client, account = Account,
                   owner = {open, Owner, watch(Number, Owner)}},
    put_entry(Number, Entry, Streams).

watch(Number, Owner) ->
    hornbeam_worker_protocol:monitor(hornbeam_stream:process(Owner), Number).

%% @doc Move an open stream to another owner; packets wait until it binds or takes over. Until then
%% the stream of a tagged owner is lost with the process that gives it, which lives until it is
%% taken.
-spec hand_over(pos_integer(), hornbeam_stream:owner(), From :: pid(), streams()) -> streams().
hand_over(Number, Owner, From, Streams) ->
    case entry(Number, Streams) of
        #entry{owner = {open, _, _}} = Entry ->
            unregister(Number, Entry, Streams),
            enter_tagged(Number, Owner, Entry, Streams),
            Moving = {moving, Owner, watch(Number, giver(Owner, From)), [], false},
            put_entry(Number, Entry#entry{owner = Moving}, Streams);
        #entry{owner = {moving, _, _, Waiting, Ended}} = Entry ->
            unregister(Number, Entry, Streams),
            Moving = {moving, Owner, watch(Number, giver(Owner, From)), Waiting, Ended},
            put_entry(Number, Entry#entry{owner = Moving}, Streams);
        _ ->
            Streams
    end.

giver({_, _}, From) -> From;
giver(Owner, _From) -> Owner.

enter_tagged(Number, {_, _} = Owner, #entry{kind = Kind, account = Account}, Streams) ->
    Tagged = Streams#streams.tagged_owners,
    true = hornbeam_stream_owners:enter(Number, Kind, Owner, Account, Tagged);
enter_tagged(_Number, _Process, _Entry, _Streams) ->
    true.

%% @doc The new owner is ready: it gets what waited. An owner that keeps its stream says so too, of
%% a WebSocket that is accepted.
-spec bind(pos_integer(), pid(), streams()) -> streams().
bind(Number, Owner, Streams) ->
    moved_to(Owner, true, Number, Streams).

%% @doc The new owner of a stream that is no open WebSocket is ready.
-spec take_over(pos_integer(), hornbeam_stream:owner(), streams()) -> streams().
take_over(Number, Owner, Streams) ->
    moved_to(Owner, false, Number, Streams).

moved_to(Owner, Accepted, Number, Streams) ->
    case entry(Number, Streams) of
        #entry{owner = {moving, Owner, Ref, Waiting, Ended}} = Entry ->
            lists:foreach(fun(Message) -> hornbeam_stream:send(Owner, Message) end,
                          lists:reverse(Waiting)),
            unwatch(Ref),
            Bound = Entry#entry{accepted = Accepted, owner = {open, Owner, watch(Number, Owner)}},
            bound(Ended, Number, Bound, Streams);
        #entry{owner = {open, Owner, _}} = Entry ->
            put_entry(Number, Entry#entry{accepted = Accepted}, Streams);
        _ ->
            Streams
    end.

bound(false, Number, Entry, Streams) ->
    put_entry(Number, Entry, leave_if_complete(Number, Entry, Streams));
bound(true, Number, Entry, Streams) ->
    remove(Number, Entry, leave_if_complete(Number, Entry, Streams)).

%% @doc A monitor says that an owner is dead. `{disconnect, Kind, _}' when the app is to be told.
-spec owner_down(pos_integer(), reference(), streams()) ->
    {disconnect, hornbeam_stream:kind(), streams()} | {ok, streams()}.
owner_down(Number, Ref, Streams) ->
    case entry(Number, Streams) of
        #entry{owner = Owner} = Entry when Owner =/= closed, element(3, Owner) =:= Ref ->
            owner_lost(Number, Entry, Streams);
        _ ->
            {ok, Streams}
    end.

%% @doc The same, of an owner that says so itself.
-spec abandon(pos_integer(), streams()) ->
    {disconnect, hornbeam_stream:kind(), streams()} | {ok, streams()}.
abandon(Number, Streams) ->
    case entry(Number, Streams) of
        #entry{owner = Owner} = Entry when Owner =/= closed -> owner_lost(Number, Entry, Streams);
        _ -> {ok, Streams}
    end.

%% @doc A process has died without a word; the streams of its tagged owners that nothing was said on
%% yet are told as by {@link close_complete/1}. Others have monitors.
-spec process_down(pid(), streams()) -> {[{pos_integer(), hornbeam_stream:kind()}], streams()}.
process_down(Pid, #streams{tagged_owners = Tagged, entries = Entries} = Streams) ->
    abandon_all([Number || Number <- hornbeam_stream_owners:of_process(Pid, Tagged),
                        not is_map_key(Number, Entries)], Streams).

owner_lost(Number, #entry{owner = {moving, _, _, _, true}} = Entry, Streams) ->
    {ok, remove(Number, Entry, Streams)};
owner_lost(Number, #entry{kind = Kind} = Entry, Streams) ->
    {disconnect, Kind, close(Number, Entry, Streams)}.

%% @doc The owner has told the app itself that it is gone.
-spec closed(pos_integer(), streams()) -> streams().
closed(Number, Streams) ->
    case entry(Number, Streams) of
        #entry{} = Entry -> close(Number, Entry, Streams);
        none -> Streams
    end.

close(Number, Entry, Streams) ->
    unregister(Number, Entry, Streams),
    put_entry(Number, dismiss_stand_in(Entry#entry{owner = closed}), Streams).

%% @doc Send a packet to the owner of its stream; dropped when the owner has closed it or is down.
-spec deliver(pos_integer(), Code :: byte(), Packet :: binary(), streams()) ->
    {ok, streams()} | {error, fault()}.
deliver(Number, Code, Packet, Streams) ->
    route(hornbeam_worker_protocol:packet(Number, Packet), Code, Streams).

%% @doc Send one frame of a WebSocket to the owners of several streams, on which it is the same as a
%% message with `Code'. Those before one that is at fault get it.
-spec multicast([pos_integer()], Code :: byte(), hornbeam_websocket_frame:frame(), streams()) ->
    {ok, streams()} | {error, {fault(), pos_integer()}}.
multicast([], _Code, _Frame, Streams) ->
    {ok, Streams};
multicast([Number | Numbers], Code, Frame, Streams) ->
    case route(hornbeam_worker_protocol:multicast(Number, Frame), Code, Streams) of
        {ok, Said} -> multicast(Numbers, Code, Frame, Said);
        {error, Fault} -> {error, {Fault, Number}}
    end.

route({_, Number, _} = Message, Code, Streams) ->
    case entry(Number, Streams) of
        none -> not_open(Number, Streams);
        #entry{owner = {moving, _, _, _, true}} -> {error, stream_is_over};
        Entry -> route(Message, Code, Entry, Streams)
    end.

route({_, _, Bytes} = Message, Code, #entry{kind = Kind, phase = Phase} = Entry, Streams) ->
    case hornbeam_stream_phase:next(Kind, Phase, Code, Bytes) of
        out_of_order -> {error, out_of_order};
        Next -> transmit(hornbeam_stream_credit:pay(Code, Bytes, Entry#entry.account), Message,
                         in_phase(Next, Entry), Entry, Streams)
    end.

in_phase(Phase, #entry{phase = Phase} = Entry) -> Entry;
in_phase(Phase, Entry) -> Entry#entry{phase = Phase}.

transmit(overspent, _Message, _Entry, _Before, _Streams) ->
    {error, overspent};
transmit(ok, {_, Number, _} = Message, Entry, Before, Streams) ->
    Said = hold_after_accept(send_or_keep(Message, Entry, Before), Before),
    {ok, put_changed(Number, Said, Before, leave_if_complete(Number, Said, Before, Streams))}.

leave_if_complete(_Number, _Entry, #entry{phase = complete}, Streams) -> Streams;
leave_if_complete(Number, Entry, _Before, Streams) -> leave_if_complete(Number, Entry, Streams).

leave_if_complete(Number, #entry{phase = complete, owner = {open, {_, _}, _}}, Streams) ->
    #streams{tagged_owners = Tagged, completed = Completed} = Streams,
    hornbeam_stream_owners:leave(Number, Tagged),
    Streams#streams{completed = [Number | Completed]};
leave_if_complete(_Number, _Entry, Streams) ->
    Streams.

%% A message goes to the owner or waits for the next one.
send_or_keep(_Message, #entry{owner = closed} = Entry, _Before) ->
    Entry;
send_or_keep(_Message, #entry{owner = Owner} = Entry, #entry{phase = complete})
        when is_tuple(element(2, Owner)) ->
    Entry;
send_or_keep(Message, #entry{owner = {open, Owner, _}} = Entry, _Before) ->
    hornbeam_stream:send(Owner, Message),
    Entry;
send_or_keep(Message, #entry{owner = {moving, Owner, Ref, Waiting, false}} = Entry, _Before) ->
    Entry#entry{owner = {moving, Owner, Ref, [Message | Waiting], false}}.

hold_after_accept(#entry{phase = accepted, owner = {open, Owner, Ref}} = Entry,
                  #entry{phase = asked}) ->
    Entry#entry{owner = {moving, Owner, Ref, [], false}};
hold_after_accept(Entry, _Before) ->
    Entry.

%% Most messages change nothing.
put_changed(_Number, Entry, Entry, Streams) -> Streams;
put_changed(Number, Entry, _Before, Streams) -> put_entry(Number, Entry, Streams).

%% @doc Python has given a stream away: its owner gets the packet that says so, and no other.
-spec moved(pos_integer(), Packet :: binary(), streams()) -> {ok, streams()} | {error, fault()}.
moved(Number, Packet, Streams0) ->
    case deliver(Number, ?MOVED, Packet, Streams0) of
        {ok, Streams} -> {ok, closed(Number, Streams)};
        {error, _} = Error -> Error
    end.

%% @doc The app has answered, and ended the stream with that: its owner gets this packet and no
%% other.
-spec answered(pos_integer(), Packet :: binary(), streams()) -> {ok, streams()} | {error, fault()}.
answered(Number, Packet, #streams{entries = Entries, tagged_owners = Tagged} = Streams) ->
    case not is_map_key(Number, Entries) andalso hornbeam_stream_owners:take(Number, Tagged) of
        {ok, {http, Owner, _Account}} ->
            hornbeam_stream:send(Owner, hornbeam_worker_protocol:packet(Number, Packet)),
            {ok, seen(Number, Streams)};
        {ok, {Kind, Owner, Account}} ->
            %% The worker ends, and tells those that are entered.
            _ = hornbeam_stream_owners:enter(Number, Kind, Owner, Account, Tagged),
            {error, out_of_order};
        none ->
            not_open(Number, Streams);
        false ->
            answered_closely(Number, Packet, Streams)
    end.

%% Something was said on it before, or its owner is not one of several in a process.
answered_closely(Number, Packet, Streams0) ->
    case deliver(Number, ?RESPONSE, Packet, Streams0) of
        {ok, Streams} -> {ok, app_ended(Number, entry(Number, Streams), Streams)};
        {error, _} = Error -> Error
    end.

%% @doc The app has ended a stream; its owner gets the packet that says so.
-spec ended(pos_integer(), Packet :: binary(), streams()) -> {ok, streams()} | {error, fault()}.
ended(Number, Packet, Streams) ->
    case entry(Number, Streams) of
        #entry{owner = {moving, _, _, _, true}} ->
            not_open(Number, Streams);
        #entry{} = Entry ->
            Message = hornbeam_worker_protocol:packet(Number, Packet),
            Said = send_or_keep(Message, Entry, Entry),
            {ok, app_ended(Number, Said, Streams)};
        none ->
            not_open(Number, Streams)
    end.

app_ended(Number, #entry{owner = {moving, Owner, Ref, Waiting, false}} = Entry, Streams) ->
    put_entry(Number, Entry#entry{owner = {moving, Owner, Ref, Waiting, true}}, Streams);
app_ended(Number, Entry, Streams) ->
    remove(Number, Entry, Streams).

%% @doc What has been said is routed: the streams whose owners have got a whole response, and that
%% the app has not ended, are told as by {@link abandon/2}.
-spec close_complete(streams()) -> {[{pos_integer(), hornbeam_stream:kind()}], streams()}.
close_complete(#streams{completed = []} = Streams) ->
    {[], Streams};
close_complete(#streams{completed = Completed} = Streams) ->
    abandon_all(Completed, Streams#streams{completed = []}).

abandon_all(Numbers, Streams) ->
    lists:foldl(fun(Number, {Gone, Before}) ->
        case abandon(Number, Before) of
            {disconnect, Kind, After} -> {[{Number, Kind} | Gone], After};
            {ok, After} -> {Gone, After}
        end
    end, {[], Streams}, Numbers).

not_open(Number, Streams) ->
    case is_known(Number, Streams) of
        true -> {error, stream_is_over};
        false -> {error, no_such_stream}
    end.

%% @doc Whether a stream is open or was. An op may come after its stream's end: it was made in
%% another thread.
-spec is_known(pos_integer(), streams()) -> boolean().
is_known(Number, #streams{highest = Highest, tagged_owners = Tagged}) ->
    Number =< Highest orelse hornbeam_stream_owners:find(Number, Tagged) =/= none.

%% @doc A stream is one of events from now on: its owner gets to know who stands for the client, and
%% is given back, if there still is one.
-spec begin_stream(pos_integer(), streams()) -> {[hornbeam_stream:owner()], streams()}.
begin_stream(Number, Streams0) ->
    Streams = with_client(Number, Streams0),
    case client(Number, Streams) of
        {_Phase, Owner, Client} when is_tuple(Owner) ->
            hornbeam_worker_protocol:client(Owner, Number, Client),
            {[Owner], Streams};
        _ ->
            {[], Streams}
    end.

%% @doc The owners of streams of a kind.
-spec owners(hornbeam_stream:kind(), streams()) -> [hornbeam_stream:owner()].
owners(Kind, #streams{entries = Entries, tagged_owners = Tagged}) ->
    [element(2, Owner) || #entry{kind = K, owner = Owner} <- maps:values(Entries), K =:= Kind,
                          Owner =/= closed]
        ++ [Owner || {Number, Owner} <- hornbeam_stream_owners:of_kind(Kind, Tagged),
                     not is_map_key(Number, Entries)].

%% @doc The WebSockets that are open, with their connections' processes.
-spec sockets(streams()) -> [{pos_integer(), pid()}].
sockets(#streams{entries = Entries}) ->
    [{Number, Owner} || {Number, #entry{kind = websocket, accepted = true,
                                        owner = {open, Owner, _}}} <- maps:to_list(Entries)].

%% @doc The responses that are event streams, with their owners.
-spec event_streams(streams()) -> [{pos_integer(), hornbeam_stream:owner()}].
event_streams(#streams{entries = Entries}) ->
    [{Number, Owner} || {Number, #entry{phase = Phase, owner = {open, Owner, _}}}
                            <- maps:to_list(Entries),
                        Phase =:= streaming orelse Phase =:= closed_stream].

%% @doc Give the open WebSockets away in Python's name, which is not heard any more on them.
-spec give_away(streams()) -> streams().
give_away(Streams) ->
    lists:foldl(fun({Number, Owner}, Left) ->
        in_its_name(hornbeam_packet:moved(Number), Number, Owner),
        closed(Number, Left)
    end, Streams, sockets(Streams)).

%% @doc Close the open WebSockets in the app's name, so that each connection closes as it always
%% does: the client gets the code, and then the app.
-spec close_sockets(streams()) -> ok.
close_sockets(Streams) ->
    Reason = <<"the app's process is replaced">>,
    lists:foreach(fun({Number, Owner}) ->
        in_its_name(hornbeam_packet:close(Number, 1012, Reason), Number, Owner)
    end, sockets(Streams)).

in_its_name(Packet, Number, Owner) ->
    hornbeam_stream:send(Owner, hornbeam_worker_protocol:packet(Number, Packet)).

%% @doc The client's side of a stream.
-spec client(pos_integer(), streams()) -> client().
client(Number, Streams) ->
    case entry(Number, Streams) of
        #entry{owner = closed} -> gone;
        #entry{phase = Phase, client = Client, owner = {open, Owner, _}}
                when Phase =:= streaming; Phase =:= closed_stream ->
            {Phase, Owner, Client};
        #entry{kind = http, phase = asked, client = Client, owner = {open, Owner, _}} ->
            {requested, Owner, Client};
        #entry{kind = Kind, client = Client, accepted = true} -> {open, Kind, Client};
        #entry{kind = Kind, client = Client} -> {asked, Kind, Client};
        none -> gone
    end.

%% @doc Make sure that a stream that is not over has a process for its client's side.
-spec with_client(non_neg_integer(), streams()) -> streams().
with_client(Number, Streams) ->
    case entry(Number, Streams) of
        #entry{client = undefined, owner = Owner} = Entry when Owner =/= closed ->
            Worker = self(),
            Client = spawn(fun() -> stand_in(erlang:monitor(process, Worker)) end),
            put_entry(Number, Entry#entry{client = Client, stands_in = true}, Streams);
        _ ->
            Streams
    end.

stand_in(Worker) ->
    receive
        dismissed -> ok;
        {'DOWN', Worker, process, _, _} -> ok
    end.

dismiss_stand_in(#entry{stands_in = true, client = Client} = Entry) ->
    Client ! dismissed,
    Entry#entry{stands_in = false};
dismiss_stand_in(Entry) ->
    Entry.

%% A tagged owner to which all is said has been struck out.
unregister(_Number, #entry{owner = closed}, _Streams) ->
    ok;
unregister(_Number, #entry{owner = {open, _, Ref}, phase = complete}, _Streams) ->
    unwatch(Ref);
unregister(Number, #entry{owner = Owner}, #streams{tagged_owners = Tagged}) ->
    unwatch(element(3, Owner)),
    _ = [hornbeam_stream_owners:leave(Number, Tagged) || is_tuple(element(2, Owner))],
    ok.

unwatch(unwatched) ->
    ok;
unwatch(Ref) ->
    true = erlang:demonitor(Ref, [flush]),
    ok.

entry(Number, #streams{entries = Entries, tagged_owners = Tagged}) ->
    case Entries of
        #{Number := Entry} -> Entry;
        #{} -> entered(hornbeam_stream_owners:find(Number, Tagged))
    end.

entered({ok, {Kind, Owner, Account}}) ->
    #entry{kind = Kind, client = undefined, account = Account, owner = {open, Owner, unwatched}};
entered(none) ->
    none.

%% A tagged owner is watched from the first time on that its stream is kept here; after all was said
%% it need not be.
put_entry(Number, #entry{owner = {open, Owner, unwatched}, phase = Phase} = Entry, Streams)
        when Phase =/= complete ->
    put_entry(Number, Entry#entry{owner = {open, Owner, watch(Number, Owner)}}, Streams);
put_entry(Number, Entry, #streams{entries = Entries} = Streams) ->
    seen(Number, Streams#streams{entries = Entries#{Number => Entry}}).

seen(Number, #streams{highest = Highest} = Streams) when Number > Highest ->
    Streams#streams{highest = Number};
seen(_Number, Streams) ->
    Streams.

remove(Number, Entry, #streams{entries = Entries} = Streams) ->
    unregister(Number, Entry, Streams),
    _ = dismiss_stand_in(Entry),
    seen(Number, Streams#streams{entries = maps:remove(Number, Entries)}).
