"""One HTTP/1.1 POST over a connection that somebody else has made and checked. The answer is a status; its body nobody
reads, and where a redirect points nobody goes."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

MAX_HEAD = 32 * 1024
MAX_BODY = 64 * 1024  # is taken, so that the peer may finish what it says; more is cut off
BODY_S = 2.0
MAX_INTERIM = 8


class NotHttp(Exception):
    """What came back is no answer."""


@dataclass(frozen=True)
class Post:
    host: str
    """As certificates name it."""
    host_header: str
    target: str = field(repr=False)
    headers: Sequence[tuple[str, str]] = field(repr=False)
    body: bytes = field(repr=False)

    def encode(self) -> bytes:
        lines = [f"POST {self.target} HTTP/1.1", f"Host: {self.host_header}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"Content-Length: {len(self.body)}", "Connection: close", "", ""]
        return "\r\n".join(lines).encode("ascii") + self.body


def trusting(authorities: Path | None) -> ssl.SSLContext:
    """The system's certificate authorities, and the operator's."""
    context = ssl.create_default_context()
    if authorities is not None:
        context.load_verify_locations(authorities)
    return context


async def post(sock: socket.socket, request: Post, tls: ssl.SSLContext | None) -> int:
    """Takes the socket over. The status; OSError, ssl.SSLError or NotHttp when there is none."""
    try:
        name = request.host if tls else None
        reader, writer = await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=name, limit=MAX_HEAD)
    except BaseException:
        sock.close()
        raise
    try:
        writer.write(request.encode())
        status = await _status(reader)
        await _hear_out(reader)
        return status
    except asyncio.IncompleteReadError as error:
        raise NotHttp("the connection was closed before the answer") from error
    finally:
        writer.transport.abort()


async def _hear_out(reader: asyncio.StreamReader) -> None:
    with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
        async with asyncio.timeout(BODY_S):
            await reader.readexactly(MAX_BODY)


async def _status(reader: asyncio.StreamReader) -> int:
    for _ in range(MAX_INTERIM):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise NotHttp("the head of the answer is too long") from error
        status = parse_status(head)
        if status >= 200:
            return status
    raise NotHttp("too many interim answers")


def parse_status(head: bytes) -> int:
    version, _, rest = head.partition(b"\r\n")[0].partition(b" ")
    code = rest[:3]
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not code.isdigit() or not 100 <= int(code) <= 599:
        raise NotHttp("the answer is not HTTP")
    if rest[3:4] not in (b"", b" "):
        raise NotHttp("the answer is not HTTP")
    return int(code)
