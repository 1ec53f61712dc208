%% A conversation with an app, as its owner in the web room holds it.
%%
%% The owner opens it on a worker, gets its frames as `{stream, Number, Frame}', writes its
%% ops, and may give it to another process. It knows the worker's messages, not its state.
-module(hornbeam_stream).

-export([handle/2, worker/1, load/1, started/2]).
-export([open/3, open/4, hand_over/2, bind/1, closed/1, violated/2, write/2, number/1, monitor/1]).
-export([window/0]).
-export_type([handle/0, stream/0, kind/0]).

-record(handle, {
    worker :: pid(),
    writer :: pid(),
    %% 1: the last stream number given out; 2: streams that the app has not ended.
    counts :: atomics:atomics_ref()
}).
-opaque handle() :: #handle{}.
%% What it takes to open streams on a worker.

-record(stream, {
    worker :: pid(),
    writer :: pid(),
    number :: pos_integer()
}).
-opaque stream() :: #stream{}.

-type kind() :: http | websocket.

-define(LAST, 1).
-define(OPEN, 2).

%% @doc The handle of a worker and its writer.
-spec handle(Worker :: pid(), Writer :: pid()) -> handle().
handle(Worker, Writer) ->
    #handle{worker = Worker, writer = Writer, counts = atomics:new(2, [])}.

%% @doc The process behind a handle.
-spec worker(handle()) -> pid().
worker(#handle{worker = Worker}) ->
    Worker.

%% @doc How many streams the app behind a handle has not ended; cheap.
-spec load(handle()) -> integer().
load(#handle{counts = Counts}) ->
    atomics:get(Counts, ?OPEN).

%% @doc Count streams that started (or, negative, ended); the worker calls this.
-spec started(handle(), integer()) -> ok.
started(#handle{counts = Counts}, Difference) ->
    atomics:add(Counts, ?OPEN, Difference).

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
open(#handle{worker = Worker, writer = Writer, counts = Counts}, Kind, Client, Op) ->
    Number = atomics:add_get(Counts, ?LAST, 1),
    Worker ! {open, Kind, Number, self(), Client, Op(Number)},
    #stream{worker = Worker, writer = Writer, number = Number}.

%% @doc Give a stream to another process. What Python says meanwhile waits until that process
%% calls {@link bind/1}.
-spec hand_over(stream(), pid()) -> ok.
hand_over(#stream{worker = Worker, number = Number}, Owner) ->
    Worker ! {hand_over, Number, Owner},
    ok.

%% @doc Take a stream that was handed over to the calling process, and tell the app that its
%% accept is done. This process says so itself, or its next ops could overtake it.
-spec bind(stream()) -> ok.
bind(#stream{worker = Worker, number = Number} = Stream) ->
    Worker ! {bind, Number, self()},
    write(Stream, hornbeam_wire:accepted(Number)).

%% @doc Say that the owner has written the stream's `disconnect' itself.
-spec closed(stream()) -> ok.
closed(#stream{worker = Worker, number = Number}) ->
    Worker ! {closed, Number},
    ok.

%% @doc Say that Python sent this stream something that makes no sense: the worker ends.
-spec violated(stream(), Frame :: binary()) -> ok.
violated(#stream{worker = Worker}, Frame) ->
    Worker ! {violated, Frame},
    ok.

%% @doc Write an op of this stream. Never waits.
-spec write(stream(), iodata()) -> ok.
write(#stream{writer = Writer}, Op) ->
    hornbeam_worker_writer:write(Writer, Op).

%% @doc The stream's number, which its ops carry.
-spec number(stream()) -> pos_integer().
number(#stream{number = Number}) ->
    Number.

%% @doc Be told of the worker's end with a `DOWN' message.
-spec monitor(stream()) -> reference().
monitor(#stream{worker = Worker}) ->
    erlang:monitor(process, Worker).

%% @doc What each account of a stream starts with; see "Credit" in docs/wire.md. 64 messages
%% keep a connection's mailbox short, where sends are cheap.
-spec window() -> {Bytes :: pos_integer(), Messages :: pos_integer()}.
window() ->
    {262144, 64}.
