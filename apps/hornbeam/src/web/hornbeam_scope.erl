%% From Cowboy's request to the scope that travels to the app. Pure.
-module(hornbeam_scope).

-export([http/1, http/2, websocket/1]).

%% @doc The scope of an HTTP request.
-spec http(cowboy_req:req()) -> hornbeam_wire:scope().
http(#{scheme := Scheme} = Req) ->
    scope(Scheme, Req).

%% @doc The same with the rest of a scope of the same fields, client and server.
-spec http(cowboy_req:req(), hornbeam_wire:packed_rest()) -> hornbeam_wire:scope().
http(#{scheme := Scheme} = Req, Rest) ->
    (line(Scheme, Req))#{rest => Rest}.

%% @doc The scope of a WebSocket's handshake.
-spec websocket(cowboy_req:req()) -> hornbeam_wire:scope().
websocket(#{scheme := <<"https">>} = Req) ->
    scope(<<"wss">>, Req);
websocket(Req) ->
    scope(<<"ws">>, Req).

scope(Scheme, #{peer := Peer, sock := Sock} = Req) ->
    (line(Scheme, Req))#{headers => headers(Req), client => client(Peer), server => server(Sock),
                         connect => maps:get(connect, Req, undefined)}.

line(Scheme, #{version := Version, method := Method, path := Path, qs := Query}) ->
    #{http_version => version(Version), scheme => Scheme, method => Method, raw_path => Path,
      query_string => Query}.

version('HTTP/1.1') -> <<"1.1">>;
version('HTTP/2') -> <<"2">>;
version('HTTP/1.0') -> <<"1.0">>.

headers(#{header_list := Headers}) ->
    Headers;
headers(#{headers := Headers}) ->
    maps:to_list(Headers).

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
