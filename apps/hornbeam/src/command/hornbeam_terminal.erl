%% How the log of the command's node looks: lines as uvicorn's, in colours where those are wanted.
%%
%% Lines go to standard error as UTF-8, whatever the locale. Who reads them may stand still: what is
%% logged meanwhile waits up to a bound and is then dropped, and no process waits for it.
-module(hornbeam_terminal).

-export([install/1, say/1, format/2]).
-export_type([look/0]).

-type look() :: #{level := logger:level(), colors := boolean()}.

%% Events that wait for a reader; of twice as many all are dropped at once.
-define(WAITING, 10000).

%% The longest prefix, "WARNING: ".
-define(PREFIX, 9).

%% @doc Log so from now on.
-spec install(look()) -> ok.
install(#{level := Level, colors := Colors}) ->
    ok = io:setopts(standard_error, [{encoding, unicode}]),
    _ = logger:remove_handler(default),
    ok = logger:set_primary_config(level, Level),
    logger:add_handler(default, logger_std_h, handler(Colors)).

handler(Colors) ->
    #{filter_default => log,
      filters => [{progress, {fun logger_filters:progress/2, stop}}],
      formatter => {?MODULE, #{colors => Colors}},
      %% Equal limits: none logs in step with the handler, which would be to wait for its reader.
      config => #{type => standard_error, sync_mode_qlen => ?WAITING, drop_mode_qlen => ?WAITING,
                  flush_qlen => 2 * ?WAITING, burst_limit_enable => false}}.

%% @doc Show lines that are no event of the log.
-spec say(unicode:chardata()) -> ok.
say(Text) ->
    io:put_chars(standard_error, [Text, "\n"]).

%% @private
-spec format(logger:log_event(), #{colors := boolean()}) -> unicode:chardata().
format(#{level := Level} = Event, #{colors := Colors}) ->
    Message = logger_formatter:format(Event, #{single_line => false, template => [msg]}),
    [prefix(Level, Colors), string:trim(Message, trailing, "\n"), "\n"].

prefix(Level, Colors) ->
    Name = string:uppercase(atom_to_list(Level)),
    Padding = lists:duplicate(max(1, ?PREFIX - length(Name)), $\s),
    [colored(Level, Name, Colors), ":", Padding].

colored(_Level, Name, false) -> Name;
colored(Level, Name, true) -> ["\e[", color(Level), "m", Name, "\e[0m"].

color(debug) -> "36";
color(info) -> "32";
color(notice) -> "32";
color(warning) -> "33";
color(error) -> "31";
color(_Worse) -> "91".
