%% Erlang functions that the node offers to its apps, by name.
%%
%% A registered function runs in a process of its own, never in one of ours. `{ok, V}' gives the
%% app V, `{error, R}' raises RemoteError there, any other result is given as it is.
-module(hornbeam_functions).

-export([new_table/0, register_function/2, register_function/3, unregister_function/1]).
-export([find/2, call/3, cast/2, result/1, call_packed/3, cast_packed/2, names/0, is_registered/1]).
-export_type([name/0, registered/0]).

-type name() :: hornbeam_name:name().
-opaque registered() :: fun() | {module(), Function :: atom()}.

%% Rows: {Name, registered()}.
-define(TABLE, ?MODULE).

%% @doc Make the table; its owner must outlive everybody.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @doc Offer a fun; the name's earlier one is replaced.
-spec register_function(name(), fun()) -> ok.
register_function(Name, Fun) when is_function(Fun) ->
    register_as(hornbeam_name:text(Name), Fun).

%% @doc Offer an exported function, in its newest code and with any of its arities.
-spec register_function(name(), module(), Function :: atom()) -> ok.
register_function(Name, Module, Function) when is_atom(Module), is_atom(Function) ->
    register_as(hornbeam_name:text(Name), {Module, Function}).

register_as(Name, Function) ->
    true = ets:insert(?TABLE, {Name, Function}),
    hornbeam_call_peers:changed({function, Name}).

%% @doc Offer a function no more.
-spec unregister_function(name()) -> ok.
unregister_function(Name) ->
    Text = hornbeam_name:text(Name),
    true = ets:delete(?TABLE, Text),
    hornbeam_call_peers:changed({function, Text}).

%% @doc The names of all that are offered.
-spec names() -> [binary()].
names() ->
    ets:select(?TABLE, [{{'$1', '_'}, [], ['$1']}]).

%% @doc Whether there is one of a name.
-spec is_registered(Name :: binary()) -> boolean().
is_registered(Name) ->
    ets:member(?TABLE, Name).

%% @doc The function of a name, if it takes so many arguments: to be asked before anything is made
%% of those.
-spec find(Name :: binary(), arity()) ->
    {ok, registered()} | {error, unknown | {arity, Given :: arity(), Takes :: [arity()]}}.
find(Name, Arity) ->
    case ets:lookup(?TABLE, Name) of
        [{Name, Function}] -> taking(Arity, arities(Function), Function);
        [] -> {error, unknown}
    end.

taking(Arity, Arities, Function) ->
    case lists:member(Arity, Arities) of
        true -> {ok, Function};
        false -> {error, {arity, Arity, Arities}}
    end.

%% @doc Call a registered function and wait at most `Timeout' milliseconds.
-spec call(registered(), Args :: [term()], timeout()) ->
    {ok, term()} | {error, hornbeam_deadline:failure()}.
call(Function, Args, Timeout) ->
    result(hornbeam_deadline:run(fun() -> apply_to(Function, Args) end, Timeout)).

%% @doc Call a registered function in the process that is given and wait for nothing; what it raises
%% is in the log.
-spec cast(registered(), Args :: [term()]) -> pid().
cast(Function, Args) ->
    proc_lib:spawn(fun() -> apply_to(Function, Args) end).

%% @doc Call the function of a name with packed arguments, a list or a tuple.
-spec call_packed(Name :: binary(), Packed :: binary(), timeout()) ->
    {ok, term()} | {error, unknown | term()}.
call_packed(Name, Packed, Timeout) ->
    Find = fun(Arity) -> find(Name, Arity) end,
    hornbeam_call_args:with_args(Packed, Find, fun(Function, Args) ->
        call(Function, Args, Timeout)
    end).

%% @doc The same for one that nobody waits for.
-spec cast_packed(Name :: binary(), Packed :: binary()) -> ok | {error, unknown | term()}.
cast_packed(Name, Packed) ->
    Find = fun(Arity) -> find(Name, Arity) end,
    hornbeam_call_args:start_with_args(Packed, Find, fun cast/2).

arities({Module, Function}) ->
    _ = code:ensure_loaded(Module),
    [Arity || {Name, Arity} <- exports(erlang:module_loaded(Module), Module), Name =:= Function];
arities(Fun) ->
    {arity, Arity} = erlang:fun_info(Fun, arity),
    [Arity].

exports(true, Module) -> Module:module_info(exports);
exports(false, _Module) -> [].

apply_to({Module, Function}, Args) -> apply(Module, Function, Args);
apply_to(Fun, Args) -> apply(Fun, Args).

%% @doc What a function's result means for the app.
-spec result({ok, term()} | {error, hornbeam_deadline:failure()}) ->
    {ok, term()} | {error, hornbeam_deadline:failure()}.
result({ok, {ok, Value}}) -> {ok, Value};
result({ok, {error, Reason}}) -> {error, hornbeam_deadline:failure(error, Reason, [])};
result({ok, Value}) -> {ok, Value};
result({error, _} = Error) -> Error.
