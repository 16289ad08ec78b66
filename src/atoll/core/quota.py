"""How much all living sandboxes of one API key may be together. A sandbox lives until it is deleted: one that is
paused or stopped counts, since nothing may keep it from going on."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from typing import Any

from .limits import Limits, Size, too_much


@dataclass(frozen=True)
class Quota:
    """None: no limit."""

    sandboxes: int | None = None
    vcpu: int | None = None
    memory_mib: int | None = None
    disk_mib: int | None = None

    def to_wire(self) -> dict[str, int | None]:
        return asdict(self)

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Quota:
        return cls(**{name: data[name] for name in cls.__dataclass_fields__ if name in data})


UNLIMITED = Quota()


@dataclass(frozen=True)
class Used:
    """Of the same things."""

    sandboxes: int = 0
    vcpu: int = 0
    memory_mib: int = 0
    disk_mib: int = 0

    def __add__(self, other: Used) -> Used:
        return Used(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Standing:
    """What one key may have and has."""

    quota: Quota
    used: Used
    largest: Size
    """The largest that a sandbox of any template may be."""
    max_life_s: int
    """0: no limit."""


def used_by(limits: Limits) -> Used:
    return Used(1, limits.vcpu, limits.memory_mib, limits.disk_mib)


def check_quota(quota: Quota, used: Used, more: Used) -> None:
    for resource in Quota.__dataclass_fields__:
        limit, current, asked = (getattr(part, resource) for part in (quota, used, more))
        if limit is not None and current + asked > limit:
            raise too_much(
                "quota",
                resource,
                limit=limit,
                current=current,
                asked=asked,
                message=f"The {resource} limit of this API key is reached: {current} of {limit} in use, {asked} more "
                "asked for. Delete a sandbox, or have the limit raised (`atoll keys limit`).",
            )
