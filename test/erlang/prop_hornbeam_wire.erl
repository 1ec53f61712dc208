%% Properties of hornbeam_wire for any message, any bytes and any chunks.
-module(prop_hornbeam_wire).

-include_lib("proper/include/proper.hrl").

-export([
    prop_a_message_of_python_comes_back/0,
    prop_a_message_of_the_beam_is_one_array/0,
    prop_a_packet_is_routed_by_its_head/0,
    prop_chunks_of_any_size_give_the_packets/0,
    prop_a_changed_byte_is_a_message_or_an_error/0,
    prop_a_cut_message_is_an_error/0
]).

prop_a_message_of_python_comes_back() ->
    ?FORALL({Message, Packet}, message(), hornbeam_packet:decode(Packet) =:= {ok, Message}).

prop_a_packet_is_routed_by_its_head() ->
    ?FORALL({_, Packet}, message(), begin
        {ok, [Code, Stream | _]} = hornbeam_msgpack:decode_all(Packet),
        hornbeam_packet:head(Packet) =:= {Code, Stream}
    end).

prop_a_message_of_the_beam_is_one_array() ->
    ?FORALL({Bytes, Values}, beam_message(), begin
        hornbeam_msgpack:decode_all(iolist_to_binary(Bytes)) =:= {ok, Values}
    end).

prop_chunks_of_any_size_give_the_packets() ->
    ?FORALL({Packets, Sizes}, {list(sized_binary()), list(range(0, 40))}, begin
        Bytes = <<<<(byte_size(Packet)):32, Packet/binary>> || Packet <- Packets>>,
        read(chunks(Bytes, Sizes), hornbeam_packet:new_buffer(), []) =:= Packets
    end).

prop_a_changed_byte_is_a_message_or_an_error() ->
    ?FORALL(
        Packet,
        ?LET({_, Packet}, message(), prop_hornbeam_msgpack:changed(Packet)),
        is_routed(hornbeam_packet:head(Packet)) andalso is_result(hornbeam_packet:decode(Packet))
    ).

prop_a_cut_message_is_an_error() ->
    ?FORALL({{Message, Packet}, Cut}, {message(), non_neg_integer()}, begin
        Part = binary:part(Packet, 0, Cut rem byte_size(Packet)),
        is_error(Message, hornbeam_packet:decode(Part))
    end).

is_routed(error) -> true;
is_routed({Code, Stream}) -> is_integer(Code) andalso is_integer(Stream).

is_result({ok, Message}) -> is_atom(element(1, Message));
is_result({error, _}) -> true.

%% An op's arguments are not looked at, so a cut among them is the receiver's to see.
is_error({Name, Stream, Ref, Op, _}, {ok, {Name, Stream, Ref, Op, Args}})
        when Name =:= op; Name =:= tell ->
    is_error(args, hornbeam_packet:args(Args));
is_error(_, Result) ->
    element(1, Result) =:= error.

read([Chunk | Chunks], Buffer, Packets) ->
    {ok, More, NewBuffer} = hornbeam_packet:cut(Chunk, Buffer),
    read(Chunks, NewBuffer, Packets ++ More);
read([], _, Packets) ->
    Packets.

chunks(<<>>, _) ->
    [];
chunks(Bytes, []) ->
    [Bytes];
chunks(Bytes, [Size | Sizes]) ->
    {Chunk, Rest} = split_binary(Bytes, min(Size, byte_size(Bytes))),
    [Chunk | chunks(Rest, Sizes)].

sized_binary() ->
    oneof([binary(), ?LET(N, range(0, 400), binary(N))]).

%%% What Python may send, as a message and as the packet that the general encoder makes of it.

message() ->
    ?LET({Code, Stream, Message, Fields}, python(), begin
        Packet = hornbeam_msgpack:encode([Code, Stream | Fields]),
        {Message, iolist_to_binary(Packet)}
    end).

python() ->
    oneof([
        ?LET({V, A}, {uint(), about()}, {33, 0, {hello, V, A}, [V, A]}),
        ?LET(A, about(), {34, 0, {ready, A}, [A]}),
        ?LET([S, C, M, T], vector(4, text()), {35, 0, {failed, S, C, M, T}, [S, C, M, T]}),
        ?LET(
            {Id, S, H, B, M},
            {stream(), uint(), headers(), binary(), boolean()},
            {36, Id, {response_start, Id, S, H, B, M}, [S, pairs(H), bytes(B), M]}
        ),
        ?LET(
            {Id, S, H, B},
            {stream(), uint(), headers(), binary()},
            {55, Id, {response, Id, S, H, B}, [S, pairs(H), bytes(B)]}
        ),
        ?LET(
            {Id, B, M},
            {stream(), binary(), boolean()},
            {37, Id, {response_body, Id, B, M}, [bytes(B), M]}
        ),
        ?LET(
            {Id, P, H},
            {stream(), optional(text()), headers()},
            {38, Id, {accept, Id, P, H}, [P, pairs(H)]}
        ),
        ?LET({Id, B}, {stream(), sized_binary()}, {39, Id, {send_text, Id, B}, [bytes(B)]}),
        ?LET({Id, B}, {stream(), sized_binary()}, {40, Id, {send_bytes, Id, B}, [bytes(B)]}),
        ?LET({Id, C, R}, {stream(), uint(), binary()}, {41, Id, {close, Id, C, R}, [C, bytes(R)]}),
        ?LET(
            {Id, C, M, T},
            {stream(), optional(text()), text(), text()},
            {42, Id, {ended, Id, C, M, T}, [C, M, T]}
        ),
        ?LET({Id, B, M}, {any_stream(), uint(), uint()}, {9, Id, {credit, Id, B, M}, [B, M]}),
        ?LET({L, N, T}, {uint(), text(), text()}, {43, 0, {log, L, N, T}, [L, N, T]}),
        ?LET(
            {Id, R, O, A},
            {any_stream(), uint(), uint(), few_terms()},
            {44, Id, {op, Id, R, O, iolist_to_binary(hornbeam_msgpack:encode(A))}, [R, O, A]}
        ),
        ?LET(
            {Id, R, O, A},
            {any_stream(), uint(), uint(), few_terms()},
            {53, Id, {tell, Id, R, O, iolist_to_binary(hornbeam_msgpack:encode(A))}, [R, O, A]}
        ),
        ?LET(
            {Id, S, H, F},
            {stream(), uint(), headers(), boolean()},
            {54, Id, {event_stream, Id, S, H, F}, [S, pairs(H), F]}
        ),
        {45, 0, {stopped}, []},
        ?LET(N, uint(), {16, 0, {heartbeat, N}, [N]}),
        ?LET(
            {R, S, V},
            {uint(), uint(), prop_hornbeam_msgpack:wire_term()},
            {46, 0, {result, R, S, V}, [R, S, V]}
        ),
        ?LET({R, V}, {uint(), binary()}, {47, 0, {item, R, V}, [R, bytes(V)]}),
        ?LET(Id, stream(), {49, Id, {moved, Id}, []}),
        ?LET(Id, stream(), {50, Id, {flushed, Id}, []}),
        ?LET({Ids, B}, {streams(), sized_binary()},
             {51, 0, {multicast_text, Ids, B}, [Ids, bytes(B)]}),
        ?LET({Ids, B}, {streams(), sized_binary()},
             {52, 0, {multicast_bytes, Ids, B}, [Ids, bytes(B)]})
    ]).

streams() ->
    oneof([list(stream()), ?LET(N, range(14, 18), vector(N, stream()))]).

few_terms() ->
    ?LET(N, range(0, 4), vector(N, prop_hornbeam_msgpack:wire_term())).

%%% What the BEAM may send, as bytes and as the values in them.

beam_message() ->
    oneof([
        ?LET(
            {Id, {Scope, Array}, B, M},
            {stream(), scope(), binary(), boolean()},
            {hornbeam_wire:open_http(Id, Scope, B, M), [2, Id, Array, B, M]}
        ),
        ?LET(
            {Id, {Scope, Array}},
            {stream(), scope()},
            {hornbeam_wire:open_websocket(Id, Scope), [3, Id, Array]}
        ),
        ?LET(
            {Id, {Scope, Array}},
            {stream(), scope()},
            {hornbeam_wire:open_websocket(Id, packed(Scope)), [3, Id, Array]}
        ),
        ?LET(
            {Id, B, M},
            {stream(), binary(), boolean()},
            {hornbeam_wire:request_body(Id, [B], M), [4, Id, B, M]}
        ),
        ?LET(
            {Id, B}, {stream(), sized_binary()}, {hornbeam_wire:receive_text(Id, B), [5, Id, B]}
        ),
        ?LET(
            {Id, B}, {stream(), sized_binary()}, {hornbeam_wire:receive_bytes(Id, B), [6, Id, B]}
        ),
        ?LET(
            {Id, C, R},
            {stream(), optional(uint()), binary()},
            {hornbeam_wire:disconnect(Id, C, R), [7, Id, C, R]}
        ),
        ?LET(Id, stream(), {hornbeam_wire:accepted(Id), [8, Id]}),
        ?LET(
            {Id, B, M},
            {any_stream(), uint(), uint()},
            {hornbeam_wire:credit(Id, B, M), [9, Id, B, M]}
        ),
        ?LET(
            {Id, R, S, V},
            {any_stream(), uint(), uint(), prop_hornbeam_msgpack:wire_term()},
            {hornbeam_wire:reply(Id, R, S, hornbeam_msgpack:encode(V)), [10, Id, R, S, V]}
        ),
        ?LET(
            {Id, R, O, S, V},
            {any_stream(), uint(), uint(), uint(), prop_hornbeam_msgpack:wire_term()},
            {hornbeam_wire:tell_failed(Id, R, O, S, hornbeam_msgpack:encode(V)),
             [20, Id, R, O, S, V]}
        ),
        ?LET(T, uint(), {hornbeam_wire:stop(T), [11, 0, T]}),
        ?LET({T, V}, {text(), binary()}, {hornbeam_wire:event(T, [V]), [12, 0, T, V]}),
        ?LET(
            {R, M, T, F, A, K},
            {uint(), range(0, 2), text(), text(), binary(), binary()},
            {hornbeam_wire:call(R, M, T, F, [A], K), [13, 0, R, M, T, F, A, K]}
        ),
        ?LET({R, N}, {uint(), uint()}, {hornbeam_wire:more(R, N), [14, 0, R, N]}),
        ?LET(R, uint(), {hornbeam_wire:cancel(R), [15, 0, R]}),
        ?LET(Id, stream(), {hornbeam_wire:move(Id), [17, Id]}),
        ?LET(Id, stream(), {hornbeam_wire:flush(Id), [19, Id]}),
        ?LET(
            {Id, {Scope, Array}, A, R, T},
            {stream(), scope(), uint(), text(), list(text())},
            {hornbeam_wire:reopen_websocket(Id, Scope, A, R, T), [18, Id, Array, A, R, T]}
        )
    ]).

scope() ->
    ?LET(
        {V, S, M, P, Q, H, C, A, X},
        {text(), text(), text(), binary(), binary(), headers(), client(), server(), connect()},
        {
            #{
                http_version => V,
                scheme => S,
                method => M,
                raw_path => P,
                query_string => Q,
                headers => H,
                client => C,
                server => A,
                connect => X
            },
            [V, S, M, P, Q, [[Name, Value] || {Name, Value} <- H], array(C), array(A), X]
        }
    ).

%% The same scope with its rest packed once for all.
packed(Scope) ->
    Line = maps:without([headers, client, server, connect], Scope),
    Line#{rest => hornbeam_wire:pack_rest(Scope)}.

client() -> optional({text(), range(0, 65535)}).

server() -> optional({text(), optional(range(0, 65535))}).

connect() -> optional(about()).

array(undefined) -> undefined;
array(Tuple) -> tuple_to_list(Tuple).

headers() -> list({binary(), binary()}).

pairs(Headers) -> [[bytes(Name), bytes(Value)] || {Name, Value} <- Headers].

bytes(Binary) -> hornbeam_msgpack:bytes(Binary).

about() -> ?LET(Pairs, list({text(), oneof([text(), uint(), boolean()])}), maps:from_list(Pairs)).

text() -> utf8().

optional(Type) -> oneof([undefined, Type]).

stream() -> ?LET(N, any_stream(), max(1, N)).

any_stream() -> uint().

uint() -> ?LET({N, Bits}, {range(0, 255), range(0, 56)}, N bsl Bits).
