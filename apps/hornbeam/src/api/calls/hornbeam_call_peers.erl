%% What the other nodes offer to be called, functions and hooks, and calls of it there.
%%
%% No process: hornbeam_call_service tells the other nodes what is offered here, keeps in the table
%% what they tell, and serves their calls. Who calls waits in a process of its own.
-module(hornbeam_call_peers).

-export([new_table/0, changed/1, offering/1, first/3, cast/2, stream/3]).
-export([set_all/2, set/3, forget/1, keep/1]).
-export([room/0, failure/2]).
-export_type([offer/0, question/0, failure/0]).

-type offer() :: {function | hook, Name :: binary()}.

-type question() ::
    {function, Name :: binary(), Args :: binary(), timeout()}
    | {hook, Name :: binary(), Action :: binary(), hornbeam_value:value(), hornbeam_value:value(),
       timeout()}
    | {stream, Name :: binary(), Action :: binary(), hornbeam_value:value(),
       hornbeam_value:value()}
    | {cast, Name :: binary(), Args :: binary()}.
%% It is answered with what the call would give there, or with `not_here'. A stream is answered for
%% each `next' with what {@link hornbeam_hook_stream:next/2} gives.

-type failure() :: {node_down | node_full | node_failed, node()} | timeout | overloaded.
%% `node_down': out of reach before it answered; whether it was done is not known. `node_full': too
%% much waits for it, and nothing was sent. `node_failed': what it did crashed, or it is of another
%% version.

%% Rows: {{offer(), peer()}}.
-define(TABLE, ?MODULE).

-define(ROOM, calls).

%% @doc Make the table; its owner must outlive everybody.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, ordered_set, {read_concurrency, true}]),
    ok.

%% @doc What nodes call it.
-spec room() -> atom().
room() -> ?ROOM.

%% @doc Something is offered here from now on, or no more: said after it, by who did that. Never
%% waits.
-spec changed(offer()) -> ok.
changed(Offer) ->
    case whereis(hornbeam_call_service) of
        undefined -> ok;
        Pid -> Pid ! {changed, Offer}, ok
    end.

%% What they tell.

%% @doc A peer offers this, and nothing else.
-spec set_all(hornbeam_links:peer(), [offer()]) -> ok.
set_all(Peer, Offers) ->
    lists:foreach(fun(Offer) -> set(Peer, Offer, true) end, Offers),
    Offered = maps:from_keys(Offers, []),
    lists:foreach(fun(Offer) -> set(Peer, Offer, is_map_key(Offer, Offered)) end, of_peer(Peer)).

%% @doc A peer offers something, or does no more.
-spec set(hornbeam_links:peer(), offer(), IsOffered :: boolean()) -> ok.
set(Peer, Offer, true) ->
    true = ets:insert(?TABLE, {{Offer, Peer}}),
    ok;
set(Peer, Offer, false) ->
    true = ets:delete(?TABLE, {Offer, Peer}),
    ok.

%% @doc A peer is gone.
-spec forget(hornbeam_links:peer()) -> ok.
forget(Peer) ->
    lists:foreach(fun(Offer) -> set(Peer, Offer, false) end, of_peer(Peer)).

%% @doc Forget all others.
-spec keep([hornbeam_links:peer()]) -> ok.
keep(Peers) ->
    Known = lists:usort([Peer || {{_, Peer}} <- ets:tab2list(?TABLE)]),
    lists:foreach(fun forget/1, Known -- Peers).

of_peer(Peer) ->
    ets:select(?TABLE, [{{{'$1', Peer}}, [], ['$1']}]).

%% Calls.

%% @doc The peers that offer something, in an order that is another each time.
-spec offering(offer()) -> [hornbeam_links:peer()].
offering(Offer) ->
    Peers = ets:select(?TABLE, [{{{Offer, '$1'}}, [], ['$1']}]),
    [Peer || {_, Peer} <- lists:sort([{rand:uniform(), Peer} || Peer <- Peers])].

%% @doc Call the first of these peers that has it, and wait at most `Timeout' ms in all. Asks the
%% next one only where nothing has been done. `none': none has it any more.
-spec first([hornbeam_links:peer()], question(), timeout()) -> Answer :: term() | {error, failure()}
                                                            | none.
first(Peers, Question, Timeout) ->
    first(Peers, Question, deadline(Timeout), none).

first([], _Question, _Deadline, Before) ->
    Before;
first([{Node, _} = Peer | Others], Question, Deadline, Before) ->
    case hornbeam_link_calls:ask(Peer, ?ROOM, Question, left(Deadline)) of
        {ok, {answer, Answer}} -> Answer;
        {ok, not_here} -> first(Others, Question, Deadline, Before);
        {error, Why} when Why =:= full; Why =:= overloaded ->
            first(Others, Question, Deadline, {error, failure(Why, Node)});
        {error, Why} -> {error, failure(Why, Node)}
    end.

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

%% @doc Why a call of a node has failed.
-spec failure(hornbeam_link_calls:failure(), node()) -> failure().
failure(timeout, _Node) -> timeout;
failure(overloaded, _Node) -> overloaded;
failure(down, Node) -> {node_down, Node};
failure(full, Node) -> {node_full, Node};
failure(_CrashedOrNotUnderstood, Node) -> {node_failed, Node}.

%% @doc Call the first of these peers and wait for nothing.
-spec cast([hornbeam_links:peer()], question()) -> ok | {error, failure()} | none.
cast([], _Question) ->
    none;
cast([{Node, _} = Peer | Others], Question) ->
    case hornbeam_link_calls:cast(Peer, ?ROOM, Question) of
        ok -> ok;
        {error, Why} when Others =:= [] -> {error, failure(Why, Node)};
        {error, _} -> cast(Others, Question)
    end.

%% @doc Read a stream of the first of these peers that has it, for a process: each `next' is
%% answered by `{items, self(), What}'. It ends with the calling process.
-spec stream([hornbeam_links:peer()], question(), Reader :: pid()) -> no_return().
stream([], _Question, Reader) ->
    receive next -> tell(Reader, {error, no_hook}) end;
stream([{Node, _} = Peer | Others], Question, Reader) ->
    receive next -> ok end,
    case hornbeam_link_calls:start(Peer, ?ROOM, Question) of
        {ok, Call} -> begun(hornbeam_link_calls:await(Call, infinity), Call, Peer, Others,
                            Question, Reader);
        {error, Why} when Others =:= [] -> tell(Reader, {error, failure(Why, Node)});
        {error, _} -> next_stream(Others, Question, Reader)
    end.

-spec next_stream([hornbeam_links:peer()], question(), pid()) -> no_return().
next_stream(Peers, Question, Reader) ->
    self() ! next,
    stream(Peers, Question, Reader).

begun({ok, not_here}, Call, _Peer, Others, Question, Reader) ->
    hornbeam_link_calls:stop(Call),
    next_stream(Others, Question, Reader);
begun(Outcome, Call, {Node, _}, _Others, _Question, Reader) ->
    read(Outcome, Call, Node, Reader).

read({ok, {answer, {ok, [_ | _]} = Items}}, Call, Node, Reader) ->
    Reader ! {items, self(), Items},
    receive next -> ok end,
    case hornbeam_link_calls:more(Call, next) of
        ok -> read(hornbeam_link_calls:await(Call, infinity), Call, Node, Reader);
        {error, Why} -> tell(Reader, {error, failure(Why, Node)})
    end;
read({ok, {answer, End}}, _Call, _Node, Reader) ->
    tell(Reader, End);
read({error, Why}, _Call, Node, Reader) ->
    tell(Reader, {error, failure(Why, Node)}).

-spec tell(pid(), term()) -> no_return().
tell(Reader, What) ->
    Reader ! {items, self(), What},
    exit(normal).
