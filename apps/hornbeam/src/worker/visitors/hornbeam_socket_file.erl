%% The file of a Unix socket: what stands in its place before it is there, and its end.
%%
%% One stays behind when a node is killed. Knows files and whether somebody listens.
-module(hornbeam_socket_file).

-include_lib("kernel/include/file.hrl").

-export([obstacle/1, remove_stale/1, remove/1, identity/1, remove/2]).
-export_type([identity/0]).

-type identity() :: {Device :: integer(), Inode :: integer()} | none.
%% What tells a file from another one that has its name later.

%% What a file is stands in these bits of its mode (stat(2)).
-define(IS_SOCKET(Mode), (Mode band 8#170000 =:= 8#140000)).

%% How long one that listens may take to let us in (ms).
-define(PATIENCE, 1000).

%% How old (s) a socket is on which nobody listens any more, and not one on which nobody does yet.
-define(AGE, 10).

%% @doc What stands in the way of listening at a path: a file that is none of a socket, also a link
%% to one, or a socket on which another process listens. One that nobody listens on does not.
-spec obstacle(file:name_all()) -> none | eexist | eaddrinuse.
obstacle(Path) ->
    case file:read_link_info(Path, [raw]) of
        {ok, #file_info{mode = Mode}} when ?IS_SOCKET(Mode) -> listener_at(Path);
        {ok, #file_info{}} -> eexist;
        {error, _} -> none
    end.

listener_at(Path) ->
    case gen_tcp:connect({local, Path}, 0, [local], ?PATIENCE) of
        {ok, Socket} ->
            ok = gen_tcp:close(Socket),
            eaddrinuse;
        {error, Nobody} when Nobody =:= econnrefused; Nobody =:= enoent ->
            none;
        {error, _} ->
            %% It has no room just now, or does not let this user in.
            eaddrinuse
    end.

%% @doc Delete the sockets of a folder on which nobody listens.
-spec remove_stale(Folder :: file:name_all()) -> ok.
remove_stale(Folder) ->
    Paths = filelib:wildcard(filename:join(to_list(Folder), "*.sock")),
    lists:foreach(fun remove/1, [Path || Path <- Paths, is_old(Path), obstacle(Path) =:= none]).

to_list(Path) -> unicode:characters_to_list(Path).

is_old(Path) ->
    case file:read_file_info(Path, [raw, {time, posix}]) of
        {ok, #file_info{mtime = Made}} -> erlang:system_time(second) - Made > ?AGE;
        {error, _} -> false
    end.

%% @doc Delete it, if it is there.
-spec remove(file:name_all()) -> ok.
remove(Path) ->
    _ = file:delete(Path, [raw]),
    ok.

%% @doc Which file is there now.
-spec identity(file:name_all()) -> identity().
identity(Path) ->
    case file:read_link_info(Path, [raw]) of
        {ok, #file_info{major_device = Device, inode = Inode}} -> {Device, Inode};
        {error, _} -> none
    end.

%% @doc Delete it, if it is still that one.
-spec remove(file:name_all(), identity()) -> ok.
remove(Path, Identity) ->
    case identity(Path) of
        Identity -> remove(Path);
        _ -> ok
    end.
