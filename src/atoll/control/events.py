"""What happened to an organization's sandboxes, also to those that are gone, while the audit is kept."""

from __future__ import annotations

from dataclasses import replace

from atoll.core.audit import Caller
from atoll.core.errors import InvalidInput
from atoll.core.events import DEFAULT_SPAN_S, MAX_EVENTS, EventPage, EventQuery
from atoll.core.ports import Clock, Store

from .journal import Journal


class Events:
    def __init__(self, store: Store, clock: Clock, journal: Journal) -> None:
        self._store = store
        self._clock = clock
        self._journal = journal

    async def list(self, caller: Caller, query: EventQuery) -> EventPage:
        async with self._journal.operation(caller, "sandbox.events"):
            if query.offset < 0 or not 0 < query.limit <= MAX_EVENTS:
                raise InvalidInput(f"offset is 0 or more, limit is 1 to {MAX_EVENTS}", field="limit")
            until = self._clock.now() if query.until is None else query.until
            since = until - DEFAULT_SPAN_S if query.since is None else query.since
            asked = replace(query, since=since, until=until)
            return EventPage(*await self._store.audit.events(caller.principal.organization_id, asked))
