%% Calls from apps to functions on this node and others: closed, but for what is allowed.
%%
%% The option `rpc_allow' names it: `{Module, Function, Arity}', or a module as a whole. Names
%% from the wire become atoms only if those exist already, as what is allowed does. (Functions of
%% a module that only another node has must be named one by one.)
-module(hornbeam_rpc).

-export([allowed/5, call/3, cast/2, node_names/0, node_name/0]).
-export_type([allow/0, target/0, failure/0]).

-type allow() :: [{module(), Function :: atom(), arity()} | module()].
-opaque target() :: {node(), module(), Function :: atom()}.
-type failure() :: refused | no_node | hornbeam_deadline:failure().

%% @doc The function of these names, if it may be called with so many arguments: to be asked before
%% anything is made of those.
-spec allowed(Node :: binary(), Module :: binary(), Function :: binary(), arity(), allow()) ->
    {ok, target()} | {error, refused | no_node}.
allowed(NodeName, ModuleName, FunctionName, Arity, Allow) ->
    Module = existing(ModuleName),
    Function = function(FunctionName, Module, lists:member(Module, Allow)),
    case is_allowed(Module, Function, Arity, Allow) of
        true -> on_node(existing(NodeName), Module, Function);
        false -> {error, refused}
    end.

%% @doc Call a function on its node and wait at most `Timeout' milliseconds; it is not ended then.
-spec call(target(), Args :: [term()], timeout()) -> {ok, term()} | {error, failure()}.
call({Node, Module, Function}, Args, Timeout) ->
    within(Timeout, fun() -> remote(Node, Module, Function, Args, Timeout) end).

%% @doc Call a function on its node and wait for nothing.
-spec cast(target(), Args :: [term()]) -> ok.
cast({Node, Module, Function}, Args) ->
    erpc:cast(Node, Module, Function, Args).

%% The names of a module's functions exist when it is loaded.
function(Name, Module, true) ->
    _ = code:ensure_loaded(Module),
    existing(Name);
function(Name, _Module, false) ->
    existing(Name).

is_allowed(Module, Function, Arity, Allow) ->
    Module =/= none andalso Function =/= none
        andalso (lists:member(Module, Allow) orelse lists:member({Module, Function, Arity}, Allow)).

on_node(Node, Module, Function) ->
    case lists:member(Node, [node() | nodes([visible, hidden, known])]) of
        true -> {ok, {Node, Module, Function}};
        false -> {error, no_node}
    end.

existing(Name) ->
    try
        binary_to_existing_atom(Name)
    catch
        error:_ -> none
    end.

%% To connect to a node takes its own time, so the call is not left to erpc's timeout alone.
within(Timeout, Call) ->
    case hornbeam_deadline:run(Call, Timeout) of
        {ok, Result} -> Result;
        {error, _} = Error -> Error
    end.

remote(Node, Module, Function, Args, Timeout) ->
    try
        {ok, erpc:call(Node, Module, Function, Args, Timeout)}
    catch
        error:{erpc, noconnection} -> {error, no_node};
        error:{erpc, timeout} -> {error, timeout};
        error:{exception, Reason, Stack} ->
            {error, hornbeam_deadline:failure(error, Reason, Stack)};
        exit:{_ExceptionOrSignal, Reason} ->
            {error, hornbeam_deadline:failure(exit, Reason, [])};
        throw:Thrown ->
            {error, hornbeam_deadline:failure(throw, Thrown, [])}
    end.

%% @doc The names of the other nodes that are connected.
-spec node_names() -> [binary()].
node_names() ->
    [atom_to_binary(Node) || Node <- nodes()].

%% @doc The name of this node.
-spec node_name() -> binary().
node_name() ->
    atom_to_binary(node()).
