%% Events: who attached to one hears it, and a handler that fails harms nobody.
-module(hornbeam_telemetry_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

-define(OPEN, [hornbeam, websocket, open]).

all() ->
    [who_attached_hears_its_event, who_is_detached_hears_nothing, an_id_is_attached_once,
     only_events_of_the_list_are_attached_to, a_handler_that_fails_is_detached,
     the_library_hears_too_where_it_is_loaded, the_guide_lists_every_event].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

tell(Id, Event) ->
    Test = self(),
    hornbeam_telemetry:attach(Id, Event, fun(E, Measured, About, Config) ->
        Test ! {heard, Id, E, Measured, About, Config}
    end, config).

heard() ->
    receive
        {heard, Id, Event, Measured, About, config} -> {Id, Event, Measured, About}
    after 0 ->
        nothing
    end.

who_attached_hears_its_event(_Config) ->
    ok = tell(a, ?OPEN),
    ok = tell(b, [hornbeam, websocket, close]),
    ok = hornbeam_telemetry:execute(?OPEN, #{count => 1}, #{path => <<"/">>}),
    ?assertEqual({a, ?OPEN, #{count => 1}, #{path => <<"/">>}}, heard()),
    ?assertEqual(nothing, heard()),
    [ok = hornbeam_telemetry:detach(Id) || Id <- [a, b]].

who_is_detached_hears_nothing(_Config) ->
    ok = tell(a, ?OPEN),
    ok = hornbeam_telemetry:detach(a),
    ok = hornbeam_telemetry:execute(?OPEN, #{}, #{}),
    ?assertEqual(nothing, heard()),
    ?assertEqual({error, not_found}, hornbeam_telemetry:detach(a)).

an_id_is_attached_once(_Config) ->
    ok = tell(a, ?OPEN),
    ?assertEqual({error, already_exists}, tell(a, [hornbeam, http, stop])),
    ok = hornbeam_telemetry:detach(a).

only_events_of_the_list_are_attached_to(_Config) ->
    ?assertEqual({error, unknown_event}, tell(a, [hornbeam, websocket])).

a_handler_that_fails_is_detached(_Config) ->
    ok = tell(a, ?OPEN),
    ok = hornbeam_telemetry:attach(bad, ?OPEN, fun(_, _, _, _) -> error(bad) end, none),
    ok = hornbeam_telemetry:execute(?OPEN, #{}, #{}),
    ?assertMatch({a, _, _, _}, heard()),
    ?assertEqual({error, not_found}, hornbeam_telemetry:detach(bad)),
    ok = hornbeam_telemetry:detach(a).

the_library_hears_too_where_it_is_loaded(_Config) ->
    Test = self(),
    ets:new(?MODULE, [named_table, public]),
    ets:insert(?MODULE, {test, Test}),
    {ok, telemetry, Code} = compile:forms(library()),
    {module, telemetry} = code:load_binary(telemetry, "telemetry.erl", Code),
    ok = hornbeam_telemetry:execute(?OPEN, #{count => 1}, #{path => <<"/">>}),
    ?assertEqual({library, ?OPEN, #{count => 1}, #{path => <<"/">>}},
                 receive Heard -> Heard after 0 -> nothing end),
    true = code:delete(telemetry).

%% telemetry:execute/3, which sends to the test.
library() ->
    Source = ["-module(telemetry).", "-export([execute/3]).",
              "execute(E, M, A) -> ets:lookup_element(hornbeam_telemetry_SUITE, test, 2) ! "
              "{library, E, M, A}, ok."],
    [begin
         {ok, Tokens, _} = erl_scan:string(Form),
         {ok, Parsed} = erl_parse:parse_form(Tokens),
         Parsed
     end || Form <- Source].

the_guide_lists_every_event(_Config) ->
    Guide = filename:join([hornbeam_wire_files:root(), "docs", "guide", "deployment.md"]),
    {ok, Text} = file:read_file(Guide),
    {match, Names} = re:run(Text, "^\\| `\\[(hornbeam, \\w+, \\w+)\\]` \\|",
                            [global, multiline, {capture, all_but_first, list}]),
    Listed = lists:sort([[list_to_existing_atom(string:trim(Part))
                          || Part <- string:lexemes(Name, ",")] || [Name] <- Names]),
    ?assertEqual(lists:sort(hornbeam_telemetry:events()), Listed).
