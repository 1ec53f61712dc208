%% What Cowboy is told, and what it tells us: its options, and its requests in our words.
%%
%% Cowboy speaks HTTP/2, and HTTP/1.1 for who says `http_engine => cowboy'. It keeps the fields of a
%% request in a map: their order is lost there, and repeated ones are joined.
-module(hornbeam_cowboy).

-include("../requests/hornbeam_request.hrl").

-export([options/1, protocol/2, begun/3, unbound/0, taken/0, reading/0]).
-export([socket/0, reader/0, finish/2]).
-export([request/1, authority/1, response/1, without_withheld/1]).

%% The flow control windows of HTTP/2 (bytes).
-define(HTTP2_WINDOW, 65535).

%% Cowboy measures what it has read of a line, its end included (bytes).
-define(LINE_END, 2).

%% What Cowboy counts as fields of a request of HTTP/2 and we do not: what stands otherwise in the
%% request line, and the parts of a cookie (RFC 9113, 8.2.3).
-define(MORE_FIELDS, 256).

%% In the process's dictionary: its connection, and how much had come of it when what had come was
%% last good for something (bytes, just_now).
-define(CONNECTION, {?MODULE, connection}).
-define(TAKEN, {?MODULE, taken}).

%% The most that a process may have on its heap that reads HTTP/1.1 (words), and what of it may wait
%% for its end beside a head (bytes): Cowlib before 2.16.1 reads a chunk's size of any length, and
%% anew each time. A body that nobody wants is read away up to max_skip_body_length.
-define(MOST_HEAP, 4194304).
-define(MOST_WAITING, 2097152).

%% What a client of HTTP/2 begins with, up to where no request of HTTP/1.1 does (RFC 9113, 3.4).
-define(PREFACE, "PRI * HTTP/2.0\r\n").

%% @doc The options of Cowboy for a server's mounts, for both versions of HTTP.
%%
%% Cowboy's versions differ in their defaults: every limit is set, and what a version does not
%% know it leaves alone. Cowboy's own limits are for what has no end yet; of what is whole
%% hornbeam_cowboy_limits knows exactly whether it is too large.
-spec options(hornbeam_mounts:mounts()) -> cowboy:opts().
options(#{server := Server} = Mounts) ->
    maps:merge(maps:merge(http1(Server), http2(Server)),
               #{env => #{mounts => hornbeam_mounts:with_waits(apart, Mounts)},
                 connection_type => supervisor,
                 stream_handlers => [hornbeam_cowboy_limits, hornbeam_http2_stream,
                                     hornbeam_cowboy_exchange, cowboy_stream_h],
                 middlewares => [hornbeam_cowboy_websocket, cowboy_handler],
                 %% So many reads of 64 KiB may wait in front of a request's body that nobody takes.
                 active_n => 8,
                 dynamic_buffer => false,
                 hibernate => false,
                 linger_timeout => 1000,
                 inactivity_timeout => infinity}).

http1(Server) ->
    #{limit_request_line := Line, limit_request_fields := Fields,
      limit_request_field_size := Field, keepalive_timeout := Keepalive} = Server,
    #{request_timeout => Keepalive,
      initial_stream_flow_size => ?HTTP2_WINDOW,
      max_keepalive => 1000000,
      max_skip_body_length => 1000000,
      max_empty_lines => 5,
      max_method_length => 32,
      max_authority_length => 255,
      max_headers => Fields + ?MORE_FIELDS,
      max_header_name_length => Field,
      max_header_value_length => Field + ?LINE_END,
      max_request_line_length => Line + ?LINE_END}.

http2(Server) ->
    #{http2_max_streams := Streams, http2_max_resets := Resets, http2_max_frames := Frames,
      header_timeout := HeaderTimeout, limit_request_head := Head} = Server,
    #{preface_timeout => HeaderTimeout,
      settings_timeout => 10000,
      %% Clients of open streams are pinged, see hornbeam_http2_stream.
      idle_timeout => idle_timeout(Server),
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
      goaway_initial_timeout => 1000,
      goaway_complete_timeout => 3000,
      %% A stream's writer waits as soon as something waits for room in the client's window. An
      %% alarm of the whole connection would hide those of its streams: it never rings.
      max_stream_buffer_size => 1,
      max_connection_buffer_size => 16#ffffffffffff,
      max_received_frame_rate => {Frames, 10000},
      %% Streams that we break off, because of the client or because an app failed.
      max_reset_stream_rate => {Resets, 10000},
      max_cancel_stream_rate => {Resets, 10000}}.

%% One option for both versions. A response over HTTP/1.1 may be silent for long; where Cowboy
%% speaks that, a client of HTTP/2 that is gone is found by TCP's keepalive.
idle_timeout(#{http_engine := cowboy}) -> infinity;
idle_timeout(_Server) -> 60000.

%% @doc What a client of TCP speaks, by what it says first within some time (ms).
-spec protocol(hornbeam_socket:socket(), timeout()) ->
    {http1 | http2, First :: binary()} | {error, term()}.
protocol(Socket, Timeout) ->
    protocol(<<>>, Socket, now_ms() + Timeout).

protocol(Begun, {Transport, Raw} = Socket, Deadline) ->
    case Transport:recv(Raw, 0, max(0, Deadline - now_ms())) of
        {ok, More} -> protocol_of(<<Begun/binary, More/binary>>, Socket, Deadline);
        {error, _} = Error -> Error
    end.

protocol_of(First, Socket, Deadline) ->
    Preface = <<?PREFACE>>,
    case binary:longest_common_prefix([First, Preface]) of
        Common when Common =:= byte_size(Preface) -> {http2, First};
        Common when Common =:= byte_size(First) -> protocol(First, Socket, Deadline);
        _ -> {http1, First}
    end.

now_ms() -> erlang:monotonic_time(millisecond).

%% @doc The calling process is a connection's in which Cowboy goes on; over HTTP/2 another process
%% reads for it, and what it reads by itself is bounded.
-spec begun(hornbeam_socket:socket(), Reader :: pid() | none, hornbeam_mounts:mounts()) -> ok.
begun(Socket, Reader, Mounts) ->
    _ = put(?CONNECTION, {Socket, Reader, Mounts}),
    _ = Reader =:= none andalso bound(),
    hornbeam_read_buffer:widen(Socket).

bound() ->
    _ = process_flag(max_heap_size, heap(?MOST_HEAP)),
    put(?TAKEN, 0).

%% @doc The calling process reads no more requests of HTTP/1.1: what else it reads has other bounds.
-spec unbound() -> ok.
unbound() ->
    _ = process_flag(max_heap_size, heap(0)),
    _ = erase(?TAKEN),
    ok.

heap(Words) -> #{size => Words, kill => true, error_logger => false}.

%% @doc Something of what the calling process has read of HTTP/1.1 was good for something.
-spec taken() -> ok.
taken() ->
    _ = get(?TAKEN) =:= undefined orelse put(?TAKEN, just_now),
    ok.

%% @doc The calling process is about to read on; not if much has come that was good for nothing: it
%% would be read again with all that follows.
-spec reading() -> ok.
reading() ->
    case get(?TAKEN) of
        undefined -> ok;
        just_now -> put(?TAKEN, received()), ok;
        Before -> bounded(received() - Before, mounts())
    end.

bounded(Waiting, #{server := #{limit_request_head := Head}}) when Waiting =< Head + ?MOST_WAITING ->
    ok;
bounded(_TooMuch, Mounts) ->
    finish(bad_request, Mounts).

received() ->
    {Transport, Raw} = socket(),
    case Transport:getstat(Raw, [recv_oct]) of
        {ok, [{recv_oct, Bytes}]} -> Bytes;
        {error, _} -> 0
    end.

%% @doc The process that reads for the calling one.
-spec reader() -> pid() | none.
reader() ->
    {_Socket, Reader, _Mounts} = get(?CONNECTION),
    Reader.

mounts() ->
    {_Socket, _Reader, Mounts} = get(?CONNECTION),
    Mounts.

%% @doc The socket of the calling process, a connection's.
-spec socket() -> hornbeam_socket:socket().
socket() ->
    {Socket, _Reader, _Mounts} = get(?CONNECTION),
    Socket.

%% @doc End the connection of the calling process with a last word, whatever Cowboy is about to do:
%% it catches all but a signal. Streams that are left of it are told to the workers.
-spec finish(hornbeam_error_response:fault(), hornbeam_mounts:mounts()) -> no_return().
finish(Fault, #{counters := Counters} = Mounts) ->
    {Transport, Raw} = Socket = socket(),
    hornbeam_error_response:count(Fault, Counters),
    _ = Transport:send(Raw, hornbeam_http1_response:refusal(Fault, <<>>)),
    hornbeam_socket:linger(Socket),
    lists:foreach(fun(Pool) -> hornbeam_pool:process_down(self(), Pool) end,
                  hornbeam_mounts:pools(Mounts)),
    _ = process_flag(trap_exit, false),
    exit(self(), shutdown),
    receive after infinity -> exit(shutdown) end.

%% @doc Cowboy's request in our words. It knows its socket where a stream handler has seen it.
-spec request(cowboy_req:req()) -> hornbeam_request:request().
request(#{version := Version, method := Method, path := Path, qs := Query, peer := Peer,
          sock := Sock} = Req) ->
    #request{version = Version, method = Method, path = Path, below = Path,
             query = Query, fields = fields(Req), scheme = scheme(Req), peer = Peer, server = Sock,
             body = body(Req), upgrade = upgrade(Req), socket = maps:get(socket, Req, undefined),
             tls = maps:get(endpoints_tls, Req, none)}.

%% Over HTTP/2 the client says which scheme it thinks to use.
scheme(#{endpoints_scheme := Scheme}) -> Scheme;
scheme(#{scheme := Scheme}) -> Scheme.

body(#{has_body := false}) -> none;
body(#{body_length := undefined}) -> unknown;
body(#{body_length := Length}) -> Length.

upgrade(#{version := 'HTTP/2', method := <<"CONNECT">>, protocol := <<"websocket">>}) -> websocket;
upgrade(#{version := 'HTTP/1.1', headers := #{<<"upgrade">> := Value}}) ->
    case lists:member(<<"websocket">>, hornbeam_headers:items(Value)) of
        true -> websocket;
        false -> none
    end;
upgrade(_Req) -> none.

%% HTTP/2 names the host in a pseudo-header.
fields(#{headers := #{<<"host">> := _} = Headers}) ->
    maps:to_list(Headers);
fields(#{version := 'HTTP/2', headers := Headers} = Req) ->
    [{<<"host">>, authority(Req)} | maps:to_list(Headers)];
fields(#{headers := Headers}) ->
    maps:to_list(Headers).

%% @doc The host that a request names, with its port unless that is the scheme's.
-spec authority(cowboy_req:req()) -> binary().
authority(#{scheme := Scheme, host := Host, port := Port}) ->
    case {Scheme, Port} of
        {_, undefined} -> Host;
        {<<"https">>, 443} -> Host;
        {<<"http">>, 80} -> Host;
        _ -> <<Host/binary, $:, (integer_to_binary(Port))/binary>>
    end.

%% @doc Fields of a response as Cowboy takes them, and whether the app wants the connection to end.
%%
%% Cowboy keeps one value a name: the values of a repeated field are joined by a comma, which
%% RFC 9110, 5.3 defines to mean the same. Set-Cookie must not be joined: it is a list, of which
%% each value gets its line. Fields about this one connection are Cowboy's to send.
-spec response(hornbeam_headers:fields()) -> {cowboy:http_headers(), IsLast :: boolean()}.
response(Fields) ->
    {Cookies, Others} = lists:partition(fun({Name, _}) -> Name =:= <<"set-cookie">> end,
                                        Fields ++ hornbeam_own_headers:missing(Fields)),
    Joined = hornbeam_headers:joined(unique_length([Field || {Name, _} = Field <- Others,
                                                             not is_connections(Name)])),
    {with_cookies([Value || {_, Value} <- Cookies], Joined), wants_close(Others)}.

%% @doc A command of Cowboy's without the headers that Cowboy would add to what a request's process
%% answers, and that are not to be: the process has given them an empty value.
-spec without_withheld(Command) -> Command when Command :: tuple().
without_withheld({response, Status, Headers, Body}) -> {response, Status, said(Headers), Body};
without_withheld({headers, Status, Headers}) -> {headers, Status, said(Headers)};
without_withheld({switch_protocol, Headers, Protocol, State}) ->
    {switch_protocol, said(Headers), Protocol, State};
without_withheld(Command) -> Command.

said(#{<<"server">> := <<>>} = Headers) -> said(maps:remove(<<"server">>, Headers));
said(#{<<"date">> := <<>>} = Headers) -> said(maps:remove(<<"date">>, Headers));
said(Headers) -> Headers.

with_cookies([], Map) -> Map;
with_cookies(Cookies, Map) -> Map#{<<"set-cookie">> => Cookies}.

is_connections(Name) ->
    lists:member(Name, [<<"transfer-encoding">>, <<"connection">>, <<"keep-alive">>,
                        <<"upgrade">>]).

unique_length(Fields) ->
    case lists:keytake(<<"content-length">>, 1, Fields) of
        {value, Length, Others} -> [Length | lists:keydelete(<<"content-length">>, 1, Others)];
        false -> Fields
    end.

wants_close(Fields) ->
    lists:any(fun({Name, Value}) ->
        Name =:= <<"connection">> andalso lists:member(<<"close">>, hornbeam_headers:items(Value))
    end, Fields).
