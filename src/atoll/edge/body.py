"""The body of a request, read into the caller's memory.

A long one is read from the socket itself: through aiohttp each byte is copied four times before it is looked at, which
is most of what an upload costs. Its parser then does not know where the request ends, so the connection is closed
after it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from types import TracebackType

from aiohttp import web

from .exchange import Exchange
from .splice import readable

LONG = 1024 * 1024
MAX_HELD = 512 * 1024 * 1024
"""Of all requests whose bodies are being read whole, together."""


class TooLarge(Exception):
    """A body that is larger than this call may have."""


class TooManyBodies(Exception):
    """There is no room for it just now."""


class _All:
    held = 0


class Room:
    """What one request takes of the room that there is for bodies; given back at the end."""

    def __init__(self) -> None:
        self._taken = 0

    def __enter__(self) -> Room:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.keep(0)

    def keep(self, count: int) -> None:
        """So many bytes are held now. TooManyBodies."""
        _All.held += count - self._taken
        self._taken = count
        if _All.held > MAX_HELD and count:
            raise TooManyBodies


async def read_whole(request: web.BaseRequest, limit: int) -> bytes:
    """TooLarge, TooManyBodies."""
    if (request.content_length or 0) > limit:
        raise TooLarge
    body = bytearray()
    with Room() as room:
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > limit:
                raise TooLarge
            room.keep(len(body))
        return bytes(body)


def is_bare(transport: asyncio.Transport) -> bool:
    """Whether bytes may pass it by. Not by TLS, nor by a socket that a sandbox has too: it may make it block."""
    return not transport.get_extra_info("sslcontext") and not transport.get_extra_info("guest")


class Body:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._content = exchange.request.content
        self._left = exchange.request.content_length or 0
        """Unknown lengths are left to aiohttp."""
        self._held = memoryview(b"")
        self._socket: socket.socket | None = None

    def __enter__(self) -> Body:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._socket is None:
            return
        self._socket.close()
        if self._left == 0:
            self._content.feed_eof()
        elif self._exchange.request.transport is not None:
            self._exchange.request.transport.resume_reading()  # whoever answers now reads on until the client hears it

    async def read_into(self, room: memoryview) -> int:
        """0: the end."""
        if self._socket is None and not self._held:
            if self._left > LONG:
                self._take_over()
            if not self._held and self._socket is None:
                self._hold(await self._content.readany())
        if self._held or self._socket is None:
            count = min(len(room), len(self._held))
            room[:count], self._held = self._held[:count], self._held[count:]
            return count
        return await self._receive_into(self._socket, room)

    def _hold(self, data: bytes) -> None:
        self._held = memoryview(data)
        self._left = max(0, self._left - len(data))

    def _take_over(self) -> None:
        """Without a turn of the loop in it, so that nothing arrives between. An empty buffer also means that aiohttp's
        parser, which is held up by a full one only, holds nothing back."""
        transport = self._exchange.request.transport
        if transport is None or not is_bare(transport):
            return
        early = bytearray()
        while data := self._content.read_nowait():
            early += data
        self._hold(bytes(early))
        transport.pause_reading()
        self._exchange.last = True
        self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))

    async def _receive_into(self, source: socket.socket, room: memoryview) -> int:
        if self._left == 0:
            return 0
        await asyncio.sleep(0)  # others have their turn when there is always something
        while True:
            try:
                count = source.recv_into(room, min(len(room), self._left))
            except BlockingIOError:
                await readable(source.fileno())
            except OSError:
                await self._left_alone()
            else:
                if count == 0:
                    await self._left_alone()
                self._left -= count
                return count

    async def _left_alone(self) -> None:
        """A client that is gone: aiohttp cancels this when it hears of it."""
        transport = self._exchange.request.transport
        if transport is not None:
            transport.abort()
        await asyncio.get_running_loop().create_future()
