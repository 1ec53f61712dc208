%% Who is to be joined: from what the option says to nodes.
%%
%% It asks DNS and functions of the user's, which may take any time: so it runs in a process that
%% serves nobody.
-module(hornbeam_discovery).

-export([nodes/2, addresses/1]).
-export_type([naming/0]).

-type naming() :: {port, inet:port_number(), inet:address_family()} | {base, Name :: string()}.
%% How nodes are called: as ours are, at this port unless another is said; or, where they have names
%% of their own, with this in front of the `@'.

%% @doc The nodes that there may be, and what could not be found of them.
-spec nodes(hornbeam_cluster_option:join(), naming()) ->
    {[node()], [{Host :: string(), Reason :: term()}]}.
nodes(Join, Naming) ->
    Found = [{Entry, resolve(Entry, Naming)} || Entry <- entries(Join)],
    {lists:usort([Node || {Entry, {ok, Ips}} <- Found, Node <- named(Entry, Ips, Naming)]),
     [{Host, Reason} || {{Host, _Port}, {error, Reason}} <- Found]}.

%% @doc The addresses among them that are known now, in the order of the option.
-spec addresses(hornbeam_cluster_option:join()) -> [inet:ip_address()].
addresses(Join) ->
    [Ip || Entry <- entries(Join), {ok, Ips} <- [addresses_of(Entry)], Ip <- Ips].

addresses_of({node, _Node}) ->
    {ok, []};
addresses_of({Ip, _Port}) when is_tuple(Ip) ->
    {ok, [Ip]};
addresses_of({Host, _Port}) ->
    case getaddrs(Host, inet) of
        {ok, _} = Found -> Found;
        {error, _} -> getaddrs(Host, inet6)
    end.

entries({Module, Function}) ->
    Returned = Module:Function(),
    case hornbeam_cluster_option:entries(Returned) of
        {ok, Entries} -> Entries;
        error -> error({no_list_of_hosts, {Module, Function}, Returned})
    end;
entries(Entries) ->
    Entries.

resolve({node, _Node}, _Naming) -> {ok, [none]};
resolve({Ip, _Port}, _Naming) when is_tuple(Ip) -> {ok, [Ip]};
resolve({Host, _Port}, {port, _Default, Family}) -> getaddrs(Host, Family);
resolve({Host, _Port}, {base, _Name}) -> getaddrs(Host, inet).

getaddrs(Host, Family) ->
    case inet:getaddrs(Host, Family) of
        {ok, Ips} -> {ok, lists:usort(Ips)};
        {error, _} = Error -> Error
    end.

named({node, Name}, _Ips, _Naming) ->
    [hornbeam_node_name:named(Name)];
named({Host, default}, Ips, {port, Port, _Family} = Naming) ->
    named({Host, Port}, Ips, Naming);
named({_Host, Port}, Ips, {port, _Default, Family}) ->
    [hornbeam_node_name:at(Port, Ip) || Ip <- Ips, hornbeam_node_name:family(Ip) =:= Family];
named({_Host, _Port}, Ips, {base, Name}) ->
    [hornbeam_node_name:at(Name, Ip) || Ip <- Ips].
