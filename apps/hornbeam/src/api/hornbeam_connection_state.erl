%% What apps keep for a connection as long as it lives: one table for all connections.
%%
%% A row is {{Owner, Key}, Value}; `Owner' is the process that stands for the client's side, and
%% may be a worker. A row {Owner} says that hornbeam_state_keeper watches that process and will
%% forget it. Only then may anybody write what it keeps: so the first value goes through the
%% keeper, and all else is one operation of ETS by whoever asks.
-module(hornbeam_connection_state).

-export([new/0, get/2, set/3, set_first/3, delete/2, items/1]).
-export([owners/0, forget/1, is_forgotten/1]).

-type key() :: hornbeam_state_table:key().

-define(ROWS, ?MODULE).

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
        [{_, Value}] -> {ok, Value};
        [] -> absent
    end.

%% @doc Set a key, if the keeper watches `Owner'.
-spec set(Owner :: pid(), key(), hornbeam_value:value()) -> ok | unwatched.
set(Owner, Key, Value) ->
    case ets:member(?ROWS, Owner) of
        true -> set_watched(Owner, Key, Value);
        false -> unwatched
    end.

%% Who is forgotten between the two looks may have been so before the row was there.
set_watched(Owner, Key, Value) ->
    insert(Owner, Key, Value),
    case ets:member(?ROWS, Owner) of
        true ->
            ok;
        false ->
            true = ets:delete(?ROWS, {Owner, Key}),
            unwatched
    end.

%% @doc Set a key of an owner that the keeper, who calls this, watches.
-spec set_first(Owner :: pid(), key(), hornbeam_value:value()) -> ok.
set_first(Owner, Key, Value) ->
    true = ets:insert(?ROWS, {Owner}),
    insert(Owner, Key, Value).

insert(Owner, Key, Value) ->
    true = ets:insert(?ROWS, {{Owner, Key}, hornbeam_value:kept(Value)}),
    ok.

%% @doc Remove a key; whether it was there.
-spec delete(Owner :: pid(), key()) -> boolean().
delete(Owner, Key) ->
    ets:take(?ROWS, {Owner, Key}) =/= [].

%% @doc All keys of an owner with their values, in order; costs what it finds.
-spec items(Owner :: pid()) -> [{key(), hornbeam_value:value()}].
items(Owner) ->
    ets:select(?ROWS, [{{{Owner, '$1'}, '$2'}, [], [{{'$1', '$2'}}]}]).

%% @doc Those whom the keeper watches.
-spec owners() -> [pid()].
owners() ->
    ets:select(?ROWS, [{{'$1'}, [], ['$1']}]).

%% @doc Forget all that an owner kept, from now on.
-spec forget(Owner :: pid()) -> ok.
forget(Owner) ->
    true = ets:delete(?ROWS, Owner),
    true = ets:match_delete(?ROWS, {{Owner, '_'}, '_'}),
    ok.

%% @doc Whether what was read of an owner just now may be what was left of it.
-spec is_forgotten(Owner :: pid()) -> boolean().
is_forgotten(Owner) ->
    not (ets:member(?ROWS, Owner) orelse is_process_alive(Owner)).
