%% The ops that call Erlang functions: arguments of the op table in, results out.
-module(hornbeam_call_ops).

-export([rpc_call/2, rpc_cast/2, rpc_nodes/2, rpc_node/2, function_call/2, function_cast/2]).

-type context() :: hornbeam_worker_api:context().
-type result() :: {ok, hornbeam_value:value()} | {error, term()}.

-spec rpc_call([term()], context()) -> result().
rpc_call([Node, Module, Function, Packed, Timeout], #{options := #{rpc_allow := Allow}}) ->
    Allowed = fun(Arity) -> hornbeam_rpc:allowed(Node, Module, Function, Arity, Allow) end,
    hornbeam_call_args:with_args(Packed, Allowed, fun(Target, Args) ->
        value(hornbeam_rpc:call(Target, Args, Timeout))
    end).

-spec rpc_cast([term()], context()) -> ok | {error, term()}.
rpc_cast([Node, Module, Function, Packed], #{options := #{rpc_allow := Allow}}) ->
    Allowed = fun(Arity) -> hornbeam_rpc:allowed(Node, Module, Function, Arity, Allow) end,
    hornbeam_call_args:start_with_args(Packed, Allowed, fun hornbeam_rpc:cast/2).

-spec rpc_nodes([], context()) -> {ok, [binary()]}.
rpc_nodes([], _Context) ->
    {ok, hornbeam_rpc:node_names()}.

-spec rpc_node([], context()) -> {ok, binary()}.
rpc_node([], _Context) ->
    {ok, hornbeam_rpc:node_name()}.

-spec function_call([term()], context()) -> result().
function_call([Name, Packed, Timeout], _Context) ->
    case hornbeam_functions:call_packed(Name, Packed, Timeout) of
        {error, unknown} -> elsewhere(Name, fun(Peers) ->
            value(hornbeam_call_peers:first(Peers, {function, Name, Packed, Timeout}, Timeout))
        end);
        Outcome -> value(Outcome)
    end.

-spec function_cast([term()], context()) -> ok | {error, term()}.
function_cast([Name, Packed], _Context) ->
    case hornbeam_functions:cast_packed(Name, Packed) of
        {error, unknown} -> elsewhere(Name, fun(Peers) ->
            hornbeam_call_peers:cast(Peers, {cast, Name, Packed})
        end);
        OkOrError -> OkOrError
    end.

%% On one of the other nodes that have it.
elsewhere(Name, Call) ->
    case Call(hornbeam_call_peers:offering({function, Name})) of
        none -> {error, {unknown, ["no function is registered under the name ", Name]}};
        Outcome -> Outcome
    end.

value({ok, Term}) -> {ok, hornbeam_value:from_term(Term)};
value({error, _} = Error) -> Error;
value(none) -> none.
