"""Hornbeam for Python apps: what an app served by the BEAM may ask of it.

Shared state and that of a connection, publish and subscribe, calls into Erlang and other workers,
and who of all workers leads; `hornbeam_erlang.cluster` has what all nodes agree on. All names work
in coroutines, in threads, while the app is imported and in its lifespan; `hornbeam_erlang.aio` has
the same names as coroutines, `hornbeam_erlang.testing` a stand-in for an app's own tests.
"""

from hornbeam_erlang import _outside
from hornbeam_erlang._ops import carrier as _carrier
from hornbeam_erlang.connection import ConnectionState, connection_state
from hornbeam_erlang.exceptions import (
    ClientDisconnected,
    ConnectionEnded,
    HornbeamError,
    LeadershipLost,
    LimitExceeded,
    NodeDown,
    NotConnected,
    NotFound,
    OpNotImplemented,
    OpTimeout,
    OpTypeError,
    OpValueError,
    PermissionDenied,
    RemoteError,
    Unavailable,
)
from hornbeam_erlang.functions import call, cast
from hornbeam_erlang.hooks import (
    Execution,
    execute,
    execute_async,
    register_hook,
    stream,
    stream_async,
    unregister_hook,
)
from hornbeam_erlang.leadership import Leadership, OnlyOne, leader, only_one
from hornbeam_erlang.pubsub import (
    Message,
    Overflow,
    Sent,
    ServerSentEvent,
    check_pubsub,
    publish,
    pubsub_dropped,
    receive_pubsub,
    subscribe,
    unsubscribe,
)
from hornbeam_erlang.rpc import node, nodes, rpc_call, rpc_cast
from hornbeam_erlang.state import (
    Key,
    Prefix,
    Scope,
    Value,
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

# The short names are no part of `__all__`: a star leaves the built-in `set`.
from hornbeam_erlang.state import decr as decr
from hornbeam_erlang.state import delete as delete
from hornbeam_erlang.state import get as get
from hornbeam_erlang.state import incr as incr
from hornbeam_erlang.state import set as set
from hornbeam_erlang.terms import Atom, Fun, Pid, Port, Reference, Term

__all__ = [
    "Atom",
    "ClientDisconnected",
    "ConnectionEnded",
    "ConnectionState",
    "Execution",
    "Fun",
    "HornbeamError",
    "Key",
    "Leadership",
    "LeadershipLost",
    "LimitExceeded",
    "Message",
    "NodeDown",
    "NotConnected",
    "NotFound",
    "OnlyOne",
    "OpNotImplemented",
    "OpTimeout",
    "OpTypeError",
    "OpValueError",
    "Overflow",
    "PermissionDenied",
    "Pid",
    "Port",
    "Prefix",
    "Reference",
    "RemoteError",
    "Scope",
    "Sent",
    "ServerSentEvent",
    "Term",
    "Unavailable",
    "Value",
    "call",
    "cast",
    "check_pubsub",
    "connection_state",
    "execute",
    "execute_async",
    "leader",
    "node",
    "nodes",
    "only_one",
    "publish",
    "pubsub_dropped",
    "receive_pubsub",
    "register_hook",
    "rpc_call",
    "rpc_cast",
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

_carrier.look_outside(_outside.visit)
