%% How often something took how long, in fixed classes. No process: counted by whoever measures.
-module(hornbeam_histogram).

-export([new/1, observe/2, value/1]).
-export_type([histogram/0, value/0]).

-record(histogram, {
    %% the classes' upper bounds, the last class having none
    bounds :: [pos_integer()],
    %% a cell for each class, and the sum
    counts :: counters:counters_ref()
}).
-opaque histogram() :: #histogram{}.

-type value() :: #{bounds := [pos_integer()], counts := [non_neg_integer()],
                   sum := non_neg_integer()}.
%% Counts are those of each class alone, and one more than there are bounds.

%% @doc An empty one, with the upper bounds of its classes in their order, in whatever unit.
-spec new([pos_integer(), ...]) -> histogram().
new(Bounds) ->
    #histogram{bounds = Bounds,
               counts = counters:new(length(Bounds) + 2, [write_concurrency])}.

%% @doc Count a value.
-spec observe(non_neg_integer(), histogram()) -> ok.
observe(Value, #histogram{bounds = Bounds, counts = Counts}) ->
    counters:add(Counts, 1, Value),
    counters:add(Counts, class(Value, Bounds, 2), 1).

class(Value, [Bound | Bounds], Class) when Value > Bound -> class(Value, Bounds, Class + 1);
class(_Value, _Bounds, Class) -> Class.

%% @doc What was counted so far.
-spec value(histogram()) -> value().
value(#histogram{bounds = Bounds, counts = Counts}) ->
    #{bounds => Bounds, sum => counters:get(Counts, 1),
      counts => [counters:get(Counts, Cell) || Cell <- lists:seq(2, length(Bounds) + 2)]}.
