%% What the web room counts since the server's start, without a process. That a limit bites is an
%% event, too.
-module(hornbeam_counters).

-export([new/0, publish/1, add/2, values/1, current/0, is_limit/1]).
-export_type([ref/0, name/0]).

-opaque ref() :: {counters:counters_ref(), #{name() => pos_integer()}}.
-type name() ::
    http_requests
    | websockets
    | event_streams
    | idle_closed
    | head_timeouts
    | bad_requests
    | uris_too_long
    | fields_too_large
    | bodies_too_large
    | origin_refused
    | host_refused
    | no_mount
    | forwarded_ignored
    | forwarded_refused
    | connect_refused
    | connect_failed
    | refused
    | no_worker
    | queue_full
    | queue_timeouts
    | timeouts
    | slow_clients_closed
    | resumes
    | resumes_late
    | kicked
    | too_fast
    | tls_refused
    | proxy_refused
    | redirected
    | http2_floods.

names() ->
    [http_requests,
     websockets,
     event_streams,
     idle_closed,
     head_timeouts,
     bad_requests,
     uris_too_long,
     fields_too_large,
     bodies_too_large,
     origin_refused,
     host_refused,
     no_mount,
     forwarded_ignored,
     forwarded_refused,
     connect_refused,
     connect_failed,
     refused,
     no_worker,
     queue_full,
     queue_timeouts,
     timeouts,
     slow_clients_closed,
     resumes,
     resumes_late,
     kicked,
     too_fast,
     tls_refused,
     proxy_refused,
     redirected,
     http2_floods].

%% @doc All counters at zero.
-spec new() -> ref().
new() ->
    Names = names(),
    Places = maps:from_list(lists:zip(Names, lists:seq(1, length(Names)))),
    {counters:new(length(Names), [write_concurrency]), Places}.

%% @doc Let the counters of the server be found, in the place of those of the one before.
-spec publish(ref()) -> ok.
publish(Ref) ->
    persistent_term:put(?MODULE, Ref).

%% @doc Count one.
-spec add(name(), ref()) -> ok.
add(Name, {Counters, Places}) ->
    counters:add(Counters, maps:get(Name, Places), 1),
    tell(Name).

tell(Name) ->
    _ = [tell_of_limit(Name) || is_limit(Name)],
    ok.

tell_of_limit(Limit) ->
    hornbeam_hints:limit(Limit),
    hornbeam_telemetry:execute([hornbeam, limit, hit], #{count => 1}, #{limit => Limit}).

%% @doc Whether what is counted is that a limit bites, and not work.
-spec is_limit(name()) -> boolean().
is_limit(Name) ->
    not lists:member(Name, [http_requests, websockets, event_streams, resumes, kicked,
                             redirected]).

%% @doc The values of the server's counters now; empty before the first server.
-spec current() -> #{name() => non_neg_integer()}.
current() ->
    case persistent_term:get(?MODULE, none) of
        none -> #{};
        Ref -> values(Ref)
    end.

%% @doc The values now.
-spec values(ref()) -> #{name() => non_neg_integer()}.
values({Counters, Places}) ->
    maps:map(fun(_Name, Place) -> counters:get(Counters, Place) end, Places).
