%% This node as a member of the consistent state: how it gets there.
%%
%%   has data ──────────────────────────────────────────────▶ member
%%   has none ──▶ meets members ──▶ is added ───────────────▶ member
%%           └──▶ meets as many without data as are to begin ▶ member
%%
%% A node with data goes on where it was. One without asks the others, until it is a member, what
%% they are. If some are members already it is added by them. Otherwise, where as many nodes as the
%% option `members' says see each other, the one whose name is first collects a promise of each of
%% the first so many, and when it has all of them these begin, in any order: a node promises to one
%% at a time. Nobody begins with fewer, so two groups can form only of more nodes than twice that.
%%
%% A node whose data are lost though it is a member is taken out first and then added anew: it may
%% have said what it does not remember.
%%
%% A member whose log fails, as on a full disk, is given up by the library, and begun again here.
-module(hornbeam_consensus_member).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, start_ra/1, cluster/0]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export_type([options/0]).

-type options() :: #{data_dir := binary(), members := pos_integer()}.

-type status() :: empty | promised | member | {member, [node()], IsFresh :: boolean()}.
%% Fresh: no leader has been voted for yet, as far as that node knows, and so nothing decided.

-record(state, {
    options :: options(),
    phase = empty :: empty | member,
    %% those of whom something was heard since the last look
    peers = #{} :: #{node() => {pid(), status()}},
    %% whom this node has promised to begin with
    promised :: {pid(), reference()} | undefined,
    %% whom it wants to begin with, and those who have not promised it yet
    collecting :: {[node()], Missing :: [node()]} | undefined,
    %% who adds it, or begins
    working :: reference() | undefined
}).

-define(SYSTEM, hornbeam).
-define(SERVER, hornbeam_consensus).
-define(STATE_MACHINE, {module, hornbeam_consensus_machine, #{}}).

%% Others are asked so often (ms) while this node is no member.
-define(LOOK, 500).
%% A member looks so often (ms) whether it runs.
-define(CHECK, 2000).
%% What another member may take to answer (ms).
-define(TIMEOUT, 5000).
%% A file of the log that is written ahead has so many bytes at most.
-define(WAL_BYTES, 16777216).

%% @doc What `ra' calls all members together.
-spec cluster() -> atom().
cluster() -> ?SYSTEM.

%% @doc Start the library, with the log of this node in the folder of its name.
-spec start_ra(options()) -> ok | {error, {cluster, Sentence :: iodata()}}.
start_ra(#{data_dir := Folder}) ->
    Own = filename:join([binary_to_list(Folder), "consensus", atom_to_list(node())]),
    case {application:load(ra), filelib:ensure_path(Own)} of
        {{error, {Missing, _}}, _} when is_list(Missing) ->
            {error, {cluster, "the consistent state needs the Erlang library ra, which this node "
                              "does not have: name it in the release, as {ra, load}"}};
        {_Loaded, {error, Reason}} ->
            {error, {cluster, ["the folder ", Own, " cannot be made: ",
                               file:format_error(Reason)]}};
        {_Loaded, ok} ->
            ok = logger:set_application_level(ra, warning),
            {ok, _} = application:ensure_all_started(ra),
            started(ra_system:start(system(Own)), Own)
    end.

system(Own) ->
    (ra_system:default_config())#{name := ?SYSTEM, data_dir := Own, wal_data_dir := Own,
                                  names := ra_system:derive_names(?SYSTEM),
                                  wal_max_size_bytes := ?WAL_BYTES}.

started({ok, _}, _Own) ->
    ok;
started({error, {already_started, _}}, Own) ->
    case ra_system:fetch(?SYSTEM) of
        #{data_dir := Own} -> ok;
        #{data_dir := Other} ->
            {error, {cluster, ["the consistent state of this node is in ", Other, " since its "
                               "start, and cannot be in ", Own, " before it is started again"]}}
    end;
started({error, Reason}, Own) ->
    {error, {cluster, io_lib:format("the log in ~ts cannot be opened: ~0tp", [Own, Reason])}}.

-spec start_link(options()) -> gen_server:start_ret().
start_link(Options) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Options, []).

%% @private
-spec init(options()) -> {ok, #state{}, {continue, go_on}}.
init(Options) ->
    process_flag(trap_exit, true),
    {ok, #state{options = Options}, {continue, go_on}}.

%% @private
-spec handle_continue(go_on, #state{}) -> {noreply, #state{}}.
handle_continue(go_on, State) ->
    case restart() of
        {error, name_not_registered} -> {noreply, ask_others(State)};
        _OkOrFailed -> {noreply, checked_later(State#state{phase = member})}
    end.

restart() ->
    case ra:restart_server(?SYSTEM, server()) of
        ok -> ok;
        {error, {already_started, _}} -> ok;
        Failed -> Failed
    end.

checked_later(State) ->
    _ = erlang:send_after(?CHECK, self(), check),
    State.

check(Options) ->
    case whereis(?SERVER) of
        undefined -> begin_again(Options);
        _Pid -> elect_first()
    end.

%% The library has nobody elected before there was a leader: who was to see to it may have ended.
elect_first() ->
    case ra:local_query(server(), {erlang, is_map, []}, ?TIMEOUT) of
        {ok, {{0, _Term}, true}, not_known} -> ra:trigger_election(server(), ?TIMEOUT);
        _ElectedOrLate -> ok
    end.

begin_again(Options) ->
    case start_ra(Options) of
        ok -> restart();
        {error, _} = Error -> Error
    end.

server() -> server(node()).

server(Node) -> {?SERVER, Node}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

ask_others(#state{phase = member} = State) ->
    State;
ask_others(State) ->
    _ = [tell({?MODULE, Node}, {status_of, self()}) || Node <- nodes()],
    _ = erlang:send_after(?LOOK, self(), look),
    State#state{peers = #{}}.

tell(Peer, Message) ->
    _ = erlang:send(Peer, {hornbeam_consensus, hornbeam_links:cluster(), Message},
                    [nosuspend, noconnect]),
    ok.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({hornbeam_consensus, Cluster, Message}, State) ->
    {noreply, heard_of(Cluster =:= hornbeam_links:cluster(), Message, State)};
handle_info(check, #state{working = undefined, options = Options} = State) ->
    {noreply, work(fun() -> check(Options) end, State)};
handle_info(look, #state{working = undefined, collecting = undefined} = State) ->
    {noreply, ask_others(looked(State))};
handle_info(look, State) ->
    {noreply, ask_others(released(State))};
handle_info({'DOWN', Ref, process, _, Outcome}, #state{working = Ref} = State) ->
    {noreply, worked(Outcome, State#state{working = undefined})};
handle_info({'DOWN', Ref, process, Pid, _}, #state{promised = {Pid, Ref}} = State) ->
    {noreply, State#state{promised = undefined}};
handle_info(_Stray, State) ->
    {noreply, State}.

heard_of(true, Message, State) -> heard(Message, State);
heard_of(false, _Message, State) -> State.

heard({status_of, Pid}, State) ->
    tell_status(Pid, State),
    State;
heard({status, Pid, Status}, #state{peers = Peers} = State) ->
    heard_status(Pid, Status, State#state{peers = Peers#{node(Pid) => {Pid, Status}}});
heard({promise, Pid}, #state{phase = empty, promised = undefined, working = undefined} = State) ->
    tell(Pid, {promised, node()}),
    State#state{promised = {Pid, erlang:monitor(process, Pid)}};
heard({promised, Node}, #state{collecting = {Set, Missing}} = State) ->
    collected(Set, lists:delete(Node, Missing), State);
heard({release, Pid}, State) ->
    released_by(Pid, State);
heard({begin_with, Set}, #state{phase = empty, promised = {_, _}, working = undefined} = State) ->
    work(fun() -> begin_with(Set) end, State);
heard(_Other, State) ->
    State.

%% Who has a promise and has begun needs it no more: this node has not heard that it was to begin.
heard_status(Pid, {member, _Members, _IsFresh}, State) -> released_by(Pid, State);
heard_status(_Pid, _Status, State) -> State.

released_by(Pid, #state{promised = {Pid, Ref}} = State) ->
    true = erlang:demonitor(Ref, [flush]),
    State#state{promised = undefined};
released_by(_Pid, State) ->
    State.

tell_status(Pid, #state{phase = empty, promised = undefined}) ->
    tell(Pid, {status, self(), empty});
tell_status(Pid, #state{phase = empty}) ->
    tell(Pid, {status, self(), promised});
tell_status(Pid, #state{phase = member}) ->
    Self = self(),
    _ = spawn(fun() -> tell(Pid, {status, Self, member_status(hornbeam_consensus:members())}) end),
    ok.

member_status({ok, Members, _Leader}) ->
    case ra:local_query(server(), {erlang, is_map, []}, ?TIMEOUT) of
        {ok, {IndexTerm, true}, _} -> {member, Members, IndexTerm =:= {0, 0}};
        _Late -> member
    end;
member_status({error, _}) ->
    member.

%% What this node does about those that have answered. A member has nothing to look for: what it
%% still hears was asked before it was one, and would have it leave.
looked(#state{phase = member} = State) ->
    State;
looked(#state{peers = Peers, promised = undefined} = State) ->
    Answers = [{IsFresh, Node, Members} || {Node, {_, {member, Members, IsFresh}}}
                                               <- maps:to_list(Peers)],
    case lists:sort(Answers) of
        [{IsFresh, Node, Members} | _] ->
            met(IsFresh, lists:member(node(), Members), Node, Members, State);
        [] ->
            looked_for_beginners(State)
    end;
looked(State) ->
    State.

%% Some have begun with this node, which has not heard of it; or it did, and has lost its data. One
%% alone cannot say which: it may be one that has heard of nothing either.
met(true, true, _Node, Members, #state{peers = Peers} = State) ->
    case [Each || Each <- Members, Each =/= node(), not has_said(Each, Peers)] of
        [] -> work(fun() -> start(Members) end, State);
        [_ | _] -> State
    end;
met(_IsFresh, IsMember, Node, Members, State) ->
    work(fun() -> join(Node, Members, IsMember) end, State).

has_said(Node, Peers) ->
    case Peers of
        #{Node := {_, member}} -> false;
        #{Node := _} -> true;
        #{} -> false
    end.

looked_for_beginners(#state{peers = Peers, options = #{members := Members}} = State) ->
    Empty = lists:sort([node() | [Node || {Node, {_, empty}} <- maps:to_list(Peers)]]),
    HasMember = lists:keymember(member, 2, maps:values(Peers)),
    case not HasMember andalso length(Empty) >= Members andalso hd(Empty) =:= node() of
        true -> collect(lists:sublist(Empty, Members), State);
        false -> State
    end.

collect(Set, State) ->
    Missing = lists:delete(node(), Set),
    _ = [tell({?MODULE, Node}, {promise, self()}) || Node <- Missing],
    collected(Set, Missing, State).

collected(Set, [], State) ->
    _ = [tell({?MODULE, Node}, {begin_with, Set}) || Node <- Set, Node =/= node()],
    work(fun() -> begin_with(Set) end, State#state{collecting = undefined});
collected(Set, Missing, State) ->
    State#state{collecting = {Set, Missing}}.

%% Some have not promised in time.
released(#state{collecting = {Set, _Missing}} = State) ->
    _ = [tell({?MODULE, Node}, {release, self()}) || Node <- Set, Node =/= node()],
    State#state{collecting = undefined};
released(State) ->
    State.

%% In a process of its own, since others may not answer.
work(Fun, State) ->
    {_, Ref} = spawn_monitor(erlang, apply, [fun end_when_done/1, [Fun]]),
    State#state{working = Ref}.

-spec end_when_done(fun(() -> term())) -> no_return().
end_when_done(Fun) ->
    exit({worked, Fun()}).

worked({worked, ok}, #state{phase = member} = State) ->
    checked_later(State);
worked({worked, ok}, State) ->
    ?LOG_NOTICE(#{what => consensus_member, node => node()}, #{domain => [hornbeam]}),
    checked_later(State#state{phase = member, promised = undefined});
worked(Failed, #state{phase = member} = State) ->
    ?LOG_WARNING(#{what => consensus_not_begun_again, reason => Failed}, #{domain => [hornbeam]}),
    checked_later(State);
worked(Failed, State) ->
    ?LOG_WARNING(#{what => consensus_not_joined, reason => Failed}, #{domain => [hornbeam]}),
    State#state{promised = undefined}.

begin_with(Set) ->
    case start(Set) of
        ok when node() =:= hd(Set) -> ra:trigger_election(server());
        OkOrError -> OkOrError
    end.

%% That this node has data is written down at once: `ra' would do so some time later.
start(Members) ->
    case ra:start_server(?SYSTEM, ?SYSTEM, server(), ?STATE_MACHINE,
                         [server(Node) || Node <- Members]) of
        ok ->
            #{directory_rev := Registered} = ra_system:derive_names(?SYSTEM),
            dets:sync(Registered);
        {error, _} = Error ->
            Error
    end.

join(Node, Members, true) ->
    case ra:remove_member(server(Node), server(), ?TIMEOUT) of
        {ok, _, _} -> join(Node, lists:delete(node(), Members), false);
        Other -> Other
    end;
join(Node, Members, false) ->
    case ra:add_member(server(Node), server(), ?TIMEOUT) of
        {ok, _, _} -> start([node() | Members]);
        Other -> Other
    end.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, _State) ->
    %% The library may have ended before, which it tells by a failure.
    try ra:stop_server(?SYSTEM, server()) of
        _OkOrNotThere -> ok
    catch
        error:_ -> ok
    end.
