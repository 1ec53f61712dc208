%% @doc Serve a Python app's WebSockets and HTTP from the BEAM.
%%
%% ```
%% hornbeam:start("app:application", #{worker_class => asgi}).
%% '''
-module(hornbeam).

-export([start/1, start/2, child_spec/1, child_spec/2, start_link/2]).
-export([drain/0, stop/0, info/0, cluster/0, reload_certificate/0, format_error/1]).
-export([connections/0, connections/1, kick/3]).
-export([reload/0, reload/1, set_workers/1, set_workers/2, stacks/1]).
-export([publish/2, subscribe/1, unsubscribe/1]).
-export([call/3, call/4, cast/3, cast/4]).
-export([register_function/2, register_function/3, unregister_function/1]).
-export([register_hook/2, unregister_hook/1]).
-export_type([served/0, start_error/0, reload_error/0, certificate_error/0, python_error/0]).

-type served() ::
    App :: string() | binary()
    | {App :: string() | binary(), options()}
    | options().
%% What a child of a supervisor serves; in options alone `app' or `mounts' is one of them.

-type options() :: #{atom() => term()} | [{atom(), term()}].
%% A map, or Elixir's keyword list.

-type python_error() :: #{stage := binary(), class := binary(), message := binary(),
                          traceback := binary()}.
%% Where in its start the app failed ("config", "import" or "lifespan"), and how.

-type start_error() ::
    hornbeam_config:error()
    | {already_started, App :: binary()}
    | app_error()
    | hornbeam_config:in_mount(app_error())
    | {listen, hornbeam_tls:error()
              | {Option :: atom(), Address :: binary(), inet:posix() | term()}}
    | {metrics, Sentence :: unicode:chardata()}
    | {operations, hornbeam_operations:address(), inet:posix() | term()}
    | {local_socket, Sentence :: unicode:chardata()}
    | {cluster, Sentence :: unicode:chardata()}
    | {application, not_started | term()}.

-type app_error() ::
    {python, python_error()} | {worker, Sentence :: binary()} | {reload, Sentence :: binary()}.

-type certificate_error() :: hornbeam_tls:error() | no_tls | not_serving.

-type reload_error() :: pool_error() | hornbeam_config:in_mount(pool_error()).

-type pool_error() ::
    {python, python_error()}
    | {worker, Sentence :: binary()}
    | not_serving
    | reloading
    | interrupted.
%% `not_serving': nothing is served, not at that path, or the start is not over. `reloading': a
%% reload is under way. `interrupted': the process that changes the workers has ended meanwhile.
%% They serve on, with the old code, with the new, or some with each: ask again.

%% @doc Serve an app with the options of the application's environment; or apps, with a map of
%% options in which `app' or `mounts' names them. See {@link start/2}.
-spec start(App :: string() | binary() | options()) -> ok | {error, start_error()}.
start(Options) when is_map(Options) ->
    start(maps:get(app, Options, undefined), maps:remove(app, Options));
start([{_, _} | _] = Options) ->
    start(maps:from_list(Options));
start(App) ->
    start(App, #{}).

%% @doc Serve an app, given as `"module:attribute"'.
%%
%% Returns when every worker has imported the app and the listener accepts connections. The
%% options, their units and defaults stand in docs/guide/configuration.md; what the
%% application's environment (sys.config) says holds where the map says nothing. On an error
%% nothing is left running; {@link format_error/1} makes it a sentence.
%%
%% Several apps are served by the option `mounts', a list of maps with `path', `app' and options of
%% that app; an app that is named beside it is the one at `/'.
-spec start(App :: string() | binary() | undefined, options()) -> ok | {error, start_error()}.
start(App, Given) ->
    Options = as_map(Given),
    case application:ensure_all_started(hornbeam) of
        {ok, _} -> logged(hornbeam_sup:start_server(App, Options), App, Options);
        {error, Reason} -> {error, {application, Reason}}
    end.

%% @doc A child of your own supervisor that serves an app; see {@link start_link/2}.
%%
%% ```
%% init([]) ->
%%     ok = hornbeam:register_function(price, fun shop_prices:price/1),
%%     {ok, {#{}, [hornbeam:child_spec("shop:application", #{workers => 4})]}}.
%% '''
%%
%% The same in a supervisor of Elixir, where `{:hornbeam, app: "shop:application", workers: 4}'
%% does, too. It is permanent, and has all the time that `shutdown_timeout' gives it.
-spec child_spec(served()) -> supervisor:child_spec().
child_spec({App, Options}) ->
    child_spec(App, Options);
child_spec(Options) when is_map(Options) ->
    child_spec(maps:get(app, Options, undefined), maps:remove(app, Options));
child_spec([{_, _} | _] = Options) ->
    child_spec(maps:from_list(Options));
child_spec(App) ->
    child_spec(App, #{}).

%% @doc The same, with options.
-spec child_spec(App :: string() | binary() | undefined, options()) -> supervisor:child_spec().
child_spec(App, Options) ->
    %% Supervisors print what they start, and there may be secrets in it.
    #{id => hornbeam, start => {hornbeam, start_link, [App, hornbeam_secret:hide(Options)]},
      type => supervisor, modules => [hornbeam_server_sup], restart => permanent,
      shutdown => infinity}.

%% @doc Serve an app as {@link start/2} does, below the calling process, a supervisor.
%%
%% It returns when the listener accepts connections, so what is started before it (processes that
%% the app calls, functions that are registered) is there for the app. What is served stops in order
%% with the supervisor: first the listener, then the workers. When its own restarts are used up it
%% ends, and the supervisor decides what comes then. The application hornbeam must have been
%% started: name it among the `applications' of yours. One node serves once.
-spec start_link(App :: string() | binary() | undefined,
                 options() | hornbeam_secret:secret(options())) ->
    {ok, pid()} | {error, start_error()}.
start_link(App, Options) when is_function(Options, 0) ->
    start_link(App, hornbeam_secret:show(Options));
start_link(App, Given) ->
    Options = as_map(Given),
    logged(hornbeam_sup:start_link_server(App, Options), App, Options).

%% What is neither a map nor a list of pairs is refused as any wrong option is.
as_map(Options) ->
    case is_list(Options) andalso lists:all(fun is_pair/1, Options) of
        true -> maps:from_list(Options);
        false -> Options
    end.

is_pair({_Key, _Value}) -> true;
is_pair(_Other) -> false.

%% A shell cuts values off, and a supervisor prints them as terms.
logged(ok, _App, _Options) ->
    ok;
logged({ok, _} = Started, _App, _Options) ->
    Started;
logged({error, Reason} = Error, App, Options) ->
    hornbeam_start_error:log(Reason, #{app => App, options => hornbeam_sup:given(Options)}),
    Error.

%% @doc Begin to stop, as {@link stop/0} does, and do not wait for its end.
%%
%% When it returns, `health_path' answers 503 and all is served; after `drain_delay' connections are
%% closed and workers end. A second one changes nothing.
-spec drain() -> ok | {error, supervised | not_serving}.
drain() ->
    unless_supervised(fun hornbeam_sup:drain/0, {error, not_serving}).

%% @doc Stop serving: close the listener and the sockets (1001), drain the workers, end them.
%%
%% Before that `health_path' answers 503 for `drain_delay', or what is left of it, while all is
%% served. Then it waits at most about `shutdown_timeout' for each of the two; a second stop does
%% nothing. What a supervisor of yours has started ({@link child_spec/2}) it stops:
%% `supervisor:terminate_child/2'.
-spec stop() -> ok | {error, supervised}.
stop() ->
    unless_supervised(fun hornbeam_sup:stop_server/0, ok).

unless_supervised(Do, Otherwise) ->
    case whereis(hornbeam_sup) of
        undefined -> Otherwise;
        _ -> unless_supervised(hornbeam_sup:is_supervised(), Do, Otherwise)
    end.

unless_supervised(true, _Do, _Otherwise) -> {error, supervised};
unless_supervised(false, Do, _Otherwise) -> Do().

%% @doc What is served now; empty when nothing is.
%%
%% `address' (the first of `addresses'), `apps' (by the paths that they are served at), `streams'
%% (conversations with them now), `sockets' (clients' open connections, also those that say
%% nothing), `waiting' (requests that wait for a worker); `local_socket' (where processes outside of
%% the workers come in) and `visitors' (how many are there), unless the option local_socket is off;
%% `operations' (where metrics are served), with the option metrics; since the start
%% `restarts', `ended' (how many workers ended, by the reason) and `counters'; since the node's
%% start `pubsub_losses' (see {@link hornbeam_pubsub:losses/0}), `channel_losses' (see {@link
%% hornbeam_channels:losses/0}) and `quota': what apps keep in the node, in `bytes' and `rows', all
%% together and of each of the `kinds', the `limits', and how often each has `refused' more.
%% `workers', for each: `pool' (its app's path), `name' (`worker-1', or `worker-1@/api' where there
%% are several apps), `os_pid', `state' (starting, ready, retiring, draining), `streams', `requests'
%% and `messages' that it was given, `rss' (bytes), `seconds' since its start, `latency' (ms that
%% its event loop took to answer the last heartbeat), `slow' (whether the answer to one is late
%% now), and of its place `restarts' and `last_end', why the worker before it ended.
-spec info() -> #{atom() => term()}.
info() ->
    of_node(maps:merge(hornbeam_pool:info(), hornbeam_listener:info())).

of_node(Served) when map_size(Served) =:= 0 -> Served;
of_node(Served) ->
    maps:merge(Served#{pubsub_losses => hornbeam_pubsub:losses(),
                       channel_losses => hornbeam_channels:losses(),
                       quota => hornbeam_quota:info()},
               maps:merge(hornbeam_visitor_listener:info(), hornbeam_operations_listener:info())).

%% @doc This node's cluster, also while nothing is served.
%%
%% `name'; of this node its own name (`node') and `incarnation', a number that no other life of it
%% has; `healed', how often a node that was out of reach was there again; `losses' between nodes, by
%% what was said and why it was lost (`full': too much waited; `down': there was no way any more;
%% `cut': under way when a connection ended, so that it may have arrived; `not_understood': of no
%% known form); and the other nodes as `peers', see {@type hornbeam_cluster_status:peer()}.
-spec cluster() -> #{atom() => term()}.
cluster() ->
    hornbeam_cluster_status:all().

%% @doc All open WebSockets and event streams, of all nodes; see {@link connections/1}.
-spec connections() -> [hornbeam_connection_registry:description()].
connections() ->
    connections(#{}).

%% @doc The open WebSockets and event streams that a filter lets through, oldest first.
%%
%% Of each: `id', `pid', `kind' (websocket or event_stream), `mount' (its app's path), `path',
%% `peer' ({Host, Port}), `worker' (its name), `state' (open or resuming), `seconds' since it was
%% opened, `messages_in', `bytes_in', `messages_out', `bytes_out',
%% `untaken' and `untaken_bytes' (what the app has not said it has taken, which it does half a
%% window at a time), `mailbox' (messages that wait in the connection's process), `unsent' (bytes
%% that the client has not read), `queue' (what of all these waits, bytes and messages),
%% `subscriptions' (topics), and `resume' (none, or how often it went on with another worker, how
%% many seconds ago, and how long it had none). A filter is a map of what must be equal, or a fun
%% that says true. A connection that is busy while none of the others answers for 0.5 s is left out,
%% and 5 s after the question any.
%%
%% Where this node has a name, each has its `node', and an `id' that is a text with that in front;
%% those of the other nodes of the cluster are in the list, too, unless the filter says `node'. Of a
%% node that does not answer (it has 1.5 s to begin) there is `#{node, state => silent}' at the end,
%% whatever the filter.
-spec connections(#{atom() => term()} | fun((Description) -> boolean())) -> [Description]
    when Description :: hornbeam_connection_registry:description().
connections(Filter) when is_map(Filter); is_function(Filter, 1) ->
    hornbeam_control_cluster:connections(Filter).

%% @doc Close the WebSocket with an id of {@link connections/1}, or end the event stream, which has
%% no word for a code and a reason. The reason has at most 123 bytes. A number alone is one of this
%% node; `no_node' and `no_answer' are about another, `NODE/NUMBER'.
-spec kick(hornbeam_control_name:global_id() | string(), Code :: 1000..4999,
           Reason :: unicode:chardata()) ->
    ok | {error, not_found | {bad_code, term()} | {bad_reason, term()} | no_node | no_answer}.
kick(Id, Code, Reason) ->
    hornbeam_control_cluster:kick(Id, Code, Reason).

%% @doc Read `certfile', `keyfile' and `cacertfile' again, for connections from now on.
%%
%% Those that are open stay as they are. When a file is bad nothing changes.
-spec reload_certificate() -> ok | {error, certificate_error()}.
reload_certificate() ->
    hornbeam_listener:reload_certificate().

%% @doc Load the app's code anew, without a moment in which nothing is served.
%%
%% Fresh workers import it beside the old ones. When all of them are ready they take over, and
%% the old ones finish what they run: no request is lost, and a WebSocket goes on until its end or
%% `drain_timeout'. When the new code does not start, nothing has changed, and the error has the
%% Python traceback, which is logged too: a shell cuts it off. A SIGHUP to the node does the same.
%%
%% Of several apps each is loaded by itself, one after the other: that the code of one does not
%% start changes nothing for the others, and the error says which it was, or the first.
-spec reload() -> ok | {error, reload_error()}.
reload() ->
    case hornbeam_pool:all() of
        [] -> {error, not_serving};
        Pools -> first_error([reload(Pool) || Pool <- Pools])
    end.

first_error(Outcomes) ->
    case [Error || {error, _} = Error <- Outcomes] of
        [Error | _] -> Error;
        [] -> ok
    end.

%% @doc The same for the app at a path, such as `"/api"'.
-spec reload(Path :: hornbeam_name:name()) -> ok | {error, reload_error()}.
reload(Path) ->
    Name = hornbeam_name:text(Path),
    logged_reload(in_mount(hornbeam_pool:reload(Name), Name, hornbeam_pool:all())).

in_mount({error, Why}, Name, [_ | _] = Pools) when Pools =/= [Name] ->
    {error, {mount, Name, Why}};
in_mount(Outcome, _Name, _Pools) ->
    Outcome.

logged_reload(Outcome) ->
    ok = hornbeam_reloader:report_failure(Outcome),
    Outcome.

%% @doc Run so many workers from now on, 1000 at most. New ones are started at once; those that are
%% too many finish what they run and end. Lasts until {@link stop/0}.
-spec set_workers(Workers :: pos_integer()) ->
    ok | {error, not_serving | several_apps | reloading | interrupted | hornbeam_config:error()}.
set_workers(Workers) ->
    case hornbeam_pool:all() of
        [_, _ | _] -> {error, several_apps};
        [Pool] -> set_workers(Pool, Workers);
        [] -> set_workers(<<"/">>, Workers)
    end.

%% @doc The same for the app at a path, such as `"/api"'.
-spec set_workers(Path :: hornbeam_name:name(), Workers :: pos_integer()) ->
    ok | {error, not_serving | reloading | interrupted | hornbeam_config:error()}.
set_workers(Path, Workers) ->
    case hornbeam_option:check(workers, Workers) of
        {ok, _} -> hornbeam_pool:set_workers(hornbeam_name:text(Path), Workers);
        error -> {error, {bad_option, workers, Workers}}
    end.

%% @doc What each handler of a worker waits for, and where its threads are; waits at most 5 s.
%%
%% The worker is named as in {@link info/0}: `<<"worker-1">>'; one of another node of the cluster
%% with that in front, `<<"NODE/worker-1">>'.
-spec stacks(hornbeam_name:name()) ->
    {ok, hornbeam_stacks:stacks()} | {error, hornbeam_calls:failure() | no_node | no_answer}.
stacks(Worker) ->
    hornbeam_control_cluster:stacks(Worker).

%% @doc A readable sentence for an error of {@link start/2}, {@link stop/0}, {@link reload/0},
%% {@link set_workers/1}, {@link reload_certificate/0}, and of those like them.
-spec format_error(start_error() | reload_error() | certificate_error() | several_apps | supervised
                   | {servers_option, atom()} | repeated) ->
    unicode:chardata().
format_error({listen, {tls, Sentence}}) ->
    Sentence;
format_error({tls, Sentence}) ->
    Sentence;
format_error(no_tls) ->
    "the server speaks no TLS: it was started without certfile";
format_error(not_serving) ->
    "no app is being served";
format_error(supervised) ->
    "a supervisor has what is served as its child: supervisor:terminate_child/2 stops it";
format_error(several_apps) ->
    "several apps are being served, and it is not said which is meant";
format_error(reloading) ->
    "a reload is under way already";
format_error(interrupted) ->
    "the process that changes the workers has ended meanwhile: the server stops, or ask again";
format_error({mount, Path, Reason}) ->
    [io_lib:format("mount ~ts: ", [shown(Path)]), format_error(Reason)];
format_error({servers_option, Key}) ->
    io_lib:format("option ~ts is the server's, and the same for all of its apps", [Key]);
format_error(repeated) ->
    "there is another app at this path";
format_error({bad_option, Key, undefined}) when Key =:= app; Key =:= path ->
    io_lib:format("~ts is not given; expected ~ts", [Key, hornbeam_config:expected(Key)]);
format_error({bad_option, {Option, Within}, undefined}) ->
    io_lib:format("option ~ts has no ~0tp; expected ~ts",
                  [Option, Within, hornbeam_config:expected({Option, Within})]);
format_error({bad_option, {Option, Within}, Value}) when is_atom(Option) ->
    io_lib:format("the ~0tp of option ~ts has the value ~0tp; expected ~ts",
                  [Within, Option, Value, hornbeam_config:expected({Option, Within})]);
format_error({bad_option, Key, Value}) ->
    io_lib:format("option ~0tp has the value ~0tp; expected ~ts",
                  [Key, Value, hornbeam_config:expected(Key)]);
format_error({cluster, Sentence}) ->
    Sentence;
format_error({already_started, App}) ->
    io_lib:format("~ts is being served already; stop it first", [App]);
format_error({python, #{stage := Stage, class := Class, message := Message,
                        traceback := Traceback}}) ->
    io_lib:format("the app failed (~ts) with ~ts: ~ts~ts",
                  [Stage, hornbeam_quoted:line(Class), hornbeam_quoted:line(Message),
                   hornbeam_quoted:lines(["\n", Traceback])]);
format_error({worker, Sentence}) ->
    Sentence;
format_error({local_socket, Sentence}) ->
    Sentence;
format_error({reload, Sentence}) ->
    Sentence;
format_error({listen, {_Option, Address, Reason}}) ->
    io_lib:format("cannot listen: ~ts (~0tp): ~ts", [inet:format_error(Reason), Reason, Address]);
format_error({metrics, Sentence}) ->
    Sentence;
format_error({operations, Address, Reason}) ->
    ["cannot listen for metrics: ", inet:format_error(Reason), ": ",
     hornbeam_operations:url(Address)];
format_error({application, not_started}) ->
    "the application hornbeam is not started: name it among the applications of yours";
format_error({application, Reason}) ->
    io_lib:format("the hornbeam application does not start: ~0tp", [Reason]).

%% What is no text is shown as it is.
shown(Path) when is_binary(Path) -> Path;
shown(Path) -> io_lib:format("~0tp", [Path]).

%% @doc Publish a term; the number of subscribers on all nodes that it was handed to. See
%% {@link hornbeam_pubsub:publish/2}.
-spec publish(hornbeam_name:name(), term()) -> non_neg_integer().
publish(Topic, Term) ->
    hornbeam_pubsub:publish(Topic, Term).

%% @doc Subscribe the calling process: it gets `{hornbeam_pubsub, Topic, Term}', with the topic as a
%% binary.
-spec subscribe(hornbeam_name:name()) -> ok.
subscribe(Topic) ->
    hornbeam_pubsub:subscribe(Topic).

%% @doc End the subscription of the calling process, if it has one.
-spec unsubscribe(hornbeam_name:name()) -> ok.
unsubscribe(Topic) ->
    hornbeam_pubsub:unsubscribe(Topic).

%% @doc Call a Python function of the app on its least loaded worker; waits at most 5 s.
-spec call(hornbeam_calls:name(), hornbeam_calls:name(), Args :: [term()]) ->
    {ok, term()} | {error, hornbeam_calls:failure()}.
call(Module, Function, Args) ->
    call(Module, Function, Args, #{}).

%% @doc Call a Python function, plain or async. What it raises is
%% `{error, {python, Class, Message, Traceback}}'.
-spec call(hornbeam_calls:name(), hornbeam_calls:name(), Args :: [term()],
           hornbeam_calls:options()) -> {ok, term()} | {error, hornbeam_calls:failure()}.
call(Module, Function, Args, Options) ->
    hornbeam_calls:call(Module, Function, Args, Options).

%% @doc Call a Python function and wait for nothing; dropped where the worker has not read the calls
%% before.
-spec cast(hornbeam_calls:name(), hornbeam_calls:name(), Args :: [term()]) ->
    ok | {error, hornbeam_calls:choice_failure()}.
cast(Module, Function, Args) ->
    cast(Module, Function, Args, #{}).

%% @doc The same, with options.
-spec cast(hornbeam_calls:name(), hornbeam_calls:name(), Args :: [term()],
           hornbeam_calls:options()) -> ok | {error, hornbeam_calls:choice_failure()}.
cast(Module, Function, Args, Options) ->
    hornbeam_calls:cast(Module, Function, Args, Options).

%% @doc Offer a fun to the apps, which call it by its name.
-spec register_function(hornbeam_functions:name(), fun()) -> ok.
register_function(Name, Fun) ->
    hornbeam_functions:register_function(Name, Fun).

%% @doc Offer an exported function to the apps.
-spec register_function(hornbeam_functions:name(), module(), Function :: atom()) -> ok.
register_function(Name, Module, Function) ->
    hornbeam_functions:register_function(Name, Module, Function).

%% @doc Offer a function no more.
-spec unregister_function(hornbeam_functions:name()) -> ok.
unregister_function(Name) ->
    hornbeam_functions:unregister_function(Name).

%% @doc Handle a hook's actions in Erlang; see {@link hornbeam_hooks}.
-spec register_hook(hornbeam_name:name(), hornbeam_hooks:handler()) -> ok.
register_hook(Name, Handler) ->
    hornbeam_hooks:register_hook(Name, Handler).

%% @doc Handle a hook's actions in Erlang no more.
-spec unregister_hook(hornbeam_name:name()) -> ok.
unregister_hook(Name) ->
    hornbeam_hooks:unregister_hook(Name).
