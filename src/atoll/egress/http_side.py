"""One side of a conversation in HTTP/1.1 over a stream. What it says and hears are h11's events.

Its errors say which side and what, never h11's own words: those quote the bytes that were wrong.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

import h11

from .streams import PIECE, Stream, turn

MAX_HEAD = 64 * 1024
IDLE_S = 3600.0  # without a byte: streams of events are silent for long
EVENTS_PER_TURN = 64
"""Before others have theirs: a body may come in chunks of one byte."""

Event = h11.Event | type[h11.PAUSED]


class Gone(Exception):
    """The connection of this side is over before its time."""


class NotHttp(Exception):
    """What this side says is not HTTP/1.1."""


class Side:
    def __init__(self, stream: Stream, role: type[h11.CLIENT] | type[h11.SERVER]) -> None:
        """`role`: what we are on it."""
        self.stream = stream
        self.http = h11.Connection(role, max_incomplete_event_size=MAX_HEAD)
        self._unsent = bytearray()
        self._reading: asyncio.Task[bytes] | None = None
        self._events = 0

    def ready(self) -> Event | None:
        """The next event of what has come; None: more is needed."""
        try:
            event = self.http.next_event()
        except h11.RemoteProtocolError:
            broken_off = self.http.trailing_data[1]
            raise (Gone if broken_off else NotHttp) from None
        if event is h11.NEED_DATA:
            return None
        return cast(Event, event)

    async def fill(self) -> None:
        self.http.receive_data(await self.read())

    def say(self, event: h11.Event) -> None:
        """Goes out with the next `flush`."""
        data = self.http.send(event)
        if data:
            self._unsent += data

    async def flush(self, at_least: int = 0) -> None:
        if len(self._unsent) > at_least:
            data = bytes(self._unsent)
            self._unsent.clear()
            await self.write(data)

    async def pause(self) -> None:
        self._events += 1
        if self._events % EVENTS_PER_TURN == 0:
            await turn()

    # ---- bytes

    def look_ahead(self) -> asyncio.Task[bytes]:
        """What `read` will take; that it is done says that the peer has said something or left. It is never cancelled
        to be forgotten: what it has read would be lost."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self.stream.read())
        return self._reading

    async def read(self) -> bytes:
        try:
            async with asyncio.timeout(IDLE_S):
                data = await self.look_ahead()
        except (OSError, ssl.SSLError) as error:
            raise Gone from error
        finally:
            self._reading = None  # also when it was cancelled with its reader: the next one begins anew
        await turn()
        return data

    async def write(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(IDLE_S):
                for start in range(0, len(data), PIECE):
                    await self.stream.write(data[start : start + PIECE])
        except (OSError, ssl.SSLError) as error:
            raise Gone from error

    async def finish(self) -> None:
        await self.stream.finish()

    def unread(self) -> bytes:
        """What came after the last event: after a change of protocol it is the other protocol's."""
        return self.http.trailing_data[0]

    def close(self) -> None:
        self._forget()
        self.stream.close()

    def abort(self) -> None:
        self._forget()
        self.stream.abort()

    def _forget(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading.add_done_callback(_retrieved)
            self._reading = None


def _retrieved(reading: asyncio.Task[bytes]) -> None:
    if not reading.cancelled():
        reading.exception()
