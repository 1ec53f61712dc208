"""The servers that are compared, by the names that the tables show."""

from servers.cowboy import Cowboy
from servers.hornbeam import Hornbeam
from servers.process import Server, ServerError
from servers.uvicorn import Uvicorn

__all__ = ["SERVERS", "Server", "ServerError"]

SERVERS: dict[str, type[Server]] = {
    "uvicorn": Uvicorn,
    "hornbeam": Hornbeam,
    "cowboy": Cowboy,
}
