%% Text of clients and apps in the node's log, by every road on which it gets there: one event stays
%% one event and writes nothing to a terminal, whatever formatter a handler has.
%%
%% In nodes of their own: what the emulator takes for printable is told at its start.
-module(hornbeam_log_SUITE).

-include_lib("stdlib/include/assert.hrl").
-include_lib("kernel/include/logger.hrl").

-compile(export_all).

all() ->
    [no_road_forges_an_event, a_traceback_keeps_its_lines, a_text_is_no_key_of_its_report,
     what_is_long_has_an_end, what_a_process_knows_is_shown_by_its_size,
     fields_with_credentials_are_hidden, errors_are_kept_for_the_doctor,
     events_of_others_stay_as_they_are].

%% What no emulator takes for printable, and what those do that are started with `+pc unicode'.
-define(FORGED, <<"FORGED\n=ERROR REPORT==== 1-Jan-2030\r\n\e[31m\x{85}\x{9b}31mé"/utf8>>).
-define(TURNED, <<"FORGED\n=ERROR REPORT==== 1-Jan-2030\r\n\e[31m\x{61c}\x{200f}\x{2028}\x{2029}"
                  "\x{202e}\x{2066}é"/utf8>>).

no_road_forges_an_event(_Config) ->
    [begin
         Roads = on_a_node(Flags, written, [Text]),
         ?assertEqual(8, length(Roads)),
         [is_one_event(Flags, Road, Formatter, Written)
          || {Road, Texts} <- Roads, {Formatter, Written} <- Texts]
     end || Flags <- [[], ["+pc", "unicode"]], Text <- [?FORGED, ?TURNED]].

is_one_event(Flags, Road, Formatter, Text) ->
    Where = {Flags, Road, Formatter, Text},
    ?assertEqual({Where, true}, {Where, is_forged(Text)}),
    ?assertEqual({Where, []}, {Where, [C || C <- Text, is_control(C)]}),
    Headers = [Line || Line <- string:split(Text, "\n", all),
                       re:run(Line, "^\\s?=[A-Z]", [unicode]) =/= nomatch],
    ?assertEqual({Where, headers(Formatter)}, {Where, length(Headers)}).

%% As text, or as a binary whose bytes the emulator does not take for one.
is_forged(Text) ->
    re:run(Text, "FORGED|70,\\s*79,\\s*82,\\s*71,\\s*69,\\s*68", [unicode]) =/= nomatch.

headers(legacy) -> 1;
headers(_Plain) -> 0.

is_control(C) ->
    C < 32 andalso C =/= $\n orelse C >= 127 andalso C < 160
        orelse lists:member(C, [16#061c, 16#200e, 16#200f, 16#2028, 16#2029])
        orelse C >= 16#202a andalso C =< 16#202e orelse C >= 16#2066 andalso C =< 16#2069.

a_traceback_keeps_its_lines(_Config) ->
    Roads = on_a_node([], written, [?FORGED]),
    [begin
         {Road, Texts} = lists:keyfind(Road, 1, Roads),
         {plain, Text} = lists:keyfind(plain, 1, Texts),
         ?assertMatch({match, _}, re:run(Text, "Traceback [^\n]*\n +File \"a.py\"\n +ValueError",
                                         [unicode]))
     end || Road <- [cast, reload, not_replaced]].

a_text_is_no_key_of_its_report(_Config) ->
    Text = on_a_node([], of_report, [#{what => a_path, path => <<"/x\n    level: info">>}]),
    Lines = string:split(Text, "\n", all),
    ?assert(lists:member("    path: /x", Lines)),
    ?assert(lists:member("            level: info", Lines)),
    ?assert(lists:member("    what: a_path", Lines)).

what_is_long_has_an_end(_Config) ->
    Text = binary:copy(<<"FORGED">>, 100000),
    Roads = on_a_node([], written, [Text, [op, function]]),
    [?assertMatch({Road, Formatter, Length} when Length < 200000,
                  {Road, Formatter, length(Written)})
     || {Road, Texts} <- Roads, {Formatter, Written} <- Texts].

%% Its state, its mailbox, why it failed.
what_a_process_knows_is_shown_by_its_size(_Config) ->
    Texts = on_a_node([], of_crash, [<<"FORGED">>]),
    ?assert(length(Texts) >= 2),
    [?assertEqual({Text, false}, {Text, is_forged(Text)}) || Text <- Texts],
    ?assert(lists:any(fun(Text) -> string:find(Text, "{bytes,6}") =/= nomatch end, Texts)),
    ?assert(lists:any(fun(Text) -> string:find(Text, "in_the_mailbox") =/= nomatch end, Texts)).

fields_with_credentials_are_hidden(_Config) ->
    Text = on_a_node([], of_report, [#{what => failed, reason => {error, [
        {request, #{<<"Cookie">> => <<"FORGED">>, <<"x-auth-token">> => <<"FORGED">>,
                    <<"accept">> => <<"all">>}},
        [{<<"authorization">>, <<"FORGED">>}, {<<"host">>, <<"there">>}]]}}]),
    ?assertNot(is_forged(Text)),
    [?assertNotEqual({Shown, nomatch}, {Shown, string:find(Text, Shown)})
     || Shown <- ["hidden", "all", "there", "authorization"]].

errors_are_kept_for_the_doctor(_Config) ->
    Kept = on_a_node([], kept_errors, [30]),
    ?assertEqual(20, length(Kept)),
    ?assertMatch(#{level := error, at := _}, hd(Kept)),
    Texts = [Text || #{text := Text} <- Kept],
    ?assertEqual({true, false}, {has("number: 30", Texts), has("number: 10", Texts)}),
    ?assertNot(has("an app's own", Texts)),
    [?assert(byte_size(Text) =< 4 * 8192) || Text <- Texts].

has(Words, Texts) ->
    lists:any(fun(Text) -> string:find(Text, Words) =/= nomatch end, Texts).

events_of_others_stay_as_they_are(_Config) ->
    Event = #{level => error, msg => {report, #{text => ?FORGED}},
              meta => #{domain => [otp], pid => self(), time => 0, gl => group_leader()}},
    ?assertEqual(ignore, hornbeam_log:quoted(Event, none)),
    ?assertEqual(ignore, hornbeam_log:quoted(Event#{meta := #{domain => [other]}}, none)),
    ?assertEqual(ignore, hornbeam_log:quoted(Event#{meta := #{}}, none)),
    ?assertEqual(ignore, hornbeam_log:quoted(#{level => error, msg => {"~ts", [?FORGED]},
                                               meta => #{domain => [hornbeam]}}, none)).

on_a_node(Flags, Function, Args) ->
    Paths = lists:append([["-pa", Path] || Path <- code:get_path(), filelib:is_dir(Path)]),
    {ok, Peer, _} = peer:start(#{connection => standard_io, wait_boot => 60000,
                                 args => Flags ++ ["-kernel", "logger_level", "debug" | Paths]}),
    try
        peer:call(Peer, ?MODULE, Function, Args, 60000)
    after
        peer:stop(Peer)
    end.

%%% On the node: what handlers with different formatters write of each road.

written(Text) ->
    written(Text, roads()).

written(Text, Roads) ->
    prepare(),
    [{Road, texts(Road, fun() -> road(Road, Text) end)} || Road <- Roads].

of_report(Report) ->
    prepare(),
    [{plain, Text}] = [T || {plain, _} = T <- texts(what, fun() -> log_ours(Report) end)],
    Text.

%% What is logged until a process that crashed is there again.
of_crash(Text) ->
    prepare(),
    Before = whereis(hornbeam_hooks),
    road(mailbox, Text),
    ok = hornbeam_eventually:holds(fun() ->
        not lists:member(whereis(hornbeam_hooks), [Before, undefined])
    end),
    all_logged().

all_logged() ->
    receive
        {logged, Event} ->
            Format = #{template => [msg], single_line => false},
            Text = unicode:characters_to_list(logger_formatter:format(Event, Format)),
            [lists:flatten(Text) | all_logged()]
    after 0 ->
        []
    end.

kept_errors(Number) ->
    prepare(),
    [log_ours(#{what => failed, number => N, text => binary:copy(<<"x">>, 100000 * (N rem 2))})
     || N <- lists:seq(1, Number)],
    ?LOG_ERROR(#{what => said, text => <<"an app's own">>}, #{domain => [hornbeam, python]}),
    ?LOG_WARNING(#{what => warned}, #{domain => [hornbeam]}),
    hornbeam_crashes:recent().

prepare() ->
    ok = logger:set_handler_config(default, level, none),
    {ok, _} = application:ensure_all_started(hornbeam),
    %% What is started here is the application's.
    {group_leader, Leader} = process_info(whereis(hornbeam_sup), group_leader),
    true = group_leader(Leader, self()),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}).

log_ours(Report) -> ?LOG_ERROR(Report, #{domain => [hornbeam]}).

texts(Road, Do) ->
    Do(),
    Event = next(Road),
    [{Name, lists:flatten(unicode:characters_to_list(logger_formatter:format(Event, Config)))}
     || {Name, Config} <- [{legacy, #{legacy_header => true, single_line => false}},
                           {single, #{template => [time, " ", level, " ", msg, "\n"]}},
                           {plain, #{single_line => false, template => [msg, "\n"]}}]].

%% The first event that has the text in it.
next(Road) ->
    receive
        {logged, Event} ->
            Text = logger_formatter:format(Event, #{template => [msg]}),
            case Road =:= what orelse is_forged(Text) of
                true -> Event;
                false -> next(Road)
            end
    after 10000 ->
        error({nothing_logged, Road})
    end.

log(Event, #{config := Pid}) -> Pid ! {logged, Event}, ok.

roads() -> [log, broke, cast, reload, not_replaced, op, function, telemetry].

road(log, Text) ->
    said([[log, 0, 40, Text, Text]]);
%% Its first bytes are the length of a message, which is too long.
road(broke, Text) ->
    hornbeam_puppet:say(Text, hornbeam_puppet:start());
road(cast, Text) ->
    Puppet = hornbeam_puppet:start(),
    ok = hornbeam_call:cast(hornbeam_puppet:worker(Puppet), <<"m">>, <<"f">>, <<16#90>>, <<16#80>>),
    hornbeam_puppet:say_packets([[result, 0, 1, 8, [<<"E">>, Text, traceback(Text)]]], Puppet);
road(reload, Text) ->
    hornbeam_reloader:report({error, failure(Text)});
road(not_replaced, Text) ->
    log_ours(#{what => worker_not_replaced, reason => failure(Text)});
road(op, Text) ->
    Worker = hornbeam_fake_worker:start(),
    Context = hornbeam_fake_worker:context(Worker, #{client => {not_one, Text}}),
    Args = iolist_to_binary(hornbeam_msgpack:encode([<<"k">>])),
    {reply, _, _} = hornbeam_api:handle_op(60, Args, Context);
road(function, Text) ->
    Fail = fun(Given) -> error({Given, binary_to_list(Given)}) end,
    ok = hornbeam:register_function(<<"f">>, Fail),
    {ok, Function} = hornbeam_functions:find(<<"f">>, 1),
    hornbeam_functions:cast(Function, [Text]);
road(mailbox, Text) ->
    Pid = whereis(hornbeam_hooks),
    true = erlang:suspend_process(Pid),
    Pid ! {'$gen_call', {self(), make_ref()}, {Text, #{Text => [Text]}}},
    Pid ! {in_the_mailbox, Text},
    true = erlang:resume_process(Pid);
road(telemetry, Text) ->
    Event = hd(hornbeam_telemetry:events()),
    ok = hornbeam_telemetry:attach(Text, Event, fun(_, _, _, _) -> error(Text) end, none),
    hornbeam_telemetry:execute(Event, #{}, #{}).

said(Messages) ->
    hornbeam_puppet:say_packets(Messages, hornbeam_puppet:start()).

failure(Text) ->
    {python, #{stage => <<"import">>, class => <<"ValueError">>, message => Text,
               traceback => traceback(Text)}}.

traceback(Text) ->
    <<"Traceback (most recent call last):\n  File \"a.py\"\nValueError: ", (Text)/binary, "\n">>.
