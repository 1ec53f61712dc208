%% The calls that others have made into one worker, and who waits for them.
%%
%% A call has a number on the wire; its caller knows it by a reference. For a cast nobody waits.
%% It monitors and sends; it knows neither the port nor what a result says, but for what Python
%% may answer: one result a call, and of a stream as many items as were asked for.
-module(hornbeam_worker_calls).

-export([new/0, open/3, number/2, more/3, result/4, item/3, forget/2]).
-export_type([calls/0, fault/0]).

-record(waiting, {
    call :: hornbeam_call:call(),
    monitor :: reference(),
    %% items that were asked for and have not come; undefined when none ever were
    room :: non_neg_integer() | undefined
}).

-record(calls, {
    last = 0 :: non_neg_integer(),
    waiting = #{} :: #{pos_integer() => #waiting{} | cast},
    numbers = #{} :: #{hornbeam_call:call() => pos_integer()},
    %% results and items that may still come of calls that were cancelled: they may have crossed
    late_results = 0 :: non_neg_integer(),
    late_items = 0 :: non_neg_integer()
}).
-opaque calls() :: #calls{}.

-type fault() :: no_such_call | call_is_over | unasked_item | bad_result.

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
    {Number, Calls} = wait(#waiting{call = Call, monitor = Monitor}, Calls0),
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

%% @doc Let a stream send so many more items.
-spec more(hornbeam_call:call(), Items :: pos_integer(), calls()) ->
    {ok, pos_integer(), calls()} | over.
more(Call, Items, #calls{waiting = Waiting} = Calls) ->
    case number(Call, Calls) of
        {ok, Number} ->
            #{Number := For} = Waiting,
            More = For#waiting{room = room(For) + Items},
            {ok, Number, Calls#calls{waiting = Waiting#{Number := More}}};
        over ->
            over
    end.

room(#waiting{room = undefined}) -> 0;
room(#waiting{room = Room}) -> Room.

%% @doc Give a result to its caller; the call is over. For a cast it is the asker's to look at.
-spec result(pos_integer(), Status :: non_neg_integer(), Value :: term(), calls()) ->
    {ok | cast, calls()} | {error, fault()}.
result(Number, Status, Value, #calls{waiting = Waiting} = Calls) ->
    For = maps:get(Number, Waiting, none),
    case hornbeam_call:is_result(Status, Value, is_stream(For)) of
        true -> answered(For, Number, {result, Status, Value}, Calls);
        false -> {error, bad_result}
    end.

answered(#waiting{call = Call}, _Number, Result, Calls) ->
    Call ! {Call, Result},
    {ok, done(Call, Calls)};
answered(cast, Number, _Result, #calls{waiting = Waiting} = Calls) ->
    {cast, Calls#calls{waiting = maps:remove(Number, Waiting)}};
answered(none, Number, _Result, #calls{last = Last}) when Number < 1; Number > Last ->
    {error, no_such_call};
answered(none, _Number, _Result, #calls{late_results = Late} = Calls) when Late > 0 ->
    {ok, Calls#calls{late_results = Late - 1}};
answered(none, _Number, _Result, _Calls) ->
    {error, call_is_over}.

%% Of a call that is over it is not known what it was.
is_stream(none) -> true;
is_stream(#waiting{room = Room}) -> Room =/= undefined;
is_stream(cast) -> false.

%% @doc Give an item of a stream to its caller.
-spec item(pos_integer(), hornbeam_call:answer(), calls()) -> {ok, calls()} | {error, fault()}.
item(Number, Item, #calls{waiting = Waiting} = Calls) ->
    case maps:get(Number, Waiting, none) of
        #waiting{call = Call, room = Room} = For when is_integer(Room), Room > 0 ->
            Call ! {Call, Item},
            Left = For#waiting{room = Room - 1},
            {ok, Calls#calls{waiting = Waiting#{Number := Left}}};
        none ->
            late_item(Number, Calls);
        _ ->
            {error, unasked_item}
    end.

late_item(Number, #calls{last = Last}) when Number < 1; Number > Last ->
    {error, no_such_call};
late_item(_Number, #calls{late_items = Late} = Calls) when Late > 0 ->
    {ok, Calls#calls{late_items = Late - 1}};
late_item(_Number, _Calls) ->
    {error, call_is_over}.

%% @doc The caller does not wait any more: what has crossed this is dropped.
-spec forget(hornbeam_call:call(), calls()) -> calls().
forget(Call, #calls{waiting = Waiting} = Calls) ->
    case number(Call, Calls) of
        {ok, Number} ->
            Items = room(maps:get(Number, Waiting)),
            #calls{late_results = Results, late_items = Late} = Done = done(Call, Calls),
            Done#calls{late_results = Results + 1, late_items = Late + Items};
        over ->
            Calls
    end.

done(Call, #calls{waiting = Waiting, numbers = Numbers} = Calls) ->
    #{Call := Number} = Numbers,
    #{Number := #waiting{monitor = Monitor}} = Waiting,
    true = erlang:demonitor(Monitor, [flush]),
    Calls#calls{waiting = maps:remove(Number, Waiting), numbers = maps:remove(Call, Numbers)}.
