%% What is known of each node that we are, or were lately, connected to: for those who operate the
%% server. A table, no process.
-module(hornbeam_link_nodes).

-export([new_table/0, linked/2, up/4, refused/2, down/2, forget/0, all/0, healed/0]).
-export_type([status/0]).

-type status() :: #{
    node := node(),
    state := silent | up | refused | down,
    queue := hornbeam_link_queue:queue() | none,
    since := integer(),
    incarnation => integer(),
    is_cut => boolean(),
    version => pos_integer(),
    release => string(),
    refusal => hornbeam_link_hello:refusal(),
    healed := non_neg_integer()
}.
%% `since': of the state, in ms of the monotonic clock. `healed': how often the same life of the
%% node was out of reach and came back; `is_cut': that it is so now.

%% Rows: {Node, status()}; and {healed, N}, of all.
-define(TABLE, ?MODULE).

%% What is down is shown for so long (ms).
-define(FORGET, 3600000).

%% @doc Make the table; its owner must outlive everybody.
-spec new_table() -> ok.
new_table() ->
    ?TABLE = ets:new(?TABLE, [named_table, public]),
    ok.

%% @doc There is a link to a node, which has said nothing yet.
-spec linked(node(), hornbeam_link_queue:queue()) -> ok.
linked(Node, Queue) ->
    Status = maps:merge(#{node => Node, healed => 0}, status(Node)),
    store(Status#{state => silent, queue => Queue, since => now_ms()}).

%% @doc It is of our cluster and speaks with us.
-spec up(node(), integer(), pos_integer(), string()) -> ok.
up(Node, Incarnation, Version, Release) ->
    #{healed := Healed} = Status = status(Node),
    IsHealed = maps:get(is_cut, Status, false)
        andalso maps:get(incarnation, Status, none) =:= Incarnation,
    _ = [ets:update_counter(?TABLE, healed, 1, {healed, 0}) || IsHealed],
    store(maps:without([refusal, is_cut],
                       Status#{state => up, since => now_ms(), version => Version,
                               incarnation => Incarnation, release => Release,
                               healed => Healed + length([healed || IsHealed])})).

%% @doc It is none of ours; whether that is news.
-spec refused(node(), hornbeam_link_hello:refusal()) -> first | again.
refused(Node, Why) ->
    Status = status(Node),
    store(Status#{state => refused, since => now_ms(), refusal => Why}),
    case Status of
        #{refusal := Why} -> again;
        #{} -> first
    end.

%% @doc Its link has ended, by that of the connection or by another reason.
-spec down(node(), IsCut :: boolean()) -> ok.
down(Node, IsCut) ->
    Status = status(Node),
    store(Status#{state => down, since => now_ms(), queue => none,
                  is_cut => IsCut orelse maps:get(is_cut, Status, false)}).

%% @doc Forget what is down for long.
-spec forget() -> ok.
forget() ->
    Oldest = now_ms() - ?FORGET,
    lists:foreach(fun(#{node := Node}) -> ets:delete(?TABLE, Node) end,
                  [Status || #{state := down, since := Since} = Status <- all(), Since < Oldest]).

-spec all() -> [status()].
all() ->
    [Status || {_Node, Status} <- lists:sort(ets:tab2list(?TABLE)), is_map(Status)].

%% @doc How many partitions have healed.
-spec healed() -> non_neg_integer().
healed() ->
    case ets:lookup(?TABLE, healed) of
        [{healed, N}] -> N;
        [] -> 0
    end.

status(Node) ->
    case ets:lookup(?TABLE, Node) of
        [{Node, Status}] -> Status;
        [] -> #{}
    end.

store(#{node := Node} = Status) ->
    true = ets:insert(?TABLE, {Node, Status}),
    ok.

now_ms() -> erlang:monotonic_time(millisecond).
