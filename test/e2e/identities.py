"""Certificates for the tests: an authority of their own, servers and clients that it knows.

They are made anew for each run, and nothing outside of a run trusts them.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

HOSTS = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Identity:
    """A certificate with its chain, and its key, in files."""

    certfile: Path
    keyfile: Path


class Authority:
    """Issues certificates into a folder; `cafile` is whom to trust to believe them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.cafile = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.cafile)

    def server(
        self, name: str = "server", key_type: trustme.KeyType = trustme.KeyType.ECDSA
    ) -> Identity:
        """Issue a certificate for the loopback addresses."""
        issued = self.authority.issue_cert(*HOSTS, common_name=name, key_type=key_type)
        return self.written(name, issued)

    def client(self, name: str) -> Identity:
        return self.written(name, self.authority.issue_cert(f"{name}@example.test"))

    def written(self, name: str, issued: trustme.LeafCert) -> Identity:
        identity = Identity(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        issued.private_key_pem.write_to_path(identity.keyfile)
        identity.certfile.unlink(missing_ok=True)
        for blob in issued.cert_chain_pems:
            blob.write_to_path(identity.certfile, append=True)
        return identity

    def trusting(self, client: Identity | None = None) -> ssl.SSLContext:
        """Make what a client needs to believe our servers and, perhaps, to be believed."""
        context = ssl.create_default_context(cafile=str(self.cafile))
        if client is not None:
            context.load_cert_chain(client.certfile, client.keyfile)
        return context


def encrypted(identity: Identity, password: str) -> Path:
    """Write the identity's key once more, encrypted."""
    key = serialization.load_pem_private_key(identity.keyfile.read_bytes(), None)
    path = identity.keyfile.with_suffix(".encrypted")
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password.encode()),
        )
    )
    return path
