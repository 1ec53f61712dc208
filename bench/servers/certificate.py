"""The certificate that every server of a run shows to the load, and nobody afterwards."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KIND = "ECDSA P-256"


@dataclass(frozen=True)
class Certificate:
    """Where the certificate and its key lie, each a PEM file."""

    chain: Path
    key: Path


@contextmanager
def made() -> Iterator[Certificate]:
    """A new certificate of 127.0.0.1, signed by itself, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="bench-tls-") as folder:
        certificate = Certificate(Path(folder) / "chain.pem", Path(folder) / "key.pem")
        command = [
            *("openssl", "req", "-x509", "-noenc", "-days", "30", "-subj", "/CN=localhost"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-out", str(certificate.chain), "-keyout", str(certificate.key)),
        ]
        subprocess.run(command, check=True, capture_output=True)
        yield certificate


def version() -> str:
    """The OpenSSL that makes the certificate; the load is built with its library."""
    command = ["openssl", "version"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split(" (")[0]
