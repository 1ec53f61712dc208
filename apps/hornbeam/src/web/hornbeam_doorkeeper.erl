%% Keeps count of the listener's connections, and keeps none of them for nothing.
%%
%% A connection's process enters before it reads a byte, and is out when it ends. Between two
%% requests it is watched: a client that is silent for `keepalive_timeout' is sent away, one that
%% has begun a head gets `header_timeout' from there and then a 408. Cowboy's own timers for
%% that differ from version to version. The connections write down in their turn (hornbeam_turn)
%% since when it is the client's; here is looked at that from time to time. What a connection needed
%% for its requests is taken from it when the client has been silent for a while.
-module(hornbeam_doorkeeper).
-behaviour(gen_server).

-export([start_link/1, enter/1, watch/3, count/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([door/0]).

-record(door, {
    keeper :: pid(),
    %% 1: connections; 2: those that are being turned away
    counts :: atomics:atomics_ref(),
    watched :: ets:table(),
    max :: pos_integer() | infinity
}).
-opaque door() :: #door{}.

-record(state, {
    door :: door(),
    pool :: hornbeam_pool:name(),
    keepalive_timeout :: pos_integer(),
    header_timeout :: pos_integer(),
    pause :: pos_integer(),
    counters :: hornbeam_counters:ref()
}).

%% A connection whose client has had a turn; the turn in which it was seen to have sent the
%% beginning of a head: since when it had it, and until when the rest has to come; and the turn in
%% which its garbage was collected.
-record(watched, {
    connection :: pid() | '$1',
    socket :: hornbeam_connection:socket() | '_',
    turn :: hornbeam_turn:turn() | '$2',
    part = none :: none | {Since :: integer(), Deadline :: integer()} | '$3',
    swept = none :: none | integer() | '$4'
}).

-define(IN, 1).
-define(TURNED_AWAY, 2).

%% So many at a time are told why they may not come in; more are cut without a word.
-define(MOST_TURNED_AWAY, 1024).

%% How often late clients are looked for (ms), at most and at least.
-define(SELDOM, 1000).
-define(OFTEN, 20).

%% For how long a client has been silent whose connection is swept (ms). A collection costs a
%% third of a request.
-define(REST, 10000).

%% So many connections are looked at in one go.
-define(CHUNK, 500).

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

%% @doc Watch the calling process's connection from now on, whenever its client has the turn.
-spec watch(hornbeam_connection:socket(), hornbeam_turn:turn(), door()) -> ok.
watch(Socket, Turn, #door{watched = Table}) ->
    true = ets:insert(Table, #watched{connection = self(), socket = Socket, turn = Turn}),
    ok.

%% @private
-spec init(hornbeam_mounts:mount()) -> {ok, #state{}}.
init(#{pool := Pool, server := Server, counters := Counters}) ->
    #{max_connections := Max, keepalive_timeout := Keepalive, header_timeout := Header} = Server,
    Table = ets:new(?MODULE, [public, {keypos, #watched.connection}, {write_concurrency, true}]),
    Door = #door{keeper = self(), counts = atomics:new(2, []), watched = Table, max = Max},
    State = #state{door = Door, pool = Pool, keepalive_timeout = Keepalive, header_timeout = Header,
                   counters = Counters,
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
handle_info({{out, Place}, _Ref, process, Connection, Reason}, State) ->
    #state{door = Door, pool = Pool} = State,
    _ = [hornbeam_pool:process_down(Connection, Pool)
         || not hornbeam_connection:has_ended_exchanges(Reason)],
    ok = atomics:sub(Door#door.counts, Place, 1),
    true = ets:delete(Door#door.watched, Connection),
    {noreply, State};
handle_info(look, #state{door = #door{watched = Table}} = State) ->
    All = #watched{connection = '$1', socket = '_', turn = '$2', part = '$3', swept = '$4'},
    true = ets:safe_fixtable(Table, true),
    look(ets:select(Table, [{All, [], [{{'$1', '$2', '$3', '$4'}}]}], ?CHUNK), State),
    true = ets:safe_fixtable(Table, false),
    look_later(State),
    {noreply, State};
handle_info({garbage_collect, swept, _IsDone}, State) ->
    {noreply, State}.

look('$end_of_table', _State) ->
    ok;
look({Found, More}, State) ->
    Now = now_ms(),
    lists:foreach(fun({Connection, Turn, Part, Swept}) ->
        Since = hornbeam_turn:since(Turn),
        is_late(Since, Part, Now, State) andalso late(Since, Connection, State),
        is_at_rest(Since, Swept, Now) andalso sweep(Since, Connection, State)
    end, Found),
    look(ets:select(More), State).

is_late(no_turn, _Part, _Now, _State) ->
    false;
is_late(Since, {Since, Deadline}, Now, _State) ->
    Now > Deadline;
is_late(Since, _PartOfAnotherTurn, Now, #state{keepalive_timeout = Timeout}) ->
    Now > Since + Timeout.

is_at_rest(no_turn, _Swept, _Now) -> false;
is_at_rest(Since, Since, _Now) -> false;
is_at_rest(Since, _SweptInAnotherTurn, Now) -> Now > Since + ?REST.

sweep(Since, Connection, #state{door = #door{watched = Table}}) ->
    _ = ets:update_element(Table, Connection, {#watched.swept, Since}),
    _ = erlang:garbage_collect(Connection, [{async, swept}]),
    ok.

late(Since, Connection, #state{door = #door{watched = Table}} = State) ->
    [late(is_begun(Watched), Since, Watched, State) || Watched <- ets:lookup(Table, Connection)].

%% Whether something has come in this turn of the client's.
is_begun(#watched{socket = Socket, turn = Turn}) ->
    hornbeam_connection:received(Socket) > hornbeam_turn:received(Turn).

late(false, Since, Watched, State) ->
    cut(idle_closed, fun() -> ok end, Since, Watched, State);
late(true, Since, #watched{part = {Since, _}, socket = {Transport, Socket}} = Watched, State) ->
    {Status, Counter, Sentence} = hornbeam_head:answer(head_timeout),
    Answer = fun() -> Transport:send(Socket, hornbeam_response:raw(Status, Sentence)) end,
    cut(Counter, Answer, Since, Watched, State);
late(true, Since, #watched{connection = Connection}, State) ->
    #state{door = #door{watched = Table}, header_timeout = Timeout} = State,
    _ = ets:update_element(Table, Connection, {#watched.part, {Since, now_ms() + Timeout}}),
    ok.

%% In a process of its own: a client that does not read can make a send wait, until Cowboy has
%% waited for it to close, and that is bounded.
cut(Counter, Answer, Since, #watched{turn = Turn} = Watched, #state{counters = Counters}) ->
    case hornbeam_turn:cut(Since, Turn) of
        true ->
            hornbeam_counters:add(Counter, Counters),
            _ = spawn(fun() -> Answer(), gone(Watched) end),
            ok;
        false ->
            ok
    end.

%% Cowboy ends a connection neatly whose client has closed it.
gone(#watched{connection = Connection, socket = {Transport, Socket}}) ->
    Connection ! {element(2, Transport:messages()), Socket}.

now_ms() -> erlang:monotonic_time(millisecond).
