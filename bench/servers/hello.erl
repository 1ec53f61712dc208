%% What the apps hello.py and items.py answer, for the floors of the HTTP requests.
-module(hello).

-export([answer/3]).

%% @doc The type and the body of the response to a request.
-spec answer(binary(), binary(), iodata()) -> {binary(), iodata()}.
answer(<<"POST">>, _Path, Body) -> {<<"text/plain">>, Body};
answer(<<"GET">>, <<"/">>, _Body) -> {<<"text/plain">>, <<"Hello, World!">>};
answer(<<"GET">>, <<"/items/", Id/binary>>, _Body) -> {<<"application/json">>, item(Id)};
answer(<<"GET">>, <<"/", Name/binary>>, _Body) -> {<<"text/plain">>, ["Hello, ", Name, "!"]}.

item(Id) ->
    ["{\"id\":", Id, ",\"name\":\"item ", Id, "\"}"].
