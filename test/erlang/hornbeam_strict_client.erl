%% A client that reads one HTTP/1.1 response and nothing that is not quite one (RFC 9112).
-module(hornbeam_strict_client).

-export([read/2, connection/1]).

%% The status, the fields in their order, the body, and how its end was found; anything else fails.
read(Bytes, Method) ->
    [Head, Rest] = binary:split(Bytes, <<"\r\n\r\n">>),
    [<<"HTTP/1.1 ", Code:3/binary, " ", Reason/binary>> | Lines] =
        binary:split(Head, <<"\r\n">>, [global]),
    true = Reason =/= <<>>,
    Status = binary_to_integer(Code),
    Fields = [field(Line) || Line <- Lines],
    [_] = values(<<"date">>, Fields),
    [_] = values(<<"server">>, Fields),
    {Body, How} = body(framing(Status, Method, Fields), Rest),
    {Status, Fields, Body, How}.

field(Line) ->
    [Name, Value] = binary:split(Line, <<": ">>),
    true = hornbeam_headers:is_token(Name),
    nomatch = binary:match(Value, [<<"\r">>, <<"\n">>, <<0>>]),
    {Name, Value}.

values(Wanted, Fields) -> [Value || {Name, Value} <- Fields, Name =:= Wanted].

%% The options of the connection.
connection(Fields) ->
    [Option || Value <- values(<<"connection">>, Fields),
               Option <- binary:split(Value, <<", ">>, [global])].

%% RFC 9112, 6.3. There is never more than one way.
framing(Status, Method, Fields) ->
    Said = {values(<<"transfer-encoding">>, Fields), values(<<"content-length">>, Fields)},
    case {Status, Said} of
        {204, {[], []}} -> none;
        {304, {[], _}} -> none;
        {_, {[], []}} when Method =:= <<"HEAD">> -> none;
        {_, {[], [_]}} when Method =:= <<"HEAD">> -> none;
        {_, {[<<"chunked">>], []}} when Method =:= <<"HEAD">> -> none;
        {_, {[<<"chunked">>], []}} -> chunks;
        {_, {[], [Length]}} -> {length, binary_to_integer(Length)};
        {_, {[], []}} -> close
    end.

body(none, <<>>) -> {<<>>, none};
body({length, Length}, Bytes) when byte_size(Bytes) =:= Length -> {Bytes, length};
body(chunks, Bytes) -> {iolist_to_binary(chunks(Bytes)), chunks};
body(close, Bytes) -> {Bytes, close}.

chunks(<<"0\r\n\r\n">>) ->
    [];
chunks(Bytes) ->
    [Hex, Rest] = binary:split(Bytes, <<"\r\n">>),
    Size = binary_to_integer(Hex, 16),
    true = Size > 0,
    <<Data:Size/binary, "\r\n", More/binary>> = Rest,
    [Data | chunks(More)].
