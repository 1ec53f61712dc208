%% How many connections a listener has, and how many it may have (max_connections).
%%
%% A connection's process enters before it reads a byte, and is out when it ends. The process of
%% this module hears of each end, also of those that could not tell their workers of it. Who is in
%% stands in a table that outlives it, so that its successor goes on where it was: nobody is counted
%% anew, also none who enters meanwhile.
-module(hornbeam_connection_limit).
-behaviour(gen_server).

-export([new_table/0, new/1, start_link/2, enter/1, count/0, count/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([limit/0]).

-record(limit, {
    %% 1: connections; 2: those that are being turned away
    counts :: atomics:atomics_ref(),
    max :: pos_integer() | infinity
}).
-opaque limit() :: #limit{}.

-record(state, {
    pools :: [hornbeam_pool:name()],
    counters :: hornbeam_counters:ref()
}).

%% Rows: {Pid, where it is counted}.
-define(TABLE, ?MODULE).

-define(IN, 1).
-define(TURNED_AWAY, 2).

%% So many at a time are told why they may not come in; more are cut without a word.
-define(MOST_TURNED_AWAY, 1024).

%% @doc Make the table of who is in; its owner must outlive all connections.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {write_concurrency, true}]),
    ok.

%% @doc No connections, of so many that there may be.
-spec new(Max :: pos_integer() | infinity) -> limit().
new(Max) ->
    #limit{counts = atomics:new(2, []), max = Max}.

%% @doc Start the process that hears of the ends.
-spec start_link([hornbeam_pool:name()], hornbeam_counters:ref()) -> gen_server:start_ret().
start_link(Pools, Counters) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, {Pools, Counters}, []).

%% @doc Count the calling process as a connection, until its end. `full': it may say so to its
%% client; `overrun': it has no time for that.
-spec enter(limit()) -> ok | full | overrun.
enter(#limit{counts = Counts, max = Max} = Limit) ->
    case atomics:add_get(Counts, ?IN, 1) =< Max of
        true -> entered(Counts, ?IN, ok);
        false -> turned_away(Limit)
    end.

turned_away(#limit{counts = Counts}) ->
    ok = atomics:sub(Counts, ?IN, 1),
    case atomics:add_get(Counts, ?TURNED_AWAY, 1) =< ?MOST_TURNED_AWAY of
        true -> entered(Counts, ?TURNED_AWAY, full);
        false -> entered(Counts, ?TURNED_AWAY, overrun)
    end.

%% While there is nobody, the next one finds it in the table.
entered(Counts, Place, Answer) ->
    true = ets:insert(?TABLE, {self(), {Counts, Place}}),
    _ = [Keeper ! {entered, self()} || Keeper <- [whereis(?MODULE)], is_pid(Keeper)],
    Answer.

%% @doc How many connections there are, whatever their listener, those that are turned away among
%% them.
-spec count() -> non_neg_integer().
count() ->
    ets:info(?TABLE, size).

%% @doc How many connections there are.
-spec count(limit()) -> non_neg_integer().
count(#limit{counts = Counts}) ->
    atomics:get(Counts, ?IN).

%% @private
-spec init({[hornbeam_pool:name()], hornbeam_counters:ref()}) -> {ok, #state{}}.
init({Pools, Counters}) ->
    lists:foreach(fun({Connection, _Place}) -> watch(Connection) end, ets:tab2list(?TABLE)),
    {ok, #state{pools = Pools, counters = Counters}}.

watch(Connection) ->
    _ = erlang:monitor(process, Connection),
    ok.

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
handle_info({entered, Connection}, State) ->
    watch(Connection),
    {noreply, State};
handle_info({'DOWN', _Ref, process, Connection, Reason}, State) ->
    ended(ets:take(?TABLE, Connection), Reason, State),
    {noreply, State};
handle_info(_Stray, State) ->
    {noreply, State}.

%% One that was found in the table may say later that it has entered: its end comes twice.
ended([], _Reason, _State) ->
    ok;
ended([{Connection, {Counts, Place}}], Reason, #state{pools = Pools, counters = Counters}) ->
    ok = atomics:sub(Counts, Place, 1),
    _ = [hornbeam_counters:add(http2_floods, Counters) || is_flood(Reason)],
    _ = [hornbeam_pool:process_down(Connection, Pool) || not is_orderly(Reason), Pool <- Pools],
    ok.

%% Cowboy ends a connection so whose client has sent too much of something.
is_flood({shutdown, {connection_error, enhance_your_calm, _}}) -> true;
is_flood(_Reason) -> false.

%% Whether a connection has ended its exchanges itself. Of one that ended while nobody was here
%% that is not known.
is_orderly({shutdown, _Why}) -> true;
is_orderly(Reason) -> Reason =:= normal orelse Reason =:= shutdown.
