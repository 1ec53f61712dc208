%% How the nodes of one test find each other: each leaves its port in a folder. Stands in for
%% epmd (see "How to Implement an Alternative Node Discovery" in Erlang's manual), which would
%% outlive the test. Knows nothing of Hornbeam.
-module(meeting).

-export([start_link/0, register_node/2, register_node/3, listen_port_please/2,
         address_please/3, port_please/2, port_please/3, names/1]).

start_link() ->
    ignore.

register_node(Name, Port) ->
    register_node(Name, Port, inet).

register_node(Name, Port, _Family) ->
    %% Raw: the file server starts after the distribution.
    ok = file:write_file(place(Name), integer_to_list(Port), [raw]),
    {ok, rand:uniform(1 bsl 31)}.

listen_port_please(_Name, _Host) ->
    {ok, 0}.

address_please(_Name, Host, Family) ->
    inet:getaddr(Host, Family).

port_please(Name, Host) ->
    port_please(Name, Host, infinity).

port_please(Name, _Host, _Timeout) ->
    case file:read_file(place(Name)) of
        {ok, Port} -> {port, binary_to_integer(Port), 6};
        {error, _} -> noport
    end.

names(_Host) ->
    {error, address}.

place(Name) ->
    filename:join(os:getenv("HORNBEAM_MEETING"), Name).
