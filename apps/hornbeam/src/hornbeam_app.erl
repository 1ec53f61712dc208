%% The application's start and stop. With the key `app' or `mounts' in its environment it serves at
%% once.
%%
%% Where that fails in a release, there is no node to go on with: the reason is written to standard
%% error and the node halts with status 3, without the crash dump of a permanent application that
%% does not start. Whoever starts the application from a shell gets the error as a value.
%%
%% The process that runs start/2 lives as long as the application. It owns the ETS tables, so that
%% no crash of a process below loses them.
-module(hornbeam_app).
-behaviour(application).

-export([start/2, prep_stop/1, stop/1]).

%% The node's exit status.
-define(DID_NOT_START, 3).

%% @private
-spec start(application:start_type(), term()) -> {ok, pid()} | {error, term()}.
start(_Type, _Args) ->
    ok = hornbeam_log:install(),
    ok = make_tables(),
    ok = hornbeam_crashes:install(),
    {ok, Sup} = hornbeam_sup:start_link(),
    ok = hornbeam_signals:install(),
    case {application:get_env(hornbeam, app), application:get_env(hornbeam, mounts)} of
        {undefined, undefined} -> {ok, Sup};
        {{ok, App}, undefined} -> serve(Sup, App, #{});
        {undefined, {ok, Mounts}} -> serve(Sup, undefined, #{mounts => Mounts});
        {{ok, App}, {ok, Mounts}} -> serve(Sup, App, #{mounts => Mounts})
    end.

make_tables() ->
    ok = hornbeam_telemetry:new_table(),
    ok = hornbeam_connection_registry:new_table(),
    ok = hornbeam_gathering:new_table(),
    ok = hornbeam_connection_limit:new_table(),
    ok = hornbeam_date:new_table(),
    ok = hornbeam_crashes:new_table(),
    ok = hornbeam_hints:new(),
    ok = hornbeam_access_log:new_table(),
    ok = hornbeam_http1_head:prepare(),
    ok = hornbeam_pool_row:new_table(),
    ok = hornbeam_pool_snapshot:new_table(),
    ok = hornbeam_pool_waiting:new_table(),
    ok = hornbeam_pool_bindings:new_tables(),
    Defaults = hornbeam_config:defaults(server),
    ok = hornbeam_links:new_tables(Defaults),
    hornbeam_api_sup:new_tables(Defaults).

serve(Sup, App, Options) ->
    case hornbeam_sup:start_server(App, Options) of
        ok ->
            {ok, Sup};
        {error, Reason} ->
            Told = #{app => App, options => hornbeam_sup:given(Options)},
            give_up(code:get_mode(), Told, Reason)
    end.

-spec give_up(embedded | interactive, hornbeam_start_error:told(), hornbeam:start_error()) ->
    {error, hornbeam:start_error()}.
give_up(embedded, Told, Reason) ->
    io:put_chars(standard_error, ["hornbeam does not start: ",
                                  hornbeam_start_error:paragraph(Reason, Told), "\n"]),
    halt(?DID_NOT_START);
give_up(interactive, Told, Reason) ->
    hornbeam_start_error:log(Reason, Told),
    ok = hornbeam_signals:uninstall(),
    ok = hornbeam_crashes:uninstall(),
    {error, Reason}.

%% @private
-spec prep_stop(State) -> State.
prep_stop(State) ->
    ok = hornbeam_sup:stop_for_good(),
    %% A node of the user's that goes on keeps its connections.
    _ = [hornbeam_link_drain:run() || {stopping, _} <- [init:get_status()]],
    %% Its table ends before stop/1 is called.
    ok = hornbeam_crashes:uninstall(),
    State.

%% @private
-spec stop(term()) -> ok.
stop(_State) ->
    ok = hornbeam_signals:uninstall(),
    hornbeam_log:uninstall().
