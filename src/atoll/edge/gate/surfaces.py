"""The API and the agents' surface, which aiohttp serves, behind the same gate as everything else.

For a request of theirs the gate gives the head and the body to aiohttp's handler of the connection, as bytes that the
gate has already found to be well-formed; what the handler writes goes straight to the client. When its answer is out
the connection is the gate's again. One that has changed its protocol stays the handler's to the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from atoll.edge.routing import Target, Unknown


class InnerTransport(asyncio.Transport):
    """The client's, as the handler sees it: to close it and to hold it back is asked of the gate."""

    def __init__(
        self,
        outer: asyncio.Transport,
        source: bytes,
        on_close: Callable[[], None],
        on_full: Callable[[bool], None],
        on_write: Callable[[], None],
    ) -> None:
        super().__init__()
        self._outer = outer
        self._source = source.decode("latin-1")
        self._on_close = on_close
        self._on_full = on_full
        self._on_write = on_write
        self._closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # Any: as asyncio has it
        if name == "peername":
            return (self._source, 0)
        return self._outer.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._closed:
            self._on_write()
            self._outer.write(data)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def pause_reading(self) -> None:
        self._on_full(True)

    def resume_reading(self) -> None:
        self._on_full(False)

    def is_closing(self) -> bool:
        return self._closed or self._outer.is_closing()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._on_close()

    def abort(self) -> None:
        self._closed = True
        self._outer.abort()

    def get_write_buffer_size(self) -> int:
        return self._outer.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._outer.set_write_buffer_limits(high, low)

    def can_write_eof(self) -> bool:
        return False


class Handler(RequestHandler):
    """aiohttp's, which is told what its request is for and says when an answer is out."""

    __slots__ = ("on_answered", "on_sent", "target")

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.target: Target = Unknown()
        self.on_answered: Callable[[bool], None] = lambda keep: None
        self.on_sent: Callable[[int, int], None] | None = None
        """Told the status and the size of the answer's body; for one answer."""

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        finished = await super().finish_response(request, resp, start_time)
        if self.on_sent is not None:
            self.on_sent(finished[0].status, finished[0].body_length)
            self.on_sent = None
        self.on_answered(bool(finished[0].keep_alive) and not finished[1])
        return finished

    def log_exception(self, *given: Any, **named: Any) -> None:
        """A head that aiohttp takes amiss, as a field that is too long, is answered; anybody could fill our log so."""
        if not isinstance(named.get("exc_info"), HttpProcessingError):
            super().log_exception(*given, **named)


class Surfaces(web.Server):
    def __call__(self) -> Handler:
        return Handler(self, loop=self._loop, **self._kwargs)
