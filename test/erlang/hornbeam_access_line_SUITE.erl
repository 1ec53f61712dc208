%% Lines of the access log: formats, and that what a client sends forges none.
-module(hornbeam_access_line_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [the_short_format_is_as_uvicorns, formats_of_apache, json_is_an_object_a_line,
     what_a_client_sends_is_quoted].

-define(CLOCK, {{{2026, 11, 30}, {9, 5, 7}}, <<"+0100">>}).
-define(CLIENT, {<<"127.0.0.1">>, 53412}).

request(Path) ->
    {http, ?CLIENT, {<<"GET">>, Path, <<"y=1">>, 'HTTP/1.1'}, <<"/">>, 200, true, 5, 1234,
     [{<<"user-agent">>, <<"curl">>}]}.

broken_off() ->
    {http, {<<"::1">>, 5}, {<<"GET">>, <<"/x">>, <<>>, 'HTTP/2'}, none, 200, false, 5, 1234, []}.

refused() ->
    {http, undefined, {websocket, <<"/ws">>, <<>>, 'HTTP/1.1'}, <<"/">>, 403, true, 0, 9, []}.

closed() ->
    {closed, ?CLIENT, <<"/ws">>, <<"/">>, id(), 1000, 12, {1, 40}, {5, 1}}.

id() -> [{<<"x-request-id">>, <<"7f">>}].

the_short_format_is_as_uvicorns(_Config) ->
    [?assertEqual(Line, text(short, Entry))
     || {Entry, Line} <-
            [{request(<<"/x">>), <<"127.0.0.1:53412 - \"GET /x?y=1 HTTP/1.1\" 200\n">>},
             {broken_off(), <<"[::1]:5 - \"GET /x HTTP/2\" 200 broken off\n">>},
             {refused(), <<"unix - \"WebSocket /ws\" 403\n">>},
             {{accepted, ?CLIENT, <<"/ws">>, <<"/ws">>, []},
              <<"127.0.0.1:53412 - \"WebSocket /ws\" [accepted]\n">>},
             {closed(), <<"127.0.0.1:53412 - \"WebSocket /ws\" closed 1000 after 12 s, "
                          "1 message (40 bytes) in, 5 messages (1 byte) out\n">>}]].

formats_of_apache(_Config) ->
    [?assertEqual({Format, Line}, {Format, text(format(Format), Entry)})
     || {Format, Entry, Line} <-
            [{common, request(<<"/x">>),
              <<"127.0.0.1 - - [30/Nov/2026:09:05:07 +0100] \"GET /x?y=1 HTTP/1.1\" 200 5\n">>},
             {combined, request(<<"/x">>),
              <<"127.0.0.1 - - [30/Nov/2026:09:05:07 +0100] \"GET /x?y=1 HTTP/1.1\" 200 5 "
                "\"-\" \"curl\"\n">>},
             {"%m %U%q %H %s %B %D %T 100%%", request(<<"/x">>),
              <<"GET /x?y=1 HTTP/1.1 200 5 1234 0 100%\n">>},
             {"%h %r %s %b %D", refused(), <<"unix WebSocket /ws 403 - 9\n">>},
             {"%{mount}n %U", {accepted, ?CLIENT, <<"/a/ws">>, <<"/a">>, id()}, <<"/a /a/ws\n">>},
             {"%{mount}n %U", request(<<"/x">>), <<"/ /x\n">>},
             {"%{mount}n %U", broken_off(), <<"- /x\n">>},
             {"%h %r %s %b %D", {accepted, ?CLIENT, <<"/ws">>, <<"/ws">>, []},
              <<"127.0.0.1 WebSocket /ws 101 - 0\n">>},
             {"%h %r %s %b %D %{Referer}i %{x-request-id}o", closed(),
              <<"127.0.0.1 WebSocket /ws 1000 1 12000000 - 7f\n">>}]].

format(Given) ->
    {ok, #{server := #{access_log_format := Format}}} =
        hornbeam_config:check("a:b", #{access_log_format => Given}),
    Format.

json_is_an_object_a_line(_Config) ->
    [?assertEqual(Expected, maps:with(maps:keys(Expected), object(Entry)))
     || {Entry, Expected} <-
            [{request(<<"/\"x\\">>),
              #{<<"event">> => <<"request">>, <<"path">> => <<"/\"x\\">>, <<"status">> => 200,
                <<"time">> => <<"2026-11-30T09:05:07+0100">>, <<"seconds">> => 0.001234,
                <<"client">> => <<"127.0.0.1:53412">>, <<"user_agent">> => <<"curl">>,
                <<"whole">> => true, <<"bytes">> => 5, <<"mount">> => <<"/">>}},
             {broken_off(), #{<<"mount">> => null}},
             {refused(), #{<<"client">> => null, <<"method">> => <<"WebSocket">>}},
             {{accepted, ?CLIENT, <<"/a/ws">>, <<"/a">>, id()},
              #{<<"event">> => <<"websocket_accepted">>, <<"mount">> => <<"/a">>,
                <<"x_request_id">> => <<"7f">>}},
             {closed(), #{<<"event">> => <<"websocket_closed">>, <<"code">> => 1000,
                          <<"mount">> => <<"/">>, <<"messages_in">> => 1, <<"bytes_out">> => 1,
                          <<"x_request_id">> => <<"7f">>}}]].

object(Entry) -> hornbeam_wire_files:decode_json(text(json, Entry)).

what_a_client_sends_is_quoted(_Config) ->
    Path = <<"/\"\n\e[31m", 255>>,
    Quoted = <<"/\\x22\\x0a\\x1b[31m\\xff">>,
    [?assertNotEqual(nomatch, binary:match(text(Format, request(Path)), Quoted))
     || Format <- [short, format(common)]],
    ?assertEqual([<<>>], tl(binary:split(text(json, request(Path)), <<"\n">>, [global]))).

text(Format, Entry) ->
    iolist_to_binary(hornbeam_access_line:text(Format, ?CLOCK, Entry)).
