%% Hosts and origins: who may come in.
-module(hornbeam_access_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [a_page_of_the_same_host_may_connect, a_page_of_this_machine_may_connect_to_it,
     a_page_of_another_host_may_not,
     what_is_no_browser_may_connect, only_websockets_are_asked_for_their_origin,
     any_lets_every_page_in, listed_origins_may_connect,
     origins_that_are_not_of_the_web_are_let_in_by_their_own_entry_alone,
     what_is_no_origin_is_let_in_by_no_entry, listed_hosts_may_be_named,
     a_host_that_is_none_is_refused].

a_page_of_the_same_host_may_connect(_Config) ->
    [?assertEqual({Origin, Host, ok}, {Origin, Host, origin(Origin, Host, same_host)})
     || {Origin, Host} <- [{"http://site", "site"}, {"https://site", "site"},
                           {"https://SITE", "Site"}, {"http://site:80", "site"},
                           {"http://site", "site:80"}, {"https://site", "site:443"},
                           {"https://site:443", "site"}, {"http://site:8000", "site:8000"},
                           {"https://site", "site."}, {"http://[::1]:8000", "[::1]:8000"},
                           {"http://127.0.0.1:8000", "127.0.0.1:8000"}]].

a_page_of_this_machine_may_connect_to_it(_Config) ->
    Names = ["localhost", "127.0.0.1", "[::1]"],
    [?assertEqual({Origin, Host, ok}, {Origin, Host, origin(Origin, Host, Allowed)})
     || Name <- Names, Named <- Names, Origin <- ["http://" ++ Name ++ ":5173", "https://" ++ Name],
        Host <- [Named, Named ++ ":8000"], Allowed <- [same_host, [same_host]]],
    [?assertEqual({Origin, Host, refused()}, {Origin, Host, origin(Origin, Host, same_host)})
     || {Origin, Host} <- [{"http://localhost:5173", "site"}, {"http://site", "localhost:8000"},
                           {"http://localhost.evil", "localhost"},
                           {"http://127.0.0.2", "localhost"},
                           {"app://localhost", "localhost"}, {"null", "localhost"}]],
    ?assertEqual(refused(), origin("http://localhost:5173", "localhost:8000", ["https://site"])).

a_page_of_another_host_may_not(_Config) ->
    [?assertEqual({Origin, Host, refused()}, {Origin, Host, origin(Origin, Host, same_host)})
     || {Origin, Host} <- [{"http://evil", "site"}, {"http://site.evil", "site"},
                           {"http://evilsite", "site"}, {"http://site:8001", "site:8000"},
                           {"http://site", "site:8000"}, {"http://site:8000", "site"},
                           {"https://site:80", "site"}, {"http://site", "site:443"},
                           {"null", "site"}, {"", "site"}, {"site", "site"},
                           {"http://site, http://evil", "site"}, {"http://site/", "site"},
                           {"http://evil@site", "site"}, {"http://site#", "site"},
                           {"file://site", "site"}, {"app://site", "site"},
                           {"app://site:8000", "site:8000"}, {"ws://site", "site"},
                           {"file://", "site"}, {"http://site:0", "site"},
                           {"http://site:99999", "site"}, {"http://site\n", "site"},
                           {"http://s\xffte", "site"}]].

what_is_no_browser_may_connect(_Config) ->
    ?assertEqual(ok, check(websocket, #{<<"host">> => <<"site">>}, #{})),
    ?assertEqual(ok, check(websocket, #{}, #{})).

only_websockets_are_asked_for_their_origin(_Config) ->
    Headers = #{<<"host">> => <<"site">>, <<"origin">> => <<"http://evil">>},
    ?assertEqual(ok, check(http, Headers, #{})),
    ?assertEqual(refused(), check(websocket, Headers, #{})).

any_lets_every_page_in(_Config) ->
    [?assertEqual({Origin, ok}, {Origin, origin(Origin, "site", any)})
     || Origin <- ["http://evil", "null", ""]].

listed_origins_may_connect(_Config) ->
    Allowed = ["https://app.example", "http://dev.example:8080", "https://*.pages.example"],
    [?assertEqual({Origin, Answer}, {Origin, origin(Origin, "site", Allowed)})
     || {Origin, Answer} <- [{"https://app.example", ok}, {"https://APP.example:443", ok},
                             {"http://app.example", refused()},
                             {"https://app.example:8443", refused()},
                             {"http://dev.example:8080", ok}, {"http://dev.example", refused()},
                             {"https://a.pages.example", ok}, {"https://b.a.pages.example", ok},
                             {"https://pages.example", refused()},
                             {"https://evilpages.example", refused()},
                             {"https://a.pages.example.evil", refused()},
                             {"http://site", refused()}, {"null", refused()}]],
    ?assertEqual(ok, origin("http://site", "site", [same_host, "https://app.example"])),
    ?assertEqual(refused(), origin("http://site", "site", [])).

origins_that_are_not_of_the_web_are_let_in_by_their_own_entry_alone(_Config) ->
    Entries = ["chrome-extension://abcDEF", "file://", "null", "app://.", "app://local:8080",
               "x+y.z-1://a%20b!$&'()+;=~_", "app://[::1]", "app://*.parts"],
    Origins = [{"chrome-extension://abcDEF", ["chrome-extension://abcDEF"]},
               {"CHROME-extension://abcDEF", ["chrome-extension://abcDEF"]},
               {"chrome-extension://abcdef", []}, {"chrome-extension://abcDEFg", []},
               {"chrome-extension://abcDEF:80", []}, {"moz-extension://abcDEF", []},
               {"file://", ["file://"]}, {"file://host", []}, {"null", ["null"]}, {"NULL", []},
               {"app://.", ["app://."]}, {"app://local:8080", ["app://local:8080"]},
               {"app://local", []}, {"app://local:80", []}, {"app://[::1]", ["app://[::1]"]},
               {"x+y.z-1://a%20b!$&'()+;=~_", ["x+y.z-1://a%20b!$&'()+;=~_"]},
               {"app://a.parts", ["app://*.parts"]}, {"app://parts", []}, {"app://.parts", []}],
    [?assertEqual({Origin, Matching}, {Origin, [Entry || Entry <- Entries,
                                                         ok =:= origin(Origin, "local", [Entry])]})
     || {Origin, Matching} <- Origins],
    [?assertEqual({Origin, refused()}, {Origin, origin(Origin, "local:8080", Allowed)})
     || {Origin, _} <- Origins,
        Allowed <- [same_host, [same_host], ["https://abcDEF", "http://*.parts"]]].

what_is_no_origin_is_let_in_by_no_entry(_Config) ->
    Entries = [same_host, "file://", "null", "app://a", "app://*.a"],
    [?assertEqual({Origin, refused()}, {Origin, origin(Origin, "a", Entries)})
     || Origin <- ["", "://", "://a", "app:", "app:/", "app:a", "app://a/", "app://a,app://a",
                   "app://a, app://a", "app://a app://a", "app://u@a", "app://a?", "app://a#",
                   "app://a\n", "null\n", "null null", "null, null", "app://a:", "app://a:0",
                   "app://a:65536", "app://a:x", "app://a%", "app://a%2", "app://*.a", "app://[a",
                   "1app://a", "+app://a", "a_p://a", "ap p://a", "app://\xff", "\xff://a",
                   "file:///", "file:", "ws://a", "wss://a", "http://", "https://"]],
    ?assertEqual(refused(), origin("app://a:65536", "a", ["app://a:65535"])),
    ?assertEqual(ok, origin("app://a:65535", "a", ["app://a:65535"])).

listed_hosts_may_be_named(_Config) ->
    Allowed = ["site.example", "*.tenants.example", "[::1]"],
    [?assertEqual({Host, Answer}, {Host, host(Host, Allowed)})
     || {Host, Answer} <- [{"site.example", ok}, {"SITE.example:8000", ok},
                           {"site.example.", ok}, {"a.tenants.example", ok},
                           {"[::1]:8000", ok}, {"tenants.example", {refuse, unknown_host}},
                           {"evil", {refuse, unknown_host}},
                           {"site.example.evil", {refuse, unknown_host}},
                           {"eviltenants.example", {refuse, unknown_host}},
                           {".tenants.example", {refuse, unknown_host}}]].

a_host_that_is_none_is_refused(_Config) ->
    [?assertEqual({Host, Allowed, {refuse, bad_host}}, {Host, Allowed, host(Host, Allowed)})
     || Host <- ["", "a, b", "a,b", "a b", "a/b", "a@b", "a:b", "a:0", "a:99999", "a:1:2", "\xff",
                 "[::1", "a\n"],
        Allowed <- [any, ["a"]]],
    ?assertEqual({refuse, bad_host}, check(http, #{}, #{allowed_hosts => ["a"]})),
    ?assertEqual(ok, check(http, #{}, #{})).

refused() -> {refuse, foreign_origin}.

origin(Origin, Host, Allowed) ->
    check(websocket, #{<<"host">> => list_to_binary(Host), <<"origin">> => list_to_binary(Origin)},
          #{allowed_origins => Allowed}).

host(Host, Allowed) ->
    check(http, #{<<"host">> => list_to_binary(Host)}, #{allowed_hosts => Allowed}).

check(Type, Headers, Options) ->
    {ok, #{server := Server, mounts := [{_, App}]}} =
        hornbeam_config:check("app:application", Options),
    hornbeam_access:check(Type, hornbeam_requests:new(Headers), Server, App).
