%% The requests of one connection that the app works on beside the one that is being answered, in
%% their order: what pipelining is (RFC 9112, 9.3.2).
%%
%% Only requests that change nothing stand here. What their exchanges want done is kept until it is
%% their turn.
-module(hornbeam_http1_queue).

-export([new/0, has_room/1, add/5, handle_info/2, handle_info/3, next/1, cancel/2]).
-export_type([queue/0, ends/0]).

-record(queued, {
    number :: pos_integer(),
    request :: hornbeam_request:request(),
    exchange :: hornbeam_exchange:exchange(),
    actions :: [hornbeam_exchange:action()],
    ends :: ends()
}).
-opaque queue() :: [#queued{}].

-type ends() :: {IsLast :: boolean(), IsKept :: boolean()}.
%% Whether the client wants the connection to end with the response, and whether it has to be told
%% that it does not (HTTP/1.0).

%% So many of one client the app gets at a time, beside the first.
-define(MOST, 15).

%% @doc No requests.
-spec new() -> queue().
new() -> [].

%% @doc Whether another request may follow.
-spec has_room(queue()) -> boolean().
has_room(Queue) ->
    length(Queue) < ?MOST
        andalso not lists:any(fun(#queued{ends = {IsLast, _}}) -> IsLast end, Queue).

%% @doc Give the connection's n-th request to the app, if it may follow and is let in; and what is
%% known of its fields then.
-spec add(pos_integer(), {hornbeam_http1_head:line(), Fields}, Template, hornbeam_mounts:mounts(),
          queue()) -> {ok, Fields | none, queue()} | no
    when Fields :: hornbeam_http1_head:fields(), Template :: hornbeam_request:request().
add(Number, {Line, Fields}, Template, Mounts, Queue) ->
    {Mount, Request} = hornbeam_mounts:find(hornbeam_http1_request:new(Line, Fields, Template),
                                            Mounts),
    case hornbeam_http1_request:may_follow(Request)
             andalso hornbeam_http1_request:check(Request, Fields, Mount) of
        {ok, Checked, Known} ->
            Ends = hornbeam_http1_request:ends(Line, Fields, Mounts),
            {ok, Known, Queue ++ [queued(Number, Checked, Ends, Mount)]};
        _ ->
            no
    end.

queued(Number, Request, Ends, Mount) ->
    {Actions, Exchange} = hornbeam_exchange:new({self(), Number}, Request, {<<>>, false}, Mount),
    #queued{number = Number, request = Request, exchange = Exchange, actions = Actions,
            ends = Ends}.

%% @doc A message for one of them.
-spec handle_info(pos_integer(), term(), queue()) -> queue().
handle_info(Number, Message, Queue) ->
    [case Queued of
         #queued{number = Number} -> handle(Message, Queued);
         #queued{} -> Queued
     end || Queued <- Queue].

%% @doc A message that is for none of them by name: it is for whoever knows it.
-spec handle_info(term(), queue()) -> queue().
handle_info(Message, Queue) ->
    [handle(Message, Queued) || Queued <- Queue].

handle(Message, #queued{exchange = Exchange, actions = Before} = Queued) ->
    {Actions, Next} = hornbeam_exchange:handle_info(Message, Exchange),
    Queued#queued{exchange = Next, actions = Before ++ Actions}.

%% @doc The next request that is to be answered, with all that its exchange has wanted by now.
-spec next(queue()) ->
    {pos_integer(), hornbeam_request:request(), ends(),
     {[hornbeam_exchange:action()], hornbeam_exchange:exchange()}, queue()} | empty.
next([]) ->
    empty;
next([#queued{number = Number, request = Request, exchange = Exchange} = Next | Queue]) ->
    #queued{actions = Actions, ends = Ends} = Next,
    {Number, Request, Ends, {Actions, Exchange}, Queue}.

%% @doc None of them is answered any more.
-spec cancel(queue(), hornbeam_mounts:mounts()) -> ok.
cancel(Queue, Mounts) ->
    lists:foreach(fun(#queued{number = Number, exchange = Exchange}) ->
        hornbeam_exchange:cancel(Exchange),
        hornbeam_mounts:exchange_ended({self(), Number}, Mounts)
    end, Queue).
