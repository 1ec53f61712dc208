%% Erlang calls Python: a function of the app, on a worker of a pool.
-module(hornbeam_calls).

-export([call/4, cast/4]).
-export_type([options/0, name/0, choice_failure/0, failure/0]).

-type name() :: hornbeam_name:name().
-type options() :: #{timeout => timeout(), pool => name(), worker => pid() | name(),
                     kwargs => #{name() => term()}}.
%% `timeout' in ms (5000); `pool', by the path of its app (the only one that there is), of which the
%% least loaded worker is taken, unless `worker' names one (a name as in hornbeam:info/0, such as
%% `<<"worker-1">>', or its process).

-type choice_failure() :: no_worker | several_apps | {bad_option, Key :: term(), Value :: term()}.
%% `several_apps': more than one worker may be meant, and no `pool' says which.

-type failure() ::
    choice_failure() | hornbeam_value:unreadable() | hornbeam_call:failure().
%% `unreadable': the result holds what this node cannot decode, such as an unknown atom.

-define(TIMEOUT, 5000).

%% @doc Call a Python function, plain or async, by the name of its module, and wait.
%%
%% Raises `{unencodable, Path, Term}' for arguments that cannot travel.
-spec call(Module :: name(), Function :: name(), Args :: [term()], options()) ->
    {ok, term()} | {error, failure()}.
call(Module, Function, Args, Options) ->
    case worker_for(Options) of
        {ok, Worker} ->
            Call = hornbeam_call:start(Worker, function, hornbeam_name:text(Module),
                                       hornbeam_name:text(Function), packed(Args),
                                       kwargs(Options)),
            term(hornbeam_call:await(Worker, Call, maps:get(timeout, Options, ?TIMEOUT)));
        {error, _} = Error ->
            Error
    end.

%% @doc Call a Python function and wait for nothing; what it raises is in the log.
-spec cast(Module :: name(), Function :: name(), Args :: [term()], options()) ->
    ok | {error, choice_failure()}.
cast(Module, Function, Args, Options) ->
    case worker_for(Options) of
        {ok, Worker} ->
            hornbeam_call:cast(Worker, hornbeam_name:text(Module), hornbeam_name:text(Function),
                               packed(Args), kwargs(Options));
        {error, _} = Error ->
            Error
    end.

worker_for(Options) when is_map(Options) ->
    case [Option || {Key, Value} = Option <- maps:to_list(Options), not is_option(Key, Value)] of
        [] -> worker(Options);
        [{Key, Value} | _] -> {error, {bad_option, Key, Value}}
    end;
worker_for(Options) ->
    {error, {bad_option, options, Options}}.

is_option(timeout, infinity) -> true;
is_option(timeout, Timeout) -> is_integer(Timeout) andalso Timeout >= 0;
is_option(worker, Worker) -> is_pid(Worker) orelse hornbeam_name:is_name(Worker);
is_option(pool, Pool) -> hornbeam_name:is_name(Pool);
is_option(kwargs, Kwargs) ->
    is_map(Kwargs) andalso lists:all(fun hornbeam_name:is_name/1, maps:keys(Kwargs));
is_option(_Unknown, _Value) -> false.

worker(#{worker := Worker}) when is_pid(Worker) ->
    {ok, Worker};
worker(Options) ->
    case [Worker || Pool <- pools(Options), {ok, Worker} <- [worker(Pool, Options)]] of
        [Worker] -> {ok, Worker};
        [] -> {error, no_worker};
        [_ | _] -> {error, several_apps}
    end.

pools(#{pool := Pool}) -> [hornbeam_name:text(Pool)];
pools(_Options) -> hornbeam_pool:all().

worker(Pool, #{worker := Name}) ->
    hornbeam_pool:find(Pool, hornbeam_name:text(Name));
worker(Pool, _Options) ->
    case hornbeam_pool:pick(Pool) of
        {ok, Handle} -> {ok, hornbeam_capacity:worker(Handle)};
        {error, no_worker} = Error -> Error
    end.

kwargs(#{kwargs := Kwargs}) ->
    packed(hornbeam_name:texts(Kwargs));
kwargs(_Options) ->
    hornbeam_msgpack:map(0).

packed(Term) -> hornbeam_value:to_packed({term, Term}).

term({ok, Packed}) -> hornbeam_value:to_term({packed, Packed});
term({error, _} = Error) -> Error.
