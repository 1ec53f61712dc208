%% The floor of the fan-out: connections of Cowboy alone as members of one pg group, or each of
%% the group that its path names, with no Python behind them and Cowboy's fastest settings. Started
%% by servers/cowboy.py, which reads the port from its output.
-module(cowboy_fanout).
-behaviour(cowboy_websocket).

-export([start/0]).
-export([init/2, websocket_init/1, websocket_handle/2, websocket_info/2]).

-define(TOPIC, <<"topic">>).

-type topic() :: binary().
-type role() :: subscribe | {subscribe, topic()} | publish | publish_to_each.
%% `publish_to_each': to the topic that the first four letters of each text name.

%% @doc Serve on a free port of the loopback and print it.
-spec start() -> ok.
start() ->
    {ok, _} = pg:start(?MODULE),
    floor:listen(?MODULE, [{"/subscribe/[:topic]", ?MODULE, subscribe},
                           {"/publish", ?MODULE, publish},
                           {"/publish/each", ?MODULE, publish_to_each}], #{active_n => 100}).

%% @private
-spec init(cowboy_req:req(), role()) -> {cowboy_websocket, cowboy_req:req(), role(), map()}.
init(Request, subscribe) ->
    upgrade(Request, {subscribe, cowboy_req:binding(topic, Request, ?TOPIC)});
init(Request, Role) ->
    upgrade(Request, Role).

upgrade(Request, Role) ->
    Options = #{compress => false, validate_utf8 => false, max_frame_size => 16777216},
    {cowboy_websocket, Request, Role, Options}.

%% @private
-spec websocket_init(role()) -> {cowboy_websocket:commands(), role()}.
websocket_init({subscribe, Topic} = Role) ->
    ok = pg:join(?MODULE, Topic, self()),
    {[{text, <<"subscribed">>}], Role};
websocket_init(Role) ->
    {[], Role}.

%% @private
-spec websocket_handle(term(), role()) -> {cowboy_websocket:commands(), role()}.
websocket_handle({text, Text}, publish) ->
    publish(?TOPIC, Text),
    {[], publish};
websocket_handle({text, <<Topic:4/binary, _/binary>> = Text}, publish_to_each) ->
    publish(Topic, Text),
    {[], publish_to_each};
websocket_handle(_, Role) ->
    {[], Role}.

publish(Topic, Text) ->
    lists:foreach(fun(Pid) -> Pid ! {published, Text} end, pg:get_members(?MODULE, Topic)).

%% @private
-spec websocket_info(term(), role()) -> {cowboy_websocket:commands(), role()}.
websocket_info({published, Text}, {subscribe, _} = Role) ->
    {[{text, Text}], Role};
websocket_info(_, Role) ->
    {[], Role}.
