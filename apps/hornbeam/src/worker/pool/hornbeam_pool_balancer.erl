%% Which worker of a pool gets the next stream: one whose loop turns, with the least streams.
%%
%% It reads and reserves through the handles' counts only: no process is asked. A worker that is
%% slow to turn gets a stream only when all are.
-module(hornbeam_pool_balancer).

-export([take/2, least_loaded/1]).

-type take() :: fun((hornbeam_capacity:handle()) -> {ok, hornbeam_capacity:handle()} | full).

%% @doc Take a place on one of the workers, by a function that tries to take one on the worker that
%% it is given; `none' when no worker has room.
-spec take([hornbeam_capacity:handle()], take()) -> {ok, hornbeam_capacity:handle()} | none.
take([], _Take) ->
    none;
take([Handle], Take) ->
    first_with_room([Handle], Take);
take(Handles, Take) ->
    Best = lists:min(ranked(Handles)),
    case Take(handle(Best)) of
        {ok, Taken} -> {ok, Taken};
        full -> first_with_room(sorted(lists:delete(handle(Best), Handles)), Take)
    end.

first_with_room([], _Take) ->
    none;
first_with_room([Handle | Handles], Take) ->
    case Take(Handle) of
        {ok, Taken} -> {ok, Taken};
        full -> first_with_room(Handles, Take)
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
