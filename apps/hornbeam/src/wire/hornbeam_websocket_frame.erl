%% A whole message as a WebSocket carries it to a client: one unmasked frame (RFC 6455, 5.2), made
%% once for any number of clients. Pure.
-module(hornbeam_websocket_frame).

-export([new/2, read/1, payload_size/1]).
-export_type([frame/0, kind/0]).

-type frame() :: binary().
-type kind() :: text | binary.

%% @doc The frame of a message.
-spec new(kind(), Payload :: binary()) -> frame().
new(Kind, Payload) ->
    <<1:1, 0:3, (opcode(Kind)):4, 0:1, (length_field(byte_size(Payload)))/bits, Payload/binary>>.

opcode(text) -> 1;
opcode(binary) -> 2.

length_field(Size) when Size < 126 -> <<Size:7>>;
length_field(Size) when Size < 65536 -> <<126:7, Size:16>>;
length_field(Size) -> <<127:7, Size:64>>.

%% @doc The message of a frame.
-spec read(frame()) -> {kind(), Payload :: binary()}.
read(<<_:4, Opcode:4, _/binary>> = Frame) ->
    {kind(Opcode), binary:part(Frame, byte_size(Frame), -payload_size(Frame))}.

kind(1) -> text;
kind(2) -> binary.

%% @doc How many bytes the payload has.
-spec payload_size(frame()) -> non_neg_integer().
payload_size(<<_, 126, Size:16, _/binary>>) -> Size;
payload_size(<<_, 127, Size:64, _/binary>>) -> Size;
payload_size(<<_, Size, _/binary>>) -> Size.
