%% The process that gives places on a pool's workers to those who wait for one.
%%
%% Who waits stands in a register of his own making (hornbeam_pool_waiting), and the workers stand
%% in the pool's row. So a crash of this process costs nobody his place in line: its successor reads
%% both and goes on. Who is next is hornbeam_pool_queue's question. What becomes of workers is
%% hornbeam_pool_keeper's, which neither waits for this process nor is waited for.
%%
%% A worker that has room tells so, once, if somebody waits: to the process that has introduced
%% itself last.
-module(hornbeam_pool_dispatcher).
-behaviour(gen_server).

-export([start_link/1, wait/2, forget/2, turn_away/1, workers_changed/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2]).

-record(dispatcher, {
    pool :: hornbeam_pool:name(),
    queue :: hornbeam_pool_queue:queue(),
    %% the workers that tell it of room
    known = [] :: [pid()]
}).

-spec start_link(hornbeam_pool:start()) -> gen_server:start_ret().
start_link(Start) ->
    gen_server:start_link(?MODULE, Start, []).

%% @doc The calling process has entered the register.
-spec wait(pid(), reference()) -> ok.
wait(Dispatcher, Ref) ->
    gen_server:cast(Dispatcher, {wait, Ref}).

%% @doc Somebody waits no longer, and may have been given a place.
-spec forget(pid(), reference()) -> ok.
forget(Dispatcher, Ref) ->
    gen_server:cast(Dispatcher, {forget, Ref}).

%% @doc Tell all that they wait in vain.
-spec turn_away(pid()) -> ok.
turn_away(Dispatcher) ->
    gen_server:cast(Dispatcher, turn_away).

%% @doc The pool's row has other workers.
-spec workers_changed(pid()) -> ok.
workers_changed(Dispatcher) ->
    gen_server:cast(Dispatcher, workers_changed).

%% @private
-spec init(hornbeam_pool:start()) -> {ok, #dispatcher{}, {continue, take_over}}.
init(#{name := Name, options := #{queue_max := Max, queue_timeout := Timeout}}) ->
    Waiting = hornbeam_pool_row:new_waiting(),
    %% Nobody overtakes those who wait, also before this process knows them.
    Known = length(hornbeam_pool_waiting:pids(Name)),
    lists:foreach(fun(Place) -> atomics:put(Waiting, Place, Known) end, [1, 2]),
    ok = hornbeam_pool_row:dispatch(Name, self(), Waiting),
    {ok, #dispatcher{pool = Name, queue = hornbeam_pool_queue:new(Name, Max, Timeout, Waiting)},
     {continue, take_over}}.

%% Who has died in line meanwhile takes nobody's room there.
%% @private
-spec handle_continue(take_over, #dispatcher{}) -> {noreply, #dispatcher{}}.
handle_continue(take_over, #dispatcher{pool = Name} = Dispatcher) ->
    %% Nor does who has left have a place kept on a worker.
    lists:foreach(fun(Handle) -> hornbeam_capacity:keep(Handle, 0) end, handles(Name)),
    {Waiting, Dead} = lists:partition(fun({_, Pid, _}) -> is_process_alive(Pid) end,
                                      hornbeam_pool_waiting:waiting(Name)),
    Left = hornbeam_pool_waiting:left(Name) ++ [Ref || {Ref, _, _} <- Dead],
    Joined = lists:foldl(fun joined/2, Dispatcher, Waiting),
    {noreply, served(introduced(lists:foldl(fun forgotten/2, Joined, Left)))}.

%% @private
-spec handle_call(term(), gen_server:from(), #dispatcher{}) -> no_return().
handle_call(Unknown, _From, _Dispatcher) ->
    error({no_such_call, Unknown}).

%% @private
-spec handle_cast(term(), #dispatcher{}) -> {noreply, #dispatcher{}}.
handle_cast({wait, Ref}, Dispatcher) ->
    case hornbeam_pool_waiting:find(Ref) of
        {ok, Pid, Since} -> {noreply, served(joined({Ref, Pid, Since}, Dispatcher))};
        gone -> {noreply, Dispatcher}
    end;
handle_cast({forget, Ref}, Dispatcher) ->
    {noreply, forgotten(Ref, Dispatcher)};
handle_cast(workers_changed, Dispatcher) ->
    {noreply, served(introduced(Dispatcher))};
handle_cast(turn_away, #dispatcher{queue = Queue} = Dispatcher) ->
    {noreply, Dispatcher#dispatcher{queue = hornbeam_pool_queue:abandon(Queue)}}.

%% @private
-spec handle_info(term(), #dispatcher{}) -> {noreply, #dispatcher{}}.
handle_info({room, _Worker}, Dispatcher) ->
    {noreply, served(Dispatcher)};
handle_info({late, Ref}, #dispatcher{queue = Queue} = Dispatcher) ->
    {noreply, Dispatcher#dispatcher{queue = hornbeam_pool_queue:late(Ref, Queue)}};
handle_info({{'DOWN', {waiter, Ref}}, _Ref, process, _Pid, _Reason}, Dispatcher) ->
    {noreply, forgotten(Ref, Dispatcher)}.

joined({Ref, Pid, Since}, #dispatcher{queue = Queue} = Dispatcher) ->
    Dispatcher#dispatcher{queue = hornbeam_pool_queue:join(Ref, Pid, Since, Queue)}.

served(#dispatcher{pool = Name, queue = Queue} = Dispatcher) ->
    Dispatcher#dispatcher{queue = hornbeam_pool_queue:serve(handles(Name), Queue)}.

handles(Name) ->
    lists:append([hornbeam_pool_row:handles(Row) || {ok, Row} <- [hornbeam_pool_row:find(Name)]]).

introduced(#dispatcher{pool = Name, known = Known} = Dispatcher) ->
    Workers = hornbeam_pool_row:workers(Name),
    lists:foreach(fun(Worker) -> hornbeam_worker_protocol:tell_of_room(Worker, self()) end,
                  Workers -- Known),
    Dispatcher#dispatcher{known = Workers}.

%% A place that is on its way to who does not want it any more: its worker knows it.
forgotten(Ref, #dispatcher{pool = Name, queue = Queue0} = Dispatcher) ->
    hornbeam_pool_waiting:strike(Ref),
    case hornbeam_pool_queue:leave(Ref, Queue0) of
        {left, Queue} ->
            Dispatcher#dispatcher{queue = Queue};
        unknown ->
            lists:foreach(fun(Worker) -> hornbeam_worker_protocol:give_back(Worker, Ref) end,
                          hornbeam_pool_row:workers(Name)),
            Dispatcher
    end.
