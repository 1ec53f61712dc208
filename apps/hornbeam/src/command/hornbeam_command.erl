%% The node behind the command `hornbeam': it takes its order, serves, and ends when it is told to.
%%
%%   order read ──▶ checked ──▶ started ──banner──▶ serving ──input at its end──▶ stopped, 0
%%        └────────────┴───────────┴── one paragraph on standard error, and the end with status 3
%%
%% What was said to the command (python/hornbeam_erlang/_command) comes as one msgpack value in a
%% file that the node inherits. Values are checked here as any options are, by hornbeam_config. The
%% node's input is a pipe from the command's process, and its end means to stop.
-module(hornbeam_command).

-export([start/0]).

-type order() :: #{app := binary() | undefined, options := #{atom() => term()},
                   origins := #{atom() => binary()}, only_check := boolean()}.

%% The node's exit status.
-define(DID_NOT_START, 3).

-define(INPUT, 0).

%% How long an application takes to end with what it serves (ms).
-define(GIVING_UP, 1000).

%% How long the last lines wait for their reader (ms).
-define(LAST_WORDS, 1000).

%% @doc Do what the node was ordered to; called by `erl -s', which boots on meanwhile: a signal has
%% to be heard while the app starts.
-spec start() -> ok.
start() ->
    _ = spawn(fun run/0),
    ok.

-spec run() -> no_return().
run() ->
    Input = hornbeam_worker_port:inherited(?INPUT),
    {Server, _} = spawn_monitor(fun obey/0),
    follow(Input, Server).

-spec follow(port(), pid()) -> no_return().
follow(Input, Server) ->
    receive
        {Input, eof} -> stop(Server);
        {'DOWN', _, process, Server, Reason} -> ended(is_stopping(), Reason)
    end.

%% Also while the app starts, for which nobody has to wait any more.
-spec stop(Server :: pid()) -> no_return().
stop(Server) ->
    exit(Server, kill),
    _ = application:stop(hornbeam),
    leave(0).

-spec ended(IsStopping :: boolean(), term()) -> no_return().
ended(true, _Reason) ->
    leave(0);
ended(false, stopped) ->
    leave(0);
ended(false, Reason) ->
    hornbeam_terminal:say(io_lib:format("hornbeam ends: ~0tp", [Reason])),
    leave(1).

%% The end of the node, once all is said; whoever reads that may stand still.
-spec leave(Status :: non_neg_integer()) -> no_return().
leave(Status) ->
    Deadline = erlang:monotonic_time(millisecond) + ?LAST_WORDS,
    {_, Flush} = spawn_monitor(fun hornbeam_terminal:flush/0),
    receive {'DOWN', Flush, process, _, _} -> ok after ?LAST_WORDS -> ok end,
    await_ports(Deadline),
    halt(Status, [{flush, false}]).

await_ports(Deadline) ->
    Waiting = [Port || Port <- erlang:ports(), {queue_size, Size} <- [queue(Port)], Size > 0],
    case Waiting =:= [] orelse erlang:monotonic_time(millisecond) >= Deadline of
        true ->
            ok;
        false ->
            receive after 10 -> await_ports(Deadline) end
    end.

queue(Port) -> erlang:port_info(Port, queue_size).

%% Ends with the server.
-spec obey() -> no_return().
obey() ->
    Told = read(),
    #{<<"log_level">> := Level, <<"colors">> := Colors} = Told,
    ok = hornbeam_terminal:install(#{level => Level, colors => Colors}),
    case order(Told) of
        {ok, #{only_check := true} = Order} -> check(Order);
        {ok, Order} -> serve(Order);
        {error, Reason} -> refuse(Reason, #{app => maps:get(<<"app">>, Told), options => #{},
                                            origins => #{}})
    end.

%% Its words exist as atoms once the tables of options are loaded.
read() ->
    ok = application:load(hornbeam),
    ok = code:ensure_modules_loaded([hornbeam_config, hornbeam_option, hornbeam_cluster_option]),
    {ok, [[Descriptor]]} = init:get_argument(hornbeam_order),
    File = "/dev/fd/" ++ Descriptor,
    {ok, Bytes} = file:read_file(File),
    %% There may be secrets in it, and the descriptor stays open.
    ok = file:write_file(File, <<>>),
    {ok, Told, <<>>} = hornbeam_msgpack:decode(Bytes),
    Told.

-spec order(#{binary() => term()}) -> {ok, order()} | {error, hornbeam_config:error()}.
order(#{<<"app">> := App, <<"options">> := Options, <<"origins">> := Origins,
        <<"only_check">> := OnlyCheck}) ->
    Keys = keys(),
    case maps:keys(Options) -- maps:keys(Keys) of
        [] ->
            {ok, #{app => App, only_check => OnlyCheck,
                   options => terms(Options, Keys), origins => renamed(Origins, Keys)}};
        [Unknown | _] ->
            {error, {bad_option, Unknown, maps:get(Unknown, Options)}}
    end.

keys() ->
    Defaults = maps:merge(hornbeam_config:defaults(server), hornbeam_config:defaults(app)),
    maps:from_list([{atom_to_binary(Key), Key}
                    || Key <- [mounts, path, app | maps:keys(Defaults)]]).

renamed(Map, Keys) ->
    maps:from_list([{maps:get(Name, Keys, Name), Value} || {Name, Value} <- maps:to_list(Map)]).

terms(Options, Keys) ->
    maps:map(fun(mounts, Mounts) -> [terms(Mount, Keys) || Mount <- Mounts];
                (Key, Value) -> erlang_term(Key, Value)
             end, renamed(Options, Keys)).

%% Functions are named in words there.
erlang_term(on_connect, Text) -> function_name(Text);
erlang_term(rpc_allow, Texts) -> lists:map(fun function_name/1, Texts);
erlang_term(cluster, Map) -> maps:from_list([{key(Name), V} || {Name, V} <- maps:to_list(Map)]);
erlang_term(_Key, Value) -> Value.

%% What is none stays a text, which the check refuses.
key(Name) ->
    try
        binary_to_existing_atom(Name)
    catch
        error:badarg -> Name
    end.

function_name(Text) ->
    Word = "([^:/ ]+)",
    case re:run(Text, ["^", Word, "(?::", Word, "(?:/([0-9]{1,3}))?)?$"],
                [dollar_endonly, {capture, all_but_first, binary}]) of
        {match, Name} -> function_named(Name, Text);
        nomatch -> Text
    end.

%% The atoms that there are once the module is loaded are all that can be meant. What is none stays
%% a text, which the check refuses.
function_named([Module | Rest], Text) ->
    load(Module),
    try
        list_to_name([binary_to_existing_atom(Module) | Rest])
    catch
        error:badarg -> Text
    end.

load(Module) ->
    try code:ensure_loaded(binary_to_existing_atom(Module)) of
        _ -> ok
    catch
        error:badarg -> load_file(code:where_is_file(binary_to_list(Module) ++ ".beam"))
    end.

load_file(non_existing) ->
    ok;
load_file(File) ->
    _ = code:load_abs(filename:rootname(File)),
    ok.

list_to_name([Module]) -> Module;
list_to_name([Module, Function]) -> {Module, binary_to_existing_atom(Function)};
list_to_name([Module, Function, Arity]) ->
    {Module, binary_to_existing_atom(Function), binary_to_integer(Arity)}.

-spec check(order()) -> no_return().
check(#{app := App, options := Options} = Order) ->
    case hornbeam_config:check(App, Options) of
        {ok, _} ->
            hornbeam_terminal:say(["The configuration", of_app(App), " is good."]),
            leave(0);
        {error, Reason} ->
            refuse(Reason, Order)
    end.

of_app(undefined) -> "";
of_app(App) -> [" of ", App].

-spec serve(order()) -> no_return().
serve(Order) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Root = monitor(process, hornbeam_sup),
    ok = start_server(none, Order),
    Server = monitor(process, hornbeam_server_sup),
    receive
        {'DOWN', Root, process, _, Why} -> exit(Why);
        {'DOWN', Server, process, _, _} -> ended_with_server(Root)
    end.

%% One that gives up takes the application along; who stops it, by hornbeam:drain/0, does not, and
%% nothing is left to do then.
-spec ended_with_server(reference()) -> no_return().
ended_with_server(Root) ->
    receive {'DOWN', Root, process, _, Why} -> exit(Why) after ?GIVING_UP -> exit(stopped) end.

start_server(Watch, #{app := App, options := Options} = Order) ->
    case hornbeam_sup:start_server(App, Options) of
        ok -> started(Watch, Order);
        {error, Reason} -> failed(may_be_mended(Reason, Order), Reason, Watch, Order)
    end.

started(Watch, #{app := App, options := Options}) ->
    ok = end_watch(Watch),
    hornbeam_terminal:say(banner(App, Options)),
    ok = hornbeam_watchdog:start(),
    hornbeam_ready:tell().

end_watch(none) -> ok;
end_watch({_Path, Port}) -> true = port_close(Port), ok.

%% With `reload' whoever writes the app sees to it, and saves a file.
may_be_mended({mount, _Path, Reason}, Order) ->
    may_be_mended(Reason, Order);
may_be_mended({Whose, _}, #{options := #{reload := true}})
        when Whose =:= python; Whose =:= worker ->
    not is_stopping();
may_be_mended(_Reason, _Order) ->
    false.

failed(true, Reason, Watch, Order) ->
    hornbeam_terminal:say([why(Reason, Order),
                           "\n\nIt tries again when a file is saved. Ctrl-C ends it."]),
    {_Path, Port} = Watching = watch(Reason, Watch, Order),
    case hornbeam_reloader:await_change(Port) of
        ok -> start_server(Watching, Order);
        {error, NoWatch} -> refuse(NoWatch, Order)
    end;
failed(false, Reason, _Watch, Order) ->
    refuse_unless(is_stopping(), Reason, Order).

%% The files of the app that does not start; what is saved during a try counts for the next.
watch({mount, Path, _}, {Path, _Port} = Watch, _Order) ->
    Watch;
watch({mount, Path, _}, Watch, #{app := App, options := Options}) ->
    ok = end_watch(Watch),
    {ok, #{mounts := Mounts}} = hornbeam_config:check(App, hornbeam_sup:given(Options)),
    {Path, hornbeam_reloader:watch(proplists:get_value(Path, Mounts))};
watch(Reason, Watch, Order) ->
    watch({mount, <<"/">>, Reason}, Watch, Order).

%% A start that a signal has ended has not failed.
is_stopping() ->
    element(1, init:get_status()) =:= stopping.

refuse_unless(true, _Reason, _Order) -> ok;
refuse_unless(false, Reason, Order) -> refuse(Reason, Order).

banner(App, Options) ->
    {ok, Checked} = hornbeam_config:check(App, Options),
    hornbeam_banner:lines(Checked, hornbeam:info()).

-spec refuse(hornbeam:start_error(), map()) -> no_return().
refuse(Reason, Order) ->
    hornbeam_terminal:say(why(Reason, Order)),
    leave(?DID_NOT_START).

-spec why(hornbeam:start_error(), map()) -> unicode:chardata().
why(Reason, Order) ->
    ["hornbeam does not start: ",
     hornbeam_start_error:paragraph(Reason, maps:with([app, options, origins], Order))].
