%% The workers of one pool and the slots that they are in. Pure.
%%
%% A pool has N slots; each has a worker that serves. A worker in a slot:
%%
%%   serving ───────────────┐ its successor took over, or the slot is no more
%%      ▲ all are ready     ▼
%%   successor           leaving ──▶ end
%%
%% A slot has a history: how often its worker was started again, and how the last one ended.
-module(hornbeam_pool_roster).

-export([new/0, new/1, renewed/1]).
-export([slot_count/1, slots/1, add_slot/2, remove_slot/2, vacant/1, is_vacant/2]).
-export([add_worker/3, set_ready/5, set_role/3, retire/3, take/2]).
-export([worker/2, workers/1, workers/2, ready/1]).
-export([is_complete/1, is_served/2, serving/2, successor/2, handles/2]).
-export([failed/5, restarted/2, note_end/3, count_end/2]).
-export([worker_name/2, describe/1, lives/1, names/1, find/2]).
-export_type([roster/0, slot/0, role/0, worker/0, lives/0]).

-type slot() :: pos_integer().
-type role() :: serving | successor | leaving.

-type worker() :: #{slot := slot(), role := role(), limits := hornbeam_pool_recycling:limits(),
                    started_at := integer(),
                    handle => hornbeam_capacity:handle(),
                    os_pid => hornbeam_os_process:os_pid() | undefined,
                    ready_at => integer(), retires => atom()}.
%% The three before the last are known from its being ready on, and that once it is to end: why.

-record(history, {
    %% deaths in a row of workers that did not last
    failures = 0 :: non_neg_integer(),
    restarts = 0 :: non_neg_integer(),
    last_end = none :: term(),
    %% how many workers it has had that are no more, and what those were given
    lives = 0 :: non_neg_integer(),
    requests = 0 :: non_neg_integer(),
    messages = 0 :: non_neg_integer()
}).

-type lives() :: #{slots := [#{name := binary(), lives := non_neg_integer(),
                               requests := non_neg_integer(), messages := non_neg_integer(),
                               worker := pid() | none}],
                   ended := #{atom() => pos_integer()}}.
%% `worker': who serves there now.

-record(roster, {
    %% how the names of its workers end, where there are other pools
    suffix = <<>> :: binary(),
    slots = #{} :: #{slot() => #history{}},
    workers = #{} :: #{pid() => worker()},
    %% how many ended how
    ended = #{} :: #{atom() => pos_integer()}
}).
-opaque roster() :: #roster{}.

%% @doc No slots and no workers.
-spec new() -> roster().
new() ->
    #roster{}.

%% @doc The same, of one of several pools.
-spec new(hornbeam_pool:name()) -> roster().
new(Pool) ->
    #roster{suffix = <<"@", Pool/binary>>}.

%% @doc The same of a pool that begins anew: only how workers ended is known of those before.
-spec renewed(roster()) -> roster().
renewed(#roster{suffix = Suffix, ended = Ended}) ->
    #roster{suffix = Suffix, ended = Ended}.

%% Slots.

-spec slot_count(roster()) -> non_neg_integer().
slot_count(#roster{slots = Slots}) ->
    map_size(Slots).

-spec slots(roster()) -> [slot()].
slots(#roster{slots = Slots}) ->
    lists:sort(maps:keys(Slots)).

-spec add_slot(slot(), roster()) -> roster().
add_slot(Slot, #roster{slots = Slots} = Roster) ->
    Roster#roster{slots = Slots#{Slot => #history{}}}.

-spec remove_slot(slot(), roster()) -> roster().
remove_slot(Slot, #roster{slots = Slots} = Roster) ->
    Roster#roster{slots = maps:remove(Slot, Slots)}.

%% @doc The slots without a worker that serves or will, each with its failures in a row.
-spec vacant(roster()) -> [{slot(), Failures :: non_neg_integer()}].
vacant(#roster{slots = Slots} = Roster) ->
    [{Slot, Failures} || {Slot, #history{failures = Failures}} <- lists:sort(maps:to_list(Slots)),
                         is_vacant(Slot, Roster)].

-spec is_vacant(slot(), roster()) -> boolean().
is_vacant(Slot, #roster{slots = Slots, workers = Workers}) ->
    is_map_key(Slot, Slots) andalso
        [] =:= [taken || #{slot := S, role := Role} <- maps:values(Workers), S =:= Slot,
                         Role =/= leaving].

%% Workers.

%% @doc A worker was started.
-spec add_worker(pid(), worker(), roster()) -> roster().
add_worker(Pid, Worker, #roster{workers = Workers} = Roster) ->
    Roster#roster{workers = Workers#{Pid => Worker}}.

%% @doc A worker says that it is ready.
-spec set_ready(pid(), hornbeam_capacity:handle(), hornbeam_os_process:os_pid() | undefined,
                Now :: integer(), roster()) -> {worker(), roster()}.
set_ready(Pid, Handle, OsPid, Now, Roster) ->
    Worker = (worker(Pid, Roster))#{handle => Handle, os_pid => OsPid, ready_at => Now},
    {Worker, add_worker(Pid, Worker, Roster)}.

-spec set_role(pid(), role(), roster()) -> roster().
set_role(Pid, Role, Roster) ->
    add_worker(Pid, (worker(Pid, Roster))#{role := Role}, Roster).

%% @doc A worker is to end for a reason, and another takes its place.
-spec retire(pid(), Reason :: atom(), roster()) -> roster().
retire(Pid, Reason, Roster) ->
    add_worker(Pid, (worker(Pid, Roster))#{role := leaving, retires => Reason}, Roster).

%% @doc A worker has ended.
-spec take(pid(), roster()) -> {worker(), roster()}.
take(Pid, #roster{workers = Workers0, slots = Slots} = Roster) ->
    {Worker, Workers} = maps:take(Pid, Workers0),
    {Worker, Roster#roster{workers = Workers, slots = outlived(Worker, Slots)}}.

%% What a worker was given is its slot's, also once it is no more.
outlived(#{slot := Slot} = Worker, Slots) when is_map_key(Slot, Slots) ->
    Slots#{Slot := added(Worker, maps:get(Slot, Slots))};
outlived(_Worker, Slots) ->
    Slots.

added(Worker, #history{lives = Lives, requests = Requests, messages = Messages} = History) ->
    {MoreRequests, MoreMessages} = given(Worker),
    History#history{lives = Lives + 1, requests = Requests + MoreRequests,
                    messages = Messages + MoreMessages}.

given(#{handle := Handle}) ->
    {hornbeam_capacity:requests(Handle), hornbeam_capacity:messages(Handle)};
given(_NeverReady) ->
    {0, 0}.

-spec worker(pid(), roster()) -> worker().
worker(Pid, #roster{workers = Workers}) ->
    maps:get(Pid, Workers).

-spec workers(roster()) -> [pid()].
workers(#roster{workers = Workers}) ->
    maps:keys(Workers).

%% @doc The workers in a role.
-spec workers(role(), roster()) -> [pid()].
workers(Role, #roster{workers = Workers}) ->
    [Pid || {Pid, #{role := R}} <- maps:to_list(Workers), R =:= Role].

%% @doc The workers that are ready or have been, in any role.
-spec ready(roster()) -> [{pid(), worker()}].
ready(#roster{workers = Workers}) ->
    [Ready || {_, #{handle := _}} = Ready <- maps:to_list(Workers)].

%% @doc Whether each slot has a worker that serves.
-spec is_complete(roster()) -> boolean().
is_complete(Roster) ->
    length(handles(serving, Roster)) =:= slot_count(Roster).

-spec is_served(slot(), roster()) -> boolean().
is_served(Slot, Roster) ->
    [] =/= [serving || {_, #{slot := S, role := serving}} <- ready(Roster), S =:= Slot].

%% @doc The workers that are to serve in a slot, ready or not.
-spec serving(slot(), roster()) -> [pid()].
serving(Slot, #roster{workers = Workers}) ->
    [Pid || {Pid, #{role := serving, slot := S}} <- maps:to_list(Workers), S =:= Slot].

%% @doc Who is to take a slot over, and whether it could now.
-spec successor(slot(), roster()) -> {ready | starting, pid()} | none.
successor(Slot, #roster{workers = Workers}) ->
    case [Found || {_, #{role := successor, slot := S}} = Found <- maps:to_list(Workers),
                   S =:= Slot] of
        [] -> none;
        [{Pid, #{handle := _}}] -> {ready, Pid};
        [{Pid, _}] -> {starting, Pid}
    end.

%% @doc The handles of those in a role that are ready.
-spec handles(role(), roster()) -> [hornbeam_capacity:handle()].
handles(Role, Roster) ->
    [Handle || {_, #{handle := Handle, role := R}} <- ready(Roster), R =:= Role].

%% What has become of workers.

%% @doc The worker of a slot has ended: how many in a row have that did not last.
-spec failed(slot(), ReadyAt :: integer() | undefined, Reason :: term(), Now :: integer(),
             roster()) -> {Failures :: pos_integer(), roster()}.
failed(Slot, ReadyAt, Reason, Now, #roster{slots = Slots} = Roster) ->
    #{Slot := #history{failures = Before} = History} = Slots,
    Failures = hornbeam_pool_backoff:failures(ReadyAt, Now, Before),
    Failed = History#history{failures = Failures, last_end = Reason},
    {Failures, Roster#roster{slots = Slots#{Slot := Failed}}}.

-spec restarted(slot(), roster()) -> roster().
restarted(Slot, #roster{slots = Slots} = Roster) ->
    #{Slot := #history{restarts = Restarts} = History} = Slots,
    Roster#roster{slots = Slots#{Slot := History#history{restarts = Restarts + 1}}}.

%% @doc How the last worker of a slot ended, which may be no more.
-spec note_end(slot(), Reason :: term(), roster()) -> roster().
note_end(Slot, Reason, #roster{slots = Slots} = Roster) ->
    case Slots of
        #{Slot := History} ->
            Roster#roster{slots = Slots#{Slot := History#history{last_end = Reason}}};
        #{} ->
            Roster
    end.

%% @doc One more that ended, for a reason.
-spec count_end(Reason :: term(), roster()) -> roster().
count_end(Reason, #roster{ended = Ended} = Roster) ->
    Kind = kind(Reason),
    Roster#roster{ended = Ended#{Kind => maps:get(Kind, Ended, 0) + 1}}.

kind({shutdown, Reason}) when is_tuple(Reason) -> element(1, Reason);
kind({shutdown, Reason}) when is_atom(Reason) -> Reason;
kind(_Reason) -> crashed.

%% For who asks about the pool.

%% @doc A name that no other worker of the node has.
-spec worker_name(slot(), roster()) -> binary().
worker_name(Slot, #roster{suffix = Suffix}) ->
    <<"worker-", (integer_to_binary(Slot))/binary, Suffix/binary>>.

%% @doc What is known of all, and of each worker with its slot, in the slots' order.
-spec describe(roster()) -> {#{atom() => term()}, [{Worker :: pid(), #{atom() => term()}}]}.
describe(#roster{slots = Slots, workers = Workers, ended = Ended}) ->
    Restarts = lists:sum([N || #history{restarts = N} <- maps:values(Slots)]),
    Sorted = lists:sort([{Slot, Pid} || {Pid, #{slot := Slot}} <- maps:to_list(Workers)]),
    {#{ended => Ended, restarts => Restarts},
     [{Pid, history(maps:get(Slot, Slots, #history{}))} || {Slot, Pid} <- Sorted]}.

history(#history{restarts = Restarts, last_end = LastEnd}) ->
    #{restarts => Restarts, last_end => LastEnd}.

%% @doc What the slots have seen, with those that live, in their order. It never becomes less while
%% a slot is there, whatever becomes of its workers.
-spec lives(roster()) -> lives().
lives(#roster{slots = Slots, workers = Workers, ended = Ended} = Roster) ->
    #{ended => Ended,
      slots => [lives(Slot, History, [Worker || #{slot := S} = Worker <- maps:values(Workers),
                                                S =:= Slot], Roster)
                || {Slot, History} <- lists:sort(maps:to_list(Slots))]}.

lives(Slot, History, Workers, Roster) ->
    #history{lives = Lives, requests = Requests, messages = Messages} =
        lists:foldl(fun added/2, History, Workers),
    #{name => worker_name(Slot, Roster), lives => Lives, requests => Requests,
      messages => Messages, worker => served_by(Slot, Roster)}.

served_by(Slot, Roster) ->
    case [Pid || {Pid, #{slot := S, role := serving}} <- ready(Roster), S =:= Slot] of
        [Pid | _] -> Pid;
        [] -> none
    end.

-spec names(roster()) -> #{pid() => binary()}.
names(#roster{workers = Workers} = Roster) ->
    maps:map(fun(_, #{slot := Slot}) -> worker_name(Slot, Roster) end, Workers).

%% @doc The serving worker with a name.
-spec find(Name :: binary(), roster()) -> {ok, pid()} | {error, no_worker}.
find(Name, Roster) ->
    case [Pid || {Pid, #{slot := Slot, role := serving}} <- ready(Roster),
                 worker_name(Slot, Roster) =:= Name] of
        [Pid] -> {ok, Pid};
        [] -> {error, no_worker}
    end.
