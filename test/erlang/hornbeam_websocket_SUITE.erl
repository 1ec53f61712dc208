%% The engine says what its handler commands, whatever stands before and behind it.
%%
%% This module is the handler too: a connection does what it is told by a message of commands.
-module(hornbeam_websocket_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([a_finished_frame_is_said_wherever_it_stands/1, a_finished_frame_is_compressed/1,
         what_came_behind_the_handshake_is_heard/1, the_handler_hears_of_the_end_once/1,
         a_handshake_is_answered_by_what_its_key_says/1]).
-export([opened/1, handle_frame/2, handle_info/2, sent/2, closed/2]).

-define(PAYLOAD, <<"made once for many">>).

all() ->
    [a_finished_frame_is_said_wherever_it_stands, a_finished_frame_is_compressed,
     what_came_behind_the_handshake_is_heard, the_handler_hears_of_the_end_once,
     a_handshake_is_answered_by_what_its_key_says].

a_finished_frame_is_said_wherever_it_stands(_Config) ->
    {Socket, Connection} = connected(#{}),
    Finished = {finished, hornbeam_websocket_frame:new(text, ?PAYLOAD)},
    Said = hornbeam_websocket_frame:new(text, ?PAYLOAD),
    Awake = [{active, true}, {idle_timeout, infinity}],
    [begin
         Connection ! Commands,
         ?assertEqual({Commands, Due}, {Commands, recv(Socket, byte_size(Due))})
     end || {Commands, Due} <- [
         {[Finished], Said},
         {[{text, <<"a">>}, Finished, {binary, <<"b">>}],
          <<129, 1, "a", Said/binary, 130, 1, "b">>},
         {[{active, true}, Finished], Said},
         {[{active, false}, Finished], Said},
         {[Finished | Awake] ++ [Finished, Finished], <<Said/binary, Said/binary, Said/binary>>}
     ]],
    ok = gen_tcp:close(Socket).

a_finished_frame_is_compressed(_Config) ->
    {Socket, Connection} = connected(#{offer => <<"permessage-deflate">>}),
    Inflate = zlib:open(),
    ok = zlib:inflateInit(Inflate, -15),
    [begin
         Connection ! Commands,
         <<1:1, 1:1, 0:2, 1:4, 0:1, Length:7>> = recv(Socket, 2),
         Bytes = zlib:inflate(Inflate, [recv(Socket, Length), <<0, 0, 255, 255>>]),
         ?assertEqual(?PAYLOAD, iolist_to_binary(Bytes))
     end || Commands <- [[{finished, hornbeam_websocket_frame:new(text, ?PAYLOAD)}],
                         [{active, true},
                          {finished, hornbeam_websocket_frame:new(text, ?PAYLOAD)}]]],
    ok = gen_tcp:close(Socket).

what_came_behind_the_handshake_is_heard(_Config) ->
    Whole = masked(<<"a">>),
    Begun = masked(<<"bc">>),
    {One, _} = connected(#{first => <<Whole/binary, Begun/binary>>}),
    ?assertEqual([{text, <<"a">>}, {text, <<"bc">>}], [heard(), heard()]),
    {Other, _} = connected(#{first => <<Whole/binary, (binary:part(Begun, 0, 3))/binary>>}),
    ?assertEqual({text, <<"a">>}, heard()),
    ok = gen_tcp:send(Other, binary:part(Begun, 3, byte_size(Begun) - 3)),
    ?assertEqual({text, <<"bc">>}, heard()),
    [ok = gen_tcp:close(Socket) || Socket <- [One, Other]].

the_handler_hears_of_the_end_once(_Config) ->
    {Socket, Connection} = connected(#{}),
    Ref = erlang:monitor(process, Connection),
    Connection ! [{text, <<"a">>}, {close, 1001, <<"bye">>}],
    ?assertEqual(<<129, 1, "a", 136, 5, 1001:16, "bye">>, recv(Socket, 10)),
    ok = gen_tcp:close(Socket),
    receive {'DOWN', Ref, process, Connection, Reason} -> ?assertEqual(normal, Reason) end,
    ?assertEqual({closed, stop}, heard()),
    receive {heard, More} -> error({heard, More}) after 0 -> ok end.

%% The key is the one of RFC 6455, 1.3.
a_handshake_is_answered_by_what_its_key_says(_Config) ->
    Key = <<"dGhlIHNhbXBsZSBub25jZQ==">>,
    Own = [{<<"x-own">>, <<"1">>}, {<<"set-cookie">>, <<"a">>}, {<<"set-cookie">>, <<"b">>}],
    Switch = fun(Offers) ->
        Fields = [{<<"sec-websocket-key">>, Key}
                  | [{<<"sec-websocket-extensions">>, Offer} || Offer <- Offers]],
        {#{extensions := Extensions}, Said} =
            hornbeam_websocket:switch(Own, hornbeam_requests:new(Fields), mount()),
        {map_size(Extensions) > 0, Said}
    end,
    Head = [{<<"upgrade">>, <<"websocket">>}, {<<"connection">>, <<"Upgrade">>},
            {<<"sec-websocket-accept">>, <<"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=">>}],
    [?assertEqual({Offers, {false, Head ++ Own}}, {Offers, Switch(Offers)})
     || Offers <- [[], [<<"x-other">>], [<<"permessage-deflate; unknown">>], [<<"(">>]]],
    [begin
         {true, Said} = Switch(Offers),
         ?assertEqual({Offers, Head}, {Offers, lists:sublist(Said, 3)}),
         ?assertMatch([{<<"sec-websocket-extensions">>, <<"permessage-deflate", _/binary>>} | Own],
                      lists:nthtail(3, Said))
     end || Offers <- [[<<"permessage-deflate">>], [<<"x-other">>, <<"permessage-deflate">>],
                       [<<"permessage-deflate; unknown, permessage-deflate">>]]].

%% A text frame with a mask that changes nothing.
masked(Text) ->
    <<129, 1:1, (byte_size(Text)):7, 0:32, Text/binary>>.

connected(Asked) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    {ok, Client} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]),
    {ok, Server} = gen_tcp:accept(Listener),
    ok = gen_tcp:close(Listener),
    Test = self(),
    Connection = spawn(fun() -> receive go -> start({ranch_tcp, Server}, Asked, Test) end end),
    ok = gen_tcp:controlling_process(Server, Connection),
    Connection ! go,
    opened = heard(),
    {Client, Connection}.

start(Socket, Asked, Test) ->
    Offers = [{<<"sec-websocket-extensions">>, Offer} || {offer, Offer} <- maps:to_list(Asked)],
    Request = hornbeam_requests:new([{<<"sec-websocket-key">>, <<>>} | Offers]),
    {Agreed, _} = hornbeam_websocket:switch([], Request, mount()),
    hornbeam_websocket:start(Test, Agreed#{socket => Socket,
                                           reads => hornbeam_read_buffer:new(Socket),
                                           first => maps:get(first, Asked, <<>>),
                                           listening => false},
                             ?MODULE, Test).

mount() ->
    #{options => #{websocket_compress => true, websocket_max_frame_size => 65536,
                   websocket_max_frame_rate => infinity, websocket_timeout => infinity}}.

recv(Socket, Size) ->
    {ok, Bytes} = gen_tcp:recv(Socket, Size, 5000),
    Bytes.

heard() ->
    receive
        {heard, What} -> What
    after 5000 ->
        error(nothing_heard)
    end.

%% The handler.

opened(Test) -> hears(opened, Test).

handle_frame(Frame, Test) -> hears(Frame, Test).

handle_info(Commands, Test) -> {Commands, Test}.

sent(What, Test) -> hears({sent, What}, Test).

closed(Reason, Test) ->
    _ = hears({closed, Reason}, Test),
    ok.

hears(What, Test) ->
    Test ! {heard, What},
    {[], Test}.
