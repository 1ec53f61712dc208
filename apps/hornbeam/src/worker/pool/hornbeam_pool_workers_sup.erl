%% The workers of one pool, and the process that keeps them alive. When that crashes the next one
%% adopts the workers; when the workers' supervisor has crashed, they with it, it starts others.
-module(hornbeam_pool_workers_sup).
-behaviour(supervisor).

-export([start_link/1]).
-export([init/1]).

-spec start_link(hornbeam_pool:start()) -> supervisor:startlink_ret().
start_link(Start) ->
    supervisor:start_link(?MODULE, Start).

%% @private
-spec init(hornbeam_pool:start()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(#{stop_timeout := Timeout} = Start) ->
    Workers = #{id => hornbeam_worker_sup,
                start => {hornbeam_worker_sup, start_link, []},
                type => supervisor},
    Keeper = #{id => hornbeam_pool_keeper,
               start => {hornbeam_pool_keeper, start_link, [self(), Start]},
               shutdown => Timeout + 5000},
    {ok, {#{strategy => rest_for_one, intensity => 3, period => 10}, [Workers, Keeper]}}.
