%% What is said between a worker's process and those who use it: each message is made here.
%%
%%   holders of places ──hold, claim, give_back──▶ ┌────────┐ ──ready, failed, adopted, room──▶ pool
%%   owners of streams ──open … violated─────────▶ │ worker │ ──packet … down──▶ owners of streams
%%   callers ──call, more, cancel────────────────▶ └────────┘ ──answer──▶ callers
%%
%% Those to the worker are read by `hornbeam_worker_router' (places, streams, calls) and
%% `hornbeam_worker' (its pool), those to a pool by `hornbeam_pool_keeper' and, of room, by
%% `hornbeam_pool_dispatcher', those to an owner by whatever owns a stream. What Python says and
%% hears stands in docs/wire.md instead.
-module(hornbeam_worker_protocol).

-export([hold/3, claim/2, give_back/2, look_for_room/1, tell_of_room/2]).
-export([open/7, hand_over/3, bind/2, take_over/3, abandon/2, closed/2, violated/3]).
-export([call/4, more/3, cancel/2]).
-export([adopt/2, process_down/2, monitor/2, watch_calls/1]).
-export([ready/3, failed/2, adopted/4, room/2]).
-export([packet/2, multicast/2, client/3, retiring/3, handed_over/2, down/2, answer/2]).
-export_type([place/0, called/0, to_worker/0, to_owner/0]).

-type place() :: reference() | reserved | undefined.
%% How the place that a stream is opened on was got: it is held by somebody who is watched, it was
%% reserved by whoever opens the stream, or there was none.

-type called() :: {Mode :: 0..2, Target :: binary(), Function :: binary(), Args :: binary(),
                   Kwargs :: binary()}.

-type to_worker() ::
    {place, reference(), Holder :: pid()} | {claimed, reference()} | {give_back, reference()}
    | room | {tell_of_room, Dispatcher :: pid()}
    | {open, place(), hornbeam_stream:kind(), pos_integer(), Owner :: pid(), Client :: pid(),
       hornbeam_stream_credit:account(), Op :: iodata()}
    | {hand_over, pos_integer(), hornbeam_stream:owner(), From :: pid()}
    | {bind, pos_integer(), pid()} | {take_over, pos_integer(), hornbeam_stream:owner()}
    | {abandoned, pos_integer()} | {closed, pos_integer()}
    | {violated, Reason :: term(), Packet :: binary()}
    | {call, hornbeam_call:call() | none, pid() | none, called()}
    | {more, hornbeam_call:call(), pos_integer()} | {cancel, hornbeam_call:call()}
    | {adopt, Pool :: pid()} | {process_down, pid()}
    | {{'DOWN', watched()}, reference(), process, pid(), Reason :: term()} | watch_calls.

-type watched() :: {place, reference()} | {call, hornbeam_call:call()} | Stream :: pos_integer().
%% What is lost with a process that the worker monitors.

-type to_owner() ::
    {stream, pos_integer(), Packet :: binary()}
    | {multicast, pos_integer(), hornbeam_websocket_frame:frame()}
    | {client, pos_integer(), pid()}
    | {retiring, pos_integer(), Why :: atom()}
    | {handed_over, pos_integer()}
    | {worker_down, pos_integer()}.
%% A packet of the wire; one of a WebSocket; who stands for a client; the worker is given up; all
%% that came before a stream was handed over has been sent; the worker of a tagged owner is dead.

%% To the worker: places.

%% @doc `Holder' was given a place, which was counted; the worker watches over it.
-spec hold(Worker :: pid(), reference(), Holder :: pid()) -> ok.
hold(Worker, Place, Holder) ->
    send(Worker, {place, Place, Holder}).

%% @doc The holder of a place uses it at once, and is watched over no more.
-spec claim(Worker :: pid(), reference()) -> ok.
claim(Worker, Place) ->
    send(Worker, {claimed, Place}).

%% @doc The holder of a place does not want it.
-spec give_back(Worker :: pid(), reference()) -> ok.
give_back(Worker, Place) ->
    send(Worker, {give_back, Place}).

%% @doc A place is free that nobody told of, and the pool wants to know.
-spec look_for_room(Worker :: pid()) -> ok.
look_for_room(Worker) ->
    send(Worker, room).

%% @doc Room is told to that process from now on, and at once if there is any.
-spec tell_of_room(Worker :: pid(), Dispatcher :: pid()) -> ok.
tell_of_room(Worker, Dispatcher) ->
    send(Worker, {tell_of_room, Dispatcher}).

%% To the worker: streams.

%% @doc The calling process opens a stream; `Op' is what Python is to be told of it.
-spec open(Worker :: pid(), place(), hornbeam_stream:kind(), pos_integer(), Client :: pid(),
           hornbeam_stream_credit:account(), Op :: iodata()) -> ok.
open(Worker, Place, Kind, Number, Client, Account, Op) ->
    send(Worker, {open, Place, Kind, Number, self(), Client, Account, Op}).

%% @doc The calling process gives a stream to another owner; it is answered by `handed_over'.
-spec hand_over(Worker :: pid(), pos_integer(), hornbeam_stream:owner()) -> ok.
hand_over(Worker, Number, Owner) ->
    send(Worker, {hand_over, Number, Owner, self()}).

%% @doc The calling process takes a WebSocket that was handed over to it, and is accepted.
-spec bind(Worker :: pid(), pos_integer()) -> ok.
bind(Worker, Number) ->
    send(Worker, {bind, Number, self()}).

%% @doc An owner takes a stream that was handed over to it and is no open WebSocket.
-spec take_over(Worker :: pid(), pos_integer(), hornbeam_stream:owner()) -> ok.
take_over(Worker, Number, Owner) ->
    send(Worker, {take_over, Number, Owner}).

%% @doc The owner has no use for a stream any more; Python is to be told.
-spec abandon(Worker :: pid(), pos_integer()) -> ok.
abandon(Worker, Number) ->
    send(Worker, {abandoned, Number}).

%% @doc The owner has no use for a stream any more, and has told Python itself.
-spec closed(Worker :: pid(), pos_integer()) -> ok.
closed(Worker, Number) ->
    send(Worker, {closed, Number}).

%% @doc Python said something on a stream that makes no sense: the worker ends.
-spec violated(Worker :: pid(), Reason :: term(), Packet :: binary()) -> ok.
violated(Worker, Reason, Packet) ->
    send(Worker, {violated, Reason, Packet}).

%% To the worker: calls.

%% @doc Somebody, or nobody, calls a function of the app.
-spec call(Worker :: pid(), hornbeam_call:call() | none, Caller :: pid() | none, called()) -> ok.
call(Worker, Call, Caller, Called) ->
    send(Worker, {call, Call, Caller, Called}).

%% @doc The caller takes so many more items.
-spec more(Worker :: pid(), hornbeam_call:call(), Items :: pos_integer()) -> ok.
more(Worker, Call, Items) ->
    send(Worker, {more, Call, Items}).

%% @doc The caller does not wait any more.
-spec cancel(Worker :: pid(), hornbeam_call:call()) -> ok.
cancel(Worker, Call) ->
    send(Worker, {cancel, Call}).

%% To the worker: of processes.

%% @doc The worker is to report to the calling process from now on; it answers `adopted'.
-spec adopt(Worker :: pid(), Pool :: pid()) -> ok.
adopt(Worker, Pool) ->
    send(Worker, {adopt, Pool}).

%% @doc A process has died in which tagged owners may be, and which has not said so itself.
-spec process_down(Worker :: pid(), pid()) -> ok.
process_down(Worker, Pid) ->
    send(Worker, {process_down, Pid}).

%% @doc The calling worker is to be told of the death of a process with which something is lost.
-spec monitor(pid(), watched()) -> reference().
monitor(Pid, Watched) ->
    erlang:monitor(process, Pid, [{tag, {'DOWN', Watched}}]).

%% @doc The calling worker is to look in so many milliseconds at the calls that are not over.
-spec watch_calls(pos_integer()) -> ok.
watch_calls(Pause) ->
    _ = erlang:send_after(Pause, self(), watch_calls),
    ok.

%% From the worker to its pool's processes.

%% @doc The calling worker serves.
-spec ready(Pool :: pid(), hornbeam_capacity:handle(), hornbeam_os_process:os_pid() | undefined) ->
    ok.
ready(Pool, Handle, OsPid) ->
    send(Pool, {worker_ready, self(), Handle, OsPid}).

%% @doc The calling worker could not start, and ends.
-spec failed(Pool :: pid(), Reason :: term()) -> ok.
failed(Pool, Reason) ->
    send(Pool, {worker_failed, self(), Reason}).

%% @doc How far the calling worker has come, for a pool that does not know.
-spec adopted(Pool :: pid(), State :: atom(), hornbeam_capacity:handle(),
              hornbeam_os_process:os_pid() | undefined) -> ok.
adopted(Pool, State, Handle, OsPid) ->
    send(Pool, {worker_adopted, self(), State, Handle, OsPid}).

%% @doc A worker has room, which was asked for.
-spec room(Dispatcher :: pid(), Worker :: pid()) -> ok.
room(Dispatcher, Worker) ->
    send(Dispatcher, {room, Worker}).

%% From the worker to owners and callers.

%% @doc What Python says on a stream.
-spec packet(pos_integer(), Packet :: binary()) -> to_owner().
packet(Number, Packet) ->
    {stream, Number, Packet}.

%% @doc A message for several WebSockets, as one frame of theirs.
-spec multicast(pos_integer(), hornbeam_websocket_frame:frame()) -> to_owner().
multicast(Number, Frame) ->
    {multicast, Number, Frame}.

%% @doc The process that stands for the client of a stream that may be long.
-spec client(hornbeam_stream:owner(), pos_integer(), Client :: pid()) -> ok.
client(Owner, Number, Client) ->
    hornbeam_stream:send(Owner, {client, Number, Client}).

%% @doc The worker is given up; the client may go elsewhere.
-spec retiring(hornbeam_stream:owner(), pos_integer(), Why :: atom()) -> ok.
retiring(Owner, Number, Why) ->
    hornbeam_stream:send(Owner, {retiring, Number, Why}).

%% @doc All that came before the stream was handed over has been sent.
-spec handed_over(Giver :: pid(), pos_integer()) -> ok.
handed_over(Giver, Number) ->
    send(Giver, {handed_over, Number}).

%% @doc The worker of a tagged owner is dead; a process has monitors for that.
-spec down(hornbeam_stream:owner(), pos_integer()) -> ok.
down(Owner, Number) ->
    hornbeam_stream:send(Owner, {worker_down, Number}).

%% @doc What a call has brought.
-spec answer(hornbeam_call:call(), hornbeam_call:answer()) -> ok.
answer(Call, Answer) ->
    _ = Call ! {Call, Answer},
    ok.

send(To, Message) ->
    _ = To ! Message,
    ok.
