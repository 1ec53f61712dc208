%% The floor of our own echo: Hornbeam's WebSocket engine with a handler that sends back what comes,
%% and no Python behind it. Started by servers/cowboy.py, which reads the port from its output.
-module(engine_echo).
-behaviour(cowboy_websocket).

-export([start/0]).
-export([init/2, websocket_init/1, websocket_handle/2, websocket_info/2, terminate/3]).

%% @doc Serve on a free port of the loopback and print it.
-spec start() -> ok.
start() ->
    {ok, _} = application:ensure_all_started(cowboy),
    Transport = #{
        socket_opts => [{ip, {127, 0, 0, 1}}, {port, 0}, {nodelay, true}, {buffer, 65536}],
        max_connections => infinity
    },
    Protocol = #{env => #{dispatch => cowboy_router:compile([{'_', [{"/", ?MODULE, []}]}])}},
    {ok, _} = cowboy:start_clear(?MODULE, Transport, Protocol),
    io:format("listening on 127.0.0.1:~b~n", [ranch:get_port(?MODULE)]).

%% @private
-spec init(cowboy_req:req(), []) ->
    {hornbeam_websocket, cowboy_req:req(), [], hornbeam_websocket:options()}.
init(Request, State) ->
    Options = #{max_frame_size => 16777216, max_frame_rate => infinity, compress => false,
                idle_timeout => infinity},
    {hornbeam_websocket, Request, State, Options}.

%% @private
-spec websocket_init([]) -> {[], []}.
websocket_init(State) ->
    {[], State}.

%% @private
-spec websocket_handle(term(), []) -> {hornbeam_websocket:commands(), []}.
websocket_handle({Kind, Data}, State) when Kind =:= text; Kind =:= binary ->
    {[{Kind, Data}], State};
websocket_handle({failed, _Fault}, State) ->
    {[{close, 1002, <<>>}], State};
websocket_handle(_, State) ->
    {[], State}.

%% @private
-spec websocket_info(term(), []) -> {[], []}.
websocket_info(_, State) ->
    {[], State}.

%% @private
-spec terminate(term(), cowboy_req:req(), []) -> ok.
terminate(_Reason, _Request, _State) ->
    ok.
