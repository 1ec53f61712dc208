%% What an app may answer a client with: statuses, headers, a subprotocol, close codes.
%%
%% Python checks the same where the app says it. Here it is checked once more before it becomes
%% bytes for a client, because a worker may be anybody: neither a response nor a handshake can be
%% split, and no frame goes out that a client must refuse. Pure.
-module(hornbeam_answer).

-export([read/1, check/1, fault/1, is_close_code/1, is_close_reason/1]).
-export_type([fault/0]).

-type fault() :: out_of_order | hornbeam_wire:reason() | bad_status | bad_header
               | bad_content_length | bad_subprotocol | bad_close.

%% Of a control frame (RFC 6455, 5.5), less the code.
-define(MAX_REASON, 123).
%% Digits; more bytes than that nobody has.
-define(MAX_LENGTH, 18).

%% @doc A frame as a message that may go on to its client.
-spec read(Frame :: binary()) -> {ok, hornbeam_wire:message()} | {error, fault()}.
read(Frame) ->
    case hornbeam_wire:decode(Frame) of
        {ok, {Hot, _, _}} = Read when Hot =:= send_text; Hot =:= send_bytes -> Read;
        {ok, Message} = Read -> checked(check(Message), Read);
        {error, _} = Error -> Error
    end.

checked(ok, Read) -> Read;
checked(Error, _Read) -> Error.

%% @doc Why what was read is not what its receiver can take now.
-spec fault({ok, hornbeam_wire:message()} | {error, fault()}) -> fault().
fault({error, Fault}) -> Fault;
fault({ok, _}) -> out_of_order.

%% @doc Whether a message of an app may go on to its client.
-spec check(hornbeam_wire:message()) -> ok | {error, fault()}.
check({response_start, _, Status, Headers, _, _}) when Status >= 200, Status =< 599 ->
    headers(Headers);
check({response_start, _, _, _, _, _}) ->
    {error, bad_status};
check({accept, _, Subprotocol, Headers}) ->
    case Subprotocol =:= undefined orelse hornbeam_headers:is_token(Subprotocol) of
        true -> headers(Headers);
        false -> {error, bad_subprotocol}
    end;
check({close, _, Code, Reason}) ->
    ok_if(is_close_code(Code) andalso is_close_reason(Reason), bad_close);
check(_Other) ->
    ok.

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

headers([]) ->
    ok;
headers([{<<"content-length">>, Value} | Headers]) ->
    case is_length(Value) of
        true -> headers(Headers);
        false -> {error, bad_content_length}
    end;
headers([{Name, Value} | Headers]) ->
    case is_name(Name) andalso hornbeam_headers:is_value(Value) of
        true -> headers(Headers);
        false -> {error, bad_header}
    end.

is_length(Value) ->
    byte_size(Value) =< ?MAX_LENGTH andalso hornbeam_headers:is_number(Value).

%% Names are in lower case, as those of our own headers are, or one could pass for another.
is_name(Name) ->
    hornbeam_headers:is_token(Name) andalso hornbeam_headers:lower(Name) =:= Name.
