%% The value of one option: whether it is what it should be, and the form it travels in.
%%
%% Pure but for the few questions that a check must ask of the file system. It knows no option
%% by name: which value is checked how stands in the table of hornbeam_config.
-module(hornbeam_option).

-export([check/2, app/1, bind/1, binds/1, redirect/1, port/1, path/1, program/1, program/2,
         venv/2, venv_python/1, directory/1, directories/1, environment/1, functions/1, root_path/1,
         mount_path/1, text/1, texts/1, file/1, secret/1, token/1, tls_versions/1, ciphers/1,
         origins/1, hosts/1, peers/1, callback/1, log_format/1, headers/1, local_socket/1,
         metrics/1, affinity/1, health_path/1, permissions/1]).

%% Where Prometheus and its kin look for a program that exposes its own metrics: the port of
%% OpenTelemetry's exporters. Nobody else reaches this machine's own address.
-define(METRICS_ADDRESS, {{127, 0, 0, 1}, 9464}).

%% What an address of a Unix socket holds (bytes), but for the zero at its end.
-define(MAX_SOCKET_PATH, 107).
-export_type([check/0, checked/0, bind/0, peer/0, secret/0, tls_version/0, callback/0,
              log_format/0, affinity/0]).

-type check() ::
    positive
    | count
    | timeout
    | workers
    | {one_of, [term()]}
    | {range, integer(), integer()}
    | fun((term()) -> checked()).
%% `count' is 0 or more, `timeout' a positive integer or infinity.

-type checked() :: {ok, term()} | error | {error, Key :: term(), Value :: term()}.
%% An option that is a map says which of its keys is wrong.
-type bind() :: {inet:ip_address(), inet:port_number()} | {local, binary()}
              | {fd, Descriptor :: non_neg_integer()}.
-type peer() :: {inet:ip_address(), Bits :: 0..128} | unix.
-type tls_version() :: 'tlsv1.2' | 'tlsv1.3'.
-type callback() :: fun((map()) -> term()) | {module(), Function :: atom()}.
-type log_format() :: short | json | [log_part()].
-type log_part() :: Text :: binary() | {field, Name :: binary()} | client | unknown | time | request
                  | method | mount | path | query | protocol | status | bytes
                  | bytes_or_dash | microseconds | seconds.
-type affinity() :: none | client | socketio | mcp
                  | {cookie | set_cookie | query | header, Name :: binary()}.
-type secret() :: hornbeam_secret:secret(string()).
%% No log prints what a fun returns.

%% RFC 9110, 5.6.2 and 5.5.
-define(TOKEN, "[!#$%&'*+.^_`|~0-9A-Za-z-]+").
-define(CLEAN, "[^\\x00-\\x08\\x0a-\\x1f\\x7f]").

%% @doc Check a value; a good one comes out in the form that the server uses.
-spec check(check(), term()) -> checked().
check({one_of, Values}, Value) -> ok_if(lists:member(Value, Values), Value);
check(count, Value) -> ok_if(is_integer(Value) andalso Value >= 0, Value);
check(positive, Value) -> ok_if(is_integer(Value) andalso Value > 0, Value);
check(timeout, infinity) -> {ok, infinity};
check(timeout, Value) -> check(positive, Value);
check(workers, Value) -> check({range, 1, 1000}, Value);
check({range, Low, High}, Value) ->
    ok_if(is_integer(Value) andalso Value >= Low andalso Value =< High, Value);
check(Check, Value) when is_function(Check, 1) -> Check(Value).

ok_if(true, Value) -> {ok, Value};
ok_if(false, _Value) -> error.

%% @doc A list of Erlang functions, or of modules as a whole.
-spec functions(term()) -> checked().
functions(Value) when is_list(Value) -> ok_if(lists:all(fun is_function_name/1, Value), Value);
functions(_) -> error.

is_function_name({Module, Function, Arity}) ->
    is_atom(Module) andalso is_atom(Function) andalso is_integer(Arity) andalso Arity >= 0;
is_function_name(Module) ->
    is_atom(Module).

%% @doc A function of one argument.
-spec callback(term()) -> checked().
callback(undefined) ->
    {ok, undefined};
callback({Module, Function} = Value) when is_atom(Module), is_atom(Function) ->
    ok_if(code:ensure_loaded(Module) =:= {module, Module} andalso
              erlang:function_exported(Module, Function, 1), Value);
callback(Value) ->
    ok_if(is_function(Value, 1), Value).

%% @doc How a line of the access log looks: a name, or text with directives as Apache has them.
-spec log_format(term()) -> checked().
log_format(Word) when Word =:= short; Word =:= json -> {ok, Word};
log_format(common) -> log_format(<<"%h %l %u %t \"%r\" %>s %b">>);
log_format(combined) ->
    log_format(<<"%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-agent}i\"">>);
log_format(Value) -> with_text(Value, fun(Text) -> log_parts(Text, []) end).

log_parts(<<>>, [_ | _] = Parts) ->
    {ok, lists:reverse(Parts)};
log_parts(<<>>, []) ->
    error;
log_parts(<<"%>s", Rest/binary>>, Parts) ->
    log_parts(Rest, [status | Parts]);
log_parts(<<"%{mount}n", Rest/binary>>, Parts) ->
    log_parts(Rest, [mount | Parts]);
%% The request has the id that the response has.
log_parts(<<"%{x-request-id}o", Rest/binary>>, Parts) ->
    log_parts(Rest, [{field, <<"x-request-id">>} | Parts]);
log_parts(<<"%{", Rest/binary>>, Parts) ->
    case re:run(Rest, "^([A-Za-z0-9_-]+)}i(.*)$", [dotall, {capture, all_but_first, binary}]) of
        {match, [Name, After]} -> log_parts(After, [{field, string:lowercase(Name)} | Parts]);
        nomatch -> error
    end;
log_parts(<<"%", Letter, Rest/binary>>, Parts) ->
    case log_directive(Letter) of
        error -> error;
        Part -> log_parts(Rest, [Part | Parts])
    end;
log_parts(<<"%">>, _Parts) ->
    error;
log_parts(Text, Parts) ->
    [Plain | _] = binary:split(Text, <<"%">>),
    Size = byte_size(Plain),
    <<_:Size/binary, Rest/binary>> = Text,
    log_parts(Rest, [Plain | Parts]).

log_directive($%) -> <<"%">>;
log_directive($h) -> client;
log_directive($l) -> unknown;
log_directive($u) -> unknown;
log_directive($t) -> time;
log_directive($r) -> request;
log_directive($m) -> method;
log_directive($U) -> path;
log_directive($q) -> query;
log_directive($H) -> protocol;
log_directive($s) -> status;
log_directive($B) -> bytes;
log_directive($b) -> bytes_or_dash;
log_directive($D) -> microseconds;
log_directive($T) -> seconds;
log_directive(_Other) -> error.

%% @doc Headers of responses, each as its line, or as name and value.
-spec headers(term()) -> checked().
headers(Value) -> texts(Value, fun header/1).

header({Name, Value}) ->
    header([Name, ":", Value]);
header(Line) ->
    with_text(Line, fun parse_header/1).

parse_header(Line) ->
    case re:run(Line, ["^(", ?TOKEN, "):[ \t]*(", ?CLEAN, "*?)[ \t]*$"],
                [dollar_endonly, {capture, all_but_first, binary}]) of
        {match, [Name, Value]} -> header(string:lowercase(Name), Value);
        nomatch -> error
    end.

%% What is about this one connection, or this one body, is nobody's to say once for all.
header(<<"sec-websocket-", _/binary>>, _Value) -> error;
header(Name, Value) ->
    ok_if(not lists:member(Name, [<<"connection">>, <<"keep-alive">>, <<"proxy-connection">>,
                                  <<"transfer-encoding">>, <<"content-length">>, <<"upgrade">>,
                                  <<"te">>, <<"trailer">>]), {Name, Value}).

%% @doc What says of which session of an app a request is: a word, or where its name stands; as a
%% text such as "cookie:sessionid", too.
-spec affinity(term()) -> checked().
affinity(Word) when Word =:= none; Word =:= client; Word =:= socketio; Word =:= mcp ->
    {ok, Word};
affinity({Where, Name}) ->
    with_text(Name, fun(Text) -> affinity(Where, Text) end);
affinity(Value) ->
    with_text(Value, fun(Text) ->
        case binary:split(Text, <<":">>) of
            [<<"cookie">>, Name] -> affinity(cookie, Name);
            [<<"set-cookie">>, Name] -> affinity(set_cookie, Name);
            [<<"query">>, Name] -> affinity(query, Name);
            [<<"header">>, Name] -> affinity(header, Name);
            _ -> error
        end
    end).

affinity(header, Name) ->
    with_name(header, string:lowercase(Name), ["^", ?TOKEN, "$"]);
affinity(query, Name) ->
    with_name(query, Name, "^[!-~]+$");
affinity(Where, Name) when Where =:= cookie; Where =:= set_cookie ->
    with_name(Where, Name, ["^", ?TOKEN, "$"]);
affinity(_Where, _Name) ->
    error.

with_name(Where, Name, Pattern) ->
    case matches(Name, Pattern) of
        {ok, _} -> {ok, {Where, Name}};
        error -> error
    end.

%% @doc The pages that may open WebSockets.
-spec origins(term()) -> checked().
origins(Value) when Value =:= any; Value =:= same_host -> {ok, Value};
origins(Value) -> texts(Value, fun origin/1).

origin(same_host) -> {ok, same_host};
origin(Value) -> with_text(Value, fun hornbeam_origin:pattern/1).

%% @doc The hosts that requests may name.
-spec hosts(term()) -> checked().
hosts(any) -> {ok, any};
hosts([]) -> error;
hosts(Value) -> texts(Value, fun host/1).

host(Value) -> with_text(Value, fun hornbeam_origin:host_pattern/1).

%% @doc The peers that are believed when they speak of others: addresses, ranges, "unix".
-spec peers(term()) -> checked().
peers(any) -> {ok, any};
peers(Value) -> texts(Value, fun peer/1).

peer(Value) -> with_text(Value, fun parse_peer/1).

parse_peer(<<"unix">>) ->
    {ok, unix};
parse_peer(Text) ->
    case binary:split(Text, <<"/">>) of
        [Ip] -> range(ip(Ip), none);
        [Ip, Bits] -> range(ip(Ip), matches(Bits, "^[0-9]{1,3}$"))
    end.

ip(Text) -> inet:parse_strict_address(unicode:characters_to_list(Text)).

range({ok, Ip}, none) -> {ok, {Ip, width(Ip)}};
range({ok, Ip}, {ok, Bits}) -> narrowed(Ip, binary_to_integer(Bits));
range(_Ip, _Bits) -> error.

narrowed(Ip, Bits) -> ok_if(Bits =< width(Ip), {Ip, Bits}).

width(Ip) when tuple_size(Ip) =:= 4 -> 32;
width(_Ip) -> 128.

%% A list of texts, or one text that stands for a list of one.
texts(Value, Check) when is_binary(Value) -> texts([Value], Check);
texts([Char | _] = Value, Check) when is_integer(Char) -> texts([Value], Check);
texts(Value, Check) when length(Value) >= 0 -> all_ok([Check(Each) || Each <- Value], []);
texts(_Value, _Check) -> error.

%% @doc The name of a Python app, "module:attribute".
-spec app(term()) -> checked().
app(Value) ->
    with_text(Value, fun(Text) ->
        Name = "[\\p{L}_][\\p{L}\\p{N}_]*(?:\\.[\\p{L}_][\\p{L}\\p{N}_]*)*",
        matches(Text, ["^", Name, ":", Name, "$"])
    end).

matches(Text, Regex) ->
    ok_if(re:run(Text, Regex, [unicode, dollar_endonly, {capture, none}]) =:= match, Text).

%% @doc One address to listen on or a list of them.
-spec binds(term()) -> {ok, [bind(), ...]} | error.
binds([]) -> error;
binds(Value) -> texts(Value, fun bind/1).

%% @doc The address of a listener that may not be there.
-spec redirect(term()) -> {ok, bind() | undefined} | error.
redirect(undefined) -> {ok, undefined};
redirect(Value) -> bind(Value).

%% @doc A port, or none that is said.
-spec port(term()) -> checked().
port(undefined) -> {ok, undefined};
port(Value) -> check({range, 1, 65535}, Value).

%% @doc An address to listen on.
-spec bind(term()) -> {ok, bind()} | error.
bind(Value) ->
    with_text(Value, fun parse_bind/1).

parse_bind(<<"unix:", Path/binary>>) when Path =/= <<>>, byte_size(Path) =< ?MAX_SOCKET_PATH ->
    {ok, {local, Path}};
parse_bind(<<"fd:", Number/binary>>) ->
    case matches(Number, "^[0-9]{1,9}$") of
        {ok, _} -> {ok, {fd, binary_to_integer(Number)}};
        error -> error
    end;
parse_bind(Text) ->
    case re:run(Text, "^(?:\\[([^\\]]+)\\]|([^:]+)):([0-9]{1,5})$",
                [dollar_endonly, {capture, all_but_first, list}]) of
        {match, ["", Host, Port]} -> address(ipv4(Host), list_to_integer(Port));
        {match, [Host, "", Port]} -> address(inet:parse_ipv6strict_address(Host),
                                             list_to_integer(Port));
        nomatch -> error
    end.

ipv4("localhost") -> {ok, {127, 0, 0, 1}};
ipv4(Host) -> inet:parse_ipv4strict_address(Host).

address({ok, Ip}, Port) when Port =< 65535 -> {ok, {Ip, Port}};
address(_, _) -> error.

%% @doc Where processes outside of all workers come in; comes out absolute.
-spec local_socket(term()) -> checked().
local_socket(Word) when Word =:= auto; Word =:= off -> {ok, Word};
local_socket([]) -> error;
local_socket(<<>>) -> error;
local_socket(Value) ->
    with_text(Value, fun(Text) ->
        Path = unicode:characters_to_binary(absolute(Text)),
        ok_if(byte_size(Path) =< ?MAX_SOCKET_PATH, Path)
    end).

%% @doc Where metrics are served: nowhere, at the usual address, or at one.
-spec metrics(term()) -> checked().
metrics(false) -> {ok, false};
metrics(true) -> {ok, ?METRICS_ADDRESS};
metrics(Value) ->
    case bind(Value) of
        {ok, {Ip, _Port}} = Address when is_tuple(Ip) -> Address;
        _ -> error
    end.

%% @doc The path of something, or the name of a program.
-spec path(term()) -> checked().
path(undefined) -> {ok, undefined};
path(Value) -> with_text(Value, fun(Text) -> {ok, Text} end).

%% @doc A program that can be run: by its name, or by a path, which comes out absolute. A relative
%% one begins in the folder or, where nothing is there, in the node's.
-spec program(binary(), Folder :: binary()) -> {ok, binary()} | error.
program(Name, Folder) ->
    case binary:match(Name, <<"/">>) of
        nomatch -> ok_if(program(Name) =/= false, Name);
        _ -> first([Path || Path <- places(Name, Folder), program(Path) =/= false])
    end.

%% @doc Where a program is; false where there is none. A name is the bytes that it has on the disk.
-spec program(binary()) -> file:filename() | false.
program(Name) ->
    os:find_executable(unicode:characters_to_list(Name, file:native_name_encoding())).

%% @doc The folder of a virtual environment, found as a program's path is.
-spec venv(binary(), Folder :: binary()) -> {ok, binary()} | error.
venv(Venv, Folder) ->
    first([Path || Path <- places(Venv, Folder), filelib:is_file(venv_python(Path))]).

places(Path, Folder) ->
    [filename:join(Folder, Path), filename:absname(Path)].

first([Path | _]) -> {ok, Path};
first([]) -> error.

%% @doc The interpreter of a virtual environment.
-spec venv_python(file:name_all()) -> file:filename_all().
venv_python(Venv) ->
    filename:absname(filename:join([Venv, "bin", "python"])).

%% @doc A folder that exists; comes out absolute.
-spec directory(term()) -> checked().
directory(Value) ->
    with_text(Value, fun(Text) ->
        ok_if(filelib:is_dir(Text), unicode:characters_to_binary(absolute(Text)))
    end).

%% As a person would write it.
absolute(Path) ->
    filename:join([Part || Part <- filename:split(filename:absname(Path)), Part =/= <<".">>]).

%% @doc One folder or a list of them.
-spec directories(term()) -> checked().
directories(Value) -> texts(Value, fun directory/1).

%% @doc One text or a list of them.
-spec texts(term()) -> checked().
texts(Value) -> texts(Value, fun text/1).

all_ok([], Acc) -> {ok, lists:reverse(Acc)};
all_ok([{ok, Value} | Rest], Acc) -> all_ok(Rest, [Value | Acc]);
all_ok([error | _], _Acc) -> error.

%% @doc Variables of an environment, which may hold secrets: they come out hidden.
-spec environment(term()) -> checked().
environment(Value) when is_map(Value) ->
    Pairs = [{with_text(K, fun env_name/1), with_text(V, fun env_value/1)}
             || {K, V} <- maps:to_list(Value)],
    case [Pair || {{ok, _}, {ok, _}} = Pair <- Pairs] of
        Pairs -> {ok, hidden([{K, V} || {{ok, K}, {ok, V}} <- Pairs])};
        _ -> error
    end;
environment(_) ->
    error.

hidden(Pairs) -> hornbeam_secret:hide(maps:from_list(Pairs)).

env_name(Text) -> matches(Text, "^[^=\\x00]+$").

env_value(Text) -> ok_if(binary:match(Text, <<0>>) =:= nomatch, Text).

%% @doc Any text.
-spec text(term()) -> checked().
text(Value) -> with_text(Value, fun(Text) -> {ok, Text} end).

%% @doc What stands in front of all paths of an app: empty, or a path that does not end in a slash.
-spec root_path(term()) -> checked().
root_path(Value) ->
    with_text(Value, fun(Text) ->
        ok_if(Text =:= <<>> orelse binary:first(Text) =:= $/ andalso binary:last(Text) =/= $/, Text)
    end).

%% @doc Where an app is served: "/", or a path of segments that clients leave as they are.
-spec mount_path(term()) -> checked().
mount_path(Value) ->
    with_text(Value, fun(Text) ->
        matches(Text, "^/$|^(?:/(?!\\.\\.?(?:/|$))[^/?#%\\x00-\\x1f\\x7f]+)+$")
    end).

%% @doc Where the node itself answers, or nowhere: a path of segments as a mount has it, but not
%% that of all apps.
-spec health_path(term()) -> checked().
health_path(undefined) ->
    {ok, undefined};
health_path(Value) ->
    case mount_path(Value) of
        {ok, <<"/">>} -> error;
        Checked -> Checked
    end.

%% @doc Who may open a file, as a number or in octal digits, or whatever the system says.
-spec permissions(term()) -> checked().
permissions(undefined) ->
    {ok, undefined};
permissions(Value) when is_integer(Value) ->
    check({range, 0, 8#777}, Value);
permissions(Value) ->
    with_text(Value, fun(Text) ->
        case matches(Text, "^(0o?)?[0-7]{1,3}$") of
            {ok, _} -> {ok, binary_to_integer(lists:last(binary:split(Text, <<"o">>)), 8)};
            error -> error
        end
    end).

%% @doc A file that exists, or none.
-spec file(term()) -> checked().
file(undefined) -> {ok, undefined};
file(Value) ->
    with_text(Value, fun(Text) ->
        ok_if(filelib:is_regular(Text), unicode:characters_to_binary(filename:absname(Text)))
    end).

%% @doc A text that no log is to print, or none: it comes out hidden.
-spec secret(term()) -> checked().
secret(undefined) -> {ok, undefined};
secret(Value) ->
    with_text(Value, fun(Text) -> {ok, hornbeam_secret:hide(binary_to_list(Text))} end).

%% @doc A secret that nobody guesses, and that a link can carry: it comes out hidden, as a binary.
-spec token(term()) -> checked().
token(undefined) ->
    {ok, undefined};
token(Value) ->
    with_text(Value, fun(Text) ->
        case re:run(Text, "^[!-~]{16,256}$", [dollar_endonly]) of
            {match, _} -> {ok, hornbeam_secret:hide(Text)};
            nomatch -> error
        end
    end).

%% @doc Versions of TLS, each at most once.
-spec tls_versions(term()) -> checked().
tls_versions([_ | _] = Value) when length(Value) =< 2 ->
    ok_if(Value -- ['tlsv1.2', 'tlsv1.3'] =:= [], Value);
tls_versions(_) ->
    error.

%% @doc A list of cipher suites by their names, OpenSSL's or the RFCs'; comes out as ssl knows them.
-spec ciphers(term()) -> checked().
ciphers(Value) when is_list(Value) ->
    all_ok([with_text(Name, fun cipher/1) || Name <- Value], []);
ciphers(_) ->
    error.

cipher(Name) ->
    Suite = ssl:str_to_suite(binary_to_list(Name)),
    Known = ssl:cipher_suites(exclusive, 'tlsv1.3') ++ ssl:cipher_suites(all, 'tlsv1.2'),
    ok_if(lists:member(Suite, Known), Suite).

with_text(Value, Fun) when is_binary(Value); is_list(Value) ->
    try unicode:characters_to_binary(Value) of
        Text when is_binary(Text) -> Fun(Text);
        _ -> error
    catch
        error:badarg -> error
    end;
with_text(_Value, _Fun) ->
    error.
