%% A server: the pools of its apps, what belongs to them, and the listener. hornbeam_sup puts it
%% together.
%%
%%   hornbeam_server_sup           one_for_one; the order is that of start and, reversed, of stop
%%   ├── hornbeam_server           the server's own life
%%   ├── hornbeam_distribution     with the option cluster: the node's name
%%   ├── hornbeam_joiner           with it, too: keeps the node connected with others
%%   ├── hornbeam_client_metrics   with the option metrics: what prometheus_client has in workers
%%   ├── hornbeam_operations_listener  with the option metrics: for who operates the server
%%   ├── hornbeam_control_peers    what is asked of the server by those who operate other nodes
%%   ├── hornbeam_visitor_sup      with a local socket: those who have come by it
%%   ├── hornbeam_visitor_listener listens at it
%%   ├── hornbeam_pool_sup         for each app; called after its path
%%   │   ├── hornbeam_pool_dispatcher  gives places to those who wait for one
%%   │   └── hornbeam_pool_workers_sup the workers, and who keeps them alive
%%   ├── hornbeam_dashboard_history, with the option dashboard
%%   ├── hornbeam_reloader         for each app with the option reload
%%   ├── hornbeam_access_log       with the option access_log
%%   ├── hornbeam_connection_limit counts the connections
%%   └── hornbeam_listener         last, so that it opens when the house is ready and shuts first
%%
%% It stands below hornbeam_sup (hornbeam:start/2) or in a tree of the user's
%% (hornbeam:start_link/2), once in a node. When its restarts are used up it ends, and whoever has
%% started it sees that.
-module(hornbeam_server_sup).
-behaviour(supervisor).

-export([start_link/0]).
-export([init/1]).

-spec start_link() -> supervisor:startlink_ret().
start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Flags = #{strategy => one_for_one, intensity => 10, period => 10,
              auto_shutdown => any_significant},
    Server = #{id => hornbeam_server,
               start => {hornbeam_server, start_link, []},
               restart => transient,
               significant => true},
    {ok, {Flags, [Server]}}.
