%% The ops on the consistent state: arguments of the op table in, results of the op table out.
-module(hornbeam_cluster_ops).

-export([get/2, set/2, add/2, cas/2, delete/2, incr/2]).

-type context() :: hornbeam_worker_api:context().
-type result(Type) :: {ok, Type} | {error, hornbeam_consensus:error()}.

-spec get([term()], context()) -> result({ok, hornbeam_value:value()} | absent).
get([Key], _Context) ->
    hornbeam_consensus:command({get, Key}).

-spec set([term()], context()) -> result(ok).
set([Key, Packed], _Context) ->
    hornbeam_consensus:command({set, Key, value(Packed)}).

-spec add([term()], context()) -> result(boolean()).
add([Key, Packed], _Context) ->
    hornbeam_consensus:command({add, Key, value(Packed)}).

-spec cas([term()], context()) -> result(boolean()).
cas([Key, Old, New], _Context) ->
    hornbeam_consensus:command({cas, Key, value(Old), value(New)}).

-spec delete([term()], context()) -> result(boolean()).
delete([Key], _Context) ->
    hornbeam_consensus:command({delete, Key}).

-spec incr([term()], context()) -> result(number()).
incr([Key, Delta], _Context) ->
    case hornbeam_consensus:command({incr, Key, Delta}) of
        {ok, {ok, Sum}} -> {ok, Sum};
        {error, _} = Error -> Error
    end.

%% A part of what was read, which nobody is to keep for it.
value(Packed) -> hornbeam_value:copy(hornbeam_value:from_packed(Packed)).
