%% Properties of what reads and writes HTTP/1.1, whatever pieces the bytes come in.
-module(prop_hornbeam_http1).

-include_lib("proper/include/proper.hrl").
-include_lib("hornbeam/src/web/http1/hornbeam_http1_head.hrl").

-export([
    prop_a_head_is_read_as_it_was_written/0,
    prop_the_pieces_of_a_head_change_nothing/0,
    prop_chunks_are_read_as_they_were_written/0,
    prop_the_pieces_of_a_body_change_nothing/0,
    prop_a_response_is_what_a_strict_client_reads/0
]).

prop_a_head_is_read_as_it_was_written() ->
    ?FORALL({Target, Fields, Behind, Sizes}, {target(), fields(), binary(), sizes()}, begin
        Head = ["GET ", Target, " HTTP/1.1\r\nHost: a\r\n", lines(Fields), "\r\n"],
        Bytes = iolist_to_binary([Head, Behind]),
        {ok, {<<"GET">>, Path, Query, 'HTTP/1.1'}, #fields{list = List}, Left} =
            head(hornbeam_pieces:cut(Sizes, Bytes)),
        {joined(Path, Query, Target), List, Left}
            =:= {Target, [{<<"host">>, <<"a">>} | [{lower(Name), trimmed(Value)}
                                                   || {Name, _, Value, _} <- Fields]], Behind}
    end).

joined(Path, <<>>, Path) -> Path;
joined(Path, Query, _Target) -> <<Path/binary, "?", Query/binary>>.

lower(Name) -> list_to_binary(string:lowercase(binary_to_list(Name))).

trimmed(Value) -> list_to_binary(string:trim(binary_to_list(Value), both, " \t")).

lines(Fields) ->
    [[Name, ":", Before, Value, After, "\r\n"] || {Name, Before, Value, After} <- Fields].

%% Of bytes that are nearly a head, and of all others.
prop_the_pieces_of_a_head_change_nothing() ->
    ?FORALL({Bytes, Sizes}, {heads(), sizes()},
            verdict(head([Bytes])) =:= verdict(head(hornbeam_pieces:cut(Sizes, Bytes)))).

%% Of a head with two faults, another one may come first.
verdict({fault, _}) -> fault;
verdict(Other) -> Other.

head(Pieces) ->
    head(Pieces, <<>>, 0).

head([Piece | Pieces], Buffer, Scanned) ->
    case hornbeam_http1_head:read(<<Buffer/binary, Piece/binary>>, Scanned, none, limits()) of
        {more, Rest, Seen} -> head(Pieces, Rest, Seen);
        {ok, Line, Fields, Behind} -> {ok, Line, Fields, iolist_to_binary([Behind | Pieces])};
        {fault, _} = Fault -> Fault
    end;
head([], _Buffer, _Scanned) ->
    more.

prop_chunks_are_read_as_they_were_written() ->
    ?FORALL({Chunks, Trailers, Behind, Sizes},
            {list(chunk()), short(fields()), binary(), sizes()}, begin
        Bytes = iolist_to_binary([[[Size, Extension, "\r\n", Data, "\r\n"]
                                   || {Size, Extension, Data} <- Chunks],
                                  "0\r\n", lines(Trailers), "\r\n", Behind]),
        body(hornbeam_pieces:cut(Sizes, Bytes), unknown)
            =:= {done, iolist_to_binary([Data || {_, _, Data} <- Chunks]), Behind}
    end).

%% A size in either case of letters, with zeros before it.
chunk() ->
    ?LET({Data, Extension, Zeros, Fun}, {non_empty(binary()), extension(), range(0, 8),
                                         oneof([lowercase, uppercase])},
         {lists:duplicate(Zeros, $0)
          ++ string:Fun(integer_to_list(byte_size(Data), 16)), Extension, Data}).

extension() ->
    oneof(["", ";a", " ; a=b", ";a=\"b;c\";d", "\t;", ";\xe4\xff"]).

prop_the_pieces_of_a_body_change_nothing() ->
    ?FORALL({Bytes, Sizes, Length}, {bodies(), sizes(), oneof([unknown, range(1, 50)])},
            verdict(body([Bytes], Length))
                =:= verdict(body(hornbeam_pieces:cut(Sizes, Bytes), Length))).

body(Pieces, Length) ->
    body(Pieces, <<>>, hornbeam_http1_body:new(Length, limits())).

body([], Read, _Body) ->
    {more, Read};
body([Piece | Pieces], Read, Body) ->
    case hornbeam_http1_body:decode(Piece, Body) of
        {more, Data, Rest} -> body(Pieces, iolist_to_binary([Read, Data]), Rest);
        {done, Data, Behind} ->
            {done, iolist_to_binary([Read, Data]), iolist_to_binary([Behind | Pieces])};
        {fault, _} = Fault -> Fault
    end.

prop_a_response_is_what_a_strict_client_reads() ->
    ?FORALL({Status, Fields, Parts, Exchange, Length},
            {oneof([200, 201, 204, 304, 404, 426, 500, 599]), own_fields(), list(binary()),
             {oneof([<<"GET">>, <<"HEAD">>, <<"POST">>]), oneof(['HTTP/1.1', 'HTTP/1.0']),
              boolean(), boolean()}, boolean()}, begin
        Body = iolist_to_binary(Parts),
        Said = [{<<"content-length">>, integer_to_binary(byte_size(Body))} || Length] ++ Fields,
        {Whole, One} = hornbeam_http1_response:whole(Status, Said, Body, Exchange),
        {Head, Many} = hornbeam_http1_response:start(Status, Said, Exchange),
        {Method, _, _, _} = Exchange,
        Expected = case Method =:= <<"HEAD">> orelse Status =:= 204 orelse Status =:= 304 of
            true -> <<>>;
            false -> Body
        end,
        is_read(Whole, One, Method, Status, Fields, Expected)
            andalso is_read([Head | parts(Parts, Many)], Many, Method, Status, Fields, Expected)
    end).

parts(Parts, Response) ->
    {Written, Left} = lists:mapfoldl(fun(Part, Before) ->
        {ok, Bytes, After} = hornbeam_http1_response:part(Part, true, Before),
        {Bytes, After}
    end, Response, Parts),
    {ok, Last, _} = hornbeam_http1_response:part(<<>>, false, Left),
    [Written, Last].

is_read(Bytes, Response, Method, Status, Fields, Body) ->
    {Status, Read, Body, How} = hornbeam_strict_client:read(iolist_to_binary(Bytes), Method),
    IsLast = hornbeam_http1_response:is_last(Response),
    lists:all(fun(Field) -> lists:member(Field, Read) end, Fields)
        andalso [Field || {Name, _} = Field <- Read, lists:member(Name, names())] =:= Fields
        andalso (How =/= close orelse IsLast)
        andalso (How =:= close) =:= hornbeam_http1_response:ends_with_connection(Response)
        andalso IsLast =:= lists:member(<<"close">>, hornbeam_strict_client:connection(Read)).

names() -> [<<"x-a">>, <<"set-cookie">>, <<"server">>, <<"date">>].

own_fields() ->
    ?LET(Names, list(oneof([<<"x-a">>, <<"set-cookie">>])),
         ?LET({Values, Once}, {vector(length(Names), value()),
                               oneof([[{<<"date">>, <<"now">>}, {<<"server">>, <<"me">>}]])},
              lists:zip(Names, Values) ++ Once)).

%% What both are made of.

sizes() -> non_empty(list(range(1, 7))).

target() ->
    ?LET(Rest, list(oneof([range($!, $"), range($$, $>), range($@, $~), range(128, 255)])),
         list_to_binary([$/ | lists:takewhile(fun(Char) -> Char =/= $? end, Rest)])).

fields() -> list({name(), blanks(), value(), blanks()}).

short(Fields) -> ?SUCHTHAT(List, Fields, length(List) < 20).

%% None that says something of the request.
name() ->
    ?LET(Rest, list(oneof("abcXYZ019-_!#$%&'*+.^`|~")), list_to_binary(["x-" | Rest])).

blanks() -> list(oneof(" \t")).

value() ->
    ?LET(Chars, list(oneof([range(33, 126), range(128, 255)])),
         list_to_binary(lists:join(" ", [[Char] || Char <- Chars]))).

heads() ->
    oneof([binary(), mixed(["GET", " ", "/", "a", " HTTP/1.1", "\r\n", "Host: a", "\r", "\n", ":",
                            "Content-Length: 1", "Transfer-Encoding: chunked", "\r\n\r\n",
                            "GET / HTTP/1.1\r\nHost: a\r\n", <<255>>, <<0>>])]).

bodies() ->
    oneof([binary(), mixed(["1", "a", "F", "0", "\r\n", "\r", "\n", ";", " ", "a: b", "1\r\na\r\n",
                            "0\r\n\r\n", ":", <<255>>])]).

mixed(Words) -> ?LET(Chosen, list(oneof(Words)), iolist_to_binary(Chosen)).

limits() ->
    {ok, #{server := Server}} = hornbeam_config:check("app:application", #{}),
    Server.
