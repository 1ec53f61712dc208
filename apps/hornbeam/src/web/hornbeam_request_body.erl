%% A Cowboy stream handler that pushes a request's body to the process that asked for it.
%%
%% It stands before cowboy_stream_h, whose own reading of bodies knows no credit. The reader
%% sends `{read_body_by, self()}' once, gets `{request_body, fin | nofin, Data}' at once with
%% what is there and then with all that comes, and says `{body_taken, Bytes}' when Cowboy may
%% read as much again. Before the first asking at most Cowboy's initial_stream_flow_size waits.
-module(hornbeam_request_body).
-behaviour(cowboy_stream).

-export([read/1, taken/2]).
-export([init/3, data/4, info/3, terminate/3, early_error/5]).

%% As initial_stream_flow_size (bytes).
-define(READ_AHEAD, 65535).

%% A body of so many bytes (with its head) comes in one read of any size.
-define(SMALL, 512).

-record(state, {
    next :: term(),
    %% CONNECT streams carry a WebSocket, which is not ours.
    passes :: boolean(),
    reader :: pid() | undefined,
    waiting = [] :: iodata(),
    is_fin = nofin :: cowboy_stream:fin()
}).

%% @doc Have the request's body sent to the calling process; returns its first part.
-spec read(cowboy_req:req()) -> {cowboy_stream:fin(), binary()}.
read(Req) ->
    cowboy_req:cast({read_body_by, self()}, Req),
    %% The connection is the parent of this process: it answers, or ends us.
    receive
        {request_body, IsFin, Data} -> {IsFin, Data}
    end.

%% @doc Let Cowboy read this many bytes more.
-spec taken(non_neg_integer(), cowboy_req:req()) -> ok.
taken(0, _Req) -> ok;
taken(Bytes, Req) -> cowboy_req:cast({body_taken, Bytes}, Req).

%% @private
-spec init(cowboy_stream:streamid(), cowboy_req:req(), cowboy:opts()) ->
    {cowboy_stream:commands(), #state{}}.
init(StreamId, #{method := Method} = Req, Opts) ->
    _ = [hornbeam_read_buffer:widen(maps:get(socket, Req)) || is_large(Req)],
    {Commands, Next} = cowboy_stream:init(StreamId, Req, Opts),
    {flow(Req) ++ Commands, #state{next = Next, passes = Method =:= <<"CONNECT">>}}.

%% The socket of an HTTP/2 connection is wide from the start.
is_large(#{version := 'HTTP/2'}) -> false;
is_large(#{has_body := false}) -> false;
is_large(#{body_length := Length}) -> Length =:= undefined orelse Length > ?SMALL.

%% Over HTTP/2 streams share a window, and those that nobody reads may fill it: each one asks for
%% the bytes that it may have in its own window. HTTP/1.1 has initial_stream_flow_size.
flow(#{version := 'HTTP/2'}) -> [{flow, ?READ_AHEAD}];
flow(_Req) -> [].

%% @private
-spec data(cowboy_stream:streamid(), cowboy_stream:fin(), binary(), #state{}) ->
    {cowboy_stream:commands(), #state{}}.
data(StreamId, IsFin, Data, #state{passes = true, next = Next0} = State) ->
    {Commands, Next} = cowboy_stream:data(StreamId, IsFin, Data, Next0),
    {Commands, State#state{next = Next}};
data(_StreamId, IsFin, Data, #state{reader = undefined, waiting = Waiting} = State) ->
    {[], State#state{waiting = [Waiting, Data], is_fin = IsFin}};
data(_StreamId, IsFin, Data, #state{reader = Reader} = State) ->
    Reader ! {request_body, IsFin, Data},
    {[], State}.

%% @private
-spec info(cowboy_stream:streamid(), term(), #state{}) -> {cowboy_stream:commands(), #state{}}.
info(_StreamId, {read_body_by, Reader}, #state{waiting = Waiting, is_fin = IsFin} = State) ->
    Reader ! {request_body, IsFin, iolist_to_binary(Waiting)},
    {[], State#state{reader = Reader, waiting = []}};
info(_StreamId, {body_taken, Bytes}, State) ->
    {[{flow, Bytes}], State};
info(StreamId, Info, #state{next = Next0} = State) ->
    {Commands, Next} = cowboy_stream:info(StreamId, Info, Next0),
    {Commands, State#state{next = Next}}.

%% @private
-spec terminate(cowboy_stream:streamid(), cowboy_stream:reason(), #state{}) -> ok.
terminate(StreamId, Reason, #state{next = Next}) ->
    _ = cowboy_stream:terminate(StreamId, Reason, Next),
    ok.

%% @private
-spec early_error(cowboy_stream:streamid(), cowboy_stream:reason(),
                  cowboy_stream:partial_req(), Response, cowboy:opts()) -> Response
    when Response :: cowboy_stream:resp_command().
early_error(StreamId, Reason, PartialReq, Response, Opts) ->
    cowboy_stream:early_error(StreamId, Reason, PartialReq, Response, Opts).
