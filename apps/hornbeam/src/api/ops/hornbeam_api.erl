%% The ops that Erlang offers to apps, by their numbers in docs/wire.md.
%%
%% One row an op: its name, its arguments, its result, where it runs, and what does it. Quick ones
%% run inline, in the process that routes the worker's messages; for what may wait a process is
%% spawned, which writes the reply itself. A quick one may decide that it is none.
-module(hornbeam_api).
-behaviour(hornbeam_worker_api).

-include_lib("kernel/include/logger.hrl").

-export([handle_op/3, may_call/1, is_apart_from_messages/1, adopt/3, stopping/1, ops/0]).
-export_type([op/0]).

-type op() :: {Number :: pos_integer(), Name :: binary(), [hornbeam_api_args:arg()],
               hornbeam_api_answer:result_type(), inline | spawned,
               fun(([term()], hornbeam_worker_api:context()) -> result() | later())}.

-type result() :: ok | {ok, term()} | {error, Failure :: term()}.

-type later() :: {spawn | in_turn, fun(() -> result())}.
%% `in_turn': what is long comes one after the other of a worker's.

%% No op has a greater number.
-define(LAST, 199).

%% @doc All ops, in the order of their numbers.
-spec ops() -> [op()].
ops() ->
    [erlang:insert_element(1, Op, Number)
     || Number <- lists:seq(1, ?LAST), Op <- [op(Number)], Op =/= none].

op(1) ->
    {<<"state.get">>, [{key, key}], {optional, packed}, inline, fun hornbeam_state_ops:get/2};
op(2) ->
    {<<"state.set">>, [{key, key}, {value, packed}, {ttl, {optional, ttl}}, {scoped, bool}],
     nil, inline, fun hornbeam_state_ops:set/2};
op(3) ->
    {<<"state.delete">>, [{key, key}], bool, inline, fun hornbeam_state_ops:delete/2};
op(4) ->
    {<<"state.incr">>, [{key, key}, {delta, number}, {scoped, bool}], number, inline,
     fun hornbeam_state_ops:incr/2};
op(5) ->
    {<<"state.get_multi">>, [{keys, keys}], packed_array, inline,
     fun hornbeam_state_ops:get_multi/2};
op(6) ->
    {<<"state.set_multi">>, [{pairs, pairs}, {ttl, {optional, ttl}}], nil, inline,
     fun hornbeam_state_ops:set_multi/2};
op(7) ->
    {<<"state.keys">>, [{prefix, {optional, prefix}}], keys, spawned,
     fun hornbeam_state_ops:keys/2};
op(8) ->
    {<<"state.items">>, [{prefix, {optional, prefix}}], items, spawned,
     fun hornbeam_state_ops:items/2};
op(9) ->
    {<<"state.add">>, [{key, key}, {value, packed}, {ttl, {optional, ttl}}], bool, inline,
     fun hornbeam_state_ops:add/2};
op(10) ->
    {<<"state.cas">>, [{key, key}, {old, packed}, {new, packed}], bool, inline,
     fun hornbeam_state_ops:cas/2};
op(11) ->
    {<<"state.take">>, [{key, key}], {optional, taken}, inline, fun hornbeam_state_ops:take/2};
op(12) ->
    {<<"counters.incr">>, [{key, key}, {delta, number}, {scoped, bool}], number, spawned,
     fun hornbeam_counter_ops:incr/2};
op(13) ->
    {<<"counters.get">>, [{key, key}], {optional, number}, inline,
     fun hornbeam_counter_ops:get/2};
op(20) ->
    {<<"pubsub.subscribe">>,
     [{topic, topic}, {forward, bool}, {overflow, {optional, overflow}}], nil, spawned,
     fun hornbeam_pubsub_ops:subscribe/2};
op(21) ->
    {<<"pubsub.unsubscribe">>, [{topic, topic}], nil, spawned,
     fun hornbeam_pubsub_ops:unsubscribe/2};
op(22) ->
    {<<"pubsub.publish">>, [{topic, topic}, {value, packed}], uint, inline,
     fun hornbeam_pubsub_ops:publish/2};
op(23) ->
    {<<"pubsub.dropped">>, [], uint, inline, fun hornbeam_pubsub_ops:dropped/2};
op(24) ->
    {<<"presence.track">>, [{topic, topic}, {key, str}, {meta, packed}], str, spawned,
     fun hornbeam_presence_ops:track/2};
op(25) ->
    {<<"presence.update">>, [{topic, topic}, {key, str}, {meta, packed}], str, spawned,
     fun hornbeam_presence_ops:update/2};
op(26) ->
    {<<"presence.untrack">>, [{topic, topic}, {key, str}], bool, spawned,
     fun hornbeam_presence_ops:untrack/2};
op(27) ->
    {<<"presence.list">>, [{topic, topic}], packed, spawned, fun hornbeam_presence_ops:list/2};
op(28) ->
    {<<"presence.count">>, [{topic, topic}], uint, inline, fun hornbeam_presence_ops:count/2};
op(29) ->
    {<<"presence.show">>, [{topic, topic}], nil, spawned, fun hornbeam_presence_ops:show/2};
op(30) ->
    {<<"rpc.call">>, [{node, str}, {module, str}, {function, str}, {args, packed},
                          {timeout, timeout}],
     packed, spawned, fun hornbeam_call_ops:rpc_call/2};
op(31) ->
    {<<"rpc.cast">>, [{node, str}, {module, str}, {function, str}, {args, packed}], nil, spawned,
     fun hornbeam_call_ops:rpc_cast/2};
op(32) ->
    {<<"rpc.nodes">>, [], strs, inline, fun hornbeam_call_ops:rpc_nodes/2};
op(33) ->
    {<<"rpc.node">>, [], str, inline, fun hornbeam_call_ops:rpc_node/2};
op(40) ->
    {<<"functions.call">>, [{name, str}, {args, packed}, {timeout, timeout}], packed, spawned,
     fun hornbeam_call_ops:function_call/2};
op(41) ->
    {<<"functions.cast">>, [{name, str}, {args, packed}], nil, spawned,
     fun hornbeam_call_ops:function_cast/2};
op(50) ->
    {<<"hooks.register">>, [{name, str}], nil, spawned, fun hornbeam_hook_ops:register_hook/2};
op(51) ->
    {<<"hooks.unregister">>, [{name, str}], nil, spawned,
     fun hornbeam_hook_ops:unregister_hook/2};
op(52) ->
    {<<"hooks.execute">>, [{name, str}, {action, str}, {args, packed}, {kwargs, packed},
                               {timeout, timeout}],
     packed, spawned, fun hornbeam_hook_ops:execute/2};
op(53) ->
    {<<"hooks.execute_async">>, [{name, str}, {action, str}, {args, packed},
                                     {kwargs, packed}],
     str, spawned, fun hornbeam_hook_ops:execute_async/2};
op(54) ->
    {<<"hooks.await_result">>, [{id, str}, {timeout, timeout}], packed, spawned,
     fun hornbeam_hook_ops:await_result/2};
op(55) ->
    {<<"hooks.stream">>, [{name, str}, {action, str}, {args, packed}, {kwargs, packed}], str,
     spawned, fun hornbeam_hook_ops:stream/2};
op(56) ->
    {<<"hooks.next">>, [{id, str}, {timeout, timeout}], packed_array, spawned,
     fun hornbeam_hook_ops:next/2};
op(57) ->
    {<<"hooks.close">>, [{id, str}], nil, spawned, fun hornbeam_hook_ops:close/2};
op(60) ->
    {<<"connection.get">>, [{key, key}], {optional, packed}, inline,
     fun hornbeam_connection_ops:get/2};
op(61) ->
    {<<"connection.set">>, [{key, key}, {value, packed}], nil, inline,
     fun hornbeam_connection_ops:set/2};
op(62) ->
    {<<"connection.delete">>, [{key, key}], bool, inline, fun hornbeam_connection_ops:delete/2};
op(63) ->
    {<<"connection.items">>, [], items, spawned, fun hornbeam_connection_ops:items/2};
op(70) ->
    {<<"channels.send">>, [{channel, topic}, {address, topic}, {value, packed}], bool, inline,
     fun hornbeam_channel_ops:send/2};
op(71) ->
    {<<"channels.put">>,
     [{channel, topic}, {value, packed}, {ttl, ttl}, {capacity, uint}], bool, spawned,
     fun hornbeam_channel_ops:put/2};
op(72) ->
    {<<"channels.put_back">>,
     [{channel, topic}, {turn, uint}, {value, packed}, {ttl, ttl}], nil, spawned,
     fun hornbeam_channel_ops:put_back/2};
op(73) ->
    {<<"channels.want">>, [{channel, topic}, {address, topic}, {more, bool}], nil, inline,
     fun hornbeam_channel_ops:want/2};
op(74) ->
    {<<"channels.full">>, [{channel, topic}, {full, bool}, {ttl, ttl}], nil, inline,
     fun hornbeam_channel_ops:set_full/2};
op(75) ->
    {<<"channels.join">>,
     [{group, topic}, {channel, topic}, {ttl, ttl}, {message_ttl, ttl}, {capacity, uint}], nil,
     spawned, fun hornbeam_channel_ops:join/2};
op(76) ->
    {<<"channels.leave">>, [{group, topic}, {channel, topic}], nil, spawned,
     fun hornbeam_channel_ops:leave/2};
op(77) ->
    {<<"channels.clear">>, [{prefix, topic}], nil, spawned, fun hornbeam_channel_ops:clear/2};
op(78) ->
    {<<"channels.lost">>, [{messages, uint}, {expired, bool}], nil, inline,
     fun hornbeam_channel_ops:lost/2};
op(80) ->
    {<<"metrics.update">>, [{families, packed}], nil, inline, fun hornbeam_metric_ops:update/2};
op(100) ->
    {<<"leader.stand">>, [{name, str}, {lock, bool}, {ref, uint}], nil, spawned,
     fun hornbeam_leader_ops:stand/2};
op(101) ->
    {<<"leader.await">>, [{ref, uint}, {known, uint}, {timeout, timeout}], standing, spawned,
     fun hornbeam_leader_ops:await/2};
op(102) ->
    {<<"leader.resign">>, [{ref, uint}], nil, spawned, fun hornbeam_leader_ops:resign/2};
op(110) ->
    {<<"cluster.get">>, [{key, key}], {optional, packed}, spawned,
     fun hornbeam_cluster_ops:get/2};
op(111) ->
    {<<"cluster.set">>, [{key, key}, {value, packed}], nil, spawned,
     fun hornbeam_cluster_ops:set/2};
op(112) ->
    {<<"cluster.add">>, [{key, key}, {value, packed}], bool, spawned,
     fun hornbeam_cluster_ops:add/2};
op(113) ->
    {<<"cluster.cas">>, [{key, key}, {old, packed}, {new, packed}], bool, spawned,
     fun hornbeam_cluster_ops:cas/2};
op(114) ->
    {<<"cluster.delete">>, [{key, key}], bool, spawned, fun hornbeam_cluster_ops:delete/2};
op(115) ->
    {<<"cluster.incr">>, [{key, key}, {delta, number}], number, spawned,
     fun hornbeam_cluster_ops:incr/2};
op(_Number) ->
    none.

%% @private
-spec handle_op(non_neg_integer(), binary(), hornbeam_worker_api:context()) ->
    hornbeam_worker_api:answer().
handle_op(_Number, _Packed, #{is_crowded := true}) ->
    reply(hornbeam_api_answer:failure(crowded));
handle_op(Number, Packed, #{tell := _} = Context) ->
    handle_known(Number, Packed, Context);
handle_op(Number, Packed, #{unread := Unread} = Context) ->
    case below(hornbeam_worker_unread:bytes(replies, Unread)) of
        ok -> handle_known(Number, Packed, Context);
        {error, Failure} -> reply(hornbeam_api_answer:failure(Failure))
    end.

below(Unread) ->
    hornbeam_quota:below(worker_max_unread_bytes, Unread).

handle_known(Number, Packed, Context) ->
    hornbeam_api_counts:op(Number),
    case op(Number) of
        {_, Args, _, _, _} = Op ->
            handle(Op, hornbeam_api_args:read(Args, Packed), byte_size(Packed), Context);
        none ->
            Text = io_lib:format("this node has no op ~b; upgrade its hornbeam application",
                                 [Number]),
            reply(hornbeam_api_answer:error(not_implemented, Text))
    end.

%% @private
-spec may_call(non_neg_integer()) -> boolean().
may_call(Unread) ->
    below(Unread) =:= ok.

%% @private Those on shared state are.
-spec is_apart_from_messages(non_neg_integer()) -> boolean().
is_apart_from_messages(Number) ->
    case op(Number) of
        {<<"state.", _/binary>>, _, _, _, _} -> true;
        _ -> false
    end.

%% @private
-spec adopt(pid(), pid(), hornbeam_worker_events:events()) -> [binary()].
adopt(Client, Worker, Events) ->
    hornbeam_pubsub_registry:adopt(Client, Worker, Events).

%% @private
-spec stopping(pid()) -> ok.
stopping(Worker) ->
    hornbeam_hooks:stopping(Worker).

handle({_, _, _, inline, Fun} = Op, {ok, Args}, Size, Context) ->
    reply(answer(Op, fun() -> Fun(Args, Context) end), Op, Size, Context);
handle({_, _, _, spawned, Fun} = Op, {ok, Args}, Size, Context) ->
    reply({spawn, fun() -> Fun(Args, Context) end}, Op, Size, Context);
handle({Name, _, _, _, _}, {error, {Kind, Sentence}}, _Size, _Context) ->
    reply(hornbeam_api_answer:error(Kind, [Name, ": ", Sentence])).

%% What waits holds its arguments.
reply({in_turn, Fun}, Op, Size, Context) ->
    reply({spawn, fun() -> {in_turn, Fun} end}, Op, Size, Context);
reply({spawn, Fun}, Op, Size, Context) ->
    case hornbeam_quota:reserve(ops, Size, 0) of
        ok ->
            _ = proc_lib:spawn(fun() -> run(Fun, Op, Size, Context) end),
            noreply;
        {error, Failure} ->
            reply(hornbeam_api_answer:failure(Failure))
    end;
reply(Answer, _Op, _Size, _Context) ->
    reply(Answer).

run(Fun, Op, Size, Context) ->
    try
        finish(in_turn(answer(Op, Fun), Op, Context), Context)
    after
        hornbeam_quota:release(ops, Size, 0)
    end.

reply({Status, Packed}) ->
    {reply, Status, Packed}.

%% What it has gathered so far is given back before it waits.
in_turn({in_turn, Fun}, Op, #{turns := Turns}) ->
    true = erlang:garbage_collect(),
    hornbeam_worker_turns:await(Turns),
    answer(Op, Fun);
in_turn(Answer, _Op, _Context) ->
    Answer.

finish({Status, Packed}, #{tell := {Op, Tells}} = Context) ->
    #{writer := Writer, stream := Stream, ref := Ref} = Context,
    _ = [hornbeam_worker_writer:write(
             Writer, iolist_to_binary(hornbeam_wire:tell_failed(Stream, Ref, Op, Status, Packed)))
         || Status =/= 0],
    hornbeam_worker_tells:done(Tells);
finish(Answer, Context) ->
    write_reply(Answer, Context).

%% Others may have made all that the worker may have. So it is counted first: of those who do so at
%% once one sees that there is room.
write_reply(Answer, #{writer := Writer, unread := Unread} = Context) ->
    Reply = iolist_to_binary(wire_reply(Answer, Context)),
    case below(hornbeam_worker_unread:add(replies, byte_size(Reply), Unread)) of
        ok ->
            hornbeam_worker_writer:counted_reply(Writer, Reply);
        {error, Failure} ->
            hornbeam_worker_unread:written(replies, byte_size(Reply), Unread),
            Refusal = wire_reply(hornbeam_api_answer:failure(Failure), Context),
            hornbeam_worker_writer:reply(Writer, Unread, Refusal)
    end.

wire_reply({Status, Packed}, #{stream := Stream, ref := Ref}) ->
    hornbeam_wire:reply(Stream, Ref, Status, Packed).

%% The edge: a fault in an op is one failed call, not the end of the worker and all its sockets.
answer({Name, _, Type, _, _}, Fun) ->
    try Fun() of
        {How, Later} when How =:= spawn; How =:= in_turn -> {How, Later};
        ok -> hornbeam_api_answer:ok(Type, ok);
        {ok, Result} -> hornbeam_api_answer:ok(Type, Result);
        {error, Failure} -> hornbeam_api_answer:failure(Failure)
    catch
        Class:Reason:Stack ->
            ?LOG_ERROR(#{what => op_failed, op => Name, class => Class, reason => Reason,
                         stacktrace => Stack}, #{domain => [hornbeam]}),
            hornbeam_api_answer:failure(hornbeam_deadline:failure(Class, Reason, Stack))
    end.
