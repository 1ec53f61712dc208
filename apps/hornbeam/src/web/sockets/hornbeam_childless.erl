%% What a connection's process answers that Ranch shows as a supervisor, which it is where Cowboy
%% goes on in it.
-module(hornbeam_childless).

-export([answer/2]).

%% @doc Answer what a supervisor is asked: there are no children.
-spec answer(which_children | count_children, gen_server:from()) -> ok.
answer(which_children, From) ->
    gen_server:reply(From, []);
answer(count_children, From) ->
    gen_server:reply(From, [{specs, 0}, {active, 0}, {supervisors, 0}, {workers, 0}]).
