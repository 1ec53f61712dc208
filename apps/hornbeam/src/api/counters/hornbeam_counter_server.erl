%% Counts for this node's connections, takes back what those have added that end, and tells and
%% hears the other nodes (hornbeam_replica).
%%
%% All it knows stands in tables: after a crash it goes on from there.
-module(hornbeam_counter_server).
-behaviour(gen_server).
-behaviour(hornbeam_replica).

-export([start_link/0, incr/2, incr_bound/3]).
-export([next/1, row/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([failure/0]).

-type key() :: hornbeam_counter_columns:key().
-type failure() :: closed | overflow | {limit, hornbeam_quota:limit()}.

-record(state, {
    owners = #{} :: #{pid() => []},
    replica :: hornbeam_replica:replica()
}).

-define(ROOM, counters).

%% Bytes of a column beside its key, and of what an owner has added (about).
-define(COLUMN, 250).
-define(ADDED, 200).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Add to a counter for good; what all nodes have counted.
-spec incr(key(), Delta :: number()) -> {ok, number()} | {error, failure()}.
incr(Key, Delta) ->
    call({incr, Key, Delta}).

%% @doc Add to a counter until `Owner' ends; what all nodes have counted.
-spec incr_bound(Owner :: pid(), key(), Delta :: number()) -> {ok, number()} | {error, failure()}.
incr_bound(Owner, Key, Delta) ->
    call({incr_bound, Owner, Key, Delta}).

%% The server waits for nobody, so its answer or its death comes soon.
call(Request) ->
    hornbeam_retry:unless_asked(fun() -> gen_server:call(?MODULE, Request, infinity) end).

%% What the other nodes are told: its own columns, and those of lives that are over.

%% @private
-spec next(hornbeam_replica:position()) -> {key, hornbeam_counter_columns:id()} | last.
next(start) -> told(hornbeam_counter_columns:next(0));
next({key, Id}) -> told(hornbeam_counter_columns:next(Id)).

told(none) -> last;
told({_Key, {bound, {_, _}}} = Id) -> next({key, Id});
told(Id) -> {key, Id}.

%% @private
-spec row(hornbeam_counter_columns:id()) -> {tuple(), Bytes :: pos_integer()} | gone.
row({Key, Kind} = Id) ->
    case hornbeam_counter_columns:find(Id) of
        none -> gone;
        {_, Value, Count} -> row(is_told(Kind), {Value, Count}, bytes(Key, Value))
    end.

row(true, Row, Bytes) -> {Row, Bytes};
row(false, _Row, _Bytes) -> gone.

%% A peer tells of itself.
is_told({bound, here}) -> true;
is_told({lasting, Life}) -> not lists:member(Life, hornbeam_links:peers(?ROOM)).

%% The server.

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    Added = hornbeam_counter_columns:all_added(),
    sum_bound(Added),
    hornbeam_owner_quota:recount(counters, [{Owner, added_bytes(Key, Value)}
                                            || {{Owner, Key}, Value} <- Added]),
    Owners = lists:usort([Owner || {{Owner, _}, _} <- Added]),
    lists:foreach(fun(Owner) -> erlang:monitor(process, Owner) end, Owners),
    Replica = hornbeam_replica:join(?ROOM, ?MODULE),
    lists:foreach(fun(Column) -> keep(Column, Replica) end, hornbeam_counter_columns:all()),
    {ok, #state{owners = maps:from_keys(Owners, []), replica = Replica}}.

%% Our predecessor may have ended between two steps.
sum_bound(Added) ->
    Sums = lists:foldl(fun({{_, Key}, Value}, Acc) ->
        maps:update_with(Key, fun({Sum, N}) -> {hornbeam_value:nearest_sum(Sum, Value), N + 1} end,
                         {Value, 1}, Acc)
    end, #{}, Added),
    _ = [hornbeam_counter_columns:delete(Id)
         || {{Key, {bound, here}} = Id, _, _} <- hornbeam_counter_columns:all(),
            not is_map_key(Key, Sums)],
    maps:foreach(fun(Key, {Sum, N}) ->
        hornbeam_counter_columns:insert({{Key, {bound, here}}, Sum, N})
    end, Sums).

%% What others have told our predecessor is good until they tell us, if they are still there.
keep({{Key, Kind} = Id, Value, _}, Replica) ->
    case Kind of
        {bound, {_, _} = Peer} -> keep(hornbeam_replica:is_up(Peer, Replica), Id, Key, Value);
        _ -> keep(true, Id, Key, Value)
    end.

keep(true, _Id, Key, Value) -> hornbeam_quota:reserve_by_force(counters, bytes(Key, Value), 1);
keep(false, Id, _Key, _Value) -> hornbeam_counter_columns:delete(Id).

%% @private
-spec handle_call(tuple(), gen_server:from(), #state{}) ->
    {reply, {ok, number()} | {error, failure()}, #state{}}.
handle_call({incr, Key, Delta}, _From, State) ->
    Id = {Key, {lasting, hornbeam_links:own()}},
    replied(changed(fun() -> ok end, Id, Delta, 1), Id, State);
handle_call({incr_bound, Owner, Key, Delta}, _From, State) ->
    %% Its death may be in our mailbox behind this request.
    case is_process_alive(Owner) of
        true -> incr_bound(hornbeam_counter_columns:added(Owner, Key), Owner, Key, Delta, State);
        false -> {reply, {error, closed}, State}
    end.

replied({ok, _} = Counted, Id, #state{replica = Replica} = State) ->
    {reply, Counted, State#state{replica = hornbeam_replica:changed(Id, Replica)}};
replied({error, _} = Error, _Id, State) ->
    {reply, Error, State}.

incr_bound(Before, Owner, Key, Delta, State) ->
    Id = {Key, {bound, here}},
    case hornbeam_value:sum(number(Before), Delta) of
        {ok, Added} ->
            Note = fun() -> note_added(Before, Owner, Key, Added) end,
            replied(changed(Note, Id, Delta, is_first(Before)), Id, watching(Owner, State));
        {error, overflow} = Error ->
            {reply, Error, State}
    end.

number(none) -> 0;
number(Number) -> Number.

is_first(none) -> 1;
is_first(_Before) -> 0.

note_added(Before, Owner, Key, Added) ->
    Bytes = added_bytes(Key, Added) - was_bytes(Key, Before),
    case hornbeam_owner_quota:reserve(Owner, counters, Bytes, is_first(Before)) of
        ok -> hornbeam_counter_columns:note_added(Owner, Key, Added);
        {error, _} = Error -> Error
    end.

was_bytes(_Key, none) -> 0;
was_bytes(Key, Value) -> added_bytes(Key, Value).

watching(Owner, #state{owners = Owners} = State) when is_map_key(Owner, Owners) ->
    State;
watching(Owner, #state{owners = Owners} = State) ->
    _ = erlang:monitor(process, Owner),
    State#state{owners = Owners#{Owner => []}}.

%% A column is changed where its value and the sum of all can travel, and there is room for it; what
%% `Note' notes comes before, so that after a crash no owner's part is forgotten.
changed(Note, {Key, _} = Id, Delta, More) ->
    Old = hornbeam_counter_columns:find(Id),
    case sums(Key, value(Old), Delta) of
        {ok, Value, Total} -> changed(Note, Old, {Id, Value, count(Old) + More}, Key, Total);
        {error, overflow} = Error -> Error
    end.

changed(Note, Old, {_, Value, _} = New, Key, Total) ->
    {Bytes, Rows} = {bytes(Key, Value) - column_bytes(Old), rows(Old)},
    case hornbeam_quota:reserve(counters, Bytes, Rows) of
        ok -> noted(Note(), New, Bytes, Rows, Total);
        {error, _} = Error -> Error
    end.

noted(ok, New, _Bytes, _Rows, Total) ->
    hornbeam_counter_columns:insert(New),
    {ok, Total};
noted({error, _} = Error, _New, Bytes, Rows, _Total) ->
    hornbeam_quota:release(counters, Bytes, Rows),
    Error.

sums(Key, Value, Delta) ->
    case {hornbeam_value:sum(Value, Delta), hornbeam_value:sum(total(Key), Delta)} of
        {{ok, New}, {ok, Total}} -> {ok, New, Total};
        _ -> {error, overflow}
    end.

total(Key) ->
    case hornbeam_counter_columns:get(Key) of
        {ok, Total} -> Total;
        absent -> 0
    end.

value(none) -> 0;
value({_, Value, _}) -> Value.

count(none) -> 0;
count({_, _, Count}) -> Count.

rows(none) -> 1;
rows(_Column) -> 0.

bytes(Key, Value) ->
    ?COLUMN + hornbeam_state_key:bytes(Key) + hornbeam_value:bytes(Value).

column_bytes(none) -> 0;
column_bytes({{Key, _}, Value, _}) -> bytes(Key, Value).

added_bytes(Key, Value) ->
    ?ADDED + hornbeam_state_key:bytes(Key) + hornbeam_value:bytes(Value).

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', _Ref, process, Owner, _Reason}, #state{owners = Owners} = State) ->
    Left = lists:foldl(fun({Key, Added}, Acc) -> taken_back(Owner, Key, Added, Acc) end,
                       State, hornbeam_counter_columns:added_by(Owner)),
    {noreply, Left#state{owners = maps:remove(Owner, Owners)}};
handle_info(Message, #state{replica = Replica} = State) ->
    {News, Heard} = hornbeam_replica:handle(Message, Replica),
    {noreply, lists:foldl(fun heard/2, State#state{replica = Heard}, News)}.

taken_back(Owner, Key, Added, #state{replica = Replica} = State) ->
    Id = {Key, {bound, here}},
    hornbeam_counter_columns:forget_added(Owner, Key),
    hornbeam_owner_quota:release(Owner, counters, added_bytes(Key, Added), 1),
    take(hornbeam_counter_columns:find(Id), Added),
    State#state{replica = hornbeam_replica:changed(Id, Replica)}.

%% What nobody has added to any more is nothing, whatever floats make of it.
take({_, _, 1} = Column, _Added) ->
    remove(Column);
take({Id, Value, Owners} = Old, Added) ->
    replace(Old, {Id, hornbeam_value:nearest_sum(Value, -Added), Owners - 1}).

remove({Id, _, _} = Column) ->
    hornbeam_counter_columns:delete(Id),
    hornbeam_quota:release(counters, column_bytes(Column), 1).

replace(Old, {_, _, _} = New) ->
    hornbeam_quota:reserve_by_force(counters, column_bytes(New) - column_bytes(Old), rows(Old)),
    hornbeam_counter_columns:insert(New).

%% The other nodes.

heard({changes, Peer, Changes}, State) ->
    lists:foreach(fun(Change) -> heard_column(Peer, Change) end, Changes),
    State;
heard({part, Peer, From, To, Rows}, State) ->
    Said = maps:from_list(Rows),
    _ = [gone(hornbeam_counter_columns:find({Key, {bound, Peer}}))
         || {Key, {bound, here}} = Id <- between(From, To, Peer), not is_map_key(Id, Said)],
    heard({changes, Peer, Rows}, State);
heard({down, Peer}, State) ->
    _ = [remove(Column) || {{_, {bound, Of}}, _, _} = Column <- hornbeam_counter_columns:all(),
                           Of =:= Peer],
    over(Peer, State).

%% What a peer calls those of its columns that are known here. No others are looked at but those of
%% the keys between these two: there may be very many, in as many parts.
between(start, To, Peer) -> behind(0, start, To, Peer);
between({key, Id} = From, To, Peer) -> behind(Id, From, To, Peer).

behind(Before, From, To, Peer) ->
    case hornbeam_counter_columns:next(Before) of
        none -> [];
        {Key, _} = Next -> next_between({Key, {bound, here}}, Next, From, To, Peer)
    end.

next_between(Id, _Next, _From, {key, Last}, _Peer) when Id > Last ->
    [];
next_between({Key, _} = Id, {Key, {bound, Peer}} = Next, From, To, Peer)
        when From =:= start; Id > element(2, From) ->
    [Id | behind(Next, From, To, Peer)];
next_between(_Id, Next, From, To, Peer) ->
    behind(Next, From, To, Peer).

%% Who heard most of a life that is over tells the others.
over(Life, #state{replica = Replica} = State) ->
    Ids = [Id || {{_, {lasting, Of}} = Id, _, _} <- hornbeam_counter_columns:all(), Of =:= Life],
    State#state{replica = lists:foldl(fun hornbeam_replica:changed/2, Replica, Ids)}.

heard_column(Peer, {{Key, _} = Id, Said}) ->
    case hornbeam_state_key:is_key(Key) of
        true -> heard_column(Peer, Id, Said);
        false -> not_understood()
    end;
heard_column(_Peer, _Unknown) ->
    not_understood().

heard_column(Peer, {Key, {bound, here}}, gone) ->
    gone(hornbeam_counter_columns:find({Key, {bound, Peer}}));
heard_column(_Peer, {_Key, {lasting, _Life}}, gone) ->
    ok;
heard_column(Peer, {Key, {bound, here}}, {Value, Count})
        when is_number(Value), is_integer(Count), Count > 0 ->
    Id = {Key, {bound, Peer}},
    replace(hornbeam_counter_columns:find(Id), {Id, Value, Count});
heard_column(_Peer, {_Key, {lasting, {_, _}}} = Id, {Value, Count})
        when is_number(Value), is_integer(Count), Count > 0 ->
    newest(hornbeam_counter_columns:find(Id), {Id, Value, Count});
heard_column(_Peer, _Id, _Unknown) ->
    not_understood().

not_understood() -> hornbeam_link_queue:count_loss(?ROOM, not_understood).

gone(none) -> ok;
gone(Column) -> remove(Column).

newest({_, _, Known}, {_, _, Count}) when Known >= Count -> ok;
newest(Old, New) -> replace(Old, New).
