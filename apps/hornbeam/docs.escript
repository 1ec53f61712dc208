#!/usr/bin/env escript
%% Puts the documentation of the public modules into their beams: there h/1 of a shell finds it,
%% Elixir's too. rebar3 runs this in its folder when it has compiled (rebar.config), also below
%% another project and for mix. A beam that has its documentation is left alone.
%%
%% An Erlang without edoc compiles all the same.

-mode(compile).

%% Whose functions Erlang and Elixir code calls.
-define(PUBLIC, [hornbeam, hornbeam_hooks, hornbeam_pubsub, hornbeam_state, hornbeam_telemetry]).

main([]) ->
    case code:which(edoc) of
        non_existing -> ok;
        _ -> lists:foreach(fun document/1, ?PUBLIC)
    end.

document(Module) ->
    Beams = [Beam || Folder <- output_folders(),
                     Beam <- [lists:concat([Folder, "/ebin/", Module, ".beam"])],
                     filelib:is_regular(Beam), not is_documented(Beam)],
    lists:foreach(fun(Beam) -> write(Beam, docs(Module, Beam ++ ".docs")) end, Beams).

%% A project's own application, one that is checked out, mix's, and a dependency, which lies where it
%% is compiled.
output_folders() ->
    [filename:join([Folder | Below])
     || {Variable, Below} <- [{"REBAR_BUILD_DIR", ["lib", "hornbeam"]},
                              {"REBAR_CHECKOUTS_OUT_DIR", ["hornbeam"]},
                              {"REBAR_BARE_COMPILER_OUTPUT_DIR", []}],
        Folder <- [os:getenv(Variable)], Folder =/= false] ++ ["."].

is_documented(Beam) ->
    {ok, {_, [{"Docs", Found}]}} = beam_lib:chunks(Beam, ["Docs"], [allow_missing_chunks]),
    Found =/= missing_chunk.

docs(Module, Folder) ->
    [Source] = filelib:wildcard(lists:concat(["src/**/", Module, ".erl"])),
    ok = edoc:files([Source], [{doclet, edoc_doclet_chunks}, {layout, edoc_layout_chunks},
                               {dir, Folder}, {preprocess, true}]),
    {ok, Docs} = file:read_file(lists:concat([Folder, "/chunks/", Module, ".chunk"])),
    ok = file:del_dir_r(Folder),
    Docs.

%% Somebody may read it meanwhile.
write(Beam, Docs) ->
    {ok, _Module, Chunks} = beam_lib:all_chunks(Beam),
    {ok, Bytes} = beam_lib:build_module(Chunks ++ [{"Docs", Docs}]),
    ok = file:write_file(Beam ++ ".documented", Bytes),
    ok = file:rename(Beam ++ ".documented", Beam).
