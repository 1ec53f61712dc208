%% The ops on the state of a connection: arguments of the op table in, results of the op table out.
-module(hornbeam_connection_ops).

-export([get/2, set/2, delete/2, items/2, owner/1]).

-type context() :: hornbeam_worker_api:context().
-type done() :: ok | {error, closed | {limit, hornbeam_quota:limit()}}.
-type result(Type) :: {ok, Type} | {error, closed | {limit, hornbeam_quota:limit()}}.

-spec get([term()], context()) -> result({ok, hornbeam_value:value()} | absent).
get([Key], Context) ->
    of_owner(Context, fun(Owner) -> hornbeam_connection_state:get(Owner, Key) end).

-spec set([term()], context()) -> done() | {spawn, fun(() -> done())}.
set([Key, Packed], Context) ->
    case owner(Context) of
        {ok, Owner} -> set(Owner, Key, hornbeam_value:from_packed(Packed));
        {error, closed} = Error -> Error
    end.

%% Its process may be busy; the worker's other messages do not wait for it.
set(Owner, Key, Value) ->
    case hornbeam_connection_state:set(Owner, Key, Value) of
        not_open -> {spawn, fun() -> hornbeam_scoped_state:keep(Owner, Key, Value) end};
        OkOrError -> OkOrError
    end.

-spec delete([term()], context()) -> result(boolean()).
delete([Key], Context) ->
    of_owner(Context, fun(Owner) -> hornbeam_connection_state:delete(Owner, Key) end).

-spec items([term()], context()) ->
    result([{hornbeam_state_key:key(), hornbeam_value:value()}]).
items([], Context) ->
    of_owner(Context, fun hornbeam_connection_state:items/1).

of_owner(Context, Fun) ->
    case owner(Context) of
        {ok, Owner} -> unless_forgotten(Owner, Fun(Owner));
        {error, closed} = Error -> Error
    end.

%% Its death may be known to hornbeam_scoped_state and not yet to the worker.
unless_forgotten(Owner, Result) ->
    case hornbeam_connection_state:is_forgotten(Owner) of
        false -> {ok, Result};
        true -> {error, closed}
    end.

%% @doc The process in whose life an op is done: what is bound to a connection ends with it.
-spec owner(context()) -> {ok, pid()} | {error, closed}.
owner(#{client := {_, _Kind, Client}}) -> {ok, Client};
owner(#{client := worker, process := Process}) -> {ok, Process};
owner(#{client := gone}) -> {error, closed}.
