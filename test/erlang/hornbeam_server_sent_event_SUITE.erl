%% What a published message is in an event stream.
-module(hornbeam_server_sent_event_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [what_is_said_of_an_event_is_parted_from_its_data, what_is_no_event_is_data,
     an_event_has_a_line_for_each_of_its_data, fields_stand_in_front_of_the_data,
     a_field_of_two_lines_is_refused].

what_is_said_of_an_event_is_parted_from_its_data(_Config) ->
    [?assertEqual({Event, {Fields, packed(Data)}}, {Event, open(Event)})
     || {Event, Fields, Data} <-
            [{{sse, #{}, <<"d">>}, [], <<"d">>},
             {{sse, #{event => <<"tick">>}, 1}, [{<<"event">>, <<"tick">>}], 1},
             {{sse, #{<<"id">> => <<"7">>, event => tick}, #{a => [1]}},
              [{<<"event">>, <<"tick">>}, {<<"id">>, <<"7">>}], #{a => [1]}},
             {{sse, #{id => 7, retry => 1000, event => <<"e">>}, null},
              [{<<"event">>, <<"e">>}, {<<"id">>, <<"7">>}, {<<"retry">>, <<"1000">>}], null},
             {{sse, #{id => 7}, {sse, #{}, 1}}, [{<<"id">>, <<"7">>}], {sse, #{}, 1}}]].

what_is_no_event_is_data(_Config) ->
    [?assertEqual({Data, {[], packed(Data)}}, {Data, open(Data)})
     || Data <- [<<"text">>, sse, 1, [sse, #{}, 1], {sse, 1}, {sse, #{}}, {sse, #{}, 1, 2}, {},
                 {<<"sse">>, #{}, 1}, {ok, #{}, 1}, {sse, [], 1}, {sse, #{other => 1}, 1},
                 {sse, #{event => [1]}, 1}, {sse, #{id => 1.5}, 1}, {sse, #{1 => 1}, 1},
                 #{event => <<"e">>, data => 1}]],
    [?assertEqual({[], Bytes}, hornbeam_server_sent_event:open(Bytes))
     || Bytes <- [<<>>, <<16#c7>>, <<16#c7, 5, 2, 16#93>>, <<16#c7, 3, 2, 16#93, 16#c1, 16#c1>>]].

an_event_has_a_line_for_each_of_its_data(_Config) ->
    [?assertEqual({Data, {ok, Text}}, {Data, hornbeam_server_sent_event:text([], Data)})
     || {Data, Text} <-
            [{<<>>, <<"data: \n\n">>},
             {<<"a">>, <<"data: a\n\n">>},
             {<<" a ">>, <<"data:  a \n\n">>},
             {<<"a\nb\r\nc\rd">>, <<"data: a\ndata: b\ndata: c\ndata: d\n\n">>},
             {<<"\n\n">>, <<"data: \ndata: \ndata: \n\n">>},
             {<<"a\n\rb">>, <<"data: a\ndata: \ndata: b\n\n">>},
             {<<"id: 1\nevent: x">>, <<"data: id: 1\ndata: event: x\n\n">>}]].

fields_stand_in_front_of_the_data(_Config) ->
    {Fields, _} = open({sse, #{id => 7, retry => 1000, event => <<"größe"/utf8>>}, null}),
    ?assertEqual({ok, <<"event: größe\nid: 7\nretry: 1000\ndata: x\n\n"/utf8>>},
                 hornbeam_server_sent_event:text(Fields, <<"x">>)).

a_field_of_two_lines_is_refused(_Config) ->
    [?assertMatch({error, {no_event, <<"id with", _/binary>>}},
                  hornbeam_server_sent_event:text([{<<"id">>, Value}], <<"x">>))
     || Value <- [<<"1\n">>, <<"\rdata: 2">>, <<"1\n\ndata: stolen">>, <<"a", 0>>]].

open(Term) -> hornbeam_server_sent_event:open(packed(Term)).

packed(Term) -> iolist_to_binary(hornbeam_msgpack:encode(Term)).
