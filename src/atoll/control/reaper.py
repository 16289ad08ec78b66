"""Carries out what the clocks say. Each row names the time at which it is to be looked at next, so a tick costs one
indexed query however many sandboxes there are."""

from __future__ import annotations

import asyncio
import logging

from atoll.core import clocks
from atoll.core.audit import ATOLL
from atoll.core.errors import AtollError
from atoll.core.lifecycle import EXECUTING, State
from atoll.core.ports import Clock, Placement, Store
from atoll.core.sandbox import Sandbox
from atoll.core.settings import Clocks

from .journal import Journal
from .sandboxes import Sandboxes
from .uses import Uses

log = logging.getLogger(__name__)

TICK_S = 1.0
SHORTEST_S = 0.02
AT_ONCE = 32
BURY_AGAIN_AFTER_S = 30.0
UNFINISHED_S = 120.0  # twice as long as a create may take
AUDIT_SWEEP_S = 3600.0


class Reaper:
    def __init__(
        self,
        *,
        store: Store,
        placement: Placement,
        clock: Clock,
        limits: Clocks,
        sandboxes: Sandboxes,
        uses: Uses,
        journal: Journal,
    ) -> None:
        self._store = store
        self._placement = placement
        self._clock = clock
        self._clocks = limits
        self._sandboxes = sandboxes
        self._uses = uses
        self._journal = journal
        self._audit_swept_at = float("-inf")
        self._buried_at = float("-inf")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            pause_s = TICK_S
            try:
                await self.tick()
                pause_s = await self.pause_s()
            except Exception:
                log.exception("a tick of the reaper failed")
            await asyncio.sleep(pause_s)

    async def pause_s(self) -> float:
        """Until the next end, or a tick's length: a sandbox ends when its time is over, not with the next tick."""
        now = self._clock.now()
        soon = await self._store.sandboxes.to_check(now + TICK_S, AT_ONCE)
        looks = (clocks.next_check(row, self._uses.of(row.id), self._clocks, now) for row in soon)
        return max(SHORTEST_S, min((TICK_S, *(at - now for at in looks if at is not None and at > now))))

    async def recompute(self) -> None:
        """The settings may have changed since the rows were written."""
        now = self._clock.now()
        rows = await self._store.sandboxes.executing_or_kept()
        await self._store.sandboxes.set_check_at(
            (row.id, clocks.next_check(row, self._uses.of(row.id), self._clocks, now)) for row in rows
        )

    async def tick(self) -> None:
        now = self._clock.now()
        rows = await self._store.sandboxes.to_check(now, AT_ONCE)
        for failed in await asyncio.gather(*(self._look(row.id) for row in rows), return_exceptions=True):
            if isinstance(failed, BaseException):
                log.error("a look at the clocks failed", exc_info=failed)
        if now - self._buried_at >= BURY_AGAIN_AFTER_S:
            self._buried_at = now
            await self._bury_again(now)
        if now - self._audit_swept_at >= AUDIT_SWEEP_S:
            self._audit_swept_at = now
            await self._journal.sweep()

    async def _look(self, sandbox_id: str) -> None:
        async with self._sandboxes.turns(sandbox_id):
            row = await self._store.sandboxes.get(sandbox_id)
            if row is None or row.state is State.DELETED:
                return
            if self._may_be_idle(row):
                self._uses.set_live(row.id, await self._live(row))
            end = clocks.due(row, self._uses.of(row.id), self._clocks, self._clock.now())
            if end is None:
                await self._sandboxes.write_look(row)
            else:
                await self._expire(row, end)

    def _may_be_idle(self, row: Sandbox) -> bool:
        if not self._clocks.inactivity_s or row.timeout_s is not None or row.state not in EXECUTING:
            return False
        use = self._uses.of(row.id)
        idle_s = self._clock.now() - clocks.idle_since(row, use)
        return not use.open and idle_s >= self._clocks.inactivity_s / clocks.LOOKS_PER_IDLE_PERIOD

    async def _live(self, row: Sandbox) -> int | None:
        try:
            return await self._placement.node(row.node_id).live(row.id)
        except AtollError as error:
            log.info("sandbox %s does not say what runs in it: %s", row.id, error.message)
            return None

    async def _expire(self, row: Sandbox, end: clocks.End) -> None:
        try:
            async with self._journal.operation(ATOLL, "sandbox.expire", row.id) as operation:
                operation.detail = end.value
                await self._sandboxes.expire(row, end)
        except AtollError as error:
            log.warning("sandbox %s is over (%s), which has to wait: %s", row.id, end.value, error.message)
            await self._store.sandboxes.set_check_at([(row.id, self._clock.now() + BURY_AGAIN_AFTER_S)])

    async def _bury_again(self, now: float) -> None:
        for row in await self._store.sandboxes.unfinished(now - UNFINISHED_S):
            try:
                await self._sandboxes.give_up(row.id)
            except AtollError as error:
                log.info("unfinished %s stays: %s", row.id, error.message)
        for tombstone in await self._store.sandboxes.tombstones(now - BURY_AGAIN_AFTER_S):
            try:
                await self._sandboxes.bury_again(tombstone)
            except AtollError as error:
                log.info("tombstone %s stays: %s", tombstone.id, error.message)
