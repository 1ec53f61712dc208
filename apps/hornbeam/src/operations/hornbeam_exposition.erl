%% What the library writes in Prometheus' text format, made canonical, and OpenMetrics 1.0. Pure.
%%
%% The two differ in little: in OpenMetrics a counter's family is named without `_total', and its
%% samples with it; what has no type is `unknown'; help texts quote quotation marks; a histogram of
%% what may be negative has no sum, which would be no counter, and so no count; and there is an end.
-module(hornbeam_exposition).

-export([text_type/0, open_metrics_type/0, canonical/1, open_metrics/1]).

-spec text_type() -> binary().
text_type() ->
    <<"text/plain; version=0.0.4; charset=utf-8">>.

-spec open_metrics_type() -> binary().
open_metrics_type() ->
    <<"application/openmetrics-text; version=1.0.0; charset=utf-8">>.

%% @doc The same with the bounds of buckets as Prometheus writes them: old versions of the library
%% have all digits of a float. They are labels, so that 0.1 and 1.00000000000000005551e-01 would be
%% different series.
-spec canonical(binary()) -> iodata().
canonical(Text) ->
    case re:run(Text, "[{,]le=\"(-?[0-9]\\.[0-9]{20}e[+-][0-9]+)\"} ",
                [global, {capture, all_but_first, index}]) of
        {match, Found} -> replaced(lists:append(Found), 0, Text);
        nomatch -> Text
    end.

replaced([{At, Size} | Found], From, Text) ->
    [binary:part(Text, From, At - From), bound(binary:part(Text, At, Size))
     | replaced(Found, At + Size, Text)];
replaced([], From, Text) ->
    [binary:part(Text, From, byte_size(Text) - From)].

%% What looks like one in a help text may be too large for a float.
bound(Text) ->
    try
        shortest(binary_to_float(Text))
    catch
        error:badarg -> Text
    end.

%% Without an exponent only where that loses nothing.
shortest(Bound) when abs(Bound) < 1.0e15 ->
    Plain = float_to_binary(Bound, [{decimals, 10}, compact]),
    case binary_to_float(Plain) == Bound of
        true -> Plain;
        false -> float_to_binary(Bound, [short])
    end;
shortest(Bound) ->
    float_to_binary(Bound, [short]).

%% @doc A text as OpenMetrics. Lines of a family stand together, its type first.
-spec open_metrics(iodata()) -> iodata().
open_metrics(Text) ->
    lines(binary:split(iolist_to_binary(Text), <<"\n">>, [global]), <<>>, as_it_is).

%% `As': whether the family of the lines is a counter, with or without `_total', or a histogram with
%% a negative bound.
lines([], _Name, _As) ->
    [<<"# EOF\n">>];
lines([<<>> | Lines], Name, As) ->
    lines(Lines, Name, As);
lines([<<"# TYPE ", Rest/binary>> | Lines], _Name, _As) ->
    [Name, Type] = binary:split(Rest, <<" ">>),
    As = as(Type, is_total(Name)),
    [[<<"# TYPE ">>, family(Name, As), $\s, type(Type), $\n] | lines(Lines, Name, As)];
lines([<<"# HELP ", Rest/binary>> | Lines], Name, As) ->
    [_Name, Help] = binary:split(Rest, <<" ">>),
    [[<<"# HELP ">>, family(Name, As), $\s, quoted(Help), $\n] | lines(Lines, Name, As)];
lines([Sample | Lines], Name, nameless_total) ->
    Size = byte_size(Name),
    <<Name:Size/binary, Rest/binary>> = Sample,
    [[Name, <<"_total">>, Rest, $\n] | lines(Lines, Name, nameless_total)];
lines([Sample | Lines], Name, As) ->
    case is_negative(Sample, As) of
        false -> [[Sample, $\n] | lines(Lines, Name, As)];
        true -> [bucket(Sample, Name) | lines(Lines, Name, negative)]
    end.

%% Buckets stand in front of the others.
is_negative(_Sample, negative) -> true;
is_negative(Sample, _As) -> binary:match(Sample, <<"le=\"-">>) =/= nomatch.

bucket(Sample, Name) ->
    Bucket = <<Name/binary, "_bucket{">>,
    case binary:longest_common_prefix([Sample, Bucket]) =:= byte_size(Bucket) of
        true -> [Sample, $\n];
        false -> []
    end.

as(<<"counter">>, true) -> total;
as(<<"counter">>, false) -> nameless_total;
as(_Type, _IsTotal) -> as_it_is.

is_total(Name) ->
    binary:longest_common_suffix([Name, <<"_total">>]) =:= byte_size(<<"_total">>).

family(Name, total) -> binary:part(Name, 0, byte_size(Name) - byte_size(<<"_total">>));
family(Name, _As) -> Name.

type(<<"untyped">>) -> <<"unknown">>;
type(Type) -> Type.

quoted(Help) ->
    binary:replace(Help, <<"\"">>, <<"\\\"">>, [global]).
