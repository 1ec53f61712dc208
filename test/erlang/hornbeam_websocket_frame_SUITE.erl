%% The frames that are made once for many clients are those that Cowlib makes for each.
-module(hornbeam_websocket_frame_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([a_frame_is_what_cowlib_makes/1, a_frame_is_read_back/1]).

all() ->
    [a_frame_is_what_cowlib_makes, a_frame_is_read_back].

%% On both sides of where the length takes another form.
messages() ->
    [{Kind, binary:copy(<<"x">>, Size)}
     || Kind <- [text, binary], Size <- [0, 1, 125, 126, 127, 65535, 65536, 65537]].

a_frame_is_what_cowlib_makes(_Config) ->
    [?assertEqual(iolist_to_binary(cow_ws:frame({Kind, Payload}, #{})),
                  hornbeam_websocket_frame:new(Kind, Payload))
     || {Kind, Payload} <- messages()].

a_frame_is_read_back(_Config) ->
    [begin
         Frame = hornbeam_websocket_frame:new(Kind, Payload),
         ?assertEqual({Kind, Payload}, hornbeam_websocket_frame:read(Frame)),
         ?assertEqual(byte_size(Payload), hornbeam_websocket_frame:payload_size(Frame))
     end || {Kind, Payload} <- messages()].
