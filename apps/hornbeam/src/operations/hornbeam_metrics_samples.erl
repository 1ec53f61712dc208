%% What each room has counted, as samples of the metrics of hornbeam_metrics. Runs at a scrape, in
%% the process of who asks.
-module(hornbeam_metrics_samples).

-export([all/0]).
-export_type([sample/0]).

-type sample() ::
    {Labels :: [iodata()], Value :: number()}
    | {Labels :: [iodata()], Buckets :: [{float() | infinity, non_neg_integer()}],
       Count :: non_neg_integer(), Sum :: number()}.
%% Labels are the values of those that the table of metrics names, in their order.

%% @doc All samples now, by their metrics.
-spec all() -> #{Metric :: atom() => [sample()]}.
all() ->
    grouped(lists:append([build(), traffic(), connections(), limits(), pools(), api(), cluster(),
                           node_s()])).

grouped(Samples) ->
    maps:map(fun(_Metric, Of) -> lists:reverse(Of) end,
             lists:foldl(fun({Metric, Sample}, All) ->
                 maps:update_with(Metric, fun(Of) -> [Sample | Of] end, [Sample], All)
             end, #{}, Samples)).

build() ->
    {ok, Version} = application:get_key(hornbeam, vsn),
    [one(hornbeam_build_info, [Version, erlang:system_info(otp_release)], 1)].

one(Metric, Labels, Value) ->
    {Metric, {Labels, Value}}.

%% The web room.

traffic() ->
    lists:append([traffic(Mount, Values) || {Mount, Values} <- hornbeam_traffic:all()]).

traffic(Mount, #{answers := Answers, closed := Closed, streams_closed := StreamsClosed,
                 durations := Durations, waits := Waits, gaps := Gaps} = Values) ->
    [one(hornbeam_http_requests_total, [Mount, Method, integer_to_list(Code)], Count)
     || {Method, Code, Count} <- Answers]
    ++ [one(hornbeam_websockets_closed_total, [Mount, atom_to_list(By), Code], Count)
        || {By, Code, Count} <- Closed]
    ++ [one(hornbeam_event_streams_closed_total, [Mount, atom_to_list(Reason)], Count)
        || {Reason, Count} <- StreamsClosed]
    ++ [one(Metric, [Mount], maps:get(Cell, Values)) || {Metric, Cell} <- cells()]
    ++ [histogram(hornbeam_http_request_duration_seconds, Mount, Durations, 1.0e6),
        histogram(hornbeam_queue_wait_seconds, Mount, Waits, 1.0e6),
        histogram(hornbeam_websocket_resume_gap_seconds, Mount, Gaps, 1.0e3)].

cells() ->
    [{hornbeam_http_requests_cancelled_total, cancelled},
     {hornbeam_http_responses_broken_total, broken},
     {hornbeam_http_request_body_bytes_total, request_bytes},
     {hornbeam_http_response_body_bytes_total, response_bytes},
     {hornbeam_websockets_opened_total, opened},
     {hornbeam_websocket_messages_received_total, messages_received},
     {hornbeam_websocket_received_bytes_total, bytes_received},
     {hornbeam_websocket_messages_sent_total, messages_sent},
     {hornbeam_websocket_sent_bytes_total, bytes_sent},
     {hornbeam_event_streams_opened_total, streams_opened},
     {hornbeam_event_stream_events_sent_total, events_sent},
     {hornbeam_event_stream_sent_bytes_total, event_bytes_sent}].

%% So many of the histogram's units are a second.
histogram(Metric, Mount, #{bounds := Bounds, counts := Counts, sum := Sum}, Units) ->
    {Buckets, Count} = lists:mapfoldl(fun({Bound, In}, Before) ->
        {{Bound, Before + In}, Before + In}
    end, 0, lists:zip([Bound / Units || Bound <- Bounds] ++ [infinity], Counts)),
    {Metric, {[Mount], Buckets, Count, Sum / Units}}.

connections() ->
    Open = hornbeam_connection_registry:count(),
    [one(hornbeam_connections_open, [], hornbeam_connection_limit:count())]
    ++ lists:append([connections(Mount, Open) || Mount <- hornbeam_pool:all()]).

connections(Mount, Open) ->
    WebSockets = maps:get({websocket, Mount}, Open, 0),
    Streams = maps:get({event_stream, Mount}, Open, 0),
    #{streams := All, waiting := Waiting} = hornbeam_pool:load(Mount),
    [one(hornbeam_websockets_open, [Mount], WebSockets),
     one(hornbeam_event_streams_open, [Mount], Streams),
     one(hornbeam_requests_waiting, [Mount], Waiting),
     %% Not all are looked at in the same moment.
     one(hornbeam_http_requests_active, [Mount], max(0, All - WebSockets - Streams))].

%% Counters that count work, not what was met.
limits() ->
    [one(hornbeam_limits_total, [atom_to_list(Limit)], Count)
     || {Limit, Count} <- maps:to_list(hornbeam_counters:current()),
        hornbeam_counters:is_limit(Limit)].

%% The worker room.

pools() ->
    lists:append([pool(Mount, Pool) || Mount <- hornbeam_pool:all(),
                                       {ok, Pool} <- [hornbeam_pool:lives(Mount)]]).

pool(Mount, #{slots := Slots, ended := Ended}) ->
    [one(hornbeam_workers, [Mount], length(Slots))]
    ++ [one(hornbeam_worker_ends_total, [Mount, atom_to_list(Reason)], Count)
        || {Reason, Count} <- maps:to_list(Ended)]
    ++ lists:append([slot(Mount, Slot) || Slot <- Slots]).

slot(Mount, #{name := Name, lives := Lives, requests := Requests, messages := Messages,
              worker := Worker}) ->
    [one(hornbeam_worker_lives_total, [Mount, Name], Lives),
     one(hornbeam_worker_requests_total, [Mount, Name], Requests),
     one(hornbeam_worker_messages_total, [Mount, Name], Messages)
     | worker(Mount, Name, described(Worker))].

described(none) -> error;
described(Worker) -> hornbeam_worker:describe(Worker).

worker(Mount, Name, error) ->
    [one(hornbeam_worker_up, [Mount, Name], 0)];
worker(Mount, Name, {ok, #{unread := Unread} = Worker}) ->
    [one(hornbeam_worker_up, [Mount, Name], 1),
     one(hornbeam_worker_slow, [Mount, Name], truth(maps:get(slow, Worker)))]
    ++ [one(Metric, [Mount, Name], Value / Units)
        || {Metric, Key, Units} <- gauges(), Value <- [maps:get(Key, Worker)], is_number(Value)]
    ++ [one(hornbeam_worker_unread_bytes, [Mount, Name, atom_to_list(Kind)], Bytes)
        || {Kind, Bytes} <- maps:to_list(Unread)].

truth(true) -> 1;
truth(false) -> 0.

gauges() ->
    [{hornbeam_worker_streams, streams, 1},
     {hornbeam_worker_resident_memory_bytes, rss, 1},
     {hornbeam_worker_loop_lag_seconds, latency, 1000},
     {hornbeam_worker_age_seconds, seconds, 1}].

%% The api.

api() ->
    #{ops := Ops, published := Published, delivered := Delivered} = hornbeam_api_counts:values(),
    #{kinds := Kinds, refused := Refused} = hornbeam_quota:info(),
    {OutboxMessages, OutboxBytes} = hornbeam_pubsub_fanout:waiting(),
    Names = maps:from_list([{Number, Name} || {Number, Name, _, _, _, _} <- hornbeam_api:ops()]),
    [one(hornbeam_ops_total, [Name], maps:get(Number, Ops, 0))
     || {Number, Name} <- lists:sort(maps:to_list(Names))]
    ++ [one(hornbeam_pubsub_published_total, [], Published),
        one(hornbeam_pubsub_delivered_total, [], Delivered),
        one(hornbeam_pubsub_topics, [], hornbeam_pubsub_fanout:topics()),
        one(hornbeam_app_metrics_refused_total, [], hornbeam_app_metrics:refused()),
        one(hornbeam_outbox_messages, [], OutboxMessages),
        one(hornbeam_outbox_bytes, [], OutboxBytes)]
    ++ reasons(hornbeam_pubsub_losses_total,
               [slow, parked, unreadable, overload, link, cut, elsewhere],
               hornbeam_pubsub:losses())
    ++ reasons(hornbeam_channel_losses_total, [expired, full], hornbeam_channels:losses())
    ++ lists:append([[one(hornbeam_state_bytes, [atom_to_list(Kind)], Bytes),
                      one(hornbeam_state_rows, [atom_to_list(Kind)], Rows)]
                     || {Kind, #{bytes := Bytes, rows := Rows}} <- maps:to_list(Kinds)])
    ++ [one(hornbeam_quota_refused_total, [atom_to_list(Limit)], Count)
        || {Limit, Count} <- maps:to_list(Refused)].

%% A series that is there from the start shows that nothing was lost.
reasons(Metric, Reasons, Losses) ->
    [one(Metric, [atom_to_list(Reason)], maps:get(Reason, Losses, 0)) || Reason <- Reasons].

cluster() ->
    {Undelivered, UndeliveredBytes} = hornbeam_pubsub_inbox:waiting(),
    [one(hornbeam_partitions_healed_total, [], hornbeam_link_nodes:healed()),
     one(hornbeam_pubsub_undelivered_messages, [], Undelivered),
     one(hornbeam_pubsub_undelivered_bytes, [], UndeliveredBytes),
     one(hornbeam_presences, [], hornbeam_presence_rows:size()),
     one(hornbeam_leading, [], length(hornbeam_leader:leading()))]
    ++ consensus(hornbeam_consensus:known())
    ++ [one(hornbeam_peer_losses_total, [atom_to_list(Room), atom_to_list(Why)], Messages)
        || {{Room, Why}, Messages} <- lists:sort(maps:to_list(hornbeam_link_queue:losses()))]
    ++ lists:append([peer(Peer) || Peer <- hornbeam_cluster_status:peers()]).

consensus(#{members := Members, reachable := Reachable, leader := Leader}) ->
    [one(hornbeam_consensus_members, [], length(Members)),
     one(hornbeam_consensus_reachable_members, [], length(Reachable)),
     one(hornbeam_consensus_leads, [], length([leads || Leader =:= node()]))];
consensus(unknown) ->
    [].

peer(#{node := Node, state := State, waiting := Waiting, unacknowledged := Unacknowledged,
       sent := Sent, received := Received}) ->
    Label = [atom_to_list(Node)],
    [one(hornbeam_peer_up, Label, length([up || State =:= up])),
     one(hornbeam_peer_waiting_messages, Label, maps:get(messages, Waiting)),
     one(hornbeam_peer_waiting_bytes, Label, maps:get(bytes, Waiting)),
     one(hornbeam_peer_unacknowledged_bytes, Label, maps:get(bytes, Unacknowledged)),
     one(hornbeam_peer_sent_messages_total, Label, maps:get(messages, Sent)),
     one(hornbeam_peer_sent_bytes_total, Label, maps:get(bytes, Sent)),
     one(hornbeam_peer_received_messages_total, Label, maps:get(messages, Received)),
     one(hornbeam_peer_received_bytes_total, Label, maps:get(bytes, Received))].

node_s() ->
    [one(hornbeam_visitors, [], visitors(whereis(hornbeam_visitor_sup))),
     one(hornbeam_nodes, [], length(nodes()))].

visitors(undefined) -> 0;
visitors(_Supervisor) -> hornbeam_visitor_sup:count().
