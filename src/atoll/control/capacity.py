"""May another sandbox be born here? Limits are ceilings, not reservations, so what counts is what is free now."""

from __future__ import annotations

import asyncio
import logging

from atoll.core.limits import too_much
from atoll.core.ports import Capacity, Clock, Node

log = logging.getLogger(__name__)

FRESH_S = 0.25  # a burst of creates asks once; in that time a few hundred MiB can go, less than the reserve
USABLE_S = 1.0  # what is a little older still counts while it is asked for anew: nobody waits for the answer


def check(capacity: Capacity, memory_mib: int = 0) -> None:
    """`memory_mib`: what is about to be used."""
    memory = (capacity.memory_available_mib, capacity.memory_reserve_mib, capacity.memory_total_mib)
    _check("memory", *memory, memory_mib)
    _check("disk", capacity.disk_available_mib, capacity.disk_reserve_mib, capacity.disk_total_mib)


def _check(resource: str, available: int, reserve: int, total: int, asked: int = 0) -> None:
    if available - asked >= reserve:
        return
    raise too_much(
        "host_full",
        f"{resource}_mib",
        limit=max(0, total - reserve),
        current=max(0, total - available),
        asked=asked,
        message=f"The {resource} limit of this host is reached: {available} MiB are free, {reserve} MiB are kept in "
        f"reserve{f', {asked} MiB were asked for' if asked else ''}. Delete a sandbox or try again later.",
    )


class Room:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, Capacity]] = {}
        self._asking = asyncio.Lock()
        self._beside: asyncio.Task[Capacity] | None = None

    async def check(self, node: Node, memory_mib: int = 0) -> None:
        if (capacity := self._fresh(node.node_id)) is None:
            capacity = self._ask_beside(node) or await self._ask_once(node)
        check(capacity, memory_mib)

    def _ask_beside(self, node: Node) -> Capacity | None:
        if (usable := self._fresh(node.node_id, USABLE_S)) is None:
            return None
        if self._beside is None or self._beside.done():
            self._beside = asyncio.create_task(self._ask_once(node))
            self._beside.add_done_callback(_heard)
        return usable

    async def _ask_once(self, node: Node) -> Capacity:
        async with self._asking:
            return self._fresh(node.node_id) or await self._ask(node)

    def _fresh(self, node_id: str, for_s: float = FRESH_S) -> Capacity | None:
        at, capacity = self._known.get(node_id, (0.0, None))
        return capacity if 0 <= self._clock.now() - at < for_s else None

    async def _ask(self, node: Node) -> Capacity:
        capacity = await node.capacity()
        self._known[node.node_id] = (self._clock.now(), capacity)
        return capacity


def _heard(done: asyncio.Task[Capacity]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        log.info("the node does not say how much room it has: %s", error)  # the next one to come waits for its word
