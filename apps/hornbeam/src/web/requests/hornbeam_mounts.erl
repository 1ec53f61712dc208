%% An app as the web room sees it, and a place in it for a request.
%%
%% One mount so far, the app at "/". What those who serve it need to know travels in the mount.
-module(hornbeam_mounts).

-export([new/2, reserve/1, reserve_now/1, rest/0, handle_info/3, cancel/2]).
-export([begin_shutdown/1, is_shutting_down/1, exchange_ended/2]).
-export_type([mount/0, wait/0]).

-type mount() :: #{pool := hornbeam_pool:name(), counters := hornbeam_counters:ref(),
                   options := hornbeam_config:app_options(),
                   server := hornbeam_config:server_options(), shutdown := atomics:atomics_ref(),
                   waits := here | apart | watched}.
%% `shutdown': 1 from the moment on at which no new connection is taken. `waits': whether a process
%% that serves requests takes messages that are for none of them by name, or has another one wait,
%% which may die.

-opaque wait() :: hornbeam_pool:wait().

%% By its name: nothing here calls who serves connections.
-define(LISTENER, hornbeam_listener).

%% @doc What is to be known of a pool's app.
-spec new(hornbeam_pool:name(), hornbeam_config:checked()) -> mount().
new(Pool, #{server := Server, app := Options}) ->
    #{pool => Pool, counters => hornbeam_counters:new(), options => Options, server => Server,
      shutdown => atomics:new(1, []), waits => here}.

%% @doc A place on a worker for a new stream, at once or by messages to the calling process; when
%% there is none, that is counted. See {@link hornbeam_pool:reserve/2}.
-spec reserve(mount()) -> {ok, hornbeam_capacity:handle()} | {wait, wait()} | unavailable.
reserve(#{pool := Pool, waits := watched} = Mount) ->
    counted(hornbeam_pool:wait(Pool, max(Mount)), Mount);
reserve(#{pool := Pool} = Mount) ->
    counted(hornbeam_pool:reserve(Pool, max(Mount)), Mount).

%% @doc The same, unless one would have to wait.
-spec reserve_now(mount()) -> {ok, hornbeam_capacity:handle()} | none.
reserve_now(#{pool := Pool} = Mount) ->
    hornbeam_pool:reserve_now(Pool, max(Mount)).

%% @doc A message, to a process that waits for a place.
-spec handle_info(term(), wait(), mount()) ->
    {ok, hornbeam_capacity:handle()} | {wait, wait()} | unavailable.
handle_info(Message, Wait, Mount) ->
    counted(hornbeam_pool:handle_info(Message, Wait, max(Mount)), Mount).

max(#{server := #{max_connections := Max}}) -> Max.

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
-spec begin_shutdown(mount()) -> ok.
begin_shutdown(#{shutdown := Shutdown}) ->
    atomics:put(Shutdown, 1, 1).

%% @doc Whether no connection is kept for another request.
-spec is_shutting_down(mount()) -> boolean().
is_shutting_down(#{shutdown := Shutdown}) ->
    atomics:get(Shutdown, 1) =:= 1.

%% @doc An exchange has ended: the listener hears of it once it shuts down, and may wait for that.
-spec exchange_ended(hornbeam_stream:owner(), mount()) -> ok.
exchange_ended(Exchange, Mount) ->
    _ = [Listener ! {exchange_ended, Exchange}
         || is_shutting_down(Mount), Listener <- [whereis(?LISTENER)], is_pid(Listener)],
    ok.
