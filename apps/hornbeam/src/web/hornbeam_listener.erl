%% The door: a Cowboy listener that opens last and shuts first.
%%
%% It owns no connection. When it ends it stops accepting, sends the WebSockets away in
%% batches, lets requests finish, and takes at most `shutdown_timeout' for that.
-module(hornbeam_listener).
-behaviour(gen_server).

-include_lib("kernel/include/file.hrl").

-export([start_link/2, info/0, reload_certificate/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(state, {
    pool :: hornbeam_pool:name(),
    bind :: hornbeam_config:bind(),
    mount :: hornbeam_mounts:mount(),
    door :: hornbeam_doorkeeper:door()
}).

-define(REF, hornbeam).

%% How many WebSockets are closed at a time, so that a stop is no burst.
-define(BATCH, 200).

%% Cowboy measures what it has read of a line, its end included (bytes).
-define(LINE_END, 2).

%% The next batch follows at the latest after this (ms): its clients may not answer.
-define(BATCH_WAIT, 50).

%% What is left for an answer of ours, and then for Cowboy's processes, to end (ms).
-define(LAST_ANSWER, 500).

%% A send returns at once while less than this (bytes) waits in the socket. It is more than an
%% app's credit for one WebSocket, so that only a huge message makes a connection wait.
-define(HIGH_WATERMARK, 1048576).

%% The flow control windows of HTTP/2 (bytes).
-define(HTTP2_WINDOW, 65535).

%% @doc Listen, and serve with a pool's workers.
-spec start_link(hornbeam_pool:name(), hornbeam_config:checked()) -> gen_server:start_ret().
start_link(Pool, Checked) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, {Pool, Checked}, []).

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
-spec init({hornbeam_pool:name(), hornbeam_config:checked()}) ->
    {ok, #state{}} | {stop, {shutdown, {listen, term()}}}.
init({Pool, #{server := #{bind := Bind}} = Checked}) ->
    process_flag(trap_exit, true),
    Mount = hornbeam_mounts:new(Pool, Checked),
    {ok, Door} = hornbeam_doorkeeper:start_link(Mount),
    %% A listener process that was killed leaves Cowboy's listener behind.
    hornbeam_connection:stop_listener(?REF),
    case listen(in_the_way(Bind), Mount, Door) of
        {ok, _} -> {ok, #state{pool = Pool, bind = Bind, mount = Mount, door = Door}};
        {error, Reason} -> {stop, {shutdown, {listen, posix(Reason)}}}
    end.

listen(nothing, #{server := Options} = Mount, Door) ->
    case hornbeam_tls:load(Options) of
        {error, _} = Error -> Error;
        none -> start_listener(tcp_transport(Options), none, Mount, Door);
        {ok, Identity} -> start_listener(tls_transport(Options), Identity, Mount, Door)
    end;
listen(Reason, _Mount, _Door) ->
    {error, Reason}.

start_listener(Transport, Identity, Mount, Door) ->
    hornbeam_connection:start_listener(?REF, Transport, connection(Identity, Mount, Door)).

connection(Identity, Mount, Door) ->
    #{http1 => http1(Mount, Door), http2 => http2(Mount, Door), identity => Identity,
      mount => Mount, door => Door}.

%% Ranch tells of some reasons by the failure of its supervisor.
posix({{shutdown, {failed_to_start_child, _, {listen_error, _, Reason}}}, _Child}) -> Reason;
posix(Reason) -> Reason.

%% Ranch would let those wait who are over the limit; hornbeam_doorkeeper tells them.
transport(#{bind := Bind, header_timeout := Timeout}, Buffer) ->
    #{max_connections => infinity,
      handshake_timeout => Timeout,
      shutdown => ?LAST_ANSWER,
      socket_opts => socket(Bind) ++ [{nodelay, true}, {keepalive, true}, {buffer, Buffer},
                                      {backlog, 1024}, {high_watermark, ?HIGH_WATERMARK},
                                      {send_timeout, 30000}, {send_timeout_close, true}]}.

tcp_transport(Options) ->
    transport(Options, hornbeam_read_buffer:least()).

tls_transport(Options) ->
    #{socket_opts := Tcp} = Transport = transport(Options, hornbeam_read_buffer:most()),
    Transport#{socket_opts := Tcp ++ hornbeam_tls:listen_options(Options)}.

socket({local, Path}) -> [{ip, {local, Path}}, {port, 0}];
socket({Ip, Port}) when tuple_size(Ip) =:= 8 -> [inet6, {ip, Ip}, {port, Port}];
socket({Ip, Port}) -> [{ip, Ip}, {port, Port}].

%% Cowboy's versions differ in their defaults: every limit is set, and what a version does not
%% know it leaves alone. Cowboy's own limits are for what has no end yet; of what is whole
%% hornbeam_head knows exactly whether it is too large.
http1(#{server := Options} = Mount, Door) ->
    #{limit_request_line := Line, limit_request_fields := Fields,
      limit_request_field_size := Field} = Options,
    maps:merge(both(Mount, Door), #{
      stream_handlers => [hornbeam_request_guard, hornbeam_exchange, cowboy_stream_h],
      %% hornbeam_doorkeeper watches between requests.
      request_timeout => infinity,
      %% A response may take long and be silent long; dead peers are TCP's keepalive's.
      idle_timeout => infinity,
      initial_stream_flow_size => 65535,
      max_keepalive => 1000000,
      max_skip_body_length => 1000000,
      max_empty_lines => 5,
      max_method_length => 32,
      max_authority_length => 255,
      max_headers => Fields + 1,
      max_header_name_length => Field,
      max_header_value_length => Field + ?LINE_END,
      max_request_line_length => Line + ?LINE_END}).

http2(#{server := Options} = Mount, Door) ->
    #{http2_max_streams := Streams, http2_max_resets := Resets, http2_max_frames := Frames,
      header_timeout := HeaderTimeout, limit_request_fields := Fields,
      limit_request_head := Head} = Options,
    maps:merge(both(Mount, Door), #{
      stream_handlers => [hornbeam_request_guard, hornbeam_http2_stream, hornbeam_exchange,
                          cowboy_stream_h],
      preface_timeout => HeaderTimeout,
      settings_timeout => 10000,
      %% Clients of open streams are pinged, see hornbeam_http2_stream.
      idle_timeout => 60000,
      enable_connect_protocol => true,
      max_concurrent_streams => Streams,
      %% What clients may send unasked; bodies and WebSockets ask for more as they are read.
      initial_connection_window_size => ?HTTP2_WINDOW * 16,
      initial_stream_window_size => ?HTTP2_WINDOW,
      connection_window_margin_size => ?HTTP2_WINDOW,
      stream_window_margin_size => ?HTTP2_WINDOW,
      max_connection_window_size => 16#7fffffff,
      max_stream_window_size => 16#7fffffff,
      max_frame_size_received => 16384,
      max_frame_size_sent => 16384,
      max_decode_table_size => 4096,
      max_encode_table_size => 4096,
      max_fragmented_header_block_size => Head,
      max_headers => Fields + 1,
      max_authority_length => 255,
      goaway_initial_timeout => 1000,
      goaway_complete_timeout => 3000,
      %% A stream's writer waits as soon as something waits for room in the client's window. An
      %% alarm of the whole connection would hide those of its streams: it never rings.
      max_stream_buffer_size => 1,
      max_connection_buffer_size => 16#ffffffffffff,
      max_received_frame_rate => {Frames, 10000},
      %% Streams that we break off, because of the client or because an app failed.
      max_reset_stream_rate => {Resets, 10000},
      max_cancel_stream_rate => {Resets, 10000}}).

both(Mount, Door) ->
    #{env => #{mount => Mount, door => Door},
      connection_type => supervisor,
      middlewares => [hornbeam_mounts, hornbeam_reception, cowboy_handler],
      %% So many reads of 64 KiB may wait in front of a request's body that nobody takes.
      active_n => 8,
      dynamic_buffer => false,
      hibernate => false,
      linger_timeout => 1000,
      inactivity_timeout => infinity}.

%% Ranch deletes what stands at a socket's path. That must be a socket that nobody listens on:
%% one stays behind when a node is killed.
in_the_way({local, Path}) ->
    case file:read_file_info(Path, [raw]) of
        {ok, #file_info{type = other}} -> listener_at(Path);
        {ok, #file_info{}} -> eexist;
        {error, _} -> nothing
    end;
in_the_way(_Bind) ->
    nothing.

listener_at(Path) ->
    case gen_tcp:connect({local, Path}, 0, [local], 1000) of
        {ok, Socket} ->
            ok = gen_tcp:close(Socket),
            eaddrinuse;
        {error, _} ->
            nothing
    end.

remove_file({local, Path}) ->
    _ = file:delete(Path, [raw]),
    ok;
remove_file(_Bind) ->
    ok.

%% @private
-spec handle_call(info | reload_certificate, gen_server:from(), #state{}) ->
    {reply, term(), #state{}}.
handle_call(info, _From, #state{bind = Bind, mount = Mount, door = Door} = State) ->
    #{counters := Counters} = Mount,
    {reply, #{address => address(Bind), sockets => hornbeam_doorkeeper:count(Door),
              counters => hornbeam_counters:values(Counters)}, State};
handle_call(reload_certificate, _From, #state{mount = Mount, door = Door} = State) ->
    {reply, reloaded(Mount, Door), State}.

reloaded(#{server := Options} = Mount, Door) ->
    case hornbeam_tls:load(Options) of
        {ok, Identity} -> hornbeam_connection:set_options(?REF, connection(Identity, Mount, Door));
        none -> {error, no_tls};
        {error, _} = Error -> Error
    end.

address({local, Path}) -> {local, Path};
address(_Bind) -> ranch:get_addr(?REF).

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({'EXIT', _Keeper, Reason}, State) ->
    {stop, Reason, State};
handle_info(_Stray, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{pool = Pool, bind = Bind, mount = #{server := Options} = Mount}) ->
    #{shutdown_timeout := Timeout} = Options,
    Address = address(Bind),
    _ = ranch:suspend_listener(?REF),
    hornbeam_mounts:shut(Mount),
    finish(Pool, now_ms() + Timeout),
    turn_away(Pool),
    hornbeam_connection:abandon(Address),
    hornbeam_connection:stop_listener(?REF),
    remove_file(Bind).

%% A request that waited in line may begin meanwhile, and a handshake may become a WebSocket.
finish(Pool, Deadline) ->
    send_away(hornbeam_connections:pids(), Deadline),
    Left = in_flight(Pool),
    await_all(monitors(Left), Deadline),
    case Left =:= [] orelse now_ms() >= Deadline of
        true -> ok;
        false -> finish(Pool, Deadline)
    end.

in_flight(Pool) ->
    hornbeam_pool:owners(http, Pool) ++ hornbeam_pool:owners(websocket, Pool)
        ++ hornbeam_pool:waiters(Pool).

%% Their time is over: who has no answer yet gets one of ours.
turn_away(Pool) ->
    Left = in_flight(Pool),
    hornbeam_pool:turn_away(Pool),
    lists:foreach(fun hornbeam_websocket_h:go_away/1, Left),
    await_all(monitors(Left), now_ms() + ?LAST_ANSWER).

send_away([], _Deadline) ->
    ok;
send_away(Sockets, Deadline) ->
    {Batch, Rest} = lists:split(min(?BATCH, length(Sockets)), Sockets),
    lists:foreach(fun hornbeam_websocket_h:go_away/1, Batch),
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
        {over, Owner} -> ok
    after max(0, Deadline - now_ms()) ->
        ok
    end,
    await_all(Owners, Deadline).

now_ms() -> erlang:monotonic_time(millisecond).
