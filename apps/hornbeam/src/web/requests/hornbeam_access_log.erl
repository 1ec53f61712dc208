%% The access log: a line on standard output for each request and WebSocket (option `access_log').
%%
%%   idle ──first entry──▶ gathering ──50 ms──▶ writing ──▶ idle, or gathering if more has come
%%
%% Who has served a request puts what there is to say into a table and goes on; only the first entry
%% wakes this process, which makes lines of all that there are and writes them at once. When the
%% reader of the output stands still, this process alone waits. What comes meanwhile is kept up to a
%% bound, and then dropped and counted.
-module(hornbeam_access_log).
-behaviour(gen_server).

-include("hornbeam_request.hrl").

-export([new_table/0, start_link/1, http/4, refused/3, accepted/1, closed/5]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-type socket() :: {hornbeam_access_line:client(), Path :: binary(), Mount :: binary(),
                   hornbeam_headers:fields()}.
%% Of its request's fields only what it has kept is known: its id.

-record(state, {
    format :: hornbeam_option:log_format(),
    counts :: atomics:atomics_ref(),
    second = 0 :: integer(),
    clock = {{{1970, 1, 1}, {0, 0, 0}}, <<"+0000">>} :: hornbeam_access_line:clock()
}).

%% Rows: {Number, Entry}, in their order.
-define(TABLE, ?MODULE).

%% Entries that wait to be written.
-define(MOST, 10000).

%% How long entries are gathered (ms): nobody who looks at a screen sees that.
-define(PAUSE, 50).

%% What is counted: entries that wait, and that were dropped.
-define(WAITING, 1).
-define(DROPPED, 2).

%% @doc Make the table; its owner must outlive everybody.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, ordered_set, {write_concurrency, true}]),
    ok.

%% @doc Log from now on.
-spec start_link(hornbeam_option:log_format()) -> gen_server:start_ret().
start_link(Format) ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, Format, []).

%% @doc A request was answered; `Began' is a monotonic time (µs).
-spec http(hornbeam_request:request(), {Status :: 100..599, IsWhole :: boolean()},
           Bytes :: non_neg_integer(), Began :: integer()) -> ok.
http(Request, Answer, Bytes, Began) ->
    with_log(fun(Names) -> http_entry(Request, Answer, Bytes, Began, Names) end).

%% @doc A request was answered at once, and not by the app.
-spec refused(hornbeam_request:request(), Status :: 100..599, Bytes :: non_neg_integer()) -> ok.
refused(Request, Status, Bytes) ->
    http(Request, {Status, true}, Bytes, erlang:monotonic_time(microsecond)).

http_entry(Request, {Status, IsWhole}, Bytes, Began, Names) ->
    #request{method = Method, path = Path, query = Query, version = Version, upgrade = Upgrade,
             mount = Mount, fields = Fields} = Request,
    {http, Request#request.peer, {method(Upgrade, Method), Path, Query, Version}, Mount, Status,
     IsWhole, Bytes, erlang:monotonic_time(microsecond) - Began, fields(Names, Fields)}.

fields(Names, Fields) ->
    [Field || Name <- Names, {_, _} = Field <- [lists:keyfind(Name, 1, Fields)]].

method(websocket, _Method) -> websocket;
method(none, Method) -> Method.

%% @doc A WebSocket was opened.
-spec accepted(socket()) -> ok.
accepted({Client, Path, Mount, Fields}) ->
    with_log(fun(Names) -> {accepted, Client, Path, Mount, fields(Names, Fields)} end).

%% @doc A WebSocket was closed, after so many seconds and messages.
-spec closed(socket(), Code :: 1000..4999, Seconds :: non_neg_integer(), In, Out) -> ok
    when In :: {Messages :: non_neg_integer(), Bytes :: non_neg_integer()}, Out :: In.
closed({Client, Path, Mount, Fields}, Code, Seconds, In, Out) ->
    with_log(fun(Names) ->
        {closed, Client, Path, Mount, fields(Names, Fields), Code, Seconds, In, Out}
    end).

with_log(Entry) ->
    case persistent_term:get(?MODULE, none) of
        none -> ok;
        {Log, Counts, Names} ->
            insert(atomics:add_get(Counts, ?WAITING, 1), Log, Counts, Names, Entry)
    end.

insert(Waiting, _Log, Counts, _Names, _Entry) when Waiting > ?MOST ->
    atomics:sub(Counts, ?WAITING, 1),
    atomics:add(Counts, ?DROPPED, 1);
insert(Waiting, Log, _Counts, Names, Entry) ->
    true = ets:insert(?TABLE, {erlang:unique_integer([monotonic]), Entry(Names)}),
    _ = [Log ! gather || Waiting =:= 1],
    ok.

%% @private
-spec init(hornbeam_option:log_format()) -> {ok, #state{}}.
init(Format) ->
    process_flag(trap_exit, true),
    true = ets:delete_all_objects(?TABLE),
    Counts = atomics:new(2, []),
    Names = hornbeam_access_line:fields_of_interest(Format),
    persistent_term:put(?MODULE, {self(), Counts, Names}),
    {ok, #state{format = Format, counts = Counts}}.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {noreply, #state{}}.
handle_call(_Request, _From, State) ->
    {noreply, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Request, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info(gather, State) ->
    _ = erlang:send_after(?PAUSE, self(), write),
    {noreply, State};
handle_info(write, #state{counts = Counts} = State) ->
    {Written, Next} = write(State),
    _ = [self() ! gather || atomics:sub_get(Counts, ?WAITING, Written) > 0],
    {noreply, Next};
handle_info(_Stray, State) ->
    {noreply, State}.

write(State0) ->
    #state{format = Format, counts = Counts, clock = Clock} = State = at_second(State0),
    Lines = lines(ets:first(?TABLE), Format, Clock),
    put_chars(iolist_to_binary([Lines, dropped(atomics:exchange(Counts, ?DROPPED, 0))])),
    {length(Lines), State}.

lines('$end_of_table', _Format, _Clock) ->
    [];
lines(Number, Format, Clock) ->
    [{_, Entry}] = ets:take(?TABLE, Number),
    [hornbeam_access_line:text(Format, Clock, of_client(Entry))
     | lines(ets:first(?TABLE), Format, Clock)].

dropped(0) -> [];
dropped(Lines) -> [integer_to_binary(Lines), " lines of the access log dropped\n"].

of_client({http, Peer, _, _, _, _, _, _, _} = Entry) ->
    setelement(2, Entry, hornbeam_scope:client(Peer));
of_client(Entry) ->
    Entry.

%% An output that nobody reads any more is no reason to end.
put_chars(Lines) ->
    try
        io:put_chars(user, Lines)
    catch
        error:_Terminated -> ok
    end.

%% The time of the lines is that of their writing; it is made once a second.
at_second(#state{second = Second} = State) ->
    case erlang:system_time(second) of
        Second -> State;
        Now -> State#state{second = Now, clock = clock(Now)}
    end.

clock(Now) ->
    Utc = calendar:system_time_to_universal_time(Now, second),
    Local = calendar:universal_time_to_local_time(Utc),
    Minutes = (calendar:datetime_to_gregorian_seconds(Local)
                   - calendar:datetime_to_gregorian_seconds(Utc)) div 60,
    {Local, offset(Minutes)}.

offset(Minutes) when Minutes < 0 -> offset($-, -Minutes);
offset(Minutes) -> offset($+, Minutes).

offset(Sign, Minutes) ->
    iolist_to_binary(io_lib:format("~c~2..0b~2..0b", [Sign, Minutes div 60, Minutes rem 60])).

%% The last lines of an orderly stop.
%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, State) ->
    _ = persistent_term:erase(?MODULE),
    _ = write(State),
    ok.
