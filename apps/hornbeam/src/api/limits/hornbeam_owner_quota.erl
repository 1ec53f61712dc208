%% What each owner, a connection or a worker, has of what apps keep in the node, against its own
%% limits and those of all. No process.
%%
%% Whoever keeps something for an owner reserves it here: in the owner's account, then of all
%% (hornbeam_quota), and in neither where one refuses. Of an owner's state the account must be open:
%% who opens it watches the owner, and closes it at its end. Accounts of other kinds are there while
%% something is in them.
-module(hornbeam_owner_quota).

-export([new_table/0, open/1, close/1, is_open/1, owners/0]).
-export([reserve/4, reserve_trusted/4, release/4, recount/2]).

-type owner() :: pid() | none | peer.
%% `none' stands for Erlang code and `peer' for another node, which may have all there is.

-type kind() :: connections | bindings | topics | executions | presences | counters.

%% Rows: {{Owner, Account}, Bytes, Rows}.
-define(TABLE, ?MODULE).

-define(BYTES, 2).
-define(ROWS, 3).

%% @doc Make the table; its owner must outlive everybody.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {write_concurrency, true}]),
    ok.

%% @doc Somebody watches an owner, who may have state from now on.
-spec open(pid()) -> ok.
open(Owner) ->
    _ = ets:insert_new(?TABLE, {{Owner, state}, 0, 0}),
    ok.

%% @doc An owner may have state no more.
-spec close(pid()) -> ok.
close(Owner) ->
    true = ets:delete(?TABLE, {Owner, state}),
    ok.

%% @doc Whether an owner may have state.
-spec is_open(pid()) -> boolean().
is_open(Owner) ->
    ets:member(?TABLE, {Owner, state}).

%% @doc Those who may have state.
-spec owners() -> [pid()].
owners() ->
    ets:select(?TABLE, [{{{'$1', state}, '_', '_'}, [], ['$1']}]).

%% @doc Count so many bytes and rows more, unless it were too many of the owner or of all; fewer are
%% never refused.
-spec reserve(owner(), kind(), Bytes :: integer(), Rows :: integer()) ->
    ok | not_open | {error, {limit, hornbeam_quota:limit()}}.
reserve(Owner, Kind, Bytes, Rows) when not is_pid(Owner) ->
    hornbeam_quota:reserve(Kind, Bytes, Rows);
reserve(Owner, Kind, Bytes, Rows) ->
    case add({Owner, account(Kind)}, Bytes, Rows) of
        [OwnBytes, OwnRows] ->
            Limit = exceeded(limits(account(Kind)), {Bytes, OwnBytes}, {Rows, OwnRows}),
            reserve_of_all(Limit, Owner, Kind, Bytes, Rows);
        not_open ->
            not_open
    end.

%% @doc The same, whatever the owner has already.
-spec reserve_trusted(pid(), topics | presences, Bytes :: integer(), Rows :: integer()) ->
    ok | {error, {limit, hornbeam_quota:limit()}}.
reserve_trusted(Owner, Kind, Bytes, Rows) ->
    _ = add({Owner, account(Kind)}, Bytes, Rows),
    reserve_of_all(none, Owner, Kind, Bytes, Rows).

reserve_of_all(none, Owner, Kind, Bytes, Rows) ->
    case hornbeam_quota:reserve(Kind, Bytes, Rows) of
        ok ->
            ok;
        {error, _} = Error ->
            release_own(Owner, Kind, Bytes, Rows),
            Error
    end;
reserve_of_all(Limit, Owner, Kind, Bytes, Rows) ->
    release_own(Owner, Kind, Bytes, Rows),
    hornbeam_quota:refused(Limit).

%% @doc Count so many fewer. Of an account that is closed there is nothing to be counted.
-spec release(owner(), kind(), Bytes :: integer(), Rows :: integer()) -> ok.
release(Owner, Kind, Bytes, Rows) ->
    hornbeam_quota:release(Kind, Bytes, Rows),
    release_own(Owner, Kind, Bytes, Rows).

release_own(Owner, _Kind, _Bytes, _Rows) when not is_pid(Owner) ->
    ok;
release_own(Owner, Kind, Bytes, Rows) ->
    Key = {_, Account} = {Owner, account(Kind)},
    _ = [ets:delete_object(?TABLE, {Key, 0, 0})
         || add(Key, -Bytes, -Rows) =:= [0, 0], Account =/= state],
    ok.

add({_Owner, state} = Key, Bytes, Rows) ->
    try
        ets:update_counter(?TABLE, Key, [{?BYTES, Bytes}, {?ROWS, Rows}])
    catch
        error:badarg -> not_open
    end;
add(Key, Bytes, Rows) ->
    ets:update_counter(?TABLE, Key, [{?BYTES, Bytes}, {?ROWS, Rows}], {Key, 0, 0}).

exceeded({MaxBytes, MaxRows}, Bytes, Rows) ->
    case is_over(MaxBytes, Bytes) of
        true -> MaxBytes;
        false -> exceeded_rows(is_over(MaxRows, Rows), MaxRows)
    end.

exceeded_rows(true, MaxRows) -> MaxRows;
exceeded_rows(false, _MaxRows) -> none.

is_over(none, _) -> false;
is_over(Limit, {More, Own}) -> More > 0 andalso Own > hornbeam_quota:limit(Limit).

%% What a connection keeps and what is to be undone at its end is one to it.
account(connections) -> state;
account(bindings) -> state;
account(Kind) -> Kind.

limits(state) -> {connection_state_max_bytes, connection_state_max_rows};
limits(presences) -> {connection_state_max_bytes, connection_state_max_rows};
limits(counters) -> {connection_state_max_bytes, connection_state_max_rows};
limits(topics) -> {none, connection_max_topics};
limits(executions) -> {none, worker_max_executions}.

%% @doc Say what there is of a kind, for who alone changes it and has just started: see
%% {@link hornbeam_quota:recount/3}.
-spec recount(topics | presences | counters, [{Owner :: pid(), Bytes :: non_neg_integer()}]) -> ok.
recount(Kind, Rows) ->
    true = ets:match_delete(?TABLE, {{'_', account(Kind)}, '_', '_'}),
    lists:foreach(fun({Owner, Bytes}) -> add({Owner, account(Kind)}, Bytes, 1) end, Rows),
    hornbeam_quota:recount(Kind, lists:sum([Bytes || {_, Bytes} <- Rows]), length(Rows)).
