"""Watches that are asked for what happened, not listened to.

A watcher keeps what happened since it was asked, up to a bound beyond which it says that it has lost some. It ends when
it is removed, when nobody has asked for an hour, with its sandbox and with the edge.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from weakref import WeakKeyDictionary

from atoll.edge.agent_link import AgentError, AgentLink, Answer
from atoll.wire.connect import Code, ConnectError, Object, dump

MAX_EVENTS = 10_000
MAX_KEPT = 1024 * 1024
"""Of one watcher, as JSON: names and links in entries can be 4 KiB each."""
MAX_WATCHERS = 64
"""Of one sandbox."""
FORGOTTEN_S = 3600.0
ON_ITS_WAY_S, QUIET_S = 0.15, 0.04
"""So long an asker waits at most, and until nothing more comes: what was done before the question may be told a moment
after it, by another connection."""
LOST = "more has changed than was kept; look through the directory"


class Watcher:
    def __init__(self) -> None:
        self.asked_at = time.monotonic()
        self._ready = asyncio.Event()
        self._came = asyncio.Event()
        self._over = False
        self._events: deque[Object] = deque()
        self._kept = 0
        self._failure: ConnectError | None = None
        self._task: asyncio.Task[None] | None = None

    async def begin(self, stream: Answer, events: AsyncGenerator[Object | None, None]) -> None:
        """Comes back when nothing is missed any more, which a None among the events says."""
        self._task = asyncio.create_task(self._run(stream, events))
        await self._ready.wait()

    async def _run(self, stream: Answer, events: AsyncGenerator[Object | None, None]) -> None:
        try:
            async with stream:
                async for event in events:
                    if event is None:
                        self._ready.set()
                    else:
                        self._keep(event)
        except ConnectError as error:
            self._failure = error
        except AgentError:
            self._failure = ConnectError(Code.NOT_FOUND, "the watcher has ended with its sandbox")
        finally:
            self._over = True
            self._ready.set()
            self._came.set()

    def _keep(self, event: Object) -> None:
        self._came.set()
        size = len(dump(event))
        if len(self._events) == MAX_EVENTS or self._kept + size > MAX_KEPT:
            self._failure = self._failure or ConnectError(Code.RESOURCE_EXHAUSTED, LOST)
            return
        self._events.append(event)
        self._kept += size

    async def take(self) -> list[Object]:
        """ConnectError, once, when some were lost."""
        self.asked_at = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(ON_ITS_WAY_S):
                while not self._over:
                    self._came.clear()
                    async with asyncio.timeout(QUIET_S if self._events else None):
                        await self._came.wait()
        events = list(self._events)
        self._events.clear()
        self._kept = 0
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return events

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Watchers:
    """Of all sandboxes of an edge; those of one that has gone go with the edge's link to it."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[AgentLink, dict[str, Watcher]] = WeakKeyDictionary()

    @contextmanager
    def new(self, link: AgentLink) -> Iterator[tuple[str, Watcher]]:
        """One with an id; it is gone again when the block fails."""
        watchers = self._living(link)
        if len(watchers) >= MAX_WATCHERS:
            raise ConnectError(Code.RESOURCE_EXHAUSTED, f"a sandbox has at most {MAX_WATCHERS} watchers; remove some")
        watcher, watcher_id = Watcher(), f"w{secrets.token_hex(10)}"
        watchers[watcher_id] = watcher
        try:
            yield watcher_id, watcher
        except BaseException:
            watchers.pop(watcher_id, None)
            watcher.close()
            raise

    def find(self, link: AgentLink, watcher_id: str) -> Watcher:
        found = self._living(link).get(watcher_id)
        if found is None:
            raise ConnectError(Code.NOT_FOUND, f"watcher with id {watcher_id[:64]} not found")
        return found

    def remove(self, link: AgentLink, watcher_id: str) -> None:
        self.find(link, watcher_id).close()
        del self._living(link)[watcher_id]

    def _living(self, link: AgentLink) -> dict[str, Watcher]:
        watchers = self._of.setdefault(link, {})
        for watcher_id, watcher in list(watchers.items()):
            if time.monotonic() - watcher.asked_at > FORGOTTEN_S:
                watchers.pop(watcher_id).close()
        return watchers
