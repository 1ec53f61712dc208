%% @doc What a Python worker says, from bytes to messages.
%%
%% Knows docs/wire.md: framing, codes and fields. Must not know processes, ports or what a message
%% is for: it is pure. What the BEAM says to Python is made by {@link hornbeam_wire}.
%%
%% Packets are cut out of the stream of bytes by {@link cut/2}, assigned by {@link head/1}, and
%% taken apart by {@link decode/1}. They and the binaries in messages are parts of what was read and
%% keep it alive: copy what is kept for long.
-module(hornbeam_packet).

-include("hornbeam_wire.hrl").

-export([new_buffer/0, cut/2, head/1, is_last_part/1, is_forwardable/1, decode/1, args/1]).
-export([close/3, moved/1]).
-export_type([buffer/0, message/0, packet/0, reason/0]).

%% The longest packet from Python, in bytes; and the longest of those that carry no payload.
-define(MAX_PACKET, 134217728).
-define(MAX_PLAIN_PACKET, 1048576).

-type packet() :: binary().
%% A message without the length before it.

-type headers() :: hornbeam_wire:headers().
-type ref() :: hornbeam_wire:ref().
-type stream() :: hornbeam_wire:stream().

-type message() ::
    {hello, Version :: non_neg_integer(), About :: map()}
    | {ready, About :: map()}
    | {failed, Stage :: binary(), Class :: binary(), Message :: binary(), Traceback :: binary()}
    | {response_start, stream(), Status :: non_neg_integer(), Headers :: headers(),
        Body :: binary(), More :: boolean()}
    | {response, stream(), Status :: non_neg_integer(), Headers :: headers(), Body :: binary()}
    | {response_body, stream(), Body :: binary(), More :: boolean()}
    | {event_stream, stream(), Status :: non_neg_integer(), Headers :: headers(),
        Forwardable :: boolean()}
    | {accept, stream(), Subprotocol :: binary() | undefined, Headers :: headers()}
    | {send_text, stream(), Text :: binary()}
    | {send_bytes, stream(), Bytes :: binary()}
    | {close, stream(), Code :: non_neg_integer(), Reason :: binary()}
    | {ended, stream(), Class :: binary() | undefined, Message :: binary(),
        Traceback :: binary()}
    | {credit, stream(), Bytes :: non_neg_integer(), Messages :: non_neg_integer()}
    | {log, Level :: non_neg_integer(), Logger :: binary(), Text :: binary()}
    | {op, stream(), Ref :: ref(), Op :: non_neg_integer(), Args :: binary()}
    | {tell, stream(), Ref :: ref(), Op :: non_neg_integer(), Args :: binary()}
    | {stopped}
    | {result, Ref :: ref(), Status :: non_neg_integer(), Value :: term()}
    | {item, Ref :: ref(), Value :: binary()}
    | {moved, stream()}
    | {flushed, stream()}
    | {multicast_text, Streams :: [stream()], Text :: binary()}
    | {multicast_bytes, Streams :: [stream()], Bytes :: binary()}
    | {heartbeat, Number :: non_neg_integer()}.

-type name() :: atom().
-type reason() ::
    malformed
    | {unknown_code, byte()}
    | {too_long, name()}
    | {bad_stream, name()}
    | {bad_field, name(), type()}
    | {field_count, name()}.

-record(buffer, {
    need = 4 :: pos_integer(),
    have = 0 :: non_neg_integer(),
    %% newest first
    chunks = [] :: [binary()]
}).
-opaque buffer() :: #buffer{}.

%% @doc Returns the buffer to read a new worker's bytes with.
-spec new_buffer() -> buffer().
new_buffer() -> #buffer{}.

%% @doc Cuts the packets out of what was read, in order, and keeps what is not whole yet.
%%
%% A length beyond 128 MiB is an error, after which the buffer is of no use.
-spec cut(Chunk :: binary(), buffer()) ->
    {ok, [packet()], buffer()} | {error, {too_long, Bytes :: non_neg_integer()}}.
cut(Chunk, #buffer{chunks = []}) ->
    packets(Chunk, []);
cut(Chunk, #buffer{need = Need, have = Have, chunks = Chunks} = Buffer) ->
    case Have + byte_size(Chunk) of
        Enough when Enough >= Need -> packets(list_to_binary(lists:reverse(Chunks, [Chunk])), []);
        Less -> {ok, [], Buffer#buffer{have = Less, chunks = [Chunk | Chunks]}}
    end.

-spec packets(binary(), [packet()]) ->
    {ok, [packet()], buffer()} | {error, {too_long, non_neg_integer()}}.
packets(<<N:32, _/binary>>, _) when N > ?MAX_PACKET ->
    {error, {too_long, N}};
packets(<<N:32, Packet:N/binary, Rest/binary>>, Packets) ->
    packets(Rest, [Packet | Packets]);
packets(<<N:32, _/binary>> = Rest, Packets) ->
    {ok, lists:reverse(Packets), keep(Rest, 4 + N)};
packets(<<>>, Packets) ->
    {ok, lists:reverse(Packets), #buffer{}};
packets(Rest, Packets) ->
    {ok, lists:reverse(Packets), keep(Rest, 4)}.

-spec keep(binary(), pos_integer()) -> buffer().
keep(Rest, Need) ->
    #buffer{need = Need, have = byte_size(Rest), chunks = [Rest]}.

%% @doc Reads the code and the stream of a packet, or of what the BEAM says, and nothing else of it.
-spec head(packet()) -> {Code :: byte(), stream()} | error.
head(<<2#1001:4, _:4, Code, Stream, _/binary>>) when Stream < 16#80 -> {Code, Stream};
head(<<2#1001:4, _:4, Code, 16#cc, Stream, _/binary>>) -> {Code, Stream};
head(<<2#1001:4, _:4, Code, 16#cd, Stream:16, _/binary>>) -> {Code, Stream};
head(<<2#1001:4, _:4, Code, 16#ce, Stream:32, _/binary>>) -> {Code, Stream};
head(<<2#1001:4, _:4, Code, 16#cf, Stream:64, _/binary>>) -> {Code, Stream};
head(_) -> error.

%% @doc Tells whether a response is whole with a packet: both messages of one end with `more'.
-spec is_last_part(packet()) -> boolean().
is_last_part(Packet) -> binary:last(Packet) =:= 16#c2.

%% @doc Tells whether others than the app may add to the event stream that begins with a packet.
-spec is_forwardable(packet()) -> boolean().
is_forwardable(Packet) -> binary:last(Packet) =:= 16#c3.

%% @doc Decodes a packet.
%%
%% Exactly the fields of the document are accepted, each of its type, with nothing after them.
%% Only the arguments of an op, or a tell, are left as they came, for {@link args/1}.
-spec decode(packet()) -> {ok, message()} | {error, reason()}.
decode(<<16#93, ?SEND_TEXT, Rest/binary>>) -> payload(Rest, send_text);
decode(<<16#93, ?SEND_BYTES, Rest/binary>>) -> payload(Rest, send_bytes);
decode(<<2#1001:4, N:4, Code, Rest/binary>>) -> decode(layout(Code), N - 2, Code, Rest);
decode(_) -> {error, malformed}.

%% The hot messages: no general decoder, and the stream in any of its sizes.
-spec payload(binary(), send_text | send_bytes) -> {ok, message()} | {error, reason()}.
payload(<<S, Rest/binary>>, Name) when S > 0, S < 16#80 -> payload(Rest, Name, S);
payload(<<16#cc, S, Rest/binary>>, Name) when S > 0 -> payload(Rest, Name, S);
payload(<<16#cd, S:16, Rest/binary>>, Name) when S > 0 -> payload(Rest, Name, S);
payload(<<16#ce, S:32, Rest/binary>>, Name) when S > 0 -> payload(Rest, Name, S);
payload(<<16#cf, S:64, Rest/binary>>, Name) when S > 0 -> payload(Rest, Name, S);
payload(_, Name) -> {error, {bad_stream, Name}}.

-spec payload(binary(), send_text | send_bytes, stream()) -> {ok, message()} | {error, reason()}.
payload(<<16#c4, N, Bytes:N/binary>>, Name, S) -> {ok, {Name, S, Bytes}};
payload(<<16#c5, N:16, Bytes:N/binary>>, Name, S) -> {ok, {Name, S, Bytes}};
payload(<<16#c6, N:32, Bytes:N/binary>>, Name, S) -> {ok, {Name, S, Bytes}};
payload(_, Name, _) -> {error, {bad_field, Name, bin}}.

%% What may be as long as an app likes.
-define(HAS_PAYLOAD(Code),
    (Code =:= ?RESPONSE orelse Code =:= ?RESPONSE_START orelse Code =:= ?RESPONSE_BODY orelse
        Code =:= ?OP orelse Code =:= ?TELL orelse Code =:= ?RESULT orelse Code =:= ?ITEM orelse
        Code =:= ?MULTICAST_TEXT orelse Code =:= ?MULTICAST_BYTES)
).

%% All others. `worker' messages are about the worker: their stream is 0 and is left out;
%% `stream' messages have a stream; `both' may have either.
-type type() ::
    uint | bool | str | optional_str | bin | map | headers | streams | any | rest.
-type layout() :: {name(), worker | stream | both, [type()]}.

-spec layout(byte()) -> layout() | undefined.
layout(?CREDIT) -> {credit, both, [uint, uint]};
layout(?HEARTBEAT) -> {heartbeat, worker, [uint]};
layout(?HELLO) -> {hello, worker, [uint, map]};
layout(?READY) -> {ready, worker, [map]};
layout(?FAILED) -> {failed, worker, [str, str, str, str]};
layout(?RESPONSE) -> {response, stream, [uint, headers, bin]};
layout(?RESPONSE_START) -> {response_start, stream, [uint, headers, bin, bool]};
layout(?RESPONSE_BODY) -> {response_body, stream, [bin, bool]};
layout(?EVENT_STREAM) -> {event_stream, stream, [uint, headers, bool]};
layout(?ACCEPT) -> {accept, stream, [optional_str, headers]};
layout(?SEND_TEXT) -> {send_text, stream, [bin]};
layout(?SEND_BYTES) -> {send_bytes, stream, [bin]};
layout(?CLOSE) -> {close, stream, [uint, bin]};
layout(?ENDED) -> {ended, stream, [optional_str, str, str]};
layout(?LOG) -> {log, worker, [uint, str, str]};
layout(?OP) -> {op, both, [uint, uint, rest]};
layout(?TELL) -> {tell, both, [uint, uint, rest]};
layout(?STOPPED) -> {stopped, worker, []};
layout(?RESULT) -> {result, worker, [uint, uint, any]};
layout(?ITEM) -> {item, worker, [uint, bin]};
layout(?MOVED) -> {moved, stream, []};
layout(?FLUSHED) -> {flushed, stream, []};
layout(?MULTICAST_TEXT) -> {multicast_text, worker, [streams, bin]};
layout(?MULTICAST_BYTES) -> {multicast_bytes, worker, [streams, bin]};
layout(_) -> undefined.

-spec decode(layout() | undefined, integer(), byte(), binary()) ->
    {ok, message()} | {error, reason()}.
decode(undefined, _, Code, _) ->
    {error, {unknown_code, Code}};
decode({Name, _, _}, _, Code, Rest)
        when byte_size(Rest) > ?MAX_PLAIN_PACKET - 2, not ?HAS_PAYLOAD(Code) ->
    {error, {too_long, Name}};
decode({Name, Who, Types}, Count, _, Rest) when length(Types) =:= Count ->
    case field(uint, Rest) of
        {0, Fields} when Who =:= worker -> fields(Types, Fields, Name, [Name]);
        {0, Fields} when Who =:= both -> fields(Types, Fields, Name, [0, Name]);
        {S, Fields} when Who =/= worker, S > 0 -> fields(Types, Fields, Name, [S, Name]);
        _ -> {error, {bad_stream, Name}}
    end;
decode({Name, _, _}, _, _, _) ->
    {error, {field_count, Name}}.

-spec fields([type()], binary(), name(), [term()]) -> {ok, message()} | {error, reason()}.
fields([], <<>>, _, Done) ->
    {ok, list_to_tuple(lists:reverse(Done))};
fields([], _, Name, _) ->
    {error, {field_count, Name}};
fields([Type | Types], Binary, Name, Done) ->
    case field(Type, Binary) of
        {Value, Rest} -> fields(Types, Rest, Name, [Value | Done]);
        error -> {error, {bad_field, Name, Type}}
    end.

-spec field(type(), binary()) -> {term(), Rest :: binary()} | error.
field(uint, <<N, Rest/binary>>) when N < 16#80 -> {N, Rest};
field(uint, <<16#cc, N, Rest/binary>>) -> {N, Rest};
field(uint, <<16#cd, N:16, Rest/binary>>) -> {N, Rest};
field(uint, <<16#ce, N:32, Rest/binary>>) -> {N, Rest};
field(uint, <<16#cf, N:64, Rest/binary>>) -> {N, Rest};
field(bool, <<16#c2, Rest/binary>>) -> {false, Rest};
field(bool, <<16#c3, Rest/binary>>) -> {true, Rest};
field(bin, <<16#c4, N, Bytes:N/binary, Rest/binary>>) -> {Bytes, Rest};
field(bin, <<16#c5, N:16, Bytes:N/binary, Rest/binary>>) -> {Bytes, Rest};
field(bin, <<16#c6, N:32, Bytes:N/binary, Rest/binary>>) -> {Bytes, Rest};
field(optional_str, <<16#c0, Rest/binary>>) -> {undefined, Rest};
field(optional_str, Binary) -> field(str, Binary);
field(str, <<2#101:3, _:5, _/binary>> = Binary) -> value(Binary);
field(str, <<Tag, _/binary>> = Binary) when Tag >= 16#d9, Tag =< 16#db -> value(Binary);
field(map, <<2#1000:4, _:4, _/binary>> = Binary) -> value(Binary);
field(map, <<Tag, _/binary>> = Binary) when Tag =:= 16#de; Tag =:= 16#df -> value(Binary);
field(headers, <<2#1001:4, N:4, Rest/binary>>) -> headers(N, Rest, []);
field(headers, <<16#dc, N:16, Rest/binary>>) -> headers(N, Rest, []);
field(streams, <<2#1001:4, N:4, Rest/binary>>) -> streams(N, Rest, []);
field(streams, <<16#dc, N:16, Rest/binary>>) -> streams(N, Rest, []);
field(any, Binary) -> value(Binary);
field(rest, Binary) -> {Binary, <<>>};
field(_, _) -> error.

-spec value(binary()) -> {term(), Rest :: binary()} | error.
value(Binary) ->
    case hornbeam_msgpack:decode(Binary) of
        {ok, Value, Rest} -> {Value, Rest};
        {error, _} -> error
    end.

%% Of these there are 65 535 at most, as of streams.
-spec headers(non_neg_integer(), binary(), headers()) -> {headers(), Rest :: binary()} | error.
headers(0, Rest, Done) ->
    {lists:reverse(Done), Rest};
headers(N, <<16#92, Pair/binary>>, Done) ->
    case field(bin, Pair) of
        {Name, Rest} -> header(N, Name, field(bin, Rest), Done);
        error -> error
    end;
headers(_, _, _) ->
    error.

-spec header(pos_integer(), Name :: binary(), {Value :: term(), binary()} | error, headers()) ->
    {headers(), Rest :: binary()} | error.
header(N, Name, {Value, Rest}, Done) -> headers(N - 1, Rest, [{Name, Value} | Done]);
header(_, _, error, _) -> error.

%% Of these there are 65 535 at most.
-spec streams(non_neg_integer(), binary(), [stream()]) -> {[stream()], Rest :: binary()} | error.
streams(0, Rest, Done) ->
    {lists:reverse(Done), Rest};
streams(N, Binary, Done) ->
    case field(uint, Binary) of
        {Stream, Rest} when Stream > 0 -> streams(N - 1, Rest, [Stream | Done]);
        _ -> error
    end.

%% @doc Decodes the arguments of an op.
-spec args(Args :: binary()) -> {ok, [term()]} | {error, hornbeam_msgpack:reason() | not_an_array}.
args(Binary) ->
    case hornbeam_msgpack:decode_all(Binary) of
        {ok, Args} when is_list(Args) -> {ok, Args};
        {ok, _} -> {error, not_an_array};
        {error, _} = Error -> Error
    end.

%% @doc Builds the packet with which the app closes a WebSocket.
-spec close(stream(), Code :: non_neg_integer(), Reason :: binary()) -> packet().
close(Stream, Code, Reason) ->
    encode([?CLOSE, Stream, Code, hornbeam_msgpack:bytes(Reason)]).

%% @doc Builds the packet with which Python gives a stream away.
-spec moved(stream()) -> packet().
moved(Stream) ->
    encode([?MOVED, Stream]).

-spec encode([term()]) -> packet().
encode(Message) ->
    iolist_to_binary(hornbeam_msgpack:encode(Message)).
