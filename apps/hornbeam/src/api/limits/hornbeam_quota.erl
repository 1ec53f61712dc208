%% What apps may keep in the node, how much that is, and how often it would have been more. No
%% process.
%%
%% Whoever keeps something reserves its bytes and rows first, and releases them once it is deleted
%% or did not come to be. Each kind is counted by those who change it: what is bounded is the sum.
%% What one connection or worker has is counted in hornbeam_owner_quota; here are its limits.
-module(hornbeam_quota).

-export([new/1, set_limits/1, limit/1, reserve/3, reserve_by_force/3, release/3, recount/3]).
-export([below/2, refused/1, info/0]).
-export_type([kind/0, limit/0, limits/0]).

-type kind() :: state | bindings | connections | topics | executions | channels | presences
              | counters | ops.
%% `state': the rows of the shared state. `bindings': what is to be undone at an owner's end.
%% `connections': what connections and workers keep for themselves. `topics': subscriptions.
%% `executions': calls of hooks that somebody will ask about, with their arguments and results.
%% `channels': messages that wait in channels. `presences': who is present, on all nodes.
%% `counters': columns of those of all nodes, and what is to be taken back of them.
%% `ops': arguments of ops that wait for what they call, packed and as terms, which may be as many
%% again: where all is full, one must be able to look and to delete.

-type limit() ::
    state_max_bytes
    | state_max_rows
    | connection_state_max_bytes
    | connection_state_max_rows
    | connection_max_topics
    | worker_max_hooks
    | worker_max_executions
    | worker_max_unread_bytes.
%% Named after the option that sets it.

-type limits() :: #{limit() => pos_integer() | infinity, atom() => term()}.
%% All of them, perhaps among other options.

%% The cells: the kinds' bytes, their rows, the limits, and what was refused by each.
-define(KIND_CELLS, #{state => 1, bindings => 2, connections => 3, topics => 4, executions => 5,
                      channels => 6, presences => 7, counters => 8, ops => 9}).
-define(KINDS, 9).
%% Those before the last are kept.
-define(KEPT, 8).
-define(LIMIT_CELLS, #{state_max_bytes => 1, state_max_rows => 2, connection_state_max_bytes => 3,
                       connection_state_max_rows => 4, connection_max_topics => 5,
                       worker_max_hooks => 6, worker_max_executions => 7,
                       worker_max_unread_bytes => 8}).
-define(LIMITS, 8).
-define(CELLS, (2 * ?KINDS + 2 * ?LIMITS)).
-define(FIRST_LIMIT, (2 * ?KINDS)).
-define(FIRST_REFUSED, (2 * ?KINDS + ?LIMITS)).

-define(INFINITY, (1 bsl 62)).

%% @doc Begin to count.
-spec new(limits()) -> ok.
new(Limits) ->
    persistent_term:put(?MODULE, atomics:new(?CELLS, [{signed, true}])),
    set_limits(Limits).

%% @doc Set all limits; what is kept already stays.
-spec set_limits(limits()) -> ok.
set_limits(Options) ->
    lists:foreach(fun(Limit) ->
        atomics:put(cells(), limit_cell(Limit), number(maps:get(Limit, Options)))
    end, limits()).

number(infinity) -> ?INFINITY;
number(Number) -> Number.

%% @doc What a limit is.
-spec limit(limit()) -> pos_integer().
limit(Limit) ->
    atomics:get(cells(), limit_cell(Limit)).

%% @doc Whether so much, which somebody else counts, is below a limit.
-spec below(limit(), non_neg_integer()) -> ok | {error, {limit, limit()}}.
below(Limit, Amount) ->
    case Amount < limit(Limit) of
        true -> ok;
        false -> refused(Limit)
    end.

%% @doc Count so many bytes and rows more, unless it were too many; fewer are never refused.
-spec reserve(kind(), Bytes :: integer(), Rows :: integer()) -> ok | {error, {limit, limit()}}.
reserve(_Kind, 0, 0) ->
    ok;
reserve(Kind, Bytes, Rows) ->
    Cells = cells(),
    add(Cells, Kind, Bytes, Rows),
    case excess(Kind, Cells, Bytes, Rows) of
        none ->
            ok;
        Limit ->
            add(Cells, Kind, -Bytes, -Rows),
            refused(Limit)
    end.

excess(ops, Cells, Bytes, _Rows) when Bytes > 0 ->
    case atomics:get(Cells, kind_cell(ops)) > atomics:get(Cells, limit_cell(state_max_bytes)) of
        true -> state_max_bytes;
        false -> none
    end;
excess(_Kind, Cells, Bytes, Rows) ->
    case Bytes > 0 andalso is_over(Cells, 1, state_max_bytes) of
        true -> state_max_bytes;
        false -> excess_rows(Rows > 0 andalso is_over(Cells, ?KINDS + 1, state_max_rows))
    end.

excess_rows(true) -> state_max_rows;
excess_rows(false) -> none.

is_over(Cells, First, Limit) ->
    sum(Cells, First, First + ?KEPT - 1, 0) > atomics:get(Cells, limit_cell(Limit)).

sum(Cells, Last, Last, Sum) -> Sum + atomics:get(Cells, Last);
sum(Cells, Cell, Last, Sum) -> sum(Cells, Cell + 1, Last, Sum + atomics:get(Cells, Cell)).

%% @doc Count more, however many that are: for what must be done.
-spec reserve_by_force(kind(), Bytes :: integer(), Rows :: integer()) -> ok.
reserve_by_force(Kind, Bytes, Rows) ->
    add(cells(), Kind, Bytes, Rows).

%% @doc Count so many fewer.
-spec release(kind(), Bytes :: integer(), Rows :: integer()) -> ok.
release(Kind, Bytes, Rows) ->
    add(cells(), Kind, -Bytes, -Rows).

%% @doc Say how many there are, for who alone changes a kind and has just started: its predecessor
%% may have ended between what it did and what it counted.
-spec recount(kind(), Bytes :: non_neg_integer(), Rows :: non_neg_integer()) -> ok.
recount(Kind, Bytes, Rows) ->
    atomics:put(cells(), kind_cell(Kind), Bytes),
    atomics:put(cells(), kind_cell(Kind) + ?KINDS, Rows).

add(Cells, Kind, Bytes, Rows) ->
    atomics:add(Cells, kind_cell(Kind), Bytes),
    Rows =:= 0 orelse atomics:add(Cells, kind_cell(Kind) + ?KINDS, Rows),
    ok.

%% @doc Count that something was refused; the error that says so.
-spec refused(limit()) -> {error, {limit, limit()}}.
refused(Limit) ->
    atomics:add(cells(), limit_cell(Limit) - ?FIRST_LIMIT + ?FIRST_REFUSED, 1),
    {error, {limit, Limit}}.

%% @doc Bytes and rows of all that is kept and of each kind; the limits, and how often each refused.
-spec info() -> #{atom() => term()}.
info() ->
    Cells = cells(),
    #{bytes => sum(Cells, 1, ?KEPT, 0),
      rows => sum(Cells, ?KINDS + 1, ?KINDS + ?KEPT, 0),
      kinds => maps:from_list([{Kind, kind_info(Cells, kind_cell(Kind))} || Kind <- kinds()]),
      limits => maps:from_list([{Limit, limit_info(limit(Limit))} || Limit <- limits()]),
      refused => maps:from_list([{Limit, refusals(Cells, Limit)} || Limit <- limits()])}.

kind_info(Cells, Cell) ->
    #{bytes => atomics:get(Cells, Cell), rows => atomics:get(Cells, Cell + ?KINDS)}.

limit_info(?INFINITY) -> infinity;
limit_info(Limit) -> Limit.

refusals(Cells, Limit) ->
    atomics:get(Cells, limit_cell(Limit) - ?FIRST_LIMIT + ?FIRST_REFUSED).

cells() -> persistent_term:get(?MODULE).

kinds() -> maps:keys(?KIND_CELLS).

kind_cell(Kind) -> map_get(Kind, ?KIND_CELLS).

limits() -> maps:keys(?LIMIT_CELLS).

limit_cell(Limit) -> ?FIRST_LIMIT + map_get(Limit, ?LIMIT_CELLS).
