%% What an app may say to a client: statuses, headers, a subprotocol, close codes.
%%
%% Python checks the same where the app says it. Here it is checked once more before it becomes
%% bytes for a client, because a worker may be anybody: neither a response nor a handshake can be
%% split, and no frame goes out that a client must refuse. Pure.
%%
%% A header about the connection is either ours to say, and dropped where the bytes are made, since
%% apps that pass on the answers of other servers send them too: connection, keep-alive, upgrade and
%% transfer-encoding. Or nobody who means well sends it: te is a request's, trailer announces what
%% no app can send, and proxy-connection is none at all. Those are a fault.
-module(hornbeam_app_message).

-export([read/2, check/2, fault/1, is_close_code/1, is_close_reason/1]).
-export_type([limits/0, fault/0]).

-type limits() :: #{limit_response_head := pos_integer(),
                    limit_response_fields := pos_integer(), _ => _}.
%% The options of an app, or these of them.

-type fault() :: out_of_order | hornbeam_packet:reason() | bad_status | bad_header | head_too_large
               | bad_content_length | bad_subprotocol | bad_close.

%% Of a control frame (RFC 6455, 5.5), less the code.
-define(MAX_REASON, 123).
%% Digits; more bytes than that nobody has.
-define(MAX_LENGTH, 18).

%% What a field takes beside its name and value (bytes).
-define(FIELD, 4).

%% A worker that keeps the limits may add a length that the app has not said (fields, bytes).
-define(OWN_FIELDS, 1).
-define(OWN_BYTES, 64).

%% @doc A packet as a message that may go on to its client.
-spec read(Packet :: binary(), limits()) -> {ok, hornbeam_packet:message()} | {error, fault()}.
read(Packet, Limits) ->
    case hornbeam_packet:decode(Packet) of
        {ok, {Hot, _, _}} = Read when Hot =:= send_text; Hot =:= send_bytes -> Read;
        {ok, Message} = Read -> checked(check(Message, Limits), Read);
        {error, _} = Error -> Error
    end.

checked(ok, Read) -> Read;
checked(Error, _Read) -> Error.

%% @doc Why what was read is not what its receiver can take now.
-spec fault({ok, hornbeam_packet:message()} | {error, fault()}) -> fault().
fault({error, Fault}) -> Fault;
fault({ok, _}) -> out_of_order.

%% @doc Whether a message of an app may go on to its client.
-spec check(hornbeam_packet:message(), limits()) -> ok | {error, fault()}.
check({response_start, _, Status, Headers, _, _}, Limits) ->
    head(Status, Headers, Limits);
check({response, _, Status, Headers, _}, Limits) ->
    head(Status, Headers, Limits);
check({event_stream, _, Status, Headers, _}, Limits) ->
    head(Status, Headers, Limits);
check({accept, _, Subprotocol, Headers}, Limits) ->
    case Subprotocol =:= undefined orelse hornbeam_headers:is_token(Subprotocol) of
        true -> accept_headers(Headers, Limits);
        false -> {error, bad_subprotocol}
    end;
check({close, _, Code, Reason}, _Limits) ->
    ok_if(is_close_code(Code) andalso is_close_reason(Reason), bad_close);
check(_Other, _Limits) ->
    ok.

head(Status, Headers, Limits) when Status >= 200, Status =< 599 -> headers(Headers, Limits);
head(_Status, _Headers, _Limits) -> {error, bad_status}.

%% What is agreed on is said by the engine, and the subprotocol by its own field.
accept_headers(Headers, Limits) ->
    case lists:any(fun({Name, _}) -> is_handshakes(Name) end, Headers) of
        true -> {error, bad_header};
        false -> headers(Headers, Limits)
    end.

is_handshakes(<<"sec-websocket-", _/binary>>) -> true;
is_handshakes(_Name) -> false.

%% @doc Whether a close frame may have this code (RFC 6455, 7.4, and IANA's registry).
-spec is_close_code(integer()) -> boolean().
is_close_code(Code) ->
    Code >= 1000 andalso Code =< 1003 orelse Code >= 1007 andalso Code =< 1014
        orelse Code >= 3000 andalso Code =< 4999.

%% @doc Whether a close frame may have this reason.
-spec is_close_reason(binary()) -> boolean().
is_close_reason(Reason) ->
    byte_size(Reason) =< ?MAX_REASON andalso hornbeam_utf8:is_valid(Reason).

ok_if(true, _Fault) -> ok;
ok_if(false, Fault) -> {error, Fault}.

headers(Headers, #{limit_response_head := Bytes, limit_response_fields := Fields}) ->
    headers(Headers, Fields + ?OWN_FIELDS, Bytes + ?OWN_BYTES).

headers(_Headers, Fields, Bytes) when Fields < 0; Bytes < 0 ->
    {error, head_too_large};
headers([], _Fields, _Bytes) ->
    ok;
headers([{Name, Value} | Headers], Fields, Bytes) ->
    case header(Name, Value) of
        ok ->
            headers(Headers, Fields - 1, Bytes - byte_size(Name) - byte_size(Value) - ?FIELD);
        Fault ->
            {error, Fault}
    end.

header(<<"content-length">>, Value) ->
    case is_length(Value) of
        true -> ok;
        false -> bad_content_length
    end;
header(<<"te">>, _Value) -> bad_header;
header(<<"trailer">>, _Value) -> bad_header;
header(<<"proxy-connection">>, _Value) -> bad_header;
header(Name, Value) ->
    case is_name(Name) andalso hornbeam_headers:is_clean(Value) of
        true -> ok;
        false -> bad_header
    end.

is_length(Value) ->
    byte_size(Value) =< ?MAX_LENGTH andalso hornbeam_headers:is_number(Value).

%% Names are in lower case, as those of our own headers are, or one could pass for another.
is_name(Name) ->
    hornbeam_headers:is_token(Name) andalso hornbeam_headers:lower(Name) =:= Name.
