%% The process that writes to one worker's port.
%%
%% Everybody who has something for the worker sends it here; what waits in the mailbox is put
%% into one write. It may be suspended by a full pipe, which is why the process that routes the
%% worker's answers is another one. It is linked to that one and lives as long.
-module(hornbeam_worker_writer).

-export([start_link/2, write/2, reply/2]).
-export([init/2]).

%% One write carries at most this many messages, so that a long mailbox does not become one
%% enormous binary.
-define(BATCH, 1024).

%% @doc Start a writer for a port, which counts the ops that it has answered.
-spec start_link(port(), hornbeam_worker_ops:ops()) -> pid().
start_link(Port, Ops) ->
    proc_lib:spawn_opt(?MODULE, init, [Port, Ops], [link, {message_queue_data, off_heap}]).

%% @doc Put messages into the worker's pipe, in the order of this caller's calls. Never waits.
-spec write(pid(), iodata()) -> ok.
write(Writer, Messages) ->
    Writer ! {write, Messages},
    ok.

%% @doc The same for the reply to an op.
-spec reply(pid(), iodata()) -> ok.
reply(Writer, Reply) ->
    Writer ! {reply, Reply},
    ok.

%% @private
-spec init(port(), hornbeam_worker_ops:ops()) -> no_return().
init(Port, Ops) ->
    receive
        {write, Messages} -> write_all(drain(Messages, 0, ?BATCH), Port, Ops);
        {reply, Reply} -> write_all(drain(Reply, 1, ?BATCH), Port, Ops)
    end.

write_all({Messages, Replies}, Port, Ops) ->
    %% False means that the port is closed: the link or the port's owner tells us.
    _ = hornbeam_worker_port:write(Port, Messages),
    _ = [hornbeam_worker_ops:answered(Replies, Ops) || Replies > 0],
    init(Port, Ops).

drain(Messages, Replies, 0) ->
    {Messages, Replies};
drain(Messages, Replies, Left) ->
    receive
        {write, More} -> drain([Messages | More], Replies, Left - 1);
        {reply, Reply} -> drain([Messages | Reply], Replies + 1, Left - 1)
    after 0 ->
        {Messages, Replies}
    end.
