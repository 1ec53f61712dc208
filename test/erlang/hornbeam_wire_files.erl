%% Reads docs/wire.md, the golden vectors and the public msgpack vectors for the wire's suites.
%%
%% Knows their formats; must not know our encoders and decoders, which are compared with them.
-module(hornbeam_wire_files).

-export([root/0, document/0, header_file/0, messages/1, code/1, ops/1, statuses/1, extensions/1]).
-export([requests/1, text_between/3, decode_json/1]).
-export([vectors/0, plain/1, marked/1, public_vectors/0, hex/1]).

%% The checkout, which is above wherever the tests were compiled to.
root() ->
    root(filename:dirname(filename:absname(code:which(?MODULE)))).

root(Dir) ->
    case filelib:is_regular(filename:join([Dir, "docs", "wire.md"])) of
        true -> Dir;
        false -> root(parent(Dir, filename:dirname(Dir)))
    end.

parent(Dir, Parent) when Dir =/= Parent -> Parent.

read(Parts) ->
    {ok, Binary} = file:read_file(filename:join([root() | Parts])),
    Binary.

%%% docs/wire.md

document() ->
    read(["docs", "wire.md"]).

header_file() ->
    read(["apps", "hornbeam", "src", "wire", "hornbeam_wire.hrl"]).

%% Rows of the table of messages: {Code, Name, From, [{Field, Type}]}.
messages(Document) ->
    Head = [<<"code">>, <<"name">>, <<"from">>, <<"fields">>],
    [
        {binary_to_integer(Code), binary_to_atom(Name), binary_to_atom(From), fields(Fields)}
     || [Code, Name, From, Fields] <- table(Head, Document)
    ].

%% The code of a message, by its name in the document.
code(Name) ->
    {Code, Name, _, _} = lists:keyfind(Name, 2, messages(document())),
    Code.

fields(<<>>) ->
    [];
fields(Fields) ->
    [
        list_to_tuple(binary:split(Field, <<": ">>))
     || Field <- binary:split(Fields, <<", ">>, [global])
    ].

%% Rows of the table of ops: {Number, Name, [{Arg, Type}], Result}.
ops(Document) ->
    Rows = table([<<"op">>, <<"name">>, <<"args">>, <<"result">>], Document),
    [
        {binary_to_integer(Number), Name, fields(Args), Result}
     || [Number, Name, Args, Result] <- Rows
    ].

%% The statuses of replies and what they raise.
statuses(Document) ->
    Rows = table([<<"status">>, <<"raises">>], Document),
    [{binary_to_integer(Status), Name} || [Status, Name] <- Rows].

%% What may be asked on the control conversation: {Name, [Argument]}, which stand in backquotes.
requests(Document) ->
    [
        {trimmed(Name), [Argument || <<"`", _/binary>> = Quoted <- arguments(Arguments),
                                     Argument <- [trimmed(Quoted)], Argument =/= <<"*">>]}
     || [Name, Arguments, _] <- table([<<"request">>, <<"arguments">>, <<"answer">>], Document)
    ].

arguments(Cell) ->
    case re:run(Cell, "`[^`]*`", [global, {capture, first, binary}]) of
        {match, Found} -> lists:append(Found);
        nomatch -> []
    end.

trimmed(Quoted) -> string:trim(Quoted, both, "`").

extensions(Document) ->
    [
        {binary_to_integer(Type), binary_to_atom(Name)}
     || [Type, Name, _] <- table([<<"ext">>, <<"name">>, <<"payload">>], Document)
    ].

table(Head, Document) ->
    Lines = [cells(Line) || Line <- binary:split(Document, <<"\n">>, [global])],
    [Head, _Rule | Rows] = lists:dropwhile(fun(Cells) -> Cells =/= Head end, Lines),
    lists:takewhile(fun(Cells) -> Cells =/= none end, Rows).

cells(<<"|", Row/binary>>) ->
    Cells = binary:split(Row, <<"|">>, [global]),
    [string:trim(Cell) || Cell <- lists:droplast(Cells)];
cells(_) ->
    none.

text_between(From, To, Document) ->
    [_, Behind] = binary:split(Document, From),
    [Text, _] = binary:split(Behind, To),
    Text.

%%% test/wire/vectors.txt

%% {Line, From, Name, Bytes, Values}; Values as JSON has them, for plain/1 and marked/1.
vectors() ->
    Lines = binary:split(read(["test", "wire", "vectors.txt"]), <<"\n">>, [global]),
    [
        vector(Number, Line)
     || {Number, Line} <- lists:zip(lists:seq(1, length(Lines)), Lines),
        Line =/= <<>>,
        binary:first(Line) =/= $#
    ].

vector(Number, Line) ->
    [Message, Json] = binary:split(Line, <<" = ">>),
    [From, Name, Bytes] = re:split(Message, " ", [{parts, 3}]),
    Values = decode_json(Json),
    {Number, binary_to_atom(From), binary_to_atom(Name), hex(Bytes), Values}.

%% OTP 27 and later read JSON themselves; only before them is jsx there.
decode_json(Text) ->
    case code:ensure_loaded(json) of
        {module, json} -> json:decode(Text);
        {error, nofile} -> jsx:decode(Text, [return_maps])
    end.

hex(Groups) ->
    << <<(group(binary:split(Group, <<"*">>)))/binary>>
     || Group <- binary:split(Groups, <<" ">>, [global, trim_all]) >>.

group([Hex]) -> binary:decode_hex(Hex);
group([Hex, Times]) -> binary:copy(binary:decode_hex(Hex), binary_to_integer(Times)).

%% Values as decoding gives them.
plain(Json) -> term(Json, fun(Bytes) -> Bytes end).

%% Values as they are encoded: bytes are marked as such.
marked(Json) -> term(Json, fun hornbeam_msgpack:bytes/1).

term(#{<<"$bin">> := Groups}, Bytes) -> Bytes(hex(Groups));
term(#{<<"$str">> := Groups}, _) -> hex(Groups);
term(#{<<"$atom">> := Name}, _) -> binary_to_atom(Name);
term(#{<<"$tuple">> := Elements}, Bytes) -> list_to_tuple(term(Elements, Bytes));
term(#{<<"$term">> := Groups}, _) -> binary_to_term(hex(Groups));
term(#{<<"$map">> := Pairs}, Bytes) -> maps:from_list([pair(Pair, Bytes) || Pair <- Pairs]);
term(Map, Bytes) when is_map(Map) -> maps:map(fun(_, Value) -> term(Value, Bytes) end, Map);
term(List, Bytes) when is_list(List) -> [term(Element, Bytes) || Element <- List];
term(null, _) -> undefined;
term(Scalar, _) -> Scalar.

pair([Key, Value], Bytes) -> {term(Key, Bytes), term(Value, Bytes)}.

%%% The public msgpack vectors

%% {Kind, Value, [Encoding]}, one for each kind of value that a vector names.
public_vectors() ->
    Groups = decode_json(read(["test", "wire", "msgpack-test-suite.json"])),
    [
        {Kind, Value, [dashed_hex(Encoding) || Encoding <- Encodings]}
     || Vectors <- maps:values(Groups),
        #{<<"msgpack">> := Encodings} = Vector <- Vectors,
        {Kind, Value} <- maps:to_list(maps:remove(<<"msgpack">>, Vector))
    ].

dashed_hex(Hex) ->
    binary:decode_hex(binary:replace(Hex, <<"-">>, <<>>, [global])).
