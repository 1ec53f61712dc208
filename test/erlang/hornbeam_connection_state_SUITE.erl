%% What connections keep: whose it is, and that nothing is left of those who die at any moment.
-module(hornbeam_connection_state_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([
    an_owner_has_what_it_keeps_and_nothing_else/1,
    who_is_not_watched_keeps_nothing/1,
    the_dead_keep_nothing/1,
    a_row_that_comes_too_late_is_taken_back/1,
    what_is_kept_is_a_copy/1,
    a_new_server_forgets_who_died_meanwhile/1,
    what_is_kept_survives_the_server/1,
    an_owner_has_values_undone_and_forgotten/1,
    nothing_is_left_of_owners_that_die_while_they_write/1
]).

all() ->
    [Name || {Name, 1} <- module_info(exports), not lists:member(Name, others())].

others() -> [module_info, init_per_suite, end_per_suite].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

an_owner_has_what_it_keeps_and_nothing_else(_Config) ->
    {A, B} = {owner(), owner()},
    ok = hornbeam_scoped_state:keep(A, 1, 10),
    ok = hornbeam_scoped_state:keep(B, 1, 20),
    ok = hornbeam_connection_state:set(A, <<"k">>, {term, kept}),
    ?assertEqual([{1, 10}, {<<"k">>, {term, kept}}], hornbeam_connection_state:items(A)),
    ?assertEqual([{1, 20}], hornbeam_connection_state:items(B)),
    ?assertEqual(absent, hornbeam_connection_state:get(B, <<"k">>)),
    ?assert(hornbeam_connection_state:delete(A, 1)),
    ?assertNot(hornbeam_connection_state:delete(A, 1)),
    ?assertEqual({ok, 20}, hornbeam_connection_state:get(B, 1)),
    lists:foreach(fun gone/1, [A, B]).

who_is_not_watched_keeps_nothing(_Config) ->
    Owner = owner(),
    ?assertEqual(not_open, hornbeam_connection_state:set(Owner, 1, 1)),
    ?assertEqual(absent, hornbeam_connection_state:get(Owner, 1)),
    ?assertNot(hornbeam_connection_state:is_forgotten(Owner)).

the_dead_keep_nothing(_Config) ->
    Owner = owner(),
    ok = hornbeam_scoped_state:keep(Owner, 1, 1),
    gone(Owner),
    ?assertEqual({error, closed}, hornbeam_scoped_state:keep(Owner, 1, 1)),
    ?assertEqual(not_open, hornbeam_connection_state:set(Owner, 1, 1)),
    ?assertEqual([], hornbeam_connection_state:items(Owner)),
    ?assert(hornbeam_connection_state:is_forgotten(Owner)).

%% The owner is forgotten while its value is copied: after the first look, before the row is there.
a_row_that_comes_too_late_is_taken_back(_Config) ->
    Large = binary:copy(<<0>>, 1 bsl 22),
    Value = {packed, binary:part(Large, 1, byte_size(Large) - 1)},
    [late_write(Value) || _ <- lists:seq(1, 20)].

late_write(Value) ->
    Owner = owner(),
    ok = hornbeam_scoped_state:keep(Owner, 0, 0),
    Test = self(),
    {Writer, Ref} = spawn_monitor(fun() ->
        Test ! {self(), writes},
        hornbeam_connection_state:set(Owner, 1, Value)
    end),
    receive {Writer, writes} -> ok end,
    ok = hornbeam_owner_quota:close(Owner),
    ok = hornbeam_connection_state:delete_all(Owner),
    receive {'DOWN', Ref, process, Writer, Reason} -> ?assertEqual(normal, Reason) end,
    ?assertEqual(0, length(rows(Owner))),
    gone(Owner).

what_is_kept_is_a_copy(_Config) ->
    Owner = owner(),
    Read = binary:copy(<<16#c4, 1, 7>>, 100000),
    Part = binary:part(Read, 0, 3),
    ok = hornbeam_scoped_state:keep(Owner, <<"first">>, {packed, Part}),
    ok = hornbeam_connection_state:set(Owner, <<"second">>, {packed, Part}),
    %% Not the part's own size: OTP 27 counts a small binary as a little more than it has.
    [?assert(binary:referenced_byte_size(Kept) < byte_size(Read))
     || {_, {packed, Kept}} <- hornbeam_connection_state:items(Owner)],
    gone(Owner).

a_new_server_forgets_who_died_meanwhile(_Config) ->
    {Dies, Lives} = {owner(), owner()},
    ok = hornbeam_scoped_state:keep(Dies, 1, 1),
    ok = hornbeam_scoped_state:keep(Lives, 1, 1),
    Server = whereis(hornbeam_scoped_state),
    ok = sys:suspend(Server),
    hornbeam_eventually:dead(Dies),
    ok = hornbeam_connection_state:set(Dies, 2, 2),
    hornbeam_eventually:dead(Server),
    hornbeam_eventually:holds(fun() -> rows(Dies) =:= [] end),
    ?assertEqual([{1, 1}], hornbeam_connection_state:items(Lives)),
    gone(Lives).

what_is_kept_survives_the_server(_Config) ->
    Owner = owner(),
    ok = hornbeam_scoped_state:keep(Owner, 1, 1),
    hornbeam_eventually:dead(whereis(hornbeam_scoped_state)),
    ok = hornbeam_connection_state:set(Owner, 2, 2),
    ?assertEqual([{1, 1}, {2, 2}], hornbeam_connection_state:items(Owner)),
    hornbeam_eventually:holds(fun() -> is_pid(whereis(hornbeam_scoped_state)) end),
    gone(Owner).

an_owner_has_values_undone_and_forgotten(_Config) ->
    Owner = owner(),
    {ok, 1} = hornbeam_scoped_state:incr(Owner, <<"n">>, 1),
    ok = hornbeam_scoped_state:keep(Owner, <<"n">>, 7),
    {ok, 2} = hornbeam_scoped_state:incr(Owner, <<"n">>, 1),
    ?assertEqual({ok, 7}, hornbeam_connection_state:get(Owner, <<"n">>)),
    gone(Owner),
    hornbeam_eventually:holds(fun() -> hornbeam_state:get(<<"n">>) =:= 0 end).

%% As the ops do, from 8 processes at once, while the owners are killed at random.
nothing_is_left_of_owners_that_die_while_they_write(_Config) ->
    Owners = [owner() || _ <- lists:seq(1, 200)],
    Writers = [spawn_monitor(fun() -> [write(Owner) || Owner <- shuffled(Owners)] end)
               || _ <- lists:seq(1, 8)],
    lists:foreach(fun hornbeam_eventually:dead/1, shuffled(Owners)),
    [receive {'DOWN', Ref, process, Pid, Reason} -> ?assertEqual(normal, Reason) end
     || {Pid, Ref} <- Writers],
    hornbeam_eventually:holds(fun() -> lists:all(fun(O) -> rows(O) =:= [] end, Owners) end).

write(Owner) ->
    [hornbeam_connection_state:set(Owner, Key, 1) =:= not_open
        andalso hornbeam_scoped_state:keep(Owner, Key, 1)
     || Key <- lists:seq(1, 50)].

shuffled(List) ->
    [Element || {_, Element} <- lists:sort([{rand:uniform(), Element} || Element <- List])].

%%% Owners

owner() -> spawn(fun() -> receive stop -> ok end end).

gone(Owner) ->
    hornbeam_eventually:dead(Owner),
    hornbeam_eventually:holds(fun() -> rows(Owner) =:= [] end).

%% Whatever the table holds of an owner, be it that it is watched.
rows(Owner) ->
    [{Owner} || O <- hornbeam_owner_quota:owners(), O =:= Owner]
        ++ hornbeam_connection_state:items(Owner).
