%% What a block of header fields may become when it is decoded (RFC 7541). Pure.
%%
%% A byte of a block may stand for a field of 4 KiB, one that the client had put into the decoder's
%% table before. Here the fields are counted at the most that they may become, without being
%% decoded: strings are passed over, and of the table only its largest entry is known. So the sum is
%% an upper bound, which an honest client does not come near.
-module(hornbeam_hpack).

-export([weigh/3]).
-export_type([largest/0]).

-type largest() :: 0..4096.
%% The most that an entry of the decoder's table may have, as RFC 7541, 4.1 counts it (bytes).

-record(weight, {
    left :: integer(),
    largest :: largest()
}).

%% RFC 7541, 4.1: what each field costs beside its name and its value (bytes).
-define(FIELD, 32).

%% The entries of the static table, and the most that one of them has (bytes).
-define(STATIC, 61).
-define(LARGEST_STATIC, 64).

%% The table of a decoder to which no other size was told (RFC 9113, 6.5.2). What is larger than all
%% of it does not get in.
-define(TABLE, 4096).

%% No number in a block of ours needs more bytes behind its first: without a bound, to read one
%% would cost the square of its length (RFC 7541, 5.1).
-define(MOST_DIGITS, 4).

%% The shortest code of Huffman's has five bits.
-define(INFLATED(Size), ((Size) * 8 div 5)).

%% @doc Whether a block may become more than `Most' bytes, when `Largest' is known of the table; if
%% not, what is then known of that. `malformed': no decoder can read it.
-spec weigh(Block :: binary(), largest(), Most :: pos_integer()) ->
    {ok, largest()} | too_large | malformed.
weigh(Block, Largest, Most) ->
    fields(Block, #weight{left = Most, largest = Largest}).

fields(_Block, #weight{left = Left}) when Left < 0 -> too_large;
fields(<<>>, #weight{largest = Largest}) -> {ok, Largest};
fields(<<1:1, Index:7, Block/binary>>, Weight) -> indexed(number(Index, 127, Block), Weight);
fields(<<0:1, 1:1, Index:6, Block/binary>>, Weight) ->
    literal(kept, number(Index, 63, Block), Weight);
fields(<<0:2, 1:1, Size:5, Block/binary>>, Weight) -> resized(number(Size, 31, Block), Weight);
fields(<<0:3, _:1, Index:4, Block/binary>>, Weight) ->
    literal(passed, number(Index, 15, Block), Weight).

indexed({Index, Block}, Weight) when Index > 0 ->
    fields(Block, spent(?FIELD + named(Index, Weight), Weight));
indexed(_Other, _Weight) ->
    malformed.

resized({_Size, Block}, Weight) -> fields(Block, spent(?FIELD, Weight));
resized(malformed, _Weight) -> malformed.

literal(_Kept, malformed, _Weight) ->
    malformed;
literal(Kept, {0, Block}, Weight) ->
    case string(Block) of
        {Name, Rest} -> valued(Kept, Name, string(Rest), Weight);
        malformed -> malformed
    end;
literal(Kept, {Index, Block}, Weight) ->
    valued(Kept, named(Index, Weight), string(Block), Weight).

valued(_Kept, _Name, malformed, _Weight) ->
    malformed;
valued(Kept, Name, {Value, Block}, Weight) ->
    Size = ?FIELD + Name + Value,
    fields(Block, kept(Kept, Size, spent(Size, Weight))).

kept(kept, Size, #weight{largest = Largest} = Weight) ->
    Weight#weight{largest = max(Largest, min(Size, ?TABLE))};
kept(passed, _Size, Weight) ->
    Weight.

spent(Size, #weight{left = Left} = Weight) ->
    Weight#weight{left = Left - Size}.

%% What stands at an index, at most.
named(Index, _Weight) when Index =< ?STATIC -> ?LARGEST_STATIC;
named(_Index, #weight{largest = Largest}) -> Largest.

%% The size of a string when it is decoded, at most.
string(<<Huffman:1, Size:7, Block/binary>>) ->
    case number(Size, 127, Block) of
        {Length, Rest} -> string(Huffman, Length, Rest);
        malformed -> malformed
    end;
string(<<>>) ->
    malformed.

string(Huffman, Length, Block) ->
    case Block of
        <<_:Length/binary, Rest/binary>> when Huffman =:= 1 -> {?INFLATED(Length), Rest};
        <<_:Length/binary, Rest/binary>> -> {Length, Rest};
        _ -> malformed
    end.

%% A number of which the first byte has so many (RFC 7541, 5.1).
number(First, Full, Block) when First < Full -> {First, Block};
number(Full, Full, Block) -> number(Block, Full, 0, ?MOST_DIGITS).

number(<<0:1, Digit:7, Block/binary>>, Sum, Shift, _Left) ->
    {Sum + (Digit bsl Shift), Block};
number(<<1:1, Digit:7, Block/binary>>, Sum, Shift, Left) when Left > 1 ->
    number(Block, Sum + (Digit bsl Shift), Shift + 7, Left - 1);
number(_Other, _Sum, _Shift, _Left) ->
    malformed.
