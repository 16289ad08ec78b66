"""What both forms tell the HTTP library, and its errors as ours: here and nowhere else."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, Iterable, Mapping

from . import tls
from .config import scheme
from .errors import ASK_WHERE, NetworkError, TimeoutError, ValidationError, caused
from .http_library import httpx
from .request import USER_AGENT, Failure, Request

CONNECT_S = 10.0
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=50.0)
"""The server keeps connections for 75 s: ours end first, so that none is used that is just being closed."""
HEADERS = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}


def verify(base_url: str, ca_file: str | None) -> ssl.SSLContext:
    return tls.context(ca_file) if scheme(base_url) == "https" else tls.nobody()


def build(
    client: httpx.Client | httpx.AsyncClient,
    base_url: str,
    request: Request,
    headers: Mapping[str, str],
    timeout: float,
    content: Iterable[bytes] | AsyncIterable[bytes] | None,
) -> httpx.Request:
    body = request.body() if content is None else content
    typed = {"Content-Type": "application/json"} if request.json is not None else {}
    try:
        return client.build_request(
            request.method,
            base_url + request.path,
            params=request.params or None,
            content=body,
            headers={**HEADERS, **typed, **request.headers, **headers},
            timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_S)),
        )
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ValidationError(f"{base_url + request.path!r} cannot be called: {error}") from error


def failure(error: httpx.HTTPError) -> Failure:
    where = _where(error)
    unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.LocalProtocolError)
    if isinstance(error, httpx.TimeoutException):
        return Failure(caused(TimeoutError(f"{where}: no answer in time"), error), sent=not unsent, timed_out=True)
    if isinstance(error, httpx.ConnectError):
        said = f"{where}: cannot connect: {error}. {ASK_WHERE}"
        return Failure(caused(NetworkError(said), error), sent=False)
    said = str(error) or type(error).__name__
    return Failure(caused(NetworkError(f"{where}: the connection broke: {said}"), error), sent=not unsent)


def _where(error: httpx.HTTPError) -> str:
    try:
        return f"{error.request.method} {error.request.url.copy_with(query=None)}"
    except RuntimeError:  # it has none
        return "the call"
