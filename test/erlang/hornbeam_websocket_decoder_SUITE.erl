%% A client's bytes become frames: whole, in pieces, within bounds, and not one against the RFC.
-module(hornbeam_websocket_decoder_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([
    good_frames_are_read_whole_and_byte_by_byte/1,
    bad_frames_are_found_whole_and_byte_by_byte/1,
    text_that_comes_slowly_is_refused_with_its_first_wrong_byte/1,
    text_may_be_cut_within_a_character/1,
    utf8_holds_its_properties/1,
    a_frame_in_many_pieces_takes_no_more_memory_than_it_has_bytes/1,
    a_frame_in_pieces_counts_as_one/1,
    a_mask_is_taken_off_every_size/1,
    a_message_of_exactly_the_limit_is_taken_and_one_byte_more_is_not/1,
    a_length_beyond_the_limit_is_refused_by_its_header/1,
    a_million_empty_fragments_take_no_memory/1,
    a_bomb_is_inflated_no_further_than_the_limit/1,
    a_bomb_in_fragments_is_inflated_no_further_than_the_limit/1,
    compressed_messages_share_a_context_or_do_not_as_negotiated/1,
    what_is_not_deflate_is_a_bad_frame/1,
    a_reserved_bit_is_good_only_where_a_compressed_message_begins/1,
    frames_of_a_second_may_come_at_once_and_one_more_not/1,
    frames_that_wait_for_us_do_not_count_as_fast/1,
    frames_that_nobody_takes_stay_bytes/1
]).

-define(LIMIT, 1000).
-define(MASK, 16#92ab01fe).

all() ->
    [Name || {Name, 1} <- module_info(exports), Name =/= module_info].

good_frames_are_read_whole_and_byte_by_byte(_Config) ->
    [?assertEqual({Frames, more}, read(Chop, Bytes)) || Chop <- [whole, bytes],
                                                        {Bytes, Frames} <- good()].

good() ->
    [{<<>>, []},
     {frame(1, <<>>), [{text, <<>>}]},
     {frame(1, <<"ünï"/utf8>>), [{text, <<"ünï"/utf8>>}]},
     %% Text is the app's to decode.
     {frame(1, <<255>>), [{text, <<255>>}]},
     {frame(2, <<0, 255>>), [{binary, <<0, 255>>}]},
     {frame(2, large(125)), [{binary, large(125)}]},
     {frame(2, large(126)), [{binary, large(126)}]},
     {[frame(1, <<"a">>), frame(1, <<"b">>)], [{text, <<"a">>}, {text, <<"b">>}]},
     {[part(1, <<"a">>), part(0, <<>>), frame(9, <<"p">>), frame(0, <<"b">>), frame(1, <<"c">>)],
      [{ping, <<"p">>}, {text, <<"ab">>}, {text, <<"c">>}]},
     {frame(9, large(125)), [{ping, large(125)}]},
     {frame(10, <<>>), [{pong, <<>>}]},
     {frame(8, <<>>), [close]},
     {frame(8, <<4999:16, (binary:copy(<<"r">>, 123))/binary>>),
      [{close, 4999, binary:copy(<<"r">>, 123)}]}]
    ++ [{frame(8, <<Code:16>>), [{close, Code, <<>>}]}
        || Code <- [1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 4999]].

bad_frames_are_found_whole_and_byte_by_byte(_Config) ->
    [?assertEqual({Bytes, {[], Fault}}, {Bytes, read(Chop, Bytes)}) || Chop <- [whole, bytes],
                                                                       {Bytes, Fault} <- bad()].

bad() ->
    [{frame(Opcode, <<>>), badframe} || Opcode <- [0, 3, 4, 5, 6, 7, 11, 12, 13, 14, 15]]
    ++ [{frame(1, 1, Rsv, <<"x">>), badframe} || Rsv <- lists:seq(1, 7)]
    ++ [{frame(8, <<Code:16>>), badframe}
        || Code <- [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]]
    ++ [{part(Control, <<>>), badframe} || Control <- [8, 9, 10]]
    ++ [{frame(Control, large(126)), badframe} || Control <- [8, 9, 10]]
    ++ [{frame(8, <<3>>), badframe},
        {frame(8, <<1000:16, 255>>), badencoding},
        {<<16#81, 1, "x">>, badframe},
        {[part(1, <<"a">>), frame(1, <<"b">>)], badframe},
        %% A length in more bytes than it needs.
        {<<16#82, 16#fe, 125:16, ?MASK:32, (large(125))/binary>>, badframe},
        {<<16#82, 16#ff, 126:64, ?MASK:32, (large(126))/binary>>, badframe},
        {<<16#82, 16#ff, 1:1, 0:63, ?MASK:32>>, badframe}].

%% "κόσμε", and behind it a character beyond the last one there is: wrong with its second byte.
-define(RIGHT, 16#ce, 16#ba, 16#e1, 16#bd, 16#b9, 16#cf, 16#83, 16#ce, 16#bc, 16#ce, 16#b5).

text_that_comes_slowly_is_refused_with_its_first_wrong_byte(_Config) ->
    Wrong = <<?RIGHT, 16#f4, 16#90, 16#80, 16#80, "edited">>,
    Cut = byte_size(frame(1, <<>>)) + 12,
    <<Begun:Cut/binary, Second, Rest/binary>> = frame(1, Wrong),
    InAFrame = no_frame(Begun, frames(?LIMIT)),
    InFragments = no_frame(part(1, <<?RIGHT, 16#f4>>), frames(?LIMIT)),
    Right = no_frame(part(1, <<?RIGHT, 16#f4>>), frames(?LIMIT)),
    InBytes = no_frame(Begun, frames(?LIMIT)),
    Binary = no_frame(part(2, <<255>>), frames(?LIMIT)),
    %% The rest comes at once: the app's decoder will see it.
    ?assertMatch({{text, Wrong}, _}, next(<<Second, Rest/binary>>, no_frame(<<>>, InAFrame))),
    ?assertMatch({more, _}, next(<<Second>>, InAFrame)),
    timer:sleep(110),
    ?assertEqual({error, badencoding}, next(<<Second>>, InAFrame)),
    ?assertEqual({error, badencoding}, next(part(0, <<16#90>>), InFragments)),
    ?assertEqual({error, badencoding}, next(<<Second, 16#80>>, no_frame(<<>>, InBytes))),
    <<Piece:(Cut - 11)/binary, _/binary>> = part(0, <<16#90, 16#80>>),
    ?assertEqual({error, badencoding}, next(Piece, InFragments)),
    Better = no_frame(part(0, <<16#8f>>), Right),
    ?assertEqual({error, badencoding}, next(part(0, <<"a">>), Better)),
    Text = <<?RIGHT, 16#f4, 16#8f, 16#bf, 16#bf>>,
    ?assertMatch({{text, Text}, _},
                 next(frame(0, <<16#bf>>), no_frame(part(0, <<16#bf>>), Better))),
    ?assertMatch({{binary, <<255, 254, 253>>}, _},
                 next(frame(0, <<253>>), no_frame(part(0, <<254>>), Binary))).

text_may_be_cut_within_a_character(_Config) ->
    Text = <<"κόσμε 漢字 🜚 \x{d7ff}\x{e000}\x{10ffff}"/utf8>>,
    Cuts = [begin
                <<Front:Cut/binary, Back/binary>> = Text,
                [part(1, Front), part(0, <<>>), frame(9, <<"p">>), frame(0, Back)]
            end || Cut <- lists:seq(0, byte_size(Text))],
    [?assertEqual({[{ping, <<"p">>}, {text, Text}], more}, read(Chop, Cut))
     || Chop <- [whole, bytes], Cut <- Cuts],
    ?assertEqual({[{text, Text}], more}, read(bytes, frame(1, Text))).

utf8_holds_its_properties(_Config) ->
    [?assert(hornbeam_properties:hold(Property))
     || Property <- hornbeam_properties:of_module(prop_hornbeam_utf8)].

a_frame_in_many_pieces_takes_no_more_memory_than_it_has_bytes(_Config) ->
    Size = 100000,
    Text = binary:copy(<<"ab">>, Size div 2),
    <<Begun:(Size div 2)/binary, Rest/binary>> = frame(1, Text),
    Before = memory(),
    Frames = bytewise(Begun, frames(Size)),
    ?assert(memory() - Before < Size),
    ?assertMatch({{text, Text}, _}, next(Rest, Frames)).

bytewise(Bytes, Frames) ->
    lists:foldl(fun(Byte, Before) -> no_frame(<<Byte>>, Before) end, Frames,
                binary_to_list(Bytes)).

a_frame_in_pieces_counts_as_one(_Config) ->
    Two = iolist_to_binary([frame(1, <<"abc">>), frame(2, <<"def">>)]),
    ?assertEqual({[{text, <<"abc">>}, {binary, <<"def">>}], more},
                 read_all(Two, bytes, hornbeam_websocket_decoder:new(?LIMIT, 2, #{}))),
    ?assertEqual({[{text, <<"abc">>}], badrate},
                 read_all(Two, bytes, hornbeam_websocket_decoder:new(?LIMIT, 1, #{}))).

a_mask_is_taken_off_every_size(_Config) ->
    Sizes = lists:seq(0, 200) ++ [16383, 16384, 16385, 32768, 65535, 65536, 100001],
    [?assertEqual({[{binary, large(Size)}], more}, read(whole, frame(2, large(Size)), 200000))
     || Size <- Sizes].

a_message_of_exactly_the_limit_is_taken_and_one_byte_more_is_not(_Config) ->
    [begin
         ?assertEqual({[{binary, large(?LIMIT)}], more}, read(Chop, Bytes(?LIMIT))),
         ?assertEqual({[], badsize}, read(Chop, Bytes(?LIMIT + 1)))
     end || Chop <- [whole, bytes],
            Bytes <- [fun(Size) -> frame(2, large(Size)) end,
                      fun(Size) -> in_parts(large(Size)) end]],
    [begin
         ?assertEqual({[{binary, large(?LIMIT)}], more}, inflate(Bytes(?LIMIT))),
         ?assertEqual({[], badsize}, inflate(Bytes(?LIMIT + 1)))
     end || Bytes <- [fun(Size) -> frame(2, 1, 4, deflated(large(Size))) end,
                      fun(Size) -> compressed_in_parts(deflated(large(Size))) end]].

in_parts(<<A:400/binary, B:500/binary, C/binary>>) ->
    [part(2, A), part(0, B), part(0, <<>>), frame(0, C)].

compressed_in_parts(<<A:2/binary, B:3/binary, C/binary>>) ->
    [frame(2, 0, 4, A), part(0, B), part(0, <<>>), frame(0, C)].

a_length_beyond_the_limit_is_refused_by_its_header(_Config) ->
    ?assertEqual({[], badsize}, read(whole, <<16#82, 16#ff, (1 bsl 40):64, ?MASK:32>>)),
    ?assertEqual({[], badsize}, inflate(<<16#c2, 16#ff, (1 bsl 40):64, ?MASK:32>>)).

a_million_empty_fragments_take_no_memory(_Config) ->
    Hundred = iolist_to_binary([part(0, <<>>) || _ <- lists:seq(1, 100)]),
    Before = memory(),
    Frames = lists:foldl(fun(_, Frames) -> no_frame(Hundred, Frames) end,
                         no_frame(part(1, <<>>), frames(?LIMIT)), lists:seq(1, 10000)),
    ?assert(memory() - Before < 100000),
    ?assertMatch({{text, <<"x">>}, _}, next(frame(0, <<"x">>), Frames)).

no_frame(Bytes, Frames) ->
    {more, Rest} = next(Bytes, Frames),
    Rest.

memory() ->
    erlang:garbage_collect(),
    {memory, Memory} = process_info(self(), memory),
    Memory.

a_bomb_is_inflated_no_further_than_the_limit(_Config) ->
    ?assert(left_in_a_bomb(fun(Bomb) -> [frame(2, 1, 4, Bomb)] end) > 38 bsl 20).

a_bomb_in_fragments_is_inflated_no_further_than_the_limit(_Config) ->
    ?assert(left_in_a_bomb(fun in_two_parts/1) > 18 bsl 20).

in_two_parts(<<First:20000/binary, Second/binary>>) ->
    [frame(2, 0, 4, First), frame(0, Second)].

%% Of 40 MB in 40 KB, the bytes that zlib still has to inflate when the message is refused.
left_in_a_bomb(Frames) ->
    {Zlib, Extensions} = extensions([]),
    Reader = hornbeam_websocket_decoder:new(1 bsl 20, infinity, Extensions),
    Bytes = iolist_to_binary(Frames(deflated(<<0:(40 * 8 bsl 20)>>))),
    ?assert(byte_size(Bytes) < 50000),
    ?assertEqual({[], badsize}, read_all(Bytes, whole, Reader)),
    inflatable(zlib:safeInflate(Zlib, []), Zlib, 0).

inflatable({continue, Data}, Zlib, Size) ->
    inflatable(zlib:safeInflate(Zlib, []), Zlib, Size + iolist_size(Data));
inflatable({finished, Data}, _Zlib, Size) ->
    Size + iolist_size(Data).

compressed_messages_share_a_context_or_do_not_as_negotiated(_Config) ->
    Zlib = deflater(),
    [First, Second] = [deflated(Zlib, large(300)) || _ <- [1, 2]],
    ?assert(byte_size(Second) < byte_size(First)),
    Both = [frame(2, 1, 4, First), frame(2, 1, 4, Second)],
    ?assertEqual({[{binary, large(300)}, {binary, large(300)}], more}, inflate(Both)),
    Apart = [frame(2, 1, 4, deflated(large(300))) || _ <- [1, 2]],
    ?assertEqual({[{binary, large(300)}, {binary, large(300)}], more},
                 read_all(iolist_to_binary(Apart), whole,
                          frames(?LIMIT, infinity, [<<"client_no_context_takeover">>]))).

what_is_not_deflate_is_a_bad_frame(_Config) ->
    [?assertEqual({[], badframe}, inflate(frame(1, 1, 4, Rubbish)))
     || Rubbish <- [<<255, 255, 255>>, <<7>>, <<"no deflate">>]].

a_reserved_bit_is_good_only_where_a_compressed_message_begins(_Config) ->
    Empty = deflated(<<>>),
    ?assertEqual({[{text, <<>>}], more}, inflate(frame(1, 1, 4, Empty))),
    ?assertEqual({[{text, <<"plain">>}], more}, inflate(frame(1, <<"plain">>))),
    [?assertEqual({[], badframe}, inflate(Bytes))
     || Bytes <- [frame(9, 1, 4, <<>>), frame(10, 1, 4, <<>>), frame(8, 1, 4, <<>>),
                  [part(1, <<"a">>), frame(0, 1, 4, <<"b">>)],
                  [frame(1, 0, 4, Empty), frame(0, 1, 4, Empty)],
                  frame(1, 1, 6, Empty), frame(1, 1, 5, Empty), frame(1, 1, 2, Empty)]].

frames_of_a_second_may_come_at_once_and_one_more_not(_Config) ->
    Frames = frames(?LIMIT, 3, []),
    Pings = fun(Count) -> iolist_to_binary(lists:duplicate(Count, frame(9, <<>>))) end,
    ?assertMatch({[_, _, _], more}, read_all(Pings(3), whole, Frames)),
    ?assertMatch({[_, _, _], badrate}, read_all(Pings(4), whole, Frames)),
    Fragments = [part(1, <<>>), part(0, <<>>), part(0, <<>>), part(0, <<>>)],
    ?assertEqual({[], badrate}, read_all(iolist_to_binary(Fragments), whole, Frames)).

%% A second's frames may be there at once; those of the time that passes here only while paused.
frames_that_wait_for_us_do_not_count_as_fast(_Config) ->
    Many = binary:copy(frame(9, <<>>), 1005),
    Fresh = frames(?LIMIT, 1000, []),
    timer:sleep(10),
    ?assertMatch({_, more}, drain(hornbeam_websocket_decoder:feed(Many, true, Fresh), [])),
    ?assertMatch({_, badrate}, drain(hornbeam_websocket_decoder:feed(Many, false, Fresh), [])).

frames_that_nobody_takes_stay_bytes(_Config) ->
    Some = hornbeam_websocket_decoder:feed(frame(1, <<"a">>), false, frames(?LIMIT)),
    More = hornbeam_websocket_decoder:feed(frame(8, <<3>>), true, Some),
    ?assertEqual({[{text, <<"a">>}], badframe}, drain(More, [])).

%% Frames as a client writes them.

frame(Opcode, Payload) -> frame(Opcode, 1, 0, Payload).

part(Opcode, Payload) -> frame(Opcode, 0, 0, Payload).

frame(Opcode, Fin, Rsv, Payload) ->
    Head = <<Fin:1, Rsv:3, Opcode:4>>,
    <<Head/binary, 1:1, (size_bits(byte_size(Payload)))/bits, ?MASK:32, (masked(Payload))/binary>>.

size_bits(Size) when Size < 126 -> <<Size:7>>;
size_bits(Size) when Size < 65536 -> <<126:7, Size:16>>;
size_bits(Size) -> <<127:7, Size:64>>.

masked(Payload) ->
    Mask = <<?MASK:32>>,
    << <<(Byte bxor binary:at(Mask, Place rem 4))>>
       || {Byte, Place} <- lists:zip(binary_to_list(Payload),
                                     lists:seq(0, byte_size(Payload) - 1)) >>.

large(Size) ->
    << <<(N * N rem 251)>> || N <- lists:seq(1, Size) >>.

deflater() ->
    Zlib = zlib:open(),
    ok = zlib:deflateInit(Zlib, default, deflated, -15, 8, default),
    Zlib.

deflated(Data) -> deflated(deflater(), Data).

deflated(Zlib, Data) ->
    Deflated = iolist_to_binary(zlib:deflate(Zlib, Data, sync)),
    binary:part(Deflated, 0, byte_size(Deflated) - 4).

%% Read until there is no more, or a fault.

read(Chop, Bytes) -> read(Chop, Bytes, ?LIMIT).

read(Chop, Bytes, Limit) ->
    read_all(iolist_to_binary(Bytes), Chop, frames(Limit)).

inflate(Bytes) -> inflate(Bytes, ?LIMIT).

inflate(Bytes, Limit) ->
    read_all(iolist_to_binary(Bytes), whole, frames(Limit, infinity, [])).

frames(Limit) ->
    hornbeam_websocket_decoder:new(Limit, infinity, #{}).

frames(Limit, Rate, Parameters) ->
    {_, Extensions} = extensions(Parameters),
    hornbeam_websocket_decoder:new(Limit, Rate, Extensions).

extensions(Parameters) ->
    {ok, _, #{inflate := Zlib} = Extensions} =
        cow_ws:negotiate_permessage_deflate(Parameters, #{}, #{}),
    {Zlib, Extensions}.

read_all(Bytes, whole, Frames) ->
    drain(hornbeam_websocket_decoder:feed(Bytes, false, Frames), []);
read_all(Bytes, bytes, Frames) ->
    each_byte(Bytes, Frames, []).

each_byte(<<>>, _Frames, Read) ->
    {lists:reverse(Read), more};
each_byte(<<Byte, Bytes/binary>>, Frames, Read) ->
    case next(<<Byte>>, Frames) of
        {more, Rest} -> each_byte(Bytes, Rest, Read);
        {error, Fault} -> {lists:reverse(Read), Fault};
        {Frame, Rest} -> each_byte(Bytes, Rest, [Frame | Read])
    end.

next(Bytes, Frames) ->
    hornbeam_websocket_decoder:next(hornbeam_websocket_decoder:feed(Bytes, false, Frames)).

drain(Frames, Read) ->
    case hornbeam_websocket_decoder:next(Frames) of
        {more, _} -> {lists:reverse(Read), more};
        {error, Fault} -> {lists:reverse(Read), Fault};
        {Frame, Rest} -> drain(Rest, [Frame | Read])
    end.
