"""The ceilings a sandbox is born with, and how far a caller may move them. They are ceilings, not reservations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from .errors import CapacityExceeded, InvalidInput


@dataclass(frozen=True)
class Limits:
    vcpu: int = 2
    memory_mib: int = 2048
    disk_mib: int = 10240
    processes: int = 1024
    open_files: int = 4096

    def to_wire(self) -> dict[str, int]:
        return dict(vars(self))

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Limits:
        return cls(**{name: int(data[name]) for name in cls.__dataclass_fields__ if name in data})


@dataclass(frozen=True)
class Size:
    """The part of the limits that a caller may ask for, and that keys have quotas of."""

    vcpu: int
    memory_mib: int
    disk_mib: int

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Size:
        return cls(**{name: int(data[name]) for name in RESOURCES})


RESOURCES = tuple(field.name for field in fields(Size))
SMALLEST = Size(vcpu=1, memory_mib=128, disk_mib=1024)
LARGEST = Size(vcpu=8, memory_mib=16384, disk_mib=102400)


def sized(limits: Limits, wished: Mapping[str, int], smallest: Size, largest: Size) -> Limits:
    """`wished` holds the resources that were asked for, by name."""
    for resource, asked in wished.items():
        least, most = getattr(smallest, resource), getattr(largest, resource)
        if asked < least:
            raise InvalidInput(
                f"{resource} of a sandbox from this template is {least} to {most}, not {asked}",
                field=resource,
                minimum=least,
                maximum=most,
            )
        if asked > most:
            raise too_much(
                "size",
                resource,
                limit=most,
                current=0,
                asked=asked,
                message=f"The {resource} limit of this template is {most}, and {asked} was asked for. Ask for less.",
            )
    return replace(limits, **wished)


def too_much(cause: str, resource: str, *, limit: int, current: int, asked: int, message: str) -> CapacityExceeded:
    """Every refusal for want of room says the same things: why, of what, how much there is, how much of it is used."""
    return CapacityExceeded(
        message,
        cause=cause,
        resource=resource,
        limit=limit,
        current=current,
        available=max(0, limit - current),
        requested=asked,
    )
