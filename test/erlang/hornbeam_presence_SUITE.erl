%% Who is present on one node: what is listed, what those who watch are told, and whose it is.
-module(hornbeam_presence_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    who_tracks_is_listed_under_its_key/1,
    a_key_of_two_is_listed_with_both_and_counted_once/1,
    tracking_again_is_tracking_once/1,
    an_update_has_another_ref_and_says_the_one_before/1,
    who_is_not_present_cannot_be_updated/1,
    who_is_untracked_is_present_no_more/1,
    the_dead_are_not_present/1,
    a_dead_process_cannot_be_tracked/1,
    topics_are_apart/1,
    a_meta_is_a_map_that_json_has_a_form_for/1,
    a_name_that_is_no_text_is_refused/1,
    a_meta_of_the_app_cannot_hide_the_ref/1,
    who_watches_is_told_who_came_and_who_left/1,
    an_update_is_a_leave_of_the_ref_before_and_a_join/1,
    churn_is_told_in_few_messages_that_end_in_what_is/1,
    every_ref_that_was_listed_leaves_in_a_message/1,
    who_does_not_watch_any_more_is_not_told/1,
    crowds_are_told_in_pieces/1,
    all_goes_on_after_a_crash_and_who_watches_is_told_what_is/1,
    who_died_while_the_server_was_away_is_gone/1,
    tables_are_made_to_agree_after_a_crash_between_two_steps/1,
    a_connection_may_be_present_so_often_and_not_once_more/1,
    bytes_of_metas_count/1,
    what_is_listed_does_not_wait_for_the_server/1
]).

all() ->
    [Name || {Name, 1} <- module_info(exports), Name =/= module_info, Name =/= init_per_suite,
             Name =/= end_per_suite].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

init_per_testcase(Name, Config) ->
    [{topic, atom_to_binary(Name)} | Config].

end_per_testcase(_Name, _Config) ->
    hornbeam_quota:set_limits(hornbeam_config:defaults(server)).

%%% What is listed

who_tracks_is_listed_under_its_key(Config) ->
    Topic = topic(Config),
    ?assertEqual(#{}, hornbeam_presence:list(Topic)),
    {ok, Ref} = hornbeam_presence:track(Topic, <<"ada">>, #{<<"age">> => 36}),
    ?assertEqual(
        #{<<"ada">> => #{<<"metas">> => [#{<<"age">> => 36, <<"phx_ref">> => Ref}]}},
        hornbeam_presence:list(Topic)),
    ?assertEqual(1, hornbeam_presence:count(Topic)).

a_key_of_two_is_listed_with_both_and_counted_once(Config) ->
    Topic = topic(Config),
    {_, _} = present(Topic, <<"ada">>, #{<<"on">> => <<"phone">>}),
    {Desk, _} = present(Topic, <<"ada">>, #{<<"on">> => <<"desk">>}),
    {_, _} = present(Topic, <<"bob">>, #{}),
    #{<<"ada">> := #{<<"metas">> := Metas}} = hornbeam_presence:list(Topic),
    ?assertEqual([<<"phone">>, <<"desk">>], [On || #{<<"on">> := On} <- Metas]),
    ?assertEqual(2, hornbeam_presence:count(Topic)),
    hornbeam_eventually:dead(Desk),
    hornbeam_eventually:holds(fun() -> metas(Topic, <<"ada">>) =:= [hd(Metas)] end),
    ?assertEqual(2, hornbeam_presence:count(Topic)).

tracking_again_is_tracking_once(Config) ->
    Topic = topic(Config),
    {ok, Ref} = hornbeam_presence:track(Topic, ada, #{a => 1}),
    ?assertEqual({ok, Ref}, hornbeam_presence:track(Topic, ada, #{a => 1})),
    {ok, Other} = hornbeam_presence:track(Topic, ada, #{a => 2}),
    ?assertNotEqual(Ref, Other),
    ?assertMatch([#{<<"a">> := 2, <<"phx_ref">> := Other, <<"phx_ref_prev">> := Ref}],
                 metas(Topic, <<"ada">>)).

an_update_has_another_ref_and_says_the_one_before(Config) ->
    Topic = topic(Config),
    {ok, First} = hornbeam_presence:track(Topic, ada, #{a => 1}),
    {ok, Second} = hornbeam_presence:update(Topic, ada, #{a => 2}),
    {ok, Third} = hornbeam_presence:update(Topic, ada, #{b => 3}),
    ?assertEqual(3, length(lists:usort([First, Second, Third]))),
    ?assertEqual([#{<<"b">> => 3, <<"phx_ref">> => Third, <<"phx_ref_prev">> => Second}],
                 metas(Topic, <<"ada">>)).

who_is_not_present_cannot_be_updated(Config) ->
    Topic = topic(Config),
    {_, _} = present(Topic, <<"ada">>, #{}),
    ?assertEqual({error, not_present}, hornbeam_presence:update(Topic, ada, #{a => 1})).

who_is_untracked_is_present_no_more(Config) ->
    Topic = topic(Config),
    {ok, _} = hornbeam_presence:track(Topic, ada, #{}),
    {ok, _} = hornbeam_presence:track(Topic, bob, #{}),
    ?assert(hornbeam_presence:untrack(Topic, ada)),
    ?assertNot(hornbeam_presence:untrack(Topic, ada)),
    ?assertEqual([<<"bob">>], keys(Topic)),
    ?assert(hornbeam_presence:untrack(Topic, bob)),
    ?assertEqual(0, hornbeam_presence:count(Topic)).

the_dead_are_not_present(Config) ->
    Topic = topic(Config),
    Pids = [element(1, present(Topic, integer_to_binary(N), #{})) || N <- lists:seq(1, 20)],
    ?assertEqual(20, hornbeam_presence:count(Topic)),
    lists:foreach(fun hornbeam_eventually:dead/1, Pids),
    hornbeam_eventually:holds(fun() -> hornbeam_presence:count(Topic) =:= 0 end),
    ?assertEqual(#{}, hornbeam_presence:list(Topic)).

a_dead_process_cannot_be_tracked(Config) ->
    Topic = topic(Config),
    Pid = spawn(fun() -> ok end),
    hornbeam_eventually:dead(Pid),
    ?assertEqual({error, closed},
                 hornbeam_presence_server:track(limited, Pid, Topic, <<"ada">>, <<16#80>>)),
    ?assertEqual(0, hornbeam_presence:count(Topic)).

topics_are_apart(Config) ->
    Topic = topic(Config),
    {ok, _} = hornbeam_presence:track(<<Topic/binary, "1">>, ada, #{}),
    {ok, _} = hornbeam_presence:track(<<Topic/binary, "2">>, bob, #{}),
    ?assertEqual([], keys(Topic)),
    ?assertEqual([<<"bob">>], keys(<<Topic/binary, "2">>)).

a_meta_is_a_map_that_json_has_a_form_for(Config) ->
    Topic = topic(Config),
    ?assertError(bad_meta, hornbeam_presence:track(Topic, ada, [1])),
    ?assertError(bad_meta, hornbeam_presence:track(Topic, ada, <<"text">>)),
    ?assertError({bad_meta, [<<"at">>], _},
                 hornbeam_presence:track(Topic, ada, #{at => <<255>>})),
    [?assertError({bad_meta, [<<"at">>], _}, hornbeam_presence:track(Topic, ada, #{at => At}))
     || At <- [hornbeam_msgpack:bytes(<<"b">>), self()]],
    ?assertError({unencodable, [<<"at">>], [1 | 2]},
                 hornbeam_presence:track(Topic, ada, #{at => [1 | 2]})),
    ?assertError({bad_name, 1}, hornbeam_presence:track(Topic, 1, #{})),
    ?assertEqual(0, hornbeam_presence:count(Topic)).

%% Nobody could read who is present there.
a_name_that_is_no_text_is_refused(Config) ->
    Topic = topic(Config),
    {ok, _} = hornbeam_presence:track(Topic, <<"ada">>, #{}),
    [begin
         ?assertError({bad_name, <<16#ff>>}, hornbeam_presence:How(Topic, <<16#ff>>, #{})),
         ?assertError({bad_name, <<16#ff>>}, hornbeam_presence:How(<<16#ff>>, ada, #{}))
     end || How <- [track, update]],
    ?assertEqual([<<"ada">>], keys(Topic)).

a_meta_of_the_app_cannot_hide_the_ref(Config) ->
    Topic = topic(Config),
    [?assertError({reserved, <<"phx_ref">>}, hornbeam_presence:track(Topic, ada, Meta))
     || Meta <- [#{<<"phx_ref">> => <<"mine">>}, #{a => [#{}], phx_ref => 1}]],
    {ok, _} = hornbeam_presence:track(Topic, ada, #{a => [#{<<"phx_ref">> => <<"phx_ref">>}]}),
    ?assertMatch([#{<<"a">> := [#{<<"phx_ref">> := <<"phx_ref">>}]}], metas(Topic, <<"ada">>)).

%%% What those who watch are told

who_watches_is_told_who_came_and_who_left(Config) ->
    Topic = topic(Config),
    ok = hornbeam_presence:subscribe(Topic),
    {Ada, Ref} = present(Topic, <<"ada">>, #{<<"age">> => 36}),
    Meta = #{<<"age">> => 36, <<"phx_ref">> => Ref},
    ?assertEqual({#{<<"ada">> => #{<<"metas">> => [Meta]}}, #{}}, diff(Topic)),
    hornbeam_eventually:dead(Ada),
    ?assertEqual({#{}, #{<<"ada">> => #{<<"metas">> => [Meta]}}}, diff(Topic)).

an_update_is_a_leave_of_the_ref_before_and_a_join(Config) ->
    Topic = topic(Config),
    ok = hornbeam_presence:subscribe(Topic),
    {ok, First} = hornbeam_presence:track(Topic, ada, #{<<"n">> => 1}),
    {#{<<"ada">> := _}, _} = diff(Topic),
    {ok, Second} = hornbeam_presence:update(Topic, ada, #{<<"n">> => 2}),
    ?assertEqual(
        {#{<<"ada">> => #{<<"metas">> => [#{<<"n">> => 2, <<"phx_ref">> => Second,
                                           <<"phx_ref_prev">> => First}]}},
         #{<<"ada">> => #{<<"metas">> => [#{<<"n">> => 1, <<"phx_ref">> => First}]}}},
        diff(Topic)).

churn_is_told_in_few_messages_that_end_in_what_is(Config) ->
    Topic = topic(Config),
    ok = hornbeam_presence:subscribe(Topic),
    {ok, _} = hornbeam_presence:track(Topic, ada, #{n => 0}),
    [{ok, _} = hornbeam_presence:update(Topic, ada, #{n => N}) || N <- lists:seq(1, 2000)],
    View = follow(Topic, #{}, fun(Known) ->
        [maps:get(<<"n">>, Meta) || Meta <- maps:values(Known)] =:= [2000]
    end),
    ?assertEqual(refs(Topic), maps:keys(View)),
    ?assert(get(messages) < 200, get(messages)).

%% Whoever lists and then is told does as Phoenix's client does: it adds what joins and removes, by
%% its ref, what leaves.
every_ref_that_was_listed_leaves_in_a_message(Config) ->
    Topic = topic(Config),
    ok = hornbeam_presence:subscribe(Topic),
    Lister = self(),
    Worker = spawn_link(fun() ->
        [begin
            {ok, _} = hornbeam_presence:track(Topic, Key, #{n => N}),
            N rem 3 =:= 0 andalso hornbeam_presence:untrack(Topic, Key)
         end || N <- lists:seq(1, 3000), Key <- [integer_to_binary(N rem 7)]],
        {ok, _} = hornbeam_presence:track(Topic, <<"last">>, #{n => 0}),
        Lister ! done,
        receive stop -> ok end
    end),
    Listed = list_until_done(Topic, #{}),
    IsLast = fun(Known) -> lists:sort(maps:keys(Known)) =:= lists:sort(refs(Topic)) end,
    _ = follow(Topic, Listed, IsLast),
    Worker ! stop.

%% All that any of the lists had.
list_until_done(Topic, Known) ->
    receive done -> Known
    after 0 -> list_until_done(Topic, maps:merge(Known, known(hornbeam_presence:list(Topic))))
    end.

who_does_not_watch_any_more_is_not_told(Config) ->
    Topic = topic(Config),
    ok = hornbeam_presence:subscribe(Topic),
    ok = hornbeam_presence:unsubscribe(Topic),
    Other = <<Topic/binary, "2">>,
    ok = hornbeam_presence:subscribe(Other),
    {ok, _} = hornbeam_presence:track(Topic, ada, #{}),
    {ok, _} = hornbeam_presence:track(Other, bob, #{}),
    {#{<<"bob">> := _}, _} = diff(Other),
    ?assertEqual({messages, []}, process_info(self(), messages)).

crowds_are_told_in_pieces(Config) ->
    Topic = topic(Config),
    ok = hornbeam_presence:subscribe(Topic),
    Meta = #{about => binary:copy(<<"x">>, 1000)},
    Crowd = spawn_link(fun() ->
        [{ok, _} = hornbeam_presence:track(Topic, integer_to_binary(N), Meta)
         || N <- lists:seq(1, 500)],
        receive stop -> ok end
    end),
    Known = follow(Topic, #{}, fun(View) -> map_size(View) =:= 500 end),
    unlink(Crowd),
    hornbeam_eventually:dead(Crowd),
    _ = follow(Topic, Known, fun(View) -> View =:= #{} end),
    ?assert(get(largest) < 3 * 65536, get(largest)).

%%% Crashes

all_goes_on_after_a_crash_and_who_watches_is_told_what_is(Config) ->
    Topic = topic(Config),
    ok = hornbeam_presence:subscribe(Topic),
    {Ada, Ref} = present(Topic, <<"ada">>, #{}),
    {#{<<"ada">> := _}, _} = diff(Topic),
    hornbeam_eventually:dead(whereis(hornbeam_presence_server)),
    {Bob, _} = present(Topic, <<"bob">>, #{}),
    ?assertMatch(#{<<"ada">> := #{<<"metas">> := [#{<<"phx_ref">> := Ref}]}}, state(Topic)),
    hornbeam_eventually:dead(Ada),
    _ = follow(Topic, known(hornbeam_presence:list(Topic)), fun(View) ->
        [Key || #{key := Key} <- maps:values(View)] =:= [<<"bob">>]
    end),
    hornbeam_eventually:dead(Bob).

who_died_while_the_server_was_away_is_gone(Config) ->
    Topic = topic(Config),
    {Ada, _} = present(Topic, <<"ada">>, #{}),
    {ok, _} = hornbeam_presence:track(Topic, bob, #{}),
    Before = kind(presences),
    ok = supervisor:terminate_child(hornbeam_api_sup, hornbeam_presence_server),
    hornbeam_eventually:dead(Ada),
    {ok, _} = supervisor:restart_child(hornbeam_api_sup, hornbeam_presence_server),
    hornbeam_eventually:holds(fun() -> keys(Topic) =:= [<<"bob">>] end),
    ?assertEqual(1, hornbeam_presence:count(Topic)),
    ?assertEqual(element(2, Before) - 1, element(2, kind(presences))).

tables_are_made_to_agree_after_a_crash_between_two_steps(Config) ->
    Topic = topic(Config),
    {ok, _} = hornbeam_presence:track(Topic, ada, #{}),
    ok = supervisor:terminate_child(hornbeam_api_sup, hornbeam_presence_server),
    Id = {here, 1 bsl 59},
    true = ets:insert(hornbeam_presence_ids, {Id, Topic, <<"bob">>}),
    true = ets:insert(hornbeam_presences_owned, {{self(), Topic, <<"bob">>}, Id}),
    true = ets:insert(hornbeam_presence_topics, [{Topic, 5, 7}, {<<Topic/binary, "2">>, 1, 1}]),
    {ok, _} = supervisor:restart_child(hornbeam_api_sup, hornbeam_presence_server),
    ?assertEqual([1, 0], [hornbeam_presence:count(T) || T <- [Topic, <<Topic/binary, "2">>]]),
    ?assertNot(hornbeam_presence:untrack(Topic, bob)),
    ?assert(hornbeam_presence:untrack(Topic, ada)),
    ?assertEqual(0, hornbeam_presence:count(Topic)).

%%% Bounds

a_connection_may_be_present_so_often_and_not_once_more(Config) ->
    Topic = topic(Config),
    set_limits(#{connection_state_max_rows => 2}),
    Owner = owner(),
    Track = fun(Key) ->
        hornbeam_presence_server:track(limited, Owner, Topic, Key, <<16#80>>)
    end,
    [{ok, _}, {ok, _}] = [Track(Key) || Key <- [<<"1">>, <<"2">>]],
    ?assertEqual({error, {limit, connection_state_max_rows}}, Track(<<"3">>)),
    ?assertMatch({ok, _}, Track(<<"2">>)),
    ?assertEqual([<<"1">>, <<"2">>], keys(Topic)),
    true = hornbeam_presence_server:untrack(Owner, Topic, <<"1">>),
    ?assertMatch({ok, _}, Track(<<"3">>)),
    hornbeam_eventually:dead(Owner).

bytes_of_metas_count(Config) ->
    Topic = topic(Config),
    {Bytes, Rows} = kind(presences),
    {ok, _} = hornbeam_presence:track(Topic, ada, #{a => binary:copy(<<"x">>, 5000)}),
    {More, OneMore} = kind(presences),
    ?assert(More - Bytes > 5000),
    ?assertEqual(1, OneMore - Rows),
    set_limits(#{state_max_bytes => maps:get(bytes, hornbeam_quota:info()) + 1000}),
    Long = #{a => binary:copy(<<"x">>, 10000)},
    ?assertEqual({error, {limit, state_max_bytes}}, hornbeam_presence:update(Topic, ada, Long)),
    ?assertEqual({error, {limit, state_max_bytes}}, hornbeam_presence:track(Topic, bob, Long)),
    ?assertEqual({More, OneMore}, kind(presences)),
    true = hornbeam_presence:untrack(Topic, ada),
    ?assertEqual({Bytes, Rows}, kind(presences)).

what_is_listed_does_not_wait_for_the_server(Config) ->
    Topic = topic(Config),
    {ok, _} = hornbeam_presence:track(Topic, ada, #{}),
    ok = sys:suspend(hornbeam_presence_server),
    ?assertEqual({[<<"ada">>], 1}, {keys(Topic), hornbeam_presence:count(Topic)}),
    ok = sys:resume(hornbeam_presence_server).

%%% Helpers

topic(Config) -> proplists:get_value(topic, Config).

%% A process that is present until it ends, and its ref.
present(Topic, Key, Meta) ->
    Caller = self(),
    Pid = spawn(fun() ->
        Caller ! {self(), hornbeam_presence:track(Topic, Key, Meta)},
        receive stop -> ok end
    end),
    receive {Pid, {ok, Ref}} -> {Pid, Ref} after 10000 -> error(not_tracked) end.

owner() ->
    spawn(fun() -> receive stop -> ok end end).

keys(Topic) -> lists:sort(maps:keys(hornbeam_presence:list(Topic))).

metas(Topic, Key) ->
    #{Key := #{<<"metas">> := Metas}} = hornbeam_presence:list(Topic),
    Metas.

refs(Topic) -> maps:keys(known(hornbeam_presence:list(Topic))).

%% Metas by their refs.
known(List) ->
    maps:from_list([{Ref, Meta#{key => Key}}
                    || {Key, #{<<"metas">> := Metas}} <- maps:to_list(List),
                       #{<<"phx_ref">> := Ref} = Meta <- Metas]).

message(Topic) ->
    Name = <<"hornbeam:presence:", Topic/binary>>,
    receive
        {hornbeam_pubsub, Name, #{<<"topic">> := Topic, <<"event">> := Event,
                                  <<"payload">> := Payload}} -> {Event, Payload}
    after 10000 -> error({nothing_told, process_info(self(), messages)})
    end.

diff(Topic) ->
    {<<"presence_diff">>, #{<<"joins">> := Joins, <<"leaves">> := Leaves}} = message(Topic),
    {Joins, Leaves}.

%% Past the changes that were told before.
state(Topic) ->
    case message(Topic) of
        {<<"presence_state">>, State} -> State;
        {<<"presence_diff">>, _} -> state(Topic)
    end.

%% What somebody knows who is told until it is so; how many messages that takes, and the largest.
follow(Topic, Known, IsSo) ->
    put(messages, 0),
    put(largest, 0),
    follow_on(Topic, Known, IsSo).

follow_on(Topic, Known, IsSo) ->
    case IsSo(Known) of
        true -> Known;
        false -> follow_on(Topic, applied(message(Topic), Known), IsSo)
    end.

applied({<<"presence_state">>, State}, _Known) ->
    known(State);
applied({<<"presence_diff">>, #{<<"joins">> := Joins, <<"leaves">> := Leaves} = Diff}, Known) ->
    put(messages, get(messages) + 1),
    put(largest, max(get(largest), erlang:external_size(Diff))),
    maps:without(maps:keys(known(Leaves)), maps:merge(Known, known(Joins))).

set_limits(Limits) ->
    hornbeam_quota:set_limits(maps:merge(hornbeam_config:defaults(server), Limits)).

kind(Kind) ->
    #{kinds := #{Kind := #{bytes := Bytes, rows := Rows}}} = hornbeam_quota:info(),
    {Bytes, Rows}.
