%% What is known of this node's cluster, for those who operate it: whom it is connected with, what
%% waits for them, what was lost.
-module(hornbeam_cluster_status).

-export([all/0, peers/0]).
-export_type([peer/0, amount/0]).

-type amount() :: #{messages := non_neg_integer(), bytes := non_neg_integer()}.

-type peer() :: #{
    node := node(),
    state := up | silent | refused | waiting | trying | down,
    seconds := non_neg_integer(),
    why := binary(),
    failures := non_neg_integer(),
    incarnation := integer() | undefined,
    version := binary() | undefined,
    protocol := pos_integer() | undefined,
    healed := non_neg_integer(),
    dropped := non_neg_integer(),
    waiting := amount(),
    unacknowledged := amount(),
    sent := amount(),
    received := amount()
}.
%% `silent' is connected and has not said yet that Hornbeam runs there; `refused' is of another
%% cluster, or speaks no protocol that we do, as `why' says; `waiting' and `trying' are to be
%% joined; `down' was there in the last hour. `seconds': since when. Amounts are those of its link,
%% as long as that lasts.

-define(NOTHING, #{messages => 0, bytes => 0}).

%% @doc All of it; empty lists and zeros where there are no other nodes.
-spec all() -> #{name := binary(), node := node(), incarnation := integer(),
                 healed := non_neg_integer(), peers := [peer()],
                 losses := #{Room :: atom() => #{hornbeam_link_queue:loss() => pos_integer()}}}.
all() ->
    {Node, Incarnation} = hornbeam_links:own(),
    #{name => hornbeam_links:cluster(), node => Node, incarnation => Incarnation,
      healed => hornbeam_link_nodes:healed(), peers => peers(), losses => losses()}.

losses() ->
    maps:fold(fun({Room, Why}, Messages, Losses) ->
        Losses#{Room => maps:put(Why, Messages, maps:get(Room, Losses, #{}))}
    end, #{}, hornbeam_link_queue:losses()).

%% @doc The other nodes, in the order of their names.
-spec peers() -> [peer()].
peers() ->
    Linked = maps:from_list([{Node, linked(Status)}
                             || #{node := Node} = Status <- hornbeam_link_nodes:all()]),
    Joined = maps:from_list([{Node, joined(Peer)}
                             || #{node := Node} = Peer <- hornbeam_joiner:peers()]),
    All = maps:merge_with(fun merge/3, Joined, Linked),
    [Peer || {_Node, Peer} <- lists:sort(maps:to_list(All))].

linked(#{node := Node, state := State, since := Since, healed := Healed} = Status) ->
    maps:merge((blank(Node))#{state => State, seconds => seconds(Since), healed => Healed,
                              why => why(Status), version => version(Status),
                              incarnation => maps:get(incarnation, Status, undefined),
                              protocol => maps:get(version, Status, undefined)},
               amounts(maps:get(queue, Status))).

blank(Node) ->
    #{node => Node, state => down, seconds => 0, why => <<>>, failures => 0, version => undefined,
      incarnation => undefined, protocol => undefined, healed => 0, dropped => 0,
      waiting => ?NOTHING, unacknowledged => ?NOTHING, sent => ?NOTHING, received => ?NOTHING}.

amounts(none) ->
    #{};
amounts(Queue) ->
    maps:map(fun(dropped, Messages) -> Messages;
                (_What, {Messages, Bytes}) -> #{messages => Messages, bytes => Bytes}
             end, hornbeam_link_queue:status(Queue)).

seconds(Since) -> (erlang:monotonic_time(millisecond) - Since) div 1000.

version(#{release := Release}) -> unicode:characters_to_binary(Release);
version(#{}) -> undefined.

why(#{state := refused, refusal := {cluster, Name}}) ->
    <<"it is of the cluster ", Name/binary>>;
why(#{state := refused, refusal := {version, {Oldest, Newest}}}) ->
    unicode:characters_to_binary(
        io_lib:format("it speaks the protocols ~b to ~b, and this node none of them",
                      [Oldest, Newest]));
why(#{state := refused, refusal := not_understood}) ->
    <<"what it says is not understood">>;
why(#{}) ->
    <<>>.

joined(#{node := Node, state := State, failures := Failures, why := Why}) ->
    (blank(Node))#{state => state(State), failures => Failures, why => Why}.

state(connected) -> silent;
state(NotConnected) -> NotConnected.

%% Of one that is down the joiner knows more.
merge(_Node, Joined, #{state := down} = Linked) ->
    maps:merge(Linked, maps:with([state, failures, why], Joined));
merge(_Node, _Joined, Linked) ->
    Linked.
