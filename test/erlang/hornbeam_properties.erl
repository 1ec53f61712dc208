%% Runs PropEr's properties in Common Test: a failure shows its smallest counterexample.
-module(hornbeam_properties).

-export([of_module/1, hold/1, hold/2]).

-define(TESTS, 300).

of_module(Module) ->
    Properties = [{Module, Name} || {Name, 0} <- Module:module_info(exports), is_property(Name)],
    true = Properties =/= [],
    Properties.

is_property(Name) ->
    lists:prefix("prop_", atom_to_list(Name)).

hold({Module, Name}) ->
    case hold(Module:Name(), [{numtests, ?TESTS}]) of
        true -> true;
        false -> ct:pal("~ts", [Name]), false
    end.

hold(Property, Options) ->
    Output = fun(Format, Arguments) -> ct:pal(Format, Arguments) end,
    case proper:quickcheck(Property, [{on_output, Output}, quiet | Options]) of
        true ->
            true;
        Failure ->
            ct:pal("~p~n~p", [Failure, proper:counterexample()]),
            false
    end.
