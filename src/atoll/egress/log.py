"""The log of outbound traffic, as the rest of the daemon has it: `write` costs nothing and never fails, `read` waits.

What is written is on disk within `FLUSH_S`; a thread does that, so a slow disk holds up no traffic. When the disk is
full or too slow, entries are lost, counted, and said in the log itself when it can be written again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, TypeVarTuple, Unpack

from atoll.core.egress import Entry, Kind, Outcome

from .log_files import LogFiles, LogLimits, Page
from .totals import Totals

log = logging.getLogger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

FLUSH_S = 0.2
SWEEP_S = 300.0
MAX_PENDING, MAX_PENDING_OF_ONE = 65_536, 8_192
"""Entries that wait for the disk; each is below a kilobyte."""
MAX_READ = 1000
MAX_WAIT_S = 30.0

Batch = Mapping[str, Sequence[Entry]]


class Log:
    def __init__(self, directory: Path, limits: LogLimits | None = None, now: Callable[[], float] = time.time) -> None:
        self.totals = Totals()
        self._now = now
        self._files = LogFiles(directory, limits or LogLimits(), now)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="egress-log")
        self._pending: dict[str, list[Entry]] = {}
        self._waiting = 0
        self._lost: dict[str, int] = {}
        self._failing = False
        self._dirty = asyncio.Event()
        self._flushing: set[asyncio.Future[None]] = set()
        self._readers: dict[str, set[asyncio.Event]] = {}

    # ---- writing

    def write(self, entry: Entry) -> None:
        """From the event loop."""
        self.totals.count(entry)
        pending = self._pending.setdefault(entry.sandbox_id, [])
        if self._waiting >= MAX_PENDING or len(pending) >= MAX_PENDING_OF_ONE:
            self._lose(entry.sandbox_id, 1)
            return
        pending.append(entry)
        self._waiting += 1
        self._dirty.set()

    async def run(self) -> None:
        """Until cancelled; what is there then is written by `close`."""
        swept = 0.0
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_S):
                    await self._dirty.wait()
                    await asyncio.sleep(FLUSH_S)
            await self.flush()
            if loop.time() - swept >= SWEEP_S:
                swept = loop.time()
                await self._in_thread(self._sweep)

    async def flush(self) -> None:
        """Whole, also when who waits for it is cancelled."""
        flushing = asyncio.ensure_future(self._flush())
        self._flushing.add(flushing)
        flushing.add_done_callback(self._flushing.discard)
        await asyncio.shield(flushing)

    async def _flush(self) -> None:
        self._dirty.clear()
        batch, self._pending = self._pending, {}
        if not batch:
            return
        said = {sandbox_id: self._lost.pop(sandbox_id) for sandbox_id in batch if sandbox_id in self._lost}
        failed = await self._in_thread(self._append, batch, said)
        self._waiting -= sum(map(len, batch.values()))
        for sandbox_id in failed:
            self._lose(sandbox_id, len(batch[sandbox_id]), said.get(sandbox_id, 0))
        for sandbox_id in batch:
            for written in self._readers.get(sandbox_id, ()):
                written.set()

    def _append(self, batch: Batch, lost: Mapping[str, int]) -> list[str]:
        """For whom it failed."""
        failed = []
        for sandbox_id, entries in batch.items():
            try:
                missing = [self._missing(sandbox_id, lost[sandbox_id])] if sandbox_id in lost else []
                self._files.append(sandbox_id, [*missing, *entries])
            except OSError as error:
                failed.append(sandbox_id)
                self._say(error)
        if not failed:
            self._say(None)
        return failed

    def _missing(self, sandbox_id: str, number: int) -> Entry:
        return Entry(
            at=self._now(),
            sandbox_id=sandbox_id,
            kind=Kind.EVENT,
            verdict=Outcome.FAILED,
            rule="log",
            detail=f"{number} entries could not be written",
        )

    def _lose(self, sandbox_id: str, number: int, known: int = 0) -> None:
        """`known`: those that are in the totals already, and still not said."""
        self._lost[sandbox_id] = self._lost.get(sandbox_id, 0) + number + known
        self.totals.lost(number, sandbox_id)

    def _say(self, error: OSError | None) -> None:
        if error and not self._failing:
            log.warning("the log of outbound traffic cannot be written, traffic goes on: %s", error)
        if not error and self._failing:
            log.warning("the log of outbound traffic can be written again")
        self._failing = error is not None

    # ---- reading

    async def read(self, sandbox_id: str, after: int = 0, limit: int = MAX_READ, wait_s: float = 0.0) -> Page:
        """What follows `after` (below 0: the last so many); waits for the first entry while there is none."""
        until = asyncio.get_running_loop().time() + min(wait_s, MAX_WAIT_S)
        with self._told(sandbox_id) as written:
            while True:
                written.clear()
                await self.flush()
                page = await self._in_thread(self._files.read, sandbox_id, after, min(limit, MAX_READ))
                if page.entries:
                    return page
                after = page.cursor
                try:
                    async with asyncio.timeout_at(until):
                        await written.wait()
                except TimeoutError:
                    return page

    @contextlib.contextmanager
    def _told(self, sandbox_id: str) -> Iterator[asyncio.Event]:
        """Set whenever something of this sandbox was written."""
        written = asyncio.Event()
        readers = self._readers.setdefault(sandbox_id, set())
        readers.add(written)
        try:
            yield written
        finally:
            readers.discard(written)
            if not readers and self._readers.get(sandbox_id) is readers:
                del self._readers[sandbox_id]

    async def close(self) -> None:
        await self.flush()
        await asyncio.gather(*self._flushing)
        self._thread.shutdown()

    async def _in_thread(self, work: Callable[[Unpack[Ts]], T], *given: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *given)

    def _sweep(self) -> None:
        try:
            self._files.sweep()
        except OSError as error:
            self._say(error)
