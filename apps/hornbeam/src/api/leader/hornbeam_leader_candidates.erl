%% The candidates of this node: which there are, for whoever asks for one of them or for those that
%% stand for a name.
%%
%% They stand in a table, where each keeps its own row. The process of this module forgets those
%% that are dead, and tells other nodes who stands here (`census'): an election that has just begun
%% asks them, so that nobody who leads already is passed by. It also knows which node holds
%% elections, and is whom candidates of others find there.
-module(hornbeam_leader_candidates).
-behaviour(gen_server).

-export([new_table/0, start_link/0, start/3, enter/4, note_token/2, note_loss/1, ask/2]).
-export([named/1, leading/0]).
-export([peers/0, holder/0, enter_election/5, ask_census/3]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([id/0, claim/0]).

-type id() :: {Owner :: pid(), Ref :: term()}.

-type claim() :: {Candidate :: pid(), Since :: integer(), hornbeam_leader_candidate:token()}.
%% Since when it stands (microseconds), and its token, if it leads.

%% Rows: {Id, Candidate, Name, Since, Token}; who has lost has no name any more.
-define(TABLE, ?MODULE).
-define(NAME, 3).
-define(TOKEN, 5).

%% What other nodes have that hold elections with this one.
-define(ROOM, hornbeam_leader).

%% Of one owner.
-define(MOST, 1000).

%% @doc Make the table; its owner must outlive everybody.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, ordered_set, {read_concurrency, true}]),
    ok.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Start a candidate, unless there is one with this id.
-spec start(id(), hornbeam_leader:name(), hornbeam_leader_candidate:by()) ->
    ok | {error, too_many_candidates}.
start({Owner, _Ref} = Id, Name, By) ->
    case ets:select_count(?TABLE, [{{{Owner, '_'}, '_', '_', '_', '_'}, [], [true]}]) of
        Few when Few < ?MOST -> hornbeam_leader_sup:start_candidate(Id, Name, By);
        _Most -> {error, too_many_candidates}
    end.

%% @doc The calling process is the candidate with this id.
-spec enter(id(), hornbeam_leader:name(), Since :: integer(), hornbeam_leader_candidate:token()) ->
    ok.
enter(Id, Name, Since, Token) ->
    true = ets:insert(?TABLE, {Id, self(), Name, Since, Token}),
    gen_server:cast(?MODULE, {entered, Id, self()}).

%% @doc Its token is this one now.
-spec note_token(id(), hornbeam_leader_candidate:token()) -> ok.
note_token(Id, Token) ->
    _ = ets:update_element(?TABLE, Id, {?TOKEN, Token}),
    ok.

%% @doc It has lost, and stands no more.
-spec note_loss(id()) -> ok.
note_loss(Id) ->
    _ = ets:update_element(?TABLE, Id, [{?NAME, none}, {?TOKEN, 0}]),
    ok.

%% @doc Ask the candidate with this id.
-spec ask(id(), Question :: term()) -> term() | {error, unknown_candidate}.
ask(Id, Question) ->
    case ets:lookup(?TABLE, Id) of
        [{Id, Candidate, _, _, _}] -> ask_process(Candidate, Question);
        [] -> {error, unknown_candidate}
    end.

%% It answers in the time that the question gives it.
ask_process(Candidate, Question) ->
    try
        gen_server:call(Candidate, Question, infinity)
    catch
        exit:_ -> {error, unknown_candidate}
    end.

%% @doc Who of this node stands for a name.
-spec named(hornbeam_leader:name()) -> [claim()].
named(Name) ->
    [{Candidate, Since, Token}
     || {_Id, Candidate, _Name, Since, Token}
            <- ets:match_object(?TABLE, {'_', '_', Name, '_', '_'}),
        is_process_alive(Candidate)].

%% @doc Who leads on this node.
-spec leading() -> [{hornbeam_leader:name(), Owner :: pid(), hornbeam_fencing_token:token()}].
leading() ->
    [{Name, Owner, Token} || {{Owner, _}, Candidate, Name, _, Token} <- ets:tab2list(?TABLE),
                             Token > 0, is_process_alive(Candidate)].

%% @doc The other nodes that hold elections with this one.
-spec peers() -> [node()].
peers() ->
    [Node || {Node, _Incarnation} <- hornbeam_links:peers(?ROOM)].

%% @doc The node that holds elections, as this one sees it.
-spec holder() -> node().
holder() ->
    lists:min([node() | peers()]).

%% @doc Let the calling process, a candidate, stand in the election that a node holds. It hears of
%% that from there, unless the question is lost.
-spec enter_election(node(), hornbeam_leader:name(), Since :: integer(),
                     hornbeam_leader_candidate:token(), Greatest :: non_neg_integer()) -> ok.
enter_election(Node, Name, Since, Token, Greatest) ->
    Cluster = hornbeam_links:cluster(),
    _ = erlang:send({?MODULE, Node},
                    {hornbeam_leader, enter, self(), Cluster, Name, Since, Token, Greatest},
                    [nosuspend, noconnect]),
    ok.

%% @doc Ask another node who stands there for a name of a cluster. The answer comes as
%% `{hornbeam_leader, census, Node, [claim()], Greatest :: token()}', unless it is lost.
-spec ask_census(node(), Cluster :: binary(), hornbeam_leader:name()) -> ok.
ask_census(Node, Cluster, Name) ->
    _ = erlang:send({?MODULE, Node}, {hornbeam_leader, census_of, self(), Cluster, Name},
                    [nosuspend, noconnect]),
    ok.

%% The server.

%% @private
-spec init([]) -> {ok, #{pid() => id()}}.
init([]) ->
    _ = hornbeam_links:join(?ROOM),
    Rows = ets:tab2list(?TABLE),
    {ok, lists:foldl(fun({Id, Pid, _, _, _}, Known) -> watch(Id, Pid, Known) end, #{}, Rows)}.

watch(_Id, Pid, Known) when is_map_key(Pid, Known) ->
    Known;
watch(Id, Pid, Known) ->
    _ = erlang:monitor(process, Pid),
    Known#{Pid => Id}.

%% @private
-spec handle_call(term(), gen_server:from(), State) -> {noreply, State}.
handle_call(_Request, _From, Known) ->
    {noreply, Known}.

%% @private
-spec handle_cast({entered, id(), pid()}, State) -> {noreply, State}.
handle_cast({entered, Id, Pid}, Known) ->
    {noreply, watch(Id, Pid, Known)}.

%% @private
-spec handle_info(term(), #{pid() => id()}) -> {noreply, #{pid() => id()}}.
handle_info({hornbeam_leader, census_of, Asker, Cluster, Name}, Known) ->
    Census = {hornbeam_leader, census, node(), claims(Cluster, Name),
              hornbeam_fencing_token:greatest()},
    _ = erlang:send(Asker, Census, [nosuspend, noconnect]),
    {noreply, Known};
handle_info({hornbeam_leader, enter, Pid, Cluster, Name, Since, Token, Greatest}, Known) ->
    _ = [hornbeam_leader_election:enter(hornbeam_leader_sup:start_election(Name), Pid, Name, Since,
                                        Token, Greatest)
         || Cluster =:= hornbeam_links:cluster(), holder() =:= node()],
    {noreply, Known};
handle_info({hornbeam_link, Event, _Peer}, Known) when Event =:= up; Event =:= down ->
    IsHolder = holder() =:= node(),
    lists:foreach(fun(Election) ->
        hornbeam_leader_election:peers_changed(Election, IsHolder)
    end, hornbeam_leader_sup:elections()),
    {noreply, Known};
handle_info({'DOWN', _Ref, process, Pid, _Reason}, Known) when is_map_key(Pid, Known) ->
    {Id, Left} = maps:take(Pid, Known),
    true = ets:match_delete(?TABLE, {Id, Pid, '_', '_', '_'}),
    {noreply, Left};
handle_info(_Stray, Known) ->
    {noreply, Known}.

claims(Cluster, Name) ->
    case hornbeam_links:cluster() of
        Cluster -> named(Name);
        _Another -> []
    end.
