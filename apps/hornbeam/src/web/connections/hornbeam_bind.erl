%% The addresses that a server listens at: what stands in the way, how Ranch is told of them, their
%% end.
%%
%% All of them are one server: the same apps, limit and certificate. Either all are listened at or
%% none is. It knows listeners by their names, and no connection.
-module(hornbeam_bind).

-export([all/1, open/3, suspend/1, close/1, info/1, socket_names/1, set_identity/2]).
-export([files/1, remove_files/1]).
-export_type([bind/0, error/0, files/0]).

-type bind() :: {ranch:ref(), option(), hornbeam_config:bind()}.
-type option() :: bind | redirect_http.
%% What serves apps, and what sends everybody to TLS.

-type files() :: [{Path :: binary(), hornbeam_socket_file:identity()}].

-type error() ::
    hornbeam_tls:error() | {option(), Address :: binary(), inet:posix() | term()}.
%% `Address': the one of them that cannot be listened at.

%% What the first is called; the others have numbers.
-define(FIRST, hornbeam).
-define(REDIRECT, {?FIRST, redirect}).

%% What is left for connections' processes to end (ms).
-define(LAST_ANSWER, 500).

%% A send returns at once while less than this (bytes) waits in the socket. It is more than an
%% app's credit for one WebSocket, so that only a huge message makes a connection wait.
-define(HIGH_WATERMARK, 1048576).

%% @doc The addresses of a server's options, the first one first.
-spec all(hornbeam_config:server_options()) -> [bind(), ...].
all(#{bind := [First | Others], redirect_http := Redirect}) ->
    Numbered = lists:zip(lists:seq(2, 1 + length(Others)), Others),
    [{?FIRST, bind, First} | [{{?FIRST, Number}, bind, Bind} || {Number, Bind} <- Numbered]]
        ++ [{?REDIRECT, redirect_http, Redirect} || Redirect =/= undefined].

%% @doc Listen at all of them where nobody does yet. On an error none is left open that this has
%% opened.
-spec open([bind()], hornbeam_mounts:mounts(), hornbeam_connection_limit:limit()) ->
    ok | {error, error()}.
open(Binds, #{server := Server} = Mounts, Limit) ->
    Closed = [Bind || {Ref, _, _} = Bind <- Binds, not hornbeam_transport:is_listening(Ref)],
    case Closed =/= [] andalso hornbeam_tls:load(Server) of
        false -> ok;
        {error, _} = Error -> Error;
        none -> open_each(Closed, [], {none, Mounts, Limit});
        {ok, Identity} -> open_each(Closed, [], {Identity, Mounts, Limit})
    end.

open_each([], _Opened, _How) ->
    ok;
open_each([{_, Option, Where} = Bind | Binds], Opened, How) ->
    case open_one(obstacle(Where), Bind, How) of
        {ok, _} ->
            open_each(Binds, [Bind | Opened], How);
        {error, Reason} ->
            remove_files(files(Opened)),
            close(Opened),
            {error, {Option, name(Where), hornbeam_transport:posix(Reason)}}
    end.

open_one(none, {Ref, redirect_http, Where}, {_Identity, #{server := Server} = Mounts, Limit}) ->
    Redirecting = hornbeam_mounts:with_redirect(redirect_port(Server), Mounts),
    start_listener(Ref, Where, {none, Redirecting, Limit});
open_one(none, {Ref, bind, Where}, How) ->
    start_listener(Ref, Where, How);
open_one(Reason, _Bind, _How) ->
    {error, Reason}.

%% Those that serve apps are open by then.
redirect_port(#{redirect_port := Port}) when Port =/= undefined ->
    Port;
redirect_port(Server) ->
    [Port | _] = [Port || {Ip, Port} <- socket_names(serving(all(Server))), is_tuple(Ip)],
    Port.

serving(Binds) ->
    [Bind || {_, bind, _} = Bind <- Binds].

start_listener(Ref, Where, {Identity, #{server := Server} = Mounts, Limit}) ->
    ok = hornbeam_own_headers:set(Server),
    Options = #{mounts => Mounts, limit => Limit, cowboy => hornbeam_cowboy:options(Mounts),
                is_secure => Identity =/= none, proxies => proxies(Server),
                tls => tls_options(Identity, Server)},
    Started = hornbeam_transport:start_listener(Ref, transport(Where, Identity, Server),
                                                {Options, Identity}),
    _ = [permit(Where, Server) || {ok, _} <- [Started]],
    Started.

permit({local, Path}, #{uds_permissions := Mode}) when Mode =/= undefined ->
    ok = file:change_mode(Path, Mode);
permit(_Where, _Server) ->
    ok.

proxies(#{proxy_protocol := false}) -> none;
proxies(#{proxy_protocol_from := From}) -> From.

tls_options(none, _Server) -> [];
tls_options(_Identity, Server) -> hornbeam_tls:listen_options(Server).

%% Ranch would let those wait who are over the limit; hornbeam_transport tells them.
transport(Where, Identity, #{header_timeout := Timeout} = Server) ->
    #{max_connections => infinity,
      handshake_timeout => Timeout,
      shutdown => ?LAST_ANSWER,
      socket_opts => socket(Where, Server) ++ options(Identity, Server)}.

options(none, Server) ->
    tcp_options(hornbeam_read_buffer:least(), Server);
%% Before the handshake of TLS comes what a proxy has to say.
options(_Identity, #{proxy_protocol := true} = Server) ->
    tcp_options(hornbeam_read_buffer:most(), Server);
options(Identity, Server) ->
    tcp_options(hornbeam_read_buffer:most(), Server) ++ tls_options(Identity, Server).

tcp_options(Buffer, #{backlog := Backlog}) ->
    [{nodelay, true}, {keepalive, true}, {buffer, Buffer}, {backlog, Backlog},
     {high_watermark, ?HIGH_WATERMARK}, {send_timeout, 30000}, {send_timeout_close, true}].

socket({local, Path}, _Server) -> [{ip, {local, Path}}, {port, 0}];
socket({fd, Descriptor}, _Server) -> hornbeam_inherited_socket:options(Descriptor);
socket({Ip, Port}, #{bind := All}) when tuple_size(Ip) =:= 8 ->
    [inet6, {ip, Ip}, {port, Port}] ++ alone(Port, All);
socket({Ip, Port}, _Server) -> [{ip, Ip}, {port, Port}].

%% All addresses of IPv6 are those of IPv4, too, which may be said on their own.
alone(Port, All) ->
    [{ipv6_v6only, true} || lists:any(fun({Ip, Its}) -> tuple_size(Ip) =:= 4 andalso Its =:= Port
                                      end, [Bind || {Ip, _} = Bind <- All, is_tuple(Ip)])].

%% Ranch deletes what stands at a socket's path. That must be a socket that nobody listens on.
obstacle({local, Path}) ->
    hornbeam_socket_file:obstacle(Path);
obstacle({fd, Descriptor}) ->
    hornbeam_inherited_socket:obstacle(Descriptor);
obstacle(_Where) ->
    none.

%% An address as the option has it.
name({local, Path}) -> <<"unix:", Path/binary>>;
name({fd, Descriptor}) -> <<"fd:", (integer_to_binary(Descriptor))/binary>>;
name({Ip, Port}) when tuple_size(Ip) =:= 8 ->
    iolist_to_binary(["[", inet:ntoa(Ip), "]:", integer_to_list(Port)]);
name({Ip, Port}) ->
    iolist_to_binary([inet:ntoa(Ip), ":", integer_to_list(Port)]).

%% @doc Show this to clients of all of them from the next handshake on.
-spec set_identity(hornbeam_tls:identity(), [bind()]) -> ok.
set_identity(Identity, Binds) ->
    lists:foreach(fun({Ref, _, _}) -> hornbeam_transport:set_identity(Ref, Identity) end,
                  serving(Binds)).

%% @doc Where they listen, in the words of hornbeam:info/0: with the ports that the system chose.
-spec info([bind()]) ->
    #{address := term(), addresses := [term(), ...], redirect_http => term()}.
info(Binds) ->
    Addresses = socket_names(serving(Binds)),
    redirecting(socket_names(Binds -- serving(Binds)),
                #{address => hd(Addresses), addresses => Addresses}).

redirecting([Address], Info) -> Info#{redirect_http => Address};
redirecting([], Info) -> Info.

%% @doc The addresses of their sockets.
-spec socket_names([bind()]) -> [{local, binary()} | {inet:ip_address(), inet:port_number()}].
socket_names(Binds) ->
    [socket_name(Ref, Where) || {Ref, _, Where} <- Binds].

socket_name(_Ref, {local, Path}) -> {local, Path};
socket_name(Ref, _Where) -> hornbeam_transport:address(Ref).

%% @doc Take no more connections.
-spec suspend([bind()]) -> ok.
suspend(Binds) ->
    lists:foreach(fun({Ref, _, _}) -> hornbeam_transport:suspend_listener(Ref) end, Binds).

%% @doc The files of their Unix sockets.
-spec files([bind()]) -> files().
files(Binds) ->
    [{Path, hornbeam_socket_file:identity(Path)} || {_, _, {local, Path}} <- Binds].

%% @doc Delete them, unless others have the names by now: as soon as nobody listens any more a
%% successor may put its own there.
-spec remove_files(files()) -> ok.
remove_files(Files) ->
    lists:foreach(fun({Path, File}) -> hornbeam_socket_file:remove(Path, File) end, Files).

%% @doc Stop listening, and with it all connections.
-spec close([bind()]) -> ok.
close(Binds) ->
    lists:foreach(fun({Ref, _, _}) -> hornbeam_transport:stop_listener(Ref) end, Binds).
