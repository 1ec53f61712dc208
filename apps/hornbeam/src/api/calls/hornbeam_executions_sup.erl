%% Supervises the hook executions and streams that someone will ask about by an id.
-module(hornbeam_executions_sup).
-behaviour(supervisor).

-export([new_table/0, start_link/0, start/4, enter/3, leave/1, grow/2, ask/3]).
-export([start_execution/2]).
-export([init/1]).
-export_type([id/0, taken/0, holder/0]).

-type id() :: binary().
%% Unguessable: who knows it may ask.

-type taken() :: {holder(), Bytes :: non_neg_integer()}.
%% What is to be given back.

-type holder() :: pid() | none.
%% The worker that has asked for it; none stands for Erlang code, which may have all there are.

%% Rows: {Id, Module, Pid, Holder, Bytes}.
-define(TABLE, hornbeam_executions).
-define(BYTES, 5).

%% Rows: {Holder, Executions}.
-define(HOLDERS, hornbeam_execution_holders).

%% Bytes of an execution beside its arguments and results (about): two processes.
-define(EXECUTION, 8000).

%% At one time.
-define(MAX, 10000).

%% @doc Make the table of ids; its owner must outlive the executions.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ?HOLDERS = ets:new(?HOLDERS, [named_table, public]),
    ok.

-spec start_link() -> {ok, pid()}.
start_link() ->
    %% The executions of a predecessor that was killed went with it; their rows have stayed.
    lists:foreach(fun({Id, _, _, _, _}) -> leave(Id) end, ets:tab2list(?TABLE)),
    {ok, Pid} = supervisor:start_link({local, ?MODULE}, ?MODULE, []),
    {ok, Pid}.

%% @doc Start `Module:start_link(Id, Argument)' and return the id. `Bytes' are those of the
%% argument.
-spec start(module(), Argument :: term(), holder(), Bytes :: non_neg_integer()) ->
    {ok, id()} | {error, overloaded | {limit, hornbeam_quota:limit()}}.
start(Module, Argument, Holder, Bytes) ->
    case ets:info(?TABLE, size) < ?MAX of
        true -> start_if_taken(taken(Holder, ?EXECUTION + Bytes), Module, Argument);
        false -> {error, overloaded}
    end.

start_if_taken({ok, Taken}, Module, Argument) ->
    Id = base64:encode(crypto:strong_rand_bytes(15)),
    Start = fun() -> supervisor:start_child(?MODULE, [Module, {Id, Taken, Argument}]) end,
    try
        {ok, _Pid} = hornbeam_retry:unless_asked(Start),
        {ok, Id}
    catch
        Class:Reason:Stack ->
            given_back(Taken),
            erlang:raise(Class, Reason, Stack)
    end;
start_if_taken({error, _} = Error, _Module, _Argument) ->
    Error.

taken(Holder, Bytes) ->
    case hornbeam_quota:take(executions, Bytes, 1) of
        ok -> held(Holder, {Holder, Bytes});
        {error, _} = Error -> Error
    end.

held(none, Taken) ->
    {ok, Taken};
held(Holder, Taken) ->
    case ets:update_counter(?HOLDERS, Holder, {2, 1}, {Holder, 0})
             > hornbeam_quota:limit(worker_max_executions) of
        false ->
            {ok, Taken};
        true ->
            given_back(Taken),
            hornbeam_quota:refused(worker_max_executions)
    end.

given_back({Holder, Bytes}) ->
    hornbeam_quota:give_back(executions, Bytes, 1),
    released(Holder).

released(none) ->
    ok;
released(Holder) ->
    _ = [ets:delete_object(?HOLDERS, {Holder, 0})
         || ets:update_counter(?HOLDERS, Holder, {2, -1}) =:= 0],
    ok.

%% @private
-spec start_execution(module(), {id(), taken(), term()}) -> gen_server:start_ret().
start_execution(Module, {Id, Taken, Argument}) ->
    Module:start_link({Id, Taken}, Argument).

%% @doc The calling process is the one with this id, and of this module.
-spec enter(module(), id(), taken()) -> ok.
enter(Module, Id, {Holder, Bytes}) ->
    true = ets:insert(?TABLE, {Id, Module, self(), Holder, Bytes}),
    ok.

%% @doc The id is known no more, and what was taken for it is given back.
-spec leave(id()) -> ok.
leave(Id) ->
    case ets:take(?TABLE, Id) of
        [{_, _, _, Holder, Bytes}] -> given_back({Holder, Bytes});
        [] -> ok
    end.

%% @doc Keep so many bytes more, or fewer, for the calling process's id; too many are refused.
-spec grow(id(), Bytes :: integer()) -> ok | {error, {limit, hornbeam_quota:limit()}}.
grow(Id, Bytes) ->
    case hornbeam_quota:take(executions, Bytes, 0) of
        ok ->
            _ = ets:update_counter(?TABLE, Id, {?BYTES, Bytes}),
            ok;
        {error, _} = Error ->
            Error
    end.

%% @doc Ask the process with this id, which answers in bounded time. The id of a process of
%% another module, which would not know the question, is as good as unknown.
-spec ask(module(), id(), Question :: term()) -> term() | {error, unknown_id}.
ask(Module, Id, Question) ->
    case ets:lookup(?TABLE, Id) of
        [{Id, Module, Pid, _, _}] -> ask_process(Pid, Id, Question);
        _ -> {error, unknown_id}
    end.

ask_process(Pid, Id, Question) ->
    try
        gen_server:call(Pid, Question, infinity)
    catch
        %% It has ended meanwhile; if it was killed, its row has stayed.
        exit:_ ->
            leave(Id),
            {error, unknown_id}
    end.

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Execution = #{id => execution,
                  start => {?MODULE, start_execution, []},
                  restart => temporary,
                  shutdown => 1000},
    {ok, {#{strategy => simple_one_for_one}, [Execution]}}.
