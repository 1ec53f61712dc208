%% What a server may be told: the table of options.
%%
%% Configuration enters the application here and nowhere else; everything behind receives the
%% checked map. How a value is checked is told by hornbeam_option.
-module(hornbeam_config).

-export([check/2, defaults/0, expected/1, python/1]).
-export_type([options/0, bind/0, error/0]).

-type bind() :: hornbeam_option:bind().
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
%% Cowboy does not count frames.
check_values([], _Given, #{websocket_engine := cowboy, websocket_max_frame_rate := Rate})
        when Rate =/= infinity ->
    {error, {bad_option, websocket_engine, cowboy}};
check_values([], _Given, #{certfile := undefined, keyfile := Key, cacertfile := Ca,
                           keyfile_password := Password, verify := Verify})
        when Key =/= undefined; Ca =/= undefined; Password =/= undefined; Verify =/= none ->
    {error, {bad_option, certfile, undefined}};
check_values([], _Given, #{cacertfile := Ca, verify := Verify})
        when (Ca =:= undefined) =/= (Verify =:= none) ->
    {error, {bad_option, cacertfile, Ca}};
%% To develop with a page open is what reload is for.
check_values([], Given, #{reload := true} = Checked) when not is_map_key(websocket_resume, Given) ->
    {ok, Checked#{websocket_resume := true}};
check_values([], _Given, Checked) ->
    {ok, Checked};
check_values([{Key, {Default, Check, _}} | Rest], Given, Checked) ->
    Value = maps:get(Key, Given, Default),
    case hornbeam_option:check(Check, Value) of
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
    {ok, hornbeam_option:venv_python(Venv)};
python(#{chdir := Dir}) ->
    Folders = [Dir, ".", code:root_dir()],
    Pythons = [hornbeam_option:venv_python(filename:join(F, ".venv")) || F <- Folders],
    case [filename:absname(P) || P <- Pythons, filelib:is_regular(P)] of
        [Python | _] -> {ok, Python};
        [] -> found(os:find_executable("python3"))
    end.

found(false) -> {error, no_python};
found(Path) -> {ok, filename:absname(Path)}.

%% A row is the default, the check (see hornbeam_option), and what is expected.
table() ->
    #{app => {undefined, fun hornbeam_option:app/1,
              "\"module:attribute\", such as \"chat:application\""},
      bind => {"127.0.0.1:8000", fun hornbeam_option:bind/1,
               "\"ip:port\", \"[ipv6]:port\", \"localhost:port\" or \"unix:path\""},
      worker_class => {asgi, {one_of, [asgi]}, "asgi (wsgi is not supported yet)"},
      workers => {erlang:system_info(schedulers_online), positive, "a positive integer"},
      worker_connections => {infinity, timeout, "a positive integer or infinity"},
      queue_timeout => {5000, positive, "milliseconds"},
      queue_max => {1024, positive, "a positive integer"},
      max_requests => {infinity, timeout, "a positive integer or infinity"},
      max_requests_jitter => {0, count, "an integer, 0 or more"},
      worker_max_age => {infinity, timeout, "milliseconds or infinity"},
      worker_max_age_jitter => {0, count, "milliseconds, 0 or more"},
      worker_max_rss => {infinity, timeout, "bytes or infinity"},
      worker_hang_timeout => {30000, timeout, "milliseconds or infinity"},
      drain_timeout => {30000, positive, "milliseconds"},
      python => {undefined, fun hornbeam_option:executable/1,
                 "the path of an executable Python interpreter"},
      venv => {undefined, fun hornbeam_option:venv/1,
               "the folder of a virtual environment; python and venv exclude each other"},
      pythonpath => {[], fun hornbeam_option:directories/1, "a list of existing folders"},
      reload => {false, {one_of, [true, false]}, "true or false"},
      reload_dirs => {[], fun hornbeam_option:directories/1, "a list of existing folders"},
      reload_includes => {[], fun hornbeam_option:texts/1,
                          "a list of names of files, such as \"*.html\""},
      chdir => {".", fun hornbeam_option:directory/1, "an existing folder"},
      env => {#{}, fun hornbeam_option:environment/1,
              "a map of names to text, for the workers' environment"},
      lifespan => {auto, {one_of, [auto, on, off]}, "auto, on or off"},
      root_path => {"", fun hornbeam_option:text/1, "text, such as \"/api\""},
      timeout => {30000, timeout, "milliseconds or infinity"},
      startup_timeout => {30000, positive, "milliseconds"},
      shutdown_timeout => {10000, positive, "milliseconds"},
      websocket_timeout => {60000, timeout, "milliseconds or infinity"},
      websocket_max_frame_size =>
          {16777216, {range, 1, ?MAX_MESSAGE}, "bytes, from 1 to 134152192"},
      websocket_max_frame_rate => {infinity, timeout, "frames a second or infinity"},
      websocket_compress => {false, {one_of, [true, false]}, "true or false"},
      websocket_resume => {false, {one_of, [true, false]}, "true or false"},
      websocket_resume_attempts => {5, positive, "a positive integer"},
      websocket_resume_timeout => {60000, positive, "milliseconds"},
      websocket_ping_interval => {20000, timeout, "milliseconds or infinity"},
      websocket_engine => {hornbeam, {one_of, [hornbeam, cowboy]},
                           "hornbeam or cowboy; with cowboy, websocket_max_frame_rate must be "
                           "infinity"},
      allowed_origins => {same_host, fun hornbeam_option:origins/1,
                          "same_host, any, or a list of origins, such as \"https://*.example\""},
      allowed_hosts => {any, fun hornbeam_option:hosts/1,
                        "any or a list of host names, such as \"*.example\", without ports"},
      forwarded_allow_ips =>
          {["127.0.0.1", "::1"], fun hornbeam_option:peers/1,
           "any or a list of IP addresses, ranges such as \"10.0.0.0/8\", and \"unix\""},
      on_connect => {undefined, fun hornbeam_option:callback/1,
                     "a fun of one argument, or {Module, Function} of an exported one"},
      on_connect_timeout => {5000, positive, "milliseconds"},
      header_timeout => {10000, positive, "milliseconds"},
      keepalive_timeout => {75000, positive, "milliseconds"},
      limit_request_line => {16384, positive, "bytes"},
      limit_request_fields => {100, positive, "a positive integer"},
      limit_request_field_size => {16384, positive, "bytes"},
      limit_request_head => {65536, positive, "bytes"},
      max_body_size => {infinity, timeout, "bytes or infinity"},
      max_connections => {infinity, timeout, "a positive integer or infinity"},
      loop => {auto, {one_of, [auto, uvloop, asyncio]}, "auto, uvloop or asyncio"},
      op_timeout => {5000, positive, "milliseconds"},
      rpc_allow => {[], fun hornbeam_option:functions/1,
                    "a list of {Module, Function, Arity} or Module"},
      pubsub_queue_messages => {1000, positive, "a positive integer"},
      pubsub_queue_bytes => {1048576, positive, "bytes"},
      pubsub_overflow => {drop_oldest, {one_of, [drop_oldest, close, latest]},
                          "drop_oldest, close or latest"},
      certfile =>
          {undefined, fun hornbeam_option:file/1,
           "the path of a PEM file; keyfile, keyfile_password, cacertfile and verify need it"},
      keyfile => {undefined, fun hornbeam_option:file/1, "the path of a PEM file"},
      keyfile_password => {undefined, fun hornbeam_option:secret/1, "text"},
      cacertfile =>
          {undefined, fun hornbeam_option:file/1,
           "the path of a PEM file when verify is optional or required, and only then"},
      verify => {none, {one_of, [none, optional, required]}, "none, optional or required"},
      tls_versions =>
          {['tlsv1.2', 'tlsv1.3'], fun hornbeam_option:tls_versions/1,
           "a list of 'tlsv1.2' and 'tlsv1.3'"},
      ciphers => {[], fun hornbeam_option:ciphers/1,
                  "a list of names of cipher suites that Erlang's ssl knows"},
      http2_max_streams => {100, {range, 1, 10000}, "a number from 1 to 10000"},
      http2_max_resets => {500, {range, 1, 1000000}, "a number from 1 to 1000000"},
      http2_max_frames => {100000, {range, 1000, 100000000},
                           "a number from 1000 to 100000000"}}.

