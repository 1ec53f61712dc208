%% A request, whatever engine has read it (hornbeam_request.hrl). Pure.
-module(hornbeam_request).

-include("hornbeam_request.hrl").

-export([field/2, values/2]).
-export_type([request/0, version/0, address/0]).

-type request() :: #request{}.
-type version() :: 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2'.
-type address() :: {inet:ip_address(), inet:port_number()} | {local, binary()} | undefined.

%% @doc The value of a field of which there is one, or the first.
-spec field(Name :: binary(), request()) -> binary() | undefined.
field(Name, #request{fields = Fields}) ->
    case lists:keyfind(Name, 1, Fields) of
        {_Name, Value} -> Value;
        false -> undefined
    end.

%% @doc All values of a field, in their order.
-spec values(Name :: binary(), request()) -> [binary()].
values(Wanted, #request{fields = Fields}) ->
    [Value || {Name, Value} <- Fields, Name =:= Wanted].
