%% How a response leaves: an app's, whole or in parts, or one of our own refusals.
%%
%% HTTP exchanges and WebSocket denials share it. It knows Cowboy; it knows no stream.
-module(hornbeam_response).

-export([start/5, part/3, refuse/2, refuse/3, headers/2, raw/2, break/1, breaking/1, takeover/7]).
-export_type([progress/0]).

-type progress() :: {done | more, cowboy_req:req()}.

%% @doc Begin an app's response with the first part of its body; the rest when `More'.
-spec start(100..999, [{binary(), binary()}], Body :: binary(), More :: boolean(),
            cowboy_req:req()) -> progress().
start(Status, AppHeaders, Body, More, Req0) ->
    {Headers, Req} = hornbeam_headers:response(AppHeaders, Req0),
    send(status(Status), Headers, Body, More, Req).

send(Status, Headers, _Body, _More, Req) when Status =:= 204; Status =:= 304 ->
    {done, cowboy_req:reply(Status, Headers, <<>>, Req)};
send(Status, Headers, Body, false, #{method := <<"HEAD">>} = Req) ->
    {done, reply_to_head(Status, Headers, Body, Req)};
send(Status, Headers, Body, false, Req) ->
    {done, cowboy_req:reply(Status, Headers, Body, Req)};
send(Status, Headers, Body, true, Req0) ->
    Req = cowboy_req:stream_reply(Status, Headers, Req0),
    {more, send_part(Body, nofin, Req)}.

%% The announced length is that of the body which a GET would get; no file is read for a HEAD.
reply_to_head(Status, Headers, Body, Req) ->
    case hornbeam_headers:content_length(Headers) of
        {ok, Length} when Length > 0 ->
            cowboy_req:reply(Status, Headers, {sendfile, 0, Length, "/dev/null"}, Req);
        _ ->
            cowboy_req:reply(Status, Headers, Body, Req)
    end.

%% Cowboy has the reason phrases of the registered codes only.
status(200) ->
    200;
status(Status) ->
    try
        _ = cow_http:response(Status, 'HTTP/1.1', []),
        Status
    catch
        error:function_clause -> <<(integer_to_binary(Status))/binary, " Unknown">>
    end.

%% @doc The next part of a body. Waits while the client's connection is behind.
-spec part(Body :: binary(), More :: boolean(), cowboy_req:req()) -> progress().
part(Body, true, Req) -> {more, send_part(Body, nofin, Req)};
part(Body, false, Req) -> {done, send_part(Body, fin, Req)}.

send_part(<<>>, nofin, Req) ->
    Req;
send_part(Body, IsFin, Req) ->
    ok = cowboy_req:stream_body(Body, IsFin, Req),
    Req.

%% @doc An answer of our own, in the name of no app.
-spec refuse(400..599, cowboy_req:req()) -> cowboy_req:req().
refuse(Status, Req) ->
    refuse(Status, sentence(Status), Req).

%% @doc The same, with a reason of its own.
-spec refuse(400..599, Sentence :: binary(), cowboy_req:req()) -> cowboy_req:req().
refuse(Status, Sentence, Req) ->
    cowboy_req:reply(Status, headers(Status, Sentence), Sentence, Req).

%% @doc The headers of an answer of our own, for who sends it without a request.
-spec headers(400..599, Sentence :: binary()) -> cowboy:http_headers().
headers(Status, Sentence) ->
    Headers = #{<<"content-type">> => <<"text/plain; charset=utf-8">>,
                <<"content-length">> => integer_to_binary(byte_size(Sentence)),
                <<"server">> => <<"hornbeam">>},
    maps:merge(Headers, more_headers(Status)).

%% @doc The bytes of an answer of our own that ends its connection.
-spec raw(400..599, Sentence :: binary()) -> iodata().
raw(Status, Sentence) ->
    Headers = maps:to_list((headers(Status, Sentence))#{<<"connection">> => <<"close">>}),
    [cow_http:response(Status, 'HTTP/1.1', Headers), Sentence].

more_headers(503) -> #{<<"retry-after">> => <<"1">>};
more_headers(426) -> #{<<"sec-websocket-version">> => <<"13">>};
more_headers(_) -> #{}.

sentence(400) -> <<"This is no WebSocket handshake.\n">>;
sentence(403) -> <<"The app refused the connection.\n">>;
sentence(426) -> <<"WebSocket version 13 is spoken here.\n">>;
sentence(500) -> <<"Internal server error\n">>;
sentence(501) -> <<"WebSocket is the only protocol that is spoken over CONNECT.\n">>;
sentence(502) -> <<"The app's process ended before it answered.\n">>;
sentence(503) -> <<"The server has no room for another connection now.\n">>;
sentence(504) -> <<"The app did not answer in time.\n">>.

%% @doc End a response that was begun so that the client sees that it is not whole: the
%% connection (HTTP/1) or the stream (HTTP/2) is broken off. Never returns.
-spec break(cowboy_req:req()) -> no_return().
break(#{version := 'HTTP/2'}) ->
    exit({shutdown, broken_response});
break(Req) ->
    %% Cowboy ends a chunked body neatly when the request's process fails or the connection is
    %% told to end: so the connection is handed over, to be closed.
    _ = [cowboy_req:cast(Command, Req) || Command <- breaking(true)],
    exit({shutdown, broken_response}).

%% @doc The commands of a stream handler that break off what was begun, on HTTP/1 or HTTP/2.
-spec breaking(IsHttp1 :: boolean()) -> cowboy_stream:commands().
breaking(true) -> [{switch_protocol, #{}, ?MODULE, broken}];
breaking(false) -> [{internal_error, broken_response, 'The response was broken off.'}].

%% @private
-spec takeover(pid(), ranch:ref(), inet:socket(), module(), cowboy:opts(), binary(), broken) ->
    no_return().
takeover(_Parent, _Ref, Socket, Transport, _Opts, _Buffer, broken) ->
    _ = Transport:close(Socket),
    exit({shutdown, broken_response}).
