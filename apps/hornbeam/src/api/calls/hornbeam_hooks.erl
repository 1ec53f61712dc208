%% @doc Hooks: named handlers with actions, wherever they live.
%%
%% An app registers a handler in each of its workers, Erlang a fun or a module; anyone, Python or
%% Erlang, calls an action of it by name. Of several workers the least loaded is taken, and an
%% Erlang handler counts as idle. A worker's handlers go with it. Where several apps are served, one
%% that has a handler of the name itself is not given that of another.
%%
%% An Erlang handler is a fun of `(Action, Args)' or `(Action, Args, Kwargs)', or a module that
%% exports `handle_hook/3' with the latter. Its results mean what those of registered functions
%% mean; that of a stream is a list.
%%
%% What no worker of this node has, and no Erlang code, is executed on one of the other nodes of the
%% cluster that have it: another one each time.
%%
%% The process of this module only watches the workers; who calls reads the table.
-module(hornbeam_hooks).
-behaviour(gen_server).

-export([new_table/0, start_link/0]).
-export([register_hook/2, unregister_hook/1, execute/3, execute/4, execute/5]).
-export([execute_async/3, execute_async/4, await_result/2]).
-export([stream/3, stream/4, next/2, close/1]).
-export([register_worker/2, unregister_worker/2, stopping/1]).
-export([run/6, run_on/6, target/2, for_target/2, names/0, is_registered/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([handler/0, target/0, caller/0, failure/0]).

-type handler() ::
    fun((Action :: binary(), Args :: [term()]) -> term())
    | fun((Action :: binary(), Args :: [term()], Kwargs :: map()) -> term())
    | module().

-type target() :: {worker, pid()} | {erlang, handler()} | {nodes, [hornbeam_links:peer(), ...]}.

-type caller() :: Worker :: pid() | none | peer.
%% Whose app calls; none of them where it is Erlang. What another node calls is not called further.

-type failure() ::
    no_hook
    | unknown_id
    | overloaded
    | {limit, hornbeam_quota:limit()}
    | hornbeam_value:unreadable()
    | not_a_list
    | hornbeam_call:failure()
    | hornbeam_call_peers:failure()
    | hornbeam_deadline:failure().
%% `unknown_id': never given, taken already, or given up. `overloaded': too many executions;
%% `limit': too many of one worker, or more than may be kept.

%% Rows: {{Name, Worker | erlang}, Handle | handler()}.
-define(TABLE, ?MODULE).

-define(TIMEOUT, 5000).

%% @doc Make the table; its owner must outlive everybody.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, ordered_set, {read_concurrency, true}]),
    ok.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Register an Erlang handler; the name's earlier one of Erlang is replaced.
-spec register_hook(hornbeam_name:name(), handler()) -> ok.
register_hook(Name, Handler)
        when is_function(Handler, 2); is_function(Handler, 3); is_atom(Handler) ->
    Text = hornbeam_name:text(Name),
    true = ets:insert(?TABLE, {{Text, erlang}, Handler}),
    changed(Text).

%% @doc Take an Erlang handler back; those of workers stay.
-spec unregister_hook(hornbeam_name:name()) -> ok.
unregister_hook(Name) ->
    Text = hornbeam_name:text(Name),
    true = ets:delete(?TABLE, {Text, erlang}),
    changed(Text).

changed(Name) ->
    hornbeam_call_peers:changed({hook, Name}).

%% @doc The names of all that are served on this node.
-spec names() -> [binary()].
names() ->
    lists:usort(ets:select(?TABLE, [{{{'$1', '_'}, '_'}, [], ['$1']}])).

%% @doc Whether one is served on this node.
-spec is_registered(Name :: binary()) -> boolean().
is_registered(Name) ->
    ets:select(?TABLE, [{{{Name, '_'}, '_'}, [], [true]}], 1) =/= '$end_of_table'.

%% @doc Execute an action; see {@link execute/5}.
-spec execute(hornbeam_name:name(), Action :: hornbeam_name:name(), Args :: [term()]) ->
    {ok, term()} | {error, failure()}.
execute(Name, Action, Args) ->
    execute(Name, Action, Args, #{}).

%% @doc Execute an action; see {@link execute/5}.
-spec execute(hornbeam_name:name(), Action :: hornbeam_name:name(), Args :: [term()],
              Kwargs :: map()) ->
    {ok, term()} | {error, failure()}.
execute(Name, Action, Args, Kwargs) ->
    execute(Name, Action, Args, Kwargs, ?TIMEOUT).

%% @doc Execute an action of a hook and wait at most `Timeout' milliseconds (5000).
-spec execute(hornbeam_name:name(), Action :: hornbeam_name:name(), Args :: [term()],
              Kwargs :: map(), timeout()) -> {ok, term()} | {error, failure()}.
execute(Name, Action, Args, Kwargs, Timeout) ->
    native(run(none, hornbeam_name:text(Name), hornbeam_name:text(Action), {term, Args},
               named(Kwargs), Timeout)).

%% @doc Start an execution; see {@link execute_async/4}.
-spec execute_async(hornbeam_name:name(), Action :: hornbeam_name:name(), Args :: [term()]) ->
    {ok, Id :: binary()} | {error, failure()}.
execute_async(Name, Action, Args) ->
    execute_async(Name, Action, Args, #{}).

%% @doc Start an execution. Its result waits for {@link await_result/2}, a minute at most.
-spec execute_async(hornbeam_name:name(), Action :: hornbeam_name:name(), Args :: [term()],
                    Kwargs :: map()) ->
    {ok, Id :: binary()} | {error, failure()}.
execute_async(Name, Action, Args, Kwargs) ->
    hornbeam_execution:start(none, hornbeam_name:text(Name), hornbeam_name:text(Action),
                             {term, Args}, named(Kwargs)).

%% @doc Wait at most `Timeout' milliseconds for the result of an execution; it is given once. On
%% `timeout' the execution goes on and one may wait again.
-spec await_result(Id :: binary(), timeout()) -> {ok, term()} | {error, failure()}.
await_result(Id, Timeout) ->
    native(hornbeam_execution:await(Id, Timeout)).

%% @doc Start a stream; see {@link stream/4}.
-spec stream(hornbeam_name:name(), Action :: hornbeam_name:name(), Args :: [term()]) ->
    {ok, Id :: binary()} | {error, failure()}.
stream(Name, Action, Args) ->
    stream(Name, Action, Args, #{}).

%% @doc Start a stream of what an action yields. It produces a few items ahead of
%% {@link next/2}, no more, and is closed when the calling process ends.
-spec stream(hornbeam_name:name(), Action :: hornbeam_name:name(), Args :: [term()],
             Kwargs :: map()) ->
    {ok, Id :: binary()} | {error, failure()}.
stream(Name, Action, Args, Kwargs) ->
    hornbeam_hook_stream:start(self(), none, hornbeam_name:text(Name), hornbeam_name:text(Action),
                               {term, Args}, named(Kwargs)).

named(Kwargs) -> {term, hornbeam_name:texts(Kwargs)}.

%% @doc The next items of a stream, one at least; none when it is exhausted.
-spec next(Id :: binary(), timeout()) -> {ok, [term()]} | {error, failure()}.
next(Id, Timeout) ->
    case hornbeam_hook_stream:next(Id, Timeout) of
        {ok, Items} -> all_native(Items, []);
        {error, _} = Error -> Error
    end.

all_native([], Terms) ->
    {ok, lists:reverse(Terms)};
all_native([Item | Items], Terms) ->
    case native({ok, Item}) of
        {ok, Term} -> all_native(Items, [Term | Terms]);
        {error, _} = Error -> Error
    end.

%% @doc End a stream early; the app's generator is closed.
-spec close(Id :: binary()) -> ok.
close(Id) ->
    hornbeam_hook_stream:close(Id).

native({ok, Value}) -> hornbeam_value:to_term(Value);
native({error, _} = Error) -> Error.

%% @doc Register the hook that a worker's app serves, if it is not one too many.
-spec register_worker(Name :: binary(), hornbeam_capacity:handle()) ->
    ok | {error, {limit, hornbeam_quota:limit()}}.
register_worker(Name, Handle) ->
    call({register, Name, Handle}).

%% @doc Take a worker's hook back, if it has one of the name.
-spec unregister_worker(Name :: binary(), Worker :: pid()) -> ok.
unregister_worker(Name, Worker) ->
    call({unregister, Name, Worker}).

%% @doc A worker stops, and serves its hooks no more. Waits for nobody.
-spec stopping(Worker :: pid()) -> ok.
stopping(Worker) ->
    gen_server:cast(?MODULE, {stopping, Worker}).

%% The server waits for nobody; each of its requests may be made twice.
call(Request) ->
    hornbeam_retry:until_answered(fun() -> gen_server:call(?MODULE, Request, infinity) end).

%% @doc Whoever is to be called for a hook now.
-spec target(Name :: binary(), caller()) -> {ok, target()} | {error, no_hook}.
target(Name, Caller) ->
    case ets:match_object(?TABLE, {{Name, '_'}, '_'}) of
        [] ->
            elsewhere(Name, Caller);
        [Row] ->
            {ok, target_of(Row)};
        Rows ->
            Near = near(Rows, Caller),
            {_, Target} = lists:min([{rank(Row), target_of(Row)} || Row <- Near]),
            {ok, Target}
    end.

elsewhere(_Name, peer) ->
    {error, no_hook};
elsewhere(Name, _Caller) ->
    case hornbeam_call_peers:offering({hook, Name}) of
        [] -> {error, no_hook};
        Peers -> {ok, {nodes, Peers}}
    end.

near(Rows, Caller) when Caller =:= none; Caller =:= peer -> Rows;
near(Rows, Caller) -> among(Rows, hornbeam_pool:peers(Caller)).

among(Rows, all) ->
    Rows;
among(Rows, Peers) ->
    case [Row || {{_, Whose}, _} = Row <- Rows, Whose =:= erlang orelse is_map_key(Whose, Peers)] of
        [] -> Rows;
        Near -> Near
    end.

rank({{_, erlang}, _}) -> {0, 0};
rank({{_, _Worker}, Handle}) -> hornbeam_capacity:rank(Handle).

target_of({{_, erlang}, Handler}) -> {erlang, Handler};
target_of({{_, Worker}, _Handle}) -> {worker, Worker}.

%% @doc A value as a target needs it. Raises `{unencodable, Path, Term}' for what cannot travel.
-spec for_target(target(), hornbeam_value:value()) -> hornbeam_value:value().
for_target({worker, _}, Value) -> {packed, hornbeam_value:to_packed(Value)};
for_target({_ErlangOrNodes, _}, Value) -> Value.

%% @doc Execute an action with values as they came.
-spec run(caller(), Name :: binary(), Action :: binary(), Args :: hornbeam_value:value(),
          Kwargs :: hornbeam_value:value(), timeout()) ->
    {ok, hornbeam_value:value()} | {error, failure()}.
run(Caller, Name, Action, Args, Kwargs, Timeout) ->
    case target(Name, Caller) of
        {ok, Target} -> run_on(Target, Name, Action, Args, Kwargs, Timeout);
        {error, _} = Error -> Error
    end.

%% @doc The same, for who knows where.
-spec run_on(target(), Name :: binary(), Action :: binary(), Args :: hornbeam_value:value(),
             Kwargs :: hornbeam_value:value(), timeout()) ->
    {ok, hornbeam_value:value()} | {error, failure()}.
run_on({worker, Worker}, Name, Action, Args, Kwargs, Timeout) ->
    Call = hornbeam_call:start(Worker, hook, Name, Action, hornbeam_value:to_packed(Args),
                               hornbeam_value:to_packed(Kwargs)),
    value(hornbeam_call:await(Worker, Call, Timeout));
run_on({erlang, Handler}, _Name, Action, Args, Kwargs, Timeout) ->
    hornbeam_call_args:with_terms([Args, Kwargs], fun([ArgTerms, KwargTerms]) ->
        in_erlang(Handler, Action, ArgTerms, KwargTerms, Timeout)
    end);
run_on({nodes, Peers}, Name, Action, Args, Kwargs, Timeout) ->
    Question = {hook, Name, Action, Args, Kwargs, Timeout},
    case hornbeam_call_peers:first(Peers, Question, Timeout) of
        none -> {error, no_hook};
        %% It is the line's own.
        {error, {unencodable, _, _} = Unencodable} -> error(Unencodable);
        Outcome -> Outcome
    end.

value({ok, Packed}) -> {ok, hornbeam_value:from_packed(Packed)};
value({error, _} = Error) -> Error.

in_erlang(Handler, Action, Args, Kwargs, Timeout) ->
    Run = fun() -> handle(Handler, Action, Args, Kwargs) end,
    case hornbeam_functions:result(hornbeam_deadline:run(Run, Timeout)) of
        {ok, Term} -> {ok, hornbeam_value:from_term(Term)};
        {error, _} = Error -> Error
    end.

handle(Handler, Action, Args, _Kwargs) when is_function(Handler, 2) -> Handler(Action, Args);
handle(Handler, Action, Args, Kwargs) when is_function(Handler, 3) ->
    Handler(Action, Args, Kwargs);
handle(Module, Action, Args, Kwargs) -> Module:handle_hook(Action, Args, Kwargs).

%% The server.

%% Who is watched, and how many hooks each has.
-type monitored() :: #{pid() => non_neg_integer()}.

%% @private
-spec init([]) -> {ok, monitored()}.
init([]) ->
    Workers = [Worker || {{_, Worker}, _} <- ets:tab2list(?TABLE), Worker =/= erlang],
    {ok, lists:foldl(fun one_more/2, #{}, Workers)}.

one_more(Worker, Monitored) when is_map_key(Worker, Monitored) ->
    maps:update_with(Worker, fun(Hooks) -> Hooks + 1 end, Monitored);
one_more(Worker, Monitored) ->
    _ = erlang:monitor(process, Worker),
    Monitored#{Worker => 1}.

%% @private
-spec handle_call(tuple(), gen_server:from(), monitored()) ->
    {reply, ok | {error, {limit, hornbeam_quota:limit()}}, monitored()}.
handle_call({register, Name, Handle}, _From, Monitored) ->
    Worker = hornbeam_capacity:worker(Handle),
    registered(ets:member(?TABLE, {Name, Worker}), Name, Worker, Handle, Monitored);
handle_call({unregister, Name, Worker}, _From, Monitored) ->
    Left = unregistered(ets:take(?TABLE, {Name, Worker}), Worker, Monitored),
    changed(Name),
    {reply, ok, Left}.

registered(true, Name, Worker, Handle, Monitored) ->
    true = ets:insert(?TABLE, {{Name, Worker}, Handle}),
    changed(Name),
    {reply, ok, Monitored};
registered(false, Name, Worker, Handle, Monitored) ->
    case maps:get(Worker, Monitored, 0) < hornbeam_quota:limit(worker_max_hooks) of
        true -> registered(true, Name, Worker, Handle, one_more(Worker, Monitored));
        false -> {reply, hornbeam_quota:refused(worker_max_hooks), Monitored}
    end.

unregistered([], _Worker, Monitored) -> Monitored;
unregistered([_], Worker, Monitored) -> maps:update_with(Worker, fun(N) -> N - 1 end, Monitored).

%% @private
-spec handle_cast({stopping, pid()}, monitored()) -> {noreply, monitored()}.
handle_cast({stopping, Worker}, Monitored) when is_map_key(Worker, Monitored) ->
    forget(Worker),
    {noreply, Monitored#{Worker := 0}};
handle_cast({stopping, _HasNone}, Monitored) ->
    {noreply, Monitored}.

%% @private
-spec handle_info(term(), monitored()) -> {noreply, monitored()}.
handle_info({'DOWN', _Ref, process, Worker, _Reason}, Monitored) ->
    forget(Worker),
    {noreply, maps:remove(Worker, Monitored)};
handle_info(_Stray, Monitored) ->
    {noreply, Monitored}.

forget(Worker) ->
    Names = ets:select(?TABLE, [{{{'$1', Worker}, '_'}, [], ['$1']}]),
    true = ets:match_delete(?TABLE, {{'_', Worker}, '_'}),
    lists:foreach(fun changed/1, Names).
