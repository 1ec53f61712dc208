%% How a connection begins: Ranch's transport of our listener, and its protocol.
%%
%%   accepted ──counted──▶ handshake of TLS ──▶ HTTP/1.1: hornbeam_http1, to the end
%%      │ no room: 503                     └──▶ HTTP/2, or http_engine => cowboy: Cowboy goes on
%%
%% The process of a connection is Cowboy's (cowboy_clear, cowboy_tls), which asks Ranch for the
%% handshake of its socket first. Ranch asks its transport, which is this module, in that process.
%% So the handshake is where it is decided who speaks on: for HTTP/2 it returns as any handshake
%% does, and for HTTP/1.1 it goes on until the connection is over, and ends the process. It all
%% rests on ranch_transport and ranch_protocol, as Ranch documents them.
%%
%% What is shown in the handshake of TLS stands for itself, so that a reload of the certificate is
%% one small change that touches no connection.
-module(hornbeam_transport).

-export([start_listener/3, suspend_listener/1, stop_listener/1, is_listening/1, address/1,
         posix/1]).
-export([set_identity/2]).
-export([start_link/3, start_link/4]).
-export([name/0, secure/0, messages/0, listen/1, accept/2, handshake/2, handshake/3]).
-export([disallowed_listen_options/0, controlling_process/2, peername/1, sockname/1, close/1,
         cleanup/1, format_error/1]).
-export_type([options/0]).

-type options() :: #{mounts := hornbeam_mounts:mounts(),
                     limit := hornbeam_connection_limit:limit(),
                     cowboy := cowboy:opts(), is_secure := boolean(),
                     proxies => hornbeam_forwarded:trusted() | none,
                     tls => [ssl:tls_server_option()]}.
%% They are a persistent term, for they are large: passed on, they would be copied into the process
%% of each connection.

-type socket() :: {ranch:ref(), ListenerOrClient :: term()}.
%% A socket with the listener that it is of, until its handshake is done.

-define(OPTIONS(Ref), {?MODULE, options, Ref}).
-define(IDENTITY(Ref), {?MODULE, identity, Ref}).
-define(SOCKET(Ref), {?MODULE, socket, Ref}).

%% For so long acceptors may hand on whom they have let in, looked at with this pause (ms).
-define(HAND_ON, 500).
-define(LOOK_PAUSE, 5).

%% @doc Start a Ranch listener whose connections begin here.
-spec start_listener(ranch:ref(), ranch:opts(), {options(), hornbeam_tls:identity() | none}) ->
    {ok, pid()} | {error, term()}.
start_listener(Ref, #{socket_opts := SocketOptions} = Transport, {Options, Identity}) ->
    persistent_term:put(?OPTIONS(Ref), Options),
    set_identity(Ref, Identity),
    ranch:start_listener(Ref, ?MODULE,
                         Transport#{connection_type => supervisor,
                                    socket_opts => [{?MODULE, Ref} | SocketOptions]},
                         ?MODULE, []).

%% @doc Take no more connections; those that there are stay.
%%
%% Ranch kills its acceptors, and with them the clients that they have just let in. And whoever
%% takes a client from a socket that is closed meanwhile drops him. So it is closed when no acceptor
%% has anybody in hand, by which none of them gets another one, and who was let in at that very
%% moment is handed on.
-spec suspend_listener(ranch:ref()) -> ok.
suspend_listener(Ref) ->
    Acceptors = ranch:procs(Ref, acceptors),
    await(fun accepts/1, Acceptors),
    _ = (tcp_or_tls(Ref)):close(persistent_term:get(?SOCKET(Ref))),
    await(fun is_parked/1, Acceptors),
    _ = ranch:suspend_listener(Ref),
    ok.

await(Does, Acceptors) ->
    await(Does, Acceptors, erlang:monotonic_time(millisecond) + ?HAND_ON).

await(Does, Acceptors, Deadline) ->
    Busy = [Pid || Pid <- Acceptors, is_process_alive(Pid), not Does(Pid)],
    case Busy =/= [] andalso erlang:monotonic_time(millisecond) < Deadline of
        true -> receive after ?LOOK_PAUSE -> await(Does, Acceptors, Deadline) end;
        false -> ok
    end.

accepts(Pid) ->
    case process_info(Pid, [status, message_queue_len, current_stacktrace]) of
        [{status, waiting}, {message_queue_len, 0}, {current_stacktrace, Stack}] ->
            lists:any(fun(Call) -> element(2, Call) =:= accept
                                   andalso element(1, Call) =:= ?MODULE end, Stack);
        _ ->
            false
    end.

is_parked(Pid) ->
    process_info(Pid, current_function) =:= {current_function, {?MODULE, parked, 0}}.

%% @doc Stop a listener and its connections, if there is one.
-spec stop_listener(ranch:ref()) -> ok.
stop_listener(Ref) ->
    _ = try
        ranch:stop_listener(Ref)
    catch
        error:badarg -> ok
    end,
    _ = persistent_term:erase(?OPTIONS(Ref)),
    _ = persistent_term:erase(?IDENTITY(Ref)),
    _ = persistent_term:erase(?SOCKET(Ref)),
    ok.

%% @doc Whether there is such a listener.
-spec is_listening(ranch:ref()) -> boolean().
is_listening(Ref) ->
    try
        _ = ranch:get_addr(Ref),
        true
    catch
        error:badarg -> false
    end.

%% @doc Where a listener listens.
-spec address(ranch:ref()) -> {inet:ip_address(), inet:port_number()} | term().
address(Ref) ->
    ranch:get_addr(Ref).

%% @doc Why there is no listener: Ranch tells of some reasons by the failure of its supervisor.
-spec posix(term()) -> term().
posix({{shutdown, {failed_to_start_child, _, {listen_error, _, Reason}}}, _Child}) -> Reason;
posix(Reason) -> Reason.

%% @doc Show this to clients from the next handshake on.
-spec set_identity(ranch:ref(), hornbeam_tls:identity() | none) -> ok.
set_identity(Ref, Identity) ->
    persistent_term:put(?IDENTITY(Ref), Identity).

%% The protocol.

%% @private Ranch 1.
-spec start_link(ranch:ref(), term(), module(), []) -> {ok, pid()}.
start_link(Ref, _Socket, Transport, []) ->
    start_link(Ref, Transport, []).

%% @private Ranch 2.
-spec start_link(ranch:ref(), module(), []) -> {ok, pid()}.
start_link(Ref, _Transport, []) ->
    case persistent_term:get(?OPTIONS(Ref)) of
        #{is_secure := true, cowboy := Cowboy} ->
            cowboy_tls:start_link(Ref, hornbeam_cowboy_transport, Cowboy);
        #{is_secure := false, cowboy := Cowboy} ->
            cowboy_clear:start_link(Ref, hornbeam_cowboy_transport, Cowboy)
    end.

%% The transport, as far as Ranch uses it.

%% @private
-spec name() -> atom().
name() -> hornbeam.

%% @private
-spec secure() -> boolean().
secure() -> false.

%% @private
-spec messages() -> {tcp, tcp_closed, tcp_error, tcp_passive}.
messages() -> {tcp, tcp_closed, tcp_error, tcp_passive}.

%% @private
-spec disallowed_listen_options() -> [atom()].
disallowed_listen_options() -> ranch_tcp:disallowed_listen_options().

%% @private Ranch 2 gives a map, Ranch 1 a list.
-spec listen(#{socket_opts := list(), _ => _} | list()) -> {ok, socket()} | {error, atom()}.
listen(#{socket_opts := [{?MODULE, Ref} | SocketOptions]} = Transport) ->
    listening(Ref, (tcp_or_tls(Ref)):listen(Transport#{socket_opts := SocketOptions}));
listen(SocketOptions) ->
    {value, {?MODULE, Ref}, Others} = lists:keytake(?MODULE, 1, SocketOptions),
    listening(Ref, (tcp_or_tls(Ref)):listen(Others)).

listening(Ref, Outcome) ->
    _ = [persistent_term:put(?SOCKET(Ref), Socket) || {ok, Socket} <- [Outcome]],
    of_listener(Ref, Outcome).

of_listener(Ref, {ok, Socket}) -> {ok, {Ref, Socket}};
of_listener(_Ref, Error) -> Error.

tcp_or_tls(Ref) ->
    case persistent_term:get(?OPTIONS(Ref)) of
        #{proxies := Proxies} when Proxies =/= none -> ranch_tcp;
        #{is_secure := true} -> ranch_ssl;
        #{is_secure := false} -> ranch_tcp
    end.

%% @private
-spec accept(socket(), timeout()) -> {ok, socket()} | {error, closed | timeout | atom()}.
accept({Ref, Listener}, Timeout) ->
    case (tcp_or_tls(Ref)):accept(Listener, Timeout) of
        {error, closed} -> parked();
        Outcome -> of_listener(Ref, Outcome)
    end.

%% An acceptor that ended would be started again.
-spec parked() -> no_return().
parked() ->
    receive after infinity -> error(unreachable) end.

%% @private
-spec controlling_process(socket(), pid()) -> ok | {error, term()}.
controlling_process({Ref, Socket}, Pid) -> (tcp_or_tls(Ref)):controlling_process(Socket, Pid).

%% @private
-spec peername(socket()) -> {ok, term()} | {error, atom()}.
peername({Ref, Socket}) -> (tcp_or_tls(Ref)):peername(Socket).

%% @private
-spec sockname(socket()) -> {ok, term()} | {error, atom()}.
sockname({Ref, Socket}) -> (tcp_or_tls(Ref)):sockname(Socket).

%% @private
-spec close(socket()) -> ok.
close({Ref, Socket}) -> (tcp_or_tls(Ref)):close(Socket).

%% @private The file of a Unix socket may be another's by then.
-spec cleanup(ranch:transport_opts(term())) -> ok.
cleanup(_Transport) ->
    ok.

%% @private
-spec format_error(term()) -> string().
format_error(no_cert) -> "no certificate";
format_error(Reason) -> inet:format_error(Reason).

%% @private
-spec handshake(socket(), timeout()) -> {ok, term()} | {error, term()}.
handshake(Socket, Timeout) ->
    handshake(Socket, [], Timeout).

%% @private
-spec handshake(socket(), term(), timeout()) -> {ok, term()} | {error, term()}.
handshake({Ref, Accepted}, _Options, Timeout) ->
    #{limit := Limit} = Options = persistent_term:get(?OPTIONS(Ref)),
    Entered = hornbeam_connection_limit:enter(Limit),
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    case introduced(Accepted, Deadline, Options) of
        ok -> secured(Entered, Ref, Accepted, Deadline, Options);
        {error, Why} -> unintroduced(Why, Accepted, Options)
    end.

%% What a proxy says of its client comes first, and has the time of the handshake.
introduced(Socket, Deadline, #{proxies := Proxies}) when Proxies =/= none ->
    case ranch_tcp:peername(Socket) of
        {ok, Peer} -> introduced_by(hornbeam_forwarded:trusts(Peer, Proxies), Socket, Deadline);
        {error, _} -> {error, closed}
    end;
introduced(_Socket, _Deadline, _Options) ->
    ok.

%% Others are who they are. What they say of themselves is no request, and gets a 400.
introduced_by(false, _Socket, _Deadline) ->
    ok;
introduced_by(true, Socket, Deadline) ->
    case hornbeam_proxy_header:read(Socket, Deadline) of
        {ok, Told} -> hornbeam_endpoints:set(Told);
        {error, _} = Error -> Error
    end.

-spec unintroduced(closed | timeout | no_header, inet:socket(), options()) -> no_return().
unintroduced(Why, Socket, #{mounts := #{counters := Counters}}) ->
    _ = [hornbeam_counters:add(proxy_refused, Counters) || Why =/= closed],
    _ = ranch_tcp:close(Socket),
    exit(normal).

secured(Entered, Ref, Accepted, Deadline, Options) ->
    Left = max(0, Deadline - erlang:monotonic_time(millisecond)),
    case secured(persistent_term:get(?IDENTITY(Ref)), Accepted, Left, Options) of
        {ok, Socket} -> begun(Entered, Socket, Options);
        {error, _} = Error -> refused(Error, Options)
    end.

secured(none, Socket, Timeout, _Options) ->
    ranch_tcp:handshake(Socket, [], Timeout);
secured(Identity, Socket, Timeout, Options) ->
    [{cert, [Certificate | _]} | _] = Shown = hornbeam_secret:show(Identity),
    hornbeam_endpoints:set_certificate(Certificate),
    shake(Shown, Socket, Timeout, Options).

shake(Shown, Socket, Timeout, #{proxies := Proxies, tls := Tls}) when Proxies =/= none ->
    ssl:handshake(Socket, Tls ++ Shown, Timeout);
shake(Shown, Socket, Timeout, _Options) ->
    ranch_ssl:handshake(Socket, Shown, Timeout).

%% Ranch ends the process, without a word where the client is to blame.
refused(Error, #{mounts := #{counters := Counters}}) ->
    hornbeam_counters:add(tls_refused, Counters),
    Error.

-spec begun(ok | full | overrun, term(), options()) -> {ok, term()} | {error, term()}.
begun(ok, Socket, Options) ->
    Both = both(Socket, Options),
    spoken(protocol(Both, Options), Both, Options);
begun(full, Socket, Options) ->
    Both = both(Socket, Options),
    turned_away(can_tell_health(Both, Options), Both, Options);
begun(overrun, Socket, Options) ->
    {Transport, Raw} = both(Socket, Options),
    _ = Transport:close(Raw),
    exit(normal).

%% Who probes the node may have no connection of his own: a node that has no room is not unhealthy.
-spec turned_away(boolean(), hornbeam_socket:socket(), options()) -> no_return().
turned_away(true, Socket, #{mounts := Mounts}) ->
    _ = http1(Socket, hornbeam_mounts:full(Mounts)),
    exit(normal);
turned_away(false, {Transport, Raw} = Socket, #{mounts := #{counters := Counters}}) ->
    hornbeam_error_response:count(full, Counters),
    _ = Transport:send(Raw, hornbeam_http1_response:refusal(full, <<>>)),
    hornbeam_socket:linger(Socket),
    exit(normal).

%% Only our own HTTP/1.1 can be told so late what it is to serve.
can_tell_health(_Socket, #{mounts := #{server := #{health_path := undefined}}}) ->
    false;
can_tell_health(_Socket, #{mounts := #{server := #{http_engine := cowboy}}}) ->
    false;
can_tell_health(Socket, Options) ->
    protocol(Socket, Options) =:= {http1, <<>>}.

both(Socket, #{is_secure := true}) -> {ranch_ssl, Socket};
both(Socket, #{is_secure := false}) -> {ranch_tcp, Socket}.

%% What the client speaks, and what was read to know it. Our HTTP/1.1 finds out by itself.
protocol({ranch_ssl, Raw}, _Options) ->
    case ssl:negotiated_protocol(Raw) of
        {ok, <<"h2">>} -> {http2, <<>>};
        _ -> {http1, <<>>}
    end;
protocol(Socket, #{mounts := #{server := #{http_engine := cowboy} = Server}}) ->
    #{keepalive_timeout := Timeout} = Server,
    hornbeam_cowboy:protocol(Socket, Timeout);
protocol(_Socket, _Options) ->
    {http1, <<>>}.

spoken({http2, First}, Socket, #{mounts := Mounts}) ->
    http2(First, Socket, Mounts);
spoken({http1, First}, {_Transport, Raw} = Socket,
       #{mounts := #{server := #{http_engine := cowboy}} = Mounts}) ->
    _ = [self() ! {tcp, Raw, First} || First =/= <<>>],
    hornbeam_cowboy:begun(Socket, none, Mounts),
    {ok, Raw};
spoken({http1, <<>>}, Socket, #{mounts := Mounts}) ->
    case http1(Socket, Mounts) of
        ended -> exit(normal);
        {http2, First} -> http2(First, Socket, Mounts)
    end;
spoken({error, _}, {Transport, Raw}, _Options) ->
    _ = Transport:close(Raw),
    exit(normal).

http1(Socket, Mounts) ->
    [Parent | _] = get('$ancestors'),
    hornbeam_http1:serve(Parent, Socket, Mounts).

http2(First, {_Transport, Raw} = Socket, Mounts) ->
    case hornbeam_http2_reader:start(Socket, First, Mounts) of
        {ok, Reader} ->
            hornbeam_cowboy:begun(Socket, Reader, Mounts),
            {ok, Raw};
        {error, _} = Error ->
            Error
    end.
