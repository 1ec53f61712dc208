%% @doc Serve a Python app's WebSockets and HTTP from the BEAM.
%%
%% ```
%% hornbeam:start("app:application", #{worker_class => asgi}).
%% '''
-module(hornbeam).

-export([start/1, start/2, stop/0, info/0, format_error/1]).
-export_type([start_error/0, python_error/0]).

-type python_error() :: #{stage := binary(), class := binary(), message := binary(),
                          traceback := binary()}.
%% Where in its start the app failed ("config", "import" or "lifespan"), and how.

-type start_error() ::
    hornbeam_config:error()
    | {already_started, App :: binary()}
    | {python, python_error()}
    | {worker, Sentence :: binary()}
    | {listen, inet:posix() | term()}
    | {application, term()}.

%% @doc Serve an app with the options of the application's environment.
-spec start(App :: string() | binary()) -> ok | {error, start_error()}.
start(App) ->
    start(App, #{}).

%% @doc Serve an app, given as `"module:attribute"'.
%%
%% Returns when every worker has imported the app and the listener accepts connections. The
%% options, their units and defaults stand in docs/guide/configuration.md; what the
%% application's environment (sys.config) says holds where the map says nothing. On an error
%% nothing is left running; {@link format_error/1} makes it a sentence.
-spec start(App :: string() | binary(), Options :: #{atom() => term()}) ->
    ok | {error, start_error()}.
start(App, Options) ->
    case application:ensure_all_started(hornbeam) of
        {ok, _} -> hornbeam_sup:start_server(App, Options);
        {error, Reason} -> {error, {application, Reason}}
    end.

%% @doc Stop serving: close the door and the sockets (1001), drain the workers, end them.
%%
%% Waits at most about `shutdown_timeout' for each of the two; a second stop does nothing.
-spec stop() -> ok.
stop() ->
    case whereis(hornbeam_sup) of
        undefined -> ok;
        _ -> hornbeam_sup:stop_server()
    end.

%% @doc What is served now: `address', `app', `workers' (name, os_pid, state, streams, since),
%% `streams' (conversations with the app now) and `counters' since the start. Empty when
%% nothing is served.
-spec info() -> #{atom() => term()}.
info() ->
    maps:merge(hornbeam_pool:info(main), hornbeam_listener:info()).

%% @doc A readable sentence for an error of {@link start/2}.
-spec format_error(start_error()) -> unicode:chardata().
format_error({bad_option, Key, Value}) ->
    io_lib:format("option ~0tp has the value ~0tp; expected ~ts",
                  [Key, Value, hornbeam_config:expected(Key)]);
format_error({already_started, App}) ->
    io_lib:format("~ts is being served already; stop it first", [App]);
format_error({python, #{stage := Stage, class := Class, message := Message,
                        traceback := Traceback}}) ->
    io_lib:format("the app failed (~ts) with ~ts: ~ts~n~ts",
                  [Stage, Class, Message, Traceback]);
format_error({worker, Sentence}) ->
    Sentence;
format_error({listen, Reason}) ->
    io_lib:format("cannot listen: ~ts (~0tp)", [inet:format_error(Reason), Reason]);
format_error({application, Reason}) ->
    io_lib:format("the hornbeam application does not start: ~0tp", [Reason]).
