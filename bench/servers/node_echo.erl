%% The least that asking a node can cost: a process that sends back what a socket of its own brings,
%% at a priority above all others. Started inside the measured node by servers/hornbeam.py; whoever
%% the node starts after that finds the port in the variable NODE_ECHO. Knows nothing of Hornbeam.
-module(node_echo).

-export([start/0]).

%% @doc Listen on a free port of the loopback.
-spec start() -> ok.
start() ->
    Starter = self(),
    _ = spawn_opt(fun() -> listen(Starter) end, [{priority, high}]),
    receive
        {listening, Port} ->
            true = os:putenv("NODE_ECHO", integer_to_list(Port)),
            ok
    end.

listen(Starter) ->
    Options = [binary, {active, true}, {nodelay, true}, {ip, {127, 0, 0, 1}}],
    {ok, Listener} = gen_tcp:listen(0, Options),
    {ok, Port} = inet:port(Listener),
    Starter ! {listening, Port},
    accept(Listener).

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    echo(Socket),
    accept(Listener).

echo(Socket) ->
    receive
        {tcp, Socket, Data} ->
            ok = gen_tcp:send(Socket, Data),
            echo(Socket);
        {tcp_closed, Socket} ->
            ok
    end.
