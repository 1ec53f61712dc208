%% Supervises the hook executions and streams that someone will ask about by an id.
-module(hornbeam_executions_sup).
-behaviour(supervisor).

-export([new_table/0, start_link/0, start/2, enter/2, leave/1, ask/3]).
-export([start_execution/2]).
-export([init/1]).
-export_type([id/0]).

-type id() :: binary().
%% Unguessable: who knows it may ask.

%% Rows: {Id, Module, Pid}.
-define(TABLE, hornbeam_executions).

%% At one time.
-define(MAX, 10000).

%% @doc Make the table of ids; its owner must outlive the executions.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

-spec start_link() -> {ok, pid()}.
start_link() ->
    {ok, Pid} = supervisor:start_link({local, ?MODULE}, ?MODULE, []),
    {ok, Pid}.

%% @doc Start `Module:start_link(Id, Argument)' and return the id.
-spec start(module(), Argument :: term()) -> {ok, id()} | {error, overloaded}.
start(Module, Argument) ->
    Id = base64:encode(crypto:strong_rand_bytes(15)),
    case ets:info(?TABLE, size) < ?MAX of
        true ->
            Start = fun() -> supervisor:start_child(?MODULE, [Module, {Id, Argument}]) end,
            {ok, _Pid} = hornbeam_retry:unless_asked(Start),
            {ok, Id};
        false ->
            {error, overloaded}
    end.

%% @private
-spec start_execution(module(), {id(), term()}) -> gen_server:start_ret().
start_execution(Module, {Id, Argument}) ->
    Module:start_link(Id, Argument).

%% @doc The calling process is the one with this id, and of this module.
-spec enter(module(), id()) -> ok.
enter(Module, Id) ->
    true = ets:insert(?TABLE, {Id, Module, self()}),
    ok.

%% @doc The id is known no more.
-spec leave(id()) -> ok.
leave(Id) ->
    true = ets:delete(?TABLE, Id),
    ok.

%% @doc Ask the process with this id, which answers in bounded time. The id of a process of
%% another module, which would not know the question, is as good as unknown.
-spec ask(module(), id(), Question :: term()) -> term() | {error, unknown_id}.
ask(Module, Id, Question) ->
    case ets:lookup(?TABLE, Id) of
        [{Id, Module, Pid}] -> ask_process(Pid, Id, Question);
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
    %% The executions of a predecessor that was killed went with it; their rows have stayed.
    true = ets:delete_all_objects(?TABLE),
    Execution = #{id => execution,
                  start => {?MODULE, start_execution, []},
                  restart => temporary,
                  shutdown => 1000},
    {ok, {#{strategy => simple_one_for_one}, [Execution]}}.
