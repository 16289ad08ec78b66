"""How the launcher starts its unprivileged helpers: into the template's user namespace, a root of their own, exec.

The child is a copy of the launcher until it execs, so it makes itself undumpable before it enters a
namespace in which somebody else may have CAP_SYS_PTRACE, and keeps no descriptor but those named.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import socket
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from . import syscalls as sc
from .ids import GENERATION_IDS, generation_base
from .privileges import own_bounding_set

CONTROL_FD = 3
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/tmp",  # noqa: S108 — inside the zygote's own root
    "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108
    "PYTHONDONTWRITEBYTECODE": "1",
}


class SpawnFailed(RuntimeError):
    pass


COUNTED = (resource.RLIMIT_SIGPENDING, resource.RLIMIT_MSGQUEUE, resource.RLIMIT_MEMLOCK)


def new_user_namespace(generation: int) -> int:
    """U_T: a child of the host's user namespace, mapped to unprivileged ids. Returns its descriptor.

    What its sandboxes use of things counted for a user is charged to its owner on the host too. That must not be
    root, whose own programs would get nothing more; and no limit there, since each sandbox has its own
    (`slot_helper`)."""
    ready_r, ready_w = os.pipe()
    hold_r, hold_w = os.pipe()
    capabilities = own_bounding_set()  # before the change of id, after which our Python may be out of reach
    pid = os.fork()
    if pid == 0:
        try:
            sc.prctl(sc.PR_SET_DUMPABLE, 0)
            os.close(hold_w)
            lift_limits()
            os.seteuid(generation_base(generation))
            sc.capset(capabilities)  # the change of id has dropped them
            sc.unshare(sc.CLONE_NEWUSER)
            os.write(ready_w, b"1")
            os.read(hold_r, 1)
        finally:
            os._exit(0)
    os.close(ready_w)
    os.close(hold_r)
    try:
        if os.read(ready_r, 1) != b"1":
            raise SpawnFailed("the kernel refused a user namespace; see `atoll doctor`")
        line = f"0 {generation_base(generation)} {GENERATION_IDS}".encode()
        write_map(pid, "uid_map", line)
        write_map(pid, "gid_map", line)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(ready_r)
        os.close(hold_w)
        os.waitpid(pid, 0)


def lift_limits() -> None:
    for kind in COUNTED:
        with contextlib.suppress(ValueError):  # a container whose root may not: its limit is then one for all sandboxes
            resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def write_map(pid: int, name: str, line: bytes) -> None:
    fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)


def start(argv: Sequence[str], *, userns_fd: int, root_fd: int, enter: Callable[[], None]) -> tuple[int, socket.socket]:
    """Returns (pid, our end of the control socket, which the child has as descriptor 3). `enter`: its cgroup."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    error_r, error_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        _exec_or_report(argv, theirs.fileno(), error_w, userns_fd, root_fd, enter)
    theirs.close()
    os.close(error_w)
    try:
        failure = os.read(error_r, 4096)  # closed by a successful exec
    finally:
        os.close(error_r)
    if failure:
        os.waitpid(pid, 0)
        ours.close()
        raise SpawnFailed(failure.decode(errors="replace"))
    return pid, ours


def _exec_or_report(
    argv: Sequence[str], control: int, error_w: int, userns_fd: int, root_fd: int, enter: Callable[[], None]
) -> NoReturn:
    try:
        _detach_from_launcher()
        enter()
        _enter_user_namespace(userns_fd)
        _enter_root(root_fd)
        error_w = _keep_only(control, error_w)
        os.execve(argv[0], list(argv), ENVIRONMENT)  # noqa: S606 — the point of this function
    except BaseException:  # whatever it is, the launcher must hear of it and the copy must end
        os.write(error_w, traceback.format_exc()[-2000:].encode())
    finally:
        os._exit(1)


def _detach_from_launcher() -> None:
    sc.prctl(sc.PR_SET_DUMPABLE, 0)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    os.setsid()
    sc.new_session_keyring()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def _enter_user_namespace(userns_fd: int) -> None:
    sc.setns(userns_fd, sc.CLONE_NEWUSER)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _enter_root(root_fd: int) -> None:
    sc.unshare(sc.CLONE_NEWNS)
    sc.attach_mount(root_fd, "/usr")  # any directory that exists everywhere; it is left behind at once
    os.chdir("/usr")
    sc.pivot_root(".", ".")
    sc.umount(".")
    os.chdir("/")
    os.umask(0o022)


def _keep_only(control: int, error_w: int) -> int:
    """Control becomes 3, the error pipe 4 (close-on-exec); everything above is closed."""
    high_control = fcntl.fcntl(control, fcntl.F_DUPFD_CLOEXEC, 100)
    high_error = fcntl.fcntl(error_w, fcntl.F_DUPFD_CLOEXEC, 100)
    os.dup2(high_control, CONTROL_FD, inheritable=True)
    os.dup2(high_error, 4, inheritable=False)
    sc.close_range(5)
    return 4
