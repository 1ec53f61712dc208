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
from hornbeam_erlang._worker.transport import Transport

# Half of it is acknowledged at a time (bytes): a fraction of what the BEAM lets be on its way.
EVENT_WINDOW = 1 << 20


class WorkerCarrier:
    """Carries ops through the worker's pipes."""

    def __init__(self, transport: Transport, config: Config) -> None:
        self._transport = transport
        # Those that are open, by their numbers.
        self.streams: dict[int, Any] = {}
        bounds = config.pubsub_queue_messages, config.pubsub_queue_bytes
        self.topics = Topics(*bounds, self.streams)
        self.handlers = Handlers()
        self._events = Allowance(EVENT_WINDOW, 1 << 30)
        transport.streams = self.streams
        transport.op_timeout = config.op_timeout / 1000
        if config.hang_timeout is not None:
            transport.hangs_after(config.hang_timeout / 1000)
        transport.take_event = self.take_event
        self.call = transport.call
        self.call_async = transport.call_async
        self.caller = transport.caller
        self.is_alone = transport.is_alone

    def take_event(self, message: Packet) -> None:
        """Put a published message into the queues of those who subscribed; acknowledge it."""
        _, _, topic, packed = message
        self.topics.deliver(topic, packed)
        if self._events.consume(len(packed)):
            self._transport.post(packets.encode_credit(0, self._events.give()[0], 0))
