%% Control, by a local socket at which Erlang plays who operates a server; this module is the server
%% that is operated, and its processes the connections that are open.
-module(hornbeam_control_SUITE).
-behaviour(hornbeam_control_node).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [start_tells_which_server_it_is, another_version_is_refused,
     table_of_requests_is_the_documents, unknown_requests_and_arguments_are_refused,
     requests_do_what_they_say, a_request_that_fails_is_refused,
     who_breaks_the_rules_is_cut_off, a_request_ends_with_its_connection,
     what_a_node_says_is_plain, those_that_have_most_come_first,
     what_is_added_in_a_time_decides, one_that_does_not_answer_comes_first,
     who_has_ended_is_not_waited_for, all_are_listed_though_one_is_busy,
     a_trace_tells_what_comes_and_goes, a_trace_ends_with_its_limit,
     a_trace_ends_with_its_connection, a_trace_ends_with_who_looks,
     who_looks_slowly_is_told_what_is_lost, level_of_the_log_is_set].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    ok = logger:set_handler_config(default, level, none),
    Config.

end_per_suite(_Config) ->
    ok = logger:set_handler_config(default, level, all),
    ok = application:stop(hornbeam).

init_per_testcase(Name, Config) ->
    true = register(?MODULE, self()),
    hornbeam_folder:make(Name, Config).

end_per_testcase(_Name, Config) ->
    hornbeam_folder:remove(Config).

%%% The server that is operated.

info() -> #{apps => #{<<"/">> => <<"shop:app">>}, addresses => [{{127, 0, 0, 1}, 80}],
            workers => [#{name => <<"worker-1">>, last_end => none}]}.
kick(7, Code, Reason) -> told({kick, Code, Reason});
kick(_Id, 1, _Reason) -> {error, {bad_code, 1}};
kick(_Id, _Code, _Reason) -> {error, not_found}.
reload() -> told(reload).
reload(<<"/crash">>) -> error(crash);
reload(<<"/wait">>) -> told({waits, self()}), receive never -> ok end;
reload(Path) -> told({reload, Path}).
drain() -> told(drain).
set_workers(0) -> {error, several_apps};
set_workers(Workers) -> told({workers, Workers}).
set_workers(Path, Workers) -> told({workers, Path, Workers}).
stacks(<<"worker-1">>) -> {ok, #{streams => [], threads => []}};
stacks(_Worker) -> {error, no_worker}.
format_error(Reason) -> hornbeam:format_error(Reason).

told(What) ->
    ?MODULE ! {told, What},
    ok.

%%% The conversation.

start_tells_which_server_it_is(Config) ->
    with_door(Config, fun(Path) ->
        {[1, 0, About], _} = greeted(Path),
        ?assertEqual(#{<<"apps">> => [[<<"shop:app">>, <<"/tmp">>]],
                       <<"os_pid">> => list_to_integer(os:getpid())}, About)
    end).

another_version_is_refused(Config) ->
    with_door(Config, fun(Path) ->
        {[21, 0, Sentence], _} = next(say([33, 0, 2, about()], connect(Path))),
        ?assertMatch({match, _}, re:run(Sentence, "Upgrade the server"))
    end).

table_of_requests_is_the_documents(_Config) ->
    Rows = hornbeam_wire_files:requests(hornbeam_wire_files:document()),
    ?assertEqual([Name || {Name, _} <- lists:sort(Rows)], hornbeam_control_requests:names()),
    [?assertEqual({Name, lists:sort(Arguments)},
                  {Name, hornbeam_control_requests:arguments(Name)})
     || {Name, Arguments} <- Rows].

unknown_requests_and_arguments_are_refused(Config) ->
    with_door(Config, fun(Path) ->
        [?assertMatch({Said, {match, _}}, {Said, re:run(refusal(Name, Args, Path), Sentence)})
         || {Name, Args, Sentence} = Said <-
                [{<<"gold">>, #{}, "knows no request gold"},
                 {<<"status">>, #{<<"x">> => 1}, "no argument"},
                 {<<"kick">>, #{}, "id has to be the number of a connection"},
                 {<<"kick">>, #{<<"id">> => 0}, "id has to be"},
                 {<<"kick">>, #{<<"id">> => 7, <<"code">> => <<"1000">>}, "code has to be a whole"},
                 {<<"connections">>, #{<<"by">> => <<"gold">>}, "one of sent, received"},
                 {<<"connections">>, #{<<"most">> => 10001}, "from 1 to 10000"},
                 {<<"connections">>, #{<<"path">> => 7}, "path has to be a text"},
                 {<<"trace">>, #{<<"id">> => 1, <<"seconds">> => 3601}, "from 1 to 3600"},
                 {<<"log_level">>, #{<<"level">> => <<"loud">>}, "one of debug"},
                 {<<"log_level">>, #{}, "one of debug"}]]
    end).

requests_do_what_they_say(Config) ->
    with_door(Config, fun(Path) ->
        [begin
             ?assertEqual({Name, Args, undefined}, {Name, Args, done(Name, Args, Path)}),
             receive {told, What} -> ?assertEqual(Told, What) end
         end || {Name, Args, Told} <-
                    [{<<"kick">>, #{<<"id">> => 7}, {kick, 1008, <<>>}},
                     {<<"kick">>, #{<<"id">> => 7, <<"code">> => 4000, <<"reason">> => <<"r">>},
                      {kick, 4000, <<"r">>}},
                     {<<"reload">>, #{}, reload},
                     {<<"reload">>, #{<<"path">> => <<"/a">>}, {reload, <<"/a">>}},
                     {<<"drain">>, #{}, drain},
                     {<<"workers">>, #{<<"workers">> => 3}, {workers, 3}},
                     {<<"workers">>, #{<<"workers">> => 3, <<"path">> => <<"/a">>},
                      {workers, <<"/a">>, 3}}]],
        [?assertMatch({Name, {match, _}}, {Name, re:run(refusal(Name, Args, Path), Sentence)})
         || {Name, Args, Sentence} <-
                [{<<"kick">>, #{<<"id">> => 8}, "no open connection 8"},
                 {<<"kick">>, #{<<"id">> => 8, <<"code">> => 1}, "1 is no code"},
                 {<<"connection">>, #{<<"id">> => 8}, "no open connection 8"},
                 {<<"trace">>, #{<<"id">> => 8}, "no open connection 8"},
                 {<<"workers">>, #{<<"workers">> => 0}, "several apps"},
                 {<<"members">>, #{}, "no consistent state"},
                 {<<"remove_member">>, #{<<"node">> => <<"n@h">>}, "no consistent state"},
                 {<<"stacks">>, #{<<"worker">> => <<"worker-9">>}, "no worker worker-9"}]],
        ?assertEqual([#{<<"worker">> => <<"worker-1">>, <<"streams">> => [], <<"threads">> => []}],
                     done(<<"stacks">>, #{}, Path)),
        ?assertMatch(#{<<"addresses">> := [<<"127.0.0.1:80">>], <<"uptime">> := _,
                       <<"version">> := _, <<"workers">> := [#{<<"last_end">> := <<"none">>}]},
                     done(<<"status">>, #{}, Path)),
        ?assertMatch(#{<<"server">> := _, <<"crashes">> := _, <<"limits">> := _},
                     done(<<"doctor">>, #{}, Path))
    end).

a_request_that_fails_is_refused(Config) ->
    with_door(Config, fun(Path) ->
        Sentence = refusal(<<"reload">>, #{<<"path">> => <<"/crash">>}, Path),
        ?assertMatch({match, _}, re:run(Sentence, "its log says why"))
    end).

who_breaks_the_rules_is_cut_off(Config) ->
    with_door(Config, fun(Path) ->
        Request = [1, <<"status">>, #{}],
        [begin
             {_, Who} = greeted(Path),
             ?assertEqual({Said, closed}, {Said, drained(next(lists:foldl(fun say/2, Who, Said)))})
         end || Said <- [[<<"rubbish">>], [[1, <<"status">>]], [[<<"1">>, <<"status">>, #{}]],
                         [[1, <<"kick">>, #{<<"reason">> => binary:copy(<<"x">>, 65536)}]],
                         [[N, <<"reload">>, #{<<"path">> => <<"/wait">>}]
                          || N <- lists:seq(1, 17)]]],
        %% Not before the node has said which one it is.
        {ok, Socket} = gen_tcp:connect({local, Path}, 0, [local, binary, {active, false}]),
        ok = gen_tcp:send(Socket, [packet([33, 0, 1, about()]), packet(Request)]),
        ?assertEqual(closed, drained(next({Socket, <<>>})))
    end).

a_request_ends_with_its_connection(Config) ->
    with_door(Config, fun(Path) ->
        {_, Who} = greeted(Path),
        {Socket, _} = say([1, <<"reload">>, #{<<"path">> => <<"/wait">>}], Who),
        Pid = receive {told, {waits, Waits}} -> Waits end,
        Ref = monitor(process, Pid),
        ok = gen_tcp:close(Socket),
        receive {'DOWN', Ref, process, _, _} -> ok after 5000 -> error(lives) end
    end).

what_a_node_says_is_plain(_Config) ->
    [?assertEqual({Term, Plain}, {Term, hornbeam_plain:term(Term)})
     || {Term, Plain} <- [{#{a => b, 1 => undefined}, #{<<"a">> => <<"b">>, <<"1">> => undefined}},
                          {{{0, 0, 0, 0, 0, 0, 0, 1}, 80}, <<"[::1]:80">>},
                          {{local, <<"/s">>}, <<"unix:/s">>},
                          {{<<"10.0.0.1">>, 5}, [<<"10.0.0.1">>, 5]},
                          {[true, 1.5, {x}], [true, 1.5, [<<"x">>]]}]],
    ?assertMatch(<<"<0.", _/binary>>, hornbeam_plain:term(self())).

%%% The connections.

those_that_have_most_come_first(_Config) ->
    with_connections([#{bytes_out => N, path => path(N)} || N <- lists:seq(1, 2000)], fun(_) ->
        ?assertMatch(#{open := 2000, busy := 0,
                       connections := [#{bytes_out := 2000, measured := 2000, queue := 0},
                                       #{bytes_out := 1999}, #{bytes_out := 1998}]},
                     top(sent, 3, any, 0)),
        ?assertMatch(#{open := 1000, connections := [#{bytes_out := 1999}]},
                     top(sent, 1, {exact, <<"/odd">>}, 0)),
        ?assertMatch(#{open := 2000}, top(sent, 1, {below, <<"/">>}, 0)),
        ?assertMatch(#{open := 0, connections := []}, top(sent, 1, {exact, <<"/">>}, 0))
    end),
    with_connections([#{unsent => 100}, #{untaken => 10}, #{untaken => 40, mailbox => 7}],
                     fun([Unsent, Between, Untaken]) ->
        ?assertMatch([#{id := Unsent, queue := 100}, #{id := Untaken, queue := 47},
                      #{id := Between, queue := 0}],
                     maps:get(connections, top(queue, 9, any, 0)))
    end).

path(N) when N rem 2 =:= 0 -> <<"/even">>;
path(_N) -> <<"/odd">>.

what_is_added_in_a_time_decides(_Config) ->
    with_connections([#{bytes_in => 1000000}, #{bytes_in => 1, growth => 50}], fun([_, Hot]) ->
        ?assertMatch(#{connections := [#{id := Hot, measured := 50}]}, top(received, 1, any, 1))
    end).

one_that_does_not_answer_comes_first(_Config) ->
    with_connections([#{unsent => 9}, busy, #{}], fun([Full, Busy, _]) ->
        {Microseconds, Top} = timer:tc(fun() -> top(queue, 2, any, 0) end),
        ?assertMatch(#{open := 2, busy := 1,
                       connections := [#{id := Busy, state := busy, mailbox := 1},
                                       #{id := Full, queue := 9}]}, Top),
        ?assert(Microseconds < 5000000),
        ?assertEqual({error, busy}, hornbeam_connections:find(Busy)),
        ?assertMatch({ok, #{queue := 9}}, hornbeam_connections:find(Full))
    end).

who_has_ended_is_not_waited_for(_Config) ->
    with_connections([#{}, mortal], fun([Lives, _]) ->
        ?assertMatch(#{busy := 0, connections := [#{id := Lives}]}, top(sent, 2, any, 0))
    end).

all_are_listed_though_one_is_busy(_Config) ->
    with_connections([#{}, busy, #{}], fun([One, _, Other]) ->
        ?assertMatch([#{id := One}, #{id := Other}], hornbeam:connections())
    end).

top(By, Most, Path, Seconds) ->
    hornbeam_connections:top(#{by => By, most => Most, path => Path, seconds => Seconds}).

%%% Looking at one of them.

a_trace_tells_what_comes_and_goes(_Config) ->
    with_connections([#{}], fun([Id]) ->
        Trace = trace(Id, #{messages => 9, seconds => 60, bodies => 3}),
        says(Id, [{in, text, <<"hello">>}, {out, binary, <<1, 2>>}]),
        ?assertMatch({item, #{direction := in, type := text, size := 5, body := <<"hel">>,
                              dropped := 0}}, looked(Trace)),
        ?assertMatch({item, #{direction := out, type := binary, size := 2, body := <<1, 2>>}},
                     looked(Trace)),
        says(Id, [stop]),
        ?assertMatch({ended, {ok, #{ended := {closed, 1000}, dropped := 0}}}, looked(Trace))
    end).

a_trace_ends_with_its_limit(_Config) ->
    with_connections([#{}], fun([Id]) ->
        Trace = trace(Id, #{messages => 2, seconds => 60, bodies => 0}),
        says(Id, [{in, text, <<"hello">>} || _ <- lists:seq(1, 5)]),
        ?assertMatch({item, #{body := <<>>}}, looked(Trace)),
        ?assertMatch({item, _}, looked(Trace)),
        ?assertMatch({ended, {ok, #{ended := limit}}}, looked(Trace)),
        ?assertEqual(off, says(Id, [])),
        Short = trace(Id, #{messages => 2, seconds => 1, bodies => 0}),
        ?assertMatch({ended, {ok, #{ended := seconds}}}, looked(Short)),
        ?assertEqual(off, says(Id, []))
    end).

a_trace_ends_with_its_connection(_Config) ->
    with_connections([#{}], fun([Id]) ->
        Trace = trace(Id, #{messages => 2, seconds => 60, bodies => 0}),
        {ok, Pid} = hornbeam_connection_registry:find(Id),
        exit(Pid, kill),
        ?assertMatch({ended, {ok, #{ended := closed}}}, looked(Trace))
    end).

a_trace_ends_with_who_looks(_Config) ->
    with_connections([#{}], fun([Id]) ->
        Pid = trace(Id, #{messages => 9, seconds => 60, bodies => 0}),
        Ref = monitor(process, Pid),
        exit(Pid, kill),
        receive {'DOWN', Ref, process, _, _} -> ok end,
        ?assertNotEqual(off, says(Id, [])),
        ?assertEqual(off, says(Id, [{in, text, <<"hello">>}])),
        %% Another one comes in place of who looks.
        First = trace(Id, #{messages => 9, seconds => 60, bodies => 0}),
        Second = trace(Id, #{messages => 9, seconds => 60, bodies => 0}),
        ?assertMatch({ended, {ok, #{ended := replaced}}}, looked(First)),
        says(Id, [{in, text, <<"hello">>}]),
        ?assertMatch({item, _}, looked(Second))
    end).

who_looks_slowly_is_told_what_is_lost(_Config) ->
    with_connections([#{}], fun([Id]) ->
        Trace = trace(Id, #{messages => 2000, seconds => 60, bodies => 0}),
        says(Id, [{in, text, <<"hello">>} || _ <- lists:seq(1, 1500)]),
        %% It has the first in its hands.
        ?assertMatch({message_queue_len, Length} when Length =< 500,
                     process_info(Trace, message_queue_len)),
        [?assertMatch({N, {item, #{dropped := 0}}}, {N, looked(Trace)}) || N <- lists:seq(1, 500)],
        says(Id, [{in, text, <<"hello">>}]),
        ?assertMatch({item, #{dropped := 1000}}, looked(Trace)),
        says(Id, [stop]),
        ?assertMatch({ended, {ok, #{dropped := 1000}}}, looked(Trace))
    end).

%% Gives its notes one by one, when it is asked for the next.
trace(Id, Limits) ->
    Test = self(),
    Pid = spawn(fun() ->
        Emit = fun(Note) -> Test ! {self(), {item, Note}}, receive next -> ok end end,
        Outcome = hornbeam_control_trace:run(Id, Limits, Emit),
        Test ! {self(), {ended, Outcome}}
    end),
    hornbeam_eventually:holds(fun() -> is_traced(Id) end),
    Pid.

looked(Trace) ->
    receive
        {Trace, Said} -> Trace ! next, Said
    after 5000 ->
        error(nothing)
    end.

is_traced(Id) -> says(Id, []) =/= off.

%%% Processes that are connections.

with_connections(Described, Do) ->
    Pids = [connection(Description) || Description <- Described],
    Ids = [receive {Pid, added, Id} -> Id end || Pid <- Pids],
    try Do(Ids) after
        [begin
             Ref = monitor(process, Pid),
             exit(Pid, kill),
             receive {'DOWN', Ref, process, _, _} -> ok end
         end || Pid <- Pids],
        [] = hornbeam_connection_registry:owners()
    end.

connection(Description) ->
    Test = self(),
    spawn(fun() ->
        Test ! {self(), added, hornbeam_connection_registry:add(self(), websocket, <<"/">>)},
        lives(Description, off)
    end).

lives(busy, _Trace) ->
    receive never -> ok end;
lives(mortal, _Trace) ->
    receive _ -> ok end;
lives(Description, Trace) ->
    receive
        {describe, Asker} ->
            hornbeam_connection_registry:reply(Asker, described(Description)),
            lives(Description, Trace);
        {measure, Asker, Measure, Filter} ->
            hornbeam_connection_registry:reply_measure(Asker, Measure, Filter,
                                                       described(Description)),
            lives(grown(Description), Trace);
        {trace, Viewer} ->
            lives(Description, hornbeam_trace:new(Viewer, Trace));
        {stop_trace, Ref} ->
            lives(Description, hornbeam_trace:stop(Ref, Trace));
        {kick, Code, Reason} ->
            persistent_term:put(kicked, [{Code, Reason} | persistent_term:get(kicked, [])]),
            lives(Description, Trace);
        {says, From, Messages} ->
            Said = lists:foldl(fun said/2, Trace, Messages),
            From ! {self(), Said},
            lives(Description, Said)
    end.

said(stop, Trace) -> hornbeam_trace:ended({closed, 1000}, Trace), off;
said({Direction, Type, Payload}, Trace) -> hornbeam_trace:note(Direction, Type, Payload, Trace).

grown(#{bytes_in := Bytes, growth := Growth} = Description) ->
    Description#{bytes_in := Bytes + Growth};
grown(Description) ->
    Description.

described(Description) ->
    maps:merge(#{kind => websocket, path => <<"/">>, worker => self(), state => open, seconds => 1,
                 bytes_in => 0, bytes_out => 0, untaken => 0, untaken_bytes => 0, mailbox => 0,
                 unsent => 0}, Description).

says(Id, Messages) ->
    {ok, Pid} = hornbeam_connection_registry:find(Id),
    Pid ! {says, self(), Messages},
    receive {Pid, Trace} -> Trace after 5000 -> error(nothing) end.

level_of_the_log_is_set(Config) ->
    #{level := Before} = logger:get_primary_config(),
    with_door(Config, fun(Path) ->
        undefined = done(<<"log_level">>, #{<<"level">> => <<"debug">>}, Path),
        ?assertMatch(#{level := debug}, logger:get_primary_config())
    end),
    ok = logger:set_primary_config(level, Before),
    ok = logger:set_handler_config(default, level, none).

%%% A door, and who comes by it.

with_door(Config, Do) ->
    Path = list_to_binary(filename:join(proplists:get_value(dir, Config), "s")),
    {ok, #{mounts := [{_, Options}]} = Checked} = hornbeam_config:check("shop:app", #{}),
    Control = #{node => ?MODULE, options => hornbeam_secret:hide(Checked)},
    {ok, Sup} = hornbeam_visitor_sup:start_link(
        #{api => hornbeam_api, apps => [Options#{chdir := <<"/tmp">>}],
          services => #{<<"control">> => {hornbeam_control_conversation, Control}}}),
    {ok, Listener} = hornbeam_visitor_listener:start_link(Path),
    try Do(Path) after lists:foreach(fun ended/1, [Listener, Sup]) end.

ended(Pid) ->
    true = unlink(Pid),
    Ref = monitor(process, Pid),
    exit(Pid, shutdown),
    receive {'DOWN', Ref, process, _, _} -> ok end.

about() -> #{<<"wants">> => <<"control">>}.

connect(Path) ->
    {ok, Socket} = gen_tcp:connect({local, Path}, 0, [local, binary, {active, false}]),
    {Socket, <<>>}.

greeted(Path) ->
    next(say([33, 0, 1, about()], connect(Path))).

say(Message, {Socket, _} = Who) ->
    _ = gen_tcp:send(Socket, packet(Message)),
    Who.

packet(Bytes) when is_binary(Bytes) -> <<(byte_size(Bytes)):32, Bytes/binary>>;
packet(Message) -> packet(iolist_to_binary(hornbeam_msgpack:encode(Message))).

next({Socket, Read}) ->
    case hornbeam_msgpack:decode(Read) of
        {ok, Message, Rest} -> {Message, {Socket, Rest}};
        {error, _} -> read_on(gen_tcp:recv(Socket, 0, 10000), Socket, Read)
    end.

read_on({ok, More}, Socket, Read) -> next({Socket, <<Read/binary, More/binary>>});
read_on({error, Reason}, _Socket, _Read) -> Reason.

drained({_Message, Who}) -> drained(next(Who));
drained(Reason) -> Reason.

answer(Name, Args, Path) ->
    {_, Who} = greeted(Path),
    {[5, Kind, Value], {Socket, <<>>}} = next(say([5, Name, Args], Who)),
    ok = gen_tcp:close(Socket),
    {Kind, Value}.

done(Name, Args, Path) ->
    {<<"done">>, Value} = answer(Name, Args, Path),
    Value.

refusal(Name, Args, Path) ->
    {<<"refused">>, Sentence} = answer(Name, Args, Path),
    Sentence.
