"""What root inside a sandbox keeps, and how a process becomes it.

No `no_new_privs`: the contracts promise a password-less `sudo`, which it would break. The guarantee
comes from the user namespaces (these capabilities count only in the sandbox's own) and the filter,
which is loaded while CAP_SYS_ADMIN of the sandbox's namespace is still held.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Iterator
from functools import cache
from typing import Any

from . import syscalls as sc

CAPABILITIES = {
    "chown": 0,
    "dac_override": 1,
    "fowner": 3,
    "fsetid": 4,
    "kill": 5,
    "setgid": 6,
    "setuid": 7,
    "net_bind_service": 10,
    "sys_chroot": 18,
    "setfcap": 31,
}
KEPT = sum(1 << bit for bit in CAPABILITIES.values())
LAST_POSSIBLE = 63


def become_sandbox_root(userns_fd: int, limits: dict[str, int], bpf: bytes) -> None:
    sc.prctl(sc.PR_SET_DUMPABLE, 0)
    sc.setns(userns_fd, sc.CLONE_NEWUSER)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    set_limits(limits)
    drop_bounding_set(KEPT)
    sc.seccomp_filter(bpf)
    sc.capset(KEPT)
    os.umask(0o022)


def set_limits(limits: dict[str, int]) -> None:
    files = int(limits["open_files"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    # 1, not 0: only 1 keeps the host's core_pattern program, which runs as root of the host, from being started for
    # a crash in a sandbox (core(5)). The filter keeps it at 1.
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    stack = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (min(8 << 20, stack[1]) if stack[1] >= 0 else 8 << 20, stack[1]))


def drop_bounding_set(kept: int) -> None:
    for bit in existing_bits():
        if not kept >> bit & 1:
            sc.prctl(sc.PR_CAPBSET_DROP, bit)


@cache
def existing_bits() -> tuple[int, ...]:
    """Capabilities that this kernel has. A zygote asks once, for all its forks."""
    return tuple(bit for bit in range(LAST_POSSIBLE + 1) if bit_exists(bit))


def bit_exists(bit: int) -> bool:
    try:
        sc.prctl(sc.PR_CAPBSET_READ, bit)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def read_bounding_set(status: str) -> int:
    return read_capabilities(status, "CapBnd")


def read_capabilities(status: str, name: str) -> int:
    for line in status.splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1], 16)
    raise ValueError(f"no {name} line")


@cache
def own_bounding_set() -> int:
    """Asked before anything is dropped; nobody who has dropped something asks."""
    with open("/proc/self/status", encoding="ascii") as file:
        return read_bounding_set(file.read())


@contextlib.contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """What is opened here has this user's rights for ever; what may be opened is still ours to say."""
    capabilities = own_permitted_set()
    os.seteuid(uid)
    try:
        sc.capset(capabilities)  # the change of id has put them aside
        yield
    finally:
        os.seteuid(0)


@cache
def own_permitted_set() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return read_capabilities(file.read(), "CapPrm")


def limits_of(request: dict[str, Any]) -> dict[str, int]:
    return {name: int(value) for name, value in request["limits"].items()}
