"""An answer that goes out message by message, each at once, and that says it lives when nothing else says so.

Back-pressure: whoever sends waits until the client has taken enough. A client that takes nothing at all is cut off by
the gate.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from atoll.edge.exchange import Exchange


class Streamed:
    """The head goes out with the first message."""

    def __init__(self, exchange: Exchange, content_type: str) -> None:
        self._exchange = exchange
        self._response = web.StreamResponse(headers={"Content-Type": content_type, "Cache-Control": "no-store"})
        self._sent_at = time.monotonic()
        self._waiting = 0

    async def send(self, message: bytes) -> None:
        await self._begin()
        self._sent_at = time.monotonic()
        self._waiting += 1
        try:
            await self._response.write(message)
        finally:
            self._waiting -= 1

    async def finish(self, last: bytes = b"") -> web.StreamResponse:
        await self._begin()
        await self._response.write_eof(last)
        return self._response

    async def _begin(self) -> None:
        if not self._exchange.begun:
            await self._exchange.begin(self._response)

    @asynccontextmanager
    async def kept_alive(self, message: bytes, every_s: float, *, may_be_first: bool) -> AsyncIterator[None]:
        """`may_be_first`: the client takes the message for no answer yet."""
        task = asyncio.create_task(self._keep_alive(message, every_s, may_be_first))
        try:
            yield
        finally:
            task.cancel()

    async def _keep_alive(self, message: bytes, every_s: float, may_be_first: bool) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._sent_at + every_s - time.monotonic()))
            if time.monotonic() - self._sent_at >= every_s:
                silent = not (may_be_first or self._exchange.begun)
                if silent or self._waiting:  # for the client, who has enough to read
                    self._sent_at = time.monotonic()
                    continue
                with suppress(ConnectionError):  # who has left is noticed elsewhere
                    await self.send(message)
