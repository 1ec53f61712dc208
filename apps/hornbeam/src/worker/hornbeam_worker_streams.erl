%% The streams of one worker and the processes that own them.
%%
%%              hand_over            bind
%%   {open, P} ────────▶ {moving, P} ────▶ {open, P}
%%       │ owner gone          │ owner gone      (what Python says waits while it is moving)
%%       └──────▶ gone ◀───────┘
%%
%% A stream that Python has given away (moved/3) is gone for this worker. An entry is removed when
%% the app has ended the stream. It monitors and sends; it knows
%% neither the port nor what a frame says.
-module(hornbeam_worker_streams).

-export([new/0, open/4, open/5, hand_over/3, bind/3, owner_down/3, closed/2]).
-export([deliver/3, moved/3, ended/3]).
-export([owners/2, client/2]).
-export_type([streams/0, client/0]).

-type owner() :: {open, pid(), reference()}
               | {moving, pid(), reference(), Waiting :: [binary()], Ended :: boolean()}
               | gone.
-record(entry, {
    kind :: hornbeam_stream:kind(),
    client :: pid(),
    accepted = false :: boolean(),
    owner :: owner()
}).

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
    open(Kind, Number, Owner, Owner, Streams).

%% @doc The same, with another process that lives as long as the client's side.
-spec open(hornbeam_stream:kind(), pos_integer(), pid(), Client :: pid(), streams()) ->
    streams().
open(Kind, Number, Owner, Client, #streams{highest = Highest} = Streams) ->
    Entry = #entry{kind = Kind, client = Client, owner = {open, Owner, watch(Number, Owner)}},
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

%% @doc Send a frame to the owner of its stream. What the app says to a stream that is over is
%% dropped; a stream that was never opened is an error.
-spec deliver(pos_integer(), Frame :: binary(), streams()) ->
    {ok, streams()} | {error, {no_such_stream, pos_integer()}}.
deliver(Number, Frame, Streams) ->
    case entry(Number, Streams) of
        #entry{owner = {open, Owner, _}} ->
            send(Owner, Number, Frame),
            {ok, Streams};
        #entry{owner = {moving, Owner, Ref, Waiting, Ended}} = Entry ->
            Moving = {moving, Owner, Ref, [Frame | Waiting], Ended},
            {ok, put_entry(Number, Entry#entry{owner = Moving}, Streams)};
        #entry{owner = gone} ->
            {ok, Streams};
        none ->
            over(Number, Streams)
    end.

%% @doc Python has given a stream away: its owner gets the frame that says so, and no other.
-spec moved(pos_integer(), Frame :: binary(), streams()) ->
    {ok, streams()} | {error, {no_such_stream, pos_integer()}}.
moved(Number, Frame, Streams0) ->
    case deliver(Number, Frame, Streams0) of
        {ok, Streams} -> {ok, gone(Number, Streams)};
        {error, _} = Error -> Error
    end.

%% @doc The app has ended a stream; its owner gets the frame that says so.
-spec ended(pos_integer(), Frame :: binary(), streams()) ->
    {ended | over, streams()} | {error, {no_such_stream, pos_integer()}}.
ended(Number, Frame, Streams) ->
    case entry(Number, Streams) of
        #entry{owner = {moving, Owner, Ref, Waiting, false}} = Entry ->
            Moving = {moving, Owner, Ref, [Frame | Waiting], true},
            {ended, put_entry(Number, Entry#entry{owner = Moving}, Streams)};
        #entry{owner = {open, Pid, _} = Owner} ->
            send(Pid, Number, Frame),
            {ended, remove(Number, Owner, Streams)};
        #entry{owner = gone} ->
            {ended, remove(Number, gone, Streams)};
        _ ->
            case over(Number, Streams) of
                {ok, Streams} -> {over, Streams};
                Error -> Error
            end
    end.

over(Number, #streams{highest = Highest} = Streams) when Number =< Highest -> {ok, Streams};
over(Number, _Streams) -> {error, {no_such_stream, Number}}.

%% @doc The processes that own streams of a kind.
-spec owners(hornbeam_stream:kind(), streams()) -> [pid()].
owners(Kind, #streams{entries = Entries}) ->
    [element(2, Owner) || #entry{kind = K, owner = Owner} <- maps:values(Entries), K =:= Kind,
                          Owner =/= gone].

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
