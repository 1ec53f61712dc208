%% What a worker, or a visitor, asks of whoever answers its ops.
%%
%% The worker room knows this behaviour only; which module answers is given to it at its start.
-module(hornbeam_worker_api).

-export_type([context/0, answer/0]).

-type context() :: #{
    stream := non_neg_integer(),
    ref := non_neg_integer(),
    tell => {Op :: non_neg_integer(), hornbeam_worker_tells:tells()},
    client := hornbeam_worker_ops:client(),
    process := pid(),
    handle := hornbeam_capacity:handle() | none,
    writer := pid(),
    unread := hornbeam_worker_unread:unread(),
    turns := pid(),
    events := hornbeam_worker_events:events(),
    is_crowded := boolean(),
    options := hornbeam_config:app_options()
}.
%% Who asks: the stream (0: none), and the number that its reply must carry. `client' is the
%% process that lives as long as the client's side of the stream: `open' when frames sent to it go
%% to the client, `asked' before a WebSocket is accepted and for HTTP; `requested' before a response
%% has begun, `streaming' when it is one of events, and `closed_stream' if nobody but the app can
%% add to that; `gone' when the client is; `worker' for stream 0, which is `process' itself, of a
%% worker or a visitor. `handle' is by what others find the worker; a visitor, whom nobody calls,
%% has none. `writer' is its writer, for replies that come later; each op has one, and its bytes
%% count in `unread'. `turns': for what makes long ones. `is_crowded': too many ops of this worker
%% wait for theirs; this one is to be refused. With `tell' nobody waits for a reply: a failure is
%% told with the numbers of both (`tell_failed'), and the op counts in those tells until it is done.

-type answer() :: {reply, Status :: non_neg_integer(), Packed :: iodata()} | noreply.
%% Status and value as docs/wire.md lists them; `noreply' promises that the reply will be written
%% by another process.

%% Answer one op. `Args' is a packed array. Runs in the process that routes the worker's
%% messages, so it must be quick; it must not fail on any input.
-callback handle_op(Op :: non_neg_integer(), Args :: binary(), context()) -> answer().

%% Whether a worker that has not read so many bytes of calls may be sent one more.
-callback may_call(Unread :: non_neg_integer()) -> boolean().

%% Whether an op neither causes a message nor hears of one, so that its place among them does not
%% matter, nor that of its reply. Any number may be asked about.
-callback is_apart_from_messages(Op :: non_neg_integer()) -> boolean().

%% A client goes on with this worker: what it had with the one before is this one's now. The
%% topics of which it wants to hear in the app. Runs in the client's process.
-callback adopt(Client :: pid(), Worker :: pid(), hornbeam_worker_events:events()) ->
    Topics :: [binary()].

%% A worker stops: what it is called for from now on is not done. Runs in the worker's process.
-callback stopping(Worker :: pid()) -> ok.
