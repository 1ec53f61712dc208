%% The ops on counters of all nodes: arguments of the op table in, results of the op table out.
-module(hornbeam_counter_ops).

-export([incr/2, get/2]).

-type context() :: hornbeam_worker_api:context().

-spec incr([term()], context()) -> {ok, number()} | {error, hornbeam_counter_server:failure()}.
incr([Key, Delta, false], _Context) ->
    hornbeam_counter_server:incr(Key, Delta);
incr([Key, Delta, true], Context) ->
    case hornbeam_connection_ops:owner(Context) of
        {ok, Owner} -> hornbeam_counter_server:incr_bound(Owner, Key, Delta);
        {error, closed} = Error -> Error
    end.

-spec get([term()], context()) -> {ok, {ok, number()} | absent}.
get([Key], _Context) ->
    {ok, hornbeam_counter_columns:get(Key)}.
