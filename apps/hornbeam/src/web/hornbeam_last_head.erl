%% What was found out about the last request's fields on a connection, for a next one that has the
%% same: clients that keep their connections send them again and again.
%%
%% It stands in the dictionary of the connection's process, which asks for nothing else.
-module(hornbeam_last_head).

-export([recall/2, remember/3, forget/0]).

-type question() :: size | scope.

%% @doc What was found out about the same fields.
-spec recall(question(), Fields :: term()) -> {ok, Answer :: term()} | unknown.
recall(Question, Fields) ->
    case get({?MODULE, Question}) of
        {Fields, Answer} -> {ok, Answer};
        _ -> unknown
    end.

%% @doc Remember it; what was found out about others is forgotten.
-spec remember(question(), Fields :: term(), Answer) -> Answer.
remember(Question, Fields, Answer) ->
    _ = put({?MODULE, Question}, {Fields, Answer}),
    Answer.

%% @doc Forget all: no request follows.
-spec forget() -> ok.
forget() ->
    _ = [erase({?MODULE, Question}) || Question <- [size, scope]],
    ok.
