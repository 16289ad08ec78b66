"""Whom the SDK trusts: one TLS context for everything, made when the first https:// URL is called (it takes 20 ms)."""

from __future__ import annotations

import os
import ssl
from functools import cache

from .errors import ValidationError


@cache
def context(ca_file: str | None) -> ssl.SSLContext:
    """`ca_file`: authorities (PEM) in the place of the system's. Raises ValidationError when it cannot be used."""
    if ca_file is None and not _system_has_authorities():
        from .http_library import httpx

        return httpx.create_ssl_context(trust_env=False)  # the library brings some
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ValidationError(f"ATOLL_CA_FILE or SSL_CERT_FILE: {ca_file}: {error}", field="ca_file") from error


@cache
def nobody() -> ssl.SSLContext:
    """Trusts nobody, and costs nothing: for plain HTTP, where a client library wants one all the same."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _system_has_authorities() -> bool:
    paths = ssl.get_default_verify_paths()
    return any(path and os.path.exists(path) for path in (paths.cafile, paths.capath))
