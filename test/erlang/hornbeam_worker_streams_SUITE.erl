%% Who owns which stream: opening, moving, losing and ending one.
-module(hornbeam_worker_streams_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [frames_reach_the_owner, frames_wait_while_a_stream_moves,
     an_end_while_moving_is_seen_after_the_bind, the_death_of_an_owner_is_told_once,
     a_stream_that_is_over_is_silent, a_stream_that_never_was_is_an_error,
     owners_are_listed_by_kind, a_client_is_known_from_the_open_to_the_end].

frames_reach_the_owner(_Config) ->
    {ok, _} = hornbeam_worker_streams:deliver(1, <<"a">>, opened()),
    ?assertEqual([<<"a">>], received(1)).

frames_wait_while_a_stream_moves(_Config) ->
    Moving = hornbeam_worker_streams:hand_over(1, self(), opened()),
    {ok, One} = hornbeam_worker_streams:deliver(1, <<"a">>, Moving),
    {ok, Two} = hornbeam_worker_streams:deliver(1, <<"b">>, One),
    ?assertEqual([], received(1)),
    Two = hornbeam_worker_streams:bind(1, whereis(init), Two),
    Bound = hornbeam_worker_streams:bind(1, self(), Two),
    {ok, _} = hornbeam_worker_streams:deliver(1, <<"c">>, Bound),
    ?assertEqual([<<"a">>, <<"b">>, <<"c">>], received(1)).

an_end_while_moving_is_seen_after_the_bind(_Config) ->
    Moving = hornbeam_worker_streams:hand_over(1, self(), opened()),
    {ended, Ended} = hornbeam_worker_streams:ended(1, <<"end">>, Moving),
    Bound = hornbeam_worker_streams:bind(1, self(), Ended),
    ?assertEqual([<<"end">>], received(1)),
    ?assertEqual([], hornbeam_worker_streams:owners(websocket, Bound)).

the_death_of_an_owner_is_told_once(_Config) ->
    {Owner, _} = spawn_monitor(fun() -> ok end),
    Streams0 = hornbeam_worker_streams:open(http, 1, Owner, hornbeam_worker_streams:new()),
    Ref = receive {{'DOWN', 1}, R, process, Owner, _} -> R after 5000 -> error(no_down) end,
    {gone, http, Streams1} = hornbeam_worker_streams:owner_down(1, Ref, Streams0),
    ?assertMatch({known, _}, hornbeam_worker_streams:owner_down(1, Ref, Streams1)),
    ?assertMatch({ended, _}, hornbeam_worker_streams:ended(1, <<"end">>, Streams1)).

a_stream_that_is_over_is_silent(_Config) ->
    {ended, Streams} = hornbeam_worker_streams:ended(1, <<"end">>, opened()),
    ?assertEqual([<<"end">>], received(1)),
    {ok, Streams} = hornbeam_worker_streams:deliver(1, <<"late">>, Streams),
    {over, Streams} = hornbeam_worker_streams:ended(1, <<"again">>, Streams),
    ?assertEqual([], received(1)).

a_stream_that_never_was_is_an_error(_Config) ->
    Streams = opened(),
    ?assertEqual({error, {no_such_stream, 2}},
                 hornbeam_worker_streams:deliver(2, <<"a">>, Streams)),
    ?assertEqual({error, {no_such_stream, 2}},
                 hornbeam_worker_streams:ended(2, <<"a">>, Streams)).

a_client_is_known_from_the_open_to_the_end(_Config) ->
    Client = whereis(init),
    ClientOf = fun(Streams) -> hornbeam_worker_streams:client(1, Streams) end,
    New = hornbeam_worker_streams:new(),
    ?assertEqual(gone, ClientOf(New)),
    Asked = hornbeam_worker_streams:open(websocket, 1, self(), Client, New),
    ?assertEqual({asked, websocket, Client}, ClientOf(Asked)),
    Moving = hornbeam_worker_streams:hand_over(1, self(), Asked),
    ?assertEqual({asked, websocket, Client}, ClientOf(Moving)),
    Open = hornbeam_worker_streams:bind(1, self(), Moving),
    ?assertEqual({open, websocket, Client}, ClientOf(Open)),
    ?assertEqual(gone, ClientOf(hornbeam_worker_streams:closed(1, Open))),
    {ended, Ended} = hornbeam_worker_streams:ended(1, <<"end">>, Open),
    ?assertEqual([<<"end">>], received(1)),
    ?assertEqual(gone, ClientOf(Ended)),
    Http = hornbeam_worker_streams:open(http, 1, self(), New),
    ?assertEqual({asked, http, self()}, ClientOf(Http)).

owners_are_listed_by_kind(_Config) ->
    Both = hornbeam_worker_streams:open(http, 2, self(), opened()),
    ?assertEqual([self()], hornbeam_worker_streams:owners(websocket, Both)),
    ?assertEqual([self()], hornbeam_worker_streams:owners(http, Both)),
    Closed = hornbeam_worker_streams:closed(1, Both),
    ?assertEqual([], hornbeam_worker_streams:owners(websocket, Closed)).

opened() ->
    hornbeam_worker_streams:open(websocket, 1, self(), hornbeam_worker_streams:new()).

received(Number) ->
    receive
        {stream, Number, Frame} -> [Frame | received(Number)]
    after 0 ->
        []
    end.
