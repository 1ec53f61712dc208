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

-export([start_listener/3, start_link/3, start_link/4, init/4, details/3, unsent/1, linger/1]).
-export_type([socket/0]).

%% Cowboy 2.8 passes undefined where its own contract wants proxy information.
-dialyzer({[no_fail_call, no_return], init/4}).

-type socket() :: {Transport :: module(), Socket :: term()}.

%% A head that is longer is Cowboy's to refuse (bytes).
-define(LONGEST_HEAD, 65536).

%% How long the peer may take to answer our close (ms).
-define(LINGER, 1000).

%% @doc Start a Ranch listener whose connections begin here and go on in Cowboy.
-spec start_listener(ranch:ref(), ranch:opts(), cowboy:opts()) -> {ok, pid()} | {error, term()}.
start_listener(Ref, TransportOptions, ProtocolOptions) ->
    ranch:start_listener(Ref, ranch_tcp, TransportOptions#{connection_type => supervisor},
                         ?MODULE, ProtocolOptions#{connection_type => supervisor}).

%% @private Ranch 1.
-spec start_link(ranch:ref(), term(), module(), cowboy:opts()) -> {ok, pid()}.
start_link(Ref, _Socket, Transport, Options) ->
    start_link(Ref, Transport, Options).

%% @private Ranch 2.
-spec start_link(ranch:ref(), module(), cowboy:opts()) -> {ok, pid()}.
start_link(Ref, Transport, Options) ->
    {ok, proc_lib:spawn_link(?MODULE, init, [self(), Ref, Transport, Options])}.

%% @private
-spec init(pid(), ranch:ref(), module(), cowboy:opts()) -> ok.
init(Parent, Ref, Transport, #{request_timeout := Timeout, env := Env} = Options) ->
    {ok, Socket} = ranch:handshake(Ref),
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    case read_head(Transport, Socket, <<>>, Deadline) of
        <<>> ->
            ok = Transport:close(Socket);
        Head ->
            self() ! {element(1, Transport:messages()), Socket, Head},
            process_flag(trap_exit, true),
            cowboy_http:init(Parent, Ref, Socket, Transport, undefined,
                             Options#{env := Env#{first_head => Head,
                                                  socket => {Transport, Socket}}})
    end.

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
details(_StreamId, Req, #{env := #{socket := Socket}}) ->
    Req#{socket => Socket}.

header_list(Head) ->
    [Lines | _] = binary:split(Head, <<"\r\n\r\n">>),
    [_RequestLine | Fields] = binary:split(Lines, <<"\r\n">>, [global]),
    lists:map(fun header/1, Fields).

header(Field) ->
    case binary:split(Field, <<":">>) of
        [Name, Value] -> {string:lowercase(Name), string:trim(Value, both, " \t")};
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
-spec unsent(socket() | undefined) -> non_neg_integer().
unsent({ranch_tcp, Socket}) ->
    case inet:getstat(Socket, [send_pend]) of
        {ok, [{send_pend, Bytes}]} -> Bytes;
        {error, _} -> 0
    end;
unsent(undefined) ->
    0.

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
