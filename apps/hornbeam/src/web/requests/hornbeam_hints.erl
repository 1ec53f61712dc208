%% Which option has refused a client, in the log: once a minute for each, and how often meanwhile.
%%
%% Who meets a refusal for the first time does not know that there is an option to it.
-module(hornbeam_hints).

-include_lib("kernel/include/logger.hrl").

-export([new/0, limit/1, host/1, origin/1]).

-define(KEY, ?MODULE).

%% Between two lines about the same (s).
-define(PAUSE, 60).

%% @doc None has been told yet.
-spec new() -> ok.
new() ->
    Told = atomics:new(2 * length(options()), []),
    lists:foreach(fun(Option) -> atomics:put(Told, place(Option), now_s()) end, options()),
    persistent_term:put(?KEY, Told).

%% Each has two numbers: when it is due again, and how often it has refused since.
options() ->
    [allowed_hosts, allowed_origins, max_body_size, limit_request_line, limit_request_fields,
     max_connections, queue_max, queue_timeout, timeout, websocket_max_frame_rate,
     websocket_max_frame_size, http2_max_resets, proxy_protocol_from].

%% @doc A limit has refused a client.
-spec limit(hornbeam_counters:name() | messages_too_large) -> ok.
limit(bodies_too_large) ->
    tell(max_body_size, "a request had a larger body: 413", "");
limit(uris_too_long) ->
    tell(limit_request_line, "a request line was longer: 414", "");
limit(fields_too_large) ->
    tell(limit_request_fields, "the fields of a request were more or larger: 431",
         "see limit_request_field_size and limit_request_head too");
limit(refused) ->
    tell(max_connections, "so many connections are open, or requests in progress: 503", "");
limit(queue_full) ->
    tell(queue_max, "so many requests wait for a worker: 503", "or more workers");
limit(queue_timeouts) ->
    tell(queue_timeout, "a request has waited so long for a worker: 503", "or more workers");
limit(timeouts) ->
    tell(timeout, "the app had not begun to answer a request by then: 504", "");
limit(too_fast) ->
    tell(websocket_max_frame_rate, "a client sent frames faster: 1008", "");
limit(messages_too_large) ->
    tell(websocket_max_frame_size, "a client sent a larger message: 1009", "");
limit(http2_floods) ->
    tell(http2_max_resets, "a client of HTTP/2 has broken off as many requests",
         "see http2_max_frames too");
limit(proxy_refused) ->
    tell(proxy_protocol_from, "a peer that it names began with no header of the PROXY protocol",
         "");
limit(_Other) ->
    ok.

%% @doc A request names a host that is not served.
-spec host(Host :: binary()) -> ok.
host(Host) ->
    tell(allowed_hosts, ["a request names the host ", Host, ": 400"],
         "add it, without its port, if it is yours").

%% @doc A WebSocket's page is none of those that may open one.
-spec origin(Origin :: binary()) -> ok.
origin(Origin) ->
    tell(allowed_origins, ["a page of ", Origin, " opens a WebSocket: 403"],
         ["add it if it is yours: --allowed-origins same_host,", Origin]).

tell(Option, Because, Advice) ->
    case persistent_term:get(?KEY, none) of
        none -> ok;
        Told -> tell(Option, place(Option), Told, Because, Advice)
    end.

place(Option) -> place(Option, options(), 1).

place(Option, [Option | _], Place) -> Place;
place(Option, [_ | Options], Place) -> place(Option, Options, Place + 2).

tell(Option, Place, Told, Because, Advice) ->
    Times = atomics:add_get(Told, Place + 1, 1),
    Now = now_s(),
    Due = atomics:get(Told, Place),
    case Now >= Due andalso atomics:compare_exchange(Told, Place, Due, Now + ?PAUSE) of
        ok ->
            atomics:sub(Told, Place + 1, Times),
            log(Option, Times, Because, Advice);
        _ ->
            ok
    end.

log(Option, Times, Because, Advice) ->
    ?LOG_NOTICE(maps:merge(#{what => refused, option => Option, times => Times,
                             because => iolist_to_binary(Because)}, advice(Advice)),
                #{domain => [hornbeam]}).

advice("") -> #{};
advice(Advice) -> #{advice => iolist_to_binary(Advice)}.

now_s() -> erlang:monotonic_time(second).
