%% Runs PropEr's properties in Common Test: a failure shows its smallest counterexample.
-module(hornbeam_properties).

-export([of_module/1, hold/1]).

-define(TESTS, 300).

of_module(Module) ->
    Properties = [{Module, Name} || {Name, 0} <- Module:module_info(exports), is_property(Name)],
    true = Properties =/= [],
    Properties.

is_property(Name) ->
    lists:prefix("prop_", atom_to_list(Name)).

hold({Module, Name}) ->
    Output = fun(Format, Arguments) -> ct:pal(Format, Arguments) end,
    Options = [{numtests, ?TESTS}, {on_output, Output}, quiet],
    case proper:quickcheck(Module:Name(), Options) of
        true ->
            true;
        Failure ->
            ct:pal("~ts: ~p~n~p", [Name, Failure, proper:counterexample()]),
            false
    end.
