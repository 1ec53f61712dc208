%% From a request to the scope that travels to the app. Pure.
-module(hornbeam_scope).

-include("hornbeam_request.hrl").

-export([http/1, websocket/1, packed/1, client/1]).

%% @doc The scope of an HTTP request.
-spec http(hornbeam_request:request()) -> hornbeam_wire:scope().
http(#request{scheme = Scheme} = Request) ->
    scope(Scheme, Request).

%% @doc The scope of a WebSocket's handshake.
-spec websocket(hornbeam_request:request()) -> hornbeam_wire:scope().
websocket(#request{scheme = <<"https">>} = Request) ->
    scope(<<"wss">>, Request);
websocket(Request) ->
    scope(<<"ws">>, Request).

%% @doc The request with all of its scope packed that is the same for another one with the same
%% fields, client and server.
-spec packed(Request) -> Request when Request :: hornbeam_request:request().
packed(Request) ->
    Request#request{rest = hornbeam_wire:pack_rest(http(Request))}.

scope(Scheme, #request{rest = undefined} = Request) ->
    #request{fields = Fields, peer = Peer, server = Server} = Request,
    (line(Scheme, Request))#{headers => Fields, client => client(Peer), server => server(Server),
                             connect => Request#request.connect};
scope(Scheme, #request{rest = Rest} = Request) ->
    (line(Scheme, Request))#{rest => Rest}.

line(Scheme, #request{version = Version, method = Method, below = Path} = Request) ->
    #request{query = Query, tls = Tls} = Request,
    #{tls => Tls, http_version => version(Version), scheme => Scheme, method => Method,
      raw_path => Path, query_string => Query}.

version('HTTP/1.1') -> <<"1.1">>;
version('HTTP/2') -> <<"2">>;
version('HTTP/1.0') -> <<"1.0">>.

%% @doc A peer as apps see it.
-spec client(hornbeam_request:address()) -> {binary(), inet:port_number()} | undefined.
client({Ip, Port}) when is_tuple(Ip) -> {address(Ip), Port};
client(_Local) -> undefined.

server({Ip, Port}) when is_tuple(Ip) -> {address(Ip), Port};
server({local, Path}) -> {Path, undefined};
server(_) -> undefined.

%% An IPv4 client of a dual-stack socket is shown as what it is.
address({0, 0, 0, 0, 0, 16#ffff, High, Low}) ->
    address({High bsr 8, High band 255, Low bsr 8, Low band 255});
address(Ip) ->
    list_to_binary(inet:ntoa(Ip)).
