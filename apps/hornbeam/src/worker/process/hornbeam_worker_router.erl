%% What passes through a worker: places, streams, ops and calls.
%%
%% It looks at the code and the stream's number of what Python says, and sends the rest on,
%% undecoded, to who owns the stream; and it hears what owners, holders of places and callers have
%% to say (hornbeam_worker_protocol). It never waits for the port, since a full pipe would stop it:
%% the writer writes, but for the replies to quick ops, which are tried here. What Python says of
%% itself is given back to `hornbeam_worker', in whose process all this runs.
-module(hornbeam_worker_router).

-include("../../wire/hornbeam_wire.hrl").

-export([new/1, handle/1, write/2, adopted/2, notify_down/1, owners/2, unread/1]).
-export([urgent_first/2, route/2, handle_info/2]).
-export([retire/2, notify_retirement/2, leave_sockets/1, is_drained/1]).
-export_type([router/0, sockets/0]).

-record(router, {
    ops :: hornbeam_worker_ops:ops(),
    handle :: hornbeam_capacity:handle(),
    %% who wants to know of room
    dispatcher = none :: pid() | none,
    options :: hornbeam_config:app_options(),
    streams :: hornbeam_worker_streams:streams(),
    places = hornbeam_worker_places:new() :: hornbeam_worker_places:places(),
    calls = hornbeam_worker_calls:new() :: hornbeam_worker_calls:calls(),
    %% why the worker retires, if it does
    retirement :: hornbeam_worker:retirement() | undefined
}).
-opaque router() :: #router{}.

-type sockets() :: [{pos_integer(), hornbeam_stream:owner()}].

-type item() ::
    hornbeam_packet:packet() | {Op :: hornbeam_packet:message(), hornbeam_packet:packet()}.
%% What is to be routed; an op may have been decoded already.

%% How many clients are told at a time that the worker retires.
-define(BATCH, 100).

%% @doc Nothing yet, of the calling worker. The writer of its port is started and linked.
-spec new(#{port := port(), pool := pid(), name := binary(), api := module(),
            options := hornbeam_config:app_options()}) -> router().
new(#{port := Port, pool := Pool, name := Name, api := Api, options := Options}) ->
    Counts = hornbeam_capacity:new_counts(),
    Ops = hornbeam_worker_ops:new(#{to => {pipe, Port}, counts => Counts, api => Api,
                                    options => Options}),
    Tagged = hornbeam_stream_owners:new(Pool),
    Handle = hornbeam_capacity:new(#{
        worker => self(), writer => hornbeam_worker_ops:writer(Ops), name => Name,
        limit => maps:get(worker_connections, Options), counts => Counts,
        tagged_owners => Tagged, adoption => {Api, hornbeam_worker_ops:events(Ops)}
    }),
    #router{ops = hornbeam_worker_ops:with_handle(Handle, Ops), handle = Handle,
            options = Options, streams = hornbeam_worker_streams:new(Tagged)}.

%% @doc What it takes to open streams on the worker.
-spec handle(router()) -> hornbeam_capacity:handle().
handle(#router{handle = Handle}) ->
    Handle.

%% @doc Tell Python something. Never waits.
-spec write(iodata(), router()) -> ok.
write(Op, #router{ops = Ops}) ->
    hornbeam_worker_ops:write(Op, Ops).

%% @doc Another process of the pool keeps the worker from now on.
-spec adopted(Pool :: pid(), router()) -> ok.
adopted(Pool, #router{streams = Streams}) ->
    hornbeam_stream_owners:bequeath(Pool, hornbeam_worker_streams:tagged_owners(Streams)).

%% @doc Tell those who cannot monitor the worker that it ends.
-spec notify_down(router()) -> ok.
notify_down(#router{streams = Streams}) ->
    hornbeam_stream_owners:notify_down(hornbeam_worker_streams:tagged_owners(Streams)).

%% @doc The owners of streams of a kind now.
-spec owners(hornbeam_stream:kind(), router()) -> [hornbeam_stream:owner()].
owners(Kind, #router{streams = Streams}) ->
    hornbeam_worker_streams:owners(Kind, Streams).

%% @doc Bytes of replies, calls and events that are not in the pipe.
-spec unread(router()) -> #{hornbeam_worker_unread:kind() => non_neg_integer()}.
unread(#router{ops = Ops}) ->
    hornbeam_worker_ops:info(Ops).

%% What Python says.

%% @doc Put an op on which all of the worker's loop waits in front of what is no op. It comes last:
%% Python has written what was to be said before it. If it has nothing to do with that, it need not
%% wait until that is routed. Other ops it does not pass.
-spec urgent_first([hornbeam_packet:packet()], router()) -> [item()].
urgent_first([_, _ | _] = Packets, #router{ops = Ops}) ->
    Last = lists:last(Packets),
    case is_op(Last) andalso hornbeam_packet:decode(Last) of
        {ok, {op, _, _, Number, _} = Op} ->
            IsApart = hornbeam_worker_ops:is_apart(Number, Ops),
            put_op({Op, Last}, IsApart, lists:droplast(Packets));
        _ ->
            Packets
    end;
urgent_first(Packets, _Router) ->
    Packets.

put_op(Op, IsApart, Before) ->
    case IsApart andalso not lists:any(fun is_op/1, Before) of
        true -> [Op | Before];
        false -> Before ++ [Op]
    end.

is_op(Packet) ->
    case hornbeam_packet:head(Packet) of
        {Code, _} -> Code =:= ?OP orelse Code =:= ?TELL;
        error -> false
    end.

%% @doc Send packets to where they belong, one after the other, up to one in which Python speaks of
%% itself: that is given back with those behind it.
-spec route([item()], router()) ->
    {ok, router()}
    | {itself, hornbeam_packet:message(), hornbeam_packet:packet(), Behind :: [item()], router()}
    | {error, Reason :: term(), hornbeam_packet:packet()}.
route([], #router{streams = Streams} = Router) ->
    {ok, disconnect_all(hornbeam_worker_streams:close_complete(Streams), Router)};
route([{Op, Packet} | Items], Router) ->
    then(answer_known({ok, Op}, Router), Packet, Items);
route([Packet | Items], Router) ->
    then(route(hornbeam_packet:head(Packet), Packet, Router), Packet, Items).

then({ok, Router}, _Packet, Items) -> route(Items, Router);
then({itself, Message, Router}, Packet, Items) -> {itself, Message, Packet, Items, Router};
then({error, Reason}, Packet, _Items) -> {error, Reason, Packet}.

route({Code, Number}, Packet, #router{streams = Streams0} = Router)
        when Number > 0, Code >= ?RESPONSE_START, Code =< ?CLOSE;
             Number > 0, Code =:= ?CREDIT;
             Number > 0, Code =:= ?FLUSHED ->
    case hornbeam_worker_streams:deliver(Number, Code, Packet, Streams0) of
        {ok, Streams} -> {ok, Router#router{streams = Streams}};
        {error, Reason} -> {error, {Reason, Number}}
    end;
route({?EVENT_STREAM, Number}, Packet, #router{streams = Streams0} = Router) when Number > 0 ->
    case hornbeam_worker_streams:deliver(Number, ?EVENT_STREAM, Packet, Streams0) of
        {ok, Streams} -> {ok, stream_begun(Number, Router#router{streams = Streams})};
        {error, Reason} -> {error, {Reason, Number}}
    end;
route({?MOVED, Number}, Packet, #router{streams = Streams0} = Router) when Number > 0 ->
    case hornbeam_worker_streams:moved(Number, Packet, Streams0) of
        {ok, Streams} -> {ok, Router#router{streams = Streams}};
        {error, Reason} -> {error, {Reason, Number}}
    end;
route({?RESPONSE, Number}, Packet, #router{streams = Streams0} = Router) when Number > 0 ->
    case hornbeam_worker_streams:answered(Number, Packet, Streams0) of
        {ok, Streams} -> {ok, release(Router#router{streams = Streams})};
        {error, Reason} -> {error, {Reason, Number}}
    end;
route({?ENDED, Number}, Packet, #router{streams = Streams0} = Router) when Number > 0 ->
    case hornbeam_worker_streams:ended(Number, Packet, Streams0) of
        {ok, Streams} -> {ok, release(Router#router{streams = Streams})};
        {error, Reason} -> {error, {Reason, Number}}
    end;
route({Code, _Number}, Packet, Router) when Code =:= ?OP; Code =:= ?TELL ->
    answer_known(hornbeam_packet:decode(Packet), Router);
route({_Code, 0}, Packet, Router) ->
    decoded(fun of_no_stream/2, hornbeam_packet:decode(Packet), Router);
route(_, _Packet, _Router) ->
    {error, not_a_message}.

stream_begun(Number, #router{streams = Streams0, retirement = Why} = Router) ->
    {Owners, Streams} = hornbeam_worker_streams:begin_stream(Number, Streams0),
    _ = [hornbeam_worker_protocol:retiring(Owner, Number, Why)
         || Why =/= undefined, Owner <- Owners],
    Router#router{streams = Streams}.

decoded(Fun, {ok, Message}, Router) -> Fun(Message, Router);
decoded(_Fun, {error, Reason}, _Router) -> {error, Reason}.

of_no_stream({multicast_text, Numbers, Text}, Router) ->
    multicast(Numbers, ?SEND_TEXT, hornbeam_websocket_frame:new(text, Text), Router);
of_no_stream({multicast_bytes, Numbers, Bytes}, Router) ->
    multicast(Numbers, ?SEND_BYTES, hornbeam_websocket_frame:new(binary, Bytes), Router);
of_no_stream({credit, 0, Bytes, _Messages}, #router{ops = Ops} = Router) ->
    case hornbeam_worker_ops:acknowledged(Bytes, Ops) of
        true -> {ok, Router};
        false -> {error, unearned_credit}
    end;
of_no_stream({result, Ref, Status, Value}, #router{calls = Calls} = Router) ->
    case hornbeam_worker_calls:result(Ref, Status, Value, Calls) of
        {cast, Left} ->
            cast_ended(hornbeam_call:outcome(Status, Value), Router#router{calls = Left});
        Result ->
            with_calls(Result, Ref, Router)
    end;
of_no_stream({item, Ref, Packed}, #router{calls = Calls} = Router) ->
    with_calls(hornbeam_worker_calls:item(Ref, {item, Packed}, Calls), Ref, Router);
of_no_stream(Message, Router) ->
    {itself, Message, Router}.

multicast(Numbers, Code, Frame, #router{streams = Streams0} = Router) ->
    case hornbeam_worker_streams:multicast(Numbers, Code, Frame, Streams0) of
        {ok, Streams} -> {ok, Router#router{streams = Streams}};
        {error, _} = Error -> Error
    end.

%% Nobody waits for it: its failure is for the log.
cast_ended({error, {python, _Class, _Message, Traceback}}, Router) ->
    {itself, {log, 40, <<"hornbeam.cast">>, Traceback}, Router};
cast_ended({error, {unknown, Sentence}}, Router) ->
    {itself, {log, 40, <<"hornbeam.cast">>, Sentence}, Router};
cast_ended(_Done, Router) ->
    {ok, Router}.

with_calls({ok, Calls}, _Ref, Router) -> {ok, Router#router{calls = Calls}};
with_calls({error, Reason}, Ref, _Router) -> {error, {Reason, Ref}}.

answer_known({ok, {_OpOrTell, Number, _, _, _} = Op}, #router{streams = Streams} = Router) ->
    case hornbeam_worker_streams:is_known(Number, Streams) of
        true -> answer(Op, Router);
        false -> {error, {no_such_stream, Number}}
    end;
answer_known({error, Reason}, _Router) ->
    {error, Reason}.

answer(Op, Router0) ->
    Number = element(2, Op),
    #router{ops = Ops, streams = Streams} = Router = with_client(Number, Router0),
    case hornbeam_worker_ops:answer(Op, client(Number, Streams), Ops) of
        ok -> {ok, Router};
        {error, _} = Error -> Error
    end.

with_client(Number, #router{streams = Streams} = Router) ->
    Router#router{streams = hornbeam_worker_streams:with_client(Number, Streams)}.

client(0, _Streams) -> worker;
client(Number, Streams) -> hornbeam_worker_streams:client(Number, Streams).

%% What others say.

%% @doc Take a message of the worker's mailbox; `unknown' when it is not about a place, a stream or
%% a call.
-spec handle_info(hornbeam_worker_protocol:to_worker() | term(), router()) ->
    {ok, router()} | unknown.
handle_info({place, Place, Holder}, #router{places = Places} = Router) ->
    {ok, Router#router{places = hornbeam_worker_places:hold(Place, Holder, Places)}};
handle_info({open, Place, Kind, Number, Owner, Client, Account, Op}, Router) ->
    {ok, opened(Kind, Number, Owner, Client, Account, Op, placed(Place, Router))};
handle_info({claimed, Place}, Router) ->
    {ok, placed(Place, Router)};
handle_info(room, #router{handle = Handle, dispatcher = Dispatcher} = Router) ->
    hornbeam_capacity:notify_room(Handle, Dispatcher),
    {ok, Router};
%% What came free before was told to nobody, or to one who is dead.
handle_info({tell_of_room, Dispatcher}, Router) ->
    hornbeam_worker_protocol:room(Dispatcher, self()),
    {ok, Router#router{dispatcher = Dispatcher}};
handle_info({give_back, Place}, Router) ->
    {ok, given_back(Place, Router)};
handle_info({{'DOWN', {place, Place}}, _Ref, process, _Pid, _Reason}, Router) ->
    {ok, given_back(Place, Router)};
handle_info({call, Call, Caller, Called}, Router) ->
    {ok, called(Call, Caller, Called, Router)};
handle_info(watch_calls, #router{calls = Calls} = Router) ->
    {ok, Router#router{calls = hornbeam_worker_calls:watch(Calls)}};
handle_info({more, Call, Items}, Router) ->
    {ok, more(Call, Items, Router)};
handle_info({cancel, Call}, Router) ->
    {ok, cancelled(Call, Router)};
handle_info({{'DOWN', {call, Call}}, _Ref, process, _Pid, _Reason}, Router) ->
    {ok, cancelled(Call, Router)};
handle_info({{'DOWN', Number}, Ref, process, _Pid, _Reason}, #router{streams = Streams} = Router) ->
    {ok, disconnect(Number, hornbeam_worker_streams:owner_down(Number, Ref, Streams), Router)};
handle_info({hand_over, Number, Owner, From}, #router{streams = Streams} = Router) ->
    hornbeam_worker_protocol:handed_over(From, Number),
    Moving = hornbeam_worker_streams:hand_over(Number, Owner, From, Streams),
    {ok, Router#router{streams = Moving}};
handle_info({bind, Number, Owner}, Router) ->
    {ok, bound(Number, Owner, Router)};
handle_info({take_over, Number, Owner}, #router{streams = Streams} = Router) ->
    Taken = hornbeam_worker_streams:take_over(Number, Owner, Streams),
    {ok, disconnect_all(hornbeam_worker_streams:close_complete(Taken), Router)};
handle_info({abandoned, Number}, #router{streams = Streams} = Router) ->
    {ok, disconnect(Number, hornbeam_worker_streams:abandon(Number, Streams), Router)};
handle_info({process_down, Pid}, #router{streams = Streams} = Router) ->
    {ok, disconnect_all(hornbeam_worker_streams:process_down(Pid, Streams), Router)};
handle_info({closed, Number}, #router{streams = Streams} = Router) ->
    {ok, Router#router{streams = hornbeam_worker_streams:closed(Number, Streams)}};
handle_info(_Other, _Router) ->
    unknown.

placed(undefined, #router{handle = Handle} = Router) ->
    hornbeam_capacity:started(Handle),
    Router;
placed(reserved, Router) ->
    Router;
placed(Place, #router{places = Places} = Router) ->
    Router#router{places = hornbeam_worker_places:use(Place, Places)}.

given_back(Place, #router{places = Places0} = Router) ->
    case hornbeam_worker_places:release(Place, Places0) of
        {ok, Places} -> release(Router#router{places = Places});
        unknown -> Router
    end.

release(#router{handle = Handle, dispatcher = Dispatcher} = Router) ->
    hornbeam_capacity:ended(Handle, Dispatcher),
    Router.

opened(Kind, Number, Owner, Client, Account, Op, #router{streams = Streams0} = Router) ->
    write(Op, Router),
    Streams = hornbeam_worker_streams:open(Kind, Number, Owner, Client, Account, Streams0),
    Router#router{streams = Streams}.

bound(Number, Owner, #router{streams = Streams0, retirement = Reason} = Router) ->
    _ = [hornbeam_worker_protocol:retiring(Owner, Number, Reason) || Reason =/= undefined],
    Router#router{streams = hornbeam_worker_streams:bind(Number, Owner, Streams0)}.

disconnect(Number, {disconnect, Kind, Streams}, Router) ->
    disconnect_all({[{Number, Kind}], Streams}, Router);
disconnect(_Number, {ok, Streams}, Router) ->
    Router#router{streams = Streams}.

disconnect_all({Gone, Streams}, Router) ->
    _ = [write(hornbeam_wire:disconnect(Number, close_code(Kind), <<>>), Router)
         || {Number, Kind} <- Gone],
    Router#router{streams = Streams}.

close_code(http) -> undefined;
close_code(websocket) -> 1006.

called(Call, Caller, Called, #router{ops = Ops} = Router) ->
    case hornbeam_worker_ops:may_call(Ops) of
        true ->
            opened_call(Call, Caller, Called, Router);
        false ->
            _ = [hornbeam_worker_protocol:answer(Call, overloaded) || Call =/= none],
            Router
    end.

opened_call(Call, Caller, {Mode, Target, Function, Args, Kwargs}, Router) ->
    #router{calls = Calls0, ops = Ops} = Router,
    {Ref, Calls} = hornbeam_worker_calls:open(Call, Caller, Calls0),
    hornbeam_worker_ops:call(hornbeam_wire:call(Ref, Mode, Target, Function, Args, Kwargs), Ops),
    Router#router{calls = Calls}.

more(Call, Items, #router{calls = Calls0} = Router) ->
    case hornbeam_worker_calls:more(Call, Items, Calls0) of
        {ok, Ref, Calls} ->
            write(hornbeam_wire:more(Ref, Items), Router),
            Router#router{calls = Calls};
        {over, Calls} ->
            Router#router{calls = Calls}
    end.

cancelled(Call, #router{calls = Calls0} = Router) ->
    case hornbeam_worker_calls:number(Call, Calls0) of
        {ok, Ref, Calls} ->
            write(hornbeam_wire:cancel(Ref), Router),
            Router#router{calls = hornbeam_worker_calls:forget(Call, Calls)};
        {over, Calls} ->
            Router#router{calls = Calls}
    end.

%% Retirement.

%% @doc Take no new streams; WebSockets and event streams that are open are to be told why.
-spec retire(hornbeam_worker:retirement(), router()) -> {sockets(), router()}.
retire(Reason, #router{streams = Streams, handle = Handle} = Router) ->
    hornbeam_capacity:retires(Handle),
    {hornbeam_worker_streams:sockets(Streams) ++ hornbeam_worker_streams:event_streams(Streams),
     Router#router{retirement = Reason}}.

%% @doc Tell some of them, so that not all clients move at the same moment; the others are given
%% back.
-spec notify_retirement(sockets(), router()) -> sockets().
notify_retirement(Sockets, #router{retirement = Reason}) ->
    {Batch, Rest} = lists:split(min(?BATCH, length(Sockets)), Sockets),
    lists:foreach(fun({Number, Owner}) ->
        hornbeam_worker_protocol:retiring(Owner, Number, Reason)
    end, Batch),
    Rest.

%% @doc Leave the WebSockets that are still here: they belong to apps that do not end or, where they
%% may go on elsewhere, to a process that stands still and gives none away.
-spec leave_sockets(router()) -> router().
leave_sockets(#router{options = #{websocket_resume := true}, streams = Streams} = Router) ->
    Router#router{streams = hornbeam_worker_streams:give_away(Streams)};
leave_sockets(#router{streams = Streams} = Router) ->
    hornbeam_worker_streams:close_sockets(Streams),
    Router.

%% @doc Whether the last stream has ended; no other can be opened then.
-spec is_drained(router()) -> boolean().
is_drained(#router{handle = Handle}) ->
    hornbeam_capacity:close(Handle) =:= closed.
