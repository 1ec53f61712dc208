%% The rows that a room has on this node, kept alike on the others: part of the room's process.
%%
%% Each side asks the other for all (`start'), and gets it in parts, in the order of the keys. A
%% part says all that there is between two keys: what is not in it is gone. Then come changes, of
%% each key the last one.
%%
%%        ┌── start ──▶ parts ──the last one is answered──▶ changes
%%        └──── something was lost, or more has changed than is kept ────┘
%%
%% One message is under way to a peer, of about ?PART bytes at most. The next one follows when it is
%% answered, and not before its bytes have had their time (?RATE); changes are gathered meanwhile.
%% So a peer that stands still costs one message, and a row that changes for ever one row each
%% ?GATHER ms. What comes is good whenever it comes: nobody need know to which question it is the
%% answer.
%%
%% What a peer has said is good for ?GRACE ms after it is down: a link that is cut for a moment
%% changes nothing. Of a node that has begun another life, the one before is over at once.
-module(hornbeam_replica).

-export([join/2, is_up/2, changed/2, handle/2]).
-export_type([replica/0, key/0, row/0, position/0, news/0]).

-type key() :: term().
%% Any term, in whose order keys are said.
-type row() :: term().
-type peer() :: hornbeam_links:peer().
-type position() :: start | {key, key()}.

-type news() ::
    {part, peer(), From :: position(), To :: {key, key()} | last, [{key(), row()}]}
    | {changes, peer(), [{key(), row() | gone}]}
    | {down, peer()}.
%% `part': of the keys behind `From', up to `To', the peer has these and no others. `down': what it
%% said is to be dropped.

%% The first own key behind a position.
-callback next(position()) -> {key, key()} | last.
%% What is to be said of a key now, and about how many bytes that is.
-callback row(key()) -> {row(), Bytes :: non_neg_integer()} | gone.

-record(peer, {
    has_asked = false :: boolean(),
    %% behind which nothing was said; `last': all was
    said = last :: position() | last,
    %% keys up to there that have changed since
    changed = #{} :: #{key() => []},
    %% the number of the message that is not answered
    under_way = none :: none | integer(),
    is_resting = false :: boolean()
}).

-record(replica, {
    room :: atom(),
    source :: module(),
    peers = #{} :: #{peer() => #peer{}},
    %% those that are down since a moment
    leaving = #{} :: #{peer() => reference()}
}).
-opaque replica() :: #replica{}.

%% About so many bytes are said in one message.
-define(PART, 65536).
%% Bytes a second to one peer.
-define(RATE, 8388608).
%% Changes are gathered for so long (ms) behind those that were said last.
-define(GATHER, 50).
%% More changed keys than that are not kept: all is said again.
-define(MOST_CHANGED, 10000).
%% What a link could not take is said again after so long (ms).
-define(AGAIN, 500).
%% What a peer has said is good for so long (ms) after it is down.
-define(GRACE, 1000).
%% Bytes of a key, and of a row that is gone (about).
-define(KEY, 32).

%% What another version says may be anything.
-define(IS_KEY(Position), (tuple_size(Position) =:= 2 andalso element(1, Position) =:= key)).
-define(IS_FROM(From), (From =:= start orelse ?IS_KEY(From))).
-define(IS_TO(To), (To =:= last orelse ?IS_KEY(To))).

%% @doc Join a room, whose own rows `Source' knows. The calling process gives all messages that it
%% does not know to {@link handle/2}.
-spec join(Room :: atom(), Source :: module()) -> replica().
join(Room, Source) ->
    Replica = #replica{room = Room, source = Source},
    lists:foldl(fun greeted/2, Replica, hornbeam_links:join(Room)).

%% @doc Whether a peer is there.
-spec is_up(peer(), replica()) -> boolean().
is_up(Peer, #replica{peers = Peers}) ->
    is_map_key(Peer, Peers).

%% @doc An own row has come, changed or gone. Never waits.
-spec changed(key(), replica()) -> replica().
changed(Key, #replica{peers = Peers} = Replica) ->
    maps:fold(fun(Peer, State, Acc) -> update(Peer, note(Key, State), Acc) end, Replica, Peers).

note(_Key, #peer{has_asked = false} = State) -> State;
note(_Key, #peer{said = start} = State) -> State;
note(Key, #peer{said = {key, Said}} = State) when Key > Said -> State;
note(_Key, #peer{changed = Changed} = State) when map_size(Changed) >= ?MOST_CHANGED ->
    State#peer{said = start, changed = #{}};
note(Key, #peer{changed = Changed} = State) -> State#peer{changed = Changed#{Key => []}}.

%% @doc What a message of the calling process says to its room. Messages that are none of ours say
%% nothing.
-spec handle(term(), replica()) -> {[news()], replica()}.
handle({hornbeam_link, up, Peer}, Replica) ->
    up(Peer, Replica);
handle({hornbeam_link, down, Peer}, Replica) ->
    {[], down(Peer, Replica)};
handle({hornbeam_link, lost, Peer}, Replica) ->
    _ = erlang:send_after(?AGAIN, self(), {?MODULE, again, Peer}),
    {[], Replica};
handle({hornbeam_link, message, Peer, Message}, #replica{peers = Peers} = Replica) ->
    case Peers of
        #{Peer := State} -> heard(Message, Peer, State, Replica);
        #{} -> {[], Replica}
    end;
handle({timeout, Timer, {?MODULE, over, Peer}}, #replica{leaving = Leaving} = Replica) ->
    case Leaving of
        #{Peer := Timer} -> {[{down, Peer}], Replica#replica{leaving = maps:remove(Peer, Leaving)}};
        #{} -> {[], Replica}
    end;
handle({?MODULE, What, Peer}, #replica{peers = Peers} = Replica) ->
    case Peers of
        #{Peer := State} -> {[], due(What, Peer, State, Replica)};
        #{} -> {[], Replica}
    end;
handle(_Stray, Replica) ->
    {[], Replica}.

up({Node, _} = Peer, #replica{leaving = Leaving} = Replica) ->
    Over = [Before || {Of, _} = Before <- maps:keys(Leaving), Of =:= Node, Before =/= Peer],
    {[{down, Before} || Before <- Over],
     greeted(Peer, Replica#replica{leaving = maps:without([Peer | Over], Leaving)})}.

greeted(Peer, #replica{peers = Peers} = Replica) ->
    send(Peer, start, Replica),
    Replica#replica{peers = Peers#{Peer => #peer{}}}.

down(Peer, #replica{peers = Peers, leaving = Leaving} = Replica) ->
    Timer = erlang:start_timer(?GRACE, self(), {?MODULE, over, Peer}),
    Replica#replica{peers = maps:remove(Peer, Peers), leaving = Leaving#{Peer => Timer}}.

%% It is not known what was lost: what was said, asked or answered. So all is done again.
due(again, Peer, State, Replica) ->
    send(Peer, start, Replica),
    update(Peer, began(State), Replica);
due(rested, Peer, State, Replica) ->
    update(Peer, State#peer{is_resting = false}, Replica).

began(#peer{has_asked = true} = State) ->
    State#peer{said = start, changed = #{}, under_way = none};
began(State) ->
    State.

heard(start, Peer, State, Replica) ->
    {[], update(Peer, began(State#peer{has_asked = true}), Replica)};
heard({part, Number, From, To, Rows}, Peer, _State, Replica)
        when ?IS_FROM(From), ?IS_TO(To), is_list(Rows) ->
    send(Peer, {answer, Number}, Replica),
    {[{part, Peer, From, To, Pairs} || Pairs <- pairs(Rows, Replica)], Replica};
heard({changes, Number, Changes}, Peer, _State, Replica) when is_list(Changes) ->
    send(Peer, {answer, Number}, Replica),
    {[{changes, Peer, Pairs} || Pairs <- pairs(Changes, Replica)], Replica};
heard({answer, Number}, Peer, #peer{under_way = Number} = State, Replica) ->
    {[], update(Peer, State#peer{under_way = none}, Replica)};
heard({answer, _Before}, _Peer, _State, Replica) ->
    {[], Replica};
heard(_Unknown, _Peer, _State, Replica) ->
    not_understood(1, Replica),
    {[], Replica}.

%% What its own version says besides is passed over.
pairs(Said, Replica) when length(Said) >= 0 ->
    {Pairs, Others} = lists:partition(fun is_pair/1, Said),
    not_understood(length(Others), Replica),
    [Pairs];
pairs(_Improper, Replica) ->
    not_understood(1, Replica),
    [].

is_pair(Said) -> is_tuple(Said) andalso tuple_size(Said) =:= 2.

not_understood(Times, #replica{room = Room}) ->
    hornbeam_link_queue:count_loss(Room, not_understood, Times).

update(Peer, State, #replica{peers = Peers} = Replica) ->
    Replica#replica{peers = Peers#{Peer => said_more(Peer, State, Replica)}}.

said_more(Peer, #peer{has_asked = true, under_way = none, is_resting = false} = State, Replica) ->
    say(Peer, State, Replica);
said_more(_Peer, State, _Replica) ->
    State.

say(_Peer, #peer{said = last, changed = Changed} = State, _Replica) when Changed =:= #{} ->
    State;
say(Peer, #peer{said = last, changed = Changed} = State, #replica{source = Source} = Replica) ->
    {Rows, Bytes} = changes(maps:next(maps:iterator(Changed)), Source, [], 0),
    Left = maps:without([Key || {Key, _} <- Rows], Changed),
    Number = erlang:unique_integer(),
    send(Peer, {changes, Number, Rows}, Replica),
    rest(Peer, max(gather(Left), pause(Bytes))),
    State#peer{changed = Left, under_way = Number, is_resting = true};
say(Peer, #peer{said = From} = State, #replica{source = Source} = Replica) ->
    {Rows, Bytes, To} = part(From, Source, [], 0),
    Number = erlang:unique_integer(),
    send(Peer, {part, Number, From, To, Rows}, Replica),
    rest(Peer, pause(Bytes)),
    State#peer{said = To, under_way = Number, is_resting = true}.

rest(Peer, Pause) ->
    _ = erlang:send_after(Pause, self(), {?MODULE, rested, Peer}),
    ok.

gather(Left) when map_size(Left) =:= 0 -> ?GATHER;
gather(_Left) -> 0.

pause(Bytes) -> 1 + Bytes * 1000 div ?RATE.

changes({Key, [], Iterator}, Source, Rows, Bytes) when Bytes < ?PART ->
    {Row, More} = changed_row(Source:row(Key)),
    changes(maps:next(Iterator), Source, [{Key, Row} | Rows], Bytes + More);
changes(_NoneOrEnough, _Source, Rows, Bytes) ->
    {Rows, Bytes}.

changed_row(gone) -> {gone, ?KEY};
changed_row({Row, Bytes}) -> {Row, ?KEY + Bytes}.

part(From, Source, Rows, Bytes) when Bytes < ?PART ->
    case Source:next(From) of
        {key, Key} = Position ->
            {More, MoreBytes} = part_row(Key, Source:row(Key)),
            part(Position, Source, More ++ Rows, Bytes + MoreBytes);
        last ->
            {Rows, Bytes, last}
    end;
part(From, _Source, Rows, Bytes) ->
    {Rows, Bytes, From}.

part_row(_Key, gone) -> {[], ?KEY};
part_row(Key, {Row, Bytes}) -> {[{Key, Row}], ?KEY + Bytes}.

%% What is lost is said again: the link tells of it.
send(Peer, Message, #replica{room = Room}) ->
    _ = hornbeam_links:send(Peer, Room, Message),
    ok.
