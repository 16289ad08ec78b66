"""After a 101: bytes both ways, unread, until either side closes. So extensions, subprotocols, fragments, pings and
close codes are what the two ends make them."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from aiohttp import web
from aiohttp.connector import Connection
from aiohttp.http import StreamWriter

HIGH_WATER = 256 * 1024


class Switched(web.StreamResponse):
    """A 101: nothing after its head belongs to it."""

    _length_check = False


class Inlet:
    """Takes what one side sends; in aiohttp's terms the parser of its payload."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parts: list[bytes] = []
        self._size = 0
        self._paused = False
        self._arrival = asyncio.Event()
        self.ended = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._parts.append(bytes(data))
        self._size += len(data)
        if self._size > HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._arrival.set()
        return False, b""

    def feed_eof(self) -> None:
        self.ended = True
        self._arrival.set()

    async def take(self) -> bytes:
        """Empty at the end."""
        while not self._parts and not self.ended:
            self._arrival.clear()
            await self._arrival.wait()
        data = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if self._paused and not self.ended:
            self._paused = False
            self._transport.resume_reading()
        return data


class Outlet(Protocol):
    async def write(self, chunk: bytes) -> None: ...


async def tunnel(request: web.BaseRequest, connection: Connection, idle_timeout_s: float) -> None:
    """Returns when one side has closed or both are silent for too long. The caller closes the inner side."""
    outer, inner = request.protocol, connection.protocol
    if outer.transport is None or inner is None or inner.transport is None:
        return
    watch = _Watch(idle_timeout_s)
    from_client, from_program = Inlet(outer.transport), Inlet(inner.transport)
    loop = asyncio.get_running_loop()
    outer.set_parser(from_client)  # type: ignore[arg-type]  # its type there is the one parser that aiohttp has
    inner.set_parser(from_program, None)
    ways = ((from_client, StreamWriter(inner, loop)), (from_program, StreamWriter(outer, loop)))
    pumps = [asyncio.ensure_future(_pump(inlet, outlet, watch)) for inlet, outlet in ways]
    try:
        async with asyncio.timeout(None) as watch.scope:
            watch.renew()
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    except TimeoutError:
        return
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(inlet: Inlet, outlet: Outlet, watch: _Watch) -> None:
    while data := await inlet.take():
        watch.renew()
        await outlet.write(data)


class _Watch:
    """Renewed by every byte, at the cost of one look at the clock."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._clock = asyncio.get_running_loop().time
        self._renewed = 0.0
        self.scope: Any = None

    def renew(self) -> None:
        now = self._clock()
        if now - self._renewed > min(1.0, self._timeout_s / 10):
            self._renewed = now
            self.scope.reschedule(now + self._timeout_s)
