%% How the log of the command's node looks: lines as uvicorn's, in colours where those are wanted.
%%
%%   what an app prints   ──▶ standard output or standard error, as it is, line by line
%%   what it logs         ──▶ standard error, whatever the level: its logging is its own
%%   what the node logs   ──▶ standard error, from the level on that was asked for
%%
%% All of it is UTF-8, whatever the locale. Who reads it may stand still: what is logged meanwhile
%% waits up to a bound and is then dropped, and no process waits for it.
-module(hornbeam_terminal).

-export([install/1, say/1, flush/0, format/2, only/2, without_end/2]).
-export_type([look/0, source/0]).

-type look() :: #{level := logger:level(), colors := boolean()}.
-type source() :: printed | app | node.

%% Events that wait for a reader; of twice as many all are dropped at once.
-define(WAITING, 10000).

%% Why the process of standard output ends when its reader has.
-define(CLOSED, epipe).

%% The longest prefix, "WARNING: ".
-define(PREFIX, 9).

%% @doc Log so from now on.
-spec install(look()) -> ok.
install(#{level := Level, colors := Colors}) ->
    ok = hornbeam_log:unicode(),
    _ = logger:remove_handler(default),
    ok = logger:set_primary_config(level, Level),
    ok = logger:set_module_level(hornbeam_worker_log, all),
    lists:foreach(fun({Id, Of, Device, From}) ->
        ok = logger:add_handler(Id, logger_std_h, handler(Of, Device, From, Colors))
    end, [{default, node, standard_error, Level}, {hornbeam_app, app, standard_error, all},
          {hornbeam_printed, printed, standard_io, all}]).

handler(Of, Device, Level, Colors) ->
    #{level => Level,
      filter_default => log,
      filters => [{progress, {fun logger_filters:progress/2, stop}},
                  {ended, {fun ?MODULE:without_end/2, none}},
                  {source, {fun ?MODULE:only/2, Of}}],
      formatter => {?MODULE, #{colors => Colors}},
      %% Equal limits: none logs in step with the handler, which would be to wait for its reader.
      config => #{type => Device, sync_mode_qlen => ?WAITING, drop_mode_qlen => ?WAITING,
                  flush_qlen => 2 * ?WAITING, burst_limit_enable => false}}.

%% @private
-spec only(logger:log_event(), source()) -> logger:filter_return().
only(#{meta := Meta}, Wanted) ->
    case source(Meta) of
        Wanted -> ignore;
        _ -> stop
    end.

source(#{python_logger := <<"stdout">>}) -> printed;
source(#{python_logger := <<"hornbeam.", _/binary>>}) -> node;
source(#{python_logger := _}) -> app;
source(_Meta) -> node.

%% That an application has stopped is no news to whoever has just stopped it, and that nobody reads
%% standard output any more none to whoever has closed it; OTP reports both, the latter four times.
%% @private
-spec without_end(logger:log_event(), none) -> logger:filter_return().
without_end(#{msg := {report, #{label := {application_controller, exit}, report := Report}}},
            none) ->
    stop_if(lists:member({exited, stopped}, Report));
without_end(#{msg := {report, #{label := {supervisor, _}, report := Report}}}, none) ->
    stop_if(proplists:get_value(reason, Report) =:= ?CLOSED);
without_end(#{msg := {report, #{label := {gen_server, terminate}, reason := Reason}}}, none) ->
    stop_if(Reason =:= ?CLOSED);
without_end(#{msg := {report, #{label := {proc_lib, crash}, report := [Crash | _]}}}, none) ->
    case proplists:get_value(error_info, Crash) of
        {exit, ?CLOSED, _} -> stop;
        _ -> ignore
    end;
without_end(#{msg := {"init got unexpected: " ++ _, [{io_request, _, _, _}]}}, none) ->
    stop;
%% From OTP 26 on.
without_end(#{msg := {"Writer crashed" ++ _, _}}, none) ->
    stop;
without_end(_Event, none) ->
    ignore.

stop_if(true) -> stop;
stop_if(false) -> ignore.

%% @doc Show lines that are no event of the log, behind all that has been logged before.
-spec say(unicode:chardata()) -> ok.
say(Text) ->
    ok = flush(),
    io:put_chars(standard_error, [Text, "\n"]).

%% @doc Wait until what has been logged is written.
-spec flush() -> ok.
flush() ->
    lists:foreach(fun logger_std_h:filesync/1, [default, hornbeam_app, hornbeam_printed]).

%% @private
-spec format(logger:log_event(), #{colors := boolean()}) -> unicode:chardata().
format(#{meta := #{python_logger := Stream, python_text := Lines}}, _Config)
        when Stream =:= <<"stdout">>; Stream =:= <<"stderr">> ->
    [hornbeam_quoted:passed(Lines), "\n"];
format(#{level := Level} = Event, #{colors := Colors}) ->
    [prefix(Level, Colors), string:trim(message(Event), trailing, "\n"), "\n"].

%% What an event of ours is stands first, in words; the rest of its report below.
message(#{msg := {report, #{what := What} = Report}} = Event) when is_atom(What) ->
    Title = string:replace(atom_to_list(What), "_", " ", all),
    [Title, "\n", message(Event#{msg := {report, maps:remove(what, Report)}})];
message(Event) ->
    logger_formatter:format(Event, #{single_line => false, template => [msg]}).

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
