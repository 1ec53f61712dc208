%% hornbeam_wire: the golden vectors, framing, properties, and what a broken worker may send.
-module(hornbeam_wire_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0]).
-export([
    vectors_of_the_beam_encode/1,
    vectors_of_the_beam_decode/1,
    vectors_of_python_decode/1,
    vectors_of_python_are_routed/1,
    vectors_byte_by_byte_are_the_same_packets/1,
    every_message_has_a_vector/1,
    a_message_cut_short_is_an_error/1,
    a_message_with_a_byte_behind_it_is_an_error/1,
    any_changed_byte_is_a_message_or_an_error/1,
    a_packet_without_a_head_is_not_routed/1,
    a_stream_of_the_worker_is_0_and_of_a_socket_is_not/1,
    length_of_128_mib_is_waited_for_and_one_more_is_an_error/1,
    an_empty_packet_is_a_packet_but_no_message/1,
    a_long_packet_in_many_chunks_is_put_together_once/1,
    bytes_of_a_method_that_are_not_utf8_become_text/1,
    arguments_are_exactly_one_array/1,
    properties_hold/1
]).

all() ->
    [Name || {Name, 1} <- module_info(exports), Name =/= module_info].

%%% Golden vectors

vectors_of_the_beam_encode(_) ->
    [
        ?assertEqual({Line, Bytes}, {Line, iolist_to_binary(encode(Name, Values))})
     || {Line, beam, Name, Bytes, Values} <- hornbeam_wire_files:vectors()
    ].

encode(start, [0, Config]) ->
    hornbeam_wire:start(config(Config));
encode(stop, [0, Timeout]) ->
    hornbeam_wire:stop(Timeout);
encode(open_http, [Stream, Scope, Body, More]) ->
    hornbeam_wire:open_http(Stream, scope(Scope), hornbeam_wire_files:plain(Body), More);
encode(open_websocket, [Stream, Scope]) ->
    hornbeam_wire:open_websocket(Stream, scope(Scope));
encode(reopen_websocket, [Stream, Scope | Values]) ->
    [Attempt, Reason, Topics] = hornbeam_wire_files:plain(Values),
    hornbeam_wire:reopen_websocket(Stream, scope(Scope), Attempt, Reason, Topics);
encode(reply, [Stream, Ref, Status, Value]) ->
    Packed = hornbeam_msgpack:encode(hornbeam_wire_files:marked(Value)),
    hornbeam_wire:reply(Stream, Ref, Status, Packed);
encode(tell_failed, [Stream, Ref, Op, Status, Value]) ->
    Packed = hornbeam_msgpack:encode(hornbeam_wire_files:marked(Value)),
    hornbeam_wire:tell_failed(Stream, Ref, Op, Status, Packed);
encode(Name, [0 | Values])
        when Name =:= event; Name =:= call; Name =:= more; Name =:= cancel; Name =:= heartbeat;
             Name =:= refused ->
    apply(hornbeam_wire, Name, hornbeam_wire_files:plain(Values));
encode(Name, Values) ->
    apply(hornbeam_wire, Name, hornbeam_wire_files:plain(Values)).

config(Json) ->
    #{
        <<"lifespan">> := Lifespan,
        <<"loop">> := Loop,
        <<"stream_window">> := [Bytes, Messages]
    } = Json,
    Config = maps:from_list([{binary_to_atom(Key), Value} || {Key, Value} <- maps:to_list(Json)]),
    Config#{
        lifespan := binary_to_atom(Lifespan),
        loop := binary_to_atom(Loop),
        stream_window := {Bytes, Messages}
    }.

scope(Json) ->
    [Version, Scheme, Method, RawPath, Query, Headers, Client, Server, Connect] =
        hornbeam_wire_files:plain(Json),
    #{
        http_version => Version,
        scheme => Scheme,
        method => Method,
        raw_path => RawPath,
        query_string => Query,
        headers => [{Name, Value} || [Name, Value] <- Headers],
        client => address(Client),
        server => address(Server),
        connect => Connect
    }.

address(undefined) -> undefined;
address([Host, Port]) -> {Host, Port}.

vectors_of_the_beam_decode(_) ->
    [
        ?assertEqual({Line, {ok, hornbeam_wire_files:plain(Values)}}, {Line, fields(Bytes)})
     || {Line, beam, _, Bytes, Values} <- hornbeam_wire_files:vectors()
    ].

fields(Bytes) ->
    {ok, [_Code | Fields]} = hornbeam_msgpack:decode_all(Bytes),
    {ok, Fields}.

vectors_of_python_decode(_) ->
    [
        ?assertEqual({Line, message(Name, Values)}, {Line, decode(Bytes)})
     || {Line, python, Name, Bytes, Values} <- hornbeam_wire_files:vectors()
    ].

%% The message with an op's arguments decoded.
decode(Packet) ->
    case hornbeam_packet:decode(Packet) of
        {ok, {Name, Stream, Ref, Op, Binary}} when Name =:= op; Name =:= tell ->
            {ok, Args} = hornbeam_packet:args(Binary),
            {Name, Stream, Ref, Op, Args};
        {ok, Message} ->
            Message
    end.

message(Name, Values) ->
    list_to_tuple([Name | message_fields(Name, hornbeam_wire_files:plain(Values))]).

message_fields(response_start, [Stream, Status, Headers, Body, More]) ->
    [Stream, Status, [list_to_tuple(Pair) || Pair <- Headers], Body, More];
message_fields(response, [Stream, Status, Headers, Body]) ->
    [Stream, Status, [list_to_tuple(Pair) || Pair <- Headers], Body];
message_fields(event_stream, [Stream, Status, Headers, Forwardable]) ->
    [Stream, Status, [list_to_tuple(Pair) || Pair <- Headers], Forwardable];
message_fields(accept, [Stream, Subprotocol, Headers]) ->
    [Stream, Subprotocol, [list_to_tuple(Pair) || Pair <- Headers]];
message_fields(Name, [0 | Fields]) when Name =/= op, Name =/= tell, Name =/= credit ->
    Fields;
message_fields(_, Fields) ->
    Fields.

vectors_of_python_are_routed(_) ->
    Codes = [
        {Name, Code}
     || {Code, Name, _, _} <- hornbeam_wire_files:messages(hornbeam_wire_files:document())
    ],
    [
        ?assertEqual(
            {Line, {proplists:get_value(Name, Codes), Stream}}, {Line, hornbeam_packet:head(Bytes)}
        )
     || {Line, python, Name, Bytes, [Stream | _]} <- hornbeam_wire_files:vectors()
    ].

vectors_byte_by_byte_are_the_same_packets(_) ->
    Packets = python_packets(),
    Wire = <<<<(byte_size(Packet)):32, Packet/binary>> || Packet <- Packets>>,
    ?assertEqual(Packets, read([Wire])),
    ?assertEqual(Packets, read([<<Byte>> || <<Byte>> <= Wire])),
    ?assertEqual(Packets, read(chunks(Wire, 7))),
    ?assertEqual(Packets, read(chunks(Wire, 65536))).

python_packets() ->
    [Bytes || {_, python, _, Bytes, _} <- hornbeam_wire_files:vectors()].

chunks(Bytes, Size) when byte_size(Bytes) =< Size -> [Bytes];
chunks(Bytes, Size) ->
    {Chunk, Rest} = split_binary(Bytes, Size),
    [Chunk | chunks(Rest, Size)].

%% All packets, with nothing left over.
read(Chunks) ->
    {Packets, Buffer} = lists:mapfoldl(fun read/2, hornbeam_packet:new_buffer(), Chunks),
    ?assertEqual(hornbeam_packet:new_buffer(), Buffer),
    lists:append(Packets).

read(Chunk, Buffer) ->
    {ok, Packets, NewBuffer} = hornbeam_packet:cut(Chunk, Buffer),
    {Packets, NewBuffer}.

every_message_has_a_vector(_) ->
    Document = hornbeam_wire_files:document(),
    Rows = lists:append([
        [{Sender, Name} || Sender <- senders(From)]
     || {_, Name, From, _} <- hornbeam_wire_files:messages(Document)
    ]),
    Vectors = [{From, Name} || {_, From, Name, _, _} <- hornbeam_wire_files:vectors()],
    ?assertEqual(lists:usort(Rows), lists:usort(Vectors)).

senders(both) -> [beam, python];
senders(Sender) -> [Sender].

%%% What a broken worker may send

a_message_cut_short_is_an_error(_) ->
    [
        ?assert(is_error(binary:part(Packet, 0, Size)), {Packet, Size})
     || Packet <- python_packets(),
        Size <- lists:seq(0, min(byte_size(Packet) - 1, 400))
    ].

a_message_with_a_byte_behind_it_is_an_error(_) ->
    [?assert(is_error(<<Packet/binary, 0>>), Packet) || Packet <- python_packets()].

is_error(Packet) ->
    case hornbeam_packet:decode(Packet) of
        {ok, {Name, _, _, _, Args}} when Name =:= op; Name =:= tell ->
            element(1, hornbeam_packet:args(Args)) =:= error;
        Result -> element(1, Result) =:= error
    end.

any_changed_byte_is_a_message_or_an_error(_) ->
    [
        ?assert(is_message_or_error(Packet, At, Byte), {Packet, At, Byte})
     || Packet <- python_packets(),
        byte_size(Packet) < 100,
        At <- lists:seq(0, byte_size(Packet) - 1),
        Byte <- lists:seq(0, 255)
    ].

is_message_or_error(Packet, At, Byte) ->
    <<Front:At/binary, _, Back/binary>> = Packet,
    case hornbeam_packet:decode(<<Front/binary, Byte, Back/binary>>) of
        {ok, {Name, _, _, _, Args}} when Name =:= op; Name =:= tell ->
            tuple_size(hornbeam_packet:args(Args)) =:= 2;
        {ok, Message} -> is_atom(element(1, Message));
        {error, _} -> true
    end.

a_packet_without_a_head_is_not_routed(_) ->
    Rubbish = [
        <<>>,
        <<16#93>>,
        <<16#93, 39>>,
        <<16#93, 39, 16#cd, 1>>,
        <<16#93, 39, 16#a1, "x">>,
        <<16#83, 39, 1>>,
        <<"Traceback (most recent call last):">>
    ],
    [?assertEqual(error, hornbeam_packet:head(Packet)) || Packet <- Rubbish],
    [?assertMatch({error, _}, hornbeam_packet:decode(Packet)) || Packet <- Rubbish].

a_stream_of_the_worker_is_0_and_of_a_socket_is_not(_) ->
    Stream = fun({Code, Fields}, Id) ->
        hornbeam_packet:decode(iolist_to_binary(hornbeam_msgpack:encode([Code, Id | Fields])))
    end,
    Bytes = hornbeam_msgpack:bytes(<<"x">>),
    Texts = [<<>>, <<>>, <<>>, <<>>],
    Worker = [
        {33, [1, #{}]},
        {34, [#{}]},
        {35, Texts},
        {43, [20, <<>>, <<>>]},
        {45, []},
        {46, [1, 2, 3]},
        {47, [1, Bytes]}
    ],
    Socket = [
        {36, [200, [], Bytes, false]},
        {37, [Bytes, false]},
        {38, [undefined, []]},
        {39, [Bytes]},
        {40, [Bytes]},
        {41, [1000, Bytes]},
        {42, [undefined, <<>>, <<>>]}
    ],
    [?assertMatch({ok, _}, Stream(Message, 0)) || Message <- Worker],
    [?assertMatch({error, {bad_stream, _}}, Stream(Message, 1)) || Message <- Worker],
    [?assertMatch({error, {bad_stream, _}}, Stream(Message, 0)) || Message <- Socket],
    [?assertMatch({error, {bad_stream, _}}, Stream(Message, -1)) || Message <- Socket],
    [
        ?assertMatch({ok, _}, Stream(Message, Id))
     || Message <- Socket,
        Id <- [1, 127, 128, 255, 256, 65535, 65536, 16#ffffffff, 16#100000000]
    ],
    Either = [{9, [1, 1]}, {44, [1, 1, []]}],
    [?assertMatch({ok, _}, Stream(Message, Id)) || Message <- Either, Id <- [0, 1, 300]].

%%% Packets

length_of_128_mib_is_waited_for_and_one_more_is_an_error(_) ->
    Longest = 134217728,
    ?assertMatch({ok, [], _}, hornbeam_packet:cut(<<Longest:32>>, hornbeam_packet:new_buffer())),
    [
        ?assertEqual({error, {too_long, N}}, hornbeam_packet:cut(<<N:32>>, Buffer))
     || N <- [Longest + 1, 16#ffffffff], Buffer <- [hornbeam_packet:new_buffer()]
    ],
    {ok, [], Half} = hornbeam_packet:cut(<<8, 0>>, hornbeam_packet:new_buffer()),
    ?assertEqual({error, {too_long, Longest + 1}}, hornbeam_packet:cut(<<0, 1>>, Half)).

an_empty_packet_is_a_packet_but_no_message(_) ->
    ?assertEqual([<<>>, <<1>>], read([<<0:32, 1:32, 1>>])),
    ?assertEqual(error, hornbeam_packet:head(<<>>)),
    ?assertEqual({error, malformed}, hornbeam_packet:decode(<<>>)).

%% Appending each chunk to what is there would copy 8 MiB four thousand times.
a_long_packet_in_many_chunks_is_put_together_once(_) ->
    Packet = binary:copy(<<"0123456789abcdef">>, 524288),
    Chunks = chunks(<<(byte_size(Packet)):32, Packet/binary, 0:32>>, 2048),
    {Last, Parts} = {lists:last(Chunks), lists:droplast(Chunks)},
    {Packets, Buffer} = lists:mapfoldl(fun read/2, hornbeam_packet:new_buffer(), Parts),
    ?assertEqual([], lists:append(Packets)),
    %% What is kept are the chunks themselves.
    ?assert(erts_debug:flat_size(Buffer) < 20 * length(Chunks)),
    ?assertMatch({ok, [Packet, <<>>], _}, hornbeam_packet:cut(Last, Buffer)).

%%% Fields

bytes_of_a_method_that_are_not_utf8_become_text(_) ->
    Scope = scope([<<"2">>, <<"https">>, <<"M">>, <<"/">>, <<>>, [], null, null, null]),
    Message = hornbeam_wire:open_http(1, Scope#{method := <<"M", 16#ff>>}, <<>>, false),
    {ok, [_, 1, Array | _]} = hornbeam_msgpack:decode_all(iolist_to_binary(Message)),
    ?assertEqual(<<"Mÿ"/utf8>>, lists:nth(3, Array)).

arguments_are_exactly_one_array(_) ->
    ?assertEqual({ok, [1]}, hornbeam_packet:args(<<16#91, 1>>)),
    ?assertEqual({error, not_an_array}, hornbeam_packet:args(<<1>>)),
    ?assertEqual({error, {bad_msgpack, trailing_bytes}}, hornbeam_packet:args(<<16#90, 1>>)),
    ?assertEqual({error, truncated}, hornbeam_packet:args(<<>>)).

%%% Properties

properties_hold(_) ->
    Properties = hornbeam_properties:of_module(prop_hornbeam_wire),
    [?assert(hornbeam_properties:hold(Property)) || Property <- Properties].
