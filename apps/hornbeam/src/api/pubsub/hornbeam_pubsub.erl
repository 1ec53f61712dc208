%% @doc Publish and subscribe, on one node or many.
%%
%% ```
%% ok = hornbeam_pubsub:subscribe(<<"chat:lobby">>),
%% 1 = hornbeam_pubsub:publish(<<"chat:lobby">>, #{<<"text">> => <<"hello">>}),
%% receive {hornbeam_pubsub, <<"chat:lobby">>, #{<<"text">> := Text}} -> Text end.
%% '''
%%
%% At most once, and in the order of each publisher; what is dropped is counted. Four modules know
%% how, and none waits for another: who is subscribed (hornbeam_pubsub_registry), how a message gets
%% to them (hornbeam_pubsub_fanout), the other nodes (hornbeam_pubsub_peers), and what comes from
%% there (hornbeam_pubsub_inbox). Whoever publishes reads their tables and sends from its own
%% process. Erlang processes subscribe here.
-module(hornbeam_pubsub).

-export([subscribe/1, unsubscribe/1, publish/2, publish_value/2, publish_here/2, losses/0]).
-export_type([publish_error/0, loss/0]).

-type topic() :: hornbeam_name:name().
-type loss() :: hornbeam_pubsub_fanout:loss() | link | cut.
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
%% To those of other nodes it is handed when their node's link has taken it, which is at once; what
%% becomes of it there is not waited for. See {@link losses/0}.
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
            Count = Here + hornbeam_pubsub_peers:publish(Peers, Topic, Value),
            hornbeam_api_counts:published(Count),
            {ok, Count};
        {error, _} = Error ->
            Error
    end.

%% @doc Publish a value to the subscribers of this node alone.
-spec publish_here(hornbeam_pubsub_fanout:topic(), hornbeam_value:value()) ->
    {ok, non_neg_integer()} | {error, publish_error()}.
publish_here(Topic, Value) ->
    case hornbeam_pubsub_fanout:prepare(Topic, Value, false) of
        {ok, Message} -> {ok, hornbeam_pubsub_fanout:deliver(Message)};
        {error, _} = Error -> Error
    end.

%% @doc How many messages were lost since this node's start.
%%
%% On their way to subscribers of this node, published wherever: `slow' were dropped for subscribers
%% that were too slow, `parked' came while a subscriber's worker had ended and no other had taken it
%% yet, `unreadable' came from another node but had no form that a subscriber needs, `overload' came
%% from another node faster than they could be handed on.
%%
%% On their way from this node to others: `link' were not sent because more waited for that node
%% than `peer_max_unsent_bytes' allows, or it was just gone; `cut' were sent, but the connection
%% ended before they were acknowledged, so that they may have arrived; `elsewhere' were dropped on
%% another node, which counts them as `overload'.
-spec losses() -> #{loss() => pos_integer()}.
losses() ->
    maps:merge(hornbeam_pubsub_fanout:losses(), hornbeam_pubsub_peers:losses()).
