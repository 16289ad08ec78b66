"""From a clone of the agent zygote to PID 1 of a sandbox: the order is the contract.

    in the zygote    clone(NEWPID)
    in the clone     setns(net) → unshare(mnt, ipc, uts) → hostname → attach the tree → proc, its masks, a boot id
                     → pivot → wait until the launcher has written its record → cgroup → unshare(cgroup)
                     → root of U_S, limits, bounding set, filter, capabilities → "ready"
    in the agent     everything that needs no name; then, when it becomes somebody's, the rest

Nothing here may be skipped: an error ends the newborn, and the launcher reports the step.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Sequence
from typing import Any

from . import syscalls as sc
from .privileges import become_sandbox_root, limits_of

PROC_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
PROC_MASKED_FILES = ("kcore", "keys", "kmsg", "kallsyms", "latency_stats", "sched_debug", "timer_list", "timer_stats",
                     "vmallocinfo", "slabinfo", "pagetypeinfo", "kpagecount", "kpageflags", "kpagecgroup",
                     "key-users", "config.gz", "mtrr", "swaps", "diskstats")  # fmt: skip
PROC_MASKED_DIRECTORIES = ("acpi", "scsi", "asound", "dynamic_debug", "driver")
MOUNT_POINT = "/mnt"
NOBODY = "nobody"
"""Its host's name until it has one."""


class BirthFailed(RuntimeError):
    pass


def be_born(
    request: dict[str, Any],
    bpf: bytes,
    netns: int,
    userns: int,
    tree: int,
    channel: socket.socket,
    cgroup_doors: list[int],
) -> None:
    """Runs in the clone; returns as PID 1, isolated. `channel` is the launcher's: it says "go", we say "ready"."""
    step = "namespaces"
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sc.setns(netns, sc.CLONE_NEWNET)
        sc.unshare(sc.CLONE_NEWNS | sc.CLONE_NEWIPC | sc.CLONE_NEWUTS)
        sc.sethostname(NOBODY)
        step = "tree"
        sc.attach_mount(tree, MOUNT_POINT)
        step = "proc"
        mount_proc(MOUNT_POINT + "/proc", MOUNT_POINT + "/dev/null")
        step = "boot id"
        name_the_boot(MOUNT_POINT + "/proc/sys/kernel/random/boot_id", MOUNT_POINT + "/dev/shm/.boot_id")  # noqa: S108
        step = "pivot"
        os.chdir(MOUNT_POINT)
        sc.pivot_root(".", ".")
        sc.umount(".")
        os.chdir("/")
        step = "cgroup"
        await_go(channel)
        enter_cgroups(cgroup_doors)
        sc.unshare(sc.CLONE_NEWCGROUP)
        step = "privileges"
        become_sandbox_root(userns, limits_of(request), bpf)
        sc.send_message(channel, {"ready": True})
    except Exception as error:
        with contextlib.suppress(OSError):
            sc.send_message(channel, {"error": f"{step}: {error}"})
        raise BirthFailed(step) from error


def await_go(channel: socket.socket) -> None:
    _hear(channel)


def take_identity(channel: socket.socket) -> dict[str, Any] | None:
    """The agent's configuration, or None: it is not time yet. The launcher has set the host's name."""
    message, fds = _hear(channel)
    if "rehearse" in message:
        return None
    name_the_host(message["hostname"])
    name_the_resolvers(message["nameservers"])
    with open(fds[0], "rb") as file:
        config: dict[str, Any] = json.load(file)
    return config


def _hear(channel: socket.socket) -> tuple[dict[str, Any], list[int]]:
    message, fds = sc.receive_message(channel)
    if message is None:  # the launcher is gone: what it had not finished must not live
        os._exit(1)
    return message, fds


def enter_cgroups(doors: list[int]) -> None:
    """Version 1. The descriptors are of the launcher; they are closed before anything else runs here."""
    for fd in doors:
        os.write(fd, b"0")
        os.close(fd)


def mount_proc(target: str, null: str) -> None:
    flags = sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC
    sc.mount("proc", target, "proc", flags)
    for name in PROC_READ_ONLY:
        path = f"{target}/{name}"
        if os.path.exists(path):
            sc.mount(path, path, None, sc.MS_BIND | sc.MS_REC)
            sc.mount(None, path, None, sc.MS_REMOUNT_RO | sc.MS_BIND | flags)
    for name in PROC_MASKED_FILES:
        if os.path.exists(f"{target}/{name}"):
            sc.mount(null, f"{target}/{name}", None, sc.MS_BIND)
    for name in PROC_MASKED_DIRECTORIES:
        if os.path.isdir(f"{target}/{name}"):
            sc.mount("tmpfs", f"{target}/{name}", "tmpfs", sc.MS_RDONLY | flags, "size=0,mode=0555")


def name_the_boot(target: str, staging: str) -> None:
    """Programs tell one boot from the next by it, so it changes with each life of a sandbox; the host's own, the same
    for all, is nobody's business. The file has no name any more once it is mounted."""
    fd = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444)
    try:
        os.write(fd, new_boot_id().encode() + b"\n")
    finally:
        os.close(fd)
    sc.mount(staging, target, None, sc.MS_BIND)
    flags = sc.MS_NOSUID | sc.MS_NODEV | sc.MS_NOEXEC
    sc.mount(None, target, None, sc.MS_REMOUNT_RO | sc.MS_BIND | flags)
    os.unlink(staging)


def new_boot_id() -> str:
    """A random UUID of version 4, as the kernel writes it."""
    raw = bytearray(os.urandom(16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def name_the_host(hostname: str) -> None:
    """So that the sandbox's own name resolves (sudo asks for it). A link, a pipe, a full disk: the sandbox's own work,
    which must not keep it from starting."""
    with contextlib.suppress(OSError):
        _add_to_hosts(hostname)


def _add_to_hosts(hostname: str) -> None:
    fd = os.open("/etc/hosts", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
    try:
        content = os.read(fd, 65536).decode(errors="replace")
        missing = [line for line in ("127.0.0.1 localhost", "127.0.1.1 " + hostname) if line.split()[1] not in content]
        os.lseek(fd, 0, os.SEEK_END)
        os.write(fd, "".join(line + "\n" for line in missing).encode())
    finally:
        os.close(fd)


def name_the_resolvers(addresses: Sequence[str]) -> None:
    """Only into an empty file, as templates have it: what the sandbox wrote there stays."""
    with contextlib.suppress(OSError):
        _write_resolvers(addresses)


def _write_resolvers(addresses: Sequence[str]) -> None:
    fd = os.open("/etc/resolv.conf", os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_size == 0:
            os.write(fd, "".join(f"nameserver {address}\n" for address in addresses).encode())
    finally:
        os.close(fd)
