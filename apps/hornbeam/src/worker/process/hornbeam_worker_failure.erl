%% Why a worker did not start, as an error that a person can act upon, or has ended. Pure.
-module(hornbeam_worker_failure).

-export([explain/2, cause/1, told/1, ending/1]).
-export_type([reason/0, explained/0]).

-type reason() ::
    {late, Milliseconds :: pos_integer()}
    | {exited, Status :: ending()}
    | {ended_in_start, Status :: ending()}
    | {version, Ours :: pos_integer(), Theirs :: non_neg_integer()}
    | {port, term()}
    | {broke_the_wire, term()}
    | {python, hornbeam:python_error()}
    | term().

-type ending() :: non_neg_integer() | closed_its_pipe.
%% An exit status as a shell has it, of which that of a signal is 128 more than its number.

-type explained() :: {python, hornbeam:python_error()} | {worker, Sentence :: binary()}.

%% The status with which priv/run.py ends where it finds no hornbeam_erlang.
-define(NO_PACKAGE, 127).

%% @doc What happened to the worker that ran the interpreter `Python'.
-spec explain(reason(), Python :: file:filename()) -> explained().
explain({python, Error}, _Python) ->
    {python, Error};
explain(Reason, Python) ->
    {worker, unicode:characters_to_binary(sentence(Reason, Python))}.

sentence({late, Milliseconds}, Python) ->
    [Python, " was not ready within startup_timeout (", integer_to_list(Milliseconds), " ms)"];
sentence({exited, ?NO_PACKAGE}, Python) ->
    io_lib:format("~ts has no package hornbeam-erlang, which the interpreter of every app needs. "
                  "Install it: ~ts -m pip install hornbeam-erlang", [Python, Python]);
sentence({exited, Status}, Python) ->
    io_lib:format("~ts ended (~ts) before it was ready", [Python, ending(Status)]);
sentence({ended_in_start, Status}, Python) ->
    io_lib:format("~ts ended (~ts) while it imported the app or started its lifespan. No exception "
                  "came out of either: something called os._exit, crashed or killed it",
                  [Python, ending(Status)]);
sentence({version, Ours, Theirs}, Python) when Theirs < Ours ->
    io_lib:format("the hornbeam-erlang package of ~ts speaks version ~b of the wire and this "
                  "node version ~b. Upgrade the package: "
                  "~ts -m pip install --upgrade hornbeam-erlang",
                  [Python, Theirs, Ours, Python]);
sentence({version, Ours, Theirs}, Python) ->
    io_lib:format("the hornbeam-erlang package of ~ts speaks version ~b of the wire and this "
                  "node version ~b. Upgrade the hornbeam application of this node, or install "
                  "the package's matching version",
                  [Python, Theirs, Ours]);
sentence({port, Reason}, Python) ->
    io_lib:format("~ts cannot be run (~0tp)", [Python, Reason]);
sentence({broke_the_wire, Reason}, Python) ->
    io_lib:format("~ts did not speak Hornbeam's wire (~0tp)", [Python, Reason]);
sentence(no_python, _Python) ->
    "no Python interpreter was found: set the option python or venv, or put python3 on the "
    "path";
sentence(Reason, Python) ->
    io_lib:format("~ts did not start (~0tp)", [Python, Reason]).

%% @doc How a process ended, for a person.
-spec ending(ending()) -> unicode:chardata().
ending(closed_its_pipe) -> "it closed its pipe to the node";
ending(Status) when Status > 128, Status =< 192 ->
    ["status ", integer_to_list(Status), ", which is ", signal(Status - 128)];
ending(Status) ->
    ["status ", integer_to_list(Status)].

signal(6) -> "SIGABRT: it aborted itself";
signal(9) -> "SIGKILL: somebody killed it, or the system for want of memory";
signal(11) -> "SIGSEGV: native code crashed";
signal(15) -> "SIGTERM";
signal(Number) -> ["signal ", integer_to_list(Number)].
%% @doc Why a worker has ended, of the reason with which its process has.
-spec cause(Reason :: term()) -> reason().
cause({shutdown, Reason}) -> Reason;
cause(Reason) -> Reason.

%% @doc The same for the log, and as a shell has it: 137 is signal 9, maybe for want of memory.
-spec told(Reason :: term()) -> term().
told({shutdown, {exited, Status}}) ->
    unicode:characters_to_binary(ending(Status));
told(Reason) ->
    cause(Reason).
