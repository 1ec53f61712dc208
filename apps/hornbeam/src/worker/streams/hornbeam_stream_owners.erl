%% The parts of processes that own streams of one worker (hornbeam_stream:owner()).
%%
%% A part cannot monitor the worker, because the `DOWN' would not say for which part it is. So it
%% enters itself in this table before its stream's opening op is written, and the pool inherits the
%% table when the worker dies, however it dies, and tells those that are in it. The worker looks
%% here for a stream when the app says something, and strikes a part out that has got all.
-module(hornbeam_stream_owners).

-export([new/0, new/1, bequeath/2]).
-export([enter/5, leave/2, find/2, of_kind/2, of_process/2, tell_of_end/1]).
-export_type([parts/0, part/0]).

%% Rows: {Number, Kind, Owner, Account}.
-opaque parts() :: ets:table().
-type part() :: {hornbeam_stream:kind(), hornbeam_stream:owner(), hornbeam_stream_credit:account()}.

%% @doc No parts, of a worker whose death is told to nobody.
-spec new() -> parts().
new() ->
    ets:new(?MODULE, [public]).

%% @doc No parts of the calling process, a worker. When it dies without telling, `Heir' gets
%% `{'ETS-TRANSFER', Parts, Worker, inherited}' and calls {@link tell_of_end/1}.
-spec new(Heir :: pid()) -> parts().
new(Heir) ->
    ets:new(?MODULE, [public, {write_concurrency, true}, {heir, Heir, inherited}]).

%% @doc Another process inherits the parts of the calling process: the heir has died and has a
%% successor.
-spec bequeath(Heir :: pid(), parts()) -> ok.
bequeath(Heir, Parts) ->
    true = ets:setopts(Parts, {heir, Heir, inherited}),
    ok.

%% @doc Enter a part of the calling process as the owner of a stream; false when the worker is dead.
-spec enter(pos_integer(), hornbeam_stream:kind(), hornbeam_stream:owner(),
            hornbeam_stream_credit:account(), parts()) -> boolean().
enter(Number, Kind, Owner, Account, Parts) ->
    try
        ets:insert(Parts, {Number, Kind, Owner, Account})
    catch
        error:badarg -> false
    end.

%% @doc Strike a part out, if it is entered.
-spec leave(pos_integer(), parts()) -> ok.
leave(Number, Parts) ->
    true = ets:delete(Parts, Number),
    ok.

%% @doc The part that owns a stream.
-spec find(non_neg_integer(), parts()) -> {ok, part()} | none.
find(Number, Parts) ->
    case ets:lookup(Parts, Number) of
        [{_Number, Kind, Owner, Account}] -> {ok, {Kind, Owner, Account}};
        [] -> none
    end.

%% @doc The streams of a kind, with their owners.
-spec of_kind(hornbeam_stream:kind(), parts()) -> [{pos_integer(), hornbeam_stream:owner()}].
of_kind(Kind, Parts) ->
    ets:select(Parts, [{{'$1', Kind, '$2', '_'}, [], [{{'$1', '$2'}}]}]).

%% @doc The streams that parts of a process own.
-spec of_process(pid(), parts()) -> [pos_integer()].
of_process(Pid, Parts) ->
    ets:select(Parts, [{{'$1', '_', {Pid, '_'}, '_'}, [], ['$1']}]).

%% @doc Tell all parts that the worker ends or is dead, and drop the table.
-spec tell_of_end(parts()) -> ok.
tell_of_end(Parts) ->
    lists:foreach(fun({Number, _Kind, Owner, _Account}) ->
        hornbeam_worker_protocol:down(Owner, Number)
    end, ets:tab2list(Parts)),
    true = ets:delete(Parts),
    ok.
