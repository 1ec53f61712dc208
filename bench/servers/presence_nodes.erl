%% Three nodes of Hornbeam and a crowd that is present on them, a third on each. Asked by HTTP, the
%% first of them does one thing for a while, one after the other, and tells how long each took:
%%
%%   join    a process becomes present
%%   told    the same, until who watches on the third node was told
%%   leave   a process that is present ends, until the first node does not list it any more
%%   list    the packed list of all, as an app gets it
%%   count   how many there are
%%
%% Started by servers/cowboy.py, which reads the port from its output.
-module(presence_nodes).

-export([start/0]).
%% Called on the nodes.
-export([fill/1, prepare/2, run/3, finish/1, watch/1]).

-type state() :: node() | [{Member :: pid(), Key :: binary()}].

-define(TOPIC, <<"bench">>).
-define(META, #{name => <<"0123456789abcdef">>, typing => false}).
-define(CALL, 120000).

%% @doc Serve on a free port of the loopback and print it.
-spec start() -> ok.
start() ->
    _ = spawn(fun serve/0),
    ok.

serve() ->
    Nodes = start_nodes(),
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false},
                                        {packet, http_bin}]),
    {ok, Port} = inet:port(Listener),
    io:format("listening on 127.0.0.1:~b~n", [Port]),
    accept(Listener, Nodes).

%% Their epmd ends with us: its shell does when its input does.
start_nodes() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Socket),
    ok = gen_tcp:close(Socket),
    Epmd = io_lib:format("epmd -port ~b -address 127.0.0.1 & cat; kill $!", [Port]),
    _ = open_port({spawn_executable, "/bin/sh"}, [{args, ["-c", lists:flatten(Epmd)]}]),
    Nodes = [{_, First} | Others] = [start_node(Port) || _ <- [1, 2, 3]],
    [true = call(Node, net_kernel, connect_node, [First]) || Node <- Others],
    Nodes.

start_node(Port) ->
    Env = [{"ERL_EPMD_PORT", integer_to_list(Port)}],
    Paths = lists:append([["-pa", Path] || Path <- code:get_path(), filelib:is_dir(Path)]),
    {ok, Peer, Node} = peer:start_link(#{
        name => peer:random_name(presence), host => "127.0.0.1", longnames => true, env => Env,
        connection => standard_io, wait_boot => 60000,
        args => ["-setcookie", "presence", "-kernel", "inet_dist_use_interface", "{127,0,0,1}",
                 "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none",
                 "-kernel", "logger_level", "error" | Paths]
    }),
    {ok, _} = call({Peer, Node}, application, ensure_all_started, [hornbeam]),
    {Peer, Node}.

call({Peer, _Node}, Module, Function, Args) ->
    peer:call(Peer, Module, Function, Args, ?CALL).

accept(Listener, Nodes) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    {ok, {http_request, 'GET', {abs_path, Target}, _}} = gen_tcp:recv(Socket, 0),
    #{query := Query} = uri_string:parse(Target),
    #{<<"rows">> := Rows, <<"op">> := Op, <<"seconds">> := Seconds} =
        maps:from_list(uri_string:dissect_query(Query)),
    Json = answer(binary_to_integer(Rows), binary_to_existing_atom(Op), number(Seconds), Nodes),
    ok = inet:setopts(Socket, [{packet, raw}]),
    ok = gen_tcp:send(Socket, [
        <<"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n">>,
        <<"content-length: ">>, integer_to_binary(iolist_size(Json)), <<"\r\n\r\n">>, Json]),
    ok = gen_tcp:close(Socket),
    accept(Listener, Nodes).

number(Text) ->
    case string:to_float(Text) of
        {error, no_float} -> float(binary_to_integer(Text));
        {Float, _} -> Float
    end.

answer(Rows, Op, Seconds, Nodes = [First, _, {_, Third}]) ->
    [call(Node, ?MODULE, fill, [Rows div 3]) || Node <- Nodes],
    State = call(First, ?MODULE, prepare, [Op, Third]),
    [await_count(Node, 3 * (Rows div 3) + more(Op)) || Node <- Nodes],
    Before = sent(First),
    {Took, Samples} = call(First, ?MODULE, run, [Op, State, Seconds]),
    Bytes = sent(First) - Before,
    call(First, ?MODULE, finish, [Op]),
    [await_count(Node, 3 * (Rows div 3)) || Node <- Nodes],
    figures(lists:sort(Samples), length(Samples), Took, Bytes).

await_count(Node, Count) ->
    case call(Node, hornbeam_presence, count, [?TOPIC]) of
        Count -> ok;
        _ -> receive after 10 -> await_count(Node, Count) end
    end.

sent(Node) ->
    Ports = [Port || {_, Port} <- call(Node, erlang, system_info, [dist_ctrl])],
    lists:sum([Bytes || Port <- Ports,
                        {ok, [{send_oct, Bytes}]} <- [call(Node, inet, getstat,
                                                           [Port, [send_oct]])]]).

figures(Samples, Count, Took, Bytes) ->
    io_lib:format("{\"messages\": ~b, \"seconds\": ~.6f, \"p50_us\": ~.3f, \"p99_us\": ~.3f, "
                  "\"sent_bytes\": ~.1f}",
                  [Count, Took / 1.0e6, at(Samples, Count, 0.5), at(Samples, Count, 0.99),
                   Bytes / Count]).

at(Samples, Count, Share) ->
    lists:nth(max(1, ceil(Count * Share)), Samples) / 1000.

%%% On the nodes

%% @doc Let so many be present here.
-spec fill(non_neg_integer()) -> ok.
fill(Count) ->
    Members = persistent_term:get(?MODULE, []),
    case Count - length(Members) of
        More when More >= 0 ->
            persistent_term:put(?MODULE, [joined() || _ <- lists:seq(1, More)] ++ Members);
        Fewer ->
            {Gone, Left} = lists:split(-Fewer, Members),
            lists:foreach(fun left/1, Gone),
            persistent_term:put(?MODULE, Left)
    end.

joined() ->
    Caller = self(),
    Key = iolist_to_binary([atom_to_binary(node()), $:,
                            integer_to_binary(erlang:unique_integer([positive]))]),
    Member = spawn(fun() ->
        {ok, _} = hornbeam_presence:track(?TOPIC, Key, ?META),
        Caller ! {self(), present, Key},
        receive stop -> ok end
    end),
    receive {Member, present, Key} -> {Member, Key} end.

left({Member, _Key}) ->
    exit(Member, kill).

%% @doc Do one thing for so many seconds; the time (us), and that of each in ns.
-spec run(atom(), state(), float()) -> {pos_integer(), [pos_integer()]}.
run(told, Third, Seconds) ->
    Watcher = erpc:call(Third, ?MODULE, watch, [self()]),
    Result = measured(told, [], Seconds),
    exit(Watcher, kill),
    Result;
run(Op, State, Seconds) ->
    measured(Op, State, Seconds).

measured(Op, State, Seconds) ->
    Began = erlang:monotonic_time(microsecond),
    {Samples, Left} = repeat(Op, State, Began + round(Seconds * 1.0e6), []),
    Took = erlang:monotonic_time(microsecond) - Began,
    persistent_term:put({?MODULE, Op}, Left),
    {Took, Samples}.

%% @doc What an operation begins with.
-spec prepare(atom(), node()) -> state().
prepare(told, Third) -> Third;
prepare(Op, _Third) -> [joined() || _ <- lists:seq(1, more(Op))].

%% Those who are to leave are present beside the others.
more(leave) -> 20000;
more(_Op) -> 0.

repeat(leave, [], _End, Samples) ->
    {Samples, []};
repeat(Op, State, End, Samples) ->
    Before = erlang:monotonic_time(nanosecond),
    case Before > End * 1000 of
        true ->
            {Samples, State};
        false ->
            Next = do(Op, State),
            repeat(Op, Next, End, [erlang:monotonic_time(nanosecond) - Before | Samples])
    end.

do(join, Members) ->
    [joined() | Members];
do(told, Members) ->
    {_, Key} = Member = joined(),
    receive {told, Key} -> [Member | Members] end;
do(leave, [{Member, Key} | Members]) ->
    exit(Member, kill),
    await_gone(Member, Key),
    Members;
do(list, State) ->
    Rows = hornbeam_presence_rows:members(?TOPIC),
    _ = iolist_to_binary(hornbeam_presence_message:members(Rows)),
    State;
do(count, State) ->
    _ = hornbeam_presence:count(?TOPIC),
    State.

await_gone(Member, Key) ->
    case hornbeam_presence_rows:owned(Member, ?TOPIC, Key) of
        none -> ok;
        _ -> erlang:yield(), await_gone(Member, Key)
    end.

%% @doc Let those leave who have joined.
-spec finish(atom()) -> ok.
finish(Op) ->
    lists:foreach(fun left/1, persistent_term:get({?MODULE, Op})).

%% @doc A process that watches here and tells another one of who joins.
-spec watch(pid()) -> pid().
watch(Caller) ->
    Asked = self(),
    Watcher = spawn(fun() ->
        ok = hornbeam_presence:subscribe(?TOPIC),
        Asked ! {self(), watches},
        tell(Caller)
    end),
    receive {Watcher, watches} -> Watcher end.

tell(Caller) ->
    receive
        {hornbeam_pubsub, _, #{<<"payload">> := #{<<"joins">> := Joins}}} ->
            lists:foreach(fun(Key) -> Caller ! {told, Key} end, maps:keys(Joins));
        _ ->
            ok
    end,
    tell(Caller).
