%% Whether a history of calls on one key could have happened one after the other: each at some
%% moment between its beginning and its end. Pure.
%%
%% It is the search of Wing and Gong, with the memory of Lowe: a call may be next if none that has
%% not been done had ended before it began; what was tried before, the same calls done with the same
%% value, is not tried again. One whose answer is not known may be done at any time after its
%% beginning, or never, and one that was refused was not done.
-module(hornbeam_linearizable).

-export([check/1]).
-export_type([event/0]).

-type value() :: absent | term().
-type call() :: get | {set, term()} | {add, term()} | {cas, term(), term()} | delete | incr.
-type answer() :: {known, term()} | unknown.
-type event() :: {Began :: integer(), Ended :: integer() | infinity, call(), answer()}.

%% True, or how many of the calls whose answer is known could be put in order at most.
-spec check([event()]) -> true | {false, Most :: non_neg_integer()}.
check(Events) ->
    Known = [Event || {_, _, _, {known, _}} = Event <- lists:sort(Events)],
    Unknown = [Event || {_, _, _, unknown} = Event <- lists:sort(Events)],
    search([{Known, Unknown, absent}], #{}, length(Known), length(Known)).

%% A state is what is left to be done, and the value so far.
search([], _Seen, Least, All) ->
    {false, All - Least};
search([{[], _Unknown, _Value} | _], _Seen, _Least, _All) ->
    true;
search([{Known, _, _Value} = State | Others], Seen, Least, All) ->
    case Seen of
        #{State := _} -> search(Others, Seen, Least, All);
        #{} -> search(next(State) ++ Others, Seen#{State => []},
                      min(Least, length(Known)), All)
    end.

%% Those that are known first: what is unknown need not have been done at all.
next({Known, Unknown, Value}) ->
    {May, Later} = may_be_next(Known, infinity, []),
    [{lists:delete(Event, May) ++ Later, Unknown, After}
     || {_, _, Call, {known, Answer}} = Event <- May, {Said, After} <- [do(Call, Value)],
        Said =:= Answer]
    ++ [{Known, lists:delete(Event, Unknown), After}
        || {Began, _, Call, unknown} = Event <- Unknown, Began =< first_end(May),
           {_Said, After} <- [do(Call, Value)], After =/= Value].

%% None that is left had ended before they began.
may_be_next([{Began, Ended, _, _} = Event | Known], FirstEnd, May) when Began =< FirstEnd ->
    may_be_next(Known, min(Ended, FirstEnd), [Event | May]);
may_be_next(Later, _FirstEnd, May) ->
    {lists:reverse(May), Later}.

first_end(May) -> lists:min([Ended || {_, Ended, _, _} <- May]).

-spec do(call(), value()) -> {Answer :: term(), value()}.
do(get, absent) -> {absent, absent};
do(get, Value) -> {{ok, Value}, Value};
do({set, New}, _Value) -> {ok, New};
do({add, New}, absent) -> {true, New};
do({add, _New}, Value) -> {false, Value};
do({cas, Value, New}, Value) when Value =/= absent -> {true, New};
do({cas, _Old, _New}, Value) -> {false, Value};
do(delete, absent) -> {false, absent};
do(delete, _Value) -> {true, absent};
do(incr, absent) -> {{ok, 1}, 1};
do(incr, Value) -> {{ok, Value + 1}, Value + 1}.
