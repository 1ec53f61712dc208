%% The visitors of a server: each comes by its local socket and ends with its connection.
-module(hornbeam_visitor_sup).
-behaviour(supervisor).

-export([start_link/1, start_visitor/0, count/0]).
-export([init/1]).

-spec start_link(hornbeam_visitor:start()) -> supervisor:startlink_ret().
start_link(Start) ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, Start).

%% @doc A process for one that has come; its socket is to be given to it.
-spec start_visitor() -> pid().
start_visitor() ->
    {ok, Visitor} = supervisor:start_child(?MODULE, []),
    Visitor.

%% @doc How many there are.
-spec count() -> non_neg_integer().
count() ->
    proplists:get_value(active, supervisor:count_children(?MODULE)).

%% @private
-spec init(hornbeam_visitor:start()) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init(Start) ->
    Visitor = #{id => hornbeam_visitor, start => {hornbeam_visitor, start_link, [Start]},
                restart => temporary, shutdown => 1000},
    {ok, {#{strategy => simple_one_for_one}, [Visitor]}}.
