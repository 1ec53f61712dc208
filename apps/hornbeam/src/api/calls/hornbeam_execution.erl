%% One hook execution that was started without waiting for it, and its result.
%%
%%   running ──▶ finished ──▶ end, when the result was taken or has expired
-module(hornbeam_execution).
-behaviour(gen_server).

-export([start/5, await/2, start_link/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-type result() :: {ok, hornbeam_value:value()} | {error, hornbeam_hooks:failure()}.

-record(state, {
    id :: hornbeam_executions_sup:id(),
    runner :: pid(),
    result :: result() | undefined,
    waiting = #{} :: #{reference() => gen_server:from()}
}).

%% A handler may run so long, and a result waits so long (ms).
-define(LONGEST, 3600000).
-define(KEPT, 60000).

%% @doc Start an execution.
-spec start(hornbeam_executions_sup:holder(), Name :: binary(), Action :: binary(),
            hornbeam_value:value(), hornbeam_value:value()) ->
    {ok, Id :: binary()} | {error, hornbeam_hooks:failure()}.
start(Holder, Name, Action, Args, Kwargs) ->
    hornbeam_executions_sup:start(?MODULE, Holder, none, {Name, Action, Args, Kwargs}).

%% @doc Wait at most `Timeout' milliseconds for the result, which is given to those who wait now.
-spec await(Id :: binary(), timeout()) -> result().
await(Id, Timeout) ->
    hornbeam_executions_sup:ask(?MODULE, Id, {await, Timeout}).

%% @private
-spec start_link({hornbeam_executions_sup:id(), hornbeam_executions_sup:reservation()}, tuple()) ->
    gen_server:start_ret().
start_link(Id, Call) ->
    gen_server:start_link(?MODULE, {Id, Call}, []).

%% @private
-spec init({{hornbeam_executions_sup:id(), hornbeam_executions_sup:reservation()}, tuple()}) ->
    {ok, #state{}}.
init({{Id, {Holder, _} = Reservation}, {none, _Target, {Name, Action, Args, Kwargs}}}) ->
    process_flag(trap_exit, true),
    Self = self(),
    Runner = proc_lib:spawn_link(fun() ->
        Self ! {result, hornbeam_hooks:run(Holder, Name, Action, Args, Kwargs, ?LONGEST)}
    end),
    hornbeam_executions_sup:enter(?MODULE, Id, Reservation),
    {ok, #state{id = Id, runner = Runner}}.

%% @private
-spec handle_call({await, timeout()}, gen_server:from(), #state{}) ->
    {noreply, #state{}} | {stop, normal, result(), #state{}}.
handle_call({await, Timeout}, From, #state{result = undefined, waiting = Waiting} = State) ->
    {noreply, State#state{waiting = Waiting#{start_timer(Timeout) => From}}};
handle_call({await, _Timeout}, _From, #state{result = Result} = State) ->
    {stop, normal, Result, State}.

start_timer(infinity) -> make_ref();
start_timer(Timeout) -> erlang:start_timer(Timeout, self(), await).

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({result, Result}, State) ->
    finish(Result, State);
handle_info({'EXIT', Runner, Reason}, #state{runner = Runner, result = undefined} = State)
        when Reason =/= normal ->
    finish({error, hornbeam_deadline:failure(exit, Reason, [])}, State);
handle_info({timeout, Ref, await}, #state{waiting = Waiting} = State) ->
    _ = [gen_server:reply(From, {error, timeout}) || {ok, From} <- [maps:find(Ref, Waiting)]],
    {noreply, State#state{waiting = maps:remove(Ref, Waiting)}};
handle_info(expired, State) ->
    {stop, normal, State};
handle_info(_Stray, State) ->
    {noreply, State}.

finish(Result, #state{id = Id, waiting = Waiting} = State) when map_size(Waiting) =:= 0 ->
    _ = erlang:send_after(?KEPT, self(), expired),
    {noreply, State#state{result = reserve_result(Result, Id)}};
finish(Result, #state{waiting = Waiting} = State) ->
    lists:foreach(fun(From) -> gen_server:reply(From, Result) end, maps:values(Waiting)),
    {stop, normal, State}.

reserve_result({ok, Value} = Result, Id) ->
    case hornbeam_executions_sup:grow(Id, hornbeam_value:bytes(Value)) of
        ok -> Result;
        {error, _} = Error -> Error
    end;
reserve_result({error, _} = Error, _Id) ->
    Error.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{id = Id}) ->
    hornbeam_executions_sup:leave(Id).
