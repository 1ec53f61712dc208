%% What prometheus_client has in several workers, read and added up.
-module(hornbeam_client_families_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [what_is_none_is_left_out, classes_of_other_bounds_are_added,
     a_histogram_goes_on_with_new_bounds, counters_are_never_less,
     gauges_are_combined_by_their_mode, of_two_types_one_is_left_out,
     names_are_those_of_one_family, only_so_much_outlives].

what_is_none_is_left_out(_Config) ->
    Good = [<<"a">>, [], 1.0],
    Bad = [[<<"a b">>, [], 1.0], [<<"a">>, [[<<"l-">>, <<>>]], 1.0], [<<"a">>, [[<<"l">>, 1]], 1.0],
           [<<"a">>, [], undefined], [<<"hornbeam_x">>, [], 1.0], [<<"a">>], none],
    {Families, LeftOut} = read([[<<"a">>, <<"gauge">>, <<>>, <<"all">>, [Good | Bad]],
                                [<<"c">>, <<"counter">>, <<>>, <<>>,
                                 [[<<"c_total">>, [], -1.0], [<<"other">>, [], 1.0]]],
                                [<<"h">>, <<"histogram">>, <<>>, <<>>,
                                 [[<<"h_bucket">>, [], 1.0],
                                  [<<"h_bucket">>, [[<<"le">>, <<"nan">>]], 1.0]]],
                                [1, 2], none]),
    ?assertEqual({[<<"a">>], [<<"a">>, <<"c">>, <<"h">>]},
                 {maps:keys(Families), lists:sort(LeftOut)}),
    ?assertEqual({#{}, []}, read(<<"none">>)).

%% Of whom it is not known how many were up to a bound, it is at least those up to a smaller one.
classes_of_other_bounds_are_added(_Config) ->
    One = histogram([{<<"1.0">>, 2}, {<<"10.0">>, 5}, {<<"+Inf">>, 6}], 30.0),
    Other = histogram([{<<"5.0">>, 4}, {<<"+Inf">>, 4}], 8.0),
    ?assertEqual([{[], [{1.0, 2}, {5.0, 6}, {10.0, 9}, {infinity, 10}], 10, 38.0}],
                 metrics(<<"h">>, sum([One, Other], #{}))).

a_histogram_goes_on_with_new_bounds(_Config) ->
    Before = histogram([{<<"1.0">>, 2}, {<<"1e-05">>, 1}, {<<"+Inf">>, 6}], 30.0),
    Outlived = hornbeam_client_families:outlived(Before, #{}),
    ?assertEqual([{[], [{1.0e-5, 1}, {1.0, 2}, {infinity, 6}], 6, 30.0}],
                 metrics(<<"h">>, sum([], Outlived))),
    ?assertEqual([{[], [{1.0e-5, 1}, {0.5, 2}, {1.0, 3}, {infinity, 7}], 7, 30.25}],
                 metrics(<<"h">>, sum([histogram([{<<"0.5">>, 1}, {<<"+Inf">>, 1}], 0.25)],
                                      Outlived))).

counters_are_never_less(_Config) ->
    One = family(<<"c">>, <<"counter">>, [{<<"c_total">>, 1.7e308}]),
    Outlived = hornbeam_client_families:outlived(One, hornbeam_client_families:outlived(One, #{})),
    ?assertEqual([{[], 1.7e308}], metrics(<<"c_total">>, sum([One], Outlived))).

gauges_are_combined_by_their_mode(_Config) ->
    Of = fun(Mode, Value) ->
        {Families, []} = read([[<<"g">>, <<"gauge">>, <<>>, Mode, [[<<"g">>, [], Value]]]]),
        Families
    end,
    [?assertEqual({Mode, Expected},
                  {Mode, metrics(<<"g">>, sum([Of(Mode, 1.0), Of(Mode, 3.0)], #{}))})
     || {Mode, Expected} <- [{<<"livesum">>, [{[], 4.0}]}, {<<"max">>, [{[], 3.0}]},
                             {<<"livemin">>, [{[], 1.0}]},
                             {<<"all">>, [{[{<<"worker">>, <<"w1">>}], 1.0},
                                          {[{<<"worker">>, <<"w2">>}], 3.0}]}]].

of_two_types_one_is_left_out(_Config) ->
    Counter = family(<<"c">>, <<"counter">>, [{<<"c_total">>, 2.0}]),
    Gauge = family(<<"c_total">>, <<"gauge">>, [{<<"c_total">>, 3.0}]),
    {Sums, LeftOut} = hornbeam_client_families:sum([{<<"w1">>, Counter}, {<<"w2">>, Gauge}], #{}),
    ?assertEqual({[{[], 2.0}], [<<"c_total">>]}, {metrics(<<"c_total">>, Sums), LeftOut}),
    %% New code has a gauge of the name of what was a counter.
    Outlived = hornbeam_client_families:outlived(Counter, #{}),
    ?assertEqual([{[{<<"worker">>, <<"w1">>}], 3.0}],
                 metrics(<<"c_total">>, sum([Gauge], Outlived))).

names_are_those_of_one_family(_Config) ->
    Families = maps:merge(histogram([{<<"+Inf">>, 1}], 1.0),
                          family(<<"h_count">>, <<"gauge">>, [{<<"h_count">>, 3.0}])),
    Names = fun(Taken) ->
        [Name || {Name, _} <- hornbeam_client_families:free(Families, maps:from_keys(Taken, []))]
    end,
    ?assertEqual([<<"h">>], Names([])),
    ?assertEqual([<<"h_count">>], Names([<<"h_sum">>])),
    ?assertEqual([], Names([<<"h_count">>])).

only_so_much_outlives(_Config) ->
    Of = fun(From, To) ->
        {Families, []} = read([[<<"c">>, <<"counter">>, <<>>, <<>>,
                                [[<<"c_total">>, [[<<"l">>, integer_to_binary(N)]], 1.0]
                                 || N <- lists:seq(From, To)]]]),
        Families
    end,
    Outlived = hornbeam_client_families:outlived(Of(1, 100000), #{}),
    More = hornbeam_client_families:outlived(Of(100000, 100010), Outlived),
    All = maps:from_list(metrics(<<"c_total">>, More)),
    ?assertEqual({100000, 2.0}, {map_size(All), maps:get([{<<"l">>, <<"100000">>}], All)}).

read(Answer) -> hornbeam_client_families:read(Answer).

sum(Workers, Outlived) ->
    Named = [{<<"w", (integer_to_binary(N))/binary>>, Families}
             || {N, Families} <- lists:zip(lists:seq(1, length(Workers)), Workers)],
    {Sums, []} = hornbeam_client_families:sum(Named, Outlived),
    Sums.

histogram(Buckets, Sum) ->
    {Families, []} = read([[<<"h">>, <<"histogram">>, <<>>, <<>>,
                            [[<<"h_bucket">>, [[<<"le">>, Bound]], Count]
                             || {Bound, Count} <- Buckets]
                            ++ [[<<"h_sum">>, [], Sum]]]]),
    Families.

family(Name, Type, Samples) ->
    {Families, []} = read([[Name, Type, <<>>, <<"all">>, [[Sample, [], Value]
                                                          || {Sample, Value} <- Samples]]]),
    Families.

metrics(Name, Families) ->
    hornbeam_client_families:metrics(maps:get(Name, Families)).
