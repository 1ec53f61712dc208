%% What a node says of itself when something is wrong with it: one report, to be pasted into an
%% issue. Nothing that was given as a secret is in it (hornbeam_secret, hornbeam_redaction).
-module(hornbeam_doctor).

-export([report/2]).

-define(LIBRARIES, [hornbeam, cowboy, cowlib, ranch, crypto, ssl, kernel, stdlib]).

%% @doc The report, of what {@link hornbeam:info/0} tells and of checked options.
-spec report(#{atom() => term()}, hornbeam_config:checked()) -> #{atom() => term()}.
report(Info, #{server := Server, mounts := Mounts}) ->
    #{versions => versions(),
      system => system(),
      limits => limits(),
      memory => maps:from_list(erlang:memory()),
      server => options(Server),
      mounts => maps:from_list([{Path, options(Options)} || {Path, Options} <- Mounts]),
      interpreters => maps:from_list([{Path, interpreter(Options)} || {Path, Options} <- Mounts]),
      status => hornbeam_control_status:of_server(Info),
      crashes => hornbeam_crashes:recent()}.

versions() ->
    Of = [{Library, version(application:get_key(Library, vsn))} || Library <- ?LIBRARIES],
    (maps:from_list(Of))#{otp => list_to_binary(erlang:system_info(otp_release)),
                          erts => list_to_binary(erlang:system_info(version))}.

version({ok, Version}) -> list_to_binary(Version);
version(undefined) -> undefined.

system() ->
    #{architecture => list_to_binary(erlang:system_info(system_architecture)),
      processors => erlang:system_info(logical_processors_available),
      schedulers => erlang:system_info(schedulers_online),
      encoding => file:native_name_encoding(),
      distributed => is_alive()}.

%% What there is at most, and what of it is in use.
limits() ->
    Used = [{Name, #{used => erlang:system_info(Count), most => erlang:system_info(Limit)}}
            || {Name, Count, Limit} <- [{processes, process_count, process_limit},
                                        {ports, port_count, port_limit},
                                        {atoms, atom_count, atom_limit},
                                        {tables, ets_count, ets_limit}]],
    (maps:from_list(Used))#{ulimit => ulimit(file:read_file("/proc/self/limits"))}.

ulimit({ok, Text}) -> Text;
ulimit({error, _}) -> undefined.

interpreter(Options) ->
    case hornbeam_config:python(Options) of
        {ok, Python} -> Python;
        {error, Reason} -> printed(Reason)
    end.

%% As they were given, or near to it.
options(Options) ->
    maps:map(fun(_Key, Value) -> option(Value) end, Options).

option(Value) when is_function(Value, 0) -> hidden;
option(Value) when is_binary(Value); is_number(Value); is_atom(Value) -> Value;
option(Value) -> printed(Value).

printed(Term) -> unicode:characters_to_binary(io_lib:format("~0tp", [Term])).
