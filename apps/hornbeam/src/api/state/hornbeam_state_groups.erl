%% What of the shared state begins alike, counted for who looks at it: not what it says.
%%
%% Texts are grouped by what stands before the next of `: / . |' behind a prefix, tuples by their
%% first element where that is a text.
-module(hornbeam_state_groups).

-export([below/2]).
-export_type([name/0]).

-type name() :: {prefix | key | tuples, Text :: binary()} | numbers | bytes | tuples.

-define(SEPARATORS, [<<":">>, <<"/">>, <<".">>, <<"|">>]).

%% @doc The groups of keys below a prefix of text, with their rows and bytes; of all keys where it
%% is empty. At most so many keys are looked at, the first ones: then there is `more'.
-spec below(Prefix :: binary(), Most :: pos_integer()) ->
    {#{name() => {Rows :: pos_integer(), Bytes :: pos_integer()}}, all | more}.
below(<<>>, Most) -> walk(hornbeam_state_rows:first(), <<>>, Most, #{});
below(Prefix, Most) -> walk(Prefix, Prefix, Most, #{}).

walk('$end_of_table', _Prefix, _Left, Groups) ->
    {Groups, all};
walk(_Key, _Prefix, 0, Groups) ->
    {Groups, more};
walk(Key, Prefix, Left, Groups) ->
    case Prefix =:= <<>> orelse hornbeam_state_key:is_prefix(Prefix, Key) of
        true -> walk(hornbeam_state_rows:next(Key), Prefix, Left - 1,
                     add(hornbeam_state_rows:find_bytes(Key), Key, Prefix, Groups));
        false -> {Groups, all}
    end.

add(absent, _Key, _Prefix, Groups) ->
    Groups;
add(Bytes, Key, Prefix, Groups) ->
    maps:update_with(name(Key, byte_size(Prefix)),
                     fun({Rows, Sum}) -> {Rows + 1, Sum + Bytes} end, {1, Bytes}, Groups).

name(Key, Behind) when is_binary(Key) ->
    case binary:match(Key, ?SEPARATORS, [{scope, {Behind, byte_size(Key) - Behind}}]) of
        {At, 1} -> {prefix, binary:part(Key, 0, At + 1)};
        nomatch -> {key, Key}
    end;
name({bytes, _}, _Behind) ->
    bytes;
name(Key, _Behind) when is_integer(Key) ->
    numbers;
name(Key, _Behind) when tuple_size(Key) > 0, is_binary(element(1, Key)) ->
    {tuples, <<"(\"", (element(1, Key))/binary, "\", …)"/utf8>>};
name(_Tuple, _Behind) ->
    tuples.
