%% Functions and hooks that another node of the cluster has: found, called, and told why not.
-module(hornbeam_call_peers_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [a_function_of_another_node_is_called, what_is_here_is_preferred,
     calls_are_spread_over_those_that_have_it, what_another_node_says_is_told,
     what_is_taken_back_is_unknown, who_comes_later_is_told_all,
     a_node_that_dies_meanwhile_is_told, a_node_that_stands_still_costs_the_deadline_and_no_more,
     a_call_is_not_passed_on, a_cast_is_done_there,
     limits_of_the_node_that_is_called_hold,
     a_hook_of_a_worker_elsewhere_is_executed, a_hook_of_erlang_elsewhere_is_executed,
     what_cannot_travel_is_told_at_the_line, a_call_past_its_time_is_cancelled_there,
     an_execution_elsewhere_is_awaited_here,
     a_stream_elsewhere_gives_all_items_in_order, a_stream_left_early_is_closed_there,
     a_stream_of_a_node_that_dies_fails_after_its_items,
     a_node_that_ends_offers_nothing_and_answers_what_it_has_begun,
     the_service_may_crash, what_a_later_version_tells_is_ignored].

init_per_testcase(Name, Config) ->
    {Port, [A, B, C]} = hornbeam_cluster:start(3),
    Started = [{cluster, {Port, [A, B, C]}}, {a, A}, {b, B}, {c, C}, {hook, atom_to_binary(Name)}
               | Config],
    [hornbeam_eventually:holds(fun() ->
         length(hornbeam_cluster:call(Node, hornbeam_links, peers, [calls])) =:= 2
     end) || Node <- [A, B, C]],
    Started.

end_per_testcase(_Name, Config) ->
    hornbeam_cluster:stop(proplists:get_value(cluster, Config)).

%%% Functions.

a_function_of_another_node_is_called(Config) ->
    ?assertMatch({9, _}, call(Config, <<"add">>, [1, 2])),
    register_function(Config, b, <<"add">>, fun ?MODULE:add/2),
    offered(Config, a, {function, <<"add">>}, 1),
    ?assertEqual({ok, 3}, call(Config, <<"add">>, [1, 2])),
    ?assertEqual({ok, {1, <<"x">>}}, call(Config, <<"add">>, [{1}, {<<"x">>}])).

what_is_here_is_preferred(Config) ->
    [register_function(Config, Node, <<"where">>, fun ?MODULE:where/0) || Node <- [a, b, c]],
    offered(Config, a, {function, <<"where">>}, 2),
    [?assertEqual({ok, name(Config, a)}, call(Config, <<"where">>, []))
     || _ <- lists:seq(1, 30)].

calls_are_spread_over_those_that_have_it(Config) ->
    [register_function(Config, Node, <<"where">>, fun ?MODULE:where/0) || Node <- [b, c]],
    offered(Config, a, {function, <<"where">>}, 2),
    Called = [Node || _ <- lists:seq(1, 60), {ok, Node} <- [call(Config, <<"where">>, [])]],
    %% 60 of one alone would come once in 2^59.
    ?assertEqual({60, lists:sort([name(Config, b), name(Config, c)])},
                 {length(Called), lists:usort(Called)}).

what_another_node_says_is_told(Config) ->
    register_function(Config, b, <<"fails">>, fun ?MODULE:fails/1),
    offered(Config, a, {function, <<"fails">>}, 1),
    ?assertMatch({8, [<<"error">>, <<"oops">>, _]}, call(Config, <<"fails">>, [error])),
    ?assertMatch({8, [<<"exit">>, <<"killed">>, _]}, call(Config, <<"fails">>, [killed])),
    ?assertMatch({2, <<"the function takes 1 arguments, 2 were given">>},
                 call(Config, <<"fails">>, [1, 2])),
    ?assertMatch({6, _}, call(Config, <<"fails">>, [forever], 50)).

what_is_taken_back_is_unknown(Config) ->
    [register_function(Config, Node, <<"where">>, fun ?MODULE:where/0) || Node <- [b, c]],
    offered(Config, a, {function, <<"where">>}, 2),
    ok = on(Config, b, hornbeam, unregister_function, [where]),
    offered(Config, a, {function, <<"where">>}, 1),
    ?assertEqual({ok, name(Config, c)}, call(Config, <<"where">>, [])),
    ok = on(Config, c, hornbeam, unregister_function, [where]),
    offered(Config, a, {function, <<"where">>}, 0),
    ?assertMatch({9, <<"no function is registered under the name where">>},
                 call(Config, <<"where">>, [])),
    %% And if a node has heard of its end later than it is called.
    Peer = on(Config, b, hornbeam_links, own, []),
    ok = on(Config, a, hornbeam_call_peers, set, [Peer, {function, <<"where">>}, true]),
    ?assertMatch({9, _}, call(Config, <<"where">>, [])).

who_comes_later_is_told_all(Config) ->
    register_function(Config, b, <<"where">>, fun ?MODULE:where/0),
    {Port, Nodes} = proplists:get_value(cluster, Config),
    Later = hornbeam_cluster:add_node({Port, Nodes}, Nodes),
    try
        hornbeam_eventually:holds(fun() ->
            length(hornbeam_cluster:call(Later, hornbeam_call_peers, offering,
                                         [{function, <<"where">>}])) =:= 1
        end),
        ?assertEqual({ok, name(Config, b)},
                     hornbeam_cluster:call(Later, ?MODULE, perform, [40, [<<"where">>, [], 5000]]))
    after
        hornbeam_cluster:stop_node(Later)
    end.

a_node_that_dies_meanwhile_is_told(Config) ->
    register_function(Config, b, <<"fails">>, fun ?MODULE:fails/1),
    offered(Config, a, {function, <<"fails">>}, 1),
    Call = on(Config, a, start_call, [<<"fails">>, [forever]]),
    hornbeam_eventually:holds(fun() ->
        on(Config, b, hornbeam_link_calls, serving, [calls]) =:= 1
    end),
    hornbeam_cluster:kill_node(proplists:get_value(b, Config)),
    {11, Sentence} = on(Config, a, outcome, [Call]),
    ?assertMatch({match, _}, re:run(Sentence, atom_to_binary(name(Config, b)))),
    hornbeam_eventually:holds(fun() ->
        element(1, call(Config, <<"fails">>, [forever])) =:= 9
    end).

a_node_that_stands_still_costs_the_deadline_and_no_more(Config) ->
    register_function(Config, b, <<"where">>, fun ?MODULE:where/0),
    offered(Config, a, {function, <<"where">>}, 1),
    hornbeam_cluster:pause(proplists:get_value(b, Config)),
    ?assertMatch({6, _}, call(Config, <<"where">>, [], 50)),
    %% Others are served meanwhile.
    register_function(Config, c, <<"add">>, fun ?MODULE:add/2),
    offered(Config, a, {function, <<"add">>}, 1),
    ?assertEqual({ok, 3}, call(Config, <<"add">>, [1, 2])).

%% What a peer is asked for and has no more it does not ask another one for.
a_call_is_not_passed_on(Config) ->
    register_function(Config, c, <<"where">>, fun ?MODULE:where/0),
    offered(Config, b, {function, <<"where">>}, 1),
    Peer = on(Config, b, hornbeam_links, own, []),
    ?assertEqual({ok, not_here},
                 on(Config, a, hornbeam_link_calls, ask,
                    [Peer, calls, {function, <<"where">>, packed([]), 5000}, 5000])).

a_cast_is_done_there(Config) ->
    register_function(Config, b, <<"put">>, fun persistent_term:put/2),
    offered(Config, a, {function, <<"put">>}, 1),
    ?assertEqual({ok, undefined}, on(Config, a, perform, [41, [<<"put">>, [<<"k">>, 7]]])),
    hornbeam_eventually:holds(fun() ->
        on(Config, b, persistent_term, get, [<<"k">>, none]) =:= 7
    end).

limits_of_the_node_that_is_called_hold(Config) ->
    register_function(Config, b, <<"put">>, fun persistent_term:put/2),
    offered(Config, a, {function, <<"put">>}, 1),
    Defaults = on(Config, b, hornbeam_config, defaults, [server]),
    ok = on(Config, b, hornbeam_quota, set_limits, [Defaults#{state_max_bytes => 1000}]),
    {10, Sentence} = call(Config, <<"put">>, [<<"k">>, binary:copy(<<"x">>, 2000)]),
    ?assertMatch({match, _}, re:run(Sentence, "state_max_bytes")),
    ?assertEqual({ok, ok}, call(Config, <<"put">>, [<<"k">>, <<"x">>])),
    hornbeam_eventually:holds(fun() -> reserved(Config, b) =:= 0 end).

reserved(Config, Node) ->
    #{kinds := #{ops := #{bytes := Bytes}}} = on(Config, Node, hornbeam_quota, info, []),
    Bytes.

%%% Hooks.

a_hook_of_a_worker_elsewhere_is_executed(Config) ->
    worker(Config, b, fun({1, Hook, <<"act">>, Args, Kwargs}) -> {0, packed([Hook, Args, Kwargs])};
                         ({1, _, <<"fails">>, _, _}) -> {8, [<<"ValueError">>, <<"no">>, <<"T">>]};
                         ({1, _, _, _, _}) -> {9, <<"no such action">>} end),
    Execute = fun(Action) -> on(Config, a, hornbeam_hooks, execute,
                                [hook(Config), Action, [a, {1}], #{k => 1}]) end,
    ?assertEqual({ok, [hook(Config), [a, {1}], #{<<"k">> => 1}]}, Execute(<<"act">>)),
    ?assertEqual({error, {python, <<"ValueError">>, <<"no">>, <<"T">>}}, Execute(<<"fails">>)),
    ?assertEqual({error, {unknown, <<"no such action">>}}, Execute(<<"other">>)),
    %% Packed as Python gives it.
    ?assertEqual({ok, [hook(Config), [1, 2], #{}]},
                 on(Config, a, perform, [52, [hook(Config), <<"act">>, {args, [1, 2]}, {args, #{}},
                                              5000]])),
    hornbeam_eventually:holds(fun() -> reserved(Config, b) =:= 0 end).

a_hook_of_erlang_elsewhere_is_executed(Config) ->
    ok = on(Config, b, hornbeam, register_hook, [hook(Config), fun ?MODULE:handle/2]),
    offered(Config, a, {hook, hook(Config)}, 1),
    Execute = fun(Args) -> on(Config, a, hornbeam_hooks, execute, [hook(Config), act, Args]) end,
    ?assertEqual({ok, {<<"act">>, [1]}}, Execute([1])),
    ?assertMatch({error, {erlang, <<"error">>, <<"oops">>, _}}, Execute([oops])),
    ok = on(Config, b, hornbeam, unregister_hook, [hook(Config)]),
    offered(Config, a, {hook, hook(Config)}, 0),
    ?assertEqual({error, no_hook}, Execute([1])).

what_cannot_travel_is_told_at_the_line(Config) ->
    worker(Config, b, fun(_) -> {0, packed(1)} end),
    Failed = on(Config, a, raised, [hornbeam_hooks, execute, [hook(Config), act, [<<1:3>>]]]),
    ?assertEqual({error, {unencodable, [1], <<1:3>>}}, Failed).

a_call_past_its_time_is_cancelled_there(Config) ->
    Worker = worker(Config, b, fun(_) -> silent end),
    Run = [none, hook(Config), <<"act">>, {term, []}, {term, #{}}, 50],
    ?assertEqual({error, timeout}, on(Config, a, hornbeam_hooks, run, Run)),
    cancelled(Config, b, Worker),
    %% And of who dies while he waits.
    Caller = on(Config, a, start, [hornbeam_hooks, run, [none, hook(Config), <<"act">>, {term, []},
                                                         {term, #{}}, infinity]]),
    hornbeam_eventually:holds(fun() ->
        on(Config, b, hornbeam_link_calls, serving, [calls]) =:= 1
    end),
    true = on(Config, a, erlang, exit, [Caller, kill]),
    hornbeam_eventually:holds(fun() ->
        on(Config, b, hornbeam_fake_worker, asked, [Worker]) =:= [cancel, cancel]
    end),
    hornbeam_eventually:holds(fun() -> reserved(Config, b) =:= 0 end).

an_execution_elsewhere_is_awaited_here(Config) ->
    worker(Config, b, fun({1, _, _, Args, _}) -> {0, packed(Args)} end),
    {ok, Id} = on(Config, a, hornbeam_hooks, execute_async, [hook(Config), act, [1]]),
    ?assertEqual({ok, [1]}, on(Config, a, hornbeam_hooks, await_result, [Id, 5000])),
    ?assertEqual({error, unknown_id}, on(Config, a, hornbeam_hooks, await_result, [Id, 5000])).

a_stream_elsewhere_gives_all_items_in_order(Config) ->
    Items = lists:seq(1, 100),
    worker(Config, b, fun({2, _, _, _, _}) -> {items, Items} end),
    ?assertEqual(Items, on(Config, a, read_stream, [hook(Config), []])),
    %% A list of Erlang's.
    ok = on(Config, c, hornbeam, register_hook, [<<"list">>, fun ?MODULE:handle/2]),
    offered(Config, a, {hook, <<"list">>}, 1),
    ?assertEqual([<<"act">>, 7], on(Config, a, read_stream, [<<"list">>, [list]])),
    nothing_is_served(Config).

a_stream_left_early_is_closed_there(Config) ->
    Worker = worker(Config, b, fun({2, _, _, _, _}) -> {items, lists:seq(1, 100)} end),
    {ok, Id} = on(Config, a, open_stream, [hook(Config)]),
    {ok, [_ | _]} = on(Config, a, hornbeam_hooks, next, [Id, 5000]),
    ok = on(Config, a, hornbeam_hooks, close, [Id]),
    cancelled(Config, b, Worker),
    nothing_is_served(Config).

a_stream_of_a_node_that_dies_fails_after_its_items(Config) ->
    worker(Config, b, fun({2, _, _, _, _}) -> {items, lists:seq(1, 100)} end),
    {ok, Id} = on(Config, a, open_stream, [hook(Config)]),
    {ok, [1 | _]} = on(Config, a, hornbeam_hooks, next, [Id, 5000]),
    hornbeam_cluster:kill_node(proplists:get_value(b, Config)),
    Failed = {error, {node_down, name(Config, b)}},
    ?assertEqual(Failed, on(Config, a, hornbeam_hooks, next, [Id, 5000])),
    ?assertEqual({error, unknown_id}, on(Config, a, hornbeam_hooks, next, [Id, 5000])).

%%% Ends.

a_node_that_ends_offers_nothing_and_answers_what_it_has_begun(Config) ->
    [register_function(Config, Node, <<"slow">>, fun ?MODULE:until_told/0) || Node <- [b]],
    offered(Config, a, {function, <<"slow">>}, 1),
    Call = on(Config, a, start_call, [<<"slow">>, []]),
    hornbeam_eventually:holds(fun() -> is_pid(on(Config, b, erlang, whereis, [slow])) end),
    ok = on(Config, b, start_stop, []),
    offered(Config, a, {function, <<"slow">>}, 0),
    true = on(Config, b, tell_slow, []),
    ?assertEqual({ok, told}, on(Config, a, outcome, [Call])).

the_service_may_crash(Config) ->
    register_function(Config, b, <<"where">>, fun ?MODULE:where/0),
    offered(Config, a, {function, <<"where">>}, 1),
    [begin
         Before = on(Config, Node, erlang, whereis, [hornbeam_call_service]),
         true = on(Config, Node, erlang, exit, [Before, kill]),
         hornbeam_eventually:holds(fun() ->
             Now = on(Config, Node, erlang, whereis, [hornbeam_call_service]),
             is_pid(Now) andalso Now =/= Before
         end),
         hornbeam_eventually:holds(fun() ->
             call(Config, <<"where">>, []) =:= {ok, name(Config, b)}
         end)
     end || Node <- [a, b]],
    register_function(Config, b, <<"add">>, fun ?MODULE:add/2),
    offered(Config, a, {function, <<"add">>}, 1).

what_a_later_version_tells_is_ignored(Config) ->
    register_function(Config, b, <<"where">>, fun ?MODULE:where/0),
    offered(Config, a, {function, <<"where">>}, 1),
    Service = on(Config, a, erlang, whereis, [hornbeam_call_service]),
    Peer = on(Config, a, hornbeam_links, own, []),
    [ok = on(Config, b, hornbeam_link_calls, note, [Peer, calls, Note])
     || Note <- [new, {offers, 7}, {offers, [7 | more]}, {offer, 7, perhaps},
                 {offer, {function, <<"last">>}, true}]],
    offered(Config, a, {function, <<"last">>}, 1),
    ?assertEqual(Service, on(Config, a, erlang, whereis, [hornbeam_call_service])),
    ?assertEqual({ok, name(Config, b)}, call(Config, <<"where">>, [])).

%%% On the nodes.

add(A, B) when is_tuple(A) -> {ok, {element(1, A), element(1, B)}};
add(A, B) -> A + B.

where() -> node().

fails(error) -> error(oops);
fails(killed) -> exit(self(), kill);
fails(forever) -> receive never -> ok end.

until_told() ->
    true = register(slow, self()),
    receive told -> told end.

tell_slow() -> slow ! told, true.

handle(_Action, [oops]) -> error(oops);
handle(Action, [list]) -> [Action, 7];
handle(Action, Args) -> {Action, Args}.

start_stop() ->
    _ = spawn(application, stop, [hornbeam]),
    ok.

start_call(Name, Args) ->
    start(?MODULE, perform, [40, [Name, Args, 60000]]).

start(Module, Function, Args) ->
    spawn(fun() ->
        Outcome = apply(Module, Function, Args),
        receive {outcome, From} -> From ! {outcome, Outcome} end
    end).

outcome(Call) ->
    Call ! {outcome, self()},
    receive {outcome, Outcome} -> Outcome after 10000 -> error(no_outcome) end.

raised(Module, Function, Args) ->
    try
        apply(Module, Function, Args)
    catch
        Class:Reason -> {Class, Reason}
    end.

%% An op as a worker makes it; its result as a term, or status and value.
perform(Op, Args) ->
    Worker = hornbeam_fake_worker:start(),
    Packed = iolist_to_binary(hornbeam_msgpack:encode(lists:map(fun arg/1, Args))),
    noreply = hornbeam_api:handle_op(Op, Packed, hornbeam_fake_worker:context(Worker, #{})),
    Reply = reply(Worker),
    hornbeam_fake_worker:stop(Worker),
    Reply.

arg({args, Value}) -> hornbeam_msgpack:bytes(packed(Value));
arg(List) when is_list(List) -> hornbeam_msgpack:bytes(packed(List));
arg(Value) -> Value.

reply(Worker) ->
    case hornbeam_fake_worker:written(Worker) of
        [] -> receive after 2 -> reply(Worker) end;
        [[_Code, 1, 1, 0, undefined]] -> {ok, undefined};
        [[_Code, 1, 1, 0, Value]] -> hornbeam_value:to_term({packed, bytes(Value)});
        [[_Code, 1, 1, Status, Value]] -> {Status, Value}
    end.

bytes(Value) when is_binary(Value) -> Value.

start_worker(Hook, App) ->
    Worker = hornbeam_fake_worker:start(App),
    ok = hornbeam_hooks:register_worker(Hook, hornbeam_fake_worker:handle(Worker)),
    Worker.

open_stream(Hook) ->
    Self = self(),
    _ = spawn(fun() ->
        Self ! {stream, hornbeam_hooks:stream(Hook, act, [])},
        receive never -> ok end
    end),
    receive {stream, Started} -> Started end.

read_stream(Hook, Args) ->
    {ok, Id} = hornbeam_hooks:stream(Hook, act, Args),
    read_items(Id).

read_items(Id) ->
    case hornbeam_hooks:next(Id, 5000) of
        {ok, []} -> [];
        {ok, Items} -> Items ++ read_items(Id)
    end.

%%% Helpers.

%% A module that is loaded has its atoms.
register_function(Config, Node, Name, Fun) ->
    {module, _} = on(Config, Node, code, ensure_loaded, [?MODULE]),
    ok = on(Config, Node, hornbeam, register_function, [Name, Fun]).

worker(Config, Node, App) ->
    Worker = on(Config, Node, start_worker, [hook(Config), App]),
    offered(Config, a, {hook, hook(Config)}, 1),
    Worker.

cancelled(Config, Node, Worker) ->
    hornbeam_eventually:holds(fun() ->
        lists:member(cancel, on(Config, Node, hornbeam_fake_worker, asked, [Worker]))
    end).

offered(Config, Node, Offer, Count) ->
    hornbeam_eventually:holds(fun() ->
        length(on(Config, Node, hornbeam_call_peers, offering, [Offer])) =:= Count
    end).

nothing_is_served(Config) ->
    [hornbeam_eventually:holds(fun() ->
         on(Config, Node, hornbeam_link_calls, serving, [calls]) =:= 0
     end) || Node <- [a, b, c]].

call(Config, Name, Args) -> call(Config, Name, Args, 5000).

call(Config, Name, Args, Timeout) -> on(Config, a, perform, [40, [Name, Args, Timeout]]).

packed(Term) -> iolist_to_binary(hornbeam_msgpack:encode(Term)).

hook(Config) -> proplists:get_value(hook, Config).

name(Config, Node) -> hornbeam_cluster:node(proplists:get_value(Node, Config)).

on(Config, Node, Function, Args) -> on(Config, Node, ?MODULE, Function, Args).

on(Config, Node, Module, Function, Args) ->
    hornbeam_cluster:call(proplists:get_value(Node, Config), Module, Function, Args).
