%% The requests of this node whose bodies are gathered before they have a place on a worker: who
%% stops the server waits for them, and asks no worker of them.
%%
%% An exchange adds itself when it begins to gather, and removes itself when it is through. No
%% process.
-module(hornbeam_gathering).

-export([new_table/0, add/2, remove/1, owners/0]).

%% Rows: {Owner}. One whose process was killed leaves its row to whoever reads it next.
-define(TABLE, ?MODULE).

%% @doc Make the table; its owner must outlive all connections.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {write_concurrency, true}]),
    ok.

%% @doc This one gathers from now on, unless so many do: what each has gathered is memory.
-spec add(hornbeam_stream:owner(), Most :: non_neg_integer()) -> ok | full.
add(Owner, Most) ->
    case ets:info(?TABLE, size) < Most of
        true ->
            true = ets:insert(?TABLE, {Owner}),
            ok;
        false ->
            full
    end.

%% @doc It does not any more.
-spec remove(hornbeam_stream:owner()) -> ok.
remove(Owner) ->
    true = ets:delete(?TABLE, Owner),
    ok.

%% @doc All that do.
-spec owners() -> [hornbeam_stream:owner()].
owners() ->
    {Living, Dead} = lists:partition(fun is_alive/1, [Owner || {Owner} <- ets:tab2list(?TABLE)]),
    lists:foreach(fun remove/1, Dead),
    Living.

is_alive(Owner) ->
    is_process_alive(hornbeam_stream:process(Owner)).
