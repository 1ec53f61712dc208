%% The process that writes to one worker's port.
%%
%% Everybody who has something for the worker sends it here; what waits in the mailbox is put
%% into one write. It may be suspended by a full pipe, which is why the process that routes the
%% worker's answers is another one. It is linked to that one and lives as long.
-module(hornbeam_worker_writer).

-include("../wire/hornbeam_wire.hrl").

-export([start_link/3, write/2, reply/2, messages/1]).
-export([init/3]).

%% One write carries at most this many messages, so that a long mailbox does not become one
%% enormous binary.
-define(BATCH, 1024).

%% @doc Start a writer for a port. It counts the ops that it has answered, and the messages of
%% WebSockets' clients that pass.
-spec start_link(port(), hornbeam_worker_ops:ops(), hornbeam_stream:counts()) -> pid().
start_link(Port, Ops, Counts) ->
    proc_lib:spawn_opt(?MODULE, init, [Port, Ops, Counts],
                       [link, {message_queue_data, off_heap}]).

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
-spec init(port(), hornbeam_worker_ops:ops(), hornbeam_stream:counts()) -> no_return().
init(Port, Ops, Counts) ->
    receive
        {write, Messages} -> write_all(drain([Messages], 0, ?BATCH), Port, Ops, Counts);
        {reply, Reply} -> write_all(drain([Reply], 1, ?BATCH), Port, Ops, Counts)
    end.

write_all({Messages, Replies}, Port, Ops, Counts) ->
    %% False means that the port is closed: the link or the port's owner tells us.
    _ = hornbeam_worker_port:write(Port, Messages),
    _ = [hornbeam_worker_ops:answered(Replies, Ops) || Replies > 0],
    hornbeam_stream:received(messages(Messages), Counts),
    init(Port, Ops, Counts).

drain(Messages, Replies, 0) ->
    {Messages, Replies};
drain(Messages, Replies, Left) ->
    receive
        {write, More} -> drain([Messages | More], Replies, Left - 1);
        {reply, Reply} -> drain([Messages | Reply], Replies + 1, Left - 1)
    after 0 ->
        {Messages, Replies}
    end.

%% @doc How many of these ops are messages of WebSockets' clients. An op is a list that begins
%% with its head, several are a list of those; what is inside an op is not looked at.
-spec messages(iodata()) -> non_neg_integer().
messages([<<2#1001:4, 3:4, Code, _/binary>> | _])
        when Code =:= ?RECEIVE_TEXT; Code =:= ?RECEIVE_BYTES ->
    1;
messages([Op | Ops]) when is_list(Op) ->
    messages(Op) + messages(Ops);
messages(_) ->
    0.
