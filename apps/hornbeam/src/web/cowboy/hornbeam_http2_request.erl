%% Whether a request of HTTP/2 is one (RFC 9113, 8.2 and 8.3). Pure.
%%
%% A pseudo-header is whatever a client writes, where HTTP/1.1 has a line that ends at a space: what
%% passes here must mean the same to whoever writes it into such a line, or looks at its host.
%% Cowlib knows a part of the rules, and more of them in its later versions; here are those by which
%% a request could be taken for another one.
-module(hornbeam_http2_request).

-export([fault/1]).

%% As for HTTP/1.1, where longer ones are no methods that anybody has registered (bytes).
-define(LONGEST_METHOD, 32).

%% More digits than any body has bytes.
-define(LONGEST_LENGTH, 18).

%% @doc What is wrong with a request, of Cowboy's reading.
-spec fault(cowboy_req:req()) -> none | bad_request | not_implemented.
fault(#{method := Method} = Req) ->
    case is_request(Req) of
        true when byte_size(Method) > ?LONGEST_METHOD -> not_implemented;
        true -> none;
        false -> bad_request
    end.

is_request(#{method := Method, path := Path, qs := Query} = Req) ->
    #{scheme := Scheme, headers := Fields} = Req,
    hornbeam_headers:is_token(Method) andalso is_target(Method, Path)
        andalso is_visible(Path) andalso is_visible(Query)
        andalso (Scheme =:= <<"http">> orelse Scheme =:= <<"https">>)
        andalso maps:fold(fun is_field/3, true, Fields) andalso is_same_host(Fields, Req).

is_target(_Method, <<"/", _/binary>>) -> true;
is_target(Method, Path) -> Method =:= <<"OPTIONS">> andalso Path =:= <<"*">>.

%% RFC 3986 has nothing else: a browser sends what is no ASCII percent-encoded.
is_visible(<<Char, Rest/binary>>) when Char > $\s, Char < 127 -> is_visible(Rest);
is_visible(Rest) -> Rest =:= <<>>.

is_field(_Name, _Value, false) -> false;
is_field(Name, _Value, _) when Name =:= <<"connection">>; Name =:= <<"proxy-connection">>;
                               Name =:= <<"keep-alive">>; Name =:= <<"upgrade">>;
                               Name =:= <<"transfer-encoding">> -> false;
is_field(<<"te">>, Value, _) -> Value =:= <<"trailers">>;
is_field(<<"content-length">>, Value, _) ->
    byte_size(Value) =< ?LONGEST_LENGTH andalso hornbeam_headers:is_number(Value);
is_field(Name, Value, _) ->
    hornbeam_headers:is_token(Name) andalso hornbeam_headers:lower(Name) =:= Name
        andalso hornbeam_headers:is_clean(Value) andalso is_trimmed(Value).

%% Of values that it has joined, Cowboy leaves a space behind when the last one is empty.
is_trimmed(<<Blank, _/binary>>) when Blank =:= $\s; Blank =:= $\t -> false;
is_trimmed(Value) when byte_size(Value) > 1 ->
    case binary:part(Value, byte_size(Value), -2) of
        <<Joint, $\s>> -> Joint =:= $, orelse Joint =:= $;;
        <<_, $\t>> -> false;
        _ -> true
    end;
is_trimmed(_Short) -> true.

%% A Host beside the authority must name the same (RFC 9113, 8.3.1): some look at the one, and some
%% at the other. Without authority it stands for it.
is_same_host(#{<<"host">> := Host}, #{scheme := Scheme} = Req) ->
    Named = hornbeam_access:host(Host),
    Named =/= error andalso with_port(Scheme, Named)
        =:= with_port(Scheme, hornbeam_access:host(hornbeam_cowboy:authority(Req)));
is_same_host(_Fields, _Req) ->
    true.

with_port(Scheme, {ok, Name, undefined}) -> {Name, hornbeam_origin:default_port(Scheme)};
with_port(_Scheme, {ok, Name, Port}) -> {Name, Port};
with_port(_Scheme, error) -> error.
