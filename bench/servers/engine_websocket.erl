%% Hornbeam's own WebSocket engine with nothing in front of it or behind: a protocol of Ranch that
%% reads one handshake and leaves the connection to `hornbeam_websocket'. What a path is for, a
%% handler is told as its first state.
-module(engine_websocket).
-behaviour(ranch_protocol).

-export([listen/3]).
-export([start_link/3, init/3]).

-type roles() :: #{Path :: binary() => Role :: term()}.

%% @doc Serve on a free port of the loopback and print it.
-spec listen(atom(), Handler :: module(), roles()) -> ok.
listen(Name, Handler, Roles) ->
    {ok, _} = application:ensure_all_started(ranch),
    Transport = #{
        socket_opts => [{ip, {127, 0, 0, 1}}, {port, 0}, {nodelay, true},
                        {buffer, hornbeam_read_buffer:least()}],
        max_connections => infinity
    },
    {ok, _} = ranch:start_listener(Name, ranch_tcp, Transport, ?MODULE, {Handler, Roles}),
    io:format("listening on 127.0.0.1:~b~n", [ranch:get_port(Name)]).

%% @private
-spec start_link(ranch:ref(), module(), {module(), roles()}) -> {ok, pid()}.
start_link(Ref, _Transport, Options) ->
    {ok, proc_lib:spawn_link(?MODULE, init, [self(), Ref, Options])}.

%% @private
-spec init(pid(), ranch:ref(), {module(), roles()}) -> no_return().
init(Parent, Ref, {Handler, Roles}) ->
    {ok, Raw} = ranch:handshake(Ref),
    {Path, Key, First} = head(Raw, <<>>),
    ok = ranch_tcp:send(Raw, [
        <<"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n",
          "sec-websocket-accept: ">>, cow_ws:encode_key(Key), <<"\r\n\r\n">>]),
    Socket = {ranch_tcp, Raw},
    hornbeam_websocket:start(Parent, #{
        socket => Socket, reads => hornbeam_read_buffer:new(Socket),
        first => First, listening => false, extensions => #{}, max_frame_size => 16777216,
        max_frame_rate => infinity, idle_timeout => infinity
    }, Handler, maps:get(Path, Roles)).

head(Raw, Before) ->
    {ok, Data} = ranch_tcp:recv(Raw, 0, 5000),
    Bytes = <<Before/binary, Data/binary>>,
    case binary:split(Bytes, <<"\r\n\r\n">>) of
        [Head, First] -> {path(Head), key(Head), First};
        [_Unfinished] -> head(Raw, Bytes)
    end.

path(<<"GET ", Rest/binary>>) ->
    hd(binary:split(Rest, <<" ">>)).

key(Head) ->
    {match, [Key]} = re:run(Head, <<"\r\nsec-websocket-key: *([^\r]+)">>,
                            [caseless, {capture, all_but_first, binary}]),
    Key.
