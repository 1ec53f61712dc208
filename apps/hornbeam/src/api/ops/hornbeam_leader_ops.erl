%% The ops on who leads: arguments of the op table in, results of the op table out. It is the worker
%% that stands, whichever of its streams asks.
-module(hornbeam_leader_ops).

-export([stand/2, await/2, resign/2]).

-type context() :: hornbeam_worker_api:context().

-spec stand([term()], context()) ->
    ok | {error, too_many_candidates | hornbeam_consensus:unavailable()}.
stand([Name, IsLock, Ref], #{process := Process}) ->
    hornbeam_leader:stand(Process, Ref, Name, kind(IsLock)).

kind(true) -> lock;
kind(false) -> leader.

-spec await([term()], context()) -> {ok, hornbeam_leader:standing()} | {error, unknown_candidate}.
await([Ref, Known, Timeout], #{process := Process}) ->
    hornbeam_leader:await(Process, Ref, Known, Timeout).

-spec resign([term()], context()) -> ok.
resign([Ref], #{process := Process}) ->
    hornbeam_leader:withdraw(Process, Ref).
