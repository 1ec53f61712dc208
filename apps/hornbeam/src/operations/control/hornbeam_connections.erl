%% The open WebSockets and event streams as those who operate a server see them: with the names of
%% their workers and what they have subscribed to, all of them, one, or those that have most of
%% something.
-module(hornbeam_connections).

-export([all/0, find/1, top/1]).
-export_type([question/0, top/0]).

-type description() :: hornbeam_connection_registry:description().

-type question() :: #{by := hornbeam_connection_registry:measure(), most := pos_integer(),
                      path := hornbeam_connection_registry:path_filter(),
                      %% how long what is added is counted; 0: what has been all the time
                      seconds := non_neg_integer()}.

-type top() :: #{open := non_neg_integer(), busy := non_neg_integer(),
                 connections := [description()]}.
%% `open' with the path that was asked for; `busy' did not answer, whatever their paths.

%% @doc All of them, in the order of their ids.
-spec all() -> [description()].
all() ->
    Names = hornbeam_pool:names(),
    [named(Described, Names) || Described <- hornbeam_connection_registry:describe()].

%% @doc One of them.
-spec find(hornbeam_connection_registry:id()) -> {ok, description()} | {error, not_found | busy}.
find(Id) ->
    case hornbeam_connection_registry:describe(Id) of
        {ok, Described} -> {ok, named(Described, hornbeam_pool:names())};
        {error, _} = Error -> Error
    end.

named(#{worker := Worker, pid := Pid} = Connection, Names) ->
    Client = maps:get(client, Connection, Pid),
    maps:remove(client, Connection#{worker := maps:get(Worker, Names, undefined),
                                    queue => hornbeam_connection_registry:queue(Connection),
                                    subscriptions => hornbeam_pubsub_registry:topics(Client)});
named(Busy, _Names) ->
    Busy.

%% @doc Those that have most. Each says one number, and only those at the top more: whoever asks
%% gets no more of thousands than is shown.
-spec top(question()) -> top().
top(#{by := By, most := Most, path := Path, seconds := Seconds}) ->
    {Counts, Busy} = measured(Seconds, By, Path),
    Names = hornbeam_pool:names(),
    Top = hornbeam_connection_registry:top(maps:to_list(Counts), Busy, Most),
    #{open => map_size(Counts), busy => length(Busy),
      connections => [named(Described, Names) || Described <- Top]}.

measured(0, By, Path) ->
    hornbeam_connection_registry:measure(By, Path);
measured(Seconds, By, Path) ->
    {Before, _} = hornbeam_connection_registry:measure(By, Path),
    receive after 1000 * Seconds -> ok end,
    {Counts, Busy} = hornbeam_connection_registry:measure(By, Path),
    {maps:map(fun(Id, Number) -> Number - maps:get(Id, Before, 0) end, Counts), Busy}.
