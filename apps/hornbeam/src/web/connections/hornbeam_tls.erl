%% What TLS is told: from the options to those of OTP's ssl.
%%
%% The files are read here, once for the start and once for each reload, so that a bad one is
%% known by a sentence before anything depends on it. A key never travels but hidden, so that no
%% log prints it. It knows neither sockets nor Ranch.
-module(hornbeam_tls).

-export([check/1, load/1, listen_options/1]).
-export([no_identity/1]).
-export_type([identity/0, error/0]).

-type identity() :: hornbeam_secret:secret([ssl:tls_server_option()]).
%% The certificate, its key, and whom to believe about clients.

-type error() :: {tls, Sentence :: binary()}.

-define(CHECKED_TEXT, <<"the key belongs to the certificate">>).

%% @doc Whether the files that the options name are good.
-spec check(hornbeam_config:server_options()) -> ok | {error, {listen, error()}}.
check(Options) ->
    case load(Options) of
        {error, Reason} -> {error, {listen, Reason}};
        _ -> ok
    end.

%% @doc Read and check the files; `none' when the options ask for no TLS.
-spec load(hornbeam_config:server_options()) -> {ok, identity()} | none | {error, error()}.
load(#{certfile := undefined}) ->
    none;
load(Options) ->
    try
        Certificates = certificates(certfile, Options),
        Key = key(Options),
        belongs(Key, hd(Certificates)) orelse
            fail("the key in ~ts is not that of the certificate in ~ts",
                 [key_file(Options), maps:get(certfile, Options)]),
        Shown = [{cert, Certificates}, {key, encoded(Key)} | verification(Options)],
        {ok, hornbeam_secret:hide(Shown)}
    catch
        throw:{tls, _} = Reason -> {error, Reason}
    end.

-spec fail(string(), [term()]) -> no_return().
fail(Format, Arguments) ->
    throw({tls, unicode:characters_to_binary(io_lib:format(Format, Arguments))}).

verification(#{verify := none}) ->
    [{verify, verify_none}];
verification(#{verify := Verify} = Options) ->
    [{verify, verify_peer}, {fail_if_no_peer_cert, Verify =:= required},
     {cacerts, certificates(cacertfile, Options)}].

certificates(Option, Options) ->
    File = maps:get(Option, Options),
    case [Der || {'Certificate', Der, not_encrypted} <- pem(File)] of
        [] -> fail("~ts has no certificate in PEM", [File]);
        Ders -> [readable(Der, File) || Der <- Ders]
    end.

readable(Der, File) ->
    try
        _ = public_key:pkix_decode_cert(Der, otp),
        Der
    catch
        error:_ -> fail("~ts has a certificate that cannot be read", [File])
    end.

pem(File) ->
    case file:read_file(File) of
        {ok, Text} -> public_key:pem_decode(Text);
        {error, Reason} -> fail("~ts: ~ts", [File, file:format_error(Reason)])
    end.

key_file(#{keyfile := undefined, certfile := File}) -> File;
key_file(#{keyfile := File}) -> File.

key(Options) ->
    File = key_file(Options),
    case [Entry || {Type, _, _} = Entry <- pem(File), is_key(Type)] of
        [Entry | _] -> decoded(Entry, maps:get(keyfile_password, Options), File);
        [] -> fail("~ts has no private key in PEM", [File])
    end.

is_key(Type) ->
    lists:member(Type, ['PrivateKeyInfo', 'RSAPrivateKey', 'ECPrivateKey', 'DSAPrivateKey']).

decoded({_, _, not_encrypted} = Entry, _Password, File) ->
    decoded(File, fun() -> public_key:pem_entry_decode(Entry) end);
decoded(_Entry, undefined, File) ->
    fail("the key in ~ts is encrypted: keyfile_password is needed", [File]);
decoded(Entry, Password, File) ->
    decoded(File, fun() -> public_key:pem_entry_decode(Entry, hornbeam_secret:show(Password)) end).

%% OTP fails on a wrong password like on a broken key.
decoded(File, Decode) ->
    try
        Decode()
    catch
        error:_ -> fail("the key in ~ts cannot be read, or keyfile_password is wrong", [File])
    end.

encoded({Key, _ParametersOfPss}) -> encoded(Key);
encoded(Key) -> {element(1, Key), public_key:der_encode(element(1, Key), Key)}.

belongs(Key, Certificate) ->
    Digest = digest(Key),
    try
        Signature = public_key:sign(?CHECKED_TEXT, Digest, signer(Key)),
        public_key:verify(?CHECKED_TEXT, Digest, Signature, public_key_of(Certificate))
    catch
        %% Keys of two kinds.
        error:_ -> false
    end.

signer({Key, _ParametersOfPss}) -> Key;
signer(Key) -> Key.

%% Ed25519 and Ed448 sign the text itself.
digest({'ECPrivateKey', _Version, _Private, {namedCurve, {1, 3, 101, _}}, _Public, _More}) -> none;
digest({'ECPrivateKey', _Version, _Private, {namedCurve, {1, 3, 101, _}}, _Public}) -> none;
digest(_Key) -> sha256.

%% By position: public_key's records have no types, and the standard gives the order.
public_key_of(Der) ->
    {'OTPCertificate', Signed, _Algorithm, _Signature} = public_key:pkix_decode_cert(Der, otp),
    {'OTPSubjectPublicKeyInfo', {'PublicKeyAlgorithm', _, Parameters}, Key} =
        lists:keyfind('OTPSubjectPublicKeyInfo', 1, fields(Signed)),
    case element(1, Key) of
        'ECPoint' -> {Key, Parameters};
        _ -> Key
    end.

fields(Record) ->
    [Field || Field <- tuple_to_list(Record), is_tuple(Field)].

%% @doc What the listening socket is told; each handshake brings the identity.
-spec listen_options(hornbeam_config:server_options()) -> [ssl:tls_server_option()].
listen_options(#{tls_versions := Versions, ciphers := Suites}) ->
    [hornbeam_tls_transport:info(),
     {versions, Versions},
     %% Ranch asks for a certificate or for this. The certificate comes with each handshake: so
     %% it can change, and the key is in no option of the socket, which supervisors log.
     {sni_fun, fun ?MODULE:no_identity/1},
     {alpn_preferred_protocols, [<<"h2">>, <<"http/1.1">>]},
     %% A client whose handshake fails is no event of ours.
     {log_level, error},
     %% An idle WebSocket then holds 97 KiB and not 149 (ms).
     {hibernate_after, 3000}]
    ++ renegotiation(Versions) ++ suites(Suites, Versions).

%% @private
-spec no_identity(Host :: term()) -> undefined.
no_identity(_Host) -> undefined.

%% TLS 1.3 has none, and ssl refuses to be told about it.
renegotiation(Versions) ->
    [{client_renegotiation, false} || lists:member('tlsv1.2', Versions)].

%% A version of which no suite is named keeps OTP's own list, as with OpenSSL.
suites([], _Versions) ->
    [];
suites(Suites, Versions) ->
    [{ciphers, lists:append([of_version(Version, Suites) || Version <- Versions])}].

of_version(Version, Suites) ->
    Known = known(Version),
    case [Suite || Suite <- Suites, lists:member(Suite, Known)] of
        [] -> [Suite || Suite <- ssl:cipher_suites(default, Version), lists:member(Suite, Known)];
        Named -> Named
    end.

known('tlsv1.3') -> ssl:cipher_suites(exclusive, 'tlsv1.3');
known('tlsv1.2') -> ssl:cipher_suites(all, 'tlsv1.2').
