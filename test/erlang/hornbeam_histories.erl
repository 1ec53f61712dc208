%% Any history of what the nodes of a cluster do and suffer, and that they agree after it.
-module(hornbeam_histories).

-include_lib("proper/include/proper.hrl").

-export([hold/3]).

%% Each of them takes seconds.
-define(HISTORIES, 25).

%% Whether `Agrees' is true of each history of such steps; it fails when the nodes do not agree.
hold(Step, Agrees, Nodes) ->
    Property = ?FORALL(History, list(Step), holds(Agrees, History, Nodes)),
    hornbeam_properties:hold(Property, [{numtests, ?HISTORIES}, {max_size, 60}]).

%% This PropEr cannot be thrown at.
holds(Agrees, History, Nodes) ->
    try
        Agrees(History, Nodes)
    catch
        Class:Reason:Stack ->
            ct:pal("~p~n~p: ~p~n~p", [History, Class, Reason, Stack]),
            hornbeam_cluster:heal(Nodes),
            false
    end.
