%% Keeps count of the listener's connections, and keeps none of them for nothing.
%%
%% A connection's process enters before it reads a byte, and is out when it ends. Between two
%% requests it is watched: a client that is silent for `keepalive_timeout' is sent away, one that
%% has begun a head gets `header_timeout' from there and then a 408. Cowboy's own timers for
%% that differ from version to version.
-module(hornbeam_doorkeeper).
-behaviour(gen_server).

-export([start_link/1, enter/1, idle/3, count/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([door/0]).

-record(door, {
    keeper :: pid(),
    %% 1: connections; 2: those that are being turned away
    counts :: atomics:atomics_ref(),
    idle :: ets:table(),
    max :: pos_integer() | infinity,
    keepalive :: pos_integer()
}).
-opaque door() :: #door{}.

-record(state, {
    door :: door(),
    header_timeout :: pos_integer(),
    pause :: pos_integer(),
    counters :: hornbeam_counters:ref()
}).

%% A connection whose client had the last word.
-record(idle, {
    connection :: pid() | '_',
    socket :: hornbeam_connection:socket() | '_',
    turn :: hornbeam_turn:turn() | '_',
    waits_for = request :: request | rest_of_head | '_',
    deadline :: integer() | '$1',
    received :: non_neg_integer() | '_'
}).

-define(IN, 1).
-define(TURNED_AWAY, 2).

%% So many at a time are told why they may not come in; more are cut without a word.
-define(MOST_TURNED_AWAY, 1024).

%% How often late clients are looked for (ms), at most and at least.
-define(SELDOM, 1000).
-define(OFTEN, 20).

%% @doc Start the process that keeps count; it ends with the caller.
-spec start_link(hornbeam_mounts:mount()) -> {ok, door()}.
start_link(Mount) ->
    {ok, Keeper} = gen_server:start_link(?MODULE, Mount, []),
    {ok, gen_server:call(Keeper, door)}.

%% @doc Count the calling process as a connection, until its end.
-spec enter(door()) -> ok | full | overrun.
enter(#door{counts = Counts, max = Max} = Door) ->
    case atomics:add_get(Counts, ?IN, 1) =< Max of
        true -> entered(?IN, ok, Door);
        false -> turned_away(Door)
    end.

turned_away(#door{counts = Counts} = Door) ->
    ok = atomics:sub(Counts, ?IN, 1),
    Answer = case atomics:add_get(Counts, ?TURNED_AWAY, 1) =< ?MOST_TURNED_AWAY of
        true -> full;
        false -> overrun
    end,
    entered(?TURNED_AWAY, Answer, Door).

entered(Place, Answer, #door{keeper = Keeper}) ->
    Keeper ! {entered, self(), Place},
    Answer.

%% @doc How many connections there are.
-spec count(door()) -> non_neg_integer().
count(#door{counts = Counts}) ->
    atomics:get(Counts, ?IN).

%% @doc Watch the calling process's connection, whose client may send the next request.
-spec idle(hornbeam_connection:socket(), hornbeam_turn:turn(), door()) -> ok.
idle(Socket, Turn, #door{idle = Table, keepalive = Keepalive}) ->
    true = ets:insert(Table, #idle{connection = self(), socket = Socket, turn = Turn,
                                   deadline = now_ms() + Keepalive,
                                   received = hornbeam_connection:received(Socket)}),
    ok.

%% @private
-spec init(hornbeam_mounts:mount()) -> {ok, #state{}}.
init(#{options := Options, counters := Counters}) ->
    #{max_connections := Max, keepalive_timeout := Keepalive, header_timeout := Header} = Options,
    Table = ets:new(?MODULE, [public, {keypos, #idle.connection}, {write_concurrency, true}]),
    Door = #door{keeper = self(), counts = atomics:new(2, []), idle = Table, max = Max,
                 keepalive = Keepalive},
    State = #state{door = Door, header_timeout = Header, counters = Counters,
                   pause = max(?OFTEN, min(?SELDOM, min(Keepalive, Header) div 4))},
    look_later(State),
    {ok, State}.

look_later(#state{pause = Pause}) ->
    _ = erlang:send_after(Pause, self(), look),
    ok.

%% @private
-spec handle_call(door, gen_server:from(), #state{}) -> {reply, door(), #state{}}.
handle_call(door, _From, #state{door = Door} = State) ->
    {reply, Door, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({entered, Connection, Place}, State) ->
    _ = erlang:monitor(process, Connection, [{tag, {out, Place}}]),
    {noreply, State};
handle_info({{out, Place}, _Ref, process, Connection, _Reason}, #state{door = Door} = State) ->
    ok = atomics:sub(Door#door.counts, Place, 1),
    true = ets:delete(Door#door.idle, Connection),
    {noreply, State};
handle_info(look, #state{door = #door{idle = Table}} = State) ->
    Late = #idle{connection = '_', socket = '_', turn = '_', waits_for = '_', received = '_',
                 deadline = '$1'},
    Found = ets:select(Table, [{Late, [{'<', '$1', now_ms()}], ['$_']}]),
    lists:foreach(fun(Idle) -> late(Idle, State) end, Found),
    look_later(State),
    {noreply, State}.

late(#idle{turn = Turn, socket = Socket, received = Received} = Idle, State) ->
    case hornbeam_turn:is_clients(Turn) of
        true -> late(hornbeam_connection:received(Socket) > Received, Idle, State);
        false -> ok
    end.

late(false, Idle, State) ->
    cut(idle_closed, fun() -> ok end, Idle, State);
late(true, #idle{waits_for = request, connection = Connection}, State) ->
    #state{door = #door{idle = Table}, header_timeout = Timeout} = State,
    _ = ets:update_element(Table, Connection, [{#idle.waits_for, rest_of_head},
                                               {#idle.deadline, now_ms() + Timeout}]),
    ok;
late(true, #idle{waits_for = rest_of_head, socket = {Transport, Socket}} = Idle, State) ->
    {Status, Counter, Sentence} = hornbeam_head:answer(head_timeout),
    Answer = fun() -> Transport:send(Socket, hornbeam_response:raw(Status, Sentence)) end,
    cut(Counter, Answer, Idle, State).

%% In a process of its own: a client that does not read can make a send wait, until Cowboy has
%% waited for it to close, and that is bounded.
cut(Counter, Answer, #idle{turn = Turn} = Idle, #state{counters = Counters}) ->
    case hornbeam_turn:cut(Turn) of
        true ->
            hornbeam_counters:add(Counter, Counters),
            _ = spawn(fun() -> Answer(), gone(Idle) end),
            ok;
        false ->
            ok
    end.

%% Cowboy ends a connection neatly whose client has closed it.
gone(#idle{connection = Connection, socket = {Transport, Socket}}) ->
    Connection ! {element(2, Transport:messages()), Socket}.

now_ms() -> erlang:monotonic_time(millisecond).
