%% One pool: who gives places to those who wait, the workers with who keeps them alive, and who has
%% sessions forgotten. A crash of one of them is nothing to the others.
-module(hornbeam_pool_sup).
-behaviour(supervisor).

-export([start_link/1]).
-export([init/1]).

-spec start_link(hornbeam_pool:start()) -> supervisor:startlink_ret().
start_link(Start) ->
    supervisor:start_link(?MODULE, Start).

%% @private
-spec init(hornbeam_pool:start()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Start) ->
    Dispatcher = #{id => hornbeam_pool_dispatcher,
                   start => {hornbeam_pool_dispatcher, start_link, [Start]}},
    Workers = #{id => hornbeam_pool_workers_sup,
                start => {hornbeam_pool_workers_sup, start_link, [Start]},
                type => supervisor},
    {ok, {#{strategy => one_for_one, intensity => 3, period => 10},
          [Dispatcher, Workers | hornbeam_pool_sweeper:child_specs(Start)]}}.
