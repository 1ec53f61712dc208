%% A WebSocket's handshake, whatever engine carries it.
%%
%%   waiting ──let in, a place──▶ asked ──accept──▶ the engine answers 101 (or 200 over HTTP/2)
%%      │ 4xx, 503                 │ close: 403   response: denial   failure: 500
%%                                 │ worker dead: 502   silence: 504   the server stops: 503
%%
%% The answer is held back until the app accepts. It lives in the engine's process, which owns the
%% stream and tells it what comes; wait/1 does that for a process with nothing else to do.
-module(hornbeam_websocket_handshake).

-include("../requests/hornbeam_request.hrl").
-include("hornbeam_websocket_session.hrl").

-export([new/3, handle_info/2, handle_timeout/1, deadline/1, cancel/1, await/1]).
-export_type([handshake/0, step/0]).

-record(handshake, {
    request :: hornbeam_request:request(),
    client :: pid(),
    mount :: hornbeam_mounts:mount(),
    step :: {waiting, hornbeam_request_pipeline:pipeline()} | {asked, #session{}},
    deadline = infinity :: integer() | infinity
}).
-opaque handshake() :: #handshake{}.

-type step() ::
    {wait, handshake()}
    | {refuse, {Status :: 300..599, hornbeam_headers:fields(), Body :: binary()}}
    | {deny, hornbeam_stream:stream(), Packet :: binary()}
    | {accept, hornbeam_headers:fields(), #session{}}.
%% `deny': the app answers with a response of its own, of which this is the first packet. It is the
%% calling process that owns the stream.

%% @doc Begin with a handshake that the rules of the server let in. What the app binds to the
%% connection lives as long as `Client'.
-spec new(hornbeam_request:request(), Client :: pid(), hornbeam_mounts:mount()) -> step().
new(Request, Client, Mount) ->
    case fault(Request) of
        none -> enter(Request, Client, Mount);
        Status -> refuse(hornbeam_error_response:new(Status), Request, Mount)
    end.

enter(Request, _Client, #{options := #{worker_class := wsgi}} = Mount) ->
    refuse(hornbeam_error_response:new(403, <<"WSGI apps have no WebSockets.\n">>), Request, Mount);
enter(Request, Client, Mount) ->
    entered(hornbeam_request_pipeline:start(websocket, self(), Request, Mount),
            {Request, Client, Mount}).

%% RFC 6455, 4.2.1; RFC 8441, 5. What follows a handshake is the WebSocket's: it has no body, and
%% over HTTP/2 no length of what is to come.
fault(#request{version = 'HTTP/2', body = Length}) when is_integer(Length) ->
    400;
fault(#request{version = 'HTTP/2'} = Request) ->
    case hornbeam_request:values(<<"sec-websocket-version">>, Request) of
        [<<"13">>] -> none;
        _ -> 400
    end;
fault(#request{body = Body}) when Body =/= none, Body =/= 0 ->
    400;
fault(#request{method = <<"GET">>} = Request) ->
    case {hornbeam_request:values(<<"sec-websocket-version">>, Request),
          hornbeam_request:values(<<"sec-websocket-key">>, Request)} of
        {[<<"13">>], [Key]} -> fault_unless(is_key(Key) andalso names_upgrade(Request));
        {[], _} -> 400;
        {[<<"13">>], _} -> 400;
        {_Other, _} -> 426
    end;
fault(_Request) ->
    400.

fault_unless(true) -> none;
fault_unless(false) -> 400.

%% 16 bytes in base64.
is_key(Key) when byte_size(Key) =:= 24 ->
    try
        byte_size(base64:decode(Key)) =:= 16
    catch
        error:_ -> false
    end;
is_key(_Key) ->
    false.

names_upgrade(Request) ->
    lists:any(fun(Value) -> lists:member(<<"upgrade">>, hornbeam_headers:items(Value)) end,
              hornbeam_request:values(<<"connection">>, Request)).

entered({ok, Handle, Request}, {_, Client, Mount}) ->
    {wait, ask(Handle, Request, Client, Mount)};
entered({wait, Pipeline}, {Request, Client, Mount}) ->
    {wait, #handshake{request = Request, client = Client, mount = Mount,
                      step = {waiting, Pipeline}}};
entered({refuse, Response}, {Request, _, Mount}) ->
    refuse(Response, Request, Mount).

refuse({Status, Fields, Body}, Request, #{traffic := Traffic}) ->
    hornbeam_traffic:refused(Request#request.method, Status, Traffic),
    hornbeam_access_log:refused(Request, Status, iolist_size(Body)),
    {refuse, {Status, hornbeam_request_id:answer(Fields, Request), Body}}.

ask(Handle, Request, Client, #{options := #{timeout := Timeout}} = Mount) ->
    Scope = hornbeam_scope:websocket(Request),
    Stream = hornbeam_stream:open(Handle, websocket, Client, fun(Number) ->
        hornbeam_wire:open_websocket(Number, Scope)
    end),
    Session = #session{mount = Mount, stream = Stream, number = hornbeam_stream:number(Stream),
                     worker = hornbeam_stream:monitor(Stream), resume = resume(Scope, Mount),
                     affinity = hornbeam_affinity:session(Request),
                     about = about(Request), tcp = Request#request.socket,
                     context = hornbeam_trace_context:of_request(Request),
                     credit = hornbeam_stream:window()},
    #handshake{request = Request, client = Client, mount = Mount, step = {asked, Session},
               deadline = deadline_in(Timeout)}.

deadline_in(infinity) -> infinity;
deadline_in(Timeout) -> now_ms() + Timeout.

about(#request{path = Path, peer = Peer}) ->
    {binary:copy(Path), hornbeam_scope:client(Peer), erlang:monotonic_time(second)}.

resume(Scope, #{options := #{websocket_resume := true, websocket_resume_attempts := Limit}}) ->
    hornbeam_resume_state:new(Scope, Limit);
resume(_Scope, _Mount) ->
    undefined.

%% @doc A message for the calling process; what is not the handshake's is ignored.
-spec handle_info(term(), handshake()) -> step().
handle_info({stream, Number, Packet},
            #handshake{step = {asked, #session{number = Number}}} = Handshake) ->
    #handshake{mount = #{options := Options}} = Handshake,
    answered(hornbeam_app_message:read(Packet, Options), Packet, Handshake);
handle_info({'DOWN', Worker, process, _, _},
            #handshake{step = {asked, #session{worker = Worker}}} = Handshake) ->
    refused(502, Handshake);
handle_info(client_ended, Handshake) ->
    refused(400, Handshake);
handle_info(going_away, Handshake) ->
    refused(503, Handshake);
handle_info(Message, #handshake{step = {waiting, Pipeline}} = Handshake) ->
    #handshake{request = Request, client = Client, mount = Mount} = Handshake,
    entered(hornbeam_request_pipeline:handle_info(Message, Pipeline), {Request, Client, Mount});
handle_info(_Stray, Handshake) ->
    {wait, Handshake}.

answered({ok, {accept, _, Subprotocol, Fields}}, Packet, Handshake) ->
    #handshake{request = Request} = Handshake,
    case is_offered(Subprotocol, Request) of
        true ->
            Protocol = [{<<"sec-websocket-protocol">>, Subprotocol} || Subprotocol =/= undefined],
            Own = [Field || {Name, _} = Field <- Fields, not is_connections(Name)],
            accepted(Protocol ++ Own, Handshake);
        false ->
            violated(bad_subprotocol, Packet, Handshake)
    end;
answered({ok, {close, _, _, _}}, _Packet, Handshake) ->
    refused(403, Handshake);
answered({ok, {response_start, _, _, _, _, _}}, Packet, #handshake{step = {asked, Session}}) ->
    #session{stream = Stream, worker = Worker} = Session,
    erlang:demonitor(Worker, [flush]),
    {deny, Stream, Packet};
answered({ok, {ended, _, _, _, _}}, _Packet, Handshake) ->
    refused(500, Handshake);
answered(Wrong, Packet, Handshake) ->
    violated(hornbeam_app_message:fault(Wrong), Packet, Handshake).

accepted(Fields, #handshake{request = Request, mount = Mount, step = {asked, Session}}) ->
    Worker = hornbeam_stream:worker_of(Session#session.stream),
    {Told, Known} = hornbeam_affinity:answer(hornbeam_request_id:answer(Fields, Request), Worker,
                                             Request, Mount),
    {accept, Told, Session#session{affinity = hornbeam_affinity:session(Known)}}.

%% The answer to a handshake has no body, and is the connection's last over HTTP/1.1.
is_connections(Name) ->
    lists:member(Name, [<<"connection">>, <<"upgrade">>, <<"keep-alive">>, <<"transfer-encoding">>,
                        <<"content-length">>]).

%% One of those that the client has named, letter by letter (RFC 6455, 4.2.2).
is_offered(undefined, _Request) ->
    true;
is_offered(Subprotocol, Request) ->
    lists:any(fun(Value) ->
        lists:any(fun(Offer) -> hornbeam_headers:trim(Offer) =:= Subprotocol end,
                  binary:split(Value, <<",">>, [global]))
    end, hornbeam_request:values(<<"sec-websocket-protocol">>, Request)).

violated(Fault, Packet, #handshake{step = {asked, #session{stream = Stream}}} = Handshake) ->
    hornbeam_stream:violated(Stream, Fault, Packet),
    refused(500, Handshake).

refused(Status, #handshake{request = Request, mount = Mount} = Handshake) ->
    cancel(Handshake),
    refuse(hornbeam_error_response:new(Status), Request, Mount).

%% @doc When the app's answer is late (monotonic time, ms).
-spec deadline(handshake()) -> integer() | infinity.
deadline(#handshake{deadline = Deadline}) ->
    Deadline.

%% @doc It is.
-spec handle_timeout(handshake()) -> step().
handle_timeout(#handshake{mount = #{counters := Counters}} = Handshake) ->
    hornbeam_counters:add(timeouts, Counters),
    refused(504, Handshake).

%% @doc Nobody waits for it any more; the app learns that.
-spec cancel(handshake()) -> ok.
cancel(#handshake{step = {waiting, Pipeline}}) ->
    hornbeam_request_pipeline:cancel(Pipeline);
cancel(#handshake{step = {asked, #session{stream = Stream, worker = Worker}}}) ->
    erlang:demonitor(Worker, [flush]),
    hornbeam_stream:abandon(Stream).

%% @doc Wait for the end of a handshake.
-spec await(step()) -> step().
await({wait, #handshake{deadline = Deadline} = Handshake}) ->
    receive
        Message -> await(handle_info(Message, Handshake))
    after patience(Deadline) ->
        handle_timeout(Handshake)
    end;
await(Done) ->
    Done.

patience(infinity) -> infinity;
patience(Deadline) -> max(0, Deadline - now_ms()).

now_ms() -> erlang:monotonic_time(millisecond).
