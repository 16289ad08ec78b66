"""Sandboxes that use a URL of this installation: to the edge, which asks of them what it asks of everybody.

The name that our end is bound to says whose it is.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from pathlib import Path

from atoll.core.errors import Unavailable
from atoll.wire.ingress_peer import peer_name

CONNECT_S = 5.0


async def connect(path: Path | None, sandbox_id: str) -> socket.socket:
    """`Unavailable` while there is no edge."""
    if path is None:
        raise Unavailable("this installation has no URLs")
    loop = asyncio.get_running_loop()
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise Unavailable(f"no connection can be made: {error.strerror}") from error
    try:
        sock.bind(peer_name(sandbox_id, secrets.token_hex(16)))
        async with asyncio.timeout(CONNECT_S):
            await loop.sock_connect(sock, str(path))
    except (OSError, TimeoutError) as error:
        sock.close()
        raise Unavailable(f"the edge does not answer: {error}") from error
    except BaseException:
        sock.close()
        raise
    return sock
