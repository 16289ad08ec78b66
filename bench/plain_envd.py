"""The plainest server that E2B's clients can talk to, to measure against: it answers every command and every cell at
once as if that had ended well, sends files by `sendfile` and writes what it receives to a file. A process of its own, a
thread for each connection. GET sends the file that the query's `path` ends with, POST stores one.

with PlainEnvd(directory) as url: …
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from atoll.wire import connect

BUFFER = 1024 * 1024


class PlainEnvd:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __enter__(self) -> str:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            command = [sys.executable, __file__, str(listener.fileno()), str(self._directory)]
            self._process = subprocess.Popen(command, pass_fds=[listener.fileno()])
            return f"http://127.0.0.1:{listener.getsockname()[1]}"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()


def _chunks(*messages: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in (*messages, b""))


ENDED = b"HTTP/1.1 200 OK\r\nContent-Type: application/connect+json\r\nTransfer-Encoding: chunked\r\n\r\n" + _chunks(
    connect.message({"event": {"start": {"pid": 7}}}),
    connect.message({"event": {"end": {"exited": True, "status": "exit status 0"}}}),
    connect.end(None),
)

EXECUTED = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n" + _chunks(
    b'{"type":"number_of_executions","execution_count":1}\n',
    b'{"type":"result","text":"2","extra":{},"is_main_result":true}\n',
    b'{"type":"end_of_execution"}\n',
)
CONTEXT = json.dumps({"id": "01234567-89ab-cdef-0123-456789abcdef", "language": "python", "cwd": "/"}).encode()


class Connection:
    def __init__(self, peer: socket.socket, directory: Path) -> None:
        self._peer, self._directory = peer, directory
        self._buffer = memoryview(bytearray(BUFFER))
        self._rest = b""

    def serve(self) -> None:
        with self._peer:
            while head := self._until(b"\r\n\r\n"):
                self._answer(head)

    def _answer(self, head: bytes) -> None:
        method, target, _ = head.decode("latin-1").split(" ", 2)
        named = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in _lines(head))}
        url = urlsplit(target)
        if url.path != "/files":
            self._drop(named)
            if url.path == "/contexts":
                self._head(len(CONTEXT), "application/json")
                self._peer.sendall(CONTEXT)
            else:
                self._peer.sendall(EXECUTED if url.path == "/execute" else ENDED)
            return
        path = parse_qs(url.query)["path"][0]
        file = self._directory / Path(path).name
        if method == "GET":
            with file.open("rb") as source:
                self._head(file.stat().st_size, "application/octet-stream")
                self._peer.sendfile(source)
        else:
            self._store(file, int(named["content-length"]))
            body = json.dumps([{"name": file.name, "path": path, "type": "file"}]).encode()
            self._head(len(body), "application/json")
            self._peer.sendall(body)

    def _head(self, size: int, kind: str) -> None:
        self._peer.sendall(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n".encode())

    def _drop(self, named: dict[str, str]) -> None:
        """The body of a command."""
        if "content-length" in named:
            size = int(named["content-length"])
            while len(self._rest) < size:
                self._rest += self._peer.recv(BUFFER)
            self._rest = self._rest[size:]
        elif "transfer-encoding" in named:
            self._until(b"0\r\n\r\n")

    def _store(self, file: Path, left: int) -> None:
        with file.open("wb", buffering=0) as target:
            first, self._rest = self._rest[:left], self._rest[left:]
            target.write(first)
            left -= len(first)
            while left:
                count = self._peer.recv_into(self._buffer, min(left, BUFFER))
                if count == 0:
                    raise ConnectionError("it ended early")
                target.write(self._buffer[:count])
                left -= count

    def _until(self, end: bytes) -> bytes:
        """Nothing: the client has gone."""
        while end not in self._rest:
            data = self._peer.recv(BUFFER)
            if not data:
                return b""
            self._rest += data
        found, _, self._rest = self._rest.partition(end)
        return found


def _lines(head: bytes) -> list[str]:
    return head.decode("latin-1").split("\r\n")[1:]


def main(listener: socket.socket, directory: Path) -> None:
    while True:
        peer = listener.accept()[0]
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=Connection(peer, directory).serve, daemon=True).start()


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]))
