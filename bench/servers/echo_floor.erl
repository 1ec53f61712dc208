%% The floors of the echo: a WebSocket engine alone, Cowboy's with the settings that make it fastest
%% here or Hornbeam's own, with no Python behind it. Started by servers/cowboy.py.
-module(echo_floor).
-behaviour(cowboy_websocket).

-export([start/1]).
-export([init/2, websocket_init/1, websocket_handle/2, websocket_info/2, terminate/3]).

-type engine() :: cowboy_websocket | hornbeam_websocket.

%% @doc Serve on a free port of the loopback and print it.
-spec start(engine()) -> ok.
start(Engine) ->
    floor:listen(?MODULE, [{"/", ?MODULE, Engine}], #{active_n => 100}).

%% @private
-spec init(cowboy_req:req(), engine()) -> {engine(), cowboy_req:req(), [], map()}.
init(Request, Engine) ->
    {Engine, Request, [], options(Engine)}.

options(cowboy_websocket) ->
    #{compress => false, validate_utf8 => false, max_frame_size => 16777216};
options(hornbeam_websocket) ->
    #{compress => false, max_frame_size => 16777216, max_frame_rate => infinity,
      idle_timeout => infinity}.

%% @private
-spec websocket_init([]) -> {[], []}.
websocket_init(State) ->
    {[], State}.

%% @private
-spec websocket_handle(term(), []) -> {cowboy_websocket:commands(), []}.
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
