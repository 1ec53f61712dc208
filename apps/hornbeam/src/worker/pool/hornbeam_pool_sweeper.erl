%% Has the bindings of a pool forgotten that nobody uses any more (hornbeam_pool_affinity). Only
%% pools with affinity have one.
-module(hornbeam_pool_sweeper).
-behaviour(gen_server).

-export([child_specs/1, start_link/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-record(sweeper, {
    pool :: hornbeam_pool:name(),
    timeout :: pos_integer()
}).

%% So often in the time of a session (ms), and not less often than that.
-define(OFTEN, 4).
-define(PAUSE, 60000).

%% @doc What a pool's supervisor has of it.
-spec child_specs(hornbeam_pool:start()) -> [supervisor:child_spec()].
child_specs(#{options := #{affinity := none}}) ->
    [];
child_specs(#{name := Name, options := #{affinity_timeout := Timeout}}) ->
    [#{id => ?MODULE, start => {?MODULE, start_link, [Name, Timeout]}}].

-spec start_link(hornbeam_pool:name(), Timeout :: pos_integer()) -> gen_server:start_ret().
start_link(Name, Timeout) ->
    gen_server:start_link(?MODULE, #sweeper{pool = Name, timeout = Timeout}, []).

%% @private
-spec init(#sweeper{}) -> {ok, #sweeper{}}.
init(Sweeper) ->
    {ok, later(Sweeper)}.

later(#sweeper{timeout = Timeout} = Sweeper) ->
    _ = erlang:send_after(min(max(1, Timeout div ?OFTEN), ?PAUSE), self(), sweep),
    Sweeper.

%% @private
-spec handle_call(term(), gen_server:from(), #sweeper{}) -> no_return().
handle_call(Unknown, _From, _Sweeper) ->
    error({no_such_call, Unknown}).

%% @private
-spec handle_cast(term(), #sweeper{}) -> {noreply, #sweeper{}}.
handle_cast(_Unknown, Sweeper) ->
    {noreply, Sweeper}.

%% @private
-spec handle_info(term(), #sweeper{}) -> {noreply, #sweeper{}}.
handle_info(sweep, #sweeper{pool = Pool, timeout = Timeout} = Sweeper) ->
    hornbeam_pool_affinity:sweep(Pool, Timeout),
    {noreply, later(Sweeper)};
handle_info(_Stray, Sweeper) ->
    {noreply, Sweeper}.
