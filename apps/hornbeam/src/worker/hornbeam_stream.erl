%% A conversation with an app, as its owner in the web room holds it.
%%
%% The owner opens it on a worker, gets its frames as `{stream, Number, Frame}', writes its
%% ops, and may give it to another process. It knows the worker's messages, not its state.
-module(hornbeam_stream).

-export([new_counts/0, handle/1, worker/1, load/1, started/1, ended/2, tell_of_room/2]).
-export([take/3, reserve/1, claim/1, give_back/1, want/1, close/1]).
-export([rank/1, is_slow/1, slow/2, retires/1]).
-export([received/2, requests/1, messages/1]).
-export([open/3, open/4, open_part/4, reopen/2, move/1, flush/1, hand_over/2, bind/1, take_over/2]).
-export([closed/1, abandon/1, violated/3]).
-export([write/2, number/1, worker_of/1, monitor/1]).
-export([window/0, is_within_window/1, is_due/2, credit/3, take_credit/1]).
-export([tell/2, process/1]).
-export_type([handle/0, counts/0, stream/0, kind/0, owner/0]).

-record(handle, {
    worker :: pid(),
    writer :: pid(),
    %% how many streams the worker runs at once
    limit :: pos_integer() | infinity,
    counts :: counts(),
    %% where owners enter themselves that are parts of processes
    parts :: hornbeam_worker_parts:parts(),
    %% who moves what a client has in Erlang from one worker to another
    adoption :: {Api :: module(), hornbeam_worker_events:events()},
    %% the place that was taken or reserved, to open one stream on
    place :: reference() | reserved | undefined
}).
-opaque handle() :: #handle{}.
%% What it takes to open streams on a worker.

-record(stream, {
    worker :: pid(),
    writer :: pid(),
    number :: pos_integer(),
    account :: hornbeam_account:account()
}).
-opaque stream() :: #stream{}.

-type kind() :: http | websocket.

-type owner() :: pid() | {pid(), Part :: term()}.
%% Who gets what is said on a stream: a process, or a part of what one does. A part gets each
%% message as `{Owner, Message}', as {@link tell/2} sends it, and hears of the worker's end by
%% `{worker_down, Number}' (hornbeam_worker_parts).

-opaque counts() :: atomics:atomics_ref().

%% The atomics: the last stream number given out, places that are taken (the streams that the app
%% has not ended among them), whether the pool wants to know of room, how the worker does (one of
%% the next three), messages that WebSockets' clients have sent.
-define(LAST, 1).
-define(OPEN, 2).
-define(WANTED, 3).
-define(PACE, 4).
-define(MESSAGES, 5).

-define(TURNING, 0).
-define(SLOW, 1).
-define(RETIRING, 2).

%% So many places are taken of a worker that gives none any more.
-define(CLOSED, (1 bsl 40)).

%% @doc What is counted of a new worker.
-spec new_counts() -> counts().
new_counts() ->
    atomics:new(5, []).

%% @doc The handle of a worker and its writer.
-spec handle(#{worker := pid(), writer := pid(), limit := pos_integer() | infinity,
               counts := counts(), parts := hornbeam_worker_parts:parts(),
               adoption := {Api :: module(), hornbeam_worker_events:events()}}) -> handle().
handle(#{worker := Worker, writer := Writer, limit := Limit, counts := Counts, parts := Parts,
         adoption := Adoption}) ->
    #handle{worker = Worker, writer = Writer, limit = Limit, counts = Counts, parts = Parts,
            adoption = Adoption}.

%% @doc The process behind a handle.
-spec worker(handle()) -> pid().
worker(#handle{worker = Worker}) ->
    Worker.

%% @doc How many streams the app behind a handle has not ended; cheap.
-spec load(handle()) -> non_neg_integer().
load(#handle{counts = Counts}) ->
    case atomics:get(Counts, ?OPEN) of
        Load when Load < ?CLOSED -> Load;
        Closed -> Closed - ?CLOSED
    end.

%% @doc Count a stream that was opened without a place; the worker calls this.
-spec started(handle()) -> ok.
started(#handle{counts = Counts}) ->
    atomics:add(Counts, ?OPEN, 1).

%% @doc A stream is over, or a place was given back; the worker calls this. The pool's process
%% gets `{room, Worker}' if it wants to know.
-spec ended(handle(), Pool :: pid()) -> ok.
ended(#handle{counts = Counts} = Handle, Pool) ->
    atomics:sub(Counts, ?OPEN, 1),
    tell_of_room(Handle, Pool).

%% @doc The same where the place has been counted as free already.
-spec tell_of_room(handle(), Pool :: pid()) -> ok.
tell_of_room(#handle{worker = Worker, counts = Counts}, Pool) ->
    case is_wanted(Counts) andalso atomics:exchange(Counts, ?WANTED, 0) of
        1 ->
            Pool ! {room, Worker},
            ok;
        _ ->
            ok
    end.

is_wanted(Counts) ->
    atomics:get(Counts, ?WANTED) =:= 1.

%% @doc Take a place on the worker for `Owner', unless it runs as many streams as it may.
%%
%% It is counted at once, so that two who come at the same time do not both get the last. The
%% place lives until a stream is opened with the handle, it is given back, or the owner dies.
-spec take(handle(), Place :: reference(), Owner :: pid()) -> {ok, handle()} | full.
take(#handle{worker = Worker} = Handle, Place, Owner) ->
    case reserve(Handle) of
        {ok, Reserved} ->
            Worker ! {place, Place, Owner},
            {ok, Reserved#handle{place = Place}};
        full ->
            full
    end.

%% @doc Count a stream that the calling process opens at once, unless the worker runs as many as
%% it may. What is reserved must be used or given back: nobody watches over it.
-spec reserve(handle()) -> {ok, handle()} | full.
reserve(#handle{counts = Counts, limit = Limit} = Handle) ->
    case reserve(atomics:get(Counts, ?OPEN), Limit, Counts) of
        true -> {ok, Handle#handle{place = reserved}};
        false -> full
    end.

reserve(Taken, Limit, Counts) when Taken < Limit, Taken < ?CLOSED ->
    case atomics:compare_exchange(Counts, ?OPEN, Taken, Taken + 1) of
        ok -> true;
        Changed -> reserve(Changed, Limit, Counts)
    end;
reserve(_Taken, _Limit, _Counts) ->
    false.

%% @doc Have a place that was taken be the caller's, who uses it at once: nobody watches over it
%% any more.
-spec claim(handle()) -> handle().
claim(#handle{place = reserved} = Handle) ->
    Handle;
claim(#handle{worker = Worker, place = Place} = Handle) ->
    Worker ! {claimed, Place},
    Handle#handle{place = reserved}.

%% @doc Give back the place that was taken or reserved with a handle.
-spec give_back(handle()) -> ok.
give_back(#handle{worker = Worker, place = reserved, counts = Counts}) ->
    atomics:sub(Counts, ?OPEN, 1),
    _ = [Worker ! room || is_wanted(Counts)],
    ok;
give_back(#handle{worker = Worker, place = Place}) ->
    Worker ! {give_back, Place},
    ok.

%% @doc Have the pool told when a place comes free.
-spec want(handle()) -> ok.
want(#handle{counts = Counts}) ->
    atomics:put(Counts, ?WANTED, 1).

%% @doc Give no more places, if none is taken.
-spec close(handle()) -> closed | busy.
close(#handle{counts = Counts}) ->
    case atomics:compare_exchange(Counts, ?OPEN, 0, ?CLOSED) of
        ok -> closed;
        Taken when Taken >= ?CLOSED -> closed;
        _ -> busy
    end.

%% @doc The less, the sooner the worker is to get something to do; cheap. Workers whose loop turns
%% come before slow ones, and those before the ones that retire.
-spec rank(handle()) -> {0..2, Load :: non_neg_integer()}.
rank(#handle{counts = Counts} = Handle) ->
    {atomics:get(Counts, ?PACE), load(Handle)}.

%% @doc Whether the worker's loop is slow to turn.
-spec is_slow(handle()) -> boolean().
is_slow(#handle{counts = Counts}) ->
    atomics:get(Counts, ?PACE) =:= ?SLOW.

%% @doc Say whether the loop of a worker that does not retire is slow to turn.
-spec slow(handle(), boolean()) -> ok.
slow(Handle, true) -> change_pace(?TURNING, ?SLOW, Handle);
slow(Handle, false) -> change_pace(?SLOW, ?TURNING, Handle).

change_pace(From, To, #handle{counts = Counts}) ->
    _ = atomics:compare_exchange(Counts, ?PACE, From, To),
    ok.

%% @doc Say that the worker retires.
-spec retires(handle()) -> ok.
retires(#handle{counts = Counts}) ->
    atomics:put(Counts, ?PACE, ?RETIRING).

%% @doc Count messages of WebSockets' clients; the writer calls this.
-spec received(non_neg_integer(), counts()) -> ok.
received(0, _Counts) -> ok;
received(Messages, Counts) -> atomics:add(Counts, ?MESSAGES, Messages).

%% @doc How many requests and handshakes the worker was given.
-spec requests(handle()) -> non_neg_integer().
requests(#handle{counts = Counts}) ->
    atomics:get(Counts, ?LAST).

%% @doc How many messages of WebSockets' clients the worker was given.
-spec messages(handle()) -> non_neg_integer().
messages(#handle{counts = Counts}) ->
    atomics:get(Counts, ?MESSAGES).

%% @doc Open a stream that the calling process owns; `Op' makes the opening op from its number.
%%
%% The op goes through the worker, not straight to the writer, so that the owner is known
%% before Python can answer.
-spec open(handle(), kind(), fun((pos_integer()) -> iodata())) -> stream().
open(Handle, Kind, Op) ->
    open(Handle, Kind, self(), Op).

%% @doc The same for a client that another process stands for: what the app binds to the
%% connection lives as long as that process.
-spec open(handle(), kind(), Client :: pid(), fun((pos_integer()) -> iodata())) -> stream().
open(#handle{place = Place} = Handle, Kind, Client, Op) ->
    #stream{worker = Worker, number = Number, account = Account} = Stream = new(Handle),
    Worker ! {open, Place, Kind, Number, self(), Client, Account, Op(Number)},
    Stream.

new(#handle{worker = Worker, writer = Writer, counts = Counts}) ->
    #stream{worker = Worker, writer = Writer, number = atomics:add_get(Counts, ?LAST, 1),
            account = hornbeam_account:new()}.

%% @doc Open a stream at a place, for an owner that is a part of the calling process.
%% No process stands for its client; the worker makes one when the app asks for it.
-spec open_part(handle(), kind(), owner(), fun((pos_integer()) -> iodata())) -> stream().
open_part(#handle{parts = Parts} = Handle, Kind, Owner, Op) ->
    _ = claim(Handle),
    #stream{worker = Worker, number = Number, account = Account} = Stream = new(Handle),
    %% It waits in the writer's mailbox: one binary is cheaper to copy than its many parts.
    Opening = iolist_to_binary(Op(Number)),
    IsEntered = hornbeam_worker_parts:enter(Number, Kind, Owner, Account, Parts)
        andalso is_process_alive(Worker),
    opened(IsEntered, Opening, Owner, Stream).

opened(true, Opening, _Owner, Stream) ->
    write(Stream, Opening),
    Stream;
opened(false, _Opening, Owner, #stream{number = Number} = Stream) ->
    tell(Owner, {worker_down, Number}),
    Stream.

%% @doc Open a stream for a WebSocket of the calling process that had another worker. `Op' makes
%% the opening op from its number and the topics that came with the client.
-spec reopen(handle(), fun((pos_integer(), Topics :: [binary()]) -> iodata())) -> stream().
reopen(#handle{worker = Worker, adoption = {Api, Events}} = Handle, Op) ->
    Topics = Api:adopt(self(), Worker, Events),
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

%% @doc Give a stream to another owner, and return the frames that came before it was given. What
%% Python says then waits until that one calls {@link bind/1} or {@link take_over/2}; if the calling
%% process dies before, the stream is abandoned.
-spec hand_over(stream(), owner()) -> [Frame :: binary()].
hand_over(#stream{worker = Worker, number = Number} = Stream, Owner) ->
    Monitor = monitor(Stream),
    Worker ! {hand_over, Number, Owner, self()},
    Frames = handed_over(Number, Monitor),
    true = erlang:demonitor(Monitor, [flush]),
    Frames.

handed_over(Number, Monitor) ->
    receive
        {stream, Number, Frame} -> [Frame | handed_over(Number, Monitor)];
        {handed_over, Number} -> [];
        {'DOWN', Monitor, process, _, _} -> []
    end.

%% @doc Take a stream that was handed over to the calling process, and tell the app that its
%% accept is done. This process says so itself, or its next ops could overtake it.
-spec bind(stream()) -> ok.
bind(#stream{worker = Worker, number = Number} = Stream) ->
    Worker ! {bind, Number, self()},
    write(Stream, hornbeam_wire:accepted(Number)).

%% @doc Take a stream that was handed over to `Owner', a part of the calling process.
-spec take_over(stream(), owner()) -> ok.
take_over(#stream{worker = Worker, number = Number}, Owner) ->
    Worker ! {take_over, Number, Owner},
    %% If it was told of the worker's end it did not know yet that this is its worker.
    _ = [tell(Owner, {worker_down, Number}) || not is_process_alive(Worker)],
    ok.

%% @doc Say that the owner has no use for the stream any more, as its death would say: the app
%% hears of it if it still runs.
-spec abandon(stream()) -> ok.
abandon(#stream{worker = Worker, number = Number}) ->
    Worker ! {abandoned, Number},
    ok.

%% @doc Say that the owner has written the stream's `disconnect' itself.
-spec closed(stream()) -> ok.
closed(#stream{worker = Worker, number = Number}) ->
    Worker ! {closed, Number},
    ok.

%% @doc Say that Python sent this stream something that makes no sense: the worker ends.
-spec violated(stream(), Reason :: term(), Frame :: binary()) -> ok.
violated(#stream{worker = Worker}, Reason, Frame) ->
    Worker ! {violated, Reason, Frame},
    ok.

%% @doc Let the app send so much more: it is entered in the account and written.
-spec credit(stream(), Bytes :: non_neg_integer(), Messages :: non_neg_integer()) -> ok.
credit(#stream{number = Number, account = Account} = Stream, Bytes, Messages) ->
    hornbeam_account:give(Bytes, Messages, Account),
    write(Stream, hornbeam_wire:credit(Number, Bytes, Messages)).

%% @doc Say that a `credit' message of the app has been taken.
-spec take_credit(stream()) -> ok.
take_credit(#stream{account = Account}) ->
    hornbeam_account:take_credit(Account).

%% @doc Write an op of this stream. Never waits.
-spec write(stream(), iodata()) -> ok.
write(#stream{writer = Writer}, Op) ->
    hornbeam_worker_writer:write(Writer, Op).

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
-spec tell(owner(), term()) -> ok.
tell({Pid, _Part} = Owner, Message) ->
    Pid ! {Owner, Message},
    ok;
tell(Pid, Message) ->
    Pid ! Message,
    ok.

%% @doc The process that owns a stream, or of which its owner is a part.
-spec process(owner()) -> pid().
process({Pid, _Part}) -> Pid;
process(Pid) -> Pid.
