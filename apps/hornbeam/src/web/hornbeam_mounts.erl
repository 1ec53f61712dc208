%% Which handler serves a request: a Cowboy middleware.
%%
%% One mount so far, the app at "/". What its handlers need to know travels in the mount.
-module(hornbeam_mounts).
-behaviour(cowboy_middleware).

-export([execute/2, checkout/1]).
-export_type([mount/0]).

-type mount() :: #{pool := hornbeam_pool:name(), counters := hornbeam_counters:ref(),
                   options := hornbeam_config:options()}.

%% @private
-spec execute(Req, Env) -> {ok, Req, Env} | {stop, Req}
    when Req :: cowboy_req:req(), Env :: cowboy_middleware:env().
execute(#{method := <<"CONNECT">>, protocol := Protocol} = Req, _Env)
        when Protocol =/= <<"websocket">> ->
    {stop, hornbeam_response:refuse(501, Req)};
execute(Req, #{mount := Mount} = Env) ->
    {ok, Req, Env#{handler => handler(Req), handler_opts => Mount}}.

%% @doc A place on a worker for a new stream, waited for when none is free; when none came free,
%% that is counted.
-spec checkout(mount()) -> {ok, hornbeam_stream:handle()} | unavailable.
checkout(#{pool := Pool, counters := Counters, options := #{max_connections := Max}}) ->
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

handler(#{version := 'HTTP/2', method := <<"CONNECT">>, protocol := <<"websocket">>}) ->
    hornbeam_websocket_h;
handler(#{headers := #{<<"upgrade">> := Upgrade}, version := 'HTTP/1.1'}) ->
    case cowboy_bstr:to_lower(Upgrade) of
        <<"websocket">> -> hornbeam_websocket_h;
        _ -> hornbeam_http_h
    end;
handler(_Req) ->
    hornbeam_http_h.
