"""Publish and subscribe, between all workers, nodes and Erlang processes of the cluster.

Who subscribes is the connection whose handler calls, also in its tasks and in what it runs by
`asyncio.to_thread`; in the lifespan it is the worker. A subscription ends with its connection. A
message is delivered at most once, those of one publisher in its order. Each connection's queue
is bounded: past it the oldest are dropped, and `pubsub_dropped` counts them.

All here but `publish` raise `NotConnected` in a thread that was started without the context
variables of a handler, and `ConnectionEnded` in a task that has outlived its connection.

Of those who read, `check_pubsub` waits for no other, `receive_pubsub` waits in a thread, and
`aio.receive_pubsub` and `aio.messages` wait in a coroutine. `aio.subscribed` subscribes a block of
code, with a queue of its own.
"""

from typing import Literal, TypeAlias

from hornbeam_erlang._ops import requests
from hornbeam_erlang._ops.carrier import connected
from hornbeam_erlang._ops.mailbox import Message
from hornbeam_erlang._ops.perform import follow, perform, tell
from hornbeam_erlang._ops.sent import Sent
from hornbeam_erlang._wire.values import Value, checked_seconds

__all__ = [
    "Message",
    "Overflow",
    "Sent",
    "check_pubsub",
    "publish",
    "pubsub_dropped",
    "receive_pubsub",
    "subscribe",
    "unsubscribe",
]


Overflow: TypeAlias = Literal["drop_oldest", "close", "latest"]


def subscribe(topic: str, forward: bool = False, overflow: Overflow | None = None) -> None:
    """Subscribe the connection to a topic; a second time changes nothing.

    With `forward=True` the node itself writes each message to the client's WebSocket and Python
    never sees it: str as text, bytes as binary, anything else as JSON text. A connection has a
    topic in one of the two ways; the last one counts. `overflow` says what happens when more waits
    for a slow client than `pubsub_queue_messages` and `pubsub_queue_bytes` allow: "drop_oldest"
    (of all that waits), "close" (with code 1013), or "latest", with which only the newest message
    of the topic ever waits; None stands for the server's option `pubsub_overflow`.

    A message that comes while a WebSocket's `receive()` waits wakes it with the event
    `{"type": "hornbeam.pubsub"}` if the function that calls `receive()` names `check_pubsub` too.

    >>> subscribe("news")
    >>> publish("news", "extra!").result()
    1
    >>> check_pubsub()
    'extra!'
    """
    carrier = connected()
    plan = requests.subscribe(carrier.topics, carrier.caller(), topic, forward, overflow)
    follow(plan)


def unsubscribe(topic: str) -> None:
    """End the connection's subscription to a topic, if it has one.

    >>> subscribe("news")
    >>> unsubscribe("news")
    >>> publish("news", "unheard").result()
    0
    """
    carrier = connected()
    follow(requests.unsubscribe(carrier.topics, carrier.caller(), topic))


def publish(topic: str, message: Value) -> Sent[int]:
    """Publish a message and go on; the answer is to how many subscribers it was handed, in the
    whole cluster.

    Who wants to know awaits it or asks for it, see `Sent`. It is handed to them before what the
    same connection then sends to its client, and before its next op. Raises `TypeError` for a
    message that cannot travel, with the path to what is wrong in it, and `OpTimeout` when the node
    does not keep up.

    >>> publish("news", {"headline": "extra!", "pages": 12}).result()
    0
    >>> publish("news", {"readers": [{"ada"}]})
    Traceback (most recent call last):
        ...
    TypeError: message['readers'][0]: set has no form in Erlang
    """
    return tell(requests.publish(topic, message))


def check_pubsub() -> Value:
    """Return the next message that the connection has not read, or None.

    Never waits for what others publish. For what the connection has published itself it waits
    until the node has handed it out, unless `receive()` tells of it (see `subscribe`). It has no
    more than that to say: a message that is None looks like none.

    >>> check_pubsub() is None
    True
    """
    carrier = connected()
    number = carrier.caller()
    mailbox = carrier.topics.find(number)
    if mailbox is None:
        return None
    follow(requests.echo(carrier.topics, number, mailbox))
    message = mailbox.take()
    return None if message is None else message.value


def receive_pubsub(timeout: float | None = None) -> Message:
    """Wait in a thread for the next message.

    Waits for at most `timeout` seconds, then raises `OpTimeout`; raises `ConnectionEnded` when the
    connection is over and all is read, and `RuntimeError` where waiting would stop the loop that
    brings the messages: there, `await aio.receive_pubsub()`.

    >>> subscribe("news")
    >>> publish("news", "extra!").result()
    1
    >>> receive_pubsub(timeout=5)
    Message(topic='news', value='extra!')
    >>> publish("news", "more!").result()
    1
    >>> topic, value = receive_pubsub()
    """
    seconds = checked_seconds(timeout)
    carrier = connected()
    number = carrier.caller()
    mailbox = carrier.topics.mailbox(number)
    follow(requests.echo(carrier.topics, number, mailbox))
    if carrier.is_alone() and not len(mailbox):
        raise RuntimeError(
            "receive_pubsub would stop the loop that brings the messages; "
            "call it in a thread, or await hornbeam_erlang.aio.receive_pubsub()"
        )
    return mailbox.receive(seconds).read()


def pubsub_dropped() -> int:
    """Return how many messages were dropped because the connection or its worker was too slow.

    >>> pubsub_dropped()
    0
    """
    carrier = connected()
    return perform(requests.pubsub_dropped(carrier.topics, carrier.caller()))
