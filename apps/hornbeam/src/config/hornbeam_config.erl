%% What a server and the apps that it serves may be told: the two tables of options.
%%
%% Configuration enters the application here and nowhere else; everything behind receives a checked
%% map. A user gives one map of both, and in it the option `mounts' where there are several apps.
%% How a value is checked is told by hornbeam_option.
-module(hornbeam_config).

-export([check/2, defaults/1, expected/1, python/1]).
-export_type([checked/0, path/0, server_options/0, app_options/0, bind/0, error/0, in_mount/1]).

-type checked() :: #{server := server_options(), mounts := [{path(), app_options()}, ...]}.
%% In the order in which they were given; one app without mounts is at `/'.

-type path() :: binary().
%% Where an app is served: `/', or a path that begins with a slash and does not end in one.

-type bind() :: hornbeam_option:bind().
-type error() ::
    {bad_option, Key :: term(), Value :: term()}
    | in_mount({bad_option, Key :: term(), Value :: term()} | {servers_option, Key :: atom()}
               | repeated).
%% `hidden' stands for a value that may be secret, {Option, Key} for a key of an option that is a
%% map.

-type in_mount(Reason) :: {mount, Path :: term(), Reason}.
%% Of one of several apps. Where its path is wrong it stands as it was given; a number says which of
%% them has none.

-type limit() :: pos_integer() | infinity.
-type milliseconds() :: pos_integer().
-type bytes() :: pos_integer().

%% The listener: where it is, who may come in, and how much of anything.
-type server_options() :: #{
    bind := [bind(), ...],
    redirect_http := bind() | undefined,
    redirect_port := inet:port_number() | undefined,
    proxy_protocol := boolean(),
    proxy_protocol_from := any | [hornbeam_option:peer()],
    backlog := pos_integer(),
    http_engine := hornbeam | cowboy,
    access_log := boolean(),
    access_log_format := hornbeam_option:log_format(),
    headers := [{Name :: binary(), Value :: binary()}],
    request_id := boolean(),
    server_header := boolean(),
    date_header := boolean(),
    allowed_hosts := any | [hornbeam_origin:host_pattern()],
    forwarded_allow_ips := any | [hornbeam_option:peer()],
    max_connections := limit(),
    header_timeout := milliseconds(),
    keepalive_timeout := milliseconds(),
    shutdown_timeout := milliseconds(),
    drain_delay := non_neg_integer(),
    health_path := binary() | undefined,
    uds_permissions := 0..8#777 | undefined,
    limit_request_line := bytes(),
    limit_request_fields := pos_integer(),
    limit_request_field_size := bytes(),
    limit_request_head := bytes(),
    certfile := binary() | undefined,
    keyfile := binary() | undefined,
    keyfile_password := hornbeam_option:secret() | undefined,
    cacertfile := binary() | undefined,
    verify := none | optional | required,
    tls_versions := [hornbeam_option:tls_version(), ...],
    ciphers := [ssl:erl_cipher_suite()],
    http2_max_streams := pos_integer(),
    http2_max_resets := pos_integer(),
    http2_max_frames := pos_integer(),
    state_max_bytes := bytes() | infinity,
    state_max_rows := limit(),
    connection_state_max_bytes := bytes() | infinity,
    connection_state_max_rows := limit(),
    connection_max_topics := limit(),
    worker_max_hooks := limit(),
    worker_max_executions := limit(),
    worker_max_unread_bytes := bytes() | infinity,
    peer_max_unsent_bytes := bytes(),
    peer_max_undelivered_bytes := bytes(),
    local_socket := auto | off | binary(),
    metrics := false | {inet:ip_address(), inet:port_number()},
    dashboard := boolean(),
    dashboard_token := hornbeam_secret:secret(binary()) | undefined,
    cluster := hornbeam_cluster_option:cluster() | undefined
}.

%% What is served: its code, its processes, and what its clients may do there.
-type app_options() :: #{
    app := binary(),
    factory := boolean(),
    worker_class := asgi | asgi2 | wsgi,
    threads := pos_integer(),
    workers := pos_integer(),
    worker_connections := limit(),
    queue_timeout := milliseconds(),
    queue_max := pos_integer(),
    affinity := hornbeam_option:affinity(),
    affinity_timeout := milliseconds(),
    affinity_max_sessions := pos_integer(),
    max_requests := limit(),
    max_requests_jitter := non_neg_integer(),
    worker_max_age := milliseconds() | infinity,
    worker_max_age_jitter := non_neg_integer(),
    worker_max_rss := bytes() | infinity,
    worker_hang_timeout := milliseconds() | infinity,
    drain_timeout := milliseconds(),
    startup_timeout := milliseconds(),
    python := binary() | undefined,
    venv := binary() | undefined,
    pythonpath := [binary()],
    chdir := binary(),
    env := hornbeam_secret:secret(#{binary() => binary()}),
    reload := boolean(),
    reload_dirs := [binary()],
    reload_includes := [binary()],
    reload_excludes := [binary()],
    reload_delay := milliseconds(),
    loop := auto | uvloop | asyncio,
    lifespan := auto | on | off,
    log_config := binary() | undefined,
    root_path := binary(),
    timeout := milliseconds() | infinity,
    max_body_size := bytes() | infinity,
    limit_response_head := bytes(),
    limit_response_fields := pos_integer(),
    websocket_timeout := milliseconds() | infinity,
    websocket_ping_interval := milliseconds() | infinity,
    websocket_max_frame_size := bytes(),
    websocket_max_frame_rate := limit(),
    websocket_compress := boolean(),
    websocket_resume := boolean(),
    websocket_resume_attempts := pos_integer(),
    websocket_resume_timeout := milliseconds(),
    allowed_origins := any | same_host | [same_host | hornbeam_origin:pattern()],
    on_connect := hornbeam_option:callback() | undefined,
    on_connect_timeout := milliseconds(),
    op_timeout := milliseconds(),
    rpc_allow := [module() | mfa()],
    pubsub_queue_messages := pos_integer(),
    pubsub_queue_bytes := bytes(),
    pubsub_overflow := drop_oldest | close | latest
}.

%% The longest message on the wire is 128 MiB; the rest of a frame's fields need room in it.
-define(MAX_MESSAGE, 16#7ff0000).

%% An accept with all of its headers is a message without payload, of 1 MiB at most: a header takes
%% up to 7 bytes more there than it is counted with.
-define(MAX_RESPONSE_HEAD, 524288).
-define(MAX_RESPONSE_FIELDS, 10000).

%% @doc Check the options of `start/2' for an app, fill in the defaults, and take apart what the
%% server is told and what each app.
%%
%% Text may be given as string or binary and comes out as binary. The first option that is
%% unknown or has a value outside its type is returned as the error. With the option `mounts' the
%% app is one more of them, at `/', unless it is undefined.
-spec check(App :: term(), Options :: term()) -> {ok, checked()} | {error, error()}.
check(App, #{mounts := Mounts} = Options) ->
    Given = maps:remove(mounts, Options),
    checked([fun(_) -> check_names(Given) end,
             fun(_) -> check_common(Given) end,
             fun(_) -> check_list(Mounts) end,
             fun(_) -> check_server(Given) end,
             fun(Server) -> check_mounts(with_app(App, Mounts), Given, Server) end]);
check(App, Options) when is_map(Options) ->
    Given = Options#{app => App},
    checked([fun(_) -> check_names(Given) end,
             fun(_) -> check_server(Given) end,
             fun(Server) -> check_only(Given, Server) end]);
check(_App, Options) ->
    {error, {bad_option, options, Options}}.

%% One check after the other, each with what the one before has given, up to the first error.
checked(Checks) ->
    lists:foldl(fun(Check, {ok, Before}) -> Check(Before);
                   (_Check, {error, _} = Error) -> Error
                end, {ok, none}, Checks).

check_names(Given) ->
    case lists:sort(maps:keys(Given) -- maps:keys(both_tables())) of
        [] -> {ok, none};
        [Unknown | _] -> {error, {bad_option, Unknown, maps:get(Unknown, Given)}}
    end.

check_server(Given) ->
    checked([fun(_) -> check_values(table(server), Given) end,
             fun(Server) -> fitting([misfit(Server), misfit_redirect(Server)], Server) end]).

check_only(Given, Server) ->
    checked([fun(_) -> check_app(Given, Server) end,
             fun(App) -> {ok, #{server => Server, mounts => [{<<"/">>, App}]}} end]).

check_app(Given, Server) ->
    checked([fun(_) -> check_values(table(app), Given) end,
             fun(App) -> check_interpreter(python, Given, App) end,
             fun(App) -> check_interpreter(venv, Given, App) end,
             fun(App) -> {ok, with_threads(Given, with_resume(Given, App))} end,
             fun(App) -> fitting([misfit(App), misfit(Server, App), misfit_interface(Given, App)],
                                 App) end]).

check_values(Table, Given) ->
    check_values(lists:sort(maps:to_list(Table)), Given, #{}).

check_values([], _Given, Checked) ->
    {ok, Checked};
check_values([{Key, {Default, Check, _}} | Rest], Given, Checked) ->
    Value = maps:get(Key, Given, Default),
    case hornbeam_option:check(Check, Value) of
        {ok, Good} -> check_values(Rest, Given, Checked#{Key => Good});
        {error, Within, Wrong} -> {error, {bad_option, {Key, Within}, Wrong}};
        error -> {error, {bad_option, Key, shown(Key, Value)}}
    end.

%% Where it is depends on the app's folder.
check_interpreter(Key, Given, #{chdir := Folder} = App) ->
    case interpreter(Key, maps:get(Key, App), Folder) of
        {ok, Found} -> {ok, App#{Key := Found}};
        error -> {error, {bad_option, Key, maps:get(Key, Given)}}
    end.

interpreter(_Key, undefined, _Folder) -> {ok, undefined};
interpreter(python, Python, Folder) -> hornbeam_option:program(Python, Folder);
interpreter(venv, Venv, Folder) -> hornbeam_option:venv(Venv, Folder).

%% An error is printed, and what is wrong may be a part of what is secret.
shown(Key, _Value) when Key =:= env; Key =:= keyfile_password; Key =:= dashboard_token;
                        Key =:= cluster ->
    hidden;
shown(_Key, Value) ->
    Value.

%% To develop with a page open is what reload is for.
with_resume(Given, #{reload := true} = App) when not is_map_key(websocket_resume, Given) ->
    App#{websocket_resume := true};
with_resume(_Given, App) ->
    App.

%% A thread runs one request. So that is what a worker is given at once.
with_threads(Given, #{worker_class := wsgi, threads := Threads} = App)
        when not is_map_key(worker_connections, Given) ->
    App#{worker_connections := Threads};
with_threads(_Given, App) ->
    App.

%% Mounts.

%% Also what each of them says otherwise has to be right.
check_common(Given) ->
    check_values(maps:remove(app, table(app)), Given).

check_list([_ | _] = Mounts) when length(Mounts) > 0 ->
    case [Mount || Mount <- Mounts, not is_map(Mount)] of
        [] -> {ok, none};
        [Wrong | _] -> {error, {bad_option, mounts, Wrong}}
    end;
check_list(Wrong) ->
    {error, {bad_option, mounts, Wrong}}.

with_app(undefined, Mounts) -> Mounts;
with_app(App, Mounts) -> [#{path => "/", app => App} | Mounts].

check_mounts(Mounts, Given, Server) ->
    Numbered = lists:zip(lists:seq(1, length(Mounts)), Mounts),
    checked([fun(_) -> {ok, []} end]
            ++ [fun(Before) -> check_mount(Number, Mount, Given, {Server, Before}) end
                || {Number, Mount} <- Numbered]
            ++ [fun(All) -> {ok, #{server => Server, mounts => lists:reverse(All)}} end]).

check_mount(Number, Mount, Given, {Server, Before}) ->
    Named = maps:get(path, Mount, undefined),
    Own = maps:remove(path, Mount),
    case checked([fun(_) -> check_path(Named, Before) end,
                  fun(Path) -> check_own(Path, Own, Given, Server) end]) of
        {ok, Good} -> {ok, [Good | Before]};
        {error, Why} -> {error, {mount, called(Named, Number), Why}}
    end.

called(undefined, Number) -> Number;
called(Path, _Number) ->
    case hornbeam_option:text(Path) of
        {ok, Text} -> Text;
        error -> Path
    end.

check_path(Named, Before) ->
    case hornbeam_option:mount_path(Named) of
        {ok, Path} -> repeated_or(Path, lists:keymember(Path, 1, Before));
        error -> {error, {bad_option, path, Named}}
    end.

repeated_or(_Path, true) -> {error, repeated};
repeated_or(Path, false) -> {ok, Path}.

check_own(Path, Own, Common, Server) ->
    Given = with_common(Own, Common),
    checked([fun(_) -> check_names(Own) end,
             fun(_) -> check_no_servers(Own) end,
             fun(_) -> check_app(Given, Server) end,
             fun(App) -> {ok, {Path, below(Path, App)}} end]).

check_no_servers(Own) ->
    case lists:sort(maps:keys(maps:with(maps:keys(table(server)), Own))) of
        [] -> {ok, none};
        [Key | _] -> {error, {servers_option, Key}}
    end.

%% What is said of all holds where a mount says nothing, and can have a meaning there. An
%% interpreter of its own, in whatever way it is said, comes in the place of the one that all have.
with_common(Own, Common) ->
    Otherwise = [venv || is_map_key(python, Own)] ++ [python || is_map_key(venv, Own)],
    Class = maps:get(worker_class, Own, maps:get(worker_class, Common, asgi)),
    maps:merge(maps:without([app, without_meaning(Class) | Otherwise], Common), Own).

without_meaning(wsgi) -> lifespan;
without_meaning(_Class) -> threads.

%% The path below which clients see it: the mount's, behind what a proxy has taken off.
below(<<"/">>, App) -> App;
below(Path, #{root_path := Root} = App) -> App#{root_path := <<Root/binary, Path/binary>>}.

%% What does not go together.

fitting(Misfits, Options) ->
    case [Misfit || {_, _} = Misfit <- Misfits] of
        [] -> {ok, Options};
        [{Key, Value} | _] -> {error, {bad_option, Key, Value}}
    end.

misfit(#{python := Python, venv := Venv}) when Python =/= undefined, Venv =/= undefined ->
    {venv, Venv};
misfit(#{certfile := undefined, keyfile := Key, cacertfile := Ca, keyfile_password := Password,
         verify := Verify, redirect_http := Redirect})
        when Key =/= undefined; Ca =/= undefined; Password =/= undefined; Verify =/= none;
             Redirect =/= undefined ->
    {certfile, undefined};
misfit(#{cacertfile := Ca, verify := Verify}) when (Ca =:= undefined) =/= (Verify =:= none) ->
    {cacertfile, Ca};
misfit(_Options) ->
    none.

misfit_redirect(#{redirect_http := Redirect, redirect_port := undefined, bind := Binds})
        when Redirect =/= undefined ->
    case lists:all(fun(Bind) -> element(1, Bind) =:= local end, Binds) of
        true -> {redirect_port, undefined};
        false -> none
    end;
misfit_redirect(_Server) ->
    none.

%% Cowboy does not count frames.
misfit(#{http_engine := cowboy}, #{websocket_max_frame_rate := Rate}) when Rate =/= infinity ->
    {http_engine, cowboy};
misfit(_Server, _App) ->
    none.

misfit_interface(#{threads := Threads}, #{worker_class := Class}) when Class =/= wsgi ->
    {threads, Threads};
misfit_interface(_Given, #{worker_class := wsgi, lifespan := on}) ->
    {lifespan, on};
misfit_interface(_Given, _App) ->
    none.

%% @doc The server's or the app's options with their defaults, as they would be written by a user.
-spec defaults(server | app) -> #{atom() => term()}.
defaults(Whose) ->
    maps:map(fun(_Key, {Default, _, _}) -> Default end, maps:remove(app, table(Whose))).

%% @doc What an option expects, as the end of the sentence "expected …".
-spec expected(Key :: term()) -> string().
expected(options) ->
    "a map of options";
expected(mounts) ->
    "a list of maps, each with path, app, and options of the app";
expected(path) ->
    "\"/\", or a path such as \"/api\": with a slash in front and none at its end, written as "
    "people read it, without percent signs, a query, empty segments or dots as segments";
expected({cluster, Key}) ->
    hornbeam_cluster_option:expected(Key);
expected(Key) ->
    case both_tables() of
        #{Key := {_, _, Expected}} -> Expected;
        #{} -> "one of the options of the configuration guide; this name is unknown"
    end.

%% @doc The interpreter that the workers run: `python', `venv', a `.venv' in the app's folder,
%% the node's or the release's, else `python3' on the path.
-spec python(app_options()) -> {ok, file:filename()} | {error, no_python}.
python(#{python := Python}) when Python =/= undefined ->
    found(hornbeam_option:program(Python));
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
table(server) ->
    #{bind => {"127.0.0.1:8000", fun hornbeam_option:binds/1,
               "\"ip:port\", \"[ipv6]:port\", \"localhost:port\", \"unix:path\" or "
               "\"fd:number\", or a list of them"},
      redirect_http =>
          {undefined, fun hornbeam_option:redirect/1,
           "an address as for bind; it needs certfile"},
      redirect_port =>
          {undefined, fun hornbeam_option:port/1,
           "a number from 1 to 65535, which redirect_http needs where bind has no port"},
      proxy_protocol => {false, {one_of, [true, false]}, "true or false"},
      proxy_protocol_from =>
          {["127.0.0.1", "::1"], fun hornbeam_option:peers/1,
           "any or a list of IP addresses, ranges such as \"10.0.0.0/8\", and \"unix\""},
      backlog => {2048, positive, "a positive integer"},
      http_engine => {hornbeam, {one_of, [hornbeam, cowboy]},
                           "hornbeam or cowboy; with cowboy, websocket_max_frame_rate must be "
                           "infinity"},
      access_log => {false, {one_of, [true, false]}, "true or false"},
      access_log_format =>
          {short, fun hornbeam_option:log_format/1,
           "short, common, combined, json, or text with Apache's directives: %h %l %u %t %r %m %U "
           "%q %H %s %>s %b %B %D %T %{Name}i %{x-request-id}o and %%"},
      headers => {[], fun hornbeam_option:headers/1,
                  "a list of texts such as \"x-frame-options: DENY\", but for headers that are "
                  "about the connection or the length of a body"},
      request_id => {false, {one_of, [true, false]}, "true or false"},
      server_header => {true, {one_of, [true, false]}, "true or false"},
      date_header => {true, {one_of, [true, false]}, "true or false"},
      allowed_hosts => {any, fun hornbeam_option:hosts/1,
                        "any or a list of host names, such as \"*.example\", without ports"},
      forwarded_allow_ips =>
          {["127.0.0.1", "::1"], fun hornbeam_option:peers/1,
           "any or a list of IP addresses, ranges such as \"10.0.0.0/8\", and \"unix\""},
      max_connections => {infinity, timeout, "a positive integer or infinity"},
      header_timeout => {10000, positive, "milliseconds"},
      keepalive_timeout => {75000, positive, "milliseconds"},
      shutdown_timeout => {10000, positive, "milliseconds"},
      drain_delay => {0, count, "milliseconds, 0 or more"},
      health_path => {undefined, fun hornbeam_option:health_path/1,
                      "a path such as \"/healthz\", written as people read it, and not \"/\""},
      uds_permissions => {undefined, fun hornbeam_option:permissions/1,
                          "a mode of a file in octal digits, such as \"660\""},
      limit_request_line => {16384, positive, "bytes"},
      limit_request_fields => {100, positive, "a positive integer"},
      limit_request_field_size => {16384, positive, "bytes"},
      limit_request_head => {65536, positive, "bytes"},
      certfile =>
          {undefined, fun hornbeam_option:file/1,
           "the path of a PEM file; keyfile, keyfile_password, cacertfile, verify and "
           "redirect_http need it"},
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
                           "a number from 1000 to 100000000"},
      state_max_bytes => {1073741824, timeout, "bytes or infinity"},
      state_max_rows => {10000000, timeout, "a positive integer or infinity"},
      connection_state_max_bytes => {16777216, timeout, "bytes or infinity"},
      connection_state_max_rows => {100000, timeout, "a positive integer or infinity"},
      connection_max_topics => {10000, timeout, "a positive integer or infinity"},
      worker_max_hooks => {1000, timeout, "a positive integer or infinity"},
      worker_max_executions => {4096, timeout, "a positive integer or infinity"},
      worker_max_unread_bytes => {268435456, timeout, "bytes or infinity"},
      peer_max_unsent_bytes => {67108864, positive, "bytes"},
      peer_max_undelivered_bytes => {67108864, positive, "bytes"},
      local_socket => {auto, fun hornbeam_option:local_socket/1,
                       "auto, off, or the path of a Unix socket, of at most 107 bytes"},
      metrics => {false, fun hornbeam_option:metrics/1,
                  "true, false, \"ip:port\", \"[ipv6]:port\" or \"localhost:port\""},
      dashboard => {false, {one_of, [true, false]}, "true or false"},
      dashboard_token => {undefined, fun hornbeam_option:token/1,
                          "text of 16 to 256 characters of ASCII, without blanks"},
      cluster => {undefined, fun hornbeam_cluster_option:check/1,
                  "a map with name, join, and how the nodes prove that they belong together: the "
                  "clustering guide has its keys"}};
table(app) ->
    #{app => {undefined, fun hornbeam_option:app/1,
              "\"module:attribute\", such as \"chat:application\""},
      factory => {false, {one_of, [true, false]}, "true or false"},
      worker_class => {asgi, {one_of, [asgi, asgi2, wsgi]}, "asgi, asgi2 or wsgi"},
      threads => {10, {range, 1, 1000}, "a number from 1 to 1000, and worker_class wsgi"},
      workers => {hornbeam_processors:count(), workers, "a positive integer, at most 1000"},
      worker_connections => {infinity, timeout, "a positive integer or infinity"},
      queue_timeout => {30000, positive, "milliseconds"},
      queue_max => {1024, positive, "a positive integer"},
      affinity => {none, fun hornbeam_option:affinity/1,
                   "none, client, socketio, mcp, \"cookie:NAME\", \"set-cookie:NAME\", "
                   "\"query:NAME\" or \"header:NAME\"; {cookie, Name} and the like in Erlang"},
      affinity_timeout => {3600000, positive, "milliseconds"},
      affinity_max_sessions => {100000, positive, "a positive integer"},
      max_requests => {infinity, timeout, "a positive integer or infinity"},
      max_requests_jitter => {0, count, "an integer, 0 or more"},
      worker_max_age => {infinity, timeout, "milliseconds or infinity"},
      worker_max_age_jitter => {0, count, "milliseconds, 0 or more"},
      worker_max_rss => {infinity, timeout, "bytes or infinity"},
      worker_hang_timeout => {60000, timeout, "milliseconds or infinity"},
      drain_timeout => {30000, positive, "milliseconds"},
      startup_timeout => {300000, positive, "milliseconds"},
      python => {undefined, fun hornbeam_option:path/1,
                 "an executable Python interpreter: a name that is on the path, or a path, which "
                 "if it is relative begins in the app's folder or the node's"},
      venv => {undefined, fun hornbeam_option:path/1,
               "the folder of a virtual environment, found as python is; the two exclude each "
               "other"},
      pythonpath => {[], fun hornbeam_option:directories/1, "a list of existing folders"},
      chdir => {".", fun hornbeam_option:directory/1, "an existing folder"},
      env => {#{}, fun hornbeam_option:environment/1,
              "a map of names to text, for the workers' environment"},
      reload => {false, {one_of, [true, false]}, "true or false"},
      reload_dirs => {[], fun hornbeam_option:directories/1, "a list of existing folders"},
      reload_includes => {[], fun hornbeam_option:texts/1,
                          "a list of names of files, such as \"*.html\""},
      reload_excludes => {[], fun hornbeam_option:texts/1,
                          "a list of names of files and folders, such as \"*_test.py\""},
      reload_delay => {50, positive, "milliseconds"},
      loop => {auto, {one_of, [auto, uvloop, asyncio]}, "auto, uvloop or asyncio"},
      lifespan => {auto, {one_of, [auto, on, off]},
                   "auto, on or off; not on with worker_class wsgi"},
      log_config => {undefined, fun hornbeam_option:file/1, "the path of a file"},
      root_path => {"", fun hornbeam_option:root_path/1,
                    "a path such as \"/api\", with a slash in front and none at its end"},
      timeout => {30000, timeout, "milliseconds or infinity"},
      max_body_size => {infinity, timeout, "bytes or infinity"},
      limit_response_head =>
          {65536, {range, 1, ?MAX_RESPONSE_HEAD}, "bytes, from 1 to 524288"},
      limit_response_fields =>
          {256, {range, 1, ?MAX_RESPONSE_FIELDS}, "a number from 1 to 10000"},
      websocket_timeout => {60000, timeout, "milliseconds or infinity"},
      websocket_ping_interval => {20000, timeout, "milliseconds or infinity"},
      websocket_max_frame_size =>
          {16777216, {range, 1, ?MAX_MESSAGE}, "bytes, from 1 to 134152192"},
      websocket_max_frame_rate => {infinity, timeout, "frames a second or infinity"},
      websocket_compress => {false, {one_of, [true, false]}, "true or false"},
      websocket_resume => {false, {one_of, [true, false]}, "true or false"},
      websocket_resume_attempts => {5, positive, "a positive integer"},
      websocket_resume_timeout => {120000, positive, "milliseconds"},
      allowed_origins => {same_host, fun hornbeam_option:origins/1,
                          "same_host, any, or a list of origins, such as \"https://*.example\""},
      on_connect => {undefined, fun hornbeam_option:callback/1,
                     "a fun of one argument, or {Module, Function} of an exported one"},
      on_connect_timeout => {5000, positive, "milliseconds"},
      op_timeout => {5000, positive, "milliseconds"},
      rpc_allow => {[], fun hornbeam_option:functions/1,
                    "a list of {Module, Function, Arity} or Module"},
      pubsub_queue_messages => {1000, positive, "a positive integer"},
      pubsub_queue_bytes => {1048576, positive, "bytes"},
      pubsub_overflow => {drop_oldest, {one_of, [drop_oldest, close, latest]},
                          "drop_oldest, close or latest"}}.

both_tables() ->
    maps:merge(table(server), table(app)).
