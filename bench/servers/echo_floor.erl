%% The floors of the echo: a WebSocket engine alone, Cowboy's with the settings that make it fastest
%% here or Hornbeam's own, with no Python behind it. Started by servers/cowboy.py.
-module(echo_floor).
-behaviour(cowboy_websocket).

-export([start/1]).
-export([init/2, websocket_init/1, websocket_handle/2, websocket_info/2]).
-export([opened/1, handle_frame/2, handle_info/2, sent/2, closed/2]).

-type engine() :: cowboy_websocket | hornbeam_websocket.

%% @doc Serve on a free port of the loopback and print it.
-spec start(engine()) -> ok.
start(cowboy_websocket) ->
    floor:listen(?MODULE, [{"/", ?MODULE, []}], #{active_n => 100});
start(hornbeam_websocket) ->
    engine_websocket:listen(?MODULE, ?MODULE, #{<<"/">> => []}).

%% Cowboy's.

%% @private
-spec init(cowboy_req:req(), []) -> {cowboy_websocket, cowboy_req:req(), [], map()}.
init(Request, State) ->
    {cowboy_websocket, Request, State,
     #{compress => false, validate_utf8 => false, max_frame_size => 16777216}}.

%% @private
-spec websocket_init([]) -> {[], []}.
websocket_init(State) ->
    {[], State}.

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

%% Hornbeam's.

%% @private
-spec opened([]) -> {[], []}.
opened(State) ->
    {[], State}.

%% @private
-spec handle_frame(term(), []) -> {[term()], []}.
handle_frame({Kind, Data}, State) when Kind =:= text; Kind =:= binary ->
    {[{Kind, Data}], State};
handle_frame({failed, _Fault}, State) ->
    {[{close, 1002, <<>>}], State};
handle_frame(_, State) ->
    {[], State}.

%% @private
-spec handle_info(term(), []) -> {[], []}.
handle_info(_, State) ->
    {[], State}.

%% @private
-spec sent(term(), []) -> {[], []}.
sent(_, State) ->
    {[], State}.

%% @private
-spec closed(term(), []) -> ok.
closed(_Reason, _State) ->
    ok.
