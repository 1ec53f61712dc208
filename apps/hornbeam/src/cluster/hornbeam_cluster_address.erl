%% Which of its addresses a node is known by in its cluster, when nobody says which.
%%
%% That from which it reaches those whom it is to join; and where none of them is known yet, the
%% only one that others could reach. It sends nothing.
-module(hornbeam_cluster_address).

-export([choose/1]).
-export([ask/1]).

%% What it may take to ask who is to be joined (ms). Whatever it fails with, hornbeam_joiner tells.
-define(LONGEST, 15000).

%% Any port does: nothing is sent there.
-define(ANY_PORT, 9).

%% @doc The address, or a sentence that says why there is none.
-spec choose(hornbeam_cluster_option:cluster()) ->
    {ok, inet:ip_address()} | {error, unicode:chardata()}.
choose(#{address := Ip}) when Ip =/= undefined ->
    {ok, Ip};
choose(#{join := Join}) ->
    case lists:filtermap(fun source/1, known(Join)) of
        [Ip | _] -> {ok, Ip};
        [] -> only(reachable())
    end.

known(Join) ->
    {Pid, Ref} = spawn_monitor(?MODULE, ask, [Join]),
    receive
        {'DOWN', Ref, process, Pid, {known, Ips}} -> Ips;
        {'DOWN', Ref, process, Pid, _Failure} -> []
    after ?LONGEST ->
        true = erlang:demonitor(Ref, [flush]),
        true = exit(Pid, kill),
        []
    end.

%% @private
-spec ask(hornbeam_cluster_option:join()) -> no_return().
ask(Join) -> exit({known, hornbeam_discovery:addresses(Join)}).

%% A socket that is connected knows where it would send from.
source(Ip) ->
    {ok, Socket} = gen_udp:open(0, [hornbeam_node_name:family(Ip)]),
    try
        with_address(gen_udp:connect(Socket, Ip, ?ANY_PORT), Socket)
    after
        gen_udp:close(Socket)
    end.

with_address(ok, Socket) ->
    {ok, {Ip, _Port}} = inet:sockname(Socket),
    {true, Ip};
with_address({error, _}, _Socket) ->
    false.

only([Ip]) ->
    {ok, Ip};
only([]) ->
    {error, "this machine has no address that other nodes could reach: say which, by the address "
            "of cluster"};
only(Ips) ->
    {error, ["none of those that are to be joined is known yet, and this machine has several "
             "addresses: say which is the cluster's, by the address of cluster: ",
             lists:join(", ", lists:map(fun inet:ntoa/1, Ips))]}.

%% IPv4, where there is any.
reachable() ->
    {ok, Interfaces} = inet:getifaddrs(),
    Ips = lists:usort([Ip || {_Name, Options} <- Interfaces, {addr, Ip} <- Options,
                             is_reachable(Ip)]),
    case [Ip || Ip <- Ips, tuple_size(Ip) =:= 4] of
        [] -> Ips;
        OfVersion4 -> OfVersion4
    end.

is_reachable({127, _, _, _}) -> false;
is_reachable({0, 0, 0, 0, 0, 0, 0, 1}) -> false;
is_reachable({16#fe80, _, _, _, _, _, _, _}) -> false;
is_reachable(_Ip) -> true.
