"""Waits until an installation has nothing left to do: pools are full again, what was killed has been swept.

It looks at the processor time that its processes use, which needs no knowledge of what they do behind.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from pathlib import Path

from atoll.testing.installation import Installation

INTERVAL_S, BUSY_MS, PATIENCE_S = 0.25, 10.0, 60.0


def settle(server: Installation) -> None:
    """Two quiet intervals in a row."""
    deadline, quiet = time.monotonic() + PATIENCE_S, 0
    before = used_ms(family(server))
    while quiet < 2:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the installation is still busy after {PATIENCE_S:.0f} s")
        time.sleep(INTERVAL_S)
        now = used_ms(family(server))
        quiet = quiet + 1 if sum(max(0.0, used - before.get(pid, 0.0)) for pid, used in now.items()) < BUSY_MS else 0
        before = now


def used_ms(pids: list[int]) -> dict[int, float]:
    """Processor time, of those that are still there."""
    used = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            threads = [f"/proc/{pid}/task/{thread}/schedstat" for thread in os.listdir(f"/proc/{pid}/task")]
            used[pid] = sum(int(Path(thread).read_text().split()[0]) for thread in threads) / 1e6
    return used


def family(server: Installation) -> list[int]:
    """`atoll up`, what runs beside it and all of their children, sandboxes included."""
    below = children()
    found: dict[int, None] = {}
    left = [server.pid, *server.pids("launcher")]
    while left:
        pid = left.pop()
        if pid not in found:
            found[pid] = None
            left += below[pid]
    return list(found)


def children() -> dict[int, list[int]]:
    """Of every process of the machine."""
    found: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                found[parent].append(int(entry.name))
    return found
