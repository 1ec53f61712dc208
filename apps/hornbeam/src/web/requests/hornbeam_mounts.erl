%% The apps of a server as the web room sees them: whose a path is, and a place there for a request.
%%
%% A mount is an app at a path, with all that those who serve it need to know. It is to its app what
%% a proxy is that takes a prefix off: the app is told what follows the mount's path, and puts that
%% back in front (its root_path), as ASGI has it.
-module(hornbeam_mounts).

-include("hornbeam_request.hrl").

-export([new/1, find/2, at/2, pools/1, with_waits/2]).
-export([reserve/1, reserve_now/1, rest/0, handle_info/3, cancel/2]).
-export([begin_shutdown/1, is_shutting_down/1, exchange_ended/2]).
-export_type([mounts/0, mount/0, wait/0]).

-type mounts() :: #{mounts := [mount(), ...], counters := hornbeam_counters:ref(),
                    server := hornbeam_config:server_options(), shutdown := atomics:atomics_ref()}.
%% The longest path first. `shutdown': 1 from the moment on at which no new connection is taken.

-type mount() :: #{path := hornbeam_config:path() | none, pool := hornbeam_pool:name(),
                   options := hornbeam_config:app_options(), limit := hornbeam_pool:limit(),
                   counters := hornbeam_counters:ref(),
                   server := hornbeam_config:server_options(), shutdown := atomics:atomics_ref(),
                   waits := here | apart | watched}.
%% `path': none where no app is served. `waits': whether a process that serves requests takes
%% messages that are for none of them by name, or has another one wait, which may die.

-opaque wait() :: hornbeam_pool:wait().

%% By its name: nothing here calls who serves connections.
-define(LISTENER, hornbeam_listener).

%% @doc What is to be known of the apps of a server. A mount's pool is called after its path.
-spec new(hornbeam_config:checked()) -> mounts().
new(#{server := #{max_connections := Max} = Server, mounts := Checked}) ->
    Common = #{counters => hornbeam_counters:new(), server => Server,
               shutdown => atomics:new(1, [])},
    Pools = [Path || {Path, _Options} <- Checked],
    Common#{mounts => [Common#{path => Path, pool => Path, options => Options, waits => here,
                               limit => limit(Max, Pools -- [Path])}
                       || {Path, Options} <- longest_first(Checked)]}.

limit(infinity, _Others) -> infinity;
limit(Max, Others) -> {Max, Others}.

longest_first(Mounts) ->
    lists:sort(fun({A, _}, {B, _}) -> byte_size(A) >= byte_size(B) end, Mounts).

%% @doc The same for processes that wait otherwise.
-spec with_waits(apart, mounts()) -> mounts().
with_waits(Waits, #{mounts := All} = Mounts) ->
    Mounts#{mounts := [Mount#{waits := Waits} || Mount <- All]}.

%% @doc The pools of all mounts.
-spec pools(mounts()) -> [hornbeam_pool:name(), ...].
pools(#{mounts := All}) ->
    [Pool || #{pool := Pool} <- All].

%% @doc The mount that a request is for, and the request as it is there.
%%
%% That is the one with the longest path, by segments: `/api' is that of `/api' and `/api/x', not of
%% `/apix'. Compared is what the app will see: `%61' is `a' there. Where no app is the mount has no
%% path; what else it says of an app is nobody's.
-spec find(Request, mounts()) -> {mount(), Request} when Request :: hornbeam_request:request().
find(#request{path = Path} = Request, #{mounts := Mounts}) ->
    case among(Mounts, Path) of
        {#{path := <<"/">>} = Mount, _} -> {Mount, Request};
        {#{path := Of} = Mount, Below} -> {Mount, Request#request{mount = Of, below = Below}}
    end.

%% @doc The mount that a path is of.
-spec at(Path :: binary(), mounts()) -> mount().
at(Path, #{mounts := Mounts}) ->
    {Mount, _Below} = among(Mounts, Path),
    Mount.

among([#{path := <<"/">>} = Mount | _], Whole) ->
    {Mount, Whole};
among([#{path := Path} = Mount | Mounts], Whole) ->
    case below(Path, Whole) of
        none when Mounts =:= [] -> {Mount#{path := none}, Whole};
        none -> among(Mounts, Whole);
        Below -> {Mount, Below}
    end.

below(<<>>, <<>>) -> <<>>;
below(<<>>, <<"/", _/binary>> = Below) -> Below;
below(<<>>, <<"%2", F, _/binary>> = Below) when F =:= $f; F =:= $F -> Below;
below(<<Char, Path/binary>>, <<$%, High, Low, Whole/binary>>) ->
    case byte(High, Low) of
        Char -> below(Path, Whole);
        _ -> none
    end;
below(<<Char, Path/binary>>, <<Char, Whole/binary>>) -> below(Path, Whole);
below(_Path, _Whole) -> none.

byte(High, Low) ->
    case {digit(High), digit(Low)} of
        {H, L} when is_integer(H), is_integer(L) -> H * 16 + L;
        _ -> none
    end.

digit(Char) when Char >= $0, Char =< $9 -> Char - $0;
digit(Char) when Char >= $a, Char =< $f -> Char - $a + 10;
digit(Char) when Char >= $A, Char =< $F -> Char - $A + 10;
digit(_Char) -> none.

%% @doc A place on a worker for a new stream, at once or by messages to the calling process; when
%% there is none, that is counted. See {@link hornbeam_pool:reserve/2}.
-spec reserve(mount()) -> {ok, hornbeam_capacity:handle()} | {wait, wait()} | unavailable.
reserve(#{pool := Pool, limit := Limit, waits := watched} = Mount) ->
    counted(hornbeam_pool:wait(Pool, Limit), Mount);
reserve(#{pool := Pool, limit := Limit} = Mount) ->
    counted(hornbeam_pool:reserve(Pool, Limit), Mount).

%% @doc The same, unless one would have to wait.
-spec reserve_now(mount()) -> {ok, hornbeam_capacity:handle()} | none.
reserve_now(#{pool := Pool, limit := Limit}) ->
    hornbeam_pool:reserve_now(Pool, Limit).

%% @doc A message, to a process that waits for a place.
-spec handle_info(term(), wait(), mount()) ->
    {ok, hornbeam_capacity:handle()} | {wait, wait()} | unavailable.
handle_info(Message, Wait, #{limit := Limit} = Mount) ->
    counted(hornbeam_pool:handle_info(Message, Wait, Limit), Mount).

counted({error, Why}, #{counters := Counters}) ->
    hornbeam_counters:add(counter(Why), Counters),
    unavailable;
counted(Given, _Mount) ->
    Given.

counter(full) -> refused;
counter(no_worker) -> no_worker;
counter(queue_full) -> queue_full;
counter(late) -> queue_timeouts.

%% @doc The calling process asks for no place for a while.
-spec rest() -> ok.
rest() ->
    hornbeam_pool:drop_copy().

%% @doc Wait no longer.
-spec cancel(wait(), mount()) -> ok.
cancel(Wait, _Mount) ->
    hornbeam_pool:cancel(Wait).

%% @doc No connection is kept for another request from now on.
-spec begin_shutdown(mounts()) -> ok.
begin_shutdown(#{shutdown := Shutdown}) ->
    atomics:put(Shutdown, 1, 1).

%% @doc Whether no connection is kept for another request.
-spec is_shutting_down(mounts() | mount()) -> boolean().
is_shutting_down(#{shutdown := Shutdown}) ->
    atomics:get(Shutdown, 1) =:= 1.

%% @doc An exchange has ended: the listener hears of it once it shuts down, and may wait for that.
-spec exchange_ended(hornbeam_stream:owner(), mounts() | mount()) -> ok.
exchange_ended(Exchange, Mounts) ->
    _ = [Listener ! {exchange_ended, Exchange}
         || is_shutting_down(Mounts), Listener <- [whereis(?LISTENER)], is_pid(Listener)],
    ok.
