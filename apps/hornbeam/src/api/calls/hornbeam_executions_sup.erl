%% Supervises the hook executions and streams that someone will ask about by an id.
-module(hornbeam_executions_sup).
-behaviour(supervisor).

-export([new_table/0, start_link/0, start/4, enter/3, leave/1, grow/2, ask/3]).
-export([start_execution/2]).
-export([init/1]).
-export_type([id/0, reservation/0, holder/0]).

-type id() :: binary().
%% Unguessable: who knows it may ask.

-type reservation() :: {holder(), Bytes :: non_neg_integer()}.
%% What is to be released at its end.

-type holder() :: hornbeam_hooks:caller().
%% The worker that has asked for it; Erlang code and other nodes may have all there are.

%% Rows: {Id, Module, Pid, Holder, Bytes}.
-define(TABLE, hornbeam_executions).
-define(HOLDER, 4).
-define(BYTES, 5).

%% Bytes of an execution beside its arguments and results (about): two processes.
-define(EXECUTION, 8000).

%% At one time.
-define(MAX, 10000).

%% @doc Make the table of ids; its owner must outlive the executions.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

-spec start_link() -> {ok, pid()}.
start_link() ->
    %% The executions of a predecessor that was killed went with it; their rows have stayed.
    lists:foreach(fun({Id, _, _, _, _}) -> leave(Id) end, ets:tab2list(?TABLE)),
    {ok, Pid} = supervisor:start_link({local, ?MODULE}, ?MODULE, []),
    {ok, Pid}.

%% @doc Start `Module:start_link({Id, Reservation}, {Owner, Target, Call})' for the call of a hook,
%% and return the id. The values of the call are made such as the hook's target needs them.
-spec start(module(), holder(), Owner :: pid() | none,
            {Name :: binary(), Action :: binary(), Args :: Value, Kwargs :: Value}) ->
    {ok, id()} | {error, hornbeam_hooks:failure()} when Value :: hornbeam_value:value().
start(Module, Holder, Owner, {Name, Action, Args0, Kwargs0}) ->
    case hornbeam_hooks:target(Name, Holder) of
        {ok, Target} ->
            [Args, Kwargs] = [hornbeam_hooks:for_target(Target, V) || V <- [Args0, Kwargs0]],
            Bytes = ?EXECUTION + hornbeam_value:bytes(Args) + hornbeam_value:bytes(Kwargs),
            Argument = {Owner, Target, {Name, Action, Args, Kwargs}},
            start_limited(ets:info(?TABLE, size) < ?MAX, Module, Argument, {Holder, Bytes});
        {error, _} = Error ->
            Error
    end.

start_limited(true, Module, Argument, {Holder, Bytes} = Reservation) ->
    case hornbeam_owner_quota:reserve(Holder, executions, Bytes, 1) of
        ok -> start_or_release(Module, Argument, Reservation);
        {error, _} = Error -> Error
    end;
start_limited(false, _Module, _Argument, _Reservation) ->
    {error, overloaded}.

start_or_release(Module, Argument, Reservation) ->
    Id = base64:encode(crypto:strong_rand_bytes(15)),
    Start = fun() -> supervisor:start_child(?MODULE, [Module, {Id, Reservation, Argument}]) end,
    try
        {ok, _Pid} = hornbeam_retry:unless_asked(Start),
        {ok, Id}
    catch
        Class:Reason:Stack ->
            release(Reservation),
            erlang:raise(Class, Reason, Stack)
    end.

release({Holder, Bytes}) ->
    hornbeam_owner_quota:release(Holder, executions, Bytes, 1).

%% @private
-spec start_execution(module(), {id(), reservation(), term()}) -> gen_server:start_ret().
start_execution(Module, {Id, Reservation, Argument}) ->
    Module:start_link({Id, Reservation}, Argument).

%% @doc The calling process is the one with this id, and of this module.
-spec enter(module(), id(), reservation()) -> ok.
enter(Module, Id, {Holder, Bytes}) ->
    true = ets:insert(?TABLE, {Id, Module, self(), Holder, Bytes}),
    ok.

%% @doc The id is known no more, and what was reserved for it is released.
-spec leave(id()) -> ok.
leave(Id) ->
    case ets:take(?TABLE, Id) of
        [{_, _, _, Holder, Bytes}] -> release({Holder, Bytes});
        [] -> ok
    end.

%% @doc Keep so many bytes more, or fewer, for the calling process's id; too many are refused.
-spec grow(id(), Bytes :: integer()) -> ok | {error, {limit, hornbeam_quota:limit()}}.
grow(Id, Bytes) ->
    Holder = ets:lookup_element(?TABLE, Id, ?HOLDER),
    case hornbeam_owner_quota:reserve(Holder, executions, Bytes, 0) of
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
