"""Limits that stand in the way of sandboxes, raised where they are lower: quotas of the host's kernel that all of them
together draw on, and the limits that the launcher was itself started with.

Each sandbox has a ceiling of its own far below (`slot_helper`, `tree`, the cgroup); the defaults of the host are meant
for one person at a desk. Never lowered, and not put back: other programs may count on them by then.
"""

from __future__ import annotations

import resource
from pathlib import Path

from atoll.core.limits import Limits

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


def set_own() -> None:
    """The launcher's, since a newborn can raise none beyond them: `ulimit -c 0` is a habit of servers. Core files are
    limited to 1 as the newborn's are (`privileges.set_limits`)."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY:
        files = max(files, Limits.open_files)
    for letter, kind, limit in (("n", resource.RLIMIT_NOFILE, files), ("c", resource.RLIMIT_CORE, 1)):
        try:
            resource.setrlimit(kind, (limit, limit))
        except ValueError as error:
            raise LimitTooLow(f"sandboxes need a higher limit than Atoll has: ulimit -H{letter} {limit}") from error
