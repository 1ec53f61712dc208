"""The `config` of the message `start`, checked once, here. Pure."""

from dataclasses import dataclass
from typing import Any, Self

INTERFACES = ("asgi", "asgi2", "wsgi")
LIFESPANS = ("auto", "on", "off")
LOOPS = ("auto", "uvloop", "asyncio")


@dataclass(frozen=True, slots=True)
class Config:
    """How this worker is to run; docs/wire.md has the meaning of each key."""

    app: str
    interface: str
    threads: int | None
    pythonpath: list[str]
    root_path: str
    lifespan: str
    loop: str
    worker: str
    stream_window: tuple[int, int]
    worker_window: int
    tell_window: int
    max_message: int
    op_timeout: int
    hang_timeout: int | None
    pubsub_queue_messages: int
    pubsub_queue_bytes: int
    limit_response_head: int
    limit_response_fields: int
    resume: bool

    @classmethod
    def from_map(cls, given: dict[str, Any]) -> Self:
        """Check a map from the wire; raises `ValueError` with a sentence for the user."""
        try:
            size, messages = given["stream_window"]
            config = cls(**(given | {"stream_window": (size, messages)}))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not the config of this version: {error}") from error
        config._check()
        return config

    def _check(self) -> None:
        for key, values in (
            ("interface", INTERFACES),
            ("lifespan", LIFESPANS),
            ("loop", LOOPS),
        ):
            value = getattr(self, key)
            if value not in values:
                raise ValueError(f"{key} is one of {', '.join(values)}, not {value!r}")
        if (self.threads is None) is (self.interface == "wsgi"):
            raise ValueError("threads are those of the interface wsgi")
