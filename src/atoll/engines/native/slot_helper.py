"""In U_T: makes the two namespaces of a slot that must belong to U_T, and hands them back.

    ← {"inner_base": first id of the slice, counted in U_T}    → {"ok": true} + [user namespace, network namespace]

The writer of an id map has to be in the namespace's parent, which is why the launcher cannot do it.

What the kernel counts for a user (inotify, pending signals and timers, message queues, locked memory) it counts for
the *owner* of that user's namespace too, in the parent. So each sandbox's namespace has an owner of its own, an id
that nobody is, and the ceilings below hold for a sandbox as a whole, whichever ids it gives its processes.
Trusted code only; started by `spawn` on the agent's runtime.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from . import syscalls as sc
from .privileges import own_bounding_set

SLICE, SLICES = 65_536, 512
SANDBOX_CEILINGS = {
    resource.RLIMIT_SIGPENDING: 16_384,
    resource.RLIMIT_MSGQUEUE: 819_200,  # Linux's default for one user
    resource.RLIMIT_MEMLOCK: 8 << 20,
}
"""The namespaces made here take their maker's limits as their maximum."""
INOTIFY_CEILINGS = {"max_inotify_instances": 128, "max_inotify_watches": 32_768}
"""For each owner in U_T. 128 is Linux's default for one user."""
HELD_S = 20
"""A namespace lives by a process until we have a descriptor of it. Should we end before, that process does so too."""


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    control = socket.socket(fileno=3)
    set_ceilings()
    sc.unshare(sc.CLONE_NEWNET)
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    sc.send_message(control, {"ready": True})
    while True:
        request, _ = sc.receive_message(control)
        if request is None:
            return
        try:
            fds = (new_user_namespace(int(request["inner_base"])), new_network_namespace(home))
        except OSError as error:
            sc.send_message(control, {"ok": False, "error": str(error)})
            continue
        sc.send_message(control, {"ok": True}, fds)
        for fd in fds:
            os.close(fd)


def set_ceilings() -> None:
    for kind, wanted in SANDBOX_CEILINGS.items():
        _, hard = resource.getrlimit(kind)
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(kind, (most, most))
    for name, most in INOTIFY_CEILINGS.items():
        with open(f"/proc/sys/user/{name}", "w", encoding="ascii") as file:  # of the opener's user namespace
            file.write(str(most))


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Changing the effective id drops the effective capabilities; they are raised again."""
    capabilities = own_bounding_set()
    os.seteuid(uid)
    try:
        sc.capset(capabilities)
        yield
    finally:
        os.seteuid(0)


def new_user_namespace(inner_base: int) -> int:
    with acting_as(inner_base // SLICE):  # of slice 0, which no sandbox has
        pid = sc.clone_waiting(sc.CLONE_NEWUSER, HELD_S)
    try:
        line = f"0 {inner_base} {SLICE}".encode()
        for name in ("uid_map", "gid_map"):
            fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, line)
            finally:
                os.close(fd)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def new_network_namespace(home: int) -> int:
    sc.unshare(sc.CLONE_NEWNET)
    try:
        let_everybody_ping()
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        sc.setns(home, sc.CLONE_NEWNET)


def let_everybody_ping() -> None:
    """Written here because the numbers are those of the writer's user namespace: as the host counts, half of the
    generations are beyond what the kernel takes."""
    with open("/proc/sys/net/ipv4/ping_group_range", "w", encoding="ascii") as file:
        file.write(f"0 {SLICES * SLICE - 1}")


if __name__ == "__main__":
    main()
