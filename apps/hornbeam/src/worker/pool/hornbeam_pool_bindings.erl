%% Which worker has a client's session of an app: the bindings of all pools, as rows of tables.
%%
%% A session has a key, which is a digest of what names it (a cookie, an id), and a home, which is
%% the worker that it is bound to: data that says the same on any node. A binding lasts until nobody
%% has used it for a while and the process that stands for its client is dead. There are at most so
%% many of a pool, and of one client no more than a share of that: for a new one, the one that has
%% not been used for longest goes, of that client where it has its share.
%%
%% No process has them. Who changes a row names it as it was, so that of several who do so at the
%% same time one does; that one sees to the row's places in the order and to the counts, behind the
%% row: a place that is no row's any more may be left behind, and is found by who looks for room or
%% sweeps. Which worker is chosen is hornbeam_pool_affinity's question.
-module(hornbeam_pool_bindings).

-export([new_tables/0, digest/1, find/3, bind/4, rebind/4, unbind/2, retire/3]).
-export([sweep/2, erase/1, count/2, add/3, take/2]).
-export_type([key/0, home/0, bounds/0, what/0]).

-type key() :: binary().
-type home() :: {Worker :: binary() | unknown, Id :: binary()}.
%% The name of a slot's worker, and which of those that the slot has had.

-type bounds() :: #{max := pos_integer(), timeout := pos_integer(), client := term(),
                    holder := pid()}.
%% How many a pool may have, how long nobody may use one (ms), whose it is, and the process that
%% stands for the client as long as that is there.

-type what() :: all | {client, term()} | {worker, Id :: binary()} | turn | moved | forgotten.
%% What is counted: bindings in all, of a client and of a worker; new sessions; those that went to
%% another worker, and those that had to make room, since that was last looked at.

-record(binding, {
    key :: {hornbeam_pool:name(), key()},
    home :: home(),
    %% about when it was used last (monotonic, ms)
    used :: integer(),
    client :: term(),
    holder :: pid() | none
}).

-define(TABLE, ?MODULE).
%% Rows {{Pool, all | {client, Client}, Used, Key}, Client}: the least used first.
-define(ORDER, hornbeam_pool_bindings_order).
%% Rows {{Pool, what()}, Number}.
-define(COUNTS, hornbeam_pool_bindings_counts).

%% Earlier than any time.
-define(BEFORE_ALL, -(1 bsl 62)).

%% So many bytes of a digest are kept.
-define(DIGEST, 16).

%% One client has at most this part of the bindings, where that is more than so many.
-define(SHARE, 10).
-define(FEW, 100).

%% That a binding is used is written down so often in its time.
-define(OFTEN, 16).

%% How long a binding is kept that another one has taken the place of (ms): requests with the old
%% name are still on their way.
-define(LINGER, 30000).

%% @doc Make the tables; their owner must outlive the pools.
-spec new_tables() -> ok.
new_tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {keypos, #binding.key},
                              {read_concurrency, true}, {write_concurrency, true}]),
    ?ORDER = ets:new(?ORDER, [named_table, public, ordered_set, {write_concurrency, true}]),
    ?COUNTS = ets:new(?COUNTS, [named_table, public, {write_concurrency, true}]),
    ok.

%% @doc The key of a session by what names it, however long that is.
-spec digest(iodata()) -> key().
digest(Name) ->
    binary:part(crypto:hash(sha256, Name), 0, ?DIGEST).

%% @doc The home of a session, which is used herewith.
-spec find(hornbeam_pool:name(), key(), bounds()) -> {ok, home()} | none.
find(Pool, Key, Bounds) ->
    case ets:lookup(?TABLE, {Pool, Key}) of
        [Binding] -> found(is_over(Binding, Bounds), Binding, Bounds);
        [] -> none
    end.

found(true, Binding, _Bounds) ->
    _ = remove(Binding),
    none;
found(false, #binding{home = Home} = Binding, Bounds) ->
    use(now_ms(), Binding, Bounds),
    {ok, Home}.

is_over(#binding{used = Used} = Binding, #{timeout := Timeout}) ->
    now_ms() - Used > Timeout andalso not is_held(Binding).

is_held(#binding{holder = none}) -> false;
is_held(#binding{holder = Holder}) -> is_process_alive(Holder).

use(Now, #binding{used = Used} = Binding, #{timeout := Timeout} = Bounds)
        when Now - Used > Timeout div ?OFTEN ->
    _ = replace(Binding, held(Binding, Bounds)),
    ok;
use(_Now, _Binding, _Bounds) ->
    ok.

%% Whose connection carries a stream for as long as the session lasts is not put out by one of a
%% request.
held(Binding, #{holder := Holder}) ->
    case is_held(Binding) of
        true -> Binding#binding{used = now_ms()};
        false -> Binding#binding{used = now_ms(), holder = Holder}
    end.

%% @doc Bind a session that is not bound; what it is bound to then, of which others may have been
%% quicker to decide.
-spec bind(hornbeam_pool:name(), key(), home(), bounds()) -> {new | bound, home()}.
bind(Pool, Key, Home, #{client := Client, holder := Holder} = Bounds) ->
    Binding = #binding{key = {Pool, Key}, home = Home, used = now_ms(), client = Client,
                       holder = Holder},
    case ets:insert_new(?TABLE, Binding) of
        true ->
            entered(Binding),
            make_room(Pool, Client, Bounds),
            {new, Home};
        false ->
            bound(find(Pool, Key, Bounds), Pool, Key, Home, Bounds)
    end.

bound({ok, Home}, _Pool, _Key, _Home, _Bounds) -> {bound, Home};
bound(none, Pool, Key, Home, Bounds) -> bind(Pool, Key, Home, Bounds).

%% @doc Bind a session to another home, if it still has the one that is named.
-spec rebind(hornbeam_pool:name(), key(), Before :: home(), home()) -> boolean().
rebind(Pool, Key, Before, Home) ->
    case ets:lookup(?TABLE, {Pool, Key}) of
        [#binding{home = Before} = Binding] ->
            replace(Binding, Binding#binding{home = Home, used = now_ms()});
        _ ->
            false
    end.

%% @doc Forget a session, if it is known.
-spec unbind(hornbeam_pool:name(), key()) -> boolean().
unbind(Pool, Key) ->
    lists:any(fun remove/1, ets:lookup(?TABLE, {Pool, Key})).

%% @doc A session has another name from now on: the one that it had is known for a little longer.
-spec retire(hornbeam_pool:name(), key(), bounds()) -> ok.
retire(Pool, Key, #{timeout := Timeout}) ->
    Used = now_ms() - max(0, Timeout - ?LINGER),
    lists:foreach(fun(#binding{used = Before} = Binding) ->
        %% Who stands for the client stands for the new name.
        _ = Before > Used andalso replace(Binding, Binding#binding{used = Used, holder = none})
    end, ets:lookup(?TABLE, {Pool, Key})).

%% @doc Forget the sessions of a pool whose time is over.
-spec sweep(hornbeam_pool:name(), Timeout :: pos_integer()) -> ok.
sweep(Pool, Timeout) ->
    Until = now_ms() - Timeout,
    IsOver = {pattern([{#binding.key, {Pool, '_'}}, {#binding.used, '$1'}]), [{'<', '$1', Until}],
              ['$_']},
    lists:foreach(fun(Binding) -> swept(is_held(Binding), Binding) end,
                  ets:select(?TABLE, [IsOver])),
    clear_first(ets:next(?ORDER, {Pool, all, ?BEFORE_ALL, <<>>}), Pool, Until).

clear_first({Pool, all, Used, Key} = First, Pool, Until) when Used < Until ->
    _ = [clear(Place) || not is_at(Pool, Key, Used), Place <- ets:lookup(?ORDER, First)],
    clear_first(ets:next(?ORDER, First), Pool, Until);
clear_first(_Other, _Pool, _Until) ->
    ok.

is_at(Pool, Key, Used) ->
    [] =/= [there || #binding{used = At} <- ets:lookup(?TABLE, {Pool, Key}), At =:= Used].

clear({{Pool, _, Used, Key}, Client}) ->
    lists:foreach(fun({Place, _}) -> ets:delete(?ORDER, Place) end,
                  places(Pool, Used, Key, Client)).

swept(true, Binding) ->
    _ = replace(Binding, Binding#binding{used = now_ms()}),
    ok;
swept(false, Binding) ->
    _ = remove(Binding),
    ok.

%% @doc The pool is no more.
-spec erase(hornbeam_pool:name()) -> ok.
erase(Pool) ->
    _ = ets:match_delete(?TABLE, pattern([{#binding.key, {Pool, '_'}}])),
    _ = ets:match_delete(?ORDER, {{Pool, '_', '_', '_'}, '_'}),
    _ = ets:match_delete(?COUNTS, {{Pool, '_'}, '_'}),
    ok.

%% Room.

make_room(Pool, Client, #{max := Max}) ->
    Share = max(min(Max, ?FEW), Max div ?SHARE),
    forget_while(count(Pool, {client, Client}) > Share, {client, Client}, Pool),
    forget_while(count(Pool, all) > Max, all, Pool).

forget_while(false, _Whose, _Pool) ->
    ok;
forget_while(true, Whose, Pool) ->
    case ets:next(?ORDER, {Pool, Whose, ?BEFORE_ALL, <<>>}) of
        {Pool, Whose, _Used, Key} = First ->
            _ = unbind(Pool, Key) andalso add(Pool, forgotten, 1),
            lists:foreach(fun clear/1, ets:lookup(?ORDER, First));
        _ ->
            ok
    end.

%% Rows, their order, and counts.

replace(#binding{key = Key} = Before, After) ->
    case ets:select_replace(?TABLE, same(Key, Before, {const, After})) of
        1 -> left(Before), entered(After), true;
        0 -> false
    end.

remove(#binding{key = Key} = Binding) ->
    case ets:select_delete(?TABLE, same(Key, Binding, true)) of
        1 -> left(Binding), true;
        0 -> false
    end.

%% A row with a key that is as it was.
same(Key, Binding, Result) ->
    [{pattern([{#binding.key, Key}]), [{'=:=', '$_', {const, Binding}}], [Result]}].

pattern(Fields) ->
    erlang:make_tuple(record_info(size, binding), '_', [{1, binding} | Fields]).

entered(#binding{key = {Pool, Key}, used = Used, client = Client} = Binding) ->
    true = ets:insert(?ORDER, places(Pool, Used, Key, Client)),
    count_all(1, Binding).

left(#binding{key = {Pool, Key}, used = Used, client = Client} = Binding) ->
    clear({{Pool, all, Used, Key}, Client}),
    count_all(-1, Binding).

places(Pool, Used, Key, Client) ->
    [{{Pool, Whose, Used, Key}, Client} || Whose <- [all, {client, Client}]].

%% Clients and workers come and go.
count_all(More, #binding{key = {Pool, _}, home = {_, Id}, client = Client}) ->
    _ = [ets:delete_object(?COUNTS, {{Pool, What}, 0})
         || What <- [all, {worker, Id}, {client, Client}], add(Pool, What, More) =:= 0],
    ok.

%% @doc How many there are of something.
-spec count(hornbeam_pool:name(), what()) -> non_neg_integer().
count(Pool, What) ->
    case ets:lookup(?COUNTS, {Pool, What}) of
        [{_, Number}] -> max(0, Number);
        [] -> 0
    end.

%% @doc Count more of it; how many there are then.
-spec add(hornbeam_pool:name(), what(), integer()) -> integer().
add(Pool, What, More) ->
    ets:update_counter(?COUNTS, {Pool, What}, More, {{Pool, What}, 0}).

%% @doc How many there were, and none from now on.
-spec take(hornbeam_pool:name(), what()) -> non_neg_integer().
take(Pool, What) ->
    lists:sum([Number || {_, Number} <- ets:take(?COUNTS, {Pool, What})]).

now_ms() -> erlang:monotonic_time(millisecond).
