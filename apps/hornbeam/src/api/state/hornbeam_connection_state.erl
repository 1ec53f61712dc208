%% What apps keep for a connection as long as it lives: one table for all connections.
%%
%% A row is {{Owner, Key}, Value, Version, Bytes}; `Owner' is the process that stands for the
%% client's side, and may be a worker. Only while the owner's account is open (hornbeam_owner_quota)
%% may anybody write what it keeps: so the first value goes through hornbeam_scoped_state, which
%% opens it, and all else is done by whoever asks. A row comes only in the place of one that was
%% seen, which makes what is counted exact.
-module(hornbeam_connection_state).

-export([new/0, get/2, set/3, delete/2, items/1]).
-export([delete_all/1, is_forgotten/1]).

-type key() :: hornbeam_state_key:key().

-define(ROWS, ?MODULE).

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

%% @doc Set a key, if the account of `Owner' is open.
-spec set(Owner :: pid(), key(), hornbeam_value:value()) ->
    ok | not_open | {error, {limit, hornbeam_quota:limit()}}.
set(Owner, Key, Value) ->
    Bytes = ?ROW + hornbeam_state_key:bytes(Key) + hornbeam_value:bytes(Value),
    put_row(Owner, {{Owner, Key}, hornbeam_value:copy(Value), erlang:unique_integer(), Bytes}).

put_row(Owner, {Id, _, _, Bytes} = New) ->
    Old = ets:lookup(?ROWS, Id),
    {MoreBytes, MoreRows} = {Bytes - bytes(Old), 1 - length(Old)},
    case hornbeam_owner_quota:reserve(Owner, connections, MoreBytes, MoreRows) of
        ok ->
            exchanged(exchange(Old, New), Owner, New, MoreBytes, MoreRows);
        NotOpenOrError ->
            NotOpenOrError
    end.

bytes([]) -> 0;
bytes([{_, _, _, Bytes}]) -> Bytes.

exchange([], New) ->
    ets:insert_new(?ROWS, New);
exchange([{Id, _, Version, _}], New) ->
    ets:select_replace(?ROWS, [{{Id, '_', Version, '_'}, [], [{const, New}]}]) =:= 1.

exchanged(true, Owner, {Id, _, _, _}, _Bytes, _Rows) ->
    unless_late(hornbeam_owner_quota:is_open(Owner), Id);
exchanged(false, Owner, New, Bytes, Rows) ->
    hornbeam_owner_quota:release(Owner, connections, Bytes, Rows),
    put_row(Owner, New).

%% Who is forgotten by now may have been so before the row was there.
unless_late(true, _Id) ->
    ok;
unless_late(false, Id) ->
    _ = delete_row(Id),
    not_open.

%% @doc Remove a key; whether it was there.
-spec delete(Owner :: pid(), key()) -> boolean().
delete(Owner, Key) ->
    delete_row({Owner, Key}).

delete_row({Owner, _Key} = Id) ->
    case ets:take(?ROWS, Id) of
        [{_, _, _, Bytes}] ->
            hornbeam_owner_quota:release(Owner, connections, Bytes, 1),
            true;
        [] ->
            false
    end.

%% @doc All keys of an owner with their values, in order; costs what it finds.
-spec items(Owner :: pid()) -> [{key(), hornbeam_value:value()}].
items(Owner) ->
    ets:select(?ROWS, [{{{Owner, '$1'}, '$2', '_', '_'}, [], [{{'$1', '$2'}}]}]).

%% @doc Remove all that an owner keeps, whose account is closed.
-spec delete_all(Owner :: pid()) -> ok.
delete_all(Owner) ->
    Keys = ets:select(?ROWS, [{{{Owner, '$1'}, '_', '_', '_'}, [], ['$1']}]),
    lists:foreach(fun(Key) -> delete(Owner, Key) end, Keys).

%% @doc Whether what was read of an owner just now may be what was left of it.
-spec is_forgotten(Owner :: pid()) -> boolean().
is_forgotten(Owner) ->
    not (hornbeam_owner_quota:is_open(Owner) orelse is_process_alive(Owner)).
