%% What a block of fields may become is never less than what it becomes.
-module(hornbeam_hpack_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

-define(MANY, 1 bsl 30).

all() ->
    [the_blocks_of_the_rfc_are_weighed, no_block_becomes_more_than_its_weight,
     a_block_of_exactly_the_limit_passes_and_one_byte_more_does_not,
     an_entry_of_the_table_weighs_as_much_as_the_largest,
     what_does_not_fit_into_the_table_is_not_in_it, a_number_has_at_most_28_bits_behind_its_first,
     what_no_decoder_reads_is_malformed, a_block_is_looked_through_once].

%% RFC 7541, C.4: three requests of one connection, with Huffman's code.
the_blocks_of_the_rfc_are_weighed(_Config) ->
    Blocks = [<<16#828684418cf1e3c2e5f23a6ba0ab90f4ff:136>>, <<16#828684be5886a8eb10649cbf:96>>,
              <<16#828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf:192>>],
    ?assertMatch({ok, _}, weighed(Blocks, ?MANY)).

%% An encoder's blocks, and such as repeat what is in its table.
no_block_becomes_more_than_its_weight(_Config) ->
    _ = rand:seed(exsss, {1, 2, 3}),
    lists:foreach(fun(_) ->
        Blocks = blocks(rand:uniform(5), cow_hpack:init()),
        Sizes = sizes(Blocks, cow_hpack:init()),
        heavier(Blocks, Sizes, 0)
    end, lists:seq(1, 500)).

heavier([], [], _Largest) ->
    ok;
heavier([Block | Blocks], [Size | Sizes], Largest) ->
    ?assertEqual(too_large, hornbeam_hpack:weigh(Block, Largest, Size - 1), {Block, Size}),
    {ok, Larger} = hornbeam_hpack:weigh(Block, Largest, ?MANY),
    heavier(Blocks, Sizes, Larger).

blocks(0, _Encoder) ->
    [];
blocks(Count, Encoder0) ->
    {Encoded, Encoder} = cow_hpack:encode(fields(rand:uniform(20)), Encoder0),
    [iolist_to_binary([Encoded, repeated(Encoder)]) | blocks(Count - 1, Encoder)].

fields(Count) ->
    [{one_of([<<"cookie">>, <<"x-a">>, <<"accept">>, word()]), word()}
     || _ <- lists:seq(1, Count)].

word() ->
    << <<(one_of("aeiou0123 ~{")):8>> || _ <- lists:seq(1, rand:uniform(200)) >>.

one_of(List) -> lists:nth(rand:uniform(length(List)), List).

%% The newest entry of the table, if any, again and again.
repeated(Encoder) ->
    Some = binary:copy(<<16#be>>, rand:uniform(30)),
    try cow_hpack:decode(Some, Encoder) of
        _ -> Some
    catch
        error:_ -> <<>>
    end.

sizes([], _Decoder) ->
    [];
sizes([Block | Blocks], Decoder0) ->
    {Fields, Decoder} = cow_hpack:decode(Block, Decoder0),
    [lists:sum([byte_size(Name) + byte_size(Value) + 32 || {Name, Value} <- Fields])
     | sizes(Blocks, Decoder)].

a_block_of_exactly_the_limit_passes_and_one_byte_more_does_not(_Config) ->
    Block = literal(16#00, <<"name">>, <<"value">>),
    Size = 32 + byte_size(<<"namevalue">>),
    ?assertEqual({ok, 0}, hornbeam_hpack:weigh(Block, 0, Size)),
    ?assertEqual(too_large, hornbeam_hpack:weigh(Block, 0, Size - 1)).

an_entry_of_the_table_weighs_as_much_as_the_largest(_Config) ->
    Kept = literal(16#40, <<"a">>, binary:copy(<<"x">>, 999)),
    Small = literal(16#40, <<"a">>, <<"b">>),
    {ok, Largest} = hornbeam_hpack:weigh(<<Kept/binary, Small/binary>>, 0, ?MANY),
    ?assertEqual(1032, Largest),
    Twice = <<16#be, 16#bf>>,
    ?assertEqual({ok, Largest}, hornbeam_hpack:weigh(Twice, Largest, 2 * (32 + Largest))),
    ?assertEqual(too_large, hornbeam_hpack:weigh(Twice, Largest, 2 * (32 + Largest) - 1)),
    %% As a name it is as large.
    Named = <<16#0f, 47, 0>>,
    ?assertEqual({ok, Largest}, hornbeam_hpack:weigh(Named, Largest, 32 + Largest)),
    ?assertEqual(too_large, hornbeam_hpack:weigh(Named, Largest, 31 + Largest)).

what_does_not_fit_into_the_table_is_not_in_it(_Config) ->
    Kept = literal(16#40, <<"a">>, binary:copy(<<"x">>, 10000)),
    ?assertEqual({ok, 4096}, hornbeam_hpack:weigh(Kept, 0, ?MANY)),
    Passed = [literal(First, <<"a">>, binary:copy(<<"x">>, 1000)) || First <- [16#00, 16#10]],
    ?assertEqual({ok, 7}, hornbeam_hpack:weigh(iolist_to_binary(Passed), 7, ?MANY)).

a_number_has_at_most_28_bits_behind_its_first(_Config) ->
    ?assertEqual({ok, 0}, hornbeam_hpack:weigh(<<16#ff, 16#80, 16#80, 16#80, 1>>, 0, ?MANY)),
    ?assertEqual(malformed,
                 hornbeam_hpack:weigh(<<16#ff, 16#80, 16#80, 16#80, 16#80, 1>>, 0, ?MANY)).

what_no_decoder_reads_is_malformed(_Config) ->
    [?assertEqual({Block, malformed}, {Block, hornbeam_hpack:weigh(Block, 0, ?MANY)})
     || Block <- [<<16#80>>, <<16#ff>>, <<16#ff, 16#80>>, <<16#00>>, <<16#00, 1>>,
                  <<16#00, 1, "a">>, <<16#00, 1, "a", 2, "b">>, <<16#40, 16#7f, 16#ff>>, <<16#01>>,
                  <<16#01, 127>>,
                  <<16#3f>>, <<16#7f>>, <<16#1f>>, <<16#00, 16#ff, 16#ff, 16#ff, 16#ff, 15, "a">>]].

a_block_is_looked_through_once(_Config) ->
    Work = fun(Times) ->
        Block = binary:copy(<<16#be, 16#82, 16#00, 1, "a", 1, "b">>, Times),
        element(1, hornbeam_work:of_function(fun() -> hornbeam_hpack:weigh(Block, 40, ?MANY) end))
    end,
    ?assert(Work(8000) < 6 * Work(2000)).

weighed(Blocks, Most) ->
    lists:foldl(fun(Block, {ok, Largest}) -> hornbeam_hpack:weigh(Block, Largest, Most) end,
                {ok, 0}, Blocks).

literal(First, Name, Value) ->
    <<First, (string(Name))/binary, (string(Value))/binary>>.

string(Text) when byte_size(Text) < 127 ->
    <<(byte_size(Text)), Text/binary>>;
string(Text) ->
    Rest = byte_size(Text) - 127,
    <<127, 1:1, Rest:7, 0:1, (Rest bsr 7):7, Text/binary>>.
