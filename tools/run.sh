#!/usr/bin/env bash
# Serves what a configuration file names, in the foreground, until Ctrl-C or SIGTERM.
#
#   tools/run.sh config/chat.config
#
# The node never sees the terminal's Ctrl-C (+Bi): it would open Erlang's break menu. It is told
# to end in order instead, and a second Ctrl-C only waits with us. The status is then 0; it is 3 when
# the app does not start.
set -uo pipefail
cd "$(dirname "$0")/.."

export ERL_LIBS=$PWD/_deps/lib:$PWD/_build/default/lib${ERL_LIBS:+:$ERL_LIBS}
started='
    Failed = fun(Why) -> io:format(standard_error, "~n~ts~n", [Why]), halt(3) end,
    case application:ensure_all_started(hornbeam) of
        {ok, _} ->
            spawn(fun() ->
                Ref = monitor(process, hornbeam_sup),
                receive {_, Ref, _, _, _} -> init:stop(1) end
            end),
            #{address := {Host, Port}} = hornbeam:info(),
            io:format("~nServing at http://~s:~b - Ctrl-C ends it.~n~n", [inet:ntoa(Host), Port]);
        {error, {hornbeam, {Reason, {hornbeam_app, start, _}}}} ->
            Failed(hornbeam:format_error(Reason));
        {error, Reason} ->
            Failed(io_lib:format("~0tp", [Reason]))
    end.'
erl -noshell +Bi +sbwt none +sbwtdcpu none +sbwtdio none +MHas ageffcaoff +MHlmbcs 256 \
    -config config/sys.config -config "$1" -eval "$started" &
node=$!
trap 'kill -TERM "$node" 2>/dev/null' INT TERM HUP

# A signal ends a wait early; the node is done when it is gone, and bash knows its status then.
while kill -0 "$node" 2>/dev/null; do
    wait "$node"
done
wait "$node"
