"""A server that answers at once with what Atoll has answered before: what a client takes by itself.

A request that it sees for the first time is passed on, and its answer is kept under method and path; from then on that
is what everybody gets. So an SDK meets the very answers that it is used to, and no work is done for them. What is kept
is about one sandbox: `create` always gives that one. One process, one loop.

with Instant(server.url) as url: …
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import urllib.request
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import uvloop

FORWARDED = "/forwarded"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "upgrade"}
Key = tuple[str, str]


class Instant:
    def __init__(self, url: str) -> None:
        self._behind = url

    def __enter__(self) -> str:
        with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
            command = [sys.executable, __file__, str(listener.fileno()), self._behind]
            self._process = subprocess.Popen(command, pass_fds=[listener.fileno()])
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()


def forwarded(url: str) -> int:
    """Requests that were passed on so far: none may be while it is measured."""
    with urllib.request.urlopen(f"{url}{FORWARDED}") as answer:
        return int(json.load(answer))


class Kept:
    """Answers by what was asked, in the order of their coming."""

    def __init__(self, behind: str, here: str) -> None:
        """`here` stands for the other's address in what is kept, so that clients stay."""
        parts = urlsplit(behind)
        self._host, self._port = parts.hostname or "", parts.port
        self._names = parts.netloc.encode(), here.encode()
        self._answers: dict[Key, bytes] = {}

    def answer(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
        if path == FORWARDED:
            return _response(200, [], json.dumps(len(self._answers)).encode())
        key = method, path
        if key not in self._answers:
            self._answers[key] = self._ask(method, path, headers, body)
        return self._answers[key]

    def _ask(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=60)
        left = {"host", "accept-encoding", *HOP_BY_HOP}
        asked = {name: value for name, value in headers if name.lower() not in left}
        connection.request(method, path, body or None, asked)
        found = connection.getresponse()
        content = found.read().replace(*self._names)
        connection.close()
        return _response(found.status, found.getheaders(), content)


def _response(status: int, headers: list[tuple[str, str]], content: bytes) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers if name.lower() not in HOP_BY_HOP]
    if status != 204:
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([f"HTTP/1.1 {status} OK", *lines, "", ""]).encode() + content


class Connection(asyncio.Protocol):
    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while request := self._whole():
            self._transport.write(self._kept.answer(*request))

    def _whole(self) -> tuple[str, str, list[tuple[str, str]], bytes] | None:
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        named = {name.lower(): value for name, value in headers}
        if "transfer-encoding" in named:
            whole = _chunks(rest)
        else:
            size = int(named.get("content-length", 0))
            whole = (rest[:size], rest[size:]) if len(rest) >= size else None
        if whole is None:
            return None
        body, self._received = whole
        method, path, _ = first.split(" ", 2)
        return method, path, headers, body


def _chunks(rest: bytes) -> tuple[bytes, bytes] | None:
    """Body and what follows it, when the last chunk is there."""
    body = b""
    while True:
        size, found, after = rest.partition(b"\r\n")
        length = int(size, 16) if found else 0
        if not found or len(after) < length + 2:
            return None
        body, rest = body + after[:length], after[length + 2 :]
        if length == 0:
            return body, rest


async def main(listener: socket.socket, behind: str) -> None:
    kept = Kept(behind, f"127.0.0.1:{listener.getsockname()[1]}")
    server = await asyncio.get_running_loop().create_server(lambda: Connection(kept), sock=listener)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2]))
