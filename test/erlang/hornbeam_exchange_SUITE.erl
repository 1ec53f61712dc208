%% An HTTP exchange: what becomes of a request, whatever the app says and whoever ends.
%%
%% The worker is real, on a puppet that says what the test tells it; the test is the engine.
-module(hornbeam_exchange_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("hornbeam/src/web/requests/hornbeam_request.hrl").

-compile(export_all).

-define(OWNER, {self(), 1}).

all() ->
    [a_whole_response_ends_it, a_response_in_parts_ends_with_its_last,
     a_response_without_a_body_is_all_there_at_its_head, the_body_goes_on_as_the_app_asks_for_it,
     little_is_read_ahead_of_the_app, a_client_is_asked_for_the_body_when_the_app_wants_it,
     who_has_sent_some_of_the_body_is_not_asked, the_app_gets_credit_for_what_has_left,
     an_app_that_says_nothing_is_500, an_app_that_breaks_off_is_broken_off,
     an_app_that_is_late_is_504, a_body_that_comes_is_no_lateness, a_dead_worker_is_502,
     a_worker_that_dies_in_a_response_breaks_it_off, at_the_stop_who_has_no_answer_gets_503,
     who_waits_for_a_place_gets_503_at_the_stop_and_waits_no_longer,
     a_small_body_is_there_before_a_thread_is_asked_for, the_begin_of_a_large_body_takes_a_place,
     who_waits_to_be_asked_for_a_body_takes_a_place, a_body_that_does_not_come_is_408,
     of_too_many_bodies_that_do_not_come_one_more_is_503,
     at_the_stop_who_sends_a_body_gets_503, a_status_that_is_none_is_500,
     what_is_over_says_nothing_more,
     an_event_stream_begins_at_once_and_ends_with_its_last_part,
     an_event_stream_for_nobody_is_its_head,
     an_event_source_whose_worker_dies_is_told_to_come_back,
     those_of_a_worker_that_dies_are_told_to_come_back_each_at_its_time,
     what_is_no_event_source_is_broken_off_with_its_worker,
     an_event_source_is_sent_away_and_others_end_by_themselves,
     nothing_is_added_to_an_event_that_is_not_whole,
     what_is_forwarded_before_the_head_comes_behind_it,
     what_is_forwarded_to_another_response_is_dropped,
     what_is_forwarded_goes_between_events,
     what_was_forwarded_is_acknowledged_when_it_has_left,
     a_client_that_is_too_slow_is_told_to_come_back,
     what_is_said_in_an_event_stream_is_told_to_who_looks,
     an_event_stream_tells_what_it_is_until_its_end, an_event_stream_may_last].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

init_per_testcase(_Case, Config) ->
    Puppet = hornbeam_puppet:start(#{worker_connections => 1}),
    ok = hornbeam_pool_row:dispatch(<<"/">>, self(), hornbeam_pool_row:new_waiting()),
    ok = hornbeam_pool_row:publish(<<"/">>, [hornbeam_puppet:handle(Puppet)], []),
    [{puppet, Puppet} | Config].

end_per_testcase(_Case, Config) ->
    Puppet = puppet(Config),
    _ = [hornbeam_puppet:stop(Puppet) || is_process_alive(hornbeam_puppet:worker(Puppet))],
    hornbeam_pool_row:erase(<<"/">>).

a_whole_response_ends_it(Config) ->
    {Number, Asked} = asked({<<"abc">>, false}, #{}, Config),
    {Actions, Over} = says([start(Number, 200, <<"body">>, false)], 1, Asked, Config),
    ?assertEqual([{respond, 200, [{<<"a">>, <<"b">>}], <<"body">>}], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)),
    ok = hornbeam_exchange:cancel(Over).

a_response_in_parts_ends_with_its_last(Config) ->
    {Number, Asked} = asked(#{}, Config),
    {Begun, Responding} = says([start(Number, 200, <<"a">>, true)], 1, Asked, Config),
    ?assertEqual([{start, 200, [{<<"a">>, <<"b">>}], <<"a">>}], Begun),
    ?assertNot(hornbeam_exchange:is_ended(Responding)),
    {Parts, Over} = says([part(Number, <<"b">>, true), part(Number, <<>>, false)], 2, Responding,
                         Config),
    ?assertEqual([{part, <<"b">>}, {last, <<>>}], Parts),
    ?assert(hornbeam_exchange:is_ended(Over)).

a_response_without_a_body_is_all_there_at_its_head(Config) ->
    {Number, Asked} = asked(#{}, Config),
    {Actions, Over} = says([start(Number, 204, <<>>, true)], 1, Asked, Config),
    ?assertEqual([{respond, 204, [{<<"a">>, <<"b">>}], <<>>}], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)),
    ?assertEqual([Number, undefined, <<>>], hornbeam_puppet:next(disconnect, puppet(Config))).

the_body_goes_on_as_the_app_asks_for_it(Config) ->
    {Number, Asked} = asked({<<"a">>, true}, #{}, Config),
    {[], Some} = hornbeam_exchange:add_body(<<"b">>, true, Asked),
    {[], More} = hornbeam_exchange:add_body(<<"c">>, true, Some),
    ?assertEqual(2, hornbeam_exchange:buffered(More)),
    {[], Given} = says([[credit, Number, 10, 0]], 1, More, Config),
    ?assertEqual([Number, <<"bc">>, true], hornbeam_puppet:next(request_body, puppet(Config))),
    ?assertEqual(0, hornbeam_exchange:buffered(Given)),
    {[], Last} = hornbeam_exchange:add_body([<<"d">>, "e"], false, Given),
    ?assertEqual([Number, <<"de">>, false], hornbeam_puppet:next(request_body, puppet(Config))),
    ok = hornbeam_exchange:cancel(Last).

little_is_read_ahead_of_the_app(Config) ->
    {_Number, Asked} = asked({<<>>, true}, #{}, Config),
    ?assert(hornbeam_exchange:wants_body(Asked)),
    {[], Some} = hornbeam_exchange:add_body(binary:copy(<<"x">>, 65535), true, Asked),
    ?assert(hornbeam_exchange:wants_body(Some)),
    {[], Full} = hornbeam_exchange:add_body(<<"x">>, true, Some),
    ?assertNot(hornbeam_exchange:wants_body(Full)),
    ok = hornbeam_exchange:cancel(Full).

a_client_is_asked_for_the_body_when_the_app_wants_it(Config) ->
    {Number, Asked} = asked({<<>>, true}, #{expect => true}, Config),
    ?assert(hornbeam_exchange:awaits_answer(Asked)),
    {Actions, Given} = says([[credit, Number, 10, 0]], 1, Asked, Config),
    ?assertEqual([continue], Actions),
    ?assertNot(hornbeam_exchange:awaits_answer(Given)),
    {Again, Over} = says([[credit, Number, 10, 0]], 1, Given, Config),
    ?assertEqual([], Again),
    ok = hornbeam_exchange:cancel(Over).

who_has_sent_some_of_the_body_is_not_asked(Config) ->
    {Number, Asked} = asked({<<"a">>, true}, #{expect => true}, Config),
    ?assertNot(hornbeam_exchange:awaits_answer(Asked)),
    {Actions, Given} = says([[credit, Number, 10, 0]], 1, Asked, Config),
    ?assertEqual([], Actions),
    ok = hornbeam_exchange:cancel(Given).

the_app_gets_credit_for_what_has_left(Config) ->
    {Bytes, _} = hornbeam_stream:window(),
    {Number, Asked} = asked(#{}, Config),
    {_, Responding} = says([start(Number, 200, <<>>, true)], 1, Asked, Config),
    ?assertNot(hornbeam_exchange:is_due(Responding)),
    Much = binary:copy(<<"x">>, Bytes - 1),
    {[{part, Much}], Sent} = says([part(Number, Much, true)], 1, Responding, Config),
    ?assert(hornbeam_exchange:is_due(Sent)),
    {[], Repaid} = hornbeam_exchange:all_left(Sent),
    ?assertNot(hornbeam_exchange:is_due(Repaid)),
    [Number, Credit, 2] = hornbeam_puppet:next(credit, puppet(Config)),
    ?assertEqual(Bytes - 1, Credit),
    ok = hornbeam_exchange:cancel(Repaid).

an_app_that_says_nothing_is_500(Config) ->
    {Number, Asked} = asked(#{}, Config),
    {Actions, Over} = says([ended(Number)], 1, Asked, Config),
    ?assertMatch([{respond, 500, _, _}], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)).

an_app_that_breaks_off_is_broken_off(Config) ->
    {Number, Asked} = asked(#{}, Config),
    {Actions, Over} = says([start(Number, 200, <<>>, true), ended(Number)], 2, Asked, Config),
    ?assertMatch([{start, 200, _, _}, break], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)).

an_app_that_is_late_is_504(Config) ->
    {Number, Asked} = asked(#{timeout => 1000}, Config),
    Deadline = hornbeam_exchange:deadline(Asked),
    {[], Asked} = hornbeam_exchange:handle_timeout(Deadline - 1, Asked),
    {Actions, Over} = hornbeam_exchange:handle_timeout(Deadline, Asked),
    ?assertMatch([{respond, 504, _, _}], Actions),
    ?assertEqual(infinity, hornbeam_exchange:deadline(Over)),
    ?assertEqual([Number, undefined, <<>>], hornbeam_puppet:next(disconnect, puppet(Config))).

a_body_that_comes_is_no_lateness(Config) ->
    {Number, Asked} = asked({<<>>, true}, #{timeout => 1000}, Config),
    {[], Given} = says([[credit, Number, 10, 0]], 1, Asked, Config),
    Before = hornbeam_exchange:deadline(Given),
    hornbeam_eventually:holds(fun() -> erlang:monotonic_time(millisecond) > Before - 1000 end),
    {[], Fed} = hornbeam_exchange:add_body(<<"a">>, true, Given),
    ?assert(hornbeam_exchange:deadline(Fed) > Before),
    ok = hornbeam_exchange:cancel(Fed).

a_dead_worker_is_502(Config) ->
    {_Number, Asked} = asked(#{}, Config),
    {Actions, Over} = worker_dies(Asked, Config),
    ?assertMatch([{respond, 502, _, _}], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)).

a_worker_that_dies_in_a_response_breaks_it_off(Config) ->
    {Number, Asked} = asked(#{}, Config),
    {_, Responding} = says([start(Number, 200, <<>>, true)], 1, Asked, Config),
    {Actions, Over} = worker_dies(Responding, Config),
    ?assertEqual([break], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)).

at_the_stop_who_has_no_answer_gets_503(Config) ->
    {Number, Asked} = asked(#{}, Config),
    {Actions, Over} = hornbeam_exchange:handle_info(going_away, Asked),
    ?assertMatch([{respond, 503, _, _}], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)),
    ?assertEqual([Number, undefined, <<>>], hornbeam_puppet:next(disconnect, puppet(Config))).

who_waits_for_a_place_gets_503_at_the_stop_and_waits_no_longer(Config) ->
    {ok, _} = hornbeam_capacity:reserve(hornbeam_puppet:handle(puppet(Config))),
    {[], Waiting} = hornbeam_exchange:new(?OWNER, request(#{}), {<<"abc">>, true},
                                          (mount(#{}))#{waits := apart}),
    {ok, Waiter, _} = receive {'$gen_cast', {wait, Line}} -> hornbeam_pool_waiting:find(Line) end,
    Ref = erlang:monitor(process, Waiter),
    %% What comes of the body meanwhile waits, too.
    {[], More} = hornbeam_exchange:add_body(<<"d">>, true, Waiting),
    ?assertEqual(4, hornbeam_exchange:buffered(More)),
    {Actions, Over} = hornbeam_exchange:handle_info(going_away, More),
    ?assertMatch([{respond, 503, _, _}], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)),
    receive {'DOWN', Ref, process, Waiter, _} -> ok end.

%% Each place of a WSGI app is a thread.
a_small_body_is_there_before_a_thread_is_asked_for(Config) ->
    {[], Some} = hornbeam_exchange:add_body(<<"b">>, true, gathering(<<"a">>, #{})),
    ?assert(hornbeam_exchange:wants_body(Some)),
    ?assertEqual(0, hornbeam_capacity:load(hornbeam_puppet:handle(puppet(Config)))),
    {[], Asked} = hornbeam_exchange:add_body(<<"c">>, false, Some),
    ?assertMatch([_, _, <<"abc">>, false], hornbeam_puppet:next(open_http, puppet(Config))),
    ok = hornbeam_exchange:cancel(Asked).

the_begin_of_a_large_body_takes_a_place(Config) ->
    Begin = binary:copy(<<"x">>, 65534),
    {[], Asked} = hornbeam_exchange:add_body(<<"y">>, true, gathering(Begin, #{})),
    ?assertMatch([_, _, <<Begin:65534/binary, "y">>, true],
                 hornbeam_puppet:next(open_http, puppet(Config))),
    ok = hornbeam_exchange:cancel(Asked).

who_waits_to_be_asked_for_a_body_takes_a_place(Config) ->
    {_Number, Asked} = asked({<<>>, true}, #{expect => true, worker_class => wsgi}, Config),
    ok = hornbeam_exchange:cancel(Asked).

a_body_that_does_not_come_is_408(Config) ->
    Gathering = gathering(<<"a">>, #{timeout => 1000}),
    Deadline = hornbeam_exchange:deadline(Gathering),
    {[], Gathering} = hornbeam_exchange:handle_timeout(Deadline - 1, Gathering),
    {Actions, Over} = hornbeam_exchange:handle_timeout(Deadline, Gathering),
    ?assertMatch([{respond, 408, _, _}], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)),
    ?assertEqual(0, hornbeam_capacity:load(hornbeam_puppet:handle(puppet(Config)))).

of_too_many_bodies_that_do_not_come_one_more_is_503(_Config) ->
    Gathering = gathering(<<"a">>, #{queue_max => 1}),
    Another = fun() ->
        hornbeam_exchange:new({self(), 2}, request(#{}), {<<"a">>, true},
                              mount(#{queue_max => 1, worker_class => wsgi}))
    end,
    {Actions, Over} = Another(),
    ?assertMatch([{respond, 503, _, _}], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)),
    ok = hornbeam_exchange:cancel(Gathering),
    {[], Next} = Another(),
    ok = hornbeam_exchange:cancel(Next).

at_the_stop_who_sends_a_body_gets_503(_Config) ->
    {Actions, Over} = hornbeam_exchange:handle_info(going_away, gathering(<<"a">>, #{})),
    ?assertMatch([{respond, 503, _, _}], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)).

gathering(Body, Options) ->
    {[], Gathering} = hornbeam_exchange:new(?OWNER, request(#{}), {Body, true},
                                            mount(Options#{worker_class => wsgi})),
    Gathering.

a_status_that_is_none_is_500(Config) ->
    {Number, Asked} = asked(#{}, Config),
    {Actions, _} = says([start(Number, 600, <<>>, true)], 1, Asked, Config),
    ?assertMatch([{respond, 500, _, _}], Actions).

what_is_over_says_nothing_more(Config) ->
    {Number, Asked} = asked(#{timeout => 1000}, Config),
    {_, Over} = says([start(Number, 200, <<>>, false)], 1, Asked, Config),
    [?assertEqual({Message, {[], Over}}, {Message, hornbeam_exchange:handle_info(Message, Over)})
     || Message <- [going_away, {worker_down, Number}, {stream, Number, <<>>}, stray]],
    ?assertEqual({[], Over}, hornbeam_exchange:fail(500, Over)),
    ?assertEqual({[], Over}, hornbeam_exchange:handle_timeout(1 bsl 60, Over)),
    ok = hornbeam_exchange:cancel(Over).

%% Event streams.

an_event_stream_begins_at_once_and_ends_with_its_last_part(Config) ->
    {Number, Asked} = asked(#{}, Config),
    {Begun, Streaming} = says([events(Number, 200)], 2, Asked, Config),
    ?assertEqual([{start, 200, [{<<"a">>, <<"b">>}], <<>>}], Begun),
    ?assert(hornbeam_exchange:is_event_stream(Streaming)),
    {Parts, Over} = says([part(Number, <<"data: 1\n\n">>, true), part(Number, <<>>, false)], 2,
                         Streaming, Config),
    ?assertEqual([{part, <<"data: 1\n\n">>}, {last, <<>>}], Parts),
    ?assert(hornbeam_exchange:is_ended(Over)),
    ?assertEqual([], hornbeam_connection_registry:owners()).

what_is_forwarded_before_the_head_comes_behind_it(Config) ->
    Outbox = hornbeam_outbox:new(self(), {10, 1000}),
    [begin
         {Number, Asked} = asked(event_source(), Config),
         Early = lists:foldl(fun(Event, Before) ->
             {[], After} = hornbeam_exchange:handle_info({forward, Outbox, Event}, Before),
             After
         end, Asked, [<<"data: 1\n\n">>, <<"data: 2\n\n">>]),
         {Actions, Begun} = says([setelement_last(Forwardable, events(Number, 200))], 2, Early,
                                 Config),
         ?assertEqual({Forwardable, Expected}, {Forwardable, tl(Actions)}),
         ok = hornbeam_exchange:cancel(Begun),
         given_up(Number, Config)
     end || {Forwardable, Expected} <- [{true, [{part, <<"data: 1\n\n">>},
                                                {part, <<"data: 2\n\n">>}]}, {false, []}]].

setelement_last(Value, List) -> lists:droplast(List) ++ [Value].

what_is_forwarded_to_another_response_is_dropped(Config) ->
    Outbox = hornbeam_outbox:new(self(), {10, 1000}),
    {Number, Asked} = asked(event_source(), Config),
    {[], Early} = hornbeam_exchange:handle_info({forward, Outbox, <<"data: 1\n\n">>}, Asked),
    {Actions, Responding} = says([start(Number, 200, <<"a">>, true)], 1, Early, Config),
    ?assertMatch([{start, 200, _, <<"a">>}], Actions),
    ?assertMatch({[], _}, hornbeam_exchange:handle_info({forward, Outbox, <<"x">>}, Responding)),
    ok = hornbeam_exchange:cancel(Responding).

what_is_forwarded_goes_between_events(Config) ->
    Outbox = hornbeam_outbox:new(self(), {10, 1000}),
    {Number, Streaming} = streaming(event_source(), Config),
    Forward = fun(Event, Before) ->
        hornbeam_exchange:handle_info({forward, Outbox, Event}, Before)
    end,
    {[{part, <<"data: 0\n\n">>}], First} = Forward(<<"data: 0\n\n">>, Streaming),
    {_, Torn} = says([part(Number, <<"data: a\n">>, true)], 1, First, Config),
    {[], Held} = Forward(<<"data: 1\n\n">>, Torn),
    {[], Held2} = Forward(<<"data: 2\n\n">>, Held),
    {[{part, <<"data: b">>}], Still} = says([part(Number, <<"data: b">>, true)], 1, Held2, Config),
    {Parts, Between} = says([part(Number, <<"\r\n\r\ndata: c\n\ndata: d">>, true)], 1, Still,
                            Config),
    ?assertEqual([{part, <<"\r\n\r\n">>}, {part, <<"data: 1\n\n">>}, {part, <<"data: 2\n\n">>},
                  {part, <<"data: c\n\ndata: d">>}], Parts),
    {[], Waits} = Forward(<<"data: 3\n\n">>, Between),
    {Last, Over} = says([part(Number, <<"\n\n">>, false)], 1, Waits, Config),
    ?assertEqual([{part, <<"\n\n">>}, {last, <<"data: 3\n\n">>}], Last),
    ok = hornbeam_exchange:cancel(Over).

%% The outbox has room again when what it gave has left, and not while it waits for a place.
what_was_forwarded_is_acknowledged_when_it_has_left(Config) ->
    Outbox = hornbeam_outbox:new(self(), ?OWNER, {1000, 1000000}),
    {Number, Streaming} = streaming(event_source(), Config),
    {_, Torn} = says([part(Number, <<"data: a\n">>, true)], 1, Streaming, Config),
    [0 = hornbeam_outbox:push(Outbox, event(N), 9, drop_oldest) || N <- lists:seq(101, 400)],
    %% 64 of them, and that there are more.
    {[], Held} = says([], 65, Torn, Config),
    ?assertNot(hornbeam_exchange:is_due(Held)),
    {Released, Due} = says([part(Number, <<"\n">>, true)], 1, Held, Config),
    ?assertEqual([{part, event(N)} || N <- lists:seq(101, 164)], tl(Released)),
    {Fetched, Rest} = all_left(Due),
    ?assertEqual([{part, event(N)} || N <- lists:seq(165, 400)], Fetched),
    ?assertEqual(0, hornbeam_outbox:dropped(Outbox)),
    ok = hornbeam_exchange:cancel(Rest).

event(N) -> <<"data: ", (integer_to_binary(N))/binary, "\n\n">>.

all_left(Exchange) ->
    case hornbeam_exchange:is_due(Exchange) of
        true ->
            {Actions, Left} = hornbeam_exchange:all_left(Exchange),
            {More, Rest} = all_left(Left),
            {Actions ++ More, Rest};
        false ->
            {[], Exchange}
    end.

a_client_that_is_too_slow_is_told_to_come_back(Config) ->
    {_Number, Streaming} = streaming(event_source(), Config),
    Outbox = hornbeam_outbox:new(self(), ?OWNER, {1000, 1000000}),
    {Actions, Over} = hornbeam_exchange:handle_info({overflow, Outbox}, Streaming),
    ?assertEqual([{last, <<"retry: 1000\n\n">>}], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)).

an_event_stream_for_nobody_is_its_head(Config) ->
    [begin
         {Number, Asked} = asked(Options, Config),
         {Actions, Over} = says([events(Number, Status)], 2, Asked, Config),
         ?assertEqual(Expected, Actions),
         ?assert(hornbeam_exchange:is_ended(Over)),
         given_up(Number, Config)
     end || {Options, Status, Expected} <-
                [{#{method => <<"HEAD">>}, 200,
                  [{start, 200, [{<<"a">>, <<"b">>}], <<>>}, {last, <<>>}]},
                 {#{}, 204, [{respond, 204, [{<<"a">>, <<"b">>}], <<>>}]}]].

an_event_source_whose_worker_dies_is_told_to_come_back(Config) ->
    {_Number, Streaming} = streaming(event_source(), Config),
    {Actions, Over} = worker_dies(Streaming, Config),
    ?assertMatch([{last, <<"retry: ", _/binary>>}], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)).

those_of_a_worker_that_dies_are_told_to_come_back_each_at_its_time(_Config) ->
    Stream = hornbeam_event_stream:new(?OWNER, {request(event_source()), mount(event_source())}),
    Retries = [begin
        [<<"retry">>, Retry] = string:lexemes(hornbeam_event_stream:farewell(worker, Stream),
                                              ": \n"),
        binary_to_integer(Retry)
    end || _ <- lists:seq(1, 20)],
    ok = hornbeam_event_stream:closed(worker, 200, Stream),
    ?assert(length(lists:usort(Retries)) > 10),
    ?assert(lists:min(Retries) > 1000 andalso lists:max(Retries) =< 3000).

what_is_no_event_source_is_broken_off_with_its_worker(Config) ->
    {_Number, Streaming} = streaming((event_source())#{method => <<"POST">>}, Config),
    {Actions, Over} = worker_dies(Streaming, Config),
    ?assertEqual([break], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)),
    ?assertEqual([], hornbeam_connection_registry:owners()).

an_event_source_is_sent_away_and_others_end_by_themselves(Config) ->
    [begin
         {Number, Streaming} = streaming(Options, Config),
         {Actions, After} = hornbeam_exchange:handle_info(Message, Streaming),
         ?assertEqual({Options, Ended}, {Options, Actions}),
         ok = hornbeam_exchange:cancel(After),
         ?assertEqual([], hornbeam_connection_registry:owners()),
         given_up(Number, Config)
     end || {Options, Ended} <- [{event_source(), [{last, <<"retry: 1000\n\n">>}]},
                                 {#{}, []}, {(event_source())#{method => <<"POST">>}, []}],
            Message <- [going_away, {retiring, 1, reloaded}]].

nothing_is_added_to_an_event_that_is_not_whole(Config) ->
    {Number, Streaming} = streaming(event_source(), Config),
    {_, Torn} = says([part(Number, <<"data: 1\n">>, true)], 1, Streaming, Config),
    ?assertMatch({[{last, <<>>}], _}, hornbeam_exchange:handle_info(going_away, Torn)).

what_is_said_in_an_event_stream_is_told_to_who_looks(Config) ->
    {Number, Streaming} = streaming(event_source(), Config),
    Limits = #{ref => make_ref(), seconds => 60, messages => 9, bodies => 100,
               window => hornbeam_trace:window()},
    {[], Traced} = hornbeam_exchange:handle_info({trace, {self(), Limits}}, Streaming),
    {_, Said} = says([part(Number, <<"data: 1\n\n">>, true)], 1, Traced, Config),
    receive
        {trace, _, Note} ->
            ?assertMatch(#{direction := out, type := text, size := 9,
                           body := <<"data: 1\n\n">>}, Note)
    end,
    {[{last, <<"data: 2\n\n">>}], _} =
        says([part(Number, <<"data: 2\n\n">>, false)], 1, Said, Config),
    receive {trace, _, Last} -> ?assertMatch(#{body := <<"data: 2\n\n">>}, Last) end,
    receive {trace_ended, _, Why, 0} -> ?assertEqual({closed, ended}, Why) end.

an_event_stream_tells_what_it_is_until_its_end(Config) ->
    {Number, Streaming} = streaming(event_source(), Config),
    ?assertEqual([?OWNER], hornbeam_connection_registry:owners()),
    {_, Said} = says([part(Number, <<"data: 1\n\n">>, true)], 1, Streaming, Config),
    Ref = erlang:alias(),
    {[], Said} = hornbeam_exchange:handle_info({describe, {Ref, 7}}, Said),
    receive
        {answer, Ref, 7, #{client := Client} = Description} ->
            ?assertMatch(#{kind := event_stream, state := open, messages_out := 1, bytes_out := 9,
                           mount := <<"/">>, path := <<"/">>}, Description),
            ?assert(is_process_alive(Client))
    end,
    {[], Said} = hornbeam_exchange:handle_info({measure, {Ref, 7}, sent, any}, Said),
    receive {answer, Ref, 7, Sent} -> ?assertEqual(9, Sent) end,
    {Actions, _Over} = hornbeam_exchange:handle_info({kick, 1000, <<>>}, Said),
    ?assertMatch([{last, _}], Actions),
    ?assertEqual([], hornbeam_connection_registry:owners()).

an_event_stream_may_last(Config) ->
    {_Number, Streaming} = streaming((event_source())#{timeout => 1000}, Config),
    ?assertEqual(infinity, hornbeam_exchange:deadline(Streaming)),
    ok = hornbeam_exchange:cancel(Streaming).

event_source() -> #{accept => <<"Text/Event-Stream">>}.

streaming(Options, Config) ->
    {Number, Asked} = asked(Options, Config),
    {_, Streaming} = says([events(Number, 200)], 2, Asked, Config),
    {Number, Streaming}.

%% The app hears of it and ends, and another one may be asked.
given_up(Number, Config) ->
    ?assertEqual([Number, undefined, <<>>], hornbeam_puppet:next(disconnect, puppet(Config))),
    hornbeam_puppet:say_packets([ended(Number)], puppet(Config)),
    Handle = hornbeam_puppet:handle(puppet(Config)),
    hornbeam_eventually:holds(fun() -> hornbeam_capacity:load(Handle) =:= 0 end).

%% The engine.

asked(Options, Config) ->
    asked({<<>>, false}, Options, Config).

asked({Body, More}, Options, Config) ->
    {[], Asked} = hornbeam_exchange:new(?OWNER, request(Options), {Body, More}, mount(Options)),
    [Number, _Scope, Body, More] = hornbeam_puppet:next(open_http, puppet(Config)),
    {Number, Asked}.

request(Options) ->
    Expect = [{<<"expect">>, <<"100-Continue">>} || maps:get(expect, Options, false)],
    Accept = [{<<"accept">>, Value} || #{accept := Value} <- [Options]],
    Request = hornbeam_requests:new([{<<"host">>, <<"a">>} | Expect ++ Accept]),
    Request#request{method = maps:get(method, Options, <<"GET">>), socket = listening()}.

%% Any socket that can be asked.
listening() ->
    {ok, Socket} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ranch_tcp, Socket}.

mount(Options) ->
    {ok, Checked} = hornbeam_config:check("app:application",
                                          maps:without([expect, accept, method], Options)),
    #{mounts := [Mount]} = hornbeam_mounts:new(Checked),
    Mount.

%% What comes of it that the app says something, of which so many messages come.
says(Packets, Count, Exchange, Config) ->
    hornbeam_puppet:say_packets(Packets, puppet(Config)),
    lists:foldl(fun(_, {Actions, Before}) ->
        {More, After} = hornbeam_exchange:handle_info(heard(), Before),
        {Actions ++ More, After}
    end, {[], Exchange}, lists:seq(1, Count)).

heard() ->
    Owner = ?OWNER,
    receive
        {Owner, Message} -> Message
    after 10000 ->
        error(nothing_heard)
    end.

%% The test is the pool, too: it inherits the owners of the streams of a worker that was killed.
worker_dies(Exchange, Config) ->
    Worker = hornbeam_puppet:worker(puppet(Config)),
    hornbeam_eventually:dead(Worker),
    receive
        {'ETS-TRANSFER', Table, Worker, inherited} -> hornbeam_stream_owners:notify_down(Table)
    end,
    hornbeam_exchange:handle_info(heard(), Exchange).

events(Number, Status) ->
    [event_stream, Number, Status, [[hornbeam_msgpack:bytes(Part) || Part <- [<<"a">>, <<"b">>]]],
     true].

start(Number, Status, Body, More) ->
    Field = [hornbeam_msgpack:bytes(Part) || Part <- [<<"a">>, <<"b">>]],
    [response_start, Number, Status, [Field], hornbeam_msgpack:bytes(Body), More].

part(Number, Body, More) ->
    [response_body, Number, hornbeam_msgpack:bytes(Body), More].

ended(Number) ->
    [ended, Number, undefined, <<>>, <<>>].

puppet(Config) -> proplists:get_value(puppet, Config).
