%% What the app may say next on a stream (docs/wire.md, "The life of a stream"). Pure.
%%
%%   http       asked ──response_start──▶ responding ──the last part──▶ complete
%%                ├──response──▶ complete
%%                └──event_stream──▶ streaming, or closed_stream where others may not add to it
%%   websocket  asked ──accept──▶ accepted ──close──▶ complete
%%                └──close──▶ complete  ├ or a response, as above, in place of accept;
%%                                      ├ flushed, once it is accepted, after which it is flushed
%%                                      └ moved, at any time, after which it is complete
-module(hornbeam_stream_phase).

-include("../../wire/hornbeam_wire.hrl").

-export([next/4]).
-export_type([phase/0]).

-type phase() :: asked | responding | streaming | closed_stream | accepted | flushed | complete.

%% @doc The phase after a packet with this code, or, of a message for several WebSockets, a frame.
-spec next(hornbeam_stream:kind(), phase(), Code :: byte(),
           hornbeam_packet:packet() | hornbeam_websocket_frame:frame()) -> phase() | out_of_order.
next(_Kind, Phase, ?CREDIT, _Bytes) -> Phase;
next(websocket, _Phase, ?MOVED, _Bytes) -> complete;
next(websocket, accepted, ?SEND_TEXT, _Bytes) -> accepted;
next(websocket, accepted, ?SEND_BYTES, _Bytes) -> accepted;
next(websocket, accepted, ?FLUSHED, _Bytes) -> flushed;
next(websocket, flushed, ?SEND_TEXT, _Bytes) -> flushed;
next(websocket, flushed, ?SEND_BYTES, _Bytes) -> flushed;
next(websocket, accepted, ?CLOSE, _Bytes) -> complete;
next(websocket, flushed, ?CLOSE, _Bytes) -> complete;
next(websocket, asked, ?CLOSE, _Bytes) -> complete;
next(websocket, asked, ?ACCEPT, _Bytes) -> accepted;
next(_Kind, asked, ?RESPONSE_START, Packet) ->
    next_part(responding, hornbeam_packet:is_last_part(Packet));
next(http, asked, ?RESPONSE, _Packet) -> complete;
next(http, asked, ?EVENT_STREAM, Packet) -> streams(hornbeam_packet:is_forwardable(Packet));
next(_Kind, Phase, ?RESPONSE_BODY, Packet)
        when Phase =:= responding; Phase =:= streaming; Phase =:= closed_stream ->
    next_part(Phase, hornbeam_packet:is_last_part(Packet));
next(_Kind, _Phase, _Code, _Bytes) -> out_of_order.

next_part(_Phase, true) -> complete;
next_part(Phase, false) -> Phase.

streams(true) -> streaming;
streams(false) -> closed_stream.
