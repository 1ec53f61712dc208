%% What runs is ready for code that changes below it: supervisors take theirs as they run, and
%% nothing that lives long holds a fun of a module that may be replaced.
-module(hornbeam_code_change_SUITE).

-include_lib("stdlib/include/assert.hrl").

-compile(export_all).

all() ->
    [supervisors_take_new_code_while_they_run, a_change_of_code_costs_no_execution,
     tables_belong_to_the_application_and_not_to_a_supervisor,
     nothing_that_lives_long_holds_a_local_fun].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(hornbeam),
    Config.

end_per_suite(_Config) ->
    ok = application:stop(hornbeam).

%% As release_handler does it: a supervisor calls its init/1 then.
supervisors_take_new_code_while_they_run(_Config) ->
    Before = tree(hornbeam_sup),
    ?assertMatch([_, hornbeam_api_sup | _], [Module || {_, Module} <- Before]),
    [?assertEqual({Module, ok}, {Module, changed(Pid, Module)}) || {Pid, Module} <- Before],
    ?assertEqual(Before, tree(hornbeam_sup)).

changed(Pid, Module) ->
    ok = sys:suspend(Pid, 5000),
    try
        sys:change_code(Pid, Module, undefined, [], 5000)
    catch
        exit:{Reason, _} -> Reason
    after
        ok = sys:resume(Pid, 5000)
    end.

%% All supervisors below one, with it.
tree(Name) ->
    [{whereis(Name), Name} | below(whereis(Name))].

below(Sup) ->
    lists:append([[{Pid, Module} | below(Pid)]
                  || {_, Pid, supervisor, [Module]} <- supervisor:which_children(Sup)]).

a_change_of_code_costs_no_execution(_Config) ->
    Name = <<"slow">>,
    Self = self(),
    ok = hornbeam:register_hook(Name, fun(_Action, []) ->
        Self ! {runs, self()},
        receive go -> done end
    end),
    {ok, Id} = hornbeam_hooks:execute_async(Name, <<"a">>, []),
    Handler = receive {runs, Pid} -> Pid end,
    ok = changed(whereis(hornbeam_executions_sup), hornbeam_executions_sup),
    Handler ! go,
    ?assertEqual({ok, done}, hornbeam_hooks:await_result(Id, 5000)),
    ok = hornbeam:unregister_hook(Name).

tables_belong_to_the_application_and_not_to_a_supervisor(_Config) ->
    Supervisors = [Pid || {Pid, _} <- tree(hornbeam_sup)],
    ?assert(length(tables()) > 15),
    ?assertEqual([], [Table || Table <- tables(),
                               lists:member(ets:info(Table, owner), Supervisors)]).

tables() ->
    [Table || Table <- ets:all(), is_atom(Table), lists:prefix("hornbeam_", atom_to_list(Table))].

nothing_that_lives_long_holds_a_local_fun(_Config) ->
    ?assertEqual([], [Key || {Key, Value} <- persistent_term:get(), local_funs(Value) =/= []]),
    ?assertEqual([], [Table || Table <- tables(), local_funs(ets:tab2list(Table)) =/= []]),
    ?assertEqual([], [Module || {Pid, Module} <- tree(hornbeam_sup),
                                local_funs(sys:get_state(Pid)) =/= []]).

%% Those of the module that only hides what it is given are never replaced.
local_funs(Fun) when is_function(Fun) ->
    {ok, Modules} = application:get_key(hornbeam, modules),
    {module, Module} = erlang:fun_info(Fun, module),
    [Fun || erlang:fun_info(Fun, type) =:= {type, local},
            lists:member(Module, Modules -- [hornbeam_secret])];
local_funs([Head | Tail]) -> local_funs(Head) ++ local_funs(Tail);
local_funs(Tuple) when is_tuple(Tuple) -> local_funs(tuple_to_list(Tuple));
local_funs(Map) when is_map(Map) -> local_funs(maps:to_list(Map));
local_funs(_Term) -> [].
