%% The process that writes to one Python process: to a worker's port, or to a visitor's socket.
%%
%% Everybody who has something for it sends it here; what waits in the mailbox is put
%% into one write. When that is much, streams take turns (hornbeam_fair_queue), so that one client
%% who sends much does not keep all others. It may be suspended by a full pipe, which is why the
%% process that routes the worker's answers is another one. It is linked to that one and lives as
%% long.
-module(hornbeam_worker_writer).

-include("../../wire/hornbeam_wire.hrl").

-export([start_link/4, write/2, message/2, reply/3, counted_reply/2, call/3, await_written/1]).
-export([event_bytes/1, counted_event/2]).
-export([init/4]).
-export_type([to/0]).

-type to() :: {pipe, port()} | {socket, socket:socket()}.

-record(writer, {
    to :: to(),
    ops :: hornbeam_worker_pending_ops:ops(),
    unread :: hornbeam_worker_unread:unread(),
    counts :: hornbeam_capacity:counts(),
    %% empty but while more waits than one write takes
    waiting = hornbeam_fair_queue:new() :: hornbeam_fair_queue:queue()
}).

%% What was in the mailbox.
-record(batch, {
    %% the newest first
    messages = [] :: [iodata()],
    of_clients = 0 :: non_neg_integer(),
    replies = 0 :: non_neg_integer(),
    reply_bytes = 0 :: non_neg_integer(),
    call_bytes = 0 :: non_neg_integer(),
    event_bytes = 0 :: non_neg_integer(),
    %% who waits for all that was said before
    told = [] :: [{pid(), reference()}]
}).

%% Messages that are taken out of the mailbox at once, and the bytes of one write (about), which are
%% what Python reads at once: of more than that, streams take turns.
-define(BATCH, 1024).
-define(CHUNK, 1048576).

%% Calls below so many bytes are copied.
-define(SHORT, 65536).

%% What a call or an event costs beside its bytes (about).
-define(COST, 200).

%% @doc Start a writer. It counts the ops that it has answered, and the messages of
%% WebSockets' clients that pass, and the bytes of replies, calls and events.
-spec start_link(to(), hornbeam_worker_pending_ops:ops(), hornbeam_worker_unread:unread(),
                 hornbeam_capacity:counts()) -> pid().
start_link(To, Ops, Unread, Counts) ->
    proc_lib:spawn_opt(?MODULE, init, [To, Ops, Unread, Counts],
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

%% @doc The same for the reply to an op, whose bytes are counted. It is made one binary: as a list
%% of short ones it would take many times its bytes.
-spec reply(pid(), hornbeam_worker_unread:unread(), iodata()) -> ok.
reply(Writer, Unread, Reply) ->
    Bytes = iolist_to_binary(Reply),
    _ = hornbeam_worker_unread:add(replies, byte_size(Bytes), Unread),
    counted_reply(Writer, Bytes).

%% @doc The same for one whose bytes the caller has counted.
-spec counted_reply(pid(), binary()) -> ok.
counted_reply(Writer, Reply) ->
    Writer ! {reply, Reply},
    ok.

%% @doc The same for a call, whose bytes are counted. A short one is made one binary: it may be a
%% part of much that was read.
-spec call(pid(), hornbeam_worker_unread:unread(), iodata()) -> ok.
call(Writer, Unread, Call) ->
    Size = iolist_size(Call),
    _ = hornbeam_worker_unread:add(calls, Size + ?COST, Unread),
    Writer ! {call, whole(Size, Call), Size + ?COST},
    ok.

whole(Size, Call) when Size < ?SHORT -> iolist_to_binary(Call);
whole(_Size, Call) -> Call.

%% @doc What an event counts.
-spec event_bytes(Event :: binary()) -> pos_integer().
event_bytes(Event) ->
    byte_size(Event) + ?COST.

%% @doc The same for an event whose bytes ({@link event_bytes/1}) the caller has counted.
-spec counted_event(pid(), Event :: binary()) -> ok.
counted_event(Writer, Event) ->
    Writer ! {event, Event},
    ok.

%% @doc Wait until what the caller, and whoever has ended before, has said is in the pipe.
-spec await_written(pid()) -> ok.
await_written(Writer) ->
    Ref = erlang:monitor(process, Writer),
    Writer ! {tell, self(), Ref},
    receive
        {Ref, written} -> true = erlang:demonitor(Ref, [flush]), ok;
        {'DOWN', Ref, process, _, _} -> ok
    end.

%% @private
-spec init(to(), hornbeam_worker_pending_ops:ops(), hornbeam_worker_unread:unread(),
           hornbeam_capacity:counts()) -> no_return().
init(To, Ops, Unread, Counts) ->
    loop(#writer{to = To, ops = Ops, unread = Unread, counts = Counts}).

loop(#writer{waiting = Waiting} = Writer) ->
    case hornbeam_fair_queue:is_empty(Waiting) of
        true -> write_all(receive Said -> drain(added(Said, #batch{}), ?BATCH) end, Writer);
        false -> write_all(drain(#batch{}, ?BATCH), Writer)
    end.

drain(Batch, 0) ->
    Batch;
drain(Batch, Left) ->
    receive
        Said -> drain(added(Said, Batch), Left - 1)
    after 0 ->
        Batch
    end.

added({write, Said}, #batch{messages = Messages} = Batch) ->
    Batch#batch{messages = [Said | Messages]};
added({message, Said}, #batch{messages = Messages, of_clients = OfClients} = Batch) ->
    Batch#batch{messages = [Said | Messages], of_clients = OfClients + 1};
added({reply, Reply}, #batch{replies = Replies, reply_bytes = Bytes} = Batch) ->
    Batch#batch{messages = [Reply | Batch#batch.messages], replies = Replies + 1,
                reply_bytes = Bytes + byte_size(Reply)};
added({call, Call, Size}, #batch{messages = Messages, call_bytes = Bytes} = Batch) ->
    Batch#batch{messages = [Call | Messages], call_bytes = Bytes + Size};
added({event, Event}, #batch{messages = Messages, event_bytes = Bytes} = Batch) ->
    Batch#batch{messages = [Event | Messages], event_bytes = Bytes + event_bytes(Event)};
added({tell, Pid, Ref}, #batch{told = Told} = Batch) ->
    Batch#batch{told = [{Pid, Ref} | Told]};
added(_Stray, Batch) ->
    Batch.

write_all(#batch{of_clients = OfClients, replies = Replies} = Batch, Writer0) ->
    #writer{counts = Counts, ops = Ops, unread = Unread} = Writer = write_some(Batch, Writer0),
    _ = [hornbeam_worker_pending_ops:answered(Replies, Ops) || Replies > 0],
    hornbeam_worker_unread:written(replies, Batch#batch.reply_bytes, Unread),
    hornbeam_capacity:received(OfClients, Counts),
    _ = [Pid ! {Ref, written} || {Pid, Ref} <- Batch#batch.told],
    loop(Writer).

write_some(#batch{messages = Newest} = Batch, #writer{waiting = Waiting0} = Writer) ->
    Messages = lists:reverse(Newest),
    case hornbeam_fair_queue:is_empty(Waiting0) andalso iolist_size(Messages) =< ?CHUNK of
        true ->
            send(Messages, Writer),
            written(Batch#batch.call_bytes, Batch#batch.event_bytes, Writer);
        false ->
            {First, Waiting1} = sorted(Messages, Waiting0),
            in_pieces(First, [], 0, Writer),
            {Next, Waiting} = hornbeam_fair_queue:take(?CHUNK, Waiting1),
            send(Next, Writer),
            written(bytes(?CALL, Next), bytes(?EVENT, Next), Writer#writer{waiting = Waiting})
    end.

written(Calls, Events, #writer{unread = Unread} = Writer) ->
    hornbeam_worker_unread:written(calls, Calls, Unread),
    hornbeam_worker_unread:written(events, Events, Unread),
    Writer.

%% It takes all that it is given, however much that is.
in_pieces([Message | Left], Piece, Size, Writer) when Size < ?CHUNK ->
    in_pieces(Left, [Message | Piece], Size + iolist_size(Message), Writer);
in_pieces([], [], _Size, _Writer) ->
    ok;
in_pieces(Left, Piece, _Size, Writer) ->
    send(lists:reverse(Piece), Writer),
    in_pieces(Left, [], 0, Writer).

%% What fails is closed: the link or the owner of the other end tells us.
send(Messages, #writer{to = {pipe, Port}}) ->
    _ = hornbeam_worker_port:write(Port, Messages),
    ok;
send(Messages, #writer{to = {socket, Socket}}) ->
    _ = socket:send(Socket, Messages),
    ok.

sorted(Messages, Waiting) ->
    {First, Left} = lists:foldl(fun sort/2, {[], Waiting}, Messages),
    {lists:reverse(First), Left}.

sort([Head | _] = Op, Sorted) when is_binary(Head) ->
    sort(head(Op), Op, Sorted);
sort(Op, Sorted) when is_binary(Op) ->
    sort(head(Op), Op, Sorted);
sort([Op | Ops], Sorted) ->
    sort(Ops, sort(Op, Sorted));
sort([], Sorted) ->
    Sorted.

bytes(Code, Ops) ->
    lists:sum([iolist_size(Op) + ?COST || Op <- Ops, {Of, _} <- [head(Op)], Of =:= Code]).

head([Head | _]) when is_binary(Head) -> hornbeam_packet:head(Head);
head(Op) when is_binary(Op) -> hornbeam_packet:head(Op).

%% Somebody waits for a reply. What is published comes after the stream that is to have it.
sort({Code, _Stream}, Op, {First, Waiting}) when Code =:= ?REPLY; Code =:= ?REOPEN_WEBSOCKET ->
    {[Op | First], Waiting};
sort({_Code, Stream}, Op, {First, Waiting}) ->
    {First, hornbeam_fair_queue:put(Stream, Op, Waiting)}.
