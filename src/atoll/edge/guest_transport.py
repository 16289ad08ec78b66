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

READ_AT_ONCE = 128 * 1024
HIGH_WATER = 256 * 1024
LOW_WATER = 64 * 1024
LINGER_S = 10.0  # what is written may still go out; a program that does not read holds the descriptor no longer
_NO_LINGER = struct.pack("ii", 0, 0)
_AGAIN = (BlockingIOError, InterruptedError)

OnLost = Callable[["GuestTransport"], None]


class GuestTransport(asyncio.Transport):
    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.Protocol,
        on_lost: OnLost = lambda transport: None,
    ) -> None:
        """Takes over the socket."""
        super().__init__({"socket": sock, "peername": sock.getpeername()})
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        self._on_lost = on_lost
        self._waiting: deque[memoryview] = deque()
        self._size = 0
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
            data = self._sock.recv(READ_AT_ONCE, socket.MSG_DONTWAIT)
        except _AGAIN:
            return
        except OSError as error:
            self._lose(error)
            return
        if data:
            self._protocol.data_received(data)
            return
        self.pause_reading()
        if not self._protocol.eof_received():
            self.close()

    # -- writing

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._closing or not data:
            return
        rest = memoryview(data).cast("B")
        if not self._waiting:
            rest = self._send(rest)
            if self._lost or not rest:
                return
            self._loop.add_writer(self._sock.fileno(), self._write_more)
        self._waiting.append(memoryview(bytes(rest)))  # the caller may use its buffer again
        self._size += len(rest)
        if self._size > HIGH_WATER and not self._protocol_paused:
            self._protocol_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        self.write(b"".join(list_of_data))

    def _send(self, data: memoryview[Any]) -> memoryview[Any]:
        """What is left of it."""
        try:
            return data[self._sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
        except _AGAIN:
            return data
        except OSError as error:
            self._lose(error)
            return data[:0]

    def _write_more(self) -> None:
        while self._waiting:
            before = self._waiting[0]
            rest = self._send(before)
            if self._lost:
                return
            self._size -= len(before) - len(rest)
            if rest:
                self._waiting[0] = rest
                break
            self._waiting.popleft()
        if self._protocol_paused and self._size <= LOW_WATER:
            self._protocol_paused = False
            self._protocol.resume_writing()
        if not self._waiting:
            self._loop.remove_writer(self._sock.fileno())
            if self._closing:
                self._lose(None)

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

    def break_off(self) -> None:
        """As if the sandbox had reset the connection."""
        self._lose(ConnectionResetError("the sandbox has gone"))

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
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol
