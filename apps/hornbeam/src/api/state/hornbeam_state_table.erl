%% The table of shared state: its rows, how they change, and how they expire.
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
%% locked before ({@link set_all/2}), and whoever has looked at a row looks whether its key is.
%%
%% Keys are ordered, so what has a prefix stands together: a query costs O(log n) for each key
%% that it finds and O(log n) for the end, not O(n).
-module(hornbeam_state_table).

-export([new/0]).
-export([get/1, set/3, set_all/2, delete/1, take/1, add/3, cas/3, incr/2]).
-export([keys/1, keys/2, items/1, items/2, sweep/0]).
-export([generation/1, undo_set/2, undo_incr/3, key_bytes/1]).
-export_type([key/0, prefix/0, ttl/0, generation/0, refusal/0]).

-type key() :: binary() | {bytes, binary()} | integer() | tuple().
%% A binary is Python's str, `{bytes, Binary}' its bytes; tuples hold keys.

-type prefix() :: all | binary() | {bytes, binary()} | tuple().
%% A tuple is the prefix of the tuples that start with its elements.

-type ttl() :: pos_integer() | infinity.
%% In milliseconds.

-type generation() :: integer().
-type row() :: {key(), hornbeam_value:value() | claimed, Expires :: integer() | infinity,
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

%% Bytes of a row beside its key and its value, and of its entry in the index (about).
-define(ROW, 200).
-define(ENTRY, 150).

%% What stands for a key that was absent, until all of those that are set with it are there. It is
%% past its time, and is not counted.
-define(CLAIMED, claimed).
-define(LONG_AGO, -(1 bsl 59)).

%% Between two looks at a lock (ms).
-define(PAUSE, 1).

%% Rows that are looked at in one piece, and the bytes around one that was found (about).
-define(BATCH, 1000).
-define(FOUND, 100).

%% Ints whose sum is far from where hornbeam_value:sum/2 ends, whoever else adds to it.
-define(IS_SMALL(N), (is_integer(N) andalso abs(N) < 1 bsl 1000)).

%% @doc Make the tables; their owner must outlive everybody.
-spec new() -> ok.
new() ->
    Options = [named_table, public, ordered_set, {read_concurrency, true},
               {write_concurrency, true}],
    ?ROWS = ets:new(?ROWS, Options),
    ?EXPIRIES = ets:new(?EXPIRIES, Options),
    ?LOCKS = ets:new(?LOCKS, Options),
    ok.

%% @doc The value of a key.
-spec get(key()) -> {ok, hornbeam_value:value()} | absent.
get(Key) ->
    case live_row(Key) of
        {_, Value, _, _, _, _} -> {ok, Value};
        absent -> absent
    end.

%% @doc Set a key to a value, whatever it was.
-spec set(key(), hornbeam_value:value(), ttl()) -> {ok, generation()} | refusal().
set(Key, Value, Ttl) ->
    put_row(new_row(Key, Value, Ttl)).

put_row({Key, _, _, Generation, _, _} = New) ->
    case exchange(row(Key), New) of
        ok -> {ok, Generation};
        again -> put_row(New);
        {error, _} = Error -> Error
    end.

%% @doc Set several keys at once: who sees one of them sees all.
-spec set_all([{key(), hornbeam_value:value()}], ttl()) -> ok | refusal().
set_all(Pairs, Ttl) ->
    Rows = maps:from_list([{Key, new_row(Key, Value, Ttl)} || {Key, Value} <- Pairs]),
    %% All in one order, so that nobody waits for who waits for him.
    Keys = lists:sort(maps:keys(Rows)),
    try
        lists:foreach(fun lock/1, Keys),
        put_all(maps:values(Rows), [claimed(Key) || Key <- Keys])
    after
        lists:foreach(fun(Key) -> ets:delete_object(?LOCKS, {Key, self()}) end, Keys)
    end.

%% Nobody replaces a row that is claimed, and only counts in it.
put_all(New, Old) ->
    {Bytes, Rows} = sum(New),
    {OldBytes, OldRows} = sum(Old),
    case hornbeam_quota:reserve(state, Bytes - OldBytes, Rows - OldRows) of
        ok ->
            lists:foreach(fun index/1, New),
            true = ets:insert(?ROWS, New),
            lists:foreach(fun unindex/1, Old);
        {error, _} = Error ->
            lists:foreach(fun unclaim/1, Old),
            Error
    end.

sum(Rows) ->
    lists:foldl(fun(Row, {Bytes, N}) -> {Bytes + bytes(Row), N + rows(Row)} end, {0, 0}, Rows).

%% Who has seen it before it was locked sees now that it has changed.
claimed(Key) ->
    claimed(Key, ets:lookup(?ROWS, Key)).

claimed(Key, []) ->
    Claim = claim(Key),
    case swapped(absent, Claim) of
        true -> Claim;
        false -> claimed(Key)
    end;
claimed(Key, [_]) ->
    try ets:update_counter(?ROWS, Key, {?CHANGES, 1}) of
        _ -> hd(ets:lookup(?ROWS, Key))
    catch
        error:badarg -> claimed(Key)
    end.

claim(Key) -> {Key, ?CLAIMED, ?LONG_AGO, erlang:unique_integer(), 0, 0}.

unclaim({Key, ?CLAIMED, _, _, _, _} = Row) ->
    true = ets:delete(?ROWS, Key),
    unindex(Row);
unclaim(_Row) ->
    ok.

%% @doc Remove a key; whether it was there.
-spec delete(key()) -> boolean().
delete(Key) ->
    take(Key) =/= absent.

%% @doc Get the value of a key, with what is left of its time to live, and remove it.
-spec take(key()) -> {ok, hornbeam_value:value(), ttl()} | absent.
take(Key) ->
    take(Key, row(Key)).

take(_Key, absent) ->
    absent;
take(Key, {_, Value, Expires, _, _, _} = Row) ->
    case exchange(Row, absent) of
        ok -> value_until(Expires, Value);
        again -> take(Key)
    end.

value_until(infinity, Value) -> {ok, Value, infinity};
value_until(Expires, Value) -> value_for(Expires - now_ms(), Value).

value_for(Left, Value) when Left > 0 -> {ok, Value, Left};
value_for(_Left, _Value) -> absent.

%% @doc Set a key that is absent; whether it was.
-spec add(key(), hornbeam_value:value(), ttl()) -> boolean() | refusal().
add(Key, Value, Ttl) ->
    added(add_row(new_row(Key, Value, Ttl))).

added(ok) -> true;
added(exists) -> false;
added({error, _} = Error) -> Error.

%% @doc Put `New' in the place of `Old'; whether the value was `Old', see
%% {@link hornbeam_value:same/2}. The time to live goes on.
-spec cas(key(), Old :: hornbeam_value:value(), New :: hornbeam_value:value()) ->
    boolean() | refusal() | {error, too_long}.
cas(Key, Old, New) ->
    cas_row(live(row(Key)), Old, New).

cas_row(absent, _Old, _New) ->
    false;
cas_row({Key, Value, _, _, _, _} = Row, Old, New) ->
    case hornbeam_value:same(Value, Old) of
        true -> cassed(exchange(Row, changed(Row, hornbeam_value:kept(New))), Key, Old, New);
        Other -> Other
    end.

cassed(ok, _Key, _Old, _New) -> true;
cassed(again, Key, Old, New) -> cas(Key, Old, New);
cassed({error, _} = Error, _Key, _Old, _New) -> Error.

%% @doc Add to a number; an absent key counts as 0. `overflow' is what
%% {@link hornbeam_value:sum/2} does not give.
-spec incr(key(), Delta :: number()) ->
    {ok, number(), generation()} | {error, not_a_number | overflow} | refusal().
incr(Key, Delta) ->
    case incr_row(live_row(Key), Key, Delta) of
        again -> incr(Key, Delta);
        Result -> Result
    end.

%% Who counts in place need not look whether the key is locked: nothing is lost of what is counted.
incr_row({_, Value, _, _, _, _}, Key, Delta) when ?IS_SMALL(Value), ?IS_SMALL(Delta) ->
    Counts = [{?VALUE, Delta}, {?GENERATION, 0}, {?CHANGES, 1}],
    try ets:update_counter(?ROWS, Key, Counts) of
        [New, Generation, _] -> {ok, New, Generation}
    catch
        %% Meanwhile it is gone, or no integer any more.
        error:badarg -> again
    end;
incr_row(_Row, Key, Delta) ->
    incr_seen(live(row(Key)), Key, Delta).

incr_seen(absent, Key, Delta) ->
    case hornbeam_value:sum(0, Delta) of
        {ok, Sum} -> first_row(new_row(Key, Sum, infinity));
        {error, _} = Error -> Error
    end;
incr_seen({_, Value, _, Generation, _, _} = Row, _Key, Delta) when is_number(Value) ->
    case hornbeam_value:sum(Value, Delta) of
        {ok, New} -> counted(exchange(Row, changed(Row, New)), New, Generation);
        {error, _} = Error -> Error
    end;
incr_seen(_Row, _Key, _Delta) ->
    {error, not_a_number}.

counted(ok, New, Generation) -> {ok, New, Generation};
counted(again, _New, _Generation) -> again;
counted({error, _} = Error, _New, _Generation) -> Error.

first_row({_, Delta, _, Generation, _, _} = Row) ->
    case add_row(Row) of
        exists -> again;
        Added -> counted(Added, Delta, Generation)
    end.

%% @doc The keys with a prefix, in order.
-spec keys(prefix()) -> [key()].
keys(Prefix) ->
    {ok, Keys} = keys(Prefix, infinity),
    Keys.

%% @doc The same, unless they and what stands around each have more bytes.
-spec keys(prefix(), Most :: pos_integer() | infinity) -> {ok, [key()]} | {error, too_many}.
keys(Prefix, Most) ->
    found(Prefix, Most, fun({Key, _Value}) -> {Key, key_bytes(Key) + ?FOUND} end).

%% @doc The keys with a prefix, in order, with their values.
-spec items(prefix()) -> [{key(), hornbeam_value:value()}].
items(Prefix) ->
    {ok, Items} = items(Prefix, infinity),
    Items.

%% @doc The same, unless they and what stands around each have more bytes.
-spec items(prefix(), Most :: pos_integer() | infinity) ->
    {ok, [{key(), hornbeam_value:value()}]} | {error, too_many}.
items(Prefix, Most) ->
    found(Prefix, Most, fun({Key, Value} = Item) ->
        {Item, key_bytes(Key) + hornbeam_value:bytes(Value) + ?FOUND}
    end).

%% What is found is gathered as long as it fits; numbers come before atoms.
found(Prefix, Most, Fun) ->
    Gather = fun(Item, {Found, Left}) ->
        {What, Bytes} = Fun(Item),
        Left >= Bytes orelse throw(too_many),
        {[What | Found], minus(Left, Bytes)}
    end,
    try fold(Prefix, Gather, {[], Most}) of
        {Found, _Left} -> {ok, lists:reverse(Found)}
    catch
        throw:too_many -> {error, too_many}
    end.

minus(infinity, _Bytes) -> infinity;
minus(Left, Bytes) -> Left - Bytes.

fold(all, Gather, Acc) ->
    select('_', Gather, Acc);
fold(Prefix, Gather, Acc) when is_binary(Prefix); element(1, Prefix) =:= bytes ->
    from(Prefix, Prefix, now_ms(), Gather, Acc);
fold(Prefix, Gather, Acc) when is_tuple(Prefix) ->
    tuples(Prefix, tuple_size(Prefix), Gather, Acc).

from(Key, Prefix, Now, Gather, Acc) ->
    case is_prefix(Prefix, Key) of
        true ->
            Found = lists:foldl(Gather, Acc, row_of(Key, Now)),
            from(ets:next(?ROWS, Key), Prefix, Now, Gather, Found);
        false ->
            Acc
    end.

row_of(Key, Now) ->
    [{Key, Value} || {_, Value, Expires, _, _, _} <- ets:lookup(?ROWS, Key), Expires > Now].

is_prefix({bytes, Prefix}, {bytes, Bytes}) -> is_prefix(Prefix, Bytes);
is_prefix(Prefix, Text) when is_binary(Prefix), is_binary(Text) ->
    binary:longest_common_prefix([Prefix, Text]) =:= byte_size(Prefix);
is_prefix(_Prefix, _Key) ->
    false.

%% Tuples are in the order of their sizes; only sizes that some key has are looked at.
tuples(Prefix, Size, Gather, Acc) ->
    Found = tuples_of(Prefix, Size, Gather, Acc),
    after_size(Prefix, ets:next(?ROWS, last_tuple(Size)), Gather, Found).

after_size(Prefix, Key, Gather, Acc) when is_tuple(Key) ->
    tuples(Prefix, tuple_size(Key), Gather, Acc);
after_size(_Prefix, _Key, _Gather, Acc) ->
    Acc.

%% No key's text begins so, and no other part of a key comes after a text.
last_tuple(0) -> {};
last_tuple(Size) -> erlang:make_tuple(Size, <<255>>).

%% ETS walks through the part of the table that a partly bound key leaves open, and no more.
tuples_of(Prefix, Size, Gather, Acc) ->
    Open = lists:duplicate(Size - tuple_size(Prefix), '_'),
    select(list_to_tuple(tuple_to_list(Prefix) ++ Open), fun(Item, Found) ->
        gathered(is_bytes(element(1, Item)), Item, Gather, Found)
    end, Acc).

gathered(true, _Item, _Gather, Found) -> Found;
gathered(false, Item, Gather, Found) -> Gather(Item, Found).

is_bytes({bytes, _}) -> true;
is_bytes(_) -> false.

%% The atom infinity is greater than all numbers.
select(Pattern, Gather, Acc) ->
    Match = [{{Pattern, '$1', '$2', '_', '_', '_'}, [{'>', '$2', now_ms()}],
              [{{{element, 1, '$_'}, '$1'}}]}],
    gather(ets:select(?ROWS, Match, ?BATCH), Gather, Acc).

gather({Items, Continuation}, Gather, Acc) ->
    gather(ets:select(Continuation), Gather, lists:foldl(Gather, Acc, Items));
gather('$end_of_table', _Gather, Acc) ->
    Acc.

%% @doc Remove what is past its time, in O(log n) for each row.
-spec sweep() -> ok.
sweep() ->
    sweep(ets:first(?EXPIRIES), now_ms()).

sweep({Expires, Key, Generation} = Entry, Now) when Expires =< Now ->
    true = ets:delete(?EXPIRIES, Entry),
    undo_set(Key, Generation),
    sweep(ets:first(?EXPIRIES), Now);
sweep(_, _Now) ->
    ok.

%% @doc The generation of a key's row.
-spec generation(key()) -> {ok, generation()} | absent.
generation(Key) ->
    case live_row(Key) of
        {_, _, _, Generation, _, _} -> {ok, Generation};
        absent -> absent
    end.

%% @doc Remove a key unless it has been set anew.
-spec undo_set(key(), generation()) -> ok.
undo_set(Key, Generation) ->
    case row(Key) of
        {_, _, _, Generation, _, _} = Row -> undone(exchange(Row, absent), Key, Generation);
        _ -> ok
    end.

undone(ok, _Key, _Generation) -> ok;
undone(again, Key, Generation) -> undo_set(Key, Generation).

%% @doc Take what was added to a number off it, unless its key has been set anew. It stays within
%% what {@link hornbeam_value:sum/2} gives.
-spec undo_incr(key(), generation(), Total :: number()) -> ok.
undo_incr(Key, Generation, Total) ->
    case live(row(Key)) of
        {_, Value, _, Generation, _, _} = Row when is_number(Value) ->
            Rest = changed(Row, hornbeam_value:nearest_sum(Value, -Total)),
            undone(exchange_by_force(Row, Rest), Key, Generation, Total);
        _ ->
            ok
    end.

undone(ok, _Key, _Generation, _Total) -> ok;
undone(again, Key, Generation, Total) -> undo_incr(Key, Generation, Total).

%% Rows.

new_row(Key, Value, Ttl) ->
    Expires = expires(Ttl),
    Bytes = ?ROW + hornbeam_value:bytes(Value) + key_bytes(Key, Expires),
    {Key, hornbeam_value:kept(Value), Expires, erlang:unique_integer(), 0, Bytes}.

expires(infinity) -> infinity;
expires(Ttl) -> now_ms() + Ttl.

%% Changed in place.
changed({Key, Old, Expires, Generation, Changes, Bytes}, New) ->
    {Key, New, Expires, Generation, Changes + 1,
     Bytes + hornbeam_value:bytes(New) - hornbeam_value:bytes(Old)}.

key_bytes(Key, infinity) -> key_bytes(Key);
key_bytes(Key, _Expires) -> 2 * key_bytes(Key) + ?ENTRY.

%% @doc About how many bytes a key takes.
-spec key_bytes(key()) -> non_neg_integer().
key_bytes(Key) when is_binary(Key) -> byte_size(Key);
key_bytes(Key) when is_tuple(Key) -> element_bytes(tuple_size(Key), Key, 16);
key_bytes(Key) when is_integer(Key), abs(Key) < 1 bsl 59 -> 0;
key_bytes(Key) when is_integer(Key) -> erlang:external_size(Key);
key_bytes(_Bytes) -> 0.

element_bytes(0, _Key, Bytes) ->
    Bytes;
element_bytes(N, Key, Bytes) ->
    element_bytes(N - 1, Key, Bytes + 8 + key_bytes(element(N, Key))).

bytes(absent) -> 0;
bytes({_, _, _, _, _, Bytes}) -> Bytes.

rows(absent) -> 0;
rows({_, ?CLAIMED, _, _, _, _}) -> 0;
rows(_Row) -> 1.

%% What is seen of a key, by whom it is not to be exchanged.
-spec live_row(key()) -> row() | absent.
live_row(Key) ->
    live(one(ets:lookup(?ROWS, Key))).

one([Row]) -> Row;
one([]) -> absent.

live(absent) -> absent;
live({_, _, Expires, _, _, _} = Row) -> row_if(is_live(Expires), Row).

row_if(true, Row) -> Row;
row_if(false, _Row) -> absent.

is_live(infinity) -> true;
is_live(Expires) -> Expires > now_ms().

%% What stands in the table for a key, to be exchanged: looked at before its lock is.
-spec row(key()) -> row() | absent.
row(Key) ->
    Found = ets:lookup(?ROWS, Key),
    case ets:member(?LOCKS, Key) of
        false -> one(Found);
        true -> row_after(Key)
    end.

row_after(Key) ->
    ok = await_unlocked(Key),
    row(Key).

add_row({Key, _, _, _, _, _} = New) ->
    case row(Key) of
        {_, _, Expires, _, _, _} = Row -> add_unless(is_live(Expires), Row, New);
        absent -> add_unless(false, absent, New)
    end.

add_unless(true, _Old, _New) ->
    exists;
add_unless(false, Old, New) ->
    case exchange(Old, New) of
        again -> add_row(New);
        Exchanged -> Exchanged
    end.

%% Every change but those of counters and of several keys is this: a row, or none, comes in the
%% place of one that was seen, or of none. `again' when that is not there any more.
-spec exchange(row() | absent, row() | absent) -> ok | again | refusal().
exchange(Old, New) ->
    case hornbeam_quota:reserve(state, bytes(New) - bytes(Old), rows(New) - rows(Old)) of
        ok -> exchanged(swapped(Old, New), Old, New);
        {error, _} = Error -> Error
    end.

exchange_by_force(Old, New) ->
    hornbeam_quota:reserve_by_force(state, bytes(New) - bytes(Old), 0),
    exchanged(swapped(Old, New), Old, New).

exchanged(true, _Old, _New) ->
    ok;
exchanged(false, Old, New) ->
    hornbeam_quota:release(state, bytes(New) - bytes(Old), rows(New) - rows(Old)),
    again.

%% The entry of a row is there before it and after it, never not while it is.
swapped(absent, New) ->
    index(New),
    ets:insert_new(?ROWS, New) orelse not_in(New);
swapped({Key, _, _, Generation, Changes, _} = Old, absent) ->
    Pattern = {Key, '_', '_', Generation, Changes, '_'},
    ets:select_delete(?ROWS, [{Pattern, [], [true]}]) =:= 1 andalso unindexed(Old);
swapped({_, _, _, Generation, _, _} = Old, {_, _, _, Generation, _, _} = New) ->
    replace(Old, New);
swapped(Old, New) ->
    index(New),
    case replace(Old, New) of
        true -> unindexed(Old);
        false -> not_in(New)
    end.

replace({Key, _, _, Generation, Changes, _}, New) ->
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

%% Locks. Who holds one waits for others only, and may be killed.

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

now_ms() -> erlang:monotonic_time(millisecond).
