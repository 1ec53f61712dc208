%% One Python process as an Erlang port: how it is started and written to.
%%
%% The only `open_port' of the application. Of a worker, descriptors 3 and 4 carry the wire
%% (docs/wire.md); standard input, output and error stay the node's own.
%%
%% The emulator makes what it starts the leader of a session and a group of its own, in which all
%% is that it starts in turn, unless that leaves it on purpose. A reaper ends the group.
-module(hornbeam_worker_port).

-export([open/2, start_reaper/1, watch/3, inherited/1, os_pid/1, read/1, write/2, try_write/2]).

%% Queue sizes at which the port suspends and resumes whoever writes to it.
-define(BUSY_LIMITS, {262144, 1048576}).

%% Waits for the end of its input, which is that of the port's owner or of the node, and kills the
%% group, also when its leader is dead. As long as a group has a process its number is given to no
%% other; that of an empty one may be, and then its leader began at another time.
-define(REAPER, "
exec 2>/dev/null
trap '' HUP INT TERM
begun() {
    begun=
    read -r stat </proc/$1/stat || return
    set -- ${stat##*) }
    begun=${20}
}
begun $1
first=$begun
while read -r _; do :; done
begun $1
if [ -z \"$begun\" ] || [ \"$begun\" = \"$first\" ]; then kill -9 -$1; fi
").

%% The longest line (bytes) of the watcher is well below this.
-define(LONGEST_LINE, 8192).

%% @doc Start `Python' (an absolute path) with the worker's module, in folder `chdir' and with
%% the variables of `env'. Fails with a posix reason when the file cannot be executed.
-spec open(file:filename(), hornbeam_config:app_options()) -> {ok, port()} | {error, term()}.
open(Python, Options) ->
    run(Python, ["hornbeam_erlang._worker" | log_config(Options)], Options,
        [nouse_stdio, stream, eof, {busy_limits_port, ?BUSY_LIMITS}]).

%% How its logging begins is known before the wire is.
log_config(#{log_config := undefined}) -> [];
log_config(#{log_config := File}) -> [File].

%% @doc Start the reaper of a process that {@link open/2} has started: once the port is closed,
%% because the calling process has ended or the whole node, it kills that process and all of its
%% group. It is linked to the caller; `none' where there is no shell.
-spec start_reaper(OsPid :: pos_integer() | undefined) -> port() | none.
start_reaper(undefined) ->
    none;
start_reaper(OsPid) ->
    Arguments = ["-c", ?REAPER, "hornbeam-reaper", integer_to_list(OsPid)],
    try
        open_port({spawn_executable, "/bin/sh"}, [{args, Arguments}, {cd, "/"}])
    catch
        error:_Posix -> none
    end.

%% @doc Start the process that watches files in the same place: its owner gets the lines that it
%% writes as `{Port, {data, {eol, Line}}}'. It ends when the port is closed.
-spec watch(file:filename(), [unicode:chardata()], hornbeam_config:app_options()) ->
    {ok, port()} | {error, term()}.
watch(Python, Arguments, Options) ->
    run(Python, ["hornbeam_erlang._watch" | Arguments], Options, [{line, ?LONGEST_LINE}]).

%% @doc Read a descriptor that the node was started with: its owner gets `{Port, eof}' at the end.
-spec inherited(non_neg_integer()) -> port().
inherited(Descriptor) ->
    open_port({fd, Descriptor, Descriptor}, [in, eof, binary]).

run(Python, Arguments, #{chdir := Dir, env := Env}, How) ->
    Variables = [{to_list(Name), to_list(Value)}
                 || {Name, Value} <- maps:to_list(hornbeam_secret:show(Env))],
    try
        {ok, open_port({spawn_executable, Python},
                       [{args, options() ++ [runner() | Arguments]}, binary, exit_status,
                        {cd, Dir}, {env, Variables} | How])}
    catch
        error:Reason -> {error, Reason}
    end.

%% A thread begins without context variables, also on Python 3.14 where it may take over those of
%% whoever started it: a pool's thread would then act for the client that was there first.
options() ->
    ["-P", "-X", "thread_inherit_context=0"].

%% Runs a module so that an app may have files named like modules of the standard library.
runner() ->
    filename:absname("run.py", filename:absname(code:priv_dir(hornbeam))).

to_list(Text) -> unicode:characters_to_list(Text).

%% @doc The operating system's number of the process; undefined when it has exited already.
-spec os_pid(port()) -> pos_integer() | undefined.
os_pid(Port) ->
    case erlang:port_info(Port, os_pid) of
        {os_pid, OsPid} -> OsPid;
        undefined -> undefined
    end.

%% @doc How many bytes have been read from the process, also those that wait in its owner's
%% mailbox; 0 when the port is closed.
-spec read(port()) -> non_neg_integer().
read(Port) ->
    case erlang:port_info(Port, input) of
        {input, Bytes} -> Bytes;
        undefined -> 0
    end.

%% @doc Write ops; suspends the caller while the pipe and the port's queue are full. False
%% when the port is closed.
-spec write(port(), iodata()) -> boolean().
write(Port, Ops) ->
    command(Port, Ops, []).

%% @doc Write ops unless that would suspend the caller. False when nothing was written.
-spec try_write(port(), iodata()) -> boolean().
try_write(Port, Ops) ->
    command(Port, Ops, [nosuspend]).

command(Port, Ops, How) ->
    try
        port_command(Port, Ops, How)
    catch
        error:badarg -> false
    end.
