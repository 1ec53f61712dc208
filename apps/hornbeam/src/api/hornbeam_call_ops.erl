%% The ops that call Erlang functions: arguments of the op table in, results out.
-module(hornbeam_call_ops).

-export([rpc_call/2, rpc_cast/2, rpc_nodes/2, rpc_node/2, function_call/2, function_cast/2]).

-type context() :: hornbeam_worker_api:context().
-type result() :: {ok, hornbeam_value:value()} | {error, term()}.

-spec rpc_call([term()], context()) -> result().
rpc_call([Node, Module, Function, Packed, Timeout], #{options := #{rpc_allow := Allow}}) ->
    with_args(Packed, fun(Args) ->
        value(hornbeam_rpc:call(Node, Module, Function, Args, Timeout, Allow))
    end).

-spec rpc_cast([term()], context()) -> {ok, ok} | {error, term()}.
rpc_cast([Node, Module, Function, Packed], #{options := #{rpc_allow := Allow}}) ->
    with_args(Packed, fun(Args) ->
        done(hornbeam_rpc:cast(Node, Module, Function, Args, Allow))
    end).

-spec rpc_nodes([], context()) -> {ok, [binary()]}.
rpc_nodes([], _Context) ->
    {ok, hornbeam_rpc:node_names()}.

-spec rpc_node([], context()) -> {ok, binary()}.
rpc_node([], _Context) ->
    {ok, hornbeam_rpc:node_name()}.

-spec function_call([term()], context()) -> result().
function_call([Name, Packed, Timeout], _Context) ->
    with_args(Packed, fun(Args) ->
        value(named(Name, hornbeam_functions:call(Name, Args, Timeout)))
    end).

-spec function_cast([term()], context()) -> {ok, ok} | {error, term()}.
function_cast([Name, Packed], _Context) ->
    with_args(Packed, fun(Args) -> done(named(Name, hornbeam_functions:cast(Name, Args))) end).

named(Name, {error, unknown}) ->
    {error, {unknown, ["no function is registered under the name ", Name]}};
named(_Name, Result) ->
    Result.

%% Python gives its positional arguments as a list or a tuple.
with_args(Packed, Fun) ->
    case hornbeam_msgpack:decode_all(Packed) of
        {ok, Args} when is_list(Args) -> Fun(Args);
        {ok, Args} when is_tuple(Args) -> Fun(tuple_to_list(Args));
        {ok, _} -> {error, bad_args};
        {error, Reason} -> {error, {unreadable, Reason}}
    end.

value({ok, Term}) -> {ok, hornbeam_value:from_term(Term)};
value({error, _} = Error) -> Error.

done(ok) -> {ok, ok};
done({error, _} = Error) -> Error.
