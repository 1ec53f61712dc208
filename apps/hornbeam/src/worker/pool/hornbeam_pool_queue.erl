%% Who waits for a place on a worker of one pool, first come first served.
%%
%% It monitors, keeps time and answers; which worker has room is hornbeam_pool_balancer's question,
%% and all who wait stand in hornbeam_pool_waiting too. The pool's dispatcher owns it and passes on
%% what comes for it:
%%
%%   `{late, Ref}'                              to late/2
%%   `{{'DOWN', {waiter, Ref}}, _, _, _, _}'    to leave/2
-module(hornbeam_pool_queue).

-export([new/3, join/4, leave/2, late/2, serve/2, abandon/1, count/1]).
-export_type([queue/0]).

-record(waiter, {
    ref :: reference(),
    pid :: pid(),
    monitor :: reference(),
    timer :: reference()
}).

-record(queue, {
    max :: pos_integer(),
    timeout :: pos_integer(),
    %% how many wait, for those who must not overtake them
    count :: atomics:atomics_ref(),
    last = 0 :: non_neg_integer(),
    waiters = gb_trees:empty() :: gb_trees:tree(pos_integer(), #waiter{}),
    numbers = #{} :: #{reference() => pos_integer()}
}).
-opaque queue() :: #queue{}.

%% @doc Nobody waits. The number of those who do is kept in the first place of `Count'.
-spec new(Max :: pos_integer(), Timeout :: pos_integer(), Count :: atomics:atomics_ref()) ->
    queue().
new(Max, Timeout, Count) ->
    #queue{max = Max, timeout = Timeout, count = Count}.

%% @doc Let a process wait, unless it does already. `Since' is when it began, in native monotonic
%% time: so long ago that it has waited long enough, or not.
-spec join(Ref :: reference(), pid(), Since :: integer(), queue()) -> queue().
join(Ref, _Pid, _Since, #queue{numbers = Numbers} = Queue) when is_map_key(Ref, Numbers) ->
    Queue;
join(Ref, Pid, Since, #queue{max = Max} = Queue) ->
    case count(Queue) < Max of
        true ->
            Monitor = erlang:monitor(process, Pid, [{tag, {'DOWN', {waiter, Ref}}}]),
            add(#waiter{ref = Ref, pid = Pid, monitor = Monitor, timer = timer(Ref, Since, Queue)},
                Queue);
        false ->
            hornbeam_pool_waiting:answer(Ref, {error, queue_full}),
            Queue
    end.

timer(Ref, Since, #queue{timeout = Timeout}) ->
    Waited = erlang:convert_time_unit(erlang:monotonic_time() - Since, native, millisecond),
    erlang:send_after(max(0, Timeout - Waited), self(), {late, Ref}).

add(#waiter{ref = Ref} = Waiter, #queue{last = Last} = Queue) ->
    #queue{waiters = Waiters, numbers = Numbers} = Queue,
    Number = Last + 1,
    counted(Queue#queue{last = Number, waiters = gb_trees:insert(Number, Waiter, Waiters),
                        numbers = Numbers#{Ref => Number}}).

%% @doc A process waits no longer; `unknown' when it did not.
-spec leave(Ref :: reference(), queue()) -> {left, queue()} | unknown.
leave(Ref, #queue{waiters = Waiters, numbers = Numbers} = Queue) ->
    case Numbers of
        #{Ref := Number} -> {left, remove(gb_trees:get(Number, Waiters), Number, Queue)};
        #{} -> unknown
    end.

remove(#waiter{ref = Ref, monitor = Monitor, timer = Timer}, Number, Queue) ->
    #queue{waiters = Waiters, numbers = Numbers} = Queue,
    true = erlang:demonitor(Monitor, [flush]),
    _ = erlang:cancel_timer(Timer),
    counted(Queue#queue{waiters = gb_trees:delete(Number, Waiters),
                        numbers = maps:remove(Ref, Numbers)}).

%% @doc A process has waited for as long as it may.
-spec late(Ref :: reference(), queue()) -> queue().
late(Ref, Queue) ->
    in_vain(Ref, late, Queue).

in_vain(Ref, Why, Queue0) ->
    case leave(Ref, Queue0) of
        {left, Queue} ->
            hornbeam_pool_waiting:answer(Ref, {error, Why}),
            Queue;
        unknown ->
            Queue0
    end.

%% @doc Give places to those who wait, as many as the workers have. Whose place comes free while
%% somebody waits sends `{room, Worker}' to the pool, once.
-spec serve([hornbeam_capacity:handle()], queue()) -> queue().
serve(Handles, Queue0) ->
    case serve_all(Handles, Queue0) of
        {empty, Queue} ->
            Queue;
        {full, Queue} ->
            lists:foreach(fun hornbeam_capacity:want/1, Handles),
            %% What came free before we said that we want it was not told.
            {_, Served} = serve_all(Handles, Queue),
            Served
    end.

serve_all(Handles, #queue{waiters = Waiters} = Queue) ->
    case gb_trees:is_empty(Waiters) of
        true -> {empty, Queue};
        false -> serve_first(gb_trees:smallest(Waiters), Handles, Queue)
    end.

serve_first({Number, #waiter{ref = Ref, pid = Pid} = Waiter}, Handles, Queue) ->
    Take = fun(Free) -> hornbeam_capacity:hold(Free, Ref, Pid) end,
    case hornbeam_pool_balancer:reserve(Handles, Take) of
        {ok, Handle} ->
            hornbeam_pool_waiting:answer(Ref, {ok, Handle}),
            serve_all(Handles, remove(Waiter, Number, Queue));
        none ->
            {full, Queue}
    end.

%% @doc Tell all that they wait in vain.
-spec abandon(queue()) -> queue().
abandon(#queue{numbers = Numbers} = Queue) ->
    lists:foldl(fun(Ref, Left) -> in_vain(Ref, no_worker, Left) end, Queue, maps:keys(Numbers)).

%% @doc How many wait.
-spec count(queue()) -> non_neg_integer().
count(#queue{numbers = Numbers}) ->
    map_size(Numbers).

counted(#queue{count = Count} = Queue) ->
    atomics:put(Count, 1, count(Queue)),
    Queue.
