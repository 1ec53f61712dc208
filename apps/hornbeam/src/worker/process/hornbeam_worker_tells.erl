%% How many ops of one worker whose answers nobody waits for (`tell', docs/wire.md) may come.
%%
%% Python pays each of them from an account of its own, which is given back for many that are done
%% by one `credit': so none costs a reply, and a loop of them cannot flood the node. Shared by the
%% worker's process and those of its ops. No process.
-module(hornbeam_worker_tells).

-export([new/1, window/0, enter/1, done/1]).
-export_type([tells/0]).

-record(tells, {
    writer :: pid(),
    counts :: atomics:atomics_ref()
}).
-opaque tells() :: #tells{}.

%% What Python may still send, and what is done and not given back yet.
-define(LEFT, 1).
-define(DONE, 2).

%% What may be under way, and how many are given back at once. With the rest under way, none of
%% which is done, there is always something to wait for.
-define(WINDOW, 2048).
-define(BATCH, 512).

%% @doc None yet, of a worker with this writer.
-spec new(Writer :: pid()) -> tells().
new(Writer) ->
    Counts = atomics:new(2, [{signed, true}]),
    atomics:put(Counts, ?LEFT, ?WINDOW),
    #tells{writer = Writer, counts = Counts}.

%% @doc How many Python may send before it is given credit.
-spec window() -> pos_integer().
window() -> ?WINDOW.

%% @doc One has come; `overspent' when it was not paid for.
-spec enter(tells()) -> ok | overspent.
enter(#tells{counts = Counts}) ->
    case atomics:sub_get(Counts, ?LEFT, 1) of
        Left when Left >= 0 -> ok;
        _ -> overspent
    end.

%% @doc One is done, or has failed. Never waits.
-spec done(tells()) -> ok.
done(#tells{counts = Counts} = Tells) ->
    case atomics:add_get(Counts, ?DONE, 1) of
        Done when Done < ?BATCH -> ok;
        _ -> give_back(atomics:exchange(Counts, ?DONE, 0), Tells)
    end.

%% Of two that see a batch full at once, the other one has given it back.
give_back(0, _Tells) ->
    ok;
give_back(Done, #tells{writer = Writer, counts = Counts}) ->
    atomics:add(Counts, ?LEFT, Done),
    hornbeam_worker_writer:write(Writer, hornbeam_wire:credit(0, 0, Done)).
