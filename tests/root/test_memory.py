"""What one sandbox has of its own, on the host. Generous: twice as much would be the news that something is not shared
with the zygotes any more."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.stack import Box, Stack, until

PANDAS = "import pandas as pd; print(pd.DataFrame({'a': [1, 1, 2], 'b': [3, 4, 5]}).groupby('a').sum())"
MIB = 1024 * 1024


def own_mib(stack: Stack, box: Box) -> float:
    inside = os.stat(f"/proc/{stack.host_pid(box)}/ns/pid").st_ino
    return sum(own_kib(pid) for pid in all_pids() if namespace_of(pid) == inside) / 1024


def all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def namespace_of(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:  # it has ended
        return 0


def own_kib(pid: int) -> int:
    """What is shared with another counts by half; what lies in a zygote's file does not."""
    try:
        told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # it has ended
        return 0
    found = re.search(r"^Pss_Anon: +(\d+) kB", told, re.MULTILINE)
    assert found
    return int(found[1])


def test_an_idle_sandbox_has_little_of_its_own_also_after_pandas(stack: Stack) -> None:
    with stack.box() as box:
        until(lambda: own_mib(stack, box) < 8, "an idle one, its first context with it, has less than 8 MiB")
        assert "2  5" in box.python(PANDAS)["stdout"]
        until(lambda: own_mib(stack, box) < 12, "after pandas it has less than 12 MiB")
        collected = box.python("import gc; gc.collect(); print(gc.get_freeze_count() > 100_000)")
        assert collected["stdout"].strip() == "True"
        until(lambda: own_mib(stack, box) < 12.5, "and a collection does not touch what is the zygote's")


def test_a_fresh_disk_takes_less_than_a_mebibyte_of_the_hosts(stack: Stack) -> None:
    with stack.box() as box:
        image = stack.installation.places.data / "node" / "disks" / f"{box.id}.img"
        assert image.stat().st_size >= 1024 * MIB
        assert image.stat().st_blocks * 512 < MIB
