%% A call into a worker's app, as whoever made it holds it.
%%
%% The caller gets `{Call, {result, Status, Value}}' once, before that `{Call, {item, Packed}}'
%% for each item of a stream; `{Call, overloaded}' when the worker has not read the calls before; or
%% a `DOWN' message with the call as its reference when the worker has ended. A call is an alias:
%% what comes after {@link cancel/2} is never seen.
-module(hornbeam_call).

-export([start/6, start/7, cast/5, more/3, cancel/2, await/3, outcome/2, is_result/3]).
-export_type([call/0, mode/0, answer/0, failure/0]).

-type call() :: reference().
-type mode() :: function | hook | stream.
%% `stream': an action of a hook whose items are wanted one by one.

-type answer() :: {result, Status :: non_neg_integer(), Value :: term()}
                | {item, Packed :: binary()}
                | overloaded.
%% `overloaded': the worker has not been told of the call.
-type failure() ::
    timeout
    | worker_down
    | worker_overloaded
    | {python, Class :: binary(), Message :: binary(), Traceback :: binary()}
    | {unknown, Sentence :: binary()}.
%% `worker_overloaded': too many bytes of other calls wait for it. `unknown': it has no such
%% module, function, hook or action.

%% The statuses of `result' in docs/wire.md.
-define(OK, 0).
-define(EXHAUSTED, 2).
-define(RAISED, 8).
-define(UNKNOWN, 9).

%% @doc Call a function of a worker's app. `Args' and `Kwargs' are packed.
-spec start(Worker :: pid(), mode(), Target :: binary(), Function :: binary(),
            Args :: binary(), Kwargs :: binary()) -> call().
start(Worker, Mode, Target, Function, Args, Kwargs) ->
    start(Worker, Mode, Target, Function, Args, Kwargs, 0).

%% @doc The same, for a stream that may send so many items before it is given more.
-spec start(pid(), mode(), binary(), binary(), binary(), binary(),
            Items :: non_neg_integer()) -> call().
start(Worker, Mode, Target, Function, Args, Kwargs, Items) ->
    Call = erlang:monitor(process, Worker, [{alias, alias_of(Mode)}]),
    hornbeam_worker_protocol:call(Worker, Call, self(),
                                  {number(Mode), Target, Function, Args, Kwargs}),
    _ = [more(Worker, Call, Items) || Items > 0],
    Call.

%% The one answer ends what its caller holds; a stream has several.
alias_of(stream) -> explicit_unalias;
alias_of(_) -> reply_demonitor.

%% @doc Call a function of a worker's app; nobody gets the result.
-spec cast(Worker :: pid(), Target :: binary(), Function :: binary(), Args :: binary(),
           Kwargs :: binary()) -> ok.
cast(Worker, Target, Function, Args, Kwargs) ->
    hornbeam_worker_protocol:call(Worker, none, none,
                                  {number(function), Target, Function, Args, Kwargs}).

number(function) -> 0;
number(hook) -> 1;
number(stream) -> 2.

%% @doc Let a stream send so many more items.
-spec more(Worker :: pid(), call(), Items :: pos_integer()) -> ok.
more(Worker, Call, Items) ->
    hornbeam_worker_protocol:more(Worker, Call, Items).

%% @doc Wait no longer; the app's function is cancelled.
-spec cancel(Worker :: pid(), call()) -> ok.
cancel(Worker, Call) ->
    _ = erlang:unalias(Call),
    true = erlang:demonitor(Call, [flush]),
    hornbeam_worker_protocol:cancel(Worker, Call),
    flush(Call).

flush(Call) ->
    receive
        {Call, _} -> flush(Call)
    after 0 ->
        ok
    end.

%% @doc Wait at most `Timeout' milliseconds for the result of a call that is no stream; past
%% that it is cancelled.
-spec await(Worker :: pid(), call(), timeout()) -> {ok, Packed :: binary()} | {error, failure()}.
await(Worker, Call, Timeout) ->
    receive
        {Call, {result, Status, Value}} -> outcome(Status, Value);
        {Call, overloaded} -> {error, worker_overloaded};
        {'DOWN', Call, process, _, _} -> {error, worker_down}
    after Timeout ->
        cancel(Worker, Call),
        {error, timeout}
    end.

%% @doc Whether Python may answer a call so.
-spec is_result(Status :: non_neg_integer(), Value :: term(), IsStream :: boolean()) ->
    boolean().
is_result(?OK, Packed, _IsStream) -> is_binary(Packed);
is_result(?EXHAUSTED, Nil, IsStream) -> IsStream andalso Nil =:= undefined;
is_result(?RAISED, [_, _, _] = Texts, _IsStream) -> lists:all(fun is_binary/1, Texts);
is_result(?UNKNOWN, Sentence, _IsStream) -> is_binary(Sentence);
is_result(_Status, _Value, _IsStream) -> false.

%% @doc What a result means.
-spec outcome(Status :: non_neg_integer(), Value :: term()) ->
    {ok, Packed :: binary()} | exhausted | {error, failure()}.
outcome(?OK, Packed) when is_binary(Packed) -> {ok, Packed};
outcome(?EXHAUSTED, _) -> exhausted;
outcome(?RAISED, [Class, Message, Traceback]) -> {error, {python, Class, Message, Traceback}};
outcome(?UNKNOWN, Sentence) -> {error, {unknown, Sentence}}.
