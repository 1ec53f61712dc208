%% Where an event of an event stream ends and the next may begin (HTML, 9.2.6): at a blank line.
%%
%%   text ──line end──▶ line ──line end──▶ blank ──any other byte──▶ text
%%
%% Lines end with LF, CR, or CR and LF; of the latter the LF may come later. Pure.
-module(hornbeam_event_boundary).

-export([new/0, add/2, is_reached/1, split/2]).
-export_type([boundary/0]).

-opaque boundary() :: text | line | blank | {line | blank, cr}.
%% In a line, at the begin of one, or of one behind a blank line; and whether what ended the last
%% one may still be followed by an LF that belongs to it.

%% @doc Nothing has been said.
-spec new() -> boundary().
new() -> blank.

%% @doc This was said next. Only the line ends at its end are looked at.
-spec add(binary(), boundary()) -> boundary().
add(Bytes, Boundary) ->
    case byte_size(Bytes) - line_ends(Bytes, byte_size(Bytes)) of
        0 -> add_all(Bytes, Boundary);
        Text -> add_all(binary:part(Bytes, Text, byte_size(Bytes) - Text), text)
    end.

line_ends(_Bytes, 0) ->
    0;
line_ends(Bytes, Size) ->
    case binary:at(Bytes, Size - 1) of
        Byte when Byte =:= $\n; Byte =:= $\r -> 1 + line_ends(Bytes, Size - 1);
        _ -> 0
    end.

add_all(<<Byte, Bytes/binary>>, Boundary) -> add_all(Bytes, next(Byte, Boundary));
add_all(<<>>, Boundary) -> Boundary.

next($\n, text) -> line;
next($\n, {Line, cr}) -> Line;
next($\n, _LineOrBlank) -> blank;
next($\r, text) -> {line, cr};
next($\r, _LineOrBlank) -> {blank, cr};
next(_Byte, _Boundary) -> text.

%% @doc Whether what was said ends with a blank line, or nothing was.
-spec is_reached(boundary()) -> boolean().
is_reached(blank) -> true;
is_reached({blank, cr}) -> true;
is_reached(_TextOrLine) -> false.

%% @doc Cut what is said next behind its first blank line.
-spec split(binary(), boundary()) -> {Before :: binary(), After :: binary()} | none.
split(Bytes, Boundary) ->
    split(Bytes, 0, Boundary).

split(Bytes, Size, Boundary) ->
    case Bytes of
        <<_:Size/binary, Byte, _/binary>> ->
            found(next(Byte, Boundary), Bytes, Size + 1);
        _ ->
            none
    end.

found({blank, cr}, Bytes, Size) ->
    case Bytes of
        <<_:Size/binary, $\n, _/binary>> -> split_binary(Bytes, Size + 1);
        _ -> split_binary(Bytes, Size)
    end;
found(blank, Bytes, Size) ->
    split_binary(Bytes, Size);
found(Boundary, Bytes, Size) ->
    split(Bytes, Size, Boundary).
