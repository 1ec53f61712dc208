%% How much a TCP socket reads at once: little while it is quiet, more while reads are full.
%%
%% The emulator keeps such a buffer for each socket that waits for something, and the memory of an
%% idle connection was mostly that. The socket of a TLS connection has the largest from the start.
-module(hornbeam_read_buffer).

-export([least/0, most/0, new/1, read/2, quiet/1, widen/1]).
-export_type([buffer/0]).

-record(buffer, {
    socket :: hornbeam_connection:socket(),
    size :: pos_integer()
}).
-opaque buffer() :: #buffer{}.

%% Bytes.
-define(LEAST, 1024).
-define(MOST, 65536).
-define(STEP, 4).

%% In a process's dictionary: the socket that it has widened.
-define(WIDE, {?MODULE, wide}).

%% @doc What a socket begins with (bytes).
-spec least() -> pos_integer().
least() -> ?LEAST.

%% @doc The most that it gets (bytes).
-spec most() -> pos_integer().
most() -> ?MOST.

%% @doc The buffer of a new connection.
-spec new(hornbeam_connection:socket()) -> buffer().
new({ranch_tcp, _} = Socket) -> #buffer{socket = Socket, size = ?LEAST};
new(Socket) -> #buffer{socket = Socket, size = ?MOST}.

%% @doc So many bytes came in one read: a full buffer is made larger.
-spec read(non_neg_integer(), buffer()) -> buffer().
read(Bytes, #buffer{size = Size} = Buffer) when Bytes >= Size, Size < ?MOST ->
    set(min(Size * ?STEP, ?MOST), Buffer);
read(_Bytes, Buffer) ->
    Buffer.

%% @doc The connection is quiet.
-spec quiet(buffer()) -> buffer().
quiet(#buffer{socket = {ranch_tcp, _}, size = Size} = Buffer) when Size > ?LEAST ->
    set(?LEAST, Buffer);
quiet(Buffer) ->
    Buffer.

%% @doc Much is going to come on this socket. Asked again, by the same process, it costs nothing.
-spec widen(hornbeam_connection:socket()) -> ok.
widen(Socket) ->
    case put(?WIDE, Socket) of
        Socket -> ok;
        _ -> _ = set(?MOST, new(Socket)), ok
    end.

%% That it failed is told by a message of the socket.
set(Size, #buffer{socket = {Transport, Socket}} = Buffer) ->
    _ = Transport:setopts(Socket, [{buffer, Size}]),
    Buffer#buffer{size = Size}.
