%% @doc Erlang terms as msgpack, and back.
%%
%% Knows the msgpack format and the extension types of docs/wire.md. Must not know messages,
%% streams or any process: it is pure.
%%
%% <table border="1">
%% <tr><th>Erlang</th><th>msgpack</th><th>back again</th></tr>
%% <tr><td>`undefined', `nil', `null'</td><td>nil</td><td>`undefined'</td></tr>
%% <tr><td>`true', `false'</td><td>bool</td><td>the same</td></tr>
%% <tr><td>integer</td><td>int; ext 4 beyond 64 bits</td><td>the same</td></tr>
%% <tr><td>float</td><td>float 64</td><td>the same (float 32 is read too)</td></tr>
%% <tr><td>binary</td><td>str when it is UTF-8, else bin</td><td>the same</td></tr>
%% <tr><td>{@link bytes/1}</td><td>bin</td><td>the binary</td></tr>
%% <tr><td>list</td><td>array</td><td>the same</td></tr>
%% <tr><td>map</td><td>map</td><td>the same</td></tr>
%% <tr><td>any other atom</td><td>ext 1</td><td>the same, if the atom exists</td></tr>
%% <tr><td>tuple</td><td>ext 2</td><td>the same</td></tr>
%% <tr><td>pid, reference, port, fun</td><td>ext 3</td><td>the same</td></tr>
%% </table>
%%
%% Decoding outside data makes no atoms, runs no code, and allocates in proportion to the bytes
%% that are there, whatever lengths they claim, and to a bounded number of elements: a byte can be
%% an element, and that is 40 bytes as a term, more while it is made: see {@link term_bytes/1}.
%% Binaries in the result are parts of the input and keep it alive: copy what is kept for long.
-module(hornbeam_msgpack).

-include("hornbeam_msgpack.hrl").

-export([encode/1, decode/1, decode_all/1, bytes/1, is_small/1, term_bytes/1]).
-export([nil/0, bool/1, uint/1, int/1, str/1, bin/1, array/1, map/1]).
-export_type([bytes/0, reason/0]).

%% What an element may take (about): as a term 40 bytes, twice that on the heap of who makes it, and
%% 40 in a copy.
-define(ELEMENT_BYTES, 128).

%% Bytes of a name that are shown: no atom has more.
-define(LONGEST_NAME, 1020).

%% Elements of a tuple, as the runtime has it.
-define(MAX_TUPLE, 16#ffffff).

%% The one improper list that can be encoded, so that no user's term is taken for it.
-define(BYTES, '$bytes').
-opaque bytes() :: nonempty_improper_list(?BYTES, binary()).

-type reason() ::
    truncated
    | {unknown_atom, Name :: binary()}
    | {bad_msgpack,
        reserved
        | not_finite
        | invalid_utf8
        | duplicate_key
        | too_deep
        | too_many_elements
        | trailing_bytes
        | {bad_ext, Type :: integer()}}.

%% @doc Encodes one term.
%%
%% Raises `{unencodable, Path, Term}' for a term that has no form on the wire (bitstrings,
%% improper lists, nesting deeper than 512, integers of more than 16 KiB, funs of more than 1 KiB
%% with what they have taken along). `Path' leads to it from outside: positions in lists and tuples,
%% keys of maps, and `{key, K}' for what is wrong with a key itself.
-spec encode(term()) -> iodata().
encode(Term) ->
    pack(Term, 0, []).

%% @doc Decodes the first term of a binary and gives back what follows it.
-spec decode(binary()) -> {ok, term(), Rest :: binary()} | {error, reason()}.
decode(Binary) ->
    try is_small(Binary) andalso value(Binary, 0) of
        {Term, Rest} -> {ok, Term, Rest};
        false -> {error, {bad_msgpack, too_many_elements}}
    catch
        throw:Reason -> {error, Reason}
    end.

%% @doc Tells whether the first term of a binary has at most 4 194 304 elements in its containers,
%% by their heads alone.
-spec is_small(binary()) -> boolean().
is_small(Binary) when byte_size(Binary) =< ?MAX_ELEMENTS ->
    true;
is_small(Binary) ->
    %% What is cut off or is no msgpack is the decoder's to tell.
    elements(Binary) =/= too_many.

%% @doc Tells about how many bytes the first term of a binary may take while it is made and given to
%% another process, beside those that it has in common with the binary, by its heads alone.
-spec term_bytes(binary()) -> non_neg_integer().
term_bytes(Binary) ->
    case elements(Binary) of
        Elements when is_integer(Elements) -> Elements * ?ELEMENT_BYTES;
        _Unknown -> min(byte_size(Binary), ?MAX_ELEMENTS) * ?ELEMENT_BYTES
    end.

%% @doc Decodes a binary that holds exactly one term.
-spec decode_all(binary()) -> {ok, term()} | {error, reason()}.
decode_all(Binary) ->
    case decode(Binary) of
        {ok, Term, <<>>} -> {ok, Term};
        {ok, _, _} -> {error, {bad_msgpack, trailing_bytes}};
        {error, _} = Error -> Error
    end.

%% @doc Marks a binary as bytes, so that it is not sent as text even when it is UTF-8.
-spec bytes(binary()) -> bytes().
-dialyzer({no_improper_lists, bytes/1}).
bytes(Binary) when is_binary(Binary) ->
    [?BYTES | Binary].

%%% Encoding

-spec pack(term(), Depth :: non_neg_integer(), ReversedPath :: [term()]) -> iodata().
pack(Binary, _, _) when is_binary(Binary) ->
    case hornbeam_utf8:is_valid(Binary) of
        true -> str(Binary);
        false -> bin(Binary)
    end;
pack(Integer, _, Path) when is_integer(Integer) ->
    pack_integer(Integer, Path);
pack(undefined, _, _) ->
    nil();
pack(nil, _, _) ->
    nil();
pack(null, _, _) ->
    nil();
pack(Bool, _, _) when is_boolean(Bool) ->
    bool(Bool);
pack(Atom, _, _) when is_atom(Atom) ->
    ext(?ATOM, atom_to_binary(Atom));
pack(Float, _, _) when is_float(Float) ->
    <<16#cb, Float/float>>;
pack([?BYTES | Binary], _, _) when is_binary(Binary) ->
    bin(Binary);
pack(List, Depth, Path) when length(List) >= 0, Depth < ?MAX_DEPTH ->
    [array(length(List)) | pack_elements(List, 1, Depth + 1, Path)];
pack(Map, Depth, Path) when is_map(Map), Depth < ?MAX_DEPTH ->
    [map(map_size(Map)) | pack_pairs(maps:to_list(Map), Depth + 1, Path)];
pack(Tuple, Depth, Path) when is_tuple(Tuple), Depth < ?MAX_DEPTH ->
    Elements = pack_elements(tuple_to_list(Tuple), 1, Depth + 1, Path),
    ext(?TUPLE, [array(tuple_size(Tuple)) | Elements]);
pack(Term, _, Path) when is_pid(Term); is_reference(Term); is_port(Term); is_function(Term) ->
    pack_opaque(Term, Path);
pack(Term, _, Path) ->
    unencodable(Path, Term).

-spec pack_elements([term()], pos_integer(), pos_integer(), [term()]) -> [iodata()].
pack_elements([Term | Rest], Position, Depth, Path) ->
    [pack(Term, Depth, [Position | Path]) | pack_elements(Rest, Position + 1, Depth, Path)];
pack_elements([], _, _, _) ->
    [].

-spec pack_pairs([{term(), term()}], pos_integer(), [term()]) -> [iodata()].
pack_pairs(Pairs, Depth, Path) ->
    [
        [pack(Key, Depth, [{key, Key} | Path]) | pack(Value, Depth, [Key | Path])]
     || {Key, Value} <- Pairs
    ].

-spec pack_integer(integer(), [term()]) -> iodata().
pack_integer(N, _) when N >= -16#8000000000000000, N =< 16#ffffffffffffffff ->
    int(N);
pack_integer(N, Path) ->
    case integer_size(N) of
        Size when Size =< ?MAX_INTEGER -> ext(?INTEGER, <<N:Size/unit:8>>);
        _ -> unencodable(Path, N)
    end.

%% Bytes of the shortest two's complement form.
-spec integer_size(integer()) -> pos_integer().
integer_size(N) when N < 0 ->
    integer_size(bnot N);
integer_size(N) ->
    case binary:encode_unsigned(N) of
        <<1:1, _/bits>> = Unsigned -> byte_size(Unsigned) + 1;
        Unsigned -> byte_size(Unsigned)
    end.

-spec pack_opaque(hornbeam_external:opaque(), [term()]) -> iodata().
pack_opaque(Term, Path) ->
    case hornbeam_external:encode(Term) of
        {ok, External} -> ext(?TERM, External);
        too_large -> unencodable(Path, Term)
    end.

-spec unencodable([term()], term()) -> no_return().
unencodable(Path, Term) ->
    error({unencodable, lists:reverse(Path), Term}).

%% @doc Builds nil.
-spec nil() -> binary().
nil() -> <<16#c0>>.

%% @doc Builds a bool.
-spec bool(boolean()) -> binary().
bool(false) -> <<16#c2>>;
bool(true) -> <<16#c3>>.

%% @doc Builds an integer from 0 to 2^64-1 in its shortest form.
-spec uint(non_neg_integer()) -> binary().
uint(N) when N >= 0, N < 16#80 -> <<N>>;
uint(N) when N >= 0, N =< 16#ff -> <<16#cc, N>>;
uint(N) when N >= 0, N =< 16#ffff -> <<16#cd, N:16>>;
uint(N) when N >= 0, N =< 16#ffffffff -> <<16#ce, N:32>>;
uint(N) when N >= 0, N =< 16#ffffffffffffffff -> <<16#cf, N:64>>.

%% @doc Builds an integer from -2^63 to 2^64-1 in its shortest form.
-spec int(integer()) -> binary().
int(N) when N >= 0 -> uint(N);
int(N) when N >= -16#20 -> <<N>>;
int(N) when N >= -16#80 -> <<16#d0, N>>;
int(N) when N >= -16#8000 -> <<16#d1, N:16>>;
int(N) when N >= -16#80000000 -> <<16#d2, N:32>>;
int(N) when N >= -16#8000000000000000 -> <<16#d3, N:64>>.

%% @doc Builds the str of a binary that is known to be UTF-8.
-spec str(binary()) -> iodata().
str(Binary) ->
    [str_header(byte_size(Binary)), Binary].

-spec str_header(non_neg_integer()) -> binary().
str_header(N) when N < 32 -> <<2#101:3, N:5>>;
str_header(N) when N =< 16#ff -> <<16#d9, N>>;
str_header(N) when N =< 16#ffff -> <<16#da, N:16>>;
str_header(N) when N =< 16#ffffffff -> <<16#db, N:32>>.

%% @doc Builds the bin of some bytes.
-spec bin(iodata()) -> iodata().
bin(Bytes) ->
    [bin_header(iolist_size(Bytes)), Bytes].

-spec bin_header(non_neg_integer()) -> binary().
bin_header(N) when N =< 16#ff -> <<16#c4, N>>;
bin_header(N) when N =< 16#ffff -> <<16#c5, N:16>>;
bin_header(N) when N =< 16#ffffffff -> <<16#c6, N:32>>.

%% @doc Builds the header of an array; its elements are to follow.
-spec array(Elements :: non_neg_integer()) -> binary().
array(N) when N < 16 -> <<2#1001:4, N:4>>;
array(N) when N =< 16#ffff -> <<16#dc, N:16>>;
array(N) when N =< 16#ffffffff -> <<16#dd, N:32>>.

%% @doc Builds the header of a map; its keys and values are to follow, in turn.
-spec map(Pairs :: non_neg_integer()) -> binary().
map(N) when N < 16 -> <<2#1000:4, N:4>>;
map(N) when N =< 16#ffff -> <<16#de, N:16>>;
map(N) when N =< 16#ffffffff -> <<16#df, N:32>>.

-spec ext(1..4, iodata()) -> iodata().
ext(Type, Payload) ->
    [ext_header(iolist_size(Payload), Type), Payload].

-spec ext_header(non_neg_integer(), 1..4) -> binary().
ext_header(1, Type) -> <<16#d4, Type>>;
ext_header(2, Type) -> <<16#d5, Type>>;
ext_header(4, Type) -> <<16#d6, Type>>;
ext_header(8, Type) -> <<16#d7, Type>>;
ext_header(16, Type) -> <<16#d8, Type>>;
ext_header(N, Type) when N =< 16#ff -> <<16#c7, N, Type>>;
ext_header(N, Type) when N =< 16#ffff -> <<16#c8, N:16, Type>>;
ext_header(N, Type) when N =< 16#ffffffff -> <<16#c9, N:32, Type>>.

%%% Decoding: each returns what it read and the rest, or throws a reason().

-spec value(binary(), Depth :: non_neg_integer()) -> {term(), binary()}.
value(<<Tag, Rest/binary>>, Depth) -> value(Tag, Rest, Depth);
value(<<>>, _) -> throw(truncated).

-spec value(byte(), binary(), non_neg_integer()) -> {term(), binary()}.
value(Tag, Rest, _) when Tag < 16#80 -> {Tag, Rest};
value(Tag, Rest, Depth) when Tag < 16#90 -> pairs(Tag band 16#0f, Rest, Depth);
value(Tag, Rest, Depth) when Tag < 16#a0 -> elements(Tag band 16#0f, Rest, Depth);
value(Tag, Rest, _) when Tag < 16#c0 -> text(Tag band 16#1f, Rest);
value(Tag, Rest, _) when Tag >= 16#e0 -> {Tag - 16#100, Rest};
value(16#c0, Rest, _) -> {undefined, Rest};
value(16#c1, _, _) -> bad(reserved);
value(16#c2, Rest, _) -> {false, Rest};
value(16#c3, Rest, _) -> {true, Rest};
value(16#c4, <<N, Rest/binary>>, _) -> take(N, Rest);
value(16#c5, <<N:16, Rest/binary>>, _) -> take(N, Rest);
value(16#c6, <<N:32, Rest/binary>>, _) -> take(N, Rest);
value(16#c7, <<N, Type/signed, Rest/binary>>, Depth) -> extension(N, Type, Rest, Depth);
value(16#c8, <<N:16, Type/signed, Rest/binary>>, Depth) -> extension(N, Type, Rest, Depth);
value(16#c9, <<N:32, Type/signed, Rest/binary>>, Depth) -> extension(N, Type, Rest, Depth);
value(16#ca, <<Float:32/float, Rest/binary>>, _) -> {Float, Rest};
value(16#ca, <<_:32, _/binary>>, _) -> bad(not_finite);
value(16#cb, <<Float:64/float, Rest/binary>>, _) -> {Float, Rest};
value(16#cb, <<_:64, _/binary>>, _) -> bad(not_finite);
value(16#cc, <<N, Rest/binary>>, _) -> {N, Rest};
value(16#cd, <<N:16, Rest/binary>>, _) -> {N, Rest};
value(16#ce, <<N:32, Rest/binary>>, _) -> {N, Rest};
value(16#cf, <<N:64, Rest/binary>>, _) -> {N, Rest};
value(16#d0, <<N/signed, Rest/binary>>, _) -> {N, Rest};
value(16#d1, <<N:16/signed, Rest/binary>>, _) -> {N, Rest};
value(16#d2, <<N:32/signed, Rest/binary>>, _) -> {N, Rest};
value(16#d3, <<N:64/signed, Rest/binary>>, _) -> {N, Rest};
value(16#d4, <<Type/signed, Rest/binary>>, Depth) -> extension(1, Type, Rest, Depth);
value(16#d5, <<Type/signed, Rest/binary>>, Depth) -> extension(2, Type, Rest, Depth);
value(16#d6, <<Type/signed, Rest/binary>>, Depth) -> extension(4, Type, Rest, Depth);
value(16#d7, <<Type/signed, Rest/binary>>, Depth) -> extension(8, Type, Rest, Depth);
value(16#d8, <<Type/signed, Rest/binary>>, Depth) -> extension(16, Type, Rest, Depth);
value(16#d9, <<N, Rest/binary>>, _) -> text(N, Rest);
value(16#da, <<N:16, Rest/binary>>, _) -> text(N, Rest);
value(16#db, <<N:32, Rest/binary>>, _) -> text(N, Rest);
value(16#dc, <<N:16, Rest/binary>>, Depth) -> elements(N, Rest, Depth);
value(16#dd, <<N:32, Rest/binary>>, Depth) -> elements(N, Rest, Depth);
value(16#de, <<N:16, Rest/binary>>, Depth) -> pairs(N, Rest, Depth);
value(16#df, <<N:32, Rest/binary>>, Depth) -> pairs(N, Rest, Depth);
value(_, _, _) -> throw(truncated).

%% The first term is one of them.
-spec elements(binary()) -> pos_integer() | too_many | bad.
elements(Binary) ->
    try
        count(Binary, 1, ?MAX_ELEMENTS + 1)
    catch
        error:{bad_packed, _} -> bad
    end.

%% Walks over the heads: `Due' values are still to come, `Left' may. A tuple is looked into as what
%% it is, an array.
-spec count(binary(), Due :: non_neg_integer(), Left :: integer()) -> pos_integer() | too_many.
count(_, 0, Left) ->
    ?MAX_ELEMENTS + 1 - Left;
count(_, Due, Left) when Due > Left ->
    too_many;
count(Binary, Due, Left) ->
    case hornbeam_msgpack_head:head(Binary) of
        {scalar, Elements, _} when Elements > Left -> too_many;
        {scalar, Elements, Rest} -> count(Rest, Due - 1, Left - 1 - Elements);
        {array, N, Inside} -> count(Inside, Due - 1 + N, Left - 1);
        {map, N, Inside} -> count(Inside, Due - 1 + 2 * N, Left - 1);
        {tuple, _, Inside} -> count(Inside, Due, Left - 1)
    end.

-spec take(non_neg_integer(), binary()) -> {binary(), binary()}.
take(N, Binary) ->
    case Binary of
        <<Taken:N/binary, Rest/binary>> -> {Taken, Rest};
        _ -> throw(truncated)
    end.

-spec text(non_neg_integer(), binary()) -> {binary(), binary()}.
text(N, Binary) ->
    {Text, _} = Taken = take(N, Binary),
    hornbeam_utf8:is_valid(Text) orelse bad(invalid_utf8),
    Taken.

%% An element takes a byte at least: more elements than bytes need not be tried.
-spec elements(non_neg_integer(), binary(), non_neg_integer()) -> {[term()], binary()}.
elements(_, _, ?MAX_DEPTH) -> bad(too_deep);
elements(N, Binary, _) when N > byte_size(Binary) -> throw(truncated);
elements(N, Binary, Depth) -> elements(N, Binary, Depth + 1, []).

-spec elements(non_neg_integer(), binary(), pos_integer(), [term()]) -> {[term()], binary()}.
elements(0, Rest, _, Done) ->
    {lists:reverse(Done), Rest};
elements(N, Binary, Depth, Done) ->
    {Term, Rest} = value(Binary, Depth),
    elements(N - 1, Rest, Depth, [Term | Done]).

-spec pairs(non_neg_integer(), binary(), non_neg_integer()) -> {map(), binary()}.
pairs(_, _, ?MAX_DEPTH) -> bad(too_deep);
pairs(N, Binary, _) when 2 * N > byte_size(Binary) -> throw(truncated);
pairs(N, Binary, Depth) -> pairs(N, N, Binary, Depth + 1, []).

%% Python's "a" and b"a" are one key here. Losing one of them silently would be worse than
%% refusing both.
-spec pairs(Size, Left, binary(), pos_integer(), [{term(), term()}]) -> {map(), binary()} when
    Size :: non_neg_integer(), Left :: non_neg_integer().
pairs(Size, 0, Rest, _, Done) ->
    Map = maps:from_list(Done),
    map_size(Map) =:= Size orelse bad(duplicate_key),
    {Map, Rest};
pairs(Size, Left, Binary, Depth, Done) ->
    {Key, Rest1} = value(Binary, Depth),
    {Value, Rest2} = value(Rest1, Depth),
    pairs(Size, Left - 1, Rest2, Depth, [{Key, Value} | Done]).

-spec extension(non_neg_integer(), integer(), binary(), non_neg_integer()) -> {term(), binary()}.
extension(N, Type, Binary, Depth) ->
    {Payload, Rest} = take(N, Binary),
    {extension(Type, Payload, Depth), Rest}.

-spec extension(integer(), binary(), non_neg_integer()) -> term().
extension(?ATOM, Name, _) -> existing_atom(Name);
extension(?TUPLE, Array, Depth) -> tuple(Array, Depth);
extension(?TERM, External, _) -> term(External);
extension(?INTEGER, <<Top:9, _/bits>> = Bytes, _) when Top =/= 0, Top =/= 16#1ff ->
    big_integer(Bytes);
extension(Type, _, _) -> bad({bad_ext, Type}).

-spec existing_atom(binary()) -> atom().
existing_atom(Name) ->
    try
        binary_to_existing_atom(Name)
    catch
        error:_ -> throw({unknown_atom, shown(Name)})
    end.

shown(Name) ->
    binary:copy(binary:part(Name, 0, min(byte_size(Name), ?LONGEST_NAME))).

%% What is in it is looked at before it is read: a tuple right within a tuple, and so on, would be
%% as deep as it likes.
-spec tuple(binary(), non_neg_integer()) -> tuple().
tuple(<<Tag, _/binary>> = Array, Depth)
        when Tag band 16#f0 =:= 16#90; Tag =:= 16#dc; Tag =:= 16#dd ->
    case value(Array, Depth) of
        {Elements, <<>>} when length(Elements) =< ?MAX_TUPLE -> list_to_tuple(Elements);
        _ -> bad({bad_ext, ?TUPLE})
    end;
tuple(_NoArray, _Depth) ->
    bad({bad_ext, ?TUPLE}).

-spec term(binary()) -> hornbeam_external:opaque().
term(External) ->
    case hornbeam_external:decode(External) of
        {ok, Term} -> Term;
        error -> bad({bad_ext, ?TERM})
    end.

%% Only what has no other form: a value that 64 bits hold is an error here.
-spec big_integer(binary()) -> integer().
big_integer(Bytes) ->
    Size = byte_size(Bytes),
    case Bytes of
        <<N:Size/signed-unit:8>> when
            Size =< ?MAX_INTEGER, (N < -16#8000000000000000 orelse N > 16#ffffffffffffffff)
        ->
            N;
        _ ->
            bad({bad_ext, ?INTEGER})
    end.

-spec bad(term()) -> no_return().
bad(Reason) ->
    throw({bad_msgpack, Reason}).
