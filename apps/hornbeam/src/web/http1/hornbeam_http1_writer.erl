%% What a client of HTTP/1.1 gets: responses as bytes, gathered into few writes, and the end of the
%% connection behind the last of them.
%%
%% A response's end that cannot be reached is told by the end of the connection. Every other last
%% word is followed by a while in which the client may read it (hornbeam_socket:linger/1). How a
%% response is made of its parts stands in hornbeam_http1_response.
-module(hornbeam_http1_writer).

-export([new/1, write/2, state/1, flush/1]).
-export([respond/5, start/4, part/3, finish_part/2]).
-export([check_unsent/2, slow_since/1, has_started/1, ends_with_connection/1]).
-export([finish/1, close/1]).
-export_type([writer/0]).

-record(writer, {
    socket :: hornbeam_socket:socket(),
    %% what is to be written, the last first
    queue = [] :: [iodata()],
    %% a response of which more is to come
    response = none :: none | hornbeam_http1_response:response(),
    %% what the client had not taken of it when that was last looked at, and since when (ms)
    slow = none :: none | {Bytes :: pos_integer(), Since :: integer()}
}).
-opaque writer() :: #writer{}.

%% So much is gathered for one write (parts).
-define(MOST_QUEUED, 16).

%% @doc Nothing is to be written yet.
-spec new(hornbeam_socket:socket()) -> writer().
new(Socket) ->
    #writer{socket = Socket}.

%% @doc Write this with the next flush.
-spec write(iodata(), writer()) -> writer().
write([], Writer) -> Writer;
write(Bytes, #writer{queue = Queue} = Writer) -> Writer#writer{queue = [Bytes | Queue]}.

%% @doc Whether something waits for a flush, and whether it is so much that it is to wait no longer.
-spec state(writer()) -> none | some | full.
state(#writer{queue = []}) -> none;
state(#writer{queue = Queue}) when length(Queue) < ?MOST_QUEUED -> some;
state(#writer{}) -> full.

%% @doc Give all that waits to the socket; an error says that the client is gone.
-spec flush(writer()) -> {ok, writer()} | {error, term()}.
flush(#writer{queue = []} = Writer) ->
    {ok, Writer};
flush(#writer{socket = {Transport, Socket}, queue = Queue} = Writer) ->
    case Transport:send(Socket, lists:reverse(Queue)) of
        ok -> {ok, Writer#writer{queue = []}};
        {error, _} = Error -> Error
    end.

%% @doc Write a whole response. Says whether the connection is to end with it.
-spec respond(200..599, hornbeam_headers:fields(), Body :: binary(),
              hornbeam_http1_response:exchange(), writer()) -> {IsLast :: boolean(), writer()}.
respond(Status, Fields, Body, Exchange, Writer) ->
    {Bytes, Response} = hornbeam_http1_response:whole(Status, Fields, Body, Exchange),
    {hornbeam_http1_response:is_last(Response), write(Bytes, Writer)}.

%% @doc Write the head of a response whose body comes in parts.
-spec start(200..599, hornbeam_headers:fields(), hornbeam_http1_response:exchange(), writer()) ->
    writer().
start(Status, Fields, Exchange, Writer) ->
    {Head, Response} = hornbeam_http1_response:start(Status, Fields, Exchange),
    write(Head, Writer#writer{response = Response}).

%% @doc Write a part of its body, of which more is to come. An error cannot be mended.
-spec part(binary(), More :: boolean(), writer()) ->
    {ok, writer()} | {error, too_long | too_short}.
part(Body, More, #writer{response = Response} = Writer) ->
    case hornbeam_http1_response:part(Body, More, Response) of
        {ok, Bytes, Next} -> {ok, write(Bytes, Writer#writer{response = Next})};
        {error, _} = Error -> Error
    end.

%% @doc Write the last part.
-spec finish_part(binary(), writer()) ->
    {IsLast :: boolean(), writer()} | {error, too_long | too_short}.
finish_part(Body, #writer{response = Response} = Writer) ->
    case part(Body, false, Writer) of
        {ok, Written} ->
            {hornbeam_http1_response:is_last(Response),
             Written#writer{response = none, slow = none}};
        {error, _} = Error ->
            Error
    end.

%% @doc Whether the client has taken what was written, or leaves much of it in the socket.
-spec check_unsent(Now :: integer(), writer()) -> {taken | slow, writer()}.
check_unsent(Now, #writer{socket = Socket, slow = Slow} = Writer) ->
    case hornbeam_socket:backlog(Socket) of
        0 when Slow =:= none -> {taken, Writer};
        0 -> {taken, Writer#writer{slow = none}};
        Unsent -> {slow, Writer#writer{slow = slow(Unsent, Now, Slow)}}
    end.

slow(Unsent, _Now, {Unsent, Since}) -> {Unsent, Since};
slow(Unsent, Now, _Before) -> {Unsent, Now}.

%% @doc Since when the client has taken nothing (ms), if it was slow when last looked at.
-spec slow_since(writer()) -> integer() | none.
slow_since(#writer{slow = none}) -> none;
slow_since(#writer{slow = {_Bytes, Since}}) -> Since.

%% @doc Whether a response has begun, which cannot become another one.
-spec has_started(writer()) -> boolean().
has_started(#writer{response = Response}) ->
    Response =/= none.

%% @doc Whether a body is being written whose end is that of the connection.
-spec ends_with_connection(writer()) -> boolean().
ends_with_connection(#writer{response = none}) -> false;
ends_with_connection(#writer{response = Response}) ->
    hornbeam_http1_response:ends_with_connection(Response).

%% @doc End the connection when the client has had time to read what was written.
-spec finish(writer()) -> ok.
finish(#writer{socket = Socket} = Writer) ->
    _ = flush(Writer),
    hornbeam_socket:linger(Socket).

%% @doc End the connection now. A body that ends with it must not seem whole.
-spec close(writer()) -> ok.
close(#writer{socket = {Transport, Raw} = Socket} = Writer) ->
    case ends_with_connection(Writer) of
        true -> hornbeam_socket:reset(Socket);
        false -> _ = Transport:close(Raw), ok
    end.
