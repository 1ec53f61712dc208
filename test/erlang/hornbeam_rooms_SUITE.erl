%% The arrows between the rooms of the house: which room calls which (docs/internals.md).
-module(hornbeam_rooms_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [rooms_call_only_whom_they_may, folders_of_the_api_call_only_downwards,
     registry_and_peers_of_pubsub_meet_in_one_direction, folders_of_the_web_call_only_downwards,
     few_modules_know_cowboy_and_ranch,
     nothing_private_of_cowboy_ranch_and_cowlib_is_called,
     what_is_called_of_a_transport_is_one_of_its_callbacks,
     only_one_module_opens_a_port, every_module_stands_in_a_room].

%% The root may call everybody, and nobody the root but the command's node.
may_call("command") -> ["command" | may_call("root")];
may_call("root") ->
    ["root", "operations", "web", "worker", "api", "cluster", "wire", "config", "telemetry"];
may_call("operations") ->
    ["operations", "web", "worker", "api", "cluster", "wire", "config", "telemetry"];
may_call("web") -> ["web", "worker", "wire", "config", "telemetry"];
may_call("worker") -> ["worker", "wire", "config", "telemetry"];
may_call("api") -> ["api", "cluster", "worker", "wire"];
may_call("cluster") -> ["cluster", "wire", "config", "telemetry"];
may_call("wire") -> ["wire"];
may_call("config") -> ["config"];
may_call("telemetry") -> ["telemetry"].

rooms_call_only_whom_they_may(_Config) ->
    Rooms = rooms(),
    ?assertEqual([], [{Module, Called} || {Module, Room} <- maps:to_list(Rooms),
                                          Called <- called(Module), is_map_key(Called, Rooms),
                                          not lists:member(maps:get(Called, Rooms),
                                                           may_call(Room))]).

%% None of them calls another but by ops, and what they share.
folders_of_the_api_call_only_downwards(_Config) ->
    Folders = maps:filtermap(fun in_api/2, folders()),
    ?assertEqual([], [{Module, Called}
                      || {Module, Folder} <- maps:to_list(Folders),
                         Called <- called(Module), is_map_key(Called, Folders),
                         not lists:member(maps:get(Called, Folders),
                                          [Folder | below(Folder)])]).

in_api(_Module, ["api", Folder]) -> {true, Folder};
in_api(_Module, _Folder) -> false.

below("ops") -> ["channels" | below("channels")] ++ ["state", "calls", "metrics", "presence",
                                                    "counters", "leader", "consensus"];
below("leader") -> ["consensus" | below("consensus")];
below("consensus") -> ["state" | below("state")];
below("channels") -> ["pubsub" | below("pubsub")];
below("presence") -> ["pubsub" | below("pubsub")];
below("counters") -> ["state" | below("state")];
below(Folder) when Folder =:= "state"; Folder =:= "pubsub"; Folder =:= "calls" ->
    ["values", "limits"];
below(Folder) when Folder =:= "values"; Folder =:= "limits"; Folder =:= "metrics" -> [].

%% No engine is known to what all engines serve, and none to the other but for how a response of
%% ours looks.
folders_of_the_web_call_only_downwards(_Config) ->
    Folders = maps:filtermap(fun in_web/2, folders()),
    ?assertEqual([], [{Module, Called}
                      || {Module, Folder} <- maps:to_list(Folders),
                         Called <- called(Module), is_map_key(Called, Folders),
                         not lists:member(maps:get(Called, Folders),
                                          [Folder | below_in_web(Folder)]),
                         {Folder, Called} =/= {"cowboy", hornbeam_http1_response}]).

in_web(_Module, ["web", Folder]) -> {true, Folder};
in_web(_Module, _Folder) -> false.

below_in_web("connections") -> ["http1", "cowboy" | below_in_web("http1")];
below_in_web(Engine) when Engine =:= "http1"; Engine =:= "cowboy" ->
    ["websockets" | below_in_web("websockets")];
below_in_web("websockets") -> ["requests" | below_in_web("requests")];
below_in_web("requests") -> ["sockets"];
below_in_web("sockets") -> [].

%% Who serves subscriptions is told nothing by other nodes, and the fan-out knows neither.
registry_and_peers_of_pubsub_meet_in_one_direction(_Config) ->
    Rooms = [hornbeam_pubsub, hornbeam_pubsub_registry, hornbeam_pubsub_peers,
             hornbeam_pubsub_inbox, hornbeam_pubsub_parcel, hornbeam_pubsub_fanout],
    ?assertEqual([], [{Module, Called} || {Module, Below} <- tails(Rooms),
                                          Called <- called(Module), lists:member(Called, Rooms),
                                          not lists:member(Called, Below)]).

tails([]) -> [];
tails([Module | Below]) -> [{Module, Below} | tails(Below)].

few_modules_know_cowboy_and_ranch(_Config) ->
    Folders = folders(),
    ?assertEqual([], [{Module, Called} || {Module, Folder} <- maps:to_list(Folders),
                                          Called <- called(Module) ++ behaviours(Module),
                                          not may_know(Module, Folder, library(Called))]).

may_know(_Module, _Folder, none) -> true;
may_know(hornbeam_transport, _Folder, _Library) -> true;
may_know(hornbeam_proxy_header, _Folder, ranch) -> true;
may_know(_Module, ["api", "consensus"], Library) -> Library =:= ra;
may_know(_Module, ["operations" | _], Library) -> Library =:= cowboy orelse Library =:= prometheus;
may_know(_Module, ["web", "cowboy"], _Library) -> true;
may_know(_Module, ["web", "http1"], ranch) -> true;
may_know(hornbeam_socket, _Folder, ranch) -> true;
may_know(_Module, ["web" | _], cowlib) -> true;
may_know(_Module, _Folder, _Library) -> false.

%% By their names: "cowboy_" and the like are theirs, and "cow_" is Cowlib's.
library(Module) ->
    case string:lexemes(atom_to_list(Module), "_") of
        ["cowboy" | _] -> cowboy;
        ["ranch" | _] -> ranch;
        ["cow" | _] -> cowlib;
        ["prometheus" | _] -> prometheus;
        ["ra" | _] -> ra;
        _ -> none
    end.

nothing_private_of_cowboy_ranch_and_cowlib_is_called(_Config) ->
    Modules = maps:keys(folders()),
    ?assertEqual([], [{Module, Call} || Module <- Modules,
                                        {Called, _, _} = Call <- imports(Module),
                                        library(Called) =/= none,
                                        not lists:member(Call, documented())]),
    ?assertEqual([], [{Module, Behaviour} || Module <- Modules, Behaviour <- behaviours(Module),
                                             library(Behaviour) =/= none,
                                             not lists:member(Behaviour, behaviours())]),
    %% What is not there, or is called no longer, does not stand in the list.
    All = lists:append([imports(Module) || Module <- Modules]),
    ?assertEqual([], documented() -- All),
    ?assertEqual([], [Call || {Called, Function, Arity} = Call <- documented(),
                              {module, Called} =:= code:ensure_loaded(Called),
                              not erlang:function_exported(Called, Function, Arity)]).

documented() ->
    lists:append([
        %% The manual of cowboy, and that of cowboy_router.
        [{cowboy, start_clear, 3}, {cowboy_router, compile, 1}],
        %% The manual of cowboy_req.
        [{cowboy_req, Function, Arity}
         || {Function, Arity} <- [{cast, 2}, {has_body, 1}, {reply, 4}, {set_resp_header, 3},
                                  {set_resp_cookie, 4}, {stream_reply, 3}, {stream_events, 3},
                                  {stream_body, 3}, {read_urlencoded_body, 2}, {parse_qs, 1},
                                  {parse_cookies, 1}, {binding, 2}, {method, 1}, {host, 1},
                                  {header, 2}, {header, 3}, {peer, 1}, {sock, 1},
                                  {set_resp_headers, 2}]],
        %% The pages of ra on hexdocs.
        [{ra, Function, Arity}
         || {Function, Arity} <- [{add_member, 3}, {local_query, 3}, {members, 2},
                                  {process_command, 3}, {remove_member, 3}, {restart_server, 2},
                                  {start_server, 5}, {stop_server, 2}, {trigger_election, 1},
                                  {trigger_election, 2}]],
        [{ra_system, Function, Arity}
         || {Function, Arity} <- [{default_config, 0}, {derive_names, 1}, {fetch, 1}, {start, 1}]],
        [{ra_leaderboard, lookup_leader, 1}, {ra_leaderboard, lookup_members, 1}],
        %% The pages of prometheus on hexdocs.
        [{prometheus_registry, register_collector, 2}, {prometheus_text_format, format, 1},
         {prometheus_model_helpers, create_mf, 4}],
        %% The manual of cowboy_stream: a handler calls the next one by these.
        [{cowboy_stream, Function, Arity}
         || {Function, Arity} <- [{init, 3}, {data, 4}, {info, 3}, {terminate, 3},
                                  {early_error, 5}]],
        %% The manuals of cowboy_clear and cowboy_tls: they are Ranch protocols, which is this
        %% callback of ranch_protocol.
        [{cowboy_clear, start_link, 3}, {cowboy_tls, start_link, 3}],
        %% The manual of ranch.
        [{ranch, Function, Arity}
         || {Function, Arity} <- [{start_listener, 5}, {suspend_listener, 1}, {stop_listener, 1},
                                  {get_addr, 1}, {procs, 2}]],
        %% The manuals of ranch_tcp, ranch_ssl and ranch_transport, whose callbacks these are.
        [{ranch_tcp, Function, Arity}
         || {Function, Arity} <- [{handshake, 3}, {disallowed_listen_options, 0},
                                  {peername, 1}, {close, 1}]],
        [{ranch_ssl, handshake, 3}],
        %% The manual of ranch_proxy_header.
        [{ranch_proxy_header, parse, 1}],
        %% Cowlib has no manual: what it exports, with a specification and the same arguments in
        %% all versions from 2.9 on.
        [{cow_ws, Function, Arity}
         || {Function, Arity} <- [{encode_key, 1}, {frame, 2}, {negotiate_permessage_deflate, 3},
                                  {parse_header, 3}]],
        [{cow_http_hd, parse_sec_websocket_extensions, 1}, {cow_date, rfc1123, 1},
         {cow_http2, ping, 1}, {cow_http2, goaway, 3}]
    ]).

%% Each has a page in the manual of Cowboy, of prometheus, or of ra.
behaviours() ->
    [cowboy_stream, cowboy_middleware, cowboy_websocket, prometheus_collector, ra_machine].

%% A transport's module stands in a variable, so that its calls are no imports.
what_is_called_of_a_transport_is_one_of_its_callbacks(_Config) ->
    Callbacks = ranch_transport:behaviour_info(callbacks),
    Own = [{hornbeam_websocket, {closed, 2}}],
    ?assert(lists:member({setopts, 2}, calls_by_variable(hornbeam_socket))),
    ?assertEqual([], [{Module, Call} || {Module, ["web" | _]} <- maps:to_list(folders()),
                                        Call <- calls_by_variable(Module),
                                        not lists:member(Call, Callbacks),
                                        not lists:member({Module, Call}, Own)]).

calls_by_variable(Module) ->
    {ok, {Module, [{abstract_code, {_, Forms}}]}} =
        beam_lib:chunks(code:which(Module), [abstract_code]),
    lists:usort(calls_by_variable_in(Forms)).

calls_by_variable_in({call, _, {remote, _, Called, {atom, _, Function}}, Arguments})
        when element(1, Called) =/= atom ->
    [{Function, length(Arguments)} | calls_by_variable_in([Called | Arguments])];
calls_by_variable_in(Form) when is_tuple(Form) ->
    calls_by_variable_in(tuple_to_list(Form));
calls_by_variable_in(Forms) when is_list(Forms) ->
    lists:flatmap(fun calls_by_variable_in/1, Forms);
calls_by_variable_in(_Other) ->
    [].

only_one_module_opens_a_port(_Config) ->
    ?assertEqual([hornbeam_worker_port],
                 [Module || Module <- maps:keys(rooms()),
                            {erlang, open_port, 2} <- imports(Module)]).

every_module_stands_in_a_room(_Config) ->
    Rooms = lists:usort(maps:values(rooms())),
    ?assertEqual(["api", "cluster", "command", "config", "operations", "root", "telemetry", "web",
                  "wire", "worker"], Rooms).

rooms() ->
    maps:map(fun(_Module, [Room | _]) -> Room end, folders()).

%% The folders below src, from the room on.
folders() ->
    {ok, Modules} = application:get_key(hornbeam, modules),
    maps:from_list([{Module, folder(Module)} || Module <- Modules]).

%% A room of one stands where it can be found.
folder(hornbeam_telemetry) ->
    ["telemetry"];
folder(Module) ->
    Source = proplists:get_value(source, Module:module_info(compile)),
    Parts = filename:split(filename:dirname(Source)),
    case lists:reverse(lists:takewhile(fun(Part) -> Part =/= "src" end, lists:reverse(Parts))) of
        [] -> ["root"];
        Folder -> Folder
    end.

called(Module) ->
    lists:usort([Called || {Called, _, _} <- imports(Module)]).

imports(Module) ->
    {ok, {Module, [{imports, Imports}]}} = beam_lib:chunks(code:which(Module), [imports]),
    Imports.

behaviours(Module) ->
    lists:append([Named || {behaviour, Named} <- Module:module_info(attributes)]).

init_per_suite(Config) ->
    ok = load(application:load(hornbeam)),
    Config.

load(ok) -> ok;
load({error, {already_loaded, hornbeam}}) -> ok.

end_per_suite(_Config) ->
    ok.
