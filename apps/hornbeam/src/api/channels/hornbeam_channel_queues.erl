%% Messages that wait in channels for whoever reads them first: by channel, in their order, each for
%% so long as it is worth something. Only hornbeam_channels changes them. No process.
%%
%% Each has a turn, which says when it was put in first; one that comes back has the turn it had.
%% Times are milliseconds of the node's monotonic clock. What waits is counted in hornbeam_quota.
-module(hornbeam_channel_queues).

-export([new_tables/0, recount/0, push/4, put_back/4, pop/1, expire/0, expire/1, clear/1,
         is_prefix/2]).
-export_type([channel/0, turn/0, refusal/0]).

-type channel() :: binary().
-type turn() :: non_neg_integer().
-type value() :: hornbeam_value:value().
-type deadline() :: integer().
-type refusal() :: full | {error, {limit, hornbeam_quota:limit()}}.

%% Rows: {{Channel, Turn}, Value, Deadline, Bytes}.
-define(MESSAGES, hornbeam_channel_messages).
%% Rows: {{Deadline, Channel, Turn}}.
-define(DEADLINES, hornbeam_channel_deadlines).
%% Rows: {Channel, Messages}; none of a channel that is empty.
-define(LENGTHS, hornbeam_channel_lengths).

%% Bytes of a message beside its value and the names of its channel (about).
-define(ROW, 400).

%% @doc Make the tables; their owner must outlive everybody.
-spec new_tables() -> ok.
new_tables() ->
    ?MESSAGES = ets:new(?MESSAGES, [named_table, public, ordered_set]),
    ?DEADLINES = ets:new(?DEADLINES, [named_table, public, ordered_set]),
    ?LENGTHS = ets:new(?LENGTHS, [named_table, public]),
    ok.

%% @doc Make what is counted agree with the messages: a crash may have come in between.
-spec recount() -> ok.
recount() ->
    Rows = ets:tab2list(?MESSAGES),
    true = ets:delete_all_objects(?LENGTHS),
    true = ets:delete_all_objects(?DEADLINES),
    lists:foreach(fun({{Channel, Turn}, _Value, Deadline, _Bytes}) ->
        true = ets:insert(?DEADLINES, {{Deadline, Channel, Turn}}),
        add_length(Channel, 1)
    end, Rows),
    hornbeam_quota:recount(channels, lists:sum([Bytes || {_, _, _, Bytes} <- Rows]), length(Rows)).

%% @doc Put a message behind those that wait, unless they are as many as there may be.
-spec push(channel(), value(), deadline(), Capacity :: pos_integer()) -> ok | refusal().
push(Channel, Value, Deadline, Capacity) ->
    case length_of(Channel) < Capacity of
        true -> insert(Channel, new_turn(), Value, Deadline);
        false -> full
    end.

%% Behind all others, also behind those that may come back to a channel which is empty now.
new_turn() -> erlang:unique_integer([monotonic, positive]).

%% @doc Put a message back to where it was among those that wait, however many they are. One that
%% is there already is not put twice.
-spec put_back(channel(), turn(), value(), deadline()) -> ok | refusal().
put_back(Channel, Turn, Value, Deadline) ->
    case ets:member(?MESSAGES, {Channel, Turn}) of
        false -> insert(Channel, Turn, Value, Deadline);
        true -> ok
    end.

insert(Channel, Turn, Value, Deadline) ->
    Bytes = ?ROW + 3 * byte_size(Channel) + hornbeam_value:bytes(Value),
    case hornbeam_quota:reserve(channels, Bytes, 1) of
        ok ->
            Row = {{Channel, Turn}, hornbeam_value:copy(Value), Deadline, Bytes},
            true = ets:insert_new(?MESSAGES, Row),
            true = ets:insert_new(?DEADLINES, {{Deadline, Channel, Turn}}),
            add_length(Channel, 1);
        {error, _} = Error ->
            Error
    end.

%% @doc Take out the message whose turn it is.
-spec pop(channel()) -> {ok, turn(), value(), deadline()} | empty.
pop(Channel) ->
    case first_of(Channel) of
        {Channel, Turn} = Key ->
            {Key, Value, Deadline, _Bytes} = delete(Key),
            {ok, Turn, Value, Deadline};
        _ ->
            empty
    end.

first_of(Channel) -> ets:next(?MESSAGES, {Channel, -1}).

delete({Channel, Turn} = Key) ->
    [{Key, _Value, Deadline, Bytes} = Row] = ets:take(?MESSAGES, Key),
    true = ets:delete(?DEADLINES, {Deadline, Channel, Turn}),
    hornbeam_quota:release(channels, Bytes, 1),
    add_length(Channel, -1),
    Row.

%% @doc Delete what nobody has read in time; how many they were.
-spec expire() -> non_neg_integer().
expire() ->
    expire(ets:first(?DEADLINES), now_ms(), 0).

expire({Deadline, Channel, Turn} = Key, Now, Expired) when Deadline =< Now ->
    _ = delete({Channel, Turn}),
    expire(ets:next(?DEADLINES, Key), Now, Expired + 1);
expire(_Key, _Now, Expired) ->
    Expired.

%% @doc Delete what nobody has read in time at the front of one channel; how many they were. The
%% oldest is not always the first to expire, but of one sender it is.
-spec expire(channel()) -> non_neg_integer().
expire(Channel) ->
    expire_of(Channel, first_of(Channel), now_ms(), 0).

expire_of(Channel, {Channel, _Turn} = Key, Now, Expired) ->
    case ets:lookup_element(?MESSAGES, Key, 3) =< Now of
        true ->
            _ = delete(Key),
            expire_of(Channel, first_of(Channel), Now, Expired + 1);
        false ->
            Expired
    end;
expire_of(_Channel, _Other, _Now, Expired) ->
    Expired.

%% @doc Delete the messages of all channels whose names begin so.
-spec clear(Prefix :: binary()) -> ok.
clear(Prefix) ->
    Keys = [Key || {Key, _, _, _} <- ets:tab2list(?MESSAGES), is_prefix(Prefix, element(1, Key))],
    lists:foreach(fun delete/1, Keys).

%% @doc Whether a name begins so.
-spec is_prefix(Prefix :: binary(), Name :: binary()) -> boolean().
is_prefix(Prefix, Name) ->
    byte_size(Name) >= byte_size(Prefix) andalso binary:part(Name, 0, byte_size(Prefix)) =:= Prefix.

add_length(Channel, Change) ->
    case ets:update_counter(?LENGTHS, Channel, Change, {Channel, 0}) of
        0 -> true = ets:delete(?LENGTHS, Channel);
        _ -> true
    end,
    ok.

length_of(Channel) ->
    case ets:lookup(?LENGTHS, Channel) of
        [{Channel, Length}] -> Length;
        [] -> 0
    end.

now_ms() -> erlang:monotonic_time(millisecond).
