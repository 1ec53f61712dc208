%% One that stands for a name: for its owner, a process of this node, whose end is its own.
%%
%%   waiting ──▶ leading ──▶ lost
%%
%% It stands in the cluster's election or, where there is a consistent state, has a claim there.
%% Whoever asks waits here until its standing is another one; an Erlang owner is also told of a
%% loss. It waits for nodes, so that nobody else does.
-module(hornbeam_leader_candidate).
-behaviour(gen_server).

-export([start_link/3]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([token/0, lease/0, by/0]).

-type token() :: 0 | hornbeam_fencing_token:token().
%% 0 of who does not lead.

-type lease() :: pos_integer() | infinity.
%% For how long that is certain (ms).

-type by() :: election | consensus.

-type authority() :: {Election :: pid() | consensus, Monitor :: reference()}.

-record(state, {
    id :: hornbeam_leader_candidates:id(),
    name :: hornbeam_leader:name(),
    by :: by(),
    since :: integer(),
    phase = waiting :: waiting | leading | lost,
    token = 0 :: token(),
    %% who decides, as far as that is known
    authority :: authority() | undefined,
    %% until when a claim in the consistent state is certain (monotonic, ms)
    until = infinity :: integer() | infinity,
    asking = #{} :: #{Timer :: reference() => {gen_server:from(), Known :: token()}}
}).

%% Who decides is looked for again after so long (ms).
-define(AGAIN, 100).

-spec start_link(hornbeam_leader_candidates:id(), hornbeam_leader:name(), by()) ->
    gen_server:start_ret().
start_link(Id, Name, By) ->
    gen_server:start_link(?MODULE, {Id, Name, By}, []).

%% @private
-spec init({hornbeam_leader_candidates:id(), hornbeam_leader:name(), by()}) ->
    {ok, #state{}, {continue, stand}}.
init({{Owner, _Ref} = Id, Name, By}) ->
    _ = erlang:monitor(process, Owner, [{tag, owner_down}]),
    Since = erlang:system_time(microsecond),
    hornbeam_leader_candidates:enter(Id, Name, Since, 0),
    {ok, #state{id = Id, name = Name, by = By, since = Since}, {continue, stand}}.

%% @private
-spec handle_continue(stand, #state{}) -> {noreply, #state{}}.
handle_continue(stand, State) ->
    {noreply, stand(State)}.

stand(#state{by = consensus, name = Name} = State) ->
    Monitor = hornbeam_consensus_session:claim(Name),
    State#state{authority = {consensus, Monitor}};
stand(#state{by = election, name = Name, since = Since, token = Token} = State) ->
    ok = hornbeam_leader_candidates:enter_election(hornbeam_leader_candidates:holder(), Name, Since,
                                                   Token, hornbeam_fencing_token:greatest()),
    later(State).

later(State) ->
    _ = erlang:send_after(?AGAIN, self(), stand),
    State.

%% @private
-spec handle_call({await, token(), timeout()} | withdraw, gen_server:from(), #state{}) ->
    {reply, term(), #state{}} | {noreply, #state{}} | {stop, normal, ok, #state{}}.
handle_call({await, Known, Timeout}, _From, #state{token = Token} = State)
        when Known =/= Token; Timeout =:= 0 ->
    {reply, standing(State), State};
handle_call({await, Known, Timeout}, From, #state{asking = Asking} = State) ->
    {noreply, State#state{asking = Asking#{start_timer(Timeout) => {From, Known}}}};
handle_call(withdraw, _From, State) ->
    {stop, normal, ok, State}.

start_timer(infinity) -> make_ref();
start_timer(Timeout) -> erlang:start_timer(Timeout, self(), await).

standing(#state{token = Token, until = Until}) -> {ok, {Token, lease(Until)}}.

lease(infinity) -> infinity;
lease(Until) -> max(Until - erlang:monotonic_time(millisecond), 1).

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, normal, #state{}}.
handle_info({owner_down, _Ref, process, _Owner, _Reason}, State) ->
    {stop, normal, State};
handle_info({timeout, Timer, await}, #state{asking = Asking} = State) ->
    _ = [gen_server:reply(From, standing(State)) || {ok, {From, _}} <- [maps:find(Timer, Asking)]],
    {noreply, State#state{asking = maps:remove(Timer, Asking)}};
handle_info({hornbeam_leader, granted, Election, Token},
            #state{phase = Phase, authority = {Election, _}} = State) when Phase =/= lost ->
    {noreply, leads(Token, infinity, State)};
handle_info({hornbeam_leader, taken, Election, Greatest},
            #state{phase = leading, authority = {Election, _}} = State) ->
    hornbeam_fencing_token:seen(Greatest),
    {noreply, lost(State)};
handle_info({hornbeam_leader, passed_by, Election}, #state{authority = {Election, Ref}} = State) ->
    true = erlang:demonitor(Ref, [flush]),
    {noreply, later(State#state{authority = undefined})};
handle_info({hornbeam_leader, seen, Token}, State) ->
    hornbeam_fencing_token:seen(Token),
    {noreply, State};
handle_info({hornbeam_leader, entered, Election}, #state{authority = undefined} = State) ->
    {noreply, State#state{authority = {Election, erlang:monitor(process, Election)}}};
handle_info({'DOWN', Monitor, process, _, _}, #state{authority = {_, Monitor}} = State) ->
    {noreply, later(forsaken(State#state{authority = undefined}))};
handle_info(stand, #state{phase = Phase, authority = undefined} = State) when Phase =/= lost ->
    {noreply, stand(State)};
handle_info({hornbeam_consensus, granted, Token, Until}, #state{phase = Phase} = State)
        when Phase =/= lost ->
    {noreply, leads(Token, Until, State)};
handle_info({hornbeam_consensus, lost}, #state{phase = leading} = State) ->
    {noreply, lost(State)};
handle_info(_Stray, State) ->
    {noreply, State}.

%% Who leads by an election goes on until another one says no.
forsaken(#state{by = consensus, phase = leading} = State) -> lost(State);
forsaken(State) -> State.

leads(Token, Until, #state{id = Id} = State) ->
    hornbeam_fencing_token:seen(Token),
    hornbeam_leader_candidates:note_token(Id, Token),
    changed(State#state{phase = leading, token = Token, until = Until}).

lost(#state{id = {Owner, Ref} = Id, name = Name, token = Token} = State) ->
    hornbeam_leader_candidates:note_loss(Id),
    _ = [Owner ! {hornbeam_leader, lost, Name, Token} || Ref =:= Name],
    changed(State#state{phase = lost, token = 0, until = infinity}).

%% Those who know another standing hear of this one.
changed(#state{asking = Asking, token = Token} = State) ->
    IsTold = fun(_Timer, {_From, Known}) -> Known =/= Token end,
    maps:foreach(fun(Timer, {From, _}) ->
        _ = erlang:cancel_timer(Timer),
        gen_server:reply(From, standing(State))
    end, maps:filter(IsTold, Asking)),
    State#state{asking = maps:filter(fun(T, Each) -> not IsTold(T, Each) end, Asking)}.
