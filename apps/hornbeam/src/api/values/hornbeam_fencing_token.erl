%% Fencing tokens: integers that grow, on whatever node the next one is made.
%%
%% A token is the time in microseconds, or one more than the greatest that this node has made or
%% heard of: what nodes say of leaders they say with the greatest token. So clocks that differ order
%% nothing wrongly among nodes that have spoken. No process.
-module(hornbeam_fencing_token).

-export([new/0, next/0, seen/1, greatest/0, next_after/2]).
-export_type([token/0]).

-type token() :: pos_integer().

%% @doc Begin to count.
-spec new() -> ok.
new() ->
    persistent_term:put(?MODULE, atomics:new(1, [{signed, true}])).

%% @doc A token greater than all that this node knows of.
-spec next() -> token().
next() ->
    Greatest = greatest(),
    Next = next_after(Greatest, erlang:system_time(microsecond)),
    case atomics:compare_exchange(cell(), 1, Greatest, Next) of
        ok -> Next;
        _Changed -> next()
    end.

%% @doc The token after another one, at a time in microseconds. Pure.
-spec next_after(non_neg_integer(), Microseconds :: integer()) -> token().
next_after(Greatest, Now) ->
    max(Greatest + 1, Now).

%% @doc Others have this token; 0 is none.
-spec seen(non_neg_integer()) -> ok.
seen(Token) ->
    Greatest = greatest(),
    case Token > Greatest andalso atomics:compare_exchange(cell(), 1, Greatest, Token) of
        Settled when Settled =:= false; Settled =:= ok -> ok;
        _Changed -> seen(Token)
    end.

%% @doc The greatest token that this node knows of; 0 where there was none.
-spec greatest() -> non_neg_integer().
greatest() ->
    atomics:get(cell(), 1).

cell() -> persistent_term:get(?MODULE).
