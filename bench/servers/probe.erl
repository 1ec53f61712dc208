%% What a node knows of itself, told to whoever asks on a port of the loopback: a line of
%% `facts' is answered by a line of JSON, `rest' by the same after every process has collected
%% its garbage, `load' by the few of them that tell quickly how it fares. Started inside the
%% measured node by servers/hornbeam.py.
%%
%% Serves one connection at a time in one process, so that it changes what it counts only when
%% somebody connects. Knows nothing of Hornbeam.
-module(probe).

-export([start/0]).

%% @doc Listen on a free port and print it. All code is loaded first: a module (and its atoms)
%% that is needed late must not look like something that grows.
-spec start() -> pid().
start() ->
    lists:foreach(fun load/1, application:loaded_applications()),
    spawn_opt(fun listen/0, [{priority, high}]).

load({Application, _, _}) ->
    {ok, Modules} = application:get_key(Application, modules),
    _ = code:ensure_modules_loaded(Modules),
    ok.

listen() ->
    Options = [binary, {packet, line}, {active, false}, {ip, {127, 0, 0, 1}}],
    {ok, Listener} = gen_tcp:listen(0, Options),
    {ok, Port} = inet:port(Listener),
    io:format("probe on port ~b~n", [Port]),
    accept(Listener).

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    answer(Socket),
    accept(Listener).

answer(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Line} ->
            ok = gen_tcp:send(Socket, [json(told(Line)), $\n]),
            answer(Socket);
        {error, _} ->
            gen_tcp:close(Socket)
    end.

told(<<"facts\n">>) ->
    facts();
told(<<"load\n">>) ->
    load();
told(<<"rest\n">>) ->
    _ = [erlang:garbage_collect(Pid) || Pid <- processes()],
    facts().

facts() ->
    maps:merge(load(), #{
        processes => erlang:system_info(process_count),
        ports => erlang:system_info(port_count),
        atoms => erlang:system_info(atom_count),
        tables => rows(),
        kinds => census()
    }).

load() ->
    #{memory => maps:from_list(erlang:memory()),
      longest_mailbox => lists:max([mailbox(Pid) || Pid <- processes()])}.

mailbox(Pid) ->
    case process_info(Pid, message_queue_len) of
        {message_queue_len, Length} -> Length;
        undefined -> 0
    end.

%% Rows of each table; those of one name are added up.
rows() ->
    Named = [{ets:info(Table, name), ets:info(Table, size)} || Table <- ets:all()],
    sums([{Name, Size} || {Name, Size} <- Named, is_integer(Size)]).

%% Processes by the function that each began with.
census() ->
    Calls = [proc_lib:translate_initial_call(Pid) || Pid <- processes(), is_process_alive(Pid)],
    sums([{name(Call), 1} || Call <- Calls]).

name({Module, Function, Arity}) ->
    iolist_to_binary(io_lib:format("~s:~s/~b", [Module, Function, Arity])).

sums(Pairs) ->
    lists:foldl(fun({Key, Value}, Sums) ->
        maps:update_with(Key, fun(Sum) -> Sum + Value end, Value, Sums)
    end, #{}, Pairs).

json(Number) when is_integer(Number) ->
    integer_to_binary(Number);
json(Map) when is_map(Map) ->
    Fields = [io_lib:format("\"~s\": ~s", [Key, json(Value)]) || {Key, Value} <- maps:to_list(Map)],
    ["{", lists:join(", ", Fields), "}"].
