"""The ceilings a sandbox is born with. They are ceilings, not reservations."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    vcpu: int = 2
    memory_mib: int = 2048
    disk_mib: int = 10240
    processes: int = 1024
    open_files: int = 4096

    def to_wire(self) -> dict[str, int]:
        return asdict(self)

    @classmethod
    def from_wire(cls, data: dict[str, Any]) -> Limits:
        return cls(**{name: int(data[name]) for name in cls.__dataclass_fields__ if name in data})
