"""A conversation with one server: requests and answers, each in its time.

Knows the bytes of docs/wire.md, "Control"; must not know what a request is for, or how its answer
is shown. One thread uses it.
"""

import socket
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Self

import hornbeam_erlang
from hornbeam_erlang._outside import greeting
from hornbeam_erlang._wire.endpoint import Endpoint
from hornbeam_erlang._wire.values import pack
from hornbeam_erlang.exceptions import HornbeamError

READ_SIZE = 1 << 16


class Refused(HornbeamError):
    """Tell why the server does not do what it was asked for."""


class NoAnswer(HornbeamError):
    """Tell that the server did not answer: it is too busy, stands still, or has ended."""


class Conversation:
    """One connection to a server."""

    def __init__(
        self, path: Path, connection: socket.socket, endpoint: Endpoint, about: Mapping[str, Any]
    ) -> None:
        self.path = path
        self.apps: list[list[str]] = about["apps"]
        self.os_pid: int = about["os_pid"]
        self._socket = connection
        self._endpoint = endpoint
        self._last = 0

    @classmethod
    def begin(cls, path: Path, folders: list[str]) -> Self:
        """Connect; raises `OSError` and `NotConnected` as `greeting.greet` does."""
        told = greeting.connect(path, hornbeam_erlang.__version__, folders, "control")
        return cls(path, *told)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and with it whatever is being done for it."""
        self._socket.close()

    @property
    def folders(self) -> list[str]:
        return [folder for _, folder in self.apps]

    def __str__(self) -> str:
        apps = ", ".join(f"{app} in {folder}" for app, folder in self.apps)
        return f"{self.path} (pid {self.os_pid}, {apps})"

    def ask(self, name: str, timeout: float | None, **args: Any) -> Any:
        """Return an answer; raises `Refused`, and `NoAnswer` after so many seconds."""
        items = self.follow(name, timeout, **args)
        try:
            while True:
                next(items)
        except StopIteration as end:
            return end.value

    def follow(self, name: str, timeout: float | None, **args: Any) -> Generator[Any, None, Any]:
        """Iterate over what comes before the answer to a request, which the iterator returns.

        Raises `Refused`, and `NoAnswer` when nothing has come for so many seconds.
        """
        self._last += 1
        number = self._last
        given = {key: value for key, value in args.items() if value is not None}
        packet = pack([number, name, given], "request")
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(len(packet).to_bytes(4, "big") + packet)
            return (yield from self._answers(number, timeout))
        except TimeoutError as error:
            raise NoAnswer(
                f"the server {self} has not answered within {timeout:g} s; --timeout says how long "
                "to wait"
            ) from error
        except OSError as error:
            raise NoAnswer(f"the server {self} is not there any more: {error}") from error

    def _answers(self, number: int, timeout: float | None) -> Generator[Any, None, Any]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            for answer in self._read(deadline):
                match answer:
                    case [n, "done", value] if n == number:
                        return value
                    case [n, "refused", sentence] if n == number:
                        raise Refused(sentence)
                    case [n, "item", value] if n == number:
                        yield value
                        deadline = None if timeout is None else time.monotonic() + timeout

    def _read(self, deadline: float | None) -> Any:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
        data = self._socket.recv(READ_SIZE)
        if not data:
            raise ConnectionError("it has closed the connection")
        return self._endpoint.receive(data)
