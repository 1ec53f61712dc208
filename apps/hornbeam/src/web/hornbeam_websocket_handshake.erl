%% A WebSocket's handshake, in Cowboy's request process.
%%
%%   asked ──accept──▶ 101, and the connection process has the stream
%%     │ close: 403   response: denial   failure: 500   worker dead: 502   silence: 504
%%
%% The 101 is held back until the app answers. What comes between the request process and the
%% connection process waits in the worker until that has bound the stream.
-module(hornbeam_websocket_handshake).

-export([begin_with/2]).
-export_type([upgrade/0]).

-include("hornbeam_websocket.hrl").

-type upgrade() ::
    {hornbeam_websocket, cowboy_req:req(), #socket{}, hornbeam_websocket:options()}
    | {cowboy_websocket, cowboy_req:req(), #socket{}, cowboy_websocket:opts()}.

%% @doc Ask the app, and answer the client with what it says.
-spec begin_with(cowboy_req:req(), hornbeam_mounts:mount()) ->
    {ok, cowboy_req:req(), hornbeam_mounts:mount()} | upgrade().
begin_with(Req, Mount) ->
    case handshake_fault(Req) of
        none -> with_worker(Req, Mount);
        Status -> {ok, hornbeam_response:refuse(Status, Req), Mount}
    end.

%% What an app binds to a WebSocket that it then refuses ends with the TCP connection.
last(#{version := 'HTTP/1.1'} = Req) ->
    cowboy_req:set_resp_header(<<"connection">>, <<"close">>, Req);
last(Req) ->
    Req.

%% Cowboy checks the same after init/2; the app should not be asked for nothing.
handshake_fault(#{version := 'HTTP/2', headers := Headers}) ->
    case Headers of
        #{<<"sec-websocket-version">> := <<"13">>} -> none;
        #{} -> 400
    end;
handshake_fault(#{method := <<"GET">>, headers := Headers}) ->
    case Headers of
        #{<<"sec-websocket-version">> := <<"13">>, <<"sec-websocket-key">> := Key,
          <<"connection">> := Connection} ->
            fault_unless(is_key(Key) andalso names_upgrade(Connection));
        #{<<"sec-websocket-version">> := Version} when Version =/= <<"13">> ->
            426;
        #{} ->
            400
    end;
handshake_fault(_Req) ->
    400.

fault_unless(true) -> none;
fault_unless(false) -> 400.

%% RFC 6455, 4.1: 16 bytes in base64.
is_key(Key) when byte_size(Key) =:= 24 ->
    try
        byte_size(base64:decode(Key)) =:= 16
    catch
        error:_ -> false
    end;
is_key(_Key) ->
    false.

names_upgrade(Connection) ->
    Tokens = binary:split(cowboy_bstr:to_lower(Connection), <<",">>, [global]),
    lists:member(<<"upgrade">>, [hornbeam_headers:trim(Token) || Token <- Tokens]).

with_worker(Req, Mount) ->
    case hornbeam_mounts:checkout(Mount) of
        {ok, Handle} -> ask(Handle, Req, Mount);
        unavailable -> {ok, hornbeam_response:refuse(503, Req), Mount}
    end.

ask(Handle, Req, #{options := #{timeout := Timeout}} = Mount) ->
    Scope = hornbeam_scope:websocket(Req),
    Stream = hornbeam_stream:open(Handle, websocket, connection(Req), fun(Number) ->
        hornbeam_wire:open_websocket(Number, Scope)
    end),
    Socket = #socket{mount = Mount, stream = Stream, number = hornbeam_stream:number(Stream),
                     worker = hornbeam_stream:monitor(Stream), resume = resume(Scope, Mount),
                     about = about(Scope),
                     tcp = maps:get(socket, Req), http2 = http2(Req),
                     credit = hornbeam_stream:window()},
    %% A client may be gone while the app is asked.
    hornbeam_http2_stream:tell_when_ended(Socket#socket.http2),
    await_answer(Timeout, Req, Socket).

about(#{raw_path := Path, client := Client}) ->
    {binary:copy(Path), Client, erlang:monotonic_time(second)}.

resume(Scope, #{options := #{websocket_resume := true, websocket_resume_attempts := Limit}}) ->
    hornbeam_resume:new(Scope, Limit);
resume(_Scope, _Mount) ->
    undefined.

await_answer(Timeout, Req, #socket{number = Number, worker = Worker} = Socket) ->
    receive
        {stream, Number, Frame} ->
            answered(hornbeam_answer:read(Frame), Frame, Req, Socket);
        client_ended ->
            refused(400, Req, Socket);
        {'DOWN', Worker, process, _, _} ->
            refused(502, Req, Socket);
        going_away ->
            refused(503, Req, Socket)
    after Timeout ->
        #socket{mount = #{counters := Counters}} = Socket,
        hornbeam_counters:add(timeouts, Counters),
        refused(504, Req, Socket)
    end.

answered({ok, {accept, _, Subprotocol, Headers}}, _Frame, Req, Socket) ->
    accepted(with_headers(Subprotocol, Headers, Req), Socket);
answered({ok, {close, _, _, _}}, _Frame, Req, Socket) ->
    refused(403, Req, Socket);
answered({ok, {response_start, _, _, _, _, _}}, Frame, Req, Socket) ->
    #socket{stream = Stream, worker = Worker} = Socket,
    erlang:demonitor(Worker, [flush]),
    hornbeam_exchange:serve(Stream, [Frame], Req);
answered({ok, {ended, _, _, _, _}}, _Frame, Req, Socket) ->
    refused(500, Req, Socket);
answered(Wrong, Frame, Req, #socket{stream = Stream} = Socket) ->
    hornbeam_stream:violated(Stream, hornbeam_answer:fault(Wrong), Frame),
    refused(500, Req, Socket).

%% The app learns of the refusal when this process ends.
refused(Status, Req, #socket{mount = Mount}) ->
    {ok, hornbeam_response:refuse(Status, last(Req)), Mount}.

with_headers(Subprotocol, AppHeaders, Req0) ->
    Protocol = [{<<"sec-websocket-protocol">>, Subprotocol} || Subprotocol =/= undefined],
    {Headers, Req} = hornbeam_headers:response(Protocol ++ AppHeaders, Req0),
    cowboy_req:set_resp_headers(Headers, Req).

accepted(Req, Socket) ->
    #socket{stream = Stream, worker = Worker, mount = Mount} = Socket,
    erlang:demonitor(Worker, [flush]),
    hornbeam_stream:hand_over(Stream, connection(Req)),
    {Engine, Options} = engine(Req, Mount),
    {Engine, Req, Socket#socket{worker = undefined, engine = Engine}, Options}.

%% Over HTTP/2 it is always Cowboy's.
engine(#{version := 'HTTP/1.1'}, #{server := #{http_engine := hornbeam}} = Mount) ->
    {hornbeam_websocket, hornbeam_options(Mount)};
engine(#{version := Version, socket := Socket}, #{options := Options}) ->
    hornbeam_read_buffer:widen(Socket),
    {cowboy_websocket, cowboy_options(Version, Options)}.

hornbeam_options(#{options := Options}) ->
    #{websocket_max_frame_size := Max, websocket_max_frame_rate := Rate,
      websocket_compress := Compress, websocket_timeout := Timeout} = Options,
    #{max_frame_size => Max, max_frame_rate => Rate, compress => Compress,
      idle_timeout => Timeout}.

%% Over HTTP/2 a WebSocket is a stream and stays in its request process.
connection(#{version := 'HTTP/2'}) -> self();
connection(#{pid := Connection}) -> Connection.

http2(#{version := 'HTTP/2'} = Req) -> maps:with([pid, streamid], Req);
http2(_Req) -> undefined.

cowboy_options(Version, #{websocket_max_frame_size := Max} = Options) ->
    #{max_frame_size => Max, active_n => hornbeam_read_buffer:most_reads(),
      compress => Version =:= 'HTTP/1.1' andalso maps:get(websocket_compress, Options),
      idle_timeout => maps:get(websocket_timeout, Options)}.
