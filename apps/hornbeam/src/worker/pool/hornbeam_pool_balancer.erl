%% Which worker of a pool gets the next stream: one whose loop turns, with the least streams.
%%
%% It reads and reserves through the handles' counts only: no process is asked. A worker that is
%% slow to turn gets a stream only when all are.
-module(hornbeam_pool_balancer).

-export([reserve/2, reserve_first/2, least_loaded/1]).

-type reserve() :: fun((hornbeam_capacity:handle()) -> {ok, hornbeam_capacity:handle()} | full).

%% @doc Reserve a place on one of the workers, by a function that tries the worker that it is given;
%% `none' when no worker has room.
-spec reserve([hornbeam_capacity:handle()], reserve()) -> {ok, hornbeam_capacity:handle()} | none.
reserve([], _Reserve) ->
    none;
reserve([Handle], Reserve) ->
    reserve_first([Handle], Reserve);
reserve(Handles, Reserve) ->
    Best = lists:min(ranked(Handles)),
    case Reserve(handle(Best)) of
        {ok, Taken} -> {ok, Taken};
        full -> reserve_first(sorted(lists:delete(handle(Best), Handles)), Reserve)
    end.

%% @doc The same, where others have put the workers in their order.
-spec reserve_first([hornbeam_capacity:handle()], reserve()) ->
    {ok, hornbeam_capacity:handle()} | none.
reserve_first([], _Reserve) ->
    none;
reserve_first([Handle | Handles], Reserve) ->
    case Reserve(Handle) of
        {ok, Taken} -> {ok, Taken};
        full -> reserve_first(Handles, Reserve)
    end.

%% @doc The worker that would be chosen, for what takes no place: a call into the app.
-spec least_loaded([hornbeam_capacity:handle(), ...]) -> hornbeam_capacity:handle().
least_loaded(Handles) ->
    handle(lists:min(ranked(Handles))).

sorted(Handles) ->
    [handle(Ranked) || Ranked <- lists:sort(ranked(Handles))].

ranked(Handles) ->
    [{hornbeam_capacity:rank(Handle), Handle} || Handle <- Handles].

handle({_Rank, Handle}) -> Handle.
