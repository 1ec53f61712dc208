%% The arrows between the rooms of the house: which room calls which (docs/internals.md).
-module(hornbeam_rooms_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [rooms_call_only_whom_they_may, only_the_web_room_knows_cowboy,
     only_one_module_opens_a_port, every_module_stands_in_a_room].

%% The root may call everybody, and nobody the root.
may_call("root") -> ["root", "web", "worker", "api", "wire", "config", "telemetry"];
may_call("web") -> ["web", "worker", "wire", "config", "telemetry"];
may_call("worker") -> ["worker", "wire", "config", "telemetry"];
may_call("api") -> ["api", "worker", "wire"];
may_call("wire") -> ["wire"];
may_call("config") -> ["config"];
may_call("telemetry") -> ["telemetry"].

rooms_call_only_whom_they_may(_Config) ->
    Rooms = rooms(),
    ?assertEqual([], [{Module, Called} || {Module, Room} <- maps:to_list(Rooms),
                                          Called <- called(Module), is_map_key(Called, Rooms),
                                          not lists:member(maps:get(Called, Rooms),
                                                           may_call(Room))]).

only_the_web_room_knows_cowboy(_Config) ->
    Cowboy = [cowboy, cowboy_req, cowboy_websocket, cow_http, ranch],
    ?assertEqual([], [Module || {Module, Room} <- maps:to_list(rooms()), Room =/= "web",
                                Called <- called(Module), lists:member(Called, Cowboy)]).

only_one_module_opens_a_port(_Config) ->
    ?assertEqual([hornbeam_worker_port],
                 [Module || Module <- maps:keys(rooms()),
                            {erlang, open_port, 2} <- imports(Module)]).

every_module_stands_in_a_room(_Config) ->
    Rooms = lists:usort(maps:values(rooms())),
    ?assertEqual(["api", "config", "root", "telemetry", "web", "wire", "worker"], Rooms).

rooms() ->
    {ok, Modules} = application:get_key(hornbeam, modules),
    maps:from_list([{Module, room(Module)} || Module <- Modules]).

%% A room of one stands where it can be found.
room(hornbeam_telemetry) ->
    "telemetry";
room(Module) ->
    Source = proplists:get_value(source, Module:module_info(compile)),
    case filename:basename(filename:dirname(Source)) of
        "src" -> "root";
        Room -> Room
    end.

called(Module) ->
    lists:usort([Called || {Called, _, _} <- imports(Module)]).

imports(Module) ->
    {ok, {Module, [{imports, Imports}]}} = beam_lib:chunks(code:which(Module), [imports]),
    Imports.

init_per_suite(Config) ->
    ok = load(application:load(hornbeam)),
    Config.

load(ok) -> ok;
load({error, {already_loaded, hornbeam}}) -> ok.

end_per_suite(_Config) ->
    ok.
