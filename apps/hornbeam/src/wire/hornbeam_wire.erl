%% @doc The messages between the BEAM and a Python worker, as bytes.
%%
%% Knows docs/wire.md: codes, fields and framing. Must not know processes, ports or what a
%% message is for: it is pure.
%%
%% One function for each message that the BEAM sends, named as in the document, with the stream
%% first (where the message has one) and then the fields in their order. What Python sends is
%% cut out of the stream of bytes by {@link packets/2}, assigned by {@link route/1}, and taken
%% apart by {@link decode/1}. Packets and the binaries in messages are parts of what was read and
%% keep it alive: copy what is kept for long.
-module(hornbeam_wire).

-include("hornbeam_wire.hrl").

-export([version/0]).
-export([
    start/1,
    open_http/4,
    open_websocket/2,
    request_body/3,
    receive_text/2,
    receive_bytes/2,
    disconnect/3,
    accepted/1,
    credit/3,
    reply/4,
    stop/1,
    event/2,
    call/6,
    more/2,
    cancel/1,
    heartbeat/1,
    move/1,
    flush/1,
    reopen_websocket/5,
    pack_rest/1
]).
-export([new_buffer/0, packets/2, route/1, decode/1, args/1]).
-export_type([
    buffer/0, code/0, config/0, headers/0, message/0, packed_rest/0, reason/0, ref/0, scope/0,
    stream/0
]).

%% The longest packet from Python, in bytes; and the longest of those that carry no payload.
-define(MAX_PACKET, 134217728).
-define(MAX_PLAIN_PACKET, 1048576).

-type code() :: 1..127.
-type stream() :: non_neg_integer().
-type ref() :: non_neg_integer().
-type headers() :: [{Name :: binary(), Value :: binary()}].

-type config() :: #{
    app := binary(),
    interface := binary(),
    pythonpath := [binary()],
    root_path := binary(),
    lifespan := auto | on | off,
    loop := auto | uvloop | asyncio,
    worker := binary(),
    stream_window := {Bytes :: pos_integer(), Messages :: pos_integer()},
    worker_window := pos_integer(),
    max_message := pos_integer(),
    op_timeout := pos_integer(),
    hang_timeout := pos_integer() | undefined,
    pubsub_queue_messages := pos_integer(),
    pubsub_queue_bytes := pos_integer(),
    limit_response_head := pos_integer(),
    limit_response_fields := pos_integer(),
    resume := boolean()
}.

-type scope() :: #{
    http_version := binary(),
    scheme := binary(),
    method := binary(),
    raw_path := binary(),
    query_string := binary(),
    headers => headers(),
    client => {Host :: binary(), inet:port_number()} | undefined,
    server => {HostOrPath :: binary(), inet:port_number() | undefined} | undefined,
    connect => map() | undefined,
    rest => packed_rest()
}.
%% The last four, or `rest' in place of them: they are often those of the request before.
-opaque packed_rest() :: binary().

-type message() ::
    {hello, Version :: non_neg_integer(), About :: map()}
    | {ready, About :: map()}
    | {failed, Stage :: binary(), Class :: binary(), Message :: binary(), Traceback :: binary()}
    | {response_start, stream(), Status :: non_neg_integer(), Headers :: headers(),
        Body :: binary(), More :: boolean()}
    | {response_body, stream(), Body :: binary(), More :: boolean()}
    | {accept, stream(), Subprotocol :: binary() | undefined, Headers :: headers()}
    | {send_text, stream(), Text :: binary()}
    | {send_bytes, stream(), Bytes :: binary()}
    | {close, stream(), Code :: non_neg_integer(), Reason :: binary()}
    | {ended, stream(), Class :: binary() | undefined, Message :: binary(),
        Traceback :: binary()}
    | {credit, stream(), Bytes :: non_neg_integer(), Messages :: non_neg_integer()}
    | {log, Level :: non_neg_integer(), Logger :: binary(), Text :: binary()}
    | {op, stream(), Ref :: ref(), Op :: non_neg_integer(), Args :: binary()}
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

%% @doc Returns the version of the wire that this module speaks.
-spec version() -> pos_integer().
version() -> ?WIRE_VERSION.

%%% From the BEAM to Python

%% @doc Answers `hello' with what the worker is to run.
-spec start(config()) -> iodata().
start(Config) ->
    #{stream_window := {Bytes, Messages}, lifespan := Lifespan, loop := Loop} = Config,
    Map = #{
        <<"app">> => maps:get(app, Config),
        <<"interface">> => maps:get(interface, Config),
        <<"pythonpath">> => maps:get(pythonpath, Config),
        <<"root_path">> => maps:get(root_path, Config),
        <<"lifespan">> => atom_to_binary(Lifespan),
        <<"loop">> => atom_to_binary(Loop),
        <<"worker">> => maps:get(worker, Config),
        <<"stream_window">> => [Bytes, Messages],
        <<"worker_window">> => maps:get(worker_window, Config),
        <<"max_message">> => maps:get(max_message, Config),
        <<"op_timeout">> => maps:get(op_timeout, Config),
        <<"hang_timeout">> => maps:get(hang_timeout, Config),
        <<"pubsub_queue_messages">> => maps:get(pubsub_queue_messages, Config),
        <<"pubsub_queue_bytes">> => maps:get(pubsub_queue_bytes, Config),
        <<"limit_response_head">> => maps:get(limit_response_head, Config),
        <<"limit_response_fields">> => maps:get(limit_response_fields, Config),
        <<"resume">> => maps:get(resume, Config)
    },
    [head(3, ?START, 0), hornbeam_msgpack:encode(Map)].

%% @doc Opens an HTTP exchange with the first part of its request body.
-spec open_http(stream(), scope(), Body :: iodata(), More :: boolean()) -> iodata().
open_http(Stream, Scope, Body, More) ->
    [head(5, ?OPEN_HTTP, Stream), scope(Scope), bin(Body), hornbeam_msgpack:bool(More)].

%% @doc Opens a WebSocket, whose handshake waits for the app's answer.
-spec open_websocket(stream(), scope()) -> iodata().
open_websocket(Stream, Scope) ->
    [head(3, ?OPEN_WEBSOCKET, Stream), scope(Scope)].

%% @doc Opens a stream for a WebSocket that had another worker; its client sees nothing of it.
-spec reopen_websocket(stream(), scope(), Attempt, Reason, Topics) -> iodata() when
    Attempt :: pos_integer(), Reason :: binary(), Topics :: [binary()].
reopen_websocket(Stream, Scope, Attempt, Reason, Topics) ->
    [
        head(6, ?REOPEN_WEBSOCKET, Stream),
        scope(Scope),
        hornbeam_msgpack:uint(Attempt),
        text(Reason),
        hornbeam_msgpack:array(length(Topics)),
        [text(Topic) || Topic <- Topics]
    ].

%% @doc Takes a stream away from a worker, so that another can have it.
-spec move(stream()) -> iodata().
move(Stream) ->
    head(2, ?MOVE, Stream).

%% @doc Asks to be told when the app has taken what came before and asks for more.
-spec flush(stream()) -> iodata().
flush(Stream) ->
    head(2, ?FLUSH, Stream).

%% @doc Continues an HTTP request's body.
-spec request_body(stream(), Body :: iodata(), More :: boolean()) -> iodata().
request_body(Stream, Body, More) ->
    [head(4, ?REQUEST_BODY, Stream), bin(Body), hornbeam_msgpack:bool(More)].

%% @doc Passes on a text message of the client; Python checks that it is UTF-8.
-spec receive_text(stream(), Text :: iodata()) -> iodata().
receive_text(Stream, Text) ->
    [head(3, ?RECEIVE_TEXT, Stream) | bin(Text)].

%% @doc Passes on a binary message of the client.
-spec receive_bytes(stream(), Bytes :: iodata()) -> iodata().
receive_bytes(Stream, Bytes) ->
    [head(3, ?RECEIVE_BYTES, Stream) | bin(Bytes)].

%% @doc Says that the client is gone: a WebSocket with its close code, HTTP without one.
-spec disconnect(stream(), Code :: non_neg_integer() | undefined, Reason :: iodata()) -> iodata().
disconnect(Stream, undefined, Reason) ->
    [head(4, ?DISCONNECT, Stream), hornbeam_msgpack:nil(), bin(Reason)];
disconnect(Stream, Code, Reason) ->
    [head(4, ?DISCONNECT, Stream), hornbeam_msgpack:uint(Code), bin(Reason)].

%% @doc Answers `accept' once the connection process owns the stream.
-spec accepted(stream()) -> iodata().
accepted(Stream) ->
    head(2, ?ACCEPTED, Stream).

%% @doc Lets Python send so much more; on stream 0 it is the credit of the whole worker.
-spec credit(stream(), Bytes :: non_neg_integer(), Messages :: non_neg_integer()) -> iodata().
credit(Stream, Bytes, Messages) ->
    [
        head(4, ?CREDIT, Stream),
        hornbeam_msgpack:uint(Bytes),
        hornbeam_msgpack:uint(Messages)
    ].

%% @doc Answers an op with a value that {@link hornbeam_msgpack} has encoded.
-spec reply(stream(), ref(), Status :: non_neg_integer(), Value :: iodata()) -> iodata().
reply(Stream, Ref, Status, Value) ->
    [
        head(5, ?REPLY, Stream),
        hornbeam_msgpack:uint(Ref),
        hornbeam_msgpack:uint(Status),
        Value
    ].

%% @doc Asks the worker for an orderly end within some milliseconds.
-spec stop(Timeout :: non_neg_integer()) -> iodata().
stop(Timeout) ->
    [head(3, ?STOP, 0), hornbeam_msgpack:uint(Timeout)].

%% @doc Brings a published value, already encoded, to all of a worker's subscribers.
-spec event(Topic :: binary(), Value :: iodata()) -> iodata().
event(Topic, Value) ->
    [head(4, ?EVENT, 0), text(Topic), bin(Value)].

%% @doc Runs Python code: a function (mode 0), a hook (1), a hook's stream of items (2).
%%
%% The arguments are encoded already: an array, and a map with keys of text.
-spec call(ref(), Mode, Target, Function, Args :: iodata(), Kwargs :: iodata()) -> iodata() when
    Mode :: 0..2, Target :: binary(), Function :: binary().
call(Ref, Mode, Target, Function, Args, Kwargs) ->
    [
        head(8, ?CALL, 0),
        hornbeam_msgpack:uint(Ref),
        hornbeam_msgpack:uint(Mode),
        text(Target),
        text(Function),
        bin(Args),
        bin(Kwargs)
    ].

%% @doc Asks a stream of items for so many more.
-spec more(ref(), Items :: non_neg_integer()) -> iodata().
more(Ref, Items) ->
    [head(4, ?MORE, 0), hornbeam_msgpack:uint(Ref), hornbeam_msgpack:uint(Items)].

%% @doc Says that nobody waits for a call any more.
-spec cancel(ref()) -> iodata().
cancel(Ref) ->
    [head(3, ?CANCEL, 0), hornbeam_msgpack:uint(Ref)].

%% @doc Asks whether the worker's loop turns; Python answers with the same number.
-spec heartbeat(Number :: non_neg_integer()) -> iodata().
heartbeat(Number) ->
    [head(3, ?HEARTBEAT, 0), hornbeam_msgpack:uint(Number)].

%% What every message opens with, as one small binary.
-spec head(Elements :: 2..15, code(), stream()) -> binary().
head(N, Code, Stream) when Stream < 16#80 ->
    <<2#1001:4, N:4, Code, Stream>>;
head(N, Code, Stream) when Stream =< 16#ff ->
    <<2#1001:4, N:4, Code, 16#cc, Stream>>;
head(N, Code, Stream) when Stream =< 16#ffff ->
    <<2#1001:4, N:4, Code, 16#cd, Stream:16>>;
head(N, Code, Stream) when Stream =< 16#ffffffff ->
    <<2#1001:4, N:4, Code, 16#ce, Stream:32>>;
head(N, Code, Stream) when Stream =< 16#ffffffffffffffff ->
    <<2#1001:4, N:4, Code, 16#cf, Stream:64>>.

-spec scope(scope()) -> iodata().
scope(#{
    http_version := HttpVersion,
    scheme := Scheme,
    method := Method,
    raw_path := RawPath,
    query_string := QueryString
} = Scope) ->
    [
        hornbeam_msgpack:array(9),
        text(HttpVersion),
        text(Scheme),
        text(Method),
        bin(RawPath),
        bin(QueryString),
        rest(Scope)
    ].

%% @doc Packs the rest of a scope, for others that have the same.
-spec pack_rest(scope()) -> packed_rest().
pack_rest(Scope) ->
    iolist_to_binary(rest(Scope)).

-spec rest(scope()) -> iodata().
rest(#{rest := Packed}) ->
    Packed;
rest(#{headers := Headers, client := Client, server := Server, connect := Connect}) ->
    [
        hornbeam_msgpack:array(length(Headers)),
        [[hornbeam_msgpack:array(2), bin(Name), bin(Value)] || {Name, Value} <- Headers],
        address(Client),
        address(Server),
        hornbeam_msgpack:encode(Connect)
    ].

-spec address({binary(), inet:port_number() | undefined} | undefined) -> iodata().
address(undefined) ->
    hornbeam_msgpack:nil();
address({Path, undefined}) ->
    [hornbeam_msgpack:array(2), text(Path), hornbeam_msgpack:nil()];
address({Host, Port}) ->
    [hornbeam_msgpack:array(2), text(Host), hornbeam_msgpack:uint(Port)].

%% A client chooses its method, and Erlang code a topic. Bytes that are not UTF-8 would be an
%% error of the whole wire on Python's side, so they travel as the Latin-1 characters that HTTP
%% once meant by them.
-spec text(binary()) -> iodata().
text(Binary) ->
    case hornbeam_utf8:is_valid(Binary) of
        true -> hornbeam_msgpack:str(Binary);
        false -> hornbeam_msgpack:str(<<<<Byte/utf8>> || <<Byte>> <= Binary>>)
    end.

-spec bin(iodata()) -> iodata().
bin(Bytes) -> hornbeam_msgpack:bin(Bytes).

%%% From Python to the BEAM: packets

%% @doc Returns the buffer to read a new worker's bytes with.
-spec new_buffer() -> buffer().
new_buffer() -> #buffer{}.

%% @doc Cuts the packets out of what was read, in order, and keeps what is not whole yet.
%%
%% A packet is a message without the length before it. A length beyond 128 MiB is an error, after
%% which the buffer is of no use.
-spec packets(Chunk :: binary(), buffer()) ->
    {ok, [Packet :: binary()], buffer()} | {error, {too_long, Bytes :: non_neg_integer()}}.
packets(Chunk, #buffer{chunks = []}) ->
    cut(Chunk, []);
packets(Chunk, #buffer{need = Need, have = Have, chunks = Chunks} = Buffer) ->
    case Have + byte_size(Chunk) of
        Enough when Enough >= Need -> cut(list_to_binary(lists:reverse(Chunks, [Chunk])), []);
        Less -> {ok, [], Buffer#buffer{have = Less, chunks = [Chunk | Chunks]}}
    end.

-spec cut(binary(), [binary()]) ->
    {ok, [binary()], buffer()} | {error, {too_long, non_neg_integer()}}.
cut(<<N:32, _/binary>>, _) when N > ?MAX_PACKET ->
    {error, {too_long, N}};
cut(<<N:32, Packet:N/binary, Rest/binary>>, Packets) ->
    cut(Rest, [Packet | Packets]);
cut(<<N:32, _/binary>> = Rest, Packets) ->
    {ok, lists:reverse(Packets), keep(Rest, 4 + N)};
cut(<<>>, Packets) ->
    {ok, lists:reverse(Packets), #buffer{}};
cut(Rest, Packets) ->
    {ok, lists:reverse(Packets), keep(Rest, 4)}.

-spec keep(binary(), pos_integer()) -> buffer().
keep(Rest, Need) ->
    #buffer{need = Need, have = byte_size(Rest), chunks = [Rest]}.

%% @doc Reads the code and the stream of a packet, and nothing else of it.
-spec route(Packet :: binary()) -> {Code :: byte(), stream()} | error.
route(<<2#1001:4, _:4, Code, Stream, _/binary>>) when Stream < 16#80 -> {Code, Stream};
route(<<2#1001:4, _:4, Code, 16#cc, Stream, _/binary>>) -> {Code, Stream};
route(<<2#1001:4, _:4, Code, 16#cd, Stream:16, _/binary>>) -> {Code, Stream};
route(<<2#1001:4, _:4, Code, 16#ce, Stream:32, _/binary>>) -> {Code, Stream};
route(<<2#1001:4, _:4, Code, 16#cf, Stream:64, _/binary>>) -> {Code, Stream};
route(_) -> error.

%%% From Python to the BEAM: messages

%% @doc Decodes a packet.
%%
%% Exactly the fields of the document are accepted, each of its type, with nothing after them.
%% Only the arguments of an op are left as they came, for {@link args/1}.
-spec decode(Packet :: binary()) -> {ok, message()} | {error, reason()}.
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
    (Code =:= ?RESPONSE_START orelse Code =:= ?RESPONSE_BODY orelse Code =:= ?OP orelse
        Code =:= ?RESULT orelse Code =:= ?ITEM orelse Code =:= ?MULTICAST_TEXT orelse
        Code =:= ?MULTICAST_BYTES)
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
layout(?RESPONSE_START) -> {response_start, stream, [uint, headers, bin, bool]};
layout(?RESPONSE_BODY) -> {response_body, stream, [bin, bool]};
layout(?ACCEPT) -> {accept, stream, [optional_str, headers]};
layout(?SEND_TEXT) -> {send_text, stream, [bin]};
layout(?SEND_BYTES) -> {send_bytes, stream, [bin]};
layout(?CLOSE) -> {close, stream, [uint, bin]};
layout(?ENDED) -> {ended, stream, [optional_str, str, str]};
layout(?LOG) -> {log, worker, [uint, str, str]};
layout(?OP) -> {op, both, [uint, uint, rest]};
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
