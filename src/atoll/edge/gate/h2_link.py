"""A connection of HTTP/2, whichever end of it is ours: frames are read one at a time and some in a turn of the loop, so
that nobody's flood of them is another's silence; what only costs work is counted; what is to be sent goes out once a
turn, as far as windows and the transport allow.

The other side is hostile. The library hears one frame after the other and never of a stream's end before we do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Protocol, cast

from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.events import Event, RemoteSettingsChanged, WindowUpdated
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from atoll.wire.http1 import Field, Malformed
from atoll.wire.http2 import MAX_HEAD, Frame, Frames, Kind

log = logging.getLogger("atoll.edge.h2")

WINDOW = 256 * 1024
"""Of a stream: what a reader that does not read lets pile up."""
CONNECTION_WINDOW = 2 * 1024 * 1024
MAX_IN_TRANSPORT = 4 * 1024 * 1024
"""Of frames that answer frames: who asks for more and reads nothing is no reader."""
FRAMES_IN_A_TURN = 64
PART = 64 * 1024
"""Of a body in one frame, and of bytes in one write."""
IDLE_FRAMES = 2000
"""In a second, that carry nothing: pings, priorities, windows, resets, empty frames."""
COSTS = {Kind.SETTINGS: 20, Kind.HEADERS: 0}
"""In such frames; each setting concerns all streams."""
EARNED_BY = 1024
"""Bytes of a body that we send: windows are opened for them."""
MAX_TABLE = 4096
"""Of fields that we remember having sent: each is compared with each that is sent."""
MAX_TABLE_CHANGES = 32
CLOSING_S = 5.0
"""For the other side to take our last words."""


class _Library(H2Connection):
    MAX_CLOSED_STREAMS = 4096


class Talk(Protocol):
    """One request and its answer."""

    def pump(self) -> None:
        """Sends what can be sent."""
        ...


class Allowance:
    """For frames that carry nothing."""

    def __init__(self, now: float, most: float, per_s: float) -> None:
        self._left = self._most = most
        self._per_s = per_s
        self._at = now

    def spend(self, cost: float, now: float) -> bool:
        """False: there is no more."""
        self.earn(self._per_s * (now - self._at))
        self._at = now
        self._left -= cost
        return self._left >= 0

    def earn(self, gain: float) -> None:
        self._left = min(self._most, self._left + gain)


class Link(asyncio.Protocol):
    def __init__(self, client_side: bool, settings: Mapping[SettingCodes, int]) -> None:
        self.transport: asyncio.Transport
        self.moved_at = time.monotonic()
        self.conn = _Library(H2Configuration(client_side=client_side, header_encoding=None))
        self.conn.local_settings = Settings(
            client=client_side,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEAD,
                **settings,
            },
        )
        self._frames = Frames(from_client=not client_side)
        self._allowance = Allowance(self.moved_at, IDLE_FRAMES, IDLE_FRAMES)
        self._paused = self._reading_on = False
        self._due: dict[int, None] = {}
        """Streams with something to send."""
        self._starved: dict[int, None] = {}
        """Those that wait for the connection's window; the longest first."""
        self._turn: asyncio.Handle | None = None
        self._unsent = 0

    # ---- for those who know what a stream is

    def talk(self, number: int) -> Talk | None:
        raise NotImplementedError

    def heard(self, event: Event) -> None:
        raise NotImplementedError

    def goes(self, last_stream: int) -> None:
        """The other side has said GOAWAY."""
        raise NotImplementedError

    def gives_up(self, why: str) -> None:
        """Nothing more can be said or heard."""
        raise NotImplementedError

    def broke(self, number: int) -> None:
        """What was to be sent cannot be; the stream is over."""
        raise NotImplementedError

    # ---- the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.conn.initiate_connection()
        self.conn.increment_flow_control_window(CONNECTION_WINDOW - 65535)
        self.flush()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._soon()

    def data_received(self, data: bytes) -> None:
        self.moved_at = time.monotonic()
        self._frames.feed(data)
        if not self._reading_on:
            self._read()

    def _read(self) -> None:
        self._reading_on = False
        for _ in range(FRAMES_IN_A_TURN):
            if self.transport.is_closing():
                return
            try:
                frame = self._frames.next()
            except Malformed as error:
                self.go_away(ErrorCodes.PROTOCOL_ERROR, error.why)
                return
            if frame is None:
                self.flush()
                self.transport.resume_reading()
                return
            self._hear(frame)
        self.flush()
        self._reading_on = True
        self.transport.pause_reading()  # others have their turn
        asyncio.get_running_loop().call_soon(self._read)

    def _hear(self, frame: Frame) -> None:
        if not self._allowance.spend(_cost(frame), self.moved_at):
            self.go_away(ErrorCodes.ENHANCE_YOUR_CALM, "too many frames that carry nothing")
        elif frame.kind == Kind.GOAWAY:  # after which the library would say and hear nothing more
            self.goes(frame.last_stream)
        else:
            self._to_library(frame)

    def _to_library(self, frame: Frame) -> None:
        try:
            events = self.conn.receive_data(frame.raw)
        except Exception as error:  # not only its own errors are raised for what it does not understand
            log.debug("a connection of HTTP/2 ends: %r", error)
            self.go_away(ErrorCodes.PROTOCOL_ERROR, "it breaks the rules of HTTP/2")
            return
        if frame.kind == Kind.DATA and not events:  # for a stream that is over; the library answers each
            self._allowance.spend(1, self.moved_at)
        for event in events:
            if isinstance(event, RemoteSettingsChanged):
                self._settings_changed(event)
            elif isinstance(event, WindowUpdated):
                if event.stream_id:
                    self.due(event.stream_id)
                self._soon()
            else:
                self.heard(event)
        if self.transport.get_write_buffer_size() > MAX_IN_TRANSPORT:
            self.go_away(ErrorCodes.ENHANCE_YOUR_CALM, "it does not read")

    def _settings_changed(self, event: RemoteSettingsChanged) -> None:
        encoder = self.conn.encoder
        if encoder.header_table_size > MAX_TABLE:
            encoder.header_table_size = MAX_TABLE
        if len(encoder.table_size_changes) > MAX_TABLE_CHANGES:
            self.go_away(ErrorCodes.ENHANCE_YOUR_CALM, "too many changes of a setting")
        if SettingCodes.INITIAL_WINDOW_SIZE in event.changed_settings:
            for number in list(self.conn.streams):
                self.due(number)

    def go_away(self, code: ErrorCodes, why: str) -> None:
        """What the library has to say of it is said; then nothing more."""
        if self.conn.state_machine.state is not ConnectionState.CLOSED:
            with suppress(ProtocolError):
                self.conn.close_connection(code)
        self.flush()
        self.transport.close()
        asyncio.get_running_loop().call_later(CLOSING_S, self.transport.abort)  # a close waits for who does not read
        self.gives_up(why)

    def unread(self) -> int:
        return len(self._frames)

    # ---- what is sent

    def due(self, number: int) -> None:
        self._due[number] = None
        self._soon()

    def _soon(self) -> None:
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._turn = None
        due, self._due = self._due, {}
        for number in due:
            if self._paused:
                self._due[number] = None
            elif (talk := self.talk(number)) is not None:
                talk.pump()
        while self._starved and not self._paused and self.conn.outbound_flow_control_window > 0:
            number = next(iter(self._starved))
            del self._starved[number]
            if (talk := self.talk(number)) is not None:
                talk.pump()
        self.flush()

    def flush(self) -> None:
        self._unsent = 0
        data = self.conn.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def send_headers(self, number: int, fields: Iterable[Field], end: bool) -> bool:
        """False: the stream is over."""
        try:
            self.conn.send_headers(number, [(name.lower(), value) for name, value in fields], end_stream=end)
        except ProtocolError as error:
            self._broke(number, error)
            return False
        self._soon()
        return True

    def send_data(self, number: int, data: bytearray) -> int:
        """How much of it went."""
        sent = 0
        try:
            while sent < len(data) and not self._paused:
                room = min(self.conn.local_flow_control_window(number), self.conn.max_outbound_frame_size, PART)
                if room <= 0:
                    if self.conn.outbound_flow_control_window <= 0:
                        self._starved[number] = None
                    break
                part = bytes(data[sent : sent + room])
                self.conn.send_data(number, part)
                self._allowance.earn(len(part) / EARNED_BY)
                sent += len(part)
                self._unsent += len(part)
                if self._unsent >= PART:
                    self.flush()
        except ProtocolError as error:
            self._broke(number, error)
        if sent < len(data) and self._paused:
            self._due[number] = None
        return sent

    def send_end(self, number: int, trailers: list[Field]) -> bool:
        if trailers:
            return self.send_headers(number, trailers, end=True)
        try:
            self.conn.end_stream(number)
        except ProtocolError as error:
            self._broke(number, error)
            return False
        self._soon()
        return True

    def _broke(self, number: int, error: ProtocolError) -> None:
        log.debug("a stream of HTTP/2 ends: %r", error)
        self.send_reset(number, ErrorCodes.INTERNAL_ERROR)
        self.broke(number)

    def send_reset(self, number: int, code: ErrorCodes) -> None:
        stream = self.conn.streams.get(number)
        if stream is not None and not stream.closed:
            with suppress(ProtocolError):  # the connection is over
                self.conn.reset_stream(number, code)
            self._soon()

    def acknowledge(self, number: int, count: int) -> None:
        """So much of what came on it waits no longer."""
        if count:
            with suppress(ProtocolError):  # the connection is over
                self.conn.acknowledge_received_data(count, number)
            self._soon()


def _cost(frame: Frame) -> int:
    if frame.kind == Kind.DATA:
        return 0 if frame.length else 1
    return COSTS.get(Kind(frame.kind), 1) if frame.kind <= Kind.CONTINUATION else 1
