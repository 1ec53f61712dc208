%% Calls from apps to Erlang functions: what is allowed, and how each kind of failure is told.
-module(hornbeam_rpc_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([
    nothing_is_allowed_at_the_start/1,
    only_what_is_named_is_allowed/1,
    names_make_no_atoms/1,
    another_node_is_called/1,
    a_node_that_is_called_looks_at_its_own_option/1,
    a_node_without_hornbeam_is_called/1,
    failures_are_told_apart/1,
    a_call_past_its_time_is_not_waited_for/1,
    a_cast_is_done_without_an_answer/1,
    a_node_that_is_down_is_no_node/1,
    first/1,
    second/1
]).
%% Called on the nodes.
-export([forever/0, call_if_allowed/6, cast_if_allowed/5]).

all() ->
    [Name || {Name, 1} <- module_info(exports), not lists:member(Name, others())].

others() -> [module_info, init_per_suite, end_per_suite].

init_per_suite(Config) ->
    Cluster = {_, _, B} = hornbeam_cluster:start(),
    %% More than A will ever ask for.
    Allow = [erlang, lists, hornbeam_state, ?MODULE],
    ok = hornbeam_cluster:call(B, application, set_env, [hornbeam, rpc_allow, Allow]),
    [{cluster, Cluster} | Config].

end_per_suite(Config) ->
    hornbeam_cluster:stop(proplists:get_value(cluster, Config)).

nothing_is_allowed_at_the_start(Config) ->
    {A, _} = both(Config),
    ?assertEqual({error, refused}, call(Config, A, <<"erlang">>, <<"node">>, [], 5000, [])),
    ?assertEqual({error, refused}, cast(Config, A, <<"erlang">>, <<"node">>, [], [])).

only_what_is_named_is_allowed(Config) ->
    {A, _} = both(Config),
    Allow = [{erlang, abs, 1}, lists],
    Call = fun(M, F, Args) -> call(Config, A, M, F, Args, 5000, Allow) end,
    ?assertEqual({ok, 5}, Call(<<"erlang">>, <<"abs">>, [-5])),
    ?assertEqual({ok, [1, 2]}, Call(<<"lists">>, <<"sort">>, [[2, 1]])),
    ?assertEqual({error, refused}, Call(<<"erlang">>, <<"abs">>, [])),
    ?assertEqual({error, refused}, Call(<<"erlang">>, <<"abs">>, [1, 2])),
    ?assertEqual({error, refused}, Call(<<"erlang">>, <<"halt">>, [])),
    ?assertEqual({error, refused}, Call(<<"os">>, <<"cmd">>, ["true"])).

names_make_no_atoms(Config) ->
    {A, _} = both(Config),
    Before = on(Config, erlang, system_info, [atom_count]),
    Unique = integer_to_binary(erlang:unique_integer([positive])),
    Name = <<"no_atom_has_this_name_", Unique/binary>>,
    [?assertEqual({error, Why}, call(Config, N, M, F, [], 5000, [lists]))
     || {N, M, F, Why} <- [{A, Name, <<"sort">>, refused}, {A, <<"lists">>, Name, refused},
                           {Name, <<"lists">>, <<"sort">>, no_node}]],
    ?assertEqual(Before, on(Config, erlang, system_info, [atom_count])).

another_node_is_called(Config) ->
    {A, B} = both(Config),
    Allow = [{erlang, node, 0}],
    [?assertEqual({ok, binary_to_atom(Node)},
                  call(Config, Node, <<"erlang">>, <<"node">>, [], 5000, Allow))
     || Node <- [A, B]],
    ?assertEqual(A, on(Config, hornbeam_rpc, node_name, [])),
    ?assertEqual([B], on(Config, hornbeam_rpc, node_names, [])).

a_node_that_is_called_looks_at_its_own_option(Config) ->
    {_, B} = both(Config),
    Allow = [os, erlang],
    Call = fun(M, F) -> call(Config, B, M, F, [], 5000, Allow) end,
    ?assertEqual({error, refused_there}, Call(<<"os">>, <<"timestamp">>)),
    ?assertMatch({ok, _}, Call(<<"erlang">>, <<"timestamp">>)),
    ok = hornbeam_cluster:call(second(Config), hornbeam_rpc, offer, [[os]]),
    ?assertMatch({ok, _}, Call(<<"os">>, <<"timestamp">>)),
    ?assertEqual({error, refused_there}, Call(<<"erlang">>, <<"timestamp">>)),
    ok = cast(Config, B, <<"erlang">>, <<"halt">>, [], Allow),
    ok = hornbeam_cluster:call(second(Config), hornbeam_rpc, offer_nothing, []),
    ?assertMatch({ok, _}, Call(<<"erlang">>, <<"timestamp">>)).

a_node_without_hornbeam_is_called(Config) ->
    {Port, _, _} = proplists:get_value(cluster, Config),
    Bare = hornbeam_cluster:bare_node(Port, []),
    true = hornbeam_cluster:connect(first(Config), Bare),
    Name = atom_to_binary(hornbeam_cluster:node(Bare)),
    Allow = [{lists, sum, 1}, {erlang, set_cookie, 1}],
    ?assertEqual({ok, 3}, call(Config, Name, <<"lists">>, <<"sum">>, [[1, 2]], 5000, Allow)),
    ok = cast(Config, Name, <<"erlang">>, <<"set_cookie">>, [another], Allow),
    hornbeam_eventually:holds(fun() ->
        hornbeam_cluster:call(Bare, erlang, get_cookie, []) =:= another
    end),
    hornbeam_cluster:stop_node(Bare).

failures_are_told_apart(Config) ->
    {A, B} = both(Config),
    Allow = [erlang, ?MODULE],
    [begin
         Call = fun(F, Args) -> call(Config, Node, <<"erlang">>, F, Args, 5000, Allow) end,
         ?assertMatch({error, {erlang, <<"error">>, <<"badarith">>, Stack}} when Stack =/= <<>>,
                      Call(<<"div">>, [1, 0])),
         ?assertMatch({error, {erlang, <<"throw">>, <<"{no,1}">>, _}},
                      Call(<<"throw">>, [{no, 1}])),
         ?assertMatch({error, {erlang, <<"exit">>, <<"bye">>, _}}, Call(<<"exit">>, [bye])),
         ?assertMatch({error, {erlang, <<"error">>, <<"undef">>, _}}, Call(<<"abs">>, []))
     end || Node <- [A, B]].

a_call_past_its_time_is_not_waited_for(Config) ->
    {A, B} = both(Config),
    [?assertEqual({error, timeout},
                  call(Config, Node, atom_to_binary(?MODULE), <<"forever">>, [], 50, [?MODULE]))
     || Node <- [A, B]].

a_cast_is_done_without_an_answer(Config) ->
    {A, B} = both(Config),
    [begin
         ok = cast(Config, Node, <<"hornbeam_state">>, <<"set">>, [Key, 1], [hornbeam_state]),
         hornbeam_eventually:holds(fun() ->
             hornbeam_cluster:call(At, hornbeam_state, get, [Key]) =:= 1
         end)
     end || {Node, At, Key} <- [{A, first(Config), <<"a">>}, {B, second(Config), <<"b">>}]].

a_node_that_is_down_is_no_node(Config) ->
    {_, B} = both(Config),
    Call = fun() -> call(Config, B, <<"erlang">>, <<"node">>, [], 5000, [erlang]) end,
    ?assertMatch({ok, _}, Call()),
    hornbeam_cluster:stop_node(second(Config)),
    hornbeam_eventually:holds(fun() -> Call() =:= {error, no_node} end).

forever() ->
    receive never -> ok end.

call_if_allowed(Node, Module, Function, Args, Timeout, Allow) ->
    case hornbeam_rpc:allowed(Node, Module, Function, length(Args), Allow) of
        {ok, Target} -> hornbeam_rpc:call(Target, Args, Timeout);
        {error, _} = Error -> Error
    end.

cast_if_allowed(Node, Module, Function, Args, Allow) ->
    case hornbeam_rpc:allowed(Node, Module, Function, length(Args), Allow) of
        {ok, Target} ->
            true = is_pid(hornbeam_rpc:cast(Target, Args)),
            ok;
        {error, _} = Error -> Error
    end.

call(Config, Node, Module, Function, Args, Timeout, Allow) ->
    on(Config, ?MODULE, call_if_allowed, [Node, Module, Function, Args, Timeout, Allow]).

cast(Config, Node, Module, Function, Args, Allow) ->
    on(Config, ?MODULE, cast_if_allowed, [Node, Module, Function, Args, Allow]).

on(Config, Module, Function, Args) ->
    hornbeam_cluster:call(first(Config), Module, Function, Args).

first(Config) -> element(2, proplists:get_value(cluster, Config)).
second(Config) -> element(3, proplists:get_value(cluster, Config)).

both(Config) ->
    {atom_to_binary(hornbeam_cluster:node(first(Config))),
     atom_to_binary(hornbeam_cluster:node(second(Config)))}.
