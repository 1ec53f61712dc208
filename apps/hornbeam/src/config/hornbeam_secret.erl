%% A term that no log prints: it travels as a fun.
%%
%% Such funs stand in states, in tables and in persistent terms as long as the node lives, and a
%% fun is good only with the module that has made it. So this one does nothing else and is not to
%% change: no upgrade replaces it.
-module(hornbeam_secret).

-export([hide/1, show/1]).
-export_type([secret/1]).

-type secret(Term) :: fun(() -> Term).

%% @doc Hide a term.
-spec hide(Term) -> secret(Term).
hide(Term) -> fun() -> Term end.

%% @doc The term.
-spec show(secret(Term)) -> Term.
show(Secret) -> Secret().
