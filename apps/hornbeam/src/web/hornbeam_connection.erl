%% How a TCP connection begins: a Ranch protocol in front of Cowboy's.
%%
%% Cowboy keeps a request's headers in a map: the order is lost and repeated ones are joined.
%% ASGI wants them as they came. So the first request's head is read here, kept, and given on to
%% Cowboy as if it came from the socket; every WebSocket over HTTP/1.1 is such a first request in
%% practice. Later requests of a connection that is kept alive have Cowboy's map.
%%
%% The kept bytes are believed only when they make exactly the map that Cowboy parsed.
-module(hornbeam_connection).
-behaviour(ranch_protocol).

-export([start_listener/3, set_options/2, start_link/3, start_link/4, init/4]).
-export([details/3, unsent/1, linger/1]).
-export_type([socket/0, options/0]).

%% Cowboy 2.8 passes undefined where its own contract wants proxy information.
-dialyzer({[no_fail_call, no_return], init/4}).

-type socket() :: {Transport :: module(), Socket :: term()}.

%% A head that is longer is Cowboy's to refuse (bytes).
-define(LONGEST_HEAD, 65536).

%% How long the peer may take to answer our close (ms).
-define(LINGER, 1000).

-type options() :: #{http1 := cowboy:opts(), http2 := cowboy:opts(),
                     identity := hornbeam_tls:identity() | none, mount := hornbeam_mounts:mount()}.
%% Cowboy's options for each protocol, and what TLS shows to clients.

%% @doc Start a Ranch listener whose connections begin here and go on in Cowboy.
-spec start_listener(ranch:ref(), ranch:opts(), options()) -> {ok, pid()} | {error, term()}.
start_listener(Ref, TransportOptions, #{identity := Identity} = Options) ->
    ranch:start_listener(Ref, transport(Identity),
                         TransportOptions#{connection_type => supervisor}, ?MODULE, Options).

transport(none) -> ranch_tcp;
transport(_Identity) -> ranch_ssl.

%% @doc Have new connections begin with other options; those that are open keep theirs.
-spec set_options(ranch:ref(), options()) -> ok.
set_options(Ref, Options) ->
    ranch:set_protocol_options(Ref, Options).

%% @private Ranch 1.
-spec start_link(ranch:ref(), term(), module(), options()) -> {ok, pid()}.
start_link(Ref, _Socket, Transport, Options) ->
    start_link(Ref, Transport, Options).

%% @private Ranch 2.
-spec start_link(ranch:ref(), module(), options()) -> {ok, pid()}.
start_link(Ref, Transport, Options) ->
    {ok, proc_lib:spawn_link(?MODULE, init, [self(), Ref, Transport, Options])}.

%% @private
-spec init(pid(), ranch:ref(), module(), options()) -> ok.
init(Parent, Ref, Transport, #{mount := #{counters := Counters}} = Options) ->
    Socket = handshake(Ref, Options),
    try
        begin_protocol(protocol(Transport, Socket), Parent, Ref, Transport, Socket, Options)
    catch
        exit:{shutdown, {connection_error, enhance_your_calm, _}} = Reason ->
            hornbeam_counters:add(http2_floods, Counters),
            exit(Reason)
    end.

handshake(Ref, #{identity := none}) ->
    {ok, Socket} = ranch:handshake(Ref),
    Socket;
handshake(Ref, #{identity := Identity, mount := #{counters := Counters}}) ->
    try
        {ok, Socket} = ranch:handshake(Ref, Identity()),
        Socket
    catch
        %% Ranch ends the process, without a word where the client is to blame.
        Class:Reason:Stack ->
            hornbeam_counters:add(tls_refused, Counters),
            erlang:raise(Class, Reason, Stack)
    end.

protocol(ranch_ssl, Socket) ->
    case ssl:negotiated_protocol(Socket) of
        {ok, <<"h2">>} -> http2;
        _ -> http1
    end;
protocol(ranch_tcp, _Socket) ->
    http1.

begin_protocol(http2, Parent, Ref, Transport, Socket, #{http2 := Http2}) ->
    go_on(cowboy_http2, Parent, Ref, Transport, Socket, #{}, Http2);
begin_protocol(http1, Parent, Ref, Transport, Socket, Options) ->
    #{http1 := #{request_timeout := Timeout} = Http1, http2 := Http2} = Options,
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    case read_head(Transport, Socket, <<>>, Deadline) of
        <<>> ->
            ok = Transport:close(Socket);
        %% A client that knows that we speak HTTP/2. Over TLS it says so in the handshake.
        <<"PRI * HTTP/2.0\r\n", _/binary>> = Head when Transport =:= ranch_tcp ->
            unread(Head, Transport, Socket),
            go_on(cowboy_http2, Parent, Ref, Transport, Socket, #{}, Http2);
        Head ->
            unread(Head, Transport, Socket),
            go_on(cowboy_http, Parent, Ref, Transport, Socket, #{first_head => Head}, Http1)
    end.

unread(Head, Transport, Socket) ->
    self() ! {element(1, Transport:messages()), Socket, Head},
    ok.

go_on(Cowboy, Parent, Ref, Transport, Socket, More, #{env := Env} = Options) ->
    process_flag(trap_exit, true),
    Known = maps:merge(Env#{socket => {Transport, Socket}}, More),
    Cowboy:init(Parent, Ref, Socket, Transport, undefined, Options#{env := Known}).

read_head(Transport, Socket, Read, Deadline) ->
    case byte_size(Read) > ?LONGEST_HEAD orelse binary:match(Read, <<"\r\n\r\n">>) =/= nomatch of
        true -> Read;
        false -> read_more(Transport, Socket, Read, Deadline)
    end.

read_more(Transport, Socket, Read, Deadline) ->
    Left = max(0, Deadline - erlang:monotonic_time(millisecond)),
    case Transport:recv(Socket, 0, Left) of
        {ok, Data} -> read_head(Transport, Socket, <<Read/binary, Data/binary>>, Deadline);
        {error, _} -> Read
    end.

%% @doc What Cowboy's request does not say: its socket and, for the first of a connection, its
%% `header_list' as it came.
-spec details(cowboy_stream:streamid(), Req, cowboy:opts()) -> Req when Req :: cowboy_req:req().
details(1, #{version := 'HTTP/1.1', headers := Map} = Req,
        #{env := #{first_head := Head, socket := Socket}}) ->
    Headers = header_list(Head),
    case joined(Headers) =:= Map of
        true -> Req#{socket => Socket, header_list => Headers};
        false -> Req#{socket => Socket}
    end;
details(_StreamId, #{version := 'HTTP/2'} = Req, #{env := #{socket := Socket}}) ->
    %% Over HTTP/2 the client says which scheme it thinks to use.
    Req#{socket => Socket, scheme => scheme(Socket)};
details(_StreamId, Req, #{env := #{socket := Socket}}) ->
    Req#{socket => Socket}.

scheme({ranch_ssl, _}) -> <<"https">>;
scheme({ranch_tcp, _}) -> <<"http">>.

header_list(Head) ->
    [Lines | _] = binary:split(Head, <<"\r\n\r\n">>),
    [_RequestLine | Fields] = binary:split(Lines, <<"\r\n">>, [global]),
    lists:map(fun header/1, Fields).

header(Field) ->
    case binary:split(Field, <<":">>) of
        [Name, Value] -> {cowboy_bstr:to_lower(Name), hornbeam_headers:trim(Value)};
        [_] -> {Field, <<>>}
    end.

%% As cowboy_http joins them.
joined(Headers) ->
    lists:foldl(fun({Name, Value}, Map) ->
        maps:update_with(Name, fun(Before) -> join(Name, Before, Value) end, Value, Map)
    end, #{}, Headers).

join(<<"cookie">>, Before, Value) -> <<Before/binary, "; ", Value/binary>>;
join(_Name, Before, Value) -> <<Before/binary, ", ", Value/binary>>.

%% @doc Bytes that were given to the socket and that the client's side has not taken.
%%
%% ssl's process that encrypts keeps none: a send returns when its bytes are in the TCP socket.
-spec unsent(socket()) -> non_neg_integer().
unsent({Transport, Socket}) ->
    case Transport:getstat(Socket, [send_pend]) of
        {ok, [{send_pend, Bytes}]} -> Bytes;
        {error, _} -> 0
    end.

%% @doc After our close frame: take what the client still sends, until it closes. A socket that
%% is closed with unread bytes is reset, and the client would never see the frame.
-spec linger(socket()) -> ok.
linger({Transport, Socket}) ->
    _ = Transport:setopts(Socket, [{active, false}]),
    _ = Transport:shutdown(Socket, write),
    discard(Transport, Socket, erlang:monotonic_time(millisecond) + ?LINGER).

discard(Transport, Socket, Deadline) ->
    Left = max(0, Deadline - erlang:monotonic_time(millisecond)),
    case Transport:recv(Socket, 0, Left) of
        {ok, _} when Left > 0 -> discard(Transport, Socket, Deadline);
        _ -> ok
    end.
