%% Places on one worker that were given to somebody who has not opened a stream on them yet.
%%
%% A place is counted in the handle when it is given. Its holder opens a stream, gives it back or
%% dies; so no place is lost. It monitors; it counts nothing.
-module(hornbeam_worker_places).

-export([new/0, hold/3, use/2, release/2]).
-export_type([places/0]).

-opaque places() :: #{reference() => Monitor :: reference() | used}.

%% @doc No places.
-spec new() -> places().
new() ->
    #{}.

%% @doc Somebody was given a place. His death will come as
%% `{{'DOWN', {place, Place}}, Ref, process, Pid, Reason}'.
-spec hold(Place :: reference(), Owner :: pid(), places()) -> places().
hold(Place, Owner, Places) ->
    case Places of
        #{Place := used} -> maps:remove(Place, Places);
        #{} -> Places#{Place => hornbeam_worker_protocol:monitor(Owner, {place, Place})}
    end.

%% @doc A stream was opened on a place. The news of the place may come later, from another
%% process.
-spec use(Place :: reference(), places()) -> places().
use(Place, Places) ->
    case release(Place, Places) of
        {ok, Left} -> Left;
        unknown -> Places#{Place => used}
    end.

%% @doc A place is free again: its holder does not want it, or is dead. `unknown' when it was
%% used, or never given.
-spec release(Place :: reference(), places()) -> {ok, places()} | unknown.
release(Place, Places) ->
    case Places of
        #{Place := Monitor} when is_reference(Monitor) ->
            true = erlang:demonitor(Monitor, [flush]),
            {ok, maps:remove(Place, Places)};
        #{} ->
            unknown
    end.
