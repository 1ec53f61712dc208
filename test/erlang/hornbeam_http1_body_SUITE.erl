%% The body of a request: where it ends, whatever pieces it comes in.
-module(hornbeam_http1_body_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [a_request_without_a_body_has_none, a_body_of_a_length_ends_after_it, chunks_are_put_together,
     extensions_and_trailers_are_dropped, chunks_that_are_none_are_refused,
     what_cannot_become_a_size_is_refused_at_once, a_size_has_as_many_digits_as_64_bits,
     a_size_without_end_costs_as_much_as_its_first_digits,
     a_line_of_a_size_is_bounded, the_extensions_of_all_chunks_are_bounded,
     a_trailer_may_be_as_large_as_a_field, there_may_be_as_many_trailers_as_fields,
     all_trailers_may_be_as_large_as_a_head, data_is_given_as_it_comes,
     a_line_that_comes_byte_by_byte_is_not_read_again_from_its_start].

a_request_without_a_body_has_none(_Config) ->
    [?assertEqual({Length, none}, {Length, hornbeam_http1_body:new(Length, limits(#{}))})
     || Length <- [none, 0]],
    ?assertEqual(0, hornbeam_http1_body:left(none)).

a_body_of_a_length_ends_after_it(_Config) ->
    [?assertEqual({Bytes, Read}, {Bytes, every(Bytes, 3)})
     || {Bytes, Read} <- [{<<"a">>, {more, <<"a">>}}, {<<"ab">>, {more, <<"ab">>}},
                          {<<"abc">>, {done, <<"abc">>, <<>>}},
                          {<<"abcd\r\n">>, {done, <<"abc">>, <<"d\r\n">>}}]],
    Body = hornbeam_http1_body:new(3, limits(#{})),
    ?assertEqual(3, hornbeam_http1_body:left(Body)),
    {more, _, Left} = hornbeam_http1_body:decode(<<"ab">>, Body),
    ?assertEqual(1, hornbeam_http1_body:left(Left)),
    ?assertEqual(unknown, hornbeam_http1_body:left(chunks(#{}))).

chunks_are_put_together(_Config) ->
    [?assertEqual({Bytes, Read}, {Bytes, every(Bytes, unknown)})
     || {Bytes, Read} <- [{<<"0\r\n\r\n">>, {done, <<>>, <<>>}},
                          {<<"1\r\na\r\n0\r\n\r\n">>, {done, <<"a">>, <<>>}},
                          {<<"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n">>, {done, <<"abc">>, <<>>}},
                          {<<"A\r\n0123456789\r\n0\r\n\r\n">>, {done, <<"0123456789">>, <<>>}},
                          {<<"a\r\n0123456789\r\n0\r\n\r\n">>, {done, <<"0123456789">>, <<>>}},
                          {<<"0001\r\na\r\n000\r\n\r\n">>, {done, <<"a">>, <<>>}},
                          {<<"4\r\n\r\n\r\n\r\n0\r\n\r\n">>, {done, <<"\r\n\r\n">>, <<>>}},
                          {<<"0\r\n\r\nGET /">>, {done, <<>>, <<"GET /">>}},
                          {<<"0\r\n\r\n\r\n">>, {done, <<>>, <<"\r\n">>}},
                          {<<"2\r\na">>, {more, <<"a">>}}, {<<"1\r\na">>, {more, <<"a">>}},
                          {<<"1\r\na\r">>, {more, <<"a">>}},
                          {<<"1\r\na\r\n0\r\n">>, {more, <<"a">>}},
                          {<<"1\r\na\r\n0\r\n\r">>, {more, <<"a">>}}, {<<"1">>, {more, <<>>}}]].

extensions_and_trailers_are_dropped(_Config) ->
    [?assertEqual({Bytes, {done, <<"a">>, <<"b">>}},
                  {Bytes, every(<<Bytes/binary, "b">>, unknown)})
     || Bytes <- [<<"1;x\r\na\r\n0\r\n\r\n">>, <<"1 \t;x=y;z=\"a b\"\r\na\r\n0;last\r\n\r\n">>,
                  <<"1;\r\na\r\n0\r\n\r\n">>, <<"1;\xff\r\na\r\n0\r\n\r\n">>,
                  <<"1\r\na\r\n0\r\nx: y\r\n\r\n">>,
                  <<"1\r\na\r\n0\r\nx:\r\nContent-Length: 5\r\nx: \xff\r\n\r\n">>]].

chunks_that_are_none_are_refused(_Config) ->
    [?assertEqual({Bytes, {fault, bad_request}}, {Bytes, every(Bytes, unknown)})
     || Bytes <- [<<"\r\n">>, <<" 1\r\na\r\n">>, <<"1 \r\na\r\n">>, <<"g\r\n">>, <<"-1\r\n">>,
                  <<"+1\r\n">>, <<"0x1\r\n">>, <<"1\n">>, <<"1\na\r\n0\r\n\r\n">>, <<"1\r\r\na">>,
                  <<"1\r\naa\r\n">>, <<"1\r\na\n">>, <<"1\r\na\rb">>, <<"1\r\na0\r\n\r\n">>,
                  <<"1 x\r\na\r\n">>, <<"1,x\r\na\r\n">>, <<"1;x\0\r\n">>, <<"1;x\ny\r\n">>,
                  <<"1;x\ry\r\n">>, <<"1;\x7f\r\n">>, <<"0\r\nx\r\n\r\n">>,
                  <<"0\r\nx : y\r\n\r\n">>,
                  <<"0\r\n x: y\r\n\r\n">>, <<"0\r\nx: y\nz: a\r\n\r\n">>, <<"0\r\nx: \0\r\n\r\n">>,
                  <<"0\r\n:\r\n\r\n">>, <<"0\r\n\n\r\n">>, <<16#ef, 16#bc, 16#91, "\r\na\r\n">>]].

what_cannot_become_a_size_is_refused_at_once(_Config) ->
    [?assertEqual({Bytes, {fault, bad_request}},
                  {Bytes, hornbeam_http1_body:decode(Bytes, chunks(#{}))})
     || Bytes <- [<<"g">>, <<" ">>, <<"\n">>, <<"\r">>, <<"-">>, binary:copy(<<"0">>, 17), <<"0x">>,
                  <<"1g">>, <<"1,">>, <<"1\0">>, <<"1\n">>]].

a_size_has_as_many_digits_as_64_bits(_Config) ->
    [?assertMatch({Digits, {more, <<"a">>}}, {Digits, every(<<Digits/binary, "\r\na">>, unknown)})
     || Digits <- [<<"ffffffffffffffff">>, <<"FFFFFFFFFFFFFFFF">>, <<"0000000000000002">>]],
    [?assertEqual({Digits, {fault, bad_request}},
                  {Digits, every(<<Digits/binary, "\r\na">>, unknown)})
     || Digits <- [<<"10000000000000000">>, <<"00000000000000002">>]].

a_size_without_end_costs_as_much_as_its_first_digits(_Config) ->
    Work = fun(Begun, More, Size) ->
        Piece = <<Begun/binary, (binary:copy(More, Size))/binary>>,
        element(1, hornbeam_work:of_function(fun() ->
            ?assertEqual({fault, bad_request}, hornbeam_http1_body:decode(Piece, chunks(#{})))
        end))
    end,
    [?assert(Work(Begun, More, 1 bsl 24) < 8 * Work(Begun, More, 1000), {Begun, More})
     || {Begun, More} <- [{<<"0">>, <<"0">>}, {<<"f">>, <<"f">>}, {<<"0x">>, <<"0">>},
                          {<<"g">>, <<"0">>}]].

a_line_of_a_size_is_bounded(_Config) ->
    Line = fun(Size) -> <<"1;", (binary:copy(<<"x">>, Size - 2))/binary, "\r\na\r\n0\r\n\r\n">> end,
    [begin
         ?assertEqual({done, <<"a">>, <<>>}, fed(Pieces(Line(4096)), chunks(#{}))),
         ?assertEqual({fault, bad_request}, fed(Pieces(Line(4097)), chunks(#{})))
     end || Pieces <- [fun(Bytes) -> [Bytes] end, fun hornbeam_pieces:bytewise/1]],
    Endless = fun(Size) ->
        hornbeam_http1_body:decode(binary:part(Line(Size), 0, Size), chunks(#{}))
    end,
    ?assertMatch({more, _, _}, Endless(4097)),
    ?assertEqual({fault, bad_request}, Endless(4098)).

the_extensions_of_all_chunks_are_bounded(_Config) ->
    Limits = #{limit_request_head => 100},
    Chunks = fun(Last) ->
        <<(binary:copy(<<"1;23456789\r\na\r\n">>, 10))/binary, Last/binary, "\r\na\r\n0\r\n\r\n">>
    end,
    Each = byte_size(<<";23456789">>),
    Left = 100 - 10 * Each,
    Fitting = <<"1;", (binary:copy(<<"x">>, Left - 1))/binary>>,
    ?assertEqual({done, <<"aaaaaaaaaaa">>, <<>>}, every(Chunks(Fitting), unknown, Limits)),
    ?assertEqual({fault, bad_request}, every(Chunks(<<Fitting/binary, "x">>), unknown, Limits)).

a_trailer_may_be_as_large_as_a_field(_Config) ->
    Limits = #{limit_request_field_size => 16},
    Trailer = fun(Size) ->
        <<"0\r\nname: ", (binary:copy(<<"x">>, Size - 6))/binary, "\r\nb: c\r\n\r\n">>
    end,
    ?assertEqual({done, <<>>, <<>>}, every(Trailer(16), unknown, Limits)),
    ?assertEqual({fault, fields_too_large}, every(Trailer(17), unknown, Limits)),
    Endless = fun(Size) ->
        hornbeam_http1_body:decode(binary:part(Trailer(20), 0, Size), chunks(Limits))
    end,
    ?assertMatch({more, _, _}, Endless(3 + 17)),
    ?assertEqual({fault, fields_too_large}, Endless(3 + 18)).

there_may_be_as_many_trailers_as_fields(_Config) ->
    Limits = #{limit_request_fields => 3},
    Trailers = fun(Count) -> <<"0\r\n", (binary:copy(<<"a: b\r\n">>, Count))/binary, "\r\n">> end,
    ?assertEqual({done, <<>>, <<>>}, every(Trailers(3), unknown, Limits)),
    ?assertEqual({fault, fields_too_large}, every(Trailers(4), unknown, Limits)).

all_trailers_may_be_as_large_as_a_head(_Config) ->
    Trailers = <<"0\r\na: b\r\nc: d\r\n\r\n">>,
    Size = byte_size(<<"a: b\r\nc: d\r\n">>),
    ?assertEqual({done, <<>>, <<>>}, every(Trailers, unknown, #{limit_request_head => Size})),
    ?assertEqual({fault, fields_too_large},
                 every(Trailers, unknown, #{limit_request_head => Size - 1})).

data_is_given_as_it_comes(_Config) ->
    {more, Some, Body} = hornbeam_http1_body:decode(<<"5\r\nab">>, chunks(#{})),
    ?assertEqual(<<"ab">>, iolist_to_binary(Some)),
    {more, More, Rest} = hornbeam_http1_body:decode(<<"cd">>, Body),
    ?assertEqual(<<"cd">>, iolist_to_binary(More)),
    {done, Last, <<>>} = hornbeam_http1_body:decode(<<"e\r\n0\r\n\r\n">>, Rest),
    ?assertEqual(<<"e">>, iolist_to_binary(Last)).

a_line_that_comes_byte_by_byte_is_not_read_again_from_its_start(_Config) ->
    Limits = #{limit_request_field_size => 10000, limit_request_head => 10000},
    [begin
         {Small, SmallLook} = work(Begin, 2000, Limits),
         {Large, LargeLook} = work(Begin, 8000, Limits),
         ?assert(Large < 6 * Small, {Begin, Small, Large}),
         ?assert(LargeLook < 6 * SmallLook, {Begin, SmallLook, LargeLook})
     end || Begin <- [<<"0\r\na: ">>, <<"EA60\r\n">>]].

work(Begin, Size, Limits) ->
    Pieces = hornbeam_pieces:bytewise(<<Begin/binary, (binary:copy(<<"x">>, Size))/binary>>),
    hornbeam_work:of_function(fun() ->
        lists:foldl(fun(Piece, Begun) ->
            {_, _, More} = hornbeam_http1_body:decode(Piece, Begun),
            More
        end, chunks(Limits), Pieces)
    end).

%% Reading.

%% What comes of a body in whatever pieces, which is the same for all.
every(Bytes, Length) ->
    every(Bytes, Length, #{}).

every(Bytes, Length, Limits) ->
    Body = hornbeam_http1_body:new(Length, limits(Limits)),
    [Read] = lists:usort([fed(Pieces, Body) || Pieces <- hornbeam_pieces:all(Bytes)]),
    Read.

fed(Pieces, Body) ->
    fed(Pieces, [], Body).

fed([], Read, _Body) ->
    {more, iolist_to_binary(Read)};
fed([Piece | Pieces], Read, Body) ->
    case hornbeam_http1_body:decode(Piece, Body) of
        {more, Data, Rest} -> fed(Pieces, [Read | Data], Rest);
        {done, Data, Behind} ->
            {done, iolist_to_binary([Read | Data]), iolist_to_binary([Behind | Pieces])};
        {fault, _} = Fault -> Fault
    end.

chunks(Limits) ->
    hornbeam_http1_body:new(unknown, limits(Limits)).

limits(Own) ->
    {ok, #{server := Server}} = hornbeam_config:check("app:application", Own),
    Server.
