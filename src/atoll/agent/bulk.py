"""A body from a connection's socket into a file, by way of one buffer: past the transport and the parser's copies.

(A pipe and `splice` cost the same here: what an upload costs is the file system's work on each page.)
PID 1 has one thread, so it waits for nothing but readiness, and lets others have a turn after each mebibyte.
"""

from __future__ import annotations

import asyncio
import os
from types import TracebackType

BUFFER_BYTES = 256 * 1024  # about what a Unix socket holds
TURN_BYTES = 1024 * 1024  # a millisecond of writing
COST_OF_A_READ = 16 * 1024  # many small ones are as long as a big one


class Bulk:
    """On a descriptor of its own, because the event loop lets nobody else wait for one that a transport uses."""

    def __init__(self, connection: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = os.dup(connection)
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._without_turn = 0

    def __enter__(self) -> Bulk:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        os.close(self._source)

    async def read(self, limit: int) -> memoryview:
        """Some of what arrives, at least a byte; valid until the next call. EOFError: nothing will."""
        room = self._buffer[:limit]
        if self._without_turn > TURN_BYTES:
            self._without_turn = 0
            await asyncio.sleep(0)
        while True:
            try:
                count = os.readv(self._source, [room])
            except BlockingIOError:
                self._without_turn = 0
                await self._readable()
            else:
                if count == 0:
                    raise EOFError
                self._without_turn += count + COST_OF_A_READ
                return room[:count]

    async def _readable(self) -> None:
        ready = self._loop.create_future()
        self._loop.add_reader(self._source, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            self._loop.remove_reader(self._source)


def write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
