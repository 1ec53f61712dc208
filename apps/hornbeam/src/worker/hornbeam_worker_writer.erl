%% The process that writes to one worker's port.
%%
%% Everybody who has something for the worker sends it here; what waits in the mailbox is put
%% into one write. It may be suspended by a full pipe, which is why the process that routes the
%% worker's answers is another one. It is linked to that one and lives as long.
-module(hornbeam_worker_writer).

-export([start_link/1, write/2]).
-export([init/1]).

%% One write carries at most this many messages, so that a long mailbox does not become one
%% enormous binary.
-define(BATCH, 1024).

%% @doc Start a writer for a port.
-spec start_link(port()) -> pid().
start_link(Port) ->
    proc_lib:spawn_opt(?MODULE, init, [Port], [link, {message_queue_data, off_heap}]).

%% @doc Put ops into the worker's pipe, in the order of this caller's calls. Never waits.
-spec write(pid(), iodata()) -> ok.
write(Writer, Ops) ->
    Writer ! {write, Ops},
    ok.

%% @private
-spec init(port()) -> no_return().
init(Port) ->
    receive
        {write, Ops} ->
            %% False means that the port is closed: the link or the port's owner tells us.
            _ = hornbeam_worker_port:write(Port, drain(Ops, ?BATCH)),
            init(Port)
    end.

drain(Ops, 0) ->
    Ops;
drain(Ops, Left) ->
    receive
        {write, More} -> drain([Ops | More], Left - 1)
    after 0 ->
        Ops
    end.
