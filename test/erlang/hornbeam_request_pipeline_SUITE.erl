%% The way of a request to its app: whom it may wait for, and what is left behind when it does not.
%%
%% The workers are real, on puppets that never answer; the test stands for their pool.
-module(hornbeam_request_pipeline_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [who_finds_a_place_waits_for_nobody, who_waits_gets_the_next_place,
     who_waits_apart_gets_the_next_place, a_place_that_came_apart_is_given_back_when_it_is_unused,
     a_killed_waiter_gives_its_place_back, a_waiter_ends_with_its_client,
     who_leaves_waits_no_longer, the_nodes_code_is_asked_first, the_nodes_code_may_refuse,
     what_the_nodes_code_fails_at_is_500, the_nodes_code_ends_with_its_client,
     the_nodes_code_ends_when_nobody_waits, a_refusal_of_the_rules_needs_no_waiting].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

init_per_testcase(_Case, Config) ->
    Puppet = hornbeam_puppet:start(#{worker_connections => 1}),
    Waiting = hornbeam_pool_row:new_waiting(),
    ok = hornbeam_pool_row:dispatch(pool(), self(), Waiting),
    ok = hornbeam_pool_row:publish(pool(), [hornbeam_puppet:handle(Puppet)], []),
    [{puppet, Puppet}, {queue, hornbeam_pool_queue:new(pool(), 10, 60000, Waiting)} | Config].

end_per_testcase(_Case, Config) ->
    hornbeam_puppet:stop(proplists:get_value(puppet, Config)),
    hornbeam_pool_row:erase(pool()).

pool() -> <<"/">>.

who_finds_a_place_waits_for_nobody(Config) ->
    [begin
         {ok, Handle, _} = start(http, mount(Waits, #{})),
         ?assertEqual({Waits, 1}, {Waits, load(Config)}),
         hornbeam_capacity:give_back(Handle),
         has(0, Config)
     end || Waits <- [here, apart]].

%% Who is the pool cannot wait for it.
who_waits_gets_the_next_place(Config) ->
    Test = self(),
    Taken = taken(Config),
    Client = spawn_link(fun() ->
        {wait, Pipeline} = start(http, mount(here, #{})),
        Test ! {came, self(), told(Pipeline)},
        receive never -> ok end
    end),
    Queue = joined(Config),
    ?assertEqual([Client], waiters(Queue)),
    hornbeam_capacity:give_back(Taken),
    _ = served(Queue, Config),
    {ok, Handle, _} = receive {came, Client, Step} -> Step end,
    ?assertEqual(1, load(Config)),
    hornbeam_capacity:give_back(Handle),
    has(0, Config).

who_waits_apart_gets_the_next_place(Config) ->
    Taken = taken(Config),
    {wait, Pipeline} = start(http, mount(apart, #{})),
    Queue = joined(Config),
    [Waiter] = waiters(Queue),
    ?assertNotEqual(self(), Waiter),
    Ref = erlang:monitor(process, Waiter),
    hornbeam_capacity:give_back(Taken),
    _ = served(Queue, Config),
    {ok, Handle, _} = told(Pipeline),
    receive {'DOWN', Ref, process, Waiter, Reason} -> ?assertEqual(normal, Reason) end,
    settled(Config),
    ?assertEqual(1, load(Config)),
    hornbeam_capacity:give_back(Handle),
    has(0, Config).

a_place_that_came_apart_is_given_back_when_it_is_unused(Config) ->
    Taken = taken(Config),
    {wait, Pipeline} = start(http, mount(apart, #{})),
    Queue = joined(Config),
    hornbeam_capacity:give_back(Taken),
    _ = served(Queue, Config),
    receive {pipeline, _, {ok, _, _}} -> ok end,
    ?assertEqual(1, load(Config)),
    hornbeam_request_pipeline:cancel(Pipeline),
    has(0, Config).

%% At whatever moment: while it waits, and when it has the place.
a_killed_waiter_gives_its_place_back(Config) ->
    Taken = taken(Config),
    {wait, _} = start(http, mount(apart, #{})),
    Queue = joined(Config),
    [Waiter] = waiters(Queue),
    hornbeam_capacity:give_back(Taken),
    _ = served(Queue, Config),
    receive {pipeline, Waiter, {ok, _, _}} -> ok end,
    ?assertEqual(1, load(Config)),
    hornbeam_eventually:dead(Waiter),
    has(0, Config),
    Again = taken(Config),
    {wait, _} = start(http, mount(apart, #{})),
    Waiting = joined(Config),
    [Other] = waiters(Waiting),
    hornbeam_eventually:dead(Other),
    hornbeam_capacity:give_back(Again),
    %% The pool may not have heard of its end.
    _ = served(Waiting, Config),
    has(0, Config).

a_waiter_ends_with_its_client(Config) ->
    Taken = taken(Config),
    {Client, Queue} = client(mount(apart, #{}), Config),
    [Waiter] = waiters(Queue),
    ends_with(Waiter, fun() -> hornbeam_eventually:dead(Client) end),
    hornbeam_capacity:give_back(Taken),
    has(0, Config),
    %% And when the client has been told, and dies before it has used it.
    Again = taken(Config),
    {Other, Waiting} = client(mount(apart, #{}), Config),
    [Holder] = waiters(Waiting),
    hornbeam_capacity:give_back(Again),
    _ = served(Waiting, Config),
    receive {client, Other, {pipeline, Holder, {ok, _, _}}} -> ok end,
    ends_with(Holder, fun() -> hornbeam_eventually:dead(Other) end),
    has(0, Config).

who_leaves_waits_no_longer(Config) ->
    Taken = taken(Config),
    Client = spawn_link(fun() ->
        {wait, Here} = start(http, mount(here, #{})),
        hornbeam_request_pipeline:cancel(Here),
        receive never -> ok end
    end),
    Ref = receive {'$gen_cast', {wait, Entered}} -> Entered end,
    receive {'$gen_cast', {forget, Ref}} -> ok end,
    ?assertEqual(gone, hornbeam_pool_waiting:find(Ref)),
    {wait, Apart} = start(http, mount(apart, #{})),
    [Waiter] = waiters(joined(Config)),
    ends_with(Waiter, fun() -> hornbeam_request_pipeline:cancel(Apart) end),
    ?assert(is_process_alive(Client)),
    hornbeam_capacity:give_back(Taken),
    has(0, Config).

the_nodes_code_is_asked_first(Config) ->
    Test = self(),
    [begin
         Callback = fun(Asked) -> Test ! {asked, Asked}, {ok, #{<<"user">> => 1}} end,
         {wait, Pipeline} = start(websocket, mount(Waits, #{on_connect => Callback})),
         receive
             {asked, Asked} ->
                 ?assertMatch(#{type := websocket, method := <<"GET">>, path := <<"/">>,
                                host := <<"a">>, scheme := <<"http">>,
                                headers := #{<<"x">> := <<"1, 2">>}}, Asked)
         end,
         {ok, Handle, Request} = waited(Pipeline, Config),
         ?assertEqual({Waits, #{<<"user">> => 1}}, {Waits, hornbeam_requests:connect(Request)}),
         hornbeam_capacity:give_back(Handle),
         has(0, Config)
     end || Waits <- [here, apart]].

the_nodes_code_may_refuse(Config) ->
    [begin
         Callback = fun(_) -> {refuse, 401, #{<<"X-Why">> => <<"no">>}, [<<"a">>, "b"]} end,
         #{counters := Counters} = Mount = mount(Waits, #{on_connect => Callback}),
         {wait, Pipeline} = start(http, Mount),
         ?assertEqual({Waits, {refuse, {401, [{<<"x-why">>, <<"no">>}], <<"ab">>}}},
                      {Waits, waited(Pipeline, Config)}),
         ?assertMatch(#{connect_refused := 1}, hornbeam_counters:values(Counters)),
         has(0, Config)
     end || Waits <- [here, apart]].

what_the_nodes_code_fails_at_is_500(Config) ->
    Failures = [fun(_) -> error(broken) end, fun(_) -> exit(kill) end, fun(_) -> rubbish end,
                fun(_) -> exit(self(), kill), receive never -> ok end end,
                fun(_) -> {ok, #{<<"a">> => <<1:1>>}} end, fun(_) -> {refuse, 200} end,
                fun(_) -> receive never -> ok end end],
    [begin
         #{counters := Counters} = Mount =
             mount(Waits, #{on_connect => Callback, on_connect_timeout => 200}),
         {wait, Pipeline} = start(http, Mount),
         ?assertMatch({_, {refuse, {500, _, _}}}, {Callback, waited(Pipeline, Config)}),
         ?assertMatch(#{connect_failed := 1}, hornbeam_counters:values(Counters)),
         has(0, Config)
     end || Waits <- [here, apart], Callback <- Failures].

the_nodes_code_ends_with_its_client(_Config) ->
    [begin
         {Client, Code} = asking(Waits),
         ends_with(Code, fun() -> hornbeam_eventually:dead(Client) end)
     end || Waits <- [here, apart]].

the_nodes_code_ends_when_nobody_waits(_Config) ->
    [begin
         {Client, Code} = asking(Waits),
         ends_with(Code, fun() -> Client ! leave end),
         hornbeam_eventually:dead(Client)
     end || Waits <- [here, apart]].

a_refusal_of_the_rules_needs_no_waiting(_Config) ->
    #{counters := Counters} = Mount = mount(here, #{allowed_hosts => ["b"]}),
    ?assertMatch({refuse, {400, _, _}}, hornbeam_request_pipeline:check(http, request(), Mount)),
    ?assertMatch(#{host_refused := 1}, hornbeam_counters:values(Counters)),
    Foreign = hornbeam_requests:new([{<<"host">>, <<"a">>}, {<<"origin">>, <<"http://b">>}]),
    #{counters := Others} = Open = mount(here, #{}),
    ?assertMatch({refuse, {403, _, _}}, hornbeam_request_pipeline:check(websocket, Foreign, Open)),
    ?assertMatch({ok, none, Foreign}, hornbeam_request_pipeline:check(http, Foreign, Open)),
    ?assertMatch(#{origin_refused := 1}, hornbeam_counters:values(Others)).

%% A client whose request waits while the node's code is asked, and the process of that code.
asking(Waits) ->
    Test = self(),
    Callback = fun(_) -> Test ! {code, self()}, receive never -> ok end end,
    Mount = mount(Waits, #{on_connect => Callback, on_connect_timeout => 60000}),
    Client = spawn(fun() ->
        {wait, Pipeline} = start(http, Mount),
        receive leave -> hornbeam_request_pipeline:cancel(Pipeline) end,
        receive never -> ok end
    end),
    receive {code, Code} -> {Client, Code} end.

%% A client that waits, and the queue in which it does. It tells the test what it is told.
client(Mount, Config) ->
    Test = self(),
    Client = spawn(fun() ->
        {wait, _} = start(http, Mount),
        receive Message -> Test ! {client, self(), Message} end,
        receive never -> ok end
    end),
    {Client, joined(Config)}.

ends_with(Pid, Fun) ->
    Ref = erlang:monitor(process, Pid),
    _ = Fun(),
    receive {'DOWN', Ref, process, Pid, _} -> ok after 10000 -> error(still_alive) end.

%% What comes of waiting, while the pool gives what it has.
waited(Pipeline, Config) ->
    receive
        {'$gen_cast', {wait, Ref}} ->
            _ = served(join(Ref, Config), Config),
            waited(Pipeline, Config);
        Message ->
            step(hornbeam_request_pipeline:handle_info(Message, Pipeline), Config)
    after 10000 ->
        error(nothing_told)
    end.

step({wait, Pipeline}, Config) -> waited(Pipeline, Config);
step(Step, _Config) -> Step.

start(Type, Mount) ->
    hornbeam_request_pipeline:start(Type, self(), request(), Mount).

told(Pipeline) ->
    receive
        Message ->
            case hornbeam_request_pipeline:handle_info(Message, Pipeline) of
                {wait, More} -> told(More);
                Step -> Step
            end
    after 10000 ->
        error(nothing_told)
    end.

%% The pool, whose dispatcher the test stands for.

joined(Config) ->
    receive
        {'$gen_cast', {wait, Ref}} -> join(Ref, Config)
    after 10000 ->
        error(nobody_waits)
    end.

join(Ref, Config) ->
    {ok, Pid, Since} = hornbeam_pool_waiting:find(Ref),
    hornbeam_pool_queue:join(Ref, Pid, Since, proplists:get_value(queue, Config)).

%% Who waits and lives.
waiters(_Queue) ->
    [Pid || Pid <- hornbeam_pool_waiting:pids(pool()), is_process_alive(Pid)].

served(Queue, Config) ->
    settled(Config),
    hornbeam_pool_queue:serve([handle(Config)], Queue).

taken(Config) ->
    {ok, Handle} = hornbeam_capacity:reserve(handle(Config)),
    Handle.

handle(Config) -> hornbeam_puppet:handle(proplists:get_value(puppet, Config)).

load(Config) -> hornbeam_capacity:load(handle(Config)).

has(Load, Config) ->
    hornbeam_eventually:holds(fun() -> load(Config) =:= Load orelse load(Config) end),
    settled(Config),
    ?assertEqual(Load, load(Config)).

%% The worker has handled all that was sent to it.
settled(Config) ->
    _ = sys:get_state(hornbeam_puppet:worker(proplists:get_value(puppet, Config))),
    ok.

request() ->
    hornbeam_requests:new([{<<"host">>, <<"a">>}, {<<"x">>, <<"1">>}, {<<"x">>, <<"2">>}]).

mount(Waits, Options) ->
    {ok, Checked} = hornbeam_config:check("app:application", Options),
    #{mounts := [Mount]} = hornbeam_mounts:new(Checked),
    Mount#{waits := Waits}.
