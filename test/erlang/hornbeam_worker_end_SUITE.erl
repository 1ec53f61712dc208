%% The end of a worker as those see it who look for one meanwhile.
-module(hornbeam_worker_end_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [who_hears_of_the_end_is_given_no_place_there, a_pipe_that_is_closed_is_an_end,
     what_is_left_is_counted_past_the_end].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

%% It broke the wire: its process is still to be killed.
who_hears_of_the_end_is_given_no_place_there(_Config) ->
    Puppet = hornbeam_puppet:start(),
    Stream = opened(Puppet),
    hornbeam_puppet:say(<<255, 255, 255, 255>>, Puppet),
    ?assertEqual(full, place_once_down(Stream, Puppet)),
    ?assertMatch({shutdown, {broke_the_wire, _}}, hornbeam_puppet:ended(Puppet)).

%% What is written to it ends the port, and its process is still to be killed.
a_pipe_that_is_closed_is_an_end(_Config) ->
    Puppet = hornbeam_puppet:start(#{hangs_up => true}),
    Stream = opened(Puppet),
    _ = hornbeam_puppet:next(request_body, Puppet),
    ok = hornbeam_puppet:hang_up(Puppet),
    hornbeam_stream:write(Stream, hornbeam_wire:request_body(hornbeam_stream:number(Stream),
                                                             <<"b">>, true)),
    ?assertEqual(full, place_once_down(Stream, Puppet)),
    ?assertEqual({shutdown, {exited, closed_its_pipe}}, hornbeam_puppet:ended(Puppet)).

what_is_left_is_counted_past_the_end(_Config) ->
    Handle = hornbeam_capacity:new(#{
        worker => self(), writer => self(), name => <<"w1">>, limit => infinity,
        counts => hornbeam_capacity:new_counts(), tagged_owners => hornbeam_stream_owners:new(),
        adoption => {hornbeam_api, undefined}
    }),
    [{ok, _}, {ok, _}] = [hornbeam_capacity:reserve(Handle) || _ <- [1, 2]],
    ?assertEqual(busy, hornbeam_capacity:close(Handle)),
    [ok, ok] = [hornbeam_capacity:shut(Handle) || _ <- [1, 2]],
    ?assertEqual({full, 2}, {hornbeam_capacity:reserve(Handle), hornbeam_capacity:load(Handle)}),
    ok = hornbeam_capacity:ended(Handle, none),
    ?assertEqual({full, 1}, {hornbeam_capacity:reserve(Handle), hornbeam_capacity:load(Handle)}).

opened(Puppet) ->
    {ok, Handle} = hornbeam_capacity:reserve(hornbeam_puppet:handle(Puppet)),
    hornbeam_stream:open_tagged(Handle, http, {self(), ?MODULE}, fun(Number) ->
        hornbeam_wire:request_body(Number, <<"a">>, true)
    end).

%% What somebody gets who asks for a place there as soon as he knows.
place_once_down(Stream, Puppet) ->
    Number = hornbeam_stream:number(Stream),
    receive
        {{Self, ?MODULE}, {worker_down, Number}} when Self =:= self() ->
            hornbeam_capacity:reserve(hornbeam_puppet:handle(Puppet))
    after 10000 ->
        error(not_down)
    end.
