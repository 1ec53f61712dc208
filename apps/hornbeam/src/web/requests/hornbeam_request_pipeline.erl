%% The way of a request to its app: one for HTTP and WebSockets, whatever engine has read it.
%%
%%   check ──▶ on_connect ──▶ a place on a worker
%%     │ 4xx         │ refused, 500        │ 503
%%
%% The rules of the server (who the client is, hosts, origins) need no waiting: check/3. What may
%% have to be waited for, the node's own code and a place, goes on by messages to the owner of what
%% is to come: start/4, then handle_info/2 for each message. It never waits itself.
-module(hornbeam_request_pipeline).

-include_lib("kernel/include/logger.hrl").
-include("hornbeam_request.hrl").

-export([check/3, start/4, handle_info/2, cancel/1]).
-export_type([pipeline/0, type/0, step/0]).

-type type() :: hornbeam_access:type().

-record(pipeline, {
    request :: hornbeam_request:request(),
    mount :: hornbeam_mounts:mount(),
    step :: {asked, hornbeam_on_connect:tag()} | {place, hornbeam_mounts:wait()} | {apart, pid()},
    %% since when it waits for a place (µs)
    since = 0 :: integer()
}).
-opaque pipeline() :: #pipeline{}.

-type step() ::
    {ok, hornbeam_capacity:handle(), hornbeam_request:request()}
    | {wait, pipeline()}
    | {refuse, refusal()}.
-type refusal() :: {Status :: 200..599, hornbeam_headers:fields(), Body :: binary()}.

%% @doc The request as the client sees it, and whether proxies told anything of it, unless the rules
%% refuse it, or no app is where it goes. What they say is counted.
%%
%% Health is told to whoever asks, whatever host he names: probes name an address. The access log
%% has none of it.
-spec check(type(), Request, hornbeam_mounts:mount()) ->
    {ok, none | believed | ignored, Request} | {refuse, refusal()}
    when Request :: hornbeam_request:request().
check(_Type, Request, #{path := health} = Mount) ->
    {refuse, hornbeam_health:response(Request, Mount)};
check(_Type, Request, #{path := full} = Mount) ->
    refuse(full, Request, Mount);
check(Type, Given, #{counters := Counters, server := Server} = Mount) ->
    Request0 = hornbeam_request_id:identify(Given, Server),
    #{forwarded_allow_ips := Trusted} = Server,
    case hornbeam_forwarded:resolve(Request0, Trusted) of
        malformed ->
            refuse(malformed, Request0, Mount);
        {Told, Request} ->
            _ = [hornbeam_counters:add(forwarded_ignored, Counters) || Told =:= ignored],
            case judge(Type, Request, Request0#request.peer, Mount) of
                ok -> {ok, Told, Request};
                {refuse, Refusal} -> refuse(Refusal, Request, Mount)
            end
    end.

judge(_Type, Request, _Peer, #{redirect := Port, server := Server}) when Port =/= none ->
    redirected(hornbeam_access:check_host(Request, Server), Port, Request);
judge(Type, Request, Peer, #{server := #{forwarded_allow_ips := Trusted} = Server} = Mount) ->
    #{path := Path, options := Options} = Mount,
    case is_misdirected(Request, Peer, Trusted) of
        true -> {refuse, misdirected};
        false when Path =:= none -> nowhere(hornbeam_access:check_host(Request, Server));
        false -> hornbeam_access:check(Type, Request, Server, Options)
    end.

nowhere(ok) -> {refuse, no_mount};
nowhere(Refused) -> Refused.

redirected(ok, Port, Request) ->
    case hornbeam_redirect:location(Port, Request) of
        {ok, Location} -> {refuse, {redirect, Location}};
        error -> {refuse, bad_host}
    end;
redirected(Refused, _Port, _Request) ->
    Refused.

refuse({redirect, Location}, Request, #{counters := Counters, traffic := Traffic}) ->
    hornbeam_counters:add(redirected, Counters),
    hornbeam_traffic:refused(Request#request.method, 308, Traffic),
    hornbeam_access_log:refused(Request, 308, 0),
    {refuse, {308, hornbeam_request_id:answer([{<<"location">>, Location}], Request), <<>>}};
refuse(Refusal, Request, #{counters := Counters, traffic := Traffic}) ->
    {Counter, Status, Sentence} = answer(Refusal),
    hornbeam_counters:add(Counter, Counters),
    hint(Refusal, Request),
    hornbeam_traffic:refused(Request#request.method, Status, Traffic),
    hornbeam_access_log:refused(Request, Status, byte_size(Sentence)),
    {Status, Fields, Sentence} = hornbeam_error_response:new(Status, Sentence),
    {refuse, {Status, hornbeam_request_id:answer(Fields, Request), Sentence}}.

hint(unknown_host, Request) ->
    hornbeam_hints:host(hornbeam_request:field(<<"host">>, Request));
hint(foreign_origin, Request) ->
    hornbeam_hints:origin(hornbeam_request:field(<<"origin">>, Request));
hint(_Refusal, _Request) ->
    ok.

%% What is of https came past its protection (RFC 9110, 7.4), unless a trusted proxy has ended that.
is_misdirected(#request{https = true, scheme = <<"http">>}, Peer, Trusted) ->
    not hornbeam_forwarded:trusts(Peer, Trusted);
is_misdirected(_Request, _Peer, _Trusted) ->
    false.

answer(malformed) ->
    {forwarded_refused, 400, <<"What proxies say of the client cannot be read.\n">>};
answer(full) -> {refused, 503, <<"The server has no room for another connection now.\n">>};
answer(bad_host) -> {host_refused, 400, <<"The Host header names no host.\n">>};
answer(misdirected) -> {host_refused, 421, <<"A target of https must come over TLS.\n">>};
answer(no_mount) -> {no_mount, 404, <<"No app is served at this path.\n">>};
answer(unknown_host) -> {host_refused, 400, <<"This host is not served here.\n">>};
answer(foreign_origin) -> {origin_refused, 403, <<"Pages of this origin may not connect.\n">>}.

%% @doc Go on with a request that was checked; messages come to `Owner'.
-spec start(type(), hornbeam_stream:owner(), hornbeam_request:request(),
            hornbeam_mounts:mount()) -> step().
start(Type, Owner, Request, Mount) ->
    admit(Type, Owner, hornbeam_affinity:find(hornbeam_stream:process(Owner), Request, Mount),
          Mount).

admit(Type, Owner, Request, #{waits := apart, options := #{on_connect := undefined}} = Mount) ->
    case hornbeam_mounts:reserve_now(hornbeam_affinity:session(Request), Mount) of
        {ok, Handle} -> {ok, Handle, Request};
        none -> apart(Type, Owner, Request, Mount)
    end;
admit(Type, Owner, Request, #{waits := apart} = Mount) ->
    apart(Type, Owner, Request, Mount);
admit(_Type, _Owner, Request, #{options := #{on_connect := undefined}} = Mount) ->
    place(Request, Mount);
admit(Type, Owner, Request, #{options := Options} = Mount) ->
    #{on_connect := Callback, on_connect_timeout := Timeout} = Options,
    Tag = hornbeam_on_connect:ask(Owner, Callback, described(Type, Request), Timeout),
    {wait, #pipeline{request = Request, mount = Mount, step = {asked, Tag}}}.

place(Request, Mount) ->
    placed(hornbeam_mounts:reserve(hornbeam_affinity:session(Request), Mount), Request, Mount).

placed({ok, Handle}, Request, _Mount) ->
    {ok, Handle, Request};
placed({wait, Wait}, Request, Mount) ->
    {wait, #pipeline{request = Request, mount = Mount, step = {place, Wait},
                     since = erlang:monotonic_time(microsecond)}};
placed(unavailable, _Request, _Mount) ->
    {refuse, hornbeam_error_response:new(503)}.

%% @doc A message for the owner. What has nothing to do with this changes nothing.
-spec handle_info(term(), pipeline()) -> step().
handle_info({on_connect, Tag, Decision}, #pipeline{step = {asked, Tag}} = Pipeline) ->
    decided(Decision, Pipeline);
handle_info(Message, #pipeline{mount = Mount, step = {place, Wait}} = Pipeline) ->
    waited(hornbeam_mounts:handle_info(Message, Wait, Mount), Pipeline);
handle_info({pipeline, Pid, Step}, #pipeline{step = {apart, Pid}}) ->
    used(Step, Pid);
handle_info(_Other, Pipeline) ->
    {wait, Pipeline}.

waited({wait, Wait}, Pipeline) ->
    {wait, Pipeline#pipeline{step = {place, Wait}}};
waited(Given, #pipeline{request = Request, mount = #{traffic := Traffic} = Mount, since = Since}) ->
    _ = [hornbeam_traffic:waited(Since, Traffic) || Given =/= unavailable],
    placed(Given, Request, Mount).

used({ok, Handle, Request}, Pid) ->
    Claimed = hornbeam_capacity:claim(Handle),
    Pid ! used,
    {ok, Claimed, Request};
used({refuse, _} = Refused, Pid) ->
    Pid ! used,
    Refused.

decided(ok, #pipeline{request = Request, mount = Mount}) ->
    place(Request, Mount);
decided({ok, Additions}, #pipeline{request = Request, mount = Mount}) ->
    place(Request#request{connect = Additions, rest = undefined}, Mount);
decided({refuse, Status, Fields, Body}, #pipeline{mount = #{counters := Counters}}) ->
    hornbeam_counters:add(connect_refused, Counters),
    {refuse, {Status, Fields, iolist_to_binary(Body)}};
decided({failed, Why}, #pipeline{request = Request, mount = #{counters := Counters}}) ->
    hornbeam_counters:add(connect_failed, Counters),
    ?LOG_ERROR(#{what => on_connect_failed, path => Request#request.path, reason => Why},
               #{domain => [hornbeam]}),
    {refuse, hornbeam_error_response:new(500)}.

described(Type, #request{method = Method, path = Path, query = Query, peer = Peer} = Request) ->
    #{type => Type, method => Method, path => Path, query => Query,
      headers => hornbeam_headers:joined(Request#request.fields), peer => peer(Peer),
      scheme => Request#request.scheme, host => hornbeam_request:field(<<"host">>, Request)}.

%% A Unix socket has no address.
peer({Ip, _Port} = Peer) when is_tuple(Ip) -> Peer;
peer(_Local) -> undefined.

%% A process that waits for another, and has the place until that has used it: it may be killed at
%% any time, and a place is watched over only when the pool gives it.
apart(Type, Owner, Request, Mount) ->
    Watched = Mount#{waits := watched},
    Pid = spawn(fun() -> start_apart(Type, Owner, Request, Watched) end),
    {wait, #pipeline{request = Request, mount = Mount, step = {apart, Pid}}}.

start_apart(Type, Owner, Request, Mount) ->
    Client = erlang:monitor(process, hornbeam_stream:process(Owner)),
    case wait(admit(Type, self(), Request, Mount), Client) of
        gone ->
            ok;
        Step ->
            hornbeam_stream:send(Owner, {pipeline, self(), Step}),
            receive
                used -> ok;
                {'DOWN', Client, process, _, _} -> ok
            end
    end.

wait({wait, Pipeline}, Client) ->
    receive
        {'DOWN', Client, process, _, _} -> gone;
        Message -> wait(handle_info(Message, Pipeline), Client)
    end;
wait(Done, _Client) ->
    Done.

%% @doc Wait no longer.
-spec cancel(pipeline()) -> ok.
cancel(#pipeline{step = {apart, Pid}}) ->
    exit(Pid, kill),
    ok;
cancel(#pipeline{step = {asked, Tag}}) ->
    hornbeam_on_connect:forget(Tag);
cancel(#pipeline{step = {place, Wait}, mount = Mount}) ->
    hornbeam_mounts:cancel(Wait, Mount).
