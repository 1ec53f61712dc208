%% The ops on shared state: arguments of the op table in, results of the op table out.
-module(hornbeam_state_ops).

-export([get/2, set/2, delete/2, incr/2, get_multi/2, set_multi/2, keys/2, items/2]).
-export([add/2, cas/2, take/2]).

-type context() :: hornbeam_worker_api:context().
-type result(Type) :: {ok, Type} | {error, term()}.
-type done() :: ok | result(term()).
%% Its value, if any, is no part of the answer.

%% Bytes of what an answer may gather, which is more than what travels.
-define(MOST, 134217728).
%% Bytes of what is gathered, and of values that are in an answer, without waiting for the turn.
-define(FEW, 65536).
-define(SHORT, 1048576).

-type spawned(Result) :: {spawn, fun(() -> Result)}.
-type in_turn(Result) :: Result | {in_turn, fun(() -> Result)}.

-spec get([term()], context()) -> in_turn(result({ok, hornbeam_value:value()} | absent)).
get([Key], _Context) ->
    short(fun() -> {ok, hornbeam_state_table:get(Key)} end).

%% What is long is looked for again when its turn comes: who waits keeps no values.
short(Look) ->
    Found = Look(),
    case bytes(Found) > ?SHORT of
        true -> {in_turn, Look};
        false -> Found
    end.

%% Of what Python has given; the rest is few bytes, or is to be made.
bytes({ok, {ok, Value}}) -> bytes_of(Value);
bytes({ok, Values}) when is_list(Values) -> lists:sum([bytes_of(V) || {ok, V} <- Values]);
bytes(_AbsentOrError) -> 0.

bytes_of({packed, Packed}) -> byte_size(Packed);
bytes_of(_Value) -> 0.

-spec set([term()], context()) -> done() | spawned(done()).
set([Key, Packed, Ttl, false], _Context) ->
    hornbeam_state_table:set(Key, value(Packed), ttl(Ttl));
set([Key, Packed, Ttl, true], Context) ->
    scoped(Context, fun(Owner) ->
        hornbeam_scoped_state:set(Owner, Key, value(Packed), ttl(Ttl))
    end).

%% Its process may be busy; the worker's other messages do not wait for it.
scoped(Context, Fun) ->
    case hornbeam_connection_ops:owner(Context) of
        {ok, Owner} -> {spawn, fun() -> Fun(Owner) end};
        {error, _} = Error -> Error
    end.

ok_unless_error({error, _} = Error) -> Error;
ok_unless_error(Bool) -> {ok, Bool}.

-spec delete([term()], context()) -> result(boolean()).
delete([Key], _Context) ->
    {ok, hornbeam_state_table:delete(Key)}.

-spec incr([term()], context()) -> result(number()) | spawned(result(number())).
incr([Key, Delta, false], _Context) ->
    case hornbeam_state_table:incr(Key, Delta) of
        {ok, New, _Generation} -> {ok, New};
        {error, _} = Error -> Error
    end;
incr([Key, Delta, true], Context) ->
    scoped(Context, fun(Owner) -> hornbeam_scoped_state:incr(Owner, Key, Delta) end).

%% One value may be asked for many times, and then be made as many times. What is a little too long
%% is told by its length.
-spec get_multi([term()], context()) ->
    in_turn(result([{ok, hornbeam_value:value()} | absent])).
get_multi([Keys], _Context) ->
    short(fun() -> gathered(Keys, 2 * ?MOST, []) end).

gathered([], _Left, Values) ->
    {ok, lists:reverse(Values)};
gathered([Key | Keys], Left, Values) ->
    Value = hornbeam_state_table:get(Key),
    case Left - made_bytes(Value) of
        Less when Less >= 0 -> gathered(Keys, Less, [Value | Values]);
        _ -> {error, too_many}
    end.

%% About; what Python has given is there already, however often it is in the answer.
made_bytes(absent) -> 0;
made_bytes({ok, {packed, _}}) -> 0;
made_bytes({ok, {term, Term}}) -> erlang:external_size(Term);
made_bytes({ok, Number}) -> erlang:external_size(Number).

-spec set_multi([term()], context()) -> done().
set_multi([Pairs, Ttl], _Context) ->
    hornbeam_state_table:set_all([{Key, value(Packed)} || {Key, Packed} <- Pairs], ttl(Ttl)).

-spec keys([term()], context()) -> in_turn(result([hornbeam_state_key:key()])).
keys([Prefix], _Context) ->
    few(fun(Most) -> hornbeam_state_query:keys(prefix(Prefix), Most) end).

-spec items([term()], context()) ->
    in_turn(result([{hornbeam_state_key:key(), hornbeam_value:value()}])).
items([Prefix], _Context) ->
    few(fun(Most) -> hornbeam_state_query:items(prefix(Prefix), Most) end).

few(Query) ->
    case Query(?FEW) of
        {error, too_many} -> {in_turn, fun() -> Query(?MOST) end};
        Found -> Found
    end.

-spec add([term()], context()) -> result(boolean()).
add([Key, Packed, Ttl], _Context) ->
    ok_unless_error(hornbeam_state_table:add(Key, value(Packed), ttl(Ttl))).

-spec cas([term()], context()) -> result(boolean()).
cas([Key, Old, New], _Context) ->
    ok_unless_error(hornbeam_state_table:cas(Key, value(Old), value(New))).

-spec take([term()], context()) ->
    result({ok, hornbeam_value:value(), hornbeam_state_rows:ttl()} | absent).
take([Key], _Context) ->
    {ok, hornbeam_state_table:take(Key)}.

value(Packed) -> hornbeam_value:from_packed(Packed).

ttl(undefined) -> infinity;
ttl(Ttl) -> Ttl.

prefix(undefined) -> all;
prefix(Prefix) -> Prefix.
