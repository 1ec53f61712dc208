%% The barest bridge between clients and Python: Hornbeam's WebSocket engine, one port, and a Python
%% that sends back what comes. Each text travels with its connection's number, and one process owns
%% the port, as a worker does. Started by servers/cowboy.py, which reads the port from its output.
-module(bare_bridge).

-export([start/2]).
-export([opened/1, handle_frame/2, handle_info/2, sent/2, closed/2]).

-type state() :: {Port :: port(), Number :: pos_integer()}.

-define(CLIENTS, bare_bridge_clients).

%% @doc Serve on a free port of the loopback and print it.
-spec start(Python :: string(), Script :: string()) -> ok.
start(Python, Script) ->
    _ = spawn(fun() ->
        ?CLIENTS = ets:new(?CLIENTS, [named_table, public, {read_concurrency, true}]),
        Port = open_port({spawn_executable, Python},
                         [{args, [Script]}, nouse_stdio, binary, {packet, 4}]),
        ok = engine_websocket:listen(?MODULE, ?MODULE, #{<<"/">> => {Port, atomics:new(1, [])}}),
        route(Port)
    end),
    ok.

route(Port) ->
    receive
        {Port, {data, <<Number:32, Text/binary>>}} ->
            [{_, Client}] = ets:lookup(?CLIENTS, Number),
            Client ! {text, Text},
            route(Port)
    end.

%% @private
-spec opened({port(), atomics:atomics_ref()}) -> {[], state()}.
opened({Port, Numbers}) ->
    Number = atomics:add_get(Numbers, 1, 1),
    true = ets:insert(?CLIENTS, {Number, self()}),
    {[], {Port, Number}}.

%% @private
-spec handle_frame(term(), state()) -> {[term()], state()}.
handle_frame({text, Text}, {Port, Number} = State) ->
    true = port_command(Port, [<<Number:32>>, Text]),
    {[], State};
handle_frame({failed, _Fault}, State) ->
    {[{close, 1002, <<>>}], State};
handle_frame(_Frame, State) ->
    {[], State}.

%% @private
-spec handle_info(term(), state()) -> {[term()], state()}.
handle_info({text, _} = Text, State) ->
    {[Text], State};
handle_info(_Other, State) ->
    {[], State}.

%% @private
-spec sent(term(), state()) -> {[], state()}.
sent(_What, State) ->
    {[], State}.

%% @private
-spec closed(term(), state()) -> ok.
closed(_Reason, _State) ->
    ok.
