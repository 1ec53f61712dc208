%% What a WebSocket's client sends, from bytes to frames (RFC 6455, 5; RFC 7692).
%%
%% Bytes are given with `feed/3', frames are taken one by one with `next/1': who does not take
%% leaves them as bytes. So nothing is inflated, and nothing grows, before somebody wants it. A
%% message comes whole, its fragments joined and inflated. No process and no socket here.
%%
%% Text is not looked at: the app's decoder does that. But if it is still coming after a while, each
%% further piece is, so that who sends something else need not be heard to the end. What is
%% compressed is left to the decoder.
%%
%% What one client can cost: twice `max_size' for a message, the same again for a compressed frame
%% that comes in pieces, and never more than one step of zlib beyond `max_size' of what is inflated.
-module(hornbeam_websocket_decoder).

-export([new/3, feed/3, next/1]).
-export_type([decoder/0, frame/0, fault/0, rate/0]).

-type frame() :: {text | binary | ping | pong, binary()}
               | close
               | {close, cow_ws:close_code(), binary()}.
-type rate() :: pos_integer() | infinity.
-type fault() :: badframe | badencoding | badsize | badrate.

%% A frame of a message, uncompressed, of which bytes are missing; the mask begins with those.
-record(coming, {
    type :: text | binary | fragment,
    state :: cow_ws:frag_state(),
    mask :: non_neg_integer(),
    missing :: pos_integer()
}).

-record(decoder, {
    max_size :: pos_integer(),
    extensions :: cow_ws:extensions(),
    buffer = <<>> :: binary(),
    %% how long the buffer must be before there is something new in it
    need = 2 :: pos_integer(),
    %% what cow_ws knows of the message whose fragments are coming
    frag_state = undefined :: cow_ws:frag_state(),
    %% what has come of a message that is not whole yet, and of the frame of it that is coming
    message = <<>> :: binary(),
    coming = none :: none | #coming{},
    text = new :: new | {since, Ms :: integer()} | {looked_at, hornbeam_utf8:rest()},
    rate :: rate(),
    %% thousandths of a frame that may still come, and since when (ms)
    allowance :: integer(),
    since :: integer()
}).

-opaque decoder() :: #decoder{}.

%% Text that has been coming for so long (ms) is looked at.
-define(PATIENCE, 100).

%% What a frame costs of the allowance.
-define(FRAME, 1000).

%% The tail of a compressed message, which its sender leaves out (RFC 7692, 7.2.1).
-define(DEFLATE_TAIL, 0, 0, 255, 255).

%% A mask is laid over so many bytes at a time.
-define(STRETCH, 16384).

%% @doc No bytes yet. The extensions are those that cow_ws has negotiated.
-spec new(MaxSize :: pos_integer(), rate(), cow_ws:extensions()) -> decoder().
new(MaxSize, infinity, Extensions) ->
    #decoder{max_size = MaxSize, extensions = Extensions, rate = infinity, allowance = 0,
            since = 0};
new(MaxSize, Rate, Extensions) ->
    #decoder{max_size = MaxSize, extensions = Extensions, rate = Rate, allowance = Rate * ?FRAME,
            since = erlang:monotonic_time(millisecond)}.

%% @doc Add what was read; `Paused' says whether its sender had to wait for us since the last.
%%
%% A second's frames may come at once. Those that piled up because we did not read are not held
%% against their sender.
-spec feed(binary(), Paused :: boolean(), decoder()) -> decoder().
feed(Data, _Paused, #decoder{buffer = Buffer, rate = infinity} = Decoder) ->
    Decoder#decoder{buffer = behind(Buffer, Data)};
feed(Data, Paused, #decoder{buffer = Buffer} = Decoder) ->
    Now = erlang:monotonic_time(millisecond),
    Decoder#decoder{buffer = behind(Buffer, Data), since = Now,
                  allowance = allowance(Now, Paused, Decoder)}.

behind(<<>>, Data) -> Data;
behind(Buffer, Data) -> <<Buffer/binary, Data/binary>>.

allowance(Now, Paused, #decoder{rate = Rate, allowance = Left, since = Since}) ->
    Grown = Left + (Now - Since) * Rate,
    case Paused of
        true -> Grown;
        false -> max(Left, min(Grown, Rate * ?FRAME))
    end.

%% @doc Take the next frame; an error is the end.
-spec next(decoder()) -> {frame(), decoder()} | {more, decoder()} | {error, fault()}.
next(#decoder{coming = #coming{}, buffer = <<>>} = Decoder) ->
    {more, Decoder};
next(#decoder{coming = #coming{} = Coming, buffer = Buffer} = Decoder) ->
    goes_on(Coming, Buffer, Decoder);
next(#decoder{buffer = Buffer, need = Need} = Decoder) when byte_size(Buffer) < Need ->
    {more, Decoder};
next(#decoder{buffer = Buffer, extensions = Extensions, frag_state = State} = Decoder) ->
    case cow_ws:parse_header(Buffer, Extensions, State) of
        more -> {more, Decoder#decoder{need = byte_size(Buffer) + 1}};
        error -> {error, badframe};
        Header -> checked(Header, Decoder)
    end.

checked({_Type, _, _Rsv, _Length, undefined, _}, _Frames) ->
    {error, badframe};
checked({Type, State, Rsv, Length, Mask, Rest}, Decoder) ->
    Compressed = is_compressed(Type, State, Rsv),
    case Rsv =:= <<0:3>> orelse Compressed andalso Decoder#decoder.frag_state =:= undefined of
        false -> {error, badframe};
        true -> sized(Type, State, Compressed, Length, Mask, Rest, Decoder)
    end.

%% The first fragment says it for all (RFC 7692, 6).
is_compressed(Type, _State, Rsv) when Type =:= text; Type =:= binary -> Rsv =:= <<4:3>>;
is_compressed(fragment, {_, _, Rsv}, _Rsv) -> Rsv =:= <<4:3>>;
is_compressed(_Control, _State, _Rsv) -> false.

sized(Type, State, Compressed, Length, Mask, Rest, Decoder) ->
    #decoder{buffer = Buffer, max_size = MaxSize, message = Message} = Decoder,
    case is_too_long(Type, Compressed, Length, byte_size(Message), MaxSize) of
        true ->
            {error, badsize};
        false when byte_size(Rest) >= Length ->
            <<Payload:Length/binary, Behind/binary>> = Rest,
            counted(Type, State, Compressed, unmask(Payload, Mask),
                    Decoder#decoder{buffer = Behind, need = 2});
        false when Compressed; Type =:= ping; Type =:= pong; Type =:= close ->
            {more, Decoder#decoder{need = byte_size(Buffer) - byte_size(Rest) + Length}};
        false ->
            Coming = #coming{type = Type, state = State, mask = Mask, missing = Length},
            goes_on(Coming, Rest, Decoder#decoder{need = 2})
    end.

%% Bytes of a frame that is not whole go where the message is made.
goes_on(#coming{missing = Missing} = Coming, Bytes, Decoder) when byte_size(Bytes) < Missing ->
    #coming{type = Type, state = State, mask = Mask} = Coming,
    Piece = unmask(Bytes, Mask),
    More = Coming#coming{missing = Missing - byte_size(Bytes),
                         mask = turned(byte_size(Bytes), Mask)},
    grown(is_text(Type, State), Piece, Decoder#decoder{buffer = <<>>, coming = More});
goes_on(#coming{type = Type, state = State, mask = Mask, missing = Missing}, Bytes, Decoder) ->
    <<Last:Missing/binary, Behind/binary>> = Bytes,
    counted(Type, State, false, unmask(Last, Mask),
            Decoder#decoder{buffer = Behind, coming = none}).

grown(IsText, Piece, #decoder{message = Message, text = Text} = Decoder) ->
    case looked_at(IsText, Piece, Message, Text) of
        error -> {error, badencoding};
        Looked -> {more, Decoder#decoder{message = <<Message/binary, Piece/binary>>, text = Looked}}
    end.

%% The next piece of a message, behind what is there of it.
looked_at(false, _Piece, _Message, Text) ->
    Text;
looked_at(true, _Piece, _Message, new) ->
    {since, erlang:monotonic_time(millisecond)};
looked_at(true, Piece, Message, {since, Since} = Text) ->
    case erlang:monotonic_time(millisecond) - Since < ?PATIENCE of
        true -> Text;
        false -> looked_at(hornbeam_utf8:more(<<Message/binary, Piece/binary>>, <<>>))
    end;
looked_at(true, Piece, _Message, {looked_at, Rest}) ->
    looked_at(hornbeam_utf8:more(Piece, Rest)).

looked_at({ok, Rest}) -> {looked_at, Rest};
looked_at(error) -> error.

is_text(fragment, {_, Type, _}) -> Type =:= text;
is_text(Type, _State) -> Type =:= text.

is_too_long(Control, _, _Length, _Before, _Max)
        when Control =:= close; Control =:= ping; Control =:= pong ->
    false;
%% What cannot be compressed gets a little longer by it.
is_too_long(_Type, true, Length, _Before, Max) -> Length > Max + Max div 8 + 64;
is_too_long(_Type, false, Length, Before, Max) -> Before + Length > Max.

counted(Type, State, Compressed, Payload, #decoder{rate = infinity} = Decoder) ->
    whole(Type, State, Compressed, Payload, Decoder);
counted(_Type, _State, _Compressed, _Payload, #decoder{allowance = Left}) when Left < ?FRAME ->
    {error, badrate};
counted(Type, State, Compressed, Payload, #decoder{allowance = Left} = Decoder) ->
    whole(Type, State, Compressed, Payload, Decoder#decoder{allowance = Left - ?FRAME}).

whole(close, _State, _Compressed, Payload, Decoder) ->
    close(Payload, Decoder);
whole(Control, _State, _Compressed, Payload, Decoder) when Control =:= ping; Control =:= pong ->
    {{Control, Payload}, Decoder};
whole(fragment, {nofin, Type, _} = State, false, Payload, Decoder) ->
    #decoder{message = Message, text = Text} = Decoder,
    case looked_at(Type =:= text, Payload, Message, Text) of
        error -> {error, badencoding};
        Looked -> fragment(State, false, Payload, Decoder#decoder{text = Looked})
    end;
whole(fragment, {nofin, _, _} = State, true, Payload, Decoder) ->
    fragment(State, true, Payload, Decoder);
whole(fragment, {fin, Type, _}, Compressed, Payload, Decoder) ->
    message(Type, Compressed, Payload, Decoder);
whole(Type, undefined, false, Payload, #decoder{message = <<>>} = Decoder) ->
    {{Type, Payload}, Decoder};
whole(Type, undefined, false, Payload, Decoder) ->
    message(Type, false, Payload, Decoder);
whole(Type, undefined, true, Payload, Decoder) ->
    message(Type, true, Payload, Decoder).

fragment(State, Compressed, Payload, Decoder) ->
    joined(Compressed, Payload, Decoder, fun(Message) ->
        next(Decoder#decoder{message = Message, frag_state = State})
    end).

message(Type, true, Payload, #decoder{extensions = Extensions} = Decoder) ->
    joined(true, <<Payload/binary, ?DEFLATE_TAIL>>, Decoder, fun(Message) ->
        forget(Extensions),
        {{Type, Message}, Decoder#decoder{message = <<>>, frag_state = undefined, text = new}}
    end);
message(Type, false, Payload, Decoder) ->
    joined(false, Payload, Decoder, fun(Message) ->
        {{Type, Message}, Decoder#decoder{message = <<>>, frag_state = undefined, text = new}}
    end).

joined(false, Payload, #decoder{message = Message}, Then) ->
    Then(<<Message/binary, Payload/binary>>);
joined(true, Payload, #decoder{message = Message, max_size = Max} = Decoder, Then) ->
    #decoder{extensions = #{inflate := Zlib}} = Decoder,
    case inflate(Zlib, Payload, Message, Max) of
        {ok, Inflated} -> Then(Inflated);
        {error, _} = Error -> Error
    end.

forget(#{inflate := Zlib, inflate_takeover := no_takeover}) -> zlib:inflateReset(Zlib);
forget(#{}) -> ok.

%% zlib goes on only as far as somebody wants it to.
inflate(Zlib, Data, Message, Max) ->
    try zlib:safeInflate(Zlib, Data) of
        {More, Inflated} when More =:= continue; More =:= finished ->
            inflated(More, Zlib, <<Message/binary, (iolist_to_binary(Inflated))/binary>>, Max);
        {need_dictionary, _, _} ->
            {error, badframe}
    catch
        error:_ -> {error, badframe}
    end.

inflated(_More, _Zlib, Message, Max) when byte_size(Message) > Max -> {error, badsize};
inflated(finished, _Zlib, Message, _Max) -> {ok, Message};
inflated(continue, Zlib, Message, Max) -> inflate(Zlib, [], Message, Max).

close(<<>>, Decoder) ->
    {close, Decoder};
close(<<Code:16, Reason/binary>>, Decoder) ->
    case {hornbeam_app_message:is_close_code(Code), hornbeam_utf8:is_valid(Reason)} of
        {false, _} -> {error, badframe};
        {true, false} -> {error, badencoding};
        {true, true} -> {{close, Code, Reason}, Decoder}
    end.

%% The mask of what follows so many bytes.
turned(Bytes, Mask) ->
    Turn = Bytes rem 4,
    <<_:Turn/binary, Turned:32, _/binary>> = <<Mask:32, Mask:32>>,
    Turned.

unmask(<<Data:?STRETCH/binary, Rest/binary>>, Mask) when Rest =/= <<>> ->
    Stretch = mask(?STRETCH, Mask),
    iolist_to_binary([crypto:exor(Data, Stretch) | unmask(Rest, Mask, Stretch)]);
unmask(Data, Mask) ->
    crypto:exor(Data, mask(byte_size(Data), Mask)).

unmask(<<Data:?STRETCH/binary, Rest/binary>>, Mask, Stretch) ->
    [crypto:exor(Data, Stretch) | unmask(Rest, Mask, Stretch)];
unmask(Rest, _Mask, Stretch) ->
    [crypto:exor(Rest, binary_part(Stretch, 0, byte_size(Rest)))].

%% Copying a longer pattern is cheaper from 64 bytes on.
mask(Size, Mask) when Size =< 64 ->
    binary_part(binary:copy(<<Mask:32>>, (Size + 3) div 4), 0, Size);
mask(Size, Mask) ->
    Block = binary:copy(<<Mask:32>>, 16),
    binary_part(binary:copy(Block, (Size + 63) div 64), 0, Size).
