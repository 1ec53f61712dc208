%% Channels that anybody may read, and the groups that they are in: what waits, who gets it, and
%% what is left after a crash.
-module(hornbeam_channels_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    messages_come_in_the_order_in_which_they_were_put/1,
    a_message_is_sent_only_to_who_waits_for_one/1,
    what_is_put_back_waits_at_its_turn_whichever_comes_first/1,
    what_is_put_back_twice_is_there_once/1,
    what_is_put_back_while_the_server_is_away_is_there/1,
    who_waits_no_longer_gets_nothing/1,
    a_full_channel_takes_no_more_until_one_is_read/1,
    what_is_put_back_has_room_in_a_full_channel/1,
    what_nobody_reads_in_time_expires_and_is_counted/1,
    what_has_expired_takes_no_room_and_is_counted/1,
    what_has_expired_is_not_sent_and_is_counted/1,
    who_reads_is_told_how_long_a_message_is_worth_something/1,
    the_quota_is_released_however_a_message_goes/1,
    past_the_quota_nothing_is_put/1,
    two_readers_share/1,
    a_reader_whose_address_nobody_hears_loses_nothing/1,
    a_reader_that_cannot_be_reached_is_tried_once_at_a_time/1,
    a_dead_reader_wants_nothing/1,
    a_crash_keeps_messages_and_counts_them/1,
    a_crash_keeps_who_waits/1,
    who_dies_while_the_server_is_away_wants_nothing/1,
    a_crash_keeps_the_members_of_groups/1,
    a_group_puts_into_its_channels_until_they_leave/1,
    a_member_is_one_until_its_time_is_over/1,
    what_a_full_member_does_not_take_is_lost_and_counted/1,
    what_channels_of_a_process_have_lost_is_counted/1,
    a_channel_of_a_process_is_full_until_it_says_otherwise/1,
    a_channel_of_a_process_is_full_no_longer_than_it_said/1,
    what_begins_with_a_prefix_is_cleared_and_nothing_else/1
]).

all() ->
    [messages_come_in_the_order_in_which_they_were_put,
     a_message_is_sent_only_to_who_waits_for_one,
     what_is_put_back_waits_at_its_turn_whichever_comes_first,
     what_is_put_back_twice_is_there_once,
     what_is_put_back_while_the_server_is_away_is_there,
     who_waits_no_longer_gets_nothing,
     a_full_channel_takes_no_more_until_one_is_read,
     what_is_put_back_has_room_in_a_full_channel,
     what_nobody_reads_in_time_expires_and_is_counted,
     what_has_expired_takes_no_room_and_is_counted,
     what_has_expired_is_not_sent_and_is_counted,
     who_reads_is_told_how_long_a_message_is_worth_something,
     the_quota_is_released_however_a_message_goes,
     past_the_quota_nothing_is_put,
     two_readers_share,
     a_reader_whose_address_nobody_hears_loses_nothing,
     a_reader_that_cannot_be_reached_is_tried_once_at_a_time,
     a_dead_reader_wants_nothing,
     a_crash_keeps_messages_and_counts_them,
     a_crash_keeps_who_waits,
     who_dies_while_the_server_is_away_wants_nothing,
     a_crash_keeps_the_members_of_groups,
     a_group_puts_into_its_channels_until_they_leave,
     a_member_is_one_until_its_time_is_over,
     what_a_full_member_does_not_take_is_lost_and_counted,
     what_channels_of_a_process_have_lost_is_counted,
     a_channel_of_a_process_is_full_until_it_says_otherwise,
     a_channel_of_a_process_is_full_no_longer_than_it_said,
     what_begins_with_a_prefix_is_cleared_and_nothing_else].

%% Longer than any test takes (ms).
-define(LONG, 600000).

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

init_per_testcase(Name, Config) ->
    [{channel, atom_to_binary(Name)} | Config].

end_per_testcase(_Name, _Config) ->
    ok = hornbeam_channels:clear(<<>>),
    ?assertEqual({0, 0}, kept()).

%%% Messages

messages_come_in_the_order_in_which_they_were_put(Config) ->
    Channel = channel(Config),
    [ok = add(Channel, N) || N <- lists:seq(1, 5)],
    ?assertEqual(lists:seq(1, 5), read(Channel, 5)).

a_message_is_sent_only_to_who_waits_for_one(Config) ->
    Channel = channel(Config),
    hear(Channel),
    ok = want(Channel),
    [ok = add(Channel, N) || N <- [1, 2]],
    ?assertEqual(1, received()),
    ?assertEqual(1, length_of(Channel)),
    ?assertEqual([2], read(Channel, 1)),
    ?assertEqual(nothing, received_already()).

what_is_put_back_waits_at_its_turn_whichever_comes_first(Config) ->
    Channel = channel(Config),
    [ok = add(Channel, N) || N <- [1, 2, 3, 4]],
    [{_, 1}, {_, 2}, {_, 3}] = Read = read_turns(Channel, 3),
    [put_back(Channel, Message) || Message <- tl(Read) ++ [hd(Read)]],
    ?assertEqual([1, 2, 3, 4], read(Channel, 4)).

what_is_put_back_twice_is_there_once(Config) ->
    Channel = channel(Config),
    ok = add(Channel, 1),
    [Message] = read_turns(Channel, 1),
    [put_back(Channel, Message) || _ <- [1, 2]],
    ?assertEqual({1, [1]}, {length_of(Channel), read(Channel, 1)}).

what_is_put_back_while_the_server_is_away_is_there(Config) ->
    Channel = channel(Config),
    ok = add(Channel, 1),
    [Message] = read_turns(Channel, 1),
    Server = whereis(hornbeam_channels),
    ok = sys:suspend(hornbeam_api_sup),
    hornbeam_eventually:dead(Server),
    {Putter, Ref} = spawn_monitor(fun() -> put_back(Channel, Message) end),
    hornbeam_eventually:holds(fun() ->
        process_info(Putter, current_function) =:= {current_function, {hornbeam_retry, until, 3}}
    end),
    ok = sys:resume(hornbeam_api_sup),
    receive {'DOWN', Ref, process, Putter, Reason} -> ?assertEqual(normal, Reason) end,
    ?assertEqual([1], read(Channel, 1)).

who_waits_no_longer_gets_nothing(Config) ->
    Channel = channel(Config),
    hear(Channel),
    ok = want(Channel),
    ok = hornbeam_channels:want(Channel, self(), Channel, one_less),
    ok = hornbeam_channels:want(Channel, self(), Channel, one_less),
    ok = add(Channel, 1),
    ?assertEqual({nothing, 1}, {received_already(), length_of(Channel)}),
    ?assertEqual([1], read(Channel, 1)).

a_full_channel_takes_no_more_until_one_is_read(Config) ->
    Channel = channel(Config),
    ?assertEqual([ok, ok, full, full], [add(Channel, N, ?LONG, 2) || N <- [1, 2, 3, 4]]),
    ?assertEqual([1], read(Channel, 1)),
    ?assertEqual([ok, full], [add(Channel, N, ?LONG, 2) || N <- [5, 6]]),
    ?assertEqual([2, 5], read(Channel, 2)).

what_is_put_back_has_room_in_a_full_channel(Config) ->
    Channel = channel(Config),
    ok = add(Channel, 1, ?LONG, 1),
    [{_, 1} = Message] = read_turns(Channel, 1),
    ok = add(Channel, 2, ?LONG, 1),
    put_back(Channel, Message),
    ?assertEqual(full, add(Channel, 3, ?LONG, 1)),
    ?assertEqual([1, 2], read(Channel, 2)).

what_nobody_reads_in_time_expires_and_is_counted(Config) ->
    Channel = channel(Config),
    Before = losses(expired),
    [ok = add(Channel, N, 1, 10) || N <- [1, 2]],
    ok = add(Channel, 3),
    hornbeam_eventually:holds(fun() -> losses(expired) =:= Before + 2 end),
    ?assertEqual([3], read(Channel, 1)).

what_has_expired_takes_no_room_and_is_counted(Config) ->
    Channel = channel(Config),
    Before = losses(expired),
    add_expired(Channel, 1),
    ?assertEqual(ok, add(Channel, 2, ?LONG, 1)),
    ?assertEqual(Before + 1, losses(expired)),
    ?assertEqual([2], read(Channel, 1)).

what_has_expired_is_not_sent_and_is_counted(Config) ->
    Channel = channel(Config),
    Before = losses(expired),
    add_expired(Channel, 1),
    hear(Channel),
    ok = want(Channel),
    ?assertEqual(nothing, received_already()),
    ?assertEqual(Before + 1, losses(expired)),
    ok = add(Channel, 2),
    ?assertEqual(2, received()).

who_reads_is_told_how_long_a_message_is_worth_something(Config) ->
    Channel = channel(Config),
    hear(Channel),
    ok = add(Channel, 1, ?LONG, 1),
    ok = want(Channel),
    receive
        {hornbeam_pubsub, Channel, [<<"queued">>, Channel, _Turn, Left, 1]} ->
            ?assert(Left > 0 andalso Left =< ?LONG)
    after 5000 ->
        error(nothing)
    end.

%%% What is kept

the_quota_is_released_however_a_message_goes(Config) ->
    Channel = channel(Config),
    [ok = add(Channel, N) || N <- [1, 2]],
    ?assertMatch({Bytes, 2} when Bytes > 0, kept()),
    [1] = read(Channel, 1),
    ?assertMatch({_, 1}, kept()),
    ok = hornbeam_channels:clear(Channel),
    ?assertEqual({0, 0}, kept()),
    ok = add(Channel, 3, 1, 1),
    hornbeam_eventually:holds(fun() -> kept() =:= {0, 0} end).

past_the_quota_nothing_is_put(Config) ->
    Channel = channel(Config),
    Limits = maps:get(limits, hornbeam_quota:info()),
    #{rows := Rows} = hornbeam_quota:info(),
    ok = hornbeam_quota:set_limits(Limits#{state_max_rows => Rows + 1}),
    ?assertEqual([ok, {error, {limit, state_max_rows}}], [add(Channel, N) || N <- [1, 2]]),
    ok = hornbeam_quota:set_limits(Limits),
    ?assertEqual({ok, [1]}, {add(Channel, 3), read(Channel, 1)}).

%%% Readers

two_readers_share(Config) ->
    Channel = channel(Config),
    Readers = [reader(Channel, 50) || _ <- [1, 2]],
    [ok = add(Channel, N) || N <- lists:seq(1, 100)],
    hornbeam_eventually:holds(fun() -> [length(got(R)) || R <- Readers] =:= [50, 50] end),
    ?assertEqual(lists:seq(1, 100), lists:sort(lists:append([got(R) || R <- Readers]))),
    ?assertEqual([true, true], [lists:sort(got(R)) =:= got(R) || R <- Readers]).

a_reader_whose_address_nobody_hears_loses_nothing(Config) ->
    Channel = channel(Config),
    ok = want(Channel),
    ok = want(Channel),
    [ok = add(Channel, N) || N <- [1, 2, 3]],
    ?assertEqual(3, length_of(Channel)),
    hear(Channel),
    ?assertEqual([1, 2], [received() || _ <- [1, 2]]),
    ?assertEqual([3], read(Channel, 1)).

%% The first looks have all come before a timer of as much time and more, which starts after them.
a_reader_that_cannot_be_reached_is_tried_once_at_a_time(Config) ->
    Channel = channel(Config),
    ok = want(Channel),
    [ok = add(Channel, N) || N <- lists:seq(1, 20)],
    Server = whereis(hornbeam_channels),
    ok = sys:suspend(Server),
    _ = erlang:send_after(300, self(), all_have_come),
    receive all_have_come -> ok end,
    {messages, Messages} = process_info(Server, messages),
    ok = sys:resume(Server),
    ?assertEqual([{look, Channel}], [Look || {look, _} = Look <- Messages]).

a_dead_reader_wants_nothing(Config) ->
    Channel = channel(Config),
    Reader = reader(Channel, 3),
    Other = reader(Channel, 2),
    hornbeam_eventually:dead(Reader),
    hornbeam_eventually:holds(fun() -> wants(Channel) =:= [2] end),
    [ok = add(Channel, N) || N <- [1, 2, 3]],
    hornbeam_eventually:holds(fun() -> got(Other) =:= [1, 2] end),
    ?assertEqual({1, []}, {length_of(Channel), wants(Channel)}).

%%% A crash

a_crash_keeps_messages_and_counts_them(Config) ->
    Channel = channel(Config),
    [ok = add(Channel, N) || N <- [1, 2, 3]],
    Kept = kept(),
    ok = hornbeam_quota:reserve_by_force(channels, 7, 7),
    crash(),
    ?assertEqual(Kept, kept()),
    ?assertEqual(full, add(Channel, 4, ?LONG, 3)),
    ?assertEqual([1, 2, 3], read(Channel, 3)).

a_crash_keeps_who_waits(Config) ->
    Channel = channel(Config),
    Reader = reader(Channel, 2),
    crash(),
    [ok = add(Channel, N) || N <- [1, 2, 3]],
    hornbeam_eventually:holds(fun() -> got(Reader) =:= [1, 2] end),
    ?assertEqual([3], read(Channel, 1)),
    Other = reader(Channel, 1),
    hornbeam_eventually:dead(Other),
    hornbeam_eventually:holds(fun() -> wants(Channel) =:= [] end).

who_dies_while_the_server_is_away_wants_nothing(Config) ->
    Channel = channel(Config),
    Reader = reader(Channel, 1),
    ok = sys:suspend(hornbeam_channels),
    hornbeam_eventually:dead(Reader),
    ?assertEqual([1], wants(Channel)),
    crash(),
    hornbeam_eventually:holds(fun() -> wants(Channel) =:= [] end).

a_crash_keeps_the_members_of_groups(Config) ->
    Channel = channel(Config),
    Group = <<Channel/binary, " group">>,
    ok = hornbeam_channels:join(Group, Channel, ?LONG, ?LONG, 10),
    crash(),
    ?assertEqual(1, hornbeam:publish(Group, 1)),
    ?assertEqual([1], read(Channel, 1)),
    ok = hornbeam_channels:leave(Group, Channel),
    ?assertEqual(0, hornbeam:publish(Group, 2)).

%%% Groups

a_group_puts_into_its_channels_until_they_leave(Config) ->
    Channel = channel(Config),
    Group = <<Channel/binary, " group">>,
    Other = <<Channel/binary, " other">>,
    [ok = hornbeam_channels:join(Group, C, ?LONG, ?LONG, 10) || C <- [Channel, Other, Other]],
    ?assertEqual(1, hornbeam:publish(Group, 1)),
    ok = hornbeam_channels:leave(Group, Channel),
    ?assertEqual(1, hornbeam:publish(Group, 2)),
    ok = hornbeam_channels:leave(Group, Other),
    ok = hornbeam_channels:leave(Group, Other),
    ?assertEqual(0, hornbeam:publish(Group, 3)),
    ?assertEqual({[1], [1, 2]}, {read(Channel, 1), read(Other, 2)}),
    ?assertEqual({0, 0}, kept()).

a_member_is_one_until_its_time_is_over(Config) ->
    Channel = channel(Config),
    Group = <<Channel/binary, " group">>,
    ok = hornbeam_channels:join(Group, Channel, 1, ?LONG, 10),
    hornbeam_eventually:holds(fun() -> hornbeam:publish(Group, 1) =:= 0 end),
    ok = hornbeam_channels:join(Group, Channel, ?LONG, ?LONG, 10),
    ?assertEqual(1, hornbeam:publish(Group, 2)),
    hornbeam_eventually:holds(fun() ->
        length_of(Channel) > 0 andalso lists:last(read_all(Channel)) =:= 2
    end).

what_a_full_member_does_not_take_is_lost_and_counted(Config) ->
    Channel = channel(Config),
    Group = <<Channel/binary, " group">>,
    Wide = <<Channel/binary, " wide">>,
    Before = losses(full),
    ok = hornbeam_channels:join(Group, Channel, ?LONG, ?LONG, 2),
    ok = hornbeam_channels:join(Group, Wide, ?LONG, ?LONG, 10),
    [1 = hornbeam:publish(Group, N) || N <- lists:seq(1, 5)],
    ?assertEqual(lists:seq(1, 5), read(Wide, 5)),
    ?assertEqual([1, 2], read(Channel, 2)),
    ?assertEqual(Before + 3, losses(full)).

what_channels_of_a_process_have_lost_is_counted(_Config) ->
    [begin
         Before = losses(Why),
         ok = hornbeam_channels:count_losses(Why, 0),
         ok = hornbeam_channels:count_losses(Why, 3),
         ?assertEqual(Before + 3, losses(Why))
     end || Why <- [full, expired]].

%%% Channels of one process

a_channel_of_a_process_is_full_until_it_says_otherwise(Config) ->
    Channel = channel(Config),
    ?assertEqual({ok, true}, hornbeam_channels:send(Channel, Channel, packed(1))),
    hear(Channel),
    ok = hornbeam_channels:set_full(Channel, true, ?LONG),
    ?assertEqual({ok, false}, hornbeam_channels:send(Channel, Channel, packed(2))),
    ok = hornbeam_channels:set_full(Channel, false, ?LONG),
    ?assertEqual({ok, true}, hornbeam_channels:send(Channel, Channel, packed(3))),
    ?assertEqual(3, receive {hornbeam_pubsub, Channel, Term} -> Term end).

a_channel_of_a_process_is_full_no_longer_than_it_said(Config) ->
    Channel = channel(Config),
    ok = hornbeam_channels:set_full(Channel, true, 1),
    hornbeam_eventually:holds(fun() ->
        hornbeam_channels:send(Channel, Channel, packed(1)) =:= {ok, true}
    end),
    hornbeam_eventually:holds(fun() -> not ets:member(hornbeam_full_channels, Channel) end).

%%% Clear

what_begins_with_a_prefix_is_cleared_and_nothing_else(Config) ->
    Prefix = channel(Config),
    [{Mine, Group}, {Yours, Others}] = [{<<P/binary, ":channel">>, <<P/binary, ":group">>}
                                        || P <- [Prefix, <<"other ", Prefix/binary>>]],
    [begin
         ok = add(Channel, 1),
         ok = hornbeam_channels:set_full(Channel, true, ?LONG),
         ok = hornbeam_channels:join(G, Channel, ?LONG, ?LONG, 10)
     end || {Channel, G} <- [{Mine, Group}, {Yours, Others}]],
    ok = hornbeam_channels:clear(Prefix),
    ?assertEqual({0, 1}, {length_of(Mine), length_of(Yours)}),
    ?assertEqual({0, 1}, {hornbeam:publish(Group, 2), hornbeam:publish(Others, 2)}),
    ?assertEqual([{ok, true}, {ok, false}],
                 [hornbeam_channels:send(C, C, packed(3)) || C <- [Mine, Yours]]),
    ?assertEqual([1, 2], read(Yours, 2)).

%%% What the tests do

channel(Config) -> proplists:get_value(channel, Config).

add(Channel, Term) ->
    add(Channel, Term, ?LONG, 1000).

add(Channel, Term, Ttl, Capacity) ->
    hornbeam_channels:put(Channel, packed(Term), Ttl, Capacity).

%% One that is past its time. The sweep may have come already.
add_expired(Channel, Term) ->
    ok = add(Channel, Term, 1, 1),
    Put = erlang:monotonic_time(millisecond),
    hornbeam_eventually:holds(fun() -> erlang:monotonic_time(millisecond) > Put + 1 end).

put_back(Channel, {Turn, Term}) ->
    ok = hornbeam_channels:put_back(Channel, Turn, packed(Term), ?LONG).

packed(Term) ->
    hornbeam_value:from_packed(iolist_to_binary(hornbeam_msgpack:encode(Term))).

%% The address of this process is named as the channel.
hear(Channel) ->
    ok = hornbeam:subscribe(Channel).

want(Channel) ->
    hornbeam_channels:want(Channel, self(), Channel, one_more).

read(Channel, Count) ->
    [Term || {_Turn, Term} <- read_turns(Channel, Count)].

read_turns(Channel, Count) ->
    hear(Channel),
    [begin ok = want(Channel), received_turn() end || _ <- lists:seq(1, Count)].

read_all(Channel) ->
    [_ | _] = read(Channel, length_of(Channel)).

received() ->
    {_Turn, Term} = received_turn(),
    Term.

received_turn() ->
    receive
        {hornbeam_pubsub, _Address, [<<"queued">>, _Channel, Turn, _Left, Term]} -> {Turn, Term}
    after 5000 ->
        error(nothing)
    end.

%% The server has done all that it was asked for before.
received_already() ->
    ok = hornbeam_channels:leave(<<"no group">>, <<"no channel">>),
    receive
        {hornbeam_pubsub, _Address, [<<"queued">>, _Channel, _Turn, _Left, Term]} -> Term
    after 0 ->
        nothing
    end.

length_of(Channel) ->
    length(ets:match(hornbeam_channel_messages, {{Channel, '_'}, '_', '_', '_'})).

wants(Channel) ->
    [Wanted || [Wanted] <- ets:match(hornbeam_channel_wants, {{Channel, '_'}, '$1', '_'})].

kept() ->
    #{kinds := #{channels := #{bytes := Bytes, rows := Rows}}} = hornbeam_quota:info(),
    {Bytes, Rows}.

losses(Why) ->
    maps:get(Why, hornbeam_channels:losses(), 0).

crash() ->
    Server = whereis(hornbeam_channels),
    hornbeam_eventually:dead(Server),
    hornbeam_eventually:holds(fun() ->
        New = whereis(hornbeam_channels),
        is_pid(New) andalso New =/= Server
    end),
    ok = hornbeam_channels:leave(<<"no group">>, <<"no channel">>).

%% A process that waits for so many messages and keeps them.
reader(Channel, Count) ->
    Caller = self(),
    Tag = make_ref(),
    Reader = spawn(fun() ->
        Address = iolist_to_binary([Channel, pid_to_list(self())]),
        hear(Address),
        [ok = hornbeam_channels:want(Channel, self(), Address, one_more)
         || _ <- lists:seq(1, Count)],
        Caller ! Tag,
        keep([])
    end),
    receive Tag -> Reader after 5000 -> error(not_waiting) end.

keep(Terms) ->
    receive
        {hornbeam_pubsub, _Address, [<<"queued">>, _Channel, _Turn, _Left, Term]} ->
            keep([Term | Terms]);
        {got, From, Tag} ->
            From ! {Tag, lists:reverse(Terms)},
            keep(Terms)
    end.

got(Reader) ->
    Tag = make_ref(),
    Reader ! {got, self(), Tag},
    receive {Tag, Terms} -> Terms after 5000 -> error(no_answer) end.
