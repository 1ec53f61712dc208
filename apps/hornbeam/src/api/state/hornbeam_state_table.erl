%% What may be asked of shared state for one key, or for several that are set at once.
%%
%% Each function reads a row and puts another in its place (hornbeam_state_rows), and begins again
%% when somebody came in between. What has a prefix is asked of hornbeam_state_query.
-module(hornbeam_state_table).

-export([get/1, set/3, set_all/2, delete/1, take/1, add/3, cas/3, incr/2]).
-export([generation/1, undo_incr/3]).

-type key() :: hornbeam_state_key:key().
-type value() :: hornbeam_value:value().
-type ttl() :: hornbeam_state_rows:ttl().
-type generation() :: hornbeam_state_rows:generation().
-type refusal() :: hornbeam_state_rows:refusal().

%% Ints whose sum is far from where hornbeam_value:sum/2 ends, whoever else adds to it.
-define(IS_SMALL(N), (is_integer(N) andalso abs(N) < 1 bsl 1000)).

%% @doc The value of a key.
-spec get(key()) -> {ok, value()} | absent.
get(Key) ->
    case hornbeam_state_rows:find(Key) of
        absent -> absent;
        Row -> {ok, hornbeam_state_rows:value(Row)}
    end.

%% @doc Set a key to a value, whatever it was.
-spec set(key(), value(), ttl()) -> {ok, generation()} | refusal().
set(Key, Value, Ttl) ->
    set_row(Key, hornbeam_state_rows:new(Key, Value, Ttl)).

set_row(Key, New) ->
    case hornbeam_state_rows:exchange(hornbeam_state_rows:read(Key), New) of
        ok -> {ok, hornbeam_state_rows:generation(New)};
        again -> set_row(Key, New);
        {error, _} = Error -> Error
    end.

%% @doc Set several keys at once: who sees one of them sees all.
-spec set_all([{key(), value()}], ttl()) -> ok | refusal().
set_all(Pairs, Ttl) ->
    Rows = maps:from_list([{Key, hornbeam_state_rows:new(Key, Value, Ttl)}
                           || {Key, Value} <- Pairs]),
    hornbeam_state_rows:set_all(maps:values(Rows)).

%% @doc Remove a key; whether it was there.
-spec delete(key()) -> boolean().
delete(Key) ->
    take(Key) =/= absent.

%% @doc Get the value of a key, with what is left of its time to live, and remove it.
-spec take(key()) -> {ok, value(), ttl()} | absent.
take(Key) ->
    take(Key, hornbeam_state_rows:read(Key)).

take(_Key, absent) ->
    absent;
take(Key, Row) ->
    case hornbeam_state_rows:exchange(Row, absent) of
        ok -> value_unless_expired(hornbeam_state_rows:value(Row), hornbeam_state_rows:ttl(Row));
        again -> take(Key)
    end.

value_unless_expired(_Value, expired) -> absent;
value_unless_expired(Value, Left) -> {ok, Value, Left}.

%% @doc Set a key that is absent; whether it was.
-spec add(key(), value(), ttl()) -> boolean() | refusal().
add(Key, Value, Ttl) ->
    case add_row(Key, hornbeam_state_rows:new(Key, Value, Ttl)) of
        ok -> true;
        exists -> false;
        {error, _} = Error -> Error
    end.

add_row(Key, New) ->
    Old = hornbeam_state_rows:read(Key),
    case hornbeam_state_rows:if_live(Old) of
        absent -> added(hornbeam_state_rows:exchange(Old, New), Key, New);
        _ -> exists
    end.

added(again, Key, New) -> add_row(Key, New);
added(Exchanged, _Key, _New) -> Exchanged.

%% @doc Put `New' in the place of `Old'; whether the value was `Old', see
%% {@link hornbeam_value:same/2}. The time to live goes on.
-spec cas(key(), Old :: value(), New :: value()) -> boolean() | refusal() | {error, too_long}.
cas(Key, Old, New) ->
    case hornbeam_state_rows:if_live(hornbeam_state_rows:read(Key)) of
        absent -> false;
        Row -> cas_row(hornbeam_value:same(hornbeam_state_rows:value(Row), Old), Row, Key, Old, New)
    end.

cas_row(true, Row, Key, Old, New) ->
    Changed = hornbeam_state_rows:changed(Row, hornbeam_value:copy(New)),
    case hornbeam_state_rows:exchange(Row, Changed) of
        ok -> true;
        again -> cas(Key, Old, New);
        {error, _} = Error -> Error
    end;
cas_row(FalseOrError, _Row, _Key, _Old, _New) ->
    FalseOrError.

%% @doc Add to a number; an absent key counts as 0. `overflow' is what
%% {@link hornbeam_value:sum/2} does not give.
-spec incr(key(), Delta :: number()) ->
    {ok, number(), generation()} | {error, not_a_number | overflow} | refusal().
incr(Key, Delta) ->
    case incr_found(hornbeam_state_rows:find(Key), Key, Delta) of
        again -> incr(Key, Delta);
        Result -> Result
    end.

incr_found(absent, Key, Delta) -> incr_read(Key, Delta);
incr_found(Row, Key, Delta) -> incr_value(hornbeam_state_rows:value(Row), Key, Delta).

incr_value(Value, Key, Delta) when ?IS_SMALL(Value), ?IS_SMALL(Delta) ->
    hornbeam_state_rows:add(Key, Delta);
incr_value(_Value, Key, Delta) ->
    incr_read(Key, Delta).

incr_read(Key, Delta) ->
    Row = hornbeam_state_rows:read(Key),
    incr_row(hornbeam_state_rows:if_live(Row), Row, Key, Delta).

incr_row(absent, Old, Key, Delta) ->
    case hornbeam_value:sum(0, Delta) of
        {ok, Sum} -> counted(Old, hornbeam_state_rows:new(Key, Sum, infinity));
        {error, _} = Error -> Error
    end;
incr_row(Row, Row, _Key, Delta) ->
    case sum(hornbeam_state_rows:value(Row), Delta) of
        {ok, Sum} -> counted(Row, hornbeam_state_rows:changed(Row, Sum));
        {error, _} = Error -> Error
    end.

sum(Value, Delta) when is_number(Value) -> hornbeam_value:sum(Value, Delta);
sum(_Value, _Delta) -> {error, not_a_number}.

counted(Old, New) ->
    case hornbeam_state_rows:exchange(Old, New) of
        ok -> {ok, hornbeam_state_rows:value(New), hornbeam_state_rows:generation(New)};
        AgainOrError -> AgainOrError
    end.

%% @doc The generation of a key's row.
-spec generation(key()) -> {ok, generation()} | absent.
generation(Key) ->
    case hornbeam_state_rows:find(Key) of
        absent -> absent;
        Row -> {ok, hornbeam_state_rows:generation(Row)}
    end.

%% @doc Take what was added to a number off it, unless its key has been set anew. It stays within
%% what {@link hornbeam_value:sum/2} gives, and is never refused.
-spec undo_incr(key(), generation(), Total :: number()) -> ok.
undo_incr(Key, Generation, Total) ->
    case hornbeam_state_rows:if_live(hornbeam_state_rows:read(Key)) of
        absent ->
            ok;
        Row ->
            IsSame = hornbeam_state_rows:generation(Row) =:= Generation,
            undo_incr(IsSame, hornbeam_state_rows:value(Row), Row, Key, Generation, Total)
    end.

undo_incr(true, Value, Row, Key, Generation, Total) when is_number(Value) ->
    Rest = hornbeam_state_rows:changed(Row, hornbeam_value:nearest_sum(Value, -Total)),
    case hornbeam_state_rows:exchange_by_force(Row, Rest) of
        ok -> ok;
        again -> undo_incr(Key, Generation, Total)
    end;
undo_incr(_IsSame, _Value, _Row, _Key, _Generation, _Total) ->
    ok.
