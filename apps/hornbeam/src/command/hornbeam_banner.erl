%% What the command shows once it listens: where, what, by which interpreter, and how to stop it.
-module(hornbeam_banner).

-export([lines/2, url/2]).

%% @doc The lines, of what is served with checked options, and where that is (hornbeam:info/0).
-spec lines(hornbeam_config:checked(), Info :: map()) -> unicode:chardata().
lines(#{server := Server, mounts := Mounts}, #{addresses := Addresses} = Info) ->
    Urls = lists:join(" and ", [url(Address, Server) || Address <- Addresses]),
    lists:join("\n",
               [row("Hornbeam", [version(), ", listening on ", Urls])]
               ++ apps(Mounts)
               ++ cluster(Server)
               ++ operations(Server, Info)
               ++ [row("control", Path) || #{local_socket := Path} <- [Info]]
               ++ [row("Ctrl-C", "stops")]).

apps([{<<"/">>, Options}]) -> app("app", Options);
apps(Mounts) -> lists:append([app(Path, Options) || {Path, Options} <- Mounts]).

cluster(#{cluster := #{name := Name}}) -> [row("cluster", [Name, ", as ", atom_to_list(node())])];
cluster(_Server) -> [].

operations(#{metrics := Metrics, dashboard := IsDashboard}, #{operations := Address}) ->
    Url = hornbeam_operations:url(Address),
    [row("metrics", [Url, "/metrics"]) || Metrics =/= false]
    ++ [row("dashboard", [Url, hornbeam_dashboard:path()]) || IsDashboard];
operations(_Server, _Info) ->
    [].

app(Name, #{app := App, chdir := Folder, workers := Workers} = Options) ->
    [row(Name, [App, " in ", Folder]),
     row("python", [interpreter(Options), ", ", counted(Workers, "worker")])].

row(Name, Text) -> ["  ", string:pad(Name, 9), " ", Text].

version() ->
    {ok, Version} = application:get_key(hornbeam, vsn),
    Version.

interpreter(Options) ->
    {ok, Python} = hornbeam_config:python(Options),
    Python.

counted(1, What) -> ["1 ", What];
counted(Number, What) -> [integer_to_list(Number), " ", What, "s"].

%% @doc An address as a terminal makes a link of it.
-spec url(Address :: term(), hornbeam_config:server_options()) -> unicode:chardata().
url({local, Path}, _Server) ->
    ["unix:", Path];
url({Ip, Port}, #{certfile := CertFile}) ->
    [scheme(CertFile), "://", host(Ip), ":", integer_to_list(Port)].

scheme(undefined) -> "http";
scheme(_CertFile) -> "https".

host(Ip) when tuple_size(Ip) =:= 8 -> ["[", inet:ntoa(Ip), "]"];
host(Ip) -> inet:ntoa(Ip).
