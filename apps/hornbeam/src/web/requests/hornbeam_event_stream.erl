%% A response that is an event stream (text/event-stream): a connection as long as a WebSocket.
%%
%%   opened ──▶ open ──▶ ended by the app, closed by the node, left by its client
%%
%% It is what an exchange (hornbeam_exchange) knows of such a response: who it is for whoever asks,
%% what others than the app send in it (hornbeam_outbox), and what is to be said at its end. The
%% bytes of both must not tear each other apart: what others send goes between two events of the
%% app's, which is where a blank line has just ended one (hornbeam_event_boundary), and waits until
%% there is such a place.
%%
%% Its client comes back by itself if it is an EventSource (HTML, 9.2): that asks by GET for this
%% type. So for one of those a stream can end, and seem whole, wherever that suits the node; all
%% others, such as the answers of language models, are responses that have an end of their own.
-module(hornbeam_event_stream).

-include("hornbeam_request.hrl").

-export([new/2, is_event_source/1, set_client/2]).
-export([part/2, forward/3, fetch/2, is_due/1, written/1, farewell/2]).
-export([bytes/1, description/2, trace/2, note/2, closed/3]).
-export_type([stream/0, reason/0]).

-record(event_stream, {
    id :: hornbeam_connection_registry:id(),
    request :: hornbeam_request:request(),
    pool :: hornbeam_pool:name(),
    traffic :: hornbeam_traffic:traffic(),
    %% monotonic seconds
    opened :: integer(),
    is_event_source :: boolean(),
    %% what stands for the client in the node: it is what subscribes
    client :: pid() | undefined,
    %% behind what of the app's we are
    boundary = hornbeam_event_boundary:new() :: hornbeam_event_boundary:boundary(),
    %% events that wait for the end of one of the app's, the last first
    held = [] :: [{hornbeam_outbox:outbox() | none, binary()}],
    %% events that were given to the engine and are not acknowledged: how many, their bytes, and
    %% whether that is done when what was given has left, or has to be as soon as there is something
    forwarded = none :: {hornbeam_outbox:outbox(), non_neg_integer(), non_neg_integer(),
                         idle | eager | due} | none,
    delivered = {0, 0} :: {Messages :: non_neg_integer(), Bytes :: non_neg_integer()},
    trace = off :: hornbeam_trace:trace()
}).
-opaque stream() :: #event_stream{}.

-type reason() :: ended | client | failed | worker | retired | stopped | kicked | slow.
%% Who has ended it, or why the node has.

-type step() :: {[binary()], stream()}.
%% What is to be written, in parts.

%% How soon a client whose stream the node has ended is to come back (ms). The streams of a worker
%% that dies end at once, those of all others in batches: so of the former each comes back at some
%% time of its own.
-define(RETRY, 1000).
-define(SPREAD, 2000).

%% @doc One that begins now in the calling process, for its owner.
-spec new(hornbeam_stream:owner(), {hornbeam_request:request(), hornbeam_mounts:mount()}) ->
    stream().
new(Owner, {Request, #{pool := Pool, counters := Counters, traffic := Traffic}}) ->
    hornbeam_counters:add(event_streams, Counters),
    hornbeam_traffic:stream_opened(Traffic),
    Id = hornbeam_connection_registry:add(Owner, event_stream, Pool),
    Stream = #event_stream{id = Id, request = Request, pool = Pool, traffic = Traffic,
                           opened = erlang:monotonic_time(second),
                           is_event_source = asks_for_events(Request)},
    hornbeam_telemetry:execute([hornbeam, event_stream, open], #{count => 1}, metadata(Stream)),
    Stream.

asks_for_events(#request{method = <<"GET">>} = Request) ->
    Accepted = [hornbeam_headers:lower(Value)
                || Value <- hornbeam_request:values(<<"accept">>, Request)],
    lists:any(fun(Value) -> binary:match(Value, <<"text/event-stream">>) =/= nomatch end, Accepted);
asks_for_events(_Request) ->
    false.

metadata(#event_stream{id = Id, pool = Pool, request = #request{path = Path}}) ->
    #{id => Id, mount => Pool, path => Path}.

%% @doc Whether its client comes back by itself.
-spec is_event_source(stream()) -> boolean().
is_event_source(#event_stream{is_event_source = Is}) -> Is.

%% @doc This process stands for its client.
-spec set_client(pid(), stream()) -> stream().
set_client(Client, Stream) ->
    Stream#event_stream{client = Client}.

%% What goes to the client.

%% @doc The app says something. What has waited for the end of an event goes behind that.
-spec part(binary(), stream()) -> step().
part(Body, #event_stream{boundary = Boundary, held = Held} = Stream) ->
    Said = counted(1, byte_size(Body),
                   Stream#event_stream{boundary = hornbeam_event_boundary:add(Body, Boundary)}),
    case Held =/= [] andalso hornbeam_event_boundary:split(Body, Boundary) of
        {Before, After} -> between(Before, After, Said);
        _NoPlaceOrNothing -> {[Body], Said}
    end.

between(Before, After, #event_stream{held = Held} = Stream) ->
    {Events, Released} = release(lists:reverse(Held), Stream#event_stream{held = []}),
    {[Before | Events] ++ [After || After =/= <<>>], Released}.

release(Held, Stream) ->
    {[Event || {_Outbox, Event} <- Held],
     lists:foldl(fun({Outbox, Event}, Before) -> given(Outbox, byte_size(Event), Before) end,
                 Stream, Held)}.

counted(Messages, Bytes, #event_stream{delivered = {AllMessages, AllBytes}} = Stream) ->
    hornbeam_traffic:events_sent(Messages, Bytes, Stream#event_stream.traffic),
    Stream#event_stream{delivered = {AllMessages + Messages, AllBytes + Bytes}}.

%% @doc Somebody else sends an event.
-spec forward(hornbeam_outbox:outbox(), binary(), stream()) -> step().
forward(Outbox, Event, Stream) ->
    give([{Outbox, Event}], Stream).

give(Events, #event_stream{boundary = Boundary, held = []} = Stream) ->
    case hornbeam_event_boundary:is_reached(Boundary) of
        true -> release(Events, Stream);
        false -> {[], Stream#event_stream{held = lists:reverse(Events)}}
    end;
give(Events, #event_stream{held = Held} = Stream) ->
    {[], Stream#event_stream{held = lists:reverse(Events, Held)}}.

%% What was fetched of the outbox counts there no more.
given(none, Size, Stream) ->
    counted(1, Size, Stream);
given(Outbox, Size, #event_stream{forwarded = none} = Stream) ->
    given(Outbox, Size, Stream#event_stream{forwarded = {Outbox, 0, 0, idle}});
given(_Same, Size, #event_stream{forwarded = {Outbox, Messages, Bytes, How}} = Stream) ->
    Forwarded = {Outbox, Messages + 1, Bytes + Size, when_due(How, Messages + 1, Bytes + Size)},
    counted(1, Size, Stream#event_stream{forwarded = Forwarded}).

when_due(idle, Messages, Bytes) ->
    case hornbeam_stream:is_due(Bytes, Messages) of
        true -> due;
        false -> idle
    end;
when_due(_EagerOrDue, _Messages, _Bytes) ->
    due.

%% @doc Events wait for it in the outbox.
-spec fetch(hornbeam_outbox:outbox(), stream()) -> stream().
fetch(Outbox, #event_stream{forwarded = none} = Stream) ->
    Stream#event_stream{forwarded = {Outbox, 0, 0, due}};
fetch(_Same, #event_stream{forwarded = {Outbox, Messages, Bytes, _How}} = Stream) ->
    Stream#event_stream{forwarded = {Outbox, Messages, Bytes, due}}.

%% @doc Whether {@link written/1} is to be called once what was given to the engine has left. Not
%% while events wait for a place: those in the outbox then wait there, in its bounds.
-spec is_due(stream()) -> boolean().
is_due(#event_stream{held = [], forwarded = {_, _, _, due}}) -> true;
is_due(_Stream) -> false.

%% @doc All that was given to the engine has left: what to write next.
-spec written(stream()) -> step().
written(#event_stream{forwarded = {Outbox, Messages, Bytes, due}} = Stream) ->
    Acknowledged = Stream#event_stream{forwarded = none},
    case hornbeam_outbox:written(Outbox, Messages, Bytes) of
        [] -> {[], awaiting(hornbeam_outbox:is_waited_for(Outbox), Outbox, Acknowledged)};
        Events -> give([{none, Event} || Event <- Events], fetch(Outbox, Acknowledged))
    end.

%% Those in front, which have not come yet, are acknowledged as soon as they are written.
awaiting(true, Outbox, Stream) -> Stream#event_stream{forwarded = {Outbox, 0, 0, eager}};
awaiting(false, _Outbox, Stream) -> Stream.

%% @doc What the node says last to one who is to come back. In the middle of an event it says
%% nothing: the client drops what is not whole.
-spec farewell(reason(), stream()) -> binary().
farewell(Reason, #event_stream{boundary = Boundary}) ->
    case hornbeam_event_boundary:is_reached(Boundary) of
        true -> <<"retry: ", (integer_to_binary(retry(Reason)))/binary, "\n\n">>;
        false -> <<>>
    end.

retry(worker) -> ?RETRY + rand:uniform(?SPREAD);
retry(_Reason) -> ?RETRY.

%% For whoever asks.

%% @doc How much was said in it.
-spec bytes(stream()) -> non_neg_integer().
bytes(#event_stream{delivered = {_Messages, Bytes}}) -> Bytes.

%% @doc What it says of itself.
-spec description(Worker :: pid(), stream()) -> hornbeam_connection_registry:description().
description(Worker, #event_stream{request = Request, pool = Pool, opened = Opened} = Stream) ->
    #event_stream{delivered = {Messages, Bytes}, client = Client} = Stream,
    #request{path = Path, peer = Peer, socket = Socket} = Request,
    {message_queue_len, Mailbox} = process_info(self(), message_queue_len),
    #{kind => event_stream, mount => Pool, path => Path, peer => hornbeam_scope:client(Peer),
      worker => Worker, client => Client, state => open,
      seconds => erlang:monotonic_time(second) - Opened, messages_in => 0, bytes_in => 0,
      messages_out => Messages, bytes_out => Bytes, untaken => 0, untaken_bytes => 0,
      mailbox => Mailbox, unsent => hornbeam_socket:unsent(Socket), resume => none}.

%% @doc Who looks at it begins or ends to do so.
-spec trace(fun((hornbeam_trace:trace()) -> hornbeam_trace:trace()), stream()) -> stream().
trace(Change, #event_stream{trace = Trace} = Stream) ->
    Stream#event_stream{trace = Change(Trace)}.

%% @doc These parts go to the client.
-spec note([binary()], stream()) -> stream().
note(_Parts, #event_stream{trace = off} = Stream) ->
    Stream;
note(Parts, #event_stream{trace = Trace} = Stream) ->
    Stream#event_stream{trace = lists:foldl(fun(Part, Before) ->
        hornbeam_trace:note(out, text, Part, Before)
    end, Trace, Parts)}.

%% @doc It is over, for a reason; `Status' is that of the response.
-spec closed(reason(), Status :: 200..599, stream()) -> ok.
closed(Reason, Status, #event_stream{id = Id, opened = Opened} = Stream) ->
    hornbeam_connection_registry:remove(Id),
    hornbeam_traffic:stream_closed(Reason, Stream#event_stream.traffic),
    hornbeam_trace:ended({closed, Reason}, Stream#event_stream.trace),
    {Messages, Bytes} = Stream#event_stream.delivered,
    hornbeam_telemetry:execute([hornbeam, event_stream, close],
                               #{seconds => erlang:monotonic_time(second) - Opened,
                                 messages_out => Messages, bytes_out => Bytes},
                               (metadata(Stream))#{status => Status, reason => Reason}).
