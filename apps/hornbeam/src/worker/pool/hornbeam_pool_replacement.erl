%% One round of replacing workers by fresh ones: who is still to be started, who is ready. Pure.
%%
%%   todo ──start──▶ starting ──ready──▶ waiting ──all are ready──▶ they take over
%%
%% The successors wait for each other, so that a round whose code does not start changes nothing.
-module(hornbeam_pool_replacement).

-export([new/2, reason/1, next/1, started/2, ready/2, took_over/2]).
-export_type([replacement/0]).

-record(replacement, {
    reason :: hornbeam_worker:retirement(),
    todo :: [pos_integer()],
    starting = [] :: [pid()],
    waiting = [] :: [pid()]
}).
-opaque replacement() :: #replacement{}.

%% So many are started at a time: a start takes a processor.
-define(AT_ONCE, 2).

%% @doc Replace the workers in these slots.
-spec new(hornbeam_worker:retirement(), [pos_integer()]) -> replacement().
new(Reason, Slots) ->
    #replacement{reason = Reason, todo = Slots}.

-spec reason(replacement()) -> hornbeam_worker:retirement().
reason(#replacement{reason = Reason}) -> Reason.

%% @doc What is to be done now; after `start' comes {@link started/2}.
-spec next(replacement()) ->
    {start, Slot :: pos_integer(), replacement()} | wait | {take_over, [pid()]}.
next(#replacement{todo = [], starting = [], waiting = Waiting}) ->
    {take_over, lists:reverse(Waiting)};
next(#replacement{todo = [Slot | Todo], starting = Starting} = Replacement)
        when length(Starting) < ?AT_ONCE ->
    {start, Slot, Replacement#replacement{todo = Todo}};
next(#replacement{}) ->
    wait.

-spec started(pid(), replacement()) -> replacement().
started(Pid, #replacement{starting = Starting} = Replacement) ->
    Replacement#replacement{starting = [Pid | Starting]}.

-spec ready(pid(), replacement()) -> replacement().
ready(Pid, #replacement{starting = Starting, waiting = Waiting} = Replacement) ->
    Replacement#replacement{starting = lists:delete(Pid, Starting), waiting = [Pid | Waiting]}.

%% @doc One could not wait: the worker in its slot has died.
-spec took_over(pid(), replacement()) -> replacement().
took_over(Pid, #replacement{waiting = Waiting} = Replacement) ->
    Replacement#replacement{waiting = lists:delete(Pid, Waiting)}.
