%% The figures of the last hour, a row every two seconds, in a table that this process has; and who
%% is told each new one.
%%
%% Whoever watches gets `{dashboard, Json}' every two seconds, made once for all. While nobody does,
%% a row is all that is made.
-module(hornbeam_dashboard_history).
-behaviour(gen_server).

-export([start_link/0, watch/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(history, {
    number = 0 :: non_neg_integer(),
    before :: hornbeam_dashboard_figures:reading(),
    watchers = #{} :: #{reference() => pid()}
}).

%% Rows: {Number, [number() | undefined]}.
-define(TABLE, ?MODULE).

%% Between two rows (ms), and how many there are: an hour.
-define(INTERVAL, 2000).
-define(ROWS, 1800).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Have the calling process told what is new from now on, and see what has been: the names of
%% the columns, and the rows, the oldest first. Only so many may watch. The end of what is told is a
%% `DOWN' of the monitor.
-spec watch(Most :: pos_integer()) ->
    {ok, #{atom() => term()}, Monitor :: reference()} | {error, too_many | gone}.
watch(Most) ->
    Monitor = erlang:monitor(process, ?MODULE),
    try gen_server:call(?MODULE, {watch, Most}) of
        {ok, Told} ->
            {ok, Told, Monitor};
        {error, too_many} = Error ->
            true = erlang:demonitor(Monitor, [flush]),
            Error
    catch
        exit:_ ->
            true = erlang:demonitor(Monitor, [flush]),
            {error, gone}
    end.

%% @private
-spec init([]) -> {ok, #history{}}.
init([]) ->
    process_flag(trap_exit, true),
    ?TABLE = ets:new(?TABLE, [named_table, ordered_set]),
    ok = hornbeam_dashboard_log:install(),
    wait(),
    {Reading, _Workers} = hornbeam_dashboard_figures:read(),
    {ok, #history{before = Reading}}.

wait() -> erlang:send_after(?INTERVAL, self(), sample).

%% @private
-spec handle_call({watch, pos_integer()}, gen_server:from(), #history{}) ->
    {reply, {ok, #{atom() => term()}} | {error, too_many}, #history{}}.
handle_call({watch, Most}, _From, #history{watchers = Watchers} = History)
        when map_size(Watchers) >= Most ->
    {reply, {error, too_many}, History};
handle_call({watch, _Most}, {Pid, _}, #history{watchers = Watchers} = History) ->
    Rows = [Row || {_Number, Row} <- ets:tab2list(?TABLE)],
    Told = #{interval => ?INTERVAL / 1000, rows => Rows, most_rows => ?ROWS,
             columns => hornbeam_dashboard_figures:columns()},
    Ref = erlang:monitor(process, Pid),
    {reply, {ok, Told}, History#history{watchers = Watchers#{Ref => Pid}}}.

%% @private
-spec handle_cast(term(), #history{}) -> {noreply, #history{}}.
handle_cast(_Request, History) ->
    {noreply, History}.

%% @private
-spec handle_info(term(), #history{}) -> {noreply, #history{}}.
handle_info(sample, History) ->
    wait(),
    {noreply, sample(History)};
handle_info({'DOWN', Ref, process, _, _}, #history{watchers = Watchers} = History) ->
    {noreply, History#history{watchers = maps:remove(Ref, Watchers)}};
handle_info(_Stray, History) ->
    {noreply, History}.

sample(#history{number = Number, before = Before, watchers = Watchers} = History) ->
    {Reading, Info} = hornbeam_dashboard_figures:read(),
    Row = hornbeam_dashboard_figures:row(Before, Reading),
    true = ets:insert(?TABLE, {Number, Row}),
    true = ets:delete(?TABLE, Number - ?ROWS),
    tell(maps:values(Watchers), Row, Info),
    History#history{number = Number + 1, before = Reading}.

tell([], _Row, _Info) ->
    ok;
tell(Pids, Row, Info) ->
    Now = #{row => Row, server => hornbeam_dashboard_server:described(Info)},
    Json = hornbeam_dashboard_http:text(Now),
    lists:foreach(fun(Pid) -> Pid ! {dashboard, Json} end, Pids).

%% @private
-spec terminate(term(), #history{}) -> ok.
terminate(_Reason, _History) ->
    hornbeam_dashboard_log:uninstall().
