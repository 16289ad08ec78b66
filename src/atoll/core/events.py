"""What happened to sandboxes, as their owner may look it up: the audit, of all sandboxes of an organization. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

MAX_EVENTS = 100
MAX_COUNTED = 10_000
"""A total is exact up to here: counting on would keep the server from its other work."""
DEFAULT_SPAN_S = 30 * 24 * 3600.0

CHANGES = (
    "sandbox.create",
    "sandbox.pause",
    "sandbox.resume",
    "sandbox.connect",
    "sandbox.stop",
    "sandbox.start",
    "sandbox.reset",
    "sandbox.set_timeout",
    "sandbox.set_network",
    "sandbox.plug_memory",
    "sandbox.mount",
    "sandbox.unmount",
    "sandbox.expire",
    "sandbox.exited",
    "sandbox.delete",
)
"""Operations that are events; who only looks makes none."""


class Outcomes(StrEnum):
    ALL = "all"
    OK = "ok"
    FAILED = "failed"


@dataclass(frozen=True)
class EventQuery:
    since: float | None = None
    """Unix seconds, inclusive as `until` is. None: 30 days before `until`."""
    until: float | None = None
    """None: now."""
    sandbox: str = ""
    """A part of its id."""
    template: str = ""
    """A part of its name."""
    operations: Collection[str] = CHANGES
    """Any of these."""
    outcomes: Outcomes = Outcomes.ALL
    oldest_first: bool = False
    offset: int = 0
    limit: int = 10


@dataclass(frozen=True)
class Event:
    id: int
    at: float
    operation: str
    outcome: str
    """`ok`, or the error's kind."""
    sandbox_id: str
    template: str
    detail: str


@dataclass(frozen=True)
class EventPage:
    events: Sequence[Event]
    total: int
    """Without offset and limit; at most `MAX_COUNTED`."""
