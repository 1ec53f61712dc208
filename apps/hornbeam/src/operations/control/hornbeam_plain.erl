%% Terms of ours as those who know no Erlang read them: texts, numbers, lists and maps of them.
%% Pure.
-module(hornbeam_plain).

-export([term/1]).

%% @doc A term of which nothing is left that only a node understands. What is marked as bytes
%% (hornbeam_msgpack:bytes/1) stays so.
-spec term(term()) -> term().
term(Atom) when is_boolean(Atom); Atom =:= undefined ->
    Atom;
term(Atom) when is_atom(Atom) ->
    atom_to_binary(Atom);
term({local, Path}) when is_binary(Path); is_list(Path) ->
    unicode:characters_to_binary(["unix:", Path]);
term({Ip, Port}) when is_tuple(Ip), is_integer(Port) ->
    address(inet:ntoa(Ip), Ip, Port);
term(Tuple) when is_tuple(Tuple) ->
    term(tuple_to_list(Tuple));
term(Map) when is_map(Map) ->
    maps:from_list([{key(Key), term(Value)} || {Key, Value} <- maps:to_list(Map)]);
term([_ | Bytes] = Payload) when is_binary(Bytes) ->
    Payload;
term(List) when is_list(List) ->
    [term(Element) || Element <- List];
term(Term) when is_binary(Term); is_number(Term) ->
    Term;
term(Opaque) ->
    printed(Opaque).

%% Keys are texts everywhere.
key(Key) when is_binary(Key) -> Key;
key(Key) when is_atom(Key) -> atom_to_binary(Key);
key(Key) -> printed(Key).

address({error, _}, Ip, Port) -> [term(Ip), Port];
address(Text, Ip, Port) when tuple_size(Ip) =:= 8 ->
    iolist_to_binary(["[", Text, "]:", integer_to_list(Port)]);
address(Text, _Ip, Port) ->
    iolist_to_binary([Text, ":", integer_to_list(Port)]).

printed(Term) -> unicode:characters_to_binary(io_lib:format("~0tp", [Term])).
