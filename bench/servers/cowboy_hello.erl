%% A floor of HTTP: Cowboy alone, with no app behind it. Started by servers/cowboy.py, which reads
%% the port from its output.
-module(cowboy_hello).
-behaviour(cowboy_handler).

-export([start/0]).
-export([init/2]).

%% @doc Serve on a free port of the loopback and print it.
-spec start() -> ok.
start() ->
    {ok, _} = application:ensure_all_started(cowboy),
    Transport = #{
        socket_opts => [{ip, {127, 0, 0, 1}}, {port, 0}, {nodelay, true}],
        max_connections => infinity
    },
    Protocol = #{
        env => #{dispatch => cowboy_router:compile([{'_', [{'_', ?MODULE, []}]}])},
        active_n => 100,
        max_keepalive => infinity
    },
    {ok, _} = cowboy:start_clear(?MODULE, Transport, Protocol),
    io:format("listening on 127.0.0.1:~b~n", [ranch:get_port(?MODULE)]).

%% @private
-spec init(cowboy_req:req(), []) -> {ok, cowboy_req:req(), []}.
init(#{method := Method, path := Path} = Req0, []) ->
    {ok, Got, Req} = cowboy_req:read_body(Req0),
    {Type, Body} = hello:answer(Method, Path, Got),
    {ok, cowboy_req:reply(200, #{<<"content-type">> => Type}, Body, Req), []}.
