"""What a process of ours gives up at its start.

The edge reads what sandboxes answer and the server what clients send, so neither keeps a power over the host. They stay
uid 0 only as the owner of Atoll's files; that root owns the host's files too is what Landlock takes from them.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal
import struct
from collections.abc import Iterable
from pathlib import Path

from atoll.engines.native import syscalls

CAP_DAC_READ_SEARCH = 2
CAP_SETPCAP = 8
log = logging.getLogger(__name__)

_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # Landlock's calls have one number everywhere
_WRITE_FILE = 1 << 1
_WRITING = {1: _WRITE_FILE | sum(1 << bit for bit in range(4, 13)), 3: 1 << 14}
"""By the version of Landlock that knows it: writing, removing and making of each kind; truncating."""
_FOR_EVERYBODY = (Path("/dev/null"), Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - what every user may write to
_LAST_CAPABILITY = Path("/proc/sys/kernel/cap_last_cap")


def needed_for(*paths: Path) -> frozenset[int]:
    """Files below somebody's private directory (a checkout in a 0700 home) need the one capability that only reads."""
    return frozenset((CAP_DAC_READ_SEARCH,)) if any(not _reachable(path) for path in paths) else frozenset()


def drop(kept: Iterable[int] = (), user: int | None = None) -> None:
    """Irrevocable, and inherited by children. Without privileges there is nothing to drop but the way to get them.
    `user`: whom to be from then on, alone in a group of the same number."""
    mask = sum(1 << capability for capability in set(kept)) & _permitted()
    if _permitted() & 1 << CAP_SETPCAP:
        for capability in range(int(_LAST_CAPABILITY.read_text()) + 1):
            if not mask & (1 << capability):
                syscalls.prctl(syscalls.PR_CAPBSET_DROP, capability)
    syscalls.prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        syscalls.prctl(_PR_SET_DUMPABLE, 0)
        if syscalls.prctl(_PR_GET_DUMPABLE) or os.getresuid() != (user, user, user) or os.getgroups():
            raise OSError(f"this process did not become user {user}")
    syscalls.capset(mask)


def write_only_below(*places: Path) -> None:
    """Irrevocable and inherited, like `drop`, which must come first. Files that are open already stay as they are. A
    kernel without Landlock has this one line of defence less, and the log says so."""
    version = landlock_version()
    if version < 1:
        log.warning("this kernel has no Landlock: a flaw in this process could write files that root owns")
        return
    writing = sum(bits for since, bits in _WRITING.items() if since <= version)
    ruleset = _landlock(_CREATE_RULESET, struct.pack("=Q", writing), 8, 0)
    try:
        for place in (*places, *_FOR_EVERYBODY):
            _allow_below(ruleset, place, writing)
        _landlock(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def landlock_version() -> int:
    """Below 1: there is none."""
    return int(syscalls.libc.syscall(_CREATE_RULESET, None, 0, 1))


def _allow_below(ruleset: int, place: Path, writing: int) -> None:
    try:
        fd = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        allowed = writing if place.is_dir() else _WRITE_FILE
        _landlock(_ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, fd), 0)
    finally:
        os.close(fd)


def _landlock(call: int, *arguments: object) -> int:
    result = int(syscalls.libc.syscall(call, *arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result


def passage(directory: Path, group: int) -> None:
    """A directory of ours through which one group may pass, to names that it knows."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.chown(directory, -1, group)
    directory.chmod(0o710)


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
    if path.is_file() and path.stat().st_uid != uid and not path.stat().st_mode & 0o004:
        return False
    for directory in path.resolve().parents:
        status = directory.stat()
        if status.st_uid != uid and not status.st_mode & 0o001:
            return False
    return True
