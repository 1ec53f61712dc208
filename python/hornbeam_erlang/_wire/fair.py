"""Messages of many streams that wait for one pipe: who has much to say does not keep the others.

Pure: knows numbers and bytes, not what they say. The order is that of the flows of FQ-CoDel
(RFC 8290, section 4): a stream of which nothing waited comes first, until it has had `QUANTUM`
bytes; then it takes turns with the others of its kind, at so many bytes a turn. Messages of one
stream keep their order. The BEAM's end of the pipe does the same (hornbeam_fair_queue).
"""

from collections import deque
from typing import Protocol


class Teller(Protocol):
    """What an op has been told by, and who may still ask for its answer."""

    def ask(self, tell: bytes) -> bytes:
        """Return what is to be written in the place of a `tell`."""


# An op of which nobody asks, as far as is known before it is written: its code, its teller, itself.
Tell = tuple[int, Teller, bytes]

Message = bytes | Tell


# The bytes of a turn. A message that is longer takes from the turns to come.
QUANTUM = 16_384


class _Flow:
    """What waits of one stream, and what is left of its turn."""

    __slots__ = ("left", "messages", "stream")

    def __init__(self, stream: int, message: Message) -> None:
        self.stream = stream
        self.messages = deque([message])
        self.left = QUANTUM


class FairQueue:
    """A queue of messages by streams; true while something waits in it."""

    __slots__ = ("_count", "_flows", "_fresh", "_others")

    def __init__(self) -> None:
        self._count = 0
        # Also streams of which nothing waits, until their next turn: else one that says little but
        # often would always come first.
        self._flows: dict[int, _Flow] = {}
        self._fresh: deque[_Flow] = deque()
        self._others: deque[_Flow] = deque()

    def __bool__(self) -> bool:
        return self._count > 0

    def holds(self, stream: int) -> bool:
        """Tell whether something of a stream waits."""
        flow = self._flows.get(stream)
        return flow is not None and bool(flow.messages)

    def put(self, stream: int, message: Message) -> None:
        """Let a message of a stream wait."""
        flow = self._flows.get(stream)
        if flow is None:
            # Made whole before it is entered: a finalizer that runs now may call Erlang, and pop.
            flow = _Flow(stream, message)
            self._flows[stream] = flow
            self._fresh.append(flow)
        else:
            flow.messages.append(message)
        self._count += 1

    def withdraw(self, stream: int) -> list[Tell]:
        """Take what a stream has told out of the queue, in its order."""
        if (flow := self._flows.get(stream)) is None:
            return []
        told = [message for message in flow.messages if not isinstance(message, bytes)]
        flow.messages = deque(message for message in flow.messages if isinstance(message, bytes))
        self._count -= len(told)
        return told

    def pop(self) -> Message:
        """Return the message that is next; there is one."""
        while not (flow := (self._fresh or self._others)[0]).messages or flow.left <= 0:
            self._end_turn(flow)
        message = flow.messages.popleft()
        flow.left -= len(message if isinstance(message, bytes) else message[2])
        self._count -= 1
        if not self._count:
            self._flows.clear()
            self._fresh.clear()
            self._others.clear()
        return message

    def _end_turn(self, flow: _Flow) -> None:
        was_fresh = bool(self._fresh)
        (self._fresh or self._others).popleft()
        if was_fresh or flow.messages or flow.left <= 0:
            flow.left = min(flow.left + QUANTUM, QUANTUM)
            self._others.append(flow)
        else:
            del self._flows[flow.stream]
