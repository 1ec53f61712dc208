%% A worker without Python: it speaks the worker's side of hornbeam_call, and its writer keeps
%% what would have been written.
%%
%% The app is a fun of {Mode, Target, Function, Args, Kwargs}, terms, that gives what Python's
%% `result' would say: {Status, Value}; or {items, [Term]} for a stream; or `silent'.
-module(hornbeam_fake_worker).

-export([start/1, start/0, stop/1, handle/1, pid/1, events/1, written/1, asked/1, context/2]).

-record(worker, {
    pid :: pid(),
    writer :: pid(),
    turns :: pid(),
    handle :: hornbeam_capacity:handle(),
    events :: hornbeam_worker_events:events()
}).

start() ->
    start(fun(_) -> silent end).

start(App) ->
    Writer = spawn(fun() -> writer([]) end),
    Pid = spawn(fun() -> loop(App, hornbeam_worker_calls:new(), #{}, []) end),
    Events = hornbeam_worker_events:new(Writer, hornbeam_worker_unread:new()),
    Handle = hornbeam_capacity:new(#{worker => Pid, writer => Writer, name => <<>>,
                                      limit => infinity,
                                      tagged_owners => hornbeam_stream_owners:new(),
                                      adoption => {hornbeam_api, Events},
                                      counts => hornbeam_capacity:new_counts()}),
    #worker{pid = Pid, writer = Writer, turns = spawn(fun take_turns/0), handle = Handle,
            events = Events}.

stop(#worker{pid = Pid, writer = Writer, turns = Turns}) ->
    lists:foreach(fun hornbeam_eventually:dead/1, [Pid, Writer, Turns]).

handle(#worker{handle = Handle}) -> Handle.
pid(#worker{pid = Pid}) -> Pid.
events(#worker{events = Events}) -> Events.

%% The messages written so far, oldest first, as decoded arrays.
written(#worker{writer = Writer}) -> ask(Writer, written).

%% What `more' and `cancel' have said, oldest first.
asked(#worker{pid = Pid}) -> ask(Pid, asked).

ask(Pid, Question) ->
    Ref = erlang:monitor(process, Pid),
    Pid ! {Question, self(), Ref},
    receive
        {Ref, Answer} ->
            erlang:demonitor(Ref, [flush]),
            Answer;
        {'DOWN', Ref, process, _, Reason} ->
            error({fake_worker_down, Reason})
    after 5000 ->
        error({no_answer, Question})
    end.

%% What the worker tells the api about an op of one of its streams.
context(#worker{handle = Handle, writer = Writer, turns = Turns, events = Events}, More) ->
    Options = #{rpc_allow => [], pubsub_queue_messages => 1000,
                pubsub_queue_bytes => 1048576, pubsub_overflow => drop_oldest},
    maps:merge(#{stream => 1, ref => 1, client => worker, handle => Handle,
                 process => hornbeam_capacity:worker(Handle), writer => Writer,
                 unread => hornbeam_worker_unread:new(), turns => Turns, events => Events,
                 is_crowded => false, options => Options}, More).

%% Everybody has the turn at once.
take_turns() ->
    receive {await, Pid, Tag} -> Pid ! {Tag, yours} end,
    take_turns().

writer(Written) ->
    receive
        {Kind, Ops} when Kind =:= write; Kind =:= message; Kind =:= reply; Kind =:= event ->
            writer([decoded(iolist_to_binary(Ops)) | Written]);
        {written, From, Ref} ->
            From ! {Ref, lists:reverse(Written)},
            writer(Written)
    end.

decoded(Bytes) ->
    {ok, Message} = hornbeam_msgpack:decode_all(Bytes),
    Message.

%% Python knows only when it looks whether what travelled is a value.
value(Packed) ->
    case hornbeam_msgpack:decode_all(Packed) of
        {ok, Value} -> Value;
        {error, _} -> unreadable
    end.

%% Streams: #{Number => items that are left}.
loop(App, Calls, Streams, Asked) ->
    receive
        {asked, From, Ref} ->
            From ! {Ref, lists:reverse(Asked)},
            loop(App, Calls, Streams, Asked);
        {call, Call, Caller, {Mode, Target, Function, PackedArgs, PackedKwargs}} ->
            {Number, Opened} = hornbeam_worker_calls:open(Call, Caller, Calls),
            [Args, Kwargs] = [value(Packed) || Packed <- [PackedArgs, PackedKwargs]],
            Answer = App({Mode, Target, Function, Args, Kwargs}),
            answered(Answer, Number, App, Opened, Streams, Asked);
        watch_calls ->
            loop(App, hornbeam_worker_calls:watch(Calls), Streams, Asked);
        {more, Call, Items} ->
            {ok, Number, Asked1} = hornbeam_worker_calls:more(Call, Items, Calls),
            {Left, More} = items(maps:get(Number, Streams, []), Items, Number, Asked1),
            loop(App, More, Streams#{Number => Left}, [{more, Items} | Asked]);
        {cancel, Call} ->
            loop(App, hornbeam_worker_calls:forget(Call, Calls), Streams, [cancel | Asked]);
        {{'DOWN', {call, Call}}, _, process, _, _} ->
            loop(App, hornbeam_worker_calls:forget(Call, Calls), Streams, [cancel | Asked])
    end.

answered(silent, _Number, App, Calls, Streams, Asked) ->
    loop(App, Calls, Streams, Asked);
answered({items, Items}, Number, App, Calls, Streams, Asked) ->
    loop(App, Calls, Streams#{Number => Items}, Asked);
answered({Status, Value}, Number, App, Calls, Streams, Asked) ->
    {_OkOrCast, Left} = hornbeam_worker_calls:result(Number, Status, Value, Calls),
    loop(App, Left, Streams, Asked).

items([], _Room, Number, Calls) ->
    {ok, Left} = hornbeam_worker_calls:result(Number, 2, undefined, Calls),
    {[], Left};
items(Items, 0, _Number, Calls) ->
    {Items, Calls};
items([Item | Items], Room, Number, Calls) ->
    Packed = iolist_to_binary(hornbeam_msgpack:encode(Item)),
    {ok, Left} = hornbeam_worker_calls:item(Number, {item, Packed}, Calls),
    items(Items, Room - 1, Number, Left).
