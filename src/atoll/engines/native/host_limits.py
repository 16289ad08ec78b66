"""Quotas of the host's kernel that all sandboxes together draw on, raised where they are lower.

Each sandbox has a ceiling of its own far below (`slot_helper`, `tree`, the cgroup); the defaults of the host are meant
for one person at a desk. Never lowered, and not put back: other programs may count on them by then.
"""

from __future__ import annotations

from pathlib import Path

PROC_SYS = Path("/proc/sys")
LEAST = {
    "fs/inotify/max_user_instances": 65_536,
    "fs/inotify/max_user_watches": 4_194_304,
    "kernel/pid_max": 4_194_304,
    "kernel/pty/max": 65_536,
}
"""512 sandboxes of one generation with 128 instances each; 128 at their full number of watches; the kernel's most;
512 times 128 terminals."""


class LimitTooLow(RuntimeError):
    pass


def raise_quotas(root: Path = PROC_SYS) -> None:
    for name, least in LEAST.items():
        path = root / name
        if int(path.read_text()) >= least:
            continue
        try:
            path.write_text(str(least))
        except OSError as error:
            setting = name.replace("/", ".")
            raise LimitTooLow(f"one sandbox could use up {setting} for all: sysctl -w {setting}={least}") from error
