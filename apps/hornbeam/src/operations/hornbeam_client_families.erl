%% What `prometheus_client' has in several workers, as one. Pure.
%%
%%   an answer ──read──▶ families of a worker ──sum──▶ those of all ──free──▶ those of a scrape
%%                                 └──outlived──▶ what stays of one that is no more
%%
%% What only grows is kept as numbers that can be added: a histogram by how many were in each class,
%% so that workers with other classes, such as those of new code, are added, too. Of any other type
%% each name of samples is a gauge.
-module(hornbeam_client_families).

-export([read/1, sum/2, outlived/2, free/2, model/1, metrics/1]).
-export_type([families/0, named/0]).

-type labels() :: [{Name :: binary(), Value :: binary()}].
-type part() :: value | count | sum | {bucket, float() | infinity}.
-type values() :: #{{labels(), part()} => number()}.
-type family() :: {hornbeam_metric_name:type(), Mode :: binary(), Help :: binary(), values()}.
-type families() :: #{Name :: binary() => family()}.
%% The name of a counter ends in `_total'.

-type named() :: {Name :: binary(), family()}.

%% So many series are kept of workers that are no more, whatever labels they have made up.
-define(MOST_OUTLIVED, 100000).

%% @doc The families of an answer, and the names of those of which something is left out: what has a
%% name or a label that is none, or no number.
-spec read(Answer :: term()) -> {families(), LeftOut :: [binary()]}.
read(Answer) when is_list(Answer) ->
    lists:foldl(fun read_family/2, {#{}, []}, Answer);
read(_None) ->
    {#{}, []}.

read_family([Name, Type, Help, Mode, Samples], {Families, LeftOut})
        when is_binary(Name), is_binary(Help), is_binary(Mode), is_list(Samples) ->
    Read = [read_sample(Type, Name, Mode, Sample) || Sample <- Samples],
    Found = lists:foldl(fun(Sample, All) -> found(Sample, Help, All) end, #{}, Read),
    {maps:merge(Families, maps:map(fun(_Name, Family) -> with_classes(Family) end, Found)),
     [Name || lists:member(none, Read)] ++ LeftOut};
read_family(_None, All) ->
    All.

found(none, _Help, All) ->
    All;
found({Name, Type, Mode, Key, Value}, Help, All) ->
    {_, _, _, Values} = maps:get(Name, All, {Type, Mode, Help, #{}}),
    All#{Name => {Type, Mode, Help, Values#{Key => Value}}}.

read_sample(Type, Name, Mode, [Sample, Pairs, Value])
        when is_binary(Sample), is_list(Pairs), is_number(Value) ->
    case {meant(Type, Name, Mode, Sample), labels(Pairs)} of
        {{Family, Of, HowMany, Part}, {ok, Labels}} when Of =:= gauge; Value >= 0; Part =:= sum ->
            keyed(is_free_name(Family), {Family, Of, HowMany}, Part, Labels, Value);
        _ ->
            none
    end;
read_sample(_Type, _Name, _Mode, _None) ->
    none.

is_free_name(Name) ->
    hornbeam_metric_name:is_name(Name) andalso not hornbeam_metric_name:is_reserved(Name).

meant(<<"counter">>, Name, Mode, Sample) ->
    Total = <<Name/binary, "_total">>,
    case lists:member(Sample, [Name, Total]) of
        true -> {Total, counter, Mode, value};
        false -> none
    end;
meant(Type, Name, Mode, Sample) when Type =:= <<"histogram">>; Type =:= <<"summary">> ->
    Size = byte_size(Name),
    case Sample of
        <<Name:Size/binary, Suffix/binary>> -> with_part(Type, part(Suffix), Name, Mode);
        _ -> none
    end;
meant(<<"info">>, _Name, _Mode, Sample) ->
    {Sample, gauge, <<"max">>, value};
meant(_Any, _Name, Mode, Sample) ->
    {Sample, gauge, Mode, value}.

part(<<"_count">>) -> count;
part(<<"_sum">>) -> sum;
part(<<"_bucket">>) -> bucket;
part(_Other) -> none.

with_part(_Type, none, _Name, _Mode) -> none;
with_part(<<"histogram">>, Part, Name, Mode) -> {Name, histogram, Mode, Part};
with_part(<<"summary">>, bucket, _Name, _Mode) -> none;
with_part(<<"summary">>, Part, Name, Mode) -> {Name, summary, Mode, Part}.

labels(Pairs) ->
    case lists:all(fun is_label/1, Pairs) of
        true -> {ok, [{Label, Value} || [Label, Value] <- Pairs]};
        false -> none
    end.

is_label([Label, Value]) -> hornbeam_metric_name:is_label(Label) andalso is_binary(Value);
is_label(_None) -> false.

keyed(false, _Family, _Part, _Labels, _Value) ->
    none;
keyed(true, {Name, histogram, Mode}, bucket, Labels, Value) ->
    case lists:keytake(<<"le">>, 1, Labels) of
        {value, {_, Text}, Others} -> bucket(bound(Text), Name, Mode, Others, Value);
        false -> none
    end;
keyed(true, {Name, Type, Mode}, Part, Labels, Value) ->
    {Name, Type, Mode, {Labels, Part}, Value}.

bucket(none, _Name, _Mode, _Labels, _Value) -> none;
bucket(Bound, Name, Mode, Labels, Value) ->
    {Name, histogram, Mode, {Labels, {bucket, Bound}}, trunc(Value)}.

%% As Python writes a float.
bound(<<"+Inf">>) ->
    infinity;
bound(Text) ->
    try
        binary_to_float(with_fraction(binary:split(Text, <<"e">>)))
    catch
        error:badarg -> none
    end.

with_fraction([Mantissa | Exponent]) ->
    Whole = case binary:match(Mantissa, <<".">>) of
        nomatch -> <<Mantissa/binary, ".0">>;
        _ -> Mantissa
    end,
    iolist_to_binary([Whole | [[$e, Digits] || Digits <- Exponent]]).

%% How many were in each class, not up to its bound.
with_classes({histogram, Mode, Help, Values}) ->
    {histogram, Mode, Help,
     by_labels(fun(Labels, Parts) ->
         All = proplists:get_value(count, Parts, 0),
         [{{Labels, sum}, proplists:get_value(sum, Parts, 0)}
          | classes(Labels, 0, trunc(All), buckets(Parts))]
     end, Values)};
with_classes(Family) ->
    Family.

%% Numbers sort before atoms.
buckets(Parts) -> lists:sort([{Bound, Count} || {{bucket, Bound}, Count} <- Parts]).

classes(Labels, Before, _All, [{infinity, Count}]) ->
    [{{Labels, {bucket, infinity}}, max(0, Count - Before)}];
classes(Labels, Before, All, []) ->
    [{{Labels, {bucket, infinity}}, max(0, All - Before)}];
classes(Labels, Before, All, [{Bound, Count} | Buckets]) ->
    [{{Labels, {bucket, Bound}}, max(0, Count - Before)}
     | classes(Labels, max(Before, Count), All, Buckets)].

by_labels(Map, Values) ->
    maps:from_list(lists:append([Map(Labels, Parts) || {Labels, Parts} <- series(Values)])).

series(Values) ->
    Groups = maps:groups_from_list(fun({{Labels, _}, _}) -> Labels end,
                                   fun({{_, Part}, Value}) -> {Part, Value} end,
                                   maps:to_list(Values)),
    lists:sort(maps:to_list(Groups)).

%% One of all.

%% @doc The families of workers by their names, with what others had that are no more; and the names
%% of those that are of one type here and of another there, of which one is left out.
-spec sum([{Worker :: binary(), families()}], Outlived :: families()) ->
    {families(), LeftOut :: [binary()]}.
sum(Workers, Outlived) ->
    {Sums, LeftOut} = lists:foldl(fun({Worker, Families}, All) ->
        maps:fold(fun(Name, Family, Before) ->
            with_family(Name, Family, Worker, Outlived, Before)
        end, All, Families)
    end, {#{}, []}, Workers),
    %% What was counted is there also while no worker answers that knows of it.
    {maps:merge(Outlived, Sums), LeftOut}.

with_family(Name, {Type, _, _, _} = Family, Worker, Outlived, {All, LeftOut}) ->
    case All of
        #{Name := {Type, _, _, _} = Before} ->
            {All#{Name := added(Family, Worker, Before)}, LeftOut};
        #{Name := _OfAnotherType} ->
            {All, [Name | LeftOut]};
        _ ->
            {All#{Name => added(Family, Worker, before(Type, Family, Name, Outlived))}, LeftOut}
    end.

before(Type, {_, Mode, Help, _}, Name, Outlived) ->
    case Outlived of
        #{Name := {Type, _, _, Values}} -> {Type, Mode, Help, Values};
        _ -> {Type, Mode, Help, #{}}
    end.

added({Type, Mode, _, Values}, Worker, {Type, _, Help, Before}) ->
    {Type, Mode, Help, maps:fold(fun(Key, Value, All) ->
        {Of, Combine} = combined(Type, Mode, Key, Worker),
        maps:update_with(Of, fun(Known) -> Combine(Known, Value) end, Value, All)
    end, Before, Values)}.

combined(gauge, Mode, {Labels, value} = Key, Worker) ->
    case mode(Mode) of
        apart -> {{of_worker(Labels, Worker), value}, fun erlang:max/2};
        Combine -> {Key, Combine}
    end;
combined(_Grows, _Mode, Key, _Worker) ->
    {Key, fun hornbeam_app_metrics:plus/2}.

mode(Mode) when Mode =:= <<"sum">>; Mode =:= <<"livesum">> -> fun hornbeam_app_metrics:plus/2;
mode(Mode) when Mode =:= <<"max">>; Mode =:= <<"livemax">> -> fun erlang:max/2;
mode(Mode) when Mode =:= <<"min">>; Mode =:= <<"livemin">> -> fun erlang:min/2;
mode(_Any) -> apart.

of_worker(Labels, Worker) ->
    Label = case lists:keymember(<<"worker">>, 1, Labels) of
        true -> <<"hornbeam_worker">>;
        false -> <<"worker">>
    end,
    Labels ++ [{Label, Worker}].

%% @doc What stays of a worker that is no more, with what has stayed of others.
-spec outlived(families(), families()) -> families().
outlived(Families, Outlived) ->
    Grown = maps:filter(fun(_Name, {Type, _, _, _}) -> Type =/= gauge end, Families),
    {Sums, _} = sum([{<<>>, Grown}], Outlived),
    case series_of(Sums) =< ?MOST_OUTLIVED of
        true -> Sums;
        false -> known(Sums, Outlived)
    end.

series_of(Families) ->
    lists:sum([map_size(Values) || {_, _, _, Values} <- maps:values(Families)]).

%% Those that were there go on, so that no counter goes back.
known(Sums, Outlived) ->
    maps:map(fun(Name, {Type, Mode, Help, Before}) ->
        {_, _, _, Now} = maps:get(Name, Sums),
        {Type, Mode, Help, maps:with(maps:keys(Before), Now)}
    end, maps:filter(fun(Name, {Type, _, _, _}) -> element(1, maps:get(Name, Sums)) =:= Type end,
                     Outlived)).

%% A scrape.

%% @doc Those whose names are not taken, also not by one of them that comes before.
-spec free(families(), Taken :: #{Name :: binary() => []}) -> [named()].
free(Families, Taken) ->
    {Free, _} = lists:foldl(fun({Name, {Type, _, _, _}} = Family, {Before, All}) ->
        Names = hornbeam_metric_name:all_of(Type, Name),
        case lists:any(fun(One) -> is_map_key(One, All) end, Names) of
            true -> {Before, All};
            false -> {[Family | Before], maps:merge(All, maps:from_keys(Names, []))}
        end
    end, {[], Taken}, lists:sort(maps:to_list(Families))),
    lists:reverse(Free).

%% @doc A family as the library has it.
-spec model(named()) -> prometheus_model:'MetricFamily'().
model({Name, {Type, _Mode, Help, _Values} = Family}) ->
    prometheus_model_helpers:create_mf(Name, Help, Type, metrics(Family)).

%% @doc Its series, as the library takes them.
-spec metrics(family()) -> [tuple()].
metrics({Type, _Mode, _Help, Values}) ->
    metrics(Type, Values).

metrics(Type, Values) when Type =:= counter; Type =:= gauge ->
    lists:sort([{Labels, Value} || {{Labels, value}, Value} <- maps:to_list(Values)]);
metrics(summary, Values) ->
    [{Labels, trunc(proplists:get_value(count, Parts, 0)), proplists:get_value(sum, Parts, 0)}
     || {Labels, Parts} <- series(Values)];
metrics(histogram, Values) ->
    [histogram(Labels, buckets(Parts), proplists:get_value(sum, Parts, 0))
     || {Labels, Parts} <- series(Values)].

histogram(Labels, Classes, Sum) ->
    {Buckets, Count} = lists:mapfoldl(fun({Bound, In}, Before) ->
        {{Bound, Before + In}, Before + In}
    end, 0, Classes),
    {Labels, Buckets, Count, Sum}.
