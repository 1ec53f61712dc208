%% The listener: opens last and shuts first.
%%
%% It owns no connection. When it ends it stops accepting, sends the WebSockets away in
%% batches, lets requests finish, and takes at most `shutdown_timeout' for that; then the apps may
%% end. When it crashes the
%% connections live on, and its successor finds them as they are.
-module(hornbeam_listener).
-behaviour(gen_server).

-include_lib("kernel/include/file.hrl").

-export([start_link/2, info/0, reload_certificate/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(state, {
    bind :: hornbeam_config:bind(),
    mounts :: hornbeam_mounts:mounts(),
    limit :: hornbeam_connection_limit:limit()
}).

-define(REF, hornbeam).

%% How many WebSockets are closed at a time, so that a stop is no burst.
-define(BATCH, 200).

%% The next batch follows at the latest after this (ms): its clients may not answer.
-define(BATCH_WAIT, 50).

%% What is left for an answer of ours, and then for the connections' processes, to end (ms).
-define(LAST_ANSWER, 500).

%% A send returns at once while less than this (bytes) waits in the socket. It is more than an
%% app's credit for one WebSocket, so that only a huge message makes a connection wait.
-define(HIGH_WATERMARK, 1048576).

%% @doc Listen, and serve mounts to so many connections as there may be.
-spec start_link(hornbeam_mounts:mounts(), hornbeam_connection_limit:limit()) ->
    gen_server:start_ret().
start_link(Mounts, Limit) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, {Mounts, Limit}, []).

%% @doc Where the server listens, and what the web room has counted; empty when it does not.
-spec info() -> #{address => term(), sockets => non_neg_integer(),
                  counters => #{atom() => non_neg_integer()}}.
info() ->
    try
        gen_server:call(?MODULE, info)
    catch
        exit:_ -> #{}
    end.

%% @doc Read the files of TLS again: new connections get what is in them, open ones stay.
-spec reload_certificate() -> ok | {error, hornbeam_tls:error() | no_tls | not_serving}.
reload_certificate() ->
    try
        gen_server:call(?MODULE, reload_certificate)
    catch
        exit:_ -> {error, not_serving}
    end.

%% @private
-spec init({hornbeam_mounts:mounts(), hornbeam_connection_limit:limit()}) ->
    {ok, #state{}} | {stop, {shutdown, {listen, term()}}}.
init({#{server := #{bind := Bind}} = Mounts, Limit}) ->
    process_flag(trap_exit, true),
    State = #state{bind = Bind, mounts = Mounts, limit = Limit},
    case hornbeam_transport:is_listening(?REF) orelse listen(obstacle(Bind), Mounts, Limit) of
        true -> {ok, State};
        {ok, _} -> {ok, State};
        {error, Reason} -> {stop, {shutdown, {listen, posix(Reason)}}}
    end.

listen(none, #{server := Options} = Mounts, Limit) ->
    case hornbeam_tls:load(Options) of
        {error, _} = Error -> Error;
        none -> start_listener(tcp_transport(Options), none, Mounts, Limit);
        {ok, Identity} -> start_listener(tls_transport(Options), Identity, Mounts, Limit)
    end;
listen(Reason, _Mount, _Limit) ->
    {error, Reason}.

start_listener(Transport, Identity, #{server := Server} = Mounts, Limit) ->
    ok = hornbeam_own_headers:set(Server),
    Options = #{mounts => Mounts, limit => Limit, cowboy => hornbeam_cowboy:options(Mounts),
                is_secure => Identity =/= none},
    hornbeam_transport:start_listener(?REF, Transport, {Options, Identity}).

%% Ranch tells of some reasons by the failure of its supervisor.
posix({{shutdown, {failed_to_start_child, _, {listen_error, _, Reason}}}, _Child}) -> Reason;
posix(Reason) -> Reason.

%% Ranch would let those wait who are over the limit; hornbeam_transport tells them.
transport(#{bind := Bind, backlog := Backlog, header_timeout := Timeout}, Buffer) ->
    #{max_connections => infinity,
      handshake_timeout => Timeout,
      shutdown => ?LAST_ANSWER,
      socket_opts => socket(Bind) ++ [{nodelay, true}, {keepalive, true}, {buffer, Buffer},
                                      {backlog, Backlog}, {high_watermark, ?HIGH_WATERMARK},
                                      {send_timeout, 30000}, {send_timeout_close, true}]}.

tcp_transport(Options) ->
    transport(Options, hornbeam_read_buffer:least()).

tls_transport(Options) ->
    #{socket_opts := Tcp} = Transport = transport(Options, hornbeam_read_buffer:most()),
    Transport#{socket_opts := Tcp ++ hornbeam_tls:listen_options(Options)}.

socket({local, Path}) -> [{ip, {local, Path}}, {port, 0}];
socket({fd, Descriptor}) -> hornbeam_inherited_socket:options(Descriptor);
socket({Ip, Port}) when tuple_size(Ip) =:= 8 -> [inet6, {ip, Ip}, {port, Port}];
socket({Ip, Port}) -> [{ip, Ip}, {port, Port}].

%% Ranch deletes what stands at a socket's path. That must be a socket that nobody listens on:
%% one stays behind when a node is killed.
obstacle({local, Path}) ->
    case file:read_file_info(Path, [raw]) of
        {ok, #file_info{type = other}} -> listener_at(Path);
        {ok, #file_info{}} -> eexist;
        {error, _} -> none
    end;
obstacle({fd, Descriptor}) ->
    hornbeam_inherited_socket:obstacle(Descriptor);
obstacle(_Bind) ->
    none.

listener_at(Path) ->
    case gen_tcp:connect({local, Path}, 0, [local], 1000) of
        {ok, Socket} ->
            ok = gen_tcp:close(Socket),
            eaddrinuse;
        {error, _} ->
            none
    end.

remove_file({local, Path}) ->
    _ = file:delete(Path, [raw]),
    ok;
remove_file(_Bind) ->
    ok.

%% @private
-spec handle_call(info | reload_certificate, gen_server:from(), #state{}) ->
    {reply, term(), #state{}}.
handle_call(info, _From, #state{bind = Bind, mounts = Mounts, limit = Limit} = State) ->
    #{counters := Counters} = Mounts,
    {reply, #{address => address(Bind), sockets => hornbeam_connection_limit:count(Limit),
              counters => hornbeam_counters:values(Counters)}, State};
handle_call(reload_certificate, _From, #state{mounts = #{server := Options}} = State) ->
    {reply, reloaded(Options), State}.

reloaded(Options) ->
    case hornbeam_tls:load(Options) of
        {ok, Identity} -> hornbeam_transport:set_identity(?REF, Identity);
        none -> {error, no_tls};
        {error, _} = Error -> Error
    end.

address({local, Path}) -> {local, Path};
address(_Bind) -> hornbeam_transport:address(?REF).

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info(_Stray, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(Reason, _State) when Reason =/= shutdown, Reason =/= normal ->
    %% A crash: the connections are the next one's.
    ok;
terminate(_Reason, #state{bind = Bind, mounts = #{server := Options} = Mounts}) ->
    #{shutdown_timeout := Timeout} = Options,
    Address = address(Bind),
    hornbeam_transport:suspend_listener(?REF),
    hornbeam_mounts:begin_shutdown(Mounts),
    Pools = hornbeam_mounts:pools(Mounts),
    finish(Pools, now_ms() + Timeout),
    turn_away(Pools),
    hornbeam_socket:abandon(Address),
    hornbeam_transport:stop_listener(?REF),
    remove_file(Bind),
    %% The apps are ended one after the other, and begin together.
    lists:foreach(fun hornbeam_pool:begin_stop/1, Pools).

%% A request that waited in line may begin meanwhile, and a handshake may become a WebSocket.
finish(Pools, Deadline) ->
    send_away(hornbeam_websocket_registry:pids(), Deadline),
    Left = in_flight(Pools),
    await_all(monitors(Left), Deadline),
    case Left =:= [] orelse now_ms() >= Deadline of
        true -> ok;
        false -> finish(Pools, Deadline)
    end.

in_flight(Pools) ->
    lists:append([in_flight_of(Pool) || Pool <- Pools]).

in_flight_of(Pool) ->
    hornbeam_pool:owners(http, Pool) ++ hornbeam_pool:owners(websocket, Pool)
        ++ hornbeam_pool:waiters(Pool).

%% Their time is over: who has no answer yet gets one of ours.
turn_away(Pools) ->
    Left = in_flight(Pools),
    lists:foreach(fun hornbeam_pool:turn_away/1, Pools),
    lists:foreach(fun hornbeam_websocket_session:go_away/1, Left),
    await_all(monitors(Left), now_ms() + ?LAST_ANSWER).

send_away([], _Deadline) ->
    ok;
send_away(Sockets, Deadline) ->
    {Batch, Rest} = lists:split(min(?BATCH, length(Sockets)), Sockets),
    lists:foreach(fun hornbeam_websocket_session:go_away/1, Batch),
    await_all(monitors(Batch), min(Deadline, now_ms() + ?BATCH_WAIT)),
    send_away(Rest, Deadline).

%% An exchange in a connection's process says itself when it is over.
monitors(Owners) ->
    [{Owner, erlang:monitor(process, hornbeam_stream:process(Owner))} || Owner <- Owners].

await_all([], _Deadline) ->
    ok;
await_all([{Owner, Ref} | Owners], Deadline) ->
    receive
        {'DOWN', Ref, process, _, _} -> ok;
        {exchange_ended, Owner} -> ok
    after max(0, Deadline - now_ms()) ->
        ok
    end,
    await_all(Owners, Deadline).

now_ms() -> erlang:monotonic_time(millisecond).
