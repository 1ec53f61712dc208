%% How many ops of one worker wait for their replies.
%%
%% An op may always be written, because it is bound by its own reply: here is the bound of them
%% all. It counts an op until its reply is in the pipe, so a Python that reads no replies is
%% bounded too. Shared by the worker's process and its writer. No process.
-module(hornbeam_worker_pending_ops).

-export([new/0, enter/1, answered/2]).
-export_type([ops/0]).

-opaque ops() :: atomics:atomics_ref().

%% Past this many an op is refused: each of them may be a process.
-define(MOST, 16384).
%% Past this many, refusals included, the worker is flooding the node.
-define(FLOOD, 65536).

%% @doc None.
-spec new() -> ops().
new() ->
    atomics:new(1, [{signed, true}]).

%% @doc One more; `full' when it is to be refused, which is a reply as well.
-spec enter(ops()) -> ok | full | flood.
enter(Ops) ->
    case atomics:add_get(Ops, 1, 1) of
        N when N =< ?MOST -> ok;
        N when N =< ?FLOOD -> full;
        _ -> flood
    end.

%% @doc So many replies are in the pipe.
-spec answered(non_neg_integer(), ops()) -> ok.
answered(Replies, Ops) ->
    atomics:sub(Ops, 1, Replies).
