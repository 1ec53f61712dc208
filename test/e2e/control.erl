%% The tests' way into a node: evaluates Erlang expressions that arrive over a loopback
%% socket, one a connection. Knows nothing of Hornbeam.
%%
%% The first connection is the leash: when it is closed the test run is gone, whatever became
%% of it, and the node ends.
-module(control).

-export([start/0]).

-spec start() -> pid().
start() ->
    spawn(fun listen/0).

listen() ->
    {ok, Listen} = gen_tcp:listen(0, [
        binary, {packet, 4}, {ip, {127, 0, 0, 1}}, {active, false}, {backlog, 64}
    ]),
    {ok, Port} = inet:port(Listen),
    io:format("control listens on ~b~n", [Port]),
    {ok, Leash} = gen_tcp:accept(Listen),
    Watcher = spawn(fun() -> receive owned -> watch(Leash) end end),
    ok = gen_tcp:controlling_process(Leash, Watcher),
    Watcher ! owned,
    accept(Listen).

watch(Leash) ->
    {error, _} = gen_tcp:recv(Leash, 0),
    erlang:halt(1).

accept(Listen) ->
    {ok, Socket} = gen_tcp:accept(Listen),
    Handler = spawn(fun() -> receive owned -> serve(Socket) end end),
    ok = gen_tcp:controlling_process(Socket, Handler),
    Handler ! owned,
    accept(Listen).

serve(Socket) ->
    {ok, Text} = gen_tcp:recv(Socket, 0),
    _ = gen_tcp:send(Socket, term_to_binary(evaluate(Text))),
    gen_tcp:close(Socket).

evaluate(Text) ->
    try
        {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Text)),
        {ok, Expressions} = erl_parse:parse_exprs(Tokens),
        {value, Value, _} = erl_eval:exprs(Expressions, []),
        {ok, plain(Value)}
    catch
        Class:Reason:Stack ->
            {Class, unicode:characters_to_binary(io_lib:format("~0tp~n~tp", [Reason, Stack]))}
    end.

%% What only means something inside a node travels as its printed form.
plain(Term) when is_pid(Term); is_reference(Term); is_port(Term); is_function(Term) ->
    iolist_to_binary(io_lib:format("~p", [Term]));
plain(Term) when is_tuple(Term) ->
    list_to_tuple(plain(tuple_to_list(Term)));
plain([Head | Tail]) ->
    [plain(Head) | plain(Tail)];
plain(Term) when is_map(Term) ->
    maps:from_list(plain(maps:to_list(Term)));
plain(Term) ->
    Term.
