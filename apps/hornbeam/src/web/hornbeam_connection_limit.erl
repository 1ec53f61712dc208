%% How many connections a listener has, and how many it may have (max_connections).
%%
%% A connection's process enters before it reads a byte, and is out when it ends. The process of this
%% module hears of each end, also of those that could not tell their workers of it. When it crashes
%% its successor counts anew those that are there.
-module(hornbeam_connection_limit).
-behaviour(gen_server).

-export([new/1, start_link/4, enter/1, count/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([limit/0]).

-record(limit, {
    %% 1: connections; 2: those that are being turned away
    counts :: atomics:atomics_ref(),
    max :: pos_integer() | infinity
}).
-opaque limit() :: #limit{}.

-record(state, {
    counts :: atomics:atomics_ref(),
    pool :: hornbeam_pool:name(),
    counters :: hornbeam_counters:ref(),
    %% where each connection is counted
    places = #{} :: #{pid() => 1..2}
}).

-define(IN, 1).
-define(TURNED_AWAY, 2).

%% So many at a time are told why they may not come in; more are cut without a word.
-define(MOST_TURNED_AWAY, 1024).

%% @doc No connections, of so many that there may be.
-spec new(Max :: pos_integer() | infinity) -> limit().
new(Max) ->
    #limit{counts = atomics:new(2, []), max = Max}.

%% @doc Start the process that keeps count for a listener whose connections a function tells.
-spec start_link(limit(), hornbeam_pool:name(), hornbeam_counters:ref(), fun(() -> [pid()])) ->
    gen_server:start_ret().
start_link(Limit, Pool, Counters, Connections) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, {Limit, Pool, Counters, Connections}, []).

%% @doc Count the calling process as a connection, until its end. `full': it may say so to its
%% client; `overrun': it has no time for that.
-spec enter(limit()) -> ok | full | overrun.
enter(#limit{counts = Counts, max = Max} = Limit) ->
    case atomics:add_get(Counts, ?IN, 1) =< Max of
        true -> entered(?IN, ok);
        false -> turned_away(Limit)
    end.

turned_away(#limit{counts = Counts}) ->
    ok = atomics:sub(Counts, ?IN, 1),
    case atomics:add_get(Counts, ?TURNED_AWAY, 1) =< ?MOST_TURNED_AWAY of
        true -> entered(?TURNED_AWAY, full);
        false -> entered(?TURNED_AWAY, overrun)
    end.

%% While there is nobody, the next one looks for who is there.
entered(Place, Answer) ->
    _ = [Keeper ! {entered, self(), Place} || Keeper <- [whereis(?MODULE)], is_pid(Keeper)],
    Answer.

%% @doc How many connections there are.
-spec count(limit()) -> non_neg_integer().
count(#limit{counts = Counts}) ->
    atomics:get(Counts, ?IN).

%% @private
-spec init({limit(), hornbeam_pool:name(), hornbeam_counters:ref(), fun(() -> [pid()])}) ->
    {ok, #state{}}.
init({#limit{counts = Counts}, Pool, Counters, Connections}) ->
    There = Connections(),
    State = lists:foldl(fun(Pid, State) -> watched(Pid, ?IN, State) end,
                        #state{counts = Counts, pool = Pool, counters = Counters}, There),
    atomics:put(Counts, ?IN, length(There)),
    atomics:put(Counts, ?TURNED_AWAY, 0),
    {ok, State}.

watched(Connection, _Place, #state{places = Places} = State)
        when is_map_key(Connection, Places) ->
    State;
watched(Connection, Place, #state{places = Places} = State) ->
    _ = erlang:monitor(process, Connection),
    State#state{places = Places#{Connection => Place}}.

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
handle_info({entered, Connection, Place}, State) ->
    {noreply, watched(Connection, Place, State)};
handle_info({'DOWN', _Ref, process, Connection, Reason}, State) ->
    #state{counts = Counts, pool = Pool, counters = Counters, places = Places} = State,
    _ = [hornbeam_counters:add(http2_floods, Counters) || is_flood(Reason)],
    {Place, Others} = maps:take(Connection, Places),
    _ = [hornbeam_pool:process_down(Connection, Pool) || not is_orderly(Reason)],
    ok = atomics:sub(Counts, Place, 1),
    {noreply, State#state{places = Others}};
handle_info(_Stray, State) ->
    {noreply, State}.

%% Cowboy ends a connection so whose client has sent too much of something.
is_flood({shutdown, {connection_error, enhance_your_calm, _}}) -> true;
is_flood(_Reason) -> false.

%% Whether a connection has ended its exchanges itself.
is_orderly({shutdown, _Why}) -> true;
is_orderly(Reason) -> Reason =:= normal orelse Reason =:= shutdown.
