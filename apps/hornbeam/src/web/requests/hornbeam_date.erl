%% The date of a response, as HTTP writes it (RFC 9110, 5.6.7): made once a second.
-module(hornbeam_date).

-export([new_table/0, now/0, forget/0]).

-define(TABLE, ?MODULE).

%% @doc Make the table; its owner must outlive all connections.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {read_concurrency, true}]),
    ok.

%% @doc The date now. The calling process remembers it.
-spec now() -> binary().
now() ->
    Second = erlang:system_time(second),
    case get(?MODULE) of
        {Second, Text} -> Text;
        _ -> remembered(Second, ets:lookup(?TABLE, date))
    end.

remembered(Second, [{date, Second, Text}]) ->
    _ = put(?MODULE, {Second, Text}),
    Text;
remembered(Second, _Older) ->
    Text = made(Second),
    _ = put(?MODULE, {Second, Text}),
    Text.

made(Second) ->
    Now = calendar:system_time_to_universal_time(Second, second),
    %% What Cowlib has put together has room for more of it.
    Text = binary:copy(iolist_to_binary(cow_date:rfc1123(Now))),
    true = ets:insert(?TABLE, {date, Second, Text}),
    Text.

%% @doc The calling process has no use for it for a while.
-spec forget() -> ok.
forget() ->
    _ = erase(?MODULE),
    ok.
