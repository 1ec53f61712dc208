%% Who waits for a place on a worker of one pool: in lines, in each of which the first comes first.
%%
%% One line is for a place on whichever worker, and one for each worker on which sessions are that
%% wait for no other (hornbeam_pool_affinity). What comes free on a worker is for those first. It
%% monitors, keeps time and answers; which worker has room is hornbeam_pool_balancer's question, and
%% all who wait stand in hornbeam_pool_waiting too. The pool's dispatcher owns it and passes on what
%% comes for it:
%%
%%   `{late, Ref}'                              to late/2
%%   `{{'DOWN', {waiter, Ref}}, _, _, _, _}'    to leave/2
-module(hornbeam_pool_queue).

-export([new/4, join/4, leave/2, late/2, serve/2, abandon/1, count/1]).
-export_type([queue/0]).

-type line() :: any | {its, Worker :: binary()}.

-record(waiter, {
    ref :: reference(),
    pid :: pid(),
    wish :: hornbeam_pool_waiting:wish(),
    monitor :: reference(),
    timer :: reference()
}).

-record(queue, {
    pool :: hornbeam_pool:name(),
    max :: pos_integer(),
    timeout :: pos_integer(),
    %% how many wait, and how many of them for any worker, for those who must not overtake them
    count :: atomics:atomics_ref(),
    last = 0 :: non_neg_integer(),
    lines = #{} :: #{line() => gb_trees:tree(pos_integer(), #waiter{})},
    numbers = #{} :: #{reference() => {line(), pos_integer()}}
}).
-opaque queue() :: #queue{}.

%% Those who wait for one worker have at most this part of the queue.
-define(SHARE, 2).

%% @doc Nobody waits. The number of those who do is kept in `Count' (hornbeam_pool_row).
-spec new(hornbeam_pool:name(), Max :: pos_integer(), Timeout :: pos_integer(),
          Count :: atomics:atomics_ref()) -> queue().
new(Pool, Max, Timeout, Count) ->
    #queue{pool = Pool, max = Max, timeout = Timeout, count = Count}.

%% @doc Let a process wait, unless it does already. `Since' is when it began, in native monotonic
%% time: so long ago that it has waited long enough, or not.
-spec join(Ref :: reference(), pid(), Since :: integer(), queue()) -> queue().
join(Ref, _Pid, _Since, #queue{numbers = Numbers} = Queue) when is_map_key(Ref, Numbers) ->
    Queue;
join(Ref, Pid, Since, Queue) ->
    Wish = hornbeam_pool_waiting:wish(Ref),
    case has_room(line(Wish), Queue) of
        true ->
            Monitor = erlang:monitor(process, Pid, [{tag, {'DOWN', {waiter, Ref}}}]),
            add(#waiter{ref = Ref, pid = Pid, wish = Wish, monitor = Monitor,
                        timer = timer(Ref, Since, Queue)}, Queue);
        false ->
            hornbeam_pool_waiting:answer(Ref, {error, queue_full}),
            Queue
    end.

line({its, Handle}) -> {its, hornbeam_capacity:id(Handle)};
line(_Wish) -> any.

has_room(any, #queue{max = Max} = Queue) ->
    count(Queue) < Max;
has_room(Line, #queue{max = Max} = Queue) ->
    count(Queue) < Max andalso gb_trees:size(waiters(Line, Queue)) < max(1, Max div ?SHARE).

waiters(Line, #queue{lines = Lines}) ->
    maps:get(Line, Lines, gb_trees:empty()).

timer(Ref, Since, #queue{timeout = Timeout}) ->
    Waited = erlang:convert_time_unit(erlang:monotonic_time() - Since, native, millisecond),
    erlang:send_after(max(0, Timeout - Waited), self(), {late, Ref}).

add(#waiter{ref = Ref, wish = Wish} = Waiter, #queue{last = Last, numbers = Numbers} = Queue) ->
    Number = Last + 1,
    Line = line(Wish),
    Waiters = gb_trees:insert(Number, Waiter, waiters(Line, Queue)),
    changed(Waiter, Waiters, Queue#queue{last = Number, numbers = Numbers#{Ref => {Line, Number}}}).

%% @doc A process waits no longer; `unknown' when it did not.
-spec leave(Ref :: reference(), queue()) -> {left, queue()} | unknown.
leave(Ref, #queue{numbers = Numbers} = Queue) ->
    case Numbers of
        #{Ref := {Line, Number}} ->
            {left, remove(gb_trees:get(Number, waiters(Line, Queue)), Number, Queue)};
        #{} ->
            unknown
    end.

remove(#waiter{ref = Ref, wish = Wish, monitor = Monitor, timer = Timer} = Waiter, Number, Queue) ->
    #queue{numbers = Numbers} = Queue,
    true = erlang:demonitor(Monitor, [flush]),
    _ = erlang:cancel_timer(Timer),
    Waiters = gb_trees:delete(Number, waiters(line(Wish), Queue)),
    changed(Waiter, Waiters, Queue#queue{numbers = maps:remove(Ref, Numbers)}).

%% The line that a waiter has come to or left.
changed(#waiter{wish = Wish}, Waiters, #queue{lines = Lines} = Queue) ->
    Size = gb_trees:size(Waiters),
    kept(Wish, Size),
    counted(case Size of
        0 -> Queue#queue{lines = maps:remove(line(Wish), Lines)};
        _ -> Queue#queue{lines = Lines#{line(Wish) => Waiters}}
    end).

kept({its, Handle}, Size) -> hornbeam_capacity:keep(Handle, Size);
kept(_Wish, _Size) -> ok.

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
    Queue = serve_all(Handles, Queue0),
    case count(Queue) of
        0 ->
            Queue;
        _ ->
            lists:foreach(fun hornbeam_capacity:want/1, Handles),
            %% What came free before we said that we want it was not told.
            serve_all(Handles, Queue)
    end.

serve_all(Handles, #queue{lines = Lines} = Queue) ->
    Its = [Id || {its, Id} <- maps:keys(Lines)],
    serve_any(Handles, lists:foldl(fun(Id, Left) -> serve_its(Id, Handles, Left) end, Queue, Its)).

%% Whose worker serves no more is to look for another one.
serve_its(Id, Handles, Queue) ->
    case [Handle || Handle <- Handles, hornbeam_capacity:id(Handle) =:= Id] of
        [] -> all_in_vain(waiters({its, Id}, Queue), gone, Queue);
        Its -> serve_line({its, Id}, Its, Queue)
    end.

serve_any(Handles, Queue) ->
    serve_line(any, Handles, Queue).

serve_line(Line, Handles, Queue) ->
    Waiters = waiters(Line, Queue),
    case gb_trees:is_empty(Waiters) of
        true -> Queue;
        false -> serve_first(gb_trees:smallest(Waiters), Line, Handles, Queue)
    end.

serve_first({Number, #waiter{ref = Ref, pid = Pid, wish = Wish} = Waiter}, Line, Handles, Queue) ->
    Take = fun(Free) -> hornbeam_capacity:hold(Free, Ref, Pid) end,
    case reserve(Wish, Handles, Take, Queue) of
        {ok, Handle} ->
            hornbeam_pool_waiting:answer(Ref, {ok, Handle}),
            serve_line(Line, Handles, remove(Waiter, Number, Queue));
        elsewhere ->
            serve_line(Line, Handles, in_vain(Ref, gone, Queue));
        none ->
            Queue
    end.

reserve(any, Handles, Take, _Queue) ->
    hornbeam_pool_balancer:reserve(Handles, Take);
reserve({its, _Handle}, Handles, Take, _Queue) ->
    hornbeam_pool_balancer:reserve_first(Handles, Take);
reserve(Affinity, Handles, Take, #queue{pool = Pool}) ->
    case hornbeam_pool_affinity:candidates(Affinity, Pool, Handles) of
        {one_of, Candidates} -> hornbeam_pool_balancer:reserve_first(Candidates, Take);
        {its, _BoundMeanwhile} -> elsewhere
    end.

%% @doc Tell all that they wait in vain.
-spec abandon(queue()) -> queue().
abandon(#queue{lines = Lines} = Queue) ->
    lists:foldl(fun(Waiters, Left) -> all_in_vain(Waiters, no_worker, Left) end, Queue,
                maps:values(Lines)).

all_in_vain(Waiters, Why, Queue) ->
    lists:foldl(fun(#waiter{ref = Ref}, Left) -> in_vain(Ref, Why, Left) end, Queue,
                gb_trees:values(Waiters)).

%% @doc How many wait.
-spec count(queue()) -> non_neg_integer().
count(#queue{numbers = Numbers}) ->
    map_size(Numbers).

counted(#queue{count = Count} = Queue) ->
    atomics:put(Count, 1, count(Queue)),
    atomics:put(Count, 2, gb_trees:size(waiters(any, Queue))),
    Queue.
