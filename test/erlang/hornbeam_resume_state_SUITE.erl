%% What it takes to go on with another worker: what is kept, and when it is given up.
-module(hornbeam_resume_state_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

-import(hornbeam_resume_state, [acknowledge/2, attempted/1, pending/1, resumed/2, worker_lost/2]).

all() ->
    [what_is_not_taken_is_kept_in_order, more_is_never_taken_than_is_there,
     the_first_loss_has_no_pause_and_the_next_have_growing_ones,
     past_the_limit_it_is_given_up, an_app_that_lasted_starts_the_count_anew,
     an_app_that_never_accepted_has_not_lasted, a_loss_in_vain_counts_double,
     a_message_that_is_taken_clears_of_suspicion, an_app_that_takes_nothing_lasts_later,
     only_sockets_under_suspicion_are_spread, the_gap_is_from_the_first_loss_to_the_accept].

new(Limit) -> hornbeam_resume_state:new(#{}, Limit).

what_is_not_taken_is_kept_in_order(_Config) ->
    Messages = [{text, <<"a">>}, {binary, <<"b">>}, {text, <<"c">>}],
    Received = lists:foldl(fun({Kind, Data}, Resume) ->
        hornbeam_resume_state:received(Kind, Data, Resume)
    end, new(1), Messages),
    ?assertEqual(Messages, pending(Received)),
    ?assertEqual(Messages, pending(acknowledge(0, Received))),
    ?assertEqual(tl(Messages), pending(acknowledge(1, Received))),
    ?assertEqual([], pending(acknowledge(3, Received))).

more_is_never_taken_than_is_there(_Config) ->
    One = hornbeam_resume_state:received(text, <<"a">>, new(1)),
    ?assertEqual([], pending(acknowledge(1 bsl 60, One))).

the_first_loss_has_no_pause_and_the_next_have_growing_ones(_Config) ->
    ?assertEqual([0, 100, 200, 400, 800, 1600, 3200, 5000, 5000], pauses(0, 9, new(9))).

past_the_limit_it_is_given_up(_Config) ->
    ?assertEqual([0, 100, give_up], pauses(0, 3, new(2))).

an_app_that_lasted_starts_the_count_anew(_Config) ->
    {again, 0, Once} = worker_lost(0, new(1)),
    Resumed = resumed(0, attempted(Once)),
    ?assertEqual(give_up, worker_lost(9999, Resumed)),
    ?assertMatch({again, 0, _}, worker_lost(10000, Resumed)).

an_app_that_never_accepted_has_not_lasted(_Config) ->
    {again, 0, Once} = worker_lost(20000, resumed(0, new(1))),
    ?assertEqual(give_up, worker_lost(90000, attempted(Once))).

a_loss_in_vain_counts_double(_Config) ->
    ?assertMatch({again, 200, _}, worker_lost(1, in_vain(3))),
    ?assertEqual(give_up, worker_lost(1, in_vain(2))).

a_message_that_is_taken_clears_of_suspicion(_Config) ->
    Taken = acknowledge(1, in_vain(2)),
    ?assertMatch({again, 100, _}, worker_lost(1, Taken)),
    {again, _, Vain} = worker_lost(1, in_vain(3)),
    Cleared = acknowledge(1, on(1, Vain)),
    ?assertEqual(0, hornbeam_resume_state:spread(Cleared)),
    ?assertMatch({again, 200, _}, worker_lost(2, Cleared)).

an_app_that_takes_nothing_lasts_later(_Config) ->
    ?assertEqual(give_up, worker_lost(299999, in_vain(2))),
    ?assertMatch({again, 0, _}, worker_lost(300000, in_vain(2))).

only_sockets_under_suspicion_are_spread(_Config) ->
    ?assertEqual(0, hornbeam_resume_state:spread(in_vain(9))),
    {again, 200, Vain} = worker_lost(1, in_vain(9)),
    ?assertEqual(400, hornbeam_resume_state:spread(Vain)).

%% With a message that the first worker did not take, and a second that would lose it at 0 ms.
in_vain(Limit) ->
    Received = hornbeam_resume_state:received(text, <<"a">>, new(Limit)),
    {again, 0, Lost} = worker_lost(0, Received),
    on(0, Lost).

on(Now, Lost) ->
    resumed(Now, attempted(Lost)).

the_gap_is_from_the_first_loss_to_the_accept(_Config) ->
    Opened = resumed(0, new(9)),
    ?assertEqual(0, hornbeam_resume_state:gap(Opened)),
    Away = hornbeam_resume_state:interrupted(2000, hornbeam_resume_state:interrupted(1000, Opened)),
    ?assertEqual(1500, hornbeam_resume_state:gap(resumed(2500, Away))).

%% How long each of so many losses in a row makes it wait.
pauses(_Now, 0, _Resume) ->
    [];
pauses(Now, Left, Resume) ->
    case worker_lost(Now, Resume) of
        {again, Pause, Next} -> [Pause | pauses(Now, Left - 1, attempted(Next))];
        give_up -> [give_up]
    end.
