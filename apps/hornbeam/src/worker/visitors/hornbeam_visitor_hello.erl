%% What a visitor and the node tell each other before the first op. Pure.
-module(hornbeam_visitor_hello).

-export([check/3, config/2, service_config/1, options/2]).
-export_type([app/0]).

-type app() :: hornbeam_config:app_options().

%% @doc Whether the node has what a visitor wants: ops, or a service; else a sentence for a person.
-spec check(Version :: non_neg_integer(), About :: #{binary() => term()},
            hornbeam_visitor_service:services()) ->
    ok | {service, hornbeam_visitor_service:service()} | {refused, Sentence :: binary()}.
check(Version, About, Services) ->
    case {hornbeam_wire:version(), About} of
        {Version, #{<<"wants">> := <<"ops">>}} -> ok;
        {Version, #{<<"wants">> := Wants}} when is_map_key(Wants, Services) ->
            {service, maps:get(Wants, Services)};
        {Version, _} -> {refused, <<"this node has no such thing for processes outside of it">>};
        {Ours, _} -> {refused, unicode:characters_to_binary(other_version(Ours, Version))}
    end.

other_version(Ours, Theirs) ->
    io_lib:format("this process's package hornbeam-erlang speaks version ~b of the wire and the "
                  "server version ~b. Upgrade the ~ts", [Theirs, Ours, older(Ours, Theirs)]).

older(Ours, Theirs) when Theirs < Ours -> "package";
older(_Ours, _Theirs) -> "server".

%% @doc The answer to `hello': what the process has to know, by the options of the app that is its.
-spec config(app(), [app()]) -> hornbeam_wire:visitor_config().
config(Options, All) ->
    #{op_timeout := OpTimeout, pubsub_queue_messages := QueueMessages,
      pubsub_queue_bytes := QueueBytes} = Options,
    #{worker_window => hornbeam_worker_reader:window(),
      tell_window => hornbeam_worker_tells:window(), op_timeout => OpTimeout,
      pubsub_queue_messages => QueueMessages, pubsub_queue_bytes => QueueBytes,
      apps => named(All)}.

named(Apps) -> [[App, Folder] || #{app := App, chdir := Folder} <- Apps].

%% @doc The answer to `hello' of who wants a service: which server this is.
-spec service_config([app()]) -> hornbeam_wire:service_config().
service_config(Apps) ->
    #{apps => named(Apps), os_pid => list_to_integer(os:getpid())}.

%% @doc The options that hold for a visitor: those of the app in whose folder it runs, the nearest
%% above it, or of the first.
-spec options(About :: #{binary() => term()}, [app(), ...]) -> app().
options(About, [First | _] = All) ->
    Near = [{byte_size(Folder), Options}
            || #{chdir := Folder} = Options <- All, Inside <- folders(About),
               is_inside(Folder, Inside)],
    case lists:reverse(lists:keysort(1, Near)) of
        [{_, Options} | _] -> Options;
        [] -> First
    end.

%% Where it runs, as it came there and without symbolic links.
folders(#{<<"folders">> := Folders}) when is_list(Folders) ->
    [Folder || Folder <- Folders, is_binary(Folder)];
folders(_About) ->
    [].

is_inside(Folder, Folder) -> true;
is_inside(<<"/">>, _Inside) -> true;
is_inside(Folder, Inside) -> string:prefix(Inside, <<Folder/binary, "/">>) =/= nomatch.
