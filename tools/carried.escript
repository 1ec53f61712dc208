#!/usr/bin/env escript
%% Lays out in a folder what a wheel carries of Erlang, without debug information:
%%
%%   tools/carried.escript FOLDER server     the server's code and what it needs that is not OTP's
%%   tools/carried.escript FOLDER erlang     that, and an Erlang with just what the server needs
%%
%% Which applications those are is read from their .app files. The folder is a root of Erlang as
%% the emulator expects it: lib/, bin/ with the boot file, erts-VERSION/bin/.
-mode(compile).

%% Not epmd, which is for nodes that have names, and not what a developer needs.
-define(PROGRAMS, ["beam.smp", "erlexec", "erl_child_setup", "inet_gethost"]).
%% No start runs the file .erlang of the user or the working folder.
-define(BOOT_FILE, "bin/no_dot_erlang.boot").

main([Folder, What]) ->
    %% The others are started only where metrics, or a consistent state, are asked for.
    Applications = lists:foldl(fun needed/2, [], [hornbeam, prometheus, ra]),
    {Otps, Ours} = lists:partition(fun is_otps/1, Applications),
    ok = application_folders(Folder, Ours, ["priv/**", "LICENSE"]),
    ok = write(Folder, "OTP_VERSION", otp_version()),
    case What of
        "server" ->
            ok;
        "erlang" ->
            ok = application_folders(Folder, Otps, ["priv/lib/*.so"]),
            ok = copy(Folder, code:root_dir(), ?BOOT_FILE),
            Bin = filename:join("erts-" ++ erlang:system_info(version), "bin"),
            [ok = copy(Folder, code:root_dir(), filename:join(Bin, Program)) || Program <- ?PROGRAMS],
            ok
    end.

needed(Application, Known) ->
    case lists:member(Application, Known) of
        true ->
            Known;
        false ->
            _ = application:load(Application),
            {ok, Needs} = application:get_key(Application, applications),
            lists:foldl(fun needed/2, [Application | Known], Needs)
    end.

is_otps(Application) ->
    lists:prefix(filename:join(code:lib_dir(), ""), code:lib_dir(Application)).

otp_version() ->
    Release = erlang:system_info(otp_release),
    {ok, Version} = file:read_file(
        filename:join([code:root_dir(), "releases", Release, "OTP_VERSION"])),
    Version.

application_folders(Folder, Applications, Besides) ->
    lists:foreach(fun(Name) -> application_folder(Folder, Name, Besides) end, Applications).

application_folder(Folder, Name, Besides) ->
    {ok, Version} = application:get_key(Name, vsn),
    To = filename:join([Folder, "lib", atom_to_list(Name) ++ "-" ++ Version]),
    From = code:lib_dir(Name),
    [ok = copy(To, From, File)
     || Wildcard <- ["ebin/*.{app,beam}" | Besides], File <- files(From, Wildcard)],
    ok.

files(From, Wildcard) ->
    [File || File <- filelib:wildcard(Wildcard, From),
             filelib:is_regular(filename:join(From, File)),
             filename:basename(File) =/= "otp_test_engine.so"].

copy(To, From, File) ->
    Source = filename:join(From, File),
    case filename:extension(File) of
        ".beam" ->
            %% Never by the file's name: beam_lib would strip the installed file itself.
            {ok, Beam} = file:read_file(Source),
            {ok, {_Module, Stripped}} = beam_lib:strip(Beam),
            %% As it comes, compressed, it would save 2 MB, and cost each start 20 ms.
            write(To, File, zlib:gunzip(Stripped));
        _ ->
            ok = filelib:ensure_dir(filename:join(To, File)),
            {ok, _Bytes} = file:copy(Source, filename:join(To, File)),
            {ok, Info} = file:read_file_info(Source),
            file:write_file_info(filename:join(To, File), Info)
    end.

write(To, File, Content) ->
    ok = filelib:ensure_dir(filename:join(To, File)),
    file:write_file(filename:join(To, File), Content).
