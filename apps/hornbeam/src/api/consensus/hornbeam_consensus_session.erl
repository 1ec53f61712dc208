%% This node's session in the consistent state: what its candidates claim, and what they have.
%%
%% It says what all claim whenever that changes, and again every few seconds: that keeps it alive,
%% and the answer says who has what. What it says is sent by a process of its own, one after the
%% other, so nobody waits for the members here. When no answer has come for `HELD' milliseconds its
%% candidates have lost what they had: some time before the members believe the session dead and let
%% others have it.
-module(hornbeam_consensus_session).
-behaviour(gen_server).

-export([start_link/0, claim/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-type token() :: 0 | hornbeam_fencing_token:token().
-type claims() :: [{Ref :: reference(), Lock :: binary(), Candidate :: pid(), token()}].

-record(state, {
    %% of what was said last
    number = 0 :: non_neg_integer(),
    %% in the order in which they came; a claim's reference is the monitor of its candidate
    claims = [] :: claims(),
    %% who says it, and since when (monotonic, ms)
    saying :: {reference(), integer()} | undefined,
    is_changed = false :: boolean(),
    %% until when the last answer is good (monotonic, ms)
    until = 0 :: integer(),
    renewal :: reference() | undefined,
    loss :: reference() | undefined
}).

%% How long what was answered is relied on since it was asked (ms); members believe in the session
%% for longer.
-define(HELD, (hornbeam_consensus_machine:lease() * 3 div 5)).
%% It is said again after so long, or sooner where there was no answer (ms).
-define(RENEW, 2500).
-define(AGAIN, 250).
%% How long it may take to say it (ms).
-define(TIMEOUT, 2500).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Claim a lock for the calling process, until it ends. It is told `{hornbeam_consensus,
%% granted, Token, Until}' when it has it, and each time that it is certain for longer, and
%% `{hornbeam_consensus, lost}' when it has it no more; then the claim is over. Returns a monitor:
%% the end of this process is the end of all claims.
-spec claim(Lock :: binary()) -> reference().
claim(Lock) ->
    Monitor = erlang:monitor(process, ?MODULE),
    ok = gen_server:cast(?MODULE, {claim, Lock, self()}),
    Monitor.

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    {ok, #state{}}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

%% @private
-spec handle_cast({claim, binary(), pid()}, #state{}) -> {noreply, #state{}}.
handle_cast({claim, Lock, Candidate}, #state{claims = Claims} = State) ->
    Claim = {erlang:monitor(process, Candidate), Lock, Candidate, 0},
    {noreply, say(State#state{claims = Claims ++ [Claim]})}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', Ref, process, _, Said}, #state{saying = {Ref, At}} = State) ->
    {noreply, said(Said, At, State#state{saying = undefined})};
handle_info({'DOWN', Ref, process, _Candidate, _Reason}, #state{claims = Claims} = State) ->
    {noreply, say(State#state{claims = lists:keydelete(Ref, 1, Claims)})};
handle_info({timeout, Timer, renew}, #state{renewal = Timer} = State) ->
    {noreply, say(State)};
handle_info({timeout, Timer, loss}, #state{loss = Timer, claims = Claims} = State) ->
    {noreply, say(lose([Claim || {_, _, _, Token} = Claim <- Claims, Token > 0], State))};
%% Somebody has let go of what we wait for.
handle_info({hornbeam_consensus, look}, State) ->
    {noreply, say(State)};
handle_info(_Stray, State) ->
    {noreply, State}.

say(#state{saying = undefined, number = Number, claims = Claims} = State) ->
    Command = {session, self(), Number + 1, [{Lock, Ref} || {Ref, Lock, _, _} <- Claims]},
    At = now_ms(),
    {_, Ref} = spawn_monitor(erlang, apply, [fun end_when_answered/1, [Command]]),
    State#state{saying = {Ref, At}, number = Number + 1, is_changed = false};
say(State) ->
    State#state{is_changed = true}.

-spec end_when_answered(hornbeam_consensus_machine:command()) -> no_return().
end_when_answered(Command) ->
    exit({said, hornbeam_consensus:command(Command, ?TIMEOUT)}).

said({said, {ok, {ok, Held}}}, At, State) ->
    again(?RENEW, relied(At, updated(Held, State)));
said(_Failed, _At, State) ->
    again(?AGAIN, State).

again(_After, #state{is_changed = true} = State) -> say(State);
again(?RENEW, #state{claims = []} = State) -> State;
again(After, State) -> State#state{renewal = erlang:start_timer(After, self(), renew)}.

%% Whose token is another one has lost in between, and does not know who had it then.
updated(Held, #state{claims = Claims} = State) ->
    Lost = [Claim || {Ref, _, _, Token} = Claim <- Claims, Token > 0,
                     not lists:member({Ref, Token}, Held)],
    #state{claims = Left} = Less = lose(Lost, State),
    Less#state{claims = [{Ref, Lock, Candidate, held(Ref, Held)}
                         || {Ref, Lock, Candidate, _} <- Left]}.

held(Ref, Held) -> proplists:get_value(Ref, Held, 0).

lose([], State) ->
    State;
lose(Lost, #state{claims = Claims} = State) ->
    lists:foreach(fun({Ref, _, Candidate, _}) ->
        true = erlang:demonitor(Ref, [flush]),
        Candidate ! {hornbeam_consensus, lost}
    end, Lost),
    State#state{claims = Claims -- Lost, is_changed = true}.

relied(At, #state{claims = Claims, loss = Timer} = State) ->
    Until = At + ?HELD,
    _ = [Candidate ! {hornbeam_consensus, granted, Token, Until}
         || {_, _, Candidate, Token} <- Claims, Token > 0],
    _ = [erlang:cancel_timer(Timer) || is_reference(Timer)],
    Loss = erlang:start_timer(Until, self(), loss, [{abs, true}]),
    State#state{until = Until, loss = Loss}.

now_ms() -> erlang:monotonic_time(millisecond).
