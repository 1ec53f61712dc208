%% How much a TCP socket reads at once, and how often before it asks.
%%
%% Little at once while it is quiet, more while reads are full: the emulator keeps such a buffer
%% for each socket that waits for something, and the memory of an idle connection was mostly that.
%% The socket of a TLS connection has the largest from the start.
%%
%% What was read waits in the mailbox, whatever the app wants, and before all that comes later. So
%% the larger the reads, the fewer of them.
-module(hornbeam_read_buffer).

-export([least/0, most/0, most_reads/0, new/1, reads/1, read/3, quiet/1, widen/1]).
-export_type([buffer/0]).

-record(buffer, {
    socket :: hornbeam_socket:socket(),
    size :: pos_integer()
}).
-opaque buffer() :: #buffer{}.

%% Bytes.
-define(LEAST, 1024).
-define(MOST, 65536).
-define(STEP, 4).
%% Of TLS one record comes at a time (RFC 8446, section 5.1).
-define(RECORD, 16384).

%% The emulator moves a socket that has been read ten times or so to a pollset that needs no system
%% call for each read, and back when it has to ask: at 8 reads a small message cost a tenth more
%% than at 24, and at 24 a twelfth more than at 100. More would make long mailboxes, in which a send
%% looks for its answer.
-define(READS, 100).

%% What may be read before it asks (bytes): with less, messages of 16 KiB cost more.
-define(AHEAD, 524288).

%% In a process's dictionary: the socket that it has widened.
-define(WIDE, {?MODULE, wide}).

%% @doc What a socket begins with (bytes).
-spec least() -> pos_integer().
least() -> ?LEAST.

%% @doc The most that it gets (bytes).
-spec most() -> pos_integer().
most() -> ?MOST.

%% @doc The most reads before it asks.
-spec most_reads() -> pos_integer().
most_reads() -> ?READS.

%% @doc The buffer of a new connection.
-spec new(hornbeam_socket:socket()) -> buffer().
new({ranch_tcp, _} = Socket) -> #buffer{socket = Socket, size = ?LEAST};
new(Socket) -> #buffer{socket = Socket, size = ?MOST}.

%% @doc How many reads there may be before it asks.
-spec reads(buffer()) -> pos_integer().
reads(#buffer{socket = {ranch_tcp, _}, size = Size}) -> min(?READS, ?AHEAD div Size);
reads(_Buffer) -> min(?READS, ?AHEAD div ?RECORD).

%% @doc So many bytes came in one read: a full buffer is made larger, and if the socket goes on
%% (`IsActive') that has fewer reads before it.
-spec read(non_neg_integer(), IsActive :: boolean(), buffer()) -> buffer().
read(Bytes, IsActive, #buffer{size = Size} = Buffer) when Bytes >= Size, Size < ?MOST ->
    Larger = Buffer#buffer{size = min(Size * ?STEP, ?MOST)},
    Fewer = reads(Buffer) - reads(Larger),
    set_options([{active, -Fewer} || IsActive, Fewer > 0], Larger);
read(_Bytes, _IsActive, Buffer) ->
    Buffer.

%% @doc The connection is quiet.
-spec quiet(buffer()) -> buffer().
quiet(#buffer{socket = {ranch_tcp, _}, size = Size} = Buffer) when Size > ?LEAST ->
    set(?LEAST, Buffer);
quiet(Buffer) ->
    Buffer.

%% @doc Much is going to come on this socket. Asked again, by the same process, it costs nothing.
-spec widen(hornbeam_socket:socket()) -> ok.
widen(Socket) ->
    case put(?WIDE, Socket) of
        Socket -> ok;
        _ -> _ = set(?MOST, new(Socket)), ok
    end.

set(Size, Buffer) ->
    set_options([], Buffer#buffer{size = Size}).

%% That it failed is told by a message of the socket.
set_options(More, #buffer{socket = {Transport, Socket}, size = Size} = Buffer) ->
    _ = Transport:setopts(Socket, [{buffer, Size} | More]),
    Buffer.
