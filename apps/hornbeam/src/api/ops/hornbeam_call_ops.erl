%% The ops that call Erlang functions: arguments of the op table in, results out.
-module(hornbeam_call_ops).

-export([rpc_call/2, rpc_cast/2, rpc_nodes/2, rpc_node/2, function_call/2, function_cast/2]).

-type context() :: hornbeam_worker_api:context().
-type result() :: {ok, hornbeam_value:value()} | {error, term()}.

-spec rpc_call([term()], context()) -> result().
rpc_call([Node, Module, Function, Packed, Timeout], #{options := #{rpc_allow := Allow}}) ->
    Allowed = fun(Arity) -> hornbeam_rpc:allowed(Node, Module, Function, Arity, Allow) end,
    with_args(Packed, Allowed, fun(Target, Args) ->
        value(hornbeam_rpc:call(Target, Args, Timeout))
    end).

-spec rpc_cast([term()], context()) -> ok | {error, term()}.
rpc_cast([Node, Module, Function, Packed], #{options := #{rpc_allow := Allow}}) ->
    Allowed = fun(Arity) -> hornbeam_rpc:allowed(Node, Module, Function, Arity, Allow) end,
    with_args(Packed, Allowed, fun hornbeam_rpc:cast/2).

-spec rpc_nodes([], context()) -> {ok, [binary()]}.
rpc_nodes([], _Context) ->
    {ok, hornbeam_rpc:node_names()}.

-spec rpc_node([], context()) -> {ok, binary()}.
rpc_node([], _Context) ->
    {ok, hornbeam_rpc:node_name()}.

-spec function_call([term()], context()) -> result().
function_call([Name, Packed, Timeout], _Context) ->
    with_args(Packed, fun(Arity) -> find(Name, Arity) end, fun(Function, Args) ->
        value(hornbeam_functions:call(Function, Args, Timeout))
    end).

-spec function_cast([term()], context()) -> ok | {error, term()}.
function_cast([Name, Packed], _Context) ->
    Find = fun(Arity) -> find(Name, Arity) end,
    with_args(Packed, Find, fun hornbeam_call_args:start_with_terms/2,
              fun hornbeam_functions:cast/2).

find(Name, Arity) ->
    case hornbeam_functions:find(Name, Arity) of
        {error, unknown} -> {error, {unknown, ["no function is registered under the name ", Name]}};
        Found -> Found
    end.

%% Whom a call is for is looked at before its arguments become terms, which may cost much. Python
%% gives its positional ones as a list or a tuple.
with_args(Packed, Find, Fun) ->
    with_args(Packed, Find, fun hornbeam_call_args:with_terms/2, Fun).

with_args(Packed, Find, With, Fun) ->
    try arity(hornbeam_msgpack_head:token(Packed)) of
        {ok, Arity} -> with_args_for(Find(Arity), Packed, With, Fun);
        error -> {error, bad_args}
    catch
        error:{bad_packed, _} -> {error, bad_args}
    end.

arity({{array, Arity}, _Rest}) -> {ok, Arity};
arity({{tuple, Array}, <<>>}) -> arity(hornbeam_msgpack_head:token(Array));
arity(_NoSequence) -> error.

with_args_for({ok, Found}, Packed, With, Fun) ->
    With([{packed, Packed}], fun
        ([Args]) when is_list(Args) -> Fun(Found, Args);
        ([Args]) when is_tuple(Args) -> Fun(Found, tuple_to_list(Args))
    end);
with_args_for({error, _} = Error, _Packed, _With, _Fun) ->
    Error.

value({ok, Term}) -> {ok, hornbeam_value:from_term(Term)};
value({error, _} = Error) -> Error.
