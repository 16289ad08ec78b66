"""One connection of a client that speaks HTTP/2: frames are the link's (h2_link.py), each request is a `Stream`.

The client is hostile: streams, heads, bytes that wait and requests that are taken back are counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from h2.errors import ErrorCodes
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes

from atoll.wire.http1 import Malformed
from atoll.wire.http2 import request_of, trailers_of

from .client import KEPT_S, LINGER_S, SILENCE_S, STALL_S, Gate, source_of
from .errand import Lease
from .h2_link import Allowance, Link
from .h2_stream import Stream

MAX_STREAMS = 128
HIGH_WATER = 512 * 1024
MAX_WAITING = 256 * 1024
"""Of answers, for the windows of all streams; what a read brings that is under way comes on top of it."""
LEAST_WAITING = 8 * 1024
RESETS, RESETS_PER_S = 200, 20
"""More than the streams that were answered meanwhile (CVE-2023-44487), whoever resets them (CVE-2025-8671)."""


class H2Client(Link):
    def __init__(self, gate: Gate) -> None:
        super().__init__(client_side=False, settings={SettingCodes.MAX_CONCURRENT_STREAMS: MAX_STREAMS})
        self.gate = gate
        self.source, self.scheme = b"unknown", b"http"
        self.lease: Lease | None = None
        self._streams: dict[int, Stream] = {}
        self._lingering: dict[int, asyncio.TimerHandle] = {}
        """Answered before they were sent whole: the rest is read for a while, and dropped."""
        self._resets = Allowance(self.moved_at, RESETS, RESETS_PER_S)
        self._leaves = False

    # ---- the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.source = source_of(self.transport)
        self.scheme = b"http" if self.transport.get_extra_info("sslcontext") is None else b"https"
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self.gate.crowd.joined(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.gate.crowd.left(self)
        self.gives_up("the connection broke")

    def eof_received(self) -> None:
        """Nobody is there any more: the transport closes."""

    def gives_up(self, why: str) -> None:
        streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            stream.was_reset()
        for handle in self._lingering.values():
            handle.cancel()
        self._lingering.clear()

    def goes(self, last_stream: int) -> None:
        """What it has asked for is still answered."""
        del last_stream  # of pushes, which there are none of
        self._leaves = True
        self._close_if_left()

    def _close_if_left(self) -> None:
        if self._leaves and not self._streams:
            self.flush()
            self.go_away(ErrorCodes.NO_ERROR, "it has left")

    def talk(self, number: int) -> Stream | None:
        return self._streams.get(number)

    def heard(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._begin(event)
            case DataReceived(stream_id=number):
                stream = self._streams.get(number)
                if stream is None:
                    self.acknowledge(number, event.flow_controlled_length)
                else:
                    self._tell(stream, lambda: stream.received(event.data, event.flow_controlled_length))
            case TrailersReceived(stream_id=number):
                self._ended(number, event)
            case StreamEnded(stream_id=number):
                self._ended(number, None)
            case StreamReset(stream_id=number):
                self._was_reset(number)

    def _begin(self, event: RequestReceived) -> None:
        ended = event.stream_ended is not None
        stream = self._streams[event.stream_id] = Stream(self, event.stream_id, ended)
        try:
            request = request_of(event.headers, ended)
        except Malformed as error:
            self.gate.malformed(stream, error)
            return
        stream.begin(request)

    def _ended(self, number: int, trailers: TrailersReceived | None) -> None:
        """Trailers come first, then the end as well."""
        self._linger_no_more(number)
        stream = self._streams.get(number)
        if stream is None or stream.has_ended:
            return
        self._tell(stream, lambda: stream.ended([] if trailers is None else trailers_of(trailers.headers)))

    def _tell(self, stream: Stream, what: Callable[[], None]) -> None:
        try:
            what()
        except Malformed:
            self._was_reset(stream.number)
            self.reset(stream.number, ErrorCodes.PROTOCOL_ERROR)

    def _was_reset(self, number: int) -> None:
        """By whomever."""
        self._linger_no_more(number)
        self.broke(number)
        if not self._resets.spend(1, self.moved_at):
            self.go_away(ErrorCodes.ENHANCE_YOUR_CALM, "too many requests that are taken back")
        self._close_if_left()

    def _linger_no_more(self, number: int) -> None:
        handle = self._lingering.pop(number, None)
        if handle is not None:
            handle.cancel()

    # ---- for streams

    def high_water(self) -> int:
        """Of an answer, waiting for the client's window."""
        return max(LEAST_WAITING, MAX_WAITING // max(1, len(self._streams)))

    def finished(self, number: int, told_all: bool) -> None:
        self._streams.pop(number, None)
        self._resets.earn(1)
        if not told_all:  # clients send all before they look
            loop = asyncio.get_running_loop()
            self._lingering[number] = loop.call_later(LINGER_S, self.reset, number, ErrorCodes.NO_ERROR)
        self._close_if_left()

    def reset(self, number: int, code: ErrorCodes = ErrorCodes.INTERNAL_ERROR) -> None:
        self._lingering.pop(number, None)
        self._streams.pop(number, None)
        self.send_reset(number, code)
        self._close_if_left()

    def broke(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.was_reset()

    # ---- time

    def sweep(self, now: float) -> None:
        """Ends what takes too long, and forgets what is no longer good."""
        if self.lease is not None and now > self.lease.ends_at:
            self.lease = None
        if not self._streams:
            if now - self.moved_at > KEPT_S and not self.transport.is_closing():
                self.go_away(ErrorCodes.NO_ERROR, "it asks for nothing")
            return
        for stream in list(self._streams.values()):
            if now - stream.moved_at > (STALL_S if stream.waits() else SILENCE_S):
                stream.was_reset()
                self.reset(stream.number)

    def waiting(self) -> int:
        """Bytes that are kept for a reader, outside or inside."""
        kept = self.transport.get_write_buffer_size() + self.unread()
        return kept + sum(each.waiting() for each in self._streams.values())

    def is_idle(self) -> bool:
        return not self._streams
