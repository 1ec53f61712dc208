%% Where an event of an event stream ends, however its lines end and its bytes come.
-module(hornbeam_event_boundary_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [an_event_ends_with_a_blank_line, bytes_that_come_one_by_one_are_the_same,
     it_is_cut_behind_the_first_blank_line, what_has_no_blank_line_is_not_cut].

%% What was said, and whether another event may follow.
said() ->
    [{<<>>, true},
     {<<"\n">>, true},
     {<<"data: 1">>, false},
     {<<"data: 1\n">>, false},
     {<<"data: 1\n\n">>, true},
     {<<"data: 1\r\n">>, false},
     {<<"data: 1\r\n\r\n">>, true},
     {<<"data: 1\r\n\r">>, true},
     {<<"data: 1\r">>, false},
     {<<"data: 1\r\r">>, true},
     {<<"data: 1\r\n\n">>, true},
     {<<"data: 1\n\r">>, true},
     {<<"data: 1\n\r\n">>, true},
     {<<": ping\n\n\n">>, true},
     {<<"data: 1\n\ndata: 2">>, false},
     {<<"data: 1\n\ndata: 2\n">>, false},
     {<<"data: 1\n\ndata: 2\n\n">>, true},
     {<<"retry: 10\n">>, false}].

an_event_ends_with_a_blank_line(_Config) ->
    [?assertEqual({Bytes, May}, {Bytes, is_reached([Bytes])}) || {Bytes, May} <- said()].

bytes_that_come_one_by_one_are_the_same(_Config) ->
    [?assertEqual({Bytes, May}, {Bytes, is_reached([<<Byte>> || <<Byte>> <= Bytes])})
     || {Bytes, May} <- said()].

it_is_cut_behind_the_first_blank_line(_Config) ->
    [?assertEqual({Begun, Bytes, {Before, After}}, {Begun, Bytes, split(Begun, Bytes)})
     || {Begun, Before, After} <-
            [{<<"data">>, <<": 1\n\n">>, <<>>},
             {<<"data">>, <<": 1\n\n">>, <<"data: 2\n\ndata: 3">>},
             {<<"data: 1\n">>, <<"\n">>, <<"data: 2\n\n">>},
             {<<"data: 1\r">>, <<"\n\r\n">>, <<"data: 2">>},
             {<<"data: 1\r\n">>, <<"\r\n">>, <<"\n">>},
             {<<"data: 1\r\n">>, <<"\r">>, <<"data: 2">>},
             {<<"data: 1\n">>, <<"data: 2\n\n">>, <<"\n\n">>}],
        Bytes <- [<<Before/binary, After/binary>>]].

what_has_no_blank_line_is_not_cut(_Config) ->
    [?assertEqual({Begun, Bytes, none}, {Begun, Bytes, split(Begun, Bytes)})
     || {Begun, Bytes} <- [{<<"data">>, <<>>}, {<<"data">>, <<": 1\n">>},
                           {<<"data: 1\r">>, <<"\n">>}, {<<"data: 1\n">>, <<"data: 2\r\n">>}]].

split(Begun, Bytes) ->
    hornbeam_event_boundary:split(Bytes, boundary([Begun])).

is_reached(Parts) ->
    hornbeam_event_boundary:is_reached(boundary(Parts)).

boundary(Parts) ->
    lists:foldl(fun hornbeam_event_boundary:add/2, hornbeam_event_boundary:new(), Parts).
