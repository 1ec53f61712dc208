%% The owners of one worker's streams that share a process: tagged owners (hornbeam_stream:owner()).
%%
%% Such an owner cannot monitor the worker, because the `DOWN' would not say for which owner it is.
%% So it enters itself in this table before its stream's opening op is written. The pool inherits
%% the table when the worker dies, however it dies, and tells those that are in it. The worker looks
%% here for a stream when the app says something, and strikes an owner out that has got all.
-module(hornbeam_stream_owners).

-export([new/0, new/1, bequeath/2]).
-export([enter/5, leave/2, find/2, take/2, of_kind/2, of_process/2, notify_down/1]).
-export_type([table/0, entry/0]).

%% Rows: {Number, Kind, Owner, Account}.
-opaque table() :: ets:table().
-type entry() ::
    {hornbeam_stream:kind(), hornbeam_stream:owner(), hornbeam_stream_credit:account()}.

%% @doc No owners, of a worker whose death is told to nobody.
-spec new() -> table().
new() ->
    ets:new(?MODULE, [public]).

%% @doc No owners of the calling process, a worker. When it dies without telling, `Heir' gets
%% `{'ETS-TRANSFER', Table, Worker, inherited}' and calls {@link notify_down/1}.
-spec new(Heir :: pid()) -> table().
new(Heir) ->
    ets:new(?MODULE, [public, {write_concurrency, true}, {heir, Heir, inherited}]).

%% @doc Another process inherits the table of the calling process: the heir has died and has a
%% successor.
-spec bequeath(Heir :: pid(), table()) -> ok.
bequeath(Heir, Table) ->
    true = ets:setopts(Table, {heir, Heir, inherited}),
    ok.

%% @doc Enter an owner in the calling process; false when the worker is dead.
-spec enter(pos_integer(), hornbeam_stream:kind(), hornbeam_stream:owner(),
            hornbeam_stream_credit:account(), table()) -> boolean().
enter(Number, Kind, Owner, Account, Table) ->
    try
        ets:insert(Table, {Number, Kind, Owner, Account})
    catch
        error:badarg -> false
    end.

%% @doc Strike an owner out, if it is entered.
-spec leave(pos_integer(), table()) -> ok.
leave(Number, Table) ->
    true = ets:delete(Table, Number),
    ok.

%% @doc The owner of a stream.
-spec find(non_neg_integer(), table()) -> {ok, entry()} | none.
find(Number, Table) ->
    entry(ets:lookup(Table, Number)).

%% @doc The owner of a stream, who is struck out.
-spec take(pos_integer(), table()) -> {ok, entry()} | none.
take(Number, Table) ->
    entry(ets:take(Table, Number)).

entry([{_Number, Kind, Owner, Account}]) -> {ok, {Kind, Owner, Account}};
entry([]) -> none.

%% @doc The streams of a kind, with their owners.
-spec of_kind(hornbeam_stream:kind(), table()) -> [{pos_integer(), hornbeam_stream:owner()}].
of_kind(Kind, Table) ->
    ets:select(Table, [{{'$1', Kind, '$2', '_'}, [], [{{'$1', '$2'}}]}]).

%% @doc The streams whose owners share a process.
-spec of_process(pid(), table()) -> [pos_integer()].
of_process(Pid, Table) ->
    ets:select(Table, [{{'$1', '_', {Pid, '_'}, '_'}, [], ['$1']}]).

%% @doc Tell all owners that the worker ends or is dead, and drop the table.
-spec notify_down(table()) -> ok.
notify_down(Table) ->
    lists:foreach(fun({Number, _Kind, Owner, _Account}) ->
        hornbeam_worker_protocol:down(Owner, Number)
    end, ets:tab2list(Table)),
    true = ets:delete(Table),
    ok.
