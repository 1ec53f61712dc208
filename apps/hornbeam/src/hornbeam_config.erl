%% What a server may be told, and how it is checked.
%%
%% Pure but for the few questions that a check must ask of the file system. Configuration
%% enters the application here and nowhere else; everything behind receives the checked map.
-module(hornbeam_config).

-export([check/2, defaults/0, expected/1, python/1]).
-export_type([options/0, bind/0, error/0]).

-type bind() :: {inet:ip_address(), inet:port_number()} | {local, binary()}.
-type options() :: #{atom() => term()}.
-type error() :: {bad_option, Key :: term(), Value :: term()}.

%% The longest message on the wire is 128 MiB; the rest of a frame's fields need room in it.
-define(MAX_MESSAGE, 16#7ff0000).

%% @doc Check the options of `start/2' for an app and fill in the defaults.
%%
%% Text may be given as string or binary and comes out as binary. The first option that is
%% unknown or has a value outside its type is returned as the error.
-spec check(App :: term(), Options :: term()) -> {ok, options()} | {error, error()}.
check(App, Options) when is_map(Options) ->
    Given = Options#{app => App},
    case lists:sort(maps:keys(Given) -- maps:keys(table())) of
        [] -> check_values(maps:to_list(table()), Given, #{});
        [Unknown | _] -> {error, {bad_option, Unknown, maps:get(Unknown, Given)}}
    end;
check(_App, Options) ->
    {error, {bad_option, options, Options}}.

check_values([], _Given, #{python := P, venv := V}) when P =/= undefined, V =/= undefined ->
    {error, {bad_option, venv, V}};
check_values([], _Given, Checked) ->
    {ok, Checked};
check_values([{Key, {Default, Check, _}} | Rest], Given, Checked) ->
    Value = maps:get(Key, Given, Default),
    case check_value(Check, Value) of
        {ok, Good} -> check_values(Rest, Given, Checked#{Key => Good});
        error -> {error, {bad_option, Key, Value}}
    end.

%% @doc Every option with its default, as it would be written by a user.
-spec defaults() -> #{atom() => term()}.
defaults() ->
    maps:map(fun(_Key, {Default, _, _}) -> Default end, maps:remove(app, table())).

%% @doc What an option expects, as the end of the sentence "expected …".
-spec expected(Key :: term()) -> string().
expected(options) ->
    "a map of options";
expected(Key) ->
    case table() of
        #{Key := {_, _, Expected}} -> Expected;
        #{} -> "one of the options of the configuration guide; this name is unknown"
    end.

%% @doc The interpreter that the workers run: `python', `venv', a `.venv' in the app's folder,
%% the node's or the release's, else `python3' on the path.
-spec python(options()) -> {ok, file:filename()} | {error, no_python}.
python(#{python := Python}) when Python =/= undefined ->
    found(os:find_executable(binary_to_list(Python)));
python(#{venv := Venv}) when Venv =/= undefined ->
    {ok, venv_python(Venv)};
python(#{chdir := Dir}) ->
    Venvs = [venv_python(filename:join(D, ".venv")) || D <- [Dir, ".", code:root_dir()]],
    case [filename:absname(P) || P <- Venvs, filelib:is_regular(P)] of
        [Python | _] -> {ok, Python};
        [] -> found(os:find_executable("python3"))
    end.

found(false) -> {error, no_python};
found(Path) -> {ok, filename:absname(Path)}.

venv_python(Venv) ->
    filename:absname(filename:join([Venv, "bin", "python"])).

%% The table of options: default, check, and what is expected.
table() ->
    #{app => {undefined, fun app/1, "\"module:attribute\", such as \"chat:application\""},
      bind => {"127.0.0.1:8000", fun bind/1,
               "\"ip:port\", \"[ipv6]:port\", \"localhost:port\" or \"unix:path\""},
      worker_class => {asgi, {one_of, [asgi]}, "asgi (wsgi is not supported yet)"},
      workers => {erlang:system_info(schedulers_online), positive, "a positive integer"},
      python => {undefined, fun executable/1, "the path of an executable Python interpreter"},
      venv => {undefined, fun venv/1,
               "the folder of a virtual environment; python and venv exclude each other"},
      pythonpath => {[], fun directories/1, "a list of existing folders"},
      chdir => {".", fun directory/1, "an existing folder"},
      env => {#{}, fun environment/1, "a map of names to text, for the workers' environment"},
      lifespan => {auto, {one_of, [auto, on, off]}, "auto, on or off"},
      root_path => {"", fun text/1, "text, such as \"/api\""},
      timeout => {30000, timeout, "milliseconds or infinity"},
      startup_timeout => {30000, positive, "milliseconds"},
      shutdown_timeout => {10000, positive, "milliseconds"},
      websocket_timeout => {60000, timeout, "milliseconds or infinity"},
      websocket_max_frame_size =>
          {16777216, {range, 1, ?MAX_MESSAGE}, "bytes, from 1 to 134152192"},
      websocket_compress => {false, {one_of, [true, false]}, "true or false"},
      websocket_ping_interval => {20000, timeout, "milliseconds or infinity"},
      max_connections => {infinity, timeout, "a positive integer or infinity"},
      loop => {auto, {one_of, [auto, uvloop, asyncio]}, "auto, uvloop or asyncio"},
      op_timeout => {5000, positive, "milliseconds"},
      rpc_allow => {[], fun functions/1, "a list of {Module, Function, Arity} or Module"},
      pubsub_queue_messages => {1000, positive, "a positive integer"},
      pubsub_queue_bytes => {1048576, positive, "bytes"},
      pubsub_overflow => {drop_oldest, {one_of, [drop_oldest, close, latest]},
                          "drop_oldest, close or latest"}}.

check_value({one_of, Values}, Value) -> ok_if(lists:member(Value, Values), Value);
check_value(positive, Value) -> ok_if(is_integer(Value) andalso Value > 0, Value);
check_value(timeout, infinity) -> {ok, infinity};
check_value(timeout, Value) -> check_value(positive, Value);
check_value({range, Low, High}, Value) ->
    ok_if(is_integer(Value) andalso Value >= Low andalso Value =< High, Value);
check_value(Check, Value) when is_function(Check, 1) -> Check(Value).

ok_if(true, Value) -> {ok, Value};
ok_if(false, _Value) -> error.

functions(Value) when is_list(Value) -> ok_if(lists:all(fun is_function_name/1, Value), Value);
functions(_) -> error.

is_function_name({Module, Function, Arity}) ->
    is_atom(Module) andalso is_atom(Function) andalso is_integer(Arity) andalso Arity >= 0;
is_function_name(Module) ->
    is_atom(Module).

app(Value) ->
    with_text(Value, fun(Text) ->
        Name = "[\\p{L}_][\\p{L}\\p{N}_]*(?:\\.[\\p{L}_][\\p{L}\\p{N}_]*)*",
        matches(Text, ["^", Name, ":", Name, "$"])
    end).

matches(Text, Regex) ->
    ok_if(re:run(Text, Regex, [unicode, dollar_endonly, {capture, none}]) =:= match, Text).

bind(Value) ->
    with_text(Value, fun parse_bind/1).

parse_bind(<<"unix:", Path/binary>>) when Path =/= <<>>, byte_size(Path) < 108 ->
    {ok, {local, Path}};
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

executable(undefined) -> {ok, undefined};
executable(Value) ->
    with_text(Value, fun(Text) ->
        ok_if(os:find_executable(binary_to_list(Text)) =/= false, Text)
    end).

venv(undefined) -> {ok, undefined};
venv(Value) ->
    with_text(Value, fun(Text) -> ok_if(filelib:is_file(venv_python(Text)), Text) end).

directory(Value) ->
    with_text(Value, fun(Text) ->
        ok_if(filelib:is_dir(Text), unicode:characters_to_binary(filename:absname(Text)))
    end).

directories(Value) when is_binary(Value) -> directories([Value]);
directories([Char | _] = Value) when is_integer(Char) -> directories([Value]);
directories(Value) when is_list(Value) -> all_ok([directory(Dir) || Dir <- Value], []);
directories(_) -> error.

all_ok([], Acc) -> {ok, lists:reverse(Acc)};
all_ok([{ok, Value} | Rest], Acc) -> all_ok(Rest, [Value | Acc]);
all_ok([error | _], _Acc) -> error.

environment(Value) when is_map(Value) ->
    Pairs = [{with_text(K, fun env_name/1), with_text(V, fun env_value/1)}
             || {K, V} <- maps:to_list(Value)],
    case [Pair || {{ok, _}, {ok, _}} = Pair <- Pairs] of
        Pairs -> {ok, maps:from_list([{K, V} || {{ok, K}, {ok, V}} <- Pairs])};
        _ -> error
    end;
environment(_) ->
    error.

env_name(Text) -> matches(Text, "^[^=\\x00]+$").

env_value(Text) -> ok_if(binary:match(Text, <<0>>) =:= nomatch, Text).

text(Value) -> with_text(Value, fun(Text) -> {ok, Text} end).

with_text(Value, Fun) when is_binary(Value); is_list(Value) ->
    try unicode:characters_to_binary(Value) of
        Text when is_binary(Text) -> Fun(Text);
        _ -> error
    catch
        error:badarg -> error
    end;
with_text(_Value, _Fun) ->
    error.
