%% Frames go on as they come, and heads when they are whole, whatever pieces they come in.
-module(hornbeam_http2_frames_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

-define(PREFACE, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").
-define(DATA, 0).
-define(HEADERS, 1).
-define(PING, 6).
-define(CONTINUATION, 9).

all() ->
    [what_may_go_on_goes_on_whole_and_in_pieces, all_but_a_head_goes_on_at_once,
     a_head_is_held_until_it_is_whole, a_head_of_the_limit_passes_and_one_byte_more_does_not,
     a_length_beyond_the_limit_is_refused_by_its_frames_header, a_head_has_at_most_64_frames,
     what_a_head_may_become_is_bounded, the_table_outlives_a_head,
     what_is_before_a_refused_head_goes_on, a_head_that_is_none_is_shown,
     trailers_are_told_once_they_have_gone_on,
     a_head_that_comes_byte_by_byte_is_not_read_again_from_its_start].

what_may_go_on_goes_on_whole_and_in_pieces(_Config) ->
    Bytes = iolist_to_binary([?PREFACE, frame(4, 0, 0, <<>>), frame(?HEADERS, 4, 1, field()),
                              frame(?DATA, 0, 1, <<"some">>), frame(?DATA, 1, 1, <<>>),
                              frame(?HEADERS, 8 + 4, 3, <<1, (field())/binary, 0>>),
                              frame(?HEADERS, 1, 5, <<>>), frame(?CONTINUATION, 0, 5, field()),
                              frame(?CONTINUATION, 4, 5, field()), frame(?PING, 0, 0, <<0:64>>),
                              frame(99, 255, 7, <<"unknown">>)]),
    [?assertEqual(Bytes, passed(Pieces, new())) || Pieces <- hornbeam_pieces:all(Bytes)].

all_but_a_head_goes_on_at_once(_Config) ->
    Frames = preface(new()),
    Data = frame(?DATA, 0, 1, <<"some">>),
    [begin
         {ok, Passed, After} = hornbeam_http2_frames:read(binary:part(Data, 0, Size), Frames),
         ?assertEqual({Size, Size}, {Size, byte_size(Passed)}),
         ?assertNot(hornbeam_http2_frames:is_held(After))
     end || Size <- lists:seq(9, byte_size(Data))],
    %% Who reads frames could do nothing with less.
    {ok, <<>>, Begun} = hornbeam_http2_frames:read(binary:part(Data, 0, 8), Frames),
    ?assert(hornbeam_http2_frames:is_held(Begun)).

a_head_is_held_until_it_is_whole(_Config) ->
    Head = <<(frame(?HEADERS, 0, 1, field()))/binary,
             (frame(?CONTINUATION, 4, 1, field()))/binary>>,
    Frames = preface(new()),
    [begin
         {ok, Passed, After} = hornbeam_http2_frames:read(binary:part(Head, 0, Size), Frames),
         ?assertEqual({Size, <<>>, true}, {Size, Passed, hornbeam_http2_frames:is_held(After)})
     end || Size <- lists:seq(1, byte_size(Head) - 1)],
    {ok, Head, Whole} = hornbeam_http2_frames:read(Head, Frames),
    ?assertNot(hornbeam_http2_frames:is_held(Whole)).

a_head_of_the_limit_passes_and_one_byte_more_does_not(_Config) ->
    Longest = 100 + 16384,
    Head = fun(Size) ->
        {First, Second} = {frame(?HEADERS, 0, 1, <<>>), Size - 18},
        <<First/binary, (frame(?CONTINUATION, 4, 1, literal(Second)))/binary>>
    end,
    ?assertEqual(Longest, byte_size(Head(Longest))),
    ?assertMatch({ok, _, _}, hornbeam_http2_frames:read(Head(Longest), preface(new(100)))),
    ?assertMatch({fault, fields_too_large, <<>>},
                 hornbeam_http2_frames:read(Head(Longest + 1), preface(new(100)))).

a_length_beyond_the_limit_is_refused_by_its_frames_header(_Config) ->
    [?assertEqual({fault, fields_too_large, <<>>},
                  hornbeam_http2_frames:read(<<Size:24, ?HEADERS, 0, 1:32>>, preface(new(100))))
     || Size <- [100 + 16384 - 8, 16#ffffff]].

a_head_has_at_most_64_frames(_Config) ->
    Head = fun(Count) ->
        iolist_to_binary([frame(?HEADERS, 0, 1, field()),
                          [frame(?CONTINUATION, 0, 1, <<>>) || _ <- lists:seq(3, Count)],
                          frame(?CONTINUATION, 4, 1, <<>>)])
    end,
    [begin
         ?assertEqual(Head(64), passed(Pieces(Head(64)), preface(new()))),
         ?assertEqual({fault, fields_too_large}, passed(Pieces(Head(65)), preface(new())))
     end || Pieces <- [fun(Bytes) -> [Bytes] end, fun hornbeam_pieces:bytewise/1]].

what_a_head_may_become_is_bounded(_Config) ->
    Bomb = fun(Times) -> <<(kept())/binary, (binary:copy(<<16#be>>, Times))/binary>> end,
    Most = 1048576 + 2 * 65536,
    Times = (Most - 4032) div (4032 + 32),
    ?assertMatch({ok, _, _}, fed(Bomb(Times), new())),
    ?assertEqual({fault, fields_too_large, <<>>}, fed(Bomb(Times + 1), new())).

the_table_outlives_a_head(_Config) ->
    {ok, _, Frames} = hornbeam_http2_frames:read(frame(?HEADERS, 5, 1, kept()), preface(new())),
    Again = frame(?HEADERS, 5, 3, binary:copy(<<16#be>>, 1000)),
    ?assertEqual({fault, fields_too_large, <<>>}, hornbeam_http2_frames:read(Again, Frames)),
    ?assertMatch({ok, _, _}, hornbeam_http2_frames:read(Again, preface(new()))).

what_is_before_a_refused_head_goes_on(_Config) ->
    Before = frame(?PING, 0, 0, <<0:64>>),
    ?assertEqual({fault, fields_too_large, Before},
                 hornbeam_http2_frames:read(<<Before/binary, 16#ffffff:24, ?HEADERS, 0, 1:32>>,
                                            preface(new()))).

%% As it is, or as one that cannot be decoded either.
a_head_that_is_none_is_shown(_Config) ->
    Before = frame(?PING, 0, 0, <<0:64>>),
    [?assertEqual({fault, bad_request, <<Before/binary, Wrong/binary>>},
                  hornbeam_http2_frames:read(<<Before/binary, Wrong/binary, "more">>,
                                             preface(new())))
     || Wrong <- [frame(?HEADERS, 8 + 4, 1, <<5, "abc">>), frame(?HEADERS, 8 + 4, 1, <<>>),
                  frame(?HEADERS, 32 + 4, 1, <<"abcd">>),
                  <<(frame(?HEADERS, 0, 1, <<>>))/binary, (frame(?DATA, 0, 1, <<>>))/binary>>]],
    Behind = fun(Flags, Block) -> <<Before/binary, (frame(?HEADERS, Flags, 7, Block))/binary>> end,
    [?assertEqual({fault, bad_request, Behind(Shown, <<16#80>>)},
                  hornbeam_http2_frames:read(Behind(Flags, Block), preface(new())))
     || {Flags, Shown, Block} <- [{4, 4, <<16#ff, 16#ff>>}, {5, 5, <<16#00>>},
                                  {8 + 5, 5, <<0, 16#ff>>}]].

trailers_are_told_once_they_have_gone_on(_Config) ->
    Bytes = iolist_to_binary([?PREFACE, frame(?HEADERS, 4, 1, field()),
                              frame(?HEADERS, 5, 3, field()), frame(?HEADERS, 4, 5, field()),
                              frame(?DATA, 0, 1, <<"some">>), frame(?DATA, 1, 5, <<>>),
                              %% Without the end of the stream they are none.
                              frame(?HEADERS, 4, 5, field()), frame(?HEADERS, 5, 7, field()),
                              frame(?HEADERS, 1, 16#80000001, field()),
                              frame(?CONTINUATION, 4, 1, field())]),
    {ok, Bytes, Frames} = hornbeam_http2_frames:read(Bytes, new()),
    ?assertMatch({[1], _}, hornbeam_http2_frames:trailed(Frames)),
    {_, Told} = hornbeam_http2_frames:trailed(Frames),
    ?assertMatch({[], _}, hornbeam_http2_frames:trailed(Told)),
    {Before, <<Last>>} = split_binary(Bytes, byte_size(Bytes) - 1),
    {ok, _, Held} = hornbeam_http2_frames:read(Before, new()),
    {[], Asked} = hornbeam_http2_frames:trailed(Held),
    {ok, _, Whole} = hornbeam_http2_frames:read(<<Last>>, Asked),
    ?assertMatch({[1], _}, hornbeam_http2_frames:trailed(Whole)).

a_head_that_comes_byte_by_byte_is_not_read_again_from_its_start(_Config) ->
    Work = fun(Size) ->
        Pieces = hornbeam_pieces:bytewise(frame(?HEADERS, 4, 1, literal(Size))),
        element(1, hornbeam_work:of_function(fun() -> passed(Pieces, preface(new())) end))
    end,
    ?assert(Work(8000) < 6 * Work(2000)).

%% Reading.

fed(Block, Frames) ->
    hornbeam_http2_frames:read(frame(?HEADERS, 5, 1, Block), preface(Frames)).

passed(Pieces, Frames) ->
    passed(Pieces, [], Frames).

passed([], Passed, _Frames) ->
    iolist_to_binary(lists:reverse(Passed));
passed([Piece | Pieces], Passed, Frames) ->
    case hornbeam_http2_frames:read(Piece, Frames) of
        {ok, Bytes, After} -> passed(Pieces, [Bytes | Passed], After);
        {fault, Fault, _Before} -> {fault, Fault}
    end.

new() -> new(65536).

new(Limit) -> hornbeam_http2_frames:new(Limit).

preface(Frames) ->
    {ok, <<?PREFACE>>, Begun} = hornbeam_http2_frames:read(<<?PREFACE>>, Frames),
    Begun.

frame(Type, Flags, Stream, Payload) ->
    <<(byte_size(Payload)):24, Type, Flags, Stream:32, Payload/binary>>.

field() -> <<16#00, 1, "a", 1, "b">>.

%% A field whose entry of the table has 4032 bytes; and a block of so many bytes.
kept() -> <<16#40, 1, "a", (string(binary:copy(<<"x">>, 3999)))/binary>>.

literal(Size) -> <<16#00, 0, (string(binary:copy(<<"x">>, Size - 5)))/binary>>.

string(Text) ->
    Rest = byte_size(Text) - 127,
    <<127, 1:1, Rest:7, 0:1, (Rest bsr 7):7, Text/binary>>.
