"""When the helpers of a generation are made anew, and when they end. Pure.

All that is born of one zygote has its layout of the address space and its seed of `hash(str)`; neither can be changed
after a fork. So zygotes are replaced when too many know them, or for too long. Time counts from the first birth: what
nobody was born of nobody knows. Ids and sandboxes of the generation stay as they are.

A template is announced as NAME.BUILD. Of all builds of a name the one that was used last keeps its helpers; another
has sandboxes that live, or stopped ones that may start: its helpers end when nobody was born there for a while, and
are made again for the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple


@dataclass(frozen=True)
class Limits:
    age_s: float = 3600.0
    births: int = 1000
    retry_s: float = 60.0
    """After a replacement that failed; the old ones go on."""
    idle_s: float = 600.0
    """Without a birth, of a build that is not the one used last."""


LIMITS = Limits()


@dataclass(frozen=True)
class Wear:
    births: int = 0
    first_birth: float = 0.0

    def after_birth(self, now: float) -> Wear:
        return replace(self, births=self.births + 1, first_birth=self.first_birth if self.births else now)


def due_at(wear: Wear, limits: Limits = LIMITS) -> float | None:
    """None while nobody was born."""
    if wear.births == 0:
        return None
    return wear.first_birth if wear.births >= limits.births else wear.first_birth + limits.age_s


class Use(NamedTuple):
    awake_since: float
    last: float


def unused(uses: Mapping[str, Use], now: float, limits: Limits = LIMITS) -> tuple[set[str], float | None]:
    """The builds whose helpers are to end, and when to look again: None when there is nothing to look for. A build is
    given its time from when the other one came into use, too."""
    last_used = _last_used(uses)
    ends_at = {
        build: max(use.last, uses[last_used[_name(build)]].awake_since) + limits.idle_s
        for build, use in uses.items()
        if build not in last_used.values()
    }
    idle = {build for build, end in ends_at.items() if end <= now}
    return idle, min((end for build, end in ends_at.items() if build not in idle), default=None)


def _last_used(uses: Mapping[str, Use]) -> dict[str, str]:
    return {_name(build): build for build in sorted(uses, key=lambda build: uses[build].last)}


def _name(build: str) -> str:
    return build.rpartition(".")[0]
