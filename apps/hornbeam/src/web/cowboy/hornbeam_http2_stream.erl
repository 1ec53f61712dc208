%% A Cowboy stream handler for what HTTP/2 needs of us beside the exchange itself.
%%
%% It runs in the connection process, in front of those that run the exchange.
%%  - A WebSocket over HTTP/2 hands its frames to the connection, which keeps what the client's
%%    flow control window has no room for. Its process asks here to be told when they have left.
%%  - It is told, too, when the client has ended its half of the stream.
%%  - While it wants no more of the client's frames, they wait here as bytes, and past the stream's
%%    window at the client.
%%  - A stream that ends while something of it waits goes on until that has left: Cowboy before
%%    2.13 would reset it first, and the client would never see the rest.
%%  - A body that ends with trailers ends for the other handlers, too: Cowboy drops trailers, and
%%    hornbeam_http2_reader tells of them.
%%  - A client that opens streams only to cancel them (CVE-2023-44487) gets no more of them;
%%    Cowboy before 2.11 knows no such limit.
%%  - While a stream is open the client is pinged, so that its connection's idle_timeout cuts the
%%    dead and the idle, and not those who wait in silence.
%%  - Before a stop a client is told to go elsewhere with its next request, as `connection: close'
%%    does in HTTP/1.1: between two requests, since some clients give up those under way.
-module(hornbeam_http2_stream).
-behaviour(cowboy_stream).

-export([tell_when_sent/2, tell_when_ended/1, give/2]).
-export([init/3, data/4, info/3, terminate/3, early_error/5]).
-export_type([ref/0]).

-type ref() :: #{pid := pid(), streamid := cowboy_stream:streamid(), _ => _}.
%% What of Cowboy's request names the stream.

-record(state, {
    %% none: a stream that was not let in
    next :: term() | none,
    socket :: hornbeam_socket:socket() | undefined,
    mounts :: hornbeam_mounts:mounts() | undefined,
    pinger :: reference() | undefined,
    %% who is told what once all has left; undefined: all has
    waiting :: [{pid(), term()}] | undefined,
    %% it stops when all has left, or when this timer ends
    stopping :: reference() | undefined,
    %% what a WebSocket does not want yet of what has come, the last first; none when it takes all
    kept = none :: none | [{cowboy_stream:fin(), binary()}],
    %% of the client's half
    ended = false :: boolean(),
    %% by which the reader tells of trailers
    alias :: reference() | undefined,
    owner :: pid() | undefined
}).

%% Streams that this connection's client has cancelled: {How many, Since}.
-define(CANCELLED, {?MODULE, cancelled}).
-define(PERIOD, 10000).

%% The highest number that a stream may have.
-define(ANY_STREAM, 16#7fffffff).

%% How many streams of this connection are open, and whether its client was told to go.
-define(OPEN, {?MODULE, open}).
-define(TOLD, {?MODULE, told}).

-define(PING_INTERVAL, 20000).

%% How long the client may take to read the rest of a stream that has ended (ms).
-define(LINGER, 30000).

%% @doc Have the calling process sent a message when all that it gave to the stream until now has
%% left for the client.
-spec tell_when_sent(term(), ref()) -> ok.
tell_when_sent(Message, Ref) ->
    cowboy_req:cast({tell_when_sent, self(), Message}, Ref).

%% @doc Have the calling process sent `client_ended' when the client has ended its half; does
%% nothing for a connection that is no stream, whose end is the socket's.
-spec tell_when_ended(ref() | undefined) -> ok.
tell_when_ended(undefined) ->
    ok;
tell_when_ended(Ref) ->
    cowboy_req:cast({tell_when_ended, self()}, Ref).

%% @doc Whether a WebSocket is to be given what its client sends.
-spec give(boolean(), ref()) -> ok.
give(Active, Ref) ->
    cowboy_req:cast({give, Active}, Ref).

%% @private
-spec init(cowboy_stream:streamid(), cowboy_req:req(), cowboy:opts()) ->
    {cowboy_stream:commands(), #state{}}.
init(StreamId, Req, #{env := #{mounts := Mounts}} = Opts) ->
    case is_let_in(Mounts) of
        true ->
            next_init(StreamId, Req, Opts,
                      #state{socket = maps:get(socket, Req), mounts = opened(Req, Mounts),
                             pinger = pinger(StreamId, Req),
                             ended = not cowboy_req:has_body(Req)});
        false ->
            #{counters := Counters} = Mounts,
            hornbeam_counters:add(http2_floods, Counters),
            {[{internal_error, too_many_resets, 'The client cancels too many streams.'}],
             #state{next = none}}
    end.

opened(#{version := 'HTTP/2'}, Mounts) ->
    _ = put(?OPEN, open() + 1),
    Mounts;
opened(_Req, _Mounts) ->
    undefined.

open() ->
    case get(?OPEN) of
        undefined -> 0;
        Streams -> Streams
    end.

next_init(StreamId, Req, Opts, State) ->
    {Commands, Next} = cowboy_stream:init(StreamId, Req, Opts),
    {Commands, asking(StreamId, Req, State#state{next = Next})}.

asking(StreamId, #{version := 'HTTP/2'}, #state{ended = false} = State) ->
    Alias = erlang:alias(),
    hornbeam_http2_reader:tell_trailed(hornbeam_cowboy:reader(), StreamId, Alias),
    State#state{alias = Alias};
asking(_StreamId, _Req, State) ->
    State.

is_let_in(#{server := #{http2_max_resets := Max}}) ->
    {Cancelled, _Since} = cancelled(),
    Cancelled < Max.

cancelled() ->
    Now = erlang:monotonic_time(millisecond),
    case get(?CANCELLED) of
        {_, Since} = Cancelled when Now - Since < ?PERIOD -> Cancelled;
        _ -> {0, Now}
    end.

pinger(StreamId, #{version := 'HTTP/2'}) -> ping_later(StreamId);
pinger(_StreamId, _Req) -> undefined.

ping_later(StreamId) ->
    erlang:send_after(?PING_INTERVAL, self(), {{self(), StreamId}, ping}).

%% @private
-spec data(cowboy_stream:streamid(), cowboy_stream:fin(), binary(), #state{}) ->
    {cowboy_stream:commands(), #state{}}.
data(_StreamId, IsFin, Data, #state{kept = Kept} = State) when Kept =/= none ->
    {[], State#state{kept = [{IsFin, Data} | Kept]}};
data(StreamId, IsFin, Data, #state{next = Next0, ended = Ended} = State) ->
    {Commands, Next} = cowboy_stream:data(StreamId, IsFin, Data, Next0),
    stopped_if_due(Commands, told_if_ended(State#state{next = Next,
                                                       ended = Ended orelse IsFin =:= fin})).

%% @private
-spec info(cowboy_stream:streamid(), term(), #state{}) -> {cowboy_stream:commands(), #state{}}.
info(_StreamId, {tell_when_sent, Pid, Message}, #state{waiting = undefined} = State) ->
    Pid ! Message,
    {[], State};
info(_StreamId, {tell_when_sent, Pid, Message}, #state{waiting = Waiting} = State) ->
    {[], State#state{waiting = [{Pid, Message} | Waiting]}};
info(_StreamId, {give, false}, #state{kept = none} = State) ->
    {[], State#state{kept = []}};
info(StreamId, {give, true}, #state{kept = Kept} = State) when Kept =/= none ->
    lists:foldl(fun({IsFin, Data}, {Commands, Before}) ->
        {More, After} = data(StreamId, IsFin, Data, Before),
        {Commands ++ More, After}
    end, {[], State#state{kept = none}}, lists:reverse(Kept));
info(_StreamId, {give, _Again}, State) ->
    {[], State};
info(_StreamId, {tell_when_ended, Owner}, State) ->
    {[], told_if_ended(State#state{owner = Owner})};
info(StreamId, trailed, State) ->
    trailed(StreamId, State);
info(_StreamId, ping, #state{pinger = undefined} = State) ->
    {[], State};
info(StreamId, ping, #state{socket = {Transport, Socket}} = State) ->
    _ = Transport:send(Socket, cow_http2:ping(0)),
    {[], State#state{pinger = ping_later(StreamId)}};
info(StreamId, {alarm, _Name, on} = Alarm, #state{waiting = undefined} = State) ->
    next_info(StreamId, Alarm, State#state{waiting = []});
info(StreamId, {alarm, _Name, off} = Alarm, #state{waiting = [_ | _] = Waiting} = State) ->
    lists:foreach(fun({Pid, Message}) -> Pid ! Message end, lists:reverse(Waiting)),
    next_info(StreamId, Alarm, State#state{waiting = undefined});
info(StreamId, {alarm, _Name, off} = Alarm, State) ->
    next_info(StreamId, Alarm, State#state{waiting = undefined});
info(_StreamId, stop, State) ->
    {[stop], State#state{stopping = undefined}};
info(StreamId, Info, State) ->
    next_info(StreamId, Info, State).

%% Should Cowboy have told it, the body has ended already.
trailed(_StreamId, #state{ended = true} = State) -> {[], State};
trailed(_StreamId, #state{kept = [{fin, _} | _]} = State) -> {[], State};
trailed(StreamId, State) -> data(StreamId, fin, <<>>, State).

next_info(StreamId, Info, #state{next = Next0} = State0) ->
    {Commands, Next} = cowboy_stream:info(StreamId, Info, Next0),
    State = State0#state{next = Next},
    case lists:member(stop, Commands) andalso is_behind(State) of
        true ->
            Timer = erlang:send_after(?LINGER, self(), {{self(), StreamId}, stop}),
            {lists:delete(stop, Commands), State#state{stopping = Timer}};
        false ->
            stopped_if_due(Commands, State)
    end.

%% When both halves have ended Cowboy has nothing to reset, and no alarm tells that all has left.
is_behind(#state{waiting = Waiting, ended = Ended}) ->
    Waiting =/= undefined andalso not Ended.

stopped_if_due(Commands, #state{stopping = undefined} = State) ->
    {Commands, State};
stopped_if_due(Commands, #state{stopping = Timer} = State) ->
    case is_behind(State) of
        true ->
            {Commands, State};
        false ->
            cancel(Timer),
            {Commands ++ [stop], State#state{stopping = undefined}}
    end.

told_if_ended(#state{ended = true, owner = Owner} = State) when is_pid(Owner) ->
    Owner ! client_ended,
    State#state{owner = undefined};
told_if_ended(State) ->
    State.

%% @private
-spec terminate(cowboy_stream:streamid(), cowboy_stream:reason(), #state{}) -> ok.
terminate(_StreamId, _Reason, #state{next = none}) ->
    ok;
terminate(StreamId, Reason, #state{next = Next, pinger = Pinger, stopping = Stopping} = State) ->
    cancel(Pinger),
    cancel(Stopping),
    unasked(StreamId, State),
    count_if_cancelled(Reason),
    _ = cowboy_stream:terminate(StreamId, Reason, Next),
    closed(Reason, State).

closed(_Reason, #state{mounts = undefined}) ->
    ok;
closed(Reason, #state{mounts = Mounts, socket = Socket}) ->
    _ = put(?OPEN, open() - 1),
    case {Reason, open(), get(?TOLD)} of
        {normal, 0, undefined} -> tell_to_go(hornbeam_mounts:is_closing(Mounts), Socket);
        _ -> ok
    end.

%% All that the client asks for nevertheless is answered.
tell_to_go(false, _Socket) ->
    ok;
tell_to_go(true, {Transport, Socket}) ->
    _ = put(?TOLD, true),
    _ = Transport:send(Socket, cow_http2:goaway(?ANY_STREAM, no_error, <<>>)),
    ok.

cancel(undefined) ->
    ok;
cancel(Timer) ->
    _ = erlang:cancel_timer(Timer),
    ok.

unasked(_StreamId, #state{alias = undefined}) ->
    ok;
unasked(StreamId, #state{alias = Alias}) ->
    _ = erlang:unalias(Alias),
    hornbeam_http2_reader:forget(hornbeam_cowboy:reader(), StreamId),
    flush({{self(), StreamId}, trailed}).

flush(Message) ->
    receive
        Message -> ok
    after 0 ->
        ok
    end.

%% Cowboy gives the code of the client's RST_STREAM frame as the reason.
count_if_cancelled(normal) ->
    ok;
count_if_cancelled(Reason) when is_atom(Reason) ->
    {Cancelled, Since} = cancelled(),
    _ = put(?CANCELLED, {Cancelled + 1, Since}),
    ok;
count_if_cancelled(_Reason) ->
    ok.

%% @private
-spec early_error(cowboy_stream:streamid(), cowboy_stream:reason(),
                  cowboy_stream:partial_req(), Response, cowboy:opts()) -> Response
    when Response :: cowboy_stream:resp_command().
early_error(StreamId, Reason, PartialReq, Response, Opts) ->
    cowboy_stream:early_error(StreamId, Reason, PartialReq, Response, Opts).
