%% Changes who is present: for this node's connections, which it watches, and for the other nodes,
%% which it tells and hears (hornbeam_replica).
%%
%% Whoever watches a topic is told by a process of its own (hornbeam_presence_announcer): what has
%% changed is gathered here until that has done with what it was given before. All that is not on
%% its way stands in tables; after a crash it goes on from there, and those who watch are told anew
%% who is present.
-module(hornbeam_presence_server).
-behaviour(gen_server).
-behaviour(hornbeam_replica).

-include("hornbeam_presence.hrl").

-export([start_link/0, track/5, update/5, untrack/3]).
-export([next/1, row/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([trust/0, failure/0]).

-type topic() :: hornbeam_presence_rows:topic().
-type key() :: hornbeam_presence_rows:key().
-type row() :: hornbeam_presence_rows:row().
-type id() :: hornbeam_presence_rows:id().

-type trust() :: limited | trusted.
%% Whether an owner may have no more than one connection.
-type failure() :: closed | not_present | {limit, hornbeam_quota:limit()}.

-record(state, {
    owners = #{} :: #{pid() => []},
    replica :: hornbeam_replica:replica(),
    announcer :: pid(),
    is_announcing = false :: boolean(),
    %% what those who watch know of a row, and what they may have seen of it since
    changes = #{} :: #{id() => {Known :: row() | none, Seen :: [row()]}}
}).

%% So many refs of one row are told as seen at most: then its ref stays, whatever its meta.
-define(MOST_SEEN, 32).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Let an owner be present until it ends, or change its meta; its ref.
-spec track(trust(), Owner :: pid(), topic(), key(), Meta :: binary()) ->
    {ok, Ref :: binary()} | {error, failure()}.
track(Trust, Owner, Topic, Key, Meta) ->
    call({track, Trust, Owner, Topic, Key, Meta}).

%% @doc Change the meta of an owner that is present; its ref.
-spec update(trust(), Owner :: pid(), topic(), key(), Meta :: binary()) ->
    {ok, Ref :: binary()} | {error, failure()}.
update(Trust, Owner, Topic, Key, Meta) ->
    call({update, Trust, Owner, Topic, Key, Meta}).

%% @doc Let an owner be present no more; whether it was.
-spec untrack(Owner :: pid(), topic(), key()) -> boolean().
untrack(Owner, Topic, Key) ->
    call({untrack, Owner, Topic, Key}).

%% The server waits for nobody, so its answer or its death comes soon; each of its requests may be
%% made twice.
call(Request) ->
    hornbeam_retry:until_answered(fun() -> gen_server:call(?MODULE, Request, infinity) end).

%% What the other nodes are told.

%% @private
-spec next(hornbeam_replica:position()) -> {key, pos_integer()} | last.
next(start) -> next({key, 0});
next({key, Number}) ->
    case hornbeam_presence_rows:next({here, Number}) of
        {here, Next} -> {key, Next};
        none -> last
    end.

%% @private
-spec row(pos_integer()) -> {tuple(), Bytes :: pos_integer()} | gone.
row(Number) ->
    case hornbeam_presence_rows:find({here, Number}) of
        none ->
            gone;
        #row{topic = Topic, key = Key, ref = Ref, prev = Prev, meta = Meta} ->
            Row = {Topic, Key, Ref, Prev, Meta},
            {Row, byte_size(Topic) + byte_size(Key) + 2 * byte_size(Ref) + byte_size(Meta)}
    end.

%% The server.

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    hornbeam_presence_rows:recount(),
    Owned = hornbeam_presence_rows:owners(),
    hornbeam_owner_quota:recount(presences, Owned),
    {ok, Announcer} = hornbeam_presence_announcer:start_link(self()),
    Owners = maps:from_list([{Owner, []} || {Owner, _} <- Owned]),
    lists:foreach(fun(Owner) -> erlang:monitor(process, Owner) end, maps:keys(Owners)),
    Replica = hornbeam_replica:join(presence, ?MODULE),
    State = #state{owners = Owners, replica = Replica, announcer = Announcer},
    {ok, announced_anew(kept(State))}.

%% What others have told our predecessor is good until they tell us, if they are still there.
kept(#state{replica = Replica} = State) ->
    {Living, Gone} = lists:partition(
        fun(Peer) -> hornbeam_replica:is_up(Peer, Replica) end,
        [Source || Source <- hornbeam_presence_rows:sources(), Source =/= here]),
    Rows = lists:append([all(Peer) || Peer <- Living]),
    hornbeam_quota:reserve_by_force(
        presences, lists:sum([hornbeam_presence_rows:bytes(Row) || Row <- Rows]), length(Rows)),
    _ = [hornbeam_presence_rows:delete(Row) || Peer <- Gone, Row <- all(Peer)],
    State.

all(Source) ->
    between({Source, 0}, last).

announced_anew(#state{announcer = Announcer} = State) ->
    Watched = [Topic || {Name, _, _} <- hornbeam_pubsub_fanout:all_subscribers(),
                        {ok, Topic} <- [hornbeam_presence_message:watched(Name)]],
    hornbeam_presence_announcer:states(Announcer, Watched),
    State#state{is_announcing = true}.

%% @private
-spec handle_call(tuple(), gen_server:from(), #state{}) ->
    {reply, {ok, binary()} | {error, failure()} | boolean(), #state{}}.
handle_call({untrack, Owner, Topic, Key}, _From, State) ->
    case hornbeam_presence_rows:owned(Owner, Topic, Key) of
        none -> {reply, false, State};
        Row -> {reply, true, announced(removed(Row, State))}
    end;
handle_call({How, Trust, Owner, Topic, Key, Meta}, _From, State) ->
    %% Its death may be in our mailbox behind this request.
    case is_process_alive(Owner) of
        true ->
            Old = hornbeam_presence_rows:owned(Owner, Topic, Key),
            New = #row{id = {here, 0}, topic = Topic, key = Key, ref = <<>>,
                       meta = binary:copy(Meta), owner = Owner},
            {Reply, Changed} = present(How, Trust, Old, New, State),
            {reply, Reply, announced(Changed)};
        false ->
            {reply, {error, closed}, State}
    end.

present(update, _Trust, none, _New, State) ->
    {{error, not_present}, State};
present(_How, _Trust, #row{ref = Ref, meta = Meta}, #row{meta = Meta}, State) ->
    {{ok, Ref}, State};
present(_How, Trust, Old, New, State) ->
    Row = succeeding(Old, New, State),
    case reserve(Trust, Old, Row) of
        ok -> {{ok, Row#row.ref}, inserted(Old, Row, watching(Row#row.owner, State))};
        {error, _} = Error -> {Error, State}
    end.

succeeding(none, New, _State) ->
    Number = erlang:unique_integer([positive, monotonic]),
    New#row{id = {here, Number}, ref = new_ref()};
succeeding(#row{id = Id, ref = Ref, prev = Prev}, New, #state{changes = Changes}) ->
    case Changes of
        #{Id := {_Known, Seen}} when length(Seen) >= ?MOST_SEEN ->
            New#row{id = Id, ref = Ref, prev = Prev};
        #{} ->
            New#row{id = Id, ref = new_ref(), prev = Ref}
    end.

new_ref() ->
    base64:encode(rand:bytes(12)).

reserve(Trust, Old, #row{owner = Owner} = New) ->
    Bytes = hornbeam_presence_rows:bytes(New) - bytes(Old),
    case Trust of
        limited -> hornbeam_owner_quota:reserve(Owner, presences, Bytes, 1 - rows(Old));
        trusted -> hornbeam_owner_quota:reserve_trusted(Owner, presences, Bytes, 1 - rows(Old))
    end.

bytes(none) -> 0;
bytes(Row) -> hornbeam_presence_rows:bytes(Row).

rows(none) -> 0;
rows(#row{}) -> 1.

watching(Owner, #state{owners = Owners} = State) when is_map_key(Owner, Owners) ->
    State;
watching(Owner, #state{owners = Owners} = State) ->
    _ = erlang:monitor(process, Owner),
    State#state{owners = Owners#{Owner => []}}.

inserted(Old, New, State) ->
    hornbeam_presence_rows:insert(New),
    told(New, noted(Old, New, State)).

removed(#row{owner = Owner} = Row, State) ->
    hornbeam_presence_rows:delete(Row),
    hornbeam_owner_quota:release(Owner, presences, hornbeam_presence_rows:bytes(Row), 1),
    told(Row, noted(Row, none, State)).

told(#row{id = {here, Number}}, #state{replica = Replica} = State) ->
    State#state{replica = hornbeam_replica:changed(Number, Replica)};
told(_OfAnotherNode, State) ->
    State.

%% Who begins to watch looks at the rows after that.
noted(Old, New, #state{changes = Changes} = State) ->
    #row{id = Id, topic = Topic} = first(New, Old),
    case hornbeam_pubsub_fanout:subscribers(hornbeam_presence_message:topic(Topic)) of
        {0, _} -> State;
        {_, _} -> State#state{changes = Changes#{Id => change(maps:find(Id, Changes), Old, New)}}
    end.

first(none, Row) -> Row;
first(Row, _) -> Row.

change(error, Old, _New) -> {Old, []};
change({ok, Change}, none, _New) -> Change;
change({ok, Change}, #row{ref = Ref}, #row{ref = Ref}) -> Change;
change({ok, {Known, Seen}}, Old, _New) -> {Known, [Old | Seen]}.

announced(#state{is_announcing = true} = State) ->
    State;
announced(#state{changes = Changes} = State) when Changes =:= #{} ->
    State;
announced(#state{changes = Changes, announcer = Announcer} = State) ->
    hornbeam_presence_announcer:diffs(Announcer, maps:fold(fun add_change/3, #{}, Changes)),
    State#state{changes = #{}, is_announcing = true}.

add_change(Id, {Known, Seen}, Topics) ->
    Change = {Known, Seen, hornbeam_presence_rows:find(Id)},
    case topic(Change) of
        none -> Topics;
        Topic -> maps:update_with(Topic, fun(Changes) -> [Change | Changes] end, [Change], Topics)
    end.

topic({#row{topic = Topic}, _, _}) -> Topic;
topic({none, [#row{topic = Topic} | _], _}) -> Topic;
topic({none, [], #row{topic = Topic}}) -> Topic;
topic({none, [], none}) -> none.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(announced, State) ->
    {noreply, announced(State#state{is_announcing = false})};
handle_info({'DOWN', _Ref, process, Owner, _Reason}, #state{owners = Owners} = State) ->
    Left = lists:foldl(fun removed/2, State, hornbeam_presence_rows:of_owner(Owner)),
    {noreply, announced(Left#state{owners = maps:remove(Owner, Owners)})};
handle_info(Message, #state{replica = Replica} = State) ->
    {News, Heard} = hornbeam_replica:handle(Message, Replica),
    {noreply, announced(lists:foldl(fun heard/2, State#state{replica = Heard}, News))}.

%% The other nodes.

heard({changes, Peer, Changes}, State) ->
    lists:foldl(fun(Change, Acc) -> heard(Peer, Change, Acc) end, State, Changes);
heard({part, Peer, From, To, Rows}, State) ->
    Said = maps:from_list(Rows),
    Gone = [Row || #row{id = {_, Number}} = Row <- between(position(Peer, From), To),
                   not is_map_key(Number, Said)],
    heard({changes, Peer, Rows}, lists:foldl(fun removed/2, State, Gone));
heard({down, Peer}, State) ->
    lists:foldl(fun removed/2, State, all(Peer)).

position(Peer, start) -> {Peer, 0};
position(Peer, {key, Number}) -> {Peer, Number}.

between(Id, To) ->
    case hornbeam_presence_rows:next(Id) of
        none -> [];
        {_, Number} when element(1, To) =:= key, Number > element(2, To) -> [];
        Next -> [hornbeam_presence_rows:find(Next) | between(Next, To)]
    end.

heard(Peer, {Number, Said}, State) when is_integer(Number) ->
    heard(hornbeam_presence_rows:find({Peer, Number}), {Peer, Number}, Said, State);
heard(_Peer, _Unknown, State) ->
    not_understood(),
    State.

heard(none, _Id, gone, State) ->
    State;
heard(Row, _Id, gone, State) ->
    removed(Row, State);
heard(#row{ref = Ref, meta = Meta}, _Id, {_, _, Ref, _, Meta}, State) ->
    State;
heard(Old, Id, Said, State) ->
    heard_row(is_row(Said), Old, Id, Said, State).

%% What is none is of a node of another version.
is_row({Topic, Key, Ref, Prev, Meta}) ->
    lists:all(fun is_text/1, [Topic, Key, Ref])
        andalso (Prev =:= none orelse is_text(Prev))
        andalso is_binary(Meta) andalso hornbeam_presence_message:is_packed_map(Meta);
is_row(_Unknown) ->
    false.

is_text(Term) -> is_binary(Term) andalso hornbeam_utf8:is_valid(Term).

heard_row(true, Old, Id, {Topic, Key, Ref, Prev, Meta}, State) ->
    New = #row{id = Id, topic = Topic, key = Key, ref = Ref, prev = Prev, meta = Meta},
    hornbeam_quota:reserve_by_force(presences, hornbeam_presence_rows:bytes(New) - bytes(Old),
                                    1 - rows(Old)),
    inserted(Old, New, State);
heard_row(false, _Old, _Id, _Unknown, State) ->
    not_understood(),
    State.

not_understood() -> hornbeam_link_queue:count_loss(presence, not_understood).
