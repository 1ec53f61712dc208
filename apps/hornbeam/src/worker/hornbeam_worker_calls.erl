%% The calls that others have made into one worker, and who waits for them.
%%
%% A call has a number on the wire; its caller knows it by a reference. For a cast nobody waits.
%% It monitors and sends; it knows neither the port nor what a result says.
-module(hornbeam_worker_calls).

-export([new/0, open/3, number/2, result/3, item/3, forget/2]).
-export_type([calls/0]).

-record(calls, {
    last = 0 :: non_neg_integer(),
    waiting = #{} :: #{pos_integer() => {hornbeam_call:call(), Monitor :: reference()} | cast},
    numbers = #{} :: #{hornbeam_call:call() => pos_integer()}
}).
-opaque calls() :: #calls{}.

%% @doc No calls.
-spec new() -> calls().
new() ->
    #calls{}.

%% @doc Give a call its number. The caller's death will come as
%% `{{'DOWN', {call, Call}}, Ref, process, Pid, Reason}'.
-spec open(hornbeam_call:call() | none, Caller :: pid() | none, calls()) ->
    {pos_integer(), calls()}.
open(none, none, Calls) ->
    wait(cast, Calls);
open(Call, Caller, #calls{numbers = Numbers} = Calls0) ->
    Monitor = erlang:monitor(process, Caller, [{tag, {'DOWN', {call, Call}}}]),
    {Number, Calls} = wait({Call, Monitor}, Calls0),
    {Number, Calls#calls{numbers = Numbers#{Call => Number}}}.

wait(For, #calls{last = Last, waiting = Waiting} = Calls) ->
    Number = Last + 1,
    {Number, Calls#calls{last = Number, waiting = Waiting#{Number => For}}}.

%% @doc The number of a call that is not over.
-spec number(hornbeam_call:call(), calls()) -> {ok, pos_integer()} | over.
number(Call, #calls{numbers = Numbers}) ->
    case Numbers of
        #{Call := Number} -> {ok, Number};
        #{} -> over
    end.

%% @doc Give a result to its caller; the call is over. A number that was never given is an error.
-spec result(pos_integer(), hornbeam_call:answer(), calls()) ->
    {ok | cast, calls()} | {error, {no_such_call, non_neg_integer()}}.
result(Number, Result, #calls{waiting = Waiting} = Calls) ->
    case Waiting of
        #{Number := {Call, _}} ->
            Call ! {Call, Result},
            {ok, forget(Call, Calls)};
        #{Number := cast} ->
            {cast, Calls#calls{waiting = maps:remove(Number, Waiting)}};
        #{} ->
            over(Number, Calls)
    end.

%% @doc Give an item of a stream to its caller.
-spec item(pos_integer(), hornbeam_call:answer(), calls()) ->
    {ok, calls()} | {error, {no_such_call, non_neg_integer()}}.
item(Number, Item, #calls{waiting = Waiting} = Calls) ->
    case Waiting of
        #{Number := {Call, _}} ->
            Call ! {Call, Item},
            {ok, Calls};
        #{} ->
            over(Number, Calls)
    end.

%% Nobody waits for it any more.
over(Number, #calls{last = Last} = Calls) when Number > 0, Number =< Last -> {ok, Calls};
over(Number, _Calls) -> {error, {no_such_call, Number}}.

%% @doc The call is over, or its caller does not wait any more.
-spec forget(hornbeam_call:call(), calls()) -> calls().
forget(Call, #calls{waiting = Waiting, numbers = Numbers} = Calls) ->
    case Numbers of
        #{Call := Number} ->
            {_, Monitor} = maps:get(Number, Waiting),
            true = erlang:demonitor(Monitor, [flush]),
            Calls#calls{waiting = maps:remove(Number, Waiting),
                        numbers = maps:remove(Call, Numbers)};
        #{} ->
            Calls
    end.
