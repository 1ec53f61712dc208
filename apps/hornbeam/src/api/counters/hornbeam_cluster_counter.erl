%% @doc Counters over all nodes of the cluster.
%%
%% Each node counts for itself and hears of the others, so that nobody waits for another node: what
%% is returned is what is known here, and all nodes agree once they have heard of each other. What a
%% node has counted stays when it dies, as far as another one has heard of it; when all nodes stop,
%% all is gone. What Python's apps have counted until their connection ends is taken back then, and
%% at the latest with its node. Keys are those of {@link hornbeam_state}, but a counter is another
%% thing than the state of the same key.
-module(hornbeam_cluster_counter).

-export([incr/1, incr/2, get/1]).

%% @doc Add 1, see {@link incr/2}.
-spec incr(hornbeam_state_key:key()) ->
    {ok, number()} | {error, overflow | {limit, hornbeam_quota:limit()}}.
incr(Key) ->
    incr(Key, 1).

%% @doc Add to a counter; what all nodes have counted, as far as it is known here.
%%
%% An absent key counts as 0. Raises `{bad_key, Key}'.
-spec incr(hornbeam_state_key:key(), Delta :: number()) ->
    {ok, number()} | {error, overflow | {limit, hornbeam_quota:limit()}}.
incr(Key, Delta) when is_number(Delta) ->
    case hornbeam_counter_server:incr(checked(Key), Delta) of
        {error, Reason} when Reason =/= closed -> {error, Reason};
        {ok, _} = Counted -> Counted
    end.

%% @doc What all nodes have counted, as far as it is known here; `undefined' where nobody has. A
%% table is read; nobody is asked.
-spec get(hornbeam_state_key:key()) -> number() | undefined.
get(Key) ->
    case hornbeam_counter_columns:get(checked(Key)) of
        {ok, Number} -> Number;
        absent -> undefined
    end.

checked(Key) ->
    case hornbeam_state_key:is_key(Key) of
        true -> Key;
        false -> error({bad_key, Key})
    end.
