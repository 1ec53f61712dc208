%% The apps of a server as the web room sees them: whose a path is, and a place there for a request.
%%
%% A mount is an app at a path, with all that those who serve it need to know. It is to its app what
%% a proxy is that takes a prefix off: the app is told what follows the mount's path, and puts that
%% back in front (its root_path), as ASGI has it.
-module(hornbeam_mounts).

-include("hornbeam_request.hrl").

-export([new/1, publish/1, find/2, at/2, pools/1, with_redirect/2, with_waits/2,
         full/1]).
-export([reserve/2, reserve_now/2, rest/0, handle_info/3, cancel/2]).
-export([begin_drain/1, is_draining/1, begin_closing/1, is_closing/1]).
-export([begin_shutdown/1, is_shutting_down/1, end_shutdown/1, is_time_over/1, exchange_ended/2]).
-export_type([mounts/0, mount/0, wait/0]).

-type mounts() :: #{mounts := [mount(), ...], counters := hornbeam_counters:ref(),
                    server := hornbeam_config:server_options(), queues := queues(),
                    drain := atomics:atomics_ref(), shutdown := atomics:atomics_ref()}.
%% The longest path first. `drain': 1 once the stop has begun. `shutdown': 1 once no connection is
%% kept for another request, 2 once none is taken, 3 once nobody is waited for.

-type queues() :: [{hornbeam_pool:name(), Most :: pos_integer()}].
%% How many may wait in line for each app.

-type mount() :: #{path := hornbeam_config:path() | none | health | full,
                   pool := hornbeam_pool:name(),
                   options := hornbeam_config:app_options(), limit := hornbeam_pool:limit(),
                   counters := hornbeam_counters:ref(), traffic := hornbeam_traffic:traffic(),
                   server := hornbeam_config:server_options(), queues := queues(),
                   drain := atomics:atomics_ref(), shutdown := atomics:atomics_ref(),
                   redirect := none | inet:port_number(), waits := here | apart | watched}.
%% `path': none where no app is served, health where the node itself answers, full where nobody does
%% because there is no room. `redirect': the port of TLS that all requests are sent to.
%% `waits': whether a process that serves requests takes messages that are for none of them by name,
%% or has another one wait, which may die.

-opaque wait() :: hornbeam_pool_place:wait().

%% How far a stop has come.
-define(CLOSING, 1).
-define(SHUTTING_DOWN, 2).
-define(TIME_IS_OVER, 3).

%% By its name: nothing here calls who serves connections.
-define(LISTENER, hornbeam_listener).

%% @doc What is to be known of the apps of a server. A mount's pool is called after its path.
-spec new(hornbeam_config:checked()) -> mounts().
new(#{server := #{max_connections := Max} = Server, mounts := Checked}) ->
    Common = #{counters => hornbeam_counters:new(), server => Server,
               queues => lists:sort([{Path, Most} || {Path, #{queue_max := Most}} <- Checked]),
               drain => atomics:new(1, []), shutdown => atomics:new(1, [])},
    Pools = [Path || {Path, _Options} <- Checked],
    Common#{mounts => [Common#{path => Path, pool => Path, options => Options, waits => here,
                               redirect => none, limit => limit(Max, Pools -- [Path]),
                               traffic => hornbeam_traffic:new(Server)}
                       || {Path, Options} <- longest_first(Checked)]}.

%% @doc Let what is counted in them be found by whoever asks for it.
-spec publish(mounts()) -> ok.
publish(#{counters := Counters, mounts := Mounts}) ->
    hornbeam_counters:publish(Counters),
    hornbeam_traffic:publish([{Path, Traffic} || #{path := Path, traffic := Traffic} <- Mounts]).

limit(infinity, _Others) -> infinity;
limit(Max, Others) -> {Max, Others}.

longest_first(Mounts) ->
    lists:sort(fun({A, _}, {B, _}) -> byte_size(A) >= byte_size(B) end, Mounts).

%% @doc The same where no app is served, and all are sent to a port of TLS.
-spec with_redirect(inet:port_number(), mounts()) -> mounts().
with_redirect(Port, #{mounts := All} = Mounts) ->
    Mounts#{mounts := [Mount#{redirect := Port} || Mount <- All]}.

%% @doc The same for processes that wait otherwise.
-spec with_waits(apart, mounts()) -> mounts().
with_waits(Waits, #{mounts := All} = Mounts) ->
    Mounts#{mounts := [Mount#{waits := Waits} || Mount <- All]}.

%% @doc The same for a connection for which there is no room: health is told, and all else refused,
%% each as the last response of its connection.
-spec full(mounts()) -> mounts().
full(#{mounts := [First | _]} = Mounts) ->
    Last = atomics:new(1, []),
    ok = atomics:put(Last, 1, ?CLOSING),
    Refusing = First#{path := full, shutdown := Last, traffic := hornbeam_traffic:none()},
    Mounts#{mounts := [Refusing], shutdown := Last}.

%% @doc The pools of all mounts.
-spec pools(mounts()) -> [hornbeam_pool:name(), ...].
pools(#{mounts := All}) ->
    [Pool || #{pool := Pool} <- All].

%% @doc The mount that a request is for, and the request as it is there.
%%
%% That is the one with the longest path, by segments: `/api' is that of `/api' and `/api/x', not of
%% `/apix'. Compared is what the app will see: `%61' is `a' there. Where no app is the mount has no
%% path, or says what is there; what else it says of an app is nobody's.
-spec find(Request, mounts()) -> {mount(), Request} when Request :: hornbeam_request:request().
find(#request{path = Path} = Request, #{mounts := [First | _] = Mounts, server := Server}) ->
    case is_health(Path, Server) orelse among(Mounts, Path) of
        {#{path := <<"/">>} = Mount, _} -> {Mount, Request};
        true -> {First#{path := health}, Request#request{mount = none}};
        {#{path := full} = Mount, _} -> {Mount, Request#request{mount = none}};
        {#{path := Of} = Mount, Below} -> {Mount, Request#request{mount = Of, below = Below}}
    end.

is_health(_Path, #{health_path := undefined}) -> false;
is_health(Path, #{health_path := Health}) -> below(Health, Path) =:= <<>>.

%% @doc The mount that a path is of.
-spec at(Path :: binary(), mounts()) -> mount().
at(Path, #{mounts := Mounts}) ->
    {Mount, _Below} = among(Mounts, Path),
    Mount.

among([#{path := Path} = Mount | _], Whole) when Path =:= <<"/">>; Path =:= full ->
    {Mount, Whole};
among([#{path := Path} = Mount | Mounts], Whole) ->
    case below(Path, Whole) of
        none when Mounts =:= [] ->
            {Mount#{path := none, traffic := hornbeam_traffic:none()}, Whole};
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
%% there is none, that is counted. See {@link hornbeam_pool_place:reserve/3}.
-spec reserve(hornbeam_pool_place:session(), mount()) ->
    {ok, hornbeam_capacity:handle()} | {wait, wait()} | unavailable.
reserve(Session, #{pool := Pool, limit := Limit, waits := watched} = Mount) ->
    counted(hornbeam_pool_place:wait(Pool, Session, Limit), Mount);
reserve(Session, #{pool := Pool, limit := Limit} = Mount) ->
    counted(hornbeam_pool_place:reserve(Pool, Session, Limit), Mount).

%% @doc The same, unless one would have to wait.
-spec reserve_now(hornbeam_pool_place:session(), mount()) ->
    {ok, hornbeam_capacity:handle()} | none.
reserve_now(Session, #{pool := Pool, limit := Limit}) ->
    hornbeam_pool_place:reserve_now(Pool, Session, Limit).

%% @doc A message, to a process that waits for a place.
-spec handle_info(term(), wait(), mount()) ->
    {ok, hornbeam_capacity:handle()} | {wait, wait()} | unavailable.
handle_info(Message, Wait, #{limit := Limit} = Mount) ->
    counted(hornbeam_pool_place:handle_info(Message, Wait, Limit), Mount).

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
    hornbeam_pool_place:drop_copy().

%% @doc Wait no longer.
-spec cancel(wait(), mount()) -> ok.
cancel(Wait, _Mount) ->
    hornbeam_pool_place:cancel(Wait).

%% @doc The stop has begun: whoever asks for health is told so from now on.
-spec begin_drain(mounts()) -> ok.
begin_drain(#{drain := Drain}) ->
    atomics:put(Drain, 1, 1).

%% @doc Whether the stop has begun.
-spec is_draining(mounts() | mount()) -> boolean().
is_draining(#{drain := Drain}) ->
    atomics:get(Drain, 1) =:= 1.

%% @doc No connection is kept for another request from now on: responses say so.
-spec begin_closing(mounts()) -> ok.
begin_closing(#{shutdown := Shutdown}) ->
    atomics:put(Shutdown, 1, ?CLOSING).

%% @doc Whether no connection is kept for another request.
-spec is_closing(mounts() | mount()) -> boolean().
is_closing(#{shutdown := Shutdown}) ->
    atomics:get(Shutdown, 1) >= ?CLOSING.

%% @doc No connection is taken from now on, and those that there are end.
-spec begin_shutdown(mounts()) -> ok.
begin_shutdown(#{shutdown := Shutdown}) ->
    atomics:put(Shutdown, 1, ?SHUTTING_DOWN).

%% @doc Whether no connection is taken any more.
-spec is_shutting_down(mounts() | mount()) -> boolean().
is_shutting_down(#{shutdown := Shutdown}) ->
    atomics:get(Shutdown, 1) >= ?SHUTTING_DOWN.

%% @doc Nobody is waited for from now on.
-spec end_shutdown(mounts()) -> ok.
end_shutdown(#{shutdown := Shutdown}) ->
    atomics:put(Shutdown, 1, ?TIME_IS_OVER).

%% @doc Whether nobody is waited for.
-spec is_time_over(mounts()) -> boolean().
is_time_over(#{shutdown := Shutdown}) ->
    atomics:get(Shutdown, 1) =:= ?TIME_IS_OVER.

%% @doc An exchange has ended: the listener hears of it once it shuts down, and may wait for that.
-spec exchange_ended(hornbeam_stream:owner(), mounts() | mount()) -> ok.
exchange_ended(Exchange, Mounts) ->
    _ = [Listener ! {exchange_ended, Exchange}
         || is_shutting_down(Mounts), Listener <- [whereis(?LISTENER)], is_pid(Listener)],
    ok.
