%% A conversation with an app, as its owner in the web room holds it.
%%
%% The owner opens it on a worker, gets its packets as `{stream, Number, Packet}', writes its
%% ops, and may give it to another process. What it tells the worker stands in
%% hornbeam_worker_protocol.
-module(hornbeam_stream).

-export([open/3, open/4, open_tagged/4, reopen/2, move/1, flush/1]).
-export([hand_over/2, bind/1, take_over/2, closed/1, abandon/1, violated/3]).
-export([write/2, write_message/2, number/1, worker_of/1, monitor/1]).
-export([window/0, is_within_window/1, is_due/2, credit/3, credit_received/1]).
-export([send/2, process/1]).
-export_type([stream/0, kind/0, owner/0]).

-record(stream, {
    worker :: pid(),
    writer :: pid(),
    number :: pos_integer(),
    account :: hornbeam_stream_credit:account()
}).
-opaque stream() :: #stream{}.

-type kind() :: http | websocket.

-type owner() :: pid() | {pid(), Tag :: term()}.
%% Who gets what is said on a stream: a process, or one of several owners in a process, told apart
%% by their tags (an exchange of a connection). A tagged owner gets each message as
%% `{Owner, Message}', as {@link send/2} sends it, and hears of the worker's end by
%% `{worker_down, Number}' (hornbeam_stream_owners).

%% @doc Open a stream that the calling process owns; `Op' makes the opening op from its number.
%%
%% The op goes through the worker, not straight to the writer, so that the owner is known
%% before Python can answer.
-spec open(hornbeam_capacity:handle(), kind(), fun((pos_integer()) -> iodata())) -> stream().
open(Handle, Kind, Op) ->
    open(Handle, Kind, self(), Op).

%% @doc The same for a client that another process stands for: what the app binds to the
%% connection lives as long as that process.
-spec open(hornbeam_capacity:handle(), kind(), Client :: pid(), fun((pos_integer()) -> iodata())) ->
    stream().
open(Handle, Kind, Client, Op) ->
    #stream{worker = Worker, number = Number, account = Account} = Stream = new(Handle),
    hornbeam_worker_protocol:open(Worker, hornbeam_capacity:place(Handle), Kind, Number, Client,
                                  Account, Op(Number)),
    Stream.

new(Handle) ->
    {Worker, Writer, Number} = hornbeam_capacity:next_stream(Handle),
    #stream{worker = Worker, writer = Writer, number = Number,
            account = hornbeam_stream_credit:new()}.

%% @doc Open a stream at a place, for a tagged owner in the calling process.
%% No process stands for its client; the worker makes one when the app asks for it.
-spec open_tagged(hornbeam_capacity:handle(), kind(), owner(), fun((pos_integer()) -> iodata())) ->
    stream().
open_tagged(Handle, Kind, Owner, Op) ->
    _ = hornbeam_capacity:claim(Handle),
    #stream{worker = Worker, number = Number, account = Account} = Stream = new(Handle),
    %% It waits in the writer's mailbox: one binary is cheaper to copy than its many parts.
    Opening = iolist_to_binary(Op(Number)),
    IsEntered = hornbeam_stream_owners:enter(Number, Kind, Owner, Account,
                                            hornbeam_capacity:tagged_owners(Handle))
        andalso is_process_alive(Worker),
    opened(IsEntered, Opening, Owner, Stream).

opened(true, Opening, _Owner, Stream) ->
    write(Stream, Opening),
    Stream;
opened(false, _Opening, Owner, #stream{number = Number} = Stream) ->
    hornbeam_worker_protocol:down(Owner, Number),
    Stream.

%% @doc Open a stream for a WebSocket of the calling process that had another worker. `Op' makes
%% the opening op from its number and the topics that came with the client.
-spec reopen(hornbeam_capacity:handle(),
             fun((pos_integer(), Topics :: [binary()]) -> iodata())) -> stream().
reopen(Handle, Op) ->
    {Api, Events} = hornbeam_capacity:adoption(Handle),
    Topics = Api:adopt(self(), hornbeam_capacity:worker(Handle), Events),
    open(Handle, websocket, fun(Number) -> Op(Number, Topics) end).

%% @doc Take a stream away from a worker that lives; its owner hears when that is done.
-spec move(stream()) -> ok.
move(#stream{number = Number} = Stream) ->
    write(Stream, hornbeam_wire:move(Number)).

%% @doc Have the owner told when the app has taken all that was written and asks for more; that is
%% told once in the life of a stream.
-spec flush(stream()) -> ok.
flush(#stream{number = Number} = Stream) ->
    write(Stream, hornbeam_wire:flush(Number)).

%% @doc Give a stream to another owner, and return the packets that came before it was given. What
%% Python says then waits until that one calls {@link bind/1} or {@link take_over/2}; if the calling
%% process dies before, the stream is abandoned.
-spec hand_over(stream(), owner()) -> [Packet :: binary()].
hand_over(#stream{worker = Worker, number = Number} = Stream, Owner) ->
    Monitor = monitor(Stream),
    hornbeam_worker_protocol:hand_over(Worker, Number, Owner),
    Packets = handed_over(Number, Monitor),
    true = erlang:demonitor(Monitor, [flush]),
    Packets.

handed_over(Number, Monitor) ->
    receive
        {stream, Number, Packet} -> [Packet | handed_over(Number, Monitor)];
        {handed_over, Number} -> [];
        {'DOWN', Monitor, process, _, _} -> []
    end.

%% @doc Take a stream that was handed over to the calling process, and tell the app that its
%% accept is done. This process says so itself, or its next ops could overtake it.
-spec bind(stream()) -> ok.
bind(#stream{worker = Worker, number = Number} = Stream) ->
    hornbeam_worker_protocol:bind(Worker, Number),
    write(Stream, hornbeam_wire:accepted(Number)).

%% @doc Take a stream that was handed over to `Owner', a tagged owner in the calling process.
-spec take_over(stream(), owner()) -> ok.
take_over(#stream{worker = Worker, number = Number}, Owner) ->
    hornbeam_worker_protocol:take_over(Worker, Number, Owner),
    %% If it was told of the worker's end it did not know yet that this is its worker.
    _ = [hornbeam_worker_protocol:down(Owner, Number) || not is_process_alive(Worker)],
    ok.

%% @doc Say that the owner has no use for the stream any more, as its death would say: the app
%% hears of it if it still runs.
-spec abandon(stream()) -> ok.
abandon(#stream{worker = Worker, number = Number}) ->
    hornbeam_worker_protocol:abandon(Worker, Number).

%% @doc Say that the owner has written the stream's `disconnect' itself.
-spec closed(stream()) -> ok.
closed(#stream{worker = Worker, number = Number}) ->
    hornbeam_worker_protocol:closed(Worker, Number).

%% @doc Say that Python sent this stream something that makes no sense: the worker ends.
-spec violated(stream(), Reason :: term(), Packet :: binary()) -> ok.
violated(#stream{worker = Worker}, Reason, Packet) ->
    hornbeam_worker_protocol:violated(Worker, Reason, Packet).

%% @doc Let the app send so much more: it is entered in the account and written.
-spec credit(stream(), Bytes :: non_neg_integer(), Messages :: non_neg_integer()) -> ok.
credit(#stream{number = Number, account = Account} = Stream, Bytes, Messages) ->
    hornbeam_stream_credit:give(Bytes, Messages, Account),
    write(Stream, hornbeam_wire:credit(Number, Bytes, Messages)).

%% @doc Say that a `credit' message of the app has been taken.
-spec credit_received(stream()) -> ok.
credit_received(#stream{account = Account}) ->
    hornbeam_stream_credit:credit_received(Account).

%% @doc Write an op of this stream. Never waits.
-spec write(stream(), iodata()) -> ok.
write(#stream{writer = Writer}, Op) ->
    hornbeam_worker_writer:write(Writer, Op).

%% @doc The same for a message of the WebSocket's client.
-spec write_message(stream(), iodata()) -> ok.
write_message(#stream{writer = Writer}, Op) ->
    hornbeam_worker_writer:message(Writer, Op).

%% @doc The stream's number, which its ops carry.
-spec number(stream()) -> pos_integer().
number(#stream{number = Number}) ->
    Number.

%% @doc The process of the stream's worker.
-spec worker_of(stream()) -> pid().
worker_of(#stream{worker = Worker}) ->
    Worker.

%% @doc Be told of the worker's end with a `DOWN' message.
-spec monitor(stream()) -> reference().
monitor(#stream{worker = Worker}) ->
    erlang:monitor(process, Worker).

%% @doc What each account of a stream starts with; see "Credit" in docs/wire.md. 64 messages
%% keep a connection's mailbox short, where sends are cheap.
-spec window() -> {Bytes :: pos_integer(), Messages :: pos_integer()}.
window() ->
    {262144, 64}.

%% @doc Whether so much was taken of a window that it is time to give it back as credit.
-spec is_due(Bytes :: non_neg_integer(), Messages :: non_neg_integer()) -> boolean().
is_due(Bytes, Messages) ->
    {AllBytes, AllMessages} = window(),
    Bytes >= AllBytes div 2 orelse Messages >= AllMessages div 2.

%% @doc Whether an account holds no more than a window, which is what it starts with.
-spec is_within_window({Bytes :: integer(), Messages :: integer()}) -> boolean().
is_within_window({Bytes, Messages}) ->
    {AllBytes, AllMessages} = window(),
    Bytes =< AllBytes andalso Messages =< AllMessages.

%% @doc Send a message to the owner of a stream.
-spec send(owner(), term()) -> ok.
send({Pid, _Tag} = Owner, Message) ->
    Pid ! {Owner, Message},
    ok;
send(Pid, Message) ->
    Pid ! Message,
    ok.

%% @doc The process that owns a stream, or in which its owner is.
-spec process(owner()) -> pid().
process({Pid, _Tag}) -> Pid;
process(Pid) -> Pid.
