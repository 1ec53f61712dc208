%% The calls that others have made into one worker, and who waits for them.
%%
%% A call has a number on the wire; its caller knows it by a reference. For a cast nobody waits.
%% It monitors and sends; it knows neither the port nor what a result says, but for what Python
%% may answer: one result a call, and of a stream as many items as were asked for.
%%
%% Most calls are over before anybody could want to end them, so a caller is not monitored at once,
%% but when its call has gone on for a moment: then `watch_calls' comes, for watch/1.
-module(hornbeam_worker_calls).

-export([new/0, open/3, watch/1, number/2, more/3, result/4, item/3, forget/2]).
-export_type([calls/0, fault/0]).

-record(waiting, {
    call :: hornbeam_call:call(),
    caller :: pid(),
    %% undefined while it is not watched
    monitor :: reference() | undefined,
    %% items that were asked for and have not come; undefined when none ever were
    room :: non_neg_integer() | undefined
}).

-record(calls, {
    last = 0 :: non_neg_integer(),
    waiting = #{} :: #{pos_integer() => #waiting{} | cast},
    %% of those that are watched, which are all up to a number
    numbers = #{} :: #{hornbeam_call:call() => pos_integer()},
    watched = 0 :: non_neg_integer(),
    is_timed = false :: boolean(),
    %% results and items that may still come of calls that were cancelled: they may have crossed
    late_results = 0 :: non_neg_integer(),
    late_items = 0 :: non_neg_integer()
}).
-opaque calls() :: #calls{}.

%% How long a call may go on before it is watched (ms).
-define(MOMENT, 20).

-type fault() :: no_such_call | call_is_over | unasked_item | bad_result.

%% @doc No calls.
-spec new() -> calls().
new() ->
    #calls{}.

%% @doc Give a call its number. The caller's death will come as
%% `{{'DOWN', {call, Call}}, Ref, process, Pid, Reason}', once the call is watched.
-spec open(hornbeam_call:call() | none, Caller :: pid() | none, calls()) ->
    {pos_integer(), calls()}.
open(none, none, Calls) ->
    wait(cast, Calls);
open(Call, Caller, Calls) ->
    wait(#waiting{call = Call, caller = Caller}, timed(Calls)).

timed(#calls{is_timed = true} = Calls) ->
    Calls;
timed(Calls) ->
    hornbeam_worker_protocol:watch_calls(?MOMENT),
    Calls#calls{is_timed = true}.

wait(For, #calls{last = Last, waiting = Waiting} = Calls) ->
    Number = Last + 1,
    {Number, Calls#calls{last = Number, waiting = Waiting#{Number => For}}}.

%% @doc Watch the calls that are not over and have not been watched.
-spec watch(calls()) -> calls().
watch(Calls) ->
    watched(Calls#calls{is_timed = false}).

watched(#calls{watched = Last, last = Last} = Calls) ->
    Calls;
watched(#calls{watched = Watched, waiting = Waiting, numbers = Numbers} = Calls) ->
    Number = Watched + 1,
    case Waiting of
        #{Number := #waiting{call = Call, caller = Caller} = For} ->
            Monitor = hornbeam_worker_protocol:monitor(Caller, {call, Call}),
            watched(Calls#calls{watched = Number, numbers = Numbers#{Call => Number},
                                waiting = Waiting#{Number := For#waiting{monitor = Monitor}}});
        #{} ->
            watched(Calls#calls{watched = Number})
    end.

%% @doc The number of a call that is not over, which is watched from now on.
-spec number(hornbeam_call:call(), calls()) -> {ok, pos_integer(), calls()} | {over, calls()}.
number(Call, Calls0) ->
    #calls{numbers = Numbers} = Calls = watched(Calls0),
    case Numbers of
        #{Call := Number} -> {ok, Number, Calls};
        #{} -> {over, Calls}
    end.

%% @doc Let a stream send so many more items.
-spec more(hornbeam_call:call(), Items :: pos_integer(), calls()) ->
    {ok, pos_integer(), calls()} | {over, calls()}.
more(Call, Items, Calls0) ->
    case number(Call, Calls0) of
        {ok, Number, #calls{waiting = Waiting} = Calls} ->
            #{Number := For} = Waiting,
            More = For#waiting{room = room(For) + Items},
            {ok, Number, Calls#calls{waiting = Waiting#{Number := More}}};
        {over, Calls} ->
            {over, Calls}
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

answered(#waiting{call = Call} = For, Number, Result, Calls) ->
    hornbeam_worker_protocol:answer(Call, Result),
    {ok, done(For, Number, Calls)};
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
            hornbeam_worker_protocol:answer(Call, Item),
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
forget(Call, Calls0) ->
    case number(Call, Calls0) of
        {ok, Number, #calls{waiting = Waiting} = Calls} ->
            For = maps:get(Number, Waiting),
            #calls{late_results = Results, late_items = Late} = Done = done(For, Number, Calls),
            Done#calls{late_results = Results + 1, late_items = Late + room(For)};
        {over, Calls} ->
            Calls
    end.

done(#waiting{monitor = undefined}, Number, #calls{waiting = Waiting} = Calls) ->
    Calls#calls{waiting = maps:remove(Number, Waiting)};
done(#waiting{call = Call, monitor = Monitor}, Number, Calls) ->
    #calls{waiting = Waiting, numbers = Numbers} = Calls,
    true = erlang:demonitor(Monitor, [flush]),
    Calls#calls{waiting = maps:remove(Number, Waiting), numbers = maps:remove(Call, Numbers)}.
