%% Responses as bytes: heads, and where bodies end.
-module(hornbeam_http1_response_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

-define(DATED, [{<<"date">>, <<"now">>}, {<<"server">>, <<"me">>}]).
-define(KEPT, {<<"GET">>, 'HTTP/1.1', false, false}).

all() ->
    [a_whole_response_says_its_length, a_body_that_comes_in_parts_ends_as_its_client_can_read,
     some_responses_have_no_body, a_body_is_as_long_as_was_said,
     what_is_about_the_connection_is_ours_to_say, an_app_may_end_the_connection,
     fields_go_out_in_their_order, a_response_is_dated_and_signed_once, a_refusal_is_the_last_word,
     a_switch_names_no_length, statuses_have_their_names].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

a_whole_response_says_its_length(_Config) ->
    [?assertEqual({Fields, Expected}, {Fields, whole(200, Fields, <<"abc">>, ?KEPT)})
     || {Fields, Expected} <-
            [{[], ["content-length: 3", "", "abc"]},
             {[{<<"content-length">>, <<"3">>}], ["content-length: 3", "", "abc"]},
             {[{<<"content-length">>, <<"003">>}], ["content-length: 003", "", "abc"]},
             %% What is there counts.
             {[{<<"content-length">>, <<"4">>}], ["content-length: 3", "", "abc"]},
             {[{<<"content-length">>, <<"3">>}, {<<"content-length">>, <<"4">>}],
              ["content-length: 3", "", "abc"]},
             {[{<<"transfer-encoding">>, <<"chunked">>}], ["content-length: 3", "", "abc"]}]],
    ?assertEqual(["content-length: 0", "", ""], whole(200, [], <<>>, ?KEPT)).

a_body_that_comes_in_parts_ends_as_its_client_can_read(_Config) ->
    Parts = [<<"a">>, <<>>, binary:copy(<<"b">>, 26)],
    Bs = lists:duplicate(26, $b),
    Chunks = ["1", "a", "1A", Bs, "0", "", ""],
    ?assertEqual({["transfer-encoding: chunked", "" | Chunks], false, false},
                 parts([], Parts, ?KEPT)),
    Old = {<<"GET">>, 'HTTP/1.0', false, true},
    ?assertEqual({["connection: close", "", "a" ++ Bs], true, true}, parts([], Parts, Old)),
    Length = [{<<"content-length">>, <<"27">>}],
    ?assertEqual({["content-length: 27", "", "a" ++ Bs], false, false},
                 parts(Length, Parts, ?KEPT)),
    ?assertEqual({["content-length: 27", "connection: keep-alive", "", "a" ++ Bs], false, false},
                 parts(Length, Parts, Old)),
    ?assertEqual({["transfer-encoding: chunked", "", "0", "", ""], false, false},
                 parts([{<<"transfer-encoding">>, <<"gzip">>}], [], ?KEPT)).

some_responses_have_no_body(_Config) ->
    Head = {<<"HEAD">>, 'HTTP/1.1', false, false},
    Length = [{<<"content-length">>, <<"9">>}],
    [?assertEqual({Status, Fields, Expected},
                  {Status, Fields, whole(Status, Fields, <<"abc">>, Exchange)})
     || {Status, Fields, Exchange, Expected} <-
            [{200, [], Head, ["content-length: 3", "", ""]},
             {200, Length, Head, ["content-length: 9", "", ""]},
             {204, Length, ?KEPT, ["", ""]}, {204, [], Head, ["", ""]}, {304, [], ?KEPT, ["", ""]},
             {304, Length, ?KEPT, ["content-length: 9", "", ""]}, {304, [], Head, ["", ""]}]],
    [?assertEqual({Status, Lines}, {Status, element(1, parts(Status, [], [<<"abc">>], Exchange))})
     || {Status, Exchange, Lines} <- [{200, Head, ["", ""]}, {204, ?KEPT, ["", ""]},
                                      {304, ?KEPT, ["", ""]}]].

a_body_is_as_long_as_was_said(_Config) ->
    {_, Begun} = hornbeam_http1_response:start(200, [{<<"content-length">>, <<"3">>}], ?KEPT),
    Part = fun(Body, More) -> hornbeam_http1_response:part(Body, More, Begun) end,
    ?assertMatch({ok, <<"abc">>, _}, Part(<<"abc">>, false)),
    ?assertMatch({ok, <<"abc">>, _}, Part(<<"abc">>, true)),
    ?assertEqual({error, too_long}, Part(<<"abcd">>, true)),
    ?assertEqual({error, too_short}, Part(<<"ab">>, false)),
    {ok, _, Some} = Part(<<"ab">>, true),
    ?assertEqual({error, too_long}, hornbeam_http1_response:part(<<"cd">>, false, Some)),
    ?assertEqual({error, too_short}, hornbeam_http1_response:part(<<>>, false, Some)),
    ?assertMatch({ok, <<"c">>, _}, hornbeam_http1_response:part(<<"c">>, false, Some)).

what_is_about_the_connection_is_ours_to_say(_Config) ->
    Own = [{<<"connection">>, <<"x-own, keep-alive">>}, {<<"keep-alive">>, <<"timeout=5">>},
           {<<"upgrade">>, <<"h2c">>}, {<<"transfer-encoding">>, <<"gzip">>}],
    [?assertEqual({Exchange, Lines}, {Exchange, whole(200, Own, <<>>, Exchange)})
     || {Exchange, Lines} <-
            [{?KEPT, ["content-length: 0", "", ""]},
             {{<<"GET">>, 'HTTP/1.1', true, false},
              ["content-length: 0", "connection: close", "", ""]},
             {{<<"GET">>, 'HTTP/1.0', false, true},
              ["content-length: 0", "connection: keep-alive", "", ""]},
             {{<<"GET">>, 'HTTP/1.0', true, false},
              ["content-length: 0", "connection: close", "", ""]}]],
    Upgrade = [{<<"upgrade">>, <<"websocket">>}],
    ?assertEqual(["upgrade: websocket", "content-length: 0", "connection: upgrade", "", ""],
                 whole(426, Upgrade, <<>>, ?KEPT)),
    ?assertEqual(["upgrade: websocket", "content-length: 0", "connection: close, upgrade", "", ""],
                 whole(426, Upgrade, <<>>, {<<"GET">>, 'HTTP/1.1', true, false})).

an_app_may_end_the_connection(_Config) ->
    [begin
         {Bytes, Response} =
             hornbeam_http1_response:whole(200, [{<<"connection">>, Value} | ?DATED], <<>>, ?KEPT),
         ?assertEqual({Value, IsLast}, {Value, hornbeam_http1_response:is_last(Response)}),
         ?assertEqual({Value, IsLast}, {Value, lists:member("connection: close", lines(Bytes))})
     end || {Value, IsLast} <- [{<<"close">>, true}, {<<"Close">>, true}, {<<"a, close">>, true},
                                {<<"keep-alive">>, false}, {<<"closed">>, false}, {<<>>, false}]].

fields_go_out_in_their_order(_Config) ->
    Fields = [{<<"set-cookie">>, <<"a">>}, {<<"x">>, <<>>}, {<<"set-cookie">>, <<"b">>},
              {<<"content-length">>, <<"0">>}, {<<"x">>, <<255, "\t,">>}],
    ?assertEqual(["set-cookie: a", "x: ", "set-cookie: b", "content-length: 0", "x: \xff\t,", "",
                  ""],
                 whole(200, Fields, <<>>, ?KEPT)).

a_response_is_dated_and_signed_once(_Config) ->
    Names = fun(Fields) ->
        {Bytes, _} = hornbeam_http1_response:whole(200, Fields, <<>>, ?KEPT),
        [hd(string:split(Line, ":")) || Line <- tl(lines(Bytes)), Line =/= ""]
    end,
    ?assertEqual(["content-length", "date", "server"], Names([])),
    ?assertEqual(["date", "content-length", "server"], Names([{<<"date">>, <<"x">>}])),
    ?assertEqual(["server", "content-length", "date"], Names([{<<"server">>, <<"x">>}])).

a_refusal_is_the_last_word(_Config) ->
    Lines = fun(Fault, Begin) -> lines(hornbeam_http1_response:refusal(Fault, Begin)) end,
    Get = Lines(bad_request, <<"GET /">>),
    ?assertEqual("HTTP/1.1 400 Bad Request", hd(Get)),
    ?assert(lists:member("connection: close", Get)),
    ?assertEqual(Get, Lines(bad_request, <<>>)),
    %% A HEAD has the same without the body, also when it is none.
    Sentence = "This is no HTTP request.\n",
    ?assertEqual(["", Sentence], lists:nthtail(length(Get) - 2, Get)),
    Head = Lines(bad_request, <<"HEAD ">>),
    ?assertEqual(lists:droplast(Get) ++ [""], Head),
    ?assertEqual(Get, Lines(bad_request, <<"HEADER ">>)),
    [?assertEqual({Fault, Status}, {Fault, lists:sublist(hd(Lines(Fault, <<>>)), 10, 3)})
     || {Fault, Status} <- [{bad_request, "400"}, {head_timeout, "408"}, {body_too_large, "413"},
                            {uri_too_long, "414"}, {fields_too_large, "431"},
                            {not_implemented, "501"}, {version_not_supported, "505"},
                            {full, "503"}]].

a_switch_names_no_length(_Config) ->
    Switch = hornbeam_http1_response:switch([{<<"upgrade">>, <<"websocket">>} | ?DATED]),
    ?assertEqual(["HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "date: now",
                  "server: me", "", ""], lines(Switch)),
    ?assertEqual(["HTTP/1.1 100 Continue", "", ""], lines(hornbeam_http1_response:continue())).

statuses_have_their_names(_Config) ->
    [?assertEqual(Line, hornbeam_http1_response:status(Status))
     || {Status, Line} <- [{200, <<"200 OK">>}, {404, <<"404 Not Found">>},
                           {418, <<"418 I'm a teapot">>}, {503, <<"503 Service Unavailable">>},
                           {299, <<"299 Unknown">>}]],
    %% A reason phrase is there, and is no more than one line.
    [?assertMatch({Status, {match, _}},
                  {Status, re:run(hornbeam_http1_response:status(Status), "^\\d{3} [!-~][ -~]*$")})
     || Status <- lists:seq(200, 599)].

%% A response as lines, without its first and without those that are the same for all.

whole(Status, Fields, Body, Exchange) ->
    {Bytes, Response} = hornbeam_http1_response:whole(Status, Fields ++ ?DATED, Body, Exchange),
    ?assertNot(hornbeam_http1_response:ends_with_connection(Response)),
    own(lines(Bytes)).

parts(Fields, Parts, Exchange) ->
    parts(200, Fields, Parts, Exchange).

parts(Status, Fields, Parts, Exchange) ->
    {Head, Begun} = hornbeam_http1_response:start(Status, Fields ++ ?DATED, Exchange),
    {Bytes, Response} = lists:mapfoldl(fun(Part, Before) ->
        {ok, Written, After} = hornbeam_http1_response:part(Part, true, Before),
        {Written, After}
    end, Begun, Parts),
    {ok, Last, _} = hornbeam_http1_response:part(<<>>, false, Response),
    {own(lines([Head, Bytes, Last])), hornbeam_http1_response:is_last(Response),
     hornbeam_http1_response:ends_with_connection(Response)}.

lines(Bytes) ->
    [binary_to_list(Line) || Line <- binary:split(iolist_to_binary(Bytes), <<"\r\n">>, [global])].

own([_Status | Lines]) ->
    Lines -- ["date: now", "server: me"].
