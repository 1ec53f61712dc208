%% The head of an HTTP/1.1 request: where it ends, what it says, whether it is too large. Pure.
%%
%% It is strict about what two servers could read in two ways (RFC 9112, 11.2): line breaks, blanks,
%% control characters, and what says where the body ends. What has been looked through for the end
%% of a head is not looked through again when more comes. Fields that are those of the request
%% before, byte by byte, are not read again: clients that keep their connections send the same ones.
-module(hornbeam_http1_head).

-include_lib("cowlib/include/cow_parse.hrl").
-include("hornbeam_http1_head.hrl").

-export([prepare/0, read/4]).
-export_type([line/0, fields/0, limits/0]).

-type line() :: {Method :: binary(), Path :: binary(), Query :: binary(),
                 hornbeam_request:version()}.
-type fields() :: #fields{}.
-type limits() :: hornbeam_config:server_options().

-define(END, <<"\r\n\r\n">>).

%% Methods that nobody has registered are longer.
-define(LONGEST_METHOD, 32).

%% More digits than any body has bytes.
-define(LONGEST_LENGTH, 18).

%% @doc Make ready what all heads are looked through with; once in a node's life.
-spec prepare() -> ok.
prepare() ->
    persistent_term:put(?MODULE, binary:compile_pattern(?END)).

%% @doc Read the head at the begin of some bytes, of which the first `Scanned' were looked through
%% before; `Last' are the fields of the request before.
%%
%% With more to come it says from where on to look next time. Empty lines before the head are
%% dropped (RFC 9112, 2.2).
-spec read(binary(), Scanned :: non_neg_integer(), fields() | none, limits()) ->
    {more, binary(), Scanned :: non_neg_integer()}
    | {ok, line(), fields(), Behind :: binary()}
    | {fault, hornbeam_error_response:fault()}.
read(<<"\r\n", Bytes/binary>>, _Scanned, Last, Limits) ->
    read(Bytes, 0, Last, Limits);
read(Bytes, Scanned, Last, Limits) ->
    case find_end(Bytes, max(0, Scanned - byte_size(?END) + 1)) of
        {End, _} -> whole(End, Bytes, Last, Limits);
        nomatch -> part(Bytes, Scanned, Limits)
    end.

%% To prepare a search costs more than to search a short head.
find_end(Bytes, 0) ->
    binary:match(Bytes, persistent_term:get(?MODULE));
find_end(Bytes, From) ->
    binary:match(Bytes, persistent_term:get(?MODULE), [{scope, {From, byte_size(Bytes) - From}}]).

part(<<>>, _Scanned, _Limits) ->
    {more, <<>>, 0};
part(<<"\r">>, _Scanned, _Limits) ->
    {more, <<"\r">>, 0};
part(<<First, _/binary>> = Bytes, Scanned, Limits) when ?IS_TOKEN(First) ->
    case has_bare_break(Bytes, Scanned) of
        true -> {fault, bad_request};
        false -> sized_part(Bytes, Scanned, Limits)
    end;
part(_Bytes, _Scanned, _Limits) ->
    {fault, bad_request}.

%% Whether a line ends with less than CRLF in what is new.
has_bare_break(Bytes, Scanned) ->
    New = {Scanned, byte_size(Bytes) - Scanned},
    lists:any(fun({At, 1}) -> At =:= 0 orelse binary:at(Bytes, At - 1) =/= $\r end,
              binary:matches(Bytes, <<"\n">>, [{scope, New}])).

%% A line that has become long enough to be too long is looked for its end once.
sized_part(Bytes, Scanned, #{limit_request_line := Line, limit_request_head := Head}) ->
    Size = byte_size(Bytes),
    case Size > Line + 1 andalso Scanned =< Line + 1 andalso is_in_line(Bytes, Line) of
        true -> {fault, uri_too_long};
        false when Size > Head -> {fault, fields_too_large};
        false -> {more, Bytes, Size}
    end.

is_in_line(Bytes, Line) ->
    binary:match(Bytes, <<"\r\n">>, [{scope, {0, min(byte_size(Bytes), Line + 2)}}]) =:= nomatch.

whole(End, Bytes, Last, #{limit_request_line := Longest, limit_request_head := Most} = Limits) ->
    LineEnd = line_end(Bytes, 0),
    if
        LineEnd > Longest -> {fault, uri_too_long};
        End + byte_size(?END) > Most -> {fault, fields_too_large};
        true -> whole(LineEnd, End, Bytes, Last, Limits)
    end.

whole(LineEnd, End, Bytes, Last, Limits) ->
    <<Line:LineEnd/binary, "\r\n", _/binary>> = Bytes,
    Behind = binary:part(Bytes, End + 4, byte_size(Bytes) - End - 4),
    case fields(block(LineEnd, End, Bytes), Last, Limits) of
        #fields{} = Fields -> with_line(line(Line), Fields, Behind);
        Fault -> {fault, Fault}
    end.

%% There is one.
line_end(<<"\r\n", _/binary>>, Size) -> Size;
line_end(<<_, Rest/binary>>, Size) -> line_end(Rest, Size + 1).

block(End, End, _Bytes) -> <<>>;
block(LineEnd, End, Bytes) -> binary:part(Bytes, LineEnd + 2, End - LineEnd - 2).

with_line({Method, Target, Version}, Fields, Behind) ->
    case target(Method, Target) of
        {Path, Query} -> sure(Version, {Method, Path, Query, Version}, Fields, Behind);
        {Scheme, Authority, Path, Query} ->
            At = of_scheme(Scheme, at_host(Authority, Fields)),
            sure(Version, {Method, Path, Query, Version}, At, Behind);
        Fault -> {fault, Fault}
    end;
with_line(Fault, _Fields, _Behind) ->
    {fault, Fault}.

%% Who speaks 1.1 names a host (RFC 9112, 3.2). HTTP/1.0 has no chunks: what sends them is not sure
%% of what it speaks (RFC 9112, 6.1).
sure('HTTP/1.1', _Line, #fields{host = none}, _Behind) -> {fault, bad_request};
sure('HTTP/1.0', _Line, #fields{body = unknown}, _Behind) -> {fault, bad_request};
sure(_Version, Line, Fields, Behind) -> {ok, Line, Fields, Behind}.

%% The request line: three words with one space between them (RFC 9112, 3).

line(Line) ->
    case word(Line, 0) of
        Size when Size > 0 ->
            <<Method:Size/binary, $\s, Rest/binary>> = Line,
            line(Method, Rest, target_size(Rest, 0));
        0 ->
            bad_request
    end.

word(<<$\s, _/binary>>, Size) -> Size;
word(<<Char, Rest/binary>>, Size) when ?IS_TOKEN(Char) -> word(Rest, Size + 1);
word(_Other, _Size) -> 0.

%% What is no target has no size: it has a control character, or no space behind it.
target_size(<<$\s, _/binary>>, Size) -> Size;
target_size(<<Char, Rest/binary>>, Size) when Char > 32, Char =/= 127 ->
    target_size(Rest, Size + 1);
target_size(_Other, _Size) -> 0.

line(_Method, _Rest, 0) ->
    bad_request;
line(Method, Rest, Size) ->
    <<Target:Size/binary, $\s, Version/binary>> = Rest,
    case version(Version) of
        {ok, _} when byte_size(Method) > ?LONGEST_METHOD -> not_implemented;
        {ok, Known} -> {Method, Target, Known};
        Fault -> Fault
    end.

version(<<"HTTP/1.1">>) -> {ok, 'HTTP/1.1'};
version(<<"HTTP/1.0">>) -> {ok, 'HTTP/1.0'};
version(<<"HTTP/", Major, ".", Minor>>)
        when Major >= $0, Major =< $9, Minor >= $0, Minor =< $9 ->
    version_not_supported;
version(_Other) -> bad_request.

%% RFC 9112, 3.2. We are no proxy, and echo nobody's secrets (TRACE).
target(<<"CONNECT">>, _Target) -> not_implemented;
target(<<"TRACE">>, _Target) -> not_implemented;
target(<<"OPTIONS">>, <<"*">>) -> {<<"*">>, <<>>};
target(_Method, <<"/", _/binary>> = Target) -> path(Target);
target(_Method, Target) -> absolute(Target).

%% A fragment is the client's own affair (RFC 9110, 7.1).
path(Target) ->
    case path_size(Target, 0) of
        {Size, Rest} when Rest =:= <<>> -> {binary:part(Target, 0, Size), <<>>};
        {Size, <<"?", Query/binary>>} -> with_query(binary:part(Target, 0, Size), Query);
        {_Size, <<"#", _/binary>>} -> bad_request
    end.

path_size(<<Char, Rest/binary>>, Size) when Char =/= $?, Char =/= $# -> path_size(Rest, Size + 1);
path_size(Rest, Size) -> {Size, Rest}.

with_query(Path, Query) ->
    case Query =:= <<>> orelse binary:match(Query, <<"#">>) of
        true -> {Path, <<>>};
        nomatch -> {Path, Query};
        {_, _} -> bad_request
    end.

absolute(Target) ->
    case binary:split(Target, <<"://">>) of
        [Scheme, Rest] -> absolute(hornbeam_headers:lower(Scheme), Rest);
        [_] -> bad_request
    end.

absolute(Scheme, Rest) when Scheme =:= <<"http">>; Scheme =:= <<"https">> ->
    Size = case binary:match(Rest, [<<"/">>, <<"?">>, <<"#">>]) of
        {At, _} -> At;
        nomatch -> byte_size(Rest)
    end,
    <<Authority:Size/binary, Path/binary>> = Rest,
    case is_authority(Authority) andalso path(rooted(Path)) of
        {Clean, Query} -> {Scheme, Authority, Clean, Query};
        _ -> bad_request
    end;
absolute(_Scheme, _Rest) ->
    bad_request.

is_authority(Authority) ->
    Authority =/= <<>> andalso binary:match(Authority, <<"@">>) =:= nomatch.

rooted(<<"/", _/binary>> = Path) -> Path;
rooted(Path) -> <<"/", Path/binary>>.

%% The target's host is the one that counts (RFC 9112, 3.2.2), for all that look at the host. These
%% fields are no longer those of their bytes. A Host that is none is judged as it is (3.2).
at_host(Authority, #fields{host = Host, list = List} = Fields) ->
    case Host =/= none andalso hornbeam_access:host(Host) of
        {ok, _Name, _Port} -> at_other_host(Authority, List, Fields);
        _ -> Fields
    end.

at_other_host(Authority, List, Fields) ->
    Fields#fields{block = none, host = Authority, rest = undefined,
                  list = lists:keyreplace(<<"host">>, 1, List, {<<"host">>, Authority})}.

%% Nor are those the same with which a target of https came.
of_scheme(<<"https">>, Fields) -> Fields#fields{block = none, https = true};
of_scheme(<<"http">>, Fields) -> Fields.

%% The fields.

fields(Block, #fields{block = Block} = Last, _Limits) ->
    Last;
fields(<<>>, _Last, _Limits) ->
    #fields{block = <<>>};
fields(Block, _Last, Limits) ->
    #{limit_request_fields := Most, limit_request_field_size := Largest} = Limits,
    %% Kept for the next request, and nothing of what was read with it.
    Kept = binary:copy(Block),
    Lines = binary:split(Kept, <<"\r\n">>, [global]),
    case length(Lines) =< Most of
        true -> fields(Lines, [], Largest, #fields{block = Kept});
        false -> fields_too_large
    end.

fields([Line | Lines], List, Largest, Fields0) ->
    case hornbeam_headers:field(Line) of
        {Name, Value} when byte_size(Name) + byte_size(Value) + 2 > Largest -> fields_too_large;
        {Name, Value} = Field ->
            case said(Name, Value, Fields0) of
                #fields{} = Fields -> fields(Lines, [Field | List], Largest, Fields);
                Fault -> Fault
            end;
        error -> bad_request
    end;
fields([], List, _Largest, Fields) ->
    Fields#fields{list = lists:reverse(List)}.

%% What a field says of the request itself. There is one way only to find the end of the body.
said(<<"host">>, Value, #fields{host = none} = Fields) ->
    Fields#fields{host = Value};
said(<<"host">>, _Second, _Fields) ->
    bad_request;
said(<<"content-length">>, Value, #fields{body = none} = Fields) ->
    case hornbeam_headers:is_number(Value) andalso significant(Value) of
        false -> bad_request;
        Digits when byte_size(Digits) > ?LONGEST_LENGTH -> body_too_large;
        Digits -> Fields#fields{body = binary_to_integer(Digits)}
    end;
said(<<"content-length">>, _Second, _Fields) ->
    bad_request;
said(<<"transfer-encoding">>, Value, #fields{body = none} = Fields) ->
    case hornbeam_headers:lower(Value) of
        <<"chunked">> -> Fields#fields{body = unknown};
        _ -> bad_request
    end;
said(<<"transfer-encoding">>, _Second, _Fields) ->
    bad_request;
said(<<"connection">>, Value, #fields{connection = Before} = Fields) ->
    case hornbeam_headers:tokens(Value) of
        {ok, Tokens} -> Fields#fields{connection = Before ++ Tokens};
        error -> bad_request
    end;
said(<<"upgrade">>, Value, Fields) ->
    Fields#fields{upgrade = upgrade(hornbeam_headers:items(Value), Fields)};
said(<<"expect">>, Value, Fields) ->
    Fields#fields{expect = hornbeam_headers:lower(Value) =:= <<"100-continue">>};
said(_Name, _Value, Fields) ->
    Fields.

significant(<<$0, Digits/binary>>) when Digits =/= <<>> -> significant(Digits);
significant(Digits) -> Digits.

%% Every other one is ignored (RFC 9110, 7.8).
upgrade(Protocols, #fields{upgrade = Before}) ->
    case lists:member(<<"websocket">>, Protocols) of
        true -> websocket;
        false -> Before
    end.
