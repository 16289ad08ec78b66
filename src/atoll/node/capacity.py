"""How much room the machine has: ceilings are not reservations, so what counts is what is free now."""

from __future__ import annotations

import os
from pathlib import Path

from atoll.core.settings import Reserves

_MIB = 1024 * 1024


def capacity(data: Path, reserves: Reserves, meminfo: Path = Path("/proc/meminfo")) -> dict[str, int]:
    memory = memory_mib(meminfo.read_text())
    disk = os.statvfs(data)
    disk_total_mib = disk.f_blocks * disk.f_frsize // _MIB
    return {
        "memory_available_mib": memory["MemAvailable"],
        "memory_reserve_mib": reserves.memory_mib,
        "memory_total_mib": memory["MemTotal"],
        "disk_available_mib": disk.f_bavail * disk.f_frsize // _MIB,
        "disk_reserve_mib": int(disk_total_mib * reserves.disk_fraction),
        "disk_total_mib": disk_total_mib,
    }


def installed_mib(meminfo: Path = Path("/proc/meminfo")) -> int:
    return memory_mib(meminfo.read_text())["MemTotal"]


def memory_mib(meminfo: str) -> dict[str, int]:
    lines = (line.split() for line in meminfo.splitlines())
    return {words[0].rstrip(":"): int(words[1]) // 1024 for words in lines if len(words) == 3 and words[2] == "kB"}
