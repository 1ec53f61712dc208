%% Supervises the workers of one pool. They are temporary: when and how fast a worker is
%% replaced is the pool's decision, not a restart intensity's.
-module(hornbeam_worker_sup).
-behaviour(supervisor).

-export([start_link/0, start_worker/2, workers/1]).
-export([init/1]).

-spec start_link() -> {ok, pid()}.
start_link() ->
    {ok, Pid} = supervisor:start_link(?MODULE, []),
    {ok, Pid}.

%% @doc Start one worker.
-spec start_worker(pid(), hornbeam_worker:start()) -> {ok, pid()} | {error, term()}.
start_worker(Sup, Start) ->
    case supervisor:start_child(Sup, [Start]) of
        {ok, Pid} when is_pid(Pid) -> {ok, Pid};
        {error, Reason} -> {error, Reason}
    end.

%% @doc All workers that live.
-spec workers(pid()) -> [pid()].
workers(Sup) ->
    [Pid || {_, Pid, _, _} <- supervisor:which_children(Sup), is_pid(Pid)].

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Worker = #{id => hornbeam_worker,
               start => {hornbeam_worker, start_link, []},
               restart => temporary},
    {ok, {#{strategy => simple_one_for_one}, [Worker]}}.
