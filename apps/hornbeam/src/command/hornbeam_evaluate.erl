%% `bin/hornbeam eval' of a release: expressions are evaluated in the node that runs, and their
%% value is printed by the one that was started for that, with text as text.
-module(hornbeam_evaluate).

-export([main/1, exprs/1]).

-type outcome() :: {value, term()} | {failed, Sentence :: unicode:chardata()}.

%% @doc Print the value of expressions in a node; called by `erl -run'. The status is 1 where there
%% is none.
-spec main([string()]) -> no_return().
main([Node, Seconds, Text]) ->
    ok = io:setopts(user, [{encoding, unicode}]),
    end_with(ask(name(Node), Text, list_to_integer(Seconds) * 1000)).

%% This node gets its own name from the other one, by connecting to it.
ask(Node, Text, Timeout) ->
    case net_kernel:connect_node(Node) of
        true -> rpc:call(Node, ?MODULE, exprs, [Text], Timeout);
        _ -> {badrpc, nodedown}
    end.

%% A name may have what an atom has to be quoted for.
name(Node) ->
    {ok, [{atom, _, Name}], _} = erl_scan:string("'" ++ Node ++ "'"),
    Name.

-spec end_with(outcome() | {badrpc, term()}) -> no_return().
end_with({value, Value}) ->
    io:format(user, "~tp~n", [Value]),
    halt(0);
end_with({failed, Sentence}) ->
    fail(Sentence);
end_with({badrpc, Reason}) ->
    fail(io_lib:format("the node does not answer: ~0tp", [Reason])).

-spec fail(unicode:chardata()) -> no_return().
fail(Sentence) ->
    io:format(standard_error, "~ts~n", [Sentence]),
    halt(1).

%% @doc Evaluate expressions here; a full stop at the end may be left out.
-spec exprs(Text :: string()) -> outcome().
exprs(Text) ->
    case parsed(erl_scan:string(string:trim(Text, trailing, " \n.") ++ ".")) of
        {ok, Exprs} -> evaluated(Exprs);
        {error, {_Place, Module, What}} -> {failed, Module:format_error(What)}
    end.

parsed({ok, Tokens, _End}) -> erl_parse:parse_exprs(Tokens);
parsed({error, Why, _End}) -> {error, Why}.

evaluated(Exprs) ->
    try erl_eval:exprs(Exprs, erl_eval:new_bindings()) of
        {value, Value, _Bindings} -> {value, Value}
    catch
        Class:Reason:Stack -> {failed, erl_error:format_exception(Class, Reason, Stack)}
    end.
