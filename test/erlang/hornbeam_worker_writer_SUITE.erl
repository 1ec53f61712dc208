%% In which order messages come into the pipe; cat plays Python, and says what it reads.
-module(hornbeam_worker_writer_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

-define(TEXT, 5).
-define(REPLY, 10).
-define(REOPEN, 18).

all() ->
    [little_keeps_its_order, who_says_little_passes_who_says_much, streams_keep_their_order,
     replies_and_moved_sockets_pass, what_passes_is_counted,
     messages_are_counted_and_nothing_else].

init_per_testcase(_Test, Config) ->
    Port = open_port({spawn_executable, os:find_executable("cat")}, [binary, stream]),
    Ops = hornbeam_worker_pending_ops:new(),
    Counts = hornbeam_capacity:new_counts(),
    Unread = hornbeam_worker_unread:new(),
    Writer = hornbeam_worker_writer:start_link({pipe, Port}, Ops, Unread, Counts),
    [{unread, Unread}, {port, Port}, {writer, Writer}, {counts, Counts} | Config].

end_per_testcase(_Test, Config) ->
    Writer = proplists:get_value(writer, Config),
    true = unlink(Writer),
    true = exit(Writer, kill),
    true = port_close(proplists:get_value(port, Config)).

little_keeps_its_order(Config) ->
    Said = [text(1, 65536), text(1, 65536), text(2, 1), text(1, 65536), text(3, 1)],
    write(Said, Config),
    ?assertEqual([1, 1, 2, 1, 3], [Stream || [_, Stream | _] <- heard(5, Config)]).

who_says_little_passes_who_says_much(Config) ->
    write([text(1, 65536) || _ <- lists:seq(1, 100)] ++ [text(2, 1), [text(3, 1), text(3, 1)]],
          Config),
    Streams = [Stream || [_, Stream | _] <- heard(103, Config)],
    ?assertEqual([1, 2, 3, 3, 1], lists:sublist(Streams, 5)).

streams_keep_their_order(Config) ->
    Said = [text(N rem 3 + 1, 1 + (N * 7919) rem 100000) || N <- lists:seq(1, 200)],
    write(Said ++ [hornbeam_wire:disconnect(1, 1006, <<>>)], Config),
    Heard = heard(201, Config),
    [?assertEqual([decoded(Op) || Op <- Said, stream(Op) =:= Stream],
                  [Message || [?TEXT, Of | _] = Message <- Heard, Of =:= Stream])
     || Stream <- [1, 2, 3]],
    ?assertMatch([7, 1 | _], lists:last([Message || [_, 1 | _] = Message <- Heard])).

replies_and_moved_sockets_pass(Config) ->
    Writer = proplists:get_value(writer, Config),
    true = erlang:suspend_process(Writer),
    [hornbeam_worker_writer:write(Writer, text(1, 65536)) || _ <- lists:seq(1, 40)],
    hornbeam_worker_writer:write(Writer, hornbeam_wire:event(<<"topic">>, <<16#c0>>)),
    hornbeam_worker_writer:reply(Writer, unread(Config), hornbeam_wire:reply(1, 7, 0, <<16#c0>>)),
    Reopened = hornbeam_wire:reopen_websocket(2, scope(), 1, <<"died">>, [<<"topic">>]),
    hornbeam_worker_writer:write(Writer, Reopened),
    true = erlang:resume_process(Writer),
    ?assertMatch([[?REPLY, 1 | _], [?REOPEN, 2 | _] | _], heard(43, Config)).

what_passes_is_counted(Config) ->
    Opening = iolist_to_binary(hornbeam_wire:open_http(9, scope(), <<>>, false)),
    Writer = proplists:get_value(writer, Config),
    write([Opening], Config),
    [hornbeam_worker_writer:message(Writer, text(Stream, 3)) || Stream <- [1, 2]],
    hornbeam_worker_writer:write(Writer, hornbeam_wire:accepted(2)),
    true = erlang:suspend_process(Writer),
    [hornbeam_worker_writer:message(Writer, text(1, 65536)) || _ <- lists:seq(1, 40)],
    true = erlang:resume_process(Writer),
    _ = heard(44, Config),
    hornbeam_eventually:holds(fun() -> messages(Config) =:= 42 end).

messages_are_counted_and_nothing_else(Config) ->
    Writer = proplists:get_value(writer, Config),
    Accepted = hornbeam_wire:accepted(1),
    Credit = hornbeam_wire:credit(1, 2, 3),
    hornbeam_worker_writer:message(Writer, hornbeam_wire:receive_text(1, <<"a">>)),
    Bytes = hornbeam_wire:receive_bytes(70000, [<<16#93, ?TEXT>>, <<"b">>]),
    hornbeam_worker_writer:message(Writer, Bytes),
    hornbeam_worker_writer:write(Writer, [[Accepted, Credit] | Accepted]),
    hornbeam_worker_writer:write(Writer, hornbeam_wire:event(<<"topic">>, <<16#93, ?TEXT>>)),
    Reply = hornbeam_wire:reply(1, 7, 0, <<16#93, ?TEXT, 1, 2>>),
    hornbeam_worker_writer:reply(Writer, unread(Config), Reply),
    _ = heard(7, Config),
    hornbeam_eventually:holds(fun() -> messages(Config) =:= 2 end).

messages(Config) ->
    [Writer, Counts] = [proplists:get_value(Key, Config) || Key <- [writer, counts]],
    hornbeam_capacity:messages(hornbeam_capacity:new(
        #{worker => self(), writer => Writer, name => <<>>, limit => infinity, counts => Counts,
          tagged_owners => none, adoption => none})).

unread(Config) -> proplists:get_value(unread, Config).

%% All at once: the writer finds all of it in its mailbox.
write(Messages, Config) ->
    Writer = proplists:get_value(writer, Config),
    true = erlang:suspend_process(Writer),
    [hornbeam_worker_writer:write(Writer, Message) || Message <- Messages],
    true = erlang:resume_process(Writer).

heard(Count, Config) -> heard(Count, <<>>, proplists:get_value(port, Config)).

heard(0, <<>>, _Port) ->
    [];
heard(Count, Bytes, Port) ->
    case hornbeam_msgpack:decode(Bytes) of
        {ok, Message, Rest} ->
            [Message | heard(Count - 1, Rest, Port)];
        {error, truncated} ->
            receive {Port, {data, More}} -> heard(Count, <<Bytes/binary, More/binary>>, Port) end
    end.

text(Stream, Size) -> hornbeam_wire:receive_text(Stream, binary:copy(<<"x">>, Size)).

stream(Op) -> lists:nth(2, decoded(Op)).

scope() ->
    #{http_version => <<"1.1">>, scheme => <<"http">>, method => <<"GET">>, raw_path => <<"/">>,
      query_string => <<>>, headers => [], client => undefined, server => undefined,
      connect => undefined}.

decoded(Op) ->
    {ok, Message} = hornbeam_msgpack:decode_all(iolist_to_binary(Op)),
    Message.
