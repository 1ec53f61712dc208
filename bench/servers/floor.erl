%% What the floors of the comparison share: a listener of Cowboy, of which servers/cowboy.py reads
%% the port.
-module(floor).

-export([listen/3]).

%% @doc Serve on a free port of the loopback and print it.
-spec listen(module(), [{string(), module(), term()}], cowboy:opts()) -> ok.
listen(Name, Paths, Protocol) ->
    {ok, _} = application:ensure_all_started(cowboy),
    Transport = #{
        socket_opts => [{ip, {127, 0, 0, 1}}, {port, 0}, {nodelay, true}, {buffer, 65536}],
        max_connections => infinity
    },
    Routes = cowboy_router:compile([{'_', Paths}]),
    {ok, _} = cowboy:start_clear(Name, Transport, Protocol#{env => #{dispatch => Routes}}),
    io:format("listening on 127.0.0.1:~b~n", [ranch:get_port(Name)]).
