%% The process that writes to one peer, and the only one that its link may suspend.
%%
%% What others send waits here, bounded by hornbeam_link_queue, until there is credit: so many bytes
%% may be under way that the peer has not acknowledged. They are less than the distribution's buffer
%% takes before it is busy, so that a link to a peer that stands still suspends nobody for what we
%% have sent; a long message may, or what others send to that node. Then this process is suspended,
%% and nobody else of us: it is ended by `kill'.
%%
%% It is linked to its hornbeam_link, which hears what the peer says, and lives as long.
-module(hornbeam_link_writer).

-include("hornbeam_link.hrl").

-export([start_link/0, send/3, control/2, knock/3, open/3, acknowledge/2, acknowledged/2]).
-export([init/2]).

-type waiting() :: {message, hornbeam_link_queue:room(), Message :: binary()}
                 | {control, Message :: tuple()}.
%% Of one frame.
-type unacknowledged() :: {hornbeam_link_queue:sent(), #{pos_integer() => pos_integer()}}.

-record(writer, {
    link :: pid(),
    queue :: hornbeam_link_queue:queue(),
    %% the hornbeam_link of the peer, once it is known
    to = none :: pid() | none,
    waiting = queue:new() :: queue:queue(waiting()),
    waiting_bytes = 0 :: non_neg_integer(),
    %% whether so much has waited that what is left of it is worth a look
    is_heavy = false :: boolean(),
    unacknowledged = queue:new() :: queue:queue(unacknowledged()),
    in_flight = 0 :: non_neg_integer(),
    %% how many dropped messages the rooms have been told of
    dropped = #{} :: #{Number :: pos_integer() => pos_integer()},
    is_dropped = false :: boolean()
}).

%% Bytes that may be under way: less than the megabyte at which the distribution is busy.
-define(WINDOW, 786432).
%% What has waited when there was more than this (bytes) is not left to be collected some time.
-define(HEAVY, 1048576).
%% Bytes (about) and messages of one frame.
-define(FRAME, 65536).
-define(FRAME_MESSAGES, 512).

%% @doc Start the writer of the calling process, and its queue.
-spec start_link() -> hornbeam_link_queue:queue().
start_link() ->
    Tag = make_ref(),
    Writer = proc_lib:spawn_opt(?MODULE, init, [self(), Tag],
                                [link, {message_queue_data, off_heap}]),
    Queue = hornbeam_link_queue:new(Writer),
    Writer ! {Tag, Queue},
    Queue.

%% @doc Send a message of a room, or drop it. Never waits.
-spec send(hornbeam_link_queue:queue(), hornbeam_link_queue:room(), Message :: binary()) ->
    ok | lost.
send(Queue, Room, Message) ->
    case hornbeam_link_queue:enter(Queue, Room, Message) of
        ok -> tell(Queue, {send, Room, Message});
        lost -> lost
    end.

%% @doc Tell the peer something behind all that waits.
-spec control(hornbeam_link_queue:queue(), tuple()) -> ok.
control(Queue, Message) -> tell(Queue, {control, Message}).

%% @doc Greet whoever has a name on a node.
-spec knock(hornbeam_link_queue:queue(), {atom(), node()}, Hello :: tuple()) -> ok.
knock(Queue, To, Hello) -> tell(Queue, {write, To, Hello}).

%% @doc From now on write to this process, to begin with a greeting.
-spec open(hornbeam_link_queue:queue(), pid(), Hello :: tuple()) -> ok.
open(Queue, To, Hello) -> tell(Queue, {open, To, Hello}).

%% @doc Tell the peer how many of its frames have come, past all that waits.
-spec acknowledge(hornbeam_link_queue:queue(), pos_integer()) -> ok.
acknowledge(Queue, Frames) -> tell(Queue, {acknowledge, Frames}).

%% @doc The peer has got so many more frames.
-spec acknowledged(hornbeam_link_queue:queue(), pos_integer()) -> ok.
acknowledged(Queue, Frames) -> tell(Queue, {acknowledged, Frames}).

tell(Queue, Message) ->
    hornbeam_link_queue:writer(Queue) ! Message,
    ok.

%% @private
-spec init(pid(), reference()) -> no_return().
init(Link, Tag) ->
    receive {Tag, Queue} -> loop(#writer{link = Link, queue = Queue}) end.

%% All that is in the mailbox goes into few frames.
loop(Writer) ->
    case is_full_frame(Writer) of
        true -> loop(write_frame(Writer));
        false -> loop(next(is_ready(Writer), Writer))
    end.

next(true, Writer) ->
    receive Message -> take(Message, Writer) after 0 -> write_frame(Writer) end;
next(false, Writer) ->
    receive Message -> take(Message, Writer) end.

is_full_frame(#writer{waiting_bytes = Bytes} = Writer) ->
    Bytes >= ?FRAME andalso is_ready(Writer).

is_ready(#writer{to = To, waiting = Waiting, in_flight = InFlight}) ->
    is_pid(To) andalso InFlight < ?WINDOW andalso not queue:is_empty(Waiting).

take({send, Room, Message}, Writer) ->
    wait({message, Room, Message}, byte_size(Message) + ?MESSAGE_COST, Writer);
take({control, _} = Control, Writer) ->
    wait(Control, 0, Writer);
take({acknowledge, Frames}, #writer{to = To} = Writer) when is_pid(To) ->
    write(To, {?TAG, acknowledged, Frames}),
    Writer;
take({acknowledged, Frames}, Writer) ->
    acknowledge_frames(Frames, Writer);
take({write, To, Message}, Writer) ->
    write(To, Message),
    Writer;
take({open, To, Hello}, Writer) ->
    write(To, Hello),
    Writer#writer{to = To};
take(dropped, Writer) ->
    tell_dropped(Writer#writer{is_dropped = true}).

wait(Message, Bytes, #writer{waiting = Waiting, waiting_bytes = Before} = Writer) ->
    Sum = Before + Bytes,
    Writer#writer{waiting = queue:in(Message, Waiting), waiting_bytes = Sum,
                  is_heavy = Writer#writer.is_heavy orelse Sum > ?HEAVY}.

%% What a node does not get that is away is told by hornbeam_link, which hears of that.
write(To, Message) ->
    _ = erlang:send(To, Message, [noconnect]),
    ok.

write_frame(#writer{to = To, waiting = Waiting} = Writer) ->
    case queue:out(Waiting) of
        {{value, {control, Message}}, Rest} ->
            write(To, Message),
            Writer#writer{waiting = Rest};
        {{value, _}, _} ->
            {Messages, Sent, Rest} = frame(Waiting, [], {0, 0, #{}}),
            write(To, {?TAG, messages, Messages}),
            collect(tell_dropped(sent(Sent, Writer#writer{waiting = Rest})))
    end.

collect(#writer{is_heavy = true, waiting_bytes = 0} = Writer) ->
    true = erlang:garbage_collect(),
    Writer#writer{is_heavy = false};
collect(Writer) ->
    Writer.

frame(Waiting, Messages, {N, Bytes, Rooms} = Sent) when N < ?FRAME_MESSAGES, Bytes < ?FRAME ->
    case queue:out(Waiting) of
        {{value, {message, {Room, Number}, Message}}, Rest} ->
            frame(Rest, [{Room, Message} | Messages],
                  {N + 1, Bytes + byte_size(Message) + ?MESSAGE_COST,
                   maps:update_with(Number, fun(Count) -> Count + 1 end, 1, Rooms)});
        _ControlOrNone ->
            {lists:reverse(Messages), Sent, Waiting}
    end;
frame(Waiting, Messages, Sent) ->
    {lists:reverse(Messages), Sent, Waiting}.

sent({N, Bytes, Rooms}, #writer{queue = Queue} = Writer) ->
    #writer{unacknowledged = Frames, in_flight = InFlight, waiting_bytes = Sum} = Writer,
    hornbeam_link_queue:written(Queue, {N, Bytes}),
    Writer#writer{unacknowledged = queue:in({{N, Bytes}, Rooms}, Frames),
                  in_flight = InFlight + Bytes, waiting_bytes = Sum - Bytes}.

%% Of a peer that acknowledges more than it has got nothing more is believed.
acknowledge_frames(0, Writer) ->
    Writer;
acknowledge_frames(N, #writer{unacknowledged = Frames, in_flight = InFlight} = Writer) ->
    case queue:out(Frames) of
        {{value, {{_, Bytes}, _} = Frame}, Rest} ->
            hornbeam_link_queue:acknowledged(Writer#writer.queue, Frame),
            acknowledge_frames(N - 1, Writer#writer{unacknowledged = Rest,
                                                    in_flight = InFlight - Bytes});
        {empty, _} ->
            Writer
    end.

%% Once there is room, so that what is sent again is not dropped again.
tell_dropped(#writer{is_dropped = false} = Writer) ->
    Writer;
tell_dropped(#writer{queue = Queue} = Writer) ->
    case hornbeam_link_queue:is_low(Queue) of
        true -> tell_rooms(Writer);
        false -> Writer
    end.

tell_rooms(#writer{link = Link, queue = Queue, dropped = Before} = Writer) ->
    hornbeam_link_queue:recheck(Queue),
    Now = maps:from_list([{Number, hornbeam_link_queue:dropped(Queue, Number)}
                          || Number <- lists:seq(1, ?MAX_ROOMS)]),
    Link ! {dropped, [Number || {Number, N} <- maps:to_list(Now),
                                N > maps:get(Number, Before, 0)]},
    Writer#writer{dropped = Now, is_dropped = false}.
