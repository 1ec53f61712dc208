%% The last lines of a log, of which the oldest goes when a new one comes.
%%
%% A table: whoever logs writes into it, whoever looks reads it. What a line is, is its user's.
-module(hornbeam_log_ring).

-export([new/2, add/2, since/2, text/2]).

%% Rows: {Number, Line}, and the last number given with how many lines are kept.
-define(LAST, last).

%% @doc Make a ring of so many lines, in a table of the calling process.
-spec new(Table :: atom(), Most :: pos_integer()) -> ok.
new(Table, Most) ->
    Table = ets:new(Table, [named_table, public, ordered_set]),
    true = ets:insert(Table, {?LAST, 0, Most}),
    ok.

%% @doc Add a line. What is logged while the table goes is of no interest any more.
-spec add(Table :: atom(), Line :: map()) -> ok.
add(Table, Line) ->
    try ets:update_counter(Table, ?LAST, [{2, 1}, {3, 0}]) of
        [Number, Most] ->
            true = ets:insert(Table, {Number, Line}),
            true = ets:delete(Table, Number - Most),
            ok
    catch
        error:badarg -> ok
    end.

%% @doc What came after a line with a number, the oldest first, and the newest one's number.
-spec since(Table :: atom(), Number :: non_neg_integer()) ->
    {Newest :: non_neg_integer(), [Line :: map()]}.
since(Table, Number) ->
    Found = ets:select(Table, [{{'$1', '$2'}, [{'>', '$1', Number}], ['$_']}]),
    {lists:max([Number | [N || {N, _} <- Found]]), [Line || {_, Line} <- Found]}.

%% @doc The message of an event, with at most so many characters.
-spec text(logger:log_event(), Longest :: pos_integer()) -> unicode:chardata().
text(Event, Longest) ->
    Text = logger_formatter:format(Event, #{template => [msg], single_line => false,
                                            chars_limit => Longest}),
    string:slice(Text, 0, Longest).
