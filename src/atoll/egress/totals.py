"""What sandboxes did with their way out, counted: each for itself and all together, since this daemon started."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any

from atoll.core.egress import Entry, Kind, Outcome

MAX_RULES = 200
"""Told apart for one sandbox; what comes later is counted as `other`."""
MAX_SANDBOXES = 20_000
"""The one that did nothing for longest is forgotten."""
OTHER = "other"


@dataclass
class Counters:
    connections: int = 0
    """Allowed; those to which nobody answered too."""
    failed: int = 0
    denied: int = 0
    """Of every kind."""
    questions: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    lost: int = 0
    """Entries that could not be written, or events that came faster than they could be read."""
    by_rule: Counter[str] = field(default_factory=Counter)

    def count(self, entry: Entry, rule: str) -> None:
        if entry.kind is Kind.EVENT:
            return
        self.connections += entry.kind is Kind.CONNECTION and entry.verdict is not Outcome.DENIED
        self.failed += entry.kind is Kind.CONNECTION and entry.verdict is Outcome.FAILED
        self.denied += entry.verdict is Outcome.DENIED
        self.questions += entry.kind is Kind.QUESTION
        if entry.kind is Kind.CONNECTION:
            self.bytes_out += entry.bytes_out
            self.bytes_in += entry.bytes_in
        self.by_rule[rule if rule in self.by_rule or len(self.by_rule) < MAX_RULES else OTHER] += 1

    def to_wire(self) -> dict[str, Any]:  # Any: JSON values
        return {**vars(self), "by_rule": dict(self.by_rule)}


class Totals:
    def __init__(self) -> None:
        self._all = Counters()
        self._each: OrderedDict[str, Counters] = OrderedDict()

    def count(self, entry: Entry) -> None:
        self._all.count(entry, _kind_of(entry.rule))
        self._of(entry.sandbox_id).count(entry, entry.rule)

    def lost(self, number: int, sandbox_id: str | None = None) -> None:
        self._all.lost += number
        if sandbox_id is not None:
            self._of(sandbox_id).lost += number

    def to_wire(self, sandbox_id: str | None = None) -> dict[str, Any]:  # Any: JSON values
        counters = self._all if sandbox_id is None else self._each.get(sandbox_id, Counters())
        return counters.to_wire()

    def _of(self, sandbox_id: str) -> Counters:
        found = self._each.setdefault(sandbox_id, Counters())
        self._each.move_to_end(sandbox_id)
        if len(self._each) > MAX_SANDBOXES:
            self._each.popitem(last=False)
        return found


def _kind_of(rule: str) -> str:
    """For all together entries of lists are not told apart: `allow_out`, `never`, `default` …"""
    return rule.partition(":")[0]
