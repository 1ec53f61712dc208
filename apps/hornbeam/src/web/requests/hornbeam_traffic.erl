%% What passes through a mount, counted for who asks for metrics or the live page; nothing is
%% where nobody does.
%%
%% Everything is counted under names from a closed set: methods, statuses and close codes that are
%% none of it count as `other', so that no client makes what is kept grow.
-module(hornbeam_traffic).

-export([new/1, none/0, publish/1, all/0]).
-export([answered/5, refused/3, cancelled/1, body_received/2, waited/2]).
-export([opened/1, closed/3, received/2, sent/3, resumed/2]).
-export([stream_opened/1, stream_closed/2, events_sent/3]).
-export_type([traffic/0, values/0]).

-record(traffic, {
    cells :: counters:counters_ref(),
    %% a cell for each method and status
    answers :: counters:counters_ref(),
    durations :: hornbeam_histogram:histogram(),
    waits :: hornbeam_histogram:histogram(),
    gaps :: hornbeam_histogram:histogram()
}).
-opaque traffic() :: #traffic{} | none.

-type by() :: client | server.

-type values() :: #{
    cell() => non_neg_integer(),
    answers := [{Method :: binary(), Status :: 200..599, pos_integer()}],
    closed := [{by(), Code :: binary(), non_neg_integer()}],
    streams_closed := [{hornbeam_event_stream:reason(), non_neg_integer()}],
    durations | waits | gaps := hornbeam_histogram:value()
}.
%% Durations and waits in µs, gaps in ms.

-type cell() :: cancelled | broken | request_bytes | response_bytes | opened | messages_received
              | bytes_received | messages_sent | bytes_sent | streams_opened | events_sent
              | event_bytes_sent.

-define(CELLS, [cancelled, broken, request_bytes, response_bytes, opened, messages_received,
                bytes_received, messages_sent, bytes_sent, streams_opened, events_sent,
                event_bytes_sent]).

-define(CANCELLED, 1).
-define(BROKEN, 2).
-define(REQUEST_BYTES, 3).
-define(RESPONSE_BYTES, 4).
-define(OPENED, 5).
-define(MESSAGES_RECEIVED, 6).
-define(BYTES_RECEIVED, 7).
-define(MESSAGES_SENT, 8).
-define(BYTES_SENT, 9).
-define(STREAMS_OPENED, 10).
-define(EVENTS_SENT, 11).
-define(EVENT_BYTES_SENT, 12).

%% Behind those, for each close code who has said it, and for each reason of an event stream's end.
-define(CODES, [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013,
                1014]).
-define(REASONS, [ended, client, failed, worker, retired, stopped, kicked, slow]).

-define(METHODS, [<<"GET">>, <<"HEAD">>, <<"POST">>, <<"PUT">>, <<"PATCH">>, <<"DELETE">>,
                  <<"OPTIONS">>, <<"other">>]).
-define(FIRST_STATUS, 200).
-define(STATUSES, 400).

%% µs: from an answer that no app had to think about to one that nobody waits for.
-define(DURATIONS, [500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000,
                    2500000, 5000000, 10000000, 30000000, 60000000]).
%% ms
-define(GAPS, [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 120000]).

%% @doc Nothing yet, of a mount of a server with such options.
-spec new(hornbeam_config:server_options()) -> traffic().
new(#{metrics := false, dashboard := false}) ->
    none;
new(_Server) ->
    Cells = length(?CELLS) + 2 * (length(?CODES) + 1) + length(?REASONS),
    #traffic{cells = counters:new(Cells, [write_concurrency]),
             answers = counters:new(length(?METHODS) * ?STATUSES, [atomics]),
             durations = hornbeam_histogram:new(?DURATIONS),
             waits = hornbeam_histogram:new(?DURATIONS),
             gaps = hornbeam_histogram:new(?GAPS)}.

%% @doc What nothing is counted of.
-spec none() -> traffic().
none() -> none.

%% @doc Let the traffic of all mounts be found, in the place of that of the server before.
-spec publish([{hornbeam_config:path(), traffic()}]) -> ok.
publish(Mounts) ->
    persistent_term:put(?MODULE, Mounts).

%% @doc What has passed through each mount since the server's start; empty where nothing is counted.
-spec all() -> [{hornbeam_config:path(), values()}].
all() ->
    [{Path, values(Traffic)}
     || {Path, #traffic{} = Traffic} <- persistent_term:get(?MODULE, [])].

%% HTTP.

%% @doc A request was answered: whether wholly, in how many bytes, and when it began (µs).
-spec answered(Method :: binary(), {100..599, IsWhole :: boolean()}, Bytes :: non_neg_integer(),
               Began :: integer(), traffic()) -> ok.
answered(_Method, _Answer, _Bytes, _Began, none) ->
    ok;
answered(Method, {Status, IsWhole}, Bytes, Began, #traffic{cells = Cells} = Traffic) ->
    count_answer(Method, Status, Traffic),
    counters:add(Cells, ?RESPONSE_BYTES, Bytes),
    IsWhole orelse counters:add(Cells, ?BROKEN, 1),
    hornbeam_histogram:observe(max(0, erlang:monotonic_time(microsecond) - Began),
                               Traffic#traffic.durations).

%% @doc A request was answered at once, and not by the app.
-spec refused(Method :: binary(), 200..599, traffic()) -> ok.
refused(_Method, _Status, none) -> ok;
refused(Method, Status, Traffic) -> count_answer(Method, Status, Traffic).

count_answer(Method, Status, #traffic{answers = Answers})
        when Status >= ?FIRST_STATUS, Status < ?FIRST_STATUS + ?STATUSES ->
    counters:add(Answers, method(Method) * ?STATUSES + Status - ?FIRST_STATUS + 1, 1);
count_answer(_Method, _Status, _Traffic) ->
    ok.

method(<<"GET">>) -> 0;
method(<<"HEAD">>) -> 1;
method(<<"POST">>) -> 2;
method(<<"PUT">>) -> 3;
method(<<"PATCH">>) -> 4;
method(<<"DELETE">>) -> 5;
method(<<"OPTIONS">>) -> 6;
method(_Other) -> 7.

%% @doc The client of a request has gone before the app has answered.
-spec cancelled(traffic()) -> ok.
cancelled(Traffic) -> add(?CANCELLED, 1, Traffic).

%% @doc So many bytes of a request's body went to the app.
-spec body_received(non_neg_integer(), traffic()) -> ok.
body_received(0, _Traffic) -> ok;
body_received(Bytes, Traffic) -> add(?REQUEST_BYTES, Bytes, Traffic).

%% @doc A request, or a WebSocket's handshake, had to wait for a place since then (µs).
-spec waited(Since :: integer(), traffic()) -> ok.
waited(_Since, none) ->
    ok;
waited(Since, #traffic{waits = Waits}) ->
    hornbeam_histogram:observe(max(0, erlang:monotonic_time(microsecond) - Since), Waits).

%% WebSockets.

-spec opened(traffic()) -> ok.
opened(Traffic) -> add(?OPENED, 1, Traffic).

%% @doc A WebSocket is over: who has said so, by which code.
-spec closed(by(), Code :: 1000..4999, traffic()) -> ok.
closed(By, Code, Traffic) ->
    add(length(?CELLS) + 2 * code(Code, ?CODES, 0) + by(By) + 1, 1, Traffic).

code(Code, [Code | _], Number) -> Number;
code(Code, [_ | Codes], Number) -> code(Code, Codes, Number + 1);
code(_Other, [], Number) -> Number.

by(client) -> 0;
by(server) -> 1.

%% @doc A client has sent a message of so many bytes.
-spec received(Bytes :: non_neg_integer(), traffic()) -> ok.
received(_Bytes, none) ->
    ok;
received(Bytes, #traffic{cells = Cells}) ->
    counters:add(Cells, ?MESSAGES_RECEIVED, 1),
    counters:add(Cells, ?BYTES_RECEIVED, Bytes).

%% @doc So many messages and bytes go to a client.
-spec sent(Messages :: non_neg_integer(), Bytes :: non_neg_integer(), traffic()) -> ok.
sent(_Messages, _Bytes, none) ->
    ok;
sent(Messages, Bytes, #traffic{cells = Cells}) ->
    counters:add(Cells, ?MESSAGES_SENT, Messages),
    counters:add(Cells, ?BYTES_SENT, Bytes).

%% @doc A WebSocket goes on with another worker, and had none for so long (ms).
-spec resumed(Gap :: non_neg_integer(), traffic()) -> ok.
resumed(_Gap, none) -> ok;
resumed(Gap, #traffic{gaps = Gaps}) -> hornbeam_histogram:observe(Gap, Gaps).

%% Event streams.

-spec stream_opened(traffic()) -> ok.
stream_opened(Traffic) -> add(?STREAMS_OPENED, 1, Traffic).

-spec stream_closed(hornbeam_event_stream:reason(), traffic()) -> ok.
stream_closed(Reason, Traffic) ->
    add(length(?CELLS) + 2 * (length(?CODES) + 1) + code(Reason, ?REASONS, 0) + 1, 1, Traffic).

%% @doc So many events, or parts that the app has sent, and bytes go to a client.
-spec events_sent(non_neg_integer(), Bytes :: non_neg_integer(), traffic()) -> ok.
events_sent(_Events, _Bytes, none) ->
    ok;
events_sent(Events, Bytes, #traffic{cells = Cells}) ->
    counters:add(Cells, ?EVENTS_SENT, Events),
    counters:add(Cells, ?EVENT_BYTES_SENT, Bytes).

add(_Cell, _Number, none) -> ok;
add(Cell, Number, #traffic{cells = Cells}) -> counters:add(Cells, Cell, Number).

%% For who asks.

values(#traffic{cells = Cells, answers = Answers, durations = Durations, waits = Waits,
                gaps = Gaps}) ->
    Named = lists:zip(?CELLS, lists:seq(1, length(?CELLS))),
    (maps:from_list([{Name, counters:get(Cells, Cell)} || {Name, Cell} <- Named]))#{
        answers => answers(Answers), closed => closings(Cells), streams_closed => ends(Cells),
        durations => hornbeam_histogram:value(Durations),
        waits => hornbeam_histogram:value(Waits), gaps => hornbeam_histogram:value(Gaps)}.

%% Only those that there were: most never are.
answers(Answers) ->
    [{Method, Status, Count}
     || {Place, Method} <- numbered(?METHODS), Offset <- lists:seq(0, ?STATUSES - 1),
        Count <- [counters:get(Answers, Place * ?STATUSES + Offset + 1)], Count > 0,
        Status <- [?FIRST_STATUS + Offset]].

closings(Cells) ->
    Codes = [integer_to_binary(Code) || Code <- ?CODES] ++ [<<"other">>],
    [{By, Code, counters:get(Cells, length(?CELLS) + 2 * Place + by(By) + 1)}
     || {Place, Code} <- numbered(Codes), By <- [client, server]].

ends(Cells) ->
    First = length(?CELLS) + 2 * (length(?CODES) + 1) + 1,
    [{Reason, counters:get(Cells, First + Place)} || {Place, Reason} <- numbered(?REASONS)].

numbered(List) ->
    lists:zip(lists:seq(0, length(List) - 1), List).
