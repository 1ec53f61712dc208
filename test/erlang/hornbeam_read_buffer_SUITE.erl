%% How much a socket reads at once.
-module(hornbeam_read_buffer_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [a_full_read_makes_it_larger_up_to_a_bound, a_read_that_is_not_full_leaves_it,
     the_larger_the_reads_the_fewer_of_them, a_quiet_socket_begins_anew,
     it_can_be_widened_at_once, that_of_tls_is_left].

init_per_testcase(_Test, Config) ->
    Least = hornbeam_read_buffer:least(),
    {ok, Socket} = gen_tcp:listen(0, [{buffer, Least}]),
    [{socket, {ranch_tcp, Socket}} | Config].

end_per_testcase(_Test, Config) ->
    {_, Socket} = proplists:get_value(socket, Config),
    gen_tcp:close(Socket).

a_full_read_makes_it_larger_up_to_a_bound(Config) ->
    Socket = proplists:get_value(socket, Config),
    Grow = fun(_, {Buffer0, Sizes}) ->
        Buffer = hornbeam_read_buffer:read(buffer_of(Socket), false, Buffer0),
        {Buffer, [buffer_of(Socket) | Sizes]}
    end,
    {_, Sizes} = lists:foldl(Grow, {hornbeam_read_buffer:new(Socket), []}, lists:seq(1, 5)),
    ?assertEqual([4096, 16384, 65536, 65536, 65536], lists:reverse(Sizes)).

a_read_that_is_not_full_leaves_it(Config) ->
    Socket = proplists:get_value(socket, Config),
    _ = hornbeam_read_buffer:read(buffer_of(Socket) - 1, false, hornbeam_read_buffer:new(Socket)),
    ?assertEqual(hornbeam_read_buffer:least(), buffer_of(Socket)).

the_larger_the_reads_the_fewer_of_them(Config) ->
    {_, Listener} = proplists:get_value(socket, Config),
    {ok, Port} = inet:port(Listener),
    {ok, Client} = gen_tcp:connect({127, 0, 0, 1}, Port, [{active, false}]),
    {ok, Socket} = gen_tcp:accept(Listener),
    Buffer = hornbeam_read_buffer:new({ranch_tcp, Socket}),
    Most = hornbeam_read_buffer:reads(Buffer),
    ?assertEqual(hornbeam_read_buffer:most_reads(), Most),
    ok = inet:setopts(Socket, [{active, Most}]),
    Grow = fun(_, Grown) ->
        hornbeam_read_buffer:read(buffer_of({ranch_tcp, Socket}), true, Grown)
    end,
    Largest = lists:foldl(Grow, Buffer, [1, 2, 3]),
    ?assertEqual({ok, [{active, 8}]}, inet:getopts(Socket, [active])),
    ?assertEqual(8, hornbeam_read_buffer:reads(Largest)),
    ok = gen_tcp:close(Client),
    ok = gen_tcp:close(Socket).

a_quiet_socket_begins_anew(Config) ->
    Socket = proplists:get_value(socket, Config),
    Large = hornbeam_read_buffer:read(buffer_of(Socket), false, hornbeam_read_buffer:new(Socket)),
    _ = hornbeam_read_buffer:quiet(Large),
    ?assertEqual(hornbeam_read_buffer:least(), buffer_of(Socket)).

it_can_be_widened_at_once(Config) ->
    Socket = proplists:get_value(socket, Config),
    ok = hornbeam_read_buffer:widen(Socket),
    ?assertEqual(hornbeam_read_buffer:most(), buffer_of(Socket)).

%% There is no such socket: whoever set its buffer would fail.
that_of_tls_is_left(_Config) ->
    Buffer = hornbeam_read_buffer:new({ranch_ssl, no_socket}),
    Read = hornbeam_read_buffer:read(1 bsl 20, true, Buffer),
    ?assertEqual(Buffer, hornbeam_read_buffer:quiet(Read)).

buffer_of({ranch_tcp, Socket}) ->
    {ok, [{buffer, Size}]} = inet:getopts(Socket, [buffer]),
    Size.
