%% What a worker can take: its places, how its loop does, and how much it was given.
%%
%% A handle is shared by all who look for a worker; what changes stands in atomics, so that a place
%% is reserved, counted and given back without a process. It knows the worker's process, not its
%% state, and nothing of what is said on a stream.
-module(hornbeam_capacity).

-export([new_counts/0, new/1, worker/1, name/1, id/1, load/1, started/1, ended/2, notify_room/2]).
-export([keep/2, is_kept/1]).
-export([hold/3, reserve/1, claim/1, give_back/1, want/1, close/1, shut/1]).
-export([rank/1, is_slow/1, slow/2, retires/1]).
-export([received/2, requests/1, messages/1]).
-export([next_stream/1, place/1, tagged_owners/1, adoption/1]).
-export_type([handle/0, counts/0]).

-record(handle, {
    worker :: pid(),
    writer :: pid(),
    %% what its slot calls its worker, and which of those that the slot has had it is
    name :: binary(),
    id :: binary(),
    %% how many streams the worker runs at once
    limit :: pos_integer() | infinity,
    counts :: counts(),
    %% where owners enter themselves that share a process
    tagged_owners :: hornbeam_stream_owners:table(),
    %% who moves what a client has in Erlang from one worker to another
    adoption :: {Api :: module(), hornbeam_worker_events:events()},
    %% the place that was taken or reserved, to open one stream on
    place :: hornbeam_worker_protocol:place()
}).
-opaque handle() :: #handle{}.
%% What it takes to open streams on a worker.

-opaque counts() :: atomics:atomics_ref().

%% The atomics: the last stream number given out, places that are taken (the streams that the app
%% has not ended among them), whether it is to be told of room, how the worker does (one of
%% the next three), messages that WebSockets' clients have sent, how many of its sessions' requests
%% wait for a place (hornbeam_pool_affinity).
-define(LAST, 1).
-define(OPEN, 2).
-define(WANTED, 3).
-define(PACE, 4).
-define(MESSAGES, 5).
-define(KEPT, 6).

-define(TURNING, 0).
-define(SLOW, 1).
-define(RETIRING, 2).

%% So many places are taken of a worker that gives none any more.
-define(CLOSED, (1 bsl 40)).

%% @doc What is counted of a new worker.
-spec new_counts() -> counts().
new_counts() ->
    atomics:new(6, []).

%% @doc The handle of a worker and its writer.
-spec new(#{worker := pid(), writer := pid(), name := binary(), limit := pos_integer() | infinity,
            counts := counts(), tagged_owners := hornbeam_stream_owners:table(),
            adoption := {Api :: module(), hornbeam_worker_events:events()}}) -> handle().
new(#{worker := Worker, writer := Writer, name := Name, limit := Limit, counts := Counts,
      tagged_owners := Tagged, adoption := Adoption}) ->
    #handle{worker = Worker, writer = Writer, name = Name, id = new_id(), limit = Limit,
            counts = Counts, tagged_owners = Tagged, adoption = Adoption}.

%% No other worker has it, on whatever node and in whatever life of that.
new_id() ->
    binary:encode_hex(crypto:strong_rand_bytes(8)).

%% @doc The process behind a handle.
-spec worker(handle()) -> pid().
worker(#handle{worker = Worker}) ->
    Worker.

%% @doc What the slot of the worker calls it, and the next one.
-spec name(handle()) -> binary().
name(#handle{name = Name}) ->
    Name.

%% @doc What no other worker is called: 16 hexadecimal digits.
-spec id(handle()) -> binary().
id(#handle{id = Id}) ->
    Id.

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

%% @doc A stream is over, or a place was given back; the worker calls this. `Dispatcher' gets
%% `{room, Worker}' if somebody waits.
-spec ended(handle(), Dispatcher :: pid() | none) -> ok.
ended(#handle{counts = Counts} = Handle, Dispatcher) ->
    atomics:sub(Counts, ?OPEN, 1),
    notify_room(Handle, Dispatcher).

%% @doc The same where the place has been counted as free already.
-spec notify_room(handle(), Dispatcher :: pid() | none) -> ok.
notify_room(_Handle, none) ->
    ok;
notify_room(#handle{worker = Worker, counts = Counts}, Dispatcher) ->
    case is_wanted(Counts) andalso atomics:exchange(Counts, ?WANTED, 0) of
        1 ->
            hornbeam_worker_protocol:room(Dispatcher, Worker);
        _ ->
            ok
    end.

is_wanted(Counts) ->
    atomics:get(Counts, ?WANTED) =:= 1.

%% @doc Take a place on the worker for `Owner', unless it runs as many streams as it may.
%%
%% It is counted at once, so that two who come at the same time do not both get the last. The
%% place lives until a stream is opened with the handle, it is given back, or the owner dies.
-spec hold(handle(), Place :: reference(), Owner :: pid()) -> {ok, handle()} | full.
hold(#handle{worker = Worker} = Handle, Place, Owner) ->
    case reserve(Handle) of
        {ok, Reserved} ->
            hornbeam_worker_protocol:hold(Worker, Place, Owner),
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
    hornbeam_worker_protocol:claim(Worker, Place),
    Handle#handle{place = reserved}.

%% @doc Give back the place that was taken or reserved with a handle.
-spec give_back(handle()) -> ok.
give_back(#handle{worker = Worker, place = reserved, counts = Counts}) ->
    atomics:sub(Counts, ?OPEN, 1),
    _ = [hornbeam_worker_protocol:look_for_room(Worker) || is_wanted(Counts)],
    ok;
give_back(#handle{worker = Worker, place = Place}) ->
    hornbeam_worker_protocol:give_back(Worker, Place).

%% @doc Have it told when a place comes free.
-spec want(handle()) -> ok.
want(#handle{counts = Counts}) ->
    atomics:put(Counts, ?WANTED, 1).

%% @doc So many wait for a place on this worker and no other; the dispatcher calls this.
-spec keep(handle(), non_neg_integer()) -> ok.
keep(#handle{counts = Counts}, Waiting) ->
    atomics:put(Counts, ?KEPT, Waiting).

%% @doc Whether a place that comes free is for one of those.
-spec is_kept(handle()) -> boolean().
is_kept(#handle{counts = Counts}) ->
    atomics:get(Counts, ?KEPT) > 0.

%% @doc Give no more places, if none is taken.
-spec close(handle()) -> closed | busy.
close(#handle{counts = Counts}) ->
    case atomics:compare_exchange(Counts, ?OPEN, 0, ?CLOSED) of
        ok -> closed;
        Taken when Taken >= ?CLOSED -> closed;
        _ -> busy
    end.

%% @doc Give no more places, whatever is taken: the worker ends, and calls this.
-spec shut(handle()) -> ok.
shut(#handle{counts = Counts}) ->
    case atomics:get(Counts, ?OPEN) of
        Taken when Taken >= ?CLOSED -> ok;
        _ -> atomics:add(Counts, ?OPEN, ?CLOSED)
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

%% @doc The number of the next stream on a worker, and the two processes that it is said to.
-spec next_stream(handle()) -> {Worker :: pid(), Writer :: pid(), pos_integer()}.
next_stream(#handle{worker = Worker, writer = Writer, counts = Counts}) ->
    {Worker, Writer, atomics:add_get(Counts, ?LAST, 1)}.

%% @doc The place that was taken or reserved with a handle.
-spec place(handle()) -> hornbeam_worker_protocol:place().
place(#handle{place = Place}) ->
    Place.

%% @doc Where owners enter themselves that share a process.
-spec tagged_owners(handle()) -> hornbeam_stream_owners:table().
tagged_owners(#handle{tagged_owners = Tagged}) ->
    Tagged.

%% @doc Who moves what a client has in Erlang from one worker to another.
-spec adoption(handle()) -> {Api :: module(), hornbeam_worker_events:events()}.
adoption(#handle{adoption = Adoption}) ->
    Adoption.
