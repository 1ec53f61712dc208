%% What a node of a cluster is called, so that its name tells where it is reached: no daemon has to
%% be asked for that.
%%
%%   hornbeam@10.0.0.1         at the usual port
%%   hornbeam-4371@10.0.0.1    at another
%%
%% Nodes that have got their names elsewhere are called otherwise. Here alone atoms are made of what
%% is known only when the node runs: Erlang's distribution wants them. Pure.
-module(hornbeam_node_name).

-export([at/2, named/1, address/1, family/1, port/1, cookie/1]).

-define(BASE, "hornbeam").

%% @doc The name of the node at an address; or of one that is called otherwise, with what stands in
%% front of the `@'.
-spec at(inet:port_number() | string(), inet:ip_address()) -> node().
at(Port, Ip) when is_integer(Port) ->
    at(?BASE ++ suffix(Port, hornbeam_cluster_option:default_port()), Ip);
at(Base, Ip) ->
    named(unicode:characters_to_binary([Base, $@, inet:ntoa(Ip)])).

%% @doc A node that is named in full.
-spec named(binary()) -> node().
named(Name) -> binary_to_atom(Name).

%% @doc What nodes show each other, of a secret of at most 255 characters.
-spec cookie(binary()) -> atom().
cookie(Secret) -> binary_to_atom(Secret).

suffix(Port, Port) -> "";
suffix(Port, _Usual) -> "-" ++ integer_to_list(Port).

%% @doc Where a node is; `none' for one that has a name of another kind.
-spec address(node()) -> {inet:ip_address(), inet:port_number()} | none.
address(Node) ->
    [Name, Host] = string:split(atom_to_list(Node), "@"),
    address(inet:parse_strict_address(Host), port(Name)).

address({ok, Ip}, Port) when is_integer(Port) -> {Ip, Port};
address(_, _) -> none.

%% @doc Of which kind an address is.
-spec family(inet:ip_address()) -> inet | inet6.
family(Ip) when tuple_size(Ip) =:= 4 -> inet;
family(_Ip) -> inet6.

%% @doc The port that is said by what stands in front of the `@'.
-spec port(atom() | string()) -> inet:port_number() | none.
port(Name) when is_atom(Name) -> port(atom_to_list(Name));
port(?BASE) -> hornbeam_cluster_option:default_port();
port(?BASE "-" ++ Digits) -> number(string:to_integer(Digits));
port(_Other) -> none.

number({Port, ""}) when is_integer(Port), Port > 0, Port =< 65535 -> Port;
number(_) -> none.
