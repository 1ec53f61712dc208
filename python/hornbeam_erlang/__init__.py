"""Hornbeam for Python apps: what an app served by the BEAM may ask of it.

Shared state and that of a connection, publish and subscribe, and calls into Erlang and other
workers. All names work in coroutines, in threads, while the app is imported and in its lifespan;
`hornbeam_erlang.aio` has the same names as coroutines, `hornbeam_erlang.testing` a stand-in for an
app's own tests.
"""

from hornbeam_erlang.connection import ConnectionState, connection_state
from hornbeam_erlang.exceptions import (
    ClientDisconnected,
    HornbeamError,
    NotConnected,
    RemoteError,
)
from hornbeam_erlang.functions import call, cast
from hornbeam_erlang.hooks import (
    await_result,
    execute,
    execute_async,
    register_hook,
    stream,
    stream_async,
    unregister_hook,
)
from hornbeam_erlang.pubsub import (
    check_pubsub,
    publish,
    pubsub_dropped,
    receive_pubsub,
    subscribe,
    unsubscribe,
)
from hornbeam_erlang.rpc import node, nodes, rpc_call, rpc_cast
from hornbeam_erlang.state import (
    decr,
    delete,
    get,
    incr,
    set,
    state_add,
    state_cas,
    state_decr,
    state_delete,
    state_get,
    state_get_multi,
    state_incr,
    state_items,
    state_keys,
    state_set,
    state_set_multi,
    state_take,
)
from hornbeam_erlang.terms import Atom, Fun, Pid, Port, Reference

__all__ = [
    "Atom",
    "ClientDisconnected",
    "ConnectionState",
    "Fun",
    "HornbeamError",
    "NotConnected",
    "Pid",
    "Port",
    "Reference",
    "RemoteError",
    "await_result",
    "call",
    "cast",
    "check_pubsub",
    "connection_state",
    "decr",
    "delete",
    "execute",
    "execute_async",
    "get",
    "incr",
    "node",
    "nodes",
    "publish",
    "pubsub_dropped",
    "receive_pubsub",
    "register_hook",
    "rpc_call",
    "rpc_cast",
    "set",
    "state_add",
    "state_cas",
    "state_decr",
    "state_delete",
    "state_get",
    "state_get_multi",
    "state_incr",
    "state_items",
    "state_keys",
    "state_set",
    "state_set_multi",
    "state_take",
    "stream",
    "stream_async",
    "subscribe",
    "unregister_hook",
    "unsubscribe",
]

__version__ = "0.1.0"
