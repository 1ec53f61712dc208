%% The metrics of a server: the table of what there is, and a collector for the library
%% `prometheus', which writes it.
%%
%% Nothing is kept here. At a scrape each room is asked for what it has counted
%% (hornbeam_metrics_samples). The table is what docs/guide/operations.md is made of.
-module(hornbeam_metrics).
-behaviour(prometheus_collector).

-export([start/0, text/0, open_metrics/0, table/0]).
-export([collect_mf/2, deregister_cleanup/1]).
-export_type([row/0]).

-type row() :: {Name :: atom(), counter | gauge | histogram, Labels :: [atom()],
                Help :: binary()}.

%% Apart from the registry `default', in which an application of the user's may have its own.
-define(REGISTRY, hornbeam).

%% What of the emulator is shown; without this there would be a series for each of its allocators.
-define(OF_THE_SYSTEM, [atom_count, atom_limit, ets_limit, port_count, port_limit, process_count,
                        process_limit, schedulers, schedulers_online, logical_processors,
                        logical_processors_available, logical_processors_online,
                        dirty_cpu_schedulers, dirty_cpu_schedulers_online, dirty_io_schedulers,
                        thread_pool_size, wordsize_bytes]).

%% @doc Start the library, which nobody needs who asks for no metrics, and register the collectors.
-spec start() -> ok | {error, {metrics, Sentence :: unicode:chardata()}}.
start() ->
    _ = application:load(prometheus),
    %% It would look through all modules of the node for such as it could register by itself.
    set_unless_said([{collectors, []}, {instrumenters, []},
                     {vm_system_info_collector_metrics, ?OF_THE_SYSTEM}]),
    case application:ensure_all_started(prometheus) of
        {ok, _} ->
            lists:foreach(fun(Collector) ->
                ok = prometheus_registry:register_collector(?REGISTRY, Collector)
            end, collectors());
        {error, _} ->
            {error, {metrics, "metrics need the Erlang library prometheus, which this node does "
                              "not have: name it in the release, as {prometheus, load}"}}
    end.

set_unless_said(Settings) ->
    _ = [application:set_env(prometheus, Key, Value)
         || {Key, Value} <- Settings, application:get_env(prometheus, Key) =:= undefined],
    ok.

collectors() ->
    [?MODULE, prometheus_vm_memory_collector, prometheus_vm_statistics_collector,
     prometheus_vm_system_info_collector, prometheus_vm_dist_collector].

%% @doc All metrics now, in Prometheus' text format.
-spec text() -> iodata().
text() ->
    hornbeam_exposition:canonical(prometheus_text_format:format(?REGISTRY)).

%% @doc The same as OpenMetrics.
-spec open_metrics() -> iodata().
open_metrics() ->
    hornbeam_exposition:open_metrics(text()).

%% @private
-spec collect_mf(prometheus_registry:registry(), prometheus_collector:collect_mf_callback()) -> ok.
collect_mf(_Registry, Callback) ->
    Samples = hornbeam_metrics_samples:all(),
    lists:foreach(fun({Name, Type, Labels, Help}) ->
        Metrics = [metric(Labels, Sample) || Sample <- maps:get(Name, Samples, [])],
        Callback(prometheus_model_helpers:create_mf(Name, Help, Type, Metrics))
    end, table()),
    OfApps = hornbeam_app_metrics:families(),
    lists:foreach(fun(Family) -> Callback(of_app(Family)) end, OfApps),
    lists:foreach(Callback, hornbeam_client_metrics:families(names(OfApps))).

names(Families) ->
    maps:from_keys(lists:append([hornbeam_metric_name:all_of(Type, Name)
                                 || #{type := Type, name := Name} <- Families]), []).

of_app(#{name := Name, type := Type, help := Help, labels := Labels, samples := Samples}) ->
    prometheus_model_helpers:create_mf(Name, Help, Type,
                                       [metric(Labels, Sample) || Sample <- Samples]).

metric(Labels, {Values, Buckets, Count, Sum}) ->
    {lists:zip(Labels, Values), Buckets, Count, Sum};
metric(Labels, {Values, Value}) ->
    {lists:zip(Labels, Values), Value}.

%% @private
-spec deregister_cleanup(prometheus_registry:registry()) -> ok.
deregister_cleanup(_Registry) ->
    ok.

%% @doc All metrics, but for those of the emulator.
-spec table() -> [row()].
table() ->
    [{hornbeam_build_info, gauge, [version, otp], <<"Always 1; what runs">>},
     {hornbeam_http_requests_total, counter, [mount, method, code],
      <<"Requests that were answered, WebSockets' handshakes that were refused among them">>},
     {hornbeam_http_request_duration_seconds, histogram, [mount],
      <<"From a request's head to the last part of its response">>},
     {hornbeam_http_requests_active, gauge, [mount],
      <<"Requests and handshakes that the app has and has not answered wholly">>},
     {hornbeam_http_requests_cancelled_total, counter, [mount],
      <<"Requests whose client went before the response was whole">>},
     {hornbeam_http_responses_broken_total, counter, [mount],
      <<"Responses that were broken off: the app or its worker failed after they had begun">>},
     {hornbeam_http_request_body_bytes_total, counter, [mount],
      <<"Of requests' bodies, what went to the app">>},
     {hornbeam_http_response_body_bytes_total, counter, [mount],
      <<"Of responses' bodies, counted at the end of each">>},
     {hornbeam_requests_waiting, gauge, [mount],
      <<"Requests and handshakes that wait for a place on a worker">>},
     {hornbeam_queue_wait_seconds, histogram, [mount],
      <<"How long those waited that had to and got a place">>},
     {hornbeam_websockets_open, gauge, [mount], <<"Open WebSockets">>},
     {hornbeam_websockets_opened_total, counter, [mount], <<"WebSockets that were accepted">>},
     {hornbeam_websockets_closed_total, counter, [mount, by, code],
      <<"WebSockets that ended, by which side and close code; other: the app's own codes">>},
     {hornbeam_websocket_messages_received_total, counter, [mount], <<"Messages of clients">>},
     {hornbeam_websocket_received_bytes_total, counter, [mount], <<"The bytes of those">>},
     {hornbeam_websocket_messages_sent_total, counter, [mount],
      <<"Messages to clients, of the app and by topics">>},
     {hornbeam_websocket_sent_bytes_total, counter, [mount], <<"The bytes of those">>},
     {hornbeam_websocket_resume_gap_seconds, histogram, [mount],
      <<"How long WebSockets had no worker that went on with another one">>},
     {hornbeam_event_streams_open, gauge, [mount], <<"Open event streams">>},
     {hornbeam_event_streams_opened_total, counter, [mount], <<"Event streams that began">>},
     {hornbeam_event_streams_closed_total, counter, [mount, reason],
      <<"Event streams that ended, by who has ended them or why">>},
     {hornbeam_event_stream_events_sent_total, counter, [mount],
      <<"Parts of the app and events by topics that were sent in event streams">>},
     {hornbeam_event_stream_sent_bytes_total, counter, [mount], <<"The bytes of those">>},
     {hornbeam_connections_open, gauge, [], <<"Clients' connections, also those that are idle">>},
     {hornbeam_limits_total, counter, [limit],
      <<"How often a limit or a rule of the server has met a client">>},
     {hornbeam_workers, gauge, [mount], <<"Python processes that there are to be">>},
     {hornbeam_worker_up, gauge, [mount, worker], <<"Whether one serves in this place">>},
     {hornbeam_worker_lives_total, counter, [mount, worker],
      <<"Processes that this place has had">>},
     {hornbeam_worker_ends_total, counter, [mount, reason],
      <<"Processes that ended, or are about to, and why">>},
     {hornbeam_worker_requests_total, counter, [mount, worker],
      <<"Requests and handshakes given to the processes of this place">>},
     {hornbeam_worker_messages_total, counter, [mount, worker],
      <<"Messages of WebSockets given to them">>},
     {hornbeam_worker_streams, gauge, [mount, worker],
      <<"Requests, WebSockets and event streams that it runs">>},
     {hornbeam_worker_resident_memory_bytes, gauge, [mount, worker],
      <<"Its resident memory; Linux only">>},
     {hornbeam_worker_loop_lag_seconds, gauge, [mount, worker],
      <<"How long its event loop took to answer the last heartbeat">>},
     {hornbeam_worker_slow, gauge, [mount, worker],
      <<"Whether the answer to a heartbeat is late now">>},
     {hornbeam_worker_age_seconds, gauge, [mount, worker], <<"Since its start">>},
     {hornbeam_worker_unread_bytes, gauge, [mount, worker, kind],
      <<"What waits in the node for it to read: replies, calls, events">>},
     {hornbeam_ops_total, counter, [op], <<"Calls of apps into Erlang, by their names">>},
     {hornbeam_pubsub_published_total, counter, [], <<"Messages published on this node">>},
     {hornbeam_pubsub_delivered_total, counter, [],
      <<"To how many subscribers those were handed, on all nodes">>},
     {hornbeam_pubsub_topics, gauge, [], <<"Topics with subscribers on this node">>},
     {hornbeam_pubsub_losses_total, counter, [reason], <<"Published messages that were lost">>},
     {hornbeam_channel_losses_total, counter, [reason],
      <<"Messages of channel layers that were lost">>},
     {hornbeam_outbox_messages, gauge, [],
      <<"Published messages that wait for slow clients">>},
     {hornbeam_outbox_bytes, gauge, [], <<"The bytes of those">>},
     {hornbeam_state_bytes, gauge, [kind], <<"What apps keep in the node">>},
     {hornbeam_state_rows, gauge, [kind], <<"The same in rows">>},
     {hornbeam_quota_refused_total, counter, [limit],
      <<"How often an app wanted to keep more than a limit allows">>},
     {hornbeam_app_metrics_refused_total, counter, [],
      <<"Changes of apps' metrics that were dropped: too many series, or another definition">>},
     {hornbeam_visitors, gauge, [], <<"Processes outside of the workers that are connected">>},
     {hornbeam_nodes, gauge, [], <<"Other nodes that this one is connected to">>},
     {hornbeam_peer_up, gauge, [peer],
      <<"Whether another node is connected, of this cluster, and speaks with this one">>},
     {hornbeam_peer_waiting_messages, gauge, [peer], <<"What waits in this node for that one">>},
     {hornbeam_peer_waiting_bytes, gauge, [peer], <<"The bytes of that">>},
     {hornbeam_peer_unacknowledged_bytes, gauge, [peer],
      <<"What was sent and may not have arrived">>},
     {hornbeam_peer_sent_messages_total, counter, [peer],
      <<"What has arrived there, since the link with it began">>},
     {hornbeam_peer_sent_bytes_total, counter, [peer], <<"The bytes of that">>},
     {hornbeam_peer_received_messages_total, counter, [peer],
      <<"What has come from there, since the link with it began">>},
     {hornbeam_peer_received_bytes_total, counter, [peer], <<"The bytes of that">>},
     {hornbeam_peer_losses_total, counter, [room, reason],
      <<"What was lost between nodes, by what was said">>},
     {hornbeam_partitions_healed_total, counter, [],
      <<"How often a node that was out of reach was there again">>},
     {hornbeam_pubsub_undelivered_messages, gauge, [],
      <<"Messages published on other nodes that are not handed on yet">>},
     {hornbeam_pubsub_undelivered_bytes, gauge, [], <<"The bytes of those">>},
     {hornbeam_presences, gauge, [],
      <<"Who is present, on all nodes: one for each that was tracked and is not gone">>},
     {hornbeam_leading, gauge, [], <<"Names under which somebody on this node leads">>},
     {hornbeam_consensus_members, gauge, [], <<"Nodes that agree on the consistent state">>},
     {hornbeam_consensus_reachable_members, gauge, [],
      <<"Those of them that this one is connected to, itself among them">>},
     {hornbeam_consensus_leads, gauge, [], <<"Whether this node's member leads the others">>}].
