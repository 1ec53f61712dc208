"""Code may change below a node that serves: its sockets and its processes stay as they are."""

from __future__ import annotations

from clients import TEXT, RawWebSocket

TREE = """
Tree = (fun Tree(Sup) ->
    lists:append([[{Pid, Modules, Type} | if Type =:= supervisor -> Tree(Pid); true -> [] end]
                  || {_, Pid, Type, Modules} <- supervisor:which_children(Sup), is_pid(Pid)])
end),
All = [{whereis(hornbeam_sup), [hornbeam_sup], supervisor} | Tree(hornbeam_sup)],
"""
"""All processes that supervisors of ours have started."""

CHANGE = """
[begin
     ok = sys:suspend(Pid),
     ok = sys:change_code(Pid, Module, undefined, []),
     ok = sys:resume(Pid)
 end || {Pid, [Module], supervisor} <- All],
All =:= [{whereis(hornbeam_sup), [hornbeam_sup], supervisor} | Tree(hornbeam_sup)]
"""

LOCAL_FUNS = """
Local = (fun Local(Term) when is_function(Term) ->
                 {module, Module} = erlang:fun_info(Term, module),
                 {type, Type} = erlang:fun_info(Term, type),
                 [Module || Type =:= local, Module =/= hornbeam_secret,
                            lists:prefix("hornbeam", atom_to_list(Module))];
             Local([Head | Tail]) -> Local(Head) ++ Local(Tail);
             Local(Term) when is_tuple(Term) -> Local(tuple_to_list(Term));
             Local(Term) when is_map(Term) -> Local(maps:to_list(Term));
             Local(_) -> []
         end),
States = [{Modules, sys:get_state(Pid)} || {Pid, Modules, _} <- All],
Tables = [{Name, ets:tab2list(Name)}
          || Name <- ets:all(), is_atom(Name), lists:prefix("hornbeam", atom_to_list(Name))],
[unicode:characters_to_binary(io_lib:format("~p", [{Where, Local(Term)}]))
 || {Where, Term} <- States ++ Tables ++ persistent_term:get(), Local(Term) =/= []]
"""


def test_supervisors_take_new_code_while_sockets_are_open(serve):
    server = serve("sockets:application", workers=2, fresh=True)
    ws = RawWebSocket(server, "/echo")
    assert server.node.eval(TREE + CHANGE)
    ws.frame(TEXT, b"here")
    assert ws.read_message() == b"here"


def test_nothing_that_lives_long_holds_a_fun_of_a_module_that_may_change(serve, tls):
    server = serve("sockets:application", workers=2, fresh=True, env={"NAME": "value"}, **tls)
    assert server.node.eval(TREE + LOCAL_FUNS) == []
