"""Client managers for python-socketio: rooms that reach all workers, without Redis.

    server = socketio.AsyncServer(
        async_mode="asgi", client_manager=hornbeam_erlang.socketio.HornbeamManager()
    )

What one worker emits goes through the node to all; each sends it to its own clients. A process
outside of the workers (a task queue, a script of the same user) emits by a manager with
`write_only=True`. Needs the package `python-socketio`, 5.7 or newer.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

from socketio.async_pubsub_manager import AsyncPubSubManager
from socketio.pubsub_manager import PubSubManager

from hornbeam_erlang._ops.feed import Feed
from hornbeam_erlang.pubsub import publish

__all__ = ["HornbeamManager", "HornbeamSyncManager"]


class HornbeamManager(AsyncPubSubManager):  # type: ignore[misc] # it has no types
    """The manager of an `AsyncServer`.

    `channel` names what its servers have in common: the topic `socketio:CHANNEL`. The other
    arguments are those of `AsyncPubSubManager`.
    """

    name = "hornbeam"

    async def _publish(self, data: dict[str, Any]) -> None:
        await publish(f"socketio:{self.channel}", self.json.dumps(data))

    async def _listen(self) -> AsyncIterator[Any]:
        feed = Feed(self._get_logger().error)
        await feed.subscribe(f"socketio:{self.channel}")
        async for message in feed.messages():
            yield message.value


class HornbeamSyncManager(PubSubManager):  # type: ignore[misc] # it has no types
    """The same for a `Server`, and for scripts that emit."""

    name = "hornbeam"

    def _publish(self, data: dict[str, Any]) -> None:
        publish(f"socketio:{self.channel}", self.json.dumps(data)).result()

    def _listen(self) -> Iterator[Any]:
        feed = Feed(self._get_logger().error)
        for message in feed.messages_here(f"socketio:{self.channel}"):
            yield message.value
