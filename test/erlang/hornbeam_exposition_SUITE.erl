%% What the library writes, made canonical and made OpenMetrics.
-module(hornbeam_exposition_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [bounds_are_written_short, bounds_stay_apart_however_small_or_large,
     labels_that_look_like_bounds_stay, help_that_looks_like_a_bound_stays,
     a_histogram_of_what_may_be_negative_has_buckets_alone,
     counters_are_named_without_total_and_their_samples_with_it,
     untyped_is_unknown, help_quotes_quotation_marks, nothing_is_an_end].

bounds_are_written_short(_Config) ->
    ?assertEqual(<<"a_bucket{x=\"y\",le=\"0.0005\"} 1\na_bucket{le=\"60.0\"} 2\n">>,
                 canonical(<<"a_bucket{x=\"y\",le=\"5.00000000000000010408e-04\"} 1\n"
                             "a_bucket{le=\"6.00000000000000000000e+01\"} 2\n">>)).

bounds_stay_apart_however_small_or_large(_Config) ->
    Bounds = [{1.0e-12, "1.0e-12"}, {2.0e-12, "2.0e-12"}, {-1.5, "-1.5"}, {1.0e15, "1.0e15"},
              {1.0e300, "1.0e300"}, {0.1 + 0.2, "0.30000000000000004"}],
    [?assertEqual(iolist_to_binary(["a_bucket{le=\"", Short, "\"} 1\n"]),
                  canonical(iolist_to_binary(["a_bucket{le=\"", float_to_list(Bound), "\"} 1\n"])))
     || {Bound, Short} <- Bounds].

help_that_looks_like_a_bound_stays(_Config) ->
    [?assertEqual(Text, canonical(Text))
     || Text <- [<<"# HELP a {le=\"1.5e+400\"} or {le=\"1e+5\"}\n">>,
                 <<"# HELP a {le=\"1.00000000000000000000e+400\"} \n">>]].

a_histogram_of_what_may_be_negative_has_buckets_alone(_Config) ->
    Text = <<"# TYPE a histogram\na_bucket{le=\"-1.0\"} 1\na_bucket{le=\"+Inf\"} 1\n"
             "a_count 1\na_sum -3\n# TYPE b histogram\nb_bucket{le=\"+Inf\"} 1\nb_sum 1\n">>,
    ?assertEqual(<<"# TYPE a histogram\na_bucket{le=\"-1.0\"} 1\na_bucket{le=\"+Inf\"} 1\n"
                   "# TYPE b histogram\nb_bucket{le=\"+Inf\"} 1\nb_sum 1\n# EOF\n">>,
                 open_metrics(Text)).

labels_that_look_like_bounds_stay(_Config) ->
    Text = <<"a{title=\"5.0e-04\",x=\",le=\\\"5.0e-04\\\"\"} 1\n">>,
    ?assertEqual(Text, canonical(Text)).

counters_are_named_without_total_and_their_samples_with_it(_Config) ->
    ?assertEqual(<<"# TYPE a counter\n# HELP a b\na_total{x=\"y\"} 1\n"
                   "# TYPE c counter\n# HELP c d\nc_total 1\nc_total{x=\"y\"} 2\n# EOF\n">>,
                 open_metrics(<<"# TYPE a_total counter\n# HELP a_total b\na_total{x=\"y\"} 1\n"
                                "# TYPE c counter\n# HELP c d\nc 1\nc{x=\"y\"} 2\n\n">>)).

untyped_is_unknown(_Config) ->
    ?assertEqual(<<"# TYPE a unknown\na 1\n# EOF\n">>,
                 open_metrics(<<"# TYPE a untyped\na 1\n">>)).

help_quotes_quotation_marks(_Config) ->
    ?assertEqual(<<"# TYPE a gauge\n# HELP a say \\\"b\\\"\n# EOF\n">>,
                 open_metrics(<<"# TYPE a gauge\n# HELP a say \"b\"\n">>)).

nothing_is_an_end(_Config) ->
    ?assertEqual(<<"# EOF\n">>, open_metrics(<<"\n">>)).

canonical(Text) ->
    iolist_to_binary(hornbeam_exposition:canonical(Text)).

open_metrics(Text) ->
    iolist_to_binary(hornbeam_exposition:open_metrics(Text)).
