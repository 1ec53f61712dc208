%% The two ends of a connection, as its client knows them: the client's address and the one that it
%% has reached, and whether TLS is between them. They are the socket's, unless a proxy has told of
%% others before the connection began.
%%
%% It is asked by the process of the connection, which keeps what was told in its dictionary.
-module(hornbeam_endpoints).

-export([set/1, set_certificate/1, peername/1, sockname/1, scheme/1, tls/1]).

%% In the dictionary: the server's certificate, and what is made of it all at the first request.
-define(CERTIFICATE, {?MODULE, certificate}).
-define(TLS, {?MODULE, tls}).
-export_type([told/0]).

-type told() :: #{peer := {inet:ip_address(), inet:port_number()},
                  server := {inet:ip_address(), inet:port_number()}, is_secure := boolean()}.

%% @doc A proxy has told of the calling process's client.
-spec set(told() | none) -> ok.
set(none) -> ok;
set(Told) -> _ = put(?MODULE, Told), ok.

%% @doc Where the client is.
-spec peername(hornbeam_socket:socket()) -> {ok, term()} | {error, term()}.
peername({Transport, Raw}) ->
    case get(?MODULE) of
        undefined -> Transport:peername(Raw);
        #{peer := Peer} -> {ok, Peer}
    end.

%% @doc What it has connected to.
-spec sockname(hornbeam_socket:socket()) -> {ok, term()} | {error, term()}.
sockname({Transport, Raw}) ->
    case get(?MODULE) of
        undefined -> Transport:sockname(Raw);
        #{server := Server} -> {ok, Server}
    end.

%% @doc The scheme of what it asks for.
-spec scheme(hornbeam_socket:socket()) -> binary().
scheme({Transport, _Raw}) ->
    case get(?MODULE) of
        #{is_secure := true} -> <<"https">>;
        _ when Transport =:= ranch_ssl -> <<"https">>;
        _ -> <<"http">>
    end.

%% @doc The certificate (DER) that the calling process has shown to its client.
-spec set_certificate(binary()) -> ok.
set_certificate(Der) ->
    _ = put(?CERTIFICATE, Der),
    ok.

%% @doc What scopes say of TLS between the client and here; it is made once.
-spec tls(hornbeam_socket:socket()) -> hornbeam_wire:packed_tls() | none.
tls({ranch_ssl, Raw}) ->
    case get(?TLS) of
        undefined ->
            Packed = pack(ssl:connection_information(Raw, [protocol, selected_cipher_suite]), Raw),
            _ = put(?TLS, Packed),
            Packed;
        Packed ->
            Packed
    end;
tls(_Tcp) ->
    none.

pack({ok, About}, Raw) ->
    #{protocol := Version, selected_cipher_suite := Suite} = maps:from_list(About),
    Cipher = list_to_binary(ssl:suite_to_openssl_str(Suite)),
    hornbeam_wire:pack_tls({number(Version), Cipher, get(?CERTIFICATE), client(ssl:peercert(Raw))});
pack({error, _Gone}, _Raw) ->
    none.

number('tlsv1.2') -> 16#0303;
number('tlsv1.3') -> 16#0304.

client({ok, Der}) -> {Der, hornbeam_distinguished_name:subject(Der)};
client({error, _None}) -> none.
