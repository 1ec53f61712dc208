%% Which worker of a pool gets a request of a client's session: the one that has the session.
%%
%%   any ────────────────────────────────────────────────▶ the least loaded worker
%%   new ────────────────────────────────────────────────▶ the workers in turn
%%   placed, named, minted ──bound, its worker serves────▶ that one, and no other
%%                         ├─bound, its worker is gone───▶ another one, which the log says once
%%                         └─not bound───────────────────▶ by its key: rendezvous hashing
%%
%% Where there is a choice an overloaded worker is not chosen. What is chosen becomes a binding
%% (hornbeam_pool_bindings) once the place there is taken: settle/3. It asks no process.
-module(hornbeam_pool_affinity).

-include_lib("kernel/include/logger.hrl").

-export([candidates/3, settle/4, learn/4, home/1, sweep/2]).
-export_type([affinity/0]).

-type affinity() ::
    any
    | new
    | {placed, Id :: binary(), hornbeam_pool_bindings:key(), hornbeam_pool_bindings:bounds()}
    | {named | minted, hornbeam_pool_bindings:key(), hornbeam_pool_bindings:bounds()}.
%% What is known of the session of a request. `any': it is of none. `new': it may begin one.
%% `placed': the client says on which worker it is. `named': by whoever, so that nobody else knows
%% of it before. `minted': by the app, so that what is not bound is no session.

%% So much more than the worker with the fewest sessions has one may have and get another (percent,
%% and sessions).
-define(MORE_SESSIONS, 15).
-define(FEW_SESSIONS, 1).

%% So many streams more than twice the least a worker may have and get a new session.
-define(FEW_STREAMS, 8).

%% Of so many sessions that go elsewhere the log has a line for each, between two sweeps.
-define(LINES, 100).

%% @doc The workers that a request may go to, the best first; `its' where only one has its session.
-spec candidates(affinity(), hornbeam_pool:name(), [hornbeam_capacity:handle()]) ->
    {its, hornbeam_capacity:handle()} | {one_of, [hornbeam_capacity:handle()]}.
candidates(any, _Pool, Handles) ->
    {one_of, by_load(free(Handles))};
candidates(new, Pool, Handles) ->
    {Open, Crowded} = divided(Handles),
    {one_of, in_turn(Pool, Open) ++ Crowded};
candidates({placed, Id, Key, Bounds}, Pool, Handles) ->
    case with_id(Id, Handles) of
        {ok, Handle} -> {its, Handle};
        none -> candidates({named, Key, Bounds}, Pool, Handles)
    end;
candidates({Kind, Key, Bounds}, Pool, Handles) ->
    case hornbeam_pool_bindings:find(Pool, Key, Bounds) of
        {ok, {_, Id} = Home} -> bound(with_id(Id, Handles), Kind, Key, Home, Pool, Handles);
        none -> {one_of, hashed(Key, Pool, Handles)}
    end.

bound({ok, Handle}, _Kind, _Key, _Home, _Pool, _Handles) ->
    {its, Handle};
bound(none, minted, Key, Home, Pool, Handles) ->
    _ = hornbeam_pool_bindings:unbind(Pool, Key) andalso moved(Pool, Key, Home, none),
    {one_of, hashed(Key, Pool, Handles)};
bound(none, named, Key, {Worker, _}, Pool, Handles) ->
    {InSlot, Others} = lists:partition(fun(Handle) ->
        hornbeam_capacity:name(Handle) =:= Worker
    end, hashed(Key, Pool, Handles)),
    {one_of, InSlot ++ Others}.

with_id(_Id, []) ->
    none;
with_id(Id, [Handle | Handles]) ->
    case hornbeam_capacity:id(Handle) of
        Id -> {ok, Handle};
        _ -> with_id(Id, Handles)
    end.

%% What comes free on a worker is for its own sessions that wait.
free(Handles) ->
    [Handle || Handle <- Handles, not hornbeam_capacity:is_kept(Handle)].

by_load(Handles) ->
    [Handle || {_, Handle} <- lists:sort([{hornbeam_capacity:rank(Handle), Handle}
                                          || Handle <- Handles])].

%% Those that may get new sessions, by name, and those that may where all are overloaded.
divided(Handles) ->
    Free = free(Handles),
    Least = lists:min([infinity | [hornbeam_capacity:load(Handle) || Handle <- Free]]),
    {Open, Crowded} = lists:partition(fun(Handle) -> is_open(Handle, Least) end, Free),
    {by_name(Open), by_load(Crowded)}.

is_open(Handle, Least) ->
    not hornbeam_capacity:is_slow(Handle)
        andalso hornbeam_capacity:load(Handle) =< 2 * Least + ?FEW_STREAMS.

by_name(Handles) ->
    [Handle || {_, Handle} <- lists:keysort(1, [{hornbeam_capacity:name(Handle), Handle}
                                                || Handle <- Handles])].

in_turn(_Pool, []) ->
    [];
in_turn(Pool, Handles) ->
    Turn = hornbeam_pool_bindings:add(Pool, turn, 1),
    {Later, First} = lists:split(Turn rem length(Handles), Handles),
    First ++ Later.

%% The order is a key's own, and a worker that comes or goes changes nothing in that of the others.
%% But none gets much more than the others have, whoever chooses the keys.
hashed(Key, Pool, Handles) ->
    {Open, Crowded} = divided(Handles),
    {Fair, Full} = fair(by_score(Key, Open), Pool),
    Fair ++ Full ++ Crowded.

by_score(Key, Handles) ->
    Scored = [{score(Key, Handle), Handle} || Handle <- Handles],
    [Handle || {_, Handle} <- lists:reverse(lists:keysort(1, Scored))].

score(Key, Handle) ->
    erlang:phash2({Key, node(hornbeam_capacity:worker(Handle)), hornbeam_capacity:name(Handle)},
                  1 bsl 32).

fair(Handles, Pool) ->
    Counted = [{hornbeam_pool_bindings:count(Pool, {worker, hornbeam_capacity:id(Handle)}), Handle}
               || Handle <- Handles],
    Least = lists:min([infinity | [Sessions || {Sessions, _} <- Counted]]),
    {Fair, Full} = lists:partition(fun({Sessions, _}) -> is_fair(Sessions, Least) end, Counted),
    {[Handle || {_, Handle} <- Fair], [Handle || {_, Handle} <- Full]}.

is_fair(Sessions, Least) ->
    (Sessions - ?FEW_SESSIONS) * 100 =< Least * (100 + ?MORE_SESSIONS).

%% @doc The request has a place on a worker: its session is bound to that; `elsewhere' when others
%% have bound it to another one meanwhile.
-spec settle(affinity(), hornbeam_capacity:handle(), hornbeam_pool:name(),
             [hornbeam_capacity:handle()]) -> ok | elsewhere.
settle({placed, Id, Key, Bounds}, Handle, Pool, Handles) ->
    case hornbeam_capacity:id(Handle) of
        Id -> ok;
        _ -> settled(bind(Key, Handle, Pool, Bounds), {unknown, Id}, Key, Handle, Pool, Handles)
    end;
settle({named, Key, Bounds}, Handle, Pool, Handles) ->
    settled(bind(Key, Handle, Pool, Bounds), none, Key, Handle, Pool, Handles);
settle(_NotToBeBound, _Handle, _Pool, _Handles) ->
    ok.

bind(Key, Handle, Pool, Bounds) ->
    hornbeam_pool_bindings:bind(Pool, Key, home(Handle), Bounds).

%% `Lost': the worker that a session had according to its client.
settled({new, _Home}, none, _Key, _Handle, _Pool, _Handles) ->
    ok;
settled({new, Home}, Lost, Key, _Handle, Pool, _Handles) ->
    moved(Pool, Key, Lost, Home);
settled({bound, {_, Id} = Before}, _Lost, Key, Handle, Pool, Handles) ->
    Home = home(Handle),
    case {Home =:= Before, with_id(Id, Handles)} of
        {true, _} -> ok;
        {false, {ok, _}} -> elsewhere;
        {false, none} -> rebound(hornbeam_pool_bindings:rebind(Pool, Key, Before, Home), Key,
                                 Before, Home, Pool)
    end.

rebound(true, Key, Before, Home, Pool) -> moved(Pool, Key, Before, Home);
rebound(false, _Key, _Before, _Home, _Pool) -> elsewhere.

%% @doc A session that the app has named in the answer of a worker.
-spec learn(hornbeam_pool_bindings:key(), hornbeam_capacity:handle(), hornbeam_pool:name(),
            hornbeam_pool_bindings:bounds()) -> ok.
learn(Key, Handle, Pool, Bounds) ->
    _ = bind(Key, Handle, Pool, Bounds),
    ok.

%% @doc The worker of a handle, as others know it too.
-spec home(hornbeam_capacity:handle()) -> hornbeam_pool_bindings:home().
home(Handle) ->
    {hornbeam_capacity:name(Handle), hornbeam_capacity:id(Handle)}.

%% What is said of a session shows nobody its name.
moved(Pool, Key, {From, _}, Home) ->
    To = name(Home),
    hornbeam_telemetry:execute([hornbeam, session, moved], #{count => 1},
                               #{mount => Pool, from => From, to => To}),
    _ = [?LOG_NOTICE(#{what => session_moved, pool => Pool, session => shown(Key), from => From,
                       to => To}, #{domain => [hornbeam]})
         || hornbeam_pool_bindings:add(Pool, moved, 1) =< ?LINES],
    ok.

name(none) -> none;
name({Worker, _Id}) -> Worker.

shown(<<Start:4/binary, _/binary>>) ->
    binary:encode_hex(Start).

%% @doc Forget what nobody uses any more, and say of how many sessions nothing was said.
-spec sweep(hornbeam_pool:name(), Timeout :: pos_integer()) -> ok.
sweep(Pool, Timeout) ->
    hornbeam_pool_bindings:sweep(Pool, Timeout),
    log_sum(session_moved, hornbeam_pool_bindings:take(Pool, moved) - ?LINES, Pool),
    log_sum(session_forgotten, hornbeam_pool_bindings:take(Pool, forgotten), Pool).

log_sum(What, Times, Pool) when Times > 0 ->
    ?LOG_NOTICE(#{what => What, pool => Pool, times => Times}, #{domain => [hornbeam]});
log_sum(_What, _Times, _Pool) ->
    ok.
