%% The table of shared state: its rows, how they change, and how they expire.
%%
%% A row is {Key, Value, Expires, Generation}. `Generation' is new whenever a key is set and
%% stays when its value is changed in place (incr, cas): so an undo knows whether what it wants
%% to undo is still there. Every change is one atomic operation of ETS, or is tried again when
%% another came in between. A row past its time is seen by nobody; the index of expiries lets
%% {@link sweep/0} remove it without a scan.
%%
%% Keys are ordered, so what has a prefix stands together: a query costs O(log n) for each key
%% that it finds and O(log n) for the end, not O(n).
-module(hornbeam_state_table).

-export([new/0]).
-export([get/1, set/3, set_all/2, delete/1, take/1, add/3, cas/3, incr/2]).
-export([keys/1, items/1, sweep/0]).
-export([generation/1, undo_set/2, undo_incr/3]).
-export_type([key/0, prefix/0, ttl/0, generation/0]).

-type key() :: binary() | {bytes, binary()} | integer() | tuple().
%% A binary is Python's str, `{bytes, Binary}' its bytes; tuples hold keys.

-type prefix() :: all | binary() | {bytes, binary()} | tuple().
%% A tuple is the prefix of the tuples that start with its elements.

-type ttl() :: pos_integer() | infinity.
%% In milliseconds.

-type generation() :: integer().
-type row() :: {key(), hornbeam_value:value(), Expires :: integer() | infinity, generation()}.

-define(ROWS, hornbeam_state).
%% Rows: {{Expires, Key, Generation}}.
-define(EXPIRIES, hornbeam_state_expiries).

-define(VALUE, 2).
-define(GENERATION, 4).

%% Ints whose sum is far from where hornbeam_value:sum/2 ends, whoever else adds to it.
-define(IS_SMALL(N), (is_integer(N) andalso abs(N) < 1 bsl 1000)).

%% @doc Make the tables; their owner must outlive everybody.
-spec new() -> ok.
new() ->
    Options = [named_table, public, ordered_set, {read_concurrency, true},
               {write_concurrency, true}],
    ?ROWS = ets:new(?ROWS, Options),
    ?EXPIRIES = ets:new(?EXPIRIES, Options),
    ok.

%% @doc The value of a key.
-spec get(key()) -> {ok, hornbeam_value:value()} | absent.
get(Key) ->
    case live_row(Key) of
        {_, Value, _, _} -> {ok, Value};
        absent -> absent
    end.

%% @doc Set a key to a value, whatever it was.
-spec set(key(), hornbeam_value:value(), ttl()) -> generation().
set(Key, Value, Ttl) ->
    {_, _, _, Generation} = Row = new_row(Key, Value, Ttl),
    Old = ets:lookup(?ROWS, Key),
    index(Row),
    true = ets:insert(?ROWS, Row),
    unindex_all(Old),
    Generation.

%% @doc Set several keys at once; readers see all of them or none.
-spec set_all([{key(), hornbeam_value:value()}], ttl()) -> ok.
set_all(Pairs, Ttl) ->
    Rows = [new_row(Key, Value, Ttl) || {Key, Value} <- Pairs],
    Old = lists:append([ets:lookup(?ROWS, Key) || {Key, _} <- Pairs]),
    lists:foreach(fun index/1, Rows),
    true = ets:insert(?ROWS, Rows),
    unindex_all(Old).

%% @doc Remove a key; whether it was there.
-spec delete(key()) -> boolean().
delete(Key) ->
    take(Key) =/= absent.

%% @doc Get the value of a key, with what is left of its time to live, and remove it.
-spec take(key()) -> {ok, hornbeam_value:value(), ttl()} | absent.
take(Key) ->
    Taken = ets:take(?ROWS, Key),
    unindex_all(Taken),
    case Taken of
        [{_, Value, infinity, _}] -> {ok, Value, infinity};
        [{_, Value, Expires, _}] -> value_for(Expires - now_ms(), Value);
        [] -> absent
    end.

value_for(Left, Value) when Left > 0 -> {ok, Value, Left};
value_for(_Left, _Value) -> absent.

%% @doc Set a key that is absent; whether it was.
-spec add(key(), hornbeam_value:value(), ttl()) -> boolean().
add(Key, Value, Ttl) ->
    added(add_row(new_row(Key, Value, Ttl)), Key, Value, Ttl).

added(again, Key, Value, Ttl) -> add(Key, Value, Ttl);
added(Added, _Key, _Value, _Ttl) -> Added =:= ok.

%% @doc Put `New' in the place of `Old'; whether the value was `Old', see
%% {@link hornbeam_value:same/2}. The time to live goes on.
-spec cas(key(), Old :: hornbeam_value:value(), New :: hornbeam_value:value()) -> boolean().
cas(Key, Old, New) ->
    case live_row(Key) of
        {_, Value, Expires, Generation} = Row ->
            hornbeam_value:same(Value, Old)
                andalso (replace(Row, {Key, hornbeam_value:kept(New), Expires, Generation})
                         orelse cas(Key, Old, New));
        absent ->
            false
    end.

%% @doc Add to a number; an absent key counts as 0. `overflow' is what
%% {@link hornbeam_value:sum/2} does not give.
-spec incr(key(), Delta :: number()) ->
    {ok, number(), generation()} | {error, not_a_number | overflow}.
incr(Key, Delta) ->
    case incr_row(live_row(Key), Key, Delta) of
        again -> incr(Key, Delta);
        Result -> Result
    end.

incr_row(absent, Key, Delta) ->
    case hornbeam_value:sum(0, Delta) of
        {ok, Sum} -> first_row(new_row(Key, Sum, infinity));
        {error, _} = Error -> Error
    end;
incr_row({_, Value, _, _}, Key, Delta) when ?IS_SMALL(Value), ?IS_SMALL(Delta) ->
    try ets:update_counter(?ROWS, Key, [{?VALUE, Delta}, {?GENERATION, 0}]) of
        [New, Generation] -> {ok, New, Generation}
    catch
        %% Meanwhile it is gone, or no integer any more.
        error:badarg -> again
    end;
incr_row({Key, Value, Expires, Generation} = Row, _Key, Delta) when is_number(Value) ->
    case hornbeam_value:sum(Value, Delta) of
        {ok, New} ->
            case replace(Row, {Key, New, Expires, Generation}) of
                true -> {ok, New, Generation};
                false -> again
            end;
        {error, _} = Error ->
            Error
    end;
incr_row(_Row, _Key, _Delta) ->
    {error, not_a_number}.

first_row({_, Delta, _, Generation} = Row) ->
    case add_row(Row) of
        ok -> {ok, Delta, Generation};
        _ -> again
    end.

%% @doc The keys with a prefix, in order.
-spec keys(prefix()) -> [key()].
keys(Prefix) ->
    [Key || {Key, _} <- items(Prefix)].

%% @doc The keys with a prefix, in order, with their values.
-spec items(prefix()) -> [{key(), hornbeam_value:value()}].
items(all) ->
    select('_');
items(Prefix) when is_binary(Prefix); element(1, Prefix) =:= bytes ->
    from(Prefix, Prefix, now_ms());
items(Prefix) when is_tuple(Prefix) ->
    tuples(Prefix, tuple_size(Prefix)).

from(Key, Prefix, Now) ->
    case is_prefix(Prefix, Key) of
        true -> row_of(Key, Now) ++ from(ets:next(?ROWS, Key), Prefix, Now);
        false -> []
    end.

row_of(Key, Now) ->
    [{Key, Value} || {_, Value, Expires, _} <- ets:lookup(?ROWS, Key), Expires > Now].

is_prefix({bytes, Prefix}, {bytes, Bytes}) -> is_prefix(Prefix, Bytes);
is_prefix(Prefix, Text) when is_binary(Prefix), is_binary(Text) ->
    binary:longest_common_prefix([Prefix, Text]) =:= byte_size(Prefix);
is_prefix(_Prefix, _Key) ->
    false.

%% Tuples are in the order of their sizes; only sizes that some key has are looked at.
tuples(Prefix, Size) ->
    tuples_of(Prefix, Size) ++ after_size(Prefix, ets:next(?ROWS, last_tuple(Size))).

after_size(Prefix, Key) when is_tuple(Key) -> tuples(Prefix, tuple_size(Key));
after_size(_Prefix, _Key) -> [].

%% No key's text begins so, and no other part of a key comes after a text.
last_tuple(0) -> {};
last_tuple(Size) -> erlang:make_tuple(Size, <<255>>).

%% ETS walks through the part of the table that a partly bound key leaves open, and no more.
tuples_of(Prefix, Size) ->
    Open = lists:duplicate(Size - tuple_size(Prefix), '_'),
    Items = select(list_to_tuple(tuple_to_list(Prefix) ++ Open)),
    [Item || {Key, _} = Item <- Items, not is_bytes(Key)].

is_bytes({bytes, _}) -> true;
is_bytes(_) -> false.

%% The atom infinity is greater than all numbers.
select(Pattern) ->
    ets:select(?ROWS, [{{Pattern, '$1', '$2', '_'}, [{'>', '$2', now_ms()}],
                        [{{{element, 1, '$_'}, '$1'}}]}]).

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
        {_, _, _, Generation} -> {ok, Generation};
        absent -> absent
    end.

%% @doc Remove a key unless it has been set anew.
-spec undo_set(key(), generation()) -> ok.
undo_set(Key, Generation) ->
    _ = ets:select_delete(?ROWS, [{{Key, '_', '_', Generation}, [], [true]}]),
    ok.

%% @doc Take what was added to a number off it, unless its key has been set anew. It stays within
%% what {@link hornbeam_value:sum/2} gives.
-spec undo_incr(key(), generation(), Total :: number()) -> ok.
undo_incr(Key, Generation, Total) ->
    case live_row(Key) of
        {Key, Value, Expires, Generation} = Row when is_number(Value) ->
            Rest = hornbeam_value:nearest_sum(Value, -Total),
            undone(replace(Row, {Key, Rest, Expires, Generation}), Key, Generation, Total);
        _ ->
            ok
    end.

undone(true, _Key, _Generation, _Total) -> ok;
undone(false, Key, Generation, Total) -> undo_incr(Key, Generation, Total).

%% Rows.

new_row(Key, Value, Ttl) ->
    {Key, hornbeam_value:kept(Value), expires(Ttl), erlang:unique_integer()}.

expires(infinity) -> infinity;
expires(Ttl) -> now_ms() + Ttl.

-spec live_row(key()) -> row() | absent.
live_row(Key) ->
    case ets:lookup(?ROWS, Key) of
        [{_, _, Expires, _} = Row] -> row_if(is_live(Expires), Row);
        [] -> absent
    end.

row_if(true, Row) -> Row;
row_if(false, _Row) -> absent.

is_live(infinity) -> true;
is_live(Expires) -> Expires > now_ms().

%% `again' when another process was quicker.
add_row({Key, _, _, _} = Row) ->
    index(Row),
    case ets:insert_new(?ROWS, Row) of
        true ->
            ok;
        false ->
            Outcome = add_in_place(ets:lookup(?ROWS, Key), Row),
            unindex_all([Row || Outcome =/= ok]),
            Outcome
    end.

add_in_place([{_, _, Expires, _} = Old], Row) ->
    case is_live(Expires) of
        true -> exists;
        false -> replaced(replace(Old, Row), Old)
    end;
add_in_place([], _Row) ->
    again.

replaced(true, Old) -> unindex_all([Old]);
replaced(false, _Old) -> again.

%% Whether the old row was still there.
replace({Key, Value, Expires, Generation}, New) ->
    Guards = [{'=:=', '$1', {const, Value}}, {'=:=', '$2', {const, Expires}},
              {'=:=', '$3', {const, Generation}}],
    ets:select_replace(?ROWS, [{{Key, '$1', '$2', '$3'}, Guards, [{const, New}]}]) =:= 1.

index({_, _, infinity, _}) ->
    ok;
index({Key, _, Expires, Generation}) ->
    true = ets:insert(?EXPIRIES, {{Expires, Key, Generation}}),
    ok.

unindex_all(Rows) ->
    lists:foreach(fun unindex/1, Rows).

unindex({_, _, infinity, _}) -> true;
unindex({Key, _, Expires, Generation}) -> ets:delete(?EXPIRIES, {Expires, Key, Generation}).

now_ms() -> erlang:monotonic_time(millisecond).
