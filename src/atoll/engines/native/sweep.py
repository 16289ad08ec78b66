"""What the kernel takes long over after a sandbox's end, done in batches by a child while the launcher goes on.

A link's removal waits for grace periods (16 ms), whether it is one link or a hundred. An image's unmount writes out
what was not written yet; it happens when the last reference to the sandbox's mount namespace is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from .child import in_child
from .netlink import Netlink, del_group, into_group

AT_ONCE = 64
GATHER_S = 0.01
"""For more of them, and for the answers that they are behind."""
PATIENCE_S = 0.5
"""With births that go on and on: what is swept gives back what they need."""
DOOMED = 0x61740000
"""The group of links that go."""


@dataclass(frozen=True)
class Leftover:
    link: str
    mounts_fd: int | None = None
    """The mount namespace, when its end is ours to bring about. Closed by whoever takes the leftover."""


Take = Callable[[Sequence[Leftover]], Awaitable[None]]


async def take(leftovers: Sequence[Leftover]) -> None:
    """The child has our descriptors too: what was its own references' end is over when it answers."""

    def work() -> dict[str, bool]:
        remove_links([each.link for each in leftovers])
        for fd in fds:
            os.close(fd)
        return {"done": True}

    fds = [each.mounts_fd for each in leftovers if each.mounts_fd is not None]
    child = asyncio.ensure_future(in_child(work, "the sweep", timeout_s=None))
    try:
        await asyncio.sleep(0)  # it is forked
    finally:
        for fd in fds:
            os.close(fd)
    await child


def remove_links(names: Collection[str]) -> None:
    """In the current network namespace. Those that are gone already are no error."""
    if not names:
        return
    with contextlib.closing(Netlink()) as netlink:
        with contextlib.suppress(OSError):
            netlink.send(*(into_group(name, DOOMED) for name in names))
        with contextlib.suppress(OSError):
            netlink.send(del_group(DOOMED))


class Births:
    """Those under way. What can wait lets them go first, and not for ever."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if self._count == 0:
                self._none.set()

    async def over(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._none.wait()


class Sweeper:
    """One batch at a time."""

    def __init__(self, births: Births, take: Take = take) -> None:
        self._births = births
        self._take = take
        self._waiting: list[tuple[Leftover, asyncio.Future[None]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def sweep(self, leftover: Leftover) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((leftover, done))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        await done

    async def _work(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(GATHER_S)
                await self._births.over()
                batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
                await self._settle(batch)
        finally:
            self._worker = None

    async def _settle(self, batch: Sequence[tuple[Leftover, asyncio.Future[None]]]) -> None:
        try:
            await self._take([leftover for leftover, _ in batch])
        except Exception as error:
            for _, done in batch:
                if not done.done():
                    done.set_exception(error)
        else:
            for _, done in batch:
                if not done.done():
                    done.set_result(None)
