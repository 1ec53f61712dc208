%% What an app may answer a client with, at the edges of what HTTP and WebSocket allow.
-module(hornbeam_app_message_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [statuses_are_those_of_final_responses, a_response_cannot_be_split,
     names_are_tokens_in_lower_case, what_no_response_has_is_a_fault,
     what_other_servers_say_of_their_connections_is_none, a_head_is_bounded_in_headers_and_bytes,
     an_accept_says_nothing_of_the_handshake_itself, lengths_are_digits, a_subprotocol_is_a_token,
     close_codes_are_those_that_may_be_sent, close_reasons_fit_a_control_frame,
     a_packet_is_read_and_checked].

statuses_are_those_of_final_responses(_Config) ->
    [?assertEqual(ok, start(Status, [])) || Status <- [200, 204, 404, 599]],
    [?assertEqual({error, bad_status}, start(Status, []))
     || Status <- [0, 99, 100, 101, 199, 600, 999, 1000, 1 bsl 63]].

a_response_cannot_be_split(_Config) ->
    [?assertEqual({error, bad_header}, start(200, [{<<"a">>, <<"b">>}, {<<"x">>, Value}]))
     || Value <- [<<"\r">>, <<"\n">>, <<"a\r\nset-cookie: b">>, <<"a", 0, "b">>
                  | [<<Code>> || Code <- lists:seq(0, 8) ++ lists:seq(10, 31) ++ [127]]]],
    [?assertEqual({error, bad_header}, start(200, [{Name, <<"b">>}]))
     || Name <- [<<>>, <<"a\r\nb">>, <<"a b">>, <<"a:">>, <<"a", 0>>, <<"größe"/utf8>>, <<"(a)">>]],
    ?assertEqual({error, bad_header}, accept(undefined, [{<<"x">>, <<"\r\n\r\n">>}])),
    ?assertEqual(ok, start(200, [{<<"x">>, <<"any other bytes \t ", 126, 128, 255>>}])).

names_are_tokens_in_lower_case(_Config) ->
    ?assertEqual(ok, start(200, [{<<"x-a_b.c!#$%&'*+^`|~9">>, <<>>}])),
    [?assertEqual({error, bad_header}, start(200, [{Name, <<"chunked">>}]))
     || Name <- [<<"Transfer-Encoding">>, <<"X">>]].

what_no_response_has_is_a_fault(_Config) ->
    [?assertEqual({Name, {error, bad_header}, {error, bad_header}},
                  {Name, start(200, [{Name, <<"x">>}]), accept(undefined, [{Name, <<"x">>}])})
     || Name <- [<<"te">>, <<"trailer">>, <<"proxy-connection">>]].

what_other_servers_say_of_their_connections_is_none(_Config) ->
    [?assertEqual({Name, ok, ok},
                  {Name, start(200, [{Name, <<"x">>}]), accept(undefined, [{Name, <<"x">>}])})
     || Name <- [<<"connection">>, <<"keep-alive">>, <<"upgrade">>, <<"transfer-encoding">>]].

%% Python may add a content-length to what the app has said within the limits.
a_head_is_bounded_in_headers_and_bytes(_Config) ->
    Length = {<<"content-length">>, binary:copy(<<"9">>, 18)},
    Header = {<<"x">>, <<>>},
    Check = fun(Headers, Limits) ->
        [hornbeam_app_message:check({response_start, 1, 200, Headers, <<>>, false}, Limits),
         hornbeam_app_message:check({accept, 1, undefined, Headers}, Limits)]
    end,
    Fields = #{limit_response_head => 10000, limit_response_fields => 20},
    ?assertEqual([ok, ok], Check([Length | lists:duplicate(20, Header)], Fields)),
    ?assertEqual([{error, head_too_large}, {error, head_too_large}],
                 Check([Length, Length | lists:duplicate(20, Header)], Fields)),
    Bytes = #{limit_response_head => 100, limit_response_fields => 20},
    Big = fun(Size) -> {<<"x">>, binary:copy(<<"x">>, Size)} end,
    ?assertEqual([ok, ok], Check([Big(95), Length], Bytes)),
    ?assertEqual([ok, ok], Check([Big(100 + 64 - 5)], Bytes)),
    ?assertEqual([{error, head_too_large}, {error, head_too_large}],
                 Check([Big(100 + 64 - 4)], Bytes)),
    ?assertEqual([{error, head_too_large}, {error, head_too_large}],
                 Check(lists:duplicate(3, Big(60)), Bytes)).

an_accept_says_nothing_of_the_handshake_itself(_Config) ->
    [?assertEqual({Name, {error, bad_header}, ok},
                  {Name, accept(undefined, [{<<"x">>, <<>>}, {Name, <<"x">>}]),
                   start(426, [{Name, <<"x">>}])})
     || Name <- [<<"sec-websocket-extensions">>, <<"sec-websocket-accept">>,
                 <<"sec-websocket-protocol">>, <<"sec-websocket-version">>]].

lengths_are_digits(_Config) ->
    Length = fun(Value) -> start(200, [{<<"content-length">>, Value}]) end,
    [?assertEqual(ok, Length(Value)) || Value <- [<<"0">>, <<"12">>, binary:copy(<<"9">>, 18)]],
    [?assertEqual({error, bad_content_length}, Length(Value))
     || Value <- [<<>>, <<"-1">>, <<"+1">>, <<"1 ">>, <<"1, 1">>, <<"0x1">>,
                  binary:copy(<<"9">>, 19)]].

a_subprotocol_is_a_token(_Config) ->
    [?assertEqual(ok, accept(Name, [])) || Name <- [undefined, <<"chat">>, <<"v10.stomp">>]],
    [?assertEqual({error, bad_subprotocol}, accept(Name, []))
     || Name <- [<<>>, <<"a b">>, <<"a\r\nx: y">>, <<7>>, <<"a,b">>, <<"ü"/utf8>>]].

close_codes_are_those_that_may_be_sent(_Config) ->
    [?assertEqual(ok, close(Code, <<>>)) || Code <- [1000, 1003, 1007, 1014, 3000, 4999]],
    [?assertEqual({error, bad_close}, close(Code, <<>>))
     || Code <- [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65536 + 1000, 1 bsl 63]].

close_reasons_fit_a_control_frame(_Config) ->
    ?assertEqual(ok, close(1000, binary:copy(<<"x">>, 123))),
    [?assertEqual({error, bad_close}, close(1000, Reason))
     || Reason <- [binary:copy(<<"x">>, 124), <<255>>]].

a_packet_is_read_and_checked(_Config) ->
    Read = fun(Fields) ->
        hornbeam_app_message:read(iolist_to_binary(hornbeam_msgpack:encode(Fields)), limits())
    end,
    ?assertEqual({ok, {close, 1, 1000, <<>>}}, Read([41, 1, 1000, hornbeam_msgpack:bytes(<<>>)])),
    ?assertEqual({error, bad_close}, Read([41, 1, 1, hornbeam_msgpack:bytes(<<>>)])),
    ?assertEqual({error, {field_count, close}}, Read([41, 1, 1000])).

start(Status, Headers) ->
    Begins = [{response_start, 1, Status, Headers, <<>>, false},
              {response, 1, Status, Headers, <<>>},
              {event_stream, 1, Status, Headers, true}],
    [Same, Same, Same] = [hornbeam_app_message:check(Begin, limits()) || Begin <- Begins],
    Same.

accept(Subprotocol, Headers) ->
    hornbeam_app_message:check({accept, 1, Subprotocol, Headers}, limits()).

close(Code, Reason) ->
    hornbeam_app_message:check({close, 1, Code, Reason}, limits()).

limits() ->
    {ok, #{mounts := [{_, Options}]}} = hornbeam_config:check("app:application", #{}),
    Options.
