"""What the worker installs for the public functions: its ops, its topics and its hooks.

Knows which part answers what; the parts themselves are elsewhere.
"""

from typing import Any

from hornbeam_erlang._ops.handlers import Handlers
from hornbeam_erlang._ops.mailbox import Topics
from hornbeam_erlang._wire import packets
from hornbeam_erlang._wire.credit import Allowance
from hornbeam_erlang._wire.packets import Packet
from hornbeam_erlang._worker.config import Config
from hornbeam_erlang._worker.pipes import Pipes

# Half of it is acknowledged at a time (bytes): a fraction of what the BEAM lets be on its way.
EVENT_WINDOW = 1 << 20


class WorkerCarrier:
    """Carries ops through the worker's pipes."""

    def __init__(self, pipes: Pipes, config: Config) -> None:
        self._pipes = pipes
        # Those that are open, by their numbers.
        self.streams: dict[int, Any] = {}
        bounds = config.pubsub_queue_messages, config.pubsub_queue_bytes
        self.topics = Topics(*bounds, self.streams)
        self.handlers = Handlers()
        self._events = Allowance(EVENT_WINDOW, 1 << 30)
        pipes.streams = self.streams
        pipes.op_timeout = config.op_timeout / 1000
        if config.hang_timeout is not None:
            pipes.hangs_after(config.hang_timeout / 1000)
        pipes.take_event = self.take_event
        self.call = pipes.call
        self.call_async = pipes.call_async
        self.caller = pipes.caller
        self.is_alone = pipes.is_alone

    def take_event(self, message: Packet) -> None:
        """Put a published message into the queues of those who subscribed; acknowledge it."""
        _, _, topic, packed = message
        self.topics.deliver(topic, packed)
        if self._events.consume(len(packed)):
            self._pipes.post(packets.encode_credit(0, self._events.give()[0], 0))
