%% What apps keep for a connection as long as it lives: one table for all connections.
%%
%% A row is {{Owner, Key}, Value, Version, Bytes}; `Owner' is the process that stands for the
%% client's side, and may be a worker. A row {Owner, Bytes, Rows} says that hornbeam_state_keeper
%% watches that process and will forget it, and how much it has: what it keeps here, and what the
%% keeper is to undo for it. Only while that row is there may anybody write what it keeps: so the
%% first value goes through the keeper, and all else is done by whoever asks. A row comes only in
%% the place of one that was seen, which makes what is counted exact.
-module(hornbeam_connection_state).

-export([new/0, get/2, set/3, delete/2, items/1]).
-export([watched/1, owners/0, forget/1, is_forgotten/1, charge/3, discharge/3]).

-type key() :: hornbeam_state_table:key().

-type refusal() :: {error, {limit, hornbeam_quota:limit()}}.

-define(ROWS, ?MODULE).

-define(BYTES, 2).
-define(COUNT, 3).

%% Bytes of a row beside its key and its value (about).
-define(ROW, 200).

%% @doc Make the table; its owner must outlive everybody.
-spec new() -> ok.
new() ->
    ?ROWS = ets:new(?ROWS, [named_table, public, ordered_set, {read_concurrency, true},
                            {write_concurrency, true}]),
    ok.

%% @doc The value of a key.
-spec get(Owner :: pid(), key()) -> {ok, hornbeam_value:value()} | absent.
get(Owner, Key) ->
    case ets:lookup(?ROWS, {Owner, Key}) of
        [{_, Value, _, _}] -> {ok, Value};
        [] -> absent
    end.

%% @doc Set a key, if the keeper watches `Owner'.
-spec set(Owner :: pid(), key(), hornbeam_value:value()) -> ok | unwatched | refusal().
set(Owner, Key, Value) ->
    Bytes = ?ROW + hornbeam_state_table:key_bytes(Key) + hornbeam_value:bytes(Value),
    put_row(Owner, {{Owner, Key}, hornbeam_value:kept(Value), erlang:unique_integer(), Bytes}).

put_row(Owner, {Id, _, _, Bytes} = New) ->
    Old = ets:lookup(?ROWS, Id),
    {MoreBytes, MoreRows} = {Bytes - bytes(Old), 1 - length(Old)},
    case taken(Owner, MoreBytes, MoreRows) of
        ok ->
            exchanged(swapped(Old, New), Owner, New, MoreBytes, MoreRows);
        UnwatchedOrError ->
            UnwatchedOrError
    end.

bytes([]) -> 0;
bytes([{_, _, _, Bytes}]) -> Bytes.

taken(Owner, Bytes, Rows) ->
    case charge(Owner, Bytes, Rows) of
        ok -> taken_of_all(hornbeam_quota:take(connections, Bytes, Rows), Owner, Bytes, Rows);
        UnwatchedOrError -> UnwatchedOrError
    end.

taken_of_all(ok, _Owner, _Bytes, _Rows) ->
    ok;
taken_of_all({error, _} = Error, Owner, Bytes, Rows) ->
    discharge(Owner, Bytes, Rows),
    Error.

swapped([], New) ->
    ets:insert_new(?ROWS, New);
swapped([{Id, _, Version, _}], New) ->
    ets:select_replace(?ROWS, [{{Id, '_', Version, '_'}, [], [{const, New}]}]) =:= 1.

exchanged(true, Owner, New, _Bytes, _Rows) ->
    unless_late(ets:member(?ROWS, Owner), New);
exchanged(false, Owner, New, Bytes, Rows) ->
    discharge(Owner, Bytes, Rows),
    hornbeam_quota:give_back(connections, Bytes, Rows),
    put_row(Owner, New).

%% Who is forgotten by now may have been so before the row was there.
unless_late(true, _New) ->
    ok;
unless_late(false, {Id, _, _, _}) ->
    taken_away(ets:take(?ROWS, Id)),
    unwatched.

taken_away([]) -> ok;
taken_away([{_, _, _, Bytes}]) -> hornbeam_quota:give_back(connections, Bytes, 1).

%% @doc Count so many bytes and rows more of an owner, unless it were too many.
-spec charge(Owner :: pid(), Bytes :: integer(), Rows :: integer()) -> ok | unwatched | refusal().
charge(Owner, Bytes, Rows) ->
    case count(Owner, Bytes, Rows) of
        [AllBytes, AllRows] ->
            unless_over(excess(Bytes, AllBytes, Rows, AllRows), Owner, Bytes, Rows);
        unwatched ->
            unwatched
    end.

count(Owner, Bytes, Rows) ->
    try
        ets:update_counter(?ROWS, Owner, [{?BYTES, Bytes}, {?COUNT, Rows}])
    catch
        error:badarg -> unwatched
    end.

excess(Bytes, AllBytes, Rows, AllRows) ->
    Excess = [Limit || {Limit, More, All} <- [{connection_state_max_bytes, Bytes, AllBytes},
                                              {connection_state_max_rows, Rows, AllRows}],
                       More > 0, All > hornbeam_quota:limit(Limit)],
    hd(Excess ++ [none]).

unless_over(none, _Owner, _Bytes, _Rows) ->
    ok;
unless_over(Limit, Owner, Bytes, Rows) ->
    discharge(Owner, Bytes, Rows),
    hornbeam_quota:refused(Limit).

%% @doc Count so many fewer. Who is forgotten has nothing to be counted.
-spec discharge(Owner :: pid(), Bytes :: integer(), Rows :: integer()) -> ok.
discharge(Owner, Bytes, Rows) ->
    _ = count(Owner, -Bytes, -Rows),
    ok.

%% @doc Remove a key; whether it was there.
-spec delete(Owner :: pid(), key()) -> boolean().
delete(Owner, Key) ->
    case ets:take(?ROWS, {Owner, Key}) of
        [] ->
            false;
        [{_, _, _, Bytes}] = Taken ->
            discharge(Owner, Bytes, 1),
            taken_away(Taken),
            true
    end.

%% @doc All keys of an owner with their values, in order; costs what it finds.
-spec items(Owner :: pid()) -> [{key(), hornbeam_value:value()}].
items(Owner) ->
    ets:select(?ROWS, [{{{Owner, '$1'}, '$2', '_', '_'}, [], [{{'$1', '$2'}}]}]).

%% @doc The keeper, who calls this, watches an owner.
-spec watched(Owner :: pid()) -> ok.
watched(Owner) ->
    _ = ets:insert_new(?ROWS, {Owner, 0, 0}),
    ok.

%% @doc Those whom the keeper watches.
-spec owners() -> [pid()].
owners() ->
    ets:select(?ROWS, [{{'$1', '_', '_'}, [], ['$1']}]).

%% @doc Forget all that an owner kept, from now on.
-spec forget(Owner :: pid()) -> ok.
forget(Owner) ->
    true = ets:delete(?ROWS, Owner),
    Keys = ets:select(?ROWS, [{{{Owner, '$1'}, '_', '_', '_'}, [], ['$1']}]),
    lists:foreach(fun(Key) -> taken_away(ets:take(?ROWS, {Owner, Key})) end, Keys).

%% @doc Whether what was read of an owner just now may be what was left of it.
-spec is_forgotten(Owner :: pid()) -> boolean().
is_forgotten(Owner) ->
    not (ets:member(?ROWS, Owner) orelse is_process_alive(Owner)).
