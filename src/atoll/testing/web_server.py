"""The web of the test internet: HTTP/1.1 over asyncio streams, for a great many connections at once.

/                       a page that shows the Host          /get /post /headers …   the request, as JSON
/bytes/N                N bytes                             /drip/N                 N bytes, one each 20 ms
/upload                 {"received": N}                     /upgrade                101, then echoes
/ip                     the client's address                /status/N               that status
/health                 OK
/dns-query              DNS over HTTPS, at the resolvers
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

MAX_HEAD = 64 * 1024
MAX_KEPT_BODY = 8 << 20
CHUNK = bytes(256 * 1024)
FILE = bytes(range(256)) * 4096
CSV = b"city,people\nOslo,709037\nRome,2748109\n"
DRIP_S = 0.02
REASONS = {200: "OK", 301: "Moved Permanently", 302: "Found", 404: "Not Found"}


@dataclass(frozen=True)
class Request:
    server: str
    port: int
    host: str
    method: str
    path: str
    body: bytes
    """Of /upload nothing is kept."""
    headers: dict[str, str] = field(default_factory=dict)
    sni: str = ""
    client: str = ""


@dataclass(frozen=True)
class Answer:
    content: bytes = b""
    kind: str = "text/plain"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


Special = Callable[[Request], Answer | None]
"""What is answered at one address, whatever is asked for; None: what is answered anywhere."""


@dataclass
class Web:
    requests: list[Request]
    special: dict[str, Special]
    """By address."""

    async def serve(self, server: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        peer = writer.get_extra_info("peername")
        if peer is None:
            return  # it was reset before anybody looked
        client = peer[0].removeprefix("::ffff:")
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                return
            method, path, version, headers = _parse(head)
            if headers.get("expect", "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body, received = await _body(reader, headers, keep=not path.startswith("/upload"))
            shown = {name.title(): value for name, value in headers.items()}
            sni = (getattr(tls, "server_asked", None) or "") if tls else ""
            asked = Request(server, port, headers.get("host", ""), method, path, body, shown, sni, client)
            self.requests.append(asked)
            if "upgrade" in headers and path == "/upgrade":
                await _upgraded(reader, writer, headers["upgrade"])
                return
            last = version == "HTTP/1.0" or headers.get("connection", "").lower() == "close"
            await self._answer(writer, asked, received, tls is not None, last)
            if last:
                return

    async def _answer(self, writer: asyncio.StreamWriter, asked: Request, received: int, tls: bool, last: bool) -> None:
        way, _, number = urlsplit(asked.path).path.rpartition("/")
        size = int(number) if number.isdigit() else 0
        if way in ("/bytes", "/drip"):
            writer.write(_head(Answer(kind="application/octet-stream"), size, last))
            await _pour(writer, size, slowly=way == "/drip")
            return
        special = self.special.get(asked.server)
        told = (special(asked) if special else None) or _page(asked, received, tls)
        writer.write(_head(told, len(told.content), last) + (b"" if asked.method == "HEAD" else told.content))
        await writer.drain()


def _parse(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    method, path, version = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    return method, path, version, {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: dict[str, str], keep: bool) -> tuple[bytes, int]:
    kept, size = bytearray(), 0

    async def take(length: int) -> None:
        nonlocal size
        while length:
            part = await reader.read(min(length, 1 << 20))
            if not part:
                raise asyncio.IncompleteReadError(bytes(kept), length)
            length, size = length - len(part), size + len(part)
            if keep and len(kept) < MAX_KEPT_BODY:
                kept.extend(part)

    if headers.get("transfer-encoding", "").lower() == "chunked":
        while length := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await take(length)
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            """Trailers."""
    else:
        await take(int(headers.get("content-length") or 0))
    return bytes(kept), size


def _head(told: Answer, size: int, last: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {told.status} {REASONS.get(told.status, 'Status')}",
        f"Content-Type: {told.kind}",
        f"Content-Length: {size}",
        *(f"{name}: {value}" for name, value in told.headers),
        *(["Connection: close"] if last else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


async def _pour(writer: asyncio.StreamWriter, size: int, slowly: bool) -> None:
    while size:
        part = CHUNK[: 1 if slowly else min(size, len(CHUNK))]
        writer.write(part)
        await writer.drain()
        size -= len(part)
        if slowly and size:
            await asyncio.sleep(DRIP_S)


async def _upgraded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: str) -> None:
    head = f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
    writer.write(head.encode())
    await echo(reader, writer)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while part := await reader.read(65536):
        writer.write(part)
        await writer.drain()


PAGES = {
    "/health": Answer(b"OK"),
    "/data": Answer(b'{"data": [1, 2, 3]}', "application/json"),
    "/posts/1": Answer(b'{"id": 1, "title": "A post"}', "application/json"),
    "/data.csv": Answer(CSV, "text/csv"),
    "/file.csv": Answer(CSV, "text/csv"),
    "/file.bin": Answer(FILE, "application/octet-stream"),
}
ECHOED = ("/get", "/post", "/put", "/delete", "/anything", "/headers")


def _page(asked: Request, received: int, tls: bool) -> Answer:
    path = urlsplit(asked.path).path
    if path in PAGES:
        return PAGES[path]
    if path in ECHOED:
        told = {
            "method": asked.method,
            "url": f"{'https' if tls else 'http'}://{asked.host}{asked.path}",
            "headers": asked.headers,
            "data": asked.body.decode(errors="replace"),
            "origin": asked.client,
        }
        return Answer(json.dumps(told).encode(), "application/json")
    if path == "/upload":
        return Answer(json.dumps({"received": received}).encode(), "application/json")
    if path == "/ip":
        return Answer(asked.client.encode())
    if path.startswith("/status/") and path[8:].isdigit():
        return Answer(status=int(path[8:]))
    if path == "/":
        return Answer(f"<!doctype html><title>Example Domain</title><h1>{asked.host}</h1>".encode(), "text/html")
    return Answer(b"not found", status=404)
