%% The streams of one worker and the processes that own them.
%%
%%              hand_over            bind
%%   {open, P} ────────▶ {moving, P} ────▶ {open, P}
%%       │ owner gone          │ owner gone      (what Python says waits while it is moving)
%%       └──────▶ gone ◀───────┘
%%
%% What the app may say next:
%%
%%   http       asked ──response_start──▶ responding ──the last part──▶ said
%%   websocket  asked ──accept──▶ accepted ──close──▶ said
%%                └──close──▶ said      └ or a response, as above, in place of accept;
%%                                        and moved, at any time, after which all is said
%%
%% A stream that Python has given away (moved/3) is gone for this worker. An entry is removed when
%% the app has ended the stream, after which it says nothing. Whatever
%% else it says is an error, also to a stream whose owner is gone: Python follows its own order
%% and spends its own credit, whatever it does not know yet. It monitors and sends; it knows
%% neither the port nor, but for the last byte of a response's part, what a frame says.
-module(hornbeam_worker_streams).

-include("../wire/hornbeam_wire.hrl").

-export([new/0, open/4, open/6, hand_over/3, bind/3, owner_down/3, closed/2]).
-export([deliver/4, moved/3, ended/3]).
-export([owners/2, sockets/1, client/2, is_known/2]).
-export_type([streams/0, client/0, fault/0]).

-type owner() :: {open, pid(), reference()}
               | {moving, pid(), reference(), Waiting :: [binary()], Ended :: boolean()}
               | gone.
-record(entry, {
    kind :: hornbeam_stream:kind(),
    client :: pid(),
    accepted = false :: boolean(),
    phase = asked :: phase(),
    account :: hornbeam_account:account(),
    owner :: owner()
}).

-type phase() :: asked | responding | accepted | said.

-type fault() :: no_such_stream | stream_is_over | out_of_order | overspent.
%% Why the app may not say what it said.

-type client() :: {open | asked, hornbeam_stream:kind(), pid()} | gone.
%% The process that lives as long as the client's side of a stream, and whether its WebSocket
%% was accepted.

-record(streams, {
    entries = #{} :: #{pos_integer() => #entry{}},
    highest = 0 :: non_neg_integer()
}).
-opaque streams() :: #streams{}.

%% @doc No streams.
-spec new() -> streams().
new() ->
    #streams{}.

%% @doc Add a stream that `Owner' has opened; its death will come as
%% `{{'DOWN', Number}, Ref, process, Pid, Reason}'.
-spec open(hornbeam_stream:kind(), pos_integer(), pid(), streams()) -> streams().
open(Kind, Number, Owner, Streams) ->
    open(Kind, Number, Owner, Owner, hornbeam_account:new(), Streams).

%% @doc The same, with another process that lives as long as the client's side, and with the
%% account that the app's messages are paid from.
-spec open(hornbeam_stream:kind(), pos_integer(), pid(), Client :: pid(),
           hornbeam_account:account(), streams()) -> streams().
open(Kind, Number, Owner, Client, Account, #streams{highest = Highest} = Streams) ->
    Entry = #entry{kind = Kind, client = Client, account = Account,
                   owner = {open, Owner, watch(Number, Owner)}},
    put_entry(Number, Entry, Streams#streams{highest = max(Number, Highest)}).

watch(Number, Owner) ->
    erlang:monitor(process, Owner, [{tag, {'DOWN', Number}}]).

%% @doc Move an open stream to another process; frames wait until it binds.
-spec hand_over(pos_integer(), pid(), streams()) -> streams().
hand_over(Number, Owner, Streams) ->
    case entry(Number, Streams) of
        #entry{owner = {open, _, Ref}} = Entry ->
            erlang:demonitor(Ref, [flush]),
            Moving = {moving, Owner, watch(Number, Owner), [], false},
            put_entry(Number, Entry#entry{owner = Moving}, Streams);
        _ ->
            Streams
    end.

%% @doc The new owner is ready: it gets what waited. An owner that keeps its stream says so too, of
%% a WebSocket that is accepted.
-spec bind(pos_integer(), pid(), streams()) -> streams().
bind(Number, Owner, Streams) ->
    case entry(Number, Streams) of
        #entry{owner = {moving, Owner, Ref, Waiting, Ended}} = Entry ->
            lists:foreach(fun(Frame) -> send(Owner, Number, Frame) end, lists:reverse(Waiting)),
            Bound = Entry#entry{accepted = true, owner = {open, Owner, Ref}},
            bound(Ended, Number, Bound, Streams);
        #entry{owner = {open, Owner, _}} = Entry ->
            put_entry(Number, Entry#entry{accepted = true}, Streams);
        _ ->
            Streams
    end.

bound(false, Number, Entry, Streams) ->
    put_entry(Number, Entry, Streams);
bound(true, Number, #entry{owner = Owner}, Streams) ->
    remove(Number, Owner, Streams).

%% @doc A monitor says that an owner is dead. `{gone, Kind, _}' when the app is to be told.
-spec owner_down(pos_integer(), reference(), streams()) ->
    {gone, hornbeam_stream:kind(), streams()} | {known, streams()}.
owner_down(Number, Ref, Streams) ->
    case entry(Number, Streams) of
        #entry{owner = {moving, _, Ref, _, true} = Owner} ->
            {known, remove(Number, Owner, Streams)};
        #entry{kind = Kind, owner = {moving, _, Ref, _, false}} ->
            {gone, Kind, gone(Number, Streams)};
        #entry{kind = Kind, owner = {open, _, Ref}} ->
            {gone, Kind, gone(Number, Streams)};
        _ -> {known, Streams}
    end.

%% @doc The owner has told the app itself that it is gone.
-spec closed(pos_integer(), streams()) -> streams().
closed(Number, Streams) ->
    gone(Number, Streams).

gone(Number, Streams) ->
    case entry(Number, Streams) of
        #entry{owner = Owner} = Entry ->
            forget(Owner),
            put_entry(Number, Entry#entry{owner = gone}, Streams);
        none ->
            Streams
    end.

%% @doc Send a frame to the owner of its stream; dropped when the owner is gone.
-spec deliver(pos_integer(), Code :: byte(), Frame :: binary(), streams()) ->
    {ok, streams()} | {error, fault()}.
deliver(Number, Code, Frame, Streams) ->
    case entry(Number, Streams) of
        none -> over(Number, Streams);
        #entry{owner = {moving, _, _, _, true}} -> {error, stream_is_over};
        Entry -> deliver(Number, Code, Frame, Entry, Streams)
    end.

deliver(Number, Code, Frame, #entry{kind = Kind, phase = Phase} = Entry, Streams) ->
    case next(Kind, Phase, Code, Frame) of
        out_of_order -> {error, out_of_order};
        Next -> paid(hornbeam_account:pay(Code, Frame, Entry#entry.account), Number, Frame,
                     in_phase(Next, Entry), Entry, Streams)
    end.

next(_Kind, Phase, ?CREDIT, _Frame) -> Phase;
next(websocket, _Phase, ?MOVED, _Frame) -> said;
next(websocket, accepted, ?SEND_TEXT, _Frame) -> accepted;
next(websocket, accepted, ?SEND_BYTES, _Frame) -> accepted;
next(websocket, accepted, ?CLOSE, _Frame) -> said;
next(websocket, asked, ?ACCEPT, _Frame) -> accepted;
next(websocket, asked, ?CLOSE, _Frame) -> said;
next(_Kind, asked, ?RESPONSE_START, Frame) -> after_part(Frame);
next(_Kind, responding, ?RESPONSE_BODY, Frame) -> after_part(Frame);
next(_Kind, _Phase, _Code, _Frame) -> out_of_order.

%% Both messages of a response end with `more', a bool.
after_part(Frame) ->
    case binary:last(Frame) of
        16#c2 -> said;
        _ -> responding
    end.

in_phase(Phase, #entry{phase = Phase} = Entry) -> Entry;
in_phase(Phase, Entry) -> Entry#entry{phase = Phase}.

paid(overspent, _Number, _Frame, _Entry, _Before, _Streams) ->
    {error, overspent};
paid(ok, Number, Frame, #entry{owner = {moving, Owner, Ref, Waiting, false}} = Entry, _, Streams) ->
    Moving = {moving, Owner, Ref, [Frame | Waiting], false},
    {ok, put_entry(Number, Entry#entry{owner = Moving}, Streams)};
paid(ok, Number, Frame, Entry, Before, Streams) ->
    _ = [send(Owner, Number, Frame) || {open, Owner, _} <- [Entry#entry.owner]],
    {ok, put_changed(Number, Entry, Before, Streams)}.

%% Most messages change nothing.
put_changed(_Number, Entry, Entry, Streams) -> Streams;
put_changed(Number, Entry, _Before, Streams) -> put_entry(Number, Entry, Streams).

%% @doc Python has given a stream away: its owner gets the frame that says so, and no other.
-spec moved(pos_integer(), Frame :: binary(), streams()) -> {ok, streams()} | {error, fault()}.
moved(Number, Frame, Streams0) ->
    case deliver(Number, ?MOVED, Frame, Streams0) of
        {ok, Streams} -> {ok, gone(Number, Streams)};
        {error, _} = Error -> Error
    end.

%% @doc The app has ended a stream; its owner gets the frame that says so.
-spec ended(pos_integer(), Frame :: binary(), streams()) -> {ok, streams()} | {error, fault()}.
ended(Number, Frame, Streams) ->
    case entry(Number, Streams) of
        #entry{owner = {moving, Owner, Ref, Waiting, false}} = Entry ->
            Moving = {moving, Owner, Ref, [Frame | Waiting], true},
            {ok, put_entry(Number, Entry#entry{owner = Moving}, Streams)};
        #entry{owner = {open, Pid, _} = Owner} ->
            send(Pid, Number, Frame),
            {ok, remove(Number, Owner, Streams)};
        #entry{owner = gone} ->
            {ok, remove(Number, gone, Streams)};
        _ ->
            over(Number, Streams)
    end.

over(Number, Streams) ->
    case is_known(Number, Streams) of
        true -> {error, stream_is_over};
        false -> {error, no_such_stream}
    end.

%% @doc Whether a stream is open or was. An op may come after its stream's end: it was made in
%% another thread.
-spec is_known(pos_integer(), streams()) -> boolean().
is_known(Number, #streams{highest = Highest}) ->
    Number =< Highest.

%% @doc The processes that own streams of a kind.
-spec owners(hornbeam_stream:kind(), streams()) -> [pid()].
owners(Kind, #streams{entries = Entries}) ->
    [element(2, Owner) || #entry{kind = K, owner = Owner} <- maps:values(Entries), K =:= Kind,
                          Owner =/= gone].

%% @doc The WebSockets that are open, with their connections' processes.
-spec sockets(streams()) -> [{pos_integer(), pid()}].
sockets(#streams{entries = Entries}) ->
    [{Number, Owner} || {Number, #entry{kind = websocket, accepted = true,
                                        owner = {open, Owner, _}}} <- maps:to_list(Entries)].

%% @doc The client's side of a stream.
-spec client(pos_integer(), streams()) -> client().
client(Number, Streams) ->
    case entry(Number, Streams) of
        #entry{owner = gone} -> gone;
        #entry{kind = Kind, client = Client, accepted = true} -> {open, Kind, Client};
        #entry{kind = Kind, client = Client} -> {asked, Kind, Client};
        none -> gone
    end.

send(Owner, Number, Frame) ->
    Owner ! {stream, Number, Frame},
    ok.

forget(gone) -> true;
forget(Owner) -> erlang:demonitor(element(3, Owner), [flush]).

entry(Number, #streams{entries = Entries}) ->
    maps:get(Number, Entries, none).

put_entry(Number, Entry, #streams{entries = Entries} = Streams) ->
    Streams#streams{entries = Entries#{Number => Entry}}.

remove(Number, Owner, #streams{entries = Entries} = Streams) ->
    forget(Owner),
    Streams#streams{entries = maps:remove(Number, Entries)}.
