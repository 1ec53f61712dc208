%% Supervises a pool for each app that is served.
-module(hornbeam_pools_sup).
-behaviour(supervisor).

-export([start_link/0, start_pool/3, stop_pool/1]).
-export([init/1]).

-spec start_link() -> {ok, pid()}.
start_link() ->
    {ok, Pid} = supervisor:start_link({local, ?MODULE}, ?MODULE, []),
    {ok, Pid}.

%% @doc Start a pool whose workers' ops are answered by module `Api'.
-spec start_pool(hornbeam_pool:name(), module(), hornbeam_config:options()) ->
    {ok, pid()} | {error, term()}.
start_pool(Name, Api, Options) ->
    Spec = #{id => Name,
             start => {hornbeam_pool_sup, start_link, [Name, Api, Options]},
             type => supervisor},
    case supervisor:start_child(?MODULE, Spec) of
        {ok, Pid} when is_pid(Pid) -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% @doc Drain and end a pool; nothing when there is none.
-spec stop_pool(hornbeam_pool:name()) -> ok.
stop_pool(Name) ->
    case supervisor:terminate_child(?MODULE, Name) of
        ok -> supervisor:delete_child(?MODULE, Name);
        {error, not_found} -> ok
    end.

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), []}}.
init([]) ->
    {ok, {#{strategy => one_for_one, intensity => 10, period => 10}, []}}.
