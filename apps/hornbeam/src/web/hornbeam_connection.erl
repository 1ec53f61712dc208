%% How a TCP connection begins: a Ranch protocol in front of Cowboy's.
%%
%%   entered ──head──▶ Cowboy's        no room: 503   late: 408   too large: 414, 431   else: 400
%%
%% Cowboy keeps a request's headers in a map: the order is lost and repeated ones are joined.
%% ASGI wants them as they came. So the first request's head is read here (hornbeam_head), and
%% given on to Cowboy as if it came from the socket; every WebSocket over HTTP/1.1 is such a first
%% request in practice. Later requests of a connection that is kept alive have Cowboy's map.
%%
%% The fields are believed only when they make exactly the map that Cowboy parsed.
-module(hornbeam_connection).
-behaviour(ranch_protocol).

-include_lib("kernel/include/logger.hrl").

-export([start_listener/3, stop_listener/1, set_options/2]).
-export([start_link/3, start_link/4, init/3]).
-export([has_ended_exchanges/1, details/3, unsent/1, received/1, linger/1, abandon/1]).
-export_type([socket/0, options/0]).

%% Cowboy 2.8 passes undefined where its own contract wants proxy information.
-dialyzer({[no_fail_call, no_return], [init/3, let_in/5, begin_protocol/5, greeted/6, go_on/6]}).

%% The option with which the end of a socket drops what is not sent.
-define(DROP, [{linger, {true, 0}}]).

-type socket() :: {Transport :: module(), Socket :: term()}.

%% How long the peer may take to answer our close, and to take some of what waits for it (ms).
-define(LINGER, 1000).

-type options() :: #{http1 := cowboy:opts(), http2 := cowboy:opts(),
                     identity := hornbeam_tls:identity() | none, mount := hornbeam_mounts:mount(),
                     door := hornbeam_doorkeeper:door()}.
%% Cowboy's options for each protocol, what TLS shows to clients, and who counts them. They are a
%% persistent term, for they are large: passed on, they would be copied into the process of each
%% connection and of each request.

%% @doc Start a Ranch listener whose connections begin here and go on in Cowboy.
-spec start_listener(ranch:ref(), ranch:opts(), options()) -> {ok, pid()} | {error, term()}.
start_listener(Ref, TransportOptions, #{identity := Identity} = Options) ->
    set_options(Ref, Options),
    ranch:start_listener(Ref, transport(Identity),
                         TransportOptions#{connection_type => supervisor}, ?MODULE, []).

transport(none) -> ranch_tcp;
transport(_Identity) -> ranch_ssl.

%% @doc Stop a listener and its connections, if there is one.
-spec stop_listener(ranch:ref()) -> ok.
stop_listener(Ref) ->
    _ = try
        ranch:stop_listener(Ref)
    catch
        error:badarg -> ok
    end,
    _ = persistent_term:erase({?MODULE, Ref}),
    ok.

%% @doc Have new connections begin with other options; those that are open keep theirs.
-spec set_options(ranch:ref(), options()) -> ok.
set_options(Ref, Options) ->
    persistent_term:put({?MODULE, Ref}, Options).

%% @private Ranch 1.
-spec start_link(ranch:ref(), term(), module(), []) -> {ok, pid()}.
start_link(Ref, _Socket, Transport, []) ->
    start_link(Ref, Transport, []).

%% @private Ranch 2.
-spec start_link(ranch:ref(), module(), []) -> {ok, pid()}.
start_link(Ref, Transport, []) ->
    {ok, proc_lib:spawn_link(?MODULE, init, [self(), Ref, Transport])}.

%% @private
-spec init(pid(), ranch:ref(), module()) -> ok.
init(Parent, Ref, Transport) ->
    Options = persistent_term:get({?MODULE, Ref}),
    #{mount := #{counters := Counters}, door := Door} = Options,
    Entered = hornbeam_doorkeeper:enter(Door),
    Socket = {Transport, handshake(Ref, Options)},
    try
        let_in(Entered, Parent, Ref, Socket, Options)
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

let_in(ok, Parent, Ref, Socket, Options) ->
    begin_protocol(protocol(Socket), Parent, Ref, Socket, Options);
let_in(full, _Parent, _Ref, Socket, Options) ->
    turn_away(full, Socket, Options);
let_in(overrun, _Parent, _Ref, {Transport, Socket}, _Options) ->
    Transport:close(Socket).

protocol({ranch_ssl, Socket}) ->
    case ssl:negotiated_protocol(Socket) of
        {ok, <<"h2">>} -> http2;
        _ -> http1
    end;
protocol({ranch_tcp, _Socket}) ->
    http1.

begin_protocol(http2, Parent, Ref, Socket, Options) ->
    go_on(cowboy_http2, Parent, Ref, Socket, #{}, Options);
begin_protocol(http1, Parent, Ref, Socket, #{mount := Mount} = Options) ->
    #{server := #{header_timeout := Timeout} = Limits, counters := Counters} = Mount,
    case read_head(Socket, <<>>, Limits, now_ms() + Timeout) of
        {ok, Bytes, Fields} -> greeted(Bytes, Fields, Parent, Ref, Socket, Options);
        {fault, Fault} -> turn_away(Fault, Socket, Options);
        silent -> hornbeam_counters:add(idle_closed, Counters);
        closed -> ok
    end.

%% A client that knows that we speak HTTP/2. Over TLS it says so in the handshake.
greeted(<<"PRI * HTTP/2.0\r\n", _/binary>> = Bytes, _Fields, Parent, Ref, {ranch_tcp, _} = Socket,
        Options) ->
    unread(Bytes, Socket),
    go_on(cowboy_http2, Parent, Ref, Socket, #{}, Options);
greeted(Bytes, Fields, Parent, Ref, Socket, #{mount := Mount} = Options) ->
    unread(Bytes, Socket),
    Known = #{first_fields => Fields, turn => hornbeam_turn:new()},
    try
        go_on(cowboy_http, Parent, Ref, Socket, Known, Options)
    catch
        error:Reason:Stacktrace -> failed(is_parsing(Stacktrace), Reason, Stacktrace, Mount)
    end.

unread(Bytes, {Transport, Socket}) ->
    self() ! {element(1, Transport:messages()), Socket, Bytes},
    ok.

go_on(Cowboy, Parent, Ref, {Transport, Raw} = Socket, Known, Options) ->
    process_flag(trap_exit, true),
    _ = [hornbeam_read_buffer:widen(Socket) || Cowboy =:= cowboy_http2],
    %% Not in `env', which would be copied into each request's process.
    Protocol = (protocol_options(Cowboy, Options))#{connection => Known#{socket => Socket}},
    Cowboy:init(Parent, Ref, Raw, Transport, undefined, Protocol).

protocol_options(cowboy_http, #{http1 := Http1}) -> Http1;
protocol_options(cowboy_http2, #{http2 := Http2}) -> Http2.

read_head({Transport, Raw} = Socket, Read, Limits, Deadline) ->
    case Transport:recv(Raw, 0, max(0, Deadline - now_ms())) of
        {ok, Data} -> judge(<<Read/binary, Data/binary>>, Socket, Limits, Deadline);
        {error, timeout} when Read =:= <<>> -> silent;
        {error, timeout} -> {fault, head_timeout};
        {error, _} -> closed
    end.

judge(Bytes, Socket, Limits, Deadline) ->
    case hornbeam_head:read(Bytes, Limits) of
        {more, Part} -> read_head(Socket, Part, Limits, Deadline);
        Judgement -> Judgement
    end.

now_ms() -> erlang:monotonic_time(millisecond).

turn_away(Fault, {Transport, Raw} = Socket, #{mount := #{counters := Counters}}) ->
    {Status, Counter, Sentence} = hornbeam_head:answer(Fault),
    hornbeam_counters:add(Counter, Counters),
    _ = Transport:send(Raw, hornbeam_response:raw(Status, Sentence)),
    linger(Socket).

%% Cowboy's parser has no clause for some bytes of a later head, such as a line that no CR ends;
%% that is the client's fault and no failure of ours.
-spec failed(boolean(), term(), list(), hornbeam_mounts:mount()) -> no_return().
failed(true, Reason, _Stacktrace, #{counters := Counters}) ->
    hornbeam_counters:add(bad_requests, Counters),
    ?LOG_DEBUG(#{what => unparsable_request, reason => Reason}, #{domain => [hornbeam]}),
    exit({shutdown, unparsable_request});
failed(false, Reason, Stacktrace, _Mount) ->
    erlang:raise(error, Reason, Stacktrace).

%% @doc Whether the exchanges of a connection that has ended so have been told. Cowboy tells them as
%% long as it is asked to end.
-spec has_ended_exchanges(Reason :: term()) -> boolean().
has_ended_exchanges({shutdown, unparsable_request}) -> false;
has_ended_exchanges({shutdown, _Why}) -> true;
has_ended_exchanges(Reason) -> Reason =:= normal orelse Reason =:= shutdown.

%% The parser, or what it called.
is_parsing(Stacktrace) ->
    lists:any(fun({Module, Function, _, _}) -> is_parser(Module, atom_to_list(Function)) end,
              lists:sublist(Stacktrace, 2)).

is_parser(cowboy_http, "parse_" ++ _) -> true;
is_parser(Module, _) -> Module =:= cow_http_hd orelse Module =:= cow_http_te.

%% @doc What Cowboy's request does not say: its socket and, for the first of a connection, its
%% `header_list' as it came.
-spec details(cowboy_stream:streamid(), Req, cowboy:opts()) -> Req when Req :: cowboy_req:req().
details(1, #{version := 'HTTP/1.1', headers := Map} = Req,
        #{connection := #{first_fields := Fields, socket := Socket}}) ->
    %% Cowboy has done with the encoding what was to be done.
    Headers = lists:keydelete(<<"transfer-encoding">>, 1, Fields),
    case joined(Headers) =:= Map of
        true -> Req#{socket => Socket, header_list => Headers};
        false -> Req#{socket => Socket}
    end;
details(_StreamId, #{version := 'HTTP/2'} = Req, #{connection := #{socket := Socket}}) ->
    %% Over HTTP/2 the client says which scheme it thinks to use.
    Req#{socket => Socket, scheme => scheme(Socket)};
details(_StreamId, Req, #{connection := #{socket := Socket}}) ->
    Req#{socket => Socket}.

scheme({ranch_ssl, _}) -> <<"https">>;
scheme({ranch_tcp, _}) -> <<"http">>.

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

%% @doc Bytes that have come from the client since it connected.
-spec received(socket()) -> non_neg_integer().
received({Transport, Socket}) ->
    case Transport:getstat(Socket, [recv_oct]) of
        {ok, [{recv_oct, Bytes}]} -> Bytes;
        {error, _} -> 0
    end.

%% @doc After our close frame: take what the client still sends, until it closes. A socket that
%% is closed with unread bytes is reset, and the client would never see the frame.
%%
%% A socket with unsent bytes outlives its process, until the client has read them all; that of a
%% client which does not read would live for ever. So what such a client leaves is dropped.
-spec linger(socket()) -> ok.
linger({Transport, Socket} = Both) ->
    _ = Transport:setopts(Socket, [{active, false}]),
    _ = Transport:shutdown(Socket, write),
    discard(Both, unsent(Both), linger_deadline()).

linger_deadline() -> erlang:monotonic_time(millisecond) + ?LINGER.

discard({Transport, Socket} = Both, Unsent, Deadline) ->
    Left = max(0, Deadline - erlang:monotonic_time(millisecond)),
    case Transport:recv(Socket, 0, Left) of
        {ok, _} when Left > 0 -> discard(Both, Unsent, Deadline);
        _ -> discarded(unsent(Both), Unsent, Both)
    end.

discarded(0, _Before, _Both) ->
    ok;
discarded(Unsent, Before, Both) when Unsent < Before ->
    discard(Both, Unsent, linger_deadline());
discarded(_Unsent, _Before, {Transport, Socket}) ->
    _ = Transport:setopts(Socket, ?DROP),
    ok.

%% @doc Have all that a listener's connections have not sent dropped when they end. The listener
%% is known by its address. One client that does not read would keep the node from halting.
-spec abandon(Address :: term()) -> ok.
abandon(Address) ->
    Stuck = [Port || Port <- erlang:ports(), erlang:port_info(Port, name) =:= {name, "tcp_inet"},
                     is_of(Address, inet:sockname(Port)), has_unsent(Port)],
    lists:foreach(fun(Port) -> inet:setopts(Port, ?DROP) end, Stuck).

is_of({local, Path}, {ok, {local, Path}}) -> true;
is_of({_, Number}, {ok, {_, Number}}) when is_integer(Number) -> true;
is_of(_Address, _Other) -> false.

has_unsent(Port) -> inet:getstat(Port, [send_pend]) =/= {ok, [{send_pend, 0}]}.
