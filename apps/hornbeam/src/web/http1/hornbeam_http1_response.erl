%% A response as the bytes of HTTP/1.1, with the length of its body said one way (RFC 9112, 6).
%% Pure.
%%
%%   length   content-length, or the response is whole when it begins
%%   chunks   anything longer, for who speaks 1.1
%%   close    the same for 1.0: the end of the connection is that of the body
%%   none     HEAD, 204, 304: what the app gives is dropped
%%
%% Fields go out as the app gave them, in their order. What is about this one connection is ours to
%% say, but for the app's wish to end it.
-module(hornbeam_http1_response).

-export([whole/4, start/3, part/3, refusal/2, continue/0, switch/1]).
-export([is_last/1, ends_with_connection/1, status/1]).
-export_type([response/0, exchange/0]).

-type exchange() :: {Method :: binary(), hornbeam_request:version(), IsLast :: boolean(),
                     IsKept :: boolean()}.
%% What the request decides: `IsLast' when its connection ends with the response, `IsKept' when
%% that has to be said of one that does not (HTTP/1.0).

%% Bytes of such a part.
-define(SMALL, 1024).

-record(response, {
    body :: none | chunks | close | {length, non_neg_integer()},
    is_last :: boolean()
}).
-opaque response() :: #response{}.

%% @doc A response whose body is all there.
-spec whole(200..599, hornbeam_headers:fields(), Body :: binary(), exchange()) ->
    {iodata(), response()}.
whole(Status, Fields, Body, Exchange) ->
    {Own, Wish, Length} = own(Fields, Status),
    Response = #response{body = none, is_last = is_last(Wish, Exchange)},
    case body(Status, Exchange) of
        none when Length =:= none, Status =/= 204, Status =/= 304 ->
            {head(Status, Own, length_field(byte_size(Body)), Response, Exchange), Response};
        none ->
            {head(Status, Own, <<>>, Response, Exchange), Response};
        some when Length =:= byte_size(Body) ->
            {[head(Status, Own, <<>>, Response, Exchange), Body], Response};
        some ->
            Rest = lists:keydelete(<<"content-length">>, 1, Own),
            {[head(Status, Rest, length_field(byte_size(Body)), Response, Exchange), Body],
             Response}
    end.

%% @doc A refusal of what began with some bytes, after which the connection ends.
-spec refusal(hornbeam_error_response:fault(), Begin :: binary()) -> iodata().
refusal(Fault, <<"HEAD ", _/binary>>) ->
    refused(Fault, <<"HEAD">>);
refusal(Fault, _Begin) ->
    refused(Fault, <<"GET">>).

refused(Fault, Method) ->
    {Status, Fields, Body} = hornbeam_error_response:fault(Fault),
    {Bytes, _} = whole(Status, Fields, Body, {Method, 'HTTP/1.1', true, false}),
    Bytes.

%% @doc The begin of a response whose body comes in parts.
-spec start(200..599, hornbeam_headers:fields(), exchange()) -> {iodata(), response()}.
start(Status, Fields, {_Method, Version, _, _} = Exchange) ->
    {Own, Wish, Length} = own(Fields, Status),
    IsLast = is_last(Wish, Exchange),
    case body(Status, Exchange) of
        none -> started(Status, Own, <<>>, none, IsLast, Exchange);
        some when Length =/= none ->
            started(Status, Own, <<>>, {length, Length}, IsLast, Exchange);
        some when Version =:= 'HTTP/1.0' -> started(Status, Own, <<>>, close, true, Exchange);
        some ->
            started(Status, Own, <<"transfer-encoding: chunked\r\n">>, chunks, IsLast, Exchange)
    end.

started(Status, Own, Framing, Body, IsLast, Exchange) ->
    Response = #response{body = Body, is_last = IsLast},
    {head(Status, Own, Framing, Response, Exchange), Response}.

%% @doc The next part of a body. A body that is not as long as was said cannot be mended.
-spec part(Body :: binary(), More :: boolean(), response()) ->
    {ok, iodata(), response()} | {error, too_long | too_short}.
part(_Body, _More, #response{body = none} = Response) ->
    {ok, [], Response};
part(Body, _More, #response{body = close} = Response) ->
    {ok, Body, Response};
part(Body, More, #response{body = chunks} = Response) ->
    {ok, chunks(Body, More), Response};
part(Body, More, #response{body = {length, Left}} = Response) ->
    case Left - byte_size(Body) of
        TooMuch when TooMuch < 0 -> {error, too_long};
        Missing when Missing > 0, not More -> {error, too_short};
        Rest -> {ok, Body, Response#response{body = {length, Rest}}}
    end.

chunks(<<>>, true) -> [];
chunks(<<>>, false) -> <<"0\r\n\r\n">>;
%% Of what is small a copy costs less than three parts of a write.
chunks(Body, true) when byte_size(Body) < ?SMALL ->
    <<(integer_to_binary(byte_size(Body), 16))/binary, "\r\n", Body/binary, "\r\n">>;
chunks(Body, true) -> [chunk_size(Body), Body, <<"\r\n">>];
chunks(Body, false) -> [chunk_size(Body), Body, <<"\r\n0\r\n\r\n">>].

chunk_size(Body) -> [integer_to_binary(byte_size(Body), 16), <<"\r\n">>].

%% @doc Whether the end of the connection is that of the body.
-spec ends_with_connection(response()) -> boolean().
ends_with_connection(#response{body = Body}) -> Body =:= close.

%% @doc Whether the connection ends with the response.
-spec is_last(response()) -> boolean().
is_last(#response{is_last = IsLast}) -> IsLast.

%% @doc What tells a client to send the body that it holds back.
-spec continue() -> iodata().
continue() -> <<"HTTP/1.1 100 Continue\r\n\r\n">>.

%% @doc The head of the response that goes over to another protocol.
-spec switch(hornbeam_headers:fields()) -> iodata().
switch(Fields) ->
    [status_line(101), lines(Fields), hornbeam_own_headers:lines(Fields), <<"\r\n">>].

%% The head.

head(Status, Own, Framing, Response, Exchange) ->
    [status_line(Status), lines(Own), Framing, hornbeam_own_headers:lines(Own),
     connection(Status, Response, Exchange), <<"\r\n">>].

lines(Fields) ->
    [[Name, <<": ">>, Value, <<"\r\n">>] || {Name, Value} <- Fields].

connection(426, #response{is_last = true}, _Exchange) -> <<"connection: close, upgrade\r\n">>;
connection(426, _Response, _Exchange) -> <<"connection: upgrade\r\n">>;
connection(_Status, #response{is_last = true}, _Exchange) -> <<"connection: close\r\n">>;
connection(_Status, _Response, {_, _, _, true}) -> <<"connection: keep-alive\r\n">>;
connection(_Status, _Response, _Exchange) -> [].

length_field(Length) ->
    [<<"content-length: ">>, integer_to_binary(Length), <<"\r\n">>].

is_last(Wish, {_, _, IsLast, _}) -> Wish orelse IsLast.

%% The answer to HEAD, and these statuses, have no body (RFC 9110, 6.4.1).
body(_Status, {<<"HEAD">>, _, _, _}) -> none;
body(204, _Exchange) -> none;
body(304, _Exchange) -> none;
body(_Status, _Exchange) -> some.

%% The app's fields that go out, whether it wants the connection to end, and the length it says.
%% A 204 has none (RFC 9110, 8.6).
own(Fields, Status) ->
    own(Fields, Status, [], false, none).

own([], _Status, Own, Wish, Length) ->
    {lists:reverse(Own), Wish, Length};
own([{<<"content-length">>, _} | Fields], 204, Own, Wish, Length) ->
    own(Fields, 204, Own, Wish, Length);
own([{<<"content-length">>, Value} = Field | Fields], Status, Own, Wish, none) ->
    own(Fields, Status, [Field | Own], Wish, binary_to_integer(Value));
own([{<<"content-length">>, _Again} | Fields], Status, Own, Wish, Length) ->
    own(Fields, Status, Own, Wish, Length);
own([{<<"connection">>, Value} | Fields], Status, Own, Wish, Length) ->
    own(Fields, Status, Own, Wish orelse wants_close(Value), Length);
%% Who is told to upgrade is told to what (RFC 9110, 15.5.22).
own([{<<"upgrade">>, _} = Field | Fields], 426, Own, Wish, Length) ->
    own(Fields, 426, [Field | Own], Wish, Length);
own([{Name, _} | Fields], Status, Own, Wish, Length)
        when Name =:= <<"transfer-encoding">>; Name =:= <<"keep-alive">>; Name =:= <<"upgrade">> ->
    own(Fields, Status, Own, Wish, Length);
own([Field | Fields], Status, Own, Wish, Length) ->
    own(Fields, Status, [Field | Own], Wish, Length).

wants_close(Value) ->
    lists:member(<<"close">>, hornbeam_headers:items(Value)).

%% @doc A status with its reason.
-spec status(100..599) -> binary().
status(Status) ->
    <<(integer_to_binary(Status))/binary, $\s, (reason(Status))/binary>>.

status_line(200) -> <<"HTTP/1.1 200 OK\r\n">>;
status_line(Status) ->
    [<<"HTTP/1.1 ">>, status(Status), <<"\r\n">>].

%% IANA's registry of HTTP status codes.
reason(101) -> <<"Switching Protocols">>;
reason(200) -> <<"OK">>;
reason(201) -> <<"Created">>;
reason(202) -> <<"Accepted">>;
reason(203) -> <<"Non-Authoritative Information">>;
reason(204) -> <<"No Content">>;
reason(205) -> <<"Reset Content">>;
reason(206) -> <<"Partial Content">>;
reason(207) -> <<"Multi-Status">>;
reason(208) -> <<"Already Reported">>;
reason(226) -> <<"IM Used">>;
reason(300) -> <<"Multiple Choices">>;
reason(301) -> <<"Moved Permanently">>;
reason(302) -> <<"Found">>;
reason(303) -> <<"See Other">>;
reason(304) -> <<"Not Modified">>;
reason(305) -> <<"Use Proxy">>;
reason(307) -> <<"Temporary Redirect">>;
reason(308) -> <<"Permanent Redirect">>;
reason(400) -> <<"Bad Request">>;
reason(401) -> <<"Unauthorized">>;
reason(402) -> <<"Payment Required">>;
reason(403) -> <<"Forbidden">>;
reason(404) -> <<"Not Found">>;
reason(405) -> <<"Method Not Allowed">>;
reason(406) -> <<"Not Acceptable">>;
reason(407) -> <<"Proxy Authentication Required">>;
reason(408) -> <<"Request Timeout">>;
reason(409) -> <<"Conflict">>;
reason(410) -> <<"Gone">>;
reason(411) -> <<"Length Required">>;
reason(412) -> <<"Precondition Failed">>;
reason(413) -> <<"Content Too Large">>;
reason(414) -> <<"URI Too Long">>;
reason(415) -> <<"Unsupported Media Type">>;
reason(416) -> <<"Range Not Satisfiable">>;
reason(417) -> <<"Expectation Failed">>;
reason(418) -> <<"I'm a teapot">>;
reason(421) -> <<"Misdirected Request">>;
reason(422) -> <<"Unprocessable Content">>;
reason(423) -> <<"Locked">>;
reason(424) -> <<"Failed Dependency">>;
reason(425) -> <<"Too Early">>;
reason(426) -> <<"Upgrade Required">>;
reason(428) -> <<"Precondition Required">>;
reason(429) -> <<"Too Many Requests">>;
reason(431) -> <<"Request Header Fields Too Large">>;
reason(451) -> <<"Unavailable For Legal Reasons">>;
reason(500) -> <<"Internal Server Error">>;
reason(501) -> <<"Not Implemented">>;
reason(502) -> <<"Bad Gateway">>;
reason(503) -> <<"Service Unavailable">>;
reason(504) -> <<"Gateway Timeout">>;
reason(505) -> <<"HTTP Version Not Supported">>;
reason(506) -> <<"Variant Also Negotiates">>;
reason(507) -> <<"Insufficient Storage">>;
reason(508) -> <<"Loop Detected">>;
reason(511) -> <<"Network Authentication Required">>;
reason(_Unknown) -> <<"Unknown">>.
