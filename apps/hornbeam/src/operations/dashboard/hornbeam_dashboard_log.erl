%% The last lines of the node's log, for the live page.
%%
%% A handler of the log that keeps texts, as every handler gets them: what is hidden there is hidden
%% here. It runs in the process that logs, and its table is that of who has installed it.
-module(hornbeam_dashboard_log).

-export([install/0, uninstall/0, since/1]).
-export([log/2]).
-export_type([line/0]).

-type line() :: #{at := float(), level := logger:level(), text := binary()}.
%% `at': seconds since 1970.

%% A hornbeam_log_ring.
-define(TABLE, ?MODULE).

%% How many are kept, and how long each may be (characters).
-define(MOST, 500).
-define(LONGEST, 4096).

%% @doc Keep what is logged from now on, in a table of the calling process.
-spec install() -> ok.
install() ->
    ok = hornbeam_log_ring:new(?TABLE, ?MOST),
    _ = logger:remove_handler(?MODULE),
    ok = logger:add_handler(?MODULE, ?MODULE,
                            #{filters => [{progress, {fun logger_filters:progress/2, stop}}]}).

%% @doc No longer.
-spec uninstall() -> ok.
uninstall() ->
    _ = logger:remove_handler(?MODULE),
    ok.

%% @doc What came after a line with a number, the oldest first, and the newest one's number.
-spec since(Number :: non_neg_integer()) -> {Newest :: non_neg_integer(), [line()]}.
since(Number) ->
    hornbeam_log_ring:since(?TABLE, Number).

%% @private
-spec log(logger:log_event(), logger:handler_config()) -> ok.
log(#{level := Level, meta := #{time := Time}} = Event, _Config) ->
    hornbeam_log_ring:add(?TABLE, #{at => Time / 1.0e6, level => Level, text => text(Event)}).

text(#{meta := #{python_text := Lines}}) ->
    short(Lines);
text(#{msg := {report, #{what := What} = Report}} = Event) when is_atom(What) ->
    Rest = Event#{msg := {report, maps:remove(what, Report)}},
    short([atom_to_list(What), "\n", hornbeam_log_ring:text(Rest, ?LONGEST)]);
text(Event) ->
    short(hornbeam_log_ring:text(Event, ?LONGEST)).

short(Text) ->
    unicode:characters_to_binary(string:slice(hornbeam_quoted:lines(Text), 0, ?LONGEST)).
