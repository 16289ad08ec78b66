"""An asyncio transport over a TCP socket that a sandbox handed out.

The loop's own transports rely on O_NONBLOCK, which belongs to the open socket and not to our descriptor: a sandbox
that keeps a copy could clear it, fill the queue, and so stop the whole edge in one `write`. Here every call says
MSG_DONTWAIT itself. For the same reason SO_LINGER is switched off right before `close`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

READ_FIRST = 16 * 1024
READ_AT_ONCE = 128 * 1024
"""After a read that was full. Room of that size comes from the kernel each time, which a short answer would pay for."""
HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024
PIECE = 16 * 1024
LINGER_S = 10.0  # what is written may still go out; a program that does not read holds the descriptor no longer
_NO_LINGER = struct.pack("ii", 0, 0)
_DONTWAIT = int(socket.MSG_DONTWAIT)  # numbers: the library's flags take longer than the call that they are for
_SEND = int(socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
_AGAIN = (BlockingIOError, InterruptedError)

OnLost = Callable[["GuestTransport"], None]


class GuestTransport(asyncio.Transport):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.Protocol | asyncio.BufferedProtocol,
        on_lost: OnLost = lambda transport: None,
    ) -> None:
        """Takes over the socket."""
        super().__init__({"socket": sock, "peername": sock.getpeername(), "guest": True})
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        self._on_lost = on_lost
        self._waiting: deque[memoryview] = deque()
        self._size = 0
        self._room = READ_FIRST
        self._high, self._low = HIGH_WATER, LOW_WATER
        self._closing = False
        self._lost = False
        self._reading = False
        self._protocol_paused = False
        protocol.connection_made(self)
        self.resume_reading()

    # -- reading

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())

    def resume_reading(self) -> None:
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.add_reader(self._sock.fileno(), self._read)

    def is_reading(self) -> bool:
        return self._reading

    def _read(self) -> None:
        try:
            there = self._read_some(self._protocol)
        except _AGAIN:
            return
        except OSError as error:
            self._lose(error)
            return
        if there:
            return
        self.pause_reading()
        if not self._protocol.eof_received():
            self.close()

    def _read_some(self, protocol: asyncio.Protocol | asyncio.BufferedProtocol) -> bool:
        """False: the other side sends nothing more."""
        if isinstance(protocol, asyncio.BufferedProtocol):  # asyncio's TLS
            count = self._sock.recv_into(protocol.get_buffer(READ_AT_ONCE), 0, _DONTWAIT)
            if count:
                protocol.buffer_updated(count)
            return bool(count)
        data = self._sock.recv(self._room, _DONTWAIT)
        self._room = READ_AT_ONCE if len(data) == self._room else READ_FIRST
        if data:
            protocol.data_received(data)
        return bool(data)

    # -- writing

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing or not data:
            return
        whole = data if isinstance(data, bytes) else memoryview(data).cast("B")
        sent = 0
        if not self._waiting:
            sent = self._send(whole)
            if self._lost or sent == len(whole):
                return
            self._loop.add_writer(self._sock.fileno(), self._write_more)
        self._keep(whole[sent:])
        if self._size > self._high and not self._protocol_paused:
            self._protocol_paused = True
            self._protocol.pause_writing()

    def _keep(self, rest: bytes | memoryview[Any]) -> None:
        """A copy: the caller may use its buffer again. Small ones become one, since each costs some hundred bytes."""
        self._size += len(rest)
        if self._waiting and len(self._waiting[-1]) + len(rest) <= PIECE:
            self._waiting[-1] = memoryview(b"".join((self._waiting[-1], rest)))
        else:
            self._waiting.append(memoryview(bytes(rest)))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self.write(b"".join(list_of_data))

    def _send(self, data: bytes | memoryview[Any]) -> int:
        """How much of it is sent."""
        try:
            return self._sock.send(data, _SEND)
        except _AGAIN:
            return 0
        except OSError as error:
            self._lose(error)
            return 0

    def _write_more(self) -> None:
        while self._waiting:
            before = self._waiting[0]
            sent = self._send(before)
            if self._lost:
                return
            self._size -= sent
            if sent < len(before):
                self._waiting[0] = before[sent:]
                break
            self._waiting.popleft()
        if self._protocol_paused and self._size <= self._low:
            self._protocol_paused = False
            self._protocol.resume_writing()
        if not self._waiting:
            self._loop.remove_writer(self._sock.fileno())
            if self._closing:
                self._lose(None)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return self._size

    def can_write_eof(self) -> bool:
        return False

    # -- ending

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """What is written already still goes out."""
        if self._closing:
            return
        self.pause_reading()
        self._closing = True
        if self._waiting:
            self._loop.call_later(LINGER_S, self.abort)
        else:
            self._lose(None)

    def abort(self) -> None:
        self._lose(None)

    def _force_close(self, error: Exception | None) -> None:
        """As asyncio's TLS calls it."""
        self._lose(error)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self.pause_reading()
        if self._waiting:
            self._loop.remove_writer(self._sock.fileno())
        self._waiting.clear()
        self._size = 0
        self._closing = self._lost = True
        self._loop.call_soon(self._finish, error)

    def _finish(self, error: Exception | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            with suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            self._sock.close()
            self._on_lost(self)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol
