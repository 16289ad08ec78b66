"""How often an API key may call, as token buckets: a bucket holds one minute's calls and fills up again evenly.

| kind    | counted by | what                                          |
|---------|------------|-----------------------------------------------|
| control | the server | every control-plane request of the key        |
| create  | the server | of these, the ones that make a sandbox, again |
| agent   | the edge   | every request to one of the key's sandboxes   |
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

WINDOW_S = 60.0
MAX_BUCKETS = 10_000  # beyond it the one that was not used for longest counts as full


class Kind(StrEnum):
    CONTROL = "control"
    CREATE = "create"
    AGENT = "agent"


@dataclass(frozen=True)
class Rates:
    """Calls per minute; None: no limit."""

    control: int | None
    create: int | None
    agent: int | None

    def to_wire(self) -> dict[str, int | None]:
        return asdict(self)

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Rates:
        return cls(**{name: data.get(name, getattr(GENEROUS, name)) for name in cls.__dataclass_fields__})


GENEROUS = Rates(control=60_000, create=6_000, agent=None)
"""More than one machine can do for long: it ends a loop that ran wild, and nothing else."""
PRESETS = {
    "generous": GENEROUS,
    "hopx": Rates(control=100, create=20, agent=300),
    "unlimited": Rates(control=None, create=None, agent=None),
}


@dataclass(frozen=True)
class Bucket:
    level: float
    """Calls that may be made at once, at the time `at`."""
    at: float


@dataclass(frozen=True)
class Verdict:
    limit: int
    remaining: int
    full_at: float
    """When nothing of the use is left to see."""
    retry_after_s: int = 0
    """0: admitted."""


def filled(bucket: Bucket | None, limit: int, now: float) -> Bucket:
    """A clock that was set back fills nothing."""
    if bucket is None:
        return Bucket(limit, now)
    gained = max(0.0, now - bucket.at) * limit / WINDOW_S
    return Bucket(min(limit, bucket.level + gained), now)


def drawn(bucket: Bucket) -> Bucket:
    return Bucket(bucket.level - 1, bucket.at)


def verdict(bucket: Bucket, limit: int, admitted: bool) -> Verdict:
    per_s = limit / WINDOW_S
    return Verdict(
        limit=limit,
        remaining=math.floor(max(0.0, bucket.level)),
        full_at=bucket.at + (limit - bucket.level) / per_s,
        retry_after_s=0 if admitted else max(1, math.ceil((1 - bucket.level) / per_s)),
    )


class Buckets:
    """In memory: after a restart every one is full."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def draw(self, limits: Mapping[str, int], now: float) -> Verdict | None:
        """From the bucket of every name, or, when one is empty, from none; what it says is about the scarcest.
        None: nothing is limited."""
        before = {name: filled(self._buckets.get(name), limit, now) for name, limit in limits.items()}
        admitted = all(bucket.level >= 1 for bucket in before.values())
        after = {name: drawn(bucket) if admitted else bucket for name, bucket in before.items()}
        for name, bucket in after.items():
            self._keep(name, bucket)
        scarcest = min(after, key=lambda name: after[name].level, default=None)
        return None if scarcest is None else verdict(after[scarcest], limits[scarcest], admitted)

    def _keep(self, name: str, bucket: Bucket) -> None:
        self._buckets[name] = bucket
        self._buckets.move_to_end(name)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
