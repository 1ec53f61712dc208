%% A Python process as the operating system sees it: signals, memory, and what it says when it
%% can say nothing by itself.
%%
%% Knows /proc and signals. On a system without /proc sizes and stacks are unknown.
-module(hornbeam_os_process).

-export([kill/1, is_running/1, rss/1, ask_for_stacks/2, stacks/2, handler/1]).
-export_type([os_pid/0, dump/0]).

-type os_pid() :: pos_integer().
-type dump() :: {Signal :: pos_integer(), Fd :: non_neg_integer()} | none.
%% The signal at which the process writes the stacks of its threads, and its descriptor for them.

%% What Python calls the file in memory that the stacks go to.
-define(DUMP_FILE, "/memfd:hornbeam-stacks").

%% The most that is read of a file (bytes).
-define(LONGEST, 1048576).

%% @doc End a process that must not live on, whatever it is doing.
-spec kill(os_pid()) -> ok.
kill(OsPid) ->
    signal(9, OsPid).

signal(Number, OsPid) ->
    _ = os:cmd(io_lib:format("kill -~b ~b 2>/dev/null", [Number, OsPid])),
    ok.

%% @doc Whether a process runs code: one that has ended and is not waited for yet does not.
-spec is_running(os_pid()) -> boolean().
is_running(OsPid) ->
    case re:run(read(OsPid, "status"), "^State:\\s*(.)", [multiline, {capture, [1], binary}]) of
        {match, [State]} -> State =/= <<"Z">> andalso State =/= <<"X">>;
        nomatch -> false
    end.

%% @doc How many bytes of memory a process has resident; undefined when nobody knows.
-spec rss(os_pid() | undefined) -> non_neg_integer() | undefined.
rss(undefined) ->
    undefined;
rss(OsPid) ->
    %% `status' and not `statm': that counts in pages, whose size Erlang does not know.
    Options = [{capture, all_but_first, binary}],
    case re:run(read(OsPid, "status"), "VmRSS:\\s*([0-9]+) kB", Options) of
        {match, [Kilobytes]} -> binary_to_integer(Kilobytes) * 1024;
        nomatch -> undefined
    end.

%% Past the one file server of the node: a worker's process must not wait for it.
read(OsPid, File) ->
    case file:open(path(OsPid, File), [raw, read, binary]) of
        {ok, Fd} -> read_and_close(Fd);
        {error, _} -> <<>>
    end.

read_and_close(Fd) ->
    Read = file:read(Fd, ?LONGEST),
    ok = file:close(Fd),
    case Read of
        {ok, Text} -> Text;
        _ -> <<>>
    end.

path(OsPid, File) ->
    lists:flatten(io_lib:format("/proc/~b/~ts", [OsPid, File])).

%% @doc Have a process write the stacks of its threads; they can be read a moment later.
-spec ask_for_stacks(os_pid(), dump()) -> ok | unknown.
ask_for_stacks(_OsPid, none) ->
    unknown;
ask_for_stacks(OsPid, {Signal, Fd}) ->
    %% An app may have closed the descriptor, and another file may have got its number.
    case file:read_link(path(OsPid, file_of(Fd))) of
        {ok, ?DUMP_FILE ++ _} -> signal(Signal, OsPid);
        _ -> unknown
    end.

%% @doc What a process has written so far.
-spec stacks(os_pid(), dump()) -> binary().
stacks(OsPid, {_Signal, Fd}) ->
    read(OsPid, file_of(Fd)).

file_of(Fd) -> "fd/" ++ integer_to_list(Fd).

%% @doc Where the handler is that stands still, as Python's faulthandler writes it: the innermost
%% line of a thread that runs a WSGI app, or else of the thread that runs the server. Pure.
-spec handler(Stacks :: binary()) -> binary() | undefined.
handler(Stacks) ->
    Threads = binary:split(Stacks, <<"\n\n">>, [global]),
    innermost([Line || Ours <- [<<"/_worker/wsgi.py\"">>, <<"/_worker/__main__.py\"">>],
                       Thread <- Threads, binary:match(Thread, Ours) =/= nomatch,
                       <<"  ", Line/binary>> <- binary:split(Thread, <<"\n">>, [global])]).

innermost([Line | _]) -> Line;
innermost([]) -> undefined.
