"""Ask a sandbox's agent. The peer is hostile: a deadline, a size limit, and of an answer only what can be checked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

from atoll.core.errors import Unavailable

MAX_ANSWER = 16 * 1024  # a true answer has some 200 bytes
MAX_LIVE = 1 << 20  # more processes than any sandbox can have


async def live(socket: Path, timeout_s: float = 2.0) -> int:
    """How many processes and cells started by a call still run: the sandbox's own word."""
    body = await ask(socket, "GET", "/activity", timeout_s)
    try:
        return min(max(int(json.loads(body)["live"]), 0), MAX_LIVE)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise Unavailable("the sandbox's agent does not say what runs") from error


async def ask(socket: Path, method: str, path: str, timeout_s: float, content: bytes = b"") -> bytes:
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _exchange(socket, method, path, content)
        head, _, body = answer.partition(b"\r\n\r\n")
        version, status, *_ = head.split(b" ", 2)
        if not version.startswith(b"HTTP/1.") or int(status) != 200:
            raise ValueError(f"status {status!r}")
    except (OSError, ValueError) as error:  # a TimeoutError is an OSError
        raise Unavailable("the sandbox's agent does not answer") from error
    return body


async def _exchange(socket: Path, method: str, path: str, content: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        length = f"Content-Length: {len(content)}\r\n" if content else ""
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: agent\r\n{length}Connection: close\r\n\r\n".encode() + content)
        answer = b""
        while chunk := await reader.read(MAX_ANSWER):
            answer += chunk
            if len(answer) > MAX_ANSWER:
                raise ValueError("a longer answer than any true one")
        return answer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
