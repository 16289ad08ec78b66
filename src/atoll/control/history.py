"""What was done to one sandbox, in lines that its owner may read: the audit without those who only looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from atoll.core.audit import AuditEntry, Caller
from atoll.core.errors import ErrorKind
from atoll.core.keys import SYSTEM
from atoll.core.ports import Store

from .journal import Journal
from .sandboxes import Sandboxes

LOOKS = ("sandbox.get", "sandbox.logs", "egress.log", "egress.totals")
MAX_LINES = 1000


@dataclass(frozen=True)
class Line:
    at: float
    text: str
    level: str
    """info, warn or error."""
    fields: Mapping[str, str] = field(default_factory=dict)


class History:
    def __init__(self, store: Store, sandboxes: Sandboxes, journal: Journal) -> None:
        self._store = store
        self._sandboxes = sandboxes
        self._journal = journal

    async def of(self, caller: Caller, sandbox_id: str) -> Sequence[Line]:
        """The last thousand, oldest first."""
        async with self._journal.operation(caller, "sandbox.logs", sandbox_id):
            await self._sandboxes.check_owned(caller, sandbox_id)
            found = await self._store.audit.of_sandbox(sandbox_id, MAX_LINES, LOOKS)
        return [line_of(entry) for entry in reversed(found)]


def line_of(entry: AuditEntry) -> Line:
    """
    >>> line_of(AuditEntry(0.0, "key_1", "sandbox.pause", "ok")).text
    'sandbox.pause: ok'
    """
    detail = f" ({entry.detail})" if entry.detail else ""
    fields = {"operation": entry.operation, "outcome": entry.outcome, "by": "atoll" if _by_itself(entry) else "api"}
    if entry.request_id:
        fields["request_id"] = entry.request_id
    return Line(entry.at, f"{entry.operation}: {entry.outcome}{detail}", _level(entry.outcome), fields)


def _by_itself(entry: AuditEntry) -> bool:
    return entry.key_id == SYSTEM.key_id


def _level(outcome: str) -> str:
    if outcome == "ok":
        return "info"
    return "error" if outcome == ErrorKind.INTERNAL.value else "warn"
