%% The application's start and stop. With the key `app' in its environment it serves at once.
-module(hornbeam_app).
-behaviour(application).

-export([start/2, prep_stop/1, stop/1]).

%% @private
-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    show_logs(),
    {ok, Sup} = hornbeam_sup:start_link(),
    ok = hornbeam_signals:install(),
    case application:get_env(hornbeam, app) of
        {ok, App} -> serve(Sup, App);
        undefined -> {ok, Sup}
    end.

%% OTP's default handler shows no domain but its own; apps' output is in [hornbeam, python].
show_logs() ->
    _ = logger:add_handler_filter(default, hornbeam,
                                  {fun logger_filters:domain/2, {log, sub, [hornbeam]}}),
    ok.

serve(Sup, App) ->
    case hornbeam_sup:start_server(App, #{}) of
        ok -> {ok, Sup};
        {error, Reason} ->
            ok = hornbeam_signals:uninstall(),
            {error, Reason}
    end.

%% @private
-spec prep_stop(State) -> State.
prep_stop(State) ->
    _ = hornbeam_sup:stop_server(),
    State.

%% @private
-spec stop(term()) -> ok.
stop(_State) ->
    ok = hornbeam_signals:uninstall(),
    _ = logger:remove_handler_filter(default, hornbeam),
    ok.
