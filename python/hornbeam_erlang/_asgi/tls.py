"""What a scope says of TLS (ASGI's extension `tls`). Pure.

https://asgi.readthedocs.io/en/latest/specs/tls.html. A connection's certificates come with each of
its requests; what is made of them is made once.
"""

import ssl
from functools import lru_cache
from typing import Any

# A version as it stands in the protocol, and as OpenSSL calls it.
PROTOCOLS = {0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}

_pem = lru_cache(maxsize=256)(ssl.DER_cert_to_PEM_cert)


def tls_extension(fields: list[Any]) -> dict[str, Any]:
    """Return the extension of a connection: its certificates in PEM, its version and cipher."""
    version, cipher, server, clients, name = fields
    return {
        "server_cert": _pem(server),
        "client_cert_chain": tuple(map(_pem, clients)),
        "client_cert_name": name,
        "client_cert_error": None,
        "tls_version": version,
        "cipher_suite": _numbers().get(cipher),
    }


@lru_cache(maxsize=1)
def _numbers() -> dict[str, int]:
    """Return the numbers of cipher suites (RFC 8446, B.4) by their names in OpenSSL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    return {str(suite["name"]): int(suite["id"]) & 0xFFFF for suite in context.get_ciphers()}


def mod_ssl(extension: dict[str, Any]) -> dict[str, str]:
    """Return variables of an environ as Apache's mod_ssl names them."""
    variables = {
        "SSL_PROTOCOL": PROTOCOLS.get(extension["tls_version"], ""),
        "SSL_CLIENT_VERIFY": "NONE",
    }
    if chain := extension["client_cert_chain"]:
        variables |= {
            "SSL_CLIENT_VERIFY": "SUCCESS",
            "SSL_CLIENT_CERT": chain[0],
            "SSL_CLIENT_S_DN": extension["client_cert_name"] or "",
        }
    return variables
