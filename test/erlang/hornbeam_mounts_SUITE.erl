%% Several apps on one server: what may be said of them, and which one a path is for.
-module(hornbeam_mounts_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [the_longest_path_is_found_by_its_segments, what_is_encoded_is_the_same_path,
     what_follows_the_mounts_path_is_the_apps, a_path_of_no_mount_is_refused,
     a_host_that_is_not_served_is_refused_first, the_path_of_health_comes_first,
     where_there_is_no_room_only_health_is_told, a_mount_with_quotes_is_told_as_json,
     all_pools_count_for_the_limit_of_the_server,
     options_of_all_hold_where_a_mount_says_nothing, an_app_beside_mounts_is_the_one_at_the_root,
     paths_are_those_that_a_client_may_ask_for, what_is_wrong_of_a_mount_names_it,
     an_interpreter_of_ones_own_is_in_the_place_of_the_common_one,
     the_path_of_a_mount_follows_that_of_the_proxy, every_error_is_a_sentence,
     no_app_at_all_is_an_error].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

%% Which app a path is for.

the_longest_path_is_found_by_its_segments(_Config) ->
    Mounts = mounts(["/", "/api", "/api/v2"]),
    [?assertEqual({Path, Mount}, {Path, found(Path, Mounts)})
     || {Path, Mount} <- [{<<"/">>, <<"/">>}, {<<"/api">>, <<"/api">>},
                          {<<"/api/">>, <<"/api">>}, {<<"/api/x">>, <<"/api">>},
                          {<<"/apix">>, <<"/">>}, {<<"/ap">>, <<"/">>}, {<<"/API">>, <<"/">>},
                          {<<"/api/v2">>, <<"/api/v2">>}, {<<"/api/v2/x/y">>, <<"/api/v2">>},
                          {<<"/api/v20">>, <<"/api">>}, {<<"//api">>, <<"/">>},
                          {<<"*">>, <<"/">>}, {<<"/x/api">>, <<"/">>}, {<<>>, <<"/">>}]],
    ?assertEqual([none, none, none, <<"/a">>],
                 [found(Path, mounts(["/a"])) || Path <- [<<"/">>, <<"*">>, <<>>, <<"/a">>]]).

%% Compared is what the app will see.
what_is_encoded_is_the_same_path(_Config) ->
    Mounts = mounts(["/", "/api", <<"/größe"/utf8>>, "/a b"]),
    [?assertEqual({Path, Mount}, {Path, found(Path, Mounts)})
     || {Path, Mount} <- [{<<"/%61pi/x">>, <<"/api">>}, {<<"/%61%70%69">>, <<"/api">>},
                          {<<"/api%2Fx">>, <<"/api">>}, {<<"/api%2fx">>, <<"/api">>},
                          {<<"%2Fapi">>, <<"/api">>}, {<<"/api%20">>, <<"/">>},
                          {<<"/gr%C3%B6%c3%9fe/x">>, <<"/größe"/utf8>>},
                          {<<"/a%20b">>, <<"/a b">>}, {<<"/ap%6">>, <<"/">>},
                          {<<"/ap%">>, <<"/">>}, {<<"/ap%zz">>, <<"/">>}]].

what_follows_the_mounts_path_is_the_apps(_Config) ->
    Mounts = mounts(["/", "/api"]),
    [?assertEqual({Path, Below}, {Path, hornbeam_requests:below(request(Path, Mounts))})
     || {Path, Below} <- [{<<"/api/x%20y">>, <<"/x%20y">>}, {<<"/api">>, <<>>},
                          {<<"/api/">>, <<"/">>}, {<<"/%61pi/x">>, <<"/x">>},
                          {<<"/x">>, <<"/x">>}]].

a_path_of_no_mount_is_refused(_Config) ->
    Mounts = #{counters := Counters} = mounts(["/api"]),
    [?assertMatch({refuse, {404, _, <<"No app is served at this path.\n">>}},
                  check(Type, <<"/other">>, Mounts)) || Type <- [http, websocket]],
    ?assertMatch(#{no_mount := 2}, hornbeam_counters:values(Counters)),
    ?assertMatch({ok, none, _}, check(http, <<"/api">>, Mounts)).

a_host_that_is_not_served_is_refused_first(_Config) ->
    Mounts = mounts(["/api"], #{allowed_hosts => ["a"]}),
    ?assertMatch({refuse, {400, _, _}}, check(http, <<"/other">>, Mounts, <<"b">>)),
    ?assertMatch({refuse, {404, _, _}}, check(http, <<"/other">>, Mounts, <<"a">>)).

the_path_of_health_comes_first(_Config) ->
    Mounts = mounts(["/", "/healthz"], #{health_path => "/healthz", allowed_hosts => ["a"]}),
    [?assertEqual({Path, Mount}, {Path, place(Path, Mounts)})
     || {Path, Mount} <- [{<<"/healthz">>, health}, {<<"/%68ealthz">>, health},
                          {<<"/healthz/">>, <<"/healthz">>}, {<<"/health">>, <<"/">>}]],
    ?assertMatch({refuse, {503, _, _}}, check(http, <<"/healthz">>, Mounts, <<"b">>)),
    ?assertMatch({refuse, {400, _, _}}, check(http, <<"/healthz/">>, Mounts, <<"b">>)).

where_there_is_no_room_only_health_is_told(_Config) ->
    Mounts = mounts(["/", "/api"], #{health_path => "/healthz"}),
    #{counters := Counters} = Full = hornbeam_mounts:full(Mounts),
    [?assertEqual({Path, Mount}, {Path, place(Path, Full)})
     || {Path, Mount} <- [{<<"/healthz">>, health}, {<<"/api">>, full}, {<<"/">>, full}]],
    ?assertMatch({refuse, {503, _, <<"The server has no room", _/binary>>}},
                 check(http, <<"/api">>, Full)),
    ?assertMatch(#{refused := 1}, hornbeam_counters:values(Counters)),
    ?assertEqual({true, false}, {hornbeam_mounts:is_closing(Full),
                                 hornbeam_mounts:is_closing(Mounts)}).

%% No pool runs here, so nothing is ready.
a_mount_with_quotes_is_told_as_json(_Config) ->
    Mounts = mounts(["/a\"\\b"], #{health_path => "/healthz"}),
    Begin = <<"{\"status\":\"degraded\",\"reasons\":[{\"mount\":\"/a\\\"\\\\b\",">>,
    {refuse, {503, _, Body}} = check(http, <<"/healthz">>, Mounts),
    ?assertEqual(<<Begin/binary, "\"reason\":\"no_worker\",\"count\":0,\"of\":1}]}\n">>, Body),
    hornbeam_mounts:begin_drain(Mounts),
    ?assertMatch({refuse, {503, _, <<"{\"status\":\"draining\"", _/binary>>}},
                 check(http, <<"/healthz">>, Mounts)).

all_pools_count_for_the_limit_of_the_server(_Config) ->
    #{mounts := Limited} = mounts(["/", "/b", "/a"], #{max_connections => 7}),
    ?assertEqual([{<<"/">>, {7, [<<"/b">>, <<"/a">>]}}, {<<"/a">>, {7, [<<"/">>, <<"/b">>]}},
                  {<<"/b">>, {7, [<<"/">>, <<"/a">>]}}],
                 lists:sort([{Path, Limit} || #{path := Path, limit := Limit} <- Limited])),
    #{mounts := [#{limit := Limit}]} = mounts(["/"]),
    ?assertEqual(infinity, Limit).

%% What may be said.

options_of_all_hold_where_a_mount_says_nothing(_Config) ->
    {ok, #{server := Server, mounts := [{<<"/b">>, B}, {<<"/a">>, A}]}} =
        checked([#{path => "/b", app => "b:app", timeout => 5},
                 #{path => <<"/a">>, app => <<"a:app">>, reload => true}],
                #{timeout => 7, workers => 3, header_timeout => 9}),
    ?assertMatch(#{header_timeout := 9}, Server),
    ?assertMatch(#{app := <<"b:app">>, timeout := 5, workers := 3, websocket_resume := false}, B),
    ?assertMatch(#{app := <<"a:app">>, timeout := 7, workers := 3, websocket_resume := true}, A),
    ?assertEqual([], maps:keys(maps:with(maps:keys(Server), A))).

an_app_beside_mounts_is_the_one_at_the_root(_Config) ->
    {ok, #{mounts := Mounts}} =
        hornbeam_config:check("site:app", #{mounts => [#{path => "/api", app => "api:app"}]}),
    ?assertMatch([{<<"/">>, #{app := <<"site:app">>}}, {<<"/api">>, #{app := <<"api:app">>}}],
                 Mounts),
    ?assertEqual({error, {mount, <<"/">>, repeated}},
                 hornbeam_config:check("site:app", #{mounts => [#{path => "/", app => "b:app"}]})).

paths_are_those_that_a_client_may_ask_for(_Config) ->
    [?assertMatch({_, {ok, _}}, {Path, checked([#{path => Path, app => "a:b"}])})
     || Path <- ["/", "/a", "/a/b", "/a.b/.c/..d", <<"/größe"/utf8>>, "/größe", "/a b", "/...",
                 "/a:b@c!$&'()*+,;=~"]],
    [?assertEqual({error, {mount, called(Path), {bad_option, path, Path}}},
                  checked([#{path => Path, app => "a:b"}]))
     || Path <- ["", "api", "/api/", "//", "//a", "/a//b", "/a?b", "/a#b", "/a%20b", "/.", "/..",
                 "/a/../b", "/a/.", "/a\n", "/a\nb", <<0>>, <<"/", 0>>, <<255>>, 7, {a}]].

called(Path) when is_list(Path) -> list_to_binary(Path);
called(Path) -> Path.

what_is_wrong_of_a_mount_names_it(_Config) ->
    Api = #{path => "/api", app => "api:app"},
    [?assertEqual({Mounts, {error, Why}}, {Mounts, checked(Mounts)})
     || {Mounts, Why} <-
            [{[Api, Api#{app => "b:app"}], {mount, <<"/api">>, repeated}},
             {[Api, Api#{path => <<"/api">>}], {mount, <<"/api">>, repeated}},
             {[Api, #{app => "b:app"}], {mount, 2, {bad_option, path, undefined}}},
             {[#{path => "/b"}], {mount, <<"/b">>, {bad_option, app, undefined}}},
             {[Api#{app => "b"}], {mount, <<"/api">>, {bad_option, app, "b"}}},
             {[Api#{bind => "127.0.0.1:1"}], {mount, <<"/api">>, {servers_option, bind}}},
             {[Api#{max_connections => 1}],
              {mount, <<"/api">>, {servers_option, max_connections}}},
             {[Api#{timeout => 0}], {mount, <<"/api">>, {bad_option, timeout, 0}}},
             {[Api#{time_out => 1}], {mount, <<"/api">>, {bad_option, time_out, 1}}},
             {[Api#{mounts => [Api]}], {mount, <<"/api">>, {bad_option, mounts, [Api]}}},
             {[Api#{env => #{"A" => 1}}], {mount, <<"/api">>, {bad_option, env, hidden}}},
             {[], {bad_option, mounts, []}}, {Api, {bad_option, mounts, Api}},
             {[Api | Api], {bad_option, mounts, [Api | Api]}},
             {[Api, {"/b", "b:app"}], {bad_option, mounts, {"/b", "b:app"}}}]],
    %% What is said of all is wrong of none.
    [?assertEqual({error, Why}, checked([Api#{timeout => 1}], Options))
     || {Options, Why} <- [{#{timeout => 0}, {bad_option, timeout, 0}},
                           {#{bind => 1}, {bad_option, bind, 1}},
                           {#{binds => 1}, {bad_option, binds, 1}},
                           {#{verify => required}, {bad_option, certfile, undefined}}]],
    ?assertEqual({error, {mount, <<"/api">>, {bad_option, http_engine, cowboy}}},
                 checked([Api#{websocket_max_frame_rate => 1}], #{http_engine => cowboy})).

an_interpreter_of_ones_own_is_in_the_place_of_the_common_one(Config) ->
    Venv = filename:join(proplists:get_value(priv_dir, Config), "venv"),
    ok = filelib:ensure_dir(filename:join(Venv, "bin/python")),
    ok = file:write_file(filename:join(Venv, "bin/python"), ""),
    Api = #{path => "/api", app => "api:app"},
    {ok, #{mounts := [{_, WithVenv}]}} = checked([Api#{venv => Venv}], #{python => "python3"}),
    ?assertMatch(#{python := undefined}, WithVenv),
    {ok, #{mounts := [{_, WithPython}]}} = checked([Api#{python => "python3"}], #{venv => Venv}),
    ?assertMatch(#{venv := undefined, python := <<"python3">>}, WithPython),
    ?assertMatch({error, {mount, <<"/api">>, {bad_option, venv, _}}},
                 checked([Api#{venv => Venv, python => "python3"}])).

the_path_of_a_mount_follows_that_of_the_proxy(_Config) ->
    {ok, #{mounts := Mounts}} =
        checked([#{path => "/", app => "a:b"}, #{path => "/api", app => "a:b"},
                 #{path => "/own", app => "a:b", root_path => "/there"},
                 #{path => "/none", app => "a:b", root_path => ""}], #{root_path => "/proxy"}),
    ?assertEqual([<<"/proxy">>, <<"/proxy/api">>, <<"/there/own">>, <<"/none">>],
                 [RootPath || {_, #{root_path := RootPath}} <- Mounts]).

every_error_is_a_sentence(_Config) ->
    [?assertEqual({Error, Sentence}, {Error, lists:flatten(hornbeam:format_error(Error))})
     || {Error, Sentence} <-
            [{{mount, <<"/api">>, repeated}, "mount /api: there is another app at this path"},
             {{mount, <<"/api">>, {servers_option, bind}},
              "mount /api: option bind is the server's, and the same for all of its apps"},
             {{mount, 2, {bad_option, path, undefined}},
              "mount 2: path is not given; expected " ++ hornbeam_config:expected(path)},
             {{mount, <<"/api">>, {bad_option, app, undefined}},
              "mount /api: app is not given; expected \"module:attribute\", such as "
              "\"chat:application\""},
             {{mount, <<"/api">>, not_serving}, "mount /api: no app is being served"}]].

no_app_at_all_is_an_error(_Config) ->
    ?assertEqual({error, {bad_option, app, undefined}}, hornbeam:start(#{workers => 1})).

checked(Mounts) ->
    checked(Mounts, #{}).

checked(Mounts, Options) ->
    hornbeam_config:check(undefined, Options#{mounts => Mounts}).

mounts(Paths) ->
    mounts(Paths, #{}).

mounts(Paths, Options) ->
    {ok, Checked} = checked([#{path => Path, app => "a:b"} || Path <- Paths], Options),
    hornbeam_mounts:new(Checked).

found(Path, Mounts) ->
    {#{path := Mount} = Found, Request} = hornbeam_mounts:find(asked(Path, <<"a">>), Mounts),
    ?assertEqual(Mount, hornbeam_requests:mount(Request)),
    ?assertEqual(Found, hornbeam_mounts:at(Path, Mounts)),
    Mount.

%% What no app is asked.
place(Path, Mounts) ->
    {#{path := Place}, _Request} = hornbeam_mounts:find(asked(Path, <<"a">>), Mounts),
    Place.

request(Path, Mounts) ->
    {_Mount, Request} = hornbeam_mounts:find(asked(Path, <<"a">>), Mounts),
    Request.

check(Type, Path, Mounts) ->
    check(Type, Path, Mounts, <<"a">>).

check(Type, Path, Mounts, Host) ->
    {Mount, Request} = hornbeam_mounts:find(asked(Path, Host), Mounts),
    hornbeam_request_pipeline:check(Type, Request, Mount).

asked(Path, Host) ->
    hornbeam_requests:new(Path, [{<<"host">>, Host}]).
