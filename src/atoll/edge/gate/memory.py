"""A connection to the API and the agents' surface without a socket: what one end writes the other has read."""

from __future__ import annotations

import asyncio
from typing import Any

from atoll.edge.routing import Target

from .surfaces import Handler, Surfaces
from .upstream import Upstream


class _End(asyncio.Transport):
    """Of `peer`, what is written goes to; of `own`, it is told when the connection ends."""

    def __init__(self, own: asyncio.Protocol, peer: asyncio.Protocol, outer: asyncio.Transport, source: bytes) -> None:
        super().__init__()
        self._own, self._peer = own, peer
        self._outer, self._source = outer, source.decode("latin-1")
        self.other: _End
        self._closed = self._held = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # Any: as asyncio has it
        return (self._source, 0) if name == "peername" else self._outer.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._closed and data:
            self._peer.data_received(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def pause_reading(self) -> None:
        if not self._closed and not self._held:
            self._held = True
            self._peer.pause_writing()

    def resume_reading(self) -> None:
        if not self._closed and self._held:
            self._held = False
            self._peer.resume_writing()

    def is_closing(self) -> bool:
        return self._closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever kept here."""

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        if self._closed:
            return
        self._closed = self.other._closed = True
        loop = asyncio.get_running_loop()
        loop.call_soon(self._peer.connection_lost, None)
        loop.call_soon(self._own.connection_lost, None)

    abort = close


def connect_surface(surfaces: Surfaces, target: Target, outer: asyncio.Transport, source: bytes) -> Upstream:
    """For one request."""
    handler: Handler = surfaces()
    handler.target = target
    upstream = Upstream(lambda done: done.transport.close())
    inner, ours = _End(handler, upstream, outer, source), _End(upstream, handler, outer, source)
    inner.other, ours.other = ours, inner
    upstream.connection_made(ours)
    handler.connection_made(inner)
    return upstream
