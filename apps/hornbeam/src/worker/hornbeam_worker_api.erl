%% What a worker asks of whoever answers its app's ops.
%%
%% The worker room knows this behaviour only; which module answers is given to it at its start.
-module(hornbeam_worker_api).

-export_type([context/0, answer/0]).

-type context() :: #{stream := non_neg_integer(), ref := non_neg_integer()}.
%% Which stream of the worker asks (0: none), and the number its reply must carry.

-type answer() :: {reply, Status :: non_neg_integer(), Packed :: iodata()}.
%% Status and value as docs/wire.md lists them.

%% Answer one op. `Args' is a packed array. Runs in the process that routes the worker's
%% messages, so it must be quick; it must not fail on any input.
-callback handle_op(Op :: non_neg_integer(), Args :: binary(), context()) -> answer().
