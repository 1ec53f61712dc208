%% What tells the process that has started this node that it serves, does again after a reload, or
%% lives: the command, which passes it on to systemd. Without its argument there is nobody to tell.
-module(hornbeam_ready).

-export([tell/0, tell_alive/0, alive_interval/0]).

%% @doc Say that it serves; one who does not listen any more need not know.
-spec tell() -> ok.
tell() ->
    say(<<"READY=1\n">>).

%% @doc Say that it lives.
-spec tell_alive() -> ok.
tell_alive() ->
    say(<<"WATCHDOG=1\n">>).

%% @doc How often that is to be said (ms), if it is.
-spec alive_interval() -> {ok, pos_integer()} | none.
alive_interval() ->
    case init:get_argument(hornbeam_watchdog) of
        {ok, [[Milliseconds]]} -> {ok, list_to_integer(Milliseconds)};
        error -> none
    end.

say(What) ->
    _ = [file:write_file("/dev/fd/" ++ Descriptor, What)
         || {ok, [[Descriptor]]} <- [init:get_argument(hornbeam_ready)]],
    ok.
