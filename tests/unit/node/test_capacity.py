from __future__ import annotations

from pathlib import Path

from atoll.core.settings import Reserves
from atoll.node.capacity import capacity, memory_mib

MEMINFO = "MemTotal:       24681312 kB\nMemFree:  1 kB\nMemAvailable:   20480000 kB\nHugePages_Total:       0\n"


def test_available_memory_counts_what_the_kernel_can_free() -> None:
    assert memory_mib(MEMINFO) == {"MemTotal": 24102, "MemFree": 0, "MemAvailable": 20000}


def test_the_disk_reserve_is_a_share_of_the_whole(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(MEMINFO)
    answer = capacity(tmp_path, Reserves(memory_mib=512, disk_fraction=0.5), meminfo)
    assert answer["memory_reserve_mib"] == 512
    assert abs(answer["disk_reserve_mib"] - answer["disk_total_mib"] / 2) <= 1
