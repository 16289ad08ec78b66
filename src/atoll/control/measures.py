"""What sandboxes use of their machine, over the last while.

Those made by a dialect that shows figures over time are looked at every 5 s while they run, all together no more than
20 times a second: with more than 100 of them each is looked at less often. Kept in memory for half an hour.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from atoll.core.audit import Caller
from atoll.core.errors import AtollError
from atoll.core.ingress import Dialect
from atoll.core.lifecycle import EXECUTING
from atoll.core.ports import Clock, Placement, Store
from atoll.core.sandbox import Sandbox

from .routes import Routes
from .sandboxes import Sandboxes

log = logging.getLogger(__name__)

EVERY_S = 5.0
LOOKS_PER_S = 20
KEEP_S = 1800.0
MIN_STEP_S = 1.0
"""Who asks more often is told the same again."""
MEASURED = frozenset({Dialect.E2B.value, Dialect.NOVITA.value})
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Measure:
    """At one moment; sizes in bytes."""

    at: float
    cpu_count: int
    cpu_used_pct: float
    """Of all its CPUs together, since the measure before."""
    memory_used: int
    """Without the cache, which gives way when memory is needed."""
    memory_total: int
    memory_cache: int
    disk_used: int
    disk_total: int


@dataclass(slots=True)
class _Series:
    incarnation: int
    cpu_seconds: float
    at: float
    measures: deque[Measure]


class Measures:
    def __init__(self, store: Store, placement: Placement, clock: Clock, sandboxes: Sandboxes, routes: Routes) -> None:
        self._store = store
        self._placement = placement
        self._clock = clock
        self._sandboxes = sandboxes
        self._routes = routes
        self._series: dict[str, _Series] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            began = asyncio.get_running_loop().time()
            try:
                await self.round(1 / LOOKS_PER_S)
            except Exception:
                log.exception("a round of measuring failed")
            took = asyncio.get_running_loop().time() - began
            await asyncio.sleep(max(1 / LOOKS_PER_S, EVERY_S - took))

    async def round(self, pause_s: float = 0.0) -> None:
        """Looks at each once, and forgets those that are gone."""
        kept = self._routes.ids()
        self._series = {sandbox_id: series for sandbox_id, series in self._series.items() if sandbox_id in kept}
        for sandbox_id in self._routes.running(MEASURED):
            await self._try(sandbox_id)
            await asyncio.sleep(pause_s)

    async def _try(self, sandbox_id: str) -> None:
        row = await self._store.sandboxes.get(sandbox_id)
        if row is None or row.state not in EXECUTING:
            return
        try:
            await self._look(row)
        except AtollError as error:
            log.info("sandbox %s was not measured: %s", sandbox_id, error.message)

    async def of(
        self, caller: Caller, sandbox_id: str, start: float | None = None, end: float | None = None
    ) -> Sequence[Measure]:
        """Oldest first. Without a range, and of one that nobody has measured yet, the present is there in any case."""
        found = await self._sandboxes.get(caller, sandbox_id)
        if found.state in EXECUTING and (end is None or end >= self._clock.now()):
            await self._look(found)
        measures = self._kept(sandbox_id)
        return [each for each in measures if (start or 0.0) <= each.at and (end is None or each.at <= end)]

    async def latest(self, caller: Caller, sandbox_ids: Sequence[str]) -> dict[str, Measure]:
        """Of those among them that run."""
        found: dict[str, Measure] = {}
        for sandbox_id in sandbox_ids:
            if await self._sandboxes.owns(caller.principal.organization_id, sandbox_id):
                row = await self._store.sandboxes.get(sandbox_id)
                if row is not None and row.state in EXECUTING:
                    await self._look(row)
                    found[sandbox_id] = self._kept(sandbox_id)[-1]
        return found

    def _is_fresh(self, last: Measure, row: Sandbox) -> bool:
        """Not when its memory was changed meanwhile."""
        return self._clock.now() < last.at + MIN_STEP_S and last.memory_total == row.limits.memory_mib * MIB

    def _kept(self, sandbox_id: str) -> Sequence[Measure]:
        series = self._series.get(sandbox_id)
        return series.measures if series is not None else ()

    async def _look(self, row: Sandbox) -> None:
        series = self._series.get(row.id)
        if series is not None and series.measures and self._is_fresh(series.measures[-1], row):
            return
        used = await self._placement.node(row.node_id).usage(row.id)
        now = self._clock.now()
        cpu_seconds = float(used["cpu_seconds"])
        series = self._series.get(row.id)
        if series is None or series.incarnation != row.incarnation:
            before = deque[Measure]() if series is None else series.measures
            series = self._series[row.id] = _Series(row.incarnation, 0.0, row.state_since, before)
        passed, spent = now - series.at, max(0.0, cpu_seconds - series.cpu_seconds)
        share = 100 * spent / (passed * row.limits.vcpu) if passed > 0 else 0.0
        series.cpu_seconds, series.at = cpu_seconds, now
        cache = int(used.get("memory_cache_bytes", 0))
        series.measures.append(
            Measure(
                at=now,
                cpu_count=row.limits.vcpu,
                cpu_used_pct=round(min(share, 100.0), 2),
                memory_used=max(0, int(used["memory_bytes"]) - cache),
                memory_total=row.limits.memory_mib * MIB,
                memory_cache=cache,
                disk_used=int(used["disk_bytes"]),
                disk_total=row.limits.disk_mib * MIB,
            )
        )
        while series.measures[0].at < now - KEEP_S:
            series.measures.popleft()
