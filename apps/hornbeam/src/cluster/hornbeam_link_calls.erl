%% Calls to a room of another node: a question, and one answer or several.
%%
%%   who asks ──ask──▶ a process for it, which runs the room's `serve'
%%            ◀─answer─┘ … ──more──▶ … ◀─answer─
%%            ──stop──▶ that process ends, if it may be ended
%%
%% All of it goes over the links, so who asks waits in a process of its own, for no longer than it
%% says, and hears when the peer is out of reach. Whoever asks and dies has asked for nothing: a
%% guard tells the peer. It knows nothing of what is asked; a room that is called joins with a
%% function that gives its events to {@link heard/3}.
-module(hornbeam_link_calls).

-include("hornbeam_link.hrl").

-export([new_tables/0, heard/3]).
-export([ask/4, start/3, await/2, more/2, stop/1, cast/3, note/3]).
-export([answer/2, await_more/1, may_be_ended/1, serving/1]).
-export([guard/2, serve/3]).
-export_type([call/0, served/0, failure/0, room/0]).

-type key() :: {Room :: atom(), hornbeam_links:peer(),
                Id :: non_neg_integer() | {cast, pos_integer()}}.
%% Calls are numbered by who asks, and casts here.

-record(call, {
    key :: key(),
    alias :: reference(),
    guard :: pid()
}).
-opaque call() :: #call{}.

-opaque served() :: key().

-type failure() :: timeout | down | full | overloaded | crashed | not_understood.
%% `down': the peer is out of reach; whether it has done what was asked is not known. `full': so
%% much waits for the peer that the question was not sent. `overloaded': it serves too many, and
%% has not begun. `crashed': it failed, and its log says how.

-type room() :: {Room :: atom(), Serve :: {module(), Function :: atom()}}.
%% The function is called with a {@type served()} and the question, in a process of its own.

%% Rows: {key(), Alias}.
-define(ASKED, hornbeam_link_calls_asked).
%% Rows: {key(), pid(), MayBeEnded :: boolean()}.
-define(SERVED, hornbeam_link_calls_served).

%% Kinds of messages, the first byte of each.
-define(NOTE, 0).
-define(ASK, 1).
-define(ANSWER, 2).
-define(MORE, 3).
-define(STOP, 4).
-define(FAILED, 5).
-define(CAST, 6).

%% What is served at a time, for all peers.
-define(MOST, 10000).

%% An answer or an end that finds no room is tried again after so long (ms).
-define(AGAIN, 50).

%% @doc Make the tables; their owner must outlive everybody.
-spec new_tables() -> ok.
new_tables() ->
    lists:foreach(fun(Name) ->
        Name = ets:new(Name, [named_table, public, ordered_set, {write_concurrency, true}])
    end, [?ASKED, ?SERVED]).

%% @doc What a room's function does with an event. Notes are given back, for the room itself.
-spec heard(hornbeam_links:event(), room(), fun((hornbeam_links:peer(), term()) -> term())) -> ok.
heard({?TAG, message, Peer, <<Kind, Id:64, Body/binary>>}, {Room, _} = Called, Note) ->
    message(Kind, {Room, Peer, Id}, Body, Called, Note);
heard({?TAG, message, _Peer, _Message}, {Room, _}, _Note) ->
    hornbeam_link_queue:count_loss(Room, not_understood);
heard({?TAG, down, Peer}, {Room, _}, _Note) ->
    down(Room, Peer);
heard({?TAG, _UpOrLost, _Peer}, _Called, _Note) ->
    ok.

message(?NOTE, {Room, Peer, _}, Body, _Called, Note) ->
    case read(Body) of
        {ok, Term} -> _ = Note(Peer, Term), ok;
        error -> hornbeam_link_queue:count_loss(Room, not_understood)
    end;
message(?ASK, Key, Body, Called, _Note) ->
    asked(ets:info(?SERVED, size) < ?MOST, Key, Body, Called);
message(?CAST, {Room, Peer, _}, Body, Called, _Note) ->
    Key = {Room, Peer, {cast, erlang:unique_integer([positive])}},
    asked(ets:info(?SERVED, size) < ?MOST, Key, Body, Called);
message(?ANSWER, Key, Body, _Called, _Note) ->
    give(Key, {answer, Body});
message(?FAILED, Key, Body, _Called, _Note) ->
    give(Key, {failed, Body});
message(?MORE, Key, Body, _Called, _Note) ->
    _ = [Pid ! {more, Key, Body} || {_, Pid, _} <- ets:lookup(?SERVED, Key)],
    ok;
message(?STOP, Key, _Body, _Called, _Note) ->
    lists:foreach(fun ended/1, ets:take(?SERVED, Key));
message(_OfALaterVersion, {Room, _, _}, _Body, _Called, _Note) ->
    hornbeam_link_queue:count_loss(Room, not_understood).

down(Room, Peer) ->
    Of = {Room, Peer, '_'},
    lists:foreach(fun({Key, Alias}) ->
        _ = ets:delete(?ASKED, Key),
        _ = Alias ! {Alias, down}
    end, ets:match_object(?ASKED, {Of, '_'})),
    lists:foreach(fun({Key, _, _}) -> lists:foreach(fun ended/1, ets:take(?SERVED, Key)) end,
                  ets:match_object(?SERVED, {Of, '_', '_'})).

%% Who asks.

%% @doc Ask a peer, and wait at most `Timeout' ms for its one answer.
-spec ask(hornbeam_links:peer(), Room :: atom(), Question :: term(), timeout()) ->
    {ok, term()} | {error, failure()}.
ask(Peer, Room, Question, Timeout) ->
    case start(Peer, Room, Question) of
        {ok, Call} -> asked_for(await(Call, Timeout), Call);
        {error, _} = Error -> Error
    end.

asked_for({error, timeout} = Error, Call) -> stop(Call), Error;
asked_for(Outcome, Call) -> forget(Call), Outcome.

%% @doc Ask a peer that may have several answers. It is over with {@link stop/1}, or with the
%% calling process.
-spec start(hornbeam_links:peer(), Room :: atom(), Question :: term()) ->
    {ok, call()} | {error, full | down}.
start(Peer, Room, Question) ->
    Key = {Room, Peer, erlang:unique_integer([positive])},
    Alias = erlang:alias(),
    %% Before it is sent, or its end could be missed.
    true = ets:insert(?ASKED, {Key, Alias}),
    Call = #call{key = Key, alias = Alias, guard = spawn(?MODULE, guard, [self(), Key])},
    case send(?ASK, Key, Question) of
        ok ->
            {ok, Call};
        lost ->
            forget(Call),
            {error, why_lost(Key)}
    end.

%% @doc Wait at most `Timeout' ms for an answer.
-spec await(call(), timeout()) -> {ok, term()} | {error, failure()}.
await(#call{alias = Alias}, Timeout) ->
    receive
        {Alias, {answer, Body}} -> answered(read(Body));
        {Alias, {failed, Body}} -> failed(read(Body));
        {Alias, down} -> {error, down}
    after Timeout ->
        {error, timeout}
    end.

answered({ok, Answer}) -> {ok, Answer};
answered(error) -> {error, not_understood}.

failed({ok, overloaded}) -> {error, overloaded};
failed(_Other) -> {error, crashed}.

%% @doc Tell the peer's process something it waits for.
-spec more(call(), term()) -> ok | {error, full | down}.
more(#call{key = Key}, Term) ->
    case send(?MORE, Key, Term) of
        ok -> ok;
        lost -> {error, why_lost(Key)}
    end.

%% @doc Wait no longer, and let the peer end what it does for it.
-spec stop(call()) -> ok.
stop(#call{key = Key} = Call) ->
    case send(?STOP, Key, none) of
        ok -> forget(Call);
        lost -> forget(Call, stop)
    end.

forget(Call) ->
    forget(Call, over).

forget(#call{key = Key, alias = Alias, guard = Guard}, For) ->
    true = ets:delete(?ASKED, Key),
    Guard ! For,
    _ = erlang:unalias(Alias),
    flush(Alias).

flush(Alias) ->
    receive
        {Alias, _} -> flush(Alias)
    after 0 ->
        ok
    end.

%% @doc Let a peer serve something without an answer.
-spec cast(hornbeam_links:peer(), Room :: atom(), Question :: term()) ->
    ok | {error, full | down}.
cast(Peer, Room, Question) ->
    Key = {Room, Peer, 0},
    case send(?CAST, Key, Question) of
        ok -> ok;
        lost -> {error, why_lost(Key)}
    end.

%% @doc Tell the room itself something.
-spec note(hornbeam_links:peer(), Room :: atom(), term()) -> ok | lost.
note(Peer, Room, Term) ->
    send(?NOTE, {Room, Peer, 0}, Term).

%% @private
-spec guard(Asker :: pid(), key()) -> ok.
guard(Asker, Key) ->
    Ref = erlang:monitor(process, Asker),
    receive
        over ->
            ok;
        stop ->
            send_surely(?STOP, Key, none);
        {'DOWN', Ref, process, _, _} ->
            true = ets:delete(?ASKED, Key),
            send_surely(?STOP, Key, none)
    end.

give(Key, What) ->
    _ = [Alias ! {Alias, What} || {_, Alias} <- ets:lookup(?ASKED, Key)],
    ok.

%% Who serves.

asked(true, Key, Body, {_Room, Serve}) ->
    Pid = proc_lib:spawn(?MODULE, serve, [Key, Body, Serve]),
    %% It begins when it can be found.
    true = ets:insert(?SERVED, {Key, Pid, false}),
    Pid ! {begin_serving, Key},
    ok;
asked(false, Key, _Body, _Called) ->
    fail(Key, overloaded).

%% In the process that hears the peer, which must not wait.
fail({_Room, _Peer, {cast, _}}, _Why) ->
    ok;
fail(Key, Why) ->
    _ = send(?FAILED, Key, Why),
    ok.

crashed({_Room, _Peer, {cast, _}}) -> ok;
crashed(Key) -> send_surely(?FAILED, Key, crashed).

%% @private
-spec serve(key(), binary(), {module(), atom()}) -> ok.
serve(Key, Body, {Module, Function}) ->
    receive {begin_serving, Key} -> ok end,
    try
        {ok, Question} = read(Body),
        _ = Module:Function(Key, Question),
        ok
    catch
        Class:Reason:Stack ->
            crashed(Key),
            erlang:raise(Class, Reason, Stack)
    after
        ets:delete(?SERVED, Key)
    end.

ended({_Key, Pid, true}) -> exit(Pid, kill);
ended({Key, Pid, false}) -> Pid ! {ended, Key}.

%% @doc From now on the calling process is killed when nobody waits for its answer any more. It
%% must have nothing that it would have to give back.
-spec may_be_ended(served()) -> ok.
may_be_ended(Key) ->
    case ets:update_element(?SERVED, Key, {3, true}) of
        true -> ok;
        false -> exit(normal)
    end.

%% @doc Answer who has asked. Waits while there is no room for it, as long as the peer is there.
-spec answer(served(), term()) -> ok.
answer({_Room, _Peer, {cast, _}}, _Answer) ->
    ok;
answer(Key, Answer) ->
    send_surely(?ANSWER, Key, Answer).

%% @doc Wait for what who asks has to say. Ends the calling process when nobody asks any more.
-spec await_more(served()) -> term().
await_more(Key) ->
    receive
        {more, Key, Body} -> {ok, Term} = read(Body), Term;
        {ended, Key} -> exit(normal)
    end.

%% @doc How much is being served for peers by a room.
-spec serving(Room :: atom()) -> non_neg_integer().
serving(Room) ->
    ets:select_count(?SERVED, [{{{Room, '_', '_'}, '_', '_'}, [], [true]}]).

%% Bytes.

send(Kind, {Room, Peer, _} = Key, Term) ->
    hornbeam_links:send_packed(Peer, Room, pack(Kind, Key, Term)).

%% Waits while there is no room, as long as the peer is there.
send_surely(Kind, Key, Term) ->
    send_packed_surely(Key, pack(Kind, Key, Term)).

send_packed_surely({Room, Peer, _} = Key, Packed) ->
    case hornbeam_links:send_packed(Peer, Room, Packed) of
        ok -> ok;
        lost -> send_again(why_lost(Key), Key, Packed)
    end.

send_again(down, _Key, _Packed) ->
    ok;
send_again(full, Key, Packed) ->
    receive after ?AGAIN -> send_packed_surely(Key, Packed) end.

pack(Kind, {_Room, _Peer, Id}, Term) ->
    <<Kind, Id:64, (term_to_binary(Term))/binary>>.

read(Body) ->
    try
        {ok, binary_to_term(Body)}
    catch
        error:badarg -> error
    end.

why_lost({Room, Peer, _}) ->
    case lists:member(Peer, hornbeam_links:peers(Room)) of
        true -> full;
        false -> down
    end.
