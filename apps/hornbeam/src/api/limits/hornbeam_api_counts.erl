%% What apps ask of the node, counted for who asks for metrics; nothing is where nobody does. No
%% process.
-module(hornbeam_api_counts).

-export([enable/1, op/1, published/1, values/0]).

%% The cells: an op's is its number; behind those messages published, and handed to subscribers.
-define(LAST_OP, 99).
-define(PUBLISHED, 100).
-define(DELIVERED, 101).

%% @doc Count from now on, anew, or no more.
-spec enable(boolean()) -> ok.
enable(true) ->
    persistent_term:put(?MODULE, counters:new(?DELIVERED, [write_concurrency]));
enable(false) ->
    persistent_term:put(?MODULE, none).

%% @doc An app has called an op; any number may come.
-spec op(non_neg_integer()) -> ok.
op(Number) when Number > 0, Number =< ?LAST_OP -> add(Number, 1);
op(_Number) -> ok.

%% @doc A message was published and handed to so many.
-spec published(non_neg_integer()) -> ok.
published(Subscribers) ->
    add(?PUBLISHED, 1),
    add(?DELIVERED, Subscribers).

add(Cell, Count) ->
    case persistent_term:get(?MODULE, none) of
        none -> ok;
        Counts -> counters:add(Counts, Cell, Count)
    end.

%% @doc What was counted; ops by their numbers.
-spec values() -> #{ops := #{pos_integer() => non_neg_integer()},
                    published := non_neg_integer(), delivered := non_neg_integer()}.
values() ->
    values(persistent_term:get(?MODULE, none)).

values(none) ->
    #{ops => #{}, published => 0, delivered => 0};
values(Counts) ->
    #{ops => maps:from_list([{Number, counters:get(Counts, Number)}
                             || Number <- lists:seq(1, ?LAST_OP)]),
      published => counters:get(Counts, ?PUBLISHED), delivered => counters:get(Counts, ?DELIVERED)}.
