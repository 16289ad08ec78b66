"""Starting a program: the few system calls between a decision and a pid."""

from __future__ import annotations

import fcntl
import os
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence

from .users import User, Users

OOM_SCORE_ADJ = b"400"  # the kernel's out-of-memory choice falls on a program before it falls on PID 1


def spawn(
    users: Users,
    user: User,
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    stdio: tuple[int, int, int],
    terminal: bool = False,
) -> int:
    """Own session, default signals, only the three descriptors (all of ours are close-on-exec). Raises OSError when
    the program cannot be started. The caller reaps the pid."""
    take_terminal: Callable[[], object] | None = None
    if terminal:  # runs between fork and exec; safe because the agent has one thread
        take_terminal = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # noqa: E731
    with users.becoming(user):
        child = subprocess.Popen(
            argv,
            stdin=stdio[0],
            stdout=stdio[1],
            stderr=stdio[2],
            env=env,
            cwd=cwd,
            start_new_session=True,
            close_fds=False,
            preexec_fn=take_terminal,
        )
    child.returncode = 0  # the reaper waits for it; Popen must not
    prefer_as_oom_victim(child.pid)
    return child.pid


def prefer_as_oom_victim(pid: int) -> None:
    try:
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, OOM_SCORE_ADJ)
    except OSError:
        return
    finally:
        os.close(fd)
