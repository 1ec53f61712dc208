%% How many schedulers of a node are online: as many as its load needs.
%%
%% At part load most of a message's cost is wake-ups, and one scheduler that wakes another is the
%% worst of them (bench/README.md, "Part load"). So a node that begins with fewer schedulers online
%% than it has, by `+SP 100:1', gets more when those are busy, twice as many each time, and gives
%% them back when fewer would do. A node whose flags say nothing of this is left alone.
%%
%% Busy is what the node's threads take of the processors, or, where others keep them from those,
%% that processes wait in queues at several looks in a row.
-module(hornbeam_schedulers).
-behaviour(gen_server).

-export([child_specs/0, start_link/0]).
-export([next/3, new/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([load/0, sample/0]).

%% What was seen since fewer schedulers would not have done.
-record(load, {
    least :: pos_integer(),
    %% looks in a row at which processes waited
    waiting = 0 :: non_neg_integer(),
    %% how many looks ago the last was that asked for each of the schedulers
    ago = 0 :: non_neg_integer(),
    %% the most that was needed since
    needed = 0 :: non_neg_integer()
}).
-opaque load() :: #load{}.

%% Processors in use, and processes that wait for a scheduler.
-type sample() :: {Processors :: float(), Queue :: non_neg_integer()}.

-record(state, {
    load :: load(),
    runtime :: non_neg_integer(),
    at :: integer()
}).

%% Between two looks (ms).
-define(LOOK, 100).

%% Of each scheduler that is online, what may be in use before there are more.
-define(BUSY, 0.9).

%% And what each may have to do when there are fewer.
-define(ROOM, 0.8).

%% Processes in the queue of each: that is work for a millisecond, which is what a wake-up is not.
-define(QUEUE, 16).
-define(LOOKS_WAITING, 2).

%% Looks until there are fewer.
-define(LOOKS_CALM, 20).

%% @doc The process that minds them, if the node was started with fewer online than it has.
-spec child_specs() -> [supervisor:child_spec()].
child_specs() ->
    case erlang:system_info(schedulers_online) < hornbeam_processors:count() of
        true -> [#{id => ?MODULE, start => {?MODULE, start_link, []}}];
        false -> []
    end.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Nothing seen yet, and so many online at least.
-spec new(Least :: pos_integer()) -> load().
new(Least) ->
    #load{least = Least}.

%% @doc How many are to be online after one more look, of so many that are and so many that may be.
-spec next(sample(), {Online :: pos_integer(), Schedulers :: pos_integer()}, load()) ->
    {pos_integer(), load()}.
next({Processors, Queue}, {Online, All}, #load{least = Least} = Load0) ->
    Load = seen(Queue >= ?QUEUE * Online, needed(Processors, Load0), Load0),
    IsBusy = Processors >= ?BUSY * Online orelse Load#load.waiting >= ?LOOKS_WAITING,
    case IsBusy of
        true -> {min(All, 2 * Online), new(Least)};
        false -> fewer(Online, Load)
    end.

seen(true, _Needed, #load{waiting = Waiting} = Load) ->
    Load#load{waiting = Waiting + 1, ago = 0, needed = 0};
seen(false, Needed, #load{ago = Ago} = Load) ->
    Load#load{waiting = 0, ago = Ago + 1, needed = Needed}.

needed(Processors, #load{needed = Needed, least = Least}) ->
    lists:max([Least, Needed, ceil(Processors / ?ROOM)]).

fewer(Online, #load{ago = ?LOOKS_CALM, needed = Needed, least = Least}) ->
    {min(Online, Needed), new(Least)};
fewer(Online, Load) ->
    {Online, Load}.

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    _ = process_flag(priority, high),
    {ok, look_later(#state{load = new(erlang:system_info(schedulers_online)),
                           runtime = runtime(), at = now_ms()})}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(look, #state{load = Load0, runtime = Before, at = Since} = State) ->
    {Runtime, Now} = {runtime(), now_ms()},
    Sample = {(Runtime - Before) / max(1, Now - Since), erlang:statistics(total_run_queue_lengths)},
    Online = erlang:system_info(schedulers_online),
    {Wanted, Load} = next(Sample, {Online, hornbeam_processors:count()}, Load0),
    ok = set(Wanted, Online),
    {noreply, look_later(State#state{load = Load, runtime = Runtime, at = Now})};
handle_info(_Message, State) ->
    {noreply, State}.

%% As it was, for who takes over.
%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{load = #load{least = Least}}) ->
    set(Least, erlang:system_info(schedulers_online)).

set(Online, Online) ->
    ok;
set(Wanted, _Online) ->
    _ = erlang:system_flag(schedulers_online, Wanted),
    ok.

look_later(State) ->
    _ = erlang:send_after(?LOOK, self(), look),
    State.

%% Of all threads of the node (ms).
runtime() ->
    {Runtime, _SinceLast} = erlang:statistics(runtime),
    Runtime.

now_ms() -> erlang:monotonic_time(millisecond).
