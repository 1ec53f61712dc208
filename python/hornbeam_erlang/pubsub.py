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

from typing import Any, Literal, Self, TypeAlias

from hornbeam_erlang._ops import requests
from hornbeam_erlang._ops.carrier import connected
from hornbeam_erlang._ops.mailbox import Message
from hornbeam_erlang._ops.perform import follow, perform, tell
from hornbeam_erlang._ops.sent import Sent
from hornbeam_erlang._wire.values import Value, checked_seconds
from hornbeam_erlang.terms import Atom

__all__ = [
    "Message",
    "Overflow",
    "Sent",
    "ServerSentEvent",
    "check_pubsub",
    "publish",
    "pubsub_dropped",
    "receive_pubsub",
    "subscribe",
    "unsubscribe",
]


Overflow: TypeAlias = Literal["drop_oldest", "close", "latest"]


class ServerSentEvent(tuple[Any, ...]):
    """Say more of a message than its data, for those who get it in an event stream.

    `event` is the name by which a page listens (`message` if it has none), `id` what the client
    tells in the header `Last-Event-ID` when it comes back, `retry` how soon that is to be after the
    connection was lost, in milliseconds. A WebSocket gets the data alone. Who subscribes in Python
    or Erlang gets the tuple that this is: `(Atom("sse"), fields, data)`.

    Raises `ValueError` for an `event` or `id` with a line break or a NUL.

    >>> publish("prices", ServerSentEvent({"gold": 2011}, event="tick", id=17)).result()
    0
    >>> ServerSentEvent("closed", event="end")
    ServerSentEvent('closed', event='end')
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Value,
        *,
        event: str | None = None,
        id: str | int | None = None,
        retry: int | None = None,
    ) -> Self:
        given = {
            "event": _checked_field("event", event, str),
            "id": _checked_field("id", id, str, int),
            "retry": _checked_field("retry", retry, int),
        }
        fields = {name: value for name, value in given.items() if value is not None}
        return super().__new__(cls, (Atom("sse"), fields, data))

    def __getnewargs_ex__(self) -> tuple[tuple[Value], dict[str, str | int]]:  # to be pickled
        return (self.data,), self.fields

    @property
    def fields(self) -> dict[str, str | int]:
        """What is said of the event: `event`, `id` and `retry`, those that were given."""
        return self[1]  # type: ignore[no-any-return]

    @property
    def data(self) -> Value:
        """What the event says."""
        return self[2]

    def __repr__(self) -> str:
        fields = "".join(f", {name}={value!r}" for name, value in self.fields.items())
        return f"ServerSentEvent({self.data!r}{fields})"


def _checked_field(name: str, value: Any, *kinds: type) -> Any:
    if value is None:
        return None
    if not isinstance(value, kinds) or isinstance(value, bool):
        wanted = " or an ".join(kind.__name__ for kind in kinds)
        raise TypeError(f"{name}: is of the type {wanted}, not {type(value).__name__}")
    if isinstance(value, str) and set(value) & {"\n", "\r", "\0"}:
        raise ValueError(f"{name}: {value!r} has a line break or a NUL")
    if name == "retry" and isinstance(value, int) and value < 0:
        raise ValueError(f"retry: is a time in milliseconds, not {value}")
    return value


def subscribe(topic: str, forward: bool = False, overflow: Overflow | None = None) -> None:
    """Subscribe the connection to a topic; a second time changes nothing.

    With `forward=True` the node itself writes each message to the client and Python never sees it.
    Over a WebSocket that is str as text, bytes as binary, anything else as JSON text. In a response
    of the type text/event-stream it is an event whose data is the str or the JSON text;
    `ServerSentEvent` names it or gives it an id, and bytes are refused. What comes before the
    response begins is kept until it does.

    A connection has a topic in one of the two ways; the last one counts. `overflow` says what
    happens when more waits for a slow client than `pubsub_queue_messages` and `pubsub_queue_bytes`
    allow: "drop_oldest" (of all that waits), "close" (with code 1013; an event stream ends), or
    "latest", with which only the newest message of the topic ever waits; None stands for the
    server's option `pubsub_overflow`.

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
    same connection then sends to its client, and before its next op; to those of another node it is
    handed when the link to that has taken it, which waits for nobody. Raises `TypeError` for a
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
