"""Connections to servers in a sandbox that speak HTTP/2 without TLS, as gRPC's do: one carries many calls.

The program is hostile: its heads are held to the same rules as a client's, what waits is bounded by windows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error

from atoll.wire.http1 import Answer, Field, Malformed
from atoll.wire.http2 import CONNECTION, answer_of, trailers_of

from .h2_link import Link

MAX_CALLS = 100
"""Of one connection, also when the server allows more."""
MAX_CALLS_EVER = 1_000_000
MAX_PRELIMINARY = 16
HIGH_WATER = 256 * 1024
"""Of a call's messages, waiting for the server's window."""
LOW_WATER = 64 * 1024
IDLE_S = 4.0
_GRPC = b"application/grpc"


def is_grpc(fields: list[Field]) -> bool:
    """Not gRPC-Web: that is for HTTP/1.1 as well."""
    return any(name.lower() == b"content-type" and _is_grpc_type(value.lower()) for name, value in fields)


def _is_grpc_type(value: bytes) -> bool:
    return value.startswith(_GRPC) and value[len(_GRPC) :][:1] in (b"", b"+", b";", b" ")


class Caller(Protocol):
    def preliminary(self, answer: Answer) -> None: ...

    def answered(self, answer: Answer, first: bytes) -> None: ...

    def carried(self, data: bytes) -> None: ...

    def ended_with(self, trailers: list[Field]) -> None: ...

    def failed(self, why: str, begun: bool) -> None: ...

    def inward_full(self, full: bool) -> None: ...


class Call:
    """One request; used as an `Upstream` is."""

    fresh = True

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.number = 0
        self._caller: Caller | None = None
        self._waiting = bytearray()
        self._ending: list[Field] | None = None
        self._full = self._held = self._begun = self._said_all = False
        self._unacknowledged = 0
        self._preliminaries = 0

    def begin(self, caller: Caller, method: bytes, target: bytes, scheme: bytes, fields: list[Field]) -> None:
        self._caller = caller
        host = next(value for name, value in fields if name == b"Host")
        head = [(b":method", method), (b":scheme", scheme), (b":authority", host), (b":path", target)]
        head += [
            (name.lower(), value)
            for name, value in fields
            if name.lower() not in CONNECTION and name.lower() not in (b"host", b"te", b"expect")
        ]
        head.append((b"te", b"trailers"))
        self.number = self._connection.open(self, head)

    def send(self, data: bytes) -> None:
        self._waiting += data
        self._connection.due(self.number)
        self._tell_full()

    def end(self, trailers: list[Field]) -> None:
        self._ending = trailers
        self._connection.due(self.number)

    def pump(self) -> None:
        """As much as the server's window takes."""
        if self._said_all or not self.number:
            return
        del self._waiting[: self._connection.send_data(self.number, self._waiting)]
        if self._ending is not None and not self._waiting:
            self._said_all = True
            self._connection.send_end(self.number, self._ending)
        self._tell_full()

    def _tell_full(self) -> None:
        full = len(self._waiting) > (LOW_WATER if self._full else HIGH_WATER)
        if full != self._full:
            self._full = full
            if self._caller is not None:
                self._caller.inward_full(full)

    def leave(self) -> None:
        self._caller = None
        self._acknowledge()
        self._connection.drop(self.number)

    def waiting(self) -> int:
        return len(self._waiting)

    def hold(self, hold: bool) -> None:
        """What its reader has not taken is not asked for anew."""
        self._held = hold
        if not hold:
            self._acknowledge()

    def _acknowledge(self) -> None:
        count, self._unacknowledged = self._unacknowledged, 0
        self._connection.acknowledge(self.number, count)

    # ---- what the server says

    def heard(self, event: Event) -> None:
        caller = self._caller
        if caller is None:
            return
        match event:
            case InformationalResponseReceived():
                self._preliminaries += 1
                if self._preliminaries > MAX_PRELIMINARY:
                    raise Malformed("too many preliminary answers")
                caller.preliminary(answer_of(event.headers))
            case ResponseReceived():
                answer = answer_of(event.headers)
                self._begun = True
                caller.answered(answer, b"")
            case DataReceived():
                self._unacknowledged += event.flow_controlled_length
                caller.carried(event.data)
                if not self._held:
                    self._acknowledge()
            case TrailersReceived():
                self._finish(trailers_of(event.headers))
            case StreamEnded():
                self._finish([])

    def _finish(self, trailers: list[Field]) -> None:
        caller, self._caller = self._caller, None
        self._acknowledge()
        self._connection.drop(self.number)
        if caller is not None:
            caller.ended_with(trailers)

    def failed(self, why: str) -> None:
        caller, self._caller = self._caller, None
        self._acknowledge()
        if caller is not None:
            caller.failed(why, self._begun)


class Connection(Link):
    """The transport is a `GuestTransport`."""

    def __init__(self, on_lost: Callable[[Connection], None]) -> None:
        super().__init__(client_side=True, settings={})
        self._on_lost = on_lost
        self._calls: dict[int, Call] = {}
        self._going = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._await_calls()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.gives_up("the connection broke")
        self._on_lost(self)

    def eof_received(self) -> None:
        """Calls that are open end with the transport."""

    def gives_up(self, why: str) -> None:
        self._going = True
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            call.failed(why)

    def goes(self, last_stream: int) -> None:
        """It finishes what it has begun."""
        self._going = True
        for number in [each for each in self._calls if each > last_stream]:
            self._calls.pop(number).failed("it takes no more calls")
        if not self._calls:
            self._await_calls()

    def has_room(self) -> bool:
        limit = min(MAX_CALLS, self.conn.remote_settings.max_concurrent_streams)
        spent = self.conn.highest_outbound_stream_id > 2 * MAX_CALLS_EVER
        return not self._going and not spent and not self.transport.is_closing() and len(self._calls) < limit

    def talk(self, number: int) -> Call | None:
        return self._calls.get(number)

    def heard(self, event: Event) -> None:
        number = getattr(event, "stream_id", 0)
        call = self._calls.get(number)
        if call is None:
            if isinstance(event, DataReceived):
                self.acknowledge(number, event.flow_controlled_length)
            return
        if isinstance(event, StreamReset):
            self.broke(number)
            return
        try:
            call.heard(event)
        except Malformed as error:
            self.drop(number)
            call.failed(error.why)

    # ---- for calls

    def open(self, call: Call, head: list[Field]) -> int:
        """0: it cannot be, and the call has failed."""
        try:
            number: int = self.conn.get_next_available_stream_id()
            self.conn.send_headers(number, head)
        except H2Error as error:
            call.failed(f"it takes no more calls: {error}")
            return 0
        self._calls[number] = call
        self.flush()
        if self.transport.is_closing():  # that it is lost was perhaps told already
            asyncio.get_running_loop().call_soon(self.gives_up, "the connection broke")
        return number

    def drop(self, number: int) -> None:
        """Nobody waits for more."""
        if number in self._calls:
            self.send_reset(number, ErrorCodes.CANCEL)
            self._forget(number)

    def broke(self, number: int) -> None:
        call = self._calls.get(number)
        if call is not None:
            self._forget(number)
            call.failed("it reset the call")

    def _forget(self, number: int) -> None:
        del self._calls[number]
        if not self._calls:
            self._await_calls()

    def _await_calls(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(IDLE_S, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if not self._calls:
            self._going = True
            self.transport.close()
