%% The bytes that a Python process writes: cut into packets, counted, paid for.
%%
%% Knows the window that a worker may fill without credit, and how much waits in the mailbox of the
%% process that owns the port; must not know what a packet says, but whether it is an op.
-module(hornbeam_worker_reader).

-include("../../wire/hornbeam_wire.hrl").

-export([new/1, window/0, read/2, urgent_first/2]).
-export_type([output/0]).

-record(output, {
    port :: port(),
    buffer :: hornbeam_packet:buffer(),
    %% bytes that Python has written and has not been given back as credit
    unpaid = 0 :: non_neg_integer(),
    %% all bytes that were taken out of the mailbox, and what came since the rest was measured
    read = 0 :: non_neg_integer(),
    unmeasured = 0 :: non_neg_integer()
}).
-opaque output() :: #output{}.

%% Bytes that Python may write before it is given more credit.
-define(WINDOW, 8388608).

%% Bytes that may wait in the mailbox: the window, and what may be written without credit, which
%% is one message that overdraws it and ops. It is measured after so many bytes; a read counts as
%% 1 KiB at least.
-define(BACKLOG, (?WINDOW + 2 * 134217728)).
-define(MEASURE, 65536).
-define(LEAST_READ, 1024).

%% @doc Nothing read yet of a port that the calling process owns.
-spec new(port()) -> output().
new(Port) ->
    #output{port = Port, buffer = hornbeam_packet:new_buffer()}.

%% @doc How many bytes Python may write before it is given credit.
-spec window() -> pos_integer().
window() -> ?WINDOW.

%% @doc The packets that are whole now, and how much credit is due (bytes, 0 for none).
-spec read(Chunk :: binary(), output()) ->
    {ok, [Packet :: binary()], Credit :: non_neg_integer(), output()} | {error, Reason :: term()}.
read(Chunk, Output0) ->
    case measured(byte_size(Chunk), Output0) of
        {ok, Output} -> cut(Chunk, Output);
        {error, _} = Error -> Error
    end.

%% What Python writes comes into the mailbox whether it has credit or not; the port knows how
%% much has come.
measured(Size, #output{read = Read, unmeasured = Unmeasured} = Output)
        when Unmeasured + Size < ?MEASURE ->
    {ok, Output#output{read = Read + Size, unmeasured = Unmeasured + max(Size, ?LEAST_READ)}};
measured(Size, #output{port = Port, read = Read} = Output) ->
    case hornbeam_worker_port:read(Port) - Read of
        Backlog when Backlog > ?BACKLOG -> {error, {overspent, worker_window}};
        _ -> {ok, Output#output{read = Read + Size, unmeasured = 0}}
    end.

cut(Chunk, #output{buffer = Buffer0} = Output) ->
    case hornbeam_packet:cut(Chunk, Buffer0) of
        {ok, Packets, Buffer} -> paid(Packets, byte_size(Chunk), Output#output{buffer = Buffer});
        {error, _} = Error -> Error
    end.

paid(Packets, Size, #output{unpaid = Unpaid} = Output) when Unpaid + Size < ?WINDOW div 2 ->
    {ok, Packets, 0, Output#output{unpaid = Unpaid + Size}};
paid(Packets, Size, #output{unpaid = Unpaid} = Output) ->
    {ok, Packets, Unpaid + Size, Output#output{unpaid = 0}}.

%% @doc Put an op on which all of the worker's loop waits in front of what is no op. It comes last:
%% Python has written what was to be said before it. If it has nothing to do with that, which
%% `IsApart' tells, it need not wait until that is routed. Other ops it does not pass.
-spec urgent_first([Packet :: binary()], IsApart :: fun((binary()) -> boolean())) -> [binary()].
urgent_first([_, _ | _] = Packets, IsApart) ->
    Last = lists:last(Packets),
    case is_op(Last) andalso IsApart(Last) of
        true -> passing(Last, lists:droplast(Packets));
        false -> Packets
    end;
urgent_first(Packets, _IsApart) ->
    Packets.

passing(Op, Before) ->
    case lists:any(fun is_op/1, Before) of
        true -> Before ++ [Op];
        false -> [Op | Before]
    end.

is_op(Packet) ->
    case hornbeam_packet:head(Packet) of
        {?OP, _} -> true;
        _ -> false
    end.
