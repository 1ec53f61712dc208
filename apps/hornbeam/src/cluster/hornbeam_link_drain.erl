%% The end of a node's links: what waits for the others leaves, as far as they take it.
%%
%% What a peer that stands still does not take is given up with its connection: the emulator ends
%% only when all that it has to write is written, and would wait for that peer.
-module(hornbeam_link_drain).

-export([run/0]).

%% It is looked so often; one that takes nothing for so long stands still; and no link is waited for
%% longer (ms).
-define(LOOK, 10).
-define(STILL, 500).
-define(LONGEST, 3000).

%% @doc Wait for the links, within bounds, and end the connections of those that take nothing.
-spec run() -> ok.
run() ->
    Now = now_ms(),
    await(left(), Now, Now + ?LONGEST),
    lists:foreach(fun give_up/1, erlang:system_info(dist_ctrl)).

await([], _Since, _Deadline) ->
    ok;
await(Left, Since, Deadline) ->
    receive after ?LOOK -> ok end,
    Now = now_ms(),
    case left() of
        Left when Now - Since < ?STILL, Now < Deadline -> await(Left, Since, Deadline);
        Left -> ok;
        Other when Now < Deadline -> await(Other, Now, Deadline);
        _Other -> ok
    end.

%% What has not been taken: of our links what is not acknowledged, of others what is not written.
left() ->
    Ours = [{Node, Waiting, Unacknowledged}
            || #{node := Node, queue := Queue, state := up} <- hornbeam_link_nodes:all(),
               #{waiting := Waiting, unacknowledged := Unacknowledged}
                   <- [hornbeam_link_queue:status(Queue)],
               {Waiting, Unacknowledged} =/= {{0, 0}, {0, 0}}],
    Ours ++ [{Node, Bytes} || {Node, Controller} <- erlang:system_info(dist_ctrl),
                              Bytes <- [unwritten(Controller)], Bytes > 0].

unwritten(Port) when is_port(Port) ->
    case erlang:port_info(Port, queue_size) of
        {queue_size, Bytes} -> Bytes;
        undefined -> 0
    end;
unwritten(_TlsProcess) ->
    0.

give_up({_Node, Port}) when is_port(Port) ->
    _ = [exit(Port, kill) || unwritten(Port) > 0],
    ok;
give_up({Node, _TlsProcess}) ->
    _ = erlang:disconnect_node(Node),
    ok.

now_ms() -> erlang:monotonic_time(millisecond).
