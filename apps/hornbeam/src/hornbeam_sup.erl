%% The root of the tree, and the only place that puts a server together or takes it apart.
%%
%%   hornbeam_sup                  one_for_one
%%   ├── hornbeam_schedulers       where the emulator's flags leave schedulers to it
%%   ├── hornbeam_links_sup        what is said to other nodes, and by them
%%   ├── hornbeam_api_sup          the processes behind the ops
%%   └── hornbeam_server_sup       while apps are served, unless a supervisor of the user's has it
%%
%% When a server below it ends by itself it ends, too, and the application with it.
%%
%% A supervisor makes no tables: when its code changes it calls init/1 again.
-module(hornbeam_sup).
-behaviour(supervisor).

-export([start_link/0, start_server/2, start_link_server/2, given/1, drain/0, stop_server/0,
         stop_for_good/0,
         is_supervised/0]).
-export([init/1]).

%% What is served, in whoever's tree.
-define(SERVER, hornbeam_server_sup).

-define(LOCK, {?MODULE, self()}).

%% Who waits for the lock tries again after so long (ms).
-define(LOCKED, 20).

%% Nodes ask each other for a certificate.
-define(PROVEN, #{keyfile_password => undefined, verify => required}).

-spec start_link() -> {ok, pid()}.
start_link() ->
    {ok, Pid} = supervisor:start_link({local, ?MODULE}, ?MODULE, []),
    {ok, Pid}.

%% @doc Check the options, start the workers, and then listen.
%%
%% Options of the application's environment hold where `Options' says nothing. On any error
%% nothing is left running. The app is undefined where all that are served stand in `mounts'.
-spec start_server(App :: term(), Options :: term()) -> ok | {error, hornbeam:start_error()}.
start_server(App, Options) ->
    case start_server_in(fun start_below/0, App, Options) of
        {ok, _Server} -> ok;
        {error, _} = Error -> Error
    end.

%% @doc The same, linked to the calling process, which is a supervisor of the user's.
-spec start_link_server(App :: term(), Options :: term()) ->
    {ok, pid()} | {error, hornbeam:start_error()}.
start_link_server(App, Options) ->
    start_server_in(fun hornbeam_server_sup:start_link/0, App, Options).

start_below() ->
    supervisor:start_child(?MODULE, #{id => ?SERVER, start => {?SERVER, start_link, []},
                                      restart => temporary, significant => true,
                                      type => supervisor}).

start_server_in(Tree, App, Options) ->
    alone(fun() -> start_server_alone(whereis(?MODULE), whereis(?SERVER), Tree, App, Options) end).

%% Starts and stops are one after the other.
alone(Do) ->
    ok = lock(),
    try
        Do()
    after
        global:del_lock(?LOCK, [node()])
    end.

%% What is started or stopped meanwhile may be the node's name, of which global knows nothing.
lock() ->
    case global:set_lock(?LOCK, [node()], 0) of
        true -> ok;
        false -> receive after ?LOCKED -> lock() end
    end.

start_server_alone(undefined, _Server, _Tree, _App, _Options) ->
    {error, {application, not_started}};
start_server_alone(_Root, undefined, Tree, App, Options) ->
    start_checked(hornbeam_config:check(App, given(Options)), Tree);
start_server_alone(_Root, _Server, _Tree, _App, _Options) ->
    {error, {already_started, served()}}.

%% @doc Options with those of the application's environment, as they were given.
-spec given(Options :: term()) -> term().
given(Options) when is_map(Options) ->
    Env = maps:from_list(application:get_all_env(hornbeam)),
    maps:merge(maps:without([app, mounts, included_applications], Env), Options);
given(Options) ->
    Options.

start_checked({error, _} = Error, _Tree) ->
    Error;
start_checked({ok, Options}, Tree) ->
    ok = await_orphans(),
    {ok, Server} = Tree(),
    Checked = with_local_socket(Options),
    case start_parts([fun check_tls/1, fun set_limits/1, fun offer_calls/1, fun start_cluster/1,
                      fun start_consensus/1, fun start_operations/1, fun start_control_peers/1,
                      fun start_visitors/1, fun start_pools/1, fun start_reloaders/1,
                      fun start_access_log/1, fun start_listener/1],
                     Checked) of
        ok ->
            {ok, Server};
        {error, _} = Error ->
            %% Who has called is no less there for that.
            true = unlink(Server),
            begin_stop(),
            ok = stop_alone(),
            Error
    end.

%% Of a server whose supervisor was killed. They end by themselves, in order, and have their names
%% until then.
await_orphans() ->
    Parts = [Pid || Name <- [hornbeam_server, hornbeam_client_metrics,
                             hornbeam_distribution, hornbeam_joiner,
                             hornbeam_consensus_member, hornbeam_consensus_session,
                             hornbeam_operations_listener, hornbeam_dashboard_history,
                             hornbeam_control_peers, hornbeam_visitor_sup,
                             hornbeam_visitor_listener, hornbeam_access_log,
                             hornbeam_connection_limit, hornbeam_listener],
                    Pid <- [whereis(Name)], is_pid(Pid)],
    Keepers = [Pid || Name <- hornbeam_pool:all(), {ok, Pid} <- [hornbeam_pool:lookup(Name)]],
    Refs = [erlang:monitor(process, Pid) || Pid <- Parts ++ Keepers],
    lists:foreach(fun(Ref) -> receive {'DOWN', Ref, process, _, _} -> ok end end, Refs),
    hornbeam_server:forget_pools().

start_parts([], _Checked) ->
    ok;
start_parts([Start | Rest], Checked) ->
    case Start(Checked) of
        ok -> start_parts(Rest, Checked);
        {error, _} = Error -> Error
    end.

check_tls(#{server := Server}) ->
    hornbeam_tls:check(Server).

offer_calls(#{mounts := Mounts}) ->
    hornbeam_rpc:offer(lists:append([Allow || {_, #{rpc_allow := Allow}} <- Mounts])).

set_limits(#{server := Server}) ->
    #{peer_max_undelivered_bytes := Bytes} = Server,
    ok = hornbeam_link_queue:set_limits(Server),
    ok = hornbeam_pubsub_inbox:set_limit(Bytes),
    hornbeam_quota:set_limits(Server).

%% Before all that may use it, or shows the node's name.
start_cluster(#{server := #{cluster := undefined}}) ->
    hornbeam_links:set_cluster(hornbeam_links:default_cluster());
start_cluster(#{server := #{cluster := Cluster}}) ->
    case hornbeam_tls:load(maps:merge(?PROVEN, Cluster)) of
        {error, {tls, Sentence}} -> {error, {cluster, Sentence}};
        none -> start_cluster(Cluster, none);
        {ok, Identity} -> start_cluster(Cluster, Identity)
    end.

start_cluster(#{name := Name} = Cluster, Tls) ->
    ok = hornbeam_links:set_cluster(Name),
    start_parts([fun(_) -> start_part(#{id => hornbeam_distribution,
                                        start => {hornbeam_distribution, start_link,
                                                  [hornbeam_secret:hide(Cluster), Tls]}}) end,
                 fun(_) -> start_part(#{id => hornbeam_joiner,
                                        start => {hornbeam_joiner, start_link,
                                                  [maps:with([name, join, port], Cluster)]}}) end],
                Cluster).

start_consensus(#{server := #{cluster := #{data_dir := Folder, members := Members}}})
        when Folder =/= undefined ->
    Options = #{data_dir => Folder, members => Members},
    start_parts([fun hornbeam_consensus_member:start_ra/1,
                 fun(_) -> hornbeam_consensus:enable(true) end,
                 fun(_) -> start_part(#{id => hornbeam_consensus_session,
                                        start => {hornbeam_consensus_session, start_link, []}}) end,
                 fun(_) -> start_part(#{id => hornbeam_consensus_member,
                                        start => {hornbeam_consensus_member, start_link,
                                                  [Options]}}) end],
                Options);
start_consensus(_Checked) ->
    hornbeam_consensus:enable(false).

%% Before all that is to be seen by it.
start_operations(#{server := Server} = Checked) ->
    Address = hornbeam_operations:address(Server),
    hornbeam_api_counts:enable(Address =/= none),
    start_parts([fun start_metrics/1, fun start_dashboard/1,
                 fun(_) -> start_operations(Address, Checked) end], Checked).

start_metrics(#{server := #{metrics := Metrics}}) ->
    ok = hornbeam_app_metrics:enable(Metrics =/= false),
    start_metrics_of_workers(Metrics =/= false andalso hornbeam_metrics:start()).

start_metrics_of_workers(false) ->
    ok;
start_metrics_of_workers(ok) ->
    start_part(#{id => hornbeam_client_metrics,
                 start => {hornbeam_client_metrics, start_link, []}});
start_metrics_of_workers({error, _} = Error) ->
    Error.

start_dashboard(#{server := #{dashboard := false}}) ->
    ok;
start_dashboard(#{server := Server}) ->
    ok = hornbeam_dashboard:open(Server),
    start_part(#{id => hornbeam_dashboard_history,
                 start => {hornbeam_dashboard_history, start_link, []}}).

start_operations(none, _Checked) ->
    ok;
start_operations(Address, Checked) ->
    Start = [Address, hornbeam_operations:routes(Checked, control(Checked))],
    start_part(#{id => hornbeam_operations_listener,
                 start => {hornbeam_operations_listener, start_link, Start}}).

start_control_peers(Checked) ->
    start_part(#{id => hornbeam_control_peers,
                 start => {hornbeam_control_peers, start_link, [control(Checked)]}}).

%% What can be told to a server is ours, whom nobody calls by name.
control(Checked) ->
    #{node => hornbeam, options => hornbeam_secret:hide(Checked)}.

%% What the workers start finds the node by it, wherever it runs; unless they are told otherwise.
with_local_socket(#{server := #{local_socket := Where}, mounts := Mounts} = Checked) ->
    case hornbeam_local_socket:choose(Where) of
        {ok, Path} -> Checked#{local_socket => Path,
                               mounts := [{Name, with_variable(Path, App)}
                                          || {Name, App} <- Mounts]};
        none -> Checked#{local_socket => none}
    end.

with_variable(Path, #{env := Env} = App) ->
    Variables = #{<<"HORNBEAM_SOCKET">> => Path},
    App#{env := hornbeam_secret:hide(maps:merge(Variables, hornbeam_secret:show(Env)))}.

%% All that they need is there already.
start_visitors(#{local_socket := none}) ->
    ok;
start_visitors(#{local_socket := Path, mounts := Mounts} = Checked) ->
    Service = {hornbeam_control_conversation, control(Checked)},
    Start = #{api => hornbeam_api, apps => [App || {_Path, App} <- Mounts],
              services => #{<<"control">> => Service}},
    ok = start_part(#{id => hornbeam_visitor_sup,
                      start => {hornbeam_visitor_sup, start_link, [Start]}, type => supervisor}),
    start_part(#{id => hornbeam_visitor_listener,
                 start => {hornbeam_visitor_listener, start_link, [Path]}}).

%% All at once.
start_pools(#{mounts := Mounts} = Checked) ->
    lists:foreach(fun(Mount) -> start_pool(Mount, Checked) end, Mounts),
    await_pools(maps:from_list([{await_pool(Path), Path} || {Path, _Options} <- Mounts]), Checked).

await_pool(Path) ->
    {_, Ref} = spawn_monitor(erlang, apply, [fun end_when_ready/1, [Path]]),
    Ref.

-spec end_when_ready(hornbeam_pool:name()) -> no_return().
end_when_ready(Path) ->
    exit(hornbeam_pool:await_ready(Path)).

start_pool({Path, Options}, #{server := #{shutdown_timeout := Timeout}} = Checked) ->
    Start = #{name => Path, is_alone => is_alone(Checked), api => hornbeam_api,
              options => Options, stop_timeout => Timeout},
    Spec = #{id => {hornbeam_pool_sup, Path},
             start => {hornbeam_pool_sup, start_link, [Start]},
             type => supervisor},
    {ok, _} = supervisor:start_child(?SERVER, Spec).

is_alone(#{mounts := [{<<"/">>, _}]}) -> true;
is_alone(_Checked) -> false.

%% The first that fails speaks for all, whoever still starts. The process is the caller's, who may
%% have monitors of his own.
await_pools(Starting, _Checked) when map_size(Starting) =:= 0 ->
    ok;
await_pools(Starting, Checked) ->
    receive
        {'DOWN', Ref, process, _, Outcome} when is_map_key(Ref, Starting) ->
            {Path, Others} = maps:take(Ref, Starting),
            case in_mount(Outcome, Path, Checked) of
                ok ->
                    await_pools(Others, Checked);
                {error, _} = Error ->
                    _ = [erlang:demonitor(Left, [flush]) || Left <- maps:keys(Others)],
                    Error
            end
    end.

in_mount({error, Why}, Path, Checked) ->
    case is_alone(Checked) of
        true -> {error, Why};
        false -> {error, {mount, Path, Why}}
    end;
in_mount(ok, _Path, _Checked) ->
    ok.

start_reloaders(#{mounts := Mounts} = Checked) ->
    start_parts([fun(_) -> in_mount(start_reloader(Path, Options), Path, Checked) end
                 || {Path, #{reload := true} = Options} <- Mounts], Checked).

start_reloader(Path, Options) ->
    %% Temporary: a server without it is better than none.
    start_part(#{id => {hornbeam_reloader, Path},
                 start => {hornbeam_reloader, start_link, [Path, Options]},
                 restart => temporary}).

start_access_log(#{server := #{access_log := false}}) ->
    ok;
start_access_log(#{server := #{access_log_format := Format}}) ->
    start_part(#{id => hornbeam_access_log, start => {hornbeam_access_log, start_link, [Format]},
                 shutdown => 1000}).

start_listener(#{server := #{max_connections := Max} = Server} = Checked) ->
    #{shutdown_timeout := Timeout, drain_delay := Delay} = Server,
    Limit = hornbeam_connection_limit:new(Max),
    #{counters := Counters} = Mounts = hornbeam_mounts:new(Checked),
    ok = hornbeam_mounts:publish(Mounts),
    Pools = hornbeam_mounts:pools(Mounts),
    ok = start_part(#{id => hornbeam_connection_limit,
                      start => {hornbeam_connection_limit, start_link, [Pools, Counters]}}),
    start_part(#{id => hornbeam_listener,
                 start => {hornbeam_listener, start_link, [Mounts, Limit]},
                 shutdown => Delay + Timeout + 5000}).

start_part(Spec) ->
    case supervisor:start_child(?SERVER, Spec) of
        {ok, _} -> ok;
        {error, {{shutdown, Reason}, _Child}} -> {error, Reason};
        {error, Reason} -> {error, Reason}
    end.

%% @doc Begin to stop: returns when it is told at `health_path'.
-spec drain() -> ok | {error, not_serving}.
drain() ->
    case hornbeam_listener:begin_drain() of
        ok -> _ = spawn(fun stop_server/0), ok;
        {error, not_serving} = Error -> Error
    end.

%% @doc Stop what is served: the listener first, then the workers. Bounded by `drain_delay' and
%% `shutdown_timeout'. A start that is under way fails. A supervisor of the user's will start it
%% anew.
-spec stop_server() -> ok.
stop_server() ->
    stop_starting(whereis(hornbeam_listener)),
    ok = hornbeam_listener:drain(),
    alone(fun stop_alone/0).

%% @doc The same, and nothing is started any more as long as the calling process lives: it is that
%% of an application which stops.
-spec stop_for_good() -> ok.
stop_for_good() ->
    stop_starting(whereis(hornbeam_listener)),
    ok = hornbeam_listener:drain(),
    ok = lock(),
    stop_alone().

%% Who starts has the lock as long as an app imports, but gives up with its pool.
stop_starting(undefined) -> begin_stop();
stop_starting(_Listener) -> ok.

%% A supervisor waits for one child after the other: all workers begin to end before that. Of a
%% server that serves the listener sees to it.
begin_stop() ->
    lists:foreach(fun hornbeam_pool:begin_stop/1, hornbeam_pool:all()).

stop_alone() ->
    case supervisor:terminate_child(?MODULE, ?SERVER) of
        ok -> ok;
        {error, not_found} -> stop_elsewhere(whereis(?SERVER))
    end.

stop_elsewhere(undefined) -> ok;
stop_elsewhere(Server) -> gen_server:stop(Server, shutdown, infinity).

%% @doc Whether a supervisor of the user's has what is served.
-spec is_supervised() -> boolean().
is_supervised() ->
    whereis(?SERVER) =/= undefined
        andalso supervisor:get_childspec(?MODULE, ?SERVER) =:= {error, not_found}.

served() ->
    [App | _] = [App || Name <- hornbeam_pool:all(), {ok, App} <- [hornbeam_pool:app(Name)]],
    App.

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Flags = #{strategy => one_for_one, intensity => 10, period => 10,
              auto_shutdown => any_significant},
    Trees = [#{id => Tree, start => {Tree, start_link, []}, type => supervisor}
             || Tree <- [hornbeam_links_sup, hornbeam_api_sup]],
    {ok, {Flags, hornbeam_schedulers:child_specs() ++ Trees}}.
