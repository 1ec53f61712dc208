%% A floor of HTTP: a process for each connection that reads by the emulator's own parser, keeps the
%% fields as they came, and answers all requests that one read brought by one write. It judges
%% nothing and limits nothing. Started by servers/cowboy.py, which reads the port from its output.
-module(bare_hello).

-export([start/0]).

-define(SOCKET, [
    binary, {ip, {127, 0, 0, 1}}, {active, false}, {nodelay, true}, {backlog, 1024},
    {buffer, 65536}
]).
-define(READS, 100).

%% @doc Serve on a free port of the loopback and print it.
-spec start() -> ok.
start() ->
    _ = spawn(fun listen/0),
    ok.

listen() ->
    {ok, Listener} = gen_tcp:listen(0, ?SOCKET),
    {ok, Port} = inet:port(Listener),
    io:format("listening on 127.0.0.1:~b~n", [Port]),
    accept(Listener).

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Connection = spawn(fun() -> receive begin_serving -> serve(Socket, <<>>) end end),
    ok = gen_tcp:controlling_process(Socket, Connection),
    ok = inet:setopts(Socket, [{active, ?READS}]),
    Connection ! begin_serving,
    accept(Listener).

serve(Socket, Before) ->
    receive
        {tcp, Socket, Bytes} ->
            {Responses, Rest} = responses(<<Before/binary, Bytes/binary>>, []),
            ok = gen_tcp:send(Socket, Responses),
            serve(Socket, Rest);
        {tcp_passive, Socket} ->
            ok = inet:setopts(Socket, [{active, ?READS}]),
            serve(Socket, Before);
        {tcp_closed, Socket} ->
            ok
    end.

responses(Bytes, Responses) ->
    case request(Bytes) of
        {Method, Path, Body, Rest} ->
            responses(Rest, [Responses, response(hello:answer(Method, Path, Body))]);
        more ->
            {Responses, Bytes}
    end.

response({Type, Body}) ->
    [<<"HTTP/1.1 200 OK\r\ncontent-type: ">>, Type, <<"\r\ncontent-length: ">>,
     integer_to_binary(iolist_size(Body)), <<"\r\n\r\n">>, Body].

request(Bytes) ->
    case erlang:decode_packet(http_bin, Bytes, []) of
        {ok, {http_request, Method, {abs_path, Path}, {1, 1}}, Rest} ->
            fields(Rest, atom_to_binary(Method), Path, []);
        {more, _} ->
            more
    end.

fields(Bytes, Method, Path, Fields) ->
    case erlang:decode_packet(httph_bin, Bytes, []) of
        {ok, {http_header, _, Name, _, Value}, Rest} ->
            fields(Rest, Method, Path, [{Name, Value} | Fields]);
        {ok, http_eoh, Rest} ->
            body(Rest, Method, Path, lists:reverse(Fields));
        {more, _} ->
            more
    end.

body(Bytes, Method, Path, Fields) ->
    Length = length_of(Fields),
    case Bytes of
        <<Body:Length/binary, Rest/binary>> -> {Method, Path, Body, Rest};
        _ -> more
    end.

length_of(Fields) ->
    case lists:keyfind('Content-Length', 1, Fields) of
        {_, Length} -> binary_to_integer(Length);
        false -> 0
    end.
