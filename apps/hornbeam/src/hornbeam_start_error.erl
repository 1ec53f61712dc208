%% Why a server does not start, as a paragraph for whoever has to mend that.
%%
%% The first line says what is wrong, in the app's own words where those are; the next ones which
%% app was looked for, where and by which interpreter. It asks only where the interpreter is.
-module(hornbeam_start_error).

-include_lib("kernel/include/logger.hrl").

-export([paragraph/2, log/2]).
-export_type([told/0]).

-type told() :: #{app := term(), options := map(), origins => #{atom() => binary()},
                  atom() => term()}.
%% What was asked for, and where each option was said.

%% @doc The paragraph, with the traceback behind it where there is one. No line end at its end.
-spec paragraph(hornbeam:start_error(), told()) -> unicode:chardata().
paragraph({mount, Path, Reason}, Told) when element(1, Reason) =:= python;
                                           element(1, Reason) =:= worker ->
    of_app(Reason, Path, [row("mount", Path)], Told);
paragraph({mount, Path, {bad_option, Key, Value}}, #{origins := _} = Told)
        when is_binary(Path), Value =/= undefined ->
    io_lib:format("mount ~ts: ~ts has the value ~ts; expected ~ts~ts",
                  [Path, Key, shown(Value), hornbeam_config:expected(Key), said(mounts, Told)]);
paragraph({mount, _Path, _Reason} = Wrong, Told) ->
    [hornbeam:format_error(Wrong), said(mounts, Told)];
paragraph(Reason, Told) when element(1, Reason) =:= python; element(1, Reason) =:= worker ->
    of_app(Reason, <<"/">>, [], Told);
paragraph({listen, {Option, Address, Reason}}, Told) when is_atom(Reason) ->
    ["cannot listen: ", inet:format_error(Reason), ": ", Address, said(Option, Told),
     advice(Reason)];
paragraph({operations, _Address, Reason} = Wrong, Told) ->
    [hornbeam:format_error(Wrong), said(metrics, Told), advice(Reason)];
paragraph({bad_option, {Option, Within} = Key, undefined}, #{origins := _} = Told) ->
    io_lib:format("option ~ts has no ~ts; expected ~ts~ts",
                  [Option, Within, in_words(Key), said(Option, Told)]);
paragraph({bad_option, {Option, Within} = Key, Value}, #{origins := _} = Told) ->
    io_lib:format("the ~ts of ~ts has the value ~ts; expected ~ts~ts",
                  [Within, Option, shown(Value), in_words(Key), said(Option, Told)]);
paragraph({cluster, Sentence}, Told) ->
    [Sentence, said(cluster, Told)];
paragraph({bad_option, Key, undefined}, _Told) ->
    io_lib:format("~ts is not given; expected ~ts", [Key, hornbeam_config:expected(Key)]);
paragraph({bad_option, Key, Value}, #{origins := Origins}) when is_map_key(Key, Origins) ->
    io_lib:format("~ts has the value ~ts; expected ~ts",
                  [maps:get(Key, Origins), shown(Value), in_words(Key)]);
paragraph(Reason, _Told) ->
    hornbeam:format_error(Reason).

%% @doc Log the paragraph: who started may see but a part of the error.
-spec log(hornbeam:start_error(), told()) -> ok.
log(Reason, Told) ->
    ?LOG_ERROR("hornbeam does not start: ~ts", [paragraph(Reason, Told)],
               #{domain => [hornbeam]}).

of_app({python, Failure}, Path, Mount, Told) ->
    #{stage := Stage, class := Class, message := Message, traceback := Traceback} = Failure,
    lists:join("\n", [raised(Class, Message)
                      | Mount ++ place(at(Stage), Path, Told) ++ traceback(Traceback)]);
of_app({worker, Sentence}, Path, Mount, Told) ->
    lists:join("\n", [Sentence | Mount ++ place("app", Path, Told)]).

raised(<<>>, Message) -> hornbeam_quoted:line(Message);
raised(Class, <<>>) -> hornbeam_quoted:line(Class);
raised(Class, Message) -> hornbeam_quoted:line([Class, ": ", Message]).

at(<<"import">>) -> "importing";
at(<<"lifespan">>) -> "starting";
at(_Stage) -> "app".

place(Doing, Path, #{app := App, options := Options}) ->
    {ok, #{mounts := Mounts}} = hornbeam_config:check(App, Options),
    {Path, #{app := Name, chdir := Folder} = Checked} = lists:keyfind(Path, 1, Mounts),
    [row(Doing, Name), row("folder", Folder),
     row("interpreter", interpreter(hornbeam_config:python(Checked)))].

interpreter({ok, Python}) -> Python;
interpreter({error, no_python}) -> "none".

row(Name, Text) -> ["    ", string:pad(Name, 13), Text].

%% Without a frame of the app it may be but its last line, which stands first already. A syntax
%% error has a place in a file all the same.
traceback(Text) ->
    case string:find(string:trim(Text, trailing, "\n"), "\n") of
        nomatch -> [];
        _ -> ["", ["    ", hornbeam_quoted:lines(Text)]]
    end.

said(Key, #{origins := Origins}) when is_map_key(Key, Origins) ->
    [" (", maps:get(Key, Origins), ")"];
said(_Key, _Told) ->
    "".

advice(eaddrinuse) -> "; another process listens there: end it, or choose another address";
advice(eexist) -> "; a file that is no socket is there, and is left alone: choose another path";
advice(eacces) -> "; ports below 1024 need a right of their own: choose another, or give that";
advice(eaddrnotavail) -> "; it is not an address of this machine";
advice(enotsock) -> "; this process was started with no socket by that number";
advice(esocktnosupport) -> "; a stream socket of TCP or a Unix socket is needed";
advice(_Reason) -> "".

%% What the command's user may write, who has no terms of Erlang.
in_words(rpc_allow) ->
    "functions that there are, as MODULE, MODULE:FUNCTION/ARITY or several with commas between "
    "them";
in_words(on_connect) ->
    "MODULE:FUNCTION, which takes one argument";
in_words({cluster, cookie}) ->
    "a secret of 16 to 255 characters by HORNBEAM_CLUSTER_COOKIE or --cluster-cookie-file, or "
    "certificates by --cluster-certfile and --cluster-cacertfile";
in_words(Key) ->
    case hornbeam_config:expected(Key) of
        "milliseconds" ++ Rest -> ["a duration such as 30s or 5m", Rest];
        "bytes" ++ Rest -> ["a size such as 64K or 16M", Rest];
        Expected -> Expected
    end.

%% Texts, and lists of them, as they were said.
shown([_ | _] = Values) -> lists:join(",", lists:map(fun shown/1, Values));
shown(Value) when is_binary(Value) -> shown_term(unicode:characters_to_list(Value));
shown(Value) -> shown_term(Value).

shown_term(Term) -> io_lib:format("~0tp", [Term]).
