%% Channels, as frameworks have them: queues by name, of whose messages each goes to one reader.
%%
%% A reader is a process of Python's. It says how many messages of a channel it waits for, and is
%% sent them to its address: a topic that it alone subscribes to. So a message which comes when its
%% reader waits no longer can be put back. Channels of one process, which have an address in their
%% names, are read there; here it stands which of them are full. A group is a topic: processes
%% subscribe for their own channels, and this module's process for those that anybody may read.
%%
%% All it knows stands in tables: after a crash it goes on from there.
-module(hornbeam_channels).
-behaviour(gen_server).

-export([new_tables/0, start_link/0]).
-export([put/4, put_back/4, want/4, send/3, set_full/3, join/5, leave/2, clear/1]).
-export([count_losses/2, losses/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).
-export_type([address/0, loss/0]).

-include_lib("kernel/include/logger.hrl").

-type channel() :: hornbeam_channel_queues:channel().
-type value() :: hornbeam_value:value().
-type address() :: hornbeam_pubsub_fanout:topic().
-type group() :: hornbeam_pubsub_fanout:topic().
-type milliseconds() :: pos_integer().
-type loss() :: expired | full.

%% Rows: {{Channel, Reader :: pid()}, Wanted, Address}.
-define(WANTS, hornbeam_channel_wants).
%% Rows: {{Group, Channel}, Until, MessageTtl, Capacity}.
-define(MEMBERS, hornbeam_channel_members).
%% Rows: {Channel, Until}: channels of one process that are full, for no longer than that.
-define(FULL, hornbeam_full_channels).
%% Rows: {Channel}: those that will be looked at again.
-define(LOOKS, hornbeam_channel_looks).
%% Rows: {Why, Messages}.
-define(LOSSES, hornbeam_channel_losses).

%% What is past its time is looked for so often (ms).
-define(SWEEP, 1000).
%% A reader that could not be sent a message is tried again after a while (ms).
-define(AGAIN, 100).

%% Who is monitored.
-type readers() :: #{pid() => reference()}.

%% @doc Make the tables; their owner must outlive everybody.
-spec new_tables() -> ok.
new_tables() ->
    hornbeam_channel_queues:new_tables(),
    ?WANTS = ets:new(?WANTS, [named_table, public, ordered_set]),
    ?MEMBERS = ets:new(?MEMBERS, [named_table, public, ordered_set]),
    ?FULL = ets:new(?FULL, [named_table, public, {read_concurrency, true}]),
    ?LOOKS = ets:new(?LOOKS, [named_table, public]),
    ?LOSSES = ets:new(?LOSSES, [named_table, public, {write_concurrency, true}]),
    ok.

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% Channels that anybody may read.

%% @doc Put a message into a channel, to be read within so many milliseconds.
-spec put(channel(), value(), milliseconds(), Capacity :: pos_integer()) ->
    ok | hornbeam_channel_queues:refusal().
put(Channel, Value, Ttl, Capacity) ->
    hornbeam_retry:unless_asked(fun() ->
        gen_server:call(?MODULE, {put, Channel, Value, now_ms() + Ttl, Capacity}, infinity)
    end).

%% @doc Let a message wait again at its turn, which has come to a reader that waits no longer.
-spec put_back(channel(), hornbeam_channel_queues:turn(), value(), milliseconds()) -> ok.
put_back(Channel, Turn, Value, Ttl) ->
    call({put_back, Channel, Turn, Value, now_ms() + Ttl}).

%% @doc A reader waits for one message more, or one less. Never waits.
-spec want(channel(), Reader :: pid(), address(), one_more | one_less) -> ok.
want(Channel, Reader, Address, one_more) ->
    add_want({Channel, Reader}, Address, {2, 1}),
    gen_server:cast(?MODULE, {wanted, Channel, Reader});
want(Channel, Reader, Address, one_less) ->
    add_want({Channel, Reader}, Address, {2, -1, 0, 0}).

add_want(Key, Address, Change) ->
    _ = [ets:delete_object(?WANTS, {Key, 0, Address})
         || ets:update_counter(?WANTS, Key, Change, {Key, 0, Address}) =:= 0],
    ok.

%% Channels of one process.

%% @doc Send what a process is to put into a channel of its own: whether that is not full. Of a
%% process that is not there any more it is lost, as are messages that nobody reads.
-spec send(channel(), address(), value()) ->
    {ok, boolean()} | {error, hornbeam_pubsub:publish_error()}.
send(Channel, Address, Value) ->
    case is_full(Channel) of
        true ->
            {ok, false};
        false ->
            case hornbeam_pubsub:publish_value(Address, Value) of
                {ok, _} -> {ok, true};
                {error, _} = Error -> Error
            end
    end.

is_full(Channel) ->
    case ets:lookup(?FULL, Channel) of
        [{Channel, Until}] -> Until > now_ms();
        [] -> false
    end.

%% @doc A channel of one process is full: until that says otherwise, or all in it has expired.
-spec set_full(channel(), IsFull :: boolean(), milliseconds()) -> ok.
set_full(Channel, true, Ttl) ->
    true = ets:insert(?FULL, {Channel, now_ms() + Ttl}),
    ok;
set_full(Channel, false, _Ttl) ->
    true = ets:delete(?FULL, Channel),
    ok.

%% Groups.

%% @doc Let what is published to a group go into a channel that anybody may read, for `Ttl'
%% milliseconds; what is not read within `MessageTtl' expires.
-spec join(group(), channel(), Ttl :: milliseconds(), MessageTtl :: milliseconds(),
           Capacity :: pos_integer()) -> ok | {error, {limit, hornbeam_quota:limit()}}.
join(Group, Channel, Ttl, MessageTtl, Capacity) ->
    Row = {{Group, Channel}, now_ms() + Ttl, MessageTtl, Capacity},
    call({join, Row}).

%% @doc Let it go there no more.
-spec leave(group(), channel()) -> ok.
leave(Group, Channel) ->
    call({leave, {Group, Channel}}).

%% @doc Delete all messages and members of channels and groups whose names begin so.
-spec clear(Prefix :: binary()) -> ok.
clear(Prefix) ->
    call({clear, Prefix}).

call(Request) ->
    hornbeam_retry:until_answered(fun() -> gen_server:call(?MODULE, Request, infinity) end).

%% @doc So many messages were lost.
-spec count_losses(loss(), non_neg_integer()) -> ok.
count_losses(_Why, 0) -> ok;
count_losses(Why, N) -> _ = ets:update_counter(?LOSSES, Why, N, {Why, 0}), ok.

%% @doc How many messages were lost since the node's start: `expired' were not read in time, `full'
%% were published to a group, and a channel in it was full.
-spec losses() -> #{loss() => pos_integer()}.
losses() ->
    maps:from_list(ets:tab2list(?LOSSES)).

now_ms() -> erlang:monotonic_time(millisecond).

%% The server.

%% @private
-spec init([]) -> {ok, readers()}.
init([]) ->
    hornbeam_channel_queues:recount(),
    lists:foreach(fun subscribe/1, lists:usort([Group || {{Group, _}, _, _, _} <- members()])),
    Wants = [Key || {Key, _, _} <- ets:tab2list(?WANTS)],
    sweep_later(),
    true = ets:delete_all_objects(?LOOKS),
    _ = [self() ! {look, Channel} || Channel <- lists:usort([Channel || {Channel, _} <- Wants])],
    {ok, lists:foldl(fun({_, Reader}, Readers) -> monitor_reader(Reader, Readers) end, #{}, Wants)}.

members() -> ets:tab2list(?MEMBERS).

%% Nobody is who asks when the server itself does: who is gone is told with the others.
subscribe(Group) ->
    hornbeam_pubsub_registry:subscribe(self(), Group, value).

sweep_later() ->
    _ = erlang:send_after(?SWEEP, self(), sweep),
    ok.

monitor_reader(Reader, Readers) when is_map_key(Reader, Readers) -> Readers;
monitor_reader(Reader, Readers) -> Readers#{Reader => erlang:monitor(process, Reader)}.

%% @private
-spec handle_call(tuple(), gen_server:from(), readers()) ->
    {reply, ok | hornbeam_channel_queues:refusal(), readers()}.
handle_call({put, Channel, Value, Deadline, Capacity}, _From, Readers) ->
    {reply, push(Channel, Value, Deadline, Capacity), Readers};
handle_call({put_back, Channel, Turn, Value, Deadline}, _From, Readers) ->
    keep(Channel, Turn, Value, Deadline),
    send_wanted(Channel),
    {reply, ok, Readers};
handle_call({join, {{Group, _Channel}, _, _, _} = Row}, _From, Readers) ->
    {reply, join_as_subscriber(subscribe(Group), Row), Readers};
handle_call({leave, {Group, _Channel} = Key}, _From, Readers) ->
    true = ets:delete(?MEMBERS, Key),
    unless_needed(Group),
    {reply, ok, Readers};
handle_call({clear, Prefix}, _From, Readers) ->
    hornbeam_channel_queues:clear(Prefix),
    clear_members(Prefix),
    clear_full(Prefix),
    {reply, ok, Readers}.

join_as_subscriber(ok, Row) ->
    true = ets:insert(?MEMBERS, Row),
    ok;
join_as_subscriber({error, _} = Error, _Row) ->
    Error.

unless_needed(Group) ->
    case members_of(Group) of
        [] -> hornbeam_pubsub_registry:unsubscribe(self(), Group);
        [_ | _] -> ok
    end.

%% Does not scan.
members_of(Group) ->
    ets:match_object(?MEMBERS, {{Group, '_'}, '_', '_', '_'}).

clear_members(Prefix) ->
    delete_members([Key || {{Group, _} = Key, _, _, _} <- members(),
                           hornbeam_channel_queues:is_prefix(Prefix, Group)]).

delete_members(Keys) ->
    lists:foreach(fun(Key) -> ets:delete(?MEMBERS, Key) end, Keys),
    lists:foreach(fun unless_needed/1, lists:usort([Group || {Group, _} <- Keys])).

clear_full(Prefix) ->
    lists:foreach(fun(Channel) -> ets:delete(?FULL, Channel) end,
                  [Channel || {Channel, _} <- ets:tab2list(?FULL),
                              hornbeam_channel_queues:is_prefix(Prefix, Channel)]).

%% @private
-spec handle_cast(tuple(), readers()) -> {noreply, readers()}.
handle_cast({wanted, Channel, Reader}, Readers) ->
    send_wanted(Channel),
    {noreply, monitor_reader(Reader, Readers)}.

%% There was room for it; if there is none now, it is lost and counted.
keep(Channel, Turn, Value, Deadline) ->
    case hornbeam_channel_queues:put_back(Channel, Turn, Value, Deadline) of
        ok -> ok;
        _ -> count_losses(full, 1)
    end.

%% @private
-spec handle_info(term(), readers()) -> {noreply, readers()}.
handle_info({hornbeam_pubsub_value, Group, Value}, Readers) ->
    distribute(Group, Value),
    {noreply, Readers};
handle_info({look, Channel}, Readers) ->
    true = ets:delete(?LOOKS, Channel),
    send_wanted(Channel),
    {noreply, Readers};
handle_info(sweep, Readers) ->
    count_losses(expired, hornbeam_channel_queues:expire()),
    Now = now_ms(),
    _ = ets:select_delete(?FULL, [{{'_', '$1'}, [{'=<', '$1', Now}], [true]}]),
    delete_members([Key || {Key, Until, _, _} <- members(), Until =< Now]),
    sweep_later(),
    {noreply, Readers};
handle_info({'DOWN', _Ref, process, Reader, _Reason}, Readers) ->
    true = ets:match_delete(?WANTS, {{'_', Reader}, '_', '_'}),
    {noreply, maps:remove(Reader, Readers)};
handle_info(_Stray, Readers) ->
    {noreply, Readers}.

distribute(Group, Value) ->
    Members = [Row || {_, Until, _, _} = Row <- members_of(Group), Until > now_ms()],
    Full = [Channel || {{_, Channel}, _, Ttl, Capacity} <- Members,
                       push(Channel, Value, now_ms() + Ttl, Capacity) =/= ok],
    count_losses(full, length(Full)),
    _ = [?LOG_INFO(#{what => channels_over_capacity, group => Group, full => length(Full),
                     of_channels => length(Members)}, #{domain => [hornbeam]}) || Full =/= []],
    ok.

push(Channel, Value, Deadline, Capacity) ->
    expire(Channel),
    Pushed = hornbeam_channel_queues:push(Channel, Value, Deadline, Capacity),
    _ = [send_wanted(Channel) || Pushed =:= ok],
    Pushed.

expire(Channel) ->
    count_losses(expired, hornbeam_channel_queues:expire(Channel)).

%% What waits goes to those who wait for it, as long as there are both.
send_wanted(Channel) ->
    case reader(Channel) of
        {ok, Reader} ->
            expire(Channel),
            send_next(hornbeam_channel_queues:pop(Channel), Channel, Reader);
        none ->
            ok
    end.

send_next(empty, _Channel, _Reader) ->
    ok;
send_next({ok, Turn, Value, Deadline}, Channel, {Key, _, Address}) ->
    add_want(Key, Address, {2, -1, 0, 0}),
    case hornbeam_pubsub:publish_value(Address, delivery(Channel, Turn, Value, Deadline)) of
        {ok, 1} ->
            send_wanted(Channel);
        _ ->
            add_want(Key, Address, {2, 1}),
            keep(Channel, Turn, Value, Deadline),
            look_later(Channel)
    end.

%% Once, however many messages come meanwhile.
look_later(Channel) ->
    _ = [erlang:send_after(?AGAIN, self(), {look, Channel}) || ets:insert_new(?LOOKS, {Channel})],
    ok.

%% One of them, so that each gets its share.
reader(Channel) ->
    case ets:select(?WANTS, [{{{Channel, '_'}, '$1', '_'}, [{'>', '$1', 0}], ['$_']}]) of
        [] -> none;
        Waiting -> {ok, lists:nth(rand:uniform(length(Waiting)), Waiting)}
    end.

delivery(Channel, Turn, Value, Deadline) ->
    Left = max(Deadline - now_ms(), 1),
    Parts = [hornbeam_msgpack:array(5), hornbeam_msgpack:str(<<"queued">>),
             hornbeam_msgpack:str(Channel), hornbeam_msgpack:uint(Turn),
             hornbeam_msgpack:uint(Left), hornbeam_value:to_packed(Value)],
    hornbeam_value:from_packed(iolist_to_binary(Parts)).
