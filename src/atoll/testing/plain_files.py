"""The plainest way to move files over HTTP, to measure against: a server that calls `sendfile` for what it sends and
writes what it receives to a file, in a process of its own, and a client that keeps nothing.

with PlainFileServer(directory) as server:
    seconds = download(server.address, "/name")
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

BUFFER = 1024 * 1024
BOUNDARY = "5f2e8d1c6b7a49308f2e8d1c6b7a4930"  # as long as those of real clients

Address = tuple[str, int]


class PlainFileServer:
    """GET /name sends directory/name; PUT /name stores it. One connection after the other."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.address: Address = ("127.0.0.1", 0)

    def __enter__(self) -> PlainFileServer:
        listener = socket.create_server(("127.0.0.1", 0))
        with listener:
            command = [sys.executable, __file__, str(listener.fileno()), str(self._directory)]
            self._process = subprocess.Popen(command, pass_fds=[listener.fileno()])
            self.address = listener.getsockname()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()


def _serve(listener: socket.socket, directory: Path) -> None:
    while True:
        with listener.accept()[0] as client:
            head, rest = _head(client)
            method, name, *_ = head.split()
            file = directory / Path(name.decode()).name
            if method == b"GET":
                with file.open("rb") as source:
                    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % os.fstat(source.fileno()).st_size)
                    client.sendfile(source)
            else:
                with file.open("wb", buffering=0) as target:
                    _receive(client, rest, _length(head), target)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def download(address: Address, target: str, headers: Mapping[str, str] | None = None) -> float:
    """Seconds. What comes is counted and dropped."""
    begun = time.perf_counter()
    with socket.create_connection(address) as server:
        server.sendall(_request("GET", target, headers or {}))
        head, rest = _head(server)
        _receive(server, rest, _length(head), None)
    return time.perf_counter() - begun


def put(address: Address, target: str, file: BinaryIO) -> float:
    size = os.fstat(file.fileno()).st_size
    return _send(address, _request("PUT", target, {"Content-Length": str(size)}), file, b"")


def post_form(address: Address, target: str, headers: Mapping[str, str], path: str, file: BinaryIO) -> float:
    """As the HopX clients upload: a field `path`, then the file."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{{}}"\r\n\r\n'
    before = f"{part.format('path')}{path}\r\n{part.format('file')}".encode()
    after = f"\r\n--{BOUNDARY}--\r\n".encode()
    size = len(before) + os.fstat(file.fileno()).st_size + len(after)
    more = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Content-Length": str(size)}
    return _send(address, _request("POST", target, {**headers, **more}) + before, file, after)


def _send(address: Address, before: bytes, file: BinaryIO, after: bytes) -> float:
    file.seek(0)
    begun = time.perf_counter()
    with socket.create_connection(address) as server:
        server.sendall(before)
        server.sendfile(file)
        server.sendall(after)
        _head(server)
    return time.perf_counter() - begun


def _request(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: plain", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def _head(peer: socket.socket) -> tuple[bytes, bytes]:
    raw = b""
    while b"\r\n\r\n" not in raw:
        data = peer.recv(65536)
        if not data:
            raise ConnectionError("no answer")
        raw += data
    head, _, rest = raw.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/") and not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(raw.decode(errors="replace"))
    return head, rest


def _length(head: bytes) -> int:
    return next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))


def _receive(peer: socket.socket, rest: bytes, size: int, target: BinaryIO | None) -> None:
    buffer = memoryview(bytearray(BUFFER))
    if target is not None:
        target.write(rest)
    left = size - len(rest)
    while left:
        count = peer.recv_into(buffer)
        if count == 0:
            raise ConnectionError("it ended early")
        if target is not None:
            target.write(buffer[:count])
        left -= count


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]))
