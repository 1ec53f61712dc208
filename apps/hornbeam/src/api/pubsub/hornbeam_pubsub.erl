%% @doc Publish and subscribe, on one node or many.
%%
%% ```
%% ok = hornbeam_pubsub:subscribe(<<"chat:lobby">>),
%% 1 = hornbeam_pubsub:publish(<<"chat:lobby">>, #{<<"text">> => <<"hello">>}),
%% receive {hornbeam_pubsub, <<"chat:lobby">>, #{<<"text">> := Text}} -> Text end.
%% '''
%%
%% At most once, and in the order of each publisher; what is dropped is counted. Three modules know
%% how, and none waits for another: who is subscribed (hornbeam_pubsub_registry), how a message gets
%% to them (hornbeam_pubsub_fanout), and the other nodes (hornbeam_pubsub_peers). Whoever publishes
%% reads their tables and sends from its own process. Erlang processes subscribe here.
-module(hornbeam_pubsub).

-export([subscribe/1, unsubscribe/1, publish/2, publish_value/2, losses/0]).
-export_type([publish_error/0]).

-type topic() :: hornbeam_name:name().
-type publish_error() :: hornbeam_pubsub_fanout:no_form().

%% @doc Subscribe the calling process: it gets `{hornbeam_pubsub, Topic, Term}', with the topic as a
%% binary.
%%
%% Subscribing twice is the same as once; it ends with {@link unsubscribe/1} or the process. Raises
%% `{limit, Option}' where it would be more than `state_max_bytes' and `state_max_rows' allow.
-spec subscribe(topic()) -> ok.
subscribe(Topic) ->
    case hornbeam_pubsub_registry:subscribe(self(), hornbeam_name:text(Topic), process) of
        ok -> ok;
        {error, Reason} -> error(Reason)
    end.

%% @doc End the subscription of the calling process, if it has one.
-spec unsubscribe(topic()) -> ok.
unsubscribe(Topic) ->
    hornbeam_pubsub_registry:unsubscribe(self(), hornbeam_name:text(Topic)).

%% @doc Publish a term, and return the number of subscribers that it was handed to, on all nodes.
%%
%% Raises a {@type publish_error()} when somebody needs a form that the term does not have; then
%% nobody gets it.
-spec publish(topic(), term()) -> non_neg_integer().
publish(Topic, Term) ->
    case publish_value(hornbeam_name:text(Topic), hornbeam_value:from_term(Term)) of
        {ok, Count} -> Count;
        {error, Reason} -> error(Reason)
    end.

%% @doc Publish a value from the calling process.
-spec publish_value(hornbeam_pubsub_fanout:topic(), hornbeam_value:value()) ->
    {ok, non_neg_integer()} | {error, publish_error()}.
publish_value(Topic, Value) ->
    Peers = hornbeam_pubsub_peers:subscribed(Topic),
    IsForwarded = hornbeam_pubsub_peers:is_forwarded(Peers),
    case hornbeam_pubsub_fanout:prepare(Topic, Value, IsForwarded) of
        {ok, Message} ->
            Here = hornbeam_pubsub_fanout:deliver(Message),
            {ok, Here + hornbeam_pubsub_peers:publish(Peers, Topic, Value)};
        {error, _} = Error ->
            Error
    end.

%% @doc How many messages were lost between nodes since this node's start: `link' were not sent
%% because the link was full or down, `unreadable' came but had no form that a subscriber needs;
%% `slow' were dropped for subscribers that were too slow, `parked' came while a subscriber's worker
%% had ended and no other had taken it yet.
-spec losses() -> #{hornbeam_pubsub_fanout:loss() => pos_integer()}.
losses() ->
    hornbeam_pubsub_fanout:losses().
