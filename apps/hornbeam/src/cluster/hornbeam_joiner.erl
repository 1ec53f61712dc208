%% Who keeps this node connected to the others of its cluster, for as long as it serves.
%%
%%   found, or told of by another ─▶ waiting ─pause over─▶ trying ─▶ connected
%%                                      ▲ └──── failed ◀─────┘           │
%%                                      └──────────── lost ◀─────────────┘
%%
%% It never gives up, and never tries the same node in a hurry: pauses grow with each failure and
%% are drawn at random, so that nodes that lost each other do not come back in step. Connecting
%% takes seconds where nobody answers, as may DNS: so each attempt, of which there are a few at a
%% time, and each look at who there is, has a process of its own, and this one only counts.
%%
%% Nodes tell each other whom they know, so one that is in nobody's list is found by all.
-module(hornbeam_joiner).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, peers/0, pause/3, why/1]).
-export([discover/2, connect/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([peer/0, failure/0]).

-type peer() :: #{node := node(), state := waiting | trying | connected, listed := boolean(),
                  failures := non_neg_integer(), why := binary()}.
%% `listed' are those whom the option names; failures in a row, and what the last one was.

-type failure() :: refused | away.
%% Whoever is there and refuses us will do so until somebody changes what one of the two was told.

-record(peer, {
    state = waiting :: waiting | trying | connected,
    %% whether the last look has found it
    listed :: boolean(),
    failures = 0 :: non_neg_integer(),
    failure = away :: failure(),
    %% of its connection, or of its being away (ms)
    since :: integer(),
    %% what was said of its being away
    why = <<>> :: binary(),
    %% the end of the pause it is in; those before it are over
    timer = none :: none | reference()
}).

-record(state, {
    name :: binary(),
    join :: hornbeam_cluster_option:join(),
    naming :: hornbeam_discovery:naming(),
    peers = #{} :: #{node() => #peer{}},
    %% those who try, and whose turn comes when one of them is done
    attempts = #{} :: #{reference() => node()},
    next = [] :: [node()],
    look = none :: none | {pid(), reference(), Since :: integer()},
    %% what could not be found, as far as the log has said so
    missing = [] :: [{string(), term()}]
}).

%% Between two looks, and what one may take (ms).
-define(LOOK, 5000).
-define(LONGEST_LOOK, 15000).

%% The first pause before a node is tried again, doubled up to the longest (ms). A cut that heals is
%% to be noticed within seconds; who refuses us writes that into its log each time. The first
%% refusal may be a greeting that crossed ours.
-define(FIRST_PAUSE, 200).
-define(LONGEST_PAUSE, 3000).
-define(SECOND_PAUSE_REFUSED, 5000).
-define(LONGEST_PAUSE_REFUSED, 30000).

%% A connection that was there for so long (ms) begins anew with the first pause.
-define(LASTED, 10000).

%% How many are tried at a time.
-define(AT_ONCE, 8).

%% One that is in no list and does not come back is forgotten (ms).
-define(FORGET, 600000).

%% What is asked of an address that refuses us may take (ms), and how soon it says no: later it is
%% the silence of one that stands still.
-define(PROBE, 2000).
-define(REFUSED_WITHIN, 2000).

-spec start_link(#{name := binary(), join := hornbeam_cluster_option:join(),
                   port := inet:port_number()}) -> gen_server:start_ret().
start_link(#{name := Name, join := Join} = Cluster) ->
    Naming = hornbeam_distribution:naming(Cluster),
    gen_server:start_link({local, ?MODULE}, ?MODULE, {Name, Join, Naming}, []).

%% @doc All that are known of, connected or not; empty where nothing is to be joined.
-spec peers() -> [peer()].
peers() ->
    try
        gen_server:call(?MODULE, peers)
    catch
        exit:{noproc, _} -> []
    end.

%% @doc How long (ms) to wait after so many failures of a kind in a row; `Chance' is from 0 to 1.
-spec pause(failure(), Failures :: non_neg_integer(), Chance :: float()) -> pos_integer().
pause(Failure, Failures, Chance) ->
    round(longest(Failure, min(Failures, 16)) * (0.5 + Chance / 2)).

longest(refused, Failures) when Failures > 1 ->
    min(?LONGEST_PAUSE_REFUSED, ?SECOND_PAUSE_REFUSED bsl (Failures - 2));
longest(_Failure, Failures) ->
    min(?LONGEST_PAUSE, ?FIRST_PAUSE bsl Failures).

%% @doc Why an address is not found or not reached, or a connection was lost, as the log says it: a
%% sentence where there is one.
-spec why(term()) -> term().
why(timeout) -> <<"nothing answers there">>;
why(nxdomain) -> <<"DNS has no address of this name">>;
why(connection_closed) -> <<"the connection was closed">>;
why(net_tick_timeout) -> <<"nothing has come from it for 10 s">>;
why(Reason) when is_atom(Reason) -> known(inet:format_error(Reason), Reason);
why(Reason) -> Reason.

known("unknown POSIX error" ++ _, Reason) -> atom_to_binary(Reason);
known(Text, _Reason) -> unicode:characters_to_binary(Text).

%% @private
-spec init({binary(), hornbeam_cluster_option:join(), hornbeam_discovery:naming()}) ->
    {ok, #state{}}.
init({Name, Join, Naming}) ->
    %% Who tries is linked, so that nobody tries for one that has ended.
    _ = process_flag(trap_exit, true),
    ok = net_kernel:monitor_nodes(true, [nodedown_reason]),
    self() ! look,
    {ok, lists:foldl(fun met/2, #state{name = Name, join = Join, naming = Naming}, nodes())}.

%% @private
-spec handle_call(peers, gen_server:from(), #state{}) -> {reply, [peer()], #state{}}.
handle_call(peers, _From, #state{peers = Peers} = State) ->
    {reply, lists:map(fun shown/1, lists:sort(maps:to_list(Peers))), State}.

shown({Node, #peer{state = Is, listed = Listed, failures = Failures, why = Why}}) ->
    #{node => Node, state => Is, listed => Listed, failures => Failures, why => Why}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(look, State) ->
    _ = erlang:send_after(?LOOK, self(), look),
    lists:foreach(fun(Node) -> tell(Node, State) end, nodes()),
    {noreply, forget(look(State))};
handle_info({timeout, Timer, {try_again, Node}}, #state{peers = Peers} = State) ->
    case Peers of
        #{Node := #peer{timer = Timer}} -> {noreply, try_next(wanted(Node, State))};
        #{} -> {noreply, State}
    end;
handle_info({nodeup, Node, _Info}, State) ->
    {noreply, met(Node, State)};
handle_info({nodedown, Node, Info}, State) ->
    {noreply, lost(Node, proplists:get_value(nodedown_reason, Info), State)};
%% (It may be no proper list.)
handle_info({?MODULE, known, Name, From, Nodes}, #state{name = Name} = State)
        when length(Nodes) >= 0 ->
    {noreply, lists:foldl(fun(Node, Acc) -> add(Node, false, Acc) end, State,
                          [Node || Node <- [From | Nodes], is_ours(Node, State)])};
handle_info({'DOWN', Ref, process, _, Found}, #state{look = {_, Ref, _}} = State) ->
    {noreply, found(Found, State#state{look = none})};
handle_info({'DOWN', Ref, process, _, Outcome}, #state{attempts = Attempts} = State)
        when is_map_key(Ref, Attempts) ->
    {Node, Left} = maps:take(Ref, Attempts),
    {noreply, try_next(tried(Outcome, Node, State#state{attempts = Left}))};
handle_info(_Other, State) ->
    {noreply, State}.

%% A look at who there is.

look(#state{look = none, join = Join, naming = Naming} = State) ->
    {Pid, Ref} = spawn_opt(?MODULE, discover, [Join, Naming], [link, monitor]),
    State#state{look = {Pid, Ref, now_ms()}};
look(#state{look = {Pid, _, Since}} = State) ->
    _ = [exit(Pid, kill) || now_ms() - Since >= ?LONGEST_LOOK],
    State.

%% @private
-spec discover(hornbeam_cluster_option:join(), hornbeam_discovery:naming()) -> no_return().
discover(Join, Naming) ->
    exit({found, hornbeam_discovery:nodes(Join, Naming)}).

found({found, {Nodes, Missing}}, #state{peers = Peers} = State) ->
    Unlisted = maps:map(fun(Node, Peer) -> Peer#peer{listed = lists:member(Node, Nodes)} end,
                        Peers),
    lists:foldl(fun(Node, Acc) -> add(Node, true, Acc) end,
                say_missing(Missing, State#state{peers = Unlisted}), Nodes);
found(Failure, State) ->
    say_missing([{"join", Failure}], State).

%% Once, as long as it stays so.
say_missing(Missing, #state{missing = Missing} = State) ->
    State;
say_missing(Missing, #state{name = Name, missing = Before} = State) ->
    _ = [?LOG_WARNING(#{what => cluster_host_not_found, cluster => Name, host => Host,
                        why => why(Reason)}, #{domain => [hornbeam]})
         || {Host, Reason} = New <- Missing, not lists:member(New, Before)],
    State#state{missing = Missing}.

%% Who there is.

add(Node, _IsListed, State) when Node =:= node() ->
    State;
add(Node, IsListed, #state{peers = Peers} = State) ->
    case Peers of
        #{Node := #peer{listed = Listed} = Peer} ->
            State#state{peers = Peers#{Node := Peer#peer{listed = IsListed orelse Listed}}};
        #{} ->
            enter(Node, #peer{listed = IsListed, since = now_ms()}, State)
    end.

enter(Node, Peer, #state{peers = Peers} = State) ->
    case lists:member(Node, nodes()) of
        true -> State#state{peers = Peers#{Node => Peer#peer{state = connected}}};
        false -> try_next(wanted(Node, State#state{peers = Peers#{Node => Peer}}))
    end.

%% A stranger in the user's network is none until it says so.
is_ours(Node, #state{naming = {port, _, _}}) ->
    is_atom(Node) andalso hornbeam_node_name:address(Node) =/= none;
is_ours(Node, #state{naming = {base, _}}) ->
    is_atom(Node).

tell(Node, #state{name = Name, peers = Peers}) ->
    Known = [Peer || {Peer, #peer{state = connected}} <- maps:to_list(Peers), Peer =/= Node],
    _ = erlang:send({?MODULE, Node}, {?MODULE, known, Name, node(), Known}, [nosuspend, noconnect]),
    ok.

forget(#state{peers = Peers} = State) ->
    Now = now_ms(),
    State#state{peers = maps:filter(fun(_Node, Peer) -> is_kept(Peer, Now) end, Peers)}.

is_kept(#peer{state = waiting, listed = false, since = Since}, Now) -> Now - Since < ?FORGET;
is_kept(_Peer, _Now) -> true.

%% Attempts.

wanted(Node, #state{peers = Peers, next = Next} = State) ->
    case Peers of
        #{Node := #peer{state = waiting}} -> State#state{next = (Next -- [Node]) ++ [Node]};
        #{} -> State
    end.

try_next(#state{next = [Node | Next], attempts = Attempts} = State)
        when map_size(Attempts) < ?AT_ONCE ->
    {_Pid, Ref} = spawn_opt(?MODULE, connect, [Node], [link, monitor]),
    try_next(update(Node, fun(Peer) -> Peer#peer{state = trying} end,
                    State#state{next = Next, attempts = Attempts#{Ref => Node}}));
try_next(State) ->
    State.

%% @private
-spec connect(node()) -> no_return().
connect(Node) ->
    Begun = now_ms(),
    case net_kernel:connect_node(Node) of
        true -> exit(connected);
        _ -> exit(failure(now_ms() - Begun < ?REFUSED_WITHIN, hornbeam_node_name:address(Node)))
    end.

%% The distribution does not tell: so it is asked whether anybody listens there.
failure(IsSoon, {Ip, Port}) ->
    case gen_tcp:connect(Ip, Port, [], ?PROBE) of
        {ok, Socket} -> ok = gen_tcp:close(Socket), silent(IsSoon);
        {error, Reason} -> {failed, away, why(Reason)}
    end;
failure(_IsSoon, none) ->
    {failed, away, <<"it is not there, or refuses">>}.

silent(true) ->
    {failed, refused, <<"it is there and refuses: its cookie or certificates, its cluster's name "
                        "or its own address are not what they are here">>};
silent(false) ->
    {failed, away, <<"it is there and does not answer">>}.

tried(connected, Node, State) ->
    %% Unless that is over already: then it was told, or will be.
    update(Node, fun tried/1, State);
tried({failed, _, _} = Failed, Node, State) ->
    again(Node, update(Node, fun(Peer) -> failed(Failed, Node, Peer, State) end, State));
tried(_Crash, Node, State) ->
    tried({failed, away, <<"the attempt crashed">>}, Node, State).

tried(#peer{state = trying} = Peer) -> Peer#peer{state = waiting};
tried(Peer) -> Peer.

failed(_Failed, _Node, #peer{state = connected} = Peer, _State) ->
    Peer;
failed({failed, Failure, Why}, Node, #peer{why = Before} = Peer, #state{name = Name}) ->
    _ = [?LOG_WARNING(#{what => cluster_node_not_reached, cluster => Name, node => Node,
                        why => Why}, #{domain => [hornbeam]}) || Why =/= Before],
    Peer#peer{state = waiting, failure = Failure, failures = failures(Failure, Peer), why = Why}.

failures(Failure, #peer{failure = Failure, failures = Failures}) -> Failures + 1;
failures(_Failure, _Peer) -> 1.

again(Node, State) ->
    update(Node, fun(Peer) -> pausing(Node, Peer) end, State).

pausing(Node, #peer{state = waiting, failure = Failure, failures = Failures} = Peer) ->
    Pause = pause(Failure, Failures, rand:uniform()),
    Peer#peer{timer = erlang:start_timer(Pause, self(), {try_again, Node})};
pausing(_Node, Peer) ->
    Peer.

%% Connections, whoever has begun them.

met(Node, #state{peers = Peers, next = Next} = State) ->
    ok = tell(Node, State),
    _ = [?LOG_NOTICE(#{what => cluster_node_connected, cluster => State#state.name, node => Node},
                     #{domain => [hornbeam]})
         || is_map_key(Node, Peers) orelse is_ours(Node, State)],
    update(Node, fun(Peer) -> Peer#peer{state = connected, since = now_ms(), why = <<>>} end,
           State#state{next = Next -- [Node]}).

lost(Node, Reason, #state{peers = Peers} = State) when is_map_key(Node, Peers) ->
    ?LOG_WARNING(#{what => cluster_node_lost, cluster => State#state.name, node => Node,
                   why => why(Reason)}, #{domain => [hornbeam]}),
    again(Node, update(Node, fun lost/1, State));
lost(_Stranger, _Reason, State) ->
    State.

lost(#peer{state = connected, since = Since, failures = Failures} = Peer) ->
    Now = now_ms(),
    Peer#peer{state = waiting, since = Now, failure = away,
              failures = failures_after(Now - Since, Failures)};
lost(Peer) ->
    Peer.

failures_after(Lasted, _Failures) when Lasted >= ?LASTED -> 0;
failures_after(_Lasted, Failures) -> Failures + 1.

update(Node, Change, #state{peers = Peers} = State) ->
    case Peers of
        #{Node := Peer} -> State#state{peers = Peers#{Node := Change(Peer)}};
        #{} -> State
    end.

now_ms() -> erlang:monotonic_time(millisecond).
