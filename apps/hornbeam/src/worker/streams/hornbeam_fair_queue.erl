%% Messages of many streams that wait for one pipe: who has much to say does not keep the others.
%%
%% The order is that of the flows of FQ-CoDel (RFC 8290, section 4): a stream of which nothing
%% waited comes first, until it has had `QUANTUM' bytes; then it takes turns with the others of its
%% kind, at so many bytes a turn. Messages of one stream keep their order. Python's end of the pipe
%% does the same (fair.py). Pure; knows streams by their numbers, and not what is said.
-module(hornbeam_fair_queue).

-export([new/0, is_empty/1, put/3, take/2]).
-export_type([queue/0]).

%% The bytes of a turn. A message that is longer takes from the turns to come.
-define(QUANTUM, 16384).

-record(flow, {
    messages = queue:new() :: queue:queue(iodata()),
    left = ?QUANTUM :: integer()
}).

-record(fair, {
    count = 0 :: non_neg_integer(),
    %% also streams of which nothing waits, until their next turn: else one that says little but
    %% often would always come first
    flows = #{} :: #{stream() => #flow{}},
    fresh = queue:new() :: queue:queue(stream()),
    others = queue:new() :: queue:queue(stream())
}).
-opaque queue() :: #fair{}.

-type stream() :: non_neg_integer().

%% @doc Nothing waits.
-spec new() -> queue().
new() ->
    #fair{}.

%% @doc Whether nothing waits.
-spec is_empty(queue()) -> boolean().
is_empty(#fair{count = Count}) ->
    Count =:= 0.

%% @doc Let a message of a stream wait.
-spec put(stream(), iodata(), queue()) -> queue().
put(Stream, Message, #fair{count = Count, flows = Flows, fresh = Fresh} = Fair) ->
    case Flows of
        #{Stream := #flow{messages = Messages} = Flow} ->
            More = Flow#flow{messages = queue:in(Message, Messages)},
            Fair#fair{count = Count + 1, flows = Flows#{Stream := More}};
        #{} ->
            First = #flow{messages = queue:from_list([Message])},
            Fair#fair{count = Count + 1, flows = Flows#{Stream => First},
                      fresh = queue:in(Stream, Fresh)}
    end.

%% @doc The messages that are next: all that wait, or as many as have so many bytes together.
-spec take(Bytes :: pos_integer(), queue()) -> {[iodata()], queue()}.
take(Bytes, Fair) ->
    take(Bytes, [], Fair).

take(_Bytes, Taken, #fair{count = 0}) ->
    {lists:reverse(Taken), new()};
take(Bytes, Taken, Fair) when Bytes =< 0 ->
    {lists:reverse(Taken), Fair};
take(Bytes, Taken, Fair) ->
    {Message, Size, Left} = next(Fair),
    take(Bytes - Size, [Message | Taken], Left).

next(#fair{fresh = Fresh, others = Others, flows = Flows} = Fair) ->
    Kind = kind(queue:is_empty(Fresh)),
    Stream = queue:get(case Kind of fresh -> Fresh; others -> Others end),
    #{Stream := #flow{messages = Messages, left = Left} = Flow} = Flows,
    case Left > 0 andalso queue:out(Messages) of
        {{value, Message}, Rest} ->
            Size = iolist_size(Message),
            Less = Flow#flow{messages = Rest, left = Left - Size},
            {Message, Size, Fair#fair{count = Fair#fair.count - 1, flows = Flows#{Stream := Less}}};
        {empty, _} when Kind =:= others ->
            next(Fair#fair{others = queue:drop(Others), flows = maps:remove(Stream, Flows)});
        _ ->
            Later = Flow#flow{left = min(Left + ?QUANTUM, ?QUANTUM)},
            next(to_the_end(Kind, Stream, Fair#fair{flows = Flows#{Stream := Later}}))
    end.

kind(_NoneIsFresh = true) -> others;
kind(false) -> fresh.

to_the_end(fresh, Stream, #fair{fresh = Fresh, others = Others} = Fair) ->
    Fair#fair{fresh = queue:drop(Fresh), others = queue:in(Stream, Others)};
to_the_end(others, Stream, #fair{others = Others} = Fair) ->
    Fair#fair{others = queue:in(Stream, queue:drop(Others))}.
