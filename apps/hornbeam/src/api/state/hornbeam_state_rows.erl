%% The rows of shared state: how one comes in the place of another, and how they expire.
%%
%% A row is {Key, Value, Expires, Generation, Changes, Bytes}. `Generation' is new whenever a key is
%% set and stays when its value is changed in place (incr, cas), which `Changes' counts: so an undo
%% knows whether what it wants to undo is still there, and who replaces a row whether it is the one
%% that he has seen. Every change is one atomic operation of ETS that replaces a row which is known,
%% or is tried again when another came in between; so what is counted for hornbeam_quota is exactly
%% what is there. A row past its time is seen by nobody; the index of expiries lets {@link sweep/0}
%% remove it without a scan.
%%
%% Several keys are set in one operation, which cannot look at what it overwrites. So they are
%% locked before ({@link set_all/1}), and whoever has looked at a row looks whether its key is.
-module(hornbeam_state_rows).

-export([new_tables/0, new/3, changed/2, key/1, value/1, generation/1, ttl/1]).
-export([find/1, find_bytes/1, read/1, if_live/1, first/0, next/1, fold/3]).
-export([exchange/2, exchange_by_force/2, set_all/1, add/2, delete/2, sweep/0]).
-export_type([row/0, ttl/0, generation/0, refusal/0]).

-type key() :: hornbeam_state_key:key().
-type ttl() :: pos_integer() | infinity.
%% In milliseconds.

-type generation() :: integer().
-opaque row() :: {key(), hornbeam_value:value() | claimed, Expires :: integer() | infinity,
                  generation(), Changes :: non_neg_integer(), Bytes :: non_neg_integer()}.

-type refusal() :: {error, {limit, hornbeam_quota:limit()}}.
%% It would be more than may be kept; nothing has changed.

-define(ROWS, hornbeam_state).
%% Rows: {{Expires, Key, Generation}}.
-define(EXPIRIES, hornbeam_state_expiries).
%% Rows: {Key, Holder}.
-define(LOCKS, hornbeam_state_locks).

-define(VALUE, 2).
-define(GENERATION, 4).
-define(CHANGES, 5).
-define(BYTES, 6).

%% Bytes of a row beside its key and its value, and of its entry in the index (about).
-define(ROW, 200).
-define(ENTRY, 150).

%% What stands for a key that was absent, until all of those that are set with it are there. It is
%% past its time, and is not counted.
-define(CLAIMED, claimed).
-define(LONG_AGO, -(1 bsl 59)).

%% Between two looks at a lock (ms).
-define(PAUSE, 1).

%% Rows that are looked at in one piece.
-define(BATCH, 1000).

%% @doc Make the tables; their owner must outlive everybody.
-spec new_tables() -> ok.
new_tables() ->
    Options = [named_table, public, ordered_set, {read_concurrency, true},
               {write_concurrency, true}],
    ?ROWS = ets:new(?ROWS, Options),
    ?EXPIRIES = ets:new(?EXPIRIES, Options),
    ?LOCKS = ets:new(?LOCKS, Options),
    ok.

%% One row.

%% @doc A row that is in no table yet.
-spec new(key(), hornbeam_value:value(), ttl()) -> row().
new(Key, Value, Ttl) ->
    Expires = expires(Ttl),
    {Key, hornbeam_value:copy(Value), Expires, erlang:unique_integer(), 0,
     size(Key, Value, Expires)}.

expires(infinity) -> infinity;
expires(Ttl) -> now_ms() + Ttl.

size(Key, Value, Expires) ->
    ?ROW + hornbeam_value:bytes(Value) + key_bytes(Key, Expires).

key_bytes(Key, infinity) -> hornbeam_state_key:bytes(Key);
key_bytes(Key, _Expires) -> 2 * hornbeam_state_key:bytes(Key) + ?ENTRY.

%% @doc A row with its value changed in place. Its bytes are counted anew: a counter may have
%% outgrown its room since.
-spec changed(row(), hornbeam_value:value()) -> row().
changed({Key, _, Expires, Generation, Changes, _}, New) ->
    {Key, New, Expires, Generation, Changes + 1, size(Key, New, Expires)}.

-spec key(row()) -> key().
key({Key, _, _, _, _, _}) -> Key.

-spec value(row()) -> hornbeam_value:value().
value({_, Value, _, _, _, _}) -> Value.

-spec generation(row()) -> generation().
generation({_, _, _, Generation, _, _}) -> Generation.

%% @doc What is left of a row's time to live.
-spec ttl(row()) -> ttl() | expired.
ttl({_, _, infinity, _, _, _}) -> infinity;
ttl({_, _, Expires, _, _, _}) -> positive(Expires - now_ms()).

positive(Left) when Left > 0 -> Left;
positive(_Left) -> expired.

bytes(absent) -> 0;
bytes({_, _, _, _, _, Bytes}) -> Bytes.

rows(absent) -> 0;
rows({_, ?CLAIMED, _, _, _, _}) -> 0;
rows(_Row) -> 1.

now_ms() -> erlang:monotonic_time(millisecond).

%% To look.

%% @doc What is seen of a key, by whom it is not to be exchanged.
-spec find(key()) -> row() | absent.
find(Key) ->
    if_live(one(ets:lookup(?ROWS, Key))).

one([Row]) -> Row;
one([]) -> absent.

%% @doc How many bytes of what is seen of a key count; the value is not copied for that.
-spec find_bytes(key()) -> pos_integer() | absent.
find_bytes(Key) ->
    Match = [{{Key, '_', '$1', '_', '_', '$2'}, [{'>', '$1', now_ms()}], ['$2']}],
    one(ets:select(?ROWS, Match)).

%% @doc What stands in the table for a key, to be exchanged: looked at before its lock is. It may be
%% past its time.
-spec read(key()) -> row() | absent.
read(Key) ->
    Found = ets:lookup(?ROWS, Key),
    case ets:member(?LOCKS, Key) of
        false ->
            one(Found);
        true ->
            ok = await_unlocked(Key),
            read(Key)
    end.

%% @doc A row, unless it is past its time.
-spec if_live(row() | absent) -> row() | absent.
if_live({_, _, Expires, _, _, _} = Row) when Expires =/= infinity ->
    case Expires > now_ms() of
        true -> Row;
        false -> absent
    end;
if_live(RowOrAbsent) ->
    RowOrAbsent.

%% @doc The first key.
-spec first() -> key() | '$end_of_table'.
first() ->
    ets:first(?ROWS).

%% @doc The key after another one, which need not be there.
-spec next(term()) -> key() | '$end_of_table'.
next(Key) ->
    ets:next(?ROWS, Key).

%% @doc Call a function with all keys of a pattern and their values, in order. The atom infinity is
%% greater than all numbers.
-spec fold(Pattern :: term(), fun(({key(), hornbeam_value:value()}, Acc) -> Acc), Acc) -> Acc.
fold(Pattern, Fun, Acc) ->
    Match = [{{Pattern, '$1', '$2', '_', '_', '_'}, [{'>', '$2', now_ms()}],
              [{{{element, 1, '$_'}, '$1'}}]}],
    fold_batch(ets:select(?ROWS, Match, ?BATCH), Fun, Acc).

fold_batch({Items, Continuation}, Fun, Acc) ->
    fold_batch(ets:select(Continuation), Fun, lists:foldl(Fun, Acc, Items));
fold_batch('$end_of_table', _Fun, Acc) ->
    Acc.

%% To change.

%% @doc Every change but those of counters and of several keys is this: a row, or none, comes in the
%% place of one that was read, or of none. `again' when that is not there any more.
-spec exchange(row() | absent, row() | absent) -> ok | again | refusal().
exchange(Old, New) ->
    case hornbeam_quota:reserve(state, bytes(New) - bytes(Old), rows(New) - rows(Old)) of
        ok -> exchanged(replace(Old, New), Old, New);
        {error, _} = Error -> Error
    end.

%% @doc The same, however much is kept by then.
-spec exchange_by_force(row(), row()) -> ok | again.
exchange_by_force(Old, New) ->
    hornbeam_quota:reserve_by_force(state, bytes(New) - bytes(Old), 0),
    exchanged(replace(Old, New), Old, New).

exchanged(true, _Old, _New) ->
    ok;
exchanged(false, Old, New) ->
    hornbeam_quota:release(state, bytes(New) - bytes(Old), rows(New) - rows(Old)),
    again.

%% The entry of a row is there before it and after it, never not while it is.
replace(absent, New) ->
    index(New),
    ets:insert_new(?ROWS, New) orelse not_in(New);
replace({Key, _, _, Generation, Changes, _} = Old, absent) ->
    Pattern = {Key, '_', '_', Generation, Changes, '_'},
    ets:select_delete(?ROWS, [{Pattern, [], [true]}]) =:= 1 andalso unindexed(Old);
replace({_, _, _, Generation, _, _} = Old, {_, _, _, Generation, _, _} = New) ->
    replace_row(Old, New);
replace(Old, New) ->
    index(New),
    case replace_row(Old, New) of
        true -> unindexed(Old);
        false -> not_in(New)
    end.

replace_row({Key, _, _, Generation, Changes, _}, New) ->
    Pattern = {Key, '_', '_', Generation, Changes, '_'},
    ets:select_replace(?ROWS, [{Pattern, [], [{const, New}]}]) =:= 1.

unindexed(Row) ->
    unindex(Row),
    true.

not_in(Row) ->
    unindex(Row),
    false.

index({_, _, infinity, _, _, _}) ->
    ok;
index({Key, _, Expires, Generation, _, _}) ->
    true = ets:insert(?EXPIRIES, {{Expires, Key, Generation}}),
    ok.

unindex({_, _, infinity, _, _, _}) ->
    ok;
unindex({Key, _, Expires, Generation, _, _}) ->
    true = ets:delete(?EXPIRIES, {Expires, Key, Generation}),
    ok.

%% @doc Add to an integer in its place, whose size must not change by that. `again' when it is gone
%% or no integer any more. Nobody need look whether its key is locked: nothing is lost of what is
%% added.
-spec add(key(), integer()) -> {ok, integer(), generation()} | again.
add(Key, Delta) ->
    Counts = [{?VALUE, Delta}, {?GENERATION, 0}, {?CHANGES, 1}],
    try ets:update_counter(?ROWS, Key, Counts) of
        [New, Generation, _] -> {ok, New, Generation}
    catch
        error:badarg -> again
    end.

%% @doc Delete a key unless it has been set anew.
-spec delete(key(), generation()) -> ok.
delete(Key, Generation) ->
    case read(Key) of
        {_, _, _, Generation, _, _} = Row -> deleted(exchange(Row, absent), Key, Generation);
        _ -> ok
    end.

deleted(ok, _Key, _Generation) -> ok;
deleted(again, Key, Generation) -> delete(Key, Generation).

%% @doc Delete what is past its time, in O(log n) for each row.
-spec sweep() -> ok.
sweep() ->
    sweep(ets:first(?EXPIRIES), now_ms()).

sweep({Expires, Key, Generation} = Entry, Now) when Expires =< Now ->
    true = ets:delete(?EXPIRIES, Entry),
    delete(Key, Generation),
    sweep(ets:first(?EXPIRIES), Now);
sweep(_, _Now) ->
    ok.

%% Several keys.

%% @doc Set the keys of these rows at once: who sees one of them sees all.
-spec set_all([row()]) -> ok | refusal().
set_all(New) ->
    %% All in one order, so that nobody waits for who waits for him.
    Keys = lists:sort(lists:map(fun key/1, New)),
    case room(Keys, New) of
        ok -> set_all(Keys, New);
        {error, _} = Error -> Error
    end.

set_all(Keys, New) ->
    try
        lists:foreach(fun lock/1, Keys),
        replace_all(lists:map(fun claim/1, Keys), New)
    after
        lists:foreach(fun(Key) -> ets:delete_object(?LOCKS, {Key, self()}) end, Keys)
    end.

%% Asked before anything is locked or claimed, which for many keys is much. What is there then may
%% be something else, and nobody may hold a reservation while he waits: so it is asked again.
room(Keys, New) ->
    {Bytes, Rows} = minus(sum(New), there(Keys)),
    case hornbeam_quota:reserve(state, Bytes, Rows) of
        ok -> hornbeam_quota:release(state, Bytes, Rows);
        {error, _} = Error -> Error
    end.

%% Nobody replaces a row that is claimed, and only counts in it.
replace_all(Old, New) ->
    {Bytes, Rows} = minus(sum(New), sum(Old)),
    case hornbeam_quota:reserve(state, Bytes, Rows) of
        ok ->
            lists:foreach(fun index/1, New),
            true = ets:insert(?ROWS, New),
            lists:foreach(fun unindex/1, Old);
        {error, _} = Error ->
            lists:foreach(fun unclaim/1, Old),
            Error
    end.

minus({Bytes, Rows}, {OtherBytes, OtherRows}) -> {Bytes - OtherBytes, Rows - OtherRows}.

%% What is counted of some keys now.
there(Keys) ->
    lists:foldl(fun(Key, {Bytes, Rows}) ->
        case bytes_there(Key) of
            0 -> {Bytes, Rows};
            Counted -> {Bytes + Counted, Rows + 1}
        end
    end, {0, 0}, Keys).

bytes_there(Key) ->
    try
        ets:lookup_element(?ROWS, Key, ?BYTES)
    catch
        error:badarg -> 0
    end.

sum(Rows) ->
    lists:foldl(fun(Row, {Bytes, N}) -> {Bytes + bytes(Row), N + rows(Row)} end, {0, 0}, Rows).

%% Who has seen it before it was locked sees now that it has changed.
claim(Key) ->
    claim(Key, ets:lookup(?ROWS, Key)).

claim(Key, []) ->
    Claim = {Key, ?CLAIMED, ?LONG_AGO, erlang:unique_integer(), 0, 0},
    case replace(absent, Claim) of
        true -> Claim;
        false -> claim(Key)
    end;
claim(Key, [_]) ->
    try ets:update_counter(?ROWS, Key, {?CHANGES, 1}) of
        _ -> hd(ets:lookup(?ROWS, Key))
    catch
        error:badarg -> claim(Key)
    end.

unclaim({Key, ?CLAIMED, _, _, _, _} = Row) ->
    true = ets:delete(?ROWS, Key),
    unindex(Row);
unclaim(_Row) ->
    ok.

%% Who holds a lock waits for others only, and may be killed.
lock(Key) ->
    case ets:insert_new(?LOCKS, {Key, self()}) of
        true ->
            ok;
        false ->
            ok = await_unlocked(Key),
            lock(Key)
    end.

await_unlocked(Key) ->
    case ets:lookup(?LOCKS, Key) of
        [] ->
            ok;
        [{_, Holder} = Lock] ->
            is_process_alive(Holder) orelse ets:delete_object(?LOCKS, Lock),
            receive after ?PAUSE -> ok end,
            await_unlocked(Key)
    end.
