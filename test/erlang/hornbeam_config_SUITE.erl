%% Options: what is accepted, what is refused, and that the guide tells the truth about them.
-module(hornbeam_config_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [the_guide_lists_every_option_with_its_default, the_types_name_every_option,
     an_option_is_the_servers_or_the_apps, every_option_says_what_it_expects,
     good_values_are_accepted, bad_values_are_refused,
     a_rate_of_frames_needs_the_engine_that_counts_them, unknown_keys_are_refused,
     addresses_are_parsed, several_addresses_are_a_list,
     nothing_unparsable_becomes_an_address, apps_are_named_module_attribute,
     text_may_be_string_or_binary, python_and_venv_exclude_each_other,
     an_interpreter_may_be_found_from_the_folder_of_the_app,
     an_interpreter_may_be_found_from_the_folder_of_the_node,
     the_options_of_tls_need_each_other, a_password_is_printed_by_no_log,
     a_cluster_has_a_name_and_a_secret, the_keys_of_a_cluster_are_checked,
     a_cookie_is_printed_by_no_log, limits_of_http2_are_bounded,
     threads_are_those_of_wsgi_and_bound_what_a_worker_is_given,
     with_reload_sockets_go_on_unless_it_is_said,
     the_interpreter_is_found_in_the_documented_order, an_interpreter_may_have_any_name].

the_guide_lists_every_option_with_its_default(_Config) ->
    [begin
         Defaults = hornbeam_config:defaults(Whose),
         Rows = guide_rows(Title),
         ?assertEqual(lists:sort(maps:keys(Defaults)), lists:sort([Key || {Key, _} <- Rows])),
         [?assertEqual({Key, documented(maps:get(Key, Defaults), Key)}, {Key, Default})
          || {Key, Default} <- Rows]
     end || {Whose, Title} <- [{server, "\n## The server\n"}, {app, "\n## The app\n"}]].

guide_rows(Title) ->
    {ok, Guide} = file:read_file(project_file("docs/guide/configuration.md")),
    [_, FromTitle] = string:split(Guide, Title),
    [Text | _] = string:split(FromTitle, "\n## "),
    {match, Rows} = re:run(Text, "^\\| `([a-z0-9_]+)` \\| ([^|]+) \\|",
                           [global, multiline, {capture, all_but_first, binary}]),
    [{binary_to_existing_atom(Key), string:trim(Default)} || [Key, Default] <- Rows].

documented(_Default, workers) -> <<"processors">>;
documented("", root_path) -> <<"`\"\"`">>;
documented(Default, _Key) -> iolist_to_binary(io_lib:format("`~0tp`", [Default])).

the_types_name_every_option(_Config) ->
    ?assertEqual(lists:sort(maps:keys(hornbeam_config:defaults(server))), fields(server_options)),
    ?assertEqual(lists:sort([app | maps:keys(hornbeam_config:defaults(app))]),
                 fields(app_options)).

fields(Type) ->
    Beam = code:which(hornbeam_config),
    {ok, {_, [{abstract_code, {_, Forms}}]}} = beam_lib:chunks(Beam, [abstract_code]),
    [Fields] = [Fields || {attribute, _, type, {Name, {type, _, map, Fields}, []}} <- Forms,
                          Name =:= Type],
    lists:sort([Key || {type, _, map_field_exact, [{atom, _, Key}, _]} <- Fields]).

an_option_is_the_servers_or_the_apps(_Config) ->
    {ok, #{server := Server, mounts := [{<<"/">>, App}]} = Checked} =
        hornbeam_config:check("app:application", #{timeout => 7, header_timeout => 8}),
    ?assertEqual(2, map_size(Checked)),
    ?assertMatch({#{header_timeout := 8}, #{timeout := 7, app := <<"app:application">>}},
                 {Server, App}),
    ?assertEqual(#{}, maps:with(maps:keys(Server), App)).

every_option_says_what_it_expects(_Config) ->
    [?assertNotEqual(hornbeam_config:expected(no_such_option), hornbeam_config:expected(Key))
     || Whose <- [server, app], Key <- maps:keys(hornbeam_config:defaults(Whose))].

good_values_are_accepted(Config) ->
    Dir = proplists:get_value(priv_dir, Config),
    Good = [{worker_class, asgi}, {worker_class, asgi2}, {worker_class, wsgi}, {workers, 1},
            {workers, 1000},
            {python, "python3"}, {pythonpath, [Dir]},
            {pythonpath, Dir}, {chdir, Dir}, {env, #{"A" => "b", <<"C">> => <<>>}},
            {lifespan, on}, {lifespan, off}, {root_path, "/api"}, {timeout, 1},
            {timeout, infinity}, {startup_timeout, 1}, {shutdown_timeout, 1},
            {websocket_timeout, 1}, {websocket_max_frame_size, 1},
            {websocket_max_frame_size, 134152192}, {websocket_compress, true},
            {allowed_origins, any}, {allowed_origins, same_host}, {allowed_origins, []},
            {allowed_origins, ["https://a.example", <<"http://*.b.example:8080">>, same_host]},
            {allowed_origins, "https://a.example/"}, {allowed_origins, "null"},
            {allowed_origins, ["chrome-extension://id", "file://", "file:///", "null"]},
            {allowed_origins, ["app://localhost", "app://*.b:65535", "a+b.c-1://[::1]"]},
            {allowed_hosts, any},
            {allowed_hosts, ["a.example", <<"*.b.example">>, "[::1]", "10.0.0.1"]},
            {forwarded_allow_ips, any}, {forwarded_allow_ips, []},
            {forwarded_allow_ips, ["::1", <<"10.0.0.0/8">>, "2001:db8::/128", "unix", "::/0"]},
            {on_connect, fun(_) -> ok end}, {on_connect, {maps, size}}, {on_connect, undefined},
            {header_timeout, 1}, {keepalive_timeout, 1}, {limit_request_line, 1},
            {limit_request_fields, 1}, {limit_request_field_size, 1}, {limit_request_head, 1},
            {max_body_size, 1}, {max_body_size, infinity}, {on_connect_timeout, 1},
            {websocket_ping_interval, infinity},
            {max_connections, 1}, {loop, asyncio},
            {worker_connections, 1}, {worker_connections, infinity}, {queue_timeout, 1},
            {queue_max, 1},
            {websocket_max_frame_rate, 1}, {websocket_max_frame_rate, infinity},
            {http_engine, cowboy},
            {reload, true}, {reload_dirs, Dir}, {reload_dirs, [Dir, Dir]},
            {access_log, true}, {access_log_format, json}, {access_log_format, "%h \"%r\" 100%%"},
            {factory, true}, {backlog, 1}, {reload_excludes, "*_test.py"}, {reload_delay, 1},
            {reload_includes, "*.html"}, {reload_includes, ["*.html", <<"*.ü"/utf8>>]},
            {max_requests, 1}, {max_requests, infinity}, {max_requests_jitter, 0},
            {max_requests_jitter, 1}, {worker_max_age, 1}, {worker_max_age, infinity},
            {headers, "a: b"}, {headers, ["A: b, c", <<"x:">>]}, {headers, [{"a", <<"b">>}]},
            {server_header, false}, {date_header, false}, {bind, "fd:0"}, {bind, "fd:17"},
            {worker_max_age_jitter, 0}, {worker_max_rss, 1}, {worker_max_rss, infinity},
            {worker_hang_timeout, 1}, {worker_hang_timeout, infinity}, {drain_timeout, 1},
            {dashboard, true}, {dashboard_token, undefined},
            {dashboard_token, "0123456789abcdef"}, {dashboard_token, lists:duplicate(256, $~)}],
    [?assertMatch({Key, {ok, _}}, {Key, check(#{Key => Value})}) || {Key, Value} <- Good].

bad_values_are_refused(_Config) ->
    Bad = [{headers, ["a"]}, {headers, [": b"]}, {headers, ["a b: c"]}, {headers, ["a: b\r\nc: d"]},
           {headers, ["a: b\n"]}, {headers, ["Content-Length: 1"]}, {headers, ["connection: x"]},
           {headers, ["sec-websocket-accept: x"]}, {headers, [{"a", b}]}, {headers, #{}},
           {server_header, 1}, {bind, "fd:"}, {bind, "fd:-1"}, {bind, "fd:x"}, {bind, 8000},
           {worker_class, wsgi3}, {worker_class, "asgi"}, {workers, 0}, {workers, 1001},
           {workers, "2"}, {python, "/no/such/python"}, {venv, "/no/such/venv"},
           {pythonpath, ["/no/such/folder"]}, {pythonpath, none}, {chdir, "/no/such/folder"},
           {env, [{"A", "b"}]}, {env, #{"A=B" => "c"}}, {env, #{a => "b"}},
           {env, #{"A" => [0]}}, {lifespan, true}, {root_path, 1}, {root_path, "api"},
           {root_path, "/api/"}, {root_path, "/"}, {timeout, 0},
           {timeout, -1}, {timeout, 1.5}, {startup_timeout, infinity}, {shutdown_timeout, 0},
           {websocket_timeout, 0}, {websocket_max_frame_size, 0},
           {websocket_max_frame_size, 134152193}, {websocket_compress, 1},
           {allowed_origins, same}, {allowed_origins, ["a.example"]},
           {allowed_origins, ["https://a.example/x"]}, {allowed_origins, ["NULL"]},
           {allowed_origins, ["null/"]}, {allowed_origins, [null]},
           {allowed_origins, ["file:/"]}, {allowed_origins, ["app://*"]},
           {allowed_origins, ["app://*."]}, {allowed_origins, ["app://a*"]},
           {allowed_origins, ["app://a,b"]}, {allowed_origins, ["app://a/x"]},
           {allowed_origins, ["app://a:65536"]}, {allowed_origins, ["1app://a"]},
           {allowed_origins, ["://a"]}, {allowed_origins, ["app://ä"]},
           {allowed_origins, ["ws://a.example"]}, {allowed_origins, ["wss://a.example"]},
           {allowed_origins, ["https://*"]},
           {allowed_origins, ["https://a.*.example"]}, {allowed_origins, ["https://a:0"]},
           {allowed_origins, [any]}, {allowed_origins, 7}, {allowed_origins, ["https://a" | b]},
           {allowed_hosts, []}, {allowed_hosts, ["a:80"]}, {allowed_hosts, ["*"]},
           {allowed_hosts, ["http://a"]}, {allowed_hosts, [""]}, {allowed_hosts, same_host},
           {forwarded_allow_ips, ["10.0.0.0/33"]}, {forwarded_allow_ips, ["10.0.0/8"]},
           {forwarded_allow_ips, ["::1/129"]}, {forwarded_allow_ips, ["proxy.example"]},
           {forwarded_allow_ips, ["10.0.0.1/"]}, {forwarded_allow_ips, [unix]},
           {forwarded_allow_ips, ["*"]}, {on_connect, fun() -> ok end},
           {on_connect, {maps, no_such_function}}, {on_connect, {no_such_module, f}},
           {header_timeout, infinity}, {header_timeout, 0}, {keepalive_timeout, 0},
           {limit_request_line, 0}, {limit_request_fields, infinity},
           {limit_request_field_size, -1}, {limit_request_head, "64K"}, {max_body_size, 0},
           {on_connect, maps}, {on_connect_timeout, infinity}, {on_connect_timeout, 0},
           {websocket_ping_interval, 0}, {max_connections, 0}, {loop, trio},
           {worker_connections, 0}, {queue_timeout, 0}, {queue_timeout, infinity},
           {queue_max, 0},
           {websocket_max_frame_rate, 0}, {websocket_max_frame_rate, 1.5},
           {http_engine, yaws},
           {reload, 1}, {reload_dirs, ["/no/such/folder"]}, {reload_dirs, none},
           {access_log, 1}, {access_log_format, xml}, {access_log_format, ""},
           {access_log_format, "%"}, {access_log_format, "%x"}, {access_log_format, "%{Name}o"},
           {factory, 1}, {backlog, 0}, {reload_excludes, [test]}, {reload_delay, 0},
           {reload_includes, [html]}, {reload_includes, html},
           {max_requests, 0}, {max_requests_jitter, -1}, {max_requests_jitter, infinity},
           {worker_max_age, 0}, {worker_max_age_jitter, -1}, {worker_max_rss, 0},
           {worker_max_rss, "1G"}, {worker_hang_timeout, 0}, {drain_timeout, 0},
           {drain_timeout, infinity}, {dashboard, "true"}, {dashboard_token, "0123456789abcde"},
           {dashboard_token, lists:duplicate(257, $a)}, {dashboard_token, 1},
           {dashboard_token, "0123456789 abcdef"}, {dashboard_token, <<"0123456789abcdefä"/utf8>>}],
    [?assertEqual({error, {bad_option, Key, shown(Key, Value)}}, check(#{Key => Value}))
     || {Key, Value} <- Bad].

shown(env, _Value) -> hidden;
shown(keyfile_password, _Value) -> hidden;
shown(dashboard_token, _Value) -> hidden;
shown(_Key, Value) -> Value.

a_rate_of_frames_needs_the_engine_that_counts_them(_Config) ->
    Rate = #{websocket_max_frame_rate => 10},
    ?assertMatch({ok, _}, check(Rate)),
    ?assertEqual({error, {bad_option, http_engine, cowboy}},
                 check(Rate#{http_engine => cowboy})).

threads_are_those_of_wsgi_and_bound_what_a_worker_is_given(_Config) ->
    Wsgi = #{worker_class => wsgi},
    [?assertMatch({Options, {ok, #{worker_connections := Most, queue_timeout := Wait}}},
                  {Options, check(Options)})
     || {Options, Most, Wait} <- [{#{}, infinity, 30000}, {Wsgi, 10, 30000},
                                  {Wsgi#{threads => 3}, 3, 30000},
                                  {Wsgi#{worker_connections => 7, queue_timeout => 1}, 7, 1}]],
    [?assertEqual({error, {bad_option, threads, Threads}}, check(Options#{threads => Threads}))
     || {Options, Threads} <- [{#{}, 1}, {#{worker_class => asgi2}, 10}, {Wsgi, 0}, {Wsgi, 1001}]],
    ?assertEqual({error, {bad_option, lifespan, on}}, check(Wsgi#{lifespan => on})).

with_reload_sockets_go_on_unless_it_is_said(_Config) ->
    [?assertMatch({Options, {ok, #{websocket_resume := Resume}}}, {Options, check(Options)})
     || {Options, Resume} <- [{#{}, false}, {#{reload => true}, true},
                              {#{reload => true, websocket_resume => false}, false}]].

unknown_keys_are_refused(_Config) ->
    ?assertEqual({error, {bad_option, worker, 1}}, check(#{worker => 1})),
    ?assertEqual({error, {bad_option, options, []}}, hornbeam_config:check("a:b", [])).

addresses_are_parsed(_Config) ->
    [?assertEqual(Parsed, bind_of(Text))
     || {Text, Parsed} <- [{"127.0.0.1:8000", {{127, 0, 0, 1}, 8000}},
                           {<<"0.0.0.0:0">>, {{0, 0, 0, 0}, 0}},
                           {"localhost:65535", {{127, 0, 0, 1}, 65535}},
                           {"[::1]:80", {{0, 0, 0, 0, 0, 0, 0, 1}, 80}},
                           {"unix:/tmp/a socket", {local, <<"/tmp/a socket">>}}]].

several_addresses_are_a_list(_Config) ->
    {ok, #{bind := Binds}} = check(#{bind => ["[::]:80", <<"unix:/a">>, "fd:3"]}),
    ?assertEqual([{{0, 0, 0, 0, 0, 0, 0, 0}, 80}, {local, <<"/a">>}, {fd, 3}], Binds),
    [?assertEqual({error, {bad_option, bind, Wrong}}, check(#{bind => Wrong}))
     || Wrong <- [[], ["127.0.0.1:80", "x"], [8000], #{}]].

nothing_unparsable_becomes_an_address(_Config) ->
    [?assertEqual({Text, {error, {bad_option, bind, Text}}}, {Text, check(#{bind => Text})})
     || Text <- ["", ":8000", "8000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
                 "127.0.0.1:-1", "127.1:80", "256.0.0.1:80", "::1:80", "[::1]", "[::1]:",
                 "[127.0.0.1]:80", "example.org:80", "unix:", "127.0.0.1:80 ",
                 "127.0.0.1:80\n", [16#d800]]].

apps_are_named_module_attribute(_Config) ->
    [?assertMatch({ok, _}, hornbeam_config:check(App, #{}))
     || App <- ["app:application", <<"a.b_c:x.y">>, "größe:app"]],
    [?assertEqual({error, {bad_option, app, App}}, hornbeam_config:check(App, #{}))
     || App <- ["app", "app:", ":app", "a b:c", "1a:b", "a:b:c", "a:b()", app, undefined]].

text_may_be_string_or_binary(_Config) ->
    {ok, #{mounts := [{_, #{app := <<"größe:app"/utf8>>, root_path := <<"/ä"/utf8>>}}]}} =
        hornbeam_config:check("größe:app", #{root_path => <<"/ä"/utf8>>}),
    ok.

python_and_venv_exclude_each_other(Config) ->
    Venv = venv(Config, "both"),
    ?assertEqual({error, {bad_option, venv, list_to_binary(Venv)}},
                 check(#{python => "python3", venv => Venv})).

an_interpreter_may_have_any_name(Config) ->
    Folder = <<(list_to_binary(proplists:get_value(priv_dir, Config)))/binary, "größe 1"/utf8>>,
    ok = file:make_dir(Folder),
    Python = <<Folder/binary, "/python">>,
    ok = file:make_symlink(os:find_executable("python3"), Python),
    {ok, #{mounts := [{_, Options}]}} =
        hornbeam_config:check("app:application", #{python => Python}),
    {ok, Found} = hornbeam_config:python(Options),
    ?assertEqual({ok, element(2, file:read_file_info(Python))}, file:read_file_info(Found)).

an_interpreter_may_be_found_from_the_folder_of_the_app(Config) ->
    Project = filename:join(proplists:get_value(priv_dir, Config), "from"),
    Venv = venv(Config, "from/.venv"),
    Python = filename:join(Venv, "bin/python"),
    {ok, ByPython} = check(#{python => ".venv/bin/python", chdir => Project}),
    ?assertEqual({ok, Python}, text_of(ByPython)),
    {ok, ByVenv} = check(#{venv => ".venv", chdir => Project}),
    ?assertEqual({ok, Python}, text_of(ByVenv)),
    {ok, #{mounts := [{_, OfMount}]}} =
        hornbeam_config:check(undefined, #{venv => ".venv", mounts =>
            [#{path => "/", app => "app:application", chdir => Project}]}),
    ?assertEqual({ok, Python}, text_of(OfMount)),
    [?assertEqual({error, {bad_option, Key, "no/such"}}, check(#{Key => "no/such"}))
     || Key <- [python, venv]].

an_interpreter_may_be_found_from_the_folder_of_the_node(Config) ->
    Python = filename:join(venv(Config, "of node"), "bin/python"),
    {ok, Before} = file:get_cwd(),
    ok = file:set_cwd(proplists:get_value(priv_dir, Config)),
    try
        {ok, Found} = check(#{python => "of node/bin/python", chdir => "/"}),
        ?assertEqual({ok, Python}, text_of(Found))
    after
        ok = file:set_cwd(Before)
    end.

the_options_of_tls_need_each_other(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "some.pem"),
    ok = file:write_file(File, ""),
    [?assertEqual({error, {bad_option, certfile, undefined}}, check(Alone))
     || Alone <- [#{keyfile => File}, #{cacertfile => File}, #{keyfile_password => "p"},
                  #{verify => optional}]],
    ?assertEqual({error, {bad_option, cacertfile, undefined}},
                 check(#{certfile => File, verify => required})),
    ?assertMatch({error, {bad_option, cacertfile, _}},
                 check(#{certfile => File, cacertfile => File})),
    ?assertMatch({ok, #{verify := required}},
                 check(#{certfile => File, cacertfile => File, verify => required})).

a_password_is_printed_by_no_log(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "other.pem"),
    ok = file:write_file(File, ""),
    {ok, #{keyfile_password := Password} = Options} =
        check(#{certfile => File, keyfile_password => <<"sesame">>}),
    ?assertEqual("sesame", hornbeam_secret:show(Password)),
    ?assertEqual(nomatch, string:find(io_lib:format("~p", [Options]), "sesame")).

a_cluster_has_a_name_and_a_secret(_Config) ->
    ?assertMatch({ok, #{cluster := undefined}}, check(#{})),
    ?assertMatch({ok, #{cluster := #{name := <<"shop">>, join := [], port := 4370,
                                     address := undefined}}},
                 check(#{cluster => cluster(#{})})),
    ?assertEqual({error, {bad_option, {cluster, cookie}, undefined}},
                 check(#{cluster => #{name => shop_name()}})),
    [?assertEqual({error, {bad_option, cluster, hidden}}, check(#{cluster => Wrong}))
     || Wrong <- [true, "shop", [{name, "shop"}]]].

shop_name() -> "shop".

cluster(Keys) -> maps:merge(#{name => shop_name(), cookie => "sesame-open-yourself"}, Keys).

the_keys_of_a_cluster_are_checked(Config) ->
    File = filename:join(proplists:get_value(priv_dir, Config), "some.pem"),
    ok = file:write_file(File, ""),
    Tls = #{certfile => File, cacertfile => File},
    [?assertMatch({Keys, {ok, _}}, {Keys, check(#{cluster => cluster(Keys)})})
     || Keys <- [#{join => "10.0.0.1"}, #{join => <<"a.example:4371">>}, #{join => []},
                 #{join => ["a", "b:1", "[::1]:2", "::1", "shop@10.0.0.1", shop@host]},
                 #{join => {inet, gethostname}}, #{port => 65535}, #{address => "::1"}, Tls,
                 Tls#{keyfile => File}, #{name => lists:duplicate(64, $a)},
                 #{cookie => lists:duplicate(255, $~)},
                 #{data_dir => "/no/folder/yet", members => 3},
                 #{data_dir => <<"data">>, members => 1}]],
    [?assertEqual({error, {bad_option, {cluster, Key}, Value}},
                  check(#{cluster => cluster(Keys#{Key => Value})}))
     || {Key, Value, Keys} <- [{name, "", #{}}, {name, "a b", #{}}, {port, 0, #{}},
                               {name, lists:duplicate(65, $a), #{}}, {port, 65536, #{}},
                               {join, ["a:0"], #{}}, {join, ["a:65536"], #{}}, {join, [""], #{}},
                               {join, {inet, no_such_function}, #{}}, {join, ["a b"], #{}},
                               {address, "host", #{}}, {address, "10.0.0", #{}},
                               {cookie_file, "/no/such/file", #{}}, {certfile, "/no/file", #{}},
                               {data_dir, "", #{members => 3}}, {members, 0, #{data_dir => "d"}},
                               {members, 100, #{data_dir => "d"}},
                               {members, "3", #{data_dir => "d"}}, {unknown, 1, #{}}]],
    [?assertEqual({error, {bad_option, {cluster, Key}, undefined}},
                  check(#{cluster => cluster(Keys)}))
     || {Key, Keys} <- [{certfile, #{cacertfile => File}}, {cacertfile, #{certfile => File}},
                        {certfile, #{keyfile => File}}, {members, #{data_dir => "d"}},
                        {data_dir, #{members => 3}}]],
    ?assertEqual({error, {bad_option, {cluster, cookie_file}, list_to_binary(File)}},
                 check(#{cluster => cluster(#{cookie_file => File})})).

a_cookie_is_printed_by_no_log(_Config) ->
    {ok, Options} = check(#{cluster => cluster(#{})}),
    ?assertEqual(nomatch, string:find(io_lib:format("~p", [Options]), "sesame")),
    [?assertEqual({error, {bad_option, {cluster, cookie}, hidden}},
                  check(#{cluster => cluster(#{cookie => Cookie})}))
     || Cookie <- ["short sesame", lists:duplicate(256, $x), "with a blank in it", 1]].

limits_of_http2_are_bounded(_Config) ->
    [begin
         ?assertMatch({ok, #{Key := Low}}, check(#{Key => Low})),
         ?assertMatch({ok, #{Key := High}}, check(#{Key => High})),
         ?assertEqual({error, {bad_option, Key, Low - 1}}, check(#{Key => Low - 1})),
         ?assertEqual({error, {bad_option, Key, High + 1}}, check(#{Key => High + 1}))
     end || {Key, Low, High} <- [{http2_max_streams, 1, 10000}, {http2_max_resets, 1, 1000000},
                                 {http2_max_frames, 1000, 100000000}]].

the_interpreter_is_found_in_the_documented_order(Config) ->
    Named = venv(Config, "named"),
    Project = filename:join(proplists:get_value(priv_dir, Config), "project"),
    InProject = venv(Config, "project/.venv"),
    {ok, ByOption} = check(#{venv => Named, chdir => Project}),
    ?assertEqual({ok, filename:join(Named, "bin/python")}, text_of(ByOption)),
    {ok, ByFolder} = check(#{chdir => Project}),
    ?assertEqual({ok, filename:join(InProject, "bin/python")}, text_of(ByFolder)).

text_of(Options) ->
    {ok, Python} = hornbeam_config:python(Options),
    {ok, unicode:characters_to_list(Python)}.

venv(Config, Name) ->
    Venv = filename:join(proplists:get_value(priv_dir, Config), Name),
    Python = filename:join(Venv, "bin/python"),
    ok = filelib:ensure_dir(Python),
    ok = file:write_file(Python, "#!/bin/sh\n"),
    ok = file:change_mode(Python, 8#755),
    Venv.

bind_of(Text) ->
    {ok, #{bind := [Bind]}} = check(#{bind => Text}),
    Bind.

%% What most cases look at is one option, whosever it is.
check(Options) ->
    case hornbeam_config:check("app:application", Options) of
        {ok, #{server := Server, mounts := [{_, App}]}} -> {ok, maps:merge(Server, App)};
        {error, _} = Error -> Error
    end.

project_file(Name) ->
    filename:join(hornbeam_wire_files:root(), Name).
