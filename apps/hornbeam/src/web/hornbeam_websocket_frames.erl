%% What a WebSocket's client sends, from bytes to frames (RFC 6455, 5; RFC 7692).
%%
%% Bytes are given with `feed/3', frames are taken one by one with `next/1': who does not take
%% leaves them as bytes. So nothing is inflated, and nothing grows, before somebody wants it. A
%% message comes whole, its fragments joined and inflated. No process and no socket here. Text is
%% not looked at: the app's decoder does that.
%%
%% What one client can cost: twice `max_size' for a frame that comes in pieces, twice that for
%% fragments, and never more than one step of zlib beyond `max_size' for what is inflated.
-module(hornbeam_websocket_frames).

-export([new/3, feed/3, next/1]).
-export_type([frames/0, frame/0, fault/0, rate/0]).

-type frame() :: {text | binary | ping | pong, binary()}
               | close
               | {close, cow_ws:close_code(), binary()}.
-type rate() :: pos_integer() | infinity.
-type fault() :: badframe | badencoding | badsize | badrate.

-record(frames, {
    max_size :: pos_integer(),
    extensions :: cow_ws:extensions(),
    buffer = <<>> :: binary(),
    %% how long the buffer must be before there is something new in it
    need = 2 :: pos_integer(),
    %% what cow_ws knows of the message whose fragments are coming, and what they make
    frag_state = undefined :: cow_ws:frag_state(),
    message = <<>> :: binary(),
    rate :: rate(),
    %% thousandths of a frame that may still come, and since when (ms)
    allowance :: integer(),
    since :: integer()
}).

-opaque frames() :: #frames{}.

%% What a frame costs of the allowance.
-define(FRAME, 1000).

%% The tail of a compressed message, which its sender leaves out (RFC 7692, 7.2.1).
-define(DEFLATE_TAIL, 0, 0, 255, 255).

%% A mask is laid over so many bytes at a time.
-define(STRETCH, 16384).

%% @doc No bytes yet. The extensions are those that cow_ws has negotiated.
-spec new(MaxSize :: pos_integer(), rate(), cow_ws:extensions()) -> frames().
new(MaxSize, infinity, Extensions) ->
    #frames{max_size = MaxSize, extensions = Extensions, rate = infinity, allowance = 0,
            since = 0};
new(MaxSize, Rate, Extensions) ->
    #frames{max_size = MaxSize, extensions = Extensions, rate = Rate, allowance = Rate * ?FRAME,
            since = erlang:monotonic_time(millisecond)}.

%% @doc Add what was read; `Paused' says whether its sender had to wait for us since the last.
%%
%% A second's frames may come at once. Those that piled up because we did not read are not held
%% against their sender.
-spec feed(binary(), Paused :: boolean(), frames()) -> frames().
feed(Data, _Paused, #frames{buffer = <<>>, rate = infinity} = Frames) ->
    Frames#frames{buffer = Data};
feed(Data, _Paused, #frames{buffer = Buffer, rate = infinity} = Frames) ->
    Frames#frames{buffer = <<Buffer/binary, Data/binary>>};
feed(Data, Paused, #frames{buffer = Buffer} = Frames) ->
    Now = erlang:monotonic_time(millisecond),
    Frames#frames{buffer = <<Buffer/binary, Data/binary>>, since = Now,
                  allowance = allowance(Now, Paused, Frames)}.

allowance(Now, Paused, #frames{rate = Rate, allowance = Left, since = Since}) ->
    Grown = Left + (Now - Since) * Rate,
    case Paused of
        true -> Grown;
        false -> max(Left, min(Grown, Rate * ?FRAME))
    end.

%% @doc Take the next frame; an error is the end.
-spec next(frames()) -> {frame(), frames()} | {more, frames()} | {error, fault()}.
next(#frames{buffer = Buffer, need = Need} = Frames) when byte_size(Buffer) < Need ->
    {more, Frames};
next(#frames{buffer = Buffer, extensions = Extensions, frag_state = State} = Frames) ->
    case cow_ws:parse_header(Buffer, Extensions, State) of
        more -> {more, Frames#frames{need = byte_size(Buffer) + 1}};
        error -> {error, badframe};
        Header -> checked(Header, Frames)
    end.

checked({_Type, _, _Rsv, _Length, undefined, _}, _Frames) ->
    {error, badframe};
checked({Type, State, Rsv, Length, Mask, Rest}, Frames) ->
    Compressed = is_compressed(Type, State, Rsv),
    case Rsv =:= <<0:3>> orelse Compressed andalso Frames#frames.frag_state =:= undefined of
        false -> {error, badframe};
        true -> sized(Type, State, Compressed, Length, Mask, Rest, Frames)
    end.

%% The first fragment says it for all (RFC 7692, 6).
is_compressed(Type, _State, Rsv) when Type =:= text; Type =:= binary -> Rsv =:= <<4:3>>;
is_compressed(fragment, {_, _, Rsv}, _Rsv) -> Rsv =:= <<4:3>>;
is_compressed(_Control, _State, _Rsv) -> false.

sized(Type, State, Compressed, Length, Mask, Rest, Frames) ->
    #frames{buffer = Buffer, max_size = MaxSize, message = Message} = Frames,
    case is_too_long(Type, Compressed, Length, byte_size(Message), MaxSize) of
        true ->
            {error, badsize};
        false when byte_size(Rest) < Length ->
            {more, Frames#frames{need = byte_size(Buffer) - byte_size(Rest) + Length}};
        false ->
            <<Payload:Length/binary, Behind/binary>> = Rest,
            counted(Type, State, Compressed, unmask(Payload, Mask),
                    Frames#frames{buffer = Behind, need = 2})
    end.

is_too_long(Control, _, _Length, _Before, _Max)
        when Control =:= close; Control =:= ping; Control =:= pong ->
    false;
%% What cannot be compressed gets a little longer by it.
is_too_long(_Type, true, Length, _Before, Max) -> Length > Max + Max div 8 + 64;
is_too_long(_Type, false, Length, Before, Max) -> Before + Length > Max.

counted(Type, State, Compressed, Payload, #frames{rate = infinity} = Frames) ->
    whole(Type, State, Compressed, Payload, Frames);
counted(_Type, _State, _Compressed, _Payload, #frames{allowance = Left}) when Left < ?FRAME ->
    {error, badrate};
counted(Type, State, Compressed, Payload, #frames{allowance = Left} = Frames) ->
    whole(Type, State, Compressed, Payload, Frames#frames{allowance = Left - ?FRAME}).

whole(close, _State, _Compressed, Payload, Frames) ->
    close(Payload, Frames);
whole(Control, _State, _Compressed, Payload, Frames) when Control =:= ping; Control =:= pong ->
    {{Control, Payload}, Frames};
whole(fragment, {nofin, _, _} = State, Compressed, Payload, Frames) ->
    joined(Compressed, Payload, Frames, fun(Message) ->
        next(Frames#frames{message = Message, frag_state = State})
    end);
whole(fragment, {fin, Type, _}, Compressed, Payload, Frames) ->
    message(Type, Compressed, Payload, Frames);
whole(Type, undefined, false, Payload, Frames) ->
    {{Type, Payload}, Frames};
whole(Type, undefined, true, Payload, Frames) ->
    message(Type, true, Payload, Frames).

message(Type, true, Payload, #frames{extensions = Extensions} = Frames) ->
    joined(true, <<Payload/binary, ?DEFLATE_TAIL>>, Frames, fun(Message) ->
        forget(Extensions),
        {{Type, Message}, Frames#frames{message = <<>>, frag_state = undefined}}
    end);
message(Type, false, Payload, Frames) ->
    joined(false, Payload, Frames, fun(Message) ->
        {{Type, Message}, Frames#frames{message = <<>>, frag_state = undefined}}
    end).

joined(false, Payload, #frames{message = Message}, Then) ->
    Then(<<Message/binary, Payload/binary>>);
joined(true, Payload, #frames{message = Message, max_size = Max} = Frames, Then) ->
    #frames{extensions = #{inflate := Zlib}} = Frames,
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
            grown(More, Zlib, <<Message/binary, (iolist_to_binary(Inflated))/binary>>, Max);
        {need_dictionary, _, _} ->
            {error, badframe}
    catch
        error:_ -> {error, badframe}
    end.

grown(_More, _Zlib, Message, Max) when byte_size(Message) > Max -> {error, badsize};
grown(finished, _Zlib, Message, _Max) -> {ok, Message};
grown(continue, Zlib, Message, Max) -> inflate(Zlib, [], Message, Max).

close(<<>>, Frames) ->
    {close, Frames};
close(<<Code:16, Reason/binary>>, Frames) ->
    case {hornbeam_answer:is_close_code(Code), hornbeam_msgpack:is_utf8(Reason)} of
        {false, _} -> {error, badframe};
        {true, false} -> {error, badencoding};
        {true, true} -> {{close, Code, Reason}, Frames}
    end.

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
