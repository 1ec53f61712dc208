%% The id of a request (option request_id): from a trusted proxy, or made here. Pure but for chance.
%%
%% It is the request's field x-request-id, where apps, the access log and middleware look for it,
%% and is in the response. What others than trusted peers say of it is dropped, so that nobody can
%% have his requests taken for another's.
-module(hornbeam_request_id).

-include("hornbeam_request.hrl").

-export([identify/2, answer/2, field/1, of_nobody/0]).

-define(FIELD, <<"x-request-id">>).

%% The most of a proxy's that is taken (bytes); a UUID has 36.
-define(LONGEST, 128).

%% @doc The request with its id, if it is to have one.
-spec identify(Request, hornbeam_config:server_options()) -> Request
    when Request :: hornbeam_request:request().
identify(Request, #{request_id := false}) ->
    Request;
identify(#request{peer = Peer, fields = Fields} = Request, #{forwarded_allow_ips := Trusted}) ->
    Id = id(hornbeam_forwarded:trusts(Peer, Trusted), hornbeam_request:values(?FIELD, Request)),
    Others = [Field || {Name, _} = Field <- Fields, Name =/= ?FIELD],
    Request#request{id = Id, fields = Others ++ [{?FIELD, Id}]}.

id(true, [Value]) -> valid_or_new(is_valid(Value), Value);
id(_IsTrusted, _Values) -> new().

valid_or_new(true, Value) -> Value;
valid_or_new(false, _Value) -> new().

is_valid(Value) when byte_size(Value) =< ?LONGEST, Value =/= <<>> -> is_plain(Value);
is_valid(_Value) -> false.

%% What UUIDs, ULIDs, base64 and the ids of load balancers are made of, and no log has to quote.
is_plain(<<Char, Rest/binary>>)
        when Char >= $a, Char =< $z; Char >= $A, Char =< $Z; Char >= $-, Char =< $: ;
             Char =:= $=; Char =:= $@; Char =:= $_; Char =:= $+; Char =:= $~ ->
    is_plain(Rest);
is_plain(Rest) ->
    Rest =:= <<>>.

%% A random UUID (RFC 9562, 5.4).
new() ->
    <<High:48, _:4, Middle:12, _:2, Low:62>> = crypto:strong_rand_bytes(16),
    <<A:8/binary, B:4/binary, C:4/binary, D:4/binary, E:12/binary>> =
        hornbeam_headers:lower(binary:encode_hex(<<High:48, 4:4, Middle:12, 2:2, Low:62>>)),
    <<A/binary, $-, B/binary, $-, C/binary, $-, D/binary, $-, E/binary>>.

%% @doc The fields of a response with the request's id, unless the app says one.
-spec answer(hornbeam_headers:fields(), hornbeam_request:request()) -> hornbeam_headers:fields().
answer(Fields, #request{id = none}) -> Fields;
answer(Fields, #request{id = Id}) -> with_id(lists:keymember(?FIELD, 1, Fields), Fields, Id).

with_id(true, Fields, _Id) -> Fields;
with_id(false, Fields, Id) -> Fields ++ [{?FIELD, Id}].

%% @doc The field of who has kept no more of his request than what events say of it.
-spec field(hornbeam_trace_context:context()) -> hornbeam_headers:fields().
field(#{request_id := Id}) -> [{?FIELD, Id}];
field(#{}) -> [].

%% @doc A field for the answer to what is no request.
-spec of_nobody() -> hornbeam_headers:fields().
of_nobody() ->
    [{?FIELD, new()} || hornbeam_own_headers:has_request_id()].
