"""One port for TLS and plain HTTP: the first byte tells which, before anything is read.

Beyond this machine plain HTTP is refused where TLS is there: keys and tokens would travel in clear.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress

from .tls import TlsSource

log = logging.getLogger("atoll.edge.listener")

FIRST_BYTE_S = 30.0  # browsers open connections ahead of their requests
HANDSHAKE_S = 10.0
NO_DESCRIPTORS_S = 0.1
HANDSHAKE = 0x16  # the content type of a TLS ClientHello; no HTTP method begins with it
MAX_UNDECIDED = 4096
SPEAK_TLS = b"HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\nUse https here.\n"

Factory = Callable[[], asyncio.Protocol]


class Listener:
    """Takes connections from `sock`, which it does not close."""

    def __init__(self, sock: socket.socket, factory: Factory, tls: TlsSource | None, plain_for_all: bool) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._factory = factory
        self._tls = tls
        self._plain_for_all = plain_for_all
        self._undecided: dict[asyncio.Task[None], None] = {}  # the oldest first
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._accepting = asyncio.create_task(self._accept())

    async def stop(self) -> None:
        tasks = [*self._undecided, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._sock)
            except OSError as error:
                log.warning("a connection is not accepted: %s", error)
                await asyncio.sleep(NO_DESCRIPTORS_S)
                continue
            if len(self._undecided) >= MAX_UNDECIDED:
                self._let_the_oldest_go()
            task = asyncio.create_task(self._admit(connection))
            self._undecided[task] = None
            task.add_done_callback(lambda done: self._undecided.pop(done, None))

    def _let_the_oldest_go(self) -> None:
        """Who means to speak does so soon; were newcomers turned away, a few silent clients would shut out all."""
        oldest = next(iter(self._undecided))
        del self._undecided[oldest]
        oldest.cancel()

    async def _admit(self, connection: socket.socket) -> None:
        """Hands the connection on, or closes it."""
        try:
            first = await _first_byte(connection)
            if first is None:
                connection.close()
            elif first == HANDSHAKE:
                await self._serve_tls(connection)
            elif self._may_be_plain(connection):
                await asyncio.get_running_loop().connect_accepted_socket(self._factory, connection)
            else:
                _send_away(connection)
        except (OSError, TimeoutError) as error:  # ssl.SSLError too
            log.debug("a connection does not get to speak: %s", error)
            connection.close()
        except BaseException:
            connection.close()
            raise

    async def _serve_tls(self, connection: socket.socket) -> None:
        if self._tls is None:
            connection.close()
            return
        loop, context = asyncio.get_running_loop(), self._tls.context()
        await loop.connect_accepted_socket(self._factory, connection, ssl=context, ssl_handshake_timeout=HANDSHAKE_S)

    def _may_be_plain(self, connection: socket.socket) -> bool:
        return self._tls is None or self._plain_for_all or is_local(connection)


def _send_away(connection: socket.socket) -> None:
    """What came is read first: bytes left unread would turn our word into a reset."""
    with connection, suppress(OSError):
        connection.recv(64 * 1024)
        connection.send(SPEAK_TLS)


def is_local(connection: socket.socket) -> bool:
    if connection.family == socket.AF_UNIX:
        return True
    return bool(connection.getsockname()[0] == connection.getpeername()[0]) or connection.getpeername()[0].startswith(
        "127."
    )


async def _first_byte(connection: socket.socket) -> int | None:
    """None: the client left, or said nothing."""
    connection.setblocking(False)
    first = _peek(connection)
    if first is not None:
        return first[0] if first else None
    readable = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(connection.fileno(), readable.set)
    try:
        async with asyncio.timeout(FIRST_BYTE_S):
            await readable.wait()
    finally:
        loop.remove_reader(connection.fileno())
    first = _peek(connection)
    return first[0] if first else None


def _peek(connection: socket.socket) -> bytes | None:
    """None: nothing yet."""
    try:
        return connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return None
