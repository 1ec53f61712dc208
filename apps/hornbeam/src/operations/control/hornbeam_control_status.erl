%% What a server says of itself in one answer: what it serves, and the node around it.
-module(hornbeam_control_status).

-export([of_server/1]).

%% @doc What {@link hornbeam:info/0} tells, with the node's own figures; bytes, seconds.
-spec of_server(#{atom() => term()}) -> #{atom() => term()}.
of_server(Info) ->
    maps:merge(of_node(Info), name(is_alive())).

%% Where it has none there are no others.
name(true) -> #{node => node()};
name(false) -> #{}.

of_node(Info) ->
    {WallClock, _} = erlang:statistics(wall_clock),
    Info#{version => version(), os_pid => list_to_integer(os:getpid()),
          otp => list_to_binary(erlang:system_info(otp_release)),
          uptime => WallClock div 1000, memory => erlang:memory(total),
          processes => erlang:system_info(process_count),
          schedulers => erlang:system_info(schedulers_online),
          run_queue => erlang:statistics(total_run_queue_lengths_all)}.

version() ->
    {ok, Version} = application:get_key(hornbeam, vsn),
    list_to_binary(Version).
