%% A socket that the node was started with, by its descriptor: what it is, before gen_tcp takes it.
%%
%% systemd opens sockets so, and a parent that wants no moment in which nobody listens.
-module(hornbeam_inherited_socket).

-export([obstacle/1, options/1]).

%% @doc What stands in the way of listening on it.
-spec obstacle(Descriptor :: non_neg_integer()) -> none | enotsock | esocktnosupport.
obstacle(Descriptor) ->
    case about(Descriptor) of
        {ok, #{type := stream, domain := Domain}}
                when Domain =:= inet; Domain =:= inet6; Domain =:= local -> none;
        {ok, _Other} -> esocktnosupport;
        {error, Reason} -> Reason
    end.

%% @doc Options for gen_tcp by which it listens on it, if there is no obstacle.
-spec options(Descriptor :: non_neg_integer()) ->
    [inet | inet6 | {tcp_module, module()} | {fd, non_neg_integer()}].
options(Descriptor) ->
    {ok, #{domain := Domain}} = about(Descriptor),
    [family(Domain), {fd, Descriptor}].

%% Ranch lets the word `local' not pass.
family(local) -> {tcp_module, local_tcp};
family(Family) -> Family.

%% A copy is looked at, and closed.
about(Descriptor) ->
    case socket:open(Descriptor) of
        {ok, Socket} ->
            About = socket:info(Socket),
            ok = socket:close(Socket),
            {ok, About};
        {error, _} ->
            {error, enotsock}
    end.
