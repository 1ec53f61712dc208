%% Who operates a server talks to it: one conversation by the local socket, on our side.
%%
%%   serving ──request──▶ a process for it ──items──▶ … ──answer──▶
%%      └── the socket's end, or a message that is none: the end, also of what is being done
%%
%% It goes on in a visitor's process (hornbeam_visitor_service), as the callback module of its
%% gen_statem. Knows the bytes (docs/wire.md, "Control"); what a request means stands in
%% hornbeam_control_requests, and whom it is for in hornbeam_control_cluster. Who asks and does not
%% read is waited for only so long.
-module(hornbeam_control_conversation).
-behaviour(hornbeam_visitor_service).

-include_lib("kernel/include/logger.hrl").

-export([new/2]).
-export([callback_mode/0, serving/3]).

-record(conversation, {
    socket :: socket:socket(),
    start :: hornbeam_control_requests:start(),
    buffer = hornbeam_packet:new_buffer() :: hornbeam_packet:buffer(),
    %% who does what was asked for, by its number
    asked = #{} :: #{pid() => number()}
}).

%% How long a write may take (ms).
-define(PATIENCE, 30000).

%% The longest request (bytes), and how many may be under way.
-define(LONGEST, 65536).
-define(AT_ONCE, 16).

%% @private
-spec new(socket:socket(), hornbeam_control_requests:start()) -> #conversation{}.
new(Socket, Start) ->
    %% The processes of requests end with this one, and not the other way round.
    _ = process_flag(trap_exit, true),
    #conversation{socket = Socket, start = Start}.

%% @private
-spec callback_mode() -> gen_statem:callback_mode_result().
callback_mode() ->
    state_functions.

%% @private
-spec serving(gen_statem:event_type(), term(), #conversation{}) ->
    gen_statem:event_handler_result(serving).
serving(info, read, #conversation{socket = Socket} = Data) ->
    arrived(socket:recv(Socket, 0, nowait), Data);
serving(info, {'$socket', Socket, select, _Ref}, #conversation{socket = Socket}) ->
    read_next(),
    keep_state_and_data;
serving({call, From}, {say, Number, Kind, Bytes}, Data) ->
    written(write(Number, Kind, Bytes, Data), From);
serving(info, {'EXIT', Pid, Reason}, #conversation{asked = Asked} = Data)
        when is_map_key(Pid, Asked) ->
    {Number, Others} = maps:take(Pid, Asked),
    ended(Reason, Number, Data#conversation{asked = Others});
serving(_Type, _Stray, _Data) ->
    keep_state_and_data.

read_next() -> self() ! read.

arrived({ok, Chunk}, #conversation{buffer = Buffer} = Data) ->
    case hornbeam_packet:cut(Chunk, Buffer) of
        {ok, Packets, Left} -> heard(Packets, Data#conversation{buffer = Left});
        {error, Reason} -> violation(Reason)
    end;
arrived({select, _Info}, _Data) ->
    keep_state_and_data;
arrived({error, _Reason}, _Data) ->
    {stop, {shutdown, closed}}.

heard([], Data) ->
    read_next(),
    {keep_state, Data};
heard([Packet | Packets], #conversation{asked = Asked} = Data) ->
    case request(Packet) of
        {ok, _} when map_size(Asked) >= ?AT_ONCE -> violation(too_many);
        {ok, Request} -> heard(Packets, begun(Request, Data));
        {error, Reason} -> violation(Reason)
    end.

request(Packet) when byte_size(Packet) > ?LONGEST ->
    {error, too_long};
request(Packet) ->
    case hornbeam_msgpack:decode_all(Packet) of
        {ok, [Number, Name, Args]} when is_integer(Number), is_binary(Name), is_map(Args) ->
            {ok, {Number, Name, Args}};
        {ok, _} ->
            {error, no_request};
        {error, _} = Error ->
            Error
    end.

violation(Reason) ->
    ?LOG_ERROR(#{what => control_broke_the_wire, reason => Reason}, #{domain => [hornbeam]}),
    {stop, {shutdown, {broke_the_wire, Reason}}}.

begun({Number, Name, Args}, #conversation{start = Start, asked = Asked} = Data) ->
    Conversation = self(),
    Pid = proc_lib:spawn_link(fun() -> perform(Conversation, Number, Name, Args, Start) end),
    Data#conversation{asked = Asked#{Pid => Number}}.

%% In a process of its own. What is said waits until it is written.
perform(Conversation, Number, Name, Args, Start) ->
    Say = fun(Kind, Value) ->
        Bytes = hornbeam_msgpack:encode(hornbeam_plain:term(Value)),
        gen_statem:call(Conversation, {say, Number, Kind, Bytes}, infinity)
    end,
    Emit = fun(Item) -> Say(<<"item">>, Item) end,
    case hornbeam_control_cluster:perform(Name, Args, Emit, Start) of
        {ok, Value} -> Say(<<"done">>, Value);
        {error, Sentence} -> Say(<<"refused">>, unicode:characters_to_binary(Sentence))
    end.

ended(normal, _Number, Data) ->
    {keep_state, Data};
ended(_Crash, Number, Data) ->
    Sentence = hornbeam_msgpack:encode(<<"the server failed to do that; its log says why">>),
    case write(Number, <<"refused">>, Sentence, Data) of
        ok -> {keep_state, Data};
        {error, _} -> {stop, {shutdown, closed}}
    end.

write(Number, Kind, Bytes, #conversation{socket = Socket}) ->
    Message = [hornbeam_msgpack:array(3), hornbeam_msgpack:encode(Number),
               hornbeam_msgpack:encode(Kind), Bytes],
    socket:send(Socket, iolist_to_binary(Message), ?PATIENCE).

written(ok, From) -> {keep_state_and_data, [{reply, From, ok}]};
written({error, _}, _From) -> {stop, {shutdown, closed}}.
