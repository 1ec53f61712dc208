%% The ops on who is present: arguments of the op table in, results of the op table out.
-module(hornbeam_presence_ops).

-export([track/2, update/2, untrack/2, list/2, count/2, show/2]).

-type context() :: hornbeam_worker_api:context().
-type failure() :: hornbeam_presence_server:failure() | hornbeam_presence_message:bad_meta().

-type listed() :: {ok, hornbeam_value:value()}.

%% Rows that are listed without waiting for the turn.
-define(FEW, 500).

-spec track([term()], context()) -> {ok, binary()} | {error, failure()}.
track(Args, Context) ->
    with_meta(Args, Context, fun hornbeam_presence_server:track/5).

-spec update([term()], context()) -> {ok, binary()} | {error, failure()}.
update(Args, Context) ->
    with_meta(Args, Context, fun hornbeam_presence_server:update/5).

with_meta([Topic, Key, Meta], Context, Fun) ->
    case {hornbeam_presence_message:check_meta(Meta), hornbeam_connection_ops:owner(Context)} of
        {ok, {ok, Owner}} -> Fun(limited, Owner, Topic, Key, Meta);
        {ok, {error, closed} = Error} -> Error;
        {{error, _} = Error, _} -> Error
    end.

%% Who is gone is present nowhere.
-spec untrack([term()], context()) -> {ok, boolean()}.
untrack([Topic, Key], Context) ->
    case hornbeam_connection_ops:owner(Context) of
        {ok, Owner} -> {ok, hornbeam_presence_server:untrack(Owner, Topic, Key)};
        {error, closed} -> {ok, false}
    end.

-spec list([term()], context()) -> listed() | {in_turn, fun(() -> listed())}.
list([Topic], _Context) ->
    case hornbeam_presence_rows:keys_and_rows(Topic) of
        {_Keys, Rows} when Rows > ?FEW -> {in_turn, fun() -> listed(Topic) end};
        {_Keys, _Few} -> listed(Topic)
    end.

listed(Topic) ->
    Members = hornbeam_presence_message:members(hornbeam_presence_rows:members(Topic)),
    {ok, {packed, iolist_to_binary(Members)}}.

-spec count([term()], context()) -> {ok, non_neg_integer()}.
count([Topic], _Context) ->
    {ok, hornbeam_presence_rows:count(Topic)}.

%% Tell the client to whom changes are forwarded who is present now.
-spec show([term()], context()) ->
    ok | {error, closed | {too_many_present, pos_integer()} | hornbeam_pubsub_fanout:no_form()}.
show([Topic], Context) ->
    case hornbeam_connection_ops:owner(Context) of
        {ok, Owner} -> show_to(Owner, Topic, Context);
        {error, closed} = Error -> Error
    end.

show_to(Owner, Topic, #{options := #{pubsub_queue_bytes := Most}}) ->
    Id = {Owner, hornbeam_presence_message:topic(Topic)},
    State = hornbeam_presence_message:state(Topic, hornbeam_presence_rows:members(Topic)),
    case hornbeam_pubsub_registry:subscription(Id) of
        {ok, Route} when byte_size(State) =< Most ->
            hornbeam_pubsub_fanout:send(Id, Route, {packed, State});
        {ok, _Route} ->
            {error, {too_many_present, Most}};
        none ->
            {error, closed}
    end.
