%% Turns for what makes long replies to one worker's ops: one process after the other.
%%
%% Whoever has the turn has it until it ends and what it has said to the writer is in the pipe. So
%% of all the long replies of a worker that reads slowly, or not at all, one is made and the others
%% wait to be. Linked to the worker's process, and lives as long.
-module(hornbeam_worker_turns).

-export([start_link/1, await/1]).
-export([init/1]).

%% @doc Start to give turns, in front of a writer.
-spec start_link(Writer :: pid()) -> pid().
start_link(Writer) ->
    proc_lib:spawn_link(?MODULE, init, [Writer]).

%% @doc Wait for the turn; it is the calling process's until that ends. When the worker has ended,
%% the caller does, since nobody wants its reply.
-spec await(Turns :: pid()) -> ok.
await(Turns) ->
    Ref = erlang:monitor(process, Turns),
    Turns ! {await, self(), Ref},
    receive
        {Ref, yours} -> true = erlang:demonitor(Ref, [flush]), ok;
        {'DOWN', Ref, process, _, _} -> exit({shutdown, worker_down})
    end.

%% @private
-spec init(Writer :: pid()) -> no_return().
init(Writer) ->
    receive
        {await, Pid, Tag} ->
            Ref = erlang:monitor(process, Pid),
            Pid ! {Tag, yours},
            receive {'DOWN', Ref, process, _, _} -> ok end,
            hornbeam_worker_writer:await_written(Writer)
    end,
    init(Writer).
