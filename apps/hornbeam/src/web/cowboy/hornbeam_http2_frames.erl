%% What of a client's bytes may go on to who speaks HTTP/2: all frames (RFC 9113, 4.1) as they come,
%% but a head only when it is whole and not too large. Pure.
%%
%% A head is a HEADERS frame and the CONTINUATION frames behind it (RFC 9113, 4.3). It is held back
%% until its last one, and goes on if its frames are not too many or too long, and if what they may
%% become, decoded, is not too much (hornbeam_hpack). So who decodes it gets what is bounded, and is
%% between two frames when a head is refused. What else may be wrong with frames is not looked at.
%%
%% A stream's second head is its trailers, which end its body (RFC 9113, 8.1).
-module(hornbeam_http2_frames).

-export([new/1, read/2, is_held/1, trailed/1]).
-export_type([frames/0]).

-record(frames, {
    %% the longest head, its frames included, and the most that it may become (bytes)
    longest :: pos_integer(),
    most :: pos_integer(),
    %% so many bytes go on before the next frame begins
    passing :: non_neg_integer(),
    %% the begin of a head or of a frame, in so many pieces and bytes, and with how many bytes it is
    %% worth a look again
    held = [] :: iodata(),
    pieces = 0 :: non_neg_integer(),
    size = 0 :: non_neg_integer(),
    worth = 0 :: non_neg_integer(),
    largest = 0 :: hornbeam_hpack:largest(),
    %% the last stream that has begun, and those whose trailers have gone on since it was asked
    newest = 0 :: non_neg_integer(),
    trailed = [] :: [pos_integer()]
}).

-opaque frames() :: #frames{}.

%% What a client begins with (RFC 9113, 3.4).
-define(PREFACE, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").

%% What stands before a frame's payload (bytes).
-define(HEAD, 9).

%% Types.
-define(HEADERS, 1).
-define(CONTINUATION, 9).

%% Flags.
-define(END_STREAM, 1).
-define(END_HEADERS, 4).
-define(PADDED, 8).
-define(PRIORITY, 32).

%% A block that nobody can decode: the field at no index (RFC 7541, 6.1).
-define(NO_FIELD, <<16#80>>).

%% One frame may be so long, whatever the limit of a head: what is too large within it is decoded
%% and gets an answer (bytes).
-define(FRAME, 16384).

%% More frames no head of up to a MiB needs, and to look at them costs (CVE-2024-27316).
-define(MOST_FRAMES, 64).

%% So many pieces of what is held are kept apart.
-define(PIECES, 256).

%% What a head may become whatever its limit is: fields that the client repeats without sending them
%% again (bytes).
-define(DECODED, 1048576).

%% @doc Nothing has come yet of a client whose heads may be so large.
-spec new(LimitRequestHead :: pos_integer()) -> frames().
new(Limit) ->
    #frames{longest = Limit + ?FRAME, most = ?DECODED + 2 * Limit,
            passing = byte_size(<<?PREFACE>>)}.

%% @doc What may go on, when these bytes have come; it is they themselves when nothing is held. With
%% a fault it is what stands before the head, and what shows who reads it why that is refused if it
%% is no head: the wrong frame, or one that cannot be decoded either.
-spec read(binary(), frames()) ->
    {ok, binary(), frames()} | {fault, bad_request | fields_too_large, binary()}.
read(Bytes, #frames{size = 0, passing = Passing} = Frames)
        when byte_size(Bytes) =< Passing ->
    {ok, Bytes, Frames#frames{passing = Passing - byte_size(Bytes)}};
read(Bytes, #frames{size = 0, passing = Passing} = Frames) ->
    frame(Bytes, Passing, Frames#frames{passing = 0});
read(Bytes, #frames{held = Held, size = Size, worth = Worth} = Frames)
        when Size + byte_size(Bytes) < Worth ->
    {ok, <<>>, joined(Frames#frames{held = [Held, Bytes], size = Size + byte_size(Bytes)})};
read(Bytes, #frames{held = Held} = Frames) ->
    frame(iolist_to_binary([Held, Bytes]), 0, Frames#frames{held = [], pieces = 0, size = 0}).

%% A piece of one byte takes fifty; to join them at each would copy all for each.
joined(#frames{held = Held, pieces = ?PIECES} = Frames) ->
    Frames#frames{held = iolist_to_binary(Held), pieces = 0};
joined(#frames{pieces = Pieces} = Frames) ->
    Frames#frames{pieces = Pieces + 1}.

%% @doc Whether there is a head, or a frame's begin, whose rest has not come.
-spec is_held(frames()) -> boolean().
is_held(#frames{size = Size}) ->
    Size > 0.

%% @doc The streams whose trailers are among what has gone on since this was asked last.
-spec trailed(frames()) -> {[pos_integer()], frames()}.
trailed(#frames{trailed = []} = Frames) ->
    {[], Frames};
trailed(#frames{trailed = Trailed} = Frames) ->
    {lists:reverse(Trailed), Frames#frames{trailed = []}}.

%% All before the frame at this place may go on.
frame(Bytes, At, Frames) ->
    case Bytes of
        <<_:At/binary, _:24, ?HEADERS, _:40, _/binary>> ->
            head(Bytes, At, Frames);
        <<_:At/binary, Size:24, _:48, _/binary>> ->
            passed(Bytes, At + ?HEAD + Size, Frames);
        <<_:At/binary>> ->
            {ok, Bytes, Frames};
        _ ->
            hold(Bytes, At, ?HEAD, Frames)
    end.

passed(Bytes, End, Frames) when End >= byte_size(Bytes) ->
    {ok, Bytes, Frames#frames{passing = End - byte_size(Bytes)}};
passed(Bytes, End, Frames) ->
    frame(Bytes, End, Frames).

head(Bytes, At, Frames) ->
    case head(Bytes, At, At, [], Frames) of
        {whole, End, Block} -> weighed(Block, End, Bytes, At, Frames);
        {more, Worth} -> hold(Bytes, At, Worth, Frames);
        {malformed, End} -> {fault, bad_request, binary:part(Bytes, 0, End)};
        too_large -> {fault, fields_too_large, binary:part(Bytes, 0, At)}
    end.

weighed(Block, End, Bytes, At, #frames{largest = Largest, most = Most} = Frames) ->
    case hornbeam_hpack:weigh(Block, Largest, Most) of
        {ok, Larger} -> frame(Bytes, End, noted(Bytes, At, Frames#frames{largest = Larger}));
        too_large -> {fault, fields_too_large, binary:part(Bytes, 0, At)};
        malformed -> {fault, bad_request, undecodable(Bytes, At)}
    end.

%% Streams begin in the order of their numbers (RFC 9113, 5.1.1).
noted(Bytes, At, #frames{newest = Newest, trailed = Trailed} = Frames) ->
    case Bytes of
        <<_:At/binary, _:41, Stream:31, _/binary>> when Stream > Newest ->
            Frames#frames{newest = Stream};
        <<_:At/binary, _:32, Flags, _:1, Stream:31, _/binary>> when Flags band ?END_STREAM =/= 0 ->
            Frames#frames{trailed = [Stream | Trailed]};
        _ ->
            Frames
    end.

undecodable(Bytes, At) ->
    <<Before:At/binary, _:32, Flags, Stream:32, _/binary>> = Bytes,
    Whole = Flags band ?END_STREAM bor ?END_HEADERS,
    <<Before/binary, (byte_size(?NO_FIELD)):24, ?HEADERS, Whole, Stream:32, ?NO_FIELD/binary>>.

%% A head that begins at one place, its next frame at another, and what is in those between them.
head(_Bytes, _Begin, _At, Block, _Frames) when length(Block) =:= ?MOST_FRAMES ->
    too_large;
head(Bytes, Begin, At, Block, #frames{longest = Longest} = Frames) ->
    case Bytes of
        <<_:At/binary, Size:24, _/binary>> when At + ?HEAD + Size - Begin > Longest ->
            too_large;
        <<_:At/binary, Size:24, Type, Flags, _:32, Payload:Size/binary, _/binary>> ->
            case fragment(Type, Flags, Payload, Block) of
                malformed -> {malformed, At + ?HEAD + Size};
                Part -> part(Flags, At + ?HEAD + Size, [Part | Block], {Bytes, Begin}, Frames)
            end;
        <<_:At/binary, Size:24, _:48, _/binary>> ->
            {more, At + ?HEAD + Size - Begin};
        _ ->
            {more, At + ?HEAD - Begin}
    end.

hold(Bytes, At, Worth, Frames) ->
    <<Before:At/binary, Held/binary>> = Bytes,
    {ok, Before, Frames#frames{held = Held, size = byte_size(Held), worth = Worth}}.

%% What is in a frame of a head (RFC 9113, 6.2 and 6.10).
fragment(?HEADERS, Flags, Payload, []) -> prioritized(Flags, unpadded(Flags, Payload));
fragment(?CONTINUATION, _Flags, Payload, [_ | _]) -> Payload;
fragment(_Type, _Flags, _Payload, _Block) -> malformed.

unpadded(Flags, Payload) when Flags band ?PADDED =:= 0 -> Payload;
unpadded(_Flags, <<Padding, Padded/binary>>) when Padding =< byte_size(Padded) ->
    binary:part(Padded, 0, byte_size(Padded) - Padding);
unpadded(_Flags, _Payload) -> malformed.

prioritized(_Flags, malformed) -> malformed;
prioritized(Flags, Payload) when Flags band ?PRIORITY =:= 0 -> Payload;
prioritized(_Flags, <<_:40, Payload/binary>>) -> Payload;
prioritized(_Flags, _Payload) -> malformed.

part(Flags, End, Block, {Bytes, Begin}, Frames) when Flags band ?END_HEADERS =:= 0 ->
    head(Bytes, Begin, End, Block, Frames);
part(_Flags, End, Block, _Head, _Frames) ->
    {whole, End, whole(Block)}.

whole([Part]) -> Part;
whole(Parts) -> iolist_to_binary(lists:reverse(Parts)).
