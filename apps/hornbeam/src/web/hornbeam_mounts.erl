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
-spec execute(Req, Env) -> {ok, Req, Env}
    when Req :: cowboy_req:req(), Env :: cowboy_middleware:env().
execute(Req, #{mount := Mount} = Env) ->
    {ok, Req, Env#{handler => handler(Req), handler_opts => Mount}}.

%% @doc A worker for a new stream; when there is none, or no room, that is counted.
-spec checkout(mount()) -> {ok, hornbeam_stream:handle()} | unavailable.
checkout(#{pool := Pool, counters := Counters, options := #{max_connections := Max}}) ->
    case hornbeam_pool:checkout(Pool, Max) of
        {ok, Handle} ->
            {ok, Handle};
        {error, full} ->
            hornbeam_counters:add(refused, Counters),
            unavailable;
        {error, no_worker} ->
            hornbeam_counters:add(no_worker, Counters),
            unavailable
    end.

handler(#{version := 'HTTP/2', method := <<"CONNECT">>, protocol := <<"websocket">>}) ->
    hornbeam_websocket_h;
handler(#{headers := #{<<"upgrade">> := Upgrade}, version := 'HTTP/1.1'}) ->
    case string:equal(Upgrade, <<"websocket">>, true) of
        true -> hornbeam_websocket_h;
        false -> hornbeam_http_h
    end;
handler(_Req) ->
    hornbeam_http_h.
