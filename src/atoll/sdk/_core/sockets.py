"""What both forms tell the WebSocket library, and its errors as ours: here and nowhere else."""

from __future__ import annotations

import builtins
import socket
from collections.abc import Mapping
from typing import Any

from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidStatus

from . import config, tls
from .agent import MAX_MESSAGE
from .errors import ASK_WHERE, NetworkError, TimeoutError, caused
from .request import USER_AGENT, Answer, Failure

OPTIONS: dict[str, Any] = {  # Any: the library's keywords
    "compression": None,
    "proxy": None,
    "user_agent_header": USER_AGENT,
    "ping_interval": 10.0,
    "ping_timeout": None,
    "close_timeout": 2.0,
    "max_size": MAX_MESSAGE,
}
"""Who takes its time with a stream does not hear the server's pings behind what it has not read. So ours come more
often than those, and nobody waits for their answers: a server that is gone is noticed by `watch`."""
LOST_AFTER_MS = 120_000


def watch(connected: socket.socket) -> None:
    """A server that acknowledges nothing for so long, our pings neither, is gone. Where the system cannot be told, its
    own time counts."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_AFTER_MS)


def options(url: str, headers: Mapping[str, str], timeout: float) -> dict[str, Any]:  # Any: the library's keywords
    context = tls.context(config.ca_file()) if config.scheme(url) == "wss" else None
    return {**OPTIONS, "additional_headers": dict(headers), "open_timeout": timeout, "ssl": context}


def refusal(refused: InvalidStatus) -> Answer:
    response = refused.response
    headers = {name.lower(): value for name, value in response.headers.raw_items()}
    return Answer(response.status_code, headers, bytes(response.body or b""))


def failure(url: str, error: Exception) -> Failure:
    if isinstance(error, builtins.TimeoutError):
        return Failure(caused(TimeoutError(f"{url}: not opened in time"), error), sent=True, timed_out=True)
    return Failure(caused(NetworkError(f"{url}: cannot be opened: {error}. {ASK_WHERE}"), error), sent=True)


def is_clean(error: ConnectionClosed) -> bool:
    return isinstance(error, ConnectionClosedOK)


def gone(error: ConnectionClosed) -> NetworkError:
    return NetworkError(f"The connection to the sandbox was closed: {error}")
