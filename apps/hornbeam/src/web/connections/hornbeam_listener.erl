%% The listener: opens last and shuts first.
%%
%%   serving ──▶ draining ────────────────────▶ closing ──▶ closed
%%               drain_delay: all is served,    at most shutdown_timeout
%%               and health says not to come
%%
%% It owns no connection. For `drain_delay' whoever sends clients here hears that no more are to
%% come, and in the second half of it clients of HTTP/1.1 do, by `connection: close'. Then it stops
%% accepting, sends WebSockets and event streams away in batches, lets requests finish, and takes at
%% most `shutdown_timeout' for that; then the apps may end. When it crashes the connections live on,
%% and its successor finds them as they are.
-module(hornbeam_listener).
-behaviour(gen_server).

-export([start_link/2, info/0, reload_certificate/0, begin_drain/0, drain/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(state, {
    binds :: [hornbeam_bind:bind(), ...],
    mounts :: hornbeam_mounts:mounts(),
    limit :: hornbeam_connection_limit:limit(),
    %% the files of Unix sockets
    files :: hornbeam_bind:files(),
    %% when draining began (monotonic time, ms), and who waits for its end
    drain = none :: none | integer(),
    waiting = [] :: [gen_server:from()]
}).

%% How many connections are closed at a time, so that a stop is no burst.
-define(BATCH, 200).

%% The next batch follows at the latest after this (ms): its clients may not answer.
-define(BATCH_WAIT, 50).

%% For so long clients that were let in last may send what they have come for (ms).
-define(SETTLE, 50).

%% What is left for an answer of ours (ms).
-define(LAST_ANSWER, 500).

%% @doc Listen, and serve mounts to so many connections as there may be.
-spec start_link(hornbeam_mounts:mounts(), hornbeam_connection_limit:limit()) ->
    gen_server:start_ret().
start_link(Mounts, Limit) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, {Mounts, Limit}, []).

%% @doc Where the server listens, and what the web room has counted; empty when it does not.
-spec info() -> #{address => term(), addresses => [term()], sockets => non_neg_integer(),
                  health => hornbeam_health:state(),
                  counters => #{atom() => non_neg_integer()}}.
info() ->
    try
        gen_server:call(?MODULE, info)
    catch
        exit:_ -> #{}
    end.

%% @doc Read the files of TLS again: new connections get what is in them, open ones stay.
-spec reload_certificate() -> ok | {error, hornbeam_tls:error() | no_tls | not_serving}.
reload_certificate() ->
    try
        gen_server:call(?MODULE, reload_certificate)
    catch
        exit:_ -> {error, not_serving}
    end.

%% @doc Begin to drain: what {@link drain/0} waits for goes on by itself.
-spec begin_drain() -> ok | {error, not_serving}.
begin_drain() ->
    try
        gen_server:call(?MODULE, begin_drain)
    catch
        exit:_ -> {error, not_serving}
    end.

%% @doc Drain, and return when the connections may be closed: after `drain_delay'.
-spec drain() -> ok.
drain() ->
    try
        gen_server:call(?MODULE, drain, infinity)
    catch
        exit:_ -> ok
    end.

%% @private
-spec init({hornbeam_mounts:mounts(), hornbeam_connection_limit:limit()}) ->
    {ok, #state{}} | {stop, {shutdown, {listen, term()}}}.
init({#{server := Server} = Mounts, Limit}) ->
    process_flag(trap_exit, true),
    Binds = hornbeam_bind:all(Server),
    case hornbeam_bind:open(Binds, Mounts, Limit) of
        ok -> {ok, #state{binds = Binds, mounts = Mounts, limit = Limit,
                          files = hornbeam_bind:files(Binds)}};
        {error, Reason} -> {stop, {shutdown, {listen, Reason}}}
    end.

%% @private
-spec handle_call(info | reload_certificate | begin_drain | drain, gen_server:from(), #state{}) ->
    {reply, term(), #state{}} | {noreply, #state{}}.
handle_call(info, _From, #state{binds = Binds, mounts = Mounts, limit = Limit} = State) ->
    #{counters := Counters} = Mounts,
    Listening = hornbeam_bind:info(Binds),
    {reply, Listening#{sockets => hornbeam_connection_limit:count(Limit),
                       health => hornbeam_health:state(Mounts),
                       counters => hornbeam_counters:values(Counters)}, State};
handle_call(reload_certificate, _From, #state{binds = Binds, mounts = Mounts} = State) ->
    #{server := Options} = Mounts,
    {reply, reloaded(Options, Binds), State};
handle_call(begin_drain, _From, State) ->
    {reply, ok, draining(State)};
handle_call(drain, From, #state{waiting = Waiting} = State) ->
    {noreply, draining(State#state{waiting = [From | Waiting]})}.

draining(#state{drain = none, mounts = #{server := #{drain_delay := Delay}} = Mounts} = State) ->
    hornbeam_mounts:begin_drain(Mounts),
    Now = now_ms(),
    _ = erlang:send_after(Now + Delay div 2, self(), last_half, [{abs, true}]),
    _ = erlang:send_after(Now + Delay, self(), drained, [{abs, true}]),
    State#state{drain = Now};
draining(#state{drain = Since} = State) ->
    told(is_over(Since, State), State).

is_over(Since, #state{mounts = #{server := #{drain_delay := Delay}}}) ->
    now_ms() >= Since + Delay.

told(true, #state{waiting = Waiting} = State) ->
    lists:foreach(fun(From) -> gen_server:reply(From, ok) end, Waiting),
    State#state{waiting = []};
told(false, State) ->
    State.

reloaded(Options, Binds) ->
    case hornbeam_tls:load(Options) of
        {ok, Identity} -> hornbeam_bind:set_identity(Identity, Binds);
        none -> {error, no_tls};
        {error, _} = Error -> Error
    end.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info(last_half, #state{mounts = Mounts} = State) ->
    hornbeam_mounts:begin_closing(Mounts),
    {noreply, State};
handle_info(drained, State) ->
    {noreply, told(true, State)};
handle_info(_Stray, State) ->
    {noreply, State}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(Reason, _State) when Reason =/= shutdown, Reason =/= normal ->
    %% A crash: the connections are the next one's.
    ok;
terminate(_Reason, #state{binds = Binds, mounts = #{server := Options} = Mounts} = State) ->
    #{shutdown_timeout := Timeout} = Options,
    await_drained(draining(State)),
    Names = hornbeam_bind:socket_names(Binds),
    hornbeam_bind:suspend(Binds),
    hornbeam_bind:remove_files(State#state.files),
    hornbeam_mounts:begin_shutdown(Mounts),
    Pools = hornbeam_mounts:pools(Mounts),
    Deadline = now_ms() + Timeout,
    finish(Pools, Deadline),
    settle(State, Deadline),
    turn_away(Pools),
    _ = [hornbeam_mounts:end_shutdown(Mounts) || now_ms() >= Deadline],
    lists:foreach(fun hornbeam_socket:abandon/1, Names),
    hornbeam_bind:close(Binds),
    %% The apps are ended one after the other, and begin together.
    lists:foreach(fun hornbeam_pool:begin_stop/1, Pools).

%% A supervisor that ends waits for this process alone.
await_drained(State) ->
    receive
        last_half -> hornbeam_mounts:begin_closing(State#state.mounts), await_drained(State);
        drained -> told(true, State);
        {'$gen_call', From, info} ->
            {reply, Info, _} = handle_call(info, From, State),
            gen_server:reply(From, Info),
            await_drained(State)
    after left(State) ->
        told(true, State)
    end.

%% What it was sent may have been taken before.
left(#state{drain = Since, mounts = #{server := #{drain_delay := Delay}}}) ->
    max(0, Since + Delay - now_ms()).

%% A request that waited in line may begin meanwhile, and a handshake may become a WebSocket.
finish(Pools, Deadline) ->
    send_away(hornbeam_connection_registry:owners(), Deadline),
    Left = in_flight(Pools),
    await_all(monitors(Left), Deadline),
    case Left =:= [] orelse now_ms() >= Deadline of
        true -> ok;
        false -> finish(Pools, Deadline)
    end.

in_flight(Pools) ->
    lists:append([hornbeam_gathering:owners() | [in_flight_of(Pool) || Pool <- Pools]]).

in_flight_of(Pool) ->
    hornbeam_pool:owners(http, Pool) ++ hornbeam_pool:owners(websocket, Pool)
        ++ hornbeam_pool:waiters(Pool).

%% Who was let in just now has not been read, or even begun.
settle(#state{limit = Limit, mounts = Mounts}, Deadline) ->
    case hornbeam_connection_limit:count(Limit) > 0 andalso now_ms() + ?SETTLE < Deadline of
        true ->
            receive after ?SETTLE -> finish(hornbeam_mounts:pools(Mounts), Deadline) end;
        false ->
            ok
    end.

%% Their time is over: who has no answer yet gets one of ours.
turn_away(Pools) ->
    Left = in_flight(Pools),
    lists:foreach(fun hornbeam_pool:turn_away/1, Pools),
    lists:foreach(fun hornbeam_websocket_session:go_away/1, Left),
    await_all(monitors(Left), now_ms() + ?LAST_ANSWER).

send_away([], _Deadline) ->
    ok;
send_away(Sockets, Deadline) ->
    {Batch, Rest} = lists:split(min(?BATCH, length(Sockets)), Sockets),
    lists:foreach(fun hornbeam_websocket_session:go_away/1, Batch),
    await_all(monitors(Batch), min(Deadline, now_ms() + ?BATCH_WAIT)),
    send_away(Rest, Deadline).

%% An exchange in a connection's process says itself when it is over.
monitors(Owners) ->
    [{Owner, erlang:monitor(process, hornbeam_stream:process(Owner))} || Owner <- Owners].

await_all([], _Deadline) ->
    ok;
await_all([{Owner, Ref} | Owners], Deadline) ->
    receive
        {'DOWN', Ref, process, _, _} -> ok;
        {exchange_ended, Owner} -> ok
    after max(0, Deadline - now_ms()) ->
        ok
    end,
    await_all(Owners, Deadline).

now_ms() -> erlang:monotonic_time(millisecond).
