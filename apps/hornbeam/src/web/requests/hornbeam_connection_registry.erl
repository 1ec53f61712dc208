%% The long-lived connections of this node, open WebSockets and event streams: who they are, told
%% and closed one by one.
%%
%% A connection adds itself when it is open and removes itself at its end; what else is to be known
%% of it is asked of it, so that counting costs nothing when nobody asks. No process.
-module(hornbeam_connection_registry).

-export([new_table/0, add/3, remove/1, owners/0, count/0]).
-export([find/1, describe/0, describe/1, measure/2, top/3]).
-export([queue/1, reply/2, reply_measure/4, trace/2, stop_trace/2, kick/3]).
-export_type([id/0, kind/0, description/0, asker/0, measure/0, path_filter/0]).

-type id() :: pos_integer().
%% Never given twice in a node's life.

-type description() :: #{atom() => term()}.

-type kind() :: websocket | event_stream.

-type asker() :: {Alias :: reference(), id()}.
%% To whom a connection says something, and as which one it was asked.

-type measure() :: sent | received | queue | age.
%% Bytes to and from the client, what waits for it or for the app, seconds.

-type path_filter() :: any | {exact, binary()} | {below, Start :: binary()}.

%% Rows: {Id, Owner, {Kind, Mount}}. One that was killed leaves its row to whoever reads it next.
-define(TABLE, ?MODULE).

%% How long all have to answer, and how long none may do so (ms): a busy one is left out.
-define(PATIENCE, 5000).
-define(QUIET, 500).

%% How often it is looked whether those that do not answer are alive (ms).
-define(LOOK, 50).

%% @doc Make the table; its owner must outlive all connections.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, ordered_set, {write_concurrency, true}]),
    ok.

%% @doc It is open from now on, in the calling process.
-spec add(hornbeam_stream:owner(), kind(), Mount :: hornbeam_pool:name()) -> id().
add(Owner, Kind, Mount) ->
    Id = erlang:unique_integer([positive, monotonic]),
    true = ets:insert(?TABLE, {Id, Owner, {Kind, Mount}}),
    Id.

%% @doc It is over.
-spec remove(id()) -> ok.
remove(Id) ->
    true = ets:delete(?TABLE, Id),
    ok.

%% @doc Who owns them.
-spec owners() -> [hornbeam_stream:owner()].
owners() ->
    [Owner || {_Id, Owner, _Of} <- living()].

%% @doc How many there are of each kind at each mount that has some.
-spec count() -> #{{kind(), hornbeam_pool:name()} => pos_integer()}.
count() ->
    lists:foldl(fun({_Id, _Owner, Of}, Counts) ->
        maps:update_with(Of, fun(Count) -> Count + 1 end, 1, Counts)
    end, #{}, living()).

living() ->
    {Living, Dead} = lists:partition(fun({_, Owner, _}) -> is_alive(Owner) end,
                                     ets:tab2list(?TABLE)),
    lists:foreach(fun({Id, _, _}) -> remove(Id) end, Dead),
    Living.

%% @doc Who owns one.
-spec find(id()) -> {ok, hornbeam_stream:owner()} | error.
find(Id) ->
    case ets:lookup(?TABLE, Id) of
        [{Id, Owner, _Of}] -> {ok, Owner};
        [] -> error
    end.

%% @doc What each connection says of itself, in the order of their ids. Asks all at once, and waits
%% for none that is busy while the others have answered.
-spec describe() -> [description()].
describe() ->
    {Descriptions, _Busy} = described(rows()),
    Descriptions.

%% @doc What one connection says of itself.
-spec describe(id()) -> {ok, description()} | {error, not_found | busy}.
describe(Id) ->
    case described([{Id, Owner} || {ok, Owner} <- [find(Id)]]) of
        {[Description], []} -> {ok, Description};
        {[], [_]} -> {error, busy};
        {[], []} -> {error, not_found}
    end.

rows() -> [{Id, Owner} || {Id, Owner, _Of} <- living()].

%% In the order of their ids; and those that had no time to answer.
described(Rows) ->
    Alias = erlang:alias(),
    _ = [hornbeam_stream:send(Owner, {describe, {Alias, Id}}) || {Id, Owner} <- Rows],
    {Found, Busy} = collect(Alias, maps:from_list(Rows), fun(Id, Owner, Description, All) ->
        [Description#{id => Id, pid => hornbeam_stream:process(Owner)} | All]
    end, []),
    {lists:sort(fun(#{id := One}, #{id := Other}) -> One =< Other end, Found), Busy}.

%% @doc How much of something each connection has, of those with a path. Each says a number and no
%% more; those that had no time for that are told apart.
-spec measure(measure(), path_filter()) ->
    {#{id() => integer()}, Busy :: [{id(), hornbeam_stream:owner()}]}.
measure(Measure, Filter) ->
    Alias = erlang:alias(),
    Rows = rows(),
    _ = [hornbeam_stream:send(Owner, {measure, {Alias, Id}, Measure, Filter})
         || {Id, Owner} <- Rows],
    collect(Alias, maps:from_list(Rows), fun counted/4, #{}).

counted(_Id, _Owner, other, Counts) -> Counts;
counted(Id, _Owner, Number, Counts) -> Counts#{Id => Number}.

%% All answers, until no more come.
collect(Alias, Rows, Add, All) ->
    Now = erlang:monotonic_time(millisecond),
    {Answers, Left} = collect(Alias, Rows, Add, All, {Now, Now + ?PATIENCE}),
    _ = erlang:unalias(Alias),
    forget(Alias),
    {Answers, maps:to_list(Left)}.

collect(_Alias, Rows, _Add, All, _Times) when map_size(Rows) =:= 0 ->
    {All, Rows};
collect(Alias, Rows, Add, All, {Heard, Last}) ->
    receive
        {answer, Alias, Id, Answer} ->
            {Owner, Left} = maps:take(Id, Rows),
            collect(Alias, Left, Add, Add(Id, Owner, Answer, All), {now_ms(), Last})
    after ?LOOK ->
        Living = maps:filter(fun(_Id, Owner) -> is_alive(Owner) end, Rows),
        case now_ms() < min(Heard + ?QUIET, Last) of
            true -> collect(Alias, Living, Add, All, {Heard, Last});
            false -> {All, Living}
        end
    end.

is_alive(Owner) -> is_process_alive(hornbeam_stream:process(Owner)).

now_ms() -> erlang:monotonic_time(millisecond).

forget(Alias) ->
    receive
        {answer, Alias, _, _} -> forget(Alias)
    after 0 ->
        ok
    end.

%% @doc What the fullest or the busiest have to say of themselves: at most so many, the first has
%% most. Those that are too busy to answer come before all others.
-spec top([{id(), integer()}], Busy :: [{id(), hornbeam_stream:owner()}], Most :: pos_integer()) ->
    [description()].
top(Measured, Busy, Most) ->
    Stuck = lists:sublist(lists:sort(Busy), Most),
    First = lists:sublist(lists:reverse(lists:keysort(2, Measured)), Most - length(Stuck)),
    {Described, Late} = described([{Id, Owner} || {Id, _} <- First, {ok, Owner} <- [find(Id)]]),
    ById = maps:from_list([{Id, Description} || #{id := Id} = Description <- Described]),
    lists:map(fun from_outside/1, Stuck ++ Late)
        ++ [(maps:get(Id, ById))#{measured => Number}
            || {Id, Number} <- First, is_map_key(Id, ById)].

%% What is to be known of one that does not answer.
from_outside({Id, Owner}) ->
    Pid = hornbeam_stream:process(Owner),
    Mailbox = case process_info(Pid, message_queue_len) of
        {message_queue_len, Length} -> Length;
        undefined -> 0
    end,
    #{id => Id, pid => Pid, state => busy, mailbox => Mailbox}.

%% @doc Answer whoever has asked.
-spec reply(asker(), term()) -> ok.
reply({Alias, Id}, Answer) ->
    _ = Alias ! {answer, Alias, Id, Answer},
    ok.

%% @doc What waits: for the client to read it, for the app to take it, for the connection to look at
%% it. Bytes and messages are counted alike. An app says what it has taken half a window at a time,
%% so what is less than that is not known to wait.
-spec queue(description()) -> non_neg_integer().
queue(#{unsent := Unsent, untaken := Messages, untaken_bytes := Bytes, mailbox := Mailbox}) ->
    case hornbeam_stream:is_due(Bytes, Messages) of
        true -> Unsent + Bytes + Messages + Mailbox;
        false -> Unsent + Mailbox
    end.

%% @doc Answer whoever has asked for a measure, of a connection with that path, by what it says of
%% itself.
-spec reply_measure(asker(), measure(), path_filter(), description()) -> ok.
reply_measure(Asker, Measure, Filter, #{path := Path} = Description) ->
    reply(Asker, measured(is_meant(Filter, Path), Measure, Description)).

measured(false, _Measure, _Description) ->
    other;
measured(true, sent, #{bytes_out := Bytes}) ->
    Bytes;
measured(true, received, #{bytes_in := Bytes}) ->
    Bytes;
measured(true, age, #{seconds := Seconds}) ->
    Seconds;
measured(true, queue, Description) ->
    queue(Description).

is_meant(any, _Path) -> true;
is_meant({exact, Path}, Path) -> true;
is_meant({exact, _Other}, _Path) -> false;
is_meant({below, Start}, Path) -> string:prefix(Path, Start) =/= nomatch.

%% @doc Have the calling process told what one says and hears, by {@link hornbeam_trace}: as
%% `{trace, Ref, Note}' and, at the end, `{trace_ended, Ref, Why, Dropped}'. The monitor is of the
%% connection's process.
-spec trace(id(), hornbeam_trace:limits()) -> {ok, Monitor :: reference()} | {error, not_found}.
trace(Id, Limits) ->
    case find(Id) of
        {ok, Owner} ->
            Monitor = erlang:monitor(process, hornbeam_stream:process(Owner)),
            hornbeam_stream:send(Owner, {trace, {self(), Limits}}),
            {ok, Monitor};
        error ->
            {error, not_found}
    end.

%% @doc No longer.
-spec stop_trace(id(), reference()) -> ok.
stop_trace(Id, Ref) ->
    case find(Id) of
        {ok, Owner} -> hornbeam_stream:send(Owner, {stop_trace, Ref});
        error -> ok
    end.

%% @doc Have a connection closed with a code that an endpoint may send, and a reason; an event
%% stream has no word for either.
-spec kick(id(), Code :: 1000..4999, Reason :: unicode:chardata()) ->
    ok | {error, not_found | {bad_code, term()} | {bad_reason, term()}}.
kick(Id, Code, Reason) ->
    case {is_integer(Code) andalso hornbeam_app_message:is_close_code(Code), utf8(Reason)} of
        {false, _} -> {error, {bad_code, Code}};
        {true, error} -> {error, {bad_reason, Reason}};
        {true, Text} -> kick_out(ets:lookup(?TABLE, Id), Code, Text)
    end.

kick_out([{_Id, Owner, _Of}], Code, Text) ->
    hornbeam_stream:send(Owner, {kick, Code, Text});
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
