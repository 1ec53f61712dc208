%% @doc Shared state: one table for Python's apps and Erlang's processes.
%%
%% Erlang reads and writes native terms; what Python stored is unpacked when Erlang reads it. A
%% number is the same counter for both sides. Keys are binaries in UTF-8 (Python's str),
%% `{bytes, Binary}' (Python's bytes), integers, and tuples of keys; any other key is an error.
%% Each function is atomic. The table lives as long as the application. What is past the options
%% `state_max_bytes' and `state_max_rows' is refused: {@link incr/2} says so, the other functions
%% raise `{limit, Option}'.
-module(hornbeam_state).

-export([get/1, get/2, set/2, set/3, delete/1, take/1, add/2, add/3, cas/3]).
-export([incr/1, incr/2, decr/1, decr/2, get_multi/1, set_multi/1, keys/0, keys/1, items/1]).
-export_type([options/0, incr_error/0]).

-type key() :: hornbeam_state_key:key().
-type prefix() :: hornbeam_state_key:prefix().
-type options() :: #{ttl => pos_integer()}.
%% `ttl': milliseconds until the key is gone.
-type incr_error() :: not_a_number | overflow | {limit, hornbeam_quota:limit()}.

%% @doc The value of a key, or `undefined'.
-spec get(key()) -> term().
get(Key) ->
    get(Key, undefined).

%% @doc The value of a key, or `Default'.
-spec get(key(), Default :: term()) -> term().
get(Key, Default) ->
    found(Key, hornbeam_state_table:get(checked(Key)), Default).

%% @doc Set a key for good.
-spec set(key(), term()) -> ok.
set(Key, Value) ->
    set(Key, Value, #{}).

%% @doc Set a key, with options.
-spec set(key(), term(), options()) -> ok.
set(Key, Value, Options) ->
    {ok, _} = unless_full(hornbeam_state_table:set(checked(Key), hornbeam_value:from_term(Value),
                                                   ttl(Options))),
    ok.

%% @doc Remove a key; whether it was there.
-spec delete(key()) -> boolean().
delete(Key) ->
    hornbeam_state_table:delete(checked(Key)).

%% @doc Get the value of a key, or `undefined', and remove it.
-spec take(key()) -> term().
take(Key) ->
    case hornbeam_state_table:take(checked(Key)) of
        {ok, Value, _Left} -> native(Key, Value);
        absent -> undefined
    end.

%% @doc Set a key that is absent; whether it was.
-spec add(key(), term()) -> boolean().
add(Key, Value) ->
    add(Key, Value, #{}).

%% @doc Set a key that is absent, with options; whether it was.
-spec add(key(), term(), options()) -> boolean().
add(Key, Value, Options) ->
    unless_full(hornbeam_state_table:add(checked(Key), hornbeam_value:from_term(Value),
                                         ttl(Options))).

%% @doc Put `New' in the place of `Old'; whether the value was exactly `Old'.
%%
%% Raises `too_long' where that is not found out: see {@link hornbeam_value:same/2}.
-spec cas(key(), Old :: term(), New :: term()) -> boolean().
cas(Key, Old, New) ->
    unless_full(hornbeam_state_table:cas(checked(Key), hornbeam_value:from_term(Old),
                                         hornbeam_value:from_term(New))).

%% @doc Add 1 to a key, see {@link incr/2}.
-spec incr(key()) -> number() | {error, incr_error()}.
incr(Key) ->
    incr(Key, 1).

%% @doc Add to a key and return its new value.
%%
%% An absent key counts as 0. A value that is no number stays as it is, and so does a float that
%% would leave its range (`overflow').
-spec incr(key(), Delta :: number()) -> number() | {error, incr_error()}.
incr(Key, Delta) when is_number(Delta) ->
    case hornbeam_state_table:incr(checked(Key), Delta) of
        {ok, New, _Generation} -> New;
        {error, _} = Error -> Error
    end.

%% @doc Subtract 1 from a key, see {@link incr/2}.
-spec decr(key()) -> number() | {error, incr_error()}.
decr(Key) ->
    incr(Key, -1).

%% @doc Subtract from a key, see {@link incr/2}.
-spec decr(key(), Delta :: number()) -> number() | {error, incr_error()}.
decr(Key, Delta) ->
    incr(Key, -Delta).

%% @doc The keys that are there, with their values. Not one moment: each key for itself.
-spec get_multi([key()]) -> #{key() => term()}.
get_multi(Keys) ->
    maps:from_list([{Key, native(Key, Value)}
                    || Key <- Keys, {ok, Value} <- [hornbeam_state_table:get(checked(Key))]]).

%% @doc Set several keys in one moment.
-spec set_multi(#{key() => term()}) -> ok.
set_multi(Map) ->
    unless_full(hornbeam_state_table:set_all([{checked(Key), hornbeam_value:from_term(Value)}
                                              || {Key, Value} <- maps:to_list(Map)], infinity)).

%% @doc All keys, in order.
-spec keys() -> [key()].
keys() ->
    keys(all).

%% @doc The keys with a prefix, in order.
%%
%% A binary is the prefix of binaries; a tuple is the prefix of the tuples that start with its
%% elements. Costs O(log n) for each key that is found, whatever else the table holds.
-spec keys(prefix()) -> [key()].
keys(Prefix) ->
    hornbeam_state_query:keys(checked_prefix(Prefix)).

%% @doc The keys with a prefix, in order, with their values; costs what {@link keys/1} costs.
-spec items(prefix()) -> [{key(), term()}].
items(Prefix) ->
    Items = hornbeam_state_query:items(checked_prefix(Prefix)),
    [{Key, native(Key, Value)} || {Key, Value} <- Items].

checked(Key) ->
    case hornbeam_state_key:is_key(Key) of
        true -> Key;
        false -> error({bad_key, Key})
    end.

%% The prefix of a text may end within a character.
checked_prefix(Prefix) when Prefix =:= all; is_binary(Prefix) -> Prefix;
checked_prefix(Prefix) when is_tuple(Prefix) -> checked(Prefix);
checked_prefix(Prefix) -> error({bad_prefix, Prefix}).

unless_full({error, Reason}) -> error(Reason);
unless_full(Done) -> Done.

ttl(Options) when map_size(Options) =:= 0 -> infinity;
ttl(#{ttl := Ttl} = Options) when map_size(Options) =:= 1 -> checked_ttl(Ttl);
ttl(Options) -> bad_option(Options).

checked_ttl(Ttl) when is_integer(Ttl), Ttl > 0 -> Ttl;
checked_ttl(Ttl) -> error({bad_ttl, Ttl}).

-spec bad_option(term()) -> no_return().
bad_option(Options) when is_map(Options) ->
    [{Key, Value} | _] = maps:to_list(maps:remove(ttl, Options)),
    error({bad_option, Key, Value});
bad_option(Options) ->
    error({bad_option, options, Options}).

found(Key, {ok, Value}, _Default) -> native(Key, Value);
found(_Key, absent, Default) -> Default.

native(Key, Value) ->
    case hornbeam_value:to_term(Value) of
        {ok, Term} -> Term;
        {error, {unreadable, Reason}} -> error({unreadable, Key, Reason})
    end.
