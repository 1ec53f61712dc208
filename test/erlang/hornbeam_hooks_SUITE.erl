%% Hooks in workers and in Erlang, calls into workers, executions and streams.
-module(hornbeam_hooks_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    a_call_carries_all_and_gives_the_result/1,
    each_kind_of_failure_is_told/1,
    a_call_past_its_time_is_cancelled/1,
    a_dead_workers_calls_fail/1,
    a_dead_callers_calls_are_cancelled/1,
    a_cast_waits_for_nothing/1,
    a_workers_hook_is_executed_there/1,
    a_worker_that_retires_is_called_only_when_no_other_is_there/1,
    a_worker_that_stops_is_called_no_more/1,
    the_least_loaded_worker_is_taken_and_the_dead_are_not/1,
    hooks_survive_the_crash_of_their_process/1,
    erlang_handles_a_hook_too/1,
    a_result_waits_and_is_given_once/1,
    who_waits_too_short_may_wait_again/1,
    an_execution_that_fails_says_so/1,
    a_stream_gives_all_items_in_order/1,
    no_more_is_produced_than_a_batch_ahead/1,
    closing_early_cancels/1,
    a_dead_readers_stream_is_cancelled/1,
    a_stream_of_nothing_is_exhausted_at_once/1,
    a_silent_stream_times_out_and_goes_on/1,
    a_stream_whose_worker_dies_fails_after_its_items/1,
    an_erlang_handler_streams_a_list/1,
    the_id_of_a_stream_is_that_of_no_execution/1
]).
%% The module is a handler itself.
-export([handle_hook/3]).

all() ->
    [Name || {Name, 1} <- module_info(exports), not lists:member(Name, others())].

others() -> [module_info, init_per_suite, end_per_suite].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

init_per_testcase(Name, Config) ->
    [{hook, atom_to_binary(Name)} | Config].

end_per_testcase(_Name, _Config) ->
    ok.

%%% Calls into a worker

a_call_carries_all_and_gives_the_result(_Config) ->
    Test = self(),
    Worker = hornbeam_fake_worker:start(fun(Call) -> Test ! Call, {0, packed([ok, 1])} end),
    Options = #{worker => hornbeam_fake_worker:pid(Worker), kwargs => #{key => <<"v">>}},
    ?assertEqual({ok, [ok, 1]}, hornbeam:call(my_module, "function", [1, {2}], Options)),
    receive
        Call -> ?assertEqual({0, <<"my_module">>, <<"function">>, [1, {2}],
                              #{<<"key">> => <<"v">>}}, Call)
    after 0 ->
        error(not_called)
    end.

each_kind_of_failure_is_told(_Config) ->
    Answers = [{{8, [<<"ValueError">>, <<"no">>, <<"Traceback">>]},
                {python, <<"ValueError">>, <<"no">>, <<"Traceback">>}},
               {{9, <<"no module m">>}, {unknown, <<"no module m">>}},
               {{0, <<16#c7, 30, 1, "no_atom_of_this_name_is_known!">>},
                {unreadable, {unknown_atom, <<"no_atom_of_this_name_is_known!">>}}}],
    [begin
         Worker = hornbeam_fake_worker:start(fun(_) -> Answer end),
         ?assertEqual({error, Failure}, call(Worker, 5000))
     end || {Answer, Failure} <- Answers],
    ?assertEqual({error, no_worker}, hornbeam:call(m, f, [])),
    ?assertEqual({error, no_worker}, hornbeam:cast(m, f, [])),
    ?assertEqual({error, no_worker}, hornbeam:call(m, f, [], #{worker => <<"worker-1">>})),
    ?assertError({unencodable, [1], <<1:3>>},
                 hornbeam:call(m, f, [<<1:3>>], #{worker => self()})).

a_call_past_its_time_is_cancelled(_Config) ->
    Worker = hornbeam_fake_worker:start(),
    ?assertEqual({error, timeout}, call(Worker, 10)),
    hornbeam_eventually:holds(fun() -> hornbeam_fake_worker:asked(Worker) =:= [cancel] end),
    ?assertEqual({messages, []}, process_info(self(), messages)).

a_dead_workers_calls_fail(_Config) ->
    Worker = hornbeam_fake_worker:start(fun(_) -> exit(crash) end),
    ?assertEqual({error, worker_down}, call(Worker, 5000)),
    ?assertEqual({error, worker_down}, call(Worker, 5000)).

a_dead_callers_calls_are_cancelled(_Config) ->
    Worker = hornbeam_fake_worker:start(),
    Caller = spawn(fun() -> call(Worker, infinity) end),
    hornbeam_eventually:holds(fun() ->
        {monitors, Monitors} = process_info(hornbeam_fake_worker:pid(Worker), monitors),
        lists:member({process, Caller}, Monitors)
    end),
    hornbeam_eventually:dead(Caller),
    hornbeam_eventually:holds(fun() -> hornbeam_fake_worker:asked(Worker) =:= [cancel] end).

a_cast_waits_for_nothing(_Config) ->
    Test = self(),
    Worker = hornbeam_fake_worker:start(fun(Call) -> Test ! Call, {0, packed(1)} end),
    ok = hornbeam:cast(m, f, [1], #{worker => hornbeam_fake_worker:pid(Worker)}),
    receive {0, <<"m">>, <<"f">>, [1], _} -> ok after 5000 -> error(not_called) end,
    ?assertEqual([], hornbeam_fake_worker:asked(Worker)),
    ?assertEqual({messages, []}, process_info(self(), messages)).

call(Worker, Timeout) ->
    hornbeam:call(m, f, [], #{worker => hornbeam_fake_worker:pid(Worker), timeout => Timeout}).

%%% Hooks

a_workers_hook_is_executed_there(Config) ->
    Hook = hook(Config),
    Test = self(),
    Worker = hornbeam_fake_worker:start(fun(Call) -> Test ! Call, {0, packed(42)} end),
    ?assertEqual({error, no_hook}, hornbeam_hooks:execute(Hook, <<"act">>, [])),
    ok = hornbeam_hooks:register_worker(Hook, hornbeam_fake_worker:handle(Worker)),
    ok = hornbeam_hooks:register_worker(Hook, hornbeam_fake_worker:handle(Worker)),
    ?assertEqual({ok, 42}, hornbeam_hooks:execute(Hook, <<"act">>, [a], #{<<"k">> => 1})),
    receive
        Call -> ?assertEqual({1, Hook, <<"act">>, [a], #{<<"k">> => 1}}, Call)
    after 0 ->
        error(not_called)
    end,
    ok = hornbeam_hooks:unregister_worker(Hook, hornbeam_fake_worker:pid(Worker)),
    ?assertEqual({error, no_hook}, hornbeam_hooks:execute(Hook, <<"act">>, [])).

a_worker_that_retires_is_called_only_when_no_other_is_there(Config) ->
    Hook = hook(Config),
    [Old, New] = [hornbeam_fake_worker:start(fun(_) -> {0, packed(N)} end) || N <- [old, new]],
    ok = hornbeam_hooks:register_worker(Hook, hornbeam_fake_worker:handle(Old)),
    hornbeam_capacity:retires(hornbeam_fake_worker:handle(Old)),
    ?assertEqual({ok, old}, hornbeam_hooks:execute(Hook, <<"act">>, [])),
    ok = hornbeam_hooks:register_worker(Hook, hornbeam_fake_worker:handle(New)),
    hornbeam_capacity:started(hornbeam_fake_worker:handle(New)),
    ?assertEqual({ok, new}, hornbeam_hooks:execute(Hook, <<"act">>, [])).

a_worker_that_stops_is_called_no_more(Config) ->
    Hook = hook(Config),
    Worker = hornbeam_fake_worker:start(fun(_) -> {0, packed(1)} end),
    ok = hornbeam_hooks:register_worker(Hook, hornbeam_fake_worker:handle(Worker)),
    ok = hornbeam_api:stopping(self()),
    ?assertEqual({ok, 1}, hornbeam_hooks:execute(Hook, <<"act">>, [])),
    ok = hornbeam_api:stopping(hornbeam_fake_worker:pid(Worker)),
    hornbeam_eventually:holds(fun() ->
        hornbeam_hooks:execute(Hook, <<"act">>, []) =:= {error, no_hook}
    end),
    %% What it registers nevertheless goes with it.
    ok = hornbeam_hooks:register_worker(Hook, hornbeam_fake_worker:handle(Worker)),
    ?assertEqual({ok, 1}, hornbeam_hooks:execute(Hook, <<"act">>, [])),
    hornbeam_fake_worker:stop(Worker),
    hornbeam_eventually:holds(fun() ->
        hornbeam_hooks:execute(Hook, <<"act">>, []) =:= {error, no_hook}
    end).

the_least_loaded_worker_is_taken_and_the_dead_are_not(Config) ->
    Hook = hook(Config),
    Workers = [{N, hornbeam_fake_worker:start(fun(_) -> {0, packed(N)} end)}
               || N <- lists:seq(1, 3)],
    [begin
         Handle = hornbeam_fake_worker:handle(Worker),
         [hornbeam_capacity:started(Handle) || _ <- lists:seq(N, 9)],
         ok = hornbeam_hooks:register_worker(Hook, Handle)
     end || {N, Worker} <- Workers],
    [begin
         hornbeam_eventually:holds(fun() ->
             hornbeam_hooks:execute(Hook, <<"act">>, []) =:= {ok, N}
         end),
         hornbeam_fake_worker:stop(Worker)
     end || {N, Worker} <- lists:reverse(Workers)],
    hornbeam_eventually:holds(fun() ->
        hornbeam_hooks:execute(Hook, <<"act">>, []) =:= {error, no_hook}
    end).

hooks_survive_the_crash_of_their_process(Config) ->
    Hook = hook(Config),
    Worker = hornbeam_fake_worker:start(fun(_) -> {0, packed(1)} end),
    ok = hornbeam_hooks:register_worker(Hook, hornbeam_fake_worker:handle(Worker)),
    Before = whereis(hornbeam_hooks),
    hornbeam_eventually:dead(Before),
    ?assertEqual({ok, 1}, hornbeam_hooks:execute(Hook, <<"act">>, [])),
    hornbeam_eventually:holds(fun() ->
        is_pid(whereis(hornbeam_hooks)) andalso whereis(hornbeam_hooks) =/= Before
    end),
    hornbeam_fake_worker:stop(Worker),
    hornbeam_eventually:holds(fun() ->
        hornbeam_hooks:execute(Hook, <<"act">>, []) =:= {error, no_hook}
    end).

erlang_handles_a_hook_too(Config) ->
    Hook = hook(Config),
    Execute = fun(Args) -> hornbeam_hooks:execute(Hook, <<"act">>, Args, #{<<"k">> => 1}) end,
    ok = hornbeam:register_hook(Hook, fun(Action, Args) -> {Action, Args} end),
    ?assertEqual({ok, {<<"act">>, [1]}}, Execute([1])),
    ok = hornbeam:register_hook(Hook, fun(_, _, Kwargs) -> {ok, Kwargs} end),
    ?assertEqual({ok, #{<<"k">> => 1}}, Execute([])),
    ok = hornbeam:register_hook(Hook, ?MODULE),
    ?assertEqual({ok, [<<"act">>, [x], #{<<"k">> => 1}]}, Execute([x])),
    ok = hornbeam:register_hook(Hook, fun(_, _) -> error(oops) end),
    ?assertMatch({error, {erlang, <<"error">>, <<"oops">>, _}}, Execute([])),
    ok = hornbeam:register_hook(Hook, fun(_, _) -> {error, no} end),
    ?assertMatch({error, {erlang, <<"error">>, <<"no">>, _}}, Execute([])),
    ok = hornbeam:register_hook(Hook, fun(_, _) -> receive never -> ok end end),
    ?assertEqual({error, timeout}, hornbeam_hooks:execute(Hook, <<"act">>, [], #{}, 10)),
    ok = hornbeam:unregister_hook(Hook),
    ?assertEqual({error, no_hook}, Execute([])).

handle_hook(Action, Args, Kwargs) -> [Action, Args, Kwargs].

%%% Executions

a_result_waits_and_is_given_once(Config) ->
    Hook = hook(Config),
    Worker = hornbeam_fake_worker:start(fun(_) -> {0, packed(<<"done">>)} end),
    ok = hornbeam_hooks:register_worker(Hook, hornbeam_fake_worker:handle(Worker)),
    {ok, Id} = hornbeam_hooks:execute_async(Hook, <<"act">>, []),
    ?assertEqual({ok, <<"done">>}, hornbeam_hooks:await_result(Id, 5000)),
    hornbeam_eventually:holds(fun() ->
        hornbeam_hooks:await_result(Id, 10) =:= {error, unknown_id}
    end),
    ?assertEqual({error, unknown_id}, hornbeam_hooks:await_result(<<"no">>, 10)),
    ?assertEqual({error, no_hook}, hornbeam_hooks:execute_async(<<"no">>, <<"act">>, [])).

who_waits_too_short_may_wait_again(Config) ->
    Hook = hook(Config),
    Test = self(),
    ok = hornbeam:register_hook(Hook, fun(_, _) -> Test ! self(), receive go -> 1 end end),
    {ok, Id} = hornbeam_hooks:execute_async(Hook, <<"act">>, []),
    ?assertEqual({error, timeout}, hornbeam_hooks:await_result(Id, 10)),
    receive Pid -> Pid ! go after 5000 -> error(not_called) end,
    ?assertEqual({ok, 1}, hornbeam_hooks:await_result(Id, 5000)).

an_execution_that_fails_says_so(Config) ->
    Hook = hook(Config),
    Worker = hornbeam_fake_worker:start(fun(_) -> exit(crash) end),
    ok = hornbeam_hooks:register_worker(Hook, hornbeam_fake_worker:handle(Worker)),
    {ok, Id} = hornbeam_hooks:execute_async(Hook, <<"act">>, []),
    ?assertEqual({error, worker_down}, hornbeam_hooks:await_result(Id, 5000)).

%%% Streams

a_stream_gives_all_items_in_order(Config) ->
    {Id, Worker} = stream(Config, lists:seq(1, 100)),
    ?assertEqual([], hornbeam_fake_worker:asked(Worker)),
    ?assertEqual(lists:seq(1, 100), all_items(Id)),
    ?assertEqual({error, unknown_id}, hornbeam_hooks:next(Id, 5000)).

no_more_is_produced_than_a_batch_ahead(Config) ->
    {Id, Worker} = stream(Config, lists:seq(1, 100)),
    {ok, [1 | _] = First} = hornbeam_hooks:next(Id, 5000),
    ?assertEqual([{more, 16}], hornbeam_fake_worker:asked(Worker)),
    {ok, Second} = take(Id, 16 - length(First)),
    ?assertEqual(lists:seq(1, 16), First ++ Second),
    ?assertEqual([{more, 16}], hornbeam_fake_worker:asked(Worker)),
    {ok, [17 | _]} = hornbeam_hooks:next(Id, 5000),
    ?assertEqual([{more, 16}, {more, 16}], hornbeam_fake_worker:asked(Worker)),
    ok = hornbeam_hooks:close(Id).

take(_Id, 0) -> {ok, []};
take(Id, N) ->
    {ok, Items} = hornbeam_hooks:next(Id, 5000),
    {ok, More} = take(Id, N - length(Items)),
    {ok, Items ++ More}.

closing_early_cancels(Config) ->
    {Id, Worker} = stream(Config, lists:seq(1, 100)),
    {ok, _} = hornbeam_hooks:next(Id, 5000),
    ok = hornbeam_hooks:close(Id),
    hornbeam_eventually:holds(fun() ->
        lists:last(hornbeam_fake_worker:asked(Worker)) =:= cancel
    end),
    ?assertEqual({error, unknown_id}, hornbeam_hooks:next(Id, 5000)),
    ok = hornbeam_hooks:close(Id).

a_dead_readers_stream_is_cancelled(Config) ->
    Hook = hook(Config),
    Worker = hornbeam_fake_worker:start(fun(_) -> {items, [1, 2]} end),
    ok = hornbeam_hooks:register_worker(Hook, hornbeam_fake_worker:handle(Worker)),
    Before = ets:info(hornbeam_executions, size),
    Reader = spawn(fun() ->
        {ok, _} = hornbeam_hooks:stream(Hook, <<"act">>, []),
        receive stop -> ok end
    end),
    hornbeam_eventually:holds(fun() -> ets:info(hornbeam_executions, size) =:= Before + 1 end),
    hornbeam_eventually:dead(Reader),
    hornbeam_eventually:holds(fun() -> hornbeam_fake_worker:asked(Worker) =:= [cancel] end),
    hornbeam_eventually:holds(fun() -> ets:info(hornbeam_executions, size) =:= Before end).

a_stream_of_nothing_is_exhausted_at_once(Config) ->
    {Id, _} = stream(Config, []),
    ?assertEqual({ok, []}, hornbeam_hooks:next(Id, 5000)).

a_silent_stream_times_out_and_goes_on(Config) ->
    Hook = hook(Config),
    Worker = hornbeam_fake_worker:start(fun(_) -> silent end),
    ok = hornbeam_hooks:register_worker(Hook, hornbeam_fake_worker:handle(Worker)),
    ok = hornbeam:register_hook(Hook, fun(_, _) -> receive never -> ok end end),
    {ok, Id} = hornbeam_hooks:stream(Hook, <<"act">>, []),
    ?assertEqual({error, timeout}, hornbeam_hooks:next(Id, 10)),
    ?assertEqual({error, timeout}, hornbeam_hooks:next(Id, 10)),
    ok = hornbeam_hooks:close(Id).

a_stream_whose_worker_dies_fails_after_its_items(Config) ->
    {Id, Worker} = stream(Config, lists:seq(1, 100)),
    {ok, First} = hornbeam_hooks:next(Id, 5000),
    {ok, _} = take(Id, 16 - length(First)),
    hornbeam_eventually:dead(hornbeam_fake_worker:pid(Worker)),
    ?assertEqual({error, worker_down}, hornbeam_hooks:next(Id, 5000)).

an_erlang_handler_streams_a_list(Config) ->
    Hook = hook(Config),
    ok = hornbeam:register_hook(Hook, fun(_, [List]) -> List end),
    {ok, Id} = hornbeam_hooks:stream(Hook, <<"act">>, [lists:seq(1, 50)]),
    ?assertEqual(lists:seq(1, 50), all_items(Id)),
    [begin
         {ok, NoList} = hornbeam_hooks:stream(Hook, <<"act">>, [Given]),
         ?assertEqual({error, not_a_list}, hornbeam_hooks:next(NoList, 5000))
     end || Given <- [atom, [1 | 2]]].

the_id_of_a_stream_is_that_of_no_execution(Config) ->
    Hook = hook(Config),
    Worker = hornbeam_fake_worker:start(fun({1, _, _, _, _}) -> silent;
                                           ({2, _, _, _, _}) -> {items, [1]}
                                        end),
    ok = hornbeam_hooks:register_worker(Hook, hornbeam_fake_worker:handle(Worker)),
    {ok, Stream} = hornbeam_hooks:stream(Hook, <<"act">>, []),
    {ok, Execution} = hornbeam_hooks:execute_async(Hook, <<"act">>, []),
    ?assertEqual({error, unknown_id}, hornbeam_hooks:await_result(Stream, 10)),
    ?assertEqual({error, unknown_id}, hornbeam_hooks:next(Execution, 10)),
    ok = hornbeam_hooks:close(Execution),
    ?assertEqual({error, timeout}, hornbeam_hooks:await_result(Execution, 10)),
    ?assertEqual({ok, [1]}, hornbeam_hooks:next(Stream, 5000)).

stream(Config, Items) ->
    Hook = hook(Config),
    Worker = hornbeam_fake_worker:start(fun({2, _, <<"act">>, [], _}) -> {items, Items} end),
    ok = hornbeam_hooks:register_worker(Hook, hornbeam_fake_worker:handle(Worker)),
    {ok, Id} = hornbeam_hooks:stream(Hook, <<"act">>, []),
    {Id, Worker}.

all_items(Id) ->
    case hornbeam_hooks:next(Id, 5000) of
        {ok, []} -> [];
        {ok, Items} -> Items ++ all_items(Id)
    end.

hook(Config) -> proplists:get_value(hook, Config).

packed(Term) -> iolist_to_binary(hornbeam_msgpack:encode(Term)).
