%% hornbeam_msgpack: its own edges, the public msgpack vectors, properties, and hostile bytes.
-module(hornbeam_msgpack_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([
    public_vectors_decode/1,
    public_vectors_encode/1,
    public_vectors_cut_short_are_truncated/1,
    integers_take_their_shortest_form/1,
    text_is_str_and_other_bytes_are_bin/1,
    marked_bytes_are_bin_even_when_they_are_text/1,
    nil_and_null_come_back_as_undefined/1,
    process_identifiers_and_funs_come_back/1,
    an_unencodable_term_is_named_by_its_path/1,
    nesting_ends_at_512/1,
    a_tuple_that_is_no_array_is_not_read/1,
    integers_end_at_16_kib/1,
    numbers_that_are_not_finite_are_refused/1,
    duplicate_keys_are_refused/1,
    text_that_is_not_utf8_is_refused/1,
    bytes_behind_the_term_are_refused/1,
    foreign_extensions_are_refused/1,
    integers_in_a_longer_form_than_needed_are_refused/1,
    extension_of_a_tuple_is_exactly_one_array/1,
    external_terms_of_other_types_are_refused/1,
    compressed_external_terms_are_refused/1,
    an_external_term_has_1024_bytes_at_most/1,
    a_fun_takes_only_data_along/1,
    funs_full_of_elements_do_no_harm/1,
    a_fun_counts_as_the_elements_that_it_may_have/1,
    a_decoded_fun_does_not_run/1,
    decoding_makes_no_atoms/1,
    claimed_lengths_allocate_nothing/1,
    properties_hold/1
]).
%% Called on another node.
-export([many_funs/0]).

all() ->
    [Name || {Name, 1} <- module_info(exports), Name =/= module_info].

%%% The public vectors

public_vectors_decode(_) ->
    Vectors = hornbeam_wire_files:public_vectors(),
    ?assert(length(Vectors) > 80),
    [
        ?assert(is_value(Kind, Value, hornbeam_msgpack:decode_all(Encoding)), {Kind, Encoding})
     || {Kind, Value, Encodings} <- Vectors, Encoding <- Encodings
    ].

is_value(<<"nil">>, null, Result) -> Result =:= {ok, undefined};
is_value(<<"binary">>, Hex, Result) -> Result =:= {ok, undash(Hex)};
is_value(<<"bignum">>, Digits, {ok, Number}) -> Number == binary_to_integer(Digits);
is_value(<<"number">>, Value, {ok, Number}) -> Number == Value;
is_value(<<"ext">>, [Type, Hex], Result) -> is_extension(Type, undash(Hex), Result);
is_value(<<"timestamp">>, _, Result) -> Result =:= {error, {bad_msgpack, {bad_ext, -1}}};
is_value(_, Value, Result) -> Result =:= {ok, Value}.

%% Of the types that the wire gives a meaning, only 1 finds a payload that it can have.
is_extension(1, Name, {ok, Atom}) -> atom_to_binary(Atom) =:= Name;
is_extension(1, Name, Result) -> Result =:= {error, {unknown_atom, Name}};
is_extension(Type, _, Result) -> Result =:= {error, {bad_msgpack, {bad_ext, Type}}}.

undash(Hex) ->
    hornbeam_wire_files:hex(binary:replace(Hex, <<"-">>, <<" ">>, [global])).

public_vectors_encode(_) ->
    [
        ?assert(lists:member(encode(Term), Encodings), {Kind, Term})
     || {Kind, Value, Encodings} <- hornbeam_wire_files:public_vectors(),
        Term <- encodable(Kind, Value)
    ].

encodable(<<"binary">>, Hex) -> [hornbeam_msgpack:bytes(undash(Hex))];
encodable(<<"bignum">>, Digits) -> [binary_to_integer(Digits)];
encodable(<<"ext">>, _) -> [];
encodable(<<"timestamp">>, _) -> [];
encodable(_, Value) -> [Value].

public_vectors_cut_short_are_truncated(_) ->
    [
        ?assertEqual({error, truncated}, hornbeam_msgpack:decode(binary:part(Encoding, 0, Size)))
     || {_, _, Encodings} <- hornbeam_wire_files:public_vectors(),
        Encoding <- Encodings,
        Size <- lists:seq(0, byte_size(Encoding) - 1)
    ].

%%% Encoding

integers_take_their_shortest_form(_) ->
    Sizes = [
        {1, [0, 127, -1, -32]},
        {2, [128, 255, -33, -128]},
        {3, [256, 65535, -129, -32768]},
        {5, [65536, 16#ffffffff, -32769, -16#80000000]},
        {9, [16#100000000, 16#ffffffffffffffff, -16#80000001, -16#8000000000000000]},
        {12, [16#10000000000000000, -16#8000000000000001, (1 bsl 71) - 1, -(1 bsl 71)]},
        {13, [1 bsl 71, -(1 bsl 71) - 1]}
    ],
    [?assertEqual({N, Size}, {N, byte_size(encode(N))}) || {Size, Ns} <- Sizes, N <- Ns],
    [?assertEqual({ok, N}, recode(N)) || {_, Ns} <- Sizes, N <- Ns].

text_is_str_and_other_bytes_are_bin(_) ->
    ?assertEqual(<<16#a3, "abc">>, encode(<<"abc">>)),
    ?assertEqual(<<16#a2, "ü"/utf8>>, encode(<<"ü"/utf8>>)),
    ?assertEqual(<<16#c4, 1, 16#fc>>, encode(<<16#fc>>)),
    ?assertEqual(<<16#c4, 3, 16#ed, 16#a0, 16#80>>, encode(<<16#ed, 16#a0, 16#80>>)).

marked_bytes_are_bin_even_when_they_are_text(_) ->
    Marked = hornbeam_msgpack:bytes(<<"abc">>),
    ?assertEqual(<<16#c4, 3, "abc">>, encode(Marked)),
    ?assertEqual({ok, [<<"abc">>]}, recode([Marked])).

nil_and_null_come_back_as_undefined(_) ->
    [?assertEqual({ok, undefined}, recode(Nil)) || Nil <- [undefined, nil, null]].

process_identifiers_and_funs_come_back(_) ->
    N = 42,
    Terms = [self(), make_ref(), hd(erlang:ports()), fun lists:map/2, fun(X) -> X + N end],
    [?assertEqual({ok, Term}, recode(Term)) || Term <- Terms].

an_unencodable_term_is_named_by_its_path(_) ->
    Refused = fun(Path, Bad, Term) ->
        ?assertError({unencodable, Path, Bad}, hornbeam_msgpack:encode(Term))
    end,
    Refused([], <<1:3>>, <<1:3>>),
    Refused([2], [a | b], [1, [a | b]]),
    Refused([2, <<"k">>, 3], <<1:1>>, [1, #{<<"k">> => {1, 2, <<1:1>>}}]),
    Refused([{key, [<<1:1>>]}, 1], <<1:1>>, #{[<<1:1>>] => 1}).

nesting_ends_at_512(_) ->
    Nested = fun(N, Wrap) -> lists:foldl(fun(_, Inner) -> Wrap(Inner) end, 1, lists:seq(1, N)) end,
    Wraps = [fun(T) -> [T] end, fun(T) -> {T} end, fun(T) -> #{1 => T} end],
    [?assertEqual({ok, Nested(512, Wrap)}, recode(Nested(512, Wrap))) || Wrap <- Wraps],
    [
        ?assertError({unencodable, _, _}, hornbeam_msgpack:encode(Nested(513, Wrap)))
     || Wrap <- Wraps
    ],
    ?assertMatch({ok, _}, hornbeam_msgpack:decode_all(deep(512, <<16#91>>))),
    ?assertEqual(bad(too_deep), hornbeam_msgpack:decode_all(deep(513, <<16#91>>))),
    ?assertMatch({ok, _}, hornbeam_msgpack:decode_all(deep(512, <<16#81, 1>>))),
    ?assertEqual(bad(too_deep), hornbeam_msgpack:decode_all(deep(513, <<16#81, 1>>))),
    ?assertEqual(bad(too_deep), hornbeam_msgpack:decode_all(deep(1000000, <<16#91>>))).

a_tuple_that_is_no_array_is_not_read(_Config) ->
    Tuples = << <<16#c9, (6 * N + 1):32, 2>> || N <- lists:seq(300000, 0, -1) >>,
    {Pid, Ref} = spawn_opt(fun() ->
        {error, {bad_msgpack, {bad_ext, 2}}} = hornbeam_msgpack:decode(<<Tuples/binary, 16#90>>)
    end, [monitor, {max_heap_size, #{size => 100000, error_logger => false}}]),
    ?assertEqual(normal, receive {'DOWN', Ref, process, Pid, Reason} -> Reason end).

deep(N, Header) ->
    <<(binary:copy(Header, N))/binary, 1>>.

integers_end_at_16_kib(_) ->
    Bits = 16384 * 8,
    Largest = (1 bsl (Bits - 1)) - 1,
    ?assertEqual({ok, Largest}, recode(Largest)),
    ?assertEqual({ok, -Largest - 1}, recode(-Largest - 1)),
    ?assertError({unencodable, [], _}, hornbeam_msgpack:encode(Largest + 1)),
    TooLong = <<16#c9, 16385:32, 4, 1, 0:Bits>>,
    ?assertEqual(bad({bad_ext, 4}), hornbeam_msgpack:decode_all(TooLong)).

%%% Decoding what nobody should send

numbers_that_are_not_finite_are_refused(_) ->
    [
        ?assertEqual(bad(not_finite), hornbeam_msgpack:decode_all(Bytes))
     || Bytes <- [
            <<16#ca, 16#7fc00000:32>>,
            <<16#ca, 16#7f800000:32>>,
            <<16#ca, 16#ff800000:32>>,
            <<16#cb, 16#7ff8000000000000:64>>,
            <<16#cb, 16#7ff0000000000000:64>>,
            <<16#cb, 16#fff0000000000000:64>>
        ]
    ].

duplicate_keys_are_refused(_) ->
    Text = <<16#a1, "a">>,
    Bytes = <<16#c4, 1, "a">>,
    TwoKeys = fun(K1, K2) -> <<16#82, K1/binary, 1, K2/binary, 2>> end,
    ?assertEqual(bad(duplicate_key), hornbeam_msgpack:decode_all(TwoKeys(Text, Text))),
    ?assertEqual(bad(duplicate_key), hornbeam_msgpack:decode_all(TwoKeys(Text, Bytes))),
    ?assertEqual(
        {ok, #{<<"a">> => 1, 7 => 2}}, hornbeam_msgpack:decode_all(TwoKeys(Text, <<7>>))
    ).

text_that_is_not_utf8_is_refused(_) ->
    Surrogate = <<16#ed, 16#a0, 16#80>>,
    Overlong = <<16#c0, 16#80>>,
    [
        ?assertEqual(bad(invalid_utf8), hornbeam_msgpack:decode_all(Header))
     || Text <- [<<16#ff>>, Surrogate, Overlong, <<"abc", 16#c3>>],
        Header <- [
            <<2#101:3, (byte_size(Text)):5, Text/binary>>,
            <<16#d9, (byte_size(Text)), Text/binary>>,
            <<16#da, (byte_size(Text)):16, Text/binary>>,
            <<16#db, (byte_size(Text)):32, Text/binary>>
        ]
    ].

bytes_behind_the_term_are_refused(_) ->
    ?assertEqual({ok, 1, <<2>>}, hornbeam_msgpack:decode(<<1, 2>>)),
    ?assertEqual(bad(trailing_bytes), hornbeam_msgpack:decode_all(<<1, 2>>)),
    ?assertEqual(bad(reserved), hornbeam_msgpack:decode_all(<<16#c1>>)).

foreign_extensions_are_refused(_) ->
    [
        ?assertEqual(bad({bad_ext, Type}), hornbeam_msgpack:decode_all(<<16#d4, Type, 0>>))
     || Type <- [0, 5, 127]
    ],
    ?assertEqual(bad({bad_ext, -1}), hornbeam_msgpack:decode_all(<<16#d6, 16#ff, 0:32>>)).

integers_in_a_longer_form_than_needed_are_refused(_) ->
    Integer = fun(N, Size) -> <<16#c7, Size, 4, N:Size/unit:8>> end,
    Smallest = 1 bsl 64,
    ?assertEqual({ok, Smallest}, hornbeam_msgpack:decode_all(Integer(Smallest, 9))),
    ?assertEqual({ok, -Smallest}, hornbeam_msgpack:decode_all(Integer(-Smallest, 9))),
    [
        ?assertEqual(bad({bad_ext, 4}), hornbeam_msgpack:decode_all(Integer(N, Size)))
     || {N, Size} <- [
            {0, 0}, {5, 1}, {5, 9}, {-5, 9}, {Smallest - 1, 9}, {Smallest, 10}, {-Smallest, 10}
        ]
    ].

extension_of_a_tuple_is_exactly_one_array(_) ->
    ?assertEqual({ok, {1}}, hornbeam_msgpack:decode_all(<<16#d5, 2, 16#91, 1>>)),
    ?assertEqual(bad({bad_ext, 2}), hornbeam_msgpack:decode_all(<<16#d5, 2, 16#90, 1>>)),
    ?assertEqual(bad({bad_ext, 2}), hornbeam_msgpack:decode_all(<<16#d4, 2, 1>>)),
    ?assertEqual(bad({bad_ext, 2}), hornbeam_msgpack:decode_all(<<16#d4, 2, 16#80>>)).

external_terms_of_other_types_are_refused(_) ->
    Terms = [1, atom, <<"bin">>, [self()], {self()}, #{}, 1.5, "string", 1 bsl 100],
    [
        ?assertEqual(bad({bad_ext, 3}), hornbeam_msgpack:decode_all(external(term_to_binary(T))))
     || T <- Terms
    ],
    Self = term_to_binary(self()),
    ?assertEqual({ok, self()}, hornbeam_msgpack:decode_all(external(Self))),
    Rubbish = [<<>>, <<131>>, <<131, 88>>, <<Self/binary, 0>>, <<131, 112, 16#ffffffff:32>>],
    [
        ?assertEqual(bad({bad_ext, 3}), hornbeam_msgpack:decode_all(external(Bytes)))
     || Bytes <- Rubbish
    ].

compressed_external_terms_are_refused(_) ->
    Compressed = term_to_binary(binary:copy(<<0>>, 1000000), [compressed]),
    ?assertMatch(<<131, 80, _/binary>>, Compressed),
    ?assertEqual(bad({bad_ext, 3}), hornbeam_msgpack:decode_all(external(Compressed))).

an_external_term_has_1024_bytes_at_most(_) ->
    AtLimit = fun_of_nils(1024),
    ?assertEqual({ok, AtLimit}, recode(AtLimit)),
    PastIt = fun_of_nils(1025),
    ?assertError({unencodable, [2], PastIt}, hornbeam_msgpack:encode([1, PastIt])),
    ?assertEqual(bad({bad_ext, 3}),
                 hornbeam_msgpack:decode_all(external(term_to_binary(PastIt)))),
    Large = fun_of_nils(1000000),
    ?assertEqual(bad({bad_ext, 3}),
                 hornbeam_msgpack:decode_all(external(term_to_binary(Large)))).

%% A fun of so many bytes, most of which are elements of a list: a NIL takes one, and 16 as a term.
fun_of_nils(Bytes) ->
    Around = byte_size(term_to_binary(taking([[]]))) - 1,
    Fun = taking(lists:duplicate(Bytes - Around, [])),
    ?assertEqual(Bytes, byte_size(term_to_binary(Fun))),
    Fun.

taking(Data) -> fun() -> Data end.

a_fun_takes_only_data_along(_) ->
    Data = [0, -1, 1 bsl 40, 1 bsl 3000, 1.5, ok, 'ü', <<"b">>, <<1:3>>, "text", [], [a | b], {},
            {1, [2]}, #{1 => {2}}, list_to_tuple(lists:seq(1, 300)), self(), make_ref(),
            hd(erlang:ports()), fun lists:map/2, taking(1)],
    [?assertEqual({ok, taking(Term)}, recode(taking(Term))) || Term <- Data],
    External = term_to_binary(taking(77)),
    Front = binary:part(External, 0, byte_size(External) - 2),
    ?assertEqual(<<Front/binary, 97, 77>>, External),
    Compressed = term_to_binary(binary:copy(<<0>>, 10000), [compressed]),
    %% A term within the term; what only the distribution knows; old forms; lengths that lie.
    [?assertEqual({Rest, bad({bad_ext, 3})},
                  {Rest, hornbeam_msgpack:decode_all(external(<<Front/binary, Rest/binary>>))})
     || Rest <- [Compressed, binary:part(Compressed, 1, byte_size(Compressed) - 1),
                 <<131, 97, 1>>, <<82, 0>>, <<121, 0:64, 97, 1>>, <<99, 0:248>>, <<117, 0:32>>,
                 <<68, 0>>, <<108, -1:32, 106>>, <<108, 1:32, 97, 1>>, <<105, -1:32>>,
                 <<116, 16#7fffffff:32>>, <<109, -1:32>>, <<111, -1:32, 0>>, <<104, 255>>, <<>>]].

%% In a node of its own: OTP's own reader wrote past its heap where one of them was read when the
%% process was about to be scheduled out.
funs_full_of_elements_do_no_harm(_) ->
    Paths = lists:append([["-pa", Path] || Path <- code:get_path(), filelib:is_dir(Path)]),
    {ok, Peer, _Node} = peer:start(#{connection => standard_io, args => Paths}),
    ?assertEqual(3000, peer:call(Peer, ?MODULE, many_funs, [], 30000)),
    peer:stop(Peer).

many_funs() ->
    Bytes = encode(fun_of_nils(1024)),
    length([{ok, _} = hornbeam_msgpack:decode_all(Bytes) || _ <- lists:seq(1, 3000)]).

%% More than 4 194 304, which a shorter value cannot have.
a_fun_counts_as_the_elements_that_it_may_have(_) ->
    Funs = fun(N) -> lists:duplicate(N, fun_of_nils(1024)) end,
    ?assertMatch({ok, _}, recode(Funs(4092))),
    ?assertEqual(bad(too_many_elements), recode(Funs(4093))),
    Pids = lists:duplicate(300000, self()),
    ?assertEqual({ok, Pids}, recode(Pids)).

a_decoded_fun_does_not_run(_) ->
    Self = self(),
    Fun = fun() -> Self ! it_ran end,
    {ok, Decoded} = recode(Fun),
    ?assertEqual(nothing, receive it_ran -> it_ran after 0 -> nothing end),
    Decoded(),
    ?assertEqual(it_ran, receive it_ran -> it_ran after 0 -> nothing end).

decoding_makes_no_atoms(_) ->
    Name = fun(N) -> iolist_to_binary(["no_such_atom_", integer_to_list(N)]) end,
    Atom = fun(N) -> <<16#c7, (byte_size(Name(N))), 1, (Name(N))/binary>> end,
    {_, _} = {Name(0), hornbeam_msgpack:decode_all(Atom(0))},
    Before = erlang:system_info(atom_count),
    [
        begin
            ?assertEqual({error, {unknown_atom, Name(N)}}, hornbeam_msgpack:decode_all(Atom(N))),
            ?assertEqual(bad({bad_ext, 3}), hornbeam_msgpack:decode_all(pid_of_node(Name(N)))),
            ?assertEqual(bad({bad_ext, 3}), hornbeam_msgpack:decode_all(fun_of_module(Name(N))))
        end
     || N <- lists:seq(1, 1000)
    ],
    Made = erlang:system_info(atom_count) - Before,
    %% Others on this node may make an atom meanwhile; ours would be a thousand.
    ?assert(Made < 100, Made).

pid_of_node(Node) ->
    external(<<131, 88, 119, (byte_size(Node)), Node/binary, 1:32, 0:32, 0:32>>).

fun_of_module(Module) ->
    external(<<131, 113, 119, (byte_size(Module)), Module/binary, 119, 3, "map", 97, 2>>).

%% Each header promises up to 4 GiB; the process may use 100 000 words.
claimed_lengths_allocate_nothing(_) ->
    Tags = [16#c6, 16#c9, 16#db, 16#dd, 16#df],
    Headers = [<<Tag, N:32, 1, 1, 1>> || Tag <- Tags, N <- [16#ffffffff, 16#7fffffff, 16#1000000]],
    Nested = binary:copy(<<16#dd, 16#ffffffff:32>>, 500),
    HugeFun = external(<<131, 112, 16#ffffffff:32, 0, 0:128, 0:32, 16#ffffffff:32>>),
    HugeEnvironment = external(<<131, 113, 104, 16#ffffffff:32>>),
    Decode = fun() ->
        [?assertEqual({error, truncated}, hornbeam_msgpack:decode(B)) || B <- [Nested | Headers]],
        [
            ?assertEqual(bad({bad_ext, 3}), hornbeam_msgpack:decode(B))
         || B <- [HugeFun, HugeEnvironment]
        ]
    end,
    Limit = #{size => 100000, kill => true, error_logger => false},
    {Pid, Monitor} = spawn_opt(Decode, [monitor, {max_heap_size, Limit}]),
    receive
        {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual(normal, Reason)
    after 10000 -> error(timeout)
    end.

%%% Properties

properties_hold(_) ->
    [?assert(hornbeam_properties:hold(Property)) || Property <- properties()].

properties() ->
    hornbeam_properties:of_module(prop_hornbeam_msgpack).

%%%

encode(Term) -> iolist_to_binary(hornbeam_msgpack:encode(Term)).

recode(Term) -> hornbeam_msgpack:decode_all(encode(Term)).

external(Payload) -> <<16#c9, (byte_size(Payload)):32, 3, Payload/binary>>.

bad(Reason) -> {error, {bad_msgpack, Reason}}.
