%% The last errors of this node's log that are not the app's own: what crashed, with its stack.
%%
%% A handler of the log that keeps some texts, so that they can be asked for when somebody looks
%% what was wrong (hornbeam_doctor). It is called by whoever logs, costs nothing but for errors,
%% and its table outlives all processes but the application's own.
-module(hornbeam_crashes).

-export([new_table/0, install/0, uninstall/0, recent/0]).
-export([log/2, only_ours/2]).
-export_type([crash/0]).

-type crash() :: #{at := integer(), level := logger:level(), text := binary()}.
%% `at': system time in microseconds.

%% A hornbeam_log_ring.
-define(TABLE, ?MODULE).

%% How many are kept, and how long each may be (characters, about).
-define(MOST, 20).
-define(LONGEST, 8192).

%% @doc Make the table; its owner must outlive all that crashes.
-spec new_table() -> ok.
new_table() ->
    hornbeam_log_ring:new(?TABLE, ?MOST).

%% @doc Keep errors from now on.
-spec install() -> ok.
install() ->
    Ours = {ours, {fun ?MODULE:only_ours/2, none}},
    _ = logger:add_handler(?MODULE, ?MODULE,
                           #{level => error, filter_default => stop, filters => [Ours]}),
    ok.

%% @doc No longer.
-spec uninstall() -> ok.
uninstall() ->
    _ = logger:remove_handler(?MODULE),
    ok.

%% @doc What is kept, the oldest first.
-spec recent() -> [crash()].
recent() ->
    {_Newest, Crashes} = hornbeam_log_ring:since(?TABLE, 0),
    Crashes.

%% What an app logs is its own: the log has it, and what is secret to it.
%% @private
-spec only_ours(logger:log_event(), none) -> logger:filter_return().
only_ours(#{meta := #{domain := [hornbeam, python | _]}}, none) -> stop;
only_ours(#{meta := #{domain := [hornbeam | _]}} = Event, none) -> Event;
only_ours(#{meta := #{domain := [otp | _]}} = Event, none) -> Event;
only_ours(#{meta := #{error_logger := #{emulator := true}}} = Event, none) -> Event;
only_ours(_Event, none) -> stop.

%% @private
-spec log(logger:log_event(), logger:handler_config()) -> ok.
log(#{level := Level, meta := #{time := Time}} = Event, _Config) ->
    Text = unicode:characters_to_binary(hornbeam_log_ring:text(Event, ?LONGEST)),
    hornbeam_log_ring:add(?TABLE, #{at => Time, level => Level, text => Text}).
