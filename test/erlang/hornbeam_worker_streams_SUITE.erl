%% Who owns which stream: opening, moving, losing and ending one; and what the app may say when.
-module(hornbeam_worker_streams_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [packets_reach_the_owner, packets_wait_while_a_stream_moves,
     what_follows_an_accept_waits_for_the_bind, the_death_of_who_was_told_of_the_accept_is_told,
     a_multicast_reaches_each_owner_in_its_order, a_multicast_keeps_the_rules_of_each_stream,
     an_end_while_moving_is_seen_after_the_bind, the_death_of_an_owner_is_told_once,
     after_its_end_a_stream_says_nothing, nothing_is_said_between_an_end_and_the_bind,
     a_stream_that_never_was_is_an_error, owners_are_listed_by_kind,
     open_sockets_are_listed_with_their_numbers,
     event_streams_are_listed_and_stand_for_their_clients,
     an_event_stream_whose_client_is_gone_is_nobodys,
     a_client_is_known_from_the_open_to_the_end, what_the_app_says_in_order_is_taken,
     what_the_app_says_out_of_order_is_an_error, the_order_holds_also_when_the_owner_is_gone,
     a_spent_account_ends_it_also_when_the_owner_is_gone,
     an_owner_that_shares_a_process_gets_packets_by_its_tag,
     a_tagged_owner_gets_nothing_after_its_response,
     a_tagged_owner_is_told_of_an_app_that_ends_too_early,
     a_response_is_the_end_of_its_stream, a_response_where_none_may_be_is_an_error,
     a_response_waits_while_its_stream_moves,
     what_a_tagged_owner_was_said_waits_until_it_takes_over,
     an_app_that_goes_on_after_its_response_is_told_of_the_end,
     the_app_is_told_once_that_a_tagged_owner_has_no_use_for_a_stream,
     tagged_owners_hear_of_the_worker_however_it_ends,
     tagged_owners_hear_of_the_worker_when_its_first_heir_has_died,
     a_client_is_made_when_it_is_asked_for,
     a_tagged_owner_is_listed_and_known_before_the_app_says_anything,
     the_app_hears_of_a_process_that_died_without_a_word].

packets_reach_the_owner(_Config) ->
    {ok, _} = say(accept, opened()),
    ?assertEqual([accept], received(1)).

packets_wait_while_a_stream_moves(_Config) ->
    {ok, Accepted} = say(accept, opened()),
    Moving = hornbeam_worker_streams:hand_over(1, self(), self(), Accepted),
    {ok, One} = say(send_text, Moving),
    {ok, Two} = say(send_bytes, One),
    ?assertEqual([accept], received(1)),
    Two = hornbeam_worker_streams:bind(1, whereis(init), Two),
    Bound = hornbeam_worker_streams:bind(1, self(), Two),
    {ok, _} = say(close, Bound),
    ?assertEqual([send_text, send_bytes, close], received(1)).

%% An app that was cancelled in its accept goes on as if that were through.
what_follows_an_accept_waits_for_the_bind(_Config) ->
    Kept = said([accept, send_text], opened()),
    ?assertEqual([accept], received(1)),
    {ok, Ended} = ended(said([close], Kept)),
    [begin
         ?assertEqual([], received(1)),
         Bound = hornbeam_worker_streams:bind(1, self(), Streams),
         ?assertEqual([send_text, close, ended], received(1)),
         ?assertEqual([], hornbeam_worker_streams:owners(websocket, Bound))
     end || Streams <- [Ended, hornbeam_worker_streams:hand_over(1, self(), self(), Ended)]].

the_death_of_who_was_told_of_the_accept_is_told(_Config) ->
    {Owner, Monitor} = spawn_monitor(fun() -> receive die -> ok end end),
    Opened = hornbeam_worker_streams:open(websocket, 1, Owner, hornbeam_worker_streams:new()),
    Accepted = said([accept, send_text], Opened),
    Owner ! die,
    receive {'DOWN', Monitor, process, Owner, _} -> ok after 5000 -> error(lives) end,
    Ref = receive {{'DOWN', 1}, R, process, Owner, _} -> R after 5000 -> error(no_down) end,
    {disconnect, websocket, Gone} = hornbeam_worker_streams:owner_down(1, Ref, Accepted),
    ?assertMatch({ok, _}, ended(Gone)).

a_multicast_reaches_each_owner_in_its_order(_Config) ->
    Frame = hornbeam_websocket_frame:new(text, <<"to all">>),
    All = fun(Numbers, Streams) ->
        {ok, After} = hornbeam_worker_streams:multicast(Numbers, code(send_text), Frame, Streams),
        After
    end,
    Moving = hornbeam_worker_streams:hand_over(2, self(), self(), three_accepted()),
    Gone = hornbeam_worker_streams:closed(3, Moving),
    {ok, Said} = say(send_bytes, All([1, 2, 3, 1, 2], Gone)),
    ?assertEqual([{1, accept}, {2, accept}, {3, accept}, {1, Frame}, {1, Frame}, {1, send_bytes}],
                 all_received()),
    {ok, Ended} = hornbeam_worker_streams:ended(2, packet(ended), Said),
    _ = hornbeam_worker_streams:bind(2, self(), Ended),
    ?assertEqual([{2, Frame}, {2, Frame}, {2, ended}], all_received()).

a_multicast_keeps_the_rules_of_each_stream(_Config) ->
    Frame = hornbeam_websocket_frame:new(binary, <<"to all">>),
    All = fun(Numbers, Streams) ->
        hornbeam_worker_streams:multicast(Numbers, code(send_bytes), Frame, Streams)
    end,
    Three = three_accepted(),
    ?assertEqual({ok, Three}, All([], Three)),
    ?assertEqual({error, {no_such_stream, 4}}, All([1, 2, 4, 3], Three)),
    {ok, Closed} = say(close, Three),
    ?assertEqual({error, {out_of_order, 1}}, All([3, 2, 1], Closed)),
    {ok, Over} = ended(Three),
    ?assertEqual({error, {stream_is_over, 1}}, All([2, 1], Over)),
    Asked = hornbeam_worker_streams:open(http, 4, self(), Three),
    ?assertEqual({error, {out_of_order, 4}}, All([4], Asked)),
    {_, Messages} = hornbeam_stream:window(),
    {ok, Spent} = All(lists:duplicate(Messages, 2), three_accepted()),
    ?assertEqual({error, {overspent, 2}}, All([1, 2], Spent)).

three_accepted() ->
    lists:foldl(fun(Number, Before) ->
        Opened = hornbeam_worker_streams:open(websocket, Number, self(), Before),
        {ok, Accepted} = hornbeam_worker_streams:deliver(Number, code(accept), packet(accept),
                                                         Opened),
        hornbeam_worker_streams:bind(Number, self(), Accepted)
    end, hornbeam_worker_streams:new(), [1, 2, 3]).

all_received() ->
    receive
        {stream, Number, Packet} ->
            {ok, Message} = hornbeam_packet:decode(Packet),
            [{Number, element(1, Message)} | all_received()];
        {multicast, Number, Frame} ->
            [{Number, Frame} | all_received()]
    after 0 ->
        []
    end.

an_end_while_moving_is_seen_after_the_bind(_Config) ->
    Moving = hornbeam_worker_streams:hand_over(1, self(), self(), opened()),
    {ok, Ended} = ended(Moving),
    Bound = hornbeam_worker_streams:bind(1, self(), Ended),
    ?assertEqual([ended], received(1)),
    ?assertEqual([], hornbeam_worker_streams:owners(websocket, Bound)).

the_death_of_an_owner_is_told_once(_Config) ->
    {Owner, _} = spawn_monitor(fun() -> ok end),
    Streams0 = hornbeam_worker_streams:open(http, 1, Owner, hornbeam_worker_streams:new()),
    Ref = receive {{'DOWN', 1}, R, process, Owner, _} -> R after 5000 -> error(no_down) end,
    {disconnect, http, Streams1} = hornbeam_worker_streams:owner_down(1, Ref, Streams0),
    ?assertMatch({ok, _}, hornbeam_worker_streams:owner_down(1, Ref, Streams1)),
    ?assertMatch({ok, _}, ended(Streams1)).

after_its_end_a_stream_says_nothing(_Config) ->
    {ok, Streams} = ended(opened()),
    ?assertEqual([ended], received(1)),
    [?assertEqual({error, stream_is_over}, say(Name, Streams)) || Name <- [accept, credit]],
    ?assertEqual({error, stream_is_over}, ended(Streams)),
    ?assertEqual([], received(1)).

nothing_is_said_between_an_end_and_the_bind(_Config) ->
    {ok, Ended} = ended(hornbeam_worker_streams:hand_over(1, self(), self(), opened())),
    ?assertEqual({error, stream_is_over}, say(accept, Ended)),
    ?assertEqual({error, stream_is_over}, ended(Ended)).

a_stream_that_never_was_is_an_error(_Config) ->
    Streams = opened(),
    ?assertEqual({error, no_such_stream},
                 hornbeam_worker_streams:deliver(2, code(accept), packet(accept), Streams)),
    ?assertEqual({error, no_such_stream},
                 hornbeam_worker_streams:ended(2, packet(ended), Streams)),
    ?assert(hornbeam_worker_streams:is_known(1, Streams)),
    ?assertNot(hornbeam_worker_streams:is_known(2, Streams)).

a_client_is_known_from_the_open_to_the_end(_Config) ->
    Client = whereis(init),
    ClientOf = fun(Streams) -> hornbeam_worker_streams:client(1, Streams) end,
    New = hornbeam_worker_streams:new(),
    ?assertEqual(gone, ClientOf(New)),
    Asked = hornbeam_worker_streams:open(websocket, 1, self(), Client, hornbeam_stream_credit:new(),
                                         New),
    ?assertEqual({asked, websocket, Client}, ClientOf(Asked)),
    Moving = hornbeam_worker_streams:hand_over(1, self(), self(), Asked),
    ?assertEqual({asked, websocket, Client}, ClientOf(Moving)),
    Open = hornbeam_worker_streams:bind(1, self(), Moving),
    ?assertEqual({open, websocket, Client}, ClientOf(Open)),
    ?assertEqual(gone, ClientOf(hornbeam_worker_streams:closed(1, Open))),
    {ok, Ended} = ended(Open),
    ?assertEqual([ended], received(1)),
    ?assertEqual(gone, ClientOf(Ended)),
    Http = hornbeam_worker_streams:open(http, 1, self(), New),
    ?assertEqual({requested, self(), self()}, ClientOf(Http)).

open_sockets_are_listed_with_their_numbers(_Config) ->
    Asked = hornbeam_worker_streams:open(http, 2, self(), opened()),
    ?assertEqual([], hornbeam_worker_streams:sockets(Asked)),
    Moving = hornbeam_worker_streams:hand_over(1, self(), self(), Asked),
    Bound = hornbeam_worker_streams:bind(1, self(), Moving),
    ?assertEqual([{1, self()}], hornbeam_worker_streams:sockets(Bound)),
    ?assertEqual([], hornbeam_worker_streams:sockets(hornbeam_worker_streams:closed(1, Bound))).

event_streams_are_listed_and_stand_for_their_clients(_Config) ->
    [begin
         Asked = hornbeam_worker_streams:open(http, 2, self(), opened_by_tagged()),
         ?assertEqual([], hornbeam_worker_streams:event_streams(Asked)),
         ?assertMatch({requested, {_, a_tag}, undefined}, hornbeam_worker_streams:client(1, Asked)),
         {[Owner], Begun} = hornbeam_worker_streams:begin_stream(1, said([Kind], Asked)),
         ?assertEqual([{1, tagged()}], hornbeam_worker_streams:event_streams(Begun)),
         {Phase, Owner, Client} = hornbeam_worker_streams:client(1, Begun),
         ?assertMatch([{stream, 1, _}, {client, 1, Client}], messages_of_tagged()),
         Ref = erlang:monitor(process, Client),
         Over = hornbeam_worker_streams:closed(1, Begun),
         ?assertEqual({gone, []}, {hornbeam_worker_streams:client(1, Over),
                                   hornbeam_worker_streams:event_streams(Over)}),
         receive {'DOWN', Ref, process, Client, normal} -> ok end
     end || {Kind, Phase} <- [{events, streaming}, {gzipped_events, closed_stream}]].

an_event_stream_whose_client_is_gone_is_nobodys(_Config) ->
    Begun = said([events], gone(http)),
    ?assertEqual({[], Begun}, hornbeam_worker_streams:begin_stream(1, Begun)),
    ?assertEqual([], hornbeam_worker_streams:event_streams(Begun)).

owners_are_listed_by_kind(_Config) ->
    Both = hornbeam_worker_streams:open(http, 2, self(), opened()),
    ?assertEqual([self()], hornbeam_worker_streams:owners(websocket, Both)),
    ?assertEqual([self()], hornbeam_worker_streams:owners(http, Both)),
    Closed = hornbeam_worker_streams:closed(1, Both),
    ?assertEqual([], hornbeam_worker_streams:owners(websocket, Closed)).

%% What may be said, and after it what may not: one table for the three tests.
orders() ->
    [{websocket, [], [send_text, send_bytes, part, last_part, flushed, response]},
     {websocket, [accept], [accept, start, whole, response, part, last_part]},
     {websocket, [accept, send_text, credit, send_bytes], [accept]},
     {websocket, [accept, send_text, flushed, send_text, send_bytes, credit],
      [flushed, accept, start]},
     {websocket, [accept, flushed, close], [send_text, flushed, close]},
     {websocket, [accept, close], [accept, send_text, send_bytes, close, start, flushed]},
     {websocket, [close, credit], [accept, send_text, close, start]},
     {websocket, [start, part], [accept, send_text, close, start, flushed]},
     {websocket, [start, last_part], [part, last_part, close]},
     {http, [], [accept, send_text, send_bytes, close, part, last_part, flushed]},
     {http, [credit, start, part, credit], [start, whole, response, accept, send_text, close]},
     {http, [start, part, last_part, credit], [start, part, last_part]},
     {http, [whole], [start, part, last_part, response, close]},
     {http, [credit, response], [start, part, last_part, response, close]},
     {http, [events, part, credit, part], [events, start, whole, response, accept, send_text]},
     {http, [gzipped_events, part, last_part], [events, start, part, last_part]},
     {websocket, [], [events, gzipped_events]}].

what_the_app_says_in_order_is_taken(_Config) ->
    [begin
         _ = hornbeam_worker_streams:bind(1, self(), said(Said, opened(Kind))),
         ?assertEqual([plain(Name) || Name <- Said], received(1))
     end || {Kind, Said, _} <- orders()].

what_the_app_says_out_of_order_is_an_error(_Config) ->
    [?assertEqual({error, out_of_order}, say(Wrong, said(Said, opened(Kind))), {Said, Wrong})
     || {Kind, Said, Wrongs} <- orders(), Wrong <- Wrongs].

the_order_holds_also_when_the_owner_is_gone(_Config) ->
    [?assertEqual({error, out_of_order}, say(Wrong, said(Said, gone(Kind))), {Said, Wrong})
     || {Kind, Said, Wrongs} <- orders(), Wrong <- Wrongs],
    ?assertEqual([], received(1)).

a_spent_account_ends_it_also_when_the_owner_is_gone(_Config) ->
    {_, Messages} = hornbeam_stream:window(),
    Spent = said([accept | lists:duplicate(Messages, send_text)], gone(websocket)),
    ?assertEqual({error, overspent}, say(send_text, Spent)),
    ?assertMatch({ok, _}, say(close, Spent)).

%% Owners that share a process.

an_owner_that_shares_a_process_gets_packets_by_its_tag(_Config) ->
    _ = said([start, part], opened_by_tagged()),
    ?assertEqual([response_start, response_body], received_by_tagged()),
    ?assertEqual([], received(1)).

a_tagged_owner_gets_nothing_after_its_response(_Config) ->
    Said = said([whole, credit], opened_by_tagged()),
    ?assertEqual([response_start], received_by_tagged()),
    {ok, _} = ended(Said),
    ?assertEqual([], received_by_tagged()).

a_tagged_owner_is_told_of_an_app_that_ends_too_early(_Config) ->
    {ok, _} = ended(said([start], opened_by_tagged())),
    ?assertEqual([response_start, ended], received_by_tagged()).

a_response_is_the_end_of_its_stream(_Config) ->
    [begin
         {ok, Answered} = answered(said(Said, Opened())),
         ?assertEqual(Said ++ [response], Received()),
         ?assertEqual([], hornbeam_worker_streams:owners(http, Answered)),
         ?assertEqual({[], Answered}, hornbeam_worker_streams:close_complete(Answered)),
         ?assertEqual({error, stream_is_over}, answered(Answered)),
         ?assertEqual({error, stream_is_over}, ended(Answered)),
         ?assertEqual({error, stream_is_over}, say(credit, Answered)),
         ?assertEqual([], Received())
     end || {Opened, Received} <- [{fun opened_by_tagged/0, fun received_by_tagged/0},
                                   {fun() -> opened(http) end, fun() -> received(1) end}],
            Said <- [[], [credit]]],
    {ok, Gone} = answered(gone(http)),
    ?assertEqual({error, stream_is_over}, ended(Gone)),
    ?assertEqual([], received(1)).

a_response_where_none_may_be_is_an_error(_Config) ->
    ?assertEqual({error, no_such_stream}, answered(hornbeam_worker_streams:new())),
    [?assertEqual({error, out_of_order}, answered(Streams))
     || Streams <- [opened(websocket), said([start], opened(http)), said([whole], opened(http)),
                    said([start, part], opened_by_tagged()), said([events], opened_by_tagged()),
                    opened_by_tagged(websocket)]],
    %% Whoever waits for it hears of the worker's end.
    Wrong = opened_by_tagged(websocket),
    {error, out_of_order} = answered(Wrong),
    ?assertEqual([tagged()], hornbeam_worker_streams:owners(websocket, Wrong)).

a_response_waits_while_its_stream_moves(_Config) ->
    Moving = hornbeam_worker_streams:hand_over(1, tagged(), self(), opened(http)),
    {ok, Answered} = answered(Moving),
    ?assertEqual([], received_by_tagged()),
    Taken = hornbeam_worker_streams:take_over(1, tagged(), Answered),
    ?assertEqual([response], received_by_tagged()),
    ?assertMatch({[], _}, hornbeam_worker_streams:close_complete(Taken)),
    ?assertEqual({error, stream_is_over}, ended(Taken)).

what_a_tagged_owner_was_said_waits_until_it_takes_over(_Config) ->
    Moving = hornbeam_worker_streams:hand_over(1, tagged(), self(), opened(http)),
    Said = said([credit, whole, credit], Moving),
    ?assertEqual({[], Said}, hornbeam_worker_streams:close_complete(Said)),
    ?assertEqual([], received_by_tagged()),
    Taken = hornbeam_worker_streams:take_over(1, tagged(), Said),
    ?assertEqual([credit, response_start], received_by_tagged()),
    ?assertMatch({[{1, http}], _}, hornbeam_worker_streams:close_complete(Taken)).

an_app_that_goes_on_after_its_response_is_told_of_the_end(_Config) ->
    Said = said([start, last_part], opened_by_tagged()),
    {[{1, http}], Settled} = hornbeam_worker_streams:close_complete(Said),
    ?assertEqual([], hornbeam_worker_streams:owners(http, Settled)),
    ?assertEqual({[], Settled}, hornbeam_worker_streams:close_complete(Settled)),
    {ok, Ended} = ended(Said),
    ?assertMatch({[], _}, hornbeam_worker_streams:close_complete(Ended)),
    {[], Begun} = hornbeam_worker_streams:close_complete(said([start], opened_by_tagged())),
    ?assertEqual([tagged()], hornbeam_worker_streams:owners(http, Begun)).

the_app_is_told_once_that_a_tagged_owner_has_no_use_for_a_stream(_Config) ->
    {disconnect, http, Gone} = hornbeam_worker_streams:abandon(1, opened_by_tagged()),
    ?assertMatch({ok, _}, hornbeam_worker_streams:abandon(1, Gone)),
    _ = said([start], Gone),
    ?assertEqual([], received_by_tagged()).

tagged_owners_hear_of_the_worker_however_it_ends(_Config) ->
    Streams = opened_by_tagged(),
    hornbeam_stream_owners:notify_down(hornbeam_worker_streams:tagged_owners(Streams)),
    ?assertEqual([{worker_down, 1}], messages_of_tagged()),
    Heir = self(),
    Owner = tagged(),
    {Worker, Monitor} = spawn_monitor(fun() ->
        New = hornbeam_worker_streams:new(hornbeam_stream_owners:new(Heir)),
        {ok, _} = ended(opened_by(Owner, 2, opened_by(Owner, 1, New))),
        Heir ! opened,
        receive never -> ok end
    end),
    receive opened -> exit(Worker, kill) end,
    receive {'DOWN', Monitor, process, _, killed} -> ok end,
    receive
        {'ETS-TRANSFER', Tagged, Worker, inherited} -> hornbeam_stream_owners:notify_down(Tagged)
    end,
    ?assertEqual([{worker_down, 2}], [Down || {worker_down, _} = Down <- messages_of_tagged()]).

tagged_owners_hear_of_the_worker_when_its_first_heir_has_died(_Config) ->
    {Me, _} = Owner = tagged(),
    First = spawn(fun() -> receive never -> ok end end),
    Worker = spawn(fun() ->
        Tagged = hornbeam_stream_owners:new(First),
        _ = opened_by(Owner, 1, hornbeam_worker_streams:new(Tagged)),
        hornbeam_eventually:dead(First),
        hornbeam_stream_owners:bequeath(Me, Tagged),
        Me ! opened,
        receive never -> ok end
    end),
    receive opened -> exit(Worker, kill) end,
    receive
        {'ETS-TRANSFER', Tagged, Worker, inherited} -> hornbeam_stream_owners:notify_down(Tagged)
    end,
    ?assertEqual([{worker_down, 1}], messages_of_tagged()).

a_client_is_made_when_it_is_asked_for(_Config) ->
    Opened = opened_by_tagged(),
    Made = hornbeam_worker_streams:with_client(1, Opened),
    {requested, _, Client} = hornbeam_worker_streams:client(1, Made),
    ?assertEqual(Made, hornbeam_worker_streams:with_client(1, Made)),
    Monitor = erlang:monitor(process, Client),
    Responding = said([start], Made),
    ?assert(is_process_alive(Client)),
    {_, Settled} = hornbeam_worker_streams:close_complete(said([last_part], Responding)),
    receive {'DOWN', Monitor, process, _, normal} -> ok end,
    ?assertEqual(gone, hornbeam_worker_streams:client(1, Settled)),
    ?assertEqual(Settled, hornbeam_worker_streams:with_client(1, Settled)).

a_tagged_owner_is_listed_and_known_before_the_app_says_anything(_Config) ->
    Streams = opened_by_tagged(),
    ?assertEqual([tagged()], hornbeam_worker_streams:owners(http, Streams)),
    ?assertEqual([], hornbeam_worker_streams:owners(websocket, Streams)),
    ?assert(hornbeam_worker_streams:is_known(1, Streams)),
    Begun = said([start], Streams),
    ?assertEqual([tagged()], hornbeam_worker_streams:owners(http, Begun)),
    {ok, Ended} = ended(said([last_part], Begun)),
    ?assertEqual([], hornbeam_worker_streams:owners(http, Ended)),
    ?assert(hornbeam_worker_streams:is_known(1, Ended)),
    ?assertEqual({error, stream_is_over}, say(credit, Ended)),
    Dead = hornbeam_worker_streams:tagged_owners(Ended),
    hornbeam_stream_owners:notify_down(Dead),
    ?assertNot(hornbeam_stream_owners:enter(2, http, tagged(), hornbeam_stream_credit:new(), Dead)).

the_app_hears_of_a_process_that_died_without_a_word(_Config) ->
    {Pid, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Pid, normal} -> ok end,
    Silent = opened_by({Pid, a_tag}, 1, opened_by(tagged(), 2, hornbeam_worker_streams:new())),
    {[{1, http}], Told} = hornbeam_worker_streams:process_down(Pid, Silent),
    ?assertEqual({[], Told}, hornbeam_worker_streams:process_down(Pid, Told)),
    ?assertEqual([tagged()], hornbeam_worker_streams:owners(http, Told)),
    %% Once the app has said something, a monitor tells it.
    Said = said([start], opened_by({Pid, a_tag}, 1, hornbeam_worker_streams:new())),
    ?assertEqual({[], Said}, hornbeam_worker_streams:process_down(Pid, Said)),
    Ref = receive {{'DOWN', 1}, Down, process, Pid, noproc} -> Down end,
    ?assertMatch({disconnect, http, _}, hornbeam_worker_streams:owner_down(1, Ref, Said)).

tagged() -> {self(), a_tag}.

opened_by_tagged() ->
    opened_by_tagged(http).

opened_by_tagged(Kind) ->
    opened_by(tagged(), 1, Kind, hornbeam_worker_streams:new()).

opened_by(Owner, Number, Streams) ->
    opened_by(Owner, Number, http, Streams).

opened_by(Owner, Number, Kind, Streams) ->
    Tagged = hornbeam_worker_streams:tagged_owners(Streams),
    true = hornbeam_stream_owners:enter(Number, Kind, Owner, hornbeam_stream_credit:new(), Tagged),
    Streams.

messages_of_tagged() ->
    Owner = tagged(),
    receive
        {Owner, Message} -> [Message | messages_of_tagged()]
    after 0 ->
        []
    end.

received_by_tagged() ->
    [begin
         {ok, Message} = hornbeam_packet:decode(Packet),
         element(1, Message)
     end || {stream, 1, Packet} <- messages_of_tagged()].

gone(Kind) ->
    hornbeam_worker_streams:closed(1, opened(Kind)).

opened() ->
    opened(websocket).

opened(Kind) ->
    hornbeam_worker_streams:open(Kind, 1, self(), hornbeam_worker_streams:new()).

said(Names, Streams) ->
    lists:foldl(fun(Name, Before) -> {ok, After} = say(Name, Before), After end, Streams, Names).

say(Name, Streams) ->
    hornbeam_worker_streams:deliver(1, code(plain(Name)), packet(Name), Streams).

answered(Streams) ->
    hornbeam_worker_streams:answered(1, packet(response), Streams).

ended(Streams) ->
    hornbeam_worker_streams:ended(1, packet(ended), Streams).

%% Some messages with more words for them.
plain(Name) when Name =:= start; Name =:= whole -> response_start;
plain(Name) when Name =:= events; Name =:= gzipped_events -> event_stream;
plain(Name) when Name =:= part; Name =:= last_part -> response_body;
plain(Name) -> Name.

packet(Name) ->
    packed([code(plain(Name)), 1 | fields(Name)]).

fields(accept) -> [undefined, []];
fields(send_text) -> [hornbeam_msgpack:bytes(<<"text">>)];
fields(send_bytes) -> fields(send_text);
fields(close) -> [1000, hornbeam_msgpack:bytes(<<>>)];
fields(credit) -> [1, 1];
fields(flushed) -> [];
fields(start) -> [200, [], hornbeam_msgpack:bytes(<<>>), true];
fields(whole) -> [200, [], hornbeam_msgpack:bytes(<<>>), false];
fields(response) -> [200, [], hornbeam_msgpack:bytes(<<>>)];
fields(events) -> [200, [], true];
fields(gzipped_events) -> [200, [], false];
fields(part) -> [hornbeam_msgpack:bytes(<<"part">>), true];
fields(last_part) -> [hornbeam_msgpack:bytes(<<"part">>), false];
fields(ended) -> [undefined, <<>>, <<>>].

packed(Message) -> iolist_to_binary(hornbeam_msgpack:encode(Message)).

code(Name) ->
    hornbeam_wire_files:code(Name).

received(Number) ->
    receive
        {stream, Number, Packet} ->
            {ok, Message} = hornbeam_packet:decode(Packet),
            [element(1, Message) | received(Number)]
    after 0 ->
        []
    end.
