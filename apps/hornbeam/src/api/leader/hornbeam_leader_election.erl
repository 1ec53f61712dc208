%% The election of the leader for one name, held on one node for all of the cluster.
%%
%%   alone ──▶ asking ──▶ open
%%     │   the other nodes, who leads already
%%     ▼
%%    end: another node is to hold it, or (from any state) nobody stands any more
%%
%% The node whose name is first of those that are linked holds it. When that is another one, because
%% one is gone or has come, the candidates go there, and the leader goes on: the one who holds the
%% election asks all nodes before it lets anybody lead. Parts of a cluster that do not reach each
%% other hold one each, and have a leader each. When they meet, a leader that comes to an election
%% where another one leads has lost.
%%
%% A node of a cluster that sees no other one may have just begun, and waits a while for them.
%%
%% It waits for no link. A candidate that cannot be told that it leads, because its link is busy,
%% does not: it is passed by, and enters again when it hears of that. To have a monitor, or to take
%% it back, waits for a link, too: whose link is busy has not entered yet, and monitors stay.
-module(hornbeam_leader_election).
-behaviour(gen_server).

-export([enter/6, leave/2, peers_changed/2, start_link/1]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2]).

-type token() :: hornbeam_leader_candidate:token().

-record(state, {
    name :: hornbeam_leader:name(),
    phase = alone :: alone | asking | open,
    %% nodes that have not said yet who stands there, by the monitors of who is to say it
    unheard = #{} :: #{reference() => node()},
    leader = none :: none | {pid(), token()},
    %% who waits, first come first
    queue = [] :: [{Since :: integer(), pid()}],
    monitors = #{} :: #{pid() => reference()}
}).

%% Who has not answered is asked again after so long (ms).
-define(AGAIN, 500).
%% How long the other nodes are waited for (ms).
-define(ALONE, 5000).

%% @doc A candidate stands since then, and leads already if it has a token. It is told
%% `{hornbeam_leader, entered, Election}' by this process, and then perhaps `{hornbeam_leader,
%% granted, Election, Token}', or `{hornbeam_leader, taken, Election, Greatest}' when somebody else
%% leads, which is the end of its own lead, or `{hornbeam_leader, passed_by, Election}'.
-spec enter(pid(), Candidate :: pid(), hornbeam_leader:name(), Since :: integer(), token(),
            Greatest :: token()) -> ok.
enter(Election, Candidate, Name, Since, Token, Greatest) ->
    Election ! {hornbeam_leader, enter, Candidate, Name, Since, Token, Greatest},
    ok.

%% @doc It stands no more.
-spec leave(pid(), Candidate :: pid()) -> ok.
leave(Election, Candidate) ->
    Election ! {hornbeam_leader, leave, Candidate},
    ok.

%% @doc Other nodes are linked than before, and this one holds elections or does not.
-spec peers_changed(pid(), IsHolder :: boolean()) -> ok.
peers_changed(Election, IsHolder) ->
    Election ! {hornbeam_leader, peers_changed, IsHolder},
    ok.

-spec start_link(hornbeam_leader:name()) -> gen_server:start_ret().
start_link(Name) ->
    gen_server:start_link(?MODULE, Name, []).

%% @private
-spec init(hornbeam_leader:name()) -> {ok, #state{}, {continue, begin_or_wait}}.
init(Name) ->
    {ok, #state{name = Name}, {continue, begin_or_wait}}.

%% @private
-spec handle_continue(begin_or_wait, #state{}) ->
    {noreply, #state{}} | {stop, normal, #state{}}.
handle_continue(begin_or_wait, State) ->
    case hornbeam_leader_candidates:peers() of
        [] -> wait_if(hornbeam_links:is_joining(), State);
        [_ | _] -> begin_now(State)
    end.

wait_if(true, State) ->
    _ = erlang:send_after(?ALONE, self(), alone),
    {noreply, State};
wait_if(false, State) ->
    begin_now(State).

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_info(alone, State) ->
    begin_now(State);
handle_info({hornbeam_leader, peers_changed, true}, State) ->
    begin_now(State);
handle_info({hornbeam_leader, peers_changed, false}, State) ->
    {stop, normal, State};
handle_info({hornbeam_leader, enter, Pid, _Name, Since, Token, Greatest}, State) ->
    hornbeam_fencing_token:seen(max(Token, Greatest)),
    case is_told(Pid, {hornbeam_leader, entered, self()}) of
        true -> settled(entered(Token, {Since, Pid}, watch(Pid, State)));
        false -> {noreply, State}
    end;
handle_info({hornbeam_leader, leave, Pid}, State) ->
    gone(Pid, State);
handle_info({hornbeam_leader, census, Node, Claims, Greatest}, #state{phase = asking} = State) ->
    hornbeam_fencing_token:seen(Greatest),
    settled(heard(Node, claimed(Claims, State)));
handle_info(ask_again, State) ->
    ask(State),
    {noreply, State};
handle_info({'DOWN', Ref, process, _, _}, #state{unheard = Unheard} = State)
        when is_map_key(Ref, Unheard) ->
    settled(heard(maps:get(Ref, Unheard), State));
handle_info({'DOWN', _Ref, process, Pid, _Reason}, State) ->
    gone(Pid, State);
handle_info(_Stray, State) ->
    {noreply, State}.

begin_now(#state{phase = alone, name = Name} = State) ->
    Unheard = maps:from_list([{erlang:monitor(process, {hornbeam_leader_candidates, Node}), Node}
                              || Node <- hornbeam_leader_candidates:peers()]),
    Asking = State#state{phase = asking, unheard = Unheard},
    ask(Asking),
    settled(heard(node(), claimed(hornbeam_leader_candidates:named(Name), Asking)));
begin_now(State) ->
    {noreply, State}.

ask(#state{phase = asking, name = Name, unheard = Unheard}) ->
    Cluster = hornbeam_links:cluster(),
    lists:foreach(fun(Node) -> hornbeam_leader_candidates:ask_census(Node, Cluster, Name) end,
                  maps:values(Unheard)),
    _ = erlang:send_after(?AGAIN, self(), ask_again),
    ok;
ask(_State) ->
    ok.

%% Who stands elsewhere will come, and has its place in the line as of since it stands.
claimed(Claims, State) ->
    lists:foldl(fun({Pid, Since, Token}, Before) ->
        entered(Token, {Since, Pid}, watch(Pid, Before))
    end, State, Claims).

%% Who leads already goes on. Of two the last one does.
claim(Pid, _Token, #state{leader = {Pid, _}} = State) ->
    State;
claim(Pid, Token, #state{leader = {Other, Less}} = State) when Token > Less ->
    claim(Pid, Token, refuse(Other, State#state{leader = none}));
claim(Pid, Token, #state{leader = none, queue = Queue} = State) ->
    watch(Pid, State#state{leader = {Pid, Token}, queue = lists:keydelete(Pid, 2, Queue)});
claim(Pid, _Token, State) ->
    refuse(Pid, State).

refuse(Pid, #state{queue = Queue} = State) ->
    tell_taken(Pid),
    State#state{queue = lists:keydelete(Pid, 2, Queue)}.

heard(Node, #state{unheard = Unheard} = State) ->
    Heard = [Ref || {Ref, Each} <- maps:to_list(Unheard), Each =:= Node],
    _ = [erlang:demonitor(Ref, [flush]) || Ref <- Heard],
    opened(State#state{unheard = maps:without(Heard, Unheard)}).

opened(#state{unheard = Unheard} = State) when map_size(Unheard) =:= 0 ->
    State#state{phase = open};
opened(State) ->
    State.

watch(Pid, #state{monitors = Monitors} = State) when is_map_key(Pid, Monitors) ->
    State;
watch(Pid, #state{monitors = Monitors} = State) ->
    State#state{monitors = Monitors#{Pid => erlang:monitor(process, Pid)}}.

entered(_Token, {_, Pid}, #state{leader = {Pid, Token}} = State) ->
    _ = is_told_granted(Pid, Token),
    State;
entered(0, {_, Pid} = Standing, #state{queue = Queue} = State) ->
    tell_seen(Pid, hornbeam_fencing_token:greatest()),
    State#state{queue = lists:umerge([Standing], Queue)};
entered(Token, {_, Pid}, #state{phase = open, leader = none} = State) ->
    State#state{leader = {Pid, Token}};
entered(_Token, {_, Pid}, #state{phase = open} = State) ->
    refuse(Pid, State);
entered(Token, {_, Pid}, State) ->
    claim(Pid, Token, State).

%% One leads, or nobody stands any more.
settled(State) ->
    unless_idle(decided(State)).

decided(#state{phase = open, leader = none, queue = [{_, First} | Queue]} = State) ->
    Token = hornbeam_fencing_token:next(),
    case is_told_granted(First, Token) of
        true ->
            _ = [tell_seen(Pid, Token) || {_, Pid} <- Queue],
            State#state{leader = {First, Token}, queue = Queue};
        false ->
            tell_when_there_is_room(First, {hornbeam_leader, passed_by, self()}),
            decided(State#state{queue = Queue})
    end;
decided(State) ->
    State.

is_told_granted(Pid, Token) -> is_told(Pid, {hornbeam_leader, granted, self(), Token}).

tell_taken(Pid) ->
    Taken = {hornbeam_leader, taken, self(), hornbeam_fencing_token:greatest()},
    _ = [tell_when_there_is_room(Pid, Taken) || not is_told(Pid, Taken)],
    ok.

tell_seen(Pid, Token) ->
    _ = is_told(Pid, {hornbeam_leader, seen, Token}),
    ok.

is_told(Pid, Message) -> erlang:send(Pid, Message, [nosuspend, noconnect]) =:= ok.

%% Its process waits for the link, at most until that is gone. What is told is the last that this
%% election tells it.
tell_when_there_is_room(Pid, Message) ->
    _ = spawn(fun() -> erlang:send(Pid, Message, [noconnect]) end),
    ok.

forget(Pid, #state{monitors = Monitors, queue = Queue} = State) when is_map_key(Pid, Monitors) ->
    {Ref, Left} = maps:take(Pid, Monitors),
    true = erlang:demonitor(Ref, [flush]),
    State#state{monitors = Left, queue = lists:keydelete(Pid, 2, Queue)};
forget(_Pid, State) ->
    State.

gone(Pid, #state{leader = {Pid, _Token}} = State) ->
    settled(forget(Pid, State#state{leader = none}));
gone(Pid, State) ->
    settled(forget(Pid, State)).

unless_idle(#state{phase = open, leader = none, queue = []} = State) -> {stop, normal, State};
unless_idle(State) -> {noreply, State}.
