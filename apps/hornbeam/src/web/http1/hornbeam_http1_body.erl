%% The body of an HTTP/1.1 request: where it ends (RFC 9112, 6 and 7). Pure.
%%
%%   length   {length, Left} ──▶ done
%%   chunks   size ──▶ data ──▶ data_end ──▶ size … ──▶ trailers ──▶ done
%%
%% Extensions of chunks and trailers are read, bounded and dropped. What has been looked through for
%% the end of a line is not looked through again when more comes.
-module(hornbeam_http1_body).

-export([new/2, decode/2, left/1]).
-export_type([body/0]).

-record(chunks, {
    state = size :: size | {data, Left :: pos_integer()} | data_end | trailers,
    %% the begin of a line, and how much of it was looked through
    line = <<>> :: binary(),
    scanned = 0 :: non_neg_integer(),
    %% what all trailers may still have, as the fields of a head (bytes, lines)
    trailers :: {Bytes :: integer(), Lines :: integer()},
    %% what all extensions may still have (bytes)
    extensions :: integer(),
    %% the longest line, and the longest field of the trailers (bytes)
    longest :: pos_integer()
}).

-opaque body() :: {length, pos_integer()} | #chunks{}.

%% RFC 9112, 7.1: a size is hexadecimal digits. So many are 64 bits.
-define(MOST_DIGITS, 16).

%% The longest line of a chunk's size, with its extensions (bytes).
-define(LONGEST_SIZE_LINE, 4096).

%% @doc A body of some length, or of chunks, whose trailers have the limits of a head's fields.
-spec new(none | non_neg_integer() | unknown, hornbeam_http1_head:limits()) -> body() | none.
new(none, _Limits) ->
    none;
new(0, _Limits) ->
    none;
new(unknown, #{limit_request_head := Bytes, limit_request_fields := Lines,
               limit_request_field_size := Longest}) ->
    #chunks{trailers = {Bytes, Lines}, extensions = Bytes, longest = Longest};
new(Length, _Limits) ->
    {length, Length}.

%% @doc How many bytes are missing, if that is known.
-spec left(body() | none) -> non_neg_integer() | unknown.
left(none) -> 0;
left({length, Left}) -> Left;
left(#chunks{}) -> unknown.

%% @doc Take what belongs to the body from the begin of some bytes. With `more' all of them are
%% taken.
-spec decode(binary(), body()) ->
    {more, Data :: iodata(), body()}
    | {done, Data :: iodata(), Behind :: binary()}
    | {fault, bad_request | fields_too_large}.
decode(Bytes, {length, Left}) ->
    case Bytes of
        <<Data:Left/binary, Behind/binary>> -> {done, Data, Behind};
        _ -> {more, Bytes, {length, Left - byte_size(Bytes)}}
    end;
decode(Bytes, #chunks{line = <<>>} = Chunks) ->
    chunks(Bytes, [], Chunks);
decode(Bytes, #chunks{line = Begun} = Chunks) ->
    chunks(<<Begun/binary, Bytes/binary>>, [], Chunks#chunks{line = <<>>}).

chunks(<<>>, Data, Chunks) ->
    {more, lists:reverse(Data), Chunks};
chunks(Bytes, Data, #chunks{state = {data, Left}} = Chunks) ->
    case Bytes of
        <<Rest:Left/binary, Behind/binary>> ->
            chunks(Behind, [Rest | Data], Chunks#chunks{state = data_end});
        _ ->
            Some = Chunks#chunks{state = {data, Left - byte_size(Bytes)}},
            {more, lists:reverse([Bytes | Data]), Some}
    end;
chunks(<<"\r\n", Behind/binary>>, Data, #chunks{state = data_end} = Chunks) ->
    chunks(Behind, Data, Chunks#chunks{state = size});
chunks(<<"\r">> = Begun, Data, #chunks{state = data_end} = Chunks) ->
    {more, lists:reverse(Data), Chunks#chunks{line = Begun}};
chunks(_Other, _Data, #chunks{state = data_end}) ->
    {fault, bad_request};
chunks(Bytes, Data, #chunks{scanned = Scanned} = Chunks) ->
    case binary:match(Bytes, <<"\r\n">>, [{scope, scope(Bytes, max(0, Scanned - 1), Chunks)}]) of
        {Size, _} ->
            <<Line:Size/binary, "\r\n", Behind/binary>> = Bytes,
            line(Line, Behind, Data, Chunks#chunks{scanned = 0});
        nomatch ->
            begun(Bytes, Data, Chunks)
    end.

%% No line is looked for behind where one may end.
scope(Bytes, From, #chunks{state = State} = Chunks) ->
    {From, min(byte_size(Bytes), longest(State, Chunks) + 2) - From}.

begun(Bytes, Data, #chunks{state = State, scanned = Scanned} = Chunks) ->
    Size = byte_size(Bytes),
    case has_bare_break(Bytes, scope(Bytes, Scanned, Chunks)) orelse not may_begin(State, Bytes) of
        true ->
            {fault, bad_request};
        false ->
            case Size > longest(State, Chunks) + 1 of
                true -> {fault, too_long(State)};
                false -> {more, lists:reverse(Data), Chunks#chunks{line = Bytes, scanned = Size}}
            end
    end.

%% Whether what is new ends the line, with less than CRLF.
has_bare_break(Bytes, New) ->
    binary:match(Bytes, <<"\n">>, [{scope, New}]) =/= nomatch.

longest(size, _Chunks) -> ?LONGEST_SIZE_LINE;
longest(trailers, #chunks{longest = Longest}) -> Longest.

too_long(size) -> bad_request;
too_long(trailers) -> fields_too_large.

%% What cannot become a size is told at once.
may_begin(trailers, _Bytes) ->
    true;
may_begin(size, Bytes) ->
    case digits(Bytes) of
        {0, Rest} -> Rest =:= <<>>;
        {Digits, Rest} -> Digits =< ?MOST_DIGITS andalso may_follow(Rest)
    end.

%% A size is followed by its line's end, or by extensions.
may_follow(<<>>) -> true;
may_follow(<<Next, _/binary>>) -> lists:member(Next, "\r\s\t;").

line(Line, Behind, Data, #chunks{state = size} = Chunks) ->
    #chunks{extensions = Extensions} = Chunks,
    case chunk_size(Line) of
        {ok, _Size, Extension} when Extension > Extensions -> {fault, bad_request};
        {ok, 0, _Extension} -> chunks(Behind, Data, Chunks#chunks{state = trailers});
        {ok, Size, Extension} ->
            chunks(Behind, Data, Chunks#chunks{state = {data, Size},
                                               extensions = Extensions - Extension});
        error -> {fault, bad_request}
    end;
line(<<>>, Behind, Data, #chunks{state = trailers}) ->
    {done, lists:reverse(Data), Behind};
line(Line, Behind, Data, #chunks{state = trailers, trailers = {Bytes, Lines}} = Chunks) ->
    Left = {Bytes - byte_size(Line) - 2, Lines - 1},
    case hornbeam_headers:field(Line) of
        {_Name, _Value} when element(1, Left) < 0; element(2, Left) < 0 ->
            {fault, fields_too_large};
        {_Name, _Value} ->
            chunks(Behind, Data, Chunks#chunks{trailers = Left});
        error ->
            {fault, bad_request}
    end.

chunk_size(Line) ->
    case digits(Line) of
        {Digits, Rest} when Digits > 0, Digits =< ?MOST_DIGITS ->
            case Rest =:= <<>> orelse is_extension(Rest) of
                true -> {ok, binary_to_integer(binary:part(Line, 0, Digits), 16), byte_size(Rest)};
                false -> error
            end;
        _ ->
            error
    end.

is_extension(<<Blank, Rest/binary>>) when Blank =:= $\s; Blank =:= $\t -> is_extension(Rest);
is_extension(<<";", Extension/binary>>) -> hornbeam_headers:is_clean(Extension);
is_extension(_Other) -> false.

%% How many there are, and what follows; of too many it is enough to know that.
digits(Line) ->
    digits(Line, 0).

digits(<<Digit, Rest/binary>>, Count)
        when Count =< ?MOST_DIGITS, Digit >= $0, Digit =< $9;
             Count =< ?MOST_DIGITS, Digit >= $a, Digit =< $f;
             Count =< ?MOST_DIGITS, Digit >= $A, Digit =< $F ->
    digits(Rest, Count + 1);
digits(Rest, Count) ->
    {Count, Rest}.
