%% Bytes in pieces: how what reads them is fed.
-module(hornbeam_pieces).

-export([bytewise/1, cuts/1, cut/2, all/1]).

%% One by one.
bytewise(Bytes) ->
    [<<Byte>> || <<Byte>> <= Bytes].

%% In two, at every place.
cuts(Bytes) ->
    [[binary:part(Bytes, 0, At), binary:part(Bytes, At, byte_size(Bytes) - At)]
     || At <- lists:seq(1, byte_size(Bytes) - 1)].

%% In pieces of these sizes, over and over; none of them is 0.
cut(Sizes, Bytes) ->
    cut(Sizes, Sizes, Bytes).

cut(_Sizes, _Left, <<>>) ->
    [];
cut(Sizes, [], Bytes) ->
    cut(Sizes, Sizes, Bytes);
cut(Sizes, [Size | Left], Bytes) when Size < byte_size(Bytes) ->
    <<Piece:Size/binary, Rest/binary>> = Bytes,
    [Piece | cut(Sizes, Left, Rest)];
cut(_Sizes, _Left, Bytes) ->
    [Bytes].

%% Whole, byte by byte, and cut at every place.
all(Bytes) ->
    [[Bytes], bytewise(Bytes) | cuts(Bytes)].
