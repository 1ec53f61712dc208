%% Who is let in: a Cowboy middleware between the mounts and the handlers.
%%
%% It finds out who the client is (hornbeam_forwarded), whether host and origin are those that
%% may be (hornbeam_admission), and asks the node's own code (hornbeam_on_connect). A handler
%% gets the request as the client sees it, and never one that was refused.
-module(hornbeam_reception).
-behaviour(cowboy_middleware).

-include_lib("kernel/include/logger.hrl").

-export([execute/2, admit/3]).

%% @private
-spec execute(Req, Env) -> {ok, Req, Env} | {stop, Req}
    when Req :: cowboy_req:req(), Env :: cowboy_middleware:env().
execute(Req0, #{mount := Mount, handler := Handler} = Env) ->
    Type = type(Handler),
    case admit(Type, Req0, Mount) of
        {ok, _Told, Req} -> ask(Type, Req, Env);
        {refuse, Status, Sentence} -> {stop, hornbeam_response:refuse(Status, Sentence, Req0)}
    end.

%% @doc The request as the client sees it, and whether proxies told anything of it, unless our own
%% rules refuse it; what they say is counted. The node's own code is not asked.
-spec admit(http | websocket, Req, hornbeam_mounts:mount()) ->
    {ok, none | believed | ignored, Req} | {refuse, 400 | 403, Sentence :: binary()}
    when Req :: cowboy_req:req().
admit(Type, Req0, #{server := #{forwarded_allow_ips := Trusted} = Server} = Mount) ->
    #{options := Options, counters := Counters} = Mount,
    {Told, Req} = hornbeam_forwarded:resolve(with_host(Req0), Trusted),
    _ = [hornbeam_counters:add(forwarded_ignored, Counters) || Told =:= ignored],
    case hornbeam_admission:check(Type, Req, Server, Options) of
        ok ->
            {ok, Told, Req};
        {refuse, Refusal} ->
            {Counter, Status, Sentence} = answer(Refusal),
            hornbeam_counters:add(Counter, Counters),
            {refuse, Status, Sentence}
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

answer(bad_host) -> {host_refused, 400, <<"The Host header names no host.\n">>};
answer(unknown_host) -> {host_refused, 400, <<"This host is not served here.\n">>};
answer(foreign_origin) -> {origin_refused, 403, <<"Pages of this origin may not connect.\n">>}.

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
