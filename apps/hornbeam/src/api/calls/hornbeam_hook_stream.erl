%% What a hook's generator yields, fetched a few items at a time.
%%
%%   running ──▶ exhausted or failed ──▶ end, when the reader has been told
%%      └── closed, or the reader has died ──▶ end; the app's generator is closed
%%
%% Items are asked for only when the reader has taken what was there: that is the back-pressure.
-module(hornbeam_hook_stream).
-behaviour(gen_server).

-export([start/6, next/2, close/1, start_link/2]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-type items() :: {ok, [hornbeam_value:value()]} | {error, hornbeam_hooks:failure()}.

-record(state, {
    id :: hornbeam_executions_sup:id(),
    owner :: reference(),
    source :: {worker, pid(), hornbeam_call:call()} | {erlang | nodes, Runner :: pid()},
    %% items that were asked for and have not come
    asked = 0 :: non_neg_integer(),
    %% what has come and was not taken, newest first
    items = [] :: [hornbeam_value:value()],
    end_reason = none :: none | exhausted | {failed, hornbeam_hooks:failure()},
    reader = none :: {reference(), gen_server:from()} | none
}).

%% Items that are asked for at a time.
-define(BATCH, 16).
%% How long (ms) an Erlang handler may take to give its list.
-define(LONGEST, 3600000).

%% @doc Start a stream, which ends with its owner.
-spec start(Owner :: pid(), hornbeam_executions_sup:holder(), Name :: binary(),
            Action :: binary(), hornbeam_value:value(), hornbeam_value:value()) ->
    {ok, Id :: binary()} | {error, hornbeam_hooks:failure()}.
start(Owner, Holder, Name, Action, Args, Kwargs) ->
    hornbeam_executions_sup:start(?MODULE, Holder, Owner, {Name, Action, Args, Kwargs}).

%% @doc Wait at most `Timeout' milliseconds for items: one at least, or none when the stream is
%% exhausted. After that, or an error other than `timeout', the id is unknown.
-spec next(Id :: binary(), timeout()) -> items().
next(Id, Timeout) ->
    hornbeam_executions_sup:ask(?MODULE, Id, {next, Timeout}).

%% @doc End a stream early.
-spec close(Id :: binary()) -> ok.
close(Id) ->
    _ = hornbeam_executions_sup:ask(?MODULE, Id, close),
    ok.

%% @private
-spec start_link({hornbeam_executions_sup:id(), hornbeam_executions_sup:reservation()}, tuple()) ->
    gen_server:start_ret().
start_link(Id, Argument) ->
    gen_server:start_link(?MODULE, {Id, Argument}, []).

%% @private
-spec init({{hornbeam_executions_sup:id(), hornbeam_executions_sup:reservation()}, tuple()}) ->
    {ok, #state{}}.
init({{Id, Reservation}, {Owner, Target, Call}}) ->
    process_flag(trap_exit, true),
    hornbeam_executions_sup:enter(?MODULE, Id, Reservation),
    {ok, #state{id = Id, owner = erlang:monitor(process, Owner), source = source(Target, Call)}}.

source({worker, Worker}, {Name, Action, Args, Kwargs}) ->
    {worker, Worker, hornbeam_call:start(Worker, stream, Name, Action,
                                         hornbeam_value:to_packed(Args),
                                         hornbeam_value:to_packed(Kwargs))};
source({erlang, _Handler} = Target, {Name, Action, Args, Kwargs}) ->
    Self = self(),
    {erlang, proc_lib:spawn_link(fun() ->
        Self ! {result, hornbeam_hooks:run_on(Target, Name, Action, Args, Kwargs, ?LONGEST)}
    end)};
source({nodes, Peers}, {Name, Action, Args, Kwargs}) ->
    {nodes, proc_lib:spawn_link(hornbeam_call_peers, stream,
                                [Peers, {stream, Name, Action, Args, Kwargs}, self()])}.

%% @private
-spec handle_call({next, timeout()} | close, gen_server:from(), #state{}) ->
    {noreply, #state{}, {continue, serve}} | {reply, items(), #state{}}
    | {stop, normal, ok, #state{}}.
handle_call(close, _From, State) ->
    {stop, normal, ok, State};
handle_call({next, Timeout}, From, #state{reader = none} = State) ->
    {noreply, ask(State#state{reader = {start_timer(Timeout), From}}), {continue, serve}};
handle_call({next, _Timeout}, _From, State) ->
    {reply, {error, {unknown, <<"another reader waits for this stream's items">>}}, State}.

start_timer(infinity) -> make_ref();
start_timer(Timeout) -> erlang:start_timer(Timeout, self(), next).

ask(#state{source = {worker, Worker, Call}, asked = 0, items = [], end_reason = none} = State) ->
    hornbeam_call:more(Worker, Call, ?BATCH),
    State#state{asked = ?BATCH};
ask(#state{source = {nodes, Runner}, asked = 0, items = [], end_reason = none} = State) ->
    Runner ! next,
    State#state{asked = 1};
ask(State) ->
    State.

%% Give the reader what there is.
%% @private
-spec handle_continue(serve, #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_continue(serve, #state{reader = none} = State) ->
    {noreply, State};
handle_continue(serve, #state{id = Id, items = [_ | _] = Items} = State) ->
    ok = hornbeam_executions_sup:grow(Id, -bytes(Items)),
    {noreply, reply({ok, lists:reverse(Items)}, State#state{items = []})};
handle_continue(serve, #state{end_reason = exhausted} = State) ->
    {stop, normal, reply({ok, []}, State)};
handle_continue(serve, #state{end_reason = {failed, Failure}} = State) ->
    {stop, normal, reply({error, Failure}, State)};
handle_continue(serve, State) ->
    {noreply, State}.

reply(Items, #state{reader = {Timer, From}} = State) ->
    _ = erlang:cancel_timer(Timer),
    gen_server:reply(From, Items),
    State#state{reader = none}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) ->
    {noreply, #state{}} | {noreply, #state{}, {continue, serve}} | {stop, normal, #state{}}.
handle_info({Call, Answer}, #state{source = {worker, _, Call}} = State) ->
    {noreply, drain(Call, handle_answer(Answer, State)), {continue, serve}};
handle_info({'DOWN', Call, process, _, _}, #state{source = {worker, _, Call}} = State) ->
    {noreply, finish({failed, worker_down}, State), {continue, serve}};
handle_info({result, Result}, #state{source = {erlang, _}} = State) ->
    {noreply, handle_list(Result, State), {continue, serve}};
handle_info({items, Runner, Items}, #state{source = {nodes, Runner}} = State) ->
    {noreply, handle_items(Items, State#state{asked = 0}), {continue, serve}};
handle_info({'EXIT', Runner, Reason}, #state{source = {_, Runner}} = State)
        when Reason =/= normal ->
    Failure = hornbeam_deadline:failure(exit, Reason, []),
    {noreply, finish({failed, Failure}, State), {continue, serve}};
handle_info({timeout, Timer, next}, #state{reader = {Timer, _}} = State) ->
    {noreply, reply({error, timeout}, State)};
handle_info({'DOWN', Owner, process, _, _}, #state{owner = Owner} = State) ->
    {stop, normal, State};
handle_info(_Stray, State) ->
    {noreply, State}.

drain(Call, State) ->
    receive
        {Call, Answer} -> drain(Call, handle_answer(Answer, State))
    after 0 ->
        State
    end.

handle_answer({item, Packed}, #state{asked = Asked} = State) ->
    add_items([hornbeam_value:from_packed(Packed)], State#state{asked = max(0, Asked - 1)});
handle_answer(overloaded, State) ->
    finish({failed, worker_overloaded}, State);
handle_answer({result, Status, Value}, State) ->
    case hornbeam_call:outcome(Status, Value) of
        exhausted -> finish(exhausted, State);
        {ok, _} -> finish(exhausted, State);
        {error, Failure} -> finish({failed, Failure}, State)
    end.

%% What nobody has taken is kept as long as there is room for it.
add_items(New, #state{id = Id, items = Items, end_reason = none} = State) ->
    case hornbeam_executions_sup:grow(Id, bytes(New)) of
        ok ->
            State#state{items = New ++ Items};
        {error, Failure} ->
            stop_source(State#state.source, none),
            finish({failed, Failure}, State)
    end;
add_items(_New, State) ->
    State.

bytes(Items) -> lists:sum([hornbeam_value:bytes(Item) || Item <- Items]).

handle_items({ok, []}, State) -> finish(exhausted, State);
handle_items({ok, Items}, State) -> add_items(lists:reverse(Items), State);
handle_items({error, Failure}, State) -> finish({failed, Failure}, State).

handle_list({ok, {term, List}}, State) when length(List) >= 0 ->
    Items = [hornbeam_value:from_term(Term) || Term <- List],
    finish(exhausted, add_items(lists:reverse(Items), State));
handle_list({ok, _NoList}, State) ->
    finish({failed, not_a_list}, State);
handle_list({error, Failure}, State) ->
    finish({failed, Failure}, State).

finish(EndReason, #state{end_reason = none} = State) -> State#state{end_reason = EndReason};
finish(_EndReason, State) -> State.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{id = Id, source = Source, end_reason = EndReason}) ->
    hornbeam_executions_sup:leave(Id),
    stop_source(Source, EndReason).

stop_source({worker, Worker, Call}, none) -> hornbeam_call:cancel(Worker, Call);
stop_source({nodes, Runner}, none) -> true = exit(Runner, kill), ok;
stop_source(_Source, _EndReason) -> ok.
