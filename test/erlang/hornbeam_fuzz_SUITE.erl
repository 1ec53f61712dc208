%% Rubbish for whatever reads what a Python process says: random bytes, messages that were
%% changed, cut, repeated or put out of order, and values made to cost much.
%%
%% A few seconds of it in every run of the tests; `make fuzz' runs longer. The seed is printed and
%% FUZZ_SEED repeats it.
-module(hornbeam_fuzz_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [decoders_give_a_value_or_an_error, ops_give_an_answer, values_of_any_kind_crash_no_process,
     workers_live_or_are_cut_off,
     small_bytes_that_claim_much_cost_nothing, values_that_are_made_to_cost_much_are_refused,
     external_terms_are_opaque_things_or_errors].

%% Bytes that a run of a part may leave in the node, garbage included.
-define(LEFT, 67108864).

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    ok = logger:set_handler_config(default, level, none),
    %% Atoms also come with the modules that a run is the first to use.
    _ = [code:ensure_loaded(Module)
         || App <- [kernel, stdlib, hornbeam],
            {ok, Modules} <- [application:get_key(App, modules)], Module <- Modules],
    Seed = seed(os:getenv("FUZZ_SEED")),
    Seconds = list_to_integer(os:getenv("FUZZ_SECONDS", "3")),
    ct:pal("FUZZ_SEED=~b FUZZ_SECONDS=~b", [Seed, Seconds]),
    [{seed, Seed}, {seconds, Seconds} | Config].

end_per_suite(_Config) ->
    ok = logger:set_handler_config(default, level, all).

seed(Given) when Given =:= false; Given =:= "" -> rand:uniform(1 bsl 30);
seed(Given) -> list_to_integer(Given).

%% Run a fun again and again, with the same random numbers for the same seed. Neither atoms nor
%% memory may stay of it, past the first runs, which load code.
for_a_while(Fun, First, Config) ->
    _ = rand:seed(exsss, proplists:get_value(seed, Config)),
    [ok = Fun() || _ <- lists:seq(1, First)],
    %% The first measurement has atoms of its own.
    _ = left(),
    {Atoms, Memory} = left(),
    End = erlang:monotonic_time(millisecond) + 1000 * proplists:get_value(seconds, Config),
    Runs = run(Fun, End, 0),
    {AtomsAfter, MemoryAfter} = left(),
    ct:pal("~b runs, ~b atoms, ~b bytes", [Runs, AtomsAfter - Atoms, MemoryAfter - Memory]),
    ?assert(AtomsAfter - Atoms < 100),
    ?assert(MemoryAfter - Memory < ?LEFT).

run(Fun, End, Runs) ->
    case erlang:monotonic_time(millisecond) < End of
        true ->
            ok = Fun(),
            run(Fun, End, Runs + 1);
        false ->
            Runs
    end.

%% What apps are meant to leave is no leak.
left() ->
    [ok = delete(Key) || Key <- hornbeam_state:keys()],
    _ = [erlang:garbage_collect(Pid) || Pid <- erlang:processes()],
    {erlang:system_info(atom_count), erlang:memory(total)}.

delete(Key) ->
    _ = hornbeam_state:delete(Key),
    ok.

%% The parts

decoders_give_a_value_or_an_error(Config) ->
    Packets = [Packet || {_, python, _, Packet, _} <- hornbeam_wire_files:vectors()],
    for_a_while(fun() -> decoded(rubbish(Packets)) end, 500, Config).

limits() ->
    #{limit_response_head => 65536, limit_response_fields => 256}.

decoded(Bytes) ->
    is_result(hornbeam_msgpack:decode_all(Bytes)),
    is_result(hornbeam_packet:decode(Bytes)),
    is_result(hornbeam_app_message:read(Bytes, limits())),
    is_result(hornbeam_api_args:read([{keys, keys}, {pairs, pairs}], Bytes)),
    {_, _} = {hornbeam_packet:head(Bytes), is_frame(hornbeam_json:frame({packed, Bytes}))},
    {_, _} = hornbeam_server_sent_event:open(Bytes),
    is_sameness(hornbeam_value:same({packed, Bytes}, {packed, mutated(Bytes)})),
    is_sameness(hornbeam_value:same({packed, Bytes}, {packed, shuffled(Bytes)})),
    case hornbeam_packet:cut(Bytes, hornbeam_packet:new_buffer()) of
        {ok, _, _} -> ok;
        {error, {too_long, _}} -> ok
    end.

is_sameness(Same) when is_boolean(Same); Same =:= {error, too_long} -> ok.

%% As many bytes, in another order.
shuffled(Bytes) ->
    At = rand:uniform(byte_size(Bytes) + 1) - 1,
    <<Before:At/binary, After/binary>> = Bytes,
    <<After/binary, Before/binary>>.

is_result({ok, _}) -> ok;
is_result({error, _}) -> ok.

is_frame({ok, {Kind, Data}}) when Kind =:= text; Kind =:= binary -> true = is_binary(Data);
is_frame({error, Path, What}) -> true = is_list(Path) andalso is_binary(What).

%% Each op with arguments that fit, which are then changed; the context is a worker's.
ops_give_an_answer(Config) ->
    Worker = hornbeam_fake_worker:start(),
    Numbers = [Number || {Number, _, _, _, inline, _} <- hornbeam_api:ops()],
    Context = hornbeam_fake_worker:context(Worker, #{}),
    for_a_while(fun() -> answered(hornbeam_api:handle_op(one_of(Numbers), args(), Context)) end,
                500, Config),
    hornbeam_fake_worker:stop(Worker).

answered(noreply) -> ok;
answered({reply, Status, Packed}) when Status =< 12 ->
    {ok, _} = hornbeam_msgpack:decode_all(iolist_to_binary(Packed)),
    ok.

args() ->
    Args = [value() || _ <- lists:seq(1, rand:uniform(4))],
    Packed = iolist_to_binary(hornbeam_msgpack:encode(Args)),
    one_of([Packed, Packed, mutated(Packed)]).

value() ->
    one_of([<<"key">>, hornbeam_msgpack:bytes(<<1>>), 1, -1, 1 bsl 70, 1.5, true, undefined,
            {<<"a">>, 1}, [<<"key">>], [[<<"key">>, hornbeam_msgpack:bytes(<<16#c0>>)]],
            hornbeam_msgpack:bytes(mutated(<<16#92, 1, 16#c0>>)), #{<<"k">> => []}]).

%% Well-formed calls of all ops, with values as they should not be: too large, of other types, too
%% deep, of no number, of names that are known and of such as are not; by connections of all kinds,
%% some of which die. Each op is answered; no process of the node ends for it, nor logs an error.
values_of_any_kind_crash_no_process(Config) ->
    Worker = hornbeam_fake_worker:start(fun replied/1),
    ok = hornbeam:register_function(<<"f">>, fun(A) -> A end),
    ok = hornbeam:register_function(<<"g">>, erlang, max),
    ok = hornbeam:register_hook(<<"h">>, fun(_, Args, Kwargs) -> [Args, Kwargs] end),
    ok = hornbeam:register_hook(<<"i">>, fun(_, Args) -> {error, Args} end),
    ok = logger:add_handler(?MODULE, ?MODULE, #{level => error, config => self()}),
    Before = named(),
    put(owner, owner()),
    Call = fun() -> answered_in_time(called(one_of(hornbeam_api:ops()), Worker)) end,
    for_a_while(Call, 500, Config),
    exit(get(owner), kill),
    _ = [_ = sys:get_state(Pid) || {_, Pid} <- Before],
    ok = logger:remove_handler(?MODULE),
    ?assertEqual(Before, named()),
    ?assertEqual([], logged()),
    _ = [hornbeam:unregister_hook(Name) || Name <- [<<"h">>, <<"i">>]],
    hornbeam_fake_worker:stop(Worker).

log(#{msg := Msg}, #{config := Pid}) -> Pid ! {logged, Msg}, ok.

logged() ->
    receive {logged, Msg} -> [Msg | logged()] after 0 -> [] end.

named() ->
    [{Name, whereis(Name)}
     || Name <- registered(), lists:prefix("hornbeam", atom_to_list(Name))].

replied({2, _, _, _, _}) -> {items, [1, <<"two">>]};
replied({_, _, _, _, _}) -> {0, packed(one_of([1, #{}, {nested, [1.5]}]))}.

called({Number, Name, Args, _, Where, _}, Worker) ->
    Packed = [hornbeam_msgpack:array(length(Args)) | [arg(Type) || {_, Type} <- Args]],
    Call = {Number, Name, iolist_to_binary(Packed)},
    #{options := Options} = hornbeam_fake_worker:context(Worker, #{}),
    Context = hornbeam_fake_worker:context(Worker, #{
        options => Options#{rpc_allow := [{erlang, max, 2}]}, writer => self(),
        client => client(one_of([worker, gone, http, websocket, websocket]))}),
    {Call, Where, hornbeam_api:handle_op(Number, element(3, Call), Context)}.

%% One of twenty dies of it.
client(worker) ->
    worker;
client(gone) ->
    gone;
client(Kind) ->
    _ = [begin exit(get(owner), kill), put(owner, owner()) end || rand:uniform(20) =:= 1],
    {one_of([open, asked]), Kind, get(owner)}.

owner() -> spawn(fun() -> receive never -> ok end end).

answered_in_time({{_, Name, _}, _, {reply, Status, Packed}}) ->
    noted(Name, Status, Packed);
answered_in_time({{_, Name, _} = Call, _, noreply}) ->
    receive
        {reply, Op} ->
            {ok, [_, 1, 1, Status, Value]} = hornbeam_msgpack:decode_all(iolist_to_binary(Op)),
            noted(Name, Status, hornbeam_msgpack:encode(Value))
    after 10000 ->
        error({no_answer, Call})
    end.

%% Ids of executions and streams are asked about later.
noted(Name, 0, Packed) when Name =:= <<"hooks.execute_async">>; Name =:= <<"hooks.stream">> ->
    {ok, Id} = hornbeam_msgpack:decode_all(iolist_to_binary(Packed)),
    _ = put(id, Id),
    ok;
noted(_Name, Status, Packed) ->
    answered({reply, Status, Packed}).

%% Packed: mostly what the type allows, at its ends and past them.
arg({optional, Type}) -> call_one_of([fun() -> arg(Type) end, fun() -> <<16#c0>> end]);
arg(Type) ->
    call_one_of([fun() -> of_type(Type) end, fun() -> of_type(Type) end, fun() -> of_type(Type) end,
            fun() -> hostile(3) end]).

of_type(key) -> hostile_key();
of_type(prefix) -> hostile_key();
of_type(keys) -> many(fun hostile_key/0);
of_type(pairs) -> many(fun() -> [<<16#92>>, hostile_key(), of_type(packed)] end);
of_type(packed) -> hornbeam_msgpack:bin(iolist_to_binary(of_packed()));
of_type(number) -> number();
of_type(bool) -> one_of([<<16#c2>>, <<16#c3>>]);
of_type(Time) when Time =:= ttl; Time =:= timeout ->
    packed(one_of([0, 1, 20, -1, 16#ffffffff, 16#100000000, 16#ffffffff * 1000, 1 bsl 70, 1.5]));
of_type(overflow) -> text(one_of([<<"latest">>, <<"close">>, <<"drop_oldest">>, <<>>]));
of_type(_StrOrTopic) -> text(name()).

of_packed() ->
    call_one_of([fun number/0, fun() -> hostile(3) end, fun() -> many(fun() -> hostile(2) end) end,
            fun() -> <<16#80>> end, fun() -> [<<16#81>>, text(<<"k">>), hostile(2)] end,
            fun() -> [<<16#92>>, number(), number()] end, fun() -> mutated(packed(value())) end]).

name() ->
    one_of([<<"f">>, <<"g">>, <<"h">>, <<"i">>, <<"erlang">>, <<"max">>, atom_to_binary(node()),
            <<>>, <<0>>, <<"ü"/utf8>>, <<"ü">>, binary:copy(<<"x">>, 4096),
            binary:copy(<<"x">>, 70000), get_id(get(id))]).

get_id(undefined) -> <<"id">>;
get_id(Id) -> Id.

text(Text) -> hornbeam_msgpack:str(Text).

number() ->
    call_one_of([fun() -> packed(one_of([0, 1, -1, 1.5, -0.0, 5.0e-324, 1.7976931348623157e308,
                                    -1.7976931348623157e308]))
            end,
            fun() -> packed(one_of([1, -1]) bsl one_of([31, 63, 64, 1023, 1024, 2000, 131070])) end,
            fun() -> one_of([<<16#cb, 16#7ff0:16, 0:48>>, <<16#cb, 16#fff8:16, 0:48>>,
                             <<16#ca, 16#7f80:16, 0:16>>, <<16#d4, 4, 1>>, <<16#d6, 4, 0:32>>])
            end]).

hostile_key() ->
    Long = binary:copy(<<"k">>, 60000),
    call_one_of([fun() -> text(one_of([<<"k">>, <<"k">>, <<"l">>, <<>>, Long])) end,
            fun() -> packed(one_of([0, 1 bsl 2000, {}, {<<"k">>, 1}, {<<"k">>, {{1}}},
                                    hornbeam_msgpack:bytes(<<255>>)])) end,
            fun() -> packed(list_to_tuple(lists:duplicate(one_of([1, 100, 5000]), 1))) end,
            fun() -> tuples(one_of([15, 16, 17, 100]), <<1>>) end,
            fun() -> hostile(2) end]).

tuples(0, Packed) -> Packed;
tuples(Depth, Packed) ->
    Array = <<16#91, Packed/binary>>,
    tuples(Depth - 1, <<16#c9, (byte_size(Array)):32, 2, Array/binary>>).

hostile(0) ->
    one_of([<<16#c0>>, <<16#c3>>, packed(known_atom), <<16#d6, 1, "nope">>, <<16#c7, 0, 1>>,
            packed(self()), packed(make_ref()), packed(fun lists:seq/2), fun_of_nils(),
            <<16#d4, 9, 0>>, <<16#c1>>, <<16#a1, 255>>, <<16#c7, 3, 3, 131, 80, 0>>, <<>>]);
hostile(Depth) ->
    call_one_of([fun number/0,
            fun() -> text(name()) end,
            fun() -> hostile(0) end,
            fun() -> many(fun() -> hostile(Depth - 1) end) end,
            %% The same key twice.
            fun() -> [<<16#82>>, text(<<"a">>), hostile(Depth - 1), text(<<"a">>), number()] end,
            fun() -> [<<16#81>>, hostile(Depth - 1), hostile(Depth - 1)] end,
            fun() -> [binary:copy(<<16#91>>, one_of([510, 511, 512, 5000])), 1] end,
            fun() -> tuples(100, <<1>>) end]).

%% As large as it may be, a byte larger, and much larger.
fun_of_nils() ->
    Nils = lists:duplicate(one_of([1, 800, 1000, 100000]), []),
    External = term_to_binary(fun() -> Nils end),
    <<16#c9, (byte_size(External)):32, 3, External/binary>>.

many(Fun) ->
    N = one_of([0, 1, 2, 3]),
    [hornbeam_msgpack:array(N) | [Fun() || _ <- lists:seq(1, N)]].

packed(Term) -> iolist_to_binary(hornbeam_msgpack:encode(Term)).

%% A worker lives as long as it keeps the rules; with the first that it breaks it is gone, and
%% never for another reason.
workers_live_or_are_cut_off(Config) ->
    Packets = [Packet || {_, python, Name, Packet, _} <- hornbeam_wire_files:vectors(),
                       Name =/= hello, Name =/= ready, Name =/= failed],
    for_a_while(fun() -> lived(0, opened(hornbeam_puppet:start()), Packets) end, 1, Config).

opened(Puppet) ->
    Handle = hornbeam_puppet:handle(Puppet),
    _ = [hornbeam_stream:open(Handle, Kind, fun(_) -> [] end)
         || Kind <- [websocket, http, websocket, http]],
    {ok, _} = hornbeam_worker:describe(hornbeam_puppet:worker(Puppet)),
    Puppet.

lived(50, Puppet, _Packets) ->
    _ = hornbeam_puppet:stop(Puppet),
    flush();
lived(Times, Puppet, Packets) ->
    hornbeam_puppet:say(said(Packets), Puppet),
    case hornbeam_worker:describe(hornbeam_puppet:worker(Puppet)) of
        {ok, _} ->
            lived(Times + 1, Puppet, Packets);
        error ->
            {shutdown, {broke_the_wire, _}} = hornbeam_puppet:ended(Puppet),
            flush()
    end.

flush() ->
    receive _ -> flush() after 0 -> ok end.

said(Packets) ->
    [begin
         Packet = one_of([one_of(Packets), session(), session(), session(), rubbish(Packets)]),
         <<(byte_size(Packet)):32, Packet/binary>>
     end || _ <- lists:seq(1, rand:uniform(8))].

%% What fits, if the moment fits.
session() ->
    Number = rand:uniform(4),
    Bytes = hornbeam_msgpack:bytes(<<"x">>),
    iolist_to_binary(hornbeam_msgpack:encode(one_of(
        [[38, Number, undefined, []], [39, Number, Bytes], [40, Number, Bytes],
         [36, Number, 200, [], Bytes, true], [37, Number, Bytes, true],
         [43, 0, 20, <<"fuzz">>, <<"line">>], [44, Number, 1, 33, []], [9, Number, 1, 1],
         [44, 0, 1, 1, [<<"key">>]], [41, Number, 1000, Bytes]]))).

%% Mutations

rubbish(Packets) ->
    case rand:uniform(10) of
        1 -> rand:bytes(rand:uniform(200));
        _ -> times(rand:uniform(3), fun mutated/1, one_of(Packets))
    end.

times(0, _Fun, Value) -> Value;
times(N, Fun, Value) -> times(N - 1, Fun, Fun(Value)).

mutated(<<>>) ->
    <<16#dd, -1:32>>;
mutated(Bytes) ->
    At = rand:uniform(min(byte_size(Bytes), 64)) - 1,
    <<Before:At/binary, Byte, After/binary>> = Bytes,
    case rand:uniform(6) of
        1 -> <<Before/binary, (rand:uniform(256) - 1), After/binary>>;
        2 -> Before;
        3 -> <<Before/binary, After/binary>>;
        4 -> <<Before/binary, (head())/binary, After/binary>>;
        5 -> <<Before/binary, Byte, Byte, After/binary>>;
        6 -> <<Before/binary, (Byte bxor (1 bsl (rand:uniform(8) - 1))), After/binary>>
    end.

%% Heads that claim more than is there.
head() ->
    one_of([<<16#dd, -1:32>>, <<16#df, -1:32>>, <<16#c6, -1:32>>, <<16#db, -1:32>>,
            <<16#c9, -1:32, 2>>, <<16#c9, -1:32, 3>>, <<16#dc, -1:16>>, <<16#c1>>, <<16#d4, 1>>,
            <<16#d8, 3, 131, 80, 255, 255, 255, 255>>]).

one_of(List) ->
    lists:nth(rand:uniform(length(List)), List).

call_one_of(Funs) ->
    (one_of(Funs))().

%% What was made by hand

small_bytes_that_claim_much_cost_nothing(_Config) ->
    Heads = [<<Tag, -1:32>> || Tag <- [16#c6, 16#db, 16#dd, 16#df]]
        ++ [<<16#c9, -1:32, Type>> || Type <- [1, 2, 3, 4]],
    [begin
         Nested = binary:copy(Head, 100),
         {error, truncated} = hornbeam_msgpack:decode(Nested),
         ?assert(heap_of(fun() -> hornbeam_msgpack:decode(Nested) end) < 1000000)
     end || Head <- Heads].

values_that_are_made_to_cost_much_are_refused(_Config) ->
    Size = 30000000,
    Many = <<16#dd, Size:32, (binary:copy(<<16#c0>>, Size))/binary>>,
    Deep = binary:copy(<<16#91>>, Size),
    Other = <<(binary:copy(<<16#91>>, Size - 1))/binary, 1>>,
    Fun = large_fun(900),
    Funs = <<16#dd, 30000:32, (binary:copy(Fun, 30000))/binary>>,
    Tuples = lists:foldl(fun(_, Inner) -> <<16#c9, (byte_size(Inner)):32, 2, Inner/binary>> end,
                         <<16#90>>, lists:seq(1, 2000)),
    ?assert(heap_of(fun() ->
        {error, {bad_msgpack, too_many_elements}} = hornbeam_msgpack:decode(Many),
        {error, _} = hornbeam_msgpack:decode(Deep),
        {error, {bad_msgpack, _}} = hornbeam_msgpack:decode(Tuples),
        {error, _, _} = hornbeam_json:frame({packed, Many}),
        {error, _, _} = hornbeam_json:frame({packed, Deep}),
        {error, _, _} = hornbeam_json:frame({packed, Tuples}),
        false = hornbeam_value:same({packed, Deep}, {packed, Other}),
        {error, {value_error, _}} = hornbeam_api_args:read([{keys, keys}], <<16#91, Many/binary>>),
        {error, {bad_msgpack, _}} = hornbeam_msgpack:decode(large_fun(Size)),
        {error, {bad_msgpack, too_many_elements}} = hornbeam_msgpack:decode(Funs)
    end) < 10000000),
    AtLimit = <<16#dd, 4194304:32, (binary:copy(<<16#c0>>, 4194304))/binary>>,
    ?assertMatch({ok, _, <<>>}, hornbeam_msgpack:decode(AtLimit)),
    OnePast = <<16#dd, 4194305:32, (binary:copy(<<16#c0>>, 4194305))/binary>>,
    ?assertEqual({error, {bad_msgpack, too_many_elements}}, hornbeam_msgpack:decode(OnePast)).

%% With so many NILs in it, which no process makes.
large_fun(Size) ->
    <<131, 112, _:32, Front/binary>> = term_to_binary(taking([[]])),
    Rest = <<(binary:part(Front, 0, byte_size(Front) - 7))/binary, 108, Size:32,
             (binary:copy(<<106>>, Size + 1))/binary>>,
    ext(<<131, 112, (byte_size(Rest) + 4):32, Rest/binary>>).

taking(Data) -> fun() -> Data end.

%% The largest heap, in bytes, of a process that runs a fun; it is ended at 64 MiB.
heap_of(Fun) ->
    {Pid, Ref} = spawn_opt(fun() ->
        _ = Fun(),
        {total_heap_size, Words} = process_info(self(), total_heap_size),
        exit({heap, Words * erlang:system_info(wordsize)})
    end, [monitor, {max_heap_size, #{size => 8388608, kill => true, error_logger => false}}]),
    receive
        {'DOWN', Ref, process, Pid, {heap, Bytes}} -> Bytes;
        {'DOWN', Ref, process, Pid, Reason} -> error(Reason)
    after 60000 ->
        error(too_slow)
    end.

%% Compressed terms, new atoms, terms of other kinds: none comes out of an ext 3.
external_terms_are_opaque_things_or_errors(Config) ->
    Bomb = term_to_binary(binary:copy(<<0>>, 100000000), [{compressed, 9}]),
    Atom = <<131, 119, 20, "never_seen_before_xx">>,
    Pid = <<131, 88, 119, 9, "nobody@no", 1:32, 0:32, 0:32>>,
    Fun = <<131, 113, 119, 9, "no_module", 119, 3, "run", 97, 0>>,
    Samples = [term_to_binary(Term)
               || Term <- [self(), make_ref(), taking([1, {a, <<"b">>}, #{c => 1.5}]),
                           taking(taking("nested")), taking(lists:duplicate(900, [])),
                           fun lists:map/2, hd(erlang:ports())]],
    [?assertMatch({error, {bad_msgpack, {bad_ext, 3}}}, hornbeam_msgpack:decode(ext(Bytes)))
     || Bytes <- [Bomb, Atom, Pid, Fun, <<131>>, <<>>, term_to_binary([self()])]],
    for_a_while(fun() -> opaque(hornbeam_msgpack:decode(ext(mutated(one_of(Samples))))) end,
                500, Config).

opaque({ok, Term, _})
        when is_pid(Term); is_reference(Term); is_port(Term); is_function(Term) -> ok;
opaque({error, _}) -> ok.

ext(Bytes) ->
    <<16#c9, (byte_size(Bytes)):32, 3, Bytes/binary>>.
