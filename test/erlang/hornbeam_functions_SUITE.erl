%% Functions that Erlang registers for apps.
-module(hornbeam_functions_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([
    a_registered_fun_is_called_by_its_name/1,
    an_exported_function_is_called_with_any_of_its_arities/1,
    registering_again_replaces/1,
    results_mean_what_they_say/1,
    what_a_function_raises_is_told/1,
    a_function_past_its_time_is_ended/1,
    a_cast_is_done_without_an_answer/1
]).

all() ->
    [Name || {Name, 1} <- module_info(exports), not lists:member(Name, others())].

others() -> [module_info, init_per_suite, end_per_suite].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

a_registered_fun_is_called_by_its_name(_Config) ->
    [begin
         ok = hornbeam:register_function(Name, fun(A, B) -> A + B end),
         ?assertEqual({ok, 3}, call(<<"add">>, [1, 2], 5000)),
         ok = hornbeam:unregister_function(Name),
         ?assertEqual({error, unknown}, call(<<"add">>, [1, 2], 5000))
     end || Name <- [<<"add">>, "add", add]].

an_exported_function_is_called_with_any_of_its_arities(_Config) ->
    ok = hornbeam:register_function(<<"seq">>, lists, seq),
    ?assertEqual({ok, [1, 2, 3]}, call(<<"seq">>, [1, 3], 5000)),
    ?assertEqual({ok, [1, 3]}, call(<<"seq">>, [1, 3, 2], 5000)),
    ?assertEqual({error, {arity, 1, [2, 3]}},
                 arity_sorted(call(<<"seq">>, [1], 5000))),
    ok = hornbeam:register_function(<<"none">>, no_such_module, f),
    ?assertEqual({error, {arity, 0, []}}, call(<<"none">>, [], 5000)).

arity_sorted({error, {arity, Given, Takes}}) -> {error, {arity, Given, lists:sort(Takes)}}.

registering_again_replaces(_Config) ->
    ok = hornbeam:register_function(<<"f">>, fun() -> 1 end),
    ok = hornbeam:register_function(<<"f">>, fun(X) -> X end),
    ?assertEqual({ok, 2}, call(<<"f">>, [2], 5000)),
    ?assertEqual({error, {arity, 0, [1]}}, call(<<"f">>, [], 5000)).

results_mean_what_they_say(_Config) ->
    ok = hornbeam:register_function(<<"f">>, fun(X) -> X end),
    Call = fun(Result) -> call(<<"f">>, [Result], 5000) end,
    ?assertEqual({ok, value}, Call({ok, value})),
    ?assertEqual({ok, plain}, Call(plain)),
    ?assertEqual({ok, {ok, 1, 2}}, Call({ok, 1, 2})),
    ?assertEqual({error, {erlang, <<"error">>, <<"{no,\"room\"}">>, <<"[]">>}},
                 Call({error, {no, "room"}})).

what_a_function_raises_is_told(_Config) ->
    ok = hornbeam:register_function(<<"f">>, fun(Class) -> erlang:raise(Class, oops, []) end),
    [?assertMatch({error, {erlang, Text, <<"oops">>, _}} when Text =:= Class,
                  call(<<"f">>, [binary_to_atom(Class)], 5000))
     || Class <- [<<"error">>, <<"exit">>, <<"throw">>]],
    ok = hornbeam:register_function(<<"killed">>, fun() -> exit(self(), kill) end),
    ?assertMatch({error, {erlang, <<"exit">>, <<"killed">>, _}},
                 call(<<"killed">>, [], 5000)).

a_function_past_its_time_is_ended(_Config) ->
    Test = self(),
    ok = hornbeam:register_function(<<"f">>, fun() -> Test ! self(), receive never -> ok end end),
    ?assertEqual({error, timeout}, call(<<"f">>, [], 20)),
    receive Pid -> ?assertNot(is_process_alive(Pid)) after 5000 -> error(not_called) end,
    %% Nothing of it is left in our mailbox.
    ?assertEqual({messages, []}, process_info(self(), messages)).

a_cast_is_done_without_an_answer(_Config) ->
    Test = self(),
    ok = hornbeam:register_function(<<"f">>, fun(X) -> Test ! {done, X} end),
    Pid = cast(<<"f">>, [1]),
    ?assert(is_pid(Pid)),
    receive {done, 1} -> ok after 5000 -> error(not_called) end,
    ?assertEqual({error, unknown}, cast(<<"no">>, [])),
    ?assertEqual({error, {arity, 0, [1]}}, cast(<<"f">>, [])).

call(Name, Args, Timeout) ->
    case hornbeam_functions:find(Name, length(Args)) of
        {ok, Function} -> hornbeam_functions:call(Function, Args, Timeout);
        {error, _} = Error -> Error
    end.

cast(Name, Args) ->
    case hornbeam_functions:find(Name, length(Args)) of
        {ok, Function} -> hornbeam_functions:cast(Function, Args);
        {error, _} = Error -> Error
    end.
