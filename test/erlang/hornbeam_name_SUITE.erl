%% Names that Erlang and Elixir code gives, as binary, string or atom, and options with a wrong key.
-module(hornbeam_name_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([
    a_name_is_the_same_in_all_its_forms/1,
    what_is_no_name_is_refused/1,
    topics_are_taken_alike/1,
    hooks_and_their_actions_are_taken_alike/1,
    a_wrong_option_of_a_call_is_an_error/1,
    a_wrong_option_of_state_is_an_error/1,
    options_may_be_a_keyword_list/1
]).

all() ->
    [Name || {Name, 1} <- module_info(exports), not lists:member(Name, others())].

others() -> [module_info, init_per_suite, end_per_suite].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

%% A name that not every encoding has.
forms() -> [<<"größe"/utf8>>, "größe", 'größe'].

a_name_is_the_same_in_all_its_forms(_Config) ->
    ?assertEqual([<<"größe"/utf8>>], lists:usort([hornbeam_name:text(Name) || Name <- forms()])),
    ?assertEqual(#{<<"a">> => 1, <<"b">> => 2, <<"c">> => 3},
                 hornbeam_name:texts(#{a => 1, "b" => 2, <<"c">> => 3})),
    ?assertEqual(<<>>, hornbeam_name:text("")),
    ?assertEqual(<<255>>, hornbeam_name:text(<<255>>)).

what_is_no_name_is_refused(_Config) ->
    [begin
         ?assertError({bad_name, Bad}, hornbeam_name:text(Bad)),
         ?assertError({bad_name, Bad}, hornbeam:publish(Bad, 1)),
         ?assertError({bad_name, Bad}, hornbeam:register_function(Bad, fun() -> 1 end)),
         ?assertNot(hornbeam_name:is_name(Bad))
     end || Bad <- [1, {a, b}, #{}, [x | y], [-1], [<<255>>], self()]].

topics_are_taken_alike(_Config) ->
    [begin
         ok = hornbeam:subscribe(Subscribed),
         ?assertEqual(1, hornbeam:publish(Published, Published)),
         receive {hornbeam_pubsub, Topic, Published} -> ?assertEqual(<<"größe"/utf8>>, Topic) end,
         ok = hornbeam:unsubscribe(Published),
         ?assertEqual(0, hornbeam:publish(Subscribed, 1))
     end || Subscribed <- forms(), Published <- forms()].

hooks_and_their_actions_are_taken_alike(_Config) ->
    [begin
         ok = hornbeam:register_hook(Registered, fun(Action, Args, Kwargs) ->
             {Action, Args, Kwargs}
         end),
         ?assertEqual({ok, {<<"größe"/utf8>>, [1], #{<<"loud">> => true}}},
                      hornbeam_hooks:execute(Called, Called, [1], #{loud => true})),
         {ok, Id} = hornbeam_hooks:execute_async(Called, Called, []),
         ?assertEqual({ok, {<<"größe"/utf8>>, [], #{}}}, hornbeam_hooks:await_result(Id, 5000)),
         ok = hornbeam:unregister_hook(Called),
         ?assertEqual({error, no_hook}, hornbeam_hooks:execute(Registered, a, []))
     end || Registered <- forms(), Called <- forms()].

a_wrong_option_of_a_call_is_an_error(_Config) ->
    [begin
         Error = {error, {bad_option, Key, Value}},
         ?assertEqual(Error, hornbeam:call(math, sqrt, [2], #{Key => Value})),
         ?assertEqual(Error, hornbeam:cast(math, sqrt, [2], #{Key => Value}))
     end || {Key, Value} <- [{timout, 1000}, {timeout, -1}, {timeout, "1000"}, {timeout, 1.5},
                             {worker, 1}, {pool, {a, b}}, {kwargs, [{a, 1}]},
                             {kwargs, #{1 => 2}}, {"timeout", 1000}]],
    ?assertEqual({error, {bad_option, options, [{timeout, 1}]}},
                 hornbeam:call(math, sqrt, [2], [{timeout, 1}])),
    ?assertEqual({error, no_worker},
                 hornbeam:call(math, sqrt, [2], #{timeout => 0, worker => 'worker-1',
                                                  pool => "/", kwargs => #{"a" => 1}})).

a_wrong_option_of_state_is_an_error(_Config) ->
    [begin
         ?assertError({bad_option, tll, 5}, hornbeam_state:set(<<"k">>, 1, Options)),
         ?assertError({bad_option, tll, 5}, hornbeam_state:add(<<"k">>, 1, Options))
     end || Options <- [#{tll => 5}, #{tll => 5, ttl => 5}]],
    ?assertError({bad_option, options, [{ttl, 5}]}, hornbeam_state:set(<<"k">>, 1, [{ttl, 5}])),
    ?assertEqual(undefined, hornbeam_state:get(<<"k">>)).

options_may_be_a_keyword_list(_Config) ->
    [begin
         ?assertEqual({error, {bad_option, wrokers, 1}}, Start("a:b", [{wrokers, 1}])),
         ?assertEqual({error, {bad_option, workers, 0}}, Start("a:b", [{workers, 0}])),
         ?assertEqual({error, {bad_option, options, [workers]}}, Start("a:b", [workers]))
     end || Start <- [fun hornbeam:start/2, fun hornbeam:start_link/2]].
