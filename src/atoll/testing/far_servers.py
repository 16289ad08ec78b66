"""Everybody who listens in the test internet, in one thread: an event loop that lives in its namespace.

A listener takes connections for every address there, and knows by the address what it should be. Bytes are counted on
the connection itself, below TLS, so that they can be compared with what others count.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .name_server import Zone, answer
from .web_server import Web, echo

BACKLOG = 4096
HANDSHAKE_S, SHUTDOWN_S = 30.0, 2.0
BANNER = b"220 mail.example.net ESMTP\r\n"
JOB = b'{"id":1,"result":{"job":{"blob":"00"},"status":"OK"},"error":null}\n'

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Flow:
    """A TCP connection that is over, with the bytes of its streams, as the server has seen them."""

    server: str
    port: int
    client_port: int
    received: int
    sent: int


class Datagram(NamedTuple):
    server: str
    client_port: int
    content: bytes


class _Counting(socket.socket):
    """Counts what an event loop reads and writes."""

    received = sent = 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        data = super().recv(size, flags)
        self.received += len(data)
        return data

    def recv_into(self, buffer: object, nbytes: int = 0, flags: int = 0) -> int:
        size = super().recv_into(buffer, nbytes, flags)  # type: ignore[arg-type]  # any buffer
        self.received += size
        return size

    def send(self, data: object, flags: int = 0) -> int:
        size = super().send(data, flags)  # type: ignore[arg-type]
        self.sent += size
        return size


class FarServers:
    """`enter` puts the calling thread where the servers are."""

    def __init__(self, enter: Callable[[], None], zone: Zone, web: Web, tls: ssl.SSLContext, dead: Sequence[str]):
        self.zone, self.web, self._tls, self._dead = zone, web, tls, frozenset(dead)
        self.connections: list[tuple[str, int]] = []
        self.flows: list[Flow] = []
        self.datagrams: list[Datagram] = []
        self.queries: list[tuple[str, str, str]] = []
        self._enter = enter
        self._stopping = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="test internet", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        self._datagram_sockets: dict[tuple[socket.socket, int], None] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        for each in self._sockets:
            each.close()

    def _run(self) -> None:
        self._enter()
        try:
            self._loop.run_forever()
            for task in self._tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        finally:
            self._loop.close()

    def spawn(self, work: Awaitable[None]) -> None:
        """In the loop, from anywhere; ends with the servers."""

        async def run() -> None:
            await work

        def begin() -> None:
            task = self._loop.create_task(run())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(begin)

    # ---- TCP

    def listen(self, port: int, address: str = "::") -> None:
        """To be called where the socket shall be."""
        listener = _bound(socket.SOCK_STREAM, address, port)
        listener.listen(BACKLOG)
        self._sockets.append(listener)
        self.spawn(self._accept(listener, port))

    async def _accept(self, listener: socket.socket, port: int) -> None:
        while True:
            with contextlib.suppress(OSError):
                connection, client = await self._loop.sock_accept(listener)
                connection.setblocking(False)
                server = _plain(connection.getsockname()[0])
                if port != 53:
                    self.connections.append((server, port))
                counted = _Counting(fileno=connection.detach())
                self.spawn(self._converse(counted, server, port, client[1]))

    async def _converse(self, connection: _Counting, server: str, port: int, client_port: int) -> None:
        writer = None
        try:
            if server in self._dead:
                await self._loop.create_future()
            reader = asyncio.StreamReader(loop=self._loop)
            made: asyncio.Future[asyncio.StreamWriter] = self._loop.create_future()
            protocol = asyncio.StreamReaderProtocol(reader, lambda _, writer: made.set_result(writer), self._loop)
            tls = self._tls if port in TLS_PORTS else None
            handshake_s = HANDSHAKE_S if tls else None
            await self._loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=tls,
                ssl_handshake_timeout=handshake_s,
                ssl_shutdown_timeout=SHUTDOWN_S if tls else None,
            )
            writer = await made
            await self._service(server, port)(reader, writer)
        except (OSError, EOFError, ValueError):
            """Clients come and go, and say what they like."""
        finally:
            if writer is not None:
                writer.transport.abort() if self._stopping else writer.close()
                with contextlib.suppress(Exception):
                    await writer.wait_closed()
            else:
                connection.close()
            self.flows.append(Flow(server, port, client_port, connection.received, connection.sent))

    def _service(self, server: str, port: int) -> Serve:
        return {
            25: _after(BANNER),
            53: lambda reader, writer: self._questions(server, reader, writer),
            80: lambda reader, writer: self.web.serve(server, port, reader, writer),
            443: lambda reader, writer: self.web.serve(server, port, reader, writer),
            853: lambda reader, writer: self._questions(server, reader, writer),
            3333: _after(JOB),
        }.get(port, echo)

    async def _questions(self, server: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            answered = answer(self.zone, server, await reader.readexactly(size), self._asked)
            if answered is None:
                return
            writer.write(struct.pack("!H", len(answered)) + answered)

    def _asked(self, resolver: str, name: str, kind: str) -> None:
        self.queries.append((resolver, name, kind))

    # ---- UDP

    def listen_udp(self, port: int, address: str = "::") -> None:
        sock = _bound(socket.SOCK_DGRAM, address, port)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        self._sockets.append(sock)
        self._datagram_sockets[sock, port] = None
        self._loop.call_soon_threadsafe(self._loop.add_reader, sock, self._receive, sock, port)

    def _receive(self, sock: socket.socket, port: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data, control, _, client = sock.recvmsg(65535, 256)
                to = next((value for _, kind, value in control if kind == socket.IPV6_PKTINFO), None)
                if to is None:
                    continue
                server = _plain(socket.inet_ntop(socket.AF_INET6, to[:16]))
                answered = self._answer(server, port, client[1], data)
                if answered is not None and server not in self._dead:
                    with contextlib.suppress(OSError):
                        _send_from(sock, to[:16], answered, client)

    def _answer(self, server: str, port: int, client_port: int, data: bytes) -> bytes | None:
        if port == 53:
            return answer(self.zone, server, data, self._asked, over_udp=True)
        self.datagrams.append(Datagram(server, client_port, data))
        return data

    def send_from(self, server: str, port: int, content: bytes, to: tuple[str, int]) -> None:
        """A datagram that nobody has asked for."""
        sock = next(each for each, bound in self._datagram_sockets if bound == port)
        _send_from(sock, socket.inet_pton(socket.AF_INET6, _mapped(server)), content, (_mapped(to[0]), to[1]))


TLS_PORTS = (443, 853)


def _after(greeting: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await echo(reader, writer)

    return serve


def _bound(kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # a server of one address may stand beside those of all
    sock.setblocking(False)
    sock.bind((_mapped(address), port))
    return sock


def _send_from(sock: socket.socket, source: bytes, content: bytes, to: tuple[str, int]) -> None:
    control = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, source + struct.pack("@I", 0))
    sock.sendmsg([content], [control], 0, to)


def _mapped(address: str) -> str:
    return address if ":" in address else f"::ffff:{address}"


def _plain(address: str) -> str:
    return address.removeprefix("::ffff:")
