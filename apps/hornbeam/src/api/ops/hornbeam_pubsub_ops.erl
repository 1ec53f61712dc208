%% The ops on topics: arguments of the op table in, results of the op table out.
-module(hornbeam_pubsub_ops).

-export([subscribe/2, unsubscribe/2, publish/2, dropped/2]).

-type context() :: hornbeam_worker_api:context().

-spec subscribe([term()], context()) -> ok | {error, term()}.
subscribe([Topic, Forward, Overflow], Context) ->
    case how(Forward, Overflow, Context) of
        {ok, Owner, How} -> hornbeam_pubsub_registry:subscribe(Owner, Topic, How);
        {error, _} = Error -> Error
    end.

how(_Forward, _Overflow, #{client := gone}) ->
    {error, closed};
how(true, Overflow, #{client := {open, websocket, Client}, options := Options}) ->
    {ok, Client, {forward, limits(Options), overflow(Overflow, Options)}};
how(true, Overflow, #{client := {Phase, Owner, Client}, options := Options})
        when Phase =:= requested; Phase =:= streaming ->
    {ok, Client, {stream, Owner, limits(Options), overflow(Overflow, Options)}};
how(true, _Overflow, #{client := {closed_stream, _Owner, _Client}}) ->
    {error, encoded};
how(true, _Overflow, _Context) ->
    {error, not_forwardable};
how(false, _Overflow, #{process := Process, events := Events} = Context) ->
    {ok, Owner} = hornbeam_connection_ops:owner(Context),
    {ok, Owner, {worker, Process, Events}}.

limits(#{pubsub_queue_messages := Messages, pubsub_queue_bytes := Bytes}) -> {Messages, Bytes}.

overflow(undefined, #{pubsub_overflow := Overflow}) -> Overflow;
overflow(Overflow, _Options) -> Overflow.

%% A connection that is closed has no subscriptions any more.
-spec unsubscribe([term()], context()) -> ok.
unsubscribe([Topic], Context) ->
    case hornbeam_connection_ops:owner(Context) of
        {ok, Owner} -> hornbeam_pubsub_registry:unsubscribe(Owner, Topic);
        {error, closed} -> ok
    end.

-spec publish([term()], context()) ->
    {ok, non_neg_integer()} | {error, hornbeam_pubsub:publish_error()}.
publish([Topic, Packed], _Context) ->
    hornbeam_pubsub:publish_value(Topic, hornbeam_value:from_packed(Packed)).

%% Before they got to this connection, or to its worker.
-spec dropped([term()], context()) -> {ok, non_neg_integer()}.
dropped([], #{events := Events} = Context) ->
    {ok, hornbeam_worker_events:dropped(Events) + dropped_of(Context)}.

dropped_of(#{client := {_, _Kind, Client}}) -> hornbeam_pubsub_fanout:dropped(Client);
dropped_of(_Context) -> 0.
