%% One visitor: a process outside of all workers that has come by the local socket, on our side.
%%
%%              hello              end of the socket, bad bytes
%%   greeting ─────────▶ serving ──────────────────────────────▶ end
%%       ├── late, another user, another version ──────────────────▲
%%       └── hello that wants a service (hornbeam_visitor_service): that goes on in this process
%%
%% It speaks the wire of a worker (docs/wire.md), with the same accounts, and has no streams and no
%% calls: ops and published messages on stream 0. What is bound to it, such as a subscription, ends
%% with it. Its socket is read one piece at a time, so what it says waits there; and to its end,
%% also when nothing can be written any more: what a process has said before it was killed is done.
%% (An inet socket would be closed by the first write that fails.)
-module(hornbeam_visitor).
-behaviour(gen_statem).

-include_lib("kernel/include/logger.hrl").

-export([start_link/1, take/2]).
-export([init/1, callback_mode/0, greeting/3, serving/3]).
-export_type([start/0]).

-type start() :: #{api := module(), apps := [hornbeam_config:app_options(), ...],
                   services := hornbeam_visitor_service:services()}.

-record(data, {
    start :: start(),
    socket :: socket:socket() | undefined,
    reader :: hornbeam_worker_reader:reader() | undefined,
    %% from `hello' on
    ops :: hornbeam_worker_ops:ops() | undefined
}).

%% How long a process may take to say what it wants (ms), and to hear that it does not get it.
-define(PATIENCE, 10000).

%% Bytes of a broken message that the log shows.
-define(SHOWN, 64).

%% Bytes that are read at once.
-define(CHUNK, 65536).

-spec start_link(start()) -> gen_statem:start_ret().
start_link(Start) ->
    gen_statem:start_link(?MODULE, Start, []).

%% @doc Give a visitor the socket that it owns already.
-spec take(pid(), socket:socket()) -> ok.
take(Visitor, Socket) ->
    Visitor ! {take, Socket},
    ok.

%% @private
-spec callback_mode() -> gen_statem:callback_mode_result().
callback_mode() ->
    state_functions.

%% @private
-spec init(start()) -> gen_statem:init_result(greeting).
init(Start) ->
    {ok, greeting, #data{start = Start}, [{state_timeout, ?PATIENCE, late}]}.

%% @private
-spec greeting(gen_statem:event_type(), term(), #data{}) ->
    gen_statem:event_handler_result(atom()).
greeting(info, {take, Socket}, Data) ->
    taken(hornbeam_local_socket:is_own_user(Socket), Socket, Data);
greeting(state_timeout, late, _Data) ->
    {stop, {shutdown, late}};
greeting(Type, Event, Data) ->
    in_any_state(Type, Event, greeting, Data).

%% @private
-spec serving(gen_statem:event_type(), term(), #data{}) ->
    gen_statem:event_handler_result(atom()).
serving(Type, Event, Data) ->
    in_any_state(Type, Event, serving, Data).

in_any_state(info, read, State, #data{socket = Socket} = Data) ->
    arrived(socket:recv(Socket, 0, nowait), State, Data);
in_any_state(info, {'$socket', Socket, select, _Ref}, _State, #data{socket = Socket}) ->
    read_next(),
    keep_state_and_data;
in_any_state(_Type, _Stray, _State, _Data) ->
    keep_state_and_data.

%% Others are heard meanwhile.
read_next() -> self() ! read.

taken(true, Socket, Data) ->
    ok = socket:setopt(Socket, {otp, rcvbuf}, ?CHUNK),
    read_next(),
    {keep_state, Data#data{socket = Socket, reader = hornbeam_worker_reader:new(none)}};
taken({false, Uid}, _Socket, _Data) ->
    ?LOG_WARNING(#{what => other_user_at_local_socket, uid => Uid}, #{domain => [hornbeam]}),
    {stop, {shutdown, other_user}}.

arrived({ok, Chunk}, State, #data{reader = Reader} = Data) ->
    received(hornbeam_worker_reader:read(Chunk, Reader), Chunk, State, Data);
arrived({select, _Info}, _State, _Data) ->
    keep_state_and_data;
arrived({error, _Reason}, _State, _Data) ->
    {stop, {shutdown, closed}}.

received({ok, Packets, Credit, Reader}, _Chunk, State, Data) ->
    _ = [hornbeam_worker_ops:write(hornbeam_wire:credit(0, Credit, 0), Data#data.ops)
         || Credit > 0, Data#data.ops =/= undefined],
    routed(Packets, State, Data#data{reader = Reader});
received({error, Reason}, Chunk, _State, _Data) ->
    violation(Reason, Chunk).

%% The next piece is read once this one is done.
routed([], State, Data) ->
    read_next(),
    {next_state, State, Data};
routed([Packet | Packets], State, Data0) ->
    case hear(State, hornbeam_packet:decode(Packet), Data0) of
        {ok, Next, Data} -> routed(Packets, Next, Data);
        {service, Service} when Packets =:= [] -> serve_by(Service, Data0);
        {service, _} -> violation(early, Packet);
        {refused, Sentence} -> refuse(Sentence, Data0);
        {error, Reason} -> violation(Reason, Packet)
    end.

hear(greeting, {ok, {hello, Version, About}}, #data{start = #{services := Services}} = Data) ->
    case hornbeam_visitor_hello:check(Version, About, Services) of
        ok -> {ok, serving, greeted(About, Data)};
        ServiceOrRefused -> ServiceOrRefused
    end;
hear(serving, {ok, {Code, 0, _, _, _} = Op}, #data{ops = Ops} = Data)
        when Code =:= op; Code =:= tell ->
    case hornbeam_worker_ops:answer(Op, worker, Ops) of
        ok -> {ok, serving, Data};
        {error, _} = Error -> Error
    end;
hear(serving, {ok, {credit, 0, Bytes, _Messages}}, #data{ops = Ops} = Data) ->
    case hornbeam_worker_ops:acknowledged(Bytes, Ops) of
        true -> {ok, serving, Data};
        false -> {error, unearned_credit}
    end;
hear(_State, {ok, Message}, _Data) ->
    {error, {unexpected, element(1, Message)}};
hear(_State, {error, _} = Error, _Data) ->
    Error.

greeted(About, #data{start = #{api := Api, apps := Apps}, socket = Socket} = Data) ->
    Options = hornbeam_visitor_hello:options(About, Apps),
    Ops = hornbeam_worker_ops:new(#{to => {socket, Socket}, api => Api, options => Options,
                                    counts => hornbeam_capacity:new_counts()}),
    hornbeam_worker_ops:write(
        hornbeam_wire:start(hornbeam_visitor_hello:config(Options, Apps)), Ops),
    Data#data{ops = Ops}.

serve_by({Module, Start}, #data{start = #{apps := Apps}, socket = Socket}) ->
    Started = hornbeam_wire:start(hornbeam_visitor_hello:service_config(Apps)),
    case socket:send(Socket, iolist_to_binary(Started), ?PATIENCE) of
        ok ->
            read_next(),
            {next_state, serving, Module:new(Socket, Start), [{change_callback_module, Module}]};
        {error, _} ->
            {stop, {shutdown, closed}}
    end.

refuse(Sentence, #data{socket = Socket}) ->
    _ = socket:send(Socket, iolist_to_binary(hornbeam_wire:refused(Sentence)), ?PATIENCE),
    {stop, {shutdown, refused}}.

violation(Reason, Bytes) ->
    Shown = binary:part(Bytes, 0, min(byte_size(Bytes), ?SHOWN)),
    ?LOG_ERROR(#{what => visitor_broke_the_wire, reason => Reason, bytes => Shown},
               #{domain => [hornbeam]}),
    {stop, {shutdown, {broke_the_wire, Reason}}}.
