%% The register of who waits for a place on a worker of a pool, and since when.
%%
%% Who waits enters himself, and only then tells the pool's process. So no one is lost when that
%% crashes: its successor finds here all who wait, and who does not any more but may have been
%% given a place. Who is served when is hornbeam_pool_queue's question.
%%
%%   enter/2 ──▶ waiting ──answer/2──▶ (struck out)
%%                  │ leave/2
%%                  ▼
%%                left ──strike/1──▶ (struck out)
-module(hornbeam_pool_waiting).

-export([new_table/0, enter/2, leave/2, strike/1, answer/2, find/1, wish/1, waiting/1, left/1,
         pids/1, abandon/1]).
-export_type([answer/0, wish/0]).

-type answer() :: {ok, hornbeam_capacity:handle()} | {error, queue_full | late | no_worker | gone}.
%% `queue_full': too many wait already. `late': no place came free in time. `no_worker': the
%% pool stops. `gone': the worker that was waited for serves no more.

-type wish() :: {its, hornbeam_capacity:handle()} | hornbeam_pool_affinity:affinity().
%% Which workers it is to be: `its', that one and no other.

-record(waiter, {
    ref :: reference(),
    pool :: hornbeam_pool:name(),
    pid :: pid(),
    wish :: wish(),
    %% monotonic, in native units: the order in which they came
    since :: integer() | left
}).

-define(TABLE, ?MODULE).

%% @doc Make the table; its owner must outlive the pools.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {keypos, #waiter.ref},
                              {write_concurrency, true}]),
    ok.

%% @doc The calling process waits from now on; it gets `{hornbeam_pool, Ref, answer()}' once.
-spec enter(hornbeam_pool:name(), wish()) -> Ref :: reference().
enter(Pool, Wish) ->
    Ref = erlang:alias([reply]),
    true = ets:insert(?TABLE, #waiter{ref = Ref, pool = Pool, pid = self(), wish = Wish,
                                      since = erlang:monotonic_time()}),
    Ref.

%% @doc The calling process waits no longer, and gets nothing any more. Whoever may have given it
%% a place meanwhile is to strike it out.
-spec leave(reference(), hornbeam_pool:name()) -> ok.
leave(Ref, Pool) ->
    _ = erlang:unalias(Ref),
    true = ets:insert(?TABLE, #waiter{ref = Ref, pool = Pool, pid = self(), wish = any,
                                      since = left}),
    receive
        {hornbeam_pool, Ref, _} -> ok
    after 0 ->
        ok
    end.

-spec strike(reference()) -> ok.
strike(Ref) ->
    true = ets:delete(?TABLE, Ref),
    ok.

%% @doc Answer one who waits, and strike him out.
-spec answer(reference(), answer()) -> ok.
answer(Ref, Answer) ->
    Ref ! {hornbeam_pool, Ref, Answer},
    strike(Ref).

%% @doc Who waits by a reference, and since when; gone when nobody does any more.
-spec find(reference()) -> {ok, pid(), Since :: integer()} | gone.
find(Ref) ->
    case ets:lookup(?TABLE, Ref) of
        [#waiter{pid = Pid, since = Since}] when is_integer(Since) -> {ok, Pid, Since};
        _ -> gone
    end.

%% @doc What one wishes who waits by a reference; `any' when nobody does any more.
-spec wish(reference()) -> wish().
wish(Ref) ->
    case ets:lookup(?TABLE, Ref) of
        [#waiter{wish = Wish}] -> Wish;
        [] -> any
    end.

%% @doc All who wait for a place of a pool, the first first.
-spec waiting(hornbeam_pool:name()) -> [{reference(), pid(), Since :: integer()}].
waiting(Pool) ->
    Waiting = [{Since, Ref, Pid}
               || #waiter{since = Since, ref = Ref, pid = Pid} <- of_pool(Pool), Since =/= left],
    [{Ref, Pid, Since} || {Since, Ref, Pid} <- lists:sort(Waiting)].

%% @doc Those who wait no longer and are not struck out.
-spec left(hornbeam_pool:name()) -> [reference()].
left(Pool) ->
    [Ref || #waiter{ref = Ref, since = left} <- of_pool(Pool)].

%% @doc The processes that wait for a place of a pool.
-spec pids(hornbeam_pool:name()) -> [pid()].
pids(Pool) ->
    [Pid || {_, Pid, _} <- waiting(Pool)].

%% @doc The pool is no more: all are told that they wait in vain.
-spec abandon(hornbeam_pool:name()) -> ok.
abandon(Pool) ->
    lists:foreach(fun(#waiter{ref = Ref}) -> answer(Ref, {error, no_worker}) end, of_pool(Pool)).

of_pool(Pool) ->
    [Waiter || #waiter{pool = Name} = Waiter <- ets:tab2list(?TABLE), Name =:= Pool].
