%% What connections and workers are called by those who operate several nodes: where a node has a
%% name, that stands in front.
%%
%%   10017        worker-1        worker-1@/api            of this node
%%   NODE/10017   NODE/worker-1   NODE/worker-1@/api       of that node, such as hornbeam@10.0.0.1
%%
%% A node that has no name has no others. Atoms are made of no text here.
-module(hornbeam_control_name).

-export([global/2, id/1, worker/1, node_named/2]).
-export_type([global_id/0, place/0]).

-type global_id() :: pos_integer() | binary().

-type place() :: here | {node, Name :: binary()}.

%% @doc What a connection of a node is called everywhere.
-spec global(node(), hornbeam_connection_registry:id()) -> global_id().
global(nonode@nohost, Id) -> Id;
global(Node, Id) -> <<(atom_to_binary(Node))/binary, $/, (integer_to_binary(Id))/binary>>.

%% @doc Where a connection is, and its number there.
-spec id(term()) -> {ok, place(), hornbeam_connection_registry:id()} | error.
id(Id) when is_integer(Id), Id > 0 ->
    {ok, here, Id};
id(Text) when is_binary(Text) ->
    {Place, Rest} = split(Text),
    case string:to_integer(Rest) of
        {Id, <<>>} when is_integer(Id), Id > 0 -> {ok, Place, Id};
        _ -> error
    end;
id(_Other) ->
    error.

%% @doc Where a worker is, and its name there.
-spec worker(binary()) -> {place(), Name :: binary()}.
worker(Text) -> split(Text).

%% A worker's name may have an `@' and slashes, but nothing between those.
split(Text) ->
    case re:run(Text, "^([^@/]+@[^@/]+)/(.*)$", [{capture, all_but_first, binary}, dotall]) of
        {match, [Node, Rest]} -> {place(Node), Rest};
        nomatch -> {here, Text}
    end.

place(Name) ->
    case atom_to_binary(node()) of
        Name -> here;
        _Another -> {node, Name}
    end.

%% @doc Which of these nodes has a name, or is alone behind it: what stands after the `@' is enough.
-spec node_named(Name :: binary(), [node()]) -> {ok, node()} | error.
node_named(Name, Nodes) ->
    Named = [{Node, string:split(atom_to_binary(Node), "@")} || Node <- Nodes],
    case {[Node || Node <- Nodes, atom_to_binary(Node) =:= Name],
          [Node || {Node, [_, Host]} <- Named, Host =:= Name]} of
        {[Node], _} -> {ok, Node};
        {[], [Node]} -> {ok, Node};
        {[], _} -> error
    end.
