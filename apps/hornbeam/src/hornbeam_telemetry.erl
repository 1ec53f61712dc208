%% @doc What happens in the server, told to whoever attached a function to it.
%%
%% The conventions are those of the `telemetry' library: an event is a list of atoms, with a map of
%% measurements and a map of metadata. Where that library is loaded, its handlers get each event,
%% too. The list of events stands in docs/guide/deployment.md.
%%
%% ```
%% hornbeam_telemetry:attach(my_log, [hornbeam, websocket, close],
%%     fun(_Event, #{seconds := S}, #{path := Path, code := Code}, _Config) ->
%%         logger:info("~ts closed with ~b after ~b s", [Path, Code, S])
%%     end, none).
%% '''
%%
%% A leaf: every room may call it, and it calls none.
-module(hornbeam_telemetry).

-include_lib("kernel/include/logger.hrl").

-export([new_table/0, attach/4, detach/1, is_wanted/0, execute/3, events/0]).
-export_type([event/0, handler/0]).

-type event() :: [atom(), ...].
-type handler() :: fun((event(), Measurements :: #{atom() => term()},
                        Metadata :: #{atom() => term()}, Config :: term()) -> term()).

%% Rows: {Event, Id, Handler, Config}.
-define(TABLE, ?MODULE).

%% @doc Make the table; its owner must outlive everybody.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, bag, {read_concurrency, true}]),
    persistent_term:put(?MODULE, false).

%% What it takes to tell of it is made for each request.
-define(EACH_REQUEST, [hornbeam, http, stop]).

%% @doc All events.
-spec events() -> [event()].
events() ->
    [?EACH_REQUEST,
     [hornbeam, websocket, open],
     [hornbeam, websocket, resume],
     [hornbeam, websocket, close],
     [hornbeam, event_stream, open],
     [hornbeam, event_stream, close],
     [hornbeam, limit, hit],
     [hornbeam, session, moved],
     [hornbeam, worker, ready],
     [hornbeam, worker, retire],
     [hornbeam, worker, down]].

%% @doc Call a function for each event of a kind, in the process in which it happens: it must be
%% quick. One that fails is detached, with a line in the log.
-spec attach(Id :: term(), event(), handler(), Config :: term()) ->
    ok | {error, already_exists | unknown_event}.
attach(Id, Event, Handler, Config) when is_function(Handler, 4) ->
    case {lists:member(Event, events()), ets:match(?TABLE, {'_', Id, '_', '_'})} of
        {false, _} ->
            {error, unknown_event};
        {true, []} ->
            true = ets:insert(?TABLE, {Event, Id, Handler, Config}),
            _ = Event =:= ?EACH_REQUEST andalso persistent_term:put(?MODULE, true),
            ok;
        {true, _} ->
            {error, already_exists}
    end.

%% @doc Call a function no more.
-spec detach(Id :: term()) -> ok | {error, not_found}.
detach(Id) ->
    HasId = {{'_', '$1', '_', '_'}, [{'=:=', '$1', {const, Id}}], [true]},
    case ets:select_delete(?TABLE, [HasId]) of
        0 -> {error, not_found};
        _ -> ok
    end.

%% @private Whether anybody ever wanted to be told of each request: what is told need not be made
%% otherwise.
-spec is_wanted() -> boolean().
is_wanted() ->
    persistent_term:get(?MODULE) orelse erlang:function_exported(library(), execute, 3).

%% @private
-spec execute(event(), #{atom() => term()}, #{atom() => term()}) -> ok.
execute(Event, Measurements, Metadata) ->
    lists:foreach(fun(Row) -> handle(Row, Measurements, Metadata) end, ets:lookup(?TABLE, Event)),
    to_library(library(), Event, Measurements, Metadata).

%% Nobody's dependency: called only where somebody else has loaded it.
library() ->
    telemetry.

handle({Event, Id, Handler, Config}, Measurements, Metadata) ->
    try
        Handler(Event, Measurements, Metadata, Config)
    catch
        Class:Reason:Stack ->
            _ = detach(Id),
            ?LOG_ERROR(#{what => telemetry_handler_failed, id => Id, event => Event,
                         class => Class, reason => Reason, stacktrace => Stack},
                       #{domain => [hornbeam]})
    end.

to_library(Library, Event, Measurements, Metadata) ->
    _ = erlang:function_exported(Library, execute, 3)
        andalso Library:execute(Event, Measurements, Metadata),
    ok.
