"""What a key may have, and what it has."""

from __future__ import annotations

from atoll.core.audit import Caller
from atoll.core.limits import LARGEST, RESOURCES, Size
from atoll.core.ports import Placement, Store
from atoll.core.quota import Standing
from atoll.core.settings import Clocks

from .journal import Journal


class Quotas:
    def __init__(self, store: Store, placement: Placement, journal: Journal, limits: Clocks) -> None:
        self._store = store
        self._placement = placement
        self._journal = journal
        self._clocks = limits

    async def of(self, caller: Caller) -> Standing:
        async with self._journal.operation(caller, "quota.get"):
            used = await self._store.sandboxes.used(caller.principal.key_id)
            sizes = [template.max_size for template in self._placement.templates().values()] or [LARGEST]
            largest = Size(**{name: max(getattr(size, name) for size in sizes) for name in RESOURCES})
            return Standing(caller.principal.quota, used, largest, int(self._clocks.max_life_s))
