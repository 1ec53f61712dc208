%% What those who operate a cluster ask of all of its nodes, or of one of them by that of another.
%%
%% Requests about connections and workers go where those are, by their names (hornbeam_control_name)
%% or by the argument `node'; all others are this node's own. Of those that ask all nodes the
%% answers are put together, and who does not answer in time is named.
-module(hornbeam_control_cluster).

-export([perform/4, connections/1, kick/3, stacks/1]).

-type outcome() :: {ok, term()} | {error, unicode:chardata()}.
-type description() :: hornbeam_connection_registry:description().

%% @doc Do a request, here or where it is meant.
-spec perform(Name :: binary(), Args :: #{term() => term()}, hornbeam_control_requests:emit(),
              hornbeam_control_requests:start()) -> outcome().
perform(Name, Args, Emit, Start) ->
    case whom(Name, Args) of
        {here, Own} -> marked(Name, node(), perform_here(Name, Own, Emit, Start));
        {all, Own} -> perform_everywhere(Name, Own, Emit, Start);
        {error, _} = Error -> Error;
        {Node, Own} -> marked(Name, Node, perform_there(Node, Name, Own, Emit))
    end.

perform_here(Name, Args, Emit, Start) ->
    hornbeam_control_requests:perform(Name, Args, Emit, Start).

perform_there(Node, Name, Args, Emit) ->
    hornbeam_control_peers:perform(Node, Name, Args, Emit, seconds(Args)).

seconds(#{<<"seconds">> := Seconds}) when is_integer(Seconds) -> Seconds;
%% What a trace takes where nothing is said.
seconds(#{<<"id">> := _}) -> 60;
seconds(_Args) -> 0.

%% Whom a request is for, with the arguments as that node has them.

whom(Name, #{<<"node">> := Node} = Args)
        when is_binary(Node), Name =:= <<"connections">>; is_binary(Node), Name =:= <<"stacks">> ->
    named(Node, maps:remove(<<"node">>, Args));
whom(<<"stacks">>, #{<<"worker">> := Worker} = Args) when is_binary(Worker) ->
    {Place, Own} = hornbeam_control_name:worker(Worker),
    at(Place, Args#{<<"worker">> := Own});
whom(Name, Args) when Name =:= <<"connections">>; Name =:= <<"stacks">> ->
    {all, Args};
whom(Name, #{<<"id">> := Id} = Args)
        when Name =:= <<"connection">>; Name =:= <<"kick">>; Name =:= <<"trace">> ->
    case hornbeam_control_name:id(Id) of
        {ok, Place, Own} -> at(Place, Args#{<<"id">> := Own});
        error -> {here, Args}
    end;
whom(_Name, Args) ->
    {here, Args}.

at(here, Args) -> {here, Args};
at({node, Name}, Args) -> named(Name, Args).

named(Name, Args) ->
    case hornbeam_control_name:node_named(Name, nodes_known()) of
        {ok, Node} when Node =:= node() -> {here, Args};
        {ok, Node} -> {Node, Args};
        error -> {error, no_node(Name)}
    end.

nodes_known() -> [node() | hornbeam_control_peers:nodes()].

no_node(Name) ->
    ["there is no node ", hornbeam_quoted:line(Name), " now; there are ",
     lists:join(", ", lists:map(fun atom_to_binary/1, nodes_known()))].

%% All nodes.

perform_everywhere(Name, Args, Emit, Start) ->
    Question = {perform, Name, Args},
    {Here, There} = hornbeam_control_peers:all(hornbeam_control_peers:nodes(), Question, fun() ->
        perform_here(Name, Args, Emit, Start)
    end),
    case marked(Name, node(), Here) of
        {ok, Own} ->
            Answers = [Answer || {Node, {ok, Outcome}} <- There,
                                 {ok, Answer} <- [marked(Name, Node, Outcome)]],
            {ok, together(Name, Args, [Own | Answers], silent(There))};
        {error, _} = Error ->
            Error
    end.

%% One of another version may refuse what this one does.
silent(There) ->
    [Node || {Node, Answer} <- There, not is_answered(Answer)].

is_answered({ok, {error, _}}) -> false;
is_answered(Answer) -> Answer =/= none.

together(<<"connections">>, Args, Tops, Silent) ->
    Most = maps:get(<<"most">>, Args, default_most()),
    #{open => lists:sum([Open || #{open := Open} <- Tops]),
      busy => lists:sum([Busy || #{busy := Busy} <- Tops]),
      connections => first(Most, lists:append([Found || #{connections := Found} <- Tops])),
      silent => Silent};
together(<<"stacks">>, _Args, Stacks, Silent) ->
    lists:append(Stacks) ++ [#{node => Node, error => <<"no_answer">>} || Node <- Silent].

default_most() -> hornbeam_control_requests:default(<<"connections">>, <<"most">>).

%% Those that were too busy to answer come before all others, as of one node.
first(Most, Connections) ->
    {Measured, Stuck} = lists:partition(fun(One) -> is_map_key(measured, One) end, Connections),
    ByMost = lists:sort(fun(#{measured := One}, #{measured := Other}) -> One >= Other end,
                        Measured),
    lists:sublist(Stuck ++ ByMost, Most).

%% What an answer is called everywhere.

marked(_Name, _Node, {error, _} = Error) -> Error;
marked(_Name, nonode@nohost, Outcome) -> Outcome;
marked(<<"connections">>, Node, {ok, #{connections := Found} = Top}) ->
    {ok, Top#{connections := [mark(One, Node) || One <- Found]}};
marked(<<"connection">>, Node, {ok, One}) ->
    {ok, mark(One, Node)};
marked(<<"stacks">>, Node, {ok, Stacks}) ->
    {ok, [Of#{node => Node} || Of <- Stacks]};
marked(_Name, _Node, Outcome) ->
    Outcome.

mark(#{id := Id} = Connection, Node) ->
    Connection#{id := hornbeam_control_name:global(Node, Id), node => Node}.

%% For Erlang.

%% @doc The connections of all nodes that a filter lets through, or of the one that it names; and at
%% the end of the list the nodes that did not answer, whatever the filter.
-spec connections(#{atom() => term()} | fun((description()) -> boolean())) -> [description()].
connections(#{node := Node} = Filter) ->
    connections([Node || lists:member(Node, hornbeam_control_peers:nodes())], Filter);
connections(Filter) ->
    connections(hornbeam_control_peers:nodes(), Filter).

connections(Nodes, Filter) ->
    {Here, There} = hornbeam_control_peers:all(Nodes, {connections, local(Filter)},
                                               fun hornbeam_connections:all/0),
    Found = named_all(Here, node())
        ++ lists:append([named_all(Of, Node) || {Node, {ok, Of}} <- There]),
    lists:filter(filter(Filter), Found)
        ++ [#{node => Node, state => silent} || {Node, none} <- There].

named_all(Connections, nonode@nohost) -> Connections;
named_all(Connections, Node) -> [mark(One, Node) || One <- Connections].

%% What a node knows of its own.
local(Filter) when is_map(Filter) -> maps:without([id, node], Filter);
local(_Fun) -> #{}.

filter(Filter) when is_map(Filter) ->
    fun(Connection) -> maps:merge(Connection, Filter) =:= Connection end;
filter(Fun) ->
    Fun.

%% @doc Close a connection, wherever it is.
-spec kick(hornbeam_control_name:global_id() | string(), Code :: term(), Reason :: term()) ->
    ok | {error, term()}.
kick(Id, Code, Reason) when is_list(Id) ->
    kick(unicode:characters_to_binary(Id), Code, Reason);
kick(Id, Code, Reason) ->
    case hornbeam_control_name:id(Id) of
        {ok, here, Own} -> hornbeam_connection_registry:kick(Own, Code, Reason);
        {ok, {node, Name}, Own} -> elsewhere(Name, {kick, Own, Code, Reason});
        error -> {error, not_found}
    end.

%% @doc What a worker does, wherever it is.
-spec stacks(hornbeam_name:name()) -> {ok, hornbeam_stacks:stacks()} | {error, term()}.
stacks(Worker) ->
    case hornbeam_control_name:worker(hornbeam_name:text(Worker)) of
        {here, Own} -> hornbeam_stacks:of_worker(Own);
        {{node, Name}, Own} -> elsewhere(Name, {stacks, Own})
    end.

elsewhere(Name, Question) ->
    case hornbeam_control_name:node_named(Name, hornbeam_control_peers:nodes()) of
        {ok, Node} -> outcome(hornbeam_control_peers:ask(Node, Question));
        error -> {error, no_node}
    end.

outcome({ok, Outcome}) -> Outcome;
outcome({error, {Why, _Node}}) -> {error, Why}.
