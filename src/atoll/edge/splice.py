"""From one socket to another by way of a pipe: within the kernel, without a copy in this process."""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import suppress
from types import TracebackType

PIPE_BYTES = 256 * 1024  # about what a Unix socket holds; a user may have 64 MiB in pipes
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Pipe:
    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with suppress(OSError):  # beyond the user's share of pipe memory they stay small
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._held = 0

    def __enter__(self) -> Pipe:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._in)
        os.close(self._out)

    async def fill(self, source: int, limit: int) -> int:
        """The pipe is empty before. 0: the source has ended."""
        while True:
            try:
                self._held = os.splice(source, self._in, min(limit, PIPE_BYTES), flags=_FLAGS)
            except BlockingIOError:
                await readable(source)
            else:
                return self._held

    async def drain(self, target: int) -> None:
        while self._held:
            try:
                self._held -= os.splice(self._out, target, self._held, flags=_FLAGS)
            except BlockingIOError:
                await writable(target)


async def readable(fd: int) -> None:
    """Of a descriptor that no transport uses: the event loop lets nobody else wait for those."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(fd, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_writer(fd, _set, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
