%% Terms without what may be secret in them, for reports that others make of our processes. Pure.
%%
%% A crash report shows a process's state, its mailbox and the arguments of the function that
%% failed: heads of requests with their cookies, an app's messages, values of the shared state.
%% Whatever is secret there is bytes or text. So those are shown as how long they are, and all else
%% as it is.
-module(hornbeam_redaction).

-export([term/1, fields/1]).

%% Elements of a list that are shown: a mailbox may be long.
-define(MOST, 50).

%% @doc A term with each text and each binary replaced by its size.
-spec term(term()) -> term().
term(Bytes) when is_bitstring(Bytes) ->
    size_of(Bytes);
term(Tuple) when is_tuple(Tuple) ->
    tuple(Tuple);
term(Map) when is_map(Map) ->
    maps:from_list([{map_key(Key), term(Value)} || {Key, Value} <- maps:to_list(Map)]);
term([]) ->
    [];
term(List) when is_list(List) ->
    list(io_lib:printable_unicode_list(List), List);
term(Other) ->
    Other.

size_of(<<>>) -> <<>>;
size_of(Bytes) -> {bytes, byte_size(Bytes)}.

%% Where a function stands is in each stack.
tuple({file, File}) -> {file, File};
tuple(Tuple) -> list_to_tuple([term(Element) || Element <- tuple_to_list(Tuple)]).

%% Two keys must not become one.
map_key(Key) when is_bitstring(Key) -> {bytes, byte_size(Key), erlang:phash2(Key, 4096)};
map_key(Key) -> term(Key).

list(true, Text) -> {text, length(Text)};
list(false, List) -> elements(List, ?MOST).

elements([], _Left) -> [];
elements([_ | _], 0) -> ['...'];
elements([Element | Rest], Left) -> [term(Element) | elements(Rest, Left - 1)];
elements(Tail, _Left) -> term(Tail).

%% @doc A term in which the values of header fields that are secret are hidden, and queries, in
%% which clients of WebSockets put their tokens.
-spec fields(term()) -> term().
fields({Name, Value}) when is_binary(Name) -> {Name, field(Name, Value)};
fields(Tuple) when is_tuple(Tuple) -> list_to_tuple(fields(tuple_to_list(Tuple)));
fields([Element | Rest]) -> [fields(Element) | fields(Rest)];
fields(Map) when is_map(Map) ->
    maps:map(fun(Name, Value) when is_binary(Name) -> field(Name, Value);
                (query, <<_, _/binary>>) -> hidden;
                (_Name, Value) -> fields(Value)
             end, Map);
fields(Other) -> Other.

field(Name, Value) ->
    case is_secret(string:lowercase(Name)) of
        true -> hidden;
        false -> fields(Value)
    end.

is_secret(Name) ->
    lists:member(Name, [<<"cookie">>, <<"set-cookie">>, <<"authorization">>,
                        <<"proxy-authorization">>, <<"sec-websocket-protocol">>])
        orelse lists:any(fun(Word) -> binary:match(Name, Word) =/= nomatch end,
                         [<<"token">>, <<"secret">>, <<"password">>, <<"api-key">>]).
