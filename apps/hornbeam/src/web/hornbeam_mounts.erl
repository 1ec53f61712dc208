%% Which handler serves a request: a Cowboy middleware.
%%
%% One mount so far, the app at "/". What its handlers need to know travels in the mount.
-module(hornbeam_mounts).
-behaviour(cowboy_middleware).

-export([new/2, execute/2, handler/1, reserve/1, checkout/1, shut/1, is_shut/1, over/2]).
-export_type([mount/0]).

-type mount() :: #{pool := hornbeam_pool:name(), counters := hornbeam_counters:ref(),
                   options := hornbeam_config:app_options(),
                   server := hornbeam_config:server_options(), listener := pid(),
                   shut := atomics:atomics_ref()}.
%% `shut': 1 from the moment on at which no new connection is taken.

%% @doc What the handlers of a pool's app need to know; the caller is the listener.
-spec new(hornbeam_pool:name(), hornbeam_config:checked()) -> mount().
new(Pool, #{server := Server, app := Options}) ->
    #{pool => Pool, counters => hornbeam_counters:new(), options => Options, server => Server,
      listener => self(), shut => atomics:new(1, [])}.

%% @private
-spec execute(Req, Env) -> {ok, Req, Env} | {stop, Req}
    when Req :: cowboy_req:req(), Env :: cowboy_middleware:env().
execute(#{method := <<"CONNECT">>, protocol := Protocol} = Req, _Env)
        when Protocol =/= <<"websocket">> ->
    {stop, hornbeam_response:refuse(501, Req)};
execute(Req, #{mount := Mount} = Env) ->
    {ok, Req, Env#{handler => handler(Req), handler_opts => Mount}}.

%% @doc Room for a new stream, if there is some now; see {@link hornbeam_pool:reserve/2}.
-spec reserve(mount()) -> {ok, hornbeam_stream:handle()} | none.
reserve(#{pool := Pool, server := #{max_connections := Max}}) ->
    hornbeam_pool:reserve(Pool, Max).

%% @doc A place on a worker for a new stream, waited for when none is free; when none came free,
%% that is counted.
-spec checkout(mount()) -> {ok, hornbeam_stream:handle()} | unavailable.
checkout(#{pool := Pool, counters := Counters, server := #{max_connections := Max}}) ->
    case hornbeam_pool:checkout(Pool, Max) of
        {ok, Handle} ->
            {ok, Handle};
        {error, Why} ->
            hornbeam_counters:add(counter(Why), Counters),
            unavailable
    end.

counter(full) -> refused;
counter(no_worker) -> no_worker;
counter(queue_full) -> queue_full;
counter(late) -> queue_timeouts.

%% @doc No connection is kept for another request from now on.
-spec shut(mount()) -> ok.
shut(#{shut := Shut}) ->
    atomics:put(Shut, 1, 1).

%% @doc Whether no connection is kept for another request.
-spec is_shut(mount()) -> boolean().
is_shut(#{shut := Shut}) ->
    atomics:get(Shut, 1) =:= 1.

%% @doc An exchange is over: the listener hears `{over, Exchange}' once it is shut, and may wait for
%% that.
-spec over(hornbeam_stream:owner(), mount()) -> ok.
over(Exchange, #{listener := Listener} = Mount) ->
    _ = [Listener ! {over, Exchange} || is_shut(Mount)],
    ok.

%% @doc Which handler serves a request.
-spec handler(cowboy_req:req()) -> hornbeam_websocket_h | hornbeam_http_h.
handler(#{version := 'HTTP/2', method := <<"CONNECT">>, protocol := <<"websocket">>}) ->
    hornbeam_websocket_h;
handler(#{headers := #{<<"upgrade">> := Upgrade}, version := 'HTTP/1.1'}) ->
    case cowboy_bstr:to_lower(Upgrade) of
        <<"websocket">> -> hornbeam_websocket_h;
        _ -> hornbeam_http_h
    end;
handler(_Req) ->
    hornbeam_http_h.
