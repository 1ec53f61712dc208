%% How much work a function is: its reductions, and the bytes that it has `binary' look through,
%% which reductions do not tell.
-module(hornbeam_work).

-export([of_function/1]).

of_function(Fun) ->
    Test = self(),
    {Pid, Ref} = spawn_monitor(fun() ->
        receive go -> ok end,
        {reductions, Before} = process_info(self(), reductions),
        _ = Fun(),
        {reductions, After} = process_info(self(), reductions),
        Test ! {done, self(), After - Before},
        receive go -> ok end
    end),
    Counter = spawn_link(fun() -> count(0) end),
    _ = erlang:trace_pattern({binary, '_', '_'}, true, []),
    1 = erlang:trace(Pid, true, [call, {tracer, Counter}]),
    Pid ! go,
    Reductions = receive
        {done, Pid, Work} -> Work;
        {'DOWN', Ref, process, Pid, Why} -> error(Why)
    end,
    Delivered = erlang:trace_delivered(Pid),
    receive {trace_delivered, Pid, Delivered} -> ok end,
    Counter ! {looked, self()},
    Looked = receive {looked, Bytes} -> Bytes end,
    true = erlang:demonitor(Ref, [flush]),
    Pid ! go,
    _ = erlang:trace_pattern({binary, '_', '_'}, false, []),
    {Reductions, Looked}.

count(Looked) ->
    receive
        {trace, _Pid, call, {binary, Function, Arguments}} ->
            count(Looked + looked(Function, Arguments));
        {looked, Test} ->
            Test ! {looked, Looked}
    end.

looked(Function, [_Bytes, _Pattern, [{scope, {_From, Size}}]])
        when Function =:= match; Function =:= matches -> abs(Size);
looked(Function, [Bytes | _])
        when Function =:= match; Function =:= matches; Function =:= split -> byte_size(Bytes);
looked(_Cheap, _Arguments) -> 0.
