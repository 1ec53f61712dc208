%% A floor of HTTP: Hornbeam's own HTTP/1.1 with no Python behind it. In place of a worker and its
%% writer stands one process that answers each request as it is opened, in the words of the wire:
%% what an app costs is missing, and all that is between it and a connection. Started by
%% servers/cowboy.py, which reads the port from its output.
-module(engine_hello).

-export([start/0]).

-define(POOL, <<"/">>).
-define(SOCKET, [
    {ip, {127, 0, 0, 1}}, {port, 0}, {nodelay, true}, {backlog, 1024}, {high_watermark, 1048576}
]).

%% The codes of docs/wire.md.
-define(OPEN_HTTP, 2).
-define(RESPONSE_START, 36).

%% @doc Serve on a free port of the loopback and print it.
-spec start() -> ok.
start() ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Starter = self(),
    _ = spawn(fun() -> begin_answering(Starter) end),
    receive ready -> ok end,
    {ok, Checked} = hornbeam_config:check("hello:application", #{}),
    Mounts = hornbeam_mounts:new(Checked),
    Options = #{mounts => Mounts, limit => hornbeam_connection_limit:new(infinity),
                cowboy => hornbeam_cowboy:options(Mounts), is_secure => false},
    %% A request of the load comes by one read.
    Buffer = {buffer, 16384},
    {ok, _} = hornbeam_transport:start_listener(
        ?MODULE, #{max_connections => infinity, socket_opts => [Buffer | ?SOCKET]},
        {Options, none}),
    {_, Port} = hornbeam_transport:address(?MODULE),
    io:format("listening on 127.0.0.1:~b~n", [Port]).

begin_answering(Starter) ->
    Tagged = hornbeam_stream_owners:new(),
    Handle = hornbeam_capacity:new(#{
        worker => self(), writer => self(), name => <<"engine">>, limit => infinity,
        counts => hornbeam_capacity:new_counts(), tagged_owners => Tagged,
        adoption => {none, hornbeam_worker_events:new(self(), hornbeam_worker_unread:new())}
    }),
    hornbeam_pool_row:keep(?POOL, self()),
    hornbeam_pool_row:publish(?POOL, [Handle], []),
    Starter ! ready,
    answer(Tagged, Handle).

answer(Tagged, Handle) ->
    receive
        {write, Opening} when is_binary(Opening) ->
            {ok, [?OPEN_HTTP, Number, [_, _, Method, Path | _], Body, _]} =
                hornbeam_msgpack:decode_all(Opening),
            {ok, {http, Owner, _}} = hornbeam_stream_owners:find(Number, Tagged),
            hornbeam_stream_owners:leave(Number, Tagged),
            hornbeam_stream:send(Owner, {stream, Number, response(Number, Method, Path, Body)}),
            hornbeam_capacity:ended(Handle, self()),
            answer(Tagged, Handle);
        _Other ->
            answer(Tagged, Handle)
    end.

response(Number, Method, Path, Body) ->
    {Type, Answer} = hello:answer(Method, Path, Body),
    Fields = [[bin(<<"content-type">>), bin(Type)]],
    iolist_to_binary(hornbeam_msgpack:encode(
        [?RESPONSE_START, Number, 200, Fields, bin(iolist_to_binary(Answer)), false])).

bin(Bytes) -> hornbeam_msgpack:bytes(Bytes).
