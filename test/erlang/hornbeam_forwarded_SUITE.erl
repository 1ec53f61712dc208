%% What is believed of what proxies say, and what a client may not make up.
-module(hornbeam_forwarded_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [only_trusted_peers_are_believed, the_last_address_that_is_not_trusted_is_the_client,
     ranges_hold_what_is_in_them, addresses_are_read_as_proxies_write_them,
     a_client_hides_nothing_by_what_it_writes_itself, several_lines_are_one_list,
     whom_a_proxy_does_not_name_is_the_peer, what_nobody_can_read_is_no_client,
     what_is_no_scheme_and_no_host_changes_nothing, scheme_and_host_come_from_the_same_proxy,
     the_standard_header_says_the_same, the_standard_header_is_not_read_beside_the_others,
     a_standard_header_is_read_from_its_end, the_first_line_of_the_host_is_replaced,
     properties_hold].

-define(PROXY, {10, 0, 0, 1}).
-define(CLIENT, {203, 0, 113, 9}).

only_trusted_peers_are_believed(_Config) ->
    Headers = #{<<"x-forwarded-for">> => <<"203.0.113.9">>},
    [?assertEqual({Peer, Trusted, Client}, {Peer, Trusted, client(Headers, Peer, Trusted)})
     || {Peer, Trusted, Client} <-
            [{{?PROXY, 1}, [{?PROXY, 32}], {?CLIENT, 0}},
             {{?PROXY, 1}, any, {?CLIENT, 0}},
             {{?PROXY, 1}, [], {?PROXY, 1}},
             {{?PROXY, 1}, [unix], {?PROXY, 1}},
             {{{10, 0, 0, 2}, 1}, [{?PROXY, 32}], {{10, 0, 0, 2}, 1}},
             {{{0, 0, 0, 0, 0, 16#ffff, 16#0a00, 1}, 1}, [{?PROXY, 32}], {?CLIENT, 0}},
             {{local, <<>>}, [unix], {?CLIENT, 0}},
             {{local, <<>>}, any, {?CLIENT, 0}},
             {{local, <<>>}, [{?PROXY, 32}], {local, <<>>}}]],
    ?assertMatch({ignored, _}, resolve(Headers, {?PROXY, 1}, [])),
    ?assertMatch({none, _}, resolve(#{}, {?PROXY, 1}, [])).

the_last_address_that_is_not_trusted_is_the_client(_Config) ->
    [?assertEqual({List, {Ip, 0}}, {List, client(#{<<"x-forwarded-for">> => List})})
     || {List, Ip} <- [{<<"203.0.113.9">>, ?CLIENT},
                       {<<"1.1.1.1, 203.0.113.9">>, ?CLIENT},
                       {<<"10.0.0.1, 203.0.113.9">>, ?CLIENT},
                       {<<"1.1.1.1,203.0.113.9 , 10.0.0.2">>, ?CLIENT},
                       {<<"127.0.0.1, 203.0.113.9, 10.0.0.2,, 10.0.0.3,">>, ?CLIENT},
                       {<<"10.0.0.3, 10.0.0.2">>, {10, 0, 0, 3}}]],
    ?assertEqual({{1, 1, 1, 1}, 0},
                 client(#{<<"x-forwarded-for">> => <<"1.1.1.1, 203.0.113.9">>}, {?PROXY, 1}, any)).

ranges_hold_what_is_in_them(_Config) ->
    [?assertEqual({Ip, Range, Is}, {Ip, Range, is_trusted(Ip, Range)})
     || {Ip, Range, Is} <- [{{10, 255, 0, 1}, "10.0.0.0/8", true},
                            {{11, 0, 0, 1}, "10.0.0.0/8", false},
                            {{10, 0, 0, 129}, "10.0.0.128/25", true},
                            {{10, 0, 0, 127}, "10.0.0.128/25", false},
                            {{1, 2, 3, 4}, "0.0.0.0/0", true},
                            {{0, 0, 0, 0, 0, 0, 0, 1}, "0.0.0.0/0", false},
                            {{16#2001, 16#db8, 0, 0, 0, 0, 0, 1}, "2001:db8::/32", true},
                            {{16#2001, 16#db9, 0, 0, 0, 0, 0, 1}, "2001:db8::/32", false},
                            {{1, 2, 3, 4}, "::/0", false}]].

is_trusted(Ip, Range) ->
    {ok, #{server := #{forwarded_allow_ips := Trusted}}} =
        hornbeam_config:check("app:application", #{forwarded_allow_ips => [Range]}),
    Headers = #{<<"x-forwarded-for">> => <<"203.0.113.9">>},
    element(1, resolve(Headers, {Ip, 1}, Trusted)) =:= believed.

addresses_are_read_as_proxies_write_them(_Config) ->
    V6 = {16#2001, 16#db8, 0, 0, 0, 0, 0, 9},
    [?assertEqual({Text, Client}, {Text, client(#{<<"x-forwarded-for">> => Text})})
     || {Text, Client} <- [{<<"203.0.113.9:4711">>, {?CLIENT, 4711}},
                           {<<"2001:db8::9">>, {V6, 0}},
                           {<<"[2001:db8::9]">>, {V6, 0}},
                           {<<"[2001:db8::9]:4711">>, {V6, 4711}},
                           {<<"1.1.1.1, [2001:DB8::9]:4711, 10.0.0.2">>, {V6, 4711}}]].

%% nginx and haproxy add what they saw behind what came.
-define(WRITTEN, [<<"\"">>, <<"x\"y">>, <<"\\">>, <<"\\\"">>, <<"=\"">>, <<"for=\"">>,
                  <<"unknown">>, <<"_x">>, <<>>, <<",,,">>, <<"127.0.0.1">>, <<"10.0.0.9">>,
                  <<255, 254>>, <<"\", \"">>,
                  <<"for=10.0.0.9;by=\"">>, <<"(">>, <<"'">>, <<"a;b=\"c,">>]).

a_client_hides_nothing_by_what_it_writes_itself(_Config) ->
    [?assertEqual({Name, Written, {?CLIENT, 0}},
                  {Name, Written, client(#{Name => <<Written/binary, ", ", Added/binary>>})})
     || Written <- ?WRITTEN,
        {Name, Added} <- [{<<"x-forwarded-for">>, <<"203.0.113.9">>},
                          {<<"x-forwarded-for">>, <<"203.0.113.9, 10.0.0.2">>},
                          {<<"forwarded">>, <<"for=203.0.113.9">>},
                          {<<"forwarded">>, <<"for=203.0.113.9, for=\"10.0.0.2\"">>}]],
    [?assertEqual({Written, {{?CLIENT, 0}, <<"https">>, <<"site">>}},
                  {Written, said(#{<<"x-forwarded-for">> => <<Written/binary, ",203.0.113.9">>,
                                   <<"x-forwarded-proto">> => <<Written/binary, ",https">>,
                                   <<"x-forwarded-host">> => <<Written/binary, ",site">>})})
     || Written <- ?WRITTEN].

several_lines_are_one_list(_Config) ->
    [?assertEqual({Written, {{?CLIENT, 0}, <<"https">>}},
                  {Written, client_and_scheme([{Name, Written}, {<<"x">>, <<"y">>}, {Name, Added},
                                               {<<"x-forwarded-proto">>, Written},
                                               {<<"x-forwarded-proto">>, <<"https,https">>}])})
     || Written <- ?WRITTEN,
        {Name, Added} <- [{<<"x-forwarded-for">>, <<"203.0.113.9">>},
                          {<<"x-forwarded-for">>, <<"203.0.113.9, 10.0.0.2">>}]],
    ?assertEqual({{?CLIENT, 0}, <<"https">>},
                 client_and_scheme([{<<"forwarded">>, <<"for=\"">>},
                                    {<<"forwarded">>, <<"for=203.0.113.9;proto=https">>}])).

client_and_scheme(Fields) ->
    Request = hornbeam_requests:with_peer({?PROXY, 1}, hornbeam_requests:new(Fields)),
    {believed, Seen} = hornbeam_forwarded:resolve(Request, [{{10, 0, 0, 0}, 8}]),
    {hornbeam_requests:peer(Seen), hornbeam_requests:scheme(Seen)}.

%% RFC 7239, 6.3, and what nginx says of a Unix socket.
whom_a_proxy_does_not_name_is_the_peer(_Config) ->
    [?assertEqual({Text, {{?PROXY, 1}, <<"https">>, <<"inside">>}},
                  {Text, said(#{<<"x-forwarded-for">> => Text,
                                <<"x-forwarded-proto">> => <<"https">>})})
     || Text <- [<<>>, <<",">>, <<"unknown">>, <<"Unknown">>, <<"unknown:80">>, <<"_hidden">>,
                 <<"_hidden:_port">>, <<"203.0.113.9, unknown">>, <<"1.1.1.1, _SEVK, 10.0.0.2">>,
                 <<"unix:">>, <<"10.0.0.2, unix:">>]],
    ?assertEqual({{?PROXY, 1}, <<"https">>, <<"site">>},
                 said(#{<<"forwarded">> => <<"for=1.1.1.1, for=_x;proto=https;host=site">>})),
    ?assertEqual({{?PROXY, 1}, <<"https">>, <<"inside">>},
                 said(#{<<"forwarded">> => <<"for=1.1.1.1, proto=https">>})),
    %% Who trusts all that come by a Unix socket trusts one between two proxies.
    ?assertEqual({?CLIENT, 0}, client(#{<<"x-forwarded-for">> => <<"203.0.113.9, unix:">>},
                                      {local, <<>>}, [unix])).

%% Any address in its place would be one of ours.
what_nobody_can_read_is_no_client(_Config) ->
    [?assertEqual({Text, malformed}, {Text, resolve(#{<<"x-forwarded-for">> => Text})})
     || Text <- [<<"garbage">>, <<"\"">>, <<"\"203.0.113.9\"">>, <<"203.0.113.9, garbage">>,
                 <<"1.1.1.1, garbage, 10.0.0.2">>, <<"10.0.0.9, \", 10.0.0.2">>,
                 <<"203.0.113">>, <<"203.0.113.9.1">>, <<"203.0.113.9:">>, <<"[203.0.113.9]">>,
                 <<"203.0.113.9:99999">>, <<"203.0.113.009">>, <<"0x7f.0.0.1">>, <<"256.0.0.1">>,
                 <<"2001:db8::9:4711:x">>, <<"[2001:db8::9">>, <<"example.org">>, <<255, 254>>,
                 <<"203.0.113.9\" OR 1">>, <<"203.0.113.9 10.0.0.1">>, <<"_">>, <<"_a b">>,
                 <<"unix">>, <<"unix:/run/x">>]],
    [?assertEqual({Text, malformed}, {Text, resolve(#{<<"forwarded">> => Text})})
     || Text <- [<<"203.0.113.9">>, <<"for=\"203.0.113.9">>, <<"for=\"a\"b;proto=https">>,
                 <<"for=203.0.113.9, nonsense">>, <<"\"">>, <<255, $=, 255>>, <<"for=">>,
                 <<"for=203.0.113.9;for=203.0.113.9">>, <<"for=\"\"">>, <<"=203.0.113.9">>,
                 <<"for =203.0.113.9">>, <<"for=203.0.113.9 x">>, <<"for=\"203.0.113.9\\\"">>,
                 <<"for=1.1.1.1, for=\", for=10.0.0.2">>, <<"for=a=b">>]],
    %% Who is not trusted may write what he likes.
    ?assertMatch({ignored, _},
                 resolve(#{<<"x-forwarded-for">> => <<"\"">>}, {?CLIENT, 1}, [{?PROXY, 32}])).

what_is_no_scheme_and_no_host_changes_nothing(_Config) ->
    [?assertEqual({Proto, <<"http">>},
                  {Proto, hornbeam_requests:scheme(seen(<<"x-forwarded-proto">>, Proto))})
     || Proto <- [<<>>, <<"ftp">>, <<"https://">>, <<255>>, <<"\"https\"">>, <<"https, \"">>]],
    [?assertEqual({Host, <<"inside">>}, {Host, host(seen(<<"x-forwarded-host">>, Host))})
     || Host <- [<<>>, <<"a b">>, <<"a/b">>, <<"a@b">>, <<"a:b">>, <<"a:99999">>, <<"<a>">>,
                 <<"site, \"">>]].

scheme_and_host_come_from_the_same_proxy(_Config) ->
    Said = fun(For, Proto, Host) ->
        {_Peer, Scheme, Named} =
            said(#{<<"x-forwarded-for">> => For, <<"x-forwarded-proto">> => Proto,
                   <<"x-forwarded-host">> => Host}),
        {Scheme, Named}
    end,
    ?assertEqual({<<"https">>, <<"site">>}, Said(<<"203.0.113.9">>, <<"https">>, <<"site">>)),
    ?assertEqual({<<"https">>, <<"site">>}, Said(<<"203.0.113.9">>, <<"WSS">>, <<"site">>)),
    %% Two proxies that add: each says what it was asked with.
    ?assertEqual({<<"https">>, <<"site">>},
                 Said(<<"203.0.113.9, 10.0.0.2">>, <<"https, http">>, <<"site, inner">>)),
    %% Two proxies, of which the nearest overwrites.
    ?assertEqual({<<"https">>, <<"site">>},
                 Said(<<"203.0.113.9, 10.0.0.2">>, <<"https">>, <<"site">>)),
    %% What the client wrote before what the proxy added is not read.
    ?assertEqual({<<"http">>, <<"site">>},
                 Said(<<"1.1.1.1, 203.0.113.9">>, <<"https, http">>, <<"evil, site">>)).

the_standard_header_says_the_same(_Config) ->
    [?assertEqual({Text, Said}, {Text, said(#{<<"forwarded">> => Text})})
     || {Text, Said} <-
            [{<<"for=203.0.113.9">>, {{?CLIENT, 0}, <<"http">>, <<"inside">>}},
             {<<"For=203.0.113.9;Proto=https;Host=site">>,
              {{?CLIENT, 0}, <<"https">>, <<"site">>}},
             {<<"for=1.1.1.1;host=evil;proto=https, for=\"203.0.113.9:80\" ; host=\"site:81\"">>,
              {{?CLIENT, 80}, <<"http">>, <<"site:81">>}},
             {<<"for=203.0.113.9;proto=https;host=site, for=10.0.0.2;proto=http;host=inner">>,
              {{?CLIENT, 0}, <<"https">>, <<"site">>}},
             {<<"for=\"[2001:db8::9]:4711\"">>,
              {{{16#2001, 16#db8, 0, 0, 0, 0, 0, 9}, 4711}, <<"http">>, <<"inside">>}},
             {<<"for=203.0.113.9;by=\"a,b;c\"">>, {{?CLIENT, 0}, <<"http">>, <<"inside">>}},
             {<<"for=unknown;proto=https">>, {{?PROXY, 1}, <<"https">>, <<"inside">>}},
             {<<"for=_hidden;proto=https, for=10.0.0.2;proto=http">>,
              {{?PROXY, 1}, <<"https">>, <<"inside">>}}]].

the_standard_header_is_not_read_beside_the_others(_Config) ->
    Forwarded = <<"for=1.1.1.1;proto=https;host=evil">>,
    [?assertMatch({Name, {_, <<"http">>, <<"inside">>}},
                  {Name, said(#{<<"forwarded">> => Forwarded, Name => <<>>})})
     || Name <- [<<"x-forwarded-for">>, <<"x-forwarded-proto">>, <<"x-forwarded-host">>]],
    ?assertEqual({?CLIENT, 0}, client(#{<<"forwarded">> => Forwarded,
                                        <<"x-forwarded-for">> => <<"203.0.113.9">>})).

a_standard_header_is_read_from_its_end(_Config) ->
    [?assertEqual({Text, Said}, {Text, said(#{<<"forwarded">> => Text})})
     || {Text, Said} <-
            [{<<>>, {{?PROXY, 1}, <<"http">>, <<"inside">>}},
             {<<"for=\", for=203.0.113.9;proto=https">>, {{?CLIENT, 0}, <<"https">>, <<"inside">>}},
             {<<"nonsense, for=203.0.113.9">>, {{?CLIENT, 0}, <<"http">>, <<"inside">>}},
             {<<"for=\"x, for=\"[2001:db8::9]:80\" , for=10.0.0.2">>,
              {{{16#2001, 16#db8, 0, 0, 0, 0, 0, 9}, 80}, <<"http">>, <<"inside">>}},
             {<<"for=1.1.1.1;by=\"\\\", for=203.0.113.9;host=\"s\\ite\";by=\"a\\\\\"">>,
              {{?CLIENT, 0}, <<"http">>, <<"site">>}},
             {<<"for=203.0.113.9:80;;proto=https;">>, {{?CLIENT, 80}, <<"https">>, <<"inside">>}},
             {<<"for=203.0.113.9;by=\"x=\\\"y, for=10.0.0.9\"">>,
              {{?CLIENT, 0}, <<"http">>, <<"inside">>}}]].

the_first_line_of_the_host_is_replaced(_Config) ->
    Fields = [{<<"a">>, <<"1">>}, {<<"host">>, <<"inside">>}, {<<"b">>, <<"2">>},
              {<<"x-forwarded-host">>, <<"site:81">>}],
    {believed, Request} = hornbeam_forwarded:resolve(hornbeam_requests:new(Fields), any),
    ?assertEqual(lists:keyreplace(<<"host">>, 1, Fields, {<<"host">>, <<"site:81">>}),
                 hornbeam_requests:fields(Request)).

properties_hold(_Config) ->
    [true = hornbeam_properties:hold(Property)
     || Property <- hornbeam_properties:of_module(prop_hornbeam_forwarded)].

seen(Name, Value) ->
    {believed, Request} = resolve(#{Name => Value}),
    Request.

said(Headers) ->
    {believed, Request} = resolve(Headers),
    {hornbeam_requests:peer(Request), hornbeam_requests:scheme(Request), host(Request)}.

host(Request) ->
    hornbeam_request:field(<<"host">>, Request).

client(Headers) ->
    client(Headers, {?PROXY, 1}, [{{10, 0, 0, 0}, 8}]).

client(Headers, Peer, Trusted) ->
    {_, Request} = resolve(Headers, Peer, Trusted),
    hornbeam_requests:peer(Request).

resolve(Headers) ->
    resolve(Headers, {?PROXY, 1}, [{{10, 0, 0, 0}, 8}]).

resolve(Headers, Peer, Trusted) ->
    Request = hornbeam_requests:new(Headers#{<<"host">> => <<"inside">>}),
    hornbeam_forwarded:resolve(hornbeam_requests:with_peer(Peer, Request), Trusted).
