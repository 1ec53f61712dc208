%% The head of a request: where it ends, whether it is one, and whether it is too large. Pure, but
%% for this: fields that are those of the request before are not read again (hornbeam_last_head).
%%
%% It is stricter than Cowboy about what two servers could read in two ways (RFC 9112, 11.2):
%% line breaks, control characters, and what says where the body ends. The bytes of the first
%% head of a connection are read here before Cowboy sees them; of later ones we see what Cowboy
%% made of them. Limits mean the same for both: repeated fields are counted as one.
-module(hornbeam_head).

-include_lib("cowlib/include/cow_parse.hrl").

-export([read/2, fault/2, answer/1]).
-export_type([fault/0, fields/0]).

-type fields() :: [{Name :: binary(), Value :: binary()}].
-type fault() ::
    bad_request
    | head_timeout
    | uri_too_long
    | fields_too_large
    | body_too_large
    | full.

-define(END, <<"\r\n\r\n">>).

%% @doc Look for the whole head in the first bytes of a connection. With a head come the bytes
%% without the empty lines before it, and the fields in their order.
-spec read(binary(), hornbeam_config:server_options()) ->
    {more, binary()} | {ok, binary(), fields()} | {fault, fault()}.
read(<<"\r\n", Bytes/binary>>, Options) ->
    read(Bytes, Options);
read(<<"PRI * HTTP/2.0\r\n\r\n", _/binary>> = Bytes, _Options) ->
    {ok, Bytes, []};
read(Bytes, Options) ->
    case binary:split(Bytes, ?END) of
        [Head, _Body] -> whole(binary:split(Head, <<"\r\n">>, [global]), Head, Bytes, Options);
        [_Part] -> part(Bytes, Options)
    end.

part(<<>>, _Options) ->
    {more, <<>>};
part(<<"\r">>, _Options) ->
    {more, <<"\r">>};
part(<<First, _/binary>> = Bytes, Options) when ?IS_TOKEN(First) ->
    begun(Bytes, Options);
part(_Bytes, _Options) ->
    {fault, bad_request}.

begun(Bytes, #{limit_request_line := Line, limit_request_head := Head}) ->
    Breaks = length(binary:matches(Bytes, <<"\n">>)),
    case length(binary:matches(Bytes, <<"\r\n">>)) of
        Fewer when Fewer < Breaks -> {fault, bad_request};
        0 when byte_size(Bytes) > Line + 1 -> {fault, uri_too_long};
        _ when byte_size(Bytes) > Head -> {fault, fields_too_large};
        _ -> {more, Bytes}
    end.

whole([Line | Lines], Head, Bytes, #{limit_request_line := Longest, limit_request_head := Most}) ->
    if
        byte_size(Line) > Longest -> {fault, uri_too_long};
        byte_size(Head) + byte_size(?END) > Most -> {fault, fields_too_large};
        true -> read_fields([field(Each) || Each <- [<<":", Line/binary>> | Lines]], Bytes)
    end.

%% The first is the request line, of which Cowboy knows the rest.
read_fields([{<<>>, Line} | Fields], Bytes) ->
    case is_clean(Line) andalso are_clean(Fields) andalso is_framed(Fields)
        andalso lists:all(fun is_readable/1, Fields) of
        true -> {ok, Bytes, Fields};
        false -> {fault, bad_request}
    end.

field(Line) ->
    case binary:split(Line, <<":">>) of
        [Name, Value] -> {cowboy_bstr:to_lower(Name), hornbeam_headers:trim(Value)};
        [_] -> {<<>>, Line}
    end.

are_clean(Fields) ->
    lists:all(fun({Name, Value}) -> hornbeam_headers:is_token(Name) andalso is_clean(Value) end,
              Fields).

is_clean(<<Char, Rest/binary>>) when Char >= 32, Char =/= 127; Char =:= $\t -> is_clean(Rest);
is_clean(Rest) -> Rest =:= <<>>.

%% Whether there is one way only to find the end of the body, and one host.
is_framed(Fields) ->
    Values = fun(Wanted) -> [Value || {Name, Value} <- Fields, Name =:= Wanted] end,
    length(Values(<<"host">>)) =< 1 andalso
        has_one_length(Values(<<"content-length">>), Values(<<"transfer-encoding">>)).

has_one_length([], []) -> true;
has_one_length([Length], []) -> hornbeam_headers:is_number(Length);
has_one_length([], [Encoding]) -> cowboy_bstr:to_lower(Encoding) =:= <<"chunked">>;
has_one_length(_Lengths, _Encodings) -> false.

%% @doc What is wrong with a request that Cowboy has parsed.
-spec fault(cowboy_req:req(), hornbeam_config:server_options()) -> none | fault().
fault(#{path := Path, qs := Query} = Req, Options) ->
    Size = fields_size(Req, Options),
    case Size =/= bad andalso is_sure(Req) andalso is_clean(Path) andalso is_clean(Query) of
        true -> size_fault(line_size(Req), Size, Req, Options);
        false -> bad_request
    end.

%% HTTP/1.0 has no chunks; what sends them is not sure of what it speaks.
is_sure(#{version := 'HTTP/1.0', has_body := true, body_length := undefined}) -> false;
is_sure(_Req) -> true.

line_size(#{method := Method, path := Path, qs := Query}) ->
    byte_size(Method) + byte_size(Path) + query_size(Query) + byte_size(<<"  HTTP/1.1">>).

query_size(<<>>) -> 0;
query_size(Query) -> 1 + byte_size(Query).

size_fault(Line, _Size, _Req, #{limit_request_line := Longest}) when Line > Longest ->
    uri_too_long;
size_fault(_Line, too_large, _Req, _Options) ->
    fields_too_large;
size_fault(Line, Size, _Req, #{limit_request_head := Most})
        when Line + Size + byte_size(?END) > Most ->
    fields_too_large;
size_fault(_Line, _Size, #{body_length := Length}, #{max_body_size := Most})
        when is_integer(Length), Length > Most ->
    body_too_large;
size_fault(_Line, _Size, _Req, _Options) ->
    none.

%% How many bytes the fields are, if they are sound and none is over its limit. The first head of a
%% connection has been through read/2, which lets no others pass.
fields_size(#{headers := Headers, header_list := _}, Options) ->
    size_of(maps:to_list(Headers), Options);
fields_size(#{headers := Headers}, Options) ->
    case hornbeam_last_head:recall(size, Headers) of
        {ok, Size} -> Size;
        unknown -> remembered(size_if_sound(maps:to_list(Headers), Options), Headers)
    end.

remembered(Size, Headers) when is_integer(Size) ->
    hornbeam_last_head:remember(size, Headers, Size);
remembered(Fault, _Headers) ->
    Fault.

size_if_sound(Fields, Options) ->
    case are_clean(Fields) andalso lists:all(fun is_readable/1, Fields) of
        true -> size_of(Fields, Options);
        false -> bad
    end.

size_of(Fields, Options) ->
    sum([byte_size(Name) + byte_size(Value) + 2 || {Name, Value} <- Fields], Options).

sum(Sizes, #{limit_request_fields := MostFields, limit_request_field_size := LargestField}) ->
    case length(Sizes) > MostFields orelse lists:max([0 | Sizes]) > LargestField of
        true -> too_large;
        false -> lists:sum(Sizes) + 2 * length(Sizes)
    end.

%% Cowboy takes a length with a sign, and fails on a Connection that is no list of tokens when
%% the request has begun.
is_readable({<<"content-length">>, Length}) ->
    hornbeam_headers:is_number(Length);
is_readable({<<"connection">>, Value}) ->
    try cow_http_hd:parse_connection(Value) of
        _Tokens -> true
    catch
        _:_ -> false
    end;
is_readable(_Field) ->
    true.

%% @doc How a fault is counted, and what its client is told.
-spec answer(fault()) -> {Status :: 400..599, hornbeam_counters:name(), Sentence :: binary()}.
answer(bad_request) ->
    {400, bad_requests, <<"This is no HTTP request.\n">>};
answer(head_timeout) ->
    {408, head_timeouts, <<"The request did not come in time.\n">>};
answer(body_too_large) ->
    {413, bodies_too_large, <<"The request's body is larger than the server takes.\n">>};
answer(uri_too_long) ->
    {414, uris_too_long, <<"The request line is longer than the server takes.\n">>};
answer(fields_too_large) ->
    {431, fields_too_large, <<"The request's fields are larger than the server takes.\n">>};
answer(full) ->
    {503, refused, <<"The server has no room for another connection now.\n">>}.
