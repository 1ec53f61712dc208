%% Text from outside in a log: nothing in it looks like another event or reaches the terminal.
-module(hornbeam_quoted_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [a_line_is_one_line, the_lines_after_the_first_are_indented,
     control_characters_are_shown_and_not_written, all_else_stays_as_it_is,
     what_is_passed_on_keeps_its_lines_and_colors_alone,
     what_a_worker_logs_cannot_forge_an_event, a_failure_of_the_app_cannot_forge_an_event].

a_line_is_one_line(_Config) ->
    ?assertEqual(<<"/x\\n=ERROR REPORT=\\x0d\\n\\x1b[31m">>,
                 hornbeam_quoted:line(<<"/x\n=ERROR REPORT=\r\n\e[31m">>)),
    ?assertEqual(<<>>, hornbeam_quoted:line([])).

the_lines_after_the_first_are_indented(_Config) ->
    ?assertEqual(<<"one\n    two\n    \n      three">>,
                 hornbeam_quoted:lines(<<"one\ntwo\n\n  three\n\n">>)),
    ?assertEqual(<<>>, hornbeam_quoted:lines(<<"\n">>)).

control_characters_are_shown_and_not_written(_Config) ->
    Controls = lists:seq(0, 8) ++ lists:seq(11, 31) ++ lists:seq(127, 159)
        ++ [16#2028, 16#2029] ++ lists:seq(16#202a, 16#202e) ++ lists:seq(16#2066, 16#2069),
    [?assertMatch(<<"a\\", _, _, _, _/binary>>, Quoted(<<"a", C/utf8>>))
     || Quoted <- [fun hornbeam_quoted:line/1, fun hornbeam_quoted:lines/1], C <- Controls],
    ?assertEqual(<<"\\x00\\x9b\\u202e">>, hornbeam_quoted:line([0, 16#9b, 16#202e])).

all_else_stays_as_it_is(_Config) ->
    Text = <<"a\tb \\n ~ é ☃ 𝄞"/utf8>>,
    ?assertEqual(Text, hornbeam_quoted:line(Text)),
    ?assertEqual(Text, hornbeam_quoted:lines(Text)).

what_is_passed_on_keeps_its_lines_and_colors_alone(_Config) ->
    Passed = fun(Text) -> iolist_to_binary(hornbeam_quoted:passed(Text)) end,
    [?assertEqual(Text, Passed(Text))
     || Text <- [<<>>, <<"one\n\n  two\t☃\n"/utf8>>, <<"\e[m\e[1;38:5:7mred\e[0m\n">>]],
    [?assertEqual(Shown, Passed(Text))
     || {Text, Shown} <- [{<<"\e[2J\e[31">>, <<"\\x1b[2J\\x1b[31">>},
                          {<<"\e]0;title\x07\e[31mx">>, <<"\\x1b]0;title\\x07\e[31mx">>},
                          {<<"a\rb">>, <<"a\\x0db">>}, {<<"\e[1A">>, <<"\\x1b[1A">>}]].

%% A worker may be hostile: the node quotes, whatever Python has done.
what_a_worker_logs_cannot_forge_an_event(_Config) ->
    Puppet = hornbeam_puppet:start(),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    hornbeam_puppet:say(hornbeam_puppet:packet([log, 0, 40, <<"lo\ngger">>,
                                               <<"text\n=ERROR REPORT=\e[31m">>]), Puppet),
    ?assertEqual("puppet lo\\ngger: text\n    =ERROR REPORT=\\x1b[31m",
                 receive {logged, Message} -> Message after 5000 -> nothing end),
    ok = logger:remove_handler(?MODULE),
    hornbeam_puppet:stop(Puppet).

log(#{msg := {Format, Args}, meta := #{python_logger := _}}, #{config := Test}) ->
    Test ! {logged, lists:flatten(io_lib:format(Format, Args))};
log(_Event, _Config) ->
    ok.

a_failure_of_the_app_cannot_forge_an_event(_Config) ->
    Error = #{stage => <<"import">>, class => <<"ValueError">>, message => <<"a\n=ERROR=\e[31m">>,
              traceback => <<"Traceback\nValueError: a\n=ERROR=\e[31m">>},
    ?assertEqual(<<"the app failed (import) with ValueError: a\\n=ERROR=\\x1b[31m\n"
                   "    Traceback\n    ValueError: a\n    =ERROR=\\x1b[31m">>,
                 unicode:characters_to_binary(hornbeam:format_error({python, Error}))).

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    ok = logger:set_handler_config(default, level, none),
    Config.

end_per_suite(_Config) ->
    ok = logger:set_handler_config(default, level, all).
