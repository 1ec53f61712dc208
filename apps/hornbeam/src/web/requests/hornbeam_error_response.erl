%% What a client is told that gets no answer of an app: the status, a sentence, and how that is
%% counted. Pure but for the counting.
-module(hornbeam_error_response).

-export([fault/1, count/2, new/1, new/2]).
-export_type([fault/0, response/0]).

-type fault() ::
    bad_request
    | head_timeout
    | uri_too_long
    | fields_too_large
    | body_too_large
    | not_implemented
    | version_not_supported
    | full.
%% Why a request is none, or too large. Nobody knows what would follow it on its connection.

-type response() :: {Status :: 400..599, hornbeam_headers:fields(), Body :: binary()}.

%% @doc The response to a fault.
-spec fault(fault()) -> response().
fault(Fault) ->
    {Status, _Counter, Sentence} = told(Fault),
    {Status, Fields, Sentence} = new(Status, Sentence),
    {Status, Fields ++ hornbeam_request_id:of_nobody(), Sentence}.

%% @doc Count a fault.
-spec count(fault(), hornbeam_counters:ref()) -> ok.
count(Fault, Counters) ->
    {_Status, Counter, _Sentence} = told(Fault),
    hornbeam_counters:add(Counter, Counters).

told(bad_request) ->
    {400, bad_requests, <<"This is no HTTP request.\n">>};
told(head_timeout) ->
    {408, head_timeouts, <<"The request did not come in time.\n">>};
told(body_too_large) ->
    {413, bodies_too_large, <<"The request's body is larger than the server takes.\n">>};
told(uri_too_long) ->
    {414, uris_too_long, <<"The request line is longer than the server takes.\n">>};
told(fields_too_large) ->
    {431, fields_too_large, <<"The request's fields are larger than the server takes.\n">>};
told(not_implemented) ->
    {501, bad_requests, <<"This method is not served here.\n">>};
told(version_not_supported) ->
    {505, bad_requests, <<"This version of HTTP is not spoken here.\n">>};
told(full) ->
    {503, refused, sentence(503)}.

%% @doc The response in the name of no app.
-spec new(400..599) -> response().
new(Status) ->
    new(Status, sentence(Status)).

%% @doc The same, with a reason of its own.
-spec new(400..599, Sentence :: binary()) -> response().
new(Status, Sentence) ->
    Type = {<<"content-type">>, <<"text/plain; charset=utf-8">>},
    {Status, [Type | more_fields(Status)], Sentence}.

more_fields(503) -> [{<<"retry-after">>, <<"1">>}];
more_fields(426) -> [{<<"upgrade">>, <<"websocket">>}, {<<"sec-websocket-version">>, <<"13">>}];
more_fields(_Status) -> [].

sentence(400) -> <<"This is no WebSocket handshake.\n">>;
sentence(403) -> <<"The app refused the connection.\n">>;
sentence(408) -> <<"The request's body did not come in time.\n">>;
sentence(426) -> <<"WebSocket version 13 is spoken here.\n">>;
sentence(500) -> <<"Internal server error\n">>;
sentence(501) -> <<"WebSocket is the only protocol that is spoken over CONNECT.\n">>;
sentence(502) -> <<"The app's process ended before it answered.\n">>;
sentence(503) -> <<"The server has no room for another connection now.\n">>;
sentence(504) -> <<"The app did not answer in time.\n">>.
