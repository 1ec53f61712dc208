%% Loads the app's code anew when its files change (option `reload'), for development.
%%
%%   watching ──a file changed──▶ reloading ──over──▶ watching
%%                                  │   ▲ another one changed meanwhile
%%                                  └───┘
%%
%% A Python process watches the files (hornbeam_erlang._watch) and gathers what is saved together.
%% It ends with this process, and with the node. When it ends by itself it is started again.
-module(hornbeam_reloader).
-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([start_link/2, report/1, report_failure/1, conclude/1, watch/1, await_change/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, reload/1]).

-record(state, {
    mount :: hornbeam_pool:name(),
    options :: hornbeam_config:app_options(),
    port :: port() | undefined,
    reload = none :: none | {reference(), next()}
}).

-type next() :: rest | again.
%% What follows the reload that is under way.

%% After the watcher's end, or while a reload of somebody else's is under way, the next try comes
%% so much later (ms).
-define(PAUSE, 1000).

-define(WATCH_ENDED, <<"the watch of the files ended">>).

%% @doc Watch the files of a mount's app from now on. The error says why that cannot be.
-spec start_link(hornbeam_pool:name(), hornbeam_config:app_options()) -> gen_server:start_ret().
start_link(Mount, Options) ->
    gen_server:start_link(?MODULE, {Mount, Options}, []).

%% @doc Log what became of a reload that nobody waits for, but for what {@link hornbeam:reload/0}
%% has logged itself.
-spec conclude(ok | {error, hornbeam:reload_error()}) -> ok.
conclude(Outcome) ->
    case is_failure(Outcome) of
        true -> ok;
        false -> report(Outcome)
    end.

%% @doc Log why the code of an app did not start, if that is what became of a reload.
-spec report_failure(ok | {error, hornbeam:reload_error()}) -> ok.
report_failure(Outcome) ->
    case is_failure(Outcome) of
        true -> report(Outcome);
        false -> ok
    end.

is_failure({error, {mount, _Path, Why}}) -> is_failure({error, Why});
is_failure({error, {_Whose, _Failure}}) -> true;
is_failure(_Outcome) -> false.

%% @doc Log what became of a reload.
-spec report(ok | {error, hornbeam:reload_error()}) -> ok.
report(ok) ->
    ?LOG_NOTICE(#{what => reloaded}, #{domain => [hornbeam]});
report({error, Reason}) ->
    ?LOG_ERROR("not reloaded: ~ts", [hornbeam:format_error(Reason)], #{domain => [hornbeam]}).

%% @doc Wait for the next change of a file that {@link watch/1} has begun to look at; the error says
%% why there will be none.
-spec await_change(port()) -> ok | {error, {reload, Sentence :: binary()}}.
await_change(Port) ->
    receive
        {Port, {data, {eol, <<"changed ", _/binary>>}}} -> ok;
        {Port, {data, {eol, <<"watching">>}}} -> await_change(Port);
        {Port, {data, {eol, <<"failed ", Sentence/binary>>}}} -> {error, {reload, Sentence}};
        {Port, {exit_status, _}} -> {error, {reload, ?WATCH_ENDED}}
    end.

%% @private
-spec init({hornbeam_pool:name(), hornbeam_config:app_options()}) ->
    {ok, #state{}} | {stop, {shutdown, {reload, binary()}}}.
init({Mount, #{startup_timeout := Timeout} = Options}) ->
    Port = watch(Options),
    receive
        {Port, {data, {eol, <<"watching">>}}} ->
            {ok, #state{mount = Mount, options = Options, port = Port}};
        {Port, {data, {eol, <<"failed ", Sentence/binary>>}}} ->
            refused(Sentence);
        {Port, {exit_status, _}} ->
            refused(?WATCH_ENDED)
    after Timeout ->
        refused(<<"the files were not watched in time (startup_timeout)">>)
    end.

refused(Sentence) -> {stop, {shutdown, {reload, Sentence}}}.

%% @doc Let the calling process hear of changes of an app's files.
-spec watch(hornbeam_config:app_options()) -> port().
watch(Options) ->
    {ok, Python} = hornbeam_config:python(Options),
    {ok, Port} = hornbeam_worker_port:watch(Python, arguments(Options), Options),
    Port.

arguments(#{reload_includes := Includes, reload_excludes := Excludes,
            reload_delay := Delay} = Options) ->
    lists:append([["--delay", integer_to_list(Delay)],
                  [Word || Pattern <- Includes, Word <- ["--include", Pattern]],
                  [Word || Pattern <- Excludes, Word <- ["--exclude", Pattern]],
                  ["--" | folders(Options)]]).

folders(#{reload_dirs := [], chdir := Dir, pythonpath := Path}) -> [Dir | Path];
folders(#{reload_dirs := Folders}) -> Folders.

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
handle_info({Port, {data, {eol, <<"changed ", Files/binary>>}}}, #state{port = Port} = State) ->
    ?LOG_NOTICE(#{what => files_changed, files => Files}, #{domain => [hornbeam]}),
    {noreply, changed(State)};
handle_info({Port, {data, {eol, <<"failed ", Sentence/binary>>}}}, #state{port = Port} = State) ->
    ?LOG_ERROR(#{what => files_are_not_watched, reason => Sentence}, #{domain => [hornbeam]}),
    {noreply, State};
handle_info({Port, {exit_status, Status}}, #state{port = Port} = State) ->
    ?LOG_WARNING(#{what => watch_ended, status => Status}, #{domain => [hornbeam]}),
    _ = erlang:send_after(?PAUSE, self(), watch),
    {noreply, State#state{port = undefined}};
handle_info(watch, #state{options = Options} = State) ->
    {noreply, State#state{port = watch(Options)}};
handle_info(changed, State) ->
    {noreply, changed(State)};
handle_info({'DOWN', Ref, process, _, {reloaded, Outcome}}, #state{reload = {Ref, Next}} = State) ->
    {noreply, reloaded(Outcome, Next, State#state{reload = none})};
handle_info(_Stray, State) ->
    {noreply, State}.

%% A reload takes its time; what is saved meanwhile may or may not be in it.
changed(#state{mount = Mount, reload = none} = State) ->
    {_, Ref} = spawn_monitor(?MODULE, reload, [Mount]),
    State#state{reload = {Ref, rest}};
changed(#state{reload = {Ref, _}} = State) ->
    State#state{reload = {Ref, again}}.

%% @private
-spec reload(hornbeam_pool:name()) -> no_return().
reload(Mount) ->
    exit({reloaded, hornbeam:reload(Mount)}).

reloaded({error, {mount, _Mount, reloading}}, Next, State) ->
    reloaded({error, reloading}, Next, State);
reloaded({error, reloading}, _Next, State) ->
    _ = erlang:send_after(?PAUSE, self(), changed),
    State;
reloaded(Outcome, Next, State) ->
    ok = conclude(Outcome),
    next(Next, State).

next(rest, State) -> State;
next(again, State) -> changed(State).
