%% What a client of HTTP/1.1 sends: read from its socket, and cut into heads and bodies.
%%
%% How much is read, and of what size a body may be, is bounded here; what the bytes mean stands in
%% hornbeam_http1_head and hornbeam_http1_body. It knows nothing of who is to have them: its owner
%% gets the socket's messages, adds what comes, and takes what is there.
-module(hornbeam_http1_reader).

-include("hornbeam_http1_head.hrl").

-export([new/2, listen/1, read_ahead/1, passive/1, add/2, last_look/1, release/1, release_http2/1,
         idle/1]).
-export([has_news/1, is_empty/1, is_http2/1, head/1, known_fields/2, start/1]).
-export([begin_body/3, has_body/1, first_body/1, body/1]).
-export([can_skip_body/2, begin_skip/1, skip_body/1]).
-export_type([reader/0]).

-record(reader, {
    socket :: hornbeam_socket:socket(),
    limits :: hornbeam_http1_head:limits(),
    %% how the socket is read, and whether it is listened to
    reads :: hornbeam_read_buffer:buffer(),
    listening = false :: boolean(),
    %% what was read and not taken yet, and how much of it was looked through for a head's end
    buffer = <<>> :: binary(),
    scanned = 0 :: non_neg_integer(),
    %% of the request before: the same are not read again
    fields = none :: hornbeam_http1_head:fields() | none,
    %% the body that is being read, and what may still come of it (bytes)
    body = none :: hornbeam_http1_body:body() | none,
    left = infinity :: non_neg_integer() | infinity
}).
-opaque reader() :: #reader{}.

%% So much is read ahead of whoever is to take it (bytes). A head may be longer.
-define(READ_AHEAD, 65536).

%% So much of a body that the app did not want is read away to keep the connection (bytes).
-define(MOST_UNREAD, 1000000).

%% @doc Of a socket that nobody reads yet.
-spec new(hornbeam_socket:socket(), hornbeam_http1_head:limits()) -> reader().
new(Socket, Limits) ->
    #reader{socket = Socket, limits = Limits, reads = hornbeam_read_buffer:new(Socket)}.

%% @doc Have more of the socket come as messages. What fails here comes as one, too.
-spec listen(reader()) -> reader().
listen(#reader{listening = true} = Reader) ->
    Reader;
listen(#reader{socket = {Transport, Socket}, reads = Reads} = Reader) ->
    _ = Transport:setopts(Socket, [{active, hornbeam_read_buffer:reads(Reads)}]),
    Reader#reader{listening = true}.

%% @doc The same, unless enough is there that nobody wants yet.
-spec read_ahead(reader()) -> reader().
read_ahead(#reader{buffer = Buffer} = Reader) when byte_size(Buffer) >= ?READ_AHEAD -> Reader;
read_ahead(Reader) -> listen(Reader).

%% @doc The socket sends no more messages until it is listened to again.
-spec passive(reader()) -> reader().
passive(Reader) ->
    Reader#reader{listening = false}.

%% @doc This has come.
-spec add(binary(), reader()) -> reader().
add(Data, #reader{reads = Reads, buffer = Buffer} = Reader) ->
    Reader#reader{reads = hornbeam_read_buffer:read(byte_size(Data), true, Reads),
                  buffer = behind(Buffer, Data)}.

behind(<<>>, Data) -> Data;
behind(Buffer, Data) -> <<Buffer/binary, Data/binary>>.

%% @doc What has come that no message has told of yet, if anything has.
-spec last_look(reader()) -> {ok, reader()} | none.
last_look(#reader{socket = {Transport, Socket}} = Reader) ->
    _ = Transport:setopts(Socket, [{active, false}]),
    Told = unread(Socket),
    case iolist_to_binary([Told | [Data || {ok, Data} <- [Transport:recv(Socket, 0, 0)]]]) of
        <<>> -> none;
        Come -> {ok, add(Come, Reader#reader{listening = false})}
    end.

%% @doc A WebSocket reads on: how, what has come of it, and whether more comes as messages.
-spec release(reader()) ->
    #{socket := hornbeam_socket:socket(), reads := hornbeam_read_buffer:buffer(),
      first := binary(), listening := boolean()}.
release(#reader{socket = Socket, reads = Reads, buffer = Buffer, listening = Listening}) ->
    #{socket => Socket, reads => Reads, first => Buffer, listening => Listening}.

%% @doc Another process reads on: the socket is passive, and this has come.
-spec release_http2(reader()) -> First :: binary().
release_http2(#reader{socket = {Transport, Socket}, buffer = Buffer}) ->
    _ = Transport:setopts(Socket, [{active, false}]),
    iolist_to_binary([Buffer | unread(Socket)]).

unread(Socket) ->
    receive
        {Tag, Socket, Data} when Tag =:= tcp; Tag =:= ssl -> [Data | unread(Socket)];
        {Tag, Socket} when Tag =:= tcp_passive; Tag =:= ssl_passive -> unread(Socket)
    after 0 ->
        []
    end.

%% @doc The client is silent: nothing is kept for its next request.
-spec idle(reader()) -> reader().
idle(#reader{reads = Reads} = Reader) ->
    Reader#reader{fields = none, reads = hornbeam_read_buffer:quiet(Reads)}.

%% @doc Whether something has come that was not looked through for a head.
-spec has_news(reader()) -> boolean().
has_news(#reader{buffer = Buffer, scanned = Scanned}) ->
    byte_size(Buffer) > Scanned.

%% @doc Whether all that has come was taken.
-spec is_empty(reader()) -> boolean().
is_empty(#reader{buffer = Buffer}) ->
    Buffer =:= <<>>.

%% @doc Whether the client begins with HTTP/2. Over TLS it says so in the handshake.
-spec is_http2(reader()) -> boolean().
is_http2(#reader{socket = {ranch_tcp, _}, buffer = <<"PRI * HTTP/2.0\r\n", _/binary>>}) -> true;
is_http2(_Reader) -> false.

%% @doc Take the head of a request.
-spec head(reader()) ->
    {ok, hornbeam_http1_head:line(), hornbeam_http1_head:fields(), reader()}
    | {more, reader()}
    | {fault, hornbeam_error_response:fault()}.
head(#reader{buffer = Buffer, scanned = Scanned, fields = Last, limits = Limits} = Reader) ->
    case hornbeam_http1_head:read(Buffer, Scanned, Last, Limits) of
        {ok, Line, Fields, Behind} ->
            {ok, Line, Fields, Reader#reader{buffer = Behind, scanned = 0}};
        {more, Rest, Seen} ->
            {more, Reader#reader{buffer = Rest, scanned = Seen}};
        {fault, _} = Fault ->
            Fault
    end.

%% @doc What is known of the fields of the last request, if that is worth to be kept.
-spec known_fields(hornbeam_http1_head:fields() | none, reader()) -> reader().
known_fields(Fields, Reader) ->
    Reader#reader{fields = Fields}.

%% @doc What a head begins with that cannot be read.
-spec start(reader()) -> binary().
start(#reader{buffer = Buffer}) ->
    Buffer.

%% @doc The body of the request whose head was taken comes next, of so many bytes at the most.
-spec begin_body(none | non_neg_integer() | unknown, Most :: non_neg_integer() | infinity,
                 reader()) -> reader().
begin_body(none, _Most, #reader{body = none} = Reader) ->
    Reader;
begin_body(Length, Most, #reader{limits = Limits} = Reader) ->
    Reader#reader{body = hornbeam_http1_body:new(Length, Limits), left = Most}.

%% @doc Whether some of the request's body was not taken.
-spec has_body(reader()) -> boolean().
has_body(#reader{body = Body}) ->
    Body =/= none.

%% @doc Take what has come of the body with its head, and say whether more is to come.
-spec first_body(reader()) -> {iodata(), More :: boolean(), reader()}.
first_body(#reader{body = none} = Reader) ->
    {<<>>, false, Reader};
first_body(Reader) ->
    case body(Reader) of
        {ok, Data, Rest} -> {Data, has_body(Rest), Rest};
        %% It is told when it is looked at again, behind the begin.
        {fault, _Fault} -> {<<>>, true, Reader}
    end.

%% @doc Take all of the body that is there; a body that grows too large is a fault.
-spec body(reader()) -> {ok, iodata(), reader()} | {fault, hornbeam_error_response:fault()}.
body(#reader{buffer = Buffer, body = Body, left = Left} = Reader) ->
    case hornbeam_http1_body:decode(Buffer, Body) of
        {more, Data, Rest} -> counted(Data, Left, Reader#reader{buffer = <<>>, body = Rest});
        {done, Data, Behind} -> counted(Data, Left, Reader#reader{buffer = Behind, body = none});
        {fault, _} = Fault -> Fault
    end.

counted(Data, infinity, Reader) ->
    {ok, Data, Reader};
counted(Data, Left, Reader) ->
    case Left - iolist_size(Data) of
        TooMuch when TooMuch < 0 -> {fault, body_too_large};
        Rest -> {ok, Data, Reader#reader{left = Rest}}
    end.

%% @doc Whether the rest of the body can be taken away to keep the connection: it is not too much,
%% and the client sends it, also if it has waited to be asked.
-spec can_skip_body(IsUnasked :: boolean(), reader()) -> boolean().
can_skip_body(_IsUnasked, #reader{body = none}) ->
    true;
can_skip_body(IsUnasked, #reader{buffer = Buffer, body = Body}) ->
    is_short(hornbeam_http1_body:left(Body)) andalso (Buffer =/= <<>> orelse not IsUnasked).

is_short(unknown) -> true;
is_short(Left) -> Left =< ?MOST_UNREAD.

%% @doc Nobody wants the rest of the body.
-spec begin_skip(reader()) -> reader().
begin_skip(Reader) ->
    Reader#reader{left = ?MOST_UNREAD}.

%% @doc Take the body away that nobody wants, as far as it has come.
-spec skip_body(reader()) -> {done | more, reader()} | {fault, hornbeam_error_response:fault()}.
skip_body(#reader{body = none} = Reader) ->
    {done, Reader};
skip_body(#reader{buffer = <<>>} = Reader) ->
    {more, Reader};
skip_body(Reader) ->
    case body(Reader) of
        {ok, _Data, Rest} -> skip_body(Rest);
        {fault, _} = Fault -> Fault
    end.
