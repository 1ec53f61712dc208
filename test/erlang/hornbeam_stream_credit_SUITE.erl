%% The account of a stream: what may be sent, at its limits and one past them.
-module(hornbeam_stream_credit_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [a_window_of_messages_may_be_sent_and_no_more, a_window_of_bytes_may_be_overdrawn_once,
     heads_are_not_paid_for, what_is_given_back_may_be_sent_again,
     what_is_given_back_too_much_does_not_add_up, the_begin_of_a_response_pays_one_message,
     credit_of_the_app_is_bounded_until_it_is_taken, other_messages_are_free,
     properties_hold].

-define(CREDITS, 262144).

a_window_of_messages_may_be_sent_and_no_more(_Config) ->
    Account = hornbeam_stream_credit:new({1000, 3}),
    ?assertEqual([ok, ok, ok, overspent], [text(1, Account) || _ <- lists:seq(1, 4)]).

a_window_of_bytes_may_be_overdrawn_once(_Config) ->
    Account = hornbeam_stream_credit:new({1000, 10}),
    ?assertEqual([ok, ok, overspent], [text(Size, Account) || Size <- [999, 100000, 1]]).

heads_are_not_paid_for(_Config) ->
    Account = hornbeam_stream_credit:new({100, 10}),
    Packet = fun(Size) -> packet(16#ffffffffffffffff, Size) end,
    ?assertEqual(lists:duplicate(10, ok),
                 [hornbeam_stream_credit:pay(code(send_bytes), Packet(10), Account)
                  || _ <- lists:seq(1, 10)]).

what_is_given_back_may_be_sent_again(_Config) ->
    Account = hornbeam_stream_credit:new({1000, 2}),
    [ok, ok, overspent] = [text(10, Account) || _ <- lists:seq(1, 3)],
    hornbeam_stream_credit:give(30, 3, Account),
    ?assertEqual([ok, ok, overspent], [text(10, Account) || _ <- lists:seq(1, 3)]).

what_is_given_back_too_much_does_not_add_up(_Config) ->
    Account = hornbeam_stream_credit:new({1000, 2}),
    [begin ok = text(10, Account), hornbeam_stream_credit:give(100000, 5, Account) end
     || _ <- lists:seq(1, 100)],
    ?assertEqual([ok, overspent], [text(2000, Account) || _ <- lists:seq(1, 2)]),
    ?assertEqual(overspent, text(1, Account)).

the_begin_of_a_response_pays_one_message(_Config) ->
    Account = hornbeam_stream_credit:new({10, 2}),
    ok = hornbeam_stream_credit:pay(code(response_start), binary:copy(<<0>>, 100000), Account),
    ?assertEqual([ok, overspent], [text(1, Account) || _ <- lists:seq(1, 2)]).

credit_of_the_app_is_bounded_until_it_is_taken(_Config) ->
    Account = hornbeam_stream_credit:new(),
    Code = code(credit),
    Credit = fun() -> hornbeam_stream_credit:pay(Code, <<>>, Account) end,
    [ok = Credit() || _ <- lists:seq(1, ?CREDITS)],
    ?assertEqual(overspent, Credit()),
    hornbeam_stream_credit:credit_received(Account),
    hornbeam_stream_credit:credit_received(Account),
    ?assertEqual(ok, Credit()),
    ?assertEqual(overspent, Credit()).

other_messages_are_free(_Config) ->
    Account = hornbeam_stream_credit:new({1, 1}),
    ok = text(1, Account),
    ?assertEqual([ok, ok], [hornbeam_stream_credit:pay(code(Name), <<>>, Account)
                            || Name <- [accept, close]]).

properties_hold(_Config) ->
    [?assert(hornbeam_properties:hold(Property))
     || Property <- hornbeam_properties:of_module(prop_hornbeam_stream_credit)].

text(Size, Account) ->
    hornbeam_stream_credit:pay(code(send_text), packet(1, Size), Account).

packet(Number, Size) ->
    Payload = hornbeam_msgpack:bytes(binary:copy(<<"x">>, Size)),
    iolist_to_binary(hornbeam_msgpack:encode([code(send_text), Number, Payload])).

code(Name) ->
    hornbeam_wire_files:code(Name).
