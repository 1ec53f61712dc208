%% A worker whose Python side is the test's: a real process on real pipes that says what it is told.
%%
%% The process (puppet.py) connects to a socket of the test, writes on the wire what it gets from
%% there, and sends there what the node writes to it. It speaks none of the wire itself.
-module(hornbeam_puppet).

-export([start/0, start/1, worker/1, handle/1, say/2, say_packets/2, packet/1, next/1, next/2,
         ended/1, stop/1, os_pid/1, deaf/0, hang_up/1]).

-record(puppet, {
    worker :: pid(),
    handle :: hornbeam_capacity:handle() | undefined,
    monitor :: reference(),
    os_pid :: pos_integer(),
    socket :: gen_tcp:socket()
}).

-define(DEADLINE, 10000).

%% A worker that has said hello and ready.
start() ->
    start(#{}).

%% The same with other options; `deaf => true' never reads what the node writes, and one with
%% `hangs_up => true' can hang up.
start(Options) ->
    Puppet = #puppet{worker = Worker} = spawn_puppet(Options),
    say_packets([[hello, 0, 1, #{<<"python">> => <<"3.11">>}], [ready, 0, #{}]], Puppet),
    receive
        {worker_ready, Worker, Handle, _OsPid} -> Puppet#puppet{handle = Handle}
    after ?DEADLINE ->
        error(not_ready)
    end.

%% One that has said nothing yet.
spawn_puppet(Options) ->
    {ok, Listen} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}]),
    {ok, Port} = inet:port(Listen),
    Start = #{pool => self(), name => <<"puppet">>, python => program(), api => hornbeam_api,
              options => options(Port, Options)},
    {ok, Worker} = gen_statem:start(hornbeam_worker, Start, []),
    Monitor = erlang:monitor(process, Worker),
    {ok, Socket} = gen_tcp:accept(Listen, ?DEADLINE),
    ok = gen_tcp:close(Listen),
    {ok, <<OsPid:32>>} = gen_tcp:recv(Socket, 4, ?DEADLINE),
    #puppet{worker = Worker, monitor = Monitor, os_pid = OsPid, socket = Socket}.

program() ->
    filename:join([hornbeam_wire_files:root(), "test", "erlang", "puppet.py"]).

options(Port, Options) ->
    %% It answers no heartbeat but those that the test answers.
    Given = maps:merge(#{worker_hang_timeout => infinity}, maps:without([deaf, hangs_up], Options)),
    {ok, #{mounts := [{_, Checked}]}} = hornbeam_config:check("puppet:app", Given),
    Deaf = atom_to_binary(maps:get(deaf, Options, false)),
    HangsUp = atom_to_binary(maps:get(hangs_up, Options, false)),
    Env = #{<<"PUPPET">> => integer_to_binary(Port), <<"PUPPET_DEAF">> => Deaf,
            <<"PUPPET_HANGS_UP">> => HangsUp},
    Checked#{env := fun() -> Env end}.

deaf() ->
    start(#{deaf => true}).

%% Close the pipe that the node writes to; the process lives on.
hang_up(#puppet{socket = Socket}) ->
    ok = gen_tcp:shutdown(Socket, write),
    {error, closed} = gen_tcp:recv(Socket, 0, ?DEADLINE),
    ok.

worker(#puppet{worker = Worker}) -> Worker.
handle(#puppet{handle = Handle}) -> Handle.
os_pid(#puppet{os_pid = OsPid}) -> OsPid.

%% Write bytes on the wire, as they are.
say(Bytes, #puppet{socket = Socket}) ->
    _ = gen_tcp:send(Socket, Bytes),
    ok.

%% Write messages, each by its name in docs/wire.md, in one piece.
say_packets(Messages, Puppet) ->
    say([packet(Message) || Message <- Messages], Puppet).

packet([Name | Fields]) ->
    Packed = iolist_to_binary(hornbeam_msgpack:encode([code(Name) | Fields])),
    <<(byte_size(Packed)):32, Packed/binary>>.

code(Name) ->
    case persistent_term:get({?MODULE, Name}, undefined) of
        undefined ->
            Code = hornbeam_wire_files:code(Name),
            persistent_term:put({?MODULE, Name}, Code),
            Code;
        Code ->
            Code
    end.

%% Read from what the node has written until it has a message with this name; return it.
next(Name, Puppet) ->
    Code = code(Name),
    case next(Puppet) of
        [Code | Fields] -> Fields;
        _ -> next(Name, Puppet)
    end.

next(#puppet{socket = Socket}) ->
    next_of(erase({?MODULE, Socket}), Socket).

next_of(undefined, Socket) ->
    next_of(<<>>, Socket);
next_of(Read, Socket) ->
    case hornbeam_msgpack:decode(Read) of
        {ok, Message, Rest} ->
            put({?MODULE, Socket}, Rest),
            Message;
        {error, truncated} ->
            {ok, More} = gen_tcp:recv(Socket, 0, ?DEADLINE),
            next_of(<<Read/binary, More/binary>>, Socket)
    end.

%% Wait for the end of the worker and of its process; return why it ended.
ended(#puppet{worker = Worker, monitor = Monitor, socket = Socket, os_pid = OsPid}) ->
    receive
        {'DOWN', Monitor, process, Worker, Reason} ->
            hornbeam_eventually:holds(fun() -> not is_alive(OsPid) end),
            ok = gen_tcp:close(Socket),
            Reason
    after ?DEADLINE ->
        error({still_alive, sys:get_state(Worker)})
    end.

is_alive(OsPid) ->
    filelib:is_dir("/proc/" ++ integer_to_list(OsPid)).

stop(#puppet{worker = Worker} = Puppet) ->
    exit(Worker, kill),
    _ = [os:cmd("kill -9 " ++ integer_to_list(os_pid(Puppet)))],
    ended(Puppet).
