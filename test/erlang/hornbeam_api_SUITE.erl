%% The op table: what docs/wire.md says of it, and what each op does with good and bad arguments.
-module(hornbeam_api_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([
    the_table_is_the_documents/1,
    every_status_of_the_document_has_its_exception/1,
    every_op_refuses_what_does_not_fit/1,
    an_unknown_op_is_not_implemented/1,
    values_past_their_limits_are_value_errors/1,
    a_result_that_is_too_big_to_travel_is_a_value_error/1,
    properties_hold/1,
    state_ops_work/1,
    text_bytes_and_tuples_are_keys_of_their_own/1,
    what_erlang_stored_that_cannot_travel_is_a_type_error/1,
    what_is_scoped_ends_with_its_client/1,
    what_is_scoped_on_stream_0_ends_with_the_worker/1,
    connection_ops_work/1,
    what_a_connection_keeps_is_its_own_and_ends_with_it/1,
    what_is_kept_on_stream_0_ends_with_the_worker/1,
    only_the_first_value_of_a_connection_goes_through_the_server/1,
    topics_work/1,
    only_an_accepted_websocket_and_an_event_stream_forward/1,
    rpc_works/1,
    functions_work/1,
    whom_a_call_is_for_is_looked_at_before_its_arguments/1,
    the_tree_comes_back_when_its_root_is_killed/1,
    what_is_asked_of_a_process_that_is_away_is_done_when_it_is_back/1,
    an_increment_whose_process_ends_is_not_made_twice/1,
    hooks_work/1,
    a_fault_in_an_op_is_one_failed_call/1
]).
%% Called by an op.
-export([bits/0]).

all() ->
    [Name || {Name, 1} <- module_info(exports), not lists:member(Name, others())].

others() -> [module_info, init_per_suite, end_per_suite].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

init_per_testcase(_Name, Config) ->
    [hornbeam_state:delete(Key) || Key <- hornbeam_state:keys()],
    Config.

end_per_testcase(_Name, _Config) ->
    ok.

%%% The document

the_table_is_the_documents(_Config) ->
    Rows = [{Number, Name, [{atom_to_binary(Arg), arg_type(Type)} || {Arg, Type} <- Args],
             result_type(Result)}
            || {Number, Name, Args, Result, _, _} <- hornbeam_api:ops()],
    ?assertEqual(hornbeam_wire_files:ops(hornbeam_wire_files:document()), Rows).

arg_type({optional, prefix}) -> <<"key?">>;
arg_type({optional, Type}) -> <<(arg_type(Type))/binary, "?">>;
arg_type(Type) when Type =:= keys; Type =:= pairs -> <<"array">>;
arg_type(Type) when Type =:= ttl; Type =:= timeout -> <<"uint">>;
arg_type(Type) when Type =:= topic; Type =:= overflow -> <<"str">>;
arg_type({optional, overflow}) -> <<"str?">>;
arg_type(Type) -> atom_to_binary(Type).

result_type({optional, packed}) -> <<"packed?">>;
result_type({optional, number}) -> <<"number?">>;
result_type({optional, taken}) -> <<"array?">>;
result_type(Type) when Type =:= packed_array; Type =:= keys; Type =:= items; Type =:= strs;
                       Type =:= standing ->
    <<"array">>;
result_type(Type) -> atom_to_binary(Type).

every_status_of_the_document_has_its_exception(_Config) ->
    Kinds = [not_implemented, type_error, value_error, permission_denied, timeout,
             connection_ended, not_found, limit_exceeded, node_down, unavailable],
    Statuses = [element(1, hornbeam_api_answer:error(Kind, "why")) || Kind <- Kinds],
    {Remote, _} = hornbeam_api_answer:failure(overloaded),
    ?assertEqual([S || {S, _} <- hornbeam_wire_files:statuses(hornbeam_wire_files:document())],
                 [0 | lists:sort([Remote | Statuses])]).

every_op_refuses_what_does_not_fit(_Config) ->
    [begin
         ?assertMatch({reply, 2, _}, raw(Number, Packed)),
         {reply, 2, Text} = raw(Number, Packed),
         ?assertMatch([_, _ | _], binary:split(decoded(Text), [<<".">>, <<":">>], [global]))
     end || {Number, _, Args, _, _, _} <- hornbeam_api:ops(),
            Packed <- wrong_arrays(Args)],
    [?assertMatch({Number, Name, {reply, 2, _}}, {Number, Name, raw(Number, packed(Wrong))})
     || {Number, Name, Args, _, _, _} <- hornbeam_api:ops(),
        {Position, {_, Type}} <- lists:zip(lists:seq(1, length(Args)), Args),
        Bad <- bad(Type),
        Wrong <- [[case N of Position -> Bad; _ -> good(T) end
                   || {N, {_, T}} <- lists:zip(lists:seq(1, length(Args)), Args)]]].

wrong_arrays(Args) ->
    Good = [good(Type) || {_, Type} <- Args],
    [packed(Good ++ [1]), packed(#{}), <<16#c1>>, <<>>, <<(packed(Good))/binary, 0>>
     | [packed(tl(Good)) || Good =/= []]].

good({optional, Type}) -> good(Type);
good(Type) when Type =:= key; Type =:= prefix; Type =:= str; Type =:= topic -> <<"k">>;
good(keys) -> [<<"k">>];
good(pairs) -> [[<<"k">>, bytes(<<1>>)]];
good(packed) -> bytes(<<16#90>>);
good(bool) -> false;
good(overflow) -> <<"latest">>;
good(_Number) -> 1.

bad({optional, Type}) -> bad(Type) -- [undefined];
bad(key) -> [undefined, true, 1.5, [1], #{}, {1.0}, {true}, {[1]}, ok, self()];
bad(prefix) -> [1, true, 1.5, [1], #{}, ok];
bad(keys) -> [undefined, <<"k">>, [undefined], [true], [[1]]];
bad(pairs) -> [undefined, [<<"k">>], [[<<"k">>]], [[<<"k">>, 1]], [[true, bytes(<<1>>)]],
               [[<<"k">>, bytes(<<>>)]]];
bad(packed) -> [undefined, <<"text">>, 1, bytes(<<>>), []];
bad(number) -> [undefined, true, <<"1">>, [1]];
bad(overflow) -> [undefined, 1, bytes(<<"latest">>)];
bad(bool) -> [undefined, 0, 1, <<"true">>];
bad(uint) -> [undefined, -1, 1.0, true];
bad(Type) when Type =:= ttl; Type =:= timeout -> [undefined, 1.0, true, <<"1">>];
bad(Type) when Type =:= str; Type =:= topic -> [undefined, 1, bytes(<<"b">>), [], ok].

an_unknown_op_is_not_implemented(_Config) ->
    {reply, 1, Text} = raw(9999, packed([])),
    ?assertMatch(<<"this node has no op 9999;", _/binary>>, decoded(Text)).

values_past_their_limits_are_value_errors(_Config) ->
    Key = fun(Size) -> binary:copy(<<"k">>, Size) end,
    ?assertEqual({0, undefined}, inline(1, [Key(65532)])),
    ?assertMatch({3, <<"state.get: key is longer than", _/binary>>}, inline(1, [Key(65533)])),
    ?assertMatch({0, _}, inline(22, [Key(4096), bytes(<<1>>)])),
    ?assertMatch({3, _}, inline(22, [Key(4097), bytes(<<1>>)])),
    %% Of a hook; a name that is kept by a worker that lives.
    ?assertMatch({9, _}, spawned(54, [Key(4096), 0])),
    ?assertMatch({3, <<"hooks.register: name is longer than", _/binary>>}, inline(50, [Key(4097)])),
    ?assertMatch({3, _}, inline(40, [Key(4097), bytes(<<16#90>>), 0])),
    Nested = lists:foldl(fun(_, Inner) -> {Inner} end, 1, lists:seq(1, 16)),
    ?assertMatch({0, _}, inline(1, [Nested])),
    ?assertMatch({3, _}, inline(1, [{Nested}])),
    [?assertMatch({3, _}, inline(2, [<<"k">>, bytes(<<1>>), Ttl, false])) || Ttl <- [0, 1 bsl 60]],
    ?assertMatch({3, _}, spawned(54, [<<"id">>, 1 bsl 32])),
    %% str that is not UTF-8
    ?assertMatch({reply, 3, _}, raw(1, <<16#91, 16#a1, 255>>)).

a_result_that_is_too_big_to_travel_is_a_value_error(_Config) ->
    Half = binary:copy(<<0>>, 16#4000000),
    [ok = hornbeam_state:set(N, Half) || N <- [1, 2]],
    ?assertMatch({0, _}, inline(1, [1])),
    ?assertMatch({3, <<"the result has 134217", _/binary>>}, inline(5, [[1, 2]])).

properties_hold(_Config) ->
    [?assert(hornbeam_properties:hold(Property))
     || Property <- hornbeam_properties:of_module(prop_hornbeam_api)].

%%% State

state_ops_work(_Config) ->
    ?assertEqual({0, undefined}, inline(1, [<<"k">>])),
    ?assertEqual({0, undefined}, inline(2, [<<"k">>, packed_bin(undefined), undefined, false])),
    ?assertEqual({0, <<16#c0>>}, inline(1, [<<"k">>])),
    ?assertEqual({0, true}, inline(10, [<<"k">>, packed_bin(undefined), packed_bin([1])])),
    ?assertEqual({0, [packed([1]), undefined]}, inline(11, [<<"k">>])),
    ?assertEqual({0, false}, inline(3, [<<"k">>])),
    ?assertEqual({0, true}, inline(9, [<<"k">>, packed_bin(7), 60000])),
    ?assertEqual({0, 7.5}, inline(4, [<<"k">>, 0.5, false])),
    ?assertEqual({0, undefined}, inline(6, [[[{1}, packed_bin(1)], [bytes(<<"b">>), packed_bin(2)]],
                                          undefined])),
    ?assertEqual({0, [packed(7.5), undefined, packed(2)]},
                 inline(5, [[<<"k">>, <<"no">>, bytes(<<"b">>)]])),
    ?assertEqual({0, [{1}, <<"b">>, <<"k">>]}, spawned(7, [undefined])),
    ?assertEqual({0, [[{1}, packed(1)]]}, spawned(8, [{}])),
    ?assertEqual({0, true}, inline(3, [<<"k">>])),
    ?assertMatch({2, <<"the value is not a number">>},
                 begin
                     _ = inline(2, [<<"k">>, packed_bin(true), undefined, false]),
                     inline(4, [<<"k">>, 1, false])
                 end).

text_bytes_and_tuples_are_keys_of_their_own(_Config) ->
    Keys = [<<"a">>, bytes(<<"a">>), {<<"a">>}, {bytes(<<"a">>)}, 1, {1, {2}}, 1 bsl 70],
    [?assertEqual({0, undefined}, inline(2, [Key, packed_bin(N), undefined, false]))
     || {N, Key} <- lists:zip(lists:seq(1, 7), Keys)],
    [?assertEqual({0, packed(N)}, inline(1, [Key]))
     || {N, Key} <- lists:zip(lists:seq(1, 7), Keys)],
    ?assertEqual(5, hornbeam_state:get(1)),
    ?assertEqual(2, hornbeam_state:get({bytes, <<"a">>})),
    {0, Raw} = hornbeam_api_answer:ok(keys, [{{bytes, <<"a">>}}, <<"a">>]),
    ?assertEqual(<<16#92, 16#d6, 2, 16#91, 16#c4, 1, "a", 16#a1, "a">>,
                 iolist_to_binary(Raw)).

what_erlang_stored_that_cannot_travel_is_a_type_error(_Config) ->
    ok = hornbeam_state:set(<<"k">>, #{<<"a">> => [<<1:3>>]}),
    {2, Text} = inline(1, [<<"k">>]),
    ?assertNotEqual(nomatch, binary:match(Text, <<"value['a'][1]: <<1:3>>">>)).

what_is_scoped_ends_with_its_client(_Config) ->
    Client = owner(),
    Of = #{client => {asked, websocket, Client}},
    ?assertEqual({0, undefined}, spawned(2, [<<"k">>, packed_bin(1), undefined, true], Of)),
    ?assertEqual({0, 5}, spawned(4, [<<"n">>, 5, true], Of)),
    hornbeam_eventually:dead(Client),
    hornbeam_eventually:holds(fun() -> hornbeam_state:get(<<"k">>) =:= undefined end),
    hornbeam_eventually:holds(fun() -> hornbeam_state:get(<<"n">>) =:= 0 end),
    ?assertMatch({7, _}, spawned(4, [<<"n">>, 5, true], Of)),
    ?assertMatch({7, _}, inline(4, [<<"n">>, 5, true], #{client => gone})),
    ?assertMatch({7, _}, inline(2, [<<"k">>, packed_bin(1), undefined, true], #{client => gone})),
    ?assertEqual(0, hornbeam_state:get(<<"n">>)).

what_is_scoped_on_stream_0_ends_with_the_worker(_Config) ->
    Worker = hornbeam_fake_worker:start(),
    {0, 5} = answered(Worker, spawned, 4, [<<"n">>, 5, true], #{stream => 0, client => worker}),
    hornbeam_eventually:dead(hornbeam_fake_worker:pid(Worker)),
    hornbeam_eventually:holds(fun() -> hornbeam_state:get(<<"n">>) =:= 0 end).

%%% State of a connection

connection_ops_work(_Config) ->
    Of = #{client => {asked, http, owner()}},
    Keys = [1 bsl 70, bytes(<<"k">>), {<<"t">>, {1}}, <<"k">>],
    Numbered = lists:zip(Keys, lists:seq(1, 4)),
    ?assertEqual({0, undefined}, inline(60, [<<"k">>], Of)),
    ?assertEqual({0, false}, inline(62, [<<"k">>], Of)),
    ?assertEqual({0, []}, spawned(63, [], Of)),
    [?assertEqual({0, undefined}, spawned(61, [Key, packed_bin([N])], Of)) || {Key, N} <- Numbered],
    [?assertEqual({0, packed([N])}, inline(60, [Key], Of)) || {Key, N} <- Numbered],
    ?assertEqual({0, [[1 bsl 70, packed([1])], [<<"k">>, packed([2])],
                      [{<<"t">>, {1}}, packed([3])], [<<"k">>, packed([4])]]}, spawned(63, [], Of)),
    ?assertEqual({0, undefined}, inline(61, [<<"k">>, packed_bin(undefined)], Of)),
    ?assertEqual({0, packed(undefined)}, inline(60, [<<"k">>], Of)),
    [?assertEqual({0, true}, inline(62, [Key], Of)) || Key <- Keys],
    [?assertEqual({0, false}, inline(62, [Key], Of)) || Key <- Keys],
    ?assertEqual({0, []}, spawned(63, [], Of)).

what_a_connection_keeps_is_its_own_and_ends_with_it(_Config) ->
    Before = ets:info(hornbeam_connection_state, size),
    {Client, Other} = {owner(), owner()},
    Of = #{client => {open, websocket, Client}},
    ?assertEqual({0, undefined}, spawned(61, [<<"k">>, packed_bin(1)], Of)),
    ?assertEqual({0, undefined}, spawned(61, [<<"k">>, packed_bin(2)],
                                       #{client => {open, websocket, Other}})),
    ?assertEqual({0, packed(1)}, inline(60, [<<"k">>], #{client => {asked, websocket, Client}})),
    hornbeam_eventually:dead(Client),
    hornbeam_eventually:holds(fun() -> inline(60, [<<"k">>], Of) =/= {0, packed(1)} end),
    [?assertMatch({7, <<"the connection is closed">>}, spawned(Op, Args, Gone))
     || Gone <- [Of, #{client => gone}],
        {Op, Args} <- [{60, [<<"k">>]}, {61, [<<"k">>, packed_bin(1)]}, {62, [<<"k">>]}, {63, []}]],
    ?assertEqual({0, packed(2)}, inline(60, [<<"k">>], #{client => {open, websocket, Other}})),
    hornbeam_eventually:dead(Other),
    hornbeam_eventually:holds(fun() -> ets:info(hornbeam_connection_state, size) =:= Before end).

what_is_kept_on_stream_0_ends_with_the_worker(_Config) ->
    Worker = hornbeam_fake_worker:start(),
    Of = #{stream => 0, client => worker},
    {0, undefined} = answered(Worker, spawned, 61, [<<"k">>, packed_bin(1)], Of),
    ?assertEqual({0, packed(1)}, answered(Worker, inline, 60, [<<"k">>], Of)),
    hornbeam_eventually:dead(hornbeam_fake_worker:pid(Worker)),
    hornbeam_eventually:holds(fun() ->
        hornbeam_connection_state:items(hornbeam_fake_worker:pid(Worker)) =:= []
    end).

only_the_first_value_of_a_connection_goes_through_the_server(_Config) ->
    Of = #{client => {asked, http, owner()}},
    {0, undefined} = spawned(61, [<<"k">>, packed_bin(1)], Of),
    ok = sys:suspend(hornbeam_scoped_state),
    ?assertEqual({0, undefined}, inline(61, [<<"k">>, packed_bin(2)], Of)),
    ?assertEqual({0, true}, inline(62, [<<"k">>], Of)),
    ok = sys:resume(hornbeam_scoped_state).

%%% Topics

topics_work(_Config) ->
    Worker = hornbeam_fake_worker:start(),
    Client = owner(),
    Of = #{client => {open, websocket, Client}},
    Op = fun(Way, Number, Args, More) -> answered(Worker, Way, Number, Args, More) end,
    ?assertEqual({0, 0}, Op(inline, 22, [<<"t">>, packed_bin(1)], Of)),
    ?assertEqual({0, undefined}, Op(spawned, 20, [<<"t">>, false, undefined], Of)),
    ?assertEqual({0, undefined}, Op(spawned, 20, [<<"t">>, false, undefined], #{client => worker})),
    ?assertEqual({0, 2}, Op(inline, 22, [<<"t">>, packed_bin(1)], Of)),
    ?assertEqual({0, undefined}, Op(spawned, 20, [<<"t">>, true, undefined], Of)),
    ?assertEqual({0, 2}, Op(inline, 22, [<<"t">>, packed_bin(1)], Of)),
    ?assertMatch({2, <<"a subscriber forwards JSON", _/binary>>},
                 Op(inline, 22, [<<"t">>, packed_bin([bytes(<<"b">>)])], Of)),
    ?assertEqual({0, 0}, Op(inline, 23, [], Of)),
    Stream = #{client => {streaming, {self(), 1}, owner()}},
    ?assertEqual({0, undefined}, Op(spawned, 20, [<<"t">>, true, <<"close">>], Stream)),
    ?assertMatch({2, <<"a subscriber forwards to an event stream", _/binary>>},
                 Op(inline, 22, [<<"t">>, packed_bin(bytes(<<"b">>))], Of)),
    ?assertEqual({0, undefined}, Op(spawned, 21, [<<"t">>], Stream)),
    ?assertEqual({0, undefined}, Op(spawned, 21, [<<"t">>], Of)),
    ?assertEqual({0, undefined}, Op(spawned, 21, [<<"t">>], Of)),
    ?assertEqual({0, undefined}, Op(spawned, 21, [<<"t">>], #{client => gone})),
    ?assertEqual({0, 1}, Op(inline, 22, [<<"t">>, packed_bin(1)], #{client => gone})),
    ?assertEqual({0, undefined}, Op(spawned, 21, [<<"t">>], #{client => worker})),
    ?assertEqual({0, 0}, Op(inline, 22, [<<"t">>, packed_bin(1)], Of)).

only_an_accepted_websocket_and_an_event_stream_forward(_Config) ->
    Client = owner(),
    [?assertEqual({0, undefined},
                  spawned(20, [<<"streamed">>, true, undefined],
                          #{client => {Phase, {self(), 1}, Client}}))
     || Phase <- [requested, streaming]],
    ?assertMatch({3, <<"forward=True cannot add to a response with a content-encoding", _/binary>>},
                 spawned(20, [<<"t">>, true, undefined],
                         #{client => {closed_stream, {self(), 1}, Client}})),
    [?assertMatch({3, <<"forward=True needs", _/binary>>},
                  spawned(20, [<<"t">>, true, undefined], #{client => Of}))
     || Of <- [worker, {asked, websocket, Client}, {asked, http, Client}]],
    [?assertMatch({7, _}, spawned(20, [<<"t">>, Forward, undefined], #{client => gone}))
     || Forward <- [true, false]].

%%% Calls

rpc_works(_Config) ->
    Node = atom_to_binary(node()),
    Call = fun(F, Args, Allow) ->
        spawned(30, [Node, <<"erlang">>, F, packed_bin(Args), 5000], options(Allow))
    end,
    ?assertEqual({0, Node}, inline(33, [])),
    ?assertEqual({0, [atom_to_binary(N) || N <- nodes()]}, inline(32, [])),
    ?assertMatch({5, <<"the option rpc_allow", _/binary>>}, Call(<<"abs">>, [-1], [])),
    ?assertEqual({0, packed(1)}, Call(<<"abs">>, [-1], [{erlang, abs, 1}])),
    ?assertEqual({0, packed(1)}, Call(<<"abs">>, {-1}, [erlang])),
    ?assertMatch({8, [<<"error">>, <<"badarg">>, _]}, Call(<<"abs">>, [a], [erlang])),
    ?assertMatch({2, _}, Call(<<"abs">>, 1, [erlang])),
    ?assertMatch({2, <<"the value cannot travel", _/binary>>},
                 spawned(30, [Node, atom_to_binary(?MODULE), <<"bits">>, packed_bin([]), 5000],
                       options([?MODULE]))),
    ?assertMatch({11, _}, spawned(30, [<<"no@where">>, <<"erlang">>, <<"abs">>, packed_bin([1]),
                                    5000], options([erlang]))),
    ?assertMatch({6, _}, spawned(30, [Node, <<"timer">>, <<"sleep">>, packed_bin([infinity]), 10],
                               options([timer]))),
    ?assertEqual({0, undefined}, spawned(31, [Node, <<"erlang">>, <<"abs">>, packed_bin([1])],
                                       options([erlang]))),
    ?assertMatch({5, _}, spawned(31, [Node, <<"erlang">>, <<"abs">>, packed_bin([1])])).

bits() -> <<1:3>>.

options(Allow) ->
    #{options => #{rpc_allow => Allow, pubsub_queue_messages => 10, pubsub_queue_bytes => 10}}.

functions_work(_Config) ->
    ok = hornbeam:register_function(<<"f">>, fun(X) -> X end),
    Call = fun(Args) -> spawned(40, [<<"f">>, packed_bin(Args), 5000]) end,
    ?assertEqual({0, packed({1, [<<"x">>]})}, Call([{1, [<<"x">>]}])),
    ?assertMatch({2, <<"the function takes 1 arguments, 0 were given">>}, Call([])),
    ?assertMatch({8, [<<"error">>, _, _]}, Call([{error, no}])),
    ?assertMatch({3, <<"this node has no atom", _/binary>>},
                 spawned(40, [<<"f">>, bytes(<<16#91, 16#c7, 30, 1,
                                             "no_atom_of_this_name_is_known!">>), 5000])),
    ?assertMatch({9, _}, spawned(40, [<<"no">>, packed_bin([]), 5000])),
    ?assertEqual({0, undefined}, spawned(41, [<<"f">>, packed_bin([1])])),
    ?assertMatch({9, _}, spawned(41, [<<"no">>, packed_bin([])])).

%% Arguments that nobody could read are not found out to be such: they have not been looked at.
whom_a_call_is_for_is_looked_at_before_its_arguments(_Config) ->
    ok = hornbeam:register_function(<<"two">>, fun(_, _) -> ok end),
    Node = atom_to_binary(node()),
    Unreadable = bytes(<<16#91, 16#c7, 30, 1, "no_atom_of_this_name_is_known!">>),
    Rpc = [Node, <<"erlang">>, <<"abs">>, Unreadable],
    Refused = [{30, Rpc ++ [5000], 5, #{}}, {31, Rpc, 5, #{}},
               {30, Rpc ++ [5000], 5, options([{erlang, abs, 2}])},
               {30, [<<"no@where">> | tl(Rpc)] ++ [5000], 11, options([erlang])},
               {40, [<<"no">>, Unreadable, 5000], 9, #{}}, {41, [<<"no">>, Unreadable], 9, #{}},
               {40, [<<"two">>, Unreadable, 5000], 2, #{}},
               {52, [<<"no">>, <<"act">>, Unreadable, bytes(<<16#80>>), 5000], 9, #{}},
               {53, [<<"no">>, <<"act">>, Unreadable, bytes(<<16#80>>)], 9, #{}},
               {55, [<<"no">>, <<"act">>, Unreadable, bytes(<<16#80>>)], 9, #{}}],
    [?assertMatch({Args, {Status, _}}, {Args, spawned(Number, Args, Context)})
     || {Number, Args, Status, Context} <- Refused],
    ?assertMatch({3, <<"this node has no atom", _/binary>>},
                 spawned(30, Rpc ++ [5000], options([erlang]))).

hooks_work(_Config) ->
    Serving = hornbeam_fake_worker:start(fun({1, _, Action, Args, Kwargs}) ->
                                                 {0, packed([Action, Args, Kwargs])};
                                            ({2, _, _, Items, _}) ->
                                                 {items, Items}
                                         end),
    Args = [<<"h">>, <<"act">>, packed_bin([1]), packed_bin(#{})],
    ?assertMatch({9, _}, spawned(52, Args ++ [5000])),
    {0, undefined} = answered(Serving, spawned, 50, [<<"h">>], #{}),
    Result = packed([<<"act">>, [1], #{}]),
    ?assertEqual({0, Result}, spawned(52, Args ++ [5000])),
    {0, Id} = spawned(53, Args),
    ?assertEqual({0, Result}, spawned(54, [Id, 5000])),
    ?assertMatch({9, _}, spawned(54, [<<"no">>, 5000])),
    {0, Stream} = spawned(55, Args),
    ?assertEqual({0, [packed(1)]}, spawned(56, [Stream, 5000])),
    ?assertEqual({0, []}, spawned(56, [Stream, 5000])),
    ?assertMatch({9, _}, spawned(56, [Stream, 5000])),
    ?assertMatch({7, _}, spawned(55, Args, #{client => gone})),
    {0, Early} = spawned(55, Args),
    ?assertEqual({0, undefined}, spawned(57, [Early])),
    ?assertEqual({0, undefined}, spawned(57, [Early])),
    {0, undefined} = answered(Serving, spawned, 51, [<<"h">>], #{}),
    ?assertMatch({9, _}, spawned(53, Args)).

what_is_asked_of_a_process_that_is_away_is_done_when_it_is_back(_Config) ->
    Owner = spawn(fun() -> receive stop -> ok end end),
    Worker = hornbeam_fake_worker:start(fun(_) -> silent end),
    {Pid, Events} = {hornbeam_fake_worker:pid(Worker), hornbeam_fake_worker:events(Worker)},
    Asked = [{hornbeam_pubsub_registry,
              fun() -> hornbeam_pubsub_registry:subscribe(Owner, <<"t">>, process) end, ok},
             {hornbeam_pubsub_registry,
              fun() -> hornbeam_pubsub_registry:adopt(Owner, Pid, Events) end, []},
             {hornbeam_pubsub_registry,
              fun() -> hornbeam_pubsub_registry:unsubscribe(Owner, <<"t">>) end, ok},
             {hornbeam_scoped_state,
              fun() -> hornbeam_scoped_state:set(Owner, <<"k">>, 1, infinity) end, ok},
             {hornbeam_scoped_state,
              fun() -> hornbeam_scoped_state:keep(Owner, <<"k">>, 1) end, ok},
             {hornbeam_hooks,
              fun() ->
                  hornbeam_hooks:register_worker(<<"h">>, hornbeam_fake_worker:handle(Worker))
              end, ok}],
    [begin
         ?assertEqual({away, Name, Result}, {away, Name, asked_while_away(Name, Ask)}),
         ?assertEqual({dies, Name, Result}, {dies, Name, asked_while_it_dies(Name, Ask)})
     end || {Name, Ask, Result} <- Asked],
    Incr = fun() -> hornbeam_scoped_state:incr(Owner, <<"n">>, 1) end,
    ?assertEqual({ok, 1}, asked_while_away(hornbeam_scoped_state, Incr)),
    Execute = fun() -> element(1, hornbeam_hooks:execute_async(<<"h">>, <<"act">>, [])) end,
    ?assertEqual(ok, asked_while_away(hornbeam_executions_sup, Execute)).

an_increment_whose_process_ends_is_not_made_twice(_Config) ->
    Incr = fun() -> hornbeam_scoped_state:incr(self(), <<"n">>, 1) end,
    ?assertMatch({'EXIT', {killed, _}}, asked_while_it_dies(hornbeam_scoped_state, Incr)),
    ?assertEqual(absent, hornbeam_state:get(<<"n">>, absent)).

asked_while_away(Name, Ask) ->
    ok = supervisor:terminate_child(hornbeam_api_sup, Name),
    Tag = ask(Ask),
    {ok, _} = supervisor:restart_child(hornbeam_api_sup, Name),
    answer(Tag).

asked_while_it_dies(Name, Ask) ->
    Process = whereis(Name),
    ok = sys:suspend(Process),
    Tag = ask(Ask),
    hornbeam_eventually:holds(fun() ->
        {message_queue_len, Asked} = process_info(Process, message_queue_len),
        Asked > 0
    end),
    hornbeam_eventually:dead(Process),
    answer(Tag).

ask(Ask) ->
    {Tag, Test} = {make_ref(), self()},
    _ = spawn(fun() -> Test ! {Tag, try Ask() catch exit:Why -> {'EXIT', Why} end} end),
    Tag.

answer(Tag) ->
    receive {Tag, Answer} -> Answer after 5000 -> error(no_answer) end.

the_tree_comes_back_when_its_root_is_killed(_Config) ->
    ok = hornbeam_state:set(<<"k">>, kept),
    ok = hornbeam:subscribe(<<"t">>),
    Root = whereis(hornbeam_sup),
    [begin
         Before = whereis(hornbeam_pubsub_registry),
         hornbeam_eventually:dead(whereis(hornbeam_api_sup)),
         hornbeam_eventually:holds(fun() ->
             Now = whereis(hornbeam_pubsub_registry),
             is_pid(Now) andalso Now =/= Before andalso hornbeam:publish(<<"t">>, N) =:= 1
         end)
     end || N <- [1, 2, 3]],
    ?assertEqual(Root, whereis(hornbeam_sup)),
    ?assertEqual(kept, hornbeam_state:get(<<"k">>)),
    ok = hornbeam:unsubscribe(<<"t">>).

a_fault_in_an_op_is_one_failed_call(_Config) ->
    %% A worker without a queue bound in its options: no such worker is started.
    ?assertMatch({8, [<<"error">>, _, _]},
                 spawned(20, [<<"t">>, true, undefined],
                       #{client => {open, websocket, self()}, options => #{}})).

%%% Ops

owner() -> spawn(fun() -> receive stop -> ok end end).

bytes(Binary) -> hornbeam_msgpack:bytes(Binary).

packed(Term) -> iolist_to_binary(hornbeam_msgpack:encode(Term)).

packed_bin(Term) -> bytes(packed(Term)).

decoded(Packed) ->
    {ok, Term} = hornbeam_msgpack:decode_all(iolist_to_binary(Packed)),
    Term.

raw(Number, Packed) ->
    hornbeam_api:handle_op(Number, Packed,
                           hornbeam_fake_worker:context(hornbeam_fake_worker:start(), #{})).

inline(Number, Args) -> inline(Number, Args, #{}).

inline(Number, Args, Context) -> decoded_value(answer(inline, Number, Args, Context)).

spawned(Number, Args) -> spawned(Number, Args, #{}).

spawned(Number, Args, Context) -> decoded_value(answer(spawned, Number, Args, Context)).

answered(Worker, Way, Number, Args, Context) ->
    decoded_value(answer(Worker, Way, Number, Args, Context)).

decoded_value({Status, Packed}) -> {Status, decoded(Packed)}.

answer(Way, Number, Args, Context) ->
    answer(hornbeam_fake_worker:start(), Way, Number, Args, Context).

%% The reply's status and packed value, whichever way it came.
answer(Worker, Way, Number, Args, More) ->
    Before = length(replies(Worker)),
    Context = hornbeam_fake_worker:context(Worker, More),
    case {Way, hornbeam_api:handle_op(Number, packed(Args), Context)} of
        {_, {reply, Status, Packed}} ->
            {Status, iolist_to_binary(Packed)};
        {spawned, noreply} ->
            hornbeam_eventually:holds(fun() -> length(replies(Worker)) > Before end),
            [_, _, _, Status, Value] = lists:last(replies(Worker)),
            {Status, packed(Value)}
    end.

replies(Worker) ->
    [Message || [10 | _] = Message <- hornbeam_fake_worker:written(Worker)].
