%% Where a request that came without TLS is sent: to the same host and path over TLS. Pure.
%%
%% The host is the one that the client has named, without its port; it is no answer to who names
%% none. So a page can send a visitor only where the visitor's own request went, and with the option
%% allowed_hosts only to hosts that are served.
-module(hornbeam_redirect).

-include("hornbeam_request.hrl").

-export([location/2]).

%% @doc The URL, of a server that speaks TLS at a port.
-spec location(inet:port_number(), hornbeam_request:request()) -> {ok, binary()} | error.
location(Port, Request) ->
    case hornbeam_request:field(<<"host">>, Request) of
        undefined -> error;
        Value -> location(hornbeam_access:host(Value), Port, Request)
    end.

location({ok, Host, _Port}, Port, #request{path = Path, query = Query}) ->
    {ok, iolist_to_binary(["https://", Host, port(Port), rooted(Path), query(Query)])};
location(error, _Port, _Request) ->
    error.

port(443) -> [];
port(Port) -> [$:, integer_to_list(Port)].

%% What is no path, such as the asterisk of OPTIONS, would become a part of the host's name.
rooted(<<"/", _/binary>> = Path) -> Path;
rooted(_Other) -> <<"/">>.

query(<<>>) -> [];
query(Query) -> [$?, Query].
