%% What a load balancer, or who restarts containers, is told at `health_path': whether the node
%% serves, drains, or serves less than it should, and why. Asks no process, and never Python.
%%
%%   draining   ──▶ 503   the stop has begun: send nobody more
%%   degraded   ──▶ 503   an app has no worker that is ready: others can answer, this node cannot
%%              ──▶ 200   it has: fewer than it should, slow ones, or as many wait as may. The node
%%                        still answers, and what it got would only come on top of others' load
%%   ready      ──▶ 200
%%
%% With the query `live' it is 200 in all of these: the node is alive, replaces workers itself, and
%% a start anew would cost every open socket.
-module(hornbeam_health).

-include("hornbeam_request.hrl").

-export([response/2, state/1]).
-export_type([state/0]).

-type state() :: #{status := ready | draining | degraded, reasons := [reason()]}.
-type reason() :: #{mount := hornbeam_pool:name(),
                    reason := no_worker | workers_missing | workers_slow | queue_full,
                    count := non_neg_integer(), of_all := pos_integer()}.
%% How many of how many: workers that are ready, or slow, or requests that wait.

%% @doc The answer to a request for it.
-spec response(hornbeam_request:request(), hornbeam_mounts:mount()) ->
    {Status :: 200..599, hornbeam_headers:fields(), Body :: binary()}.
response(#request{method = Method, query = Query}, Mount)
        when Method =:= <<"GET">>; Method =:= <<"HEAD">> ->
    State = state(Mount),
    {code(Query, State), [{<<"content-type">>, <<"application/json">>},
                          {<<"cache-control">>, <<"no-store">>}], json(State)};
response(_Request, _Mount) ->
    {Status, Fields, Body} = hornbeam_error_response:new(405, <<"Health is asked by GET.\n">>),
    {Status, [{<<"allow">>, <<"GET, HEAD">>} | Fields], Body}.

code(<<"live">>, _State) -> 200;
code(_Query, #{status := draining}) -> 503;
code(_Query, #{reasons := Reasons}) ->
    case [none || #{reason := no_worker} <- Reasons] of
        [] -> 200;
        _ -> 503
    end.

%% @doc How the node does, and what is wrong, in the order of the mounts' paths.
-spec state(hornbeam_mounts:mount() | hornbeam_mounts:mounts()) -> state().
state(#{queues := Queues} = Mounts) ->
    Reasons = lists:append([reasons(Pool, hornbeam_pool:condition(Pool), QueueMax)
                            || {Pool, QueueMax} <- Queues]),
    #{status => status(hornbeam_mounts:is_draining(Mounts), Reasons), reasons => Reasons}.

status(true, _Reasons) -> draining;
status(false, []) -> ready;
status(false, _Reasons) -> degraded.

reasons(Pool, #{wanted := Wanted, ready := Ready, slow := Slow, waiting := Waiting}, QueueMax) ->
    [#{mount => Pool, reason => Reason, count => Count, of_all => All}
     || {true, Reason, Count, All} <- [{Ready =:= 0, no_worker, 0, max(1, Wanted)},
                                       {Ready > 0 andalso Ready < Wanted, workers_missing, Ready,
                                        Wanted},
                                       {Slow > 0, workers_slow, Slow, Ready},
                                       {Waiting >= QueueMax, queue_full, Waiting, QueueMax}]].

json(#{status := Status, reasons := Reasons}) ->
    iolist_to_binary(["{\"status\":\"", atom_to_binary(Status), "\",\"reasons\":[",
                      lists:join(",", lists:map(fun reason/1, Reasons)), "]}\n"]).

reason(#{mount := Mount, reason := Reason, count := Count, of_all := All}) ->
    ["{\"mount\":\"", escaped(Mount), "\",\"reason\":\"", atom_to_binary(Reason),
     "\",\"count\":", integer_to_binary(Count), ",\"of\":", integer_to_binary(All), "}"].

%% A path of a mount has no control characters.
escaped(Path) ->
    << <<(case Char of $" -> <<"\\\"">>; $\\ -> <<"\\\\">>; _ -> <<Char>> end)/binary>>
       || <<Char>> <= Path >>.
