"""Who is present: in a room, on a page, at work on a document, on all nodes of the cluster.

A connection is present in a topic under a key, such as the name of its user, until it ends,
whatever ends it: `kill -9` of the client, the worker or the node too. Where an open WebSocket goes
on with another worker it stays present. A key may be present more than once, by several
connections, each with a meta: a dict that can be shown as JSON. The node adds `phx_ref` to it,
which is another one when the meta changes, and then `phx_ref_prev`, the one before. The shapes are
those of Phoenix.

Who is present is the connection whose handler calls, also in its tasks and in what it runs by
`asyncio.to_thread`; in the lifespan it is the worker. `list` and `count` may be asked from
anywhere. All block but `changes`; `aio.presence` has the same names as coroutines.

>>> track("room:lobby", "ada", {"typing": False}) is not None
True
>>> [meta["typing"] for meta in list("room:lobby")["ada"]["metas"]], count("room:lobby")
([False], 1)
"""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from hornbeam_erlang import aio
from hornbeam_erlang._ops import requests
from hornbeam_erlang._ops.carrier import connected
from hornbeam_erlang._ops.perform import follow, perform
from hornbeam_erlang._ops.roster import Diff, Members, Metas

__all__ = [
    "Diff",
    "Members",
    "Metas",
    "changes",
    "count",
    "subscribe",
    "track",
    "unsubscribe",
    "untrack",
    "update",
]


def track(topic: str, key: str, meta: Mapping[str, Any]) -> str:
    """Let the connection be present until it ends; return its `phx_ref`.

    A second time it changes the meta, or nothing if that is the same: so a handler that runs again
    because another worker goes on with its socket is noticed by nobody. Raises `TypeError` for a
    meta that has no form in JSON, `ValueError` for one with a name of the node's own, and
    `LimitExceeded` for what would be more than a connection, or all, may keep.

    >>> ref = track("room:lobby", "ada", {"typing": False})
    >>> track("room:lobby", "ada", {"typing": False}) == ref
    True
    """
    return perform(requests.presence_track(topic, key, meta))


def update(topic: str, key: str, meta: Mapping[str, Any]) -> str:
    """Give the connection another meta, the whole of it; return its new `phx_ref`.

    The same meta changes nothing. Raises `NotFound` where the connection is not present under the
    key.

    >>> before = track("room:lobby", "ada", {"typing": False})
    >>> update("room:lobby", "ada", {"typing": True}) == before
    False
    """
    return perform(requests.presence_update(topic, key, meta))


def untrack(topic: str, key: str) -> bool:
    """Let the connection be present no more; return whether it was.

    >>> ref = track("room:lobby", "ada", {})
    >>> untrack("room:lobby", "ada"), untrack("room:lobby", "ada")
    (True, False)
    """
    return perform(requests.presence_untrack(topic, key))


def list(topic: str) -> Members:
    """Return who is present, by key, in the order of the keys.

    >>> ref = track("room:lobby", "ada", {"typing": False})
    >>> list("room:lobby") == {"ada": {"metas": [{"typing": False, "phx_ref": ref}]}}
    True
    """
    return perform(requests.presence_list(topic))


def count(topic: str) -> int:
    """Return how many keys are present; who lists them gets as many.

    >>> ref = track("room:lobby", "ada", {})
    >>> count("room:lobby"), count("room:attic")
    (1, 0)
    """
    return perform(requests.presence_count(topic))


def changes(topic: str) -> AsyncGenerator[Diff, None]:
    """Yield who is present, as those who join, and then who joins and who leaves.

    Each `phx_ref` joins once and leaves once; whoever has another meta joins with that and leaves
    with the one before. Changes of about 50 ms come together. What was lost, because this reader
    was too slow, is made up for. Ends with the connection.

    >>> import asyncio
    >>> async def example():
    ...     await aio.presence.track("room:lobby", "ada", {})
    ...     async for diff in changes("room:lobby"):
    ...         return [*diff["joins"]], [*diff["leaves"]]
    >>> asyncio.run(example())
    (['ada'], [])
    """
    return aio.presence.changes(topic)


def subscribe(topic: str, forward: bool = False) -> None:
    """Subscribe the connection to changes, as to any topic.

    With `forward=True` the node itself writes to the client, and Python never sees it: first
    `{"topic": …, "event": "presence_state", "payload": …}` with what `list` returns, then
    `presence_diff` with `{"joins": …, "leaves": …}` as payload, or another state. As in Phoenix, a
    client adds what joins and removes, by its `phx_ref`, what leaves; one that is too slow is
    closed (with 1013), since it would be wrong for ever. Raises `LimitExceeded` where the state is
    longer than `pubsub_queue_bytes`. Without `forward` the same messages, but for the first, are
    read by `receive_pubsub` and such.

    >>> subscribe("room:lobby")
    """
    carrier = connected()
    follow(requests.presence_subscribe(carrier.topics, carrier.caller(), topic, forward))


def unsubscribe(topic: str) -> None:
    """End the connection's subscription to changes, if it has one.

    >>> unsubscribe("room:lobby")
    """
    carrier = connected()
    follow(requests.presence_unsubscribe(carrier.topics, carrier.caller(), topic))
