"""A web server of the test internet for measuring what lies before it: it reads and writes as programs do, no more.

    python -m atoll.testing.bulk_server 80 443 -- 203.0.113.120 198.18.2.2

`GET /bytes/N` is sent from memory; what is uploaded is read, counted and answered with the count.
On 443 it expects a ClientHello first, which it does not answer: from then on it speaks as on 80. So a proxy that judges
the name in the hello is measured without anybody's cryptography. A thread a connection, in a process of its own.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading

CONTENT = memoryview(bytes(1 << 20))
BACKLOG = 1024


def serve(addresses: list[str], ports: list[int]) -> None:
    for address in addresses:
        for port in ports:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((address, port))
            listener.listen(BACKLOG)
            threading.Thread(target=_accept, args=(listener, port == 443), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


def _accept(listener: socket.socket, after_hello: bool) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_converse, args=(connection, after_hello), daemon=True).start()


def _converse(connection: socket.socket, after_hello: bool) -> None:
    with connection, contextlib.suppress(OSError, EOFError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if after_hello:
            _exactly(connection, int.from_bytes(_exactly(connection, 5)[3:], "big"))
        while True:
            _one(connection)


def _one(connection: socket.socket) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):  # the client waits before it sends more than a head
        more = connection.recv(65536)
        if not more:
            raise EOFError
        head += more
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    if method == "GET":
        size = int(path.rpartition("/")[2])
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        _pour(connection, size)
        return
    size = next(int(line.partition(":")[2]) for line in lines if line.lower().startswith("content-length:"))
    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    told = str(_swallow(connection, size)).encode()
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(told), told))


def _pour(connection: socket.socket, size: int) -> None:
    while size:
        piece = CONTENT[: min(size, len(CONTENT))]
        connection.sendall(piece)
        size -= len(piece)


def _swallow(connection: socket.socket, size: int) -> int:
    buffer, left = bytearray(1 << 20), size
    while left:
        got = connection.recv_into(buffer, min(left, len(buffer)))
        if not got:
            raise EOFError
        left -= got
    return size


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


if __name__ == "__main__":
    at = sys.argv.index("--")
    serve(sys.argv[at + 1 :], [int(port) for port in sys.argv[1:at]])
