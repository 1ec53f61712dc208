%% The ops on hooks: arguments of the op table in, results of the op table out.
-module(hornbeam_hook_ops).

-export([register_hook/2, unregister_hook/2, execute/2, execute_async/2, await_result/2]).
-export([stream/2, next/2, close/2]).

-type context() :: hornbeam_worker_api:context().
-type result(Type) :: {ok, Type} | {error, hornbeam_hooks:failure()}.

-spec register_hook([term()], context()) -> ok | {error, hornbeam_hooks:failure() | not_callable}.
register_hook(_Args, #{handle := none}) ->
    {error, not_callable};
register_hook([Name], #{handle := Handle}) ->
    hornbeam_hooks:register_worker(Name, Handle).

-spec unregister_hook([term()], context()) -> ok.
unregister_hook([Name], #{process := Process}) ->
    hornbeam_hooks:unregister_worker(Name, Process).

-spec execute([term()], context()) -> result(hornbeam_value:value()).
execute([Name, Action, Args, Kwargs, Timeout], #{process := Caller}) ->
    named(Name, hornbeam_hooks:run(Caller, Name, Action, {packed, Args}, {packed, Kwargs},
                                   Timeout)).

named(Name, {error, no_hook}) ->
    {error, {unknown, <<"no handler is registered for the hook ", Name/binary>>}};
named(_Name, Result) ->
    Result.

-spec execute_async([term()], context()) -> result(binary()).
execute_async([Name, Action, Args, Kwargs], #{process := Caller}) ->
    named(Name, hornbeam_execution:start(Caller, Name, Action, {packed, Args}, {packed, Kwargs})).

-spec await_result([term()], context()) -> result(hornbeam_value:value()).
await_result([Id, Timeout], _Context) ->
    hornbeam_execution:await(Id, Timeout).

-spec stream([term()], context()) -> result(binary()) | {error, closed}.
stream([Name, Action, Args, Kwargs], #{process := Caller} = Context) ->
    case hornbeam_connection_ops:owner(Context) of
        {ok, Owner} ->
            named(Name, hornbeam_hook_stream:start(Owner, Caller, Name, Action, {packed, Args},
                                                   {packed, Kwargs}));
        {error, closed} = Error ->
            Error
    end.

-spec next([term()], context()) -> result([{ok, hornbeam_value:value()}]).
next([Id, Timeout], _Context) ->
    case hornbeam_hook_stream:next(Id, Timeout) of
        {ok, Items} -> {ok, [{ok, Item} || Item <- Items]};
        {error, _} = Error -> Error
    end.

-spec close([term()], context()) -> ok.
close([Id], _Context) ->
    hornbeam_hook_stream:close(Id).
