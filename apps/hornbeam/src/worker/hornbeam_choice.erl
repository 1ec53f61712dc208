%% Which worker of a pool gets the next stream: one whose loop turns, with the least streams.
%%
%% It reads and reserves through the handles' counts only: no process is asked. A worker that is
%% slow to turn gets a stream only when all are.
-module(hornbeam_choice).

-export([take/3, least_loaded/1]).

%% @doc Take a place on one of the workers for `Owner'; `none' when no worker has room.
-spec take([hornbeam_stream:handle()], Place :: reference(), Owner :: pid()) ->
    {ok, hornbeam_stream:handle()} | none.
take([], _Place, _Owner) ->
    none;
take([Handle], Place, Owner) ->
    first_with_room([Handle], Place, Owner);
take(Handles, Place, Owner) ->
    Best = lists:min(ranked(Handles)),
    case hornbeam_stream:take(handle(Best), Place, Owner) of
        {ok, Taken} -> {ok, Taken};
        full -> first_with_room(sorted(lists:delete(handle(Best), Handles)), Place, Owner)
    end.

first_with_room([], _Place, _Owner) ->
    none;
first_with_room([Handle | Handles], Place, Owner) ->
    case hornbeam_stream:take(Handle, Place, Owner) of
        {ok, Taken} -> {ok, Taken};
        full -> first_with_room(Handles, Place, Owner)
    end.

%% @doc The worker that would be chosen, for what takes no place: a call into the app.
-spec least_loaded([hornbeam_stream:handle(), ...]) -> hornbeam_stream:handle().
least_loaded(Handles) ->
    handle(lists:min(ranked(Handles))).

sorted(Handles) ->
    [handle(Ranked) || Ranked <- lists:sort(ranked(Handles))].

ranked(Handles) ->
    [{hornbeam_stream:rank(Handle), Handle} || Handle <- Handles].

handle({_Rank, Handle}) -> Handle.
