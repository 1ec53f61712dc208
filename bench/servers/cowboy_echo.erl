%% The floor of the comparison: a WebSocket echo on Cowboy alone, with no Python behind it
%% and with the settings that make Cowboy fastest here. Started by servers/cowboy.py, which
%% reads the port from its output.
-module(cowboy_echo).
-behaviour(cowboy_websocket).

-export([start/0]).
-export([init/2, websocket_handle/2, websocket_info/2]).

%% @doc Serve on a free port of the loopback and print it.
-spec start() -> ok.
start() ->
    {ok, _} = application:ensure_all_started(cowboy),
    Transport = #{
        socket_opts => [{ip, {127, 0, 0, 1}}, {port, 0}, {nodelay, true}, {buffer, 65536}],
        max_connections => infinity
    },
    Protocol = #{
        env => #{dispatch => cowboy_router:compile([{'_', [{"/", ?MODULE, []}]}])},
        active_n => 100
    },
    {ok, _} = cowboy:start_clear(?MODULE, Transport, Protocol),
    io:format("listening on 127.0.0.1:~b~n", [ranch:get_port(?MODULE)]).

%% @private
-spec init(cowboy_req:req(), []) -> {cowboy_websocket, cowboy_req:req(), [], map()}.
init(Request, State) ->
    Options = #{compress => false, validate_utf8 => false, max_frame_size => 16777216},
    {cowboy_websocket, Request, State, Options}.

%% @private
-spec websocket_handle(term(), []) -> {cowboy_websocket:commands(), []}.
websocket_handle({Kind, Data}, State) when Kind =:= text; Kind =:= binary ->
    {[{Kind, Data}], State};
websocket_handle(_, State) ->
    {[], State}.

%% @private
-spec websocket_info(term(), []) -> {[], []}.
websocket_info(_, State) ->
    {[], State}.
