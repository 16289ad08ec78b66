"""May another sandbox be born here? Limits are ceilings, not reservations, so what counts is what is free now."""

from __future__ import annotations

import asyncio

from atoll.core.limits import too_much
from atoll.core.ports import Capacity, Clock, Node

FRESH_S = 0.25  # a burst of creates asks once; in that time a few hundred MiB can go, less than the reserve


def check(capacity: Capacity) -> None:
    _check("memory", capacity.memory_available_mib, capacity.memory_reserve_mib, capacity.memory_total_mib)
    _check("disk", capacity.disk_available_mib, capacity.disk_reserve_mib, capacity.disk_total_mib)


def _check(resource: str, available: int, reserve: int, total: int) -> None:
    if available >= reserve:
        return
    raise too_much(
        "host_full",
        f"{resource}_mib",
        limit=max(0, total - reserve),
        current=max(0, total - available),
        asked=0,
        message=f"The {resource} limit of this host is reached: {available} MiB are free, {reserve} MiB are kept in "
        "reserve. Delete a sandbox or try again later.",
    )


class Room:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, Capacity]] = {}
        self._asking = asyncio.Lock()

    async def check(self, node: Node) -> None:
        if (capacity := self._fresh(node.node_id)) is None:
            async with self._asking:
                capacity = self._fresh(node.node_id) or await self._ask(node)
        check(capacity)

    def _fresh(self, node_id: str) -> Capacity | None:
        at, capacity = self._known.get(node_id, (0.0, None))
        return capacity if 0 <= self._clock.now() - at < FRESH_S else None

    async def _ask(self, node: Node) -> Capacity:
        capacity = await node.capacity()
        self._known[node.node_id] = (self._clock.now(), capacity)
        return capacity
