"""Non-blocking ends of pipes and terminals on the event loop."""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from contextlib import suppress

READ_BYTES = 64 * 1024  # what a pipe holds by default


class PipeReader:
    """Delivers what arrives until the end; `pause` leaves it in the pipe, which is what slows the writer."""

    def __init__(self, fd: int, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._on_data = on_data
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._read)
        self._paused = False
        self.ended = False

    def pause(self) -> None:
        if not self.ended and not self._paused:
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        if not self.ended and self._paused:
            self._paused = False
            self._loop.add_reader(self._fd, self._read)

    def take_available(self) -> None:
        """What the pipe holds at this moment and no more, so that a writer who never stops cannot keep us here."""
        if self.ended:
            return
        count = available(self._fd)
        while count > 0 and not self.ended:
            count -= self._read(min(count, READ_BYTES)) or count

    def close(self) -> None:
        if not self.ended:
            self.ended = True
            self._loop.remove_reader(self._fd)
            os.close(self._fd)

    def _read(self, limit: int = READ_BYTES) -> int:
        try:
            data = os.read(self._fd, limit)
        except BlockingIOError:
            return 0
        except OSError:  # EIO: the last holder of a terminal's other side is gone
            data = b""
        if data:
            self._on_data(data)
        else:
            self.close()
            self._on_end()
        return len(data)


class PipeWriter:
    """Writes in order; a reader that does not read makes the caller wait."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.closed = False
        self._lock = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None

    async def write(self, data: bytes) -> None:
        async with self._lock:
            view = memoryview(data)
            while view:
                view = view[await self._write_some(view) :]

    def write_now(self, data: bytes) -> bool:
        """False: there is no room for it. To a reader that is gone it is a success."""
        try:
            return self.closed or os.write(self.fd, data) == len(data)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        asyncio.get_running_loop().remove_writer(self.fd)
        self._wake()
        os.close(self.fd)

    async def _write_some(self, view: memoryview) -> int:
        if self.closed:
            raise BrokenPipeError(32, "Broken pipe")
        with suppress(BlockingIOError):
            return os.write(self.fd, view)
        loop = asyncio.get_running_loop()
        self._room = loop.create_future()
        loop.add_writer(self.fd, self._wake)
        try:
            await self._room
        finally:
            if not self.closed:
                loop.remove_writer(self.fd)
        return 0

    def _wake(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


def available(fd: int) -> int:
    try:
        answer = fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0")
    except OSError:
        return 0
    count: int = struct.unpack("i", answer)[0]
    return count


def set_window(fd: int, cols: int, rows: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
