%% The floor of what is forwarded: connections of Hornbeam's WebSocket engine as members of one pg
%% group. What is on its way to each is counted in its outbox, so that a client which does not read
%% cannot fill the node, and each text is published when a Python that only reads and writes has
%% sent it back. No worker, no topics, no limits but the outbox's, no account of what was written
%% to whom. Started by servers/cowboy.py, which reads the port from its output.
-module(bare_fanout).

-export([start/2]).
-export([opened/1, handle_frame/2, handle_info/2, sent/2, closed/2]).

-type role() :: subscribe | {publish, Python :: string(), Script :: string()}.
-type state() :: role() | {publish, port()}
               | {subscribe, Frames :: non_neg_integer(), Bytes :: non_neg_integer()}.

%% The outbox of each connection.
-define(OUTBOXES, bare_fanout_outboxes).

%% The outbox's limits, and after how many frames they are counted as written.
-define(LIMITS, {1024, 1048576}).
-define(SETTLED, 32).

%% @doc Serve on a free port of the loopback and print it.
-spec start(Python :: string(), Script :: string()) -> ok.
start(Python, Script) ->
    {ok, _} = pg:start(?MODULE),
    _ = spawn(fun() ->
        ok = hornbeam_outbox:new_table(),
        ?OUTBOXES = ets:new(?OUTBOXES, [named_table, public, {read_concurrency, true}]),
        ok = engine_websocket:listen(?MODULE, ?MODULE, #{
            <<"/subscribe">> => subscribe, <<"/publish">> => {publish, Python, Script}
        }),
        receive never -> ok end
    end),
    ok.

%% @private
-spec opened(role()) -> {[term()], state()}.
opened(subscribe) ->
    true = ets:insert(?OUTBOXES, {self(), hornbeam_outbox:new(self(), ?LIMITS)}),
    ok = pg:join(?MODULE, subscribers, self()),
    {[{text, <<"subscribed">>}], {subscribe, 0, 0}};
opened({publish, Python, Script}) ->
    Port = open_port({spawn_executable, Python},
                     [{args, [Script]}, nouse_stdio, binary, {packet, 4}]),
    {[], {publish, Port}}.

%% @private
-spec handle_frame(term(), state()) -> {[term()], state()}.
handle_frame({text, Text}, {publish, Port} = State) ->
    true = port_command(Port, Text),
    {[], State};
handle_frame({failed, _Fault}, State) ->
    {[{close, 1002, <<>>}], State};
handle_frame(_Frame, State) ->
    {[], State}.

%% @private
-spec handle_info(term(), state()) -> {[term()], state()}.
handle_info({forward, Outbox, Frame}, {subscribe, Frames, Bytes}) ->
    {[{finished, Frame}],
     settled(Outbox, Frames + 1, Bytes + hornbeam_websocket_frame:payload_size(Frame))};
handle_info({Port, {data, Text}}, {publish, Port} = State) ->
    Frame = hornbeam_websocket_frame:new(text, Text),
    lists:foreach(fun(Pid) -> push(ets:lookup(?OUTBOXES, Pid), Frame) end,
                  pg:get_members(?MODULE, subscribers)),
    {[], State};
handle_info(_Other, State) ->
    {[], State}.

push([{_, Outbox}], Frame) ->
    Size = hornbeam_websocket_frame:payload_size(Frame),
    0 = hornbeam_outbox:push(Outbox, Frame, Size, drop_oldest).

%% Counted one frame too early: this one is written when the callback has returned.
settled(Outbox, ?SETTLED, Bytes) ->
    [] = hornbeam_outbox:written(Outbox, ?SETTLED, Bytes),
    {subscribe, 0, 0};
settled(_Outbox, Frames, Bytes) ->
    {subscribe, Frames, Bytes}.

%% @private
-spec sent(term(), state()) -> {[], state()}.
sent(_What, State) ->
    {[], State}.

%% @private
-spec closed(term(), state()) -> ok.
closed(_Reason, _State) ->
    true = ets:delete(?OUTBOXES, self()),
    ok.
