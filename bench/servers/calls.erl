%% Calls from Erlang into one Python process, by Hornbeam, by ErlPort, or by the least that can do
%% it: all carriers are worked by the same processes of this file, in nodes of their own. Started by
%% servers/calls.py, which reads the port from its output and then asks for windows: a line of
%% `BYTES CALLERS SECONDS` is answered by a line of JSON.
%%
%% Each caller calls, waits, compares what came back with what it sent, and calls again.
-module(calls).

-export([hornbeam/2, erlport/2, bare/2]).

-type carrier() :: fun((binary()) -> term()).
%% Calls a Python function with a binary and returns what it returned, or raises.

-define(PER_OCTAVE, 64).
-define(PER_OCTAVE_BITS, 6).
-define(BUCKETS, (64 * 40)).

%% @doc Work the Hornbeam that runs in this node, by this function.
-spec hornbeam(Module :: atom(), Function :: atom()) -> no_return().
hornbeam(Module, Function) ->
    serve(fun(Bytes) ->
        {ok, Reply} = hornbeam:call(Module, Function, [Bytes]),
        Reply
    end).

%% @doc Start one Python by ErlPort, and work it.
-spec erlport(Python :: string(), Path :: string()) -> no_return().
erlport(Python, Path) ->
    {ok, Instance} = python:start([{python, Python}, {python_path, Path}]),
    serve(fun(Bytes) -> python:call(Instance, calls, echo, [Bytes]) end).

%% @doc Start a Python that runs a script, and work it by a process that has a port and a map of who
%% waits. It puts what waits in its mailbox into one write.
-spec bare(Python :: string(), Script :: string()) -> no_return().
bare(Python, Script) ->
    Server = spawn_opt(fun() ->
        Port = open_port({spawn_executable, Python},
                         [{args, [Script]}, nouse_stdio, binary, stream]),
        carry(Port, 0, #{}, <<>>)
    end, [{message_queue_data, off_heap}]),
    serve(fun(Bytes) -> bare_call(Server, Bytes) end).

bare_call(Server, Bytes) ->
    Ref = make_ref(),
    Server ! {call, self(), Ref, iolist_to_binary(hornbeam_msgpack:encode([Bytes]))},
    receive {Ref, Result} -> Result end.

carry(Port, Last, Waiting, Rest) ->
    receive
        {call, _, _, _} = Call ->
            {Ops, Last1, Waiting1} = carried(Call, [], Last, Waiting),
            true = port_command(Port, Ops),
            carry(Port, Last1, Waiting1, Rest);
        {Port, {data, Data}} ->
            {Rest1, Waiting1} = answered(<<Rest/binary, Data/binary>>, Waiting),
            carry(Port, Last, Waiting1, Rest1)
    end.

carried({call, Caller, Ref, Args}, Ops0, Last, Waiting0) ->
    Number = Last + 1,
    Waiting = Waiting0#{Number => {Caller, Ref}},
    Ops = [[hornbeam_msgpack:array(2), hornbeam_msgpack:uint(Number), Args] | Ops0],
    receive
        {call, _, _, _} = Call -> carried(Call, Ops, Number, Waiting)
    after 0 ->
        {lists:reverse(Ops), Number, Waiting}
    end.

answered(<<Size:32, Message:Size/binary, Rest/binary>>, Waiting) ->
    {ok, [Number, Result]} = hornbeam_msgpack:decode_all(Message),
    {{Caller, Ref}, Left} = maps:take(Number, Waiting),
    Caller ! {Ref, Result},
    answered(Rest, Left);
answered(Rest, Waiting) ->
    {Rest, Waiting}.

-spec serve(carrier()) -> no_return().
serve(Call) ->
    Bytes = <<"first">>,
    Bytes = Call(Bytes),
    Options = [binary, {packet, line}, {active, false}, {ip, {127, 0, 0, 1}}],
    {ok, Listener} = gen_tcp:listen(0, Options),
    {ok, Port} = inet:port(Listener),
    io:format("listening on 127.0.0.1:~b~n", [Port]),
    accept(Listener, Call).

accept(Listener, Call) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    answer(Socket, Call),
    accept(Listener, Call).

answer(Socket, Call) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Line} ->
            [Size, Callers, Seconds] = string:lexemes(string:trim(Line), " "),
            Reply = measure(Call, binary_to_integer(Size), binary_to_integer(Callers),
                            binary_to_float(Seconds)),
            ok = gen_tcp:send(Socket, [Reply, $\n]),
            answer(Socket, Call);
        {error, closed} ->
            gen_tcp:close(Socket)
    end.

measure(Call, Size, Count, Seconds) ->
    Bytes = binary:copy(<<"0123456789abcdef">>, Size div 16),
    Latencies = counters:new(?BUCKETS, [write_concurrency]),
    Start = erlang:monotonic_time(),
    End = Start + round(Seconds * erlang:convert_time_unit(1, second, native)),
    Work = fun() -> exit({worked, work(Call, Bytes, Latencies, End, 0, 0)}) end,
    Callers = [spawn_monitor(Work) || _ <- lists:seq(1, Count)],
    Ends = [receive {'DOWN', Ref, process, _, Reason} -> Reason end || {_, Ref} <- Callers],
    Elapsed = nanoseconds(erlang:monotonic_time() - Start),
    case [Reason || Reason <- Ends, not is_tuple(Reason) orelse element(1, Reason) =/= worked] of
        [] -> figures(Latencies, Elapsed, [Worked || {worked, Worked} <- Ends]);
        [Reason | _] -> io_lib:format("{\"error\": ~p}", [lists:flatten(
            io_lib:format("~0P", [Reason, 20]))])
    end.

work(Call, Bytes, Latencies, End, Count, Longest) ->
    Start = erlang:monotonic_time(),
    Bytes = Call(Bytes),
    Now = erlang:monotonic_time(),
    Took = nanoseconds(Now - Start),
    counters:add(Latencies, bucket(Took), 1),
    case Now < End of
        true -> work(Call, Bytes, Latencies, End, Count + 1, max(Longest, Took));
        false -> {Count + 1, max(Longest, Took)}
    end.

figures(Latencies, Elapsed, Worked) ->
    {Counts, Longest} = lists:unzip(Worked),
    Total = lists:sum(Counts),
    io_lib:format("{\"messages\": ~b, \"seconds\": ~.6f, \"p50_us\": ~.1f, \"p99_us\": ~.1f, "
                  "\"max_us\": ~.1f}",
                  [Total, Elapsed / 1.0e9, percentile(Latencies, 0.50 * Total),
                   percentile(Latencies, 0.99 * Total), lists:max(Longest) / 1.0e3]).

%% Log-linear buckets, as in load/histogram.c.
bucket(Nanoseconds) when Nanoseconds < ?PER_OCTAVE ->
    Nanoseconds + 1;
bucket(Nanoseconds) ->
    Shift = octave(Nanoseconds, 0) - ?PER_OCTAVE_BITS,
    min(?BUCKETS, Shift * ?PER_OCTAVE + (Nanoseconds bsr Shift) + 1).

octave(1, Octave) -> Octave;
octave(Value, Octave) -> octave(Value bsr 1, Octave + 1).

percentile(Latencies, Wanted) ->
    percentile(Latencies, Wanted, 1, counters:get(Latencies, 1)).

percentile(_, Wanted, Index, Seen) when Seen > 0, Seen >= Wanted ->
    middle(Index - 1) / 1.0e3;
percentile(Latencies, Wanted, Index, Seen) ->
    percentile(Latencies, Wanted, Index + 1, Seen + counters:get(Latencies, Index + 1)).

middle(Bucket) when Bucket < 2 * ?PER_OCTAVE ->
    Bucket;
middle(Bucket) ->
    Shift = Bucket div ?PER_OCTAVE - 1,
    Low = (Bucket rem ?PER_OCTAVE + ?PER_OCTAVE) bsl Shift,
    Low + (1 bsl Shift) / 2.

nanoseconds(Native) ->
    erlang:convert_time_unit(Native, native, nanosecond).
