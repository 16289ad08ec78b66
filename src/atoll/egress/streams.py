"""Byte streams over sockets that do not block: plain, and TLS in either role.

TLS goes through memory buffers and not through a transport, so that bytes which were already read from the socket (to
learn a name) come first, and nothing is ever sent that nobody wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol
from weakref import WeakKeyDictionary

PIECE = 64 * 1024
PIECES_A_ROUND = 8
"""One is decrypted, looked at and encrypted in 0.3 ms; a refusal has 10 ms."""
RESET = struct.pack("ii", 1, 0)


def trusting(
    authorities: Iterable[Path] = (), protocols: Sequence[str] = (), only: str | None = None
) -> ssl.SSLContext:
    """For connections outward: the system's authorities, and these; or `only` one, in PEM."""
    context = ssl.create_default_context(cadata=only)
    for file in authorities:
        context.load_verify_locations(file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if protocols:
        context.set_alpn_protocols(protocols)
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # else an answer that was cut off looks whole
    return context


class Turns:
    """Who moves bytes here moves so many pieces in one round of the event loop, all together; in between everybody
    else has his turn, however many connections are busy. Owners take turns, whatever each has waiting."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def next(self, owner: str = "") -> None:
        loop = asyncio.get_running_loop()
        mine = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._give)
        self._waiting.setdefault(owner, deque()).append(mine)
        await mine

    def _give(self) -> None:
        given = 0
        while self._waiting and given < PIECES_A_ROUND:
            owner = next(iter(self._waiting))
            waiting = self._waiting.pop(owner)
            first = waiting.popleft()
            if waiting:
                self._waiting[owner] = waiting
            if not first.done():
                first.set_result(None)
                given += 1
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._give)


_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


async def turn(owner: str = "") -> None:
    loop = asyncio.get_running_loop()
    if (turns := _TURNS.get(loop)) is None:
        turns = _TURNS[loop] = Turns()
    await turns.next(owner)


class Duplex(Protocol):
    async def read(self) -> bytes: ...

    async def write(self, data: bytes) -> None: ...

    async def finish(self) -> None: ...


class PlainStream:
    half_open = True
    """A peer that has said its last word may still listen."""

    def __init__(self, sock: socket.socket, received: bytes = b"") -> None:
        """Takes the socket over. `received` was read from it before."""
        self._sock = sock
        self._received = received
        self.bytes_in, self.bytes_out = len(received), 0

    async def read(self, most: int = PIECE) -> bytes:
        """b"" at the end."""
        if self._received:
            taken, self._received = self._received[:most], self._received[most:]
            return taken
        data = await asyncio.get_running_loop().sock_recv(self._sock, most)
        self.bytes_in += len(data)
        return data

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)
        self.bytes_out += len(data)

    async def finish(self) -> None:
        """Nothing more is written."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def take(self) -> tuple[socket.socket, bytes]:
        """The socket, and what was read and not taken."""
        return self._sock, self._received

    def close(self) -> None:
        self._sock.close()

    def abort(self) -> None:
        """The peer sees a reset, whatever is on its way."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._sock.close()


class TlsStream:
    half_open = False

    def __init__(self, below: Stream, context: ssl.SSLContext, name: str | None = None) -> None:
        """With `name`: as its client; else as a server."""
        self._below = below
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=name is None, server_hostname=name)
        self._sending = asyncio.Lock()

    @property
    def bytes_in(self) -> int:
        """On the wire, not what is inside."""
        return self._below.bytes_in

    @property
    def bytes_out(self) -> int:
        return self._below.bytes_out

    async def handshake(self) -> None:
        """Raises ssl.SSLError or OSError; the peer has then been told why."""
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    return
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._feed()
        finally:
            with contextlib.suppress(OSError):
                await self._flush()

    async def read(self, most: int = PIECE) -> bytes:
        """b"" when the peer has said that it ends; a connection that just breaks off raises ssl.SSLError."""
        while True:
            try:
                return self._tls.read(most)
            except ssl.SSLWantReadError:
                if not self._sending.locked():  # else whoever sends takes it along, and may wait for us to read
                    await self._flush()
                await self._feed()
            except ssl.SSLZeroReturnError:
                return b""

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view[:PIECE]) :]
            await self._flush()

    async def finish(self) -> None:
        with contextlib.suppress(ssl.SSLError, OSError):
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.unwrap()
            await self._flush()
            await self._below.finish()

    def close(self) -> None:
        self._below.close()

    def abort(self) -> None:
        self._below.abort()

    async def _feed(self) -> None:
        data = await self._below.read()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        """In turns: two writers must not mix what they took."""
        async with self._sending:
            while self._outgoing.pending:
                await self._below.write(self._outgoing.read(PIECE))


Stream = PlainStream | TlsStream


async def read_exactly(stream: Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await stream.read(count - len(data))
        if not more:
            raise ConnectionError("closed in the middle")
        data += more
    return data


async def join(one: Duplex, other: Duplex) -> None:
    """Copies both ways until both have ended. Raises what a side raises, and copies nothing more."""
    ways = [asyncio.ensure_future(copy(one, other)), asyncio.ensure_future(copy(other, one))]
    try:
        await asyncio.gather(*ways)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def copy(source: Duplex, target: Duplex) -> None:
    while data := await source.read():
        await target.write(data)
        await turn()  # neither call waits while there is something to do
    await target.finish()
