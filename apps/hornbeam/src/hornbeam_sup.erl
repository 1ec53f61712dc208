%% The root of the tree, and the only place that puts a server together or takes it apart.
%%
%%   hornbeam_sup                  one_for_one; the order is that of start and, reversed, of stop
%%   ├── hornbeam_api_sup          the processes behind the ops
%%   ├── hornbeam_pool_sup         while an app is served; called after its path
%%   │   ├── hornbeam_pool_dispatcher  gives places to those who wait for one
%%   │   └── hornbeam_pool_workers_sup the workers, and who keeps them alive
%%   ├── hornbeam_reloader         with the option reload
%%   ├── hornbeam_access_log       with the option access_log
%%   └── hornbeam_listener         while an app is served; last, so that it opens when the
%%                                 house is ready and shuts first
%%
%% A supervisor makes no tables: when its code changes it calls init/1 again.
-module(hornbeam_sup).
-behaviour(supervisor).

-export([start_link/0, start_server/2, given/1, stop_server/0]).
-export([init/1]).

%% Where the app is served.
-define(PATH, <<"/">>).

-spec start_link() -> {ok, pid()}.
start_link() ->
    {ok, Pid} = supervisor:start_link({local, ?MODULE}, ?MODULE, []),
    {ok, Pid}.

%% @doc Check the options, start the workers, and then listen.
%%
%% Options of the application's environment hold where `Options' says nothing. On any error
%% nothing is left running.
-spec start_server(App :: term(), Options :: term()) -> ok | {error, hornbeam:start_error()}.
start_server(App, Options) ->
    global:trans({?MODULE, self()}, fun() -> start_server_alone(App, Options) end, [node()]).

start_server_alone(App, Options) ->
    case served() of
        {ok, Served} -> {error, {already_started, Served}};
        none -> check_and_start(App, Options)
    end.

check_and_start(App, Options) ->
    start_checked(hornbeam_config:check(App, given(Options))).

%% @doc Options with those of the application's environment, as they were given.
-spec given(Options :: term()) -> term().
given(Options) when is_map(Options) ->
    Env = maps:from_list(application:get_all_env(hornbeam)),
    maps:merge(maps:without([app, included_applications], Env), Options);
given(Options) ->
    Options.

start_checked({error, _} = Error) ->
    Error;
start_checked({ok, Checked}) ->
    case start_parts([fun check_tls/1, fun set_limits/1, fun start_pool/1, fun start_reloader/1,
                      fun start_access_log/1, fun start_listener/1], Checked) of
        ok ->
            ok;
        {error, _} = Error ->
            _ = stop_parts(),
            Error
    end.

start_parts([], _Checked) ->
    ok;
start_parts([Start | Rest], Checked) ->
    case Start(Checked) of
        ok -> start_parts(Rest, Checked);
        {error, _} = Error -> Error
    end.

check_tls(#{server := Server}) ->
    hornbeam_tls:check(Server).

set_limits(#{server := Server}) ->
    hornbeam_quota:set_limits(Server).

start_pool(#{server := #{shutdown_timeout := Timeout}, app := App}) ->
    Start = #{name => ?PATH, api => hornbeam_api, options => App, stop_timeout => Timeout},
    Spec = #{id => {hornbeam_pool_sup, ?PATH},
             start => {hornbeam_pool_sup, start_link, [Start]},
             type => supervisor},
    {ok, _} = supervisor:start_child(?MODULE, Spec),
    hornbeam_pool:await_ready(?PATH).

start_reloader(#{app := #{reload := false}}) ->
    ok;
start_reloader(#{app := App}) ->
    %% Temporary: a server without it is better than none.
    start_part(#{id => hornbeam_reloader, start => {hornbeam_reloader, start_link, [App]},
                 restart => temporary}).

start_access_log(#{server := #{access_log := false}}) ->
    ok;
start_access_log(#{server := #{access_log_format := Format}}) ->
    start_part(#{id => hornbeam_access_log, start => {hornbeam_access_log, start_link, [Format]},
                 shutdown => 1000}).

start_listener(#{server := #{shutdown_timeout := Timeout, max_connections := Max}} = Checked) ->
    Limit = hornbeam_connection_limit:new(Max),
    #{counters := Counters} = Mount = hornbeam_mounts:new(?PATH, Checked),
    ok = start_part(#{id => hornbeam_connection_limit,
                      start => {hornbeam_connection_limit, start_link, [?PATH, Counters]}}),
    start_part(#{id => hornbeam_listener,
                 start => {hornbeam_listener, start_link, [?PATH, Mount, Limit]},
                 shutdown => Timeout + 5000}).

start_part(Spec) ->
    case supervisor:start_child(?MODULE, Spec) of
        {ok, _} -> ok;
        {error, {{shutdown, Reason}, _Child}} -> {error, Reason};
        {error, Reason} -> {error, Reason}
    end.

%% @doc Stop what is served: the listener first, then the workers. Bounded by `shutdown_timeout'. A
%% start that is under way fails.
-spec stop_server() -> ok.
stop_server() ->
    stop_starting(whereis(hornbeam_listener)),
    global:trans({?MODULE, self()}, fun stop_parts/0, [node()]).

%% Who starts has the lock as long as the app imports, but gives up without its pool.
stop_starting(undefined) -> lists:foreach(fun stop_part/1, pools());
stop_starting(_Listener) -> ok.

stop_parts() ->
    Pools = pools(),
    lists:foreach(fun stop_part/1,
                  [hornbeam_reloader, hornbeam_listener, hornbeam_access_log,
                   hornbeam_connection_limit | Pools]),
    lists:foreach(fun({hornbeam_pool_sup, Path}) -> hornbeam_pool:erase(Path) end, Pools).

pools() ->
    [Id || {{hornbeam_pool_sup, _} = Id, _, _, _} <- supervisor:which_children(?MODULE)].

stop_part(Id) ->
    _ = supervisor:terminate_child(?MODULE, Id),
    _ = supervisor:delete_child(?MODULE, Id),
    ok.

served() ->
    case [App || Name <- hornbeam_pool:all(), {ok, App} <- [hornbeam_pool:app(Name)]] of
        [App | _] -> {ok, App};
        [] -> none
    end.

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Flags = #{strategy => one_for_one, intensity => 10, period => 10},
    Api = #{id => hornbeam_api_sup,
            start => {hornbeam_api_sup, start_link, []},
            type => supervisor},
    {ok, {Flags, [Api]}}.
