%% A name that Erlang or Elixir code gives: of a topic, a function, a hook, a worker. Pure.
-module(hornbeam_name).

-export([text/1, texts/1, is_name/1]).
-export_type([name/0]).

-type name() :: binary() | string() | atom().
%% All three mean the same name.

%% @doc The name as apps know it. Raises `{bad_name, Name}' for what is none.
-spec text(name()) -> binary().
text(Name) ->
    case encoded(Name) of
        Text when is_binary(Text) -> Text;
        _ -> error({bad_name, Name})
    end.

%% @doc Arguments by their names.
-spec texts(#{name() => Value}) -> #{binary() => Value}.
texts(Arguments) ->
    maps:from_list([{text(Name), Value} || {Name, Value} <- maps:to_list(Arguments)]).

-spec is_name(term()) -> boolean().
is_name(Term) -> is_binary(encoded(Term)).

encoded(Name) when is_binary(Name) -> Name;
encoded(Name) when is_atom(Name) -> atom_to_binary(Name);
encoded(Name) when is_list(Name) ->
    try unicode:characters_to_binary(Name)
    catch
        error:badarg -> none
    end;
encoded(_Other) -> none.
