"""What a server is that needs another one beside it, which starts first and ends last."""

from types import TracebackType
from typing import ClassVar, Self

from servers.process import Server


class Beside(Server):
    """Mixed into a server: the other one is `beside`, and its CPU counts too."""

    BESIDE: ClassVar[type[Server]]
    beside: Server

    def __enter__(self) -> Self:
        self.beside = self.BESIDE().__enter__()
        try:
            return super().__enter__()
        except BaseException:
            self.beside.__exit__(None, None, None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, traceback)
        self.beside.__exit__(kind, error, traceback)

    @property
    def pids(self) -> list[int]:
        return [*super().pids, self.beside.pid]

    def versions(self) -> dict[str, str]:
        return super().versions() | self.BESIDE().versions()
