%% The local socket of a server: where it is, and that nobody else can open it.
%%
%% By default it has a name of its own in a folder of this user's: that of the login, or one in
%% /tmp. Anybody may make files there, so a folder counts only if it is a folder, this user's, and
%% closed to all others. Knows files and users; must not know who connects, or what for.
-module(hornbeam_local_socket).

-include_lib("kernel/include/file.hrl").
-include_lib("kernel/include/logger.hrl").

-export([choose/1, listen/1, is_own_user/1]).
-export_type([path/0]).

-type path() :: binary().

%% What an address of a Unix socket holds (bytes), but for the zero at its end.
-define(LONGEST, 107).

%% How many may wait to be let in.
-define(BACKLOG, 1024).

%% SO_PEERCRED of SOL_SOCKET, as Linux has them, and the bytes of its answer; elsewhere whoever is
%% there is known by the file's mode alone.
-define(PEERCRED, {1, 17}).
-define(CREDENTIALS, 12).

%% @doc Where the socket is to be. The folder of the default is made; where none can be, the log
%% says why, and the server does without.
-spec choose(auto | off | path()) -> {ok, path()} | none.
choose(off) ->
    none;
choose(auto) ->
    Outcomes = [usable(Folder) || Folder <- folders()],
    case [Folder || {ok, Folder} <- Outcomes] of
        [Folder | _] ->
            hornbeam_socket_file:remove_stale(Folder),
            {ok, unicode:characters_to_binary(filename:join(Folder, name()))};
        [] ->
            ?LOG_WARNING("no local socket, so that only workers reach this node: ~ts. Name a path "
                         "by the option local_socket, or say off",
                         [lists:join("; ", [Why || {error, Why} <- Outcomes])],
                         #{domain => [hornbeam]}),
            none
    end;
choose(Path) ->
    {ok, Path}.

%% Python looks in the same places (_outside/discovery.py), and finds all that end so.
folders() ->
    [filename:join(Dir, "hornbeam") || Dir <- [os:getenv("XDG_RUNTIME_DIR", "")], Dir =/= "",
                                       is_own(Dir)]
        ++ ["/tmp/hornbeam-" ++ integer_to_list(uid())].

name() ->
    [os:getpid(), $-, binary_to_list(binary:encode_hex(crypto:strong_rand_bytes(3))), ".sock"].

is_own(Dir) ->
    case file:read_link_info(Dir, [raw]) of
        {ok, #file_info{type = directory, uid = Owner}} -> Owner =:= uid();
        _ -> false
    end.

usable(Folder) ->
    case file:make_dir(Folder) of
        {error, Reason} when Reason =/= eexist ->
            {error, [Folder, ": ", file:format_error(Reason)]};
        _ ->
            closed(is_own(Folder), length(filename:join(Folder, name())) =< ?LONGEST, Folder)
    end.

%% What was there is ours, and may be open to others.
closed(true, true, Folder) ->
    case file:change_mode(Folder, 8#700) of
        ok -> {ok, Folder};
        {error, Reason} -> {error, [Folder, ": ", file:format_error(Reason)]}
    end;
closed(false, _IsShort, Folder) ->
    {error, [Folder, " is no folder of this user's"]};
closed(_IsOwn, false, Folder) ->
    {error, [Folder, " is too long for a socket's address"]}.

%% @doc Listen there. On failure a sentence.
-spec listen(path()) -> {ok, socket:socket()} | {error, Sentence :: unicode:chardata()}.
listen(Path) ->
    case hornbeam_socket_file:obstacle(Path) of
        none ->
            hornbeam_socket_file:remove(Path),
            {ok, Socket} = socket:open(local, stream),
            listening(bound(Socket, Path), Socket, Path);
        Reason ->
            {error, cannot(Path, Reason)}
    end.

bound(Socket, Path) ->
    case socket:bind(Socket, #{family => local, path => Path}) of
        ok -> closed_to_others(file:change_mode(Path, 8#600), Socket);
        {error, _} = Error -> Error
    end.

%% Nobody comes in before.
closed_to_others(ok, Socket) -> socket:listen(Socket, ?BACKLOG);
closed_to_others({error, _} = Error, _Socket) -> Error.

listening(ok, Socket, _Path) ->
    {ok, Socket};
listening({error, Reason}, Socket, Path) ->
    _ = socket:close(Socket),
    {error, cannot(Path, Reason)}.

cannot(Path, Reason) ->
    ["cannot listen at the local socket ", Path, ": ", inet:format_error(Reason), advice(Reason)].

advice(eaddrinuse) -> "; another process listens there";
advice(eexist) -> "; a file that is no socket is there";
advice(enoent) -> "; its folder has to be there";
advice(_Reason) -> "".

%% @doc Whether the process at the other end is this user's, or root's, who may do all there is.
-spec is_own_user(socket:socket()) -> true | {false, Uid :: non_neg_integer()}.
is_own_user(Socket) ->
    case socket:getopt_native(Socket, ?PEERCRED, ?CREDENTIALS) of
        {ok, <<_Pid:32/native, Uid:32/native, _Gid:32/native>>} ->
            Uid =:= 0 orelse Uid =:= uid() orelse {false, Uid};
        _ ->
            true
    end.

%% The user in whose name files are opened. A process that was given a right by its file has a
%% folder of root's in /proc, in which everybody may read this.
uid() ->
    case file:read_file("/proc/self/status") of
        {ok, Status} ->
            {match, [Uid]} = re:run(Status, "\nUid:\t[0-9]+\t([0-9]+)",
                                    [{capture, all_but_first, binary}]),
            binary_to_integer(Uid);
        {error, _} ->
            list_to_integer(string:trim(os:cmd("id -u")))
    end.
