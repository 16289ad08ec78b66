"""What sandboxes did with their way out, for those who own them.

A log is kept for days after its sandbox is gone, and then there is no row that says whose it was. The audit says who
asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atoll.core.audit import Caller
from atoll.core.errors import NotFound
from atoll.core.ids import is_sandbox_id
from atoll.core.ports import EgressPage, Node, Placement, Store

from .deadline import deadline
from .journal import Journal

MAX_WAIT_S = 30.0
MAX_ENTRIES = 1000

Totals = dict[str, Any]  # Any: JSON values; `egress/totals.py`


class EgressLog:
    def __init__(self, store: Store, placement: Placement, journal: Journal) -> None:
        self._store = store
        self._placement = placement
        self._journal = journal

    async def read(self, caller: Caller, sandbox_id: str, after: int, limit: int, wait_s: float) -> EgressPage:
        """`after` below 0 counts from the end. Waits for the first entry while there is none."""
        async with self._journal.operation(caller, "egress.log", sandbox_id), deadline("egress log"):
            found = EgressPage((), max(0, after))
            for node in await self._nodes_of(caller, sandbox_id):
                found = await node.egress_log(sandbox_id, after, min(limit, MAX_ENTRIES), min(wait_s, MAX_WAIT_S))
                if found.entries:
                    break
            return found

    async def totals(self, caller: Caller, sandbox_id: str) -> Totals:
        async with self._journal.operation(caller, "egress.totals", sandbox_id), deadline("egress totals"):
            return _sum([await node.egress_totals(sandbox_id) for node in await self._nodes_of(caller, sandbox_id)])

    async def totals_of_all(self, caller: Caller) -> Totals:
        """Nothing where nothing goes out."""
        async with self._journal.operation(caller, "egress.totals"), deadline("egress totals"):
            found = []
            for node in self._placement.nodes():
                try:
                    found.append(await node.egress_totals(None))
                except NotFound:
                    continue  # without an uplink
            return _sum(found)

    async def _nodes_of(self, caller: Caller, sandbox_id: str) -> Sequence[Node]:
        """Of one that is gone nobody knows where it was, so all are asked."""
        if is_sandbox_id(sandbox_id):
            row = await self._store.sandboxes.get(sandbox_id)
            if row is not None and row.organization_id == caller.principal.organization_id:
                return [self._placement.node(row.node_id)]
            if row is None and await self._asked_for_by(sandbox_id) == caller.principal.organization_id:
                return self._placement.nodes()
        raise NotFound(f"Sandbox '{sandbox_id[:64]}' not found", sandbox_id=sandbox_id[:64])

    async def _asked_for_by(self, sandbox_id: str) -> int | None:
        key_id = await self._store.audit.creator(sandbox_id)
        return next((key.organization_id for key in await self._store.keys.list() if key.id == key_id), None)


def _sum(totals: Sequence[Totals]) -> Totals:
    summed: Totals = {}
    for each in totals:
        for name, value in each.items():
            summed[name] = (
                _sum([summed.get(name, {}), value]) if isinstance(value, dict) else summed.get(name, 0) + value
            )
    return summed
