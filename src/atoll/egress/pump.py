"""Bytes from one socket to another without passing through Python: one thread, edge-triggered epoll, `splice`.

A *way* is one direction of a connection, to its end or for so many bytes. The event loop begins ways and is told when
they are over; while a way is on, both its sockets are the pump's to use and nobody's to close. The first bytes are
copied (peeked at, sent, and only then taken, so that what the other side does not accept stays where it is), and who
has many gets a pipe. There are not many: an empty one is taken from the way that has rested with it longest when
somebody else needs it, nobody holds more than a part of the free ones, and without one copying goes on, just slower.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum, auto

from .shares import Places

log = logging.getLogger(__name__)

PIPES, PIPE_SIZE = 48, 1024 * 1024
"""All of them are below `fs.pipe-user-pages-soft`; a MiB each is what makes `splice` as fast as forwarding."""
PIPES_OF_ONE, PIPES_PART = 16, 3
COPIED = 64 * 1024
TURN = 4 * 1024 * 1024
"""How much one way moves before the next one has its turn."""
MAX_EVENTS = 1024
BOTH_WAYS = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
READABLE = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
MOVE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
WAKE = -1


class End(Enum):
    EOF = auto()
    """The source has ended, and the target was told."""
    COUNT = auto()
    """So many bytes were moved."""
    FAILED = auto()
    """One of the two is broken."""
    RELEASED = auto()


class Pipe:
    def __init__(self) -> None:
        self.out, self.into = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # beyond what users may have it stays small
            fcntl.fcntl(self.into, fcntl.F_SETPIPE_SZ, PIPE_SIZE)

    def empty(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self.out, PIPE_SIZE):
                pass

    def close(self) -> None:
        os.close(self.out)
        os.close(self.into)


class Pipes:
    """Made while there is still the right to have large ones."""

    def __init__(self, number: int = PIPES) -> None:
        self._free = [Pipe() for _ in range(number)]
        self._places = Places(number, PIPES_OF_ONE, PIPES_PART)

    def take(self, owner: str) -> Pipe | None:
        return self._free.pop() if self._places.take(owner) else None

    def give_back(self, owner: str, pipe: Pipe) -> None:
        self._places.give_back(owner)
        self._free.append(pipe)

    def close(self) -> None:
        while self._free:
            self._free.pop().close()


class Way:
    __slots__ = ("bytes", "end", "held", "left", "many", "moved_at", "over", "owner", "pipe", "source", "target")

    def __init__(self, source: socket.socket, target: socket.socket, owner: str, count: int | None, now: float) -> None:
        self.source, self.target = source, target
        self.owner = owner
        self.left = count
        """None: to the end."""
        self.bytes = 0
        """That the target's kernel has taken."""
        self.moved_at = now
        self.end: End | None = None
        self.over: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.pipe: Pipe | None = None
        self.held = 0
        """In the pipe."""
        self.many = False


class Pump:
    def __init__(self, pipes: Pipes) -> None:
        self._loop = asyncio.get_running_loop()
        self._pipes = pipes
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._orders: deque[Callable[[], None]] = deque()
        self._reading: dict[int, Way] = {}
        self._writing: dict[int, Way] = {}
        self._ready: dict[Way, None] = {}
        self._resting: dict[Way, None] = {}
        """With an empty pipe, longest first."""
        self._told: list[Way] = []
        self._scratch = bytearray(COPIED)
        self._now = time.monotonic()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="egress-pump", daemon=True)
        self._thread.start()

    # ---- from the event loop

    def carry(self, source: socket.socket, target: socket.socket, owner: str, count: int | None = None) -> Way:
        """Its `over` is done with it. At the end of the source the target is shut down for writing."""
        way = Way(source, target, owner, count, time.monotonic())
        self._order(lambda: self._begin(way))
        return way

    async def release(self, ways: Iterable[Way]) -> None:
        """When it returns none of them is touched any more; their `over` is done."""
        living = [way for way in ways if way.end is None]
        if not living:
            return
        released: asyncio.Future[None] = self._loop.create_future()
        self._order(lambda: self._release(living, released))
        await asyncio.shield(released)

    async def close(self) -> None:
        """After all ways are over."""
        self._order(self._stop)
        await asyncio.to_thread(self._thread.join)
        self._epoll.close()
        os.close(self._wake)
        self._pipes.close()

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        os.eventfd_write(self._wake, 1)

    # ---- in the thread

    def _run(self) -> None:
        while not self._stopping:
            events = self._epoll.poll(0 if self._ready else WAKE, MAX_EVENTS)
            self._now = time.monotonic()
            for fd, event in events:
                if fd == self._wake:
                    os.eventfd_read(fd)
                else:
                    self._noticed(fd, event)
            while self._orders:
                self._orders.popleft()()
            for way in list(self._ready):
                if way.end is None:
                    self._advance(way)
            if self._told:
                told, self._told = self._told, []
                self._loop.call_soon_threadsafe(_tell, told)

    def _noticed(self, fd: int, event: int) -> None:
        reading, writing = self._reading.get(fd), self._writing.get(fd)
        if event & select.EPOLLERR:
            # Who has nothing to say would not notice it; and what was still to be read is not worth having.
            for way in (reading, writing):
                if way is not None:
                    self._finish(way, End.FAILED)
            return
        if reading is not None and event & READABLE:
            self._ready[reading] = None
        if writing is not None and event & WRITABLE:
            self._ready[writing] = None

    def _begin(self, way: Way) -> None:
        source, target = way.source.fileno(), way.target.fileno()
        try:
            for fd in (source, target):
                if fd not in self._reading and fd not in self._writing:
                    self._epoll.register(fd, BOTH_WAYS)
        except OSError as error:
            log.warning("a connection cannot be carried: %s", error)
            self._finish(way, End.FAILED)
            return
        self._reading[source] = self._writing[target] = way
        self._ready[way] = None

    def _release(self, ways: list[Way], released: asyncio.Future[None]) -> None:
        for way in ways:
            if way.end is None:
                self._finish(way, End.RELEASED)
        self._loop.call_soon_threadsafe(_released, self._told, released)
        self._told = []

    def _stop(self) -> None:
        self._stopping = True

    def _advance(self, way: Way) -> None:
        try:
            end = self._move(way)
        except OSError:
            end = End.FAILED
        except Exception:
            log.exception("a connection is not carried any further")
            end = End.FAILED
        if end is not None:
            self._finish(way, end)

    def _move(self, way: Way) -> End | None:
        """None: it goes on, now (it stays in `ready`) or when there is something to do."""
        moved = way.bytes
        self._resting.pop(way, None)
        try:
            while way.bytes - moved < TURN:
                if way.held:
                    assert way.pipe is not None
                    self._sent(way, os.splice(way.pipe.out, way.target.fileno(), way.held, flags=MOVE), held=True)
                    continue
                wanted = PIPE_SIZE if way.left is None else min(way.left, PIPE_SIZE)
                if not wanted:
                    return End.COUNT
                if way.many and way.pipe is None:
                    way.pipe = self._take_pipe(way.owner)
                taken = self._splice(way, wanted) if way.pipe is not None else self._copy(way, min(wanted, COPIED))
                if not taken:
                    with contextlib.suppress(OSError):  # it has left altogether
                        way.target.shutdown(socket.SHUT_WR)
                    return End.EOF
        except BlockingIOError:
            self._ready.pop(way, None)
            if way.pipe is not None and not way.held:
                self._resting[way] = None
        return None

    def _take_pipe(self, owner: str) -> Pipe | None:
        pipe = self._pipes.take(owner)
        while pipe is None and self._resting:
            self._put_away(next(iter(self._resting)))
            pipe = self._pipes.take(owner)
        return pipe

    def _splice(self, way: Way, wanted: int) -> int:
        assert way.pipe is not None
        way.held = os.splice(way.source.fileno(), way.pipe.into, wanted, flags=MOVE)
        if way.left is not None:
            way.left -= way.held
        return way.held

    def _copy(self, way: Way, wanted: int) -> int:
        """What the target does not take stays in the source."""
        view = memoryview(self._scratch)
        taken = way.source.recv_into(view, wanted, socket.MSG_PEEK)
        if taken:
            way.many = taken == COPIED
            sent = way.target.send(view[:taken])
            way.source.recv_into(view, sent)
            if way.left is not None:
                way.left -= sent
            self._sent(way, sent)
        return taken

    def _sent(self, way: Way, count: int, held: bool = False) -> None:
        way.bytes += count
        way.moved_at = self._now
        if held:
            way.held -= count

    def _put_away(self, way: Way) -> None:
        self._resting.pop(way, None)
        if way.pipe is None:
            return
        if way.held:
            way.pipe.empty()
            way.held = 0
        self._pipes.give_back(way.owner, way.pipe)
        way.pipe, way.many = None, False

    def _finish(self, way: Way, end: End) -> None:
        way.end = end
        self._ready.pop(way, None)
        self._put_away(way)
        source, target = way.source.fileno(), way.target.fileno()
        if self._reading.get(source) is way:
            del self._reading[source]
        if self._writing.get(target) is way:
            del self._writing[target]
        for fd in (source, target):
            if fd >= 0 and fd not in self._reading and fd not in self._writing:
                with contextlib.suppress(OSError):
                    self._epoll.unregister(fd)
        self._told.append(way)


def _tell(ways: Iterable[Way]) -> None:
    for way in ways:
        if not way.over.done() and way.end is not None:
            way.over.set_result(way.end)


def _released(ways: list[Way], released: asyncio.Future[None]) -> None:
    _tell(ways)
    if not released.done():
        released.set_result(None)
