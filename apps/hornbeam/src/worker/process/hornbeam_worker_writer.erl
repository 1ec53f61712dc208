%% The process that writes to one worker's port.
%%
%% Everybody who has something for the worker sends it here; what waits in the mailbox is put
%% into one write. When that is much, streams take turns (hornbeam_fair_queue), so that one client
%% who sends much does not keep all others. It may be suspended by a full pipe, which is why the
%% process that routes the worker's answers is another one. It is linked to that one and lives as
%% long.
-module(hornbeam_worker_writer).

-include("../../wire/hornbeam_wire.hrl").

-export([start_link/3, write/2, message/2, reply/2]).
-export([init/3]).

-record(writer, {
    port :: port(),
    ops :: hornbeam_worker_pending_ops:ops(),
    counts :: hornbeam_capacity:counts(),
    %% empty but while more waits than one write takes
    waiting = hornbeam_fair_queue:new() :: hornbeam_fair_queue:queue()
}).

%% Messages that are taken out of the mailbox at once, and the bytes of one write (about), which are
%% what Python reads at once: of more than that, streams take turns.
-define(BATCH, 1024).
-define(CHUNK, 1048576).

%% @doc Start a writer for a port. It counts the ops that it has answered, and the messages of
%% WebSockets' clients that pass.
-spec start_link(port(), hornbeam_worker_pending_ops:ops(), hornbeam_capacity:counts()) -> pid().
start_link(Port, Ops, Counts) ->
    proc_lib:spawn_opt(?MODULE, init, [Port, Ops, Counts],
                       [link, {message_queue_data, off_heap}]).

%% @doc Put messages into the worker's pipe: those of one stream in the order of this caller's
%% calls. Never waits.
-spec write(pid(), iodata()) -> ok.
write(Writer, Messages) ->
    Writer ! {write, Messages},
    ok.

%% @doc The same for one message of a WebSocket's client, which is counted.
-spec message(pid(), iodata()) -> ok.
message(Writer, Message) ->
    Writer ! {message, Message},
    ok.

%% @doc The same for the reply to an op.
-spec reply(pid(), iodata()) -> ok.
reply(Writer, Reply) ->
    Writer ! {reply, Reply},
    ok.

%% @private
-spec init(port(), hornbeam_worker_pending_ops:ops(), hornbeam_capacity:counts()) -> no_return().
init(Port, Ops, Counts) ->
    loop(#writer{port = Port, ops = Ops, counts = Counts}).

loop(#writer{waiting = Waiting} = Writer) ->
    case hornbeam_fair_queue:is_empty(Waiting) of
        true ->
            receive
                {write, Messages} -> write_all(drain([Messages], 0, 0, ?BATCH), Writer);
                {message, Message} -> write_all(drain([Message], 1, 0, ?BATCH), Writer);
                {reply, Reply} -> write_all(drain([Reply], 0, 1, ?BATCH), Writer)
            end;
        false ->
            write_all(drain([], 0, 0, ?BATCH), Writer)
    end.

%% What waits, the newest first, how many messages of clients and how many replies are in it.
drain(Messages, OfClients, Replies, 0) ->
    {Messages, OfClients, Replies};
drain(Messages, OfClients, Replies, Left) ->
    receive
        {write, More} -> drain([More | Messages], OfClients, Replies, Left - 1);
        {message, Message} -> drain([Message | Messages], OfClients + 1, Replies, Left - 1);
        {reply, Reply} -> drain([Reply | Messages], OfClients, Replies + 1, Left - 1)
    after 0 ->
        {Messages, OfClients, Replies}
    end.

write_all({Newest, OfClients, Replies}, #writer{counts = Counts, ops = Ops} = Writer0) ->
    Writer = write_some(lists:reverse(Newest), Writer0),
    _ = [hornbeam_worker_pending_ops:answered(Replies, Ops) || Replies > 0],
    hornbeam_capacity:received(OfClients, Counts),
    loop(Writer).

write_some(Messages, #writer{port = Port, waiting = Waiting0} = Writer) ->
    case hornbeam_fair_queue:is_empty(Waiting0) andalso iolist_size(Messages) =< ?CHUNK of
        true ->
            to_port(Port, Messages),
            Writer;
        false ->
            {First, Waiting1} = sorted(Messages, Waiting0),
            {Next, Waiting} = hornbeam_fair_queue:take(?CHUNK, Waiting1),
            to_port(Port, [First | Next]),
            Writer#writer{waiting = Waiting}
    end.

%% False means that the port is closed: the link or the port's owner tells us.
to_port(Port, Messages) ->
    _ = hornbeam_worker_port:write(Port, Messages),
    ok.

sorted(Messages, Waiting) ->
    {First, Left} = lists:foldl(fun sort/2, {[], Waiting}, Messages),
    {lists:reverse(First), Left}.

sort([Head | _] = Op, Sorted) when is_binary(Head) ->
    sort(hornbeam_packet:head(Head), Op, Sorted);
sort(Op, Sorted) when is_binary(Op) ->
    sort(hornbeam_packet:head(Op), Op, Sorted);
sort([Op | Ops], Sorted) ->
    sort(Ops, sort(Op, Sorted));
sort([], Sorted) ->
    Sorted.

%% Somebody waits for a reply. What is published comes after the stream that is to have it.
sort({Code, _Stream}, Op, {First, Waiting}) when Code =:= ?REPLY; Code =:= ?REOPEN_WEBSOCKET ->
    {[Op | First], Waiting};
sort({_Code, Stream}, Op, {First, Waiting}) ->
    {First, hornbeam_fair_queue:put(Stream, Op, Waiting)}.
