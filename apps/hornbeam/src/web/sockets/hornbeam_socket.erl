%% A client's TCP connection, with TLS or without: what has come, what has not left, how it ends.
-module(hornbeam_socket).

-export([unsent/1, backlog/1, linger/1, finish/1, reset/1, abandon/1]).
-export_type([socket/0]).

-type socket() :: {Transport :: module(), Socket :: term()}.

%% The option with which the end of a socket drops what is not sent.
-define(DROP, [{linger, {true, 0}}]).

%% How long the peer may be silent after our last word, and how long it may send on, while it takes
%% some of what waits for it in the one time or the other (ms).
-define(LINGER, 1000).
-define(LONGEST, 5000).

%% A client that leaves more than this (bytes) in the socket is slow.
-define(SLOW, 65536).

%% @doc Bytes that were given to the socket and that the client's side has not taken.
%%
%% ssl's process that encrypts keeps none: a send returns when its bytes are in the TCP socket.
-spec unsent(socket()) -> non_neg_integer().
unsent({Transport, Socket}) ->
    case Transport:getstat(Socket, [send_pend]) of
        {ok, [{send_pend, Bytes}]} -> Bytes;
        {error, _} -> 0
    end.

%% @doc What a slow client leaves unsent (bytes); 0 of one that is not slow.
-spec backlog(socket()) -> non_neg_integer().
backlog(Socket) ->
    case unsent(Socket) of
        Unsent when Unsent > ?SLOW -> Unsent;
        _ -> 0
    end.

%% @doc After our last word: take what the client still sends, until it closes, or is silent, or
%% has sent on for too long. A socket that is closed with unread bytes is reset, and the client
%% would never see that word. Over TLS it is followed by TLS's own, and the connection is over.
%%
%% A socket with unsent bytes outlives its process, until the client has read them all; that of a
%% client which does not read would live for ever. So what such a client leaves is dropped.
-spec linger(socket()) -> ok.
linger({ranch_ssl, Socket}) ->
    _ = ssl:shutdown(Socket, read_write),
    ok;
linger({Transport, Socket} = Both) ->
    _ = Transport:setopts(Socket, [{active, false}]),
    _ = Transport:shutdown(Socket, write),
    discard(Both, unsent(Both), now_ms() + ?LONGEST).

discard({Transport, Socket} = Both, Unsent, Deadline) ->
    Left = max(0, Deadline - now_ms()),
    case Transport:recv(Socket, 0, min(?LINGER, Left)) of
        {ok, _} when Left > 0 -> discard(Both, Unsent, Deadline);
        _ -> discarded(unsent(Both), Unsent, Both)
    end.

discarded(0, _Before, _Both) ->
    ok;
discarded(Unsent, Before, Both) when Unsent < Before ->
    discard(Both, Unsent, now_ms() + ?LONGEST);
discarded(_Unsent, _Before, {Transport, Socket}) ->
    _ = Transport:setopts(Socket, ?DROP),
    ok.

now_ms() -> erlang:monotonic_time(millisecond).

%% @doc After our last word to a client that has said its own, and so sends nothing more: the end
%% follows at once, unless something is unsent. The process ends then.
-spec finish(socket()) -> ok.
finish({ranch_tcp, _} = Socket) ->
    case unsent(Socket) of
        0 -> ok;
        _ -> linger(Socket)
    end;
finish(Socket) ->
    linger(Socket).

%% @doc End a connection so that its client sees that something is missing: by a reset, over TLS
%% without the alert that would say that this was all.
-spec reset(socket()) -> ok.
reset({ranch_ssl, Socket}) ->
    _ = ssl:shutdown(Socket, read),
    ok;
reset({Transport, Socket}) ->
    _ = Transport:setopts(Socket, ?DROP),
    _ = Transport:close(Socket),
    ok.

%% @doc Have all that a listener's connections have not sent dropped when they end. The listener
%% is known by its address. One client that does not read would keep the node from halting.
-spec abandon(Address :: term()) -> ok.
abandon(Address) ->
    Stuck = [Port || Port <- erlang:ports(), erlang:port_info(Port, name) =:= {name, "tcp_inet"},
                     is_of(Address, inet:sockname(Port)), has_unsent(Port)],
    lists:foreach(fun(Port) -> inet:setopts(Port, ?DROP) end, Stuck).

is_of({local, Path}, {ok, {local, Path}}) -> true;
is_of({_, Number}, {ok, {_, Number}}) when is_integer(Number) -> true;
is_of(_Address, _Other) -> false.

has_unsent(Port) -> inet:getstat(Port, [send_pend]) =/= {ok, [{send_pend, 0}]}.
