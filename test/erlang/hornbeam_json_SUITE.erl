%% What a client gets of a published value.
-module(hornbeam_json_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([
    text_and_bytes_are_frames_as_they_are/1,
    all_else_is_json_text/1,
    strings_are_escaped/1,
    the_order_of_a_dict_is_kept/1,
    what_has_no_json_form_is_named_with_its_path/1
]).

all() ->
    [Name || {Name, 1} <- module_info(exports), not lists:member(Name, others())].

others() -> [module_info, init_per_suite, end_per_suite].

text_and_bytes_are_frames_as_they_are(_Config) ->
    ?assertEqual({ok, {text, <<"héllo \"x\""/utf8>>}}, frame(<<"héllo \"x\""/utf8>>)),
    ?assertEqual({ok, {binary, <<"bytes">>}}, frame(hornbeam_msgpack:bytes(<<"bytes">>))),
    ?assertEqual({ok, {binary, <<255>>}}, frame(<<255>>)),
    ?assertEqual({ok, {text, <<"atom">>}}, frame(atom)).

all_else_is_json_text(_Config) ->
    [?assertEqual({Term, {ok, {text, Json}}}, {Term, frame(Term)})
     || {Term, Json} <-
            [{undefined, <<"null">>}, {true, <<"true">>}, {false, <<"false">>},
             {0, <<"0">>}, {-1, <<"-1">>}, {1 bsl 70, <<"1180591620717411303424">>},
             {1.5, <<"1.5">>}, {0.1, <<"0.1">>}, {1.0e22, <<"1.0e22">>},
             {[], <<"[]">>}, {[1, [<<"a">>], null], <<"[1,[\"a\"],null]">>},
             {{1, {}}, <<"[1,[]]">>}, {#{}, <<"{}">>},
             {#{<<"k">> => {ok, [1]}}, <<"{\"k\":[\"ok\",[1]]}">>},
             {#{1 => a}, <<"{\"1\":\"a\"}">>}, {#{true => 1}, <<"{\"true\":1}">>},
             {#{undefined => 1}, <<"{\"null\":1}">>}, {#{1.5 => 1}, <<"{\"1.5\":1}">>}]].

strings_are_escaped(_Config) ->
    Text = <<"\"\\/\b\f\n\r\t", 0, 31, 127, "é€😀"/utf8>>,
    {ok, {text, Json}} = frame([Text]),
    ?assertEqual(<<"[\"\\\"\\\\/\\u0008\\u000c\\n\\r\\t\\u0000\\u001f", 127, "é€😀\"]"/utf8>>, Json).

the_order_of_a_dict_is_kept(_Config) ->
    Dict = {packed, <<16#82, 16#a1, $z, 1, 16#a1, $a, 2>>},
    ?assertEqual({ok, {text, <<"{\"z\":1,\"a\":2}">>}}, hornbeam_json:frame(Dict)).

what_has_no_json_form_is_named_with_its_path(_Config) ->
    Bytes = hornbeam_msgpack:bytes(<<"b">>),
    [?assertEqual({Path, What}, no_json(Term))
     || {Term, Path, What} <-
            [{[Bytes], "[0]", <<"bytes">>},
             {#{<<"users">> => [1, 2, 3, Bytes]}, "['users'][3]", <<"bytes">>},
             {#{<<"a">> => {1, #{<<"b">> => self()}}}, "['a'][1]['b']", <<"an Erlang term">>},
             {self(), "", <<"an Erlang term">>},
             {#{Bytes => 1}, "", <<"a dict with bytes as a key">>},
             {#{{1} => 1}, "", <<"a dict with a tuple as a key">>}]].

no_json(Term) ->
    {error, Path, What} = frame(Term),
    {lists:flatten(io_lib:format("~ts", [hornbeam_json:path_text(Path)])), What}.

frame(Term) ->
    hornbeam_json:frame({packed, iolist_to_binary(hornbeam_msgpack:encode(Term))}).
