%% docs/wire.md and the code (hornbeam_wire, hornbeam_packet) say the same: each row is tried on the
%% code, and the code has nothing that is not a row.
-module(hornbeam_wire_doc_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([
    version_is_the_documents/1,
    longest_message_is_the_documents/1,
    codes_and_names_are_unique/1,
    codes_are_those_of_the_header_file/1,
    every_message_of_the_beam_has_its_function_and_no_function_more/1,
    fields_have_the_names_of_their_rows/1,
    messages_of_the_beam_have_the_fields_of_their_rows/1,
    messages_of_python_have_the_fields_of_their_rows/1,
    a_field_more_or_less_is_refused/1,
    a_field_of_another_type_is_refused/1,
    codes_that_python_does_not_send_are_refused/1,
    extension_types_are_those_of_the_code/1,
    config_has_the_keys_of_the_document/1,
    config_of_a_visitor_has_the_keys_of_the_document/1,
    scope_has_the_elements_of_the_document/1
]).

%% What hornbeam_wire exports besides a function for each message.
-define(OTHERS, [{version, 0}, {pack_rest, 1}, {pack_tls, 1}]).
-define(ABOUT_THE_WORKER, [
    start, stop, event, call, more, cancel, hello, ready, failed, log, stopped, result, item,
    heartbeat,
    multicast_text,
    multicast_bytes,
    refused
]).

all() ->
    [Name || {Name, 1} <- module_info(exports), Name =/= module_info].

document() ->
    hornbeam_wire_files:document().

rows(Sender) ->
    [
        {Code, Name, Fields}
     || {Code, Name, From, Fields} <- hornbeam_wire_files:messages(document()),
        From =:= Sender orelse From =:= both
    ].

%%% Numbers and names

version_is_the_documents(_) ->
    Pattern = "the version of this page \\(\\*\\*([0-9]+)\\*\\*\\)",
    {match, [Version]} = re:run(document(), Pattern, [{capture, [1], list}]),
    ?assertEqual(list_to_integer(Version), hornbeam_wire:version()),
    ?assertEqual(list_to_integer(Version), maps:get(<<"WIRE_VERSION">>, defines())).

longest_message_is_the_documents(_) ->
    Pattern = "longest message is ([0-9\\s]+) bytes",
    {match, [Digits]} = re:run(document(), Pattern, [{capture, [1], list}]),
    Longest = list_to_integer([Digit || Digit <- Digits, Digit >= $0, Digit =< $9]),
    New = hornbeam_packet:new_buffer(),
    ?assertMatch({ok, [], _}, hornbeam_packet:cut(<<Longest:32>>, New)),
    ?assertMatch({error, {too_long, _}}, hornbeam_packet:cut(<<(Longest + 1):32>>, New)).

codes_and_names_are_unique(_) ->
    Rows = hornbeam_wire_files:messages(document()),
    ?assert(length(Rows) > 20),
    [
        ?assertEqual(length(Rows), length(lists:usort([element(N, Row) || Row <- Rows])))
     || N <- [1, 2]
    ].

codes_are_those_of_the_header_file(_) ->
    Rows = maps:from_list([
        {string:uppercase(atom_to_binary(Name)), Code}
     || {Code, Name, _, _} <- hornbeam_wire_files:messages(document())
    ]),
    ?assertEqual(Rows, maps:remove(<<"WIRE_VERSION">>, defines())).

defines() ->
    Options = [global, {capture, all_but_first, binary}],
    Pattern = "-define\\((\\w+), (\\d+)\\)",
    {match, Found} = re:run(hornbeam_wire_files:header_file(), Pattern, Options),
    maps:from_list([{Name, binary_to_integer(Number)} || [Name, Number] <- Found]).

every_message_of_the_beam_has_its_function_and_no_function_more(_) ->
    Functions = [{Name, arity(Name, Fields)} || {_, Name, Fields} <- rows(beam)],
    Exports = hornbeam_wire:module_info(exports) -- [{module_info, 0}, {module_info, 1}],
    ?assertEqual(lists:sort(Functions), lists:sort(Exports -- ?OTHERS)).

arity(Name, Fields) ->
    case lists:member(Name, ?ABOUT_THE_WORKER) of
        true -> length(Fields);
        false -> length(Fields) + 1
    end.

%%% Fields

%% In Erlang a field's name is the argument of a function or stands in the type of a message.
fields_have_the_names_of_their_rows(_) ->
    Functions = [{Name, arguments(Name, arity(Name, Fields))} || {_, Name, Fields} <- rows(beam)],
    ?assertEqual([{Name, names(Fields)} || {_, Name, Fields} <- rows(beam)], Functions),
    Messages = [{Name, names(Fields)} || {_, Name, Fields} <- rows(python)],
    ?assertEqual(lists:sort(Messages), lists:sort(message_types())).

names(Fields) -> [Name || {Name, _} <- Fields].

arguments(Name, Arity) ->
    [Clauses] = [Clauses || {function, _, N, A, Clauses} <- forms(hornbeam_wire),
                           {N, A} =:= {Name, Arity}],
    {clause, _, Arguments, _, _} = lists:last(Clauses),
    [field_name(Argument) || {var, _, Argument} <- Arguments, Argument =/= 'Stream'].

message_types() ->
    [Types] = [Types || {attribute, _, type, {message, {type, _, union, Types}, []}}
                          <- forms(hornbeam_packet)],
    [
        {Name, [field_name(Field) || {ann_type, _, [{var, _, Field}, _]} <- Elements]}
     || {type, _, tuple, [{atom, _, Name} | Elements]} <- Types
    ].

field_name(Variable) -> string:lowercase(atom_to_binary(Variable)).

forms(Module) ->
    Chunks = beam_lib:chunks(code:which(Module), [abstract_code]),
    {ok, {_, [{abstract_code, {_, Forms}}]}} = Chunks,
    Forms.

messages_of_the_beam_have_the_fields_of_their_rows(_) ->
    [
        ?assertEqual({ok, [Code, Stream | Values]}, encoded(Name, Stream, Arguments))
     || {Code, Name, Fields} <- rows(beam),
        Stream <- streams(Name),
        {Arguments, Values} <- combinations(Fields)
    ].

encoded(Name, Stream, Arguments) ->
    Bytes =
        case lists:member(Name, ?ABOUT_THE_WORKER) of
            true -> apply(hornbeam_wire, Name, Arguments);
            false -> apply(hornbeam_wire, Name, [Stream | Arguments])
        end,
    hornbeam_msgpack:decode_all(iolist_to_binary(Bytes)).

messages_of_python_have_the_fields_of_their_rows(_) ->
    [
        ?assertEqual({ok, message(Name, Stream, Values)}, decoded(Code, Stream, Packed, Name))
     || {Code, Name, Fields} <- rows(python),
        Stream <- streams(Name),
        {Packed, Values} <- combinations(python_fields(Fields))
    ].

decoded(Code, Stream, Fields, Name) ->
    case hornbeam_packet:decode(packed([Code, Stream | Fields])) of
        {ok, {Name, S, Ref, Op, Binary}} when Name =:= op; Name =:= tell ->
            {ok, Args} = hornbeam_packet:args(Binary),
            {ok, {Name, S, Ref, Op, Args}};
        Result ->
            Result
    end.

message(Name, Stream, Values) ->
    case lists:member(Name, ?ABOUT_THE_WORKER) of
        true -> list_to_tuple([Name | Values]);
        false -> list_to_tuple([Name, Stream | Values])
    end.

streams(Name) ->
    case lists:member(Name, ?ABOUT_THE_WORKER) of
        true -> [0];
        false -> [1, 128, 70000]
    end.

a_field_more_or_less_is_refused(_) ->
    [
        ?assertEqual({error, {field_count, Name}}, hornbeam_packet:decode(packed(Message)))
     || {Code, Name, Fields} <- rows(python),
        Stream <- streams(Name),
        {Packed, _} <- combinations(python_fields(Fields)),
        Message <- [[Code, Stream | Packed] ++ [1] | one_less([Code, Stream], Packed)]
    ].

one_less(_, []) -> [];
one_less(Head, Fields) -> [Head ++ lists:droplast(Fields)].

%% Each field in turn holds what its type does not allow. The arguments of an op are looked at
%% only when they are decoded.
a_field_of_another_type_is_refused(_) ->
    [
        ?assertMatch({{_, Wrong}, {error, _}}, {{Name, Wrong}, undecoded([Code, Stream | Wrong])})
     || {Code, Name, Fields} <- rows(python),
        Stream <- streams(Name),
        {Packed, _} <- combinations(python_fields(Fields)),
        {Position, {_, Type}} <- numbered(python_fields(Fields)),
        Value <- wrong(Type),
        Wrong <- [replace(Position, Value, Packed)]
    ].

undecoded(Values) ->
    case hornbeam_packet:decode(packed(Values)) of
        {ok, {Name, _, _, _, Args}} when Name =:= op; Name =:= tell ->
            hornbeam_packet:args(Args);
        Result -> Result
    end.

numbered(List) ->
    lists:zip(lists:seq(1, length(List)), List).

replace(Position, Value, List) ->
    {Before, [_ | After]} = lists:split(Position - 1, List),
    Before ++ [Value | After].

codes_that_python_does_not_send_are_refused(_) ->
    Sent = [Code || {Code, _, _} <- rows(python)],
    [
        ?assertEqual(
            {error, {unknown_code, Code}},
            hornbeam_packet:decode(<<2#1001:4, (2 + Fields):4, Code, 1, Nils/binary>>)
        )
     || Code <- lists:seq(0, 255) -- Sent,
        Fields <- lists:seq(0, 6),
        Nils <- [binary:copy(<<16#c0>>, Fields)]
    ].

%%% Values of the document's types: {Argument, what it is on the other side}

combinations(Fields) ->
    Samples = [samples(Name, Type) || {Name, Type} <- Fields],
    Longest = lists:max([1 | [length(Values) || Values <- Samples]]),
    [
        lists:unzip([nth_of(N, Values) || Values <- Samples])
     || N <- lists:seq(0, Longest - 1)
    ].

nth_of(N, Values) ->
    lists:nth(N rem length(Values) + 1, Values).

samples(_, <<"uint">>) ->
    same([0, 127, 128, 255, 256, 65535, 65536, 16#ffffffff, 16#ffffffffffffffff]);
samples(_, <<"bool">>) ->
    same([true, false]);
samples(_, <<"str">>) ->
    same([<<>>, <<"text">>, <<"größe"/utf8>>, binary:copy(<<"x">>, 300)]);
samples(_, <<"bin">>) ->
    same([<<>>, <<"text">>, <<255, 0>>, binary:copy(<<"x">>, 70000)]);
samples(Name, <<"map">>) when Name =:= <<"config">> ->
    [config()];
samples(_, <<"map">>) ->
    same([#{}, #{<<"k">> => [1, true]}]);
samples(Name, <<"array">>) when Name =:= <<"scope">> ->
    [scope()];
samples(<<"topics">>, <<"array">>) ->
    same([[], [<<"chat:lobby">>, <<"größe"/utf8>>]]);
samples(_, <<"any">>) ->
    [{hornbeam_msgpack:encode(V), V} || V <- [undefined, {ok, [1]}, #{1 => <<"x">>}]];
samples(Name, <<"packed">>) ->
    samples(Name, <<"bin">>);
samples(_, <<"array">>) ->
    same([[], [1, <<"x">>, [undefined]]]);
samples(_, headers) ->
    Pair = fun(Name, Value) -> [bytes(Name), bytes(Value)] end,
    Headers = [{<<"a">>, <<"1">>}, {<<"a">>, <<255>>}],
    [{[], []}, {[Pair(Name, Value) || {Name, Value} <- Headers], Headers}];
samples(_, streams) ->
    same([[], [1, 300, 1], lists:seq(1, 65535)]);
samples(_, {marked, Type}) ->
    [{bytes(Value), Value} || {_, Value} <- samples(bin, Type)];
samples(_, term) ->
    same([undefined, {ok, [1]}, #{1 => <<"x">>}]);
samples(Name, Optional) ->
    [Type, <<>>] = binary:split(Optional, <<"?">>),
    [{undefined, undefined} | samples(Name, Type)].

same(Values) -> [{Value, Value} || Value <- Values].

%% From Python, bytes are marked before they are packed, and the arrays that are headers or numbers
%% of streams are told from others by their name.
python_fields(Fields) ->
    [python_field(Field) || Field <- Fields].

python_field({<<"headers">>, <<"array">>}) -> {<<"headers">>, headers};
python_field({<<"streams">>, <<"array">>}) -> {<<"streams">>, streams};
python_field({Name, <<"bin">>}) -> {Name, {marked, <<"bin">>}};
python_field({Name, <<"packed">>}) -> {Name, {marked, <<"bin">>}};
python_field({Name, <<"any">>}) -> {Name, term};
python_field(Field) -> Field.

wrong(<<"uint">>) -> [-1, <<"1">>, undefined, 1.0, true, [], 1 bsl 64];
wrong(<<"bool">>) -> [0, 1, undefined, <<>>, []];
wrong(<<"str">>) -> [1, undefined, bytes(<<"text">>), [], #{}, text];
wrong(<<"str?">>) -> wrong(<<"str">>) -- [undefined];
wrong(<<"map">>) -> [1, undefined, [], <<>>];
wrong(<<"array">>) -> [1, undefined, #{}, <<>>, {}];
wrong(headers) -> wrong(<<"array">>) ++ [[1], [[]], [[bytes(<<>>)]], [[bytes(<<>>), <<"str">>]]];
wrong(streams) -> wrong(<<"array">>) ++ [[0], [1, -1], [<<"1">>], [[]], lists:seq(1, 65536)];
wrong({marked, <<"bin">>}) -> [1, undefined, <<"text">>, [], #{}];
wrong(term) -> [].

config() ->
    Config = #{
        app => <<"app:application">>,
        interface => <<"asgi">>,
        threads => undefined,
        pythonpath => [<<"/srv">>],
        root_path => <<>>,
        lifespan => auto,
        loop => uvloop,
        worker => <<"default-1">>,
        stream_window => {262144, 64},
        worker_window => 4194304,
        tell_window => 2048,
        max_message => 16777216,
        op_timeout => 5000,
        hang_timeout => 30000,
        pubsub_queue_messages => 1000,
        pubsub_queue_bytes => 1048576,
        limit_response_head => 65536,
        limit_response_fields => 256,
        resume => false
    },
    Values = Config#{lifespan => <<"auto">>, loop => <<"uvloop">>, stream_window => [262144, 64]},
    {Config, maps:from_list([{atom_to_binary(K), V} || {K, V} <- maps:to_list(Values)])}.

scope() ->
    Scope = #{
        http_version => <<"1.1">>,
        scheme => <<"ws">>,
        method => <<"GET">>,
        raw_path => <<"/%20">>,
        query_string => <<"a=b">>,
        headers => [{<<"host">>, <<"x">>}, {<<"a">>, <<255>>}],
        client => {<<"::1">>, 5000},
        server => {<<"/run/x.sock">>, undefined},
        connect => #{<<"user">> => 7},
        tls => hornbeam_wire:pack_tls({16#0304, <<"a">>, <<1>>, {<<2>>, <<"CN=b">>}})
    },
    Elements = [
        <<"1.1">>,
        <<"ws">>,
        <<"GET">>,
        <<"/%20">>,
        <<"a=b">>,
        [[<<"host">>, <<"x">>], [<<"a">>, <<255>>]],
        [<<"::1">>, 5000],
        [<<"/run/x.sock">>, undefined],
        #{<<"user">> => 7},
        [16#0304, <<"a">>, <<1>>, [<<2>>], <<"CN=b">>]
    ],
    {Scope, Elements}.

bytes(Binary) -> hornbeam_msgpack:bytes(Binary).

packed(Values) -> iolist_to_binary(hornbeam_msgpack:encode(Values)).

%%% The rest of the document

extension_types_are_those_of_the_code(_) ->
    Samples = #{atom => ok, tuple => {1}, term => self(), integer => 1 bsl 64},
    Types = [
        {extension_type(packed(Sample)), Name}
     || {Name, Sample} <- maps:to_list(Samples)
    ],
    ?assertEqual(lists:sort(Types), lists:sort(hornbeam_wire_files:extensions(document()))).

extension_type(<<16#c7, _, Type, _/binary>>) -> Type;
extension_type(<<Fixed, Type, _/binary>>) when Fixed >= 16#d4, Fixed =< 16#d8 -> Type.

config_has_the_keys_of_the_document(_) ->
    {From, To} = {<<"Its `config` has the keys">>, <<"\n3. ">>},
    Text = hornbeam_wire_files:text_between(From, To, document()),
    {_, Values} = config(),
    ?assertEqual(lists:sort(maps:keys(Values)), lists:sort(described(Text))),
    {ok, [_, 0, Sent]} = encoded(start, 0, [element(1, config())]),
    ?assertEqual(Values, Sent).

config_of_a_visitor_has_the_keys_of_the_document(_) ->
    {From, To} = {<<"Of a visitor `config` has the keys">>, <<"\n\n">>},
    Text = hornbeam_wire_files:text_between(From, To, document()),
    Options = #{app => <<"shop:app">>, chdir => <<"/srv/shop">>, op_timeout => 5000,
                pubsub_queue_messages => 1000, pubsub_queue_bytes => 1048576},
    Config = hornbeam_visitor_hello:config(Options, [Options]),
    ?assertEqual(lists:sort([atom_to_binary(Key) || Key <- maps:keys(Config)]),
                 lists:sort(described(Text))),
    ?assertMatch({ok, [_, 0, #{<<"apps">> := [[<<"shop:app">>, <<"/srv/shop">>]]}]},
                 encoded(start, 0, [Config])).

scope_has_the_elements_of_the_document(_) ->
    Text = hornbeam_wire_files:text_between(<<"`scope` is an array:">>, <<"\n\n">>, document()),
    {Scope, Elements} = scope(),
    Names = described(Text),
    ?assertEqual(lists:sort([atom_to_binary(Key) || Key <- maps:keys(Scope)]), lists:sort(Names)),
    %% Each element is changed alone: it changes its place, and no other.
    [
        ?assertEqual([Position], changed_places(binary_to_atom(Name), Scope, Elements))
     || {Position, Name} <- numbered(Names)
    ].

changed_places(Key, Scope, Elements) ->
    {ok, [_, 1, Changed]} = encoded(open_websocket, 1, [Scope#{Key := other(Key)}]),
    [N || {N, {Old, New}} <- numbered(lists:zip(Elements, Changed)), Old =/= New].

other(headers) -> [];
other(client) -> undefined;
other(server) -> undefined;
other(connect) -> undefined;
other(tls) -> hornbeam_wire:pack_tls({16#0303, <<"b">>, <<3>>, none});
other(_) -> <<"other">>.

%% Names in code that are followed by what they hold, in brackets.
described(Text) ->
    Options = [global, {capture, all_but_first, binary}],
    {match, Names} = re:run(Text, "`(\\w+)`\\s+\\(", Options),
    lists:append(Names).
