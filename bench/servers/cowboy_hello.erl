%% The floor of HTTP: on Cowboy alone what the apps hello.py and items.py answer. Started by
%% servers/cowboy.py, which reads the port from its output.
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
    Paths = [{"/", ?MODULE, greet}, {"/items/:id", ?MODULE, item}],
    Protocol = #{
        env => #{dispatch => cowboy_router:compile([{'_', Paths}])},
        active_n => 100,
        max_keepalive => infinity
    },
    {ok, _} = cowboy:start_clear(?MODULE, Transport, Protocol),
    io:format("listening on 127.0.0.1:~b~n", [ranch:get_port(?MODULE)]).

%% @private
-spec init(cowboy_req:req(), greet | item) -> {ok, cowboy_req:req(), greet | item}.
init(#{method := <<"POST">>} = Req0, greet) ->
    {ok, Body, Req} = cowboy_req:read_body(Req0),
    {ok, reply(<<"text/plain">>, Body, Req), greet};
init(Req, greet) ->
    {ok, reply(<<"text/plain">>, <<"Hello, World!">>, Req), greet};
init(Req, item) ->
    Id = cowboy_req:binding(id, Req),
    Body = ["{\"id\":", Id, ",\"name\":\"item ", Id, "\"}"],
    {ok, reply(<<"application/json">>, Body, Req), item}.

reply(Type, Body, Req) ->
    cowboy_req:reply(200, #{<<"content-type">> => Type}, Body, Req).
