"""How sandboxes are used right now, as the edge reports it. In memory: after a restart everything counts as used at
that moment, so a server that was down deletes nobody for a silence that it could not hear."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from atoll.core.clocks import Use
from atoll.core.ports import Clock


@dataclass(frozen=True)
class Report:
    id: str
    last_call_at: float
    open: int


class Uses:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._unheard = Use(last_call_at=clock.now())
        self._uses: dict[str, Use] = {}

    def of(self, sandbox_id: str) -> Use:
        return self._uses.get(sandbox_id, self._unheard)

    def record(self, reports: Iterable[Report], known: Iterable[str]) -> None:
        """Of sandboxes that are gone nothing is kept; a time from the future counts as now."""
        ids, now = frozenset(known), self._clock.now()
        for report in reports:
            if report.id in ids:
                before = self.of(report.id)
                last = max(before.last_call_at, min(report.last_call_at, now))
                self._uses[report.id] = replace(before, last_call_at=last, open=max(0, report.open))

    def touch(self, sandbox_id: str) -> None:
        self._uses[sandbox_id] = replace(self.of(sandbox_id), last_call_at=self._clock.now())

    def set_live(self, sandbox_id: str, live: int | None) -> Use:
        """None: the sandbox did not say. That counts as something running, but not as a sign of use."""
        use = replace(self.of(sandbox_id), live=1 if live is None else live)
        if live:
            use = replace(use, last_call_at=self._clock.now())
        self._uses[sandbox_id] = use
        return use

    def close_all(self) -> None:
        """The edge is new or has lost us: it reports again what is open."""
        self._uses = {sandbox_id: replace(use, open=0) for sandbox_id, use in self._uses.items()}

    def forget(self, sandbox_id: str) -> None:
        self._uses.pop(sandbox_id, None)
