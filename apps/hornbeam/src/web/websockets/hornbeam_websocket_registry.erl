%% The open WebSockets of this node: who they are, told and closed one by one.
%%
%% A connection adds itself when it is open and removes itself at its end; what else is to be known
%% of it is asked of it, so that counting costs nothing when nobody asks. No process.
-module(hornbeam_websocket_registry).

-export([new_table/0, add/0, remove/1, pids/0, describe/0, kick/3]).
-export_type([id/0, description/0]).

-type id() :: pos_integer().
%% Never given twice in a node's life.

-type description() :: #{atom() => term()}.

%% Rows: {Id, Pid}. One that was killed leaves its row to whoever reads it next.
-define(TABLE, ?MODULE).

%% How long the connections have to answer (ms): a busy one is left out.
-define(PATIENCE, 5000).

%% @doc Make the table; its owner must outlive all connections.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, ordered_set, {write_concurrency, true}]),
    ok.

%% @doc The calling process is an open WebSocket from now on.
-spec add() -> id().
add() ->
    Id = erlang:unique_integer([positive, monotonic]),
    true = ets:insert(?TABLE, {Id, self()}),
    Id.

%% @doc It is none any more.
-spec remove(id()) -> ok.
remove(Id) ->
    true = ets:delete(?TABLE, Id),
    ok.

%% @doc The processes of all open WebSockets.
-spec pids() -> [pid()].
pids() ->
    [Pid || {_Id, Pid} <- living()].

living() ->
    {Living, Dead} = lists:partition(fun({_, Pid}) -> is_process_alive(Pid) end,
                                     ets:tab2list(?TABLE)),
    lists:foreach(fun({Id, _}) -> remove(Id) end, Dead),
    Living.

%% @doc What each connection says of itself, in the order of their ids. Asks all at once.
-spec describe() -> [description()].
describe() ->
    Asked = [{Id, Pid, ask(Pid)} || {Id, Pid} <- living()],
    Deadline = erlang:monotonic_time(millisecond) + ?PATIENCE,
    lists:append([answer(Id, Pid, Ref, Deadline) || {Id, Pid, Ref} <- Asked]).

ask(Pid) ->
    Ref = erlang:monitor(process, Pid, [{alias, reply_demonitor}]),
    Pid ! {describe, Ref},
    Ref.

answer(Id, Pid, Ref, Deadline) ->
    receive
        {description, Ref, Description} ->
            [Description#{id => Id, pid => Pid}];
        {'DOWN', Ref, process, _, _} ->
            []
    after max(0, Deadline - erlang:monotonic_time(millisecond)) ->
        _ = erlang:unalias(Ref),
        true = erlang:demonitor(Ref, [flush]),
        []
    end.

%% @doc Have a connection closed with a code that an endpoint may send, and a reason.
-spec kick(id(), Code :: 1000..4999, Reason :: unicode:chardata()) ->
    ok | {error, not_found | {bad_code, term()} | {bad_reason, term()}}.
kick(Id, Code, Reason) ->
    case {is_integer(Code) andalso hornbeam_app_message:is_close_code(Code), utf8(Reason)} of
        {false, _} -> {error, {bad_code, Code}};
        {true, error} -> {error, {bad_reason, Reason}};
        {true, Text} -> kick_out(ets:lookup(?TABLE, Id), Code, Text)
    end.

kick_out([{_Id, Pid}], Code, Text) ->
    Pid ! {kick, Code, Text},
    ok;
kick_out([], _Code, _Text) ->
    {error, not_found}.

utf8(Reason) when is_binary(Reason); is_list(Reason) ->
    try unicode:characters_to_binary(Reason) of
        Text when is_binary(Text) -> fitting(hornbeam_app_message:is_close_reason(Text), Text);
        _ -> error
    catch
        error:badarg -> error
    end;
utf8(_Reason) ->
    error.

fitting(true, Text) -> Text;
fitting(false, _Text) -> error.
