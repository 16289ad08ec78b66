"""All connections of clients: how many, how long, and how much of the edge's memory they may take together.

Each is bounded by itself; a thousand that read nothing are not. What waits for clients and for programs is added up
each second, and when it is too much the connections that hold most are ended.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time

from .errand import Arrived

log = logging.getLogger("atoll.edge")

SWEEP_S = 1.0
MAX_CLIENTS = 32768
IDLE_S = 1.0
"""Between requests; at `MAX_CLIENTS` such connections make room."""
MAX_WAITING = 256 * 1024 * 1024


def capacity() -> int:
    """A client needs a second descriptor, for the way in; a quarter is for those who have not spoken, and for us. Were
    there none left, nobody could come in and none be ended for him."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(MAX_CLIENTS, descriptors * 3 // 8)


class Crowd:
    def __init__(self, max_clients: int | None = None, max_waiting: int = MAX_WAITING) -> None:
        self._clients: set[Arrived] = set()
        self._max_clients = capacity() if max_clients is None else max_clients
        self._max_waiting = max_waiting

    async def watch(self) -> None:
        """Runs until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep(time.monotonic())

    def end_all(self) -> None:
        for client in tuple(self._clients):
            client.transport.abort()

    def joined(self, client: Arrived) -> None:
        if len(self._clients) >= self._max_clients:
            self._make_room()
        if len(self._clients) >= self._max_clients:
            client.transport.abort()
        else:
            self._clients.add(client)

    def left(self, client: Arrived) -> None:
        self._clients.discard(client)

    def _make_room(self) -> None:
        now = time.monotonic()
        for client in tuple(self._clients):
            if client.is_idle() and now - client.moved_at > IDLE_S:
                client.transport.abort()
                self._clients.discard(client)

    def sweep(self, now: float) -> None:
        waiting = 0
        for client in tuple(self._clients):
            client.sweep(now)
            waiting += client.waiting()
        if waiting > self._max_waiting:
            self._shed(waiting)

    def _shed(self, waiting: int) -> None:
        ended = 0
        for client in sorted(self._clients, key=lambda each: each.waiting(), reverse=True):
            if waiting <= self._max_waiting // 2:
                break
            waiting -= client.waiting()
            client.transport.abort()
            ended += 1
        log.warning("%d connections are ended: what waited for slow readers was more than the edge's share", ended)
