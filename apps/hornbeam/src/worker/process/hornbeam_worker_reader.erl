%% The bytes that a Python process writes: cut into packets, counted, paid for.
%%
%% Knows the window that a worker may fill without credit, and how much waits in the mailbox of the
%% process that owns the port; must not know what a packet says.
-module(hornbeam_worker_reader).

-export([new/1, window/0, read/2]).
-export_type([reader/0]).

-record(reader, {
    port :: port() | none,
    buffer :: hornbeam_packet:buffer(),
    %% bytes that Python has written and has not been given back as credit
    unpaid = 0 :: non_neg_integer(),
    %% all bytes that were taken out of the mailbox, and what came since the rest was measured
    read = 0 :: non_neg_integer(),
    unmeasured = 0 :: non_neg_integer()
}).
-opaque reader() :: #reader{}.

%% Bytes that Python may write before it is given more credit.
-define(WINDOW, 8388608).

%% Bytes that may wait in the mailbox: the window, and what may be written without credit, which
%% is one message that overdraws it and ops. It is measured after so many bytes; a read counts as
%% 1 KiB at least.
-define(BACKLOG, (?WINDOW + 2 * 134217728)).
-define(MEASURE, 65536).
-define(LEAST_READ, 1024).

%% @doc Nothing read yet of a port that the calling process owns; or of a socket, `none', of which
%% nothing comes into its mailbox unasked.
-spec new(port() | none) -> reader().
new(Port) ->
    #reader{port = Port, buffer = hornbeam_packet:new_buffer()}.

%% @doc How many bytes Python may write before it is given credit.
-spec window() -> pos_integer().
window() -> ?WINDOW.

%% @doc The packets that are whole now, and how much credit is due (bytes, 0 for none).
-spec read(Chunk :: binary(), reader()) ->
    {ok, [hornbeam_packet:packet()], Credit :: non_neg_integer(), reader()}
    | {error, Reason :: term()}.
read(Chunk, Reader0) ->
    case measured(byte_size(Chunk), Reader0) of
        {ok, Reader} -> cut(Chunk, Reader);
        {error, _} = Error -> Error
    end.

%% What Python writes comes into the mailbox whether it has credit or not; the port knows how
%% much has come.
measured(_Size, #reader{port = none} = Reader) ->
    {ok, Reader};
measured(Size, #reader{read = Read, unmeasured = Unmeasured} = Reader)
        when Unmeasured + Size < ?MEASURE ->
    {ok, Reader#reader{read = Read + Size, unmeasured = Unmeasured + max(Size, ?LEAST_READ)}};
measured(Size, #reader{port = Port, read = Read} = Reader) ->
    case hornbeam_worker_port:read(Port) - Read of
        Backlog when Backlog > ?BACKLOG -> {error, {overspent, worker_window}};
        _ -> {ok, Reader#reader{read = Read + Size, unmeasured = 0}}
    end.

cut(Chunk, #reader{buffer = Buffer0} = Reader) ->
    case hornbeam_packet:cut(Chunk, Buffer0) of
        {ok, Packets, Buffer} -> paid(Packets, byte_size(Chunk), Reader#reader{buffer = Buffer});
        {error, _} = Error -> Error
    end.

paid(Packets, Size, #reader{unpaid = Unpaid} = Reader) when Unpaid + Size < ?WINDOW div 2 ->
    {ok, Packets, 0, Reader#reader{unpaid = Unpaid + Size}};
paid(Packets, Size, #reader{unpaid = Unpaid} = Reader) ->
    {ok, Packets, Unpaid + Size, Reader#reader{unpaid = 0}}.
