%% A WebSocket in Cowboy: its handshake in the request process, then our handler
%% (hornbeam_websocket_session) behind the callbacks of cowboy_websocket.
%%
%% Over HTTP/2 (RFC 8441) a WebSocket is a stream among others and stays in its request process. It
%% owns no socket: its frames go to the connection's process, and so does the question when they
%% have left, and the wish that no more of the client's are given to it (hornbeam_http2_stream).
-module(hornbeam_cowboy_websocket).
-behaviour(cowboy_middleware).
-behaviour(cowboy_websocket).

-include("../requests/hornbeam_request.hrl").

-export([execute/2]).
-export([init/2, websocket_init/1, websocket_handle/2, websocket_info/2, terminate/3]).

-record(state, {
    session :: hornbeam_websocket_session:session(),
    %% the stream that stands for the socket over HTTP/2
    http2 :: hornbeam_http2_stream:ref() | undefined,
    tcp :: hornbeam_socket:socket()
}).

%% @private Which handler serves a request that comes here: only WebSockets do.
-spec execute(Req, Env) -> {ok, Req, Env}
    when Req :: cowboy_req:req(), Env :: cowboy_middleware:env().
execute(Req, #{mounts := Mounts} = Env) ->
    {ok, Req, Env#{handler => ?MODULE, handler_opts => Mounts}}.

%% @private
-spec init(cowboy_req:req(), hornbeam_mounts:mounts()) ->
    {ok, cowboy_req:req(), hornbeam_mounts:mount()}
    | {cowboy_websocket, cowboy_req:req(), #state{}, cowboy_websocket:opts()}.
init(Req, Mounts) ->
    {Mount, Request} = hornbeam_mounts:find(hornbeam_cowboy:request(Req), Mounts),
    case hornbeam_request_pipeline:check(websocket, Request, Mount) of
        {ok, _Told, Checked} ->
            %% A client may be gone while the app is asked.
            hornbeam_http2_stream:tell_when_ended(http2(Req)),
            Handshake = hornbeam_websocket_handshake:new(Checked, client(Req), Mount),
            shaken(hornbeam_websocket_handshake:await(Handshake), Checked, Req, Mount);
        {refuse, Response} ->
            refused(Response, Req, Mount)
    end.

client(#{version := 'HTTP/2'}) -> self();
client(#{pid := Connection}) -> Connection.

http2(#{version := 'HTTP/2'} = Req) -> maps:with([pid, streamid], Req);
http2(_Req) -> undefined.

shaken({refuse, Response}, _Request, Req, Mount) ->
    refused(Response, Req, Mount);
shaken({deny, Stream, Packet}, Request, Req, _Mount) ->
    hornbeam_cowboy_exchange:serve({Stream, Packet}, Request, Req);
shaken({accept, Fields, Session}, _Request, #{version := Version, socket := Tcp} = Req, Mount) ->
    {Headers, _} = hornbeam_cowboy:response(Fields),
    hornbeam_read_buffer:widen(Tcp),
    moved(Version, hornbeam_websocket_session:stream(Session), Req),
    State = #state{session = Session, http2 = http2(Req), tcp = Tcp},
    Own = with_withheld(maps:remove(<<"date">>, Headers)),
    {cowboy_websocket, with_headers(Own, Req), State, options(Version, Mount)}.

%% Cowboy adds its own to what a request's process says, unless there is something.
with_withheld(Headers) ->
    maps:merge(maps:from_list([{Name, <<>>} || Name <- hornbeam_own_headers:withheld()]), Headers).

%% From 2.12 on Cowboy takes no cookie as a header, and what it takes as a cookie it writes itself.
with_headers(#{<<"set-cookie">> := Cookies} = Headers, Req) ->
    Numbered = lists:zip(lists:seq(1, length(Cookies)), Cookies),
    with_headers(maps:remove(<<"set-cookie">>, Headers),
                 Req#{resp_cookies => maps:from_list(Numbered)});
with_headers(Headers, Req) ->
    cowboy_req:set_resp_headers(Headers, Req).

%% What the app says behind its accept waits in the worker.
moved('HTTP/2', _Stream, _Req) ->
    ok;
moved(_Version, Stream, #{pid := Connection}) ->
    [] = hornbeam_stream:hand_over(Stream, Connection),
    ok.

options(Version, #{options := Options}) ->
    #{websocket_max_frame_size := Max, websocket_compress := Compress,
      websocket_timeout := Timeout} = Options,
    #{max_frame_size => Max, active_n => hornbeam_read_buffer:most_reads(), idle_timeout => Timeout,
      compress => Version =:= 'HTTP/1.1' andalso Compress}.

%% What an app binds to a WebSocket that it then refuses ends with the TCP connection.
refused({Status, Fields, Body}, Req, Mount) ->
    {Headers, _} = hornbeam_cowboy:response(Fields),
    {ok, cowboy_req:reply(Status, last(Req, with_withheld(Headers)), Body, Req), Mount}.

last(#{version := 'HTTP/1.1'}, Headers) -> Headers#{<<"connection">> => <<"close">>};
last(_Req, Headers) -> Headers.

%% @private
-spec websocket_init(#state{}) -> {cowboy_websocket:commands(), #state{}, hibernate}
                                | {cowboy_websocket:commands(), #state{}}.
websocket_init(#state{session = Session, http2 = undefined} = State) ->
    hornbeam_cowboy:unbound(),
    opened(hornbeam_websocket_session:monitor_worker(Session), State);
websocket_init(#state{session = Session, http2 = Http2} = State) ->
    hornbeam_http2_stream:tell_when_ended(Http2),
    opened(Session, State).

opened(Session, State) ->
    done(hornbeam_websocket_session:opened(Session), State).

%% @private
-spec websocket_handle(term(), #state{}) -> {cowboy_websocket:commands(), #state{}}.
websocket_handle({Kind, _} = Frame, #state{session = Session} = State)
        when Kind =:= text; Kind =:= binary ->
    done(hornbeam_websocket_session:handle_frame(Frame, Session), State);
websocket_handle(_PingOrPong, State) ->
    {[], State}.

%% @private
-spec websocket_info(term(), #state{}) -> {cowboy_websocket:commands(), #state{}}
                                        | {cowboy_websocket:commands(), #state{}, hibernate}.
websocket_info({sent, What}, #state{session = Session} = State) ->
    done(hornbeam_websocket_session:sent(What, Session), State);
%% What the callback before this one has returned is written now, or is the connection's.
websocket_info({ask_when_sent, What}, #state{http2 = Http2} = State) ->
    hornbeam_http2_stream:tell_when_sent({sent, What}, Http2),
    {[], State};
websocket_info(client_ended, #state{session = Session} = State) ->
    done(hornbeam_websocket_session:client_ended(Session), State);
websocket_info(Message, #state{session = Session} = State) ->
    done(hornbeam_websocket_session:handle_info(Message, Session), State).

done({Commands, Session}, State) ->
    {commands(Commands, State), State#state{session = Session}};
done({Commands, Session, hibernate}, State) ->
    {commands(Commands, State), State#state{session = Session}, hibernate}.

commands(Commands, State) ->
    lists:append([command(Command, State) || Command <- Commands]).

command({finished, Frame}, State) ->
    command(hornbeam_websocket_frame:read(Frame), State);
%% Cowboy would compress what is empty to nothing, which no client can read (RFC 7692, 7.2.3.6).
command({Kind, <<>>} = Empty, #state{http2 = undefined}) when Kind =:= text; Kind =:= binary ->
    [{deflate, false}, Empty, {deflate, true}];
command({idle_timeout, Timeout}, _State) ->
    [{set_options, #{idle_timeout => Timeout}}];
command({active, Active}, #state{http2 = Http2}) when Http2 =/= undefined ->
    hornbeam_http2_stream:give(Active, Http2),
    _ = [hornbeam_http2_stream:tell_when_ended(Http2) || Active],
    [];
command({tell_when_sent, What}, #state{http2 = undefined}) ->
    self() ! {sent, What},
    [];
command({tell_when_sent, What}, _State) ->
    self() ! {ask_when_sent, What},
    [];
command(Command, _State) ->
    [Command].

%% @private
-spec terminate(term(), cowboy_req:req(), term()) -> ok.
terminate(Reason, _Req, #state{session = Session, http2 = Http2, tcp = Tcp}) ->
    hornbeam_websocket_session:closed(Reason, Session),
    linger(Reason, Http2, Tcp);
terminate(_Reason, _Req, _NotUpgraded) ->
    ok.

linger({error, closed}, _Http2, _Tcp) -> ok;
linger(_Reason, undefined, Tcp) -> hornbeam_socket:linger(Tcp);
linger(_Reason, _Http2, _Tcp) -> ok.
