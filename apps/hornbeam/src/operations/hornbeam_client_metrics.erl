%% What apps have in the default registry of Python's `prometheus_client', of all workers together
%% (hornbeam_client_families).
%%
%% At a scrape each worker is asked, all at once and not for long; one that does not answer in time
%% counts as it did before. What a worker had when it was last asked stays when it is no more: so no
%% counter goes back. One that retires is asked for that, before it is told to. Those who scrape at
%% the same time get what the workers are asked for once.
-module(hornbeam_client_metrics).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/0, families/1]).
-export([init/1, handle_call/3, handle_cast/2, terminate/2]).
-export([retires/4]).

-type answer() :: {ok, {hornbeam_client_families:families(), LeftOut :: [binary()]}}
                | {error, term()}.

-record(state, {
    %% monotonic time at which the workers were asked last
    asked :: integer() | never,
    %% what each worker has said last, and its name
    workers = #{} :: #{pid() => {Name :: binary(), hornbeam_client_families:families()}},
    outlived = #{} :: hornbeam_client_families:families(),
    sums = #{} :: hornbeam_client_families:families(),
    %% what the log says of a family or a worker it says once
    logged = #{} :: #{term() => []}
}).

%% How long workers have to answer (ms): a scraper waits 10 s in all.
-define(PATIENCE, 1000).

%% Whoever scrapes may come while others have the workers asked, and waits for that, too.
-define(SCRAPER_PATIENCE, 4 * ?PATIENCE).

%% The pauses between two questions to a worker that retires (ms): it may end soon, or have requests
%% that take long.
-define(FIRST_PAUSE, 10).
-define(LONGEST_PAUSE, 1000).

%% How long who retires a worker waits until that was asked (ms), which takes microseconds.
-define(MOMENT, 100).

%% So much is remembered to have been logged.
-define(MOST_LOGGED, 1000).

-spec start_link() -> gen_server:start_ret().
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc The families now, but for those of names that are taken; none when it is not there.
-spec families(Taken :: #{Name :: binary() => []}) -> [prometheus_model:'MetricFamily'()].
families(Taken) ->
    try gen_server:call(?MODULE, {families, erlang:monotonic_time()}, ?SCRAPER_PATIENCE) of
        Families -> [hornbeam_client_families:model(Family)
                     || Family <- hornbeam_client_families:free(Families, Taken)]
    catch
        exit:_ -> []
    end.

%% @private
-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    _ = hornbeam_telemetry:detach(?MODULE),
    ok = hornbeam_telemetry:attach(?MODULE, [hornbeam, worker, retire],
                                   fun ?MODULE:retires/4, none),
    {ok, #state{asked = never}}.

%% @private
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, _State) ->
    _ = hornbeam_telemetry:detach(?MODULE),
    ok.

%% @private
-spec handle_call({families, integer()}, gen_server:from(), #state{}) ->
    {reply, hornbeam_client_families:families(), #state{}}.
handle_call({families, Since}, _From, #state{asked = Asked} = State)
        when is_integer(Asked), Asked >= Since ->
    {reply, State#state.sums, State};
handle_call({families, _Since}, _From, State0) ->
    State = summed(asked(State0#state{asked = erlang:monotonic_time()})),
    {reply, State#state.sums, State}.

%% @private
-spec handle_cast({heard, pid(), answer()}, #state{}) -> {noreply, #state{}}.
handle_cast({heard, Pid, Answer}, #state{workers = Workers} = State) ->
    %% Of one that is no more and was known it has been kept already.
    case maps:merge(hornbeam_pool:names(), maps:map(fun(_, {Name, _}) -> Name end, Workers)) of
        #{Pid := Name} -> {noreply, heard({Pid, Name, Answer}, State)};
        _ -> {noreply, State}
    end.

%% @private Runs in the process that retires a worker: that is to be asked before it is told to end,
%% and has an answer for it before it does.
-spec retires(hornbeam_telemetry:event(), map(), #{pid := pid(), _ => _}, none) -> ok.
retires(_Event, _Seconds, #{pid := Worker}, none) ->
    Retirer = self(),
    Asked = make_ref(),
    _ = spawn(fun() ->
        Call = begin_call(Worker),
        Retirer ! Asked,
        follow(Worker, answer(Worker, Call), ?FIRST_PAUSE)
    end),
    receive Asked -> ok after ?MOMENT -> ok end.

follow(Worker, Answer, Pause) ->
    gen_server:cast(?MODULE, {heard, Worker, Answer}),
    case Answer of
        {ok, _} ->
            receive after Pause -> ok end,
            follow(Worker, ask(Worker), min(2 * Pause, ?LONGEST_PAUSE));
        {error, _} ->
            ok
    end.

asked(#state{workers = Before, outlived = Outlived} = State) ->
    Names = hornbeam_pool:names(),
    {Living, Dead} = lists:partition(fun({Pid, _}) -> is_map_key(Pid, Names) end,
                                     maps:to_list(Before)),
    Stay = lists:foldl(fun({_, {_, Families}}, All) ->
        hornbeam_client_families:outlived(Families, All)
    end, Outlived, Dead),
    lists:foldl(fun heard/2, State#state{workers = maps:from_list(Living), outlived = Stay},
                answers(maps:to_list(maps:with(ready(), Names)))).

%% Those that take calls; also such as retire.
ready() ->
    lists:append([hornbeam_pool_row:workers(Pool) || Pool <- hornbeam_pool:all()]).

answers(Names) ->
    Asked = [{Pid, Name, element(2, spawn_monitor(erlang, apply, [fun ask_apart/1, [Pid]]))}
             || {Pid, Name} <- Names],
    [receive
         {'DOWN', Ref, process, _, {answer, Answer}} -> {Pid, Name, Answer};
         {'DOWN', Ref, process, _, Crash} -> {Pid, Name, {error, Crash}}
     end || {Pid, Name, Ref} <- Asked].

-spec ask_apart(pid()) -> no_return().
ask_apart(Pid) ->
    exit({answer, ask(Pid)}).

ask(Pid) -> answer(Pid, begin_call(Pid)).

begin_call(Pid) ->
    hornbeam_call:start(Pid, function, <<"hornbeam_erlang._worker.registry">>, <<"collect">>,
                        hornbeam_value:to_packed({term, []}), hornbeam_msgpack:map(0)).

-spec answer(pid(), hornbeam_call:call()) -> answer().
answer(Pid, Call) ->
    case hornbeam_call:await(Pid, Call, ?PATIENCE) of
        {ok, Packed} -> readable(hornbeam_value:to_term({packed, Packed}));
        {error, _} = Error -> Error
    end.

readable({ok, Answer}) -> {ok, hornbeam_client_families:read(Answer)};
readable({error, _} = Error) -> Error.

heard({Pid, Name, {ok, {Families, LeftOut}}}, #state{workers = Workers} = State) ->
    left_out(LeftOut, not_as_metrics_are,
             State#state{workers = Workers#{Pid => {Name, Families}}});
heard({_Pid, _Name, {error, worker_down}}, State) ->
    State;
heard({_Pid, Name, {error, Reason}}, State) ->
    {Kind, Said} = said(Reason),
    logged({Name, Kind}, #{what => client_metrics_not_collected, worker => Name,
                           reason => Said}, State).

%% Each message may be another one.
said({python, Class, Message, _Traceback}) -> {Class, {Class, Message}};
said(Reason) when is_atom(Reason) -> {Reason, Reason};
said(Reason) -> {other, Reason}.

summed(#state{workers = Workers, outlived = Outlived} = State) ->
    {Sums, LeftOut} = hornbeam_client_families:sum(maps:values(Workers), Outlived),
    left_out(LeftOut, of_two_types, State#state{sums = Sums}).

left_out(Names, Why, State) ->
    lists:foldl(fun(Name, Before) ->
        logged({Name, Why}, #{what => client_metric_left_out, metric => Name, reason => Why},
               Before)
    end, State, Names).

%% At a scrape, which comes again and again.
logged(Key, _Report, #state{logged = Logged} = State)
        when is_map_key(Key, Logged); map_size(Logged) >= ?MOST_LOGGED ->
    State;
logged(Key, Report, #state{logged = Logged} = State) ->
    ?LOG_WARNING(Report, #{domain => [hornbeam]}),
    State#state{logged = Logged#{Key => []}}.
