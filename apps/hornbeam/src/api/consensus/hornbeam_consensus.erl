%% @doc The consistent state of a cluster: few values that all nodes agree on.
%%
%% What has been answered stays, whichever minority of the nodes ends, and when all of them are
%% started again; and each command is done at one moment between its call and its answer, on
%% whatever node it was called (it is linearizable). That costs a round between the nodes and a
%% write to their disks. A minority refuses. It is there where the option `cluster' has a `data_dir'
%% and stands on `ra', the Raft of RabbitMQ; shared state ({@link hornbeam_state}) is none of it.
%%
%% Keys are those of {@link hornbeam_state}; values are terms that Python can read, of 1 MiB at
%% most, and 64 MiB in all. Errors are values: `{unavailable, Why}' means that nothing was done,
%% `uncertain' that it may have been, or may be yet.
-module(hornbeam_consensus).

-export([get/1, set/2, add/2, cas/3, delete/1, incr/1, incr/2]).
-export([status/0, known/0, members/0, remove/1]).
-export([sentence/1, enable/1, decides/1, command/1, command/2, server/0]).
-export_type([unavailable/0, error/0]).

-type key() :: hornbeam_state_key:key().

-type unavailable() :: {unavailable, off | forming | no_majority}.
%% `off': the node has no option `data_dir'. `forming': the first nodes have not met yet, this one
%% has not joined them, or its log has failed and is tried again.

-type error() :: unavailable() | uncertain | too_large | too_long | full | not_a_number | overflow.

%% The name of this node's member, as a process and as all members call it.
-define(SERVER, hornbeam_consensus).

%% How long a command may take (ms), and then who waits for it.
-define(TIMEOUT, 5000).
-define(GRACE, 500).

%% @doc The value of a key.
-spec get(key()) -> {ok, term()} | absent | {error, error()}.
get(Key) ->
    case command({get, checked(Key)}) of
        {ok, {ok, Value}} -> hornbeam_value:to_term(Value);
        {ok, absent} -> absent;
        {error, _} = Error -> Error
    end.

%% @doc Set a key, whatever it was.
-spec set(key(), term()) -> ok | {error, error()}.
set(Key, Value) ->
    done(command({set, checked(Key), packed(Value)})).

%% @doc Set a key only if it is absent; whether it was.
-spec add(key(), term()) -> boolean() | {error, error()}.
add(Key, Value) ->
    done(command({add, checked(Key), packed(Value)})).

%% @doc Put `New' in the place of `Old'; whether the value was exactly that.
-spec cas(key(), Old :: term(), New :: term()) -> boolean() | {error, error()}.
cas(Key, Old, New) ->
    done(command({cas, checked(Key), packed(Old), packed(New)})).

%% @doc Delete a key; whether it was there.
-spec delete(key()) -> boolean() | {error, error()}.
delete(Key) ->
    done(command({delete, checked(Key)})).

%% @doc Add 1 to a key, see {@link incr/2}.
-spec incr(key()) -> {ok, number()} | {error, error()}.
incr(Key) ->
    incr(Key, 1).

%% @doc Add to a number; an absent key counts as 0. The sum.
-spec incr(key(), number()) -> {ok, number()} | {error, error()}.
incr(Key, Delta) when is_number(Delta) ->
    done(command({incr, checked(Key), Delta})).

checked(Key) ->
    case hornbeam_state_key:is_key(Key) of
        true -> Key;
        false -> error({bad_key, Key})
    end.

%% All members keep the same, whatever atoms they know.
packed(Number) when is_number(Number) -> Number;
packed(Term) -> {packed, hornbeam_value:to_packed({term, Term})}.

done({ok, Reply}) -> Reply;
done({error, _} = Error) -> Error.

%% @doc How this node takes part: whether it is a member, who all members are and which of them
%% leads, how far its log has come and how much the state holds.
-spec status() -> #{members := [node()], leader := node() | undefined, reachable := [node()],
                    atom() => term()} | {error, unavailable()}.
status() ->
    case members() of
        {ok, Members, Leader} ->
            (overview())#{members => Members, leader => Leader,
                          reachable => [Node || Node <- Members, is_reachable(Node)]};
        {error, _} = Error ->
            Error
    end.

overview() ->
    case ra:local_query(server(), {hornbeam_consensus_machine, overview, []}, ?TIMEOUT) of
        {ok, {{Index, Term}, Overview}, _Leader} -> Overview#{index => Index, term => Term};
        _Late -> #{}
    end.

%% @doc The members, those in reach and which of them leads, as this node's member has last heard;
%% unknown where there is none. Waits for nobody.
-spec known() -> #{members := [node()], reachable := [node()], leader := node() | undefined}
    | unknown.
known() ->
    case is_enabled() andalso ra_leaderboard:lookup_members(hornbeam_consensus_member:cluster()) of
        [_ | _] = Members ->
            Nodes = nodes_of(Members),
            Leader = ra_leaderboard:lookup_leader(hornbeam_consensus_member:cluster()),
            #{members => Nodes, reachable => lists:filter(fun is_reachable/1, Nodes),
              leader => first([Node || {_, Node} <- [Leader]])};
        _None ->
            unknown
    end.

%% @doc The members, as far as this node knows, and which of them leads.
-spec members() -> {ok, [node()], Leader :: node() | undefined} | {error, unavailable()}.
members() ->
    case known_members() of
        {ok, Members} -> {ok, Members, known_leader()};
        {error, _} = Error -> Error
    end.

known_members() ->
    case is_enabled() andalso members_of(whereis(?SERVER)) of
        false -> {error, {unavailable, off}};
        Members -> Members
    end.

%% Whom `ra' names beside them is the one that answers.
members_of(undefined) ->
    {error, {unavailable, forming}};
members_of(_Pid) ->
    case ra:members({local, server()}, ?TIMEOUT) of
        {ok, Members, _Answering} -> {ok, nodes_of(Members)};
        _Late -> {error, {unavailable, forming}}
    end.

nodes_of(Members) -> lists:sort([Node || {_, Node} <- Members]).

known_leader() ->
    case ra:local_query(server(), {erlang, is_map, []}, ?TIMEOUT) of
        {ok, _State, Leader} -> first(nodes_of([Leader]));
        _Late -> undefined
    end.

%% Where it is not known who leads, something else stands in that place.
first([Node]) -> Node;
first([]) -> undefined.

%% @doc Let a node be a member no more. It has to be gone: one that runs would come back. `busy': a
%% change of the members before this one is not done yet, and nothing was.
-spec remove(node()) -> ok | {error, running | not_member | busy | unavailable() | uncertain}.
remove(Node) ->
    case is_reachable(Node) of
        true -> {error, running};
        false -> asked(fun() -> remove_gone(Node) end, ?TIMEOUT)
    end.

remove_gone(Node) ->
    unless_minority(fun() ->
        case ra:remove_member(server(), {?SERVER, Node}, ?TIMEOUT) of
            {ok, _Index, _Leader} -> ok;
            {error, not_member} = Error -> Error;
            {error, cluster_change_not_permitted} -> {error, busy};
            _Other -> {error, uncertain}
        end
    end).

%% @doc Why something was not done, or what is not known of it.
-spec sentence(unavailable() | uncertain) -> string().
sentence({unavailable, off}) ->
    "this server has no consistent state: the option cluster has no data_dir";
sentence({unavailable, forming}) ->
    "the consistent state has not begun here: its first nodes have not met, this one has not "
    "joined them yet, or it cannot write its log";
sentence({unavailable, no_majority}) ->
    "no majority of the nodes of the consistent state is in reach; nothing was done";
sentence(uncertain) ->
    "the nodes of the consistent state have not agreed in time: what was asked for may have been "
    "done, or may be yet".

%% @doc Say whether this node has a part in the consistent state.
-spec enable(boolean()) -> ok.
enable(IsOn) ->
    persistent_term:put(?MODULE, IsOn).

is_enabled() ->
    persistent_term:get(?MODULE, false).

%% @doc By what it is decided who leads, or has a lock.
-spec decides(leader | lock) -> {ok, election | consensus} | {error, unavailable()}.
decides(Kind) ->
    case {is_enabled(), Kind} of
        {true, _} -> {ok, consensus};
        {false, leader} -> {ok, election};
        {false, lock} -> {error, {unavailable, off}}
    end.

%% @doc The member of this node, as `ra' calls it.
-spec server() -> {atom(), node()}.
server() -> {?SERVER, node()}.

%% @doc Do a command of {@link hornbeam_consensus_machine}, in {@link command/2} of 5 s.
-spec command(hornbeam_consensus_machine:command()) -> {ok, Reply :: term()} | {error, error()}.
command(Command) ->
    command(Command, ?TIMEOUT).

%% @doc Do a command, once or not at all. The answer comes within `Timeout' and half a second,
%% whatever links do.
-spec command(hornbeam_consensus_machine:command(), Timeout :: pos_integer()) ->
    {ok, Reply :: term()} | {error, error()}.
command(Command, Timeout) ->
    case is_enabled() andalso fits(Command) of
        false -> {error, {unavailable, off}};
        {error, _} = Error -> Error;
        ok -> asked(fun() -> unless_minority(fun() -> process(Command, Timeout) end) end, Timeout)
    end.

fits(Command) ->
    Most = hornbeam_consensus_machine:max_value(),
    case lists:max([0 | [byte_size(Packed) || {packed, Packed} <- tuple_to_list(Command)]]) of
        Bytes when Bytes =< Most -> ok;
        _TooMany -> {error, too_large}
    end.

%% A link may hold up who sends to it.
asked(Ask, Timeout) ->
    case hornbeam_deadline:run(Ask, Timeout + ?GRACE) of
        {ok, Answer} -> Answer;
        {error, _Failure} -> {error, uncertain}
    end.

%% Where a majority is out of reach nothing is begun that might be done later.
unless_minority(Do) ->
    case known_members() of
        {ok, Members} ->
            Reachable = [Node || Node <- Members, is_reachable(Node)],
            do_if(2 * length(Reachable) > length(Members), Do);
        {error, _} = Error ->
            Error
    end.

do_if(true, Do) -> Do();
do_if(false, _Do) -> {error, {unavailable, no_majority}}.

is_reachable(Node) -> lists:member(Node, [node() | nodes()]).

%% `ra' sends it once.
process(Command, Timeout) ->
    case ra:process_command(server(), Command, Timeout) of
        {ok, {error, _} = Error, _Leader} -> Error;
        {ok, Reply, _Leader} -> {ok, Reply};
        {error, noproc} -> {error, {unavailable, forming}};
        _Other -> {error, uncertain}
    end.
