%% Names of certificates as RFC 4514 writes them, by certificates that OpenSSL has made.
-module(hornbeam_distinguished_name_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile([export_all, nowarn_export_all]).

all() -> [names_are_written_as_openssl_writes_them, others_are_shown_by_their_numbers].

%% The option nameopt of OpenSSL has the same form, but for bytes that are no ASCII.
names_are_written_as_openssl_writes_them(Config) ->
    [?assertEqual({Subject, by_openssl(File)}, {Subject, name(File)})
     || Subject <- ["/CN=a", "/C=DE/ST=Berlin/L=Berlin/O=A, B and C/OU=x+y/CN=a \\\"b\\\"",
                    "/DC=org/DC=example/UID=me/CN=a\\\\b;c<d>", "/CN=#a/CN= a ",
                    "/CN=a=b"],
        File <- [made(Subject, Config)]].

others_are_shown_by_their_numbers(Config) ->
    ?assertEqual(<<"CN=", "größe"/utf8>>, name(made("/CN=größe", Config))),
    ?assertEqual(<<"1.2.840.113549.1.9.1=a@b">>, name(made("/emailAddress=a@b", Config))).

name(File) ->
    {ok, Pem} = file:read_file(File),
    [{'Certificate', Der, not_encrypted}] = public_key:pem_decode(Pem),
    hornbeam_distinguished_name:subject(Der).

made(Subject, Config) ->
    Folder = proplists:get_value(priv_dir, Config),
    File = filename:join(Folder, integer_to_list(erlang:unique_integer([positive])) ++ ".pem"),
    {0, _} = run(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                  "-nodes", "-keyout", "/dev/null", "-utf8", "-subj",
                  unicode:characters_to_binary(Subject), "-out", File]),
    File.

by_openssl(File) ->
    {0, <<"subject=", Name/binary>>} =
        run(["x509", "-in", File, "-noout", "-subject", "-nameopt", "RFC2253"]),
    string:trim(Name, trailing, "\n").

run(Args) ->
    Port = open_port({spawn_executable, os:find_executable("openssl")},
                     [{args, Args}, exit_status, binary, stderr_to_stdout]),
    collect(Port, <<>>).

collect(Port, Said) ->
    receive
        {Port, {data, More}} -> collect(Port, <<Said/binary, More/binary>>);
        {Port, {exit_status, Status}} -> {Status, Said}
    after 20000 -> error({silent, Said})
    end.
