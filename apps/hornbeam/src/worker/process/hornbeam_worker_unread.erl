%% How many bytes are on their way to one worker: replies to its ops, calls of others into it, and
%% published messages.
%%
%% They count until they are in the pipe; so a Python that does not read is known by them. How many
%% there may be is the api's to say. Shared by the worker's process, its writer, the processes of
%% ops, and whoever publishes. No process.
-module(hornbeam_worker_unread).

-export([new/0, add/3, written/3, bytes/2, info/1]).
-export_type([unread/0, kind/0]).

-opaque unread() :: atomics:atomics_ref().
-type kind() :: replies | calls | events.

%% @doc Nothing.
-spec new() -> unread().
new() ->
    atomics:new(3, [{signed, true}]).

%% @doc So many bytes more; how many there were before, whoever else adds to them.
-spec add(kind(), Bytes :: non_neg_integer(), unread()) -> Before :: non_neg_integer().
add(Kind, Bytes, Unread) ->
    atomics:add_get(Unread, cell(Kind), Bytes) - Bytes.

%% @doc So many bytes are in the pipe, or will not be.
-spec written(kind(), Bytes :: non_neg_integer(), unread()) -> ok.
written(_Kind, 0, _Unread) ->
    ok;
written(Kind, Bytes, Unread) ->
    atomics:sub(Unread, cell(Kind), Bytes).

%% @doc How many bytes there are.
-spec bytes(kind(), unread()) -> non_neg_integer().
bytes(Kind, Unread) ->
    atomics:get(Unread, cell(Kind)).

%% @doc The same of each kind, to tell a person.
-spec info(unread()) -> #{kind() => non_neg_integer()}.
info(Unread) ->
    maps:from_list([{Kind, bytes(Kind, Unread)} || Kind <- [replies, calls, events]]).

cell(replies) -> 1;
cell(calls) -> 2;
cell(events) -> 3.
