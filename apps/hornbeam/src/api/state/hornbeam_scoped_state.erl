%% What a connection does to the shared state as long as it lives: it is undone at its end, and its
%% own state deleted.
%%
%% Changes that are bound to a process (its owner) come through here, one after the other: the
%% owner is monitored, the change is made, and what it takes to undo it is written to a table.
%% The table outlives this process; when it starts again it monitors every owner anew, and the
%% dead ones are undone at once. Of what a connection keeps for itself only the first value comes
%% through here (hornbeam_connection_state).
-module(hornbeam_scoped_state).
-behaviour(gen_server).

-export([new_table/0, start_link/0, set/4, incr/3, keep/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-record(state, {
    %% each owner, and how many changes it has made since its log was last looked through
    owners = #{} :: #{pid() => Changes :: non_neg_integer()}
}).

-type key() :: hornbeam_state_key:key().
-type refusal() :: hornbeam_state_rows:refusal().

%% Rows: {{Owner, Key, set | incr}, Generation, Total}.
-define(LOG, ?MODULE).

%% Bytes of a row beside its key (about).
-define(ROW, 250).

%% After so many changes of an owner, what was deleted or set anew by others is forgotten.
-define(COMPACT_AFTER, 1024).

%% @doc Make the log; its owner must outlive everybody.
-spec new_table() -> ok.
new_table() ->
    ?LOG = ets:new(?LOG, [named_table, public, ordered_set]),
    ok.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Set a key until `Owner' dies. Changes nothing when it is dead already.
-spec set(Owner :: pid(), key(), hornbeam_value:value(), hornbeam_state_rows:ttl()) ->
    ok | {error, closed} | refusal().
set(Owner, Key, Value, Ttl) ->
    hornbeam_retry:until_answered(fun() -> call({set, Owner, Key, Value, Ttl}) end).

%% @doc Add to a number until `Owner' dies. Changes nothing when it is dead already.
-spec incr(Owner :: pid(), key(), Delta :: number()) ->
    {ok, number()} | {error, closed | not_a_number | overflow} | refusal().
incr(Owner, Key, Delta) ->
    hornbeam_retry:unless_asked(fun() -> call({incr, Owner, Key, Delta}) end).

%% @doc Set a key of `Owner' itself; from then on others may, until it dies.
-spec keep(Owner :: pid(), key(), hornbeam_value:value()) -> ok | {error, closed} | refusal().
keep(Owner, Key, Value) ->
    hornbeam_retry:until_answered(fun() -> call({keep, Owner, Key, Value}) end).

%% The server waits for nobody, so its answer or its death comes soon.
call(Request) ->
    gen_server:call(?MODULE, Request, infinity).

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    Logged = ets:tab2list(?LOG),
    hornbeam_quota:recount(bindings, lists:sum([bytes(Row) || Row <- Logged]), length(Logged)),
    Owners = lists:usort([Owner || {{Owner, _, _}, _, _} <- Logged]
                             ++ hornbeam_owner_quota:owners()),
    lists:foreach(fun watch/1, Owners),
    {ok, #state{owners = maps:from_keys(Owners, 0)}}.

watch(Owner) ->
    _ = erlang:monitor(process, Owner),
    hornbeam_owner_quota:open(Owner).

%% @private
-spec handle_call(tuple(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(Change, _From, State0) ->
    Owner = element(2, Change),
    case known(Owner, State0) of
        {alive, State} -> {reply, change(Change), compacted(Owner, State)};
        dead -> {reply, {error, closed}, State0}
    end.

known(Owner, #state{owners = Owners} = State) when is_map_key(Owner, Owners) ->
    %% Its death may be in our mailbox behind this request.
    alive_if(is_process_alive(Owner), State);
known(Owner, #state{owners = Owners} = State) ->
    Ref = erlang:monitor(process, Owner),
    case is_process_alive(Owner) of
        true ->
            hornbeam_owner_quota:open(Owner),
            {alive, State#state{owners = Owners#{Owner => 0}}};
        false ->
            true = erlang:demonitor(Ref, [flush]),
            dead
    end.

alive_if(true, State) -> {alive, State};
alive_if(false, _State) -> dead.

change({set, Owner, Key, Value, Ttl}) ->
    Id = {Owner, Key, set},
    bound(Id, 0, fun() -> hornbeam_state_table:set(Key, Value, Ttl) end, fun(Generation) ->
        true = ets:insert(?LOG, {Id, Generation, 0}),
        ok
    end);
change({keep, Owner, Key, Value}) ->
    hornbeam_connection_state:set(Owner, Key, Value);
change({incr, Owner, Key, Delta}) ->
    Logged = ets:lookup(?LOG, {Owner, Key, incr}),
    case total(Logged, Delta, hornbeam_state_table:generation(Key)) of
        {ok, Total} -> incr({Owner, Key, incr}, Key, Delta, Logged, Total);
        {error, overflow} = Error -> Error
    end.

incr(Id, Key, Delta, Logged, Expected) ->
    Incr = fun() ->
        case hornbeam_state_table:incr(Key, Delta) of
            {ok, New, Generation} -> {ok, {New, Generation}};
            {error, _} = Error -> Error
        end
    end,
    bound(Id, Expected, Incr, fun({New, Generation}) ->
        %% If it was set anew since the last look, this is less than was seen there.
        {ok, Total} = total(Logged, Delta, {ok, Generation}),
        Row = {Id, Generation, Total},
        release(element(1, Id), bytes({Id, Generation, Expected}) - bytes(Row), 0),
        true = ets:insert(?LOG, Row),
        {ok, New}
    end).

%% A change is made when there is room for what will undo it.
bound({Owner, _, _} = Id, Total, Change, Log) ->
    Old = ets:lookup(?LOG, Id),
    Bytes = bytes({Id, 0, Total}) - lists:sum([bytes(Row) || Row <- Old]),
    case hornbeam_owner_quota:reserve(Owner, bindings, Bytes, 1 - length(Old)) of
        ok -> changed(Change(), Log, Owner, Bytes, 1 - length(Old));
        {error, _} = Error -> Error
    end.

changed({ok, Change}, Log, _Owner, _Bytes, _Rows) ->
    Log(Change);
changed({error, _} = Error, _Log, Owner, Bytes, Rows) ->
    release(Owner, Bytes, Rows),
    Error.

release(Owner, Bytes, Rows) ->
    hornbeam_owner_quota:release(Owner, bindings, Bytes, Rows).

bytes({{_Owner, Key, _Kind}, _Generation, Total}) ->
    ?ROW + hornbeam_state_key:bytes(Key) + hornbeam_value:bytes(Total).

%% What was added before the key was set anew is not in its value any more.
total([{_, Generation, Total}], Delta, {ok, Generation}) -> hornbeam_value:sum(Total, Delta);
total(_Logged, Delta, _Generation) -> {ok, Delta}.

compacted(Owner, #state{owners = Owners} = State) ->
    case maps:get(Owner, Owners) of
        ?COMPACT_AFTER ->
            lists:foreach(fun forget_if_stale/1, log(Owner)),
            State#state{owners = Owners#{Owner := 0}};
        Changes ->
            State#state{owners = Owners#{Owner := Changes + 1}}
    end.

forget_if_stale({{_, Key, _}, Generation, _} = Row) ->
    hornbeam_state_table:generation(Key) =:= {ok, Generation} orelse forget(Row).

forget({{Owner, _, _} = Id, _, _} = Row) ->
    true = ets:delete(?LOG, Id),
    release(Owner, bytes(Row), 1).

log(Owner) ->
    ets:match_object(?LOG, {{Owner, '_', '_'}, '_', '_'}).

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', _Ref, process, Owner, _Reason}, #state{owners = Owners} = State) ->
    lists:foreach(fun undo/1, log(Owner)),
    hornbeam_owner_quota:close(Owner),
    hornbeam_connection_state:delete_all(Owner),
    {noreply, State#state{owners = maps:remove(Owner, Owners)}};
handle_info(_Stray, State) ->
    {noreply, State}.

undo({{_, Key, Kind}, Generation, Total} = Row) ->
    forget(Row),
    undo(Kind, Key, Generation, Total).

undo(set, Key, Generation, _Total) -> hornbeam_state_rows:delete(Key, Generation);
undo(incr, Key, Generation, Total) -> hornbeam_state_table:undo_incr(Key, Generation, Total).
