%% Calls from apps to functions on this node and others: closed, but for what is allowed.
%%
%% The option `rpc_allow' names it: `{Module, Function, Arity}', or a module as a whole. Names
%% from the wire become atoms only if those exist already, as what is allowed does. (Functions of
%% a module that only another node has must be named one by one.)
%%
%% A node that is called looks at its own option, too: that of all its apps together. On one where
%% no Hornbeam runs nobody looks.
-module(hornbeam_rpc).

-include_lib("kernel/include/logger.hrl").

-export([offer/1, offer_nothing/0, allowed/5, call/3, cast/2, node_names/0, node_name/0]).
-export([answer/3, begin_answer/3]).
-export_type([allow/0, target/0, failure/0]).

-type allow() :: [{module(), Function :: atom(), arity()} | module()].
-opaque target() :: {node(), module(), Function :: atom()}.
-type failure() :: refused_there | no_node | hornbeam_deadline:failure().

%% What the apps of this node allow.
-define(OFFERED, ?MODULE).

%% @doc Let other nodes call what an option of this one allows, for as long as it serves.
-spec offer(allow()) -> ok.
offer(Allow) ->
    persistent_term:put(?OFFERED, Allow).

%% @doc It serves no more: what the application's environment allows is left.
-spec offer_nothing() -> ok.
offer_nothing() ->
    _ = persistent_term:erase(?OFFERED),
    ok.

offered() ->
    case persistent_term:get(?OFFERED, none) of
        none -> application:get_env(hornbeam, rpc_allow, []);
        Allow -> Allow
    end.

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
call({Node, Module, Function}, Args, Timeout) when Node =:= node() ->
    within(Timeout, fun() -> remote(Node, Module, Function, Args, Timeout) end);
call({Node, Module, Function} = Target, Args, Timeout) ->
    within(Timeout, fun() ->
        case asked(Node, answer, Target, Args, Timeout) of
            not_there -> remote(Node, Module, Function, Args, Timeout);
            Answer -> Answer
        end
    end).

%% @doc Call a function on its node and wait for nothing. The process that is given ends when that
%% has left, for which it may wait as long as the link to the node is busy.
-spec cast(target(), Args :: [term()]) -> pid().
cast({Node, Module, Function}, Args) when Node =:= node() ->
    proc_lib:spawn(Module, Function, Args);
cast({Node, Module, Function} = Target, Args) ->
    proc_lib:spawn(fun() ->
        case asked(Node, begin_answer, Target, Args, infinity) of
            {ok, begun} -> ok;
            not_there -> erpc:cast(Node, Module, Function, Args);
            {error, Why} -> log_lost(Target, length(Args), Why)
        end
    end).

log_lost({Node, Module, Function}, Arity, Why) ->
    ?LOG_WARNING(#{what => cast_not_begun, node => Node, function => {Module, Function, Arity},
                   why => Why}, #{domain => [hornbeam]}).

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

%% By our own function there, which looks whether that node allows it.
asked(Node, By, {_, Module, Function}, Args, Timeout) ->
    case remote(Node, ?MODULE, By, [Module, Function, Args], Timeout) of
        {ok, refused} -> {error, refused_there};
        {ok, {answer, Result}} -> {ok, Result};
        {error, not_there} -> not_there;
        {error, _} = Error -> Error
    end.

%% @private
-spec answer(module(), Function :: atom(), [term()]) -> {answer, term()} | refused.
answer(Module, Function, Args) ->
    case is_allowed(Module, Function, length(Args), offered()) of
        true -> {answer, apply(Module, Function, Args)};
        false -> refused
    end.

%% @private
-spec begin_answer(module(), Function :: atom(), [term()]) -> {answer, begun} | refused.
begin_answer(Module, Function, Args) ->
    case is_allowed(Module, Function, length(Args), offered()) of
        true -> _ = proc_lib:spawn(Module, Function, Args), {answer, begun};
        false -> refused
    end.

remote(Node, Module, Function, Args, Timeout) ->
    try
        {ok, erpc:call(Node, Module, Function, Args, Timeout)}
    catch
        error:{erpc, noconnection} -> {error, no_node};
        error:{erpc, timeout} -> {error, timeout};
        error:{exception, undef, [{?MODULE, Function, Args, _}]} when Module =:= ?MODULE ->
            {error, not_there};
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
