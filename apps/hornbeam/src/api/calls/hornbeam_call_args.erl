%% The arguments of a call as terms: they may take many times the bytes that came. So there must be
%% room for them before they are made, and they count until the call is over. No process.
-module(hornbeam_call_args).

-export([with_terms/2, start_with_terms/2, with_args/3, start_with_args/3, hold/2]).

-type error() :: {error, {limit, hornbeam_quota:limit()} | hornbeam_value:unreadable()}.

%% @doc What a call gives that has values as terms, which must be readable and not too much.
-spec with_terms([hornbeam_value:value()], fun(([term()]) -> Result)) -> Result | error().
with_terms(Values, Call) ->
    counted(Values, fun(Terms, _Bytes) -> Call(Terms) end).

%% @doc The same for one that nobody waits for: values and terms count until its process ends.
-spec start_with_terms([hornbeam_value:value()], fun(([term()]) -> pid())) -> ok | error().
start_with_terms(Values, Start) ->
    counted(Values, fun(Terms, TermBytes) ->
        Bytes = TermBytes + lists:sum([hornbeam_value:bytes(Value) || Value <- Values]),
        hornbeam_quota:reserve_by_force(ops, Bytes, 0),
        release_at_end(Start(Terms), Bytes)
    end).

counted(Values, Call) ->
    Bytes = lists:sum([hornbeam_value:term_bytes(Value) || Value <- Values]),
    case hornbeam_quota:reserve(ops, Bytes, 0) of
        ok ->
            try
                called(terms(Values, []), Bytes, Call)
            after
                hornbeam_quota:release(ops, Bytes, 0)
            end;
        {error, _} = Error ->
            Error
    end.

called({ok, Terms}, Bytes, Call) -> Call(Terms, Bytes);
called({error, _} = Error, _Bytes, _Call) -> Error.

terms([], Terms) ->
    {ok, lists:reverse(Terms)};
terms([Value | Values], Terms) ->
    case hornbeam_value:to_term(Value) of
        {ok, Term} -> terms(Values, [Term | Terms]);
        {error, _} = Error -> Error
    end.

%% @doc Count so many bytes until a process ends, however it does.
-spec hold(pid(), Bytes :: non_neg_integer()) -> ok | {error, {limit, hornbeam_quota:limit()}}.
hold(Pid, Bytes) ->
    case hornbeam_quota:reserve(ops, Bytes, 0) of
        ok -> release_at_end(Pid, Bytes);
        {error, _} = Error -> Error
    end.

release_at_end(Pid, Bytes) ->
    _ = spawn(fun() ->
        Ref = erlang:monitor(process, Pid),
        receive {'DOWN', Ref, process, Pid, _} -> hornbeam_quota:release(ops, Bytes, 0) end
    end),
    ok.

%% @doc What a call gives that has packed positional arguments, a list or a tuple. Whom it is for is
%% found by their number before they become terms, which may cost much.
-spec with_args(Packed :: binary(), fun((arity()) -> {ok, Found} | {error, term()}),
                fun((Found, [term()]) -> Result)) -> Result | {error, term()}.
with_args(Packed, Find, Call) ->
    with_args(Packed, Find, fun with_terms/2, Call).

%% @doc The same for one that nobody waits for.
-spec start_with_args(Packed :: binary(), fun((arity()) -> {ok, Found} | {error, term()}),
                      fun((Found, [term()]) -> pid())) -> ok | {error, term()}.
start_with_args(Packed, Find, Start) ->
    with_args(Packed, Find, fun start_with_terms/2, Start).

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
