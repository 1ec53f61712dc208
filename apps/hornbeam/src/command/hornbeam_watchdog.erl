%% The node's sign of life for systemd (WatchdogSec): as often as it asks for one, if the server is
%% well.
%%
%% Well is a node whose listener answers and whose pools each have somebody who keeps their workers.
%% A worker that hangs or dies is no reason to end them all: the pool sees to that
%% (worker_hang_timeout), and who drains or stops is well until its time is over.
-module(hornbeam_watchdog).

-export([start/0]).

%% @doc Give signs from now on, where they are asked for, also while the server drains.
-spec start() -> ok.
start() ->
    case hornbeam_ready:alive_interval() of
        {ok, Interval} -> _ = spawn(fun() -> watch(Interval) end), ok;
        none -> ok
    end.

-spec watch(pos_integer()) -> no_return().
watch(Interval) ->
    _ = [hornbeam_ready:tell_alive() || is_well()],
    receive after Interval -> watch(Interval) end.

is_well() ->
    is_map_key(address, hornbeam_listener:info())
        andalso lists:all(fun is_kept/1, hornbeam_pool:all()).

is_kept(Pool) ->
    hornbeam_pool:lookup(Pool) =/= error.
