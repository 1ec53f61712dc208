%% The keys of shared state and of a connection's own. Pure.
%%
%% They are ordered, so what has a prefix stands together.
-module(hornbeam_state_key).

-export([is_key/1, is_prefix/2, bytes/1]).
-export_type([key/0, prefix/0]).

-type key() :: binary() | {bytes, binary()} | integer() | tuple().
%% A binary is Python's str, `{bytes, Binary}' its bytes; tuples hold keys.

-type prefix() :: all | binary() | {bytes, binary()} | tuple().
%% A tuple is the prefix of the tuples that start with its elements.

%% @doc Whether a term may be a key.
-spec is_key(term()) -> boolean().
is_key(Key) when is_binary(Key) -> hornbeam_utf8:is_valid(Key);
is_key({bytes, Bytes}) -> is_binary(Bytes);
is_key(Key) when is_tuple(Key) -> lists:all(fun is_key/1, tuple_to_list(Key));
is_key(Key) -> is_integer(Key).

%% @doc Whether a text is a prefix of a key, or bytes are.
-spec is_prefix(binary() | {bytes, binary()}, term()) -> boolean().
is_prefix({bytes, Prefix}, {bytes, Bytes}) -> is_prefix(Prefix, Bytes);
is_prefix(Prefix, Text) when is_binary(Prefix), is_binary(Text) ->
    binary:longest_common_prefix([Prefix, Text]) =:= byte_size(Prefix);
is_prefix(_Prefix, _Key) ->
    false.

%% @doc About how many bytes a key takes.
-spec bytes(key()) -> non_neg_integer().
bytes(Key) when is_binary(Key) -> byte_size(Key);
bytes(Key) when is_tuple(Key) -> element_bytes(tuple_size(Key), Key, 16);
bytes(Key) when is_integer(Key), abs(Key) < 1 bsl 59 -> 0;
bytes(Key) when is_integer(Key) -> erlang:external_size(Key);
bytes(_Bytes) -> 0.

element_bytes(0, _Key, Bytes) ->
    Bytes;
element_bytes(N, Key, Bytes) ->
    element_bytes(N - 1, Key, Bytes + 8 + element_bytes(element(N, Key))).

%% A text within a key has a head of its own and is filled up to whole words.
element_bytes(Text) when is_binary(Text) -> 16 + (byte_size(Text) + 7) band -8;
element_bytes(Other) -> bytes(Other).
