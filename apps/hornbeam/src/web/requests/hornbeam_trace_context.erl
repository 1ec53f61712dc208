%% What events say of a request so that a span can be made of them: the trace that its client is in
%% (W3C Trace Context), and its id. Pure.
-module(hornbeam_trace_context).

-include("hornbeam_request.hrl").

-export([of_request/1]).
-export_type([context/0]).

-type context() :: #{traceparent => binary(), tracestate => binary(), request_id => binary()}.
%% As they came; nobody has checked the first two.

%% @doc What a request says; it may be kept longer than the request.
-spec of_request(hornbeam_request:request()) -> context().
of_request(#request{fields = Fields, id = Id}) ->
    with_id(Id, lists:foldl(fun add/2, #{}, Fields)).

add({<<"traceparent">>, Value}, Trace) -> Trace#{traceparent => binary:copy(Value)};
add({<<"tracestate">>, Value}, #{tracestate := Before} = Trace) ->
    Trace#{tracestate => <<Before/binary, ",", Value/binary>>};
add({<<"tracestate">>, Value}, Trace) -> Trace#{tracestate => binary:copy(Value)};
add(_Other, Trace) -> Trace.

with_id(none, Trace) -> Trace;
with_id(Id, Trace) -> Trace#{request_id => binary:copy(Id)}.
