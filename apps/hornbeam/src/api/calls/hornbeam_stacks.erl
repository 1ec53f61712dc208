%% What the handlers and threads of a worker are doing, asked of its app's process.
%%
%% The question is a call like any other, so a worker whose loop does not turn leaves it
%% unanswered; of such a one the pool logs the stacks when it is hung.
-module(hornbeam_stacks).

-export([of_worker/1]).
-export_type([stacks/0]).

-type stacks() :: #{
    streams := [#{number := pos_integer(), type := binary(), path := binary(),
                  stack := binary()}],
    threads := [#{name := binary(), stack := binary()}]
}.
%% A stack is text, as Python writes tracebacks: outermost first.

%% @doc Ask a worker, named such as `<<"worker-1">>'; waits at most 5 s.
-spec of_worker(hornbeam_name:name()) -> {ok, stacks()} | {error, hornbeam_calls:failure()}.
of_worker(Worker) ->
    case hornbeam_calls:call(<<"hornbeam_erlang._worker.stacks">>, report, [],
                             #{worker => Worker}) of
        {ok, #{<<"streams">> := Streams, <<"threads">> := Threads}} ->
            {ok, #{streams => lists:map(fun stream/1, Streams),
                   threads => lists:map(fun thread/1, Threads)}};
        {error, _} = Error ->
            Error
    end.

stream(#{<<"number">> := Number, <<"type">> := Type, <<"path">> := Path, <<"stack">> := Stack}) ->
    #{number => Number, type => Type, path => Path, stack => Stack}.

thread(#{<<"name">> := Name, <<"stack">> := Stack}) ->
    #{name => Name, stack => Stack}.
