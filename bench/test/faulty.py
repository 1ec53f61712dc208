"""A server that goes wrong in one way, which a load must notice."""

from conftest import BENCH

from servers.certificate import Certificate
from servers.uvicorn import Uvicorn


class Faulty(Uvicorn):
    """An app of this folder, such as "wrong_echo", that finds its fault in its environment."""

    def __init__(
        self, app: str, fault: str, certificate: Certificate | None = None, **more: str
    ) -> None:
        super().__init__(certificate=certificate)
        self.APP = f"{app}:application"  # type: ignore[misc]
        self.variables = {"FAULT": fault, "PYTHONPATH": str(BENCH / "apps")} | more

    def command(self) -> list[str]:
        return [*super().command(), "--app-dir", str(BENCH / "test")]

    def environment(self) -> dict[str, str]:
        return self.variables
