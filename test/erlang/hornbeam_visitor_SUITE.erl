%% Visitors, by a socket at which Erlang plays a process outside of all workers; and where that
%% socket is.
-module(hornbeam_visitor_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("kernel/include/file.hrl").

-compile(export_all).

all() ->
    [default_has_a_name_of_its_own_in_a_folder_that_is_closed_to_others,
     folder_of_ours_that_is_open_is_closed, link_in_the_place_of_the_folder_is_passed_over,
     folder_of_another_user_is_passed_over, folder_that_is_too_deep_for_an_address_is_passed_over,
     off_is_none, sockets_of_servers_that_were_killed_are_removed, socket_is_its_users_alone,
     what_stands_at_a_path_is_not_lost, visitor_is_told_what_it_has_to_know,
     options_are_those_of_the_nearest_app_above, another_version_is_refused_with_what_to_upgrade,
     what_is_wanted_and_not_there_is_refused, who_breaks_the_wire_is_cut_off,
     one_that_is_cut_off_costs_no_other, what_is_written_before_the_end_is_done,
     listener_that_crashes_costs_no_visitor].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    ok = logger:set_handler_config(default, level, none),
    Config.

end_per_suite(_Config) ->
    ok = logger:set_handler_config(default, level, all),
    ok = application:stop(hornbeam).

init_per_testcase(Name, Config) ->
    Made = hornbeam_folder:make(Name, Config),
    Before = os:getenv("XDG_RUNTIME_DIR"),
    true = os:putenv("XDG_RUNTIME_DIR", proplists:get_value(dir, Made)),
    [{before, Before} | Made].

end_per_testcase(_Name, Config) ->
    case proplists:get_value(before, Config) of
        false -> os:unsetenv("XDG_RUNTIME_DIR");
        Before -> os:putenv("XDG_RUNTIME_DIR", Before)
    end,
    hornbeam_folder:remove(Config).

%% Where it is.

default_has_a_name_of_its_own_in_a_folder_that_is_closed_to_others(Config) ->
    {ok, One} = hornbeam_local_socket:choose(auto),
    {ok, Other} = hornbeam_local_socket:choose(auto),
    ?assertNotEqual(One, Other),
    Folder = folder(Config),
    ?assertEqual([Folder, Folder], [binary_to_list(filename:dirname(P)) || P <- [One, Other]]),
    ?assertEqual(8#700, mode(Folder)).

folder_of_ours_that_is_open_is_closed(Config) ->
    ok = file:make_dir(folder(Config)),
    ok = file:change_mode(folder(Config), 8#777),
    {ok, _} = hornbeam_local_socket:choose(auto),
    ?assertEqual(8#700, mode(folder(Config))).

%% Somebody else may have put it there.
link_in_the_place_of_the_folder_is_passed_over(Config) ->
    Elsewhere = filename:join(proplists:get_value(dir, Config), "elsewhere"),
    ok = file:make_dir(Elsewhere),
    ok = file:make_symlink(Elsewhere, folder(Config)),
    {ok, Path} = hornbeam_local_socket:choose(auto),
    ?assertMatch(<<"/tmp/hornbeam-", _/binary>>, Path),
    ?assertNotEqual(list_to_binary(folder(Config)), filename:dirname(Path)),
    ?assertNotEqual(8#700, mode(Elsewhere)).

folder_of_another_user_is_passed_over(Config) ->
    case os:cmd("id -u") of
        "0\n" ->
            ok = file:make_dir(folder(Config)),
            ok = file:write_file_info(folder(Config), #file_info{uid = 65534, gid = 65534}),
            {ok, Path} = hornbeam_local_socket:choose(auto),
            ?assertNotEqual(list_to_binary(folder(Config)), filename:dirname(Path));
        _ ->
            {skip, "another user can be played by root alone"}
    end.

folder_that_is_too_deep_for_an_address_is_passed_over(Config) ->
    Deep = filename:join(proplists:get_value(dir, Config), lists:duplicate(80, $d)),
    ok = file:make_dir(Deep),
    true = os:putenv("XDG_RUNTIME_DIR", Deep),
    {ok, Path} = hornbeam_local_socket:choose(auto),
    ?assertMatch(<<"/tmp/hornbeam-", _/binary>>, Path).

off_is_none(_Config) ->
    ?assertEqual(none, hornbeam_local_socket:choose(off)).

sockets_of_servers_that_were_killed_are_removed(Config) ->
    {ok, Stale} = hornbeam_local_socket:choose(auto),
    {ok, Young} = hornbeam_local_socket:choose(auto),
    {ok, Alive} = hornbeam_local_socket:choose(auto),
    [begin
         {ok, Socket} = hornbeam_local_socket:listen(Path),
         ok = socket:close(Socket)
     end || Path <- [Stale, Young]],
    {ok, Listening} = hornbeam_local_socket:listen(Alive),
    [ok = file:write_file_info(Path, #file_info{mtime = {{2000, 1, 1}, {0, 0, 0}}})
     || Path <- [Stale, Alive]],
    {ok, _} = hornbeam_local_socket:choose(auto),
    {ok, Left} = file:list_dir(folder(Config)),
    ?assertEqual(lists:sort([binary_to_list(filename:basename(P)) || P <- [Young, Alive]]),
                 lists:sort(Left)),
    ok = socket:close(Listening).

socket_is_its_users_alone(_Config) ->
    {ok, Path} = hornbeam_local_socket:choose(auto),
    {ok, Socket} = hornbeam_local_socket:listen(Path),
    ?assertEqual(8#600, mode(Path)),
    ok = socket:close(Socket).

make_file(Path) -> file:write_file(Path, <<"precious">>).

make_pipe(Path) ->
    [] = os:cmd("mkfifo " ++ binary_to_list(Path)),
    ok.

what_stands_at_a_path_is_not_lost(Config) ->
    Path = list_to_binary(filename:join(proplists:get_value(dir, Config), "s")),
    [begin
         ok = Make(Path),
         {error, File} = hornbeam_local_socket:listen(Path),
         ?assertNotEqual(nomatch, string:find(File, "a file that is no socket is there")),
         ok = file:delete(Path)
     end || Make <- [fun make_file/1, fun make_pipe/1]],
    {ok, Socket} = hornbeam_local_socket:listen(Path),
    {error, Used} = hornbeam_local_socket:listen(Path),
    ?assertNotEqual(nomatch, string:find(Used, "another process listens there")),
    ok = socket:close(Socket),
    {ok, Again} = hornbeam_local_socket:listen(Path),
    ok = socket:close(Again),
    {error, Nowhere} = hornbeam_local_socket:listen(<<"/nowhere/at/all">>),
    ?assertNotEqual(nomatch, string:find(Nowhere, "its folder has to be there")).

folder(Config) -> filename:join(proplists:get_value(dir, Config), "hornbeam").

mode(Path) ->
    {ok, #file_info{mode = Mode}} = file:read_link_info(Path),
    Mode band 8#777.

%% Who is let in.

visitor_is_told_what_it_has_to_know(_Config) ->
    with_door(fun(Path) ->
        Visitor = connect(Path),
        say([hello, 0, 1, about([])], Visitor),
        {[start, 0, Config], Visitor1} = next(Visitor),
        ?assertMatch(#{<<"op_timeout">> := 1000, <<"apps">> := [[<<"shop:app">>, _],
                                                                [<<"blog:app">>, _]]}, Config),
        ?assertMatch({[reply, 0, 1, 0, undefined], _}, ask(1, 1, [<<"visitor_SUITE">>], Visitor1))
    end).

options_are_those_of_the_nearest_app_above(_Config) ->
    [Shop, _Blog] = Apps = apps(),
    App = fun(Folders) ->
        maps:get(app, hornbeam_visitor_hello:options(#{<<"folders">> => Folders}, Apps))
    end,
    [?assertEqual({Folders, Expected}, {Folders, App(Folders)})
     || {Folders, Expected} <- [{[<<"/tmp">>], <<"shop:app">>},
                                {[<<"/tmp/hornbeam-blog">>], <<"blog:app">>},
                                {[<<"/tmp/hornbeam-blog/deeper">>], <<"blog:app">>},
                                {[<<"/tmp/hornbeam-blogging">>], <<"shop:app">>},
                                {[<<"/srv">>, <<"/tmp/hornbeam-blog">>], <<"blog:app">>},
                                {[<<"/srv">>, 7], <<"shop:app">>}, {[], <<"shop:app">>},
                                {not_a_list, <<"shop:app">>}]],
    ?assertEqual(Shop, hornbeam_visitor_hello:options(#{}, Apps)).

another_version_is_refused_with_what_to_upgrade(_Config) ->
    with_door(fun(Path) ->
        [?assertMatch({match, _}, re:run(refusal([hello, 0, Version, about([])], Path), Sentence))
         || {Version, Sentence} <- [{0, "Upgrade the package"}, {2, "Upgrade the server"}]]
    end).

what_is_wanted_and_not_there_is_refused(_Config) ->
    with_door(fun(Path) ->
        [?assertMatch({match, _}, re:run(refusal([hello, 0, 1, About], Path), "no such thing"))
         || About <- [#{}, #{<<"wants">> => <<"gold">>}, #{<<"wants">> => 7}]]
    end).

%% What it may say.

who_breaks_the_wire_is_cut_off(_Config) ->
    Hello = [hello, 0, 1, about([])],
    ok = hornbeam:register_function("visitor_SUITE_waits", fun() -> receive never -> ok end end),
    NoArgs = hornbeam_msgpack:bytes(<<16#90>>),
    Waits = [tell, 0, 1, 40, [<<"visitor_SUITE_waits">>, NoArgs, 20000]],
    with_door(fun(Path) ->
        [?assertEqual({Said, closed}, {Said, cut_off(Said, Path)})
         || Said <- [[<<1, 2, 3>>],
                     [[op, 0, 1, 1, [<<"k">>]]],
                     [Hello, Hello],
                     [Hello, [op, 1, 1, 1, [<<"k">>]]],
                     [Hello, [log, 0, 20, <<"l">>, <<"t">>]],
                     [Hello, [ready, 0, #{}]],
                     [Hello, [credit, 0, 1, 0]],
                     [Hello, [send_text, 1, hornbeam_msgpack:bytes(<<"t">>)]],
                     [Hello, <<"rubbish">>],
                     [Hello | lists:duplicate(2049, Waits)]]]
    end),
    ok = hornbeam:unregister_function("visitor_SUITE_waits").

one_that_is_cut_off_costs_no_other(_Config) ->
    with_door(fun(Path) ->
        {_, Other} = greeted(Path),
        closed = cut_off([<<1, 2, 3>>], Path),
        ?assertMatch({[reply, 0, 7, 0, undefined], _}, ask(7, 1, [<<"visitor_SUITE">>], Other))
    end).

%% Nobody reads the replies any more.
what_is_written_before_the_end_is_done(_Config) ->
    with_door(fun(Path) ->
        {_, {Socket, _}} = greeted(Path),
        Topic = <<"visitor_SUITE">>,
        ok = hornbeam_pubsub:subscribe(Topic),
        Value = binary:copy(<<"x">>, 200),
        Publish = [op, 0, 1, 22, [Topic, hornbeam_msgpack:bytes(iolist_to_binary(
                                             hornbeam_msgpack:bin(Value)))]],
        ok = gen_tcp:send(Socket, lists:duplicate(2000, packet(Publish))),
        ok = gen_tcp:close(Socket),
        [receive {hornbeam_pubsub, Topic, _} -> ok after 5000 -> error({lost, N}) end
         || N <- lists:seq(1, 2000)],
        ok = hornbeam_pubsub:unsubscribe(Topic)
    end).

listener_that_crashes_costs_no_visitor(_Config) ->
    with_door(fun(Path) ->
        {_, Visitor} = greeted(Path),
        Listener = whereis(hornbeam_visitor_listener),
        true = unlink(Listener),
        Ref = monitor(process, Listener),
        exit(Listener, kill),
        receive {'DOWN', Ref, process, _, _} -> ok end,
        ?assertMatch({[reply, 0, 7, 0, undefined], _}, ask(7, 1, [<<"visitor_SUITE">>], Visitor)),
        {ok, _} = hornbeam_visitor_listener:start_link(Path),
        ?assertMatch({[start, 0, _], _}, greeted(Path))
    end).

%% A door for a test, as the server's supervisor opens it.
with_door(Do) ->
    {ok, Path} = hornbeam_local_socket:choose(auto),
    {ok, Sup} = hornbeam_visitor_sup:start_link(#{api => hornbeam_api, apps => apps(),
                                                services => #{}}),
    {ok, _} = hornbeam_visitor_listener:start_link(Path),
    try
        Do(Path)
    after
        lists:foreach(fun ended/1, [whereis(hornbeam_visitor_listener), Sup]),
        ?assertEqual({error, enoent}, file:read_link_info(Path))
    end.

ended(Pid) ->
    true = unlink(Pid),
    Ref = monitor(process, Pid),
    exit(Pid, shutdown),
    receive {'DOWN', Ref, process, _, _} -> ok end.

apps() ->
    {ok, #{mounts := [{_, Options}]}} = hornbeam_config:check("shop:app", #{}),
    [Options#{chdir := <<"/tmp">>, op_timeout := 1000},
     Options#{app := <<"blog:app">>, chdir := <<"/tmp/hornbeam-blog">>}].

about(Folders) -> #{<<"wants">> => <<"ops">>, <<"folders">> => Folders}.

connect(Path) ->
    {ok, Socket} = gen_tcp:connect({local, Path}, 0, [local, binary, {active, false}]),
    {Socket, <<>>}.

greeted(Path) ->
    Visitor = connect(Path),
    say([hello, 0, 1, about([])], Visitor),
    next(Visitor).

say(Message, {Socket, _}) ->
    gen_tcp:send(Socket, packet(Message)).

packet(Bytes) when is_binary(Bytes) ->
    <<(byte_size(Bytes)):32, Bytes/binary>>;
packet(Message) ->
    [Name | Fields] = Message,
    packet(iolist_to_binary(hornbeam_msgpack:encode([hornbeam_wire_files:code(Name) | Fields]))).

name(Code) ->
    {Code, Name, _, _} = lists:keyfind(Code, 1, hornbeam_wire_files:messages(
        hornbeam_wire_files:document())),
    Name.


next({Socket, Read}) ->
    case hornbeam_msgpack:decode(Read) of
        {ok, [Code | Fields], Rest} -> {[name(Code) | Fields], {Socket, Rest}};
        {error, _} -> read_on(gen_tcp:recv(Socket, 0, 5000), Socket, Read)
    end.

read_on({ok, More}, Socket, Read) -> next({Socket, <<Read/binary, More/binary>>});
read_on({error, Reason}, _Socket, _Read) -> Reason.

ask(Ref, Op, Args, Visitor) ->
    say([op, 0, Ref, Op, Args], Visitor),
    next(Visitor).

refusal(Hello, Path) ->
    Visitor = connect(Path),
    say(Hello, Visitor),
    {[refused, 0, Sentence], Closing} = next(Visitor),
    closed = next(Closing),
    Sentence.

%% Until there is no more to be read.
cut_off(Said, Path) ->
    {Socket, _} = Visitor = connect(Path),
    _ = gen_tcp:send(Socket, [packet(Message) || Message <- Said]),
    drained(next(Visitor)).

drained({_Message, Visitor}) -> drained(next(Visitor));
drained(Reason) -> Reason.
