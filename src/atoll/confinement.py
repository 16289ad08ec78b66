"""What a process of ours gives up at its start.

The edge reads what sandboxes answer and the server what clients send, so neither keeps a power over the host. They stay
uid 0 only as the owner of Atoll's files.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterable
from pathlib import Path

from atoll.engines.native import syscalls

CAP_DAC_READ_SEARCH = 2
CAP_SETPCAP = 8
_PR_SET_NO_NEW_PRIVS = 38
_LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")


def needed_for(*paths: Path) -> frozenset[int]:
    """Files below somebody's private directory (a checkout in a 0700 home) need the one capability that only reads."""
    return frozenset((CAP_DAC_READ_SEARCH,)) if any(not _reachable(path) for path in paths) else frozenset()


def drop(kept: Iterable[int] = ()) -> None:
    """Irrevocable, and inherited by children. Without privileges there is nothing to drop but the way to get them."""
    mask = sum(1 << capability for capability in set(kept)) & _permitted()
    if _permitted() & 1 << CAP_SETPCAP:
        for capability in range(int(_LAST_CAPABILITY.read_text()) + 1):
            if not mask & (1 << capability):
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)
    syscalls.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    syscalls.capset(mask)


def raise_open_files() -> None:
    """1,024, the soft limit of most systems, is 500 clients: each has a connection here and one into a sandbox."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def end_with_parent(parent: int) -> None:
    """A killed supervisor leaves no orphans, one that died before we could ask for the signal neither."""
    syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def _permitted() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    return 0


def _reachable(path: Path) -> bool:
    uid = os.geteuid()
    for directory in path.resolve().parents:
        status = directory.stat()
        if status.st_uid != uid and not status.st_mode & 0o001:
            return False
    return True
