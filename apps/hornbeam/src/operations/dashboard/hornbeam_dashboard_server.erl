%% What a page shows of the server as a whole, and of each worker, as texts and numbers. Pure but
%% for what it asks the node.
-module(hornbeam_dashboard_server).

-export([described/1]).

%% @doc Of what {@link hornbeam_pool:info/0} tells.
-spec described(#{atom() => term()}) -> #{atom() => term()}.
described(Info) ->
    #{apps => maps:get(apps, Info, #{}), restarts => maps:get(restarts, Info, 0),
      workers => [worker(Worker) || Worker <- maps:get(workers, Info, [])],
      losses => losses(), quota => quota(), limits => limits(),
      node => #{processes => erlang:system_info(process_count),
                run_queue => erlang:statistics(total_run_queue_lengths_all),
                nodes => length(nodes())}}.

worker(Worker) ->
    maps:map(fun(last_end, End) -> printed(End); (_Key, Value) -> Value end,
             maps:with([name, pool, os_pid, state, rss, latency, slow, requests, messages, streams,
                        restarts, seconds, last_end], Worker)).

printed(Atom) when is_atom(Atom); is_binary(Atom) -> Atom;
printed(Term) -> unicode:characters_to_binary(io_lib:format("~0tp", [Term])).

losses() ->
    maps:from_list([{key("topics", Why), Count}
                    || {Why, Count} <- maps:to_list(hornbeam_pubsub:losses())]
                   ++ [{key("channels", Why), Count}
                       || {Why, Count} <- maps:to_list(hornbeam_channels:losses())]).

key(Where, Why) -> list_to_binary([Where, ": ", atom_to_list(Why)]).

quota() ->
    maps:with([bytes, rows], hornbeam_quota:info()).

%% Those that have met somebody.
limits() ->
    maps:filter(fun(Limit, Count) -> Count > 0 andalso hornbeam_counters:is_limit(Limit) end,
                hornbeam_counters:current()).
