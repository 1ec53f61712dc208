%% How a response leaves: an app's, whole or in parts, or one of our own refusals.
%%
%% As commands of a stream handler or, for a refusal, from a request process. It knows Cowboy; it
%% knows no stream.
-module(hornbeam_response).

-export([start/5, part/3, last/2, refusal/2, refusal/3, refuse/2, refuse/3, headers/2, raw/2]).
-export([breaking/1, takeover/7]).
-export_type([response/0]).

-type response() :: {done | more, cowboy_stream:commands()}.

%% @doc Begin an app's response with the first part of its body; the rest when `More'.
-spec start(100..999, cowboy:http_headers(), Body :: binary(), More :: boolean(),
            Method :: binary()) -> response().
start(Status, Headers, Body, More, Method) ->
    send(status(Status), dated(Headers), Body, More, Method).

send(Status, Headers, _Body, _More, _Method) when Status =:= 204; Status =:= 304 ->
    {done, [{response, Status, Headers, <<>>}]};
send(Status, Headers, Body, false, <<"HEAD">>) ->
    {done, [{response, Status, with_length(length_of_get(Headers, Body), Headers), <<>>}]};
send(Status, Headers, Body, false, _Method) ->
    {done, [{response, Status, with_length(byte_size(Body), Headers), Body}]};
send(Status, Headers, Body, true, Method) ->
    {more, [{headers, Status, Headers} | parts(Body, nofin, Method)]}.

dated(Headers) ->
    maps:merge(#{<<"date">> => cowboy_clock:rfc1123()}, Headers).

%% The announced length is that of the body which a GET would get.
length_of_get(Headers, Body) ->
    case hornbeam_headers:content_length(Headers) of
        {ok, Length} when Length > 0 -> Length;
        _ -> byte_size(Body)
    end.

with_length(Length, Headers) ->
    Headers#{<<"content-length">> => integer_to_binary(Length)}.

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

%% @doc The next part of a body.
-spec part(Body :: binary(), More :: boolean(), Method :: binary()) -> response().
part(Body, true, Method) -> {more, parts(Body, nofin, Method)};
part(Body, false, Method) -> {done, parts(Body, fin, Method)}.

%% The answer to a HEAD has no body, however its length is said.
parts(_Body, _IsFin, <<"HEAD">>) -> [];
parts(<<>>, nofin, _Method) -> [];
parts(Body, IsFin, _Method) -> [{data, IsFin, Body}].

%% @doc An answer of our own, in the name of no app.
-spec refuse(400..599, cowboy_req:req()) -> cowboy_req:req().
refuse(Status, Req) ->
    refuse(Status, sentence(Status), Req).

%% @doc The same, with a reason of its own.
-spec refuse(400..599, Sentence :: binary(), cowboy_req:req()) -> cowboy_req:req().
refuse(Status, Sentence, Req) ->
    cowboy_req:reply(Status, headers(Status, Sentence), Sentence, Req).

%% @doc The same as commands of a stream handler.
-spec refusal(400..599, IsLast :: boolean()) -> cowboy_stream:commands().
refusal(Status, IsLast) ->
    refusal(Status, sentence(Status), IsLast).

-spec refusal(400..599, Sentence :: binary(), IsLast :: boolean()) -> cowboy_stream:commands().
refusal(Status, Sentence, IsLast) ->
    Headers = dated(last(IsLast, headers(Status, Sentence))),
    [{response, Status, Headers, Sentence}].

%% @doc The headers of a response after which its connection ends or, with false, need not end.
-spec last(IsLast :: boolean(), cowboy:http_headers()) -> cowboy:http_headers().
last(true, Headers) -> Headers#{<<"connection">> => <<"close">>};
last(false, Headers) -> Headers.

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
    Headers = maps:to_list(last(true, headers(Status, Sentence))),
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

%% @doc Break off a response that was begun so that the client sees that it is not whole: on HTTP/1
%% with the connection, which Cowboy would end neatly, and on HTTP/2 with the stream.
-spec breaking(IsHttp1 :: boolean()) -> cowboy_stream:commands().
breaking(true) -> [{switch_protocol, #{}, ?MODULE, broken}];
breaking(false) -> [{internal_error, broken_response, 'The response was broken off.'}].

%% @private
-spec takeover(pid(), ranch:ref(), inet:socket(), module(), cowboy:opts(), binary(), broken) ->
    no_return().
takeover(_Parent, _Ref, Socket, Transport, _Opts, _Buffer, broken) ->
    _ = Transport:close(Socket),
    exit({shutdown, broken_response}).
