%% Who is let in: a Cowboy middleware between the mounts and the handlers.
%%
%% It finds out who the client is (hornbeam_forwarded), whether host and origin are those that
%% may be (hornbeam_admission), and asks the node's own code (hornbeam_on_connect). A handler
%% gets the request as the client sees it, and never one that was refused.
-module(hornbeam_reception).
-behaviour(cowboy_middleware).

-include_lib("kernel/include/logger.hrl").

-export([execute/2]).

%% @private
-spec execute(Req, Env) -> {ok, Req, Env} | {stop, Req}
    when Req :: cowboy_req:req(), Env :: cowboy_middleware:env().
execute(Req0, #{mount := Mount, handler := Handler} = Env) ->
    #{options := Options, counters := Counters} = Mount,
    Req = as_the_client_sees_it(with_host(Req0), Options, Counters),
    Type = type(Handler),
    case hornbeam_admission:check(Type, Req, Options) of
        ok -> ask(Type, Req, Env);
        {refuse, Refusal} -> refuse(Refusal, Req, Counters)
    end.

type(hornbeam_websocket_h) -> websocket;
type(_Handler) -> http.

%% HTTP/2 names the host in a pseudo-header.
with_host(#{headers := #{<<"host">> := _}} = Req) ->
    Req;
with_host(#{version := 'HTTP/2', headers := Headers} = Req) ->
    Req#{headers := Headers#{<<"host">> => authority(Req)}};
with_host(Req) ->
    Req.

authority(#{scheme := Scheme, host := Host, port := Port}) ->
    case hornbeam_origin:default_port(Scheme) of
        _ when Port =:= undefined -> Host;
        Port -> Host;
        _ -> <<Host/binary, $:, (integer_to_binary(Port))/binary>>
    end.

as_the_client_sees_it(Req0, #{forwarded_allow_ips := Trusted}, Counters) ->
    case hornbeam_forwarded:resolve(Req0, Trusted) of
        {ignored, Req} ->
            hornbeam_counters:add(forwarded_ignored, Counters),
            Req;
        {_, Req} ->
            Req
    end.

refuse(bad_host, Req, Counters) ->
    hornbeam_counters:add(host_refused, Counters),
    {stop, hornbeam_response:refuse(400, <<"The Host header names no host.\n">>, Req)};
refuse(unknown_host, Req, Counters) ->
    hornbeam_counters:add(host_refused, Counters),
    {stop, hornbeam_response:refuse(400, <<"This host is not served here.\n">>, Req)};
refuse(foreign_origin, Req, Counters) ->
    hornbeam_counters:add(origin_refused, Counters),
    {stop, hornbeam_response:refuse(403, <<"Pages of this origin may not connect.\n">>, Req)}.

ask(_Type, Req, #{mount := #{options := #{on_connect := undefined}}} = Env) ->
    {ok, Req, Env};
ask(Type, Req, #{mount := Mount} = Env) ->
    #{options := #{on_connect := Fun, on_connect_timeout := Timeout}} = Mount,
    answered(hornbeam_on_connect:ask(Fun, described(Type, Req), Timeout), Req, Env).

described(Type, Req) ->
    #{method := Method, path := Path, qs := Query, headers := Headers, peer := Peer,
      scheme := Scheme} = Req,
    #{type => Type, method => Method, path => Path, query => Query, headers => Headers,
      peer => peer(Peer), scheme => Scheme, host => maps:get(<<"host">>, Headers, undefined)}.

%% A Unix socket has no address.
peer(Peer) when is_tuple(element(1, Peer)) -> Peer;
peer(_Local) -> undefined.

answered(ok, Req, Env) ->
    {ok, Req, Env};
answered({ok, Additions}, Req, Env) ->
    {ok, Req#{connect => Additions}, Env};
answered({refuse, Status, Headers, Body}, Req, #{mount := #{counters := Counters}}) ->
    hornbeam_counters:add(connect_refused, Counters),
    {stop, cowboy_req:reply(Status, Headers, Body, Req)};
answered({failed, Why}, #{path := Path} = Req, #{mount := #{counters := Counters}}) ->
    hornbeam_counters:add(connect_failed, Counters),
    ?LOG_ERROR(#{what => on_connect_failed, path => Path, reason => Why},
               #{domain => [hornbeam]}),
    {stop, hornbeam_response:refuse(500, Req)}.
