%% The head of a request, whatever pieces it comes in.
-module(hornbeam_http1_head_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("hornbeam/src/web/http1/hornbeam_http1_head.hrl").

-compile(export_all).

all() ->
    [request_lines_are_read, request_lines_that_are_none_are_refused,
     fields_are_read_in_their_order,
     fields_that_are_none_are_refused, what_says_where_a_body_ends_is_said_once,
     options_of_the_connection_are_read, a_target_that_names_a_host_overrides_the_field,
     what_comes_behind_a_head_is_left, empty_lines_before_a_head_are_dropped,
     what_cannot_become_a_head_is_refused_at_once, a_request_line_may_be_as_long_as_its_limit,
     a_field_may_be_as_large_as_its_limit, there_may_be_as_many_fields_as_their_limit,
     a_head_may_be_as_large_as_its_limit, a_length_has_as_many_digits_as_any_body_needs,
     a_method_is_as_long_as_any_that_is_known, the_same_fields_are_not_read_again,
     a_head_that_comes_byte_by_byte_is_not_read_again_from_its_start, properties_hold].

init_per_suite(Config) ->
    ok = hornbeam_http1_head:prepare(),
    Config.

end_per_suite(_Config) ->
    ok.

request_lines_are_read(_Config) ->
    [?assertEqual({Line, {ok, Read}}, {Line, line(Line)})
     || {Line, Read} <-
            [{"GET / HTTP/1.1", {<<"GET">>, <<"/">>, <<>>, 'HTTP/1.1'}},
             {"GET / HTTP/1.0", {<<"GET">>, <<"/">>, <<>>, 'HTTP/1.0'}},
             {"get / HTTP/1.1", {<<"get">>, <<"/">>, <<>>, 'HTTP/1.1'}},
             {"M-SEARCH /a HTTP/1.1", {<<"M-SEARCH">>, <<"/a">>, <<>>, 'HTTP/1.1'}},
             {"!#$%&'*+-.^_`|~9 / HTTP/1.1", {<<"!#$%&'*+-.^_`|~9">>, <<"/">>, <<>>, 'HTTP/1.1'}},
             {"GET /a?b=c HTTP/1.1", {<<"GET">>, <<"/a">>, <<"b=c">>, 'HTTP/1.1'}},
             {"GET /a?b?c HTTP/1.1", {<<"GET">>, <<"/a">>, <<"b?c">>, 'HTTP/1.1'}},
             {"GET /? HTTP/1.1", {<<"GET">>, <<"/">>, <<>>, 'HTTP/1.1'}},
             {"GET //a/../b HTTP/1.1", {<<"GET">>, <<"//a/../b">>, <<>>, 'HTTP/1.1'}},
             {"GET /%2F%zz\"<>\\^`{|} HTTP/1.1",
              {<<"GET">>, <<"/%2F%zz\"<>\\^`{|}">>, <<>>, 'HTTP/1.1'}},
             {"GET /\xe4\xff HTTP/1.1", {<<"GET">>, <<"/", 16#e4, 16#ff>>, <<>>, 'HTTP/1.1'}},
             {"OPTIONS * HTTP/1.1", {<<"OPTIONS">>, <<"*">>, <<>>, 'HTTP/1.1'}},
             {"OPTIONS /a HTTP/1.1", {<<"OPTIONS">>, <<"/a">>, <<>>, 'HTTP/1.1'}},
             {"GET http://site HTTP/1.1", {<<"GET">>, <<"/">>, <<>>, 'HTTP/1.1'}},
             {"GET HTTPS://site:1/a?b HTTP/1.1", {<<"GET">>, <<"/a">>, <<"b">>, 'HTTP/1.1'}},
             {"GET http://site?b HTTP/1.1", {<<"GET">>, <<"/">>, <<"b">>, 'HTTP/1.1'}}]].

request_lines_that_are_none_are_refused(_Config) ->
    [?assertEqual({Line, {fault, Fault}}, {Line, line(Line)})
     || {Fault, Lines} <-
            [{bad_request,
              ["GET /", "GET  / HTTP/1.1", "GET /  HTTP/1.1", " GET / HTTP/1.1", "GET / HTTP/1.1 ",
               "GET\t/\tHTTP/1.1", "GET / http/1.1", "GET / HTTP/1.1.1", "GET / HTTP/11",
               "GET / HTTP/01.1", "GET / HTTP/1.", "GET / HTTP/a.b", "GET / HTTP1.1", "GET / ",
               "GET / FTP/1.1", "/ HTTP/1.1", "GET", "G(T / HTTP/1.1", "G\xe4T / HTTP/1.1",
               "G\0T / HTTP/1.1", "GET /\0 HTTP/1.1", "GET /\x7f HTTP/1.1", "GET /\t HTTP/1.1",
               "GET /a b HTTP/1.1", "GET /\r HTTP/1.1", "GET /\r HTTP/1.1\r", "GET /\n HTTP/1.1",
               "GET a HTTP/1.1", "GET ?a HTTP/1.1", "GET /#a HTTP/1.1", "GET /?a#b HTTP/1.1",
               "GET * HTTP/1.1", "OPTIONS ** HTTP/1.1", "GET ftp://site/ HTTP/1.1",
               "GET http:/site/ HTTP/1.1", "GET http:///a HTTP/1.1", "GET http://?a HTTP/1.1",
               "GET http://user@site/ HTTP/1.1", "GET http://site/#a HTTP/1.1",
               "GET http://site#a HTTP/1.1", "GET site:80 HTTP/1.1", "\xff"]},
             {version_not_supported, ["GET / HTTP/2.0", "GET / HTTP/1.2", "GET / HTTP/0.9",
                                      "GET / HTTP/9.9", "PRI * HTTP/2.0"]},
             {not_implemented, ["CONNECT site:80 HTTP/1.1", "TRACE / HTTP/1.1",
                                "CONNECT / HTTP/1.1"]}],
        Line <- Lines].

fields_are_read_in_their_order(_Config) ->
    Host = {<<"host">>, <<"a">>},
    [?assertEqual({Lines, {ok, First ++ Read}},
                  {Lines, list([<<"Host: a">> || First =/= []] ++ Lines)})
     || {First, Lines, Read} <-
            [{[Host], [], []},
             {[Host], ["X: 1", "a:2", "X:3"],
              [{<<"x">>, <<"1">>}, {<<"a">>, <<"2">>}, {<<"x">>, <<"3">>}]},
             {[], ["HoSt: A", "X-UPPER: Value"],
              [{<<"host">>, <<"A">>}, {<<"x-upper">>, <<"Value">>}]},
             {[Host], ["a: \t b c\t ", "b:", "c:  ", "d: :"],
              [{<<"a">>, <<"b c">>}, {<<"b">>, <<>>}, {<<"c">>, <<>>}, {<<"d">>, <<":">>}]},
             {[Host], ["!#$%&'*+-.^_`|~9: \xe4\xff\t\"(,)"],
              [{<<"!#$%&'*+-.^_`|~9">>, <<16#e4, 16#ff, "\t\"(,)">>}]}]].

fields_that_are_none_are_refused(_Config) ->
    [?assertEqual({Line, {fault, bad_request}}, {Line, list(["Host: a", Line, "b: c"])})
     || Line <- ["a", ":", ": b", "a : b", "a\t: b", " a: b", "\ta: b", "a b: c", "a\xe4: b",
                 "(a): b", "a: \0", "a: \x7f", "a: \x01", "a: b\rc", "a: b\nc: d", "a: b\r", "\r",
                 "a: b\r\r", "a:\v", "a\0: b", "@: b"]],
    [?assertEqual({Lines, {fault, bad_request}}, {Lines, list(Lines)})
     || Lines <- [[], ["a: b"], ["Host: a", "Host: a"], ["Host: a", "a: b", "host:"]]].

%% What says nothing of a body, and what could be read in two ways (RFC 9112, 6.3).
what_says_where_a_body_ends_is_said_once(_Config) ->
    [?assertEqual({Lines, Body}, {Lines, said(#fields.body, ["Host: a" | Lines])})
     || {Lines, Body} <-
            [{[], none}, {["Content-Length: 0"], 0}, {["Content-Length: 12"], 12},
             {["content-length:  007 "], 7}, {["Content-Length: 000000000000000000000"], 0},
             {["Transfer-Encoding: chunked"], unknown},
             {["transfer-encoding: CHUNKED "], unknown}]],
    [?assertEqual({Lines, {fault, bad_request}},
                  {Lines, said(#fields.body, ["Host: a" | Lines])})
     || Lines <- [["Content-Length:"], ["Content-Length: -1"], ["Content-Length: +1"],
                  ["Content-Length: 1 2"], ["Content-Length: 1,1"], ["Content-Length: 1, 1"],
                  ["Content-Length: 0x1"], ["Content-Length: 1.0"], ["Content-Length: \xb2"],
                  ["Content-Length: 1", "Content-Length: 1"],
                  ["Content-Length: 1", "a: b", "content-length: 2"],
                  ["Content-Length: 1", "Transfer-Encoding: chunked"],
                  ["Transfer-Encoding: chunked", "Content-Length: 1"],
                  ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
                  ["Transfer-Encoding:"], ["Transfer-Encoding: gzip"],
                  ["Transfer-Encoding: gzip, chunked"], ["Transfer-Encoding: chunked, chunked"],
                  ["Transfer-Encoding: chunked;a=b"], ["Transfer-Encoding: \"chunked\""],
                  ["Transfer-Encoding: identity"], ["Transfer-Encoding: xchunked"]]],
    Old = fun(Lines) -> fed([head("POST / HTTP/1.0", Lines)], limits(#{})) end,
    ?assertMatch({ok, _, #fields{body = 1, host = none}, <<>>}, Old(["Content-Length: 1"])),
    ?assertEqual({fault, bad_request}, Old(["Transfer-Encoding: chunked"])).

options_of_the_connection_are_read(_Config) ->
    [?assertEqual({Lines, Value}, {Lines, said(Place, ["Host: a" | Lines])})
     || {Place, Lines, Value} <-
            [{#fields.connection, [], []},
             {#fields.connection, ["Connection: Close"], [<<"close">>]},
             {#fields.connection, ["Connection: a, ,B,", "connection: c"],
              [<<"a">>, <<"b">>, <<"c">>]},
             {#fields.connection, ["Connection:"], []},
             {#fields.connection, ["Connection: a b"], {fault, bad_request}},
             {#fields.connection, ["Connection: \"close\""], {fault, bad_request}},
             {#fields.upgrade, ["Upgrade: WebSocket"], websocket},
             {#fields.upgrade, ["Upgrade: h2c, websocket"], websocket},
             {#fields.upgrade, ["Upgrade: websocket", "Upgrade: h2c"], websocket},
             {#fields.upgrade, ["Upgrade: h2c"], none},
             {#fields.upgrade, ["Upgrade: websocket/13"], none},
             {#fields.expect, [], false},
             {#fields.expect, ["Expect: 100-Continue"], true},
             {#fields.expect, ["Expect: 200-ok"], false}]].

a_target_that_names_a_host_overrides_the_field(_Config) ->
    Read = fun(Target, Host) ->
        {ok, _, #fields{host = Named, list = List}, _} =
            fed([head("GET " ++ Target ++ " HTTP/1.1", ["a: b", "Host: " ++ Host, "c: d"])],
                limits(#{})),
        {Named, List}
    end,
    Listed = fun(Host) -> [{<<"a">>, <<"b">>}, {<<"host">>, Host}, {<<"c">>, <<"d">>}] end,
    [?assertEqual({Target, Host, {Named, Listed(Named)}}, {Target, Host, Read(Target, Host)})
     || {Target, Host, Named} <- [{"/", "field", <<"field">>},
                                  {"http://target", "field", <<"target">>},
                                  {"http://target:81/a", "field:80", <<"target:81">>},
                                  %% What is no host is judged as it came.
                                  {"http://target", "a b", <<"a b">>}]],
    ?assertEqual({fault, bad_request},
                 fed([head("GET http://target HTTP/1.1", [])], limits(#{}))),
    ?assertMatch({ok, _, #fields{host = none, list = []}, _},
                 fed([head("GET http://target HTTP/1.0", [])], limits(#{}))).

what_comes_behind_a_head_is_left(_Config) ->
    Head = head("GET / HTTP/1.1", ["Host: a"]),
    [?assertMatch({ok, _, _, Behind}, fed([<<Head/binary, Behind/binary>>], limits(#{})))
     || Behind <- [<<>>, <<"body">>, <<"\r\n\r\n">>, <<"\r\nGET">>, Head, <<0, 255>>]].

empty_lines_before_a_head_are_dropped(_Config) ->
    [?assertMatch({Lines, {ok, {<<"GET">>, _, _, _}, _, <<>>}},
                  {Lines, every(<<Lines/binary, (head("GET / HTTP/1.1", ["Host: a"]))/binary>>)})
     || Lines <- [<<"\r\n">>, <<"\r\n\r\n">>, <<"\r\n\r\n\r\n\r\n\r\n">>]],
    ?assertEqual({more, <<>>, 0}, hornbeam_http1_head:read(<<"\r\n\r\n">>, 0, none, limits(#{}))),
    [?assertEqual({Wrong, {fault, bad_request}},
                  {Wrong, every(<<Wrong/binary, (head("GET / HTTP/1.1", ["Host: a"]))/binary>>)})
     || Wrong <- [<<"\n">>, <<"\r">>, <<"\r\r\n">>, <<" \r\n">>, <<"\r\n\n">>, <<"\0\r\n">>]].

what_cannot_become_a_head_is_refused_at_once(_Config) ->
    [?assertEqual({Bytes, {fault, bad_request}},
                  {Bytes, hornbeam_http1_head:read(Bytes, 0, none, limits(#{}))})
     || Bytes <- [<<" ">>, <<22, 3, 1>>, <<"\n">>, <<"\rG">>, <<"GET / HTTP/1.1\n">>,
                  <<"GET / HTTP/1.1\r\na: b\n">>, <<"GET / HTTP/1.1\r\n\n">>, <<"{">>, <<128>>]].

a_request_line_may_be_as_long_as_its_limit(_Config) ->
    Limits = limits(#{limit_request_line => 32}),
    Line = fun(Size) -> "GET /" ++ lists:duplicate(Size - 14, $a) ++ " HTTP/1.1" end,
    ?assertMatch({ok, _, _, _}, every(head(Line(32), ["Host: a"]), Limits)),
    ?assertEqual({fault, uri_too_long}, every(head(Line(33), ["Host: a"]), Limits)),
    %% Not before it is sure, and not later.
    Endless = fun(Size) ->
        hornbeam_http1_head:read(list_to_binary(Line(Size)), 0, none, Limits)
    end,
    ?assertMatch({more, _, 33}, Endless(33)),
    ?assertEqual({fault, uri_too_long}, Endless(34)).

a_field_may_be_as_large_as_its_limit(_Config) ->
    Limits = limits(#{limit_request_field_size => 16}),
    Field = fun(Size) -> "name: " ++ lists:duplicate(Size - 6, $a) end,
    Head = fun(Line) -> head("GET / HTTP/1.1", ["Host: a", Line, "b: c"]) end,
    ?assertMatch({ok, _, _, _}, every(Head(Field(16)), Limits)),
    ?assertEqual({fault, fields_too_large}, every(Head(Field(17)), Limits)).

there_may_be_as_many_fields_as_their_limit(_Config) ->
    Limits = limits(#{limit_request_fields => 4}),
    Head = fun(Count) ->
        head("GET / HTTP/1.1", ["Host: a" | lists:duplicate(Count - 1, "b: c")])
    end,
    ?assertMatch({ok, _, _, _}, every(Head(4), Limits)),
    ?assertEqual({fault, fields_too_large}, every(Head(5), Limits)).

a_head_may_be_as_large_as_its_limit(_Config) ->
    Head = head("GET / HTTP/1.1", ["Host: a", "b: c"]),
    Size = byte_size(Head),
    ?assertMatch({ok, _, _, <<>>}, every(Head, limits(#{limit_request_head => Size}))),
    ?assertEqual({fault, fields_too_large}, every(Head, limits(#{limit_request_head => Size - 1}))),
    %% What follows it is none of it.
    ?assertMatch({ok, _, _, <<"more">>},
                 fed([<<Head/binary, "more">>], limits(#{limit_request_head => Size}))),
    Begun = binary:part(Head, 0, Size - 4),
    Endless = fun(Limit) ->
        hornbeam_http1_head:read(Begun, 0, none, limits(#{limit_request_head => Limit}))
    end,
    ?assertMatch({more, _, _}, Endless(Size - 4)),
    ?assertEqual({fault, fields_too_large}, Endless(Size - 5)).

a_length_has_as_many_digits_as_any_body_needs(_Config) ->
    Said = fun(Digits) -> said(#fields.body, ["Host: a", "Content-Length: " ++ Digits]) end,
    Most = lists:duplicate(18, $9),
    ?assertEqual(999999999999999999, Said(Most)),
    ?assertEqual(999999999999999999, Said("0000" ++ Most)),
    ?assertEqual({fault, body_too_large}, Said("1" ++ lists:duplicate(18, $0))),
    ?assertEqual({fault, body_too_large}, Said(lists:duplicate(1000, $9))).

a_method_is_as_long_as_any_that_is_known(_Config) ->
    Line = fun(Size) -> lists:duplicate(Size, $M) ++ " / HTTP/1.1" end,
    ?assertMatch({ok, _}, line(Line(32))),
    ?assertEqual({fault, not_implemented}, line(Line(33))).

the_same_fields_are_not_read_again(_Config) ->
    Read = fun(Line, Lines, Last) ->
        {ok, _, Fields, _} = hornbeam_http1_head:read(head(Line, Lines), 0, Last, limits(#{})),
        Fields
    end,
    Lines = ["Host: a", "Content-Length: 1", "X: y"],
    First = Read("GET / HTTP/1.1", Lines, none),
    %% What stands in the fields shows that they are those of before.
    Known = First#fields{list = known},
    ?assertEqual(Known, Read("GET /other HTTP/1.1", Lines, Known)),
    ?assertEqual(First, Read("GET / HTTP/1.1", Lines, First)),
    [?assertEqual({Others, Read("GET / HTTP/1.1", Others, none)},
                  {Others, Read("GET / HTTP/1.1", Others, Known)})
     || Others <- [["Host: a"], ["host: a" | tl(Lines)], ["X: y" | Lines -- ["X: y"]],
                   Lines ++ ["Y: z"], Lines -- ["X: y"]]],
    %% Those with another host than their lines say are nobody else's.
    Other = Read("GET http://other HTTP/1.1", Lines, Known#fields{list = First#fields.list}),
    ?assertEqual({<<"other">>, First},
                 {Other#fields.host, Read("GET / HTTP/1.1", Lines, Other)}),
    %% A kept head does not keep what was read with it.
    Large = <<(head("GET / HTTP/1.1", Lines))/binary, 0:80000>>,
    {ok, _, #fields{block = Block, list = List}, _} =
        hornbeam_http1_head:read(Large, 0, none, limits(#{})),
    [?assert(binary:referenced_byte_size(Kept) < byte_size(Large) div 10)
     || Kept <- [Block | [Value || {_, Value} <- List]]].

%% Four times the bytes are four times the work.
a_head_that_comes_byte_by_byte_is_not_read_again_from_its_start(_Config) ->
    Limits = limits(#{limit_request_fields => 100000}),
    [begin
         {Small, SmallLook} = work(Head(15000), Limits),
         {Large, LargeLook} = work(Head(60000), Limits),
         ?assert(Large < 6 * Small, {Name, Small, Large}),
         ?assert(LargeLook < 6 * SmallLook, {Name, SmallLook, LargeLook})
     end || {Name, Head} <- [{many_fields, fun many_fields/1}, {one_line, fun one_line/1},
                             {a_line_before_fields, fun a_line_before_fields/1}]].

many_fields(Size) ->
    head("GET / HTTP/1.1", ["Host: a" | lists:duplicate(Size div 10, "a: 23456")]).

one_line(Size) ->
    head("GET /" ++ lists:duplicate(Size div 4, $a) ++ " HTTP/1.1", ["Host: a"]).

a_line_before_fields(Size) ->
    head("GET /" ++ lists:duplicate(Size div 4, $a) ++ " HTTP/1.1",
         ["Host: a" | lists:duplicate(3 * Size div 40, "a: 23456")]).

%% All reads of a head that comes byte by byte.
work(Head, Limits) ->
    Buffers = [binary:part(Head, 0, Size) || Size <- lists:seq(1, byte_size(Head))],
    hornbeam_work:of_function(fun() -> {ok, _, _, _} = scanned(Buffers, Limits) end).

scanned(Buffers, Limits) ->
    lists:foldl(fun(Buffer, {more, _Rest, Scanned}) ->
        hornbeam_http1_head:read(Buffer, Scanned, none, Limits)
    end, {more, <<>>, 0}, Buffers).

properties_hold(_Config) ->
    [?assert(hornbeam_properties:hold(Property))
     || Property <- hornbeam_properties:of_module(prop_hornbeam_http1)].

%% Reading.

line(Line) ->
    case every(head(Line, ["Host: a"])) of
        {ok, Read, _, <<>>} -> {ok, Read};
        Fault -> Fault
    end.

list(Lines) ->
    case every(head("GET / HTTP/1.1", Lines)) of
        {ok, _, #fields{list = List}, <<>>} -> {ok, List};
        Fault -> Fault
    end.

said(Place, Lines) ->
    case every(head("POST / HTTP/1.1", Lines)) of
        {ok, _, Fields, <<>>} -> element(Place, Fields);
        Fault -> Fault
    end.

head(Line, Lines) ->
    iolist_to_binary([Line, "\r\n", [[Each, "\r\n"] || Each <- Lines], "\r\n"]).

%% What is read of a head in whatever pieces it comes, which is the same for all.
every(Head) ->
    every(Head, limits(#{})).

every(Head, Limits) ->
    [Read] = lists:usort([fed(Pieces, Limits) || Pieces <- hornbeam_pieces:all(Head)]),
    Read.

fed(Pieces, Limits) ->
    fed(Pieces, <<>>, 0, Limits).

fed([Piece | Pieces], Buffer, Scanned, Limits) ->
    case hornbeam_http1_head:read(<<Buffer/binary, Piece/binary>>, Scanned, none, Limits) of
        {more, Rest, Seen} -> fed(Pieces, Rest, Seen, Limits);
        {ok, Line, Fields, Behind} ->
            {ok, Line, Fields, iolist_to_binary([Behind | Pieces])};
        {fault, _} = Fault -> Fault
    end;
fed([], _Buffer, _Scanned, _Limits) ->
    more.

limits(Own) ->
    {ok, #{server := Server}} = hornbeam_config:check("app:application", Own),
    Server.
