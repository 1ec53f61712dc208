%% What a Python process and the node tell each other before it serves. Pure.
-module(hornbeam_worker_hello).

-export([config/2, about/1, dump/1]).

%% Bytes of a text about itself that are kept.
-define(LONGEST, 64).

%% @doc The answer to `hello': what the process has to know of its options.
-spec config(Name :: binary(), hornbeam_config:app_options()) -> #{atom() => term()}.
config(Name, Options) ->
    #{worker_class := Interface, pythonpath := Path, root_path := RootPath,
      loop := Loop, websocket_max_frame_size := MaxMessage,
      op_timeout := OpTimeout, worker_hang_timeout := HangTimeout,
      pubsub_queue_messages := QueueMessages,
      pubsub_queue_bytes := QueueBytes, limit_response_head := ResponseHead,
      limit_response_fields := ResponseFields, websocket_resume := Resume} = Options,
    #{app => named(Options), interface => atom_to_binary(Interface),
      threads => threads(Options), pythonpath => Path,
      root_path => RootPath, lifespan => lifespan(Options), loop => Loop,
      worker => Name, stream_window => hornbeam_stream:window(),
      worker_window => hornbeam_worker_reader:window(),
      tell_window => hornbeam_worker_tells:window(), max_message => MaxMessage,
      op_timeout => OpTimeout, hang_timeout => finite(HangTimeout),
      pubsub_queue_messages => QueueMessages,
      pubsub_queue_bytes => QueueBytes, limit_response_head => ResponseHead,
      limit_response_fields => ResponseFields, resume => Resume}.

named(#{app := App, factory := false}) -> App;
named(#{app := App, factory := true}) -> <<App/binary, "()">>.

%% WSGI has none.
lifespan(#{worker_class := wsgi}) -> off;
lifespan(#{lifespan := Lifespan}) -> Lifespan.

%% More than it is given at once would never all be busy.
threads(#{worker_class := wsgi, threads := Threads, worker_connections := Most}) ->
    min(Threads, Most);
threads(_Options) ->
    undefined.

finite(infinity) -> undefined;
finite(Timeout) -> Timeout.

%% @doc Of what a process tells about itself, what a person wants to see; copied, since it is kept,
%% and only what is as short as it should be.
-spec about(#{binary() => term()}) -> #{atom() => term()}.
about(About) ->
    maps:from_list([{Atom, kept(maps:get(Key, About))}
                    || {Key, Atom} <- [{<<"python">>, python}, {<<"package">>, package},
                                       {<<"loop">>, loop}, {<<"lifespan">>, lifespan}],
                       is_map_key(Key, About)]).

kept(Text) when is_binary(Text), byte_size(Text) =< ?LONGEST -> binary:copy(Text);
kept(Bool) when is_boolean(Bool) -> Bool;
kept(_Other) -> undefined.

%% @doc How a process can be asked for its stacks.
-spec dump(#{binary() => term()}) -> hornbeam_os_process:dump().
dump(#{<<"stacks">> := [Signal, Fd]}) when is_integer(Signal), is_integer(Fd) -> {Signal, Fd};
dump(_About) -> none.
