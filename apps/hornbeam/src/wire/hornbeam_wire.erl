%% @doc What the BEAM tells a Python worker, as bytes.
%%
%% Knows docs/wire.md: codes and fields. Must not know processes, ports or what a message is for: it
%% is pure. What Python says is read by {@link hornbeam_packet}.
%%
%% One function for each message that the BEAM sends, named as in the document, with the stream
%% first (where the message has one) and then the fields in their order.
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
    tell_failed/5,
    refused/1,
    reopen_websocket/5,
    pack_rest/1,
    pack_tls/1
]).
-export_type([code/0, config/0, headers/0, packed_rest/0, packed_tls/0, ref/0, scope/0, stream/0,
              service_config/0, visitor_config/0]).

-type code() :: 1..127.
-type stream() :: non_neg_integer().
-type ref() :: non_neg_integer().
-type headers() :: [{Name :: binary(), Value :: binary()}].

-type config() :: #{
    app := binary(),
    interface := binary(),
    threads := pos_integer() | undefined,
    pythonpath := [binary()],
    root_path := binary(),
    lifespan := auto | on | off,
    loop := auto | uvloop | asyncio,
    worker := binary(),
    stream_window := {Bytes :: pos_integer(), Messages :: pos_integer()},
    worker_window := pos_integer(),
    tell_window := pos_integer(),
    max_message := pos_integer(),
    op_timeout := pos_integer(),
    hang_timeout := pos_integer() | undefined,
    pubsub_queue_messages := pos_integer(),
    pubsub_queue_bytes := pos_integer(),
    limit_response_head := pos_integer(),
    limit_response_fields := pos_integer(),
    resume := boolean()
}.

-type visitor_config() :: #{
    worker_window := pos_integer(),
    tell_window := pos_integer(),
    op_timeout := pos_integer(),
    pubsub_queue_messages := pos_integer(),
    pubsub_queue_bytes := pos_integer(),
    apps := [[binary()]]
}.

-type service_config() :: #{apps := [[binary()]], os_pid := pos_integer()}.

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
    rest => packed_rest(),
    tls => packed_tls() | none
}.
%% The last four, or `rest' in place of them: they are often those of the request before.
-opaque packed_rest() :: binary().
-opaque packed_tls() :: binary().

%% @doc Returns the version of the wire that this module speaks.
-spec version() -> pos_integer().
version() -> ?WIRE_VERSION.

%% @doc Answers `hello' with what the worker is to run, or with what a visitor has to know.
-spec start(config() | visitor_config() | service_config()) -> iodata().
start(Config) ->
    Plain = plain(Config),
    Named = [{atom_to_binary(Key), Value} || {Key, Value} <- maps:to_list(Plain)],
    [head(3, ?START, 0), hornbeam_msgpack:encode(maps:from_list(Named))].

plain(#{stream_window := {Bytes, Messages}, lifespan := Lifespan, loop := Loop} = Config) ->
    Config#{stream_window := [Bytes, Messages], lifespan := atom_to_binary(Lifespan),
            loop := atom_to_binary(Loop)};
plain(#{apps := _} = Config) ->
    Config.

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

%% @doc Says that an op whose answer nobody waits for has failed, with a value as for a reply.
-spec tell_failed(stream(), ref(), Op :: non_neg_integer(), Status :: pos_integer(),
                  Value :: iodata()) -> iodata().
tell_failed(Stream, Ref, Op, Status, Value) ->
    [
        head(6, ?TELL_FAILED, Stream),
        hornbeam_msgpack:uint(Ref),
        hornbeam_msgpack:uint(Op),
        hornbeam_msgpack:uint(Status),
        Value
    ].

%% @doc Tells a visitor why it is not let in.
-spec refused(Sentence :: binary()) -> iodata().
refused(Sentence) ->
    [head(3, ?REFUSED, 0), text(Sentence)].

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
    Tls = tls(Scope),
    [
        hornbeam_msgpack:array(9 + length(Tls)),
        text(HttpVersion),
        text(Scheme),
        text(Method),
        bin(RawPath),
        bin(QueryString),
        rest(Scope)
        | Tls
    ].

tls(#{tls := Packed}) when is_binary(Packed) -> [Packed];
tls(_Scope) -> [].

%% @doc Packs what scopes say of a connection's TLS.
-spec pack_tls({Version :: non_neg_integer(), Cipher :: binary(), Server :: binary(),
                Client :: {Certificate :: binary(), Subject :: binary()} | none}) -> packed_tls().
pack_tls({Version, Cipher, Server, Client}) ->
    iolist_to_binary([hornbeam_msgpack:array(5), hornbeam_msgpack:uint(Version), text(Cipher),
                      bin(Server) | client(Client)]).

client(none) ->
    [hornbeam_msgpack:array(0), hornbeam_msgpack:nil()];
client({Certificate, Subject}) ->
    [hornbeam_msgpack:array(1), bin(Certificate), text(Subject)].

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
    %% Most is short and ASCII, which is found out sooner by a look.
    case is_ascii(Binary) orelse hornbeam_utf8:is_valid(Binary) of
        true -> hornbeam_msgpack:str(Binary);
        false -> hornbeam_msgpack:str(<<<<Byte/utf8>> || <<Byte>> <= Binary>>)
    end.

is_ascii(<<Char, Rest/binary>>) when Char < 128 -> is_ascii(Rest);
is_ascii(Rest) -> Rest =:= <<>>.

-spec bin(iodata()) -> iodata().
bin(Bytes) -> hornbeam_msgpack:bin(Bytes).
