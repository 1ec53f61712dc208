%% Connections of several nodes, asked of one: found by their names, put together, and who does not
%% answer is named. The processes are connections as hornbeam_control_SUITE has them.
-module(hornbeam_control_cluster_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [names_say_where_something_is, a_node_without_a_name_has_plain_numbers,
     those_that_have_most_of_all_nodes_come_first, one_node_may_be_asked,
     a_connection_is_found_closed_and_traced_where_it_is,
     a_node_that_stands_still_is_named_and_waited_for_by_nobody,
     a_node_that_goes_meanwhile_is_named, what_is_not_for_other_nodes_is_refused,
     arguments_past_all_bounds_are_refused_wherever_it_is,
     stacks_of_all_workers_have_their_nodes, erlang_asks_all_nodes].

init_per_testcase(Name, Config)
        when Name =:= names_say_where_something_is;
             Name =:= a_node_without_a_name_has_plain_numbers ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config;
init_per_testcase(_Name, Config) ->
    {Port, [A, B, C]} = hornbeam_cluster:start(3),
    _ = [hornbeam_cluster:call(Node, ?MODULE, serve, []) || Node <- [A, B, C]],
    [hornbeam_eventually:holds(fun() ->
         length(hornbeam_cluster:call(Node, hornbeam_control_peers, nodes, [])) =:= 2
     end) || Node <- [A, B, C]],
    [{cluster, {Port, [A, B, C]}}, {a, A}, {b, B}, {c, C} | Config].

end_per_testcase(_Name, Config) ->
    case proplists:get_value(cluster, Config) of
        undefined -> ok = application:stop(hornbeam);
        Cluster -> hornbeam_cluster:stop(Cluster)
    end.

names_say_where_something_is(_Config) ->
    [?assertEqual({Text, Read}, {Text, hornbeam_control_name:id(Text)})
     || {Text, Read} <- [{17, {ok, here, 17}}, {<<"17">>, {ok, here, 17}},
                         {<<"n@10.0.0.1/17">>, {ok, {node, <<"n@10.0.0.1">>}, 17}},
                         {<<(atom_to_binary(node()))/binary, "/17">>, {ok, here, 17}},
                         {0, error}, {-1, error}, {1.5, error}, {<<>>, error}, {<<"x">>, error},
                         {<<"17 ">>, error}, {<<"n@h/">>, error}, {<<"n@h/x">>, error},
                         {<<"/17">>, error}, {<<"n/17">>, error}, {<<"a@b/c@d/1">>, error}]],
    [?assertEqual({Text, Read}, {Text, hornbeam_control_name:worker(Text)})
     || {Text, Read} <- [{<<"worker-1">>, {here, <<"worker-1">>}},
                         {<<"worker-1@/api">>, {here, <<"worker-1@/api">>}},
                         {<<"n@h/worker-1">>, {{node, <<"n@h">>}, <<"worker-1">>}},
                         {<<"n@h/worker-1@/a@b/c">>, {{node, <<"n@h">>}, <<"worker-1@/a@b/c">>}}]],
    Nodes = ['n@10.0.0.1', 'n-2@10.0.0.2', 'n-3@10.0.0.2'],
    [?assertEqual({Name, Named}, {Name, hornbeam_control_name:node_named(Name, Nodes)})
     || {Name, Named} <- [{<<"n@10.0.0.1">>, {ok, 'n@10.0.0.1'}},
                          {<<"10.0.0.1">>, {ok, 'n@10.0.0.1'}}, {<<"10.0.0.2">>, error},
                          {<<"n-3@10.0.0.2">>, {ok, 'n-3@10.0.0.2'}}, {<<"n">>, error},
                          {<<>>, error}]].

a_node_without_a_name_has_plain_numbers(_Config) ->
    Id = connection(#{bytes_out => 3}),
    try
        ?assertMatch({ok, #{open := 1, silent := [], connections := [#{id := Id} = One]}}
                         when not is_map_key(node, One),
                     perform(<<"connections">>, #{})),
        Text = integer_to_binary(Id),
        [?assertMatch({ok, #{id := Id}}, perform(<<"connection">>, #{<<"id">> => Given}))
         || Given <- [Id, Text]],
        ?assertMatch([#{id := Id}], hornbeam:connections(#{bytes_out => 3})),
        ?assertEqual({error, no_node}, hornbeam:kick(<<"n@h/", Text/binary>>, 1000, "")),
        ?assertMatch({error, _}, perform(<<"connection">>, #{<<"id">> => <<"n@h/17">>})),
        ?assertMatch({error, _}, perform(<<"connections">>, #{<<"node">> => 7}))
    after
        gone(Id)
    end.

those_that_have_most_of_all_nodes_come_first(Config) ->
    Ids = #{a := [A1, A2], b := [B1, _], c := [C1, _]} =
        maps:map(fun(Node, Bytes) -> [open(Config, Node, #{bytes_out => N}) || N <- Bytes] end,
                 #{a => [100, 2], b => [300, 1], c => [200, 3]}),
    {ok, Top} = ask(Config, <<"connections">>, #{<<"by">> => <<"sent">>, <<"most">> => 3}),
    ?assertMatch(#{open := 6, busy := 0, silent := []}, Top),
    ?assertEqual([{B1, name(Config, b)}, {C1, name(Config, c)}, {A1, name(Config, a)}],
                 [{Id, Node} || #{id := Id, node := Node} <- maps:get(connections, Top)]),
    %% One that is too busy to answer comes before all, of whichever node.
    Stuck = open(Config, c, busy),
    {ok, #{busy := 1, connections := [First, Second]}} =
        ask(Config, <<"connections">>, #{<<"by">> => <<"sent">>, <<"most">> => 2}),
    ?assertMatch(#{id := Stuck, state := busy}, First),
    ?assertMatch(#{id := B1}, Second),
    %% All are called otherwise.
    All = [A2, Stuck | lists:append(maps:values(Ids))],
    ?assertEqual(7, length(lists:usort(All))).

one_node_may_be_asked(Config) ->
    [_, B, _] = [open(Config, Node, #{}) || Node <- [a, b, c]],
    ?assertMatch({ok, #{open := 1, connections := [#{id := B}]}},
                 ask(Config, <<"connections">>, #{<<"node">> => text(Config, b)})),
    {error, Sentence} = ask(Config, <<"connections">>, #{<<"node">> => <<"nobody@nowhere">>}),
    ?assertMatch({match, _}, re:run(Sentence, text(Config, c))),
    ?assertMatch({error, _}, ask(Config, <<"connections">>, #{<<"node">> => text(Config, b),
                                                              <<"most">> => 0})).

a_connection_is_found_closed_and_traced_where_it_is(Config) ->
    Id = open(Config, b, #{bytes_out => 7}),
    Node = name(Config, b),
    ?assertMatch({ok, #{id := Id, node := Node, bytes_out := 7}},
                 ask(Config, <<"connection">>, #{<<"id">> => Id})),
    Traced = on(Config, a, trace, [#{<<"id">> => Id, <<"messages">> => 300, <<"bodies">> => 2}]),
    hornbeam_eventually:holds(fun() -> on(Config, b, says, [Id, []]) =/= off end),
    _ = on(Config, b, says, [Id, [{in, text, integer_to_binary(N)} || N <- lists:seq(1, 300)]]),
    {Notes, Outcome} = on(Config, a, traced, [Traced]),
    ?assertEqual({ok, #{ended => limit, dropped => 0}}, Outcome),
    ?assertEqual([hornbeam_msgpack:bytes(list_to_binary(lists:sublist(integer_to_list(N), 2)))
                  || N <- lists:seq(1, 300)],
                 [Body || #{body := Body} <- Notes]),
    ?assertEqual({ok, undefined}, ask(Config, <<"kick">>, #{<<"id">> => Id, <<"code">> => 4000,
                                                            <<"reason">> => <<"out">>})),
    hornbeam_eventually:holds(fun() -> on(Config, b, kicked, []) =:= [{4000, <<"out">>}] end),
    _ = on(Config, b, gone, [Id]),
    {error, Gone} = ask(Config, <<"connection">>, #{<<"id">> => Id}),
    ?assertMatch({match, _}, re:run(Gone, "there is no open connection")).

a_node_that_stands_still_is_named_and_waited_for_by_nobody(Config) ->
    [_, B, C] = [open(Config, Node, #{}) || Node <- [a, b, c]],
    hornbeam_cluster:pause(proplists:get_value(b, Config)),
    Silent = name(Config, b),
    {Microseconds, {ok, Top}} = timer:tc(fun() -> ask(Config, <<"connections">>, #{}) end),
    ?assertMatch(#{open := 2, silent := [Silent]}, Top),
    ?assert(Microseconds < 5000000),
    ?assertMatch({ok, #{id := C}}, ask(Config, <<"connection">>, #{<<"id">> => C})),
    {error, Sentence} = ask(Config, <<"connection">>, #{<<"id">> => B}),
    ?assertMatch({match, _}, re:run(Sentence, "does not answer")),
    {ok, Stacks} = ask(Config, <<"stacks">>, #{}),
    ?assert(lists:member(#{node => Silent, error => <<"no_answer">>}, Stacks)),
    ?assertEqual({error, no_answer}, on(Config, a, hornbeam, kick, [B, 1000, ""])),
    ?assertEqual([#{node => Silent, state => silent}],
                 on(Config, a, hornbeam, connections, [#{mount => <<"/none">>}])).

a_node_that_goes_meanwhile_is_named(Config) ->
    _ = open(Config, b, #{}),
    Asked = on(Config, a, start_asking, [<<"connections">>, #{<<"seconds">> => 60}]),
    hornbeam_eventually:holds(fun() ->
        on(Config, b, hornbeam_link_calls, serving, [control]) =:= 1
    end),
    hornbeam_cluster:kill_node(proplists:get_value(b, Config)),
    hornbeam_eventually:holds(fun() -> on(Config, a, hornbeam_control_peers, nodes, [])
                                           =:= [name(Config, c)] end),
    true = on(Config, a, erlang, exit, [Asked, kill]),
    hornbeam_eventually:holds(fun() ->
        on(Config, c, hornbeam_link_calls, serving, [control]) =:= 0
    end).

what_is_not_for_other_nodes_is_refused(Config) ->
    [begin
         {error, Sentence} = on(Config, a, hornbeam_control_peers, perform,
                                [name(Config, b), Name, #{}, fun ?MODULE:never/1, 0]),
         ?assertMatch({match, _}, re:run(Sentence, "not for another node"))
     end || Name <- [<<"drain">>, <<"reload">>, <<"log_level">>, <<"doctor">>, <<"nothing">>]].

arguments_past_all_bounds_are_refused_wherever_it_is(Config) ->
    There = open(Config, b, #{}),
    [begin
         {error, Sentence} = ask(Config, Name, Args#{<<"seconds">> => Seconds}),
         ?assertMatch({match, _}, re:run(Sentence, "argument seconds has to be"))
     end || Seconds <- [1 bsl 33, 1 bsl 70, -1, -(1 bsl 70)],
            {Name, Args} <- [{<<"connections">>, #{}},
                             {<<"connections">>, #{<<"node">> => text(Config, b)}},
                             {<<"trace">>, #{<<"id">> => There}}]].

stacks_of_all_workers_have_their_nodes(Config) ->
    {ok, Stacks} = ask(Config, <<"stacks">>, #{}),
    ?assertEqual(lists:sort([{name(Config, Node), <<"worker-1">>} || Node <- [a, b, c]]),
                 lists:sort([{Node, Worker} || #{node := Node, worker := Worker} <- Stacks])),
    Name = name(Config, c),
    ?assertMatch({ok, [#{node := Name, worker := <<"worker-1">>}]},
                 ask(Config, <<"stacks">>, #{<<"worker">> => <<(text(Config, c))/binary,
                                                               "/worker-1">>})),
    ?assertMatch({ok, [#{node := Name}]}, ask(Config, <<"stacks">>,
                                              #{<<"node">> => text(Config, c)})),
    ?assertEqual({error, no_worker},
                 on(Config, a, hornbeam, stacks, [<<(text(Config, c))/binary, "/worker-9">>])).

erlang_asks_all_nodes(Config) ->
    [A, B, C] = [open(Config, Node, #{bytes_in => 5}) || Node <- [a, b, c]],
    Listed = fun(Filter) -> lists:sort([Id || #{id := Id} <- on(Config, a, hornbeam, connections,
                                                                [Filter])]) end,
    ?assertEqual(lists:sort([A, B, C]), Listed(#{})),
    ?assertEqual([B], Listed(#{node => name(Config, b)})),
    ?assertEqual([C], Listed(#{id => C, bytes_in => 5})),
    ?assertEqual(lists:sort([A, B, C]), Listed(fun ?MODULE:has_five/1)),
    ?assertEqual([], Listed(#{bytes_in => 6})),
    ?assertEqual(ok, on(Config, a, hornbeam, kick, [B, 1000, "bye"])),
    hornbeam_eventually:holds(fun() -> on(Config, b, kicked, []) =:= [{1000, <<"bye">>}] end),
    ?assertEqual({error, {bad_code, 1}}, on(Config, a, hornbeam, kick, [B, 1, ""])),
    ?assertEqual({error, no_node}, on(Config, a, hornbeam, kick, ["no@where/1", 1000, ""])).

%%% On the nodes: a server is one that can be asked.

serve() ->
    {ok, Pid} = hornbeam_control_peers:start_link(start()),
    true = unlink(Pid),
    ok.

start() -> #{node => ?MODULE, options => none}.

info() -> #{workers => [#{name => <<"worker-1">>}]}.
stacks(_Worker) -> {ok, #{streams => [], threads => []}}.
kick(Id, Code, Reason) -> hornbeam_connection_registry:kick(Id, Code, Reason).

never(_Item) -> error(an_item).

has_five(#{bytes_in := 5}) -> true;
has_five(_Other) -> false.

perform(Name, Args) ->
    hornbeam_control_cluster:perform(Name, Args, fun ?MODULE:never/1, start()).

start_asking(Name, Args) ->
    spawn(?MODULE, perform, [Name, Args]).

trace(Args) ->
    Self = spawn(fun() ->
        Collector = self(),
        Outcome = hornbeam_control_cluster:perform(<<"trace">>, Args, fun(Note) ->
            Collector ! {note, Note},
            ok
        end, start()),
        receive {traced, From} -> From ! {traced, notes(), Outcome} end
    end),
    Self.

notes() ->
    receive {note, Note} -> [Note | notes()] after 0 -> [] end.

traced(Pid) ->
    Pid ! {traced, self()},
    receive {traced, Notes, Outcome} -> {Notes, Outcome} after 20000 -> error(not_traced) end.

%% The number of a connection in a process of its own.
connection(Description) ->
    Test = self(),
    Pid = spawn(fun() ->
        Test ! {self(), hornbeam_connection_registry:add(self(), websocket, <<"/">>)},
        hornbeam_control_SUITE:lives(Description, off)
    end),
    receive {Pid, Id} -> Id end.

kicked() -> persistent_term:get(kicked, []).

says(Id, What) when is_binary(Id) ->
    {ok, here, Own} = hornbeam_control_name:id(Id),
    hornbeam_control_SUITE:says(Own, What).

gone(Id) when is_binary(Id) ->
    {ok, here, Own} = hornbeam_control_name:id(Id),
    gone(Own);
gone(Id) ->
    {ok, Pid} = hornbeam_connection_registry:find(Id),
    hornbeam_eventually:dead(Pid),
    [] = hornbeam_connection_registry:owners().

%%% Helpers.

%% What it is called everywhere.
open(Config, Node, Description) ->
    hornbeam_control_name:global(name(Config, Node), on(Config, Node, connection, [Description])).

ask(Config, Name, Args) ->
    on(Config, a, perform, [Name, Args]).

name(Config, Node) -> hornbeam_cluster:node(proplists:get_value(Node, Config)).

text(Config, Node) -> atom_to_binary(name(Config, Node)).

on(Config, Node, Function, Args) -> on(Config, Node, ?MODULE, Function, Args).

on(Config, Node, Module, Function, Args) ->
    hornbeam_cluster:call(proplists:get_value(Node, Config), Module, Function, Args).
