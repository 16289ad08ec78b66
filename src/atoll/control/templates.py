from __future__ import annotations

from collections.abc import Sequence

from atoll.core.audit import Caller
from atoll.core.errors import NotFound, PermissionDenied, Unavailable
from atoll.core.ports import Clock, Placement
from atoll.core.template import Template

from .journal import Journal

REFRESH_S = 1.0  # a template may have been built since the node said hello; unknown names ask it at most so often


class Templates:
    def __init__(self, placement: Placement, clock: Clock, journal: Journal) -> None:
        self._placement = placement
        self._clock = clock
        self._journal = journal
        self._refreshed_at = float("-inf")

    async def find(self, name: str) -> Template:
        """By name, which is the id as well. NotFound; Unavailable while it is being built."""
        if name not in self._placement.templates():
            await self._refresh()
        try:
            return self._placement.templates()[name]
        except KeyError:
            raise self._missing(name) from None

    async def list(
        self, caller: Caller, category: str | None = None, language: str | None = None
    ) -> Sequence[Template]:
        async with self._journal.operation(caller, "template.list"):
            await self._refresh()
            found = self._placement.templates().values()
            return [
                template
                for template in sorted(found, key=lambda template: template.name)
                if category in (None, template.category) and language in (None, template.language)
            ]

    async def get(self, caller: Caller, name: str) -> Template:
        async with self._journal.operation(caller, "template.get"):
            return await self.find(name)

    async def delete(self, caller: Caller, name: str) -> None:
        async with self._journal.operation(caller, "template.delete"):
            template = await self.find(name)
            raise PermissionDenied(f"Template '{template.name}' is public and cannot be deleted")

    def _missing(self, name: str) -> NotFound | Unavailable:
        known = self._placement.unbuilt().get(name)
        if known is None:
            return NotFound(f"Template '{name[:100]}' not found", template=name[:100])
        if known.percent is None:
            return NotFound(f"Template '{name}' {known}", template=name, built=False)
        return Unavailable(f"Template '{name}' {known}", template=name, percent=known.percent)

    async def _refresh(self) -> None:
        if not 0 <= self._clock.now() - self._refreshed_at < REFRESH_S:
            await self._placement.refresh_templates()
            self._refreshed_at = self._clock.now()
