%% Supervises the workers of one pool. They are temporary: when and how fast a worker is
%% replaced is the pool's decision, not a restart intensity's.
-module(hornbeam_worker_sup).
-behaviour(supervisor).

-export([start_link/0, start_worker/2, workers/1, stop_workers/2]).
-export([init/1]).

%% Past its time to stop (ms) a worker has been killed and is only waited for.
-define(STOP_SLACK, 2000).

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

%% @doc Have all of these end what they run, and wait for their ends, `Timeout' milliseconds and
%% little more.
-spec stop_workers([pid()], Timeout :: pos_integer()) -> ok.
stop_workers(Pids, Timeout) ->
    Refs = [erlang:monitor(process, Pid) || Pid <- Pids],
    lists:foreach(fun(Pid) -> hornbeam_worker:stop(Pid, Timeout) end, Pids),
    await_all(Refs, now_ms() + Timeout + ?STOP_SLACK).

await_all([], _Deadline) ->
    ok;
await_all([Ref | Refs], Deadline) ->
    receive
        {'DOWN', Ref, process, _, _} -> await_all(Refs, Deadline)
    after max(0, Deadline - now_ms()) ->
        ok
    end.

now_ms() -> erlang:monotonic_time(millisecond).

%% @private
-spec init([]) -> {ok, {supervisor:sup_flags(), [supervisor:child_spec()]}}.
init([]) ->
    Worker = #{id => hornbeam_worker,
               start => {hornbeam_worker, start_link, []},
               restart => temporary},
    {ok, {#{strategy => simple_one_for_one}, [Worker]}}.
