%% The figures that the live page has curves of: what the rooms have counted, as rates since the
%% reading before, and what is so now.
-module(hornbeam_dashboard_figures).

-export([columns/0, read/0, row/2]).
-export_type([reading/0]).

-type reading() :: #{at := integer(), counted := #{atom() => number()},
                     durations := none | hornbeam_histogram:value(),
                     gauges := #{atom() => number() | undefined}}.
%% `at': monotonic time, µs.

-define(RATES, [requests, errors, messages_in, messages_out, bytes_in, bytes_out, published,
                losses]).
-define(GAUGES, [websockets, event_streams, active, waiting, connections, lag, node_memory,
                 worker_memory]).

%% @doc What stands in a row: the time (s since 1970), rates a second, durations of requests (ms),
%% and what is open, how long the slowest worker took to answer (ms), and bytes.
-spec columns() -> [atom()].
columns() ->
    [at | ?RATES] ++ [p50, p95] ++ ?GAUGES.

%% @doc What is counted now, and what the server tells of itself beside.
-spec read() -> {reading(), Info :: #{atom() => term()}}.
read() ->
    Info = hornbeam_pool:info(),
    Traffic = [Values || {_Mount, Values} <- hornbeam_traffic:all()],
    {#{at => erlang:monotonic_time(microsecond), counted => counted(Traffic),
       durations => durations(Traffic), gauges => gauges(Traffic, Info)}, Info}.

counted(Traffic) ->
    #{published := Published} = hornbeam_api_counts:values(),
    #{requests => sum([Count || #{answers := Answers} <- Traffic, {_, _, Count} <- Answers]),
      errors => sum([Count || #{answers := Answers} <- Traffic, {_, Status, Count} <- Answers,
                              Status >= 500]),
      messages_in => cells([messages_received], Traffic),
      messages_out => cells([messages_sent, events_sent], Traffic),
      bytes_in => cells([bytes_received, request_bytes], Traffic),
      bytes_out => cells([bytes_sent, response_bytes, event_bytes_sent], Traffic),
      published => Published,
      losses => sum(maps:values(hornbeam_pubsub:losses()))
                + sum(maps:values(hornbeam_channels:losses()))}.

cells(Names, Traffic) ->
    sum([maps:get(Name, Values) || Values <- Traffic, Name <- Names]).

sum(Numbers) -> lists:sum(Numbers).

%% All mounts have the same classes.
durations([]) ->
    none;
durations([#{durations := First} | Others]) ->
    lists:foldl(fun(#{durations := #{counts := More}}, #{counts := Counts} = Sum) ->
        Sum#{counts := lists:zipwith(fun erlang:'+'/2, Counts, More)}
    end, First, Others).

gauges(Traffic, Info) ->
    Workers = maps:get(workers, Info, []),
    #{websockets => open(opened, closed, Traffic),
      event_streams => open(streams_opened, streams_closed, Traffic),
      active => maps:get(streams, Info, 0), waiting => maps:get(waiting, Info, 0),
      connections => hornbeam_connection_limit:count(),
      lag => largest([Latency || #{latency := Latency} <- Workers, is_number(Latency)]),
      node_memory => erlang:memory(total),
      worker_memory => sum([Rss || #{rss := Rss} <- Workers, is_integer(Rss)])}.

largest([]) -> undefined;
largest(Numbers) -> lists:max(Numbers).

%% What has not been closed is open; a connection that was killed has not said that it is not.
open(Opened, Closed, Traffic) ->
    Ended = sum([element(tuple_size(Of), Of) || Values <- Traffic, Of <- maps:get(Closed, Values)]),
    max(0, cells([Opened], Traffic) - Ended).

%% @doc The row of a reading.
-spec row(Before :: reading(), reading()) -> [number() | undefined].
row(#{at := Then, counted := Before, durations := Earlier},
    #{at := Now, counted := Counted, durations := Durations, gauges := Gauges}) ->
    Seconds = max(1, Now - Then) / 1.0e6,
    [erlang:system_time(millisecond) / 1000]
    ++ [rounded(rate(maps:get(Key, Before), maps:get(Key, Counted), Seconds)) || Key <- ?RATES]
    ++ quantiles([0.5, 0.95], Earlier, Durations)
    ++ [rounded(maps:get(Key, Gauges)) || Key <- ?GAUGES].

%% What is less than before was counted anew.
rate(Before, Now, Seconds) when Now >= Before -> (Now - Before) / Seconds;
rate(_Before, Now, Seconds) -> Now / Seconds.

rounded(undefined) -> undefined;
rounded(Number) when is_integer(Number) -> Number;
rounded(Number) -> round(Number * 100) / 100.

%% In ms, of what was measured between two readings.
quantiles(Qs, _Earlier, none) ->
    [undefined || _ <- Qs];
quantiles(Qs, Earlier, #{bounds := Bounds, counts := Counts}) ->
    Since = since(Earlier, Counts),
    [quantile(Q * sum(Since), 0, Bounds, Since) || Q <- Qs].

since(#{counts := Before}, Counts) when length(Before) =:= length(Counts) ->
    lists:zipwith(fun(Less, More) -> max(0, More - Less) end, Before, Counts);
since(_None, Counts) ->
    Counts.

%% Evenly spread within a class; what is beyond the last one is shown as its bound.
quantile(Rank, _Below, _Bounds, _Counts) when Rank == 0 ->
    undefined;
quantile(Rank, Below, [Bound | _], [Count | _]) when Count > 0, Rank =< Count ->
    rounded((Below + (Bound - Below) * Rank / Count) / 1000);
quantile(Rank, _Below, [Bound | Bounds], [Count | Counts]) ->
    quantile(Rank - Count, Bound, Bounds, Counts);
quantile(_Rank, Below, [], _Counts) ->
    rounded(Below / 1000).
