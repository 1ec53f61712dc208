%% What Erlang's distribution asks in the place of epmd: a node's name says its port.
%%
%% See "How to Implement an Alternative Node Discovery for Erlang Distribution" in OTP's manual; the
%% emulator gets it by its flag -epmd_module. It is no process.
-module(hornbeam_cluster_epmd).

-export([start_link/0, register_node/2, register_node/3, listen_port_please/2, address_please/3,
         port_please/2, port_please/3, names/1]).

%% The protocol of OTP 23 and later.
-define(VERSION, 6).

%% Let the node choose a number for this life of it.
-define(CREATION, -1).

-spec start_link() -> ignore.
start_link() -> ignore.

-spec register_node(Name :: atom() | string(), inet:port_number()) -> {ok, integer()}.
register_node(_Name, _Port) -> {ok, ?CREATION}.

-spec register_node(Name :: atom() | string(), inet:port_number(), Family :: atom()) ->
    {ok, integer()}.
register_node(_Name, _Port, _Family) -> {ok, ?CREATION}.

-spec listen_port_please(Name :: atom() | string(), Host :: string()) ->
    {ok, inet:port_number()}.
listen_port_please(Name, _Host) ->
    case hornbeam_node_name:port(Name) of
        none -> {ok, 0};
        Port -> {ok, Port}
    end.

-spec address_please(Name :: string(), Host :: string(), inet:address_family()) ->
    {ok, inet:ip_address()} | {error, inet:posix()}.
address_please(_Name, Host, Family) ->
    inet:getaddr(Host, Family).

-spec port_please(Name :: atom() | string(), Host :: term()) ->
    {port, inet:port_number(), Version :: pos_integer()} | noport.
port_please(Name, _Host) ->
    case hornbeam_node_name:port(Name) of
        none -> noport;
        Port -> {port, Port, ?VERSION}
    end.

-spec port_please(Name :: atom() | string(), Host :: term(), timeout()) ->
    {port, inet:port_number(), Version :: pos_integer()} | noport.
port_please(Name, Host, _Timeout) ->
    port_please(Name, Host).

-spec names(Host :: term()) -> {error, address}.
names(_Host) -> {error, address}.
