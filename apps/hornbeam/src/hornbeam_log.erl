%% How our events look in the node's logs, whatever handlers and formatters those have.
%%
%% An event is a report; what makes it text is its `report_cb', which every formatter asks. Ours,
%% and those that OTP makes of our processes (a crash report has a state and a mailbox in it, with
%% what clients and apps have said), get one that shows what could forge a log or write to a
%% terminal. What is printed as a term is quoted by that already, but for what `erl +pc unicode'
%% takes for printable: marks of direction and ends of lines that are no line feed.
%%
%% What may be secret is in none of them: of OTP's, Ranch's and the emulator's reports about our
%% processes no text and no bytes are shown (hornbeam_redaction), of ours no field of a request that
%% carries a credential.
-module(hornbeam_log).

-export([install/0, uninstall/0, unicode/0, quoted/2, without_repetition/2]).

-define(FILTER, hornbeam).
-define(REPETITION, hornbeam_repetition).

%% Characters (about) of a term, and of a report of OTP: what an app calls with ends up there.
-define(LONGEST, 65536).

%% Whose processes those of our connections may be to OTP.
-define(APPLICATIONS, [hornbeam, ranch, cowboy]).

%% What Ranch knows our listeners by.
-define(IS_OURS(Ref), (Ref =:= hornbeam orelse Ref =:= hornbeam_operations
                       orelse is_tuple(Ref) andalso element(1, Ref) =:= hornbeam)).

%% @doc Write UTF-8 from now on, whatever the locale: apps do not know which one the node has, and
%% the emulator takes Latin-1 where there is no terminal, or a poor locale.
-spec unicode() -> ok.
unicode() ->
    lists:foreach(fun(Device) -> _ = io:setopts(Device, [{encoding, unicode}]) end,
                  [user, standard_error]).

%% @doc Show our events, and quote what is in them, from now on.
-spec install() -> ok.
install() ->
    ok = unicode(),
    _ = logger:add_primary_filter(?REPETITION, {fun ?MODULE:without_repetition/2, none}),
    _ = logger:add_primary_filter(?FILTER, {fun ?MODULE:quoted/2, none}),
    %% OTP's default handler shows no domain but its own; apps' output is in [hornbeam, python].
    _ = logger:add_handler_filter(default, ?FILTER,
                                  {fun logger_filters:domain/2, {log, sub, [hornbeam]}}),
    ok.

%% @doc No longer.
-spec uninstall() -> ok.
uninstall() ->
    _ = logger:remove_handler_filter(default, ?FILTER),
    _ = logger:remove_primary_filter(?FILTER),
    _ = logger:remove_primary_filter(?REPETITION),
    ok.

%% What the error of a start says OTP and Ranch report too: an address that cannot be listened on.
%% @private
-spec without_repetition(logger:log_event(), none) -> logger:filter_return().
without_repetition(#{msg := {"Failed to start Ranch listener" ++ _, [Ref | _]}}, none)
        when ?IS_OURS(Ref) ->
    stop;
without_repetition(#{msg := {report, #{label := Label, report := Report}}}, none) ->
    stop_if(is_of_listen(why(Label, Report)));
without_repetition(_Event, none) ->
    ignore.

stop_if(true) -> stop;
stop_if(false) -> ignore.

is_of_listen({listen_error, Ref, _}) -> ?IS_OURS(Ref);
is_of_listen(_Reason) -> false.

why({supervisor, start_error}, Report) ->
    proplists:get_value(reason, Report);
why({proc_lib, crash}, [Crash | _]) ->
    case proplists:get_value(error_info, Crash) of
        {_Class, Reason, _Stack} -> Reason;
        undefined -> undefined
    end;
why(_Label, _Report) ->
    undefined.

%% @private
-spec quoted(logger:log_event(), none) -> logger:filter_return().
quoted(#{msg := {report, _}, meta := Meta} = Event, none) ->
    case owner(Meta) of
        ours -> Event#{meta := Meta#{report_cb => fun report/2}};
        our_process -> Event#{meta := Meta#{report_cb => otp_report(Meta)}};
        other -> ignore
    end;
quoted(#{msg := {Format, Args}, meta := Meta} = Event, none) when is_list(Args) ->
    case is_about_ours(Meta, Format, Args) of
        true -> Event#{msg := {Format, [redacted(Arg) || Arg <- Args]}};
        false -> ignore
    end;
quoted(_Event, none) ->
    ignore.

%% Ranch and Cowboy say of a connection that it crashed, and the emulator of a process that nobody
%% else has seen to, which may have been ours.
is_about_ours(_Meta, "Ranch listener " ++ _, _Args) -> true;
is_about_ours(#{error_logger := #{emulator := true}}, _Format, Args) -> has_our_stack(Args);
is_about_ours(_Meta, _Format, _Args) -> false.

has_our_stack([Head | Rest]) -> has_our_stack(Head) orelse has_our_stack(Rest);
has_our_stack({Module, _, _, Where}) when is_atom(Module), is_list(Where) ->
    is_ours(string:lexemes(atom_to_list(Module), "_"));
has_our_stack(Tuple) when is_tuple(Tuple) -> has_our_stack(tuple_to_list(Tuple));
has_our_stack(_Other) -> false.

is_ours([Name | _]) -> lists:member(Name, ["hornbeam", "cowboy", "cow", "ranch"]).

%% Why a function of the user's has failed its author has to see; nobody what the process knew.
redacted_report(#{label := {proc_lib, crash}, report := [Crash | Linked]} = Report) ->
    Redacted = case proplists:get_value(initial_call, Crash) of
        {hornbeam_functions, _, _} ->
            Why = lists:keyfind(error_info, 1, Crash),
            lists:keyreplace(error_info, 1, redacted(Crash), Why);
        _ ->
            redacted(Crash)
    end,
    Report#{report := [Redacted | redacted(Linked)]};
redacted_report(Report) ->
    redacted(Report).

%% A sentence of Ranch's has names in it.
redacted(Arg) when is_atom(Arg); is_pid(Arg); is_number(Arg) -> Arg;
redacted(Arg) -> hornbeam_redaction:term(Arg).

owner(#{domain := [hornbeam | _]}) -> ours;
owner(#{domain := [otp | _], pid := Pid}) when node(Pid) =:= node() -> owner_of_process(Pid);
owner(_Meta) -> other.

owner_of_process(Pid) ->
    case application:get_application(Pid) of
        {ok, Application} -> our_process_if(lists:member(Application, ?APPLICATIONS));
        undefined -> other
    end.

our_process_if(true) -> our_process;
our_process_if(false) -> other.

%% As OTP writes reports, but in the order of their keys, which a map has none of; and text is text,
%% with its lines, of which none looks like the next key.
report(Report, Config) when is_map(Report) ->
    Lines = [["    ", printed(Key), ": ", value(Value)]
             || {Key, Value} <- lists:sort(maps:to_list(Report))],
    formatted({string, lists:join("\n", Lines)}, #{}, Config).

value({python, #{class := Class, message := Message, traceback := Traceback}}) ->
    [hornbeam_quoted:line([Class, ": ", Message]), "\n        ", indented(Traceback)];
value(<<_, _/binary>> = Bytes) ->
    case unicode:characters_to_list(Bytes) of
        Text when is_list(Text) -> indented(Text);
        _ -> printed(Bytes)
    end;
value(Term) ->
    printed(Term).

indented(Text) ->
    binary:replace(hornbeam_quoted:lines(Text), <<"\n">>, <<"\n    ">>, [global]).

printed(Term) ->
    Shown = hornbeam_redaction:fields(Term),
    hornbeam_quoted:printed(io_lib:format("~tp", [Shown], [{chars_limit, ?LONGEST}])).

otp_report(Meta) ->
    Callback = maps:get(report_cb, Meta, fun logger:format_report/1),
    fun(Report, Config) ->
        Short = Config#{chars_limit => shorter(maps:get(chars_limit, Config, unlimited))},
        hornbeam_quoted:printed(formatted({report, redacted_report(Report)},
                                          #{report_cb => Callback}, Short))
    end.

shorter(unlimited) -> ?LONGEST;
shorter(Limit) -> min(Limit, ?LONGEST).

%% Depth, length and lines as the handler has them.
formatted(Msg, Meta, Config) ->
    logger_formatter:format(#{level => notice, msg => Msg, meta => Meta#{time => 0}},
                            Config#{template => [msg]}).
