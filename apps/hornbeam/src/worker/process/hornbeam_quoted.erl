%% Text from outside as it may stand in a log: it cannot pass for another line of the log, nor
%% write to the terminal of who reads it. Pure.
%%
%% What a client has sent ends up in paths, in messages of exceptions, in what an app logs. Control
%% characters are shown as Python shows them; the lines after the first are indented, as no event of
%% a log begins.
-module(hornbeam_quoted).

-export([line/1, lines/1, printed/1, passed/1]).

-define(INDENT, "    ").

%% What sets colours and the like (ECMA-48, SGR).
-define(COLOR, "(\e\\[[0-9;:]*m)").

%% C0 without tab and line feed, DEL, C1; what ends a line or turns the direction of writing.
-define(IS_CONTROL(C), C < 32 andalso C =/= $\t andalso C =/= $\n orelse C >= 127 andalso C < 160
        orelse C =:= 16#061c orelse C =:= 16#200e orelse C =:= 16#200f
        orelse C =:= 16#2028 orelse C =:= 16#2029
        orelse C >= 16#202a andalso C =< 16#202e orelse C >= 16#2066 andalso C =< 16#2069).

%% @doc Text on one line.
-spec line(unicode:chardata()) -> binary().
line(Text) ->
    << <<(in_line(C))/binary>> || <<C/utf8>> <= utf8(Text) >>.

%% @doc Text that may have several lines, such as a traceback.
-spec lines(unicode:chardata()) -> binary().
lines(Text) ->
    Trimmed = string:trim(utf8(Text), trailing, [$\n]),
    << <<(in_lines(C))/binary>> || <<C/utf8>> <= Trimmed >>.

%% @doc Text whose lines are our own, with texts from outside in it that were printed as terms.
-spec printed(unicode:chardata()) -> binary().
printed(Text) ->
    << <<(in_printed(C))/binary>> || <<C/utf8>> <= utf8(Text) >>.

%% @doc What a program of the user's own has written to the user's terminal: its lines are lines,
%% its colours colours, and nothing else moves the cursor or sets the terminal.
-spec passed(unicode:chardata()) -> iodata().
passed(Text) ->
    colored(re:split(utf8(Text), ?COLOR, [{return, binary}])).

colored([Plain, Color | Rest]) -> [printed(Plain), Color | colored(Rest)];
colored([Plain]) -> [printed(Plain)].

%% Up to the first byte that is no text.
utf8(Text) ->
    case unicode:characters_to_binary(Text) of
        Utf8 when is_binary(Utf8) -> Utf8;
        {_, Utf8, _} -> <<Utf8/binary, " ...">>
    end.

in_line($\n) -> <<"\\n">>;
in_line(C) -> character(C).

in_lines($\n) -> <<"\n" ?INDENT>>;
in_lines(C) -> character(C).

in_printed($\n) -> <<"\n">>;
in_printed(C) -> character(C).

character(C) when ?IS_CONTROL(C) -> escape(C);
character(C) -> <<C/utf8>>.

%% By hand: an app may log nothing but these, and this takes a tenth of what io_lib does.
escape(C) when C < 256 -> <<"\\x", (hex(C bsr 4)), (hex(C band 15))>>;
escape(C) ->
    <<"\\u", (hex(C bsr 12)), (hex((C bsr 8) band 15)), (hex((C bsr 4) band 15)),
      (hex(C band 15))>>.

hex(Digit) when Digit < 10 -> $0 + Digit;
hex(Digit) -> $a + Digit - 10.
