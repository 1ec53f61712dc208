%% What an app may answer a client with: statuses, headers, a subprotocol, close codes.
%%
%% Python checks the same where the app says it. Here it is checked once more before it becomes
%% bytes for a client, because a worker may be anybody: neither a response nor a handshake can be
%% split, and no frame goes out that a client must refuse. Pure.
-module(hornbeam_answer).

-export([read/1, check/1, fault/1]).
-export_type([fault/0]).

-type fault() :: out_of_order | hornbeam_wire:reason() | bad_status | bad_header
               | bad_content_length | bad_subprotocol | bad_close.

%% Of a control frame (RFC 6455, 5.5), less the code.
-define(MAX_REASON, 123).
%% Digits; more bytes than that nobody has.
-define(MAX_LENGTH, 18).

%% RFC 9110, 5.6.2.
-define(IS_TOKEN(C),
    (C >= $a andalso C =< $z orelse C >= $A andalso C =< $Z orelse C >= $0 andalso C =< $9
        orelse C =:= $! orelse C =:= $# orelse C =:= $$ orelse C =:= $% orelse C =:= $&
        orelse C =:= $' orelse C =:= $* orelse C =:= $+ orelse C =:= $- orelse C =:= $.
        orelse C =:= $^ orelse C =:= $_ orelse C =:= $` orelse C =:= $| orelse C =:= $~)).

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
check({response_start, _, Status, Headers, _, _}) when Status >= 200, Status =< 999 ->
    headers(Headers);
check({response_start, _, _, _, _, _}) ->
    {error, bad_status};
check({accept, _, Subprotocol, Headers}) ->
    case Subprotocol =:= undefined orelse is_token(Subprotocol) of
        true -> headers(Headers);
        false -> {error, bad_subprotocol}
    end;
check({close, _, Code, Reason}) ->
    IsRight = is_sendable(Code) andalso byte_size(Reason) =< ?MAX_REASON
        andalso hornbeam_msgpack:is_utf8(Reason),
    ok_if(IsRight, bad_close);
check(_Other) ->
    ok.

%% RFC 6455, 7.4, and IANA's registry of close codes.
is_sendable(Code) ->
    Code >= 1000 andalso Code =< 1003 orelse Code >= 1007 andalso Code =< 1014
        orelse Code >= 3000 andalso Code =< 4999.

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
    case is_name(Name) andalso is_value(Value) of
        true -> headers(Headers);
        false -> {error, bad_header}
    end.

is_length(Value) ->
    Value =/= <<>> andalso byte_size(Value) =< ?MAX_LENGTH
        andalso << <<C>> || <<C>> <= Value, C >= $0, C =< $9 >> =:= Value.

%% Names are in lower case, as those of our own headers are, or one could pass for another.
is_name(Name) ->
    is_token(Name) andalso << <<C>> || <<C>> <= Name, C < $A orelse C > $Z >> =:= Name.

is_token(<<>>) -> false;
is_token(Text) -> << <<C>> || <<C>> <= Text, ?IS_TOKEN(C) >> =:= Text.

is_value(Value) ->
    binary:match(Value, [<<"\r">>, <<"\n">>, <<0>>]) =:= nomatch.
