%% Metrics of apps: added by many at once, bounded, and what is none.
-module(hornbeam_app_metrics_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [many_processes_add_whole_and_other_numbers, histograms_are_added_by_class,
     gauges_go_with_their_owner, the_latest_of_all_stays, what_is_none_is_refused,
     another_definition_is_refused_while_one_is_used,
     names_of_samples_are_those_of_one_family, a_fault_takes_nothing_from_others,
     there_are_not_more_families_than_may_be, nothing_is_kept_when_it_is_off].

-define(PROCESSES, 20).
-define(TIMES, 200).

many_processes_add_whole_and_other_numbers(_Config) ->
    together(fun() ->
        ok = update([counter(<<"orders_total">>, [[[<<"book">>], 1], [[<<"pen">>], 0.5]])])
    end),
    All = ?PROCESSES * ?TIMES,
    ?assertEqual([{[<<"book">>], All}, {[<<"pen">>], All * 0.5}],
                 samples(<<"orders_total">>)).

names_of_samples_are_those_of_one_family(_Config) ->
    Histogram = [2, <<"weight">>, <<>>, [], [1], [[[], [[1, 0], 1]]]],
    ok = update([Histogram, counter(<<"orders_total">>, [])]),
    [?assertMatch({{error, {bad_metric, _}}, Name},
                  {update([[1, Name, <<>>, [], <<"sum">>, [[[], [true, 1]]]]]), Name})
     || Name <- [<<"weight_count">>, <<"weight_sum">>, <<"weight_bucket">>, <<"weight_created">>,
                 <<"orders">>, <<"orders_created">>]],
    ok = update([[1, <<"heights_count">>, <<>>, [], <<"sum">>, [[[], [true, 1]]]]]),
    ?assertMatch({error, {bad_metric, _}}, update([setelement_of(2, <<"heights">>, Histogram)])),
    ?assertEqual(7, hornbeam_app_metrics:refused()),
    ok = update([[1, <<"weights_count">>, <<>>, [], <<"sum">>, [[[], [true, 1]]]]]).

setelement_of(N, Value, List) ->
    tuple_to_list(setelement(N, list_to_tuple(List), Value)).

a_fault_takes_nothing_from_others(_Config) ->
    Long = binary:copy(<<"x">>, 1025),
    ?assertMatch({error, {bad_metric, _}},
                 update([[0, <<"a b">>, <<>>, [], undefined, []],
                         counter(<<"orders_total">>, [[[Long], 1], [[<<"book">>], 1]]),
                         gauge(<<"sum">>, [true, 2])])),
    ?assertEqual([{[<<"book">>], 1}], samples(<<"orders_total">>)),
    ?assertEqual([{[], 2}], samples(<<"baskets">>)).

there_are_not_more_families_than_may_be(_Config) ->
    [ok = update([[0, <<"n", (integer_to_binary(N))/binary, "_total">>, <<>>, [], undefined, []]])
     || N <- lists:seq(1, 10000)],
    ?assertMatch({error, {bad_metric, _}}, update([gauge(<<"sum">>, [true, 2])])),
    ?assertEqual({10000, 1}, {length(hornbeam_app_metrics:families()),
                              hornbeam_app_metrics:refused()}).

histograms_are_added_by_class(_Config) ->
    together(fun() ->
        ok = update([[2, <<"weight">>, <<"…"/utf8>>, [], [0.5, 1], [[[], [[1, 0, 2], 5.25]]]]])
    end),
    All = ?PROCESSES * ?TIMES,
    ?assertEqual([{[], [{0.5, All}, {1, All}, {infinity, 3 * All}], 3 * All, All * 5.25}],
                 samples(<<"weight">>)).

gauges_go_with_their_owner(_Config) ->
    Self = self(),
    Owner = spawn(fun() ->
        ok = update([gauge(<<"sum">>, [true, 2])]),
        ok = update([gauge(<<"sum">>, [false, 1.5])]),
        Self ! counted,
        receive stop -> ok end
    end),
    receive counted -> ok end,
    ok = update([gauge(<<"sum">>, [true, 10])]),
    ?assertEqual([{[], 13.5}], samples(<<"baskets">>)),
    exit(Owner, kill),
    hornbeam_eventually:holds(fun() -> samples(<<"baskets">>) =:= [{[], 10}] end).

the_latest_of_all_stays(_Config) ->
    together(fun() -> ok = update([gauge(<<"mostrecent">>, [false, 1.0])]) end),
    ?assertEqual([{[], ?PROCESSES * ?TIMES * 1.0}], samples(<<"baskets">>)),
    ok = update([gauge(<<"mostrecent">>, [true, 7])]),
    ?assertEqual([{[], 7}], samples(<<"baskets">>)).

what_is_none_is_refused(_Config) ->
    Wrong = [
        [3, <<"a">>, <<>>, [], undefined, []],
        [0, <<"a b">>, <<>>, [], undefined, []],
        [0, <<"hornbeam_x_total">>, <<>>, [], undefined, []],
        [0, <<>>, <<>>, [], undefined, []],
        [0, 7, <<>>, [], undefined, []],
        [0, <<"a">>, <<>>, [<<"a-b">>], undefined, []],
        [0, <<"a">>, <<>>, [<<"a">>, <<"a">>], undefined, []],
        [0, <<"a">>, <<>>, [<<"le">>], undefined, []],
        [0, <<"a">>, <<>>, [], <<"sum">>, []],
        [0, <<"a">>, <<>>, [], undefined, [[[], -1]]],
        [0, <<"a">>, <<>>, [], undefined, [[[], <<"1">>]]],
        [0, <<"a">>, <<>>, [], undefined, [[[<<"x">>], 1]]],
        [0, <<"a">>, <<>>, [], undefined, [7]],
        [0, <<"a">>, <<>>, [], undefined, 7],
        [1, <<"b">>, <<>>, [], <<"average">>, []],
        [1, <<"b">>, <<>>, [], <<"sum">>, [[[], 1]]],
        [2, <<"c">>, <<>>, [], [], []],
        [2, <<"c">>, <<>>, [], [2, 1], []],
        [2, <<"c">>, <<>>, [], [1], [[[], [[1], 1]]]],
        [2, <<"c">>, <<>>, [], [1], [[[], [[1, -1], 1]]]],
        [],
        7
    ],
    [?assertMatch({Family, {error, {bad_metric, _}}}, {Family, update([Family])})
     || Family <- Wrong],
    ?assertMatch({error, {bad_metric, _}}, update(7)),
    ?assertEqual([], lists:append([Samples || #{samples := Samples} <- families()])).

another_definition_is_refused_while_one_is_used(_Config) ->
    ok = update([counter(<<"orders_total">>, [[[<<"book">>], 1]])]),
    ?assertMatch({error, {bad_metric, _}},
                 update([[0, <<"orders_total">>, <<>>, [], undefined, [[[], 1]]]])),
    ?assertEqual(1, hornbeam_app_metrics:refused()),
    ?assertEqual([{[<<"book">>], 1}], samples(<<"orders_total">>)).

nothing_is_kept_when_it_is_off(_Config) ->
    ok = update([counter(<<"orders_total">>, [[[<<"book">>], 1]])]),
    ok = hornbeam_app_metrics:enable(false),
    ok = update([counter(<<"orders_total">>, [[[<<"book">>], 1]])]),
    ?assertEqual([], families()).

together(Do) ->
    Refs = [element(2, spawn_monitor(fun() -> [Do() || _ <- lists:seq(1, ?TIMES)] end))
            || _ <- lists:seq(1, ?PROCESSES)],
    [receive {'DOWN', Ref, process, _, Reason} -> normal = Reason end || Ref <- Refs].

counter(Name, Samples) -> [0, Name, <<"Of this test">>, [<<"kind">>], undefined, Samples].

gauge(Mode, Amount) -> [1, <<"baskets">>, <<>>, [], Mode, [[[], Amount]]].

update(Families) -> hornbeam_app_metrics:update(Families, self()).

families() -> hornbeam_app_metrics:families().

samples(Name) ->
    lists:append([lists:sort(Samples) || #{name := Named, samples := Samples} <- families(),
                                         Named =:= Name]).

init_per_testcase(_Case, Config) ->
    Self = self(),
    Owner = spawn(fun() ->
        ok = hornbeam_app_metrics:new_tables(),
        {ok, _} = hornbeam_app_metrics:start_link(),
        Self ! made,
        receive stop -> ok end
    end),
    receive made -> ok end,
    ok = hornbeam_app_metrics:enable(true),
    [{owner, Owner} | Config].

end_per_testcase(_Case, Config) ->
    Owner = proplists:get_value(owner, Config),
    Server = monitor(process, hornbeam_app_metrics),
    exit(Owner, kill),
    receive {'DOWN', Server, process, _, _} -> ok end,
    hornbeam_eventually:holds(fun() -> ets:whereis(hornbeam_metric_numbers) =:= undefined end).
