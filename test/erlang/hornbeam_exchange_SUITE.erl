%% An HTTP exchange: what becomes of a request, whatever the app says and whoever ends.
%%
%% The worker is real, on a puppet that says what the test tells it; the test is the engine.
-module(hornbeam_exchange_SUITE).

-include_lib("stdlib/include/assert.hrl").

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
     a_status_that_is_none_is_500, what_is_over_says_nothing_more].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

init_per_testcase(_Case, Config) ->
    Puppet = hornbeam_puppet:start(#{worker_connections => 1}),
    ok = hornbeam_pool_row:dispatch(<<"/">>, self(), atomics:new(1, [])),
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
    Some = hornbeam_exchange:add_body(<<"b">>, true, Asked),
    More = hornbeam_exchange:add_body(<<"c">>, true, Some),
    ?assertEqual(2, hornbeam_exchange:buffered(More)),
    {[], Given} = says([[credit, Number, 10, 0]], 1, More, Config),
    ?assertEqual([Number, <<"bc">>, true], hornbeam_puppet:next(request_body, puppet(Config))),
    ?assertEqual(0, hornbeam_exchange:buffered(Given)),
    Last = hornbeam_exchange:add_body([<<"d">>, "e"], false, Given),
    ?assertEqual([Number, <<"de">>, false], hornbeam_puppet:next(request_body, puppet(Config))),
    ok = hornbeam_exchange:cancel(Last).

little_is_read_ahead_of_the_app(Config) ->
    {_Number, Asked} = asked({<<>>, true}, #{}, Config),
    ?assert(hornbeam_exchange:wants_body(Asked)),
    Some = hornbeam_exchange:add_body(binary:copy(<<"x">>, 65535), true, Asked),
    ?assert(hornbeam_exchange:wants_body(Some)),
    Full = hornbeam_exchange:add_body(<<"x">>, true, Some),
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
    ?assertNot(hornbeam_exchange:is_credit_due(Responding)),
    Much = binary:copy(<<"x">>, Bytes - 1),
    {[{part, Much}], Sent} = says([part(Number, Much, true)], 1, Responding, Config),
    ?assert(hornbeam_exchange:is_credit_due(Sent)),
    Repaid = hornbeam_exchange:return_credit(Sent),
    ?assertNot(hornbeam_exchange:is_credit_due(Repaid)),
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
    Fed = hornbeam_exchange:add_body(<<"a">>, true, Given),
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
    More = hornbeam_exchange:add_body(<<"d">>, true, Waiting),
    ?assertEqual(4, hornbeam_exchange:buffered(More)),
    {Actions, Over} = hornbeam_exchange:handle_info(going_away, More),
    ?assertMatch([{respond, 503, _, _}], Actions),
    ?assert(hornbeam_exchange:is_ended(Over)),
    receive {'DOWN', Ref, process, Waiter, _} -> ok end.

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

%% The engine.

asked(Options, Config) ->
    asked({<<>>, false}, Options, Config).

asked({Body, More}, Options, Config) ->
    {[], Asked} = hornbeam_exchange:new(?OWNER, request(Options), {Body, More}, mount(Options)),
    [Number, _Scope, Body, More] = hornbeam_puppet:next(open_http, puppet(Config)),
    {Number, Asked}.

request(Options) ->
    Expect = [{<<"expect">>, <<"100-Continue">>} || maps:get(expect, Options, false)],
    hornbeam_requests:new([{<<"host">>, <<"a">>} | Expect]).

mount(Options) ->
    {ok, Checked} = hornbeam_config:check("app:application", maps:remove(expect, Options)),
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

start(Number, Status, Body, More) ->
    Field = [hornbeam_msgpack:bytes(Part) || Part <- [<<"a">>, <<"b">>]],
    [response_start, Number, Status, [Field], hornbeam_msgpack:bytes(Body), More].

part(Number, Body, More) ->
    [response_body, Number, hornbeam_msgpack:bytes(Body), More].

ended(Number) ->
    [ended, Number, undefined, <<>>, <<>>].

puppet(Config) -> proplists:get_value(puppet, Config).
