%% The ops on channels: arguments of the op table in, results of the op table out.
-module(hornbeam_channel_ops).

-export([send/2, put/2, put_back/2, want/2, set_full/2, join/2, leave/2, clear/2, lost/2]).

-type context() :: hornbeam_worker_api:context().
-type limited() :: {error, {limit, hornbeam_quota:limit()}}.

-spec send([term()], context()) -> {ok, boolean()} | {error, hornbeam_pubsub:publish_error()}.
send([Channel, Address, Packed], _Context) ->
    hornbeam_channels:send(Channel, Address, hornbeam_value:from_packed(Packed)).

-spec put([term()], context()) -> {ok, boolean()} | limited().
put([Channel, Packed, Ttl, Capacity], _Context) ->
    case hornbeam_channels:put(Channel, hornbeam_value:from_packed(Packed), Ttl, Capacity) of
        ok -> {ok, true};
        full -> {ok, false};
        {error, _} = Error -> Error
    end.

-spec put_back([term()], context()) -> ok.
put_back([Channel, Turn, Packed, Ttl], _Context) ->
    hornbeam_channels:put_back(Channel, Turn, hornbeam_value:from_packed(Packed), Ttl).

-spec want([term()], context()) -> ok.
want([Channel, Address, IsMore], Context) ->
    {ok, Reader} = hornbeam_connection_ops:owner(Context#{client := worker}),
    hornbeam_channels:want(Channel, Reader, Address, change(IsMore)).

change(true) -> one_more;
change(false) -> one_less.

-spec set_full([term()], context()) -> ok.
set_full([Channel, IsFull, Ttl], _Context) ->
    hornbeam_channels:set_full(Channel, IsFull, Ttl).

-spec join([term()], context()) -> ok | limited().
join([Group, Channel, Ttl, MessageTtl, Capacity], _Context) ->
    hornbeam_channels:join(Group, Channel, Ttl, MessageTtl, Capacity).

-spec leave([term()], context()) -> ok.
leave([Group, Channel], _Context) ->
    hornbeam_channels:leave(Group, Channel).

-spec clear([term()], context()) -> ok.
clear([Prefix], _Context) ->
    hornbeam_channels:clear(Prefix).

-spec lost([term()], context()) -> ok.
lost([Messages, IsExpired], _Context) ->
    hornbeam_channels:count_losses(why(IsExpired), Messages).

why(true) -> expired;
why(false) -> full.
