%% Requests as an engine would have read them.
-module(hornbeam_requests).

-include_lib("hornbeam/src/web/requests/hornbeam_request.hrl").

-export([new/1, new/2, with_peer/2, peer/1, scheme/1, fields/1, connect/1, mount/1, below/1]).

%% A GET with some fields, in their order or as a map, and no body.
new(Fields) ->
    new(<<"/">>, Fields).

new(Path, Fields) when is_map(Fields) ->
    new(Path, maps:to_list(Fields));
new(Path, Fields) ->
    #request{version = 'HTTP/1.1', method = <<"GET">>, path = Path, below = Path, query = <<>>,
             fields = Fields, scheme = <<"http">>, peer = {{127, 0, 0, 1}, 1},
             server = {{127, 0, 0, 1}, 80}, socket = {ranch_tcp, none}}.

with_peer(Peer, Request) -> Request#request{peer = Peer}.

peer(#request{peer = Peer}) -> Peer.
scheme(#request{scheme = Scheme}) -> Scheme.
fields(#request{fields = Fields}) -> Fields.
connect(#request{connect = Connect}) -> Connect.
mount(#request{mount = Mount}) -> Mount.
below(#request{below = Below}) -> Below.
